//===- ExactIsland.cpp - the best layout of a small island ----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Everything is tried: every microbatch and schedule, and for each stage, from
// the last one to the first, every pool (or two side by side, with their
// shares), replicas, chips per replica and number of blocks. Blocks run again
// only as far as memory asks for it: they cost time and nothing else changes.
//
// A branch ends where a bound says that it cannot become better than what is
// known, by the exact time:
// - a placed stage has all its microbatches to do, after the first has come
//   through the stages before it and before the last has gone back: `fill +
//   own x t - late` is never more than the step of 1F1B and GPipe, `own x t`
//   never more than that of any order. A stage before adds to `fill` what it
//   does for one microbatch without what is `early` and `late`;
// - the blocks that are left keep the chips that are left busy for as long as
//   their work on the chips that suit them best.
// Of pools that are alike and have as many chips left only the first is opened.
//
//===----------------------------------------------------------------------===//

#include "Infinity.h"
#include "IslandSearch.h"

#include <algorithm>
#include <numeric>

namespace tombolo::planning {

namespace {

class ExactIsland : public IslandSearch {
public:
  ExactIsland(const Problem &problem, const IslandPins &given,
              const SearchHooks &hooks);

  bool isExact() const override { return true; }
  double bound(uint64_t batch) override {
    return busySeconds(problem, islandPools, batch);
  }

private:
  /// Stages opened for one batch, where nobody says.
  static constexpr uint64_t kDefaultNodes = 5000;

  struct PoolState : IslandPool {
    uint64_t left; // chips
    // At least, of a microbatch, by kind: all, and without what is late.
    std::vector<double> seconds, first;
  };
  struct Placed {
    Stage stage;
    double least; // seconds of a microbatch on its way, in the fastest group
    double busy;  // seconds of all microbatches in its slowest group
    double sent;  // the same up to the last gradient that goes on
  };

  const Problem &problem;
  IslandPins pins;
  bool isUnequal;                     // whether degrees of a stage may differ
  size_t wanted;                      // islands to find
  std::unique_ptr<IslandSearch> rows; // where to begin
  std::vector<IslandPool> islandPools;
  std::vector<PoolState> pools;
  std::vector<size_t> kindOf; // by block
  /// Least seconds of the blocks before one: where none is the first of a
  /// stage and where each is; and the most that one more first block saves.
  std::vector<double> before, begun, saved;

  // The branch.
  Island island; // without stages
  uint64_t microbatches = 1;
  std::vector<Placed> placed; // from the last stage to the first
  std::vector<FoundIsland> found;
  bool hasEnded = false; // a limit, for the batch that is looked at

  std::vector<FoundIsland> find(uint64_t batch, double ceiling) override;
  void placeBefore(uint64_t block);
  void placeStage(uint64_t block, std::vector<ReplicaGroup> groups);
  bool place(uint64_t first, uint64_t block,
             const std::vector<ReplicaGroup> &groups);
  double onTheWay(uint64_t block, uint64_t stages) const;
  double leastWith(uint64_t block) const;
  double worst() const {
    return found.size() < wanted ? kInfinity : found.back().seconds;
  }
  void keep();
  PoolState &stateOf(const std::string &name) {
    return *std::find_if(pools.begin(), pools.end(),
                         [&](const auto &pool) { return pool.name == name; });
  }
  /// Whether a stage may begin with a block: no tied parameter has users on
  /// both sides, where they must stay together.
  bool mayCut(uint64_t block) const {
    return problem.bounds.tiesAcrossStages ||
           std::none_of(problem.model.ties.begin(), problem.model.ties.end(),
                        [&](const TiedParameter &tie) {
                          return tie.blockNumbers.front() < block &&
                                 block <= tie.blockNumbers.back();
                        });
  }
  /// Whether a pool like this one with as many chips left comes before it.
  bool hasTwin(size_t pool) const;
};

ExactIsland::ExactIsland(const Problem &problem, const IslandPins &given,
                         const SearchHooks &hooks)
    : IslandSearch(SearchLimits(problem.bounds, hooks, kDefaultNodes)),
      problem(problem), pins(given),
      isUnequal(allowsUnequalDegrees(problem.bounds)),
      wanted(std::min<uint64_t>(
          kFinalists,
          std::max<uint64_t>(
              {1, problem.bounds.candidates,
               // One more, for one that cannot be run.
               hooks.simulate ? problem.bounds.simulated + 1 : 0}))),
      rows(makeRowIsland(problem, given, limits)) {
  for (const BlockRun &run : problem.model.runs)
    kindOf.insert(kindOf.end(), run.count, run.kind);
  islandPools = poolsOf(problem, pins);
  for (const IslandPool &pool : islandPools)
    pools.push_back({pool, pool.pool->chips(), {}, {}});
}

bool ExactIsland::hasTwin(size_t pool) const {
  for (size_t other = 0; other < pool; ++other) {
    Pool renamed = *pools[other].pool;
    renamed.name = pools[pool].pool->name;
    if (renamed == *pools[pool].pool && pools[other].left == pools[pool].left &&
        // Neither has been used, or the places of their chips could matter.
        pools[other].left == pools[other].pool->chips() &&
        splitPool(pools[other].name).first ==
            splitPool(pools[pool].name).first &&
        problem.topology.findSite(splitPool(pools[pool].name).first)
            ->fabrics.empty())
      return true;
  }
  return false;
}

std::vector<FoundIsland> ExactIsland::find(uint64_t batch, double) {
  if (pools.empty() || (pins.batch && *pins.batch != batch))
    return {};
  found.clear();
  hasEnded = false;
  // Every order of what rows found: where a limit ends what follows, it stays.
  for (const FoundIsland &one : rows->best(batch))
    for (auto [schedule, chunks] : ordersOf(problem.bounds, pins)) {
      island = one.island;
      island.schedule = schedule;
      island.chunks = chunks;
      placed.clear();
      if (chunks == 1)
        keep();
    }
  for (uint64_t microbatch : divisorsOf(batch)) {
    if (pins.microbatch && *pins.microbatch != microbatch)
      continue;
    microbatches = batch / microbatch;
    before.assign(1, 0);
    begun.assign(1, 0);
    saved.assign(1, 0);
    for (PoolState &pool : pools) {
      pool.seconds.assign(problem.model.kinds.size(), kInfinity);
      pool.first.assign(problem.model.kinds.size(), kInfinity);
      for (uint64_t degree : pool.degrees)
        for (size_t kind = 0; kind < pool.seconds.size(); ++kind) {
          // Collectives take nothing: less than any wire.
          StageTimes one = blockSeconds(problem, {{kind, 1}}, *pool.chip,
                                        static_cast<double>(microbatch),
                                        Recompute(), {degree, {}});
          double all = one.forward + one.backward;
          pool.seconds[kind] = std::min(pool.seconds[kind], all);
          pool.first[kind] = std::min(pool.first[kind], all - one.late);
        }
    }
    for (size_t kind : kindOf) {
      double fastest = kInfinity, first = kInfinity;
      for (const PoolState &pool : pools) {
        fastest = std::min(fastest, pool.seconds[kind]);
        first = std::min(first, pool.first[kind]);
      }
      before.push_back(before.back() + fastest);
      begun.push_back(begun.back() + first);
      saved.push_back(std::max(saved.back(), fastest - first));
    }
    for (auto [schedule, chunks] : ordersOf(problem.bounds, pins)) {
      island = Island();
      island.sites = pins.sites;
      island.batch = batch;
      island.microbatch = microbatch;
      island.schedule = schedule;
      island.chunks = chunks;
      island.innerSteps = pins.innerSteps;
      placed.clear();
      placeBefore(kindOf.size());
    }
  }
  return found;
}

/// What one microbatch takes at least on its way there and back through the
/// blocks before one, in at most so many stages. Blocks that run again add no
/// less than what is early of them; the first stage of all sends no gradient.
double ExactIsland::onTheWay(uint64_t block, uint64_t stages) const {
  double sending = static_cast<double>(std::min(block, stages)) - 1;
  return std::max(begun[block], before[block] - saved[block] * sending);
}

double ExactIsland::leastWith(uint64_t block) const {
  uint64_t chips = 0; // that are left
  for (const PoolState &pool : pools)
    chips += pool.left;
  // Which blocks are in the chunks of a stage is only known with all stages.
  if (island.chunks > 1) {
    for (const Placed &one : placed)
      for (const ReplicaGroup &group : one.stage.replicas)
        chips += group.count * group.tensorParallel;
    return onTheWay(kindOf.size(), island.chunks * chips) * (1 - 1e-9);
  }
  double least = 0, fill = block > 0 ? onTheWay(block, chips) : 0;
  // Gradients of weights keep no other stage waiting.
  bool isPlain = island.schedule == Schedule::OneFOneB ||
                 island.schedule == Schedule::GPipe;
  for (size_t i = placed.size(); i-- > 0;) { // the first stage comes last
    least = std::max(least, placed[i].busy);
    if (isPlain)
      least = std::max(least, fill + placed[i].sent);
    fill += placed[i].least;
  }
  if (isPlain)
    least = std::max(least, fill);
  // What is left, on the chips that are left.
  for (size_t kind = 0; block > 0 && kind < problem.model.kinds.size();
       ++kind) {
    double rate = 0;
    for (const PoolState &pool : pools)
      rate +=
          static_cast<double>(pool.left) /
          std::max(1e-300, leastSecondsPerSample(problem, kind, *pool.chip));
    double blocks = static_cast<double>(
        std::count(kindOf.begin(),
                   kindOf.begin() + static_cast<std::ptrdiff_t>(block), kind));
    least = std::max(least, blocks * static_cast<double>(island.batch) / rate);
  }
  return least * (1 - 1e-9);
}

/// Opens all stages that end before `block`.
void ExactIsland::placeBefore(uint64_t block) {
  if (block == 0) {
    keep();
    return;
  }
  if (hasEnded || leastWith(block) >= worst())
    return;
  if (!limits.spend()) {
    hasEnded = true;
    isComplete = false;
    return;
  }
  auto groupsOf = [&](size_t pool, uint64_t most, auto visit) {
    for (uint64_t degree : pools[pool].degrees)
      for (uint64_t count = 1;
           count <= most && count * degree <= pools[pool].left; ++count)
        visit(ReplicaGroup{pools[pool].name, count, degree, 1});
  };
  for (size_t a = 0; a < pools.size(); ++a) {
    if (hasTwin(a))
      continue;
    groupsOf(a, microbatches, [&](ReplicaGroup one) {
      if (microbatches % one.count == 0)
        placeStage(block, {one});
      for (size_t b = a + 1; b < pools.size(); ++b)
        groupsOf(b, microbatches, [&](ReplicaGroup other) {
          if (other.tensorParallel != one.tensorParallel && !isUnequal)
            return;
          for (one.share = 1; one.share <= kMostShare; ++one.share)
            for (other.share = 1; other.share <= kMostShare; ++other.share) {
              uint64_t turn = one.count * one.share + other.count * other.share;
              if (std::gcd(one.share, other.share) == 1 &&
                  microbatches % turn == 0)
                placeStage(block, {one, other});
            }
          one.share = 1;
        });
    });
  }
}

/// Opens all stages of such groups that end before `block`.
void ExactIsland::placeStage(uint64_t block, std::vector<ReplicaGroup> groups) {
  const Topology &topology = problem.topology;
  for (const ReplicaGroup &from : groups) {
    if (!topology.joined(groups[0].pool, from.pool))
      return;
    if (!placed.empty())
      for (const ReplicaGroup &to : placed.back().stage.replicas)
        if (!topology.joined(from.pool, to.pool))
          return;
  }
  // As `Problem::verify` asks for.
  if (island.chunks > 1 && !placed.empty() &&
      !dealAlike(groups, placed.back().stage.replicas))
    return;
  for (const ReplicaGroup &group : groups)
    stateOf(group.pool).left -= group.count * group.tensorParallel;
  for (uint64_t first = block; first-- > 0;)
    if (mayCut(first) && !place(first, block, groups))
      break;
  for (const ReplicaGroup &group : groups)
    stateOf(group.pool).left += group.count * group.tensorParallel;
}

/// Opens one stage; false: with more blocks it is no better.
bool ExactIsland::place(uint64_t first, uint64_t block,
                        const std::vector<ReplicaGroup> &groups) {
  if (block - first < island.chunks)
    return true;
  Placed next;
  next.stage.blocks = block - first;
  next.stage.replicas = groups;
  next.stage.optimizerSharding =
      shardsOptimizer(problem, next.stage.replicaCount());
  auto runs = slice(problem.model.runs, first, block - first);
  uint64_t turn = next.stage.turn();
  uint64_t after = placed.size();
  double samples = static_cast<double>(island.microbatch);
  // What is in flight follows from the stages behind.
  bool isPlain = island.schedule == Schedule::OneFOneB ||
                 island.schedule == Schedule::GPipe;
  auto fits = [&](const Recompute &recompute) {
    if (island.chunks > 1)
      return true;
    for (const ReplicaGroup &group : groups) {
      uint64_t own = microbatches / turn * group.share;
      uint64_t flying =
          isPlain ? scheduleStage(island.schedule, after + 1, 0, own).inFlight
                  : 1;
      uint64_t parts =
          next.stage.optimizerSharding ? next.stage.replicaCount() : 1;
      MemoryUse use = memoryUse(
          problem, runs, samples, flying, recompute, first == 0,
          block == kindOf.size(),
          {group.tensorParallel, parts,
           repeatedElements(problem.model, {{first, block - first}})});
      double needed = isPlain
                          ? use.total()
                          : use.parameters + use.gradients + use.optimizerState;
      if (needed > availableBytes(problem, *stateOf(group.pool).chip))
        return false;
    }
    return true;
  };
  auto open = [&](const Recompute &recompute) {
    next.stage.recompute = recompute;
    next.least = kInfinity;
    next.busy = next.sent = 0;
    for (const ReplicaGroup &group : groups) {
      StageTimes times =
          blockSeconds(problem, runs, *stateOf(group.pool).chip, samples,
                       recompute, {group.tensorParallel, {}});
      double one = times.forward + times.backward;
      double all = one * static_cast<double>(microbatches / turn * group.share);
      // No gradient comes to the last stage, none goes on from the first.
      double early = block < kindOf.size() ? times.early : 0;
      double late = first > 0 ? times.late : 0;
      next.least = std::min(next.least, one - early - late);
      next.busy = std::max(next.busy, all);
      next.sent = std::max(next.sent, all - late);
    }
    if (island.chunks == 1 && next.busy * (1 - 1e-9) >= worst())
      return false;
    placed.push_back(next);
    placeBefore(first);
    placed.pop_back();
    return true;
  };
  // As few blocks run again as memory asks for; where it is only known with
  // all stages, every number of them.
  uint64_t count = block - first;
  bool some = false;
  for (uint64_t n = 0; n <= count; ++n) {
    Recompute recompute{n == 0       ? Recompute::None
                        : n == count ? Recompute::Full
                                     : Recompute::Blocks,
                        n < count ? n : 0};
    if (!fits(recompute))
      continue;
    if (!open(recompute))
      return some;
    some = true;
    if (isPlain)
      break;
  }
  return true; // where nothing fits, other inputs may be smaller
}

/// The branch is an island: by its exact time.
void ExactIsland::keep() {
  if (!placed.empty()) {
    island.stages.clear();
    for (size_t i = placed.size(); i-- > 0;)
      island.stages.push_back(placed[i].stage);
  }
  ++scored;
  if (island.chunks > 1 && island.stages.size() < 2)
    return;
  Strategy alone;
  alone.islands = {island};
  IslandPrediction prediction = evaluateIsland(problem, alone, 0);
  if (!fitsMemory(prediction))
    return;
  double seconds = prediction.stepSeconds;
  if (seconds >= worst() || seconds == kInfinity ||
      std::any_of(found.begin(), found.end(), [&](const FoundIsland &other) {
        return other.island == island;
      }))
    return;
  auto spot = std::upper_bound(
      found.begin(), found.end(), seconds,
      [](double value, const FoundIsland &one) { return value < one.seconds; });
  found.insert(spot, {seconds, island});
  if (found.size() > wanted)
    found.pop_back();
}

} // namespace

std::unique_ptr<IslandSearch> makeExactIsland(const Problem &problem,
                                              const IslandPins &pins,
                                              const SearchHooks &hooks) {
  return std::make_unique<ExactIsland>(problem, pins, hooks);
}

} // namespace tombolo::planning
