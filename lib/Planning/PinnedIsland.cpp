//===- PinnedIsland.cpp - islands whose stages somebody gave --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// The pools of the stages are given; open are the number of replicas where it
// is missing (the same everywhere), the microbatch, cuts and recomputation. A
// layout's time by the closed formula is
//   sum + (m - 1) max(slowest, (sum + transfers) / stages)
//     + transfers + reduction + update
// with m microbatches per replica, `sum` (what a microbatch takes on its way
// there and back) and `slowest` (all of it in one stage) from the split, and
// `transfers` the boundary tensors once there and back through all stages.
// (1F1B keeps at most as many microbatches in flight as there are stages, hence
// the second pace.) Everything but `sum` and `slowest` is known before the
// split, and bounds on those two give a bound on the layout: layouts are taken
// by rising bound until no later one can be among the best.
//
//===----------------------------------------------------------------------===//

#include "Infinity.h"
#include "IslandSearch.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <unordered_map>

namespace tombolo::planning {

namespace {

class PinnedIsland : public IslandSearch {
public:
  PinnedIsland(const Problem &problem, const IslandPins &given,
               const SearchLimits &limits)
      : IslandSearch(limits), problem(problem), pins(given) {
    findShapes();
    for (size_t i = 0; i < shapes.size(); ++i)
      shapesByPeriod[shapes[i].period].push_back(i);
  }

private:
  /// The replicas left open.
  struct Shape {
    uint64_t dataParallel = 1;
    uint64_t turn = 1; // microbatches in the longest turn of a stage
    /// Microbatches after which the turns of all stages end together.
    uint64_t period = 1;
  };
  /// What a shape costs with a microbatch whatever the split, in seconds.
  struct Fixed {
    double least = 0;     // one microbatch through the model, fastest chips
    double sum = 0;       // and on its way there and back
    double longest = 0;   // its slowest block
    double transfers = 0; // there and back through all stages
    double tail = 0;      // reduction and update
  };
  struct Layout {
    size_t shape = 0;
    uint64_t microbatch = 1;
    double bound = 0; // no split is faster, in seconds
    const Fixed *fixed = nullptr;
  };

  const Problem &problem;
  IslandPins pins;
  std::vector<Shape> shapes;
  std::map<uint64_t, std::vector<size_t>> shapesByPeriod;
  /// By microbatch and shape; few of all pairs are ever looked at.
  std::map<uint64_t, std::unordered_map<size_t, Fixed>> fixedCosts;
  std::map<uint64_t, std::unique_ptr<SplitTable>> tables; // by microbatch
  /// By microbatch, microbatches that matter, shape.
  using SplitKey = std::tuple<uint64_t, uint64_t, size_t>;
  std::map<SplitKey, std::vector<Split>> splits;

  std::vector<FoundIsland> find(uint64_t batch, double ceiling) override;

  size_t stages() const { return pins.stages->size(); }
  Schedule schedule() const {
    return pins.schedule.value_or(
        problem.bounds.schedule.value_or(Schedule::OneFOneB));
  }
  void findShapes();
  std::vector<std::vector<ReplicaGroup>> replicasOf(const Shape &shape) const;
  std::vector<const Chip *> chipsOf(const Shape &shape) const;
  std::vector<StageRanks> ranksOf(const Shape &shape) const;
  bool shards(size_t stage, uint64_t replicas) const;
  const Fixed &fixedOf(size_t shape, uint64_t microbatch);
  Fixed compute(const Shape &shape, uint64_t microbatch) const;
  std::vector<ReplicaChips> replicaChipsOf(const Shape &shape) const;
  double transfersOf(const Shape &shape, double bytes) const;
  std::vector<Layout> layouts(uint64_t batch);
  double pace(double slowest, double sum, const Layout &layout) const;
  const std::vector<Split> &splitsOf(const Layout &layout, uint64_t batch);
  uint64_t microbatches(const Layout &layout, uint64_t batch) const;
};

} // namespace

/// With stages given only the replicas that are left open. Of those what can
/// be lowered, if anything can.
void PinnedIsland::findShapes() {
  bool open = false;
  uint64_t most = 1;
  for (const StagePins &stage : *pins.stages)
    for (const ReplicaGroup &group : stage.replicas)
      if (group.count == 0) {
        open = true;
        if (const Pool *pool = problem.topology.findPool(group.pool))
          most = std::max(most, pool->chips());
      }
  std::vector<Shape> others;
  for (uint64_t replicas = 1; replicas <= (open ? most : 1); ++replicas) {
    Shape shape{replicas, 1, 1};
    bool fits = true;
    std::map<std::string, uint64_t> used;
    std::vector<uint64_t> turns;
    Strategy strategy;
    Island &island = strategy.islands.emplace_back();
    for (auto &groups : replicasOf(shape)) {
      uint64_t &turn = turns.emplace_back(0);
      for (const ReplicaGroup &group : groups) {
        turn += group.count * group.share;
        uint64_t &chips = used[group.pool];
        chips += group.count * group.tensorParallel;
        const Pool *pool = problem.topology.findPool(group.pool);
        fits &= pool && chips <= pool->chips();
      }
      shape.turn = std::max(shape.turn, turn);
      island.stages.push_back({1, Recompute(), false, std::move(groups)});
    }
    std::optional<uint64_t> period = periodOf(turns);
    if (!fits || !period)
      continue;
    shape.period = *period;
    (supportedBySlice(strategy).empty() ? shapes : others)
        .push_back(std::move(shape));
  }
  if (shapes.empty())
    shapes = std::move(others);
}

std::vector<PinnedIsland::Layout> PinnedIsland::layouts(uint64_t batch) {
  std::vector<Layout> result;
  for (uint64_t microbatch : divisorsOf(batch)) {
    if ((pins.microbatch && *pins.microbatch != microbatch) ||
        batch / microbatch > kMostStageMicrobatches / stages())
      continue;
    for (const auto &[period, members] : shapesByPeriod) {
      if (batch / microbatch % period != 0)
        continue;
      for (size_t shape : members) {
        Layout layout{shape, microbatch, 0, &fixedOf(shape, microbatch)};
        double m = static_cast<double>(microbatches(layout, batch));
        const Fixed &fixed = *layout.fixed;
        double least = std::max(fixed.longest,
                                fixed.least / static_cast<double>(stages()));
        layout.bound = fixed.sum + (m - 1) * pace(least, fixed.sum, layout) +
                       fixed.transfers + fixed.tail;
        result.push_back(layout);
        ++scored;
      }
    }
  }
  return result;
}

std::vector<std::vector<ReplicaGroup>>
PinnedIsland::replicasOf(const Shape &shape) const {
  std::vector<std::vector<ReplicaGroup>> result;
  for (const StagePins &stage : *pins.stages) {
    result.push_back(stage.replicas);
    for (ReplicaGroup &group : result.back())
      if (group.count == 0)
        group.count = shape.dataParallel;
  }
  return result;
}

/// The chip of each stage; where it has several, the slowest.
std::vector<const Chip *> PinnedIsland::chipsOf(const Shape &shape) const {
  std::vector<const Chip *> result;
  for (const auto &groups : replicasOf(shape)) {
    const Chip *slowest = nullptr;
    for (const ReplicaGroup &group : groups) {
      const Chip &chip =
          problem.topology.chipOf(*problem.topology.findPool(group.pool));
      if (!slowest || chip.flopsPerSecond(problem.precision()) <
                          slowest->flopsPerSecond(problem.precision()))
        slowest = &chip;
    }
    result.push_back(slowest);
  }
  return result;
}

/// Whether a stage shards its optimizer state: as pinned, else where that saves
/// memory.
bool PinnedIsland::shards(size_t stage, uint64_t replicas) const {
  return (*pins.stages)[stage].optimizerSharding.value_or(
      shardsOptimizer(problem, replicas));
}

std::vector<StageRanks> PinnedIsland::ranksOf(const Shape &shape) const {
  std::vector<StageRanks> result;
  for (const auto &groups : replicasOf(shape)) {
    uint64_t replicas = 0;
    uint64_t chips = groups.front().tensorParallel;
    for (const ReplicaGroup &group : groups) {
      replicas += group.count;
      // Where it takes most memory and time.
      chips = std::min(chips, group.tensorParallel);
    }
    result.push_back(
        {chips, shards(result.size(), replicas) ? replicas : uint64_t(1)});
  }
  return result;
}

uint64_t PinnedIsland::microbatches(const Layout &layout,
                                    uint64_t batch) const {
  return batch / layout.microbatch / shapes[layout.shape].turn;
}

double PinnedIsland::pace(double slowest, double sum,
                          const Layout &layout) const {
  if (schedule() == Schedule::GPipe)
    return slowest;
  return std::max(slowest, (sum + layout.fixed->transfers) /
                               static_cast<double>(stages()));
}

const PinnedIsland::Fixed &PinnedIsland::fixedOf(size_t shape,
                                                 uint64_t microbatch) {
  auto [entry, isNew] = fixedCosts[microbatch].try_emplace(shape);
  if (isNew)
    entry->second = compute(shapes[shape], microbatch);
  return entry->second;
}

/// The chips of a replica of each pinned stage, where they would lie.
std::vector<ReplicaChips>
PinnedIsland::replicaChipsOf(const Shape &shape) const {
  Strategy placed;
  placed.islands.emplace_back();
  for (auto &groups : replicasOf(shape))
    placed.islands[0].stages.push_back({1, Recompute(), false, groups});
  auto places = placeRanks(placed)[0];
  std::vector<ReplicaChips> result;
  for (size_t s = 0; s < places.size(); ++s) {
    const auto &groups = placed.islands[0].stages[s].replicas;
    size_t fewest = 0;
    for (size_t g = 1; g < groups.size(); ++g)
      if (groups[g].tensorParallel < groups[fewest].tensorParallel)
        fewest = g;
    uint64_t chips = groups[fewest].tensorParallel;
    result.push_back(
        {chips, insideReplicas(problem.topology, places[s][fewest], chips)});
  }
  return result;
}

/// Seconds of a boundary tensor through all stages, one way.
double PinnedIsland::transfersOf(const Shape &shape, double bytes) const {
  Strategy placed;
  placed.islands.emplace_back();
  for (auto &groups : replicasOf(shape))
    placed.islands[0].stages.push_back({1, Recompute(), false, groups});
  auto places = placeRanks(placed)[0];
  double seconds = 0;
  for (size_t s = 0; s + 1 < places.size(); ++s)
    seconds += transferBetween(problem.topology, places[s][0], places[s + 1][0])
                   .seconds(bytes);
  return seconds;
}

PinnedIsland::Fixed PinnedIsland::compute(const Shape &shape,
                                          uint64_t microbatch) const {
  const Topology &topology = problem.topology;
  double samples = static_cast<double>(microbatch);
  // Where there are replicas: one group of each pool and number of chips.
  std::map<std::pair<std::string, uint64_t>, uint64_t> groups;
  bool sharded = true;
  auto given = replicasOf(shape);
  for (size_t s = 0; s < given.size(); ++s) {
    uint64_t replicas = 0;
    for (const ReplicaGroup &group : given[s]) {
      uint64_t &most = groups[{group.pool, group.tensorParallel}];
      most = std::max(most, group.count);
      replicas += group.count;
    }
    sharded &= shards(s, replicas);
  }
  Fixed fixed;
  double crossing = 0, late = 0;
  for (const BlockRun &run : problem.model.runs) {
    double fastest = kInfinity, first = kInfinity;
    for (const auto &[group, count] : groups) {
      // Nothing is faster than collectives that take no time.
      StageTimes one =
          blockSeconds(problem, {{run.kind, 1}},
                       topology.chipOf(*topology.findPool(group.first)),
                       samples, Recompute(), {group.second, Transfer()});
      fastest = std::min(fastest, one.forward + one.backward);
      first = std::min(first, one.forward + one.backward - one.late);
    }
    fixed.least += fastest * static_cast<double>(run.count);
    fixed.sum += first * static_cast<double>(run.count);
    late = std::max(late, fastest - first);
    fixed.longest = std::max(fixed.longest, fastest);
    crossing = std::max(crossing,
                        problem.model.kinds[run.kind].outputBytes.at(samples));
  }
  // Of all blocks, or of as many as there are stages that send gradients, the
  // weights are behind a gradient that goes on.
  fixed.sum = std::max(fixed.sum,
                       fixed.least - late * static_cast<double>(stages() - 1));
  fixed.transfers = 2 * transfersOf(shape, crossing);
  double gradients =
      4 * problem.model.trainableCount() / static_cast<double>(stages());
  double state =
      static_cast<double>(problem.training.optimizerStateBytesPerParameter);
  double reduction = 0, update = 0;
  for (const auto &[group, count] : groups) {
    const auto &[pool, chips] = group;
    double own = gradients / static_cast<double>(chips);
    reduction = std::max(
        reduction,
        allReduceSeconds(topology, {{pool, 0, count * chips}}, own, chips));
    double parts = sharded ? static_cast<double>(count) : 1;
    update = std::max(
        update, own * (3 + state / 2) / parts /
                    topology.chipOf(*topology.findPool(pool)).bytesPerSecond());
  }
  fixed.tail = reduction + update;
  return fixed;
}

const std::vector<Split> &PinnedIsland::splitsOf(const Layout &layout,
                                                 uint64_t batch) {
  uint64_t m = microbatches(layout, batch);
  SplitRequest request;
  const Shape &shape = shapes[layout.shape];
  request.microbatch = layout.microbatch;
  request.schedule = schedule();
  // Splits depend on m through what is in flight alone.
  request.microbatches =
      schedule() == Schedule::GPipe ? m : std::min<uint64_t>(m, stages());
  SplitKey key{layout.microbatch, request.microbatches, layout.shape};
  auto [entry, isNew] = splits.try_emplace(key);
  if (!isNew)
    return entry->second;
  request.stages = chipsOf(shape);
  for (const auto &groups : replicasOf(shape)) {
    double least = kInfinity;
    for (const ReplicaGroup &group : groups)
      least = std::min(
          least,
          availableBytes(problem, problem.topology.chipOf(
                                      *problem.topology.findPool(group.pool))));
    request.available.push_back(least);
  }
  request.ranks = ranksOf(shape);
  request.replicas = replicaChipsOf(shape);
  auto &table = tables[layout.microbatch];
  if (!table)
    table = std::make_unique<SplitTable>(problem, layout.microbatch);
  for (const StagePins &stage : *pins.stages) {
    request.blocks.push_back(stage.blocks);
    request.recompute.push_back(stage.recompute);
  }
  entry->second = splitBlocks(problem, *table, request);
  return entry->second;
}

std::vector<FoundIsland> PinnedIsland::find(uint64_t batch, double) {
  constexpr size_t most = kFinalists;
  if (pins.batch && *pins.batch != batch)
    return {};
  std::vector<Layout> open = layouts(batch);
  // A heap: of many layouts few are ever taken. Ties go to the earlier one.
  std::vector<size_t> heap(open.size());
  std::iota(heap.begin(), heap.end(), size_t(0));
  auto later = [&](size_t a, size_t b) {
    return open[a].bound != open[b].bound ? open[a].bound > open[b].bound
                                          : a > b;
  };
  std::make_heap(heap.begin(), heap.end(), later);
  struct Found {
    double seconds;
    Layout layout;
    Split split;
  };
  std::vector<Found> found;
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Layout &layout = open[heap.back()];
    heap.pop_back();
    if (found.size() == most && layout.bound >= found.back().seconds)
      break;
    if (!limits.spend() && !found.empty()) {
      isComplete = false;
      break;
    }
    double m = static_cast<double>(microbatches(layout, batch));
    const Split *fastest = nullptr;
    double seconds = kInfinity;
    for (const Split &split : splitsOf(layout, batch)) {
      double time = split.sum +
                    (m - 1) * pace(split.slowest, split.sum, layout) +
                    layout.fixed->transfers + layout.fixed->tail;
      if (time < seconds) {
        seconds = time;
        fastest = &split;
      }
    }
    if (!fastest)
      continue;
    auto place = std::upper_bound(
        found.begin(), found.end(), seconds,
        [](double value, const Found &other) { return value < other.seconds; });
    found.insert(place, {seconds, layout, *fastest});
    if (found.size() > most)
      found.pop_back();
  }
  std::vector<FoundIsland> result;
  for (const Found &one : found) {
    Island island;
    island.sites = pins.sites;
    island.batch = batch;
    island.microbatch = one.layout.microbatch;
    island.schedule = schedule();
    island.chunks = pins.chunks.value_or(1);
    island.innerSteps = pins.innerSteps;
    auto replicas = replicasOf(shapes[one.layout.shape]);
    for (size_t s = 0; s < replicas.size(); ++s) {
      Stage stage;
      stage.blocks = one.split.blocks[s];
      stage.recompute = one.split.recompute[s];
      stage.recompute = (*pins.stages)[s].recompute.value_or(stage.recompute);
      stage.replicas = std::move(replicas[s]);
      stage.optimizerSharding = shards(s, stage.replicaCount());
      island.stages.push_back(std::move(stage));
    }
    result.push_back({one.seconds, std::move(island)});
  }
  return result;
}

std::unique_ptr<IslandSearch> makePinnedIsland(const Problem &problem,
                                               const IslandPins &pins,
                                               const SearchLimits &limits) {
  return std::make_unique<PinnedIsland>(problem, pins, limits);
}

} // namespace tombolo::planning
