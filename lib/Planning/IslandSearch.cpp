//===- IslandSearch.cpp - the best layouts of one island ------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// A layout's time by the closed formula is
//   sum + (m - 1) max(slowest, (sum + transfers) / stages)
//     + transfers + reduction + update
// with m microbatches per replica, `sum` and `slowest` from the split, and
// `transfers` the boundary tensors once there and back through all stages.
// (1F1B keeps at most as many microbatches in flight as there are stages, hence
// the second pace.) Everything but `sum` and `slowest` is known before the
// split, and bounds on those two give a bound on the layout: layouts are taken
// by rising bound until no later one can be among the best.
//
//===----------------------------------------------------------------------===//

#include "IslandSearch.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace tombolo::planning {

static constexpr double kInfinity = std::numeric_limits<double>::infinity();

IslandSearch::IslandSearch(const Problem &problem, IslandPins pins)
    : problem(problem), pins(std::move(pins)) {
  if (this->pins.stages) {
    findPinnedShapes();
  } else {
    findRows();
    findShapes();
  }
  for (size_t i = 0; i < shapes.size(); ++i)
    shapesByPeriod[shapes[i].period].push_back(i);
}

Schedule IslandSearch::schedule() const {
  return pins.schedule.value_or(problem.bounds.schedule);
}

bool IslandSearch::outOfNodes() const {
  return problem.bounds.searchNodes != 0 &&
         splitsComputed >= problem.bounds.searchNodes;
}

/// Each pool alone; all pools of a site, and of all sites, in declared order
/// where neighbours are joined.
void IslandSearch::findRows() {
  Row all;
  auto joined = [&](const std::string &from, const std::string &to) {
    std::string fromSite = splitPool(from).first, toSite = splitPool(to).first;
    return fromSite == toSite
               ? problem.topology.wireBetween(from, to).has_value()
               : problem.topology.route(fromSite, toSite).has_value();
  };
  auto isRow = [&](const Row &row) {
    for (size_t i = 0; i + 1 < row.pools.size(); ++i)
      if (!joined(row.pools[i], row.pools[i + 1]))
        return false;
    return row.pools.size() > 1;
  };
  for (const std::string &name : pins.sites) {
    const Site *site = problem.topology.findSite(name);
    if (!site)
      continue;
    Row here;
    for (const Pool &pool : site->pools) {
      here.pools.push_back(name + "/" + pool.name);
      all.pools.push_back(here.pools.back());
      // An island uses every site it is given.
      if (pins.sites.size() == 1)
        rows.push_back({{here.pools.back()}});
    }
    if (pins.sites.size() == 1 && isRow(here))
      rows.push_back(std::move(here));
  }
  if (pins.sites.size() > 1 && isRow(all))
    rows.push_back(std::move(all));
}

/// How many stages to put on each pool of a row: every choice where there are
/// few, else powers of two and the most that fit.
std::vector<std::vector<uint64_t>>
IslandSearch::stageCounts(const Row &row, uint64_t dataParallel) const {
  uint64_t blocks = problem.model.blocks();
  std::vector<std::vector<uint64_t>> options;
  double choices = 1;
  for (const std::string &name : row.pools) {
    uint64_t most = std::min(
        problem.topology.findPool(name)->chips() / dataParallel, blocks);
    auto &list = options.emplace_back();
    for (uint64_t n = 1; n <= most; ++n)
      list.push_back(n);
    choices *= static_cast<double>(most);
  }
  constexpr double kFew = 4096;
  if (row.pools.size() > 1 && choices > kFew)
    for (auto &list : options) {
      uint64_t most = list.back();
      list.clear();
      for (uint64_t n = 1; n < most; n *= 2)
        list.push_back(n);
      list.push_back(most);
    }
  std::vector<std::vector<uint64_t>> result = {{}};
  for (const auto &list : options) {
    std::vector<std::vector<uint64_t>> longer;
    for (const auto &prefix : result) {
      uint64_t used = 0;
      for (uint64_t n : prefix)
        used += n;
      for (uint64_t n : list)
        if (used + n <= blocks) {
          longer.push_back(prefix);
          longer.back().push_back(n);
        }
    }
    result = std::move(longer);
  }
  return result;
}

static std::vector<uint64_t> divisors(uint64_t number) {
  std::vector<uint64_t> small, large;
  for (uint64_t n = 1; n * n <= number; ++n)
    if (number % n == 0) {
      small.push_back(n);
      if (n != number / n)
        large.push_back(number / n);
    }
  small.insert(small.end(), large.rbegin(), large.rend());
  return small;
}

/// Every number of replicas and stages that the chips allow.
void IslandSearch::findShapes() {
  for (size_t r = 0; r < rows.size(); ++r) {
    uint64_t most = std::numeric_limits<uint64_t>::max();
    for (const std::string &name : rows[r].pools)
      most = std::min(most, problem.topology.findPool(name)->chips());
    most = std::min(most, problem.training.globalBatch);
    for (uint64_t replicas = 1; replicas <= most; ++replicas) {
      // A batch is a multiple of the replicas; all other numbers are useless.
      if (pins.batch && *pins.batch % replicas != 0)
        continue;
      for (auto &counts : stageCounts(rows[r], replicas)) {
        uint64_t stages = 0;
        for (uint64_t n : counts)
          stages += n;
        shapes.push_back(
            {r, std::move(counts), replicas, stages, replicas, replicas});
      }
    }
  }
}

/// With stages given only the replicas that are left open. Of those what can
/// be lowered, if anything can.
void IslandSearch::findPinnedShapes() {
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
    Shape shape{0, {}, replicas, pins.stages->size(), 1, 1};
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

std::vector<IslandSearch::Layout> IslandSearch::layouts(uint64_t batch) {
  std::vector<Layout> result;
  for (uint64_t microbatch : divisors(batch)) {
    if (pins.microbatch && *pins.microbatch != microbatch)
      continue;
    for (const auto &[period, members] : shapesByPeriod) {
      if (batch / microbatch % period != 0)
        continue;
      for (size_t shape : members) {
        Layout layout{shape, microbatch, 0, &fixedOf(shape, microbatch)};
        double m = static_cast<double>(microbatches(layout, batch));
        const Fixed &fixed = *layout.fixed;
        double least =
            std::max(fixed.longest,
                     fixed.least / static_cast<double>(shapes[shape].stages));
        layout.bound = fixed.least +
                       (m - 1) * pace(least, fixed.least, layout) +
                       fixed.transfers + fixed.tail;
        result.push_back(layout);
        ++scored;
      }
    }
  }
  return result;
}

std::vector<std::vector<ReplicaGroup>>
IslandSearch::replicasOf(const Shape &shape) const {
  std::vector<std::vector<ReplicaGroup>> result;
  if (pins.stages) {
    for (const StagePins &stage : *pins.stages) {
      result.push_back(stage.replicas);
      for (ReplicaGroup &group : result.back())
        if (group.count == 0)
          group.count = shape.dataParallel;
    }
    return result;
  }
  for (size_t i = 0; i < shape.stagesOn.size(); ++i)
    for (uint64_t n = 0; n < shape.stagesOn[i]; ++n)
      result.push_back({{rows[shape.row].pools[i], shape.dataParallel, 1, 1}});
  return result;
}

/// The chip of each stage; where it has several, the slowest.
std::vector<const Chip *> IslandSearch::chipsOf(const Shape &shape) const {
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
bool IslandSearch::shards(size_t stage, uint64_t replicas) const {
  std::optional<bool> pinned;
  if (pins.stages)
    pinned = (*pins.stages)[stage].optimizerSharding;
  return pinned.value_or(shardsOptimizer(problem, replicas));
}

std::vector<StageRanks> IslandSearch::ranksOf(const Shape &shape) const {
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

uint64_t IslandSearch::microbatches(const Layout &layout,
                                    uint64_t batch) const {
  return batch / layout.microbatch / shapes[layout.shape].turn;
}

double IslandSearch::pace(double slowest, double sum,
                          const Layout &layout) const {
  if (schedule() == Schedule::GPipe)
    return slowest;
  return std::max(slowest,
                  (sum + layout.fixed->transfers) /
                      static_cast<double>(shapes[layout.shape].stages));
}

const IslandSearch::Fixed &IslandSearch::fixedOf(size_t shape,
                                                 uint64_t microbatch) {
  auto [entry, isNew] = fixedCosts[microbatch].try_emplace(shape);
  if (isNew)
    entry->second = compute(shapes[shape], microbatch);
  return entry->second;
}

/// The chips of a replica of each pinned stage, where they would lie.
std::vector<ReplicaChips>
IslandSearch::replicaChipsOf(const Shape &shape) const {
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
double IslandSearch::transfersOf(const Shape &shape, double bytes) const {
  const Topology &topology = problem.topology;
  if (pins.stages) {
    Strategy placed;
    placed.islands.emplace_back();
    for (auto &groups : replicasOf(shape))
      placed.islands[0].stages.push_back({1, Recompute(), false, groups});
    auto places = placeRanks(placed)[0];
    double seconds = 0;
    for (size_t s = 0; s + 1 < places.size(); ++s)
      seconds += transferBetween(topology, places[s][0], places[s + 1][0])
                     .seconds(bytes);
    return seconds;
  }
  // Without going through all stages: those of a pool lie in a row.
  const std::vector<std::string> &pools = rows[shape.row].pools;
  double seconds = 0;
  for (size_t i = 0; i < pools.size(); ++i) {
    uint64_t d = shape.dataParallel;
    uint64_t perNode = topology.findPool(pools[i])->chipsPerNode;
    uint64_t hops = shape.stagesOn[i] - 1;
    // Hops from a node to the next; all, where a stage and a node do not fit.
    uint64_t between = perNode % d == 0 ? hops / (perNode / d) : hops;
    ChipRange first{pools[i], 0, d}, inside{pools[i], d, d},
        outside{pools[i], perNode, d};
    if (hops > between)
      seconds += static_cast<double>(hops - between) *
                 transferBetween(topology, first, inside).seconds(bytes);
    if (between > 0)
      seconds += static_cast<double>(between) *
                 transferBetween(topology, first, outside).seconds(bytes);
    if (i + 1 < pools.size())
      seconds +=
          transferBetween(topology, first, {pools[i + 1], 0, d}).seconds(bytes);
  }
  return seconds;
}

IslandSearch::Fixed IslandSearch::compute(const Shape &shape,
                                          uint64_t microbatch) const {
  const Topology &topology = problem.topology;
  double samples = static_cast<double>(microbatch);
  double stages = static_cast<double>(shape.stages);
  // Where there are replicas: one group of each pool and number of chips.
  std::map<std::pair<std::string, uint64_t>, uint64_t> groups;
  bool sharded = true;
  if (pins.stages) {
    auto stages = replicasOf(shape);
    for (size_t s = 0; s < stages.size(); ++s) {
      uint64_t replicas = 0;
      for (const ReplicaGroup &group : stages[s]) {
        uint64_t &most = groups[{group.pool, group.tensorParallel}];
        most = std::max(most, group.count);
        replicas += group.count;
      }
      sharded &= shards(s, replicas);
    }
  } else {
    for (const std::string &pool : rows[shape.row].pools)
      groups[{pool, 1}] = shape.dataParallel;
    sharded = shards(0, shape.dataParallel);
  }
  Fixed fixed;
  double crossing = 0;
  for (const BlockRun &run : problem.model.runs) {
    double fastest = kInfinity;
    for (const auto &[group, count] : groups) {
      // Nothing is faster than collectives that take no time.
      StageTimes one =
          blockSeconds(problem, {{run.kind, 1}},
                       topology.chipOf(*topology.findPool(group.first)),
                       samples, Recompute(), {group.second, Transfer()});
      fastest = std::min(fastest, one.forward + one.backward);
    }
    fixed.least += fastest * static_cast<double>(run.count);
    fixed.longest = std::max(fixed.longest, fastest);
    crossing = std::max(crossing,
                        problem.model.kinds[run.kind].outputBytes.at(samples));
  }
  fixed.transfers = 2 * transfersOf(shape, crossing);
  double gradients = 4 * problem.model.trainableCount() / stages;
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

const std::vector<Split> &IslandSearch::splitsOf(const Layout &layout,
                                                 uint64_t batch) {
  uint64_t m = microbatches(layout, batch);
  SplitRequest request;
  const Shape &shape = shapes[layout.shape];
  request.microbatch = layout.microbatch;
  request.schedule = schedule();
  // Splits depend on m through what is in flight alone.
  request.microbatches =
      schedule() == Schedule::GPipe ? m : std::min<uint64_t>(m, shape.stages);
  SplitKey key{shape.row, shape.stagesOn, layout.microbatch,
               request.microbatches,
               // What the optimizer state is divided by.
               shape.dataParallel};
  auto [entry, isNew] = splits.try_emplace(key);
  if (!isNew)
    return entry->second;
  ++splitsComputed;
  request.stages = chipsOf(shape);
  request.ranks = ranksOf(shape);
  if (pins.stages)
    request.replicas = replicaChipsOf(shape);
  auto &table = tables[layout.microbatch];
  if (!table)
    table = std::make_unique<SplitTable>(problem, layout.microbatch);
  if (pins.stages)
    for (const StagePins &stage : *pins.stages) {
      request.blocks.push_back(stage.blocks);
      request.recompute.push_back(stage.recompute);
    }
  entry->second = splitBlocks(problem, *table, request);
  return entry->second;
}

std::vector<std::pair<double, Island>> IslandSearch::best(uint64_t batch,
                                                          size_t most) {
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
    if (outOfNodes() && !found.empty())
      break;
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
  std::vector<std::pair<double, Island>> result;
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
      if (pins.stages)
        stage.recompute = (*pins.stages)[s].recompute.value_or(stage.recompute);
      stage.replicas = std::move(replicas[s]);
      stage.optimizerSharding = shards(s, stage.replicaCount());
      island.stages.push_back(std::move(stage));
    }
    result.emplace_back(one.seconds, std::move(island));
  }
  return result;
}

} // namespace tombolo::planning
