//===- ExactSearchTest.cpp - the search against trying everything ---------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Trying everything shares nothing with the search but the cost model: it lists
// all strategies of a small problem and takes the fastest that fits.
//
//===----------------------------------------------------------------------===//

#include "Fixtures.h"
#include "tombolo/Planning/Search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class Random {
public:
  explicit Random(uint32_t seed) : engine(seed) {}
  uint64_t operator()(uint64_t low, uint64_t high) {
    return low + engine() % (high - low + 1);
  }

private:
  std::mt19937 engine;
};

/// A few chips at one or two sites, a few blocks, memory tight or loose.
Problem randomProblem(Random &pick) {
  Problem problem;
  Topology &topology = problem.topology;
  bool tight = pick(0, 1);
  for (int c = 0; c < 2; ++c) {
    topology.chips.push_back(
        chip("c" + std::to_string(c), static_cast<double>(pick(1, 4)),
             static_cast<double>(tight ? pick(24, 90) : pick(400, 900)) / 1024 /
                 1024));
    topology.chips.back().pricePerHour = static_cast<double>(pick(1, 5));
  }
  uint64_t chips = pick(0, 7) ? pick(1, 3) : 4;
  for (size_t s = 0; chips > 0 && s < 2; ++s) {
    Site &site = topology.sites.emplace_back();
    site.name = "s" + std::to_string(s);
    site.fabric = Wire{static_cast<double>(pick(1, 50)),
                       static_cast<double>(pick(1, 20000))};
    for (uint64_t p = 0; chips > 0 && p < 2; ++p) {
      uint64_t own = pick(1, chips);
      chips -= own;
      bool wide = own % 2 == 0 && pick(0, 1);
      site.pools.push_back(pool("p" + std::to_string(p),
                                "c" + std::to_string(pick(0, 1)),
                                wide ? own / 2 : own, wide ? 2 : 1));
      if (pick(0, 2))
        chips = std::min<uint64_t>(chips, 2);
    }
    if (pick(0, 1))
      break;
  }
  if (topology.sites.size() == 2)
    topology.links = {{"s0", "s1", static_cast<double>(pick(1, 100)) / 10,
                       static_cast<double>(pick(1, 400)), 0}};
  for (int k = 0; k < 2; ++k) {
    BlockKind layer = kind("k", 1e11 * static_cast<double>(pick(1, 20)),
                           pick(100, 1500), static_cast<double>(pick(0, 3000)),
                           static_cast<double>(pick(0, 1000)));
    BlockKind half = layer;
    half.tensorParallel = 2;
    for (Work *work :
         {&half.forward, &half.backwardInput, &half.backwardWeight}) {
      work->flops.perSample *= 0.55;
      work->of(Collective::AllReduce) = {1, {0, 1e6}};
    }
    half.parameterCount = half.trainableCount = layer.trainableCount / 2;
    half.parameterBytes = 4 * half.parameterCount;
    half.savedBytes.perSample /= 2;
    layer.sharded = {half};
    problem.model.kinds.push_back(layer);
  }
  uint64_t blocks = pick(2, 4);
  problem.model.runs = {{pick(0, 1), pick(1, blocks - 1)}};
  problem.model.runs.push_back({pick(0, 1), blocks - problem.model.blocks()});
  problem.training.globalBatch = pick(1, 6);
  problem.bounds.unsupported = true;
  problem.bounds.tiesAcrossStages = true;
  problem.bounds.innerSteps = pick(1, 8);
  problem.bounds.overlapSteps = pick(0, 2);
  return problem;
}

/// The fastest island on some pools, by listing them.
class Lister {
public:
  Lister(const Problem &problem, const std::vector<std::string> &pools)
      : problem(problem), blocks(problem.model.blocks()) {
    for (const std::string &pool : pools) {
      left[pool] = problem.topology.findPool(pool)->chips();
      std::string site = splitPool(pool).first;
      if (island.sites.empty() || island.sites.back() != site)
        island.sites.push_back(site);
    }
  }

  double best(uint64_t batch) {
    if (auto known = results.find(batch); known != results.end()) {
      fastest = known->second.second;
      return known->second.first;
    }
    list(batch);
    results[batch] = {seconds, fastest};
    return seconds;
  }
  Island fastest;

private:
  std::map<uint64_t, std::pair<double, Island>> results;

  void list(uint64_t batch) {
    seconds = kInfinity;
    island.batch = batch;
    for (uint64_t u = 1; u <= batch; ++u)
      for (auto [schedule, chunks] : {std::pair(Schedule::OneFOneB, 1),
                                      {Schedule::GPipe, 1},
                                      {Schedule::ZeroBubble, 1},
                                      {Schedule::Interleaved, 2},
                                      {Schedule::Interleaved, 3},
                                      {Schedule::Interleaved, 4}}) {
        if (batch % u != 0)
          continue;
        island.microbatch = u;
        island.schedule = schedule;
        island.chunks = static_cast<uint64_t>(chunks);
        listFrom(0);
      }
  }

  const Problem &problem;
  uint64_t blocks;
  Island island;
  std::map<std::string, uint64_t> left;
  double seconds = kInfinity;

  void listFrom(uint64_t from) {
    if (from == blocks) {
      if (island.chunks > 1 && island.stages.size() < 2)
        return;
      Strategy strategy;
      strategy.islands = {island};
      // Chunks ask for more than can be seen stage by stage.
      if (island.chunks > 1 && !problem.verify(strategy).empty())
        return;
      // What costs time without need is not listed twice: the memory is looked
      // at here, for every number of blocks that run again.
      IslandPrediction prediction = evaluateIsland(problem, strategy, 0);
      for (const auto &stage : prediction.stages)
        for (const GroupPrediction &group : stage)
          if (group.memory.total() > group.availableBytes)
            return;
      if (prediction.stepSeconds < seconds) {
        seconds = prediction.stepSeconds;
        fastest = island;
      }
      return;
    }
    // Pools side by side stand as they are declared.
    auto placeOf = [&](const std::string &pool) {
      size_t place = 0;
      for (const Site &site : problem.topology.sites)
        for (const Pool &one : site.pools) {
          if (site.name + "/" + one.name == pool)
            return place;
          ++place;
        }
      return place;
    };
    std::vector<std::vector<ReplicaGroup>> all;
    for (const auto &[name, chips] : left)
      for (uint64_t k : degreesOf(name))
        for (uint64_t d = 1; d * k <= chips; ++d) {
          all.push_back({{name, d, k, 1}});
          for (const auto &[other, more] : left)
            for (uint64_t k2 : degreesOf(other))
              for (uint64_t d2 = 1;
                   placeOf(other) > placeOf(name) && d2 * k2 <= more; ++d2)
                for (uint64_t share = 1; share <= 8; ++share)
                  for (uint64_t share2 = 1; share2 <= 8; ++share2)
                    if (std::gcd(share, share2) == 1)
                      all.push_back(
                          {{name, d, k, share}, {other, d2, k2, share2}});
        }
    for (const auto &groups : all) {
      Stage stage;
      stage.replicas = groups;
      stage.optimizerSharding = stage.replicaCount() > 1;
      if (island.batch / island.microbatch % stage.turn() != 0 ||
          !reaches(groups))
        continue;
      for (const ReplicaGroup &group : groups)
        left[group.pool] -= group.count * group.tensorParallel;
      for (stage.blocks = island.chunks; from + stage.blocks <= blocks;
           ++stage.blocks)
        for (uint64_t again = 0; again <= stage.blocks; ++again) {
          stage.recompute = again == 0 ? Recompute{}
                            : again == stage.blocks
                                ? Recompute{Recompute::Full, 0}
                                : Recompute{Recompute::Blocks, again};
          island.stages.push_back(stage);
          listFrom(from + stage.blocks);
          island.stages.pop_back();
        }
      for (const ReplicaGroup &group : groups)
        left[group.pool] += group.count * group.tensorParallel;
    }
  }

  std::vector<uint64_t> degreesOf(const std::string &name) const {
    return problem.topology.findPool(name)->chipsPerNode % 2 == 0
               ? std::vector<uint64_t>{1, 2}
               : std::vector<uint64_t>{1};
  }

  /// In these problems all pools are joined if their sites are.
  bool reaches(const std::vector<ReplicaGroup> &) const { return true; }
};

/// Islands beyond the first of a site; each must be worth 5 %.
double divisionFactor(const Strategy &strategy) {
  std::map<std::string, int> alone;
  for (const Island &island : strategy.islands)
    if (island.sites.size() == 1)
      ++alone[island.sites[0]];
  double factor = 1;
  for (const auto &[site, count] : alone)
    factor *= std::pow(1.05, count - 1);
  return factor;
}

/// Lists all ways to make islands of pools, whatever the server's settings.
class EveryIsland {
public:
  explicit EveryIsland(const Problem &problem) : problem(problem) {}

  /// Seconds of the fastest step, with the factor of divided sites.
  double least() {
    for (const Site &site : problem.topology.sites)
      for (const Pool &pool : site.pools)
        pools.push_back(site.name + "/" + pool.name);
    deal(0);
    return best;
  }

private:
  const Problem &problem;
  std::vector<std::string> pools;
  std::vector<std::vector<std::string>> parts;
  std::map<std::vector<std::string>, Lister> listers;
  double best = kInfinity;

  /// Pools from `next` on: left out, into a part, or a part of their own.
  void deal(size_t next) {
    if (next == pools.size()) {
      Strategy strategy;
      if (!parts.empty() && parts.size() <= problem.training.globalBatch)
        share(problem.training.globalBatch, strategy);
      return;
    }
    deal(next + 1);
    for (size_t i = 0; i < parts.size(); ++i) {
      parts[i].push_back(pools[next]);
      deal(next + 1);
      parts[i].pop_back();
    }
    parts.push_back({pools[next]});
    deal(next + 1);
    parts.pop_back();
  }

  void share(uint64_t batch, Strategy &strategy) {
    const auto &part = parts[strategy.islands.size()];
    Lister &lister = listers.try_emplace(part, problem, part).first->second;
    bool isLast = strategy.islands.size() + 1 == parts.size();
    for (uint64_t own = isLast ? batch : 1; own <= batch; ++own) {
      double seconds = lister.best(own);
      if (seconds >= best)
        continue;
      strategy.islands.push_back(lister.fastest);
      if (!isLast)
        share(batch - own, strategy);
      else if (strategy.islands.size() == 1)
        best = seconds;
      else
        serve(strategy);
      strategy.islands.pop_back();
    }
  }

  void serve(Strategy &strategy) {
    double factor = divisionFactor(strategy);
    for (uint64_t h = 1; h <= *problem.bounds.innerSteps; ++h)
      for (Compression compression :
           {Compression::None, Compression::BF16, Compression::Int8})
        for (uint64_t v = 0; v <= *problem.bounds.overlapSteps && v < h; ++v)
          for (uint64_t fragments = 1; fragments <= h; fragments *= 2)
            for (const Site &home : problem.topology.sites) {
              Server &server = strategy.server.emplace();
              server.innerSteps = h;
              server.compression = compression;
              server.overlapSteps = v;
              server.fragments = fragments;
              for (uint64_t f = 0; f < fragments; ++f)
                server.placement[f] = {home.name, ""};
              best = std::min(best,
                              evaluate(problem, strategy).stepSeconds * factor);
            }
    strategy.server.reset();
  }
};

TEST(ExactSearchTest, EqualsEveryStrategyOfSmallProblems) {
  Random pick(20241128), cores(5);
  std::map<std::string, int> seen;
  for (int round = 0; round < 600; ++round) {
    Problem problem = randomProblem(pick);
    for (Site &site : problem.topology.sites)
      for (Pool &pool : site.pools)
        if (pool.chipsPerNode == 2 && cores(0, 2) == 0)
          pool.coresPerNode = 1;
    ASSERT_TRUE(problem.check().empty()) << "round " << round;
    double expected = EveryIsland(problem).least();
    SearchResult result = search(problem, StrategyPins());
    if (expected == kInfinity) {
      EXPECT_TRUE(result.strategies.empty()) << "round " << round;
      EXPECT_FALSE(result.faults.empty()) << "round " << round;
      ++seen["infeasible"];
      continue;
    }
    ASSERT_FALSE(result.strategies.empty()) << "round " << round;
    const Strategy &strategy = result.strategies[0].strategy;
    double found =
        result.strategies[0].prediction.stepSeconds * divisionFactor(strategy);
    EXPECT_TRUE(problem.verify(strategy).empty()) << "round " << round;
    EXPECT_TRUE(result.optimal) << "round " << round;
    EXPECT_GE(found, expected * (1 - 1e-9)) << "round " << round;
    // The mildest server may take 1 % more.
    EXPECT_LE(found, expected * (strategy.server ? 1.01 : 1) * (1 + 1e-9))
        << "round " << round;
    seen["islands"] += strategy.islands.size() > 1;
    seen["divided site"] += divisionFactor(strategy) > 1;
    for (const Island &island : strategy.islands) {
      seen["sites"] += island.sites.size() > 1;
      seen["gpipe"] += island.schedule == Schedule::GPipe;
      seen["zero-bubble"] += island.schedule == Schedule::ZeroBubble;
      seen["chunks"] += island.chunks > 1;
      seen["microbatch"] += island.microbatch > 1;
      for (size_t s = 0; s < island.stages.size(); ++s) {
        const Stage &stage = island.stages[s];
        seen["pools side by side"] += stage.replicas.size() > 1;
        seen["degree"] += stage.replicas[0].tensorParallel > 1;
        seen["shared cores"] +=
            problem.topology.findPool(stage.replicas[0].pool)->onHostCores();
        seen["some again"] += stage.recompute.kind == Recompute::Blocks;
        seen["all again"] += stage.recompute.kind == Recompute::Full;
        if (s == 0)
          continue;
        const Stage &before = island.stages[s - 1];
        seen["unequal"] += before.replicaCount() != stage.replicaCount();
        seen["other order"] += before.replicas[0].pool > stage.replicas[0].pool;
      }
    }
    seen["unused"] += !unusedChips(problem.topology, strategy).empty();
  }
  // The cases are of all sorts.
  for (const char *what : {"infeasible", "islands", "divided site",
                           "microbatch", "degree", "shared cores", "some again",
                           "all again", "unequal", "other order", "unused"})
    EXPECT_GE(seen[what], 5) << what;
}

/// Of all settings within 1 % of the fastest the mildest one is taken.
TEST(ExactSearchTest, TakesTheMildestServer) {
  Random pick(3);
  int several = 0;
  for (int round = 0; round < 3000 && several < 60; ++round) {
    Problem problem = randomProblem(pick);
    problem.training.globalBatch = pick(2, 6);
    SearchResult result = search(problem, StrategyPins());
    if (result.strategies.empty() || !result.strategies[0].strategy.server)
      continue;
    ++several;
    Strategy strategy = result.strategies[0].strategy;
    using Setting = std::tuple<uint64_t, Compression, uint64_t, uint64_t>;
    std::vector<std::pair<Setting, double>> all;
    double best = 0;
    Server chosen = *strategy.server;
    for (uint64_t h = 1; h <= *problem.bounds.innerSteps; ++h)
      for (Compression compression :
           {Compression::None, Compression::BF16, Compression::Int8})
        for (uint64_t v = 0; v <= *problem.bounds.overlapSteps && v < h; ++v)
          for (uint64_t fragments = 1; fragments <= h; fragments *= 2) {
            Server &server = *strategy.server;
            server.innerSteps = h;
            server.compression = compression;
            server.overlapSteps = v;
            server.fragments = fragments;
            server.placement.clear();
            for (uint64_t f = 0; f < fragments; ++f)
              server.placement[f] = chosen.placement.at(0);
            double tokens = evaluate(problem, strategy).tokensPerSecond;
            all.push_back({{h, compression, v, fragments}, tokens});
            best = std::max(best, tokens);
          }
    // Listed from the mildest on.
    auto first = std::find_if(all.begin(), all.end(), [&](const auto &one) {
      return one.second >= best / 1.01;
    });
    EXPECT_EQ(first->first, Setting(chosen.innerSteps, chosen.compression,
                                    chosen.overlapSteps, chosen.fragments))
        << "round " << round;
  }
  EXPECT_GE(several, 20);
}

// Chips that share cores make steps longer than bounds know of: what is proved
// stays true, and the best layout is still found.
TEST(ExactSearchTest, BoundsHoldWhereChipsShareCores) {
  Problem problem = equalBlocks(4, 4);
  Pool &shared = problem.topology.sites[0].pools[0];
  shared.nodes = 1;
  shared.chipsPerNode = shared.nicsPerNode = 4;
  double apart = search(problem, {}).strategies.at(0).prediction.stepSeconds;
  shared.coresPerNode = 2;
  SearchResult result = search(problem, {});
  double best = result.strategies.at(0).prediction.stepSeconds;
  EXPECT_GE(best, result.lowerBound * (1 - 1e-9));
  // Four blocks of 3 s, eight samples, two cores.
  EXPECT_GE(best, 4 * 3 * 8 / 2);
  EXPECT_LT(best, 4 * 3 * 8 / 2 + 0.1);
  EXPECT_LT(apart, best);
}

} // namespace
