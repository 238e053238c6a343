//===- SearchTest.cpp - the search against trying everything --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Search.h"
#include "Fixtures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

/// All splits of `blocks` over `stages`, by recursion.
void everySplit(uint64_t blocks, size_t stages, std::vector<uint64_t> &prefix,
                std::vector<std::vector<uint64_t>> &out) {
  if (stages == 1) {
    out.push_back(prefix);
    out.back().push_back(blocks);
    return;
  }
  for (uint64_t n = 1; n + stages - 1 <= blocks; ++n) {
    prefix.push_back(n);
    everySplit(blocks - n, stages - 1, prefix, out);
    prefix.pop_back();
  }
}

/// The best split by trying all, with recomputation only where it is needed.
double bruteForce(const Problem &problem, const SplitRequest &request) {
  std::vector<std::vector<uint64_t>> splits;
  std::vector<uint64_t> prefix;
  size_t stages = request.stages.size();
  if (stages > problem.model.blocks())
    return std::numeric_limits<double>::infinity();
  everySplit(problem.model.blocks(), stages, prefix, splits);
  double best = std::numeric_limits<double>::infinity();
  for (const auto &split : splits) {
    double sum = 0, slowest = 0;
    uint64_t first = 0;
    bool fits = true;
    for (size_t s = 0; s < stages && fits; ++s) {
      auto runs = slice(problem.model.runs, first, split[s]);
      first += split[s];
      uint64_t flying =
          scheduleStage(request.schedule, stages, s, request.microbatches)
              .inFlight;
      double available = availableBytes(problem, *request.stages[s]);
      double samples = static_cast<double>(request.microbatch);
      Recompute recompute;
      auto needed = [&] {
        return memoryUse(problem, runs, samples, flying, recompute, s == 0,
                         s + 1 == stages)
            .total();
      };
      if (needed() > available)
        recompute.kind = Recompute::Full;
      fits = needed() <= available;
      StageTimes times =
          blockSeconds(problem, runs, *request.stages[s], samples, recompute);
      sum += times.forward + times.backward -
             (s + 1 < stages ? times.early : 0) - (s > 0 ? times.late : 0);
      slowest = std::max(slowest, times.forward + times.backward);
    }
    if (fits)
      best = std::min(
          best, sum + static_cast<double>(request.microbatches - 1) * slowest);
  }
  return best;
}

TEST(SplitTest, EqualsEverySplitOnRandomProblems) {
  std::mt19937 random(20240607);
  auto pick = [&](uint64_t low, uint64_t high) {
    return low + random() % (high - low + 1);
  };
  int feasible = 0, infeasible = 0, recomputed = 0;
  for (int round = 0; round < 400; ++round) {
    Problem problem;
    for (int c = 0; c < 3; ++c)
      problem.topology.chips.push_back(
          chip("c" + std::to_string(c), static_cast<double>(pick(1, 9)),
               static_cast<double>(pick(2, 40)) / 1024));
    size_t kinds = pick(1, 3);
    for (size_t k = 0; k < kinds; ++k)
      problem.model.kinds.push_back(
          kind("k", 1e9 * static_cast<double>(pick(1, 20)), pick(1000, 200000),
               static_cast<double>(pick(0, 4000000)),
               static_cast<double>(pick(0, 200000))));
    uint64_t blocks = 0;
    while (blocks < 3 || (blocks < 8 && pick(0, 1))) {
      BlockRun run{pick(0, kinds - 1), pick(1, 3)};
      blocks += run.count;
      problem.model.runs.push_back(run);
    }
    SplitRequest request;
    for (uint64_t s = pick(1, 4); s > 0; --s)
      request.stages.push_back(&problem.topology.chips[pick(0, 2)]);
    request.microbatch = pick(1, 2);
    request.microbatches = pick(1, 6);
    request.schedule = pick(0, 1) ? Schedule::GPipe : Schedule::OneFOneB;
    double best = std::numeric_limits<double>::infinity();
    for (const Split &split : splitBlocks(problem, request)) {
      uint64_t sum = 0;
      for (uint64_t n : split.blocks)
        sum += n;
      ASSERT_EQ(sum, problem.model.blocks());
      if (split.seconds(request.microbatches) < best) {
        best = split.seconds(request.microbatches);
        for (const Recompute &r : split.recompute)
          recomputed += r.kind == Recompute::Full;
      }
    }
    double expected = bruteForce(problem, request);
    if (std::isinf(expected)) {
      ++infeasible;
      EXPECT_TRUE(std::isinf(best)) << "round " << round;
    } else {
      ++feasible;
      EXPECT_NEAR(best, expected, 1e-9 * expected) << "round " << round;
    }
  }
  // The cases are of all sorts.
  EXPECT_GT(feasible, 100);
  EXPECT_GT(infeasible, 20);
  EXPECT_GT(recomputed, 20);
}

TEST(SplitTest, KeepsPinnedBlocksAndRecomputation) {
  Problem problem = equalBlocks(3, 9);
  SplitRequest request;
  request.stages.assign(3, &problem.topology.chips[0]);
  request.blocks = {std::nullopt, 5, std::nullopt};
  request.recompute = {Recompute{Recompute::Full, 0}, std::nullopt,
                       std::nullopt};
  request.microbatches = 4;
  auto splits = splitBlocks(problem, request);
  ASSERT_FALSE(splits.empty());
  for (const Split &split : splits) {
    EXPECT_EQ(split.blocks[1], 5u);
    EXPECT_EQ(split.recompute[0].kind, Recompute::Full);
    EXPECT_EQ(split.recompute[1].kind, Recompute::None);
  }
}

TEST(SplitTest, KeepsUsersOfATiedParameterTogetherWhenAsked) {
  Problem problem = equalBlocks(3, 6);
  problem.model.ties = {{"w", 10, {0, 3}}};
  problem.bounds.tiesAcrossStages = false;
  SplitRequest request;
  request.stages.assign(2, &problem.topology.chips[0]);
  auto splits = splitBlocks(problem, request);
  ASSERT_FALSE(splits.empty());
  for (const Split &split : splits)
    EXPECT_GE(split.blocks[0], 4u);
}

TEST(ShareBatchTest, EqualsEverySharing) {
  std::mt19937 random(7);
  int possible = 0;
  for (int round = 0; round < 300; ++round) {
    size_t islands = 1 + random() % 3;
    uint64_t total = 1 + random() % 9;
    std::vector<std::vector<double>> times(islands);
    for (auto &island : times)
      for (uint64_t n = 0; n <= total; ++n)
        island.push_back(random() % 4 == 0
                             ? std::numeric_limits<double>::infinity()
                             : static_cast<double>(random() % 50));
    double best = std::numeric_limits<double>::infinity();
    for (uint64_t a = 1; a <= total; ++a)
      for (uint64_t b = islands > 1; b <= (islands > 1 ? total : 0); ++b) {
        if (islands < 3) {
          if (a + b == total)
            best = std::min(
                best, std::max(times[0][a], islands > 1 ? times[1][b] : 0));
        } else if (a + b < total) {
          best = std::min(best, std::max({times[0][a], times[1][b],
                                          times[2][total - a - b]}));
        }
      }
    auto shares = shareBatch(times, total);
    if (std::isinf(best)) {
      EXPECT_TRUE(shares.empty());
      continue;
    }
    ++possible;
    ASSERT_EQ(shares.size(), islands);
    uint64_t sum = 0;
    double slowest = 0;
    for (size_t i = 0; i < islands; ++i) {
      sum += shares[i];
      slowest = std::max(slowest, times[i][shares[i]]);
    }
    EXPECT_EQ(sum, total);
    EXPECT_EQ(slowest, best);
  }
  EXPECT_GT(possible, 100);
}

/// Two sites, one four times as fast, a thin line between them.
Problem twoSites() {
  Problem problem = equalBlocks(4, 8);
  problem.topology.chips.push_back(chip("fast", 4, 16));
  Site site;
  site.name = "t";
  site.pools = {pool("q", "fast", 4, 1)};
  problem.topology.sites.push_back(site);
  problem.topology.links = {{"s", "t", 1, 20, 0}};
  problem.training.globalBatch = 40;
  return problem;
}

TEST(SearchTest, SharesTheBatchBySpeed) {
  Problem problem = twoSites();
  ASSERT_TRUE(problem.check().empty());
  SearchResult result = search(problem, StrategyPins());
  ASSERT_FALSE(result.strategies.empty());
  const Strategy &strategy = result.strategies[0].strategy;
  ASSERT_EQ(strategy.islands.size(), 2u);
  EXPECT_EQ(strategy.islands[0].batch, 8u);
  EXPECT_EQ(strategy.islands[1].batch, 32u);
  ASSERT_TRUE(strategy.server.has_value());
  EXPECT_EQ(strategy.server->placement.at(0).backup, "");
  EXPECT_TRUE(problem.verify(strategy).empty());
  EXPECT_TRUE(supportedBySlice(strategy).empty());
  EXPECT_GT(result.candidates, 10u);
  EXPECT_LE(result.lowerBound,
            result.strategies[0].prediction.stepSeconds * (1 + 1e-9));
}

TEST(SearchTest, SharesABatchThatHasNoDivisors) {
  Problem problem = twoSites();
  problem.training.globalBatch = 131;
  SearchResult result = search(problem, StrategyPins());
  ASSERT_FALSE(result.strategies.empty());
  const Strategy &strategy = result.strategies[0].strategy;
  ASSERT_EQ(strategy.islands.size(), 2u);
  EXPECT_EQ(strategy.islands[0].batch + strategy.islands[1].batch, 131u);
  // Nor does an absurd batch take forever.
  problem.training.globalBatch = (uint64_t(1) << 40) - 87;
  EXPECT_FALSE(search(problem, StrategyPins()).strategies.empty());
}

TEST(SearchTest, NeverBeatsTheBoundAndIsDeterministic) {
  for (uint64_t batch : {7u, 12u}) {
    Problem problem = twoSites();
    problem.training.globalBatch = batch;
    problem.bounds.candidates = 5;
    problem.bounds.searchNodes = 10000;
    SearchResult first = search(problem, StrategyPins());
    SearchResult second = search(problem, StrategyPins());
    ASSERT_FALSE(first.strategies.empty());
    ASSERT_EQ(first.strategies.size(), second.strategies.size());
    for (size_t i = 0; i < first.strategies.size(); ++i) {
      EXPECT_EQ(first.strategies[i].strategy, second.strategies[i].strategy);
      EXPECT_TRUE(problem.verify(first.strategies[i].strategy).empty());
      EXPECT_GE(first.strategies[i].prediction.stepSeconds,
                first.lowerBound * (1 - 1e-9));
      if (i > 0) {
        EXPECT_GE(first.strategies[i].prediction.stepSeconds,
                  first.strategies[i - 1].prediction.stepSeconds);
        EXPECT_NE(first.strategies[i].strategy,
                  first.strategies[i - 1].strategy);
      }
    }
  }
}

TEST(SearchTest, FillsInWhatPinsLeaveOpen) {
  Problem problem = twoSites();
  StrategyPins pins;
  pins.islands.emplace();
  pins.islands->push_back({});
  IslandPins &island = pins.islands->back();
  island.sites = {"t"};
  island.schedule = Schedule::GPipe;
  island.stages.emplace(2);
  for (StagePins &stage : *island.stages)
    stage.replicas = {{"t/q", 0, 1, 1}};
  (*island.stages)[0].blocks = 3;
  SearchResult result = search(problem, pins);
  ASSERT_FALSE(result.strategies.empty());
  const Strategy &strategy = result.strategies[0].strategy;
  ASSERT_EQ(strategy.islands.size(), 1u);
  EXPECT_FALSE(strategy.server.has_value());
  EXPECT_EQ(strategy.islands[0].batch, 40u);
  EXPECT_EQ(strategy.islands[0].schedule, Schedule::GPipe);
  EXPECT_EQ(strategy.islands[0].stages[0].blocks, 3u);
  EXPECT_EQ(strategy.islands[0].stages[1].blocks, 5u);
  EXPECT_EQ(strategy.islands[0].stages[0].replicas[0].count, 2u);
}

TEST(SearchTest, AWholeStrategyComesBackUnchanged) {
  Problem problem = equalBlocks(4, 8);
  Strategy strategy;
  strategy.islands = {island(8, 2, {3, 5}, 2)};
  StrategyPins pins = pinsOf(strategy);
  EXPECT_TRUE(pins.isWhole());
  SearchResult result = search(problem, pins);
  ASSERT_EQ(result.strategies.size(), 1u);
  EXPECT_EQ(result.strategies[0].strategy, strategy);
  EXPECT_EQ(result.candidates, 1u);
}

TEST(SearchTest, SaysWhyNothingFits) {
  Problem problem = equalBlocks(2, 4);
  problem.topology.chips[0].memoryGib = 1e-6;
  SearchResult result = search(problem, StrategyPins());
  EXPECT_TRUE(result.strategies.empty());
  ASSERT_EQ(result.faults.size(), 1u);
  EXPECT_NE(result.faults[0].message.find("no strategy fits"),
            std::string::npos);
}

TEST(SearchTest, PipelinesOverThePoolsOfASite) {
  // Neither pool holds the model alone.
  Problem problem = equalBlocks(1, 6);
  problem.topology.chips[0].memoryGib = 72.0 / 1024 / 1024;
  problem.topology.sites[0].pools.push_back(pool("r", "c", 1, 1));
  problem.topology.sites[0].fabric = Wire{100, 12};
  SearchResult result = search(problem, StrategyPins());
  ASSERT_FALSE(result.strategies.empty());
  const Island &found = result.strategies[0].strategy.islands[0];
  ASSERT_EQ(found.stages.size(), 2u);
  // The pools are alike.
  EXPECT_EQ((std::set{found.stages[0].replicas[0].pool,
                      found.stages[1].replicas[0].pool}),
            (std::set<std::string>{"s/p", "s/r"}));
}

TEST(SearchTest, UniformClusterIsItsOwnEquivalent) {
  Problem problem = equalBlocks(4, 8);
  problem.training.globalBatch = 64;
  SearchResult result = search(problem, StrategyPins());
  ASSERT_FALSE(result.strategies.empty());
  Prediction &prediction = result.strategies[0].prediction;
  equivalentCompute(problem, result.strategies[0].strategy, prediction);
  ASSERT_TRUE(prediction.equivalentCompute.has_value());
  EXPECT_NEAR(*prediction.equivalentCompute, 1, 1e-9);
  EXPECT_NEAR(*prediction.equivalentComputeOfUsedChips, 1, 1e-9);
}

TEST(SearchTest, EquivalentComputeCountsWhatMixingLoses) {
  Problem problem = twoSites();
  SearchResult result = search(problem, StrategyPins());
  ASSERT_FALSE(result.strategies.empty());
  Prediction &prediction = result.strategies[0].prediction;
  equivalentCompute(problem, result.strategies[0].strategy, prediction);
  ASSERT_TRUE(prediction.equivalentCompute.has_value());
  EXPECT_LE(*prediction.equivalentCompute, 1 + 1e-9);
  EXPECT_GT(*prediction.equivalentCompute, 0.8);
}

/// Pins of one island on pool t/q of `twoSites`, with open replicas.
StrategyPins openStages(size_t stages) {
  StrategyPins pins;
  IslandPins &island = pins.islands.emplace().emplace_back();
  island.sites = {"t"};
  island.stages.emplace(stages);
  for (StagePins &stage : *island.stages)
    stage.replicas = {{"t/q", 0, 1, 1}};
  return pins;
}

TEST(SearchTest, RefusesAnIslandWithoutSitesInAWholeStrategy) {
  Problem problem = twoSites();
  Strategy strategy;
  strategy.islands = {island(20, 1, {8}), island(20, 1, {8})};
  strategy.islands[1].sites.clear();
  SearchResult result = search(problem, pinsOf(strategy));
  EXPECT_TRUE(result.strategies.empty());
  ASSERT_FALSE(result.faults.empty());
  EXPECT_EQ(result.faults[0].path, "islands[1].sites");
  EXPECT_EQ(result.faults[0].message, "an island needs at least one site");
}

TEST(SearchTest, RefusesAnIslandWithoutStages) {
  Problem problem = twoSites();
  SearchResult result = search(problem, openStages(0));
  EXPECT_TRUE(result.strategies.empty());
  ASSERT_EQ(result.faults.size(), 1u);
  EXPECT_EQ(result.faults[0].path, "islands[0].stages");
}

TEST(SearchTest, GivesStagesUnequalReplicas) {
  // One stage has one replica; more of the other one use more chips.
  Problem problem = twoSites();
  problem.bounds.schedule = Schedule::OneFOneB;
  StrategyPins pins = openStages(2);
  (*(*pins.islands)[0].stages)[0].replicas[0].count = 1;
  SearchResult result = search(problem, pins);
  ASSERT_FALSE(result.strategies.empty());
  const Strategy &strategy = result.strategies[0].strategy;
  EXPECT_EQ(strategy.islands[0].stages[0].replicas[0].count, 1u);
  EXPECT_GT(strategy.islands[0].stages[1].replicas[0].count, 1u);
  EXPECT_TRUE(problem.verify(strategy).empty());
  EXPECT_TRUE(supportedBySlice(strategy).empty());
}

TEST(SearchTest, SaysWhatCannotBeLowered) {
  // A solution of the problem that is not fit for the lowering.
  Problem problem = twoSites();
  BlockKind half = problem.model.kinds[0];
  half.tensorParallel = 2;
  problem.model.kinds[0].sharded = {half};
  Strategy strategy;
  strategy.islands = {island(40, 1, {4, 4})};
  strategy.islands[0].stages[1].replicas = {{"s/p", 1, 1, 1}, {"s/p", 1, 2, 1}};
  ASSERT_TRUE(problem.verify(strategy).empty());
  SearchResult result = search(problem, pinsOf(strategy));
  EXPECT_TRUE(result.strategies.empty());
  ASSERT_FALSE(result.faults.empty());
  EXPECT_EQ(result.faults[0].path, "islands[0].stages[1].replicas");
}

TEST(SearchTest, LeavesIslandsTheirOwnInnerSteps) {
  Problem problem = twoSites();
  StrategyPins pins;
  pins.islands.emplace(2);
  for (size_t i = 0; i < 2; ++i)
    (*pins.islands)[i].sites = {i ? "t" : "s"};
  (*pins.islands)[0].innerSteps = 3;
  SearchResult result = search(problem, pins);
  ASSERT_EQ(result.faults.size(), 2u);
  EXPECT_EQ(result.faults[0].path, "islands[0].inner_steps");
  EXPECT_NE(result.faults[0].message.find("set 'inner_steps' in 'server'"),
            std::string::npos);
  EXPECT_EQ(result.faults[1].path, "islands");
  EXPECT_NE(result.faults[1].message.find("set 'batch' of every island"),
            std::string::npos);

  pins.server.emplace().innerSteps = 8;
  (*pins.islands)[0].batch = 8;
  (*pins.islands)[1].batch = problem.training.globalBatch - 8;
  result = search(problem, pins);
  ASSERT_FALSE(result.strategies.empty());
  const auto &[strategy, prediction] = result.strategies[0];
  EXPECT_EQ(strategy.islands[0].innerSteps, 3u);
  EXPECT_FALSE(strategy.islands[1].innerSteps);
  EXPECT_LT(strategy.server->overlapSteps, 3u);
  EXPECT_LE(strategy.server->fragments, 3u);
  EXPECT_LE(result.lowerBound, prediction.stepSeconds * (1 + 1e-9));

  problem.bounds.innerSteps = 2;
  result = search(problem, pins);
  ASSERT_EQ(result.faults.size(), 2u); // the server's too
  EXPECT_EQ(result.faults[1].message,
            "inner_steps 3 contradicts --max-inner-steps 2; change one of the "
            "two");
}

TEST(SearchTest, ReturnsOnlyWhatCanBeLowered) {
  // Random sites with several pools of unequal sizes and chips, little memory
  // so that pools must be joined, and ties.
  std::mt19937 random(11);
  auto pick = [&](uint64_t low, uint64_t high) {
    return low + random() % (high - low + 1);
  };
  int found = 0, joined = 0, tied = 0;
  for (int round = 0; round < 80; ++round) {
    Problem problem = equalBlocks(1, pick(4, 9));
    problem.topology.chips.push_back(chip("d", 3, 16));
    for (Chip &chip : problem.topology.chips)
      chip.memoryGib = static_cast<double>(pick(60, 200)) / 1024 / 1024;
    problem.topology.sites.clear();
    size_t sites = pick(1, 2);
    for (size_t s = 0; s < sites; ++s) {
      Site &site = problem.topology.sites.emplace_back();
      site.name = "s" + std::to_string(s);
      site.fabric = Wire{100, 12};
      for (uint64_t p = pick(1, 3); p > 0; --p)
        site.pools.push_back(pool("p" + std::to_string(p),
                                  pick(0, 1) ? "c" : "d", pick(1, 4),
                                  pick(1, 2)));
    }
    if (sites == 2)
      problem.topology.links = {{"s0", "s1", 1, 20, 0}};
    if (pick(0, 1)) {
      uint64_t first = pick(0, problem.model.blocks() - 2);
      problem.model.ties = {
          {"w", 10, {first, pick(first + 1, problem.model.blocks() - 1)}}};
    }
    problem.training.globalBatch = pick(1, 24);
    problem.bounds.candidates = 4;
    problem.bounds.searchNodes = 2000;
    ASSERT_TRUE(problem.check().empty());
    for (const Candidate &one : search(problem, StrategyPins()).strategies) {
      ++found;
      EXPECT_TRUE(problem.verify(one.strategy).empty());
      EXPECT_TRUE(supportedBySlice(one.strategy).empty());
      for (const Island &island : one.strategy.islands) {
        joined += island.stages.front().replicas[0].pool !=
                  island.stages.back().replicas[0].pool;
        uint64_t cut = 0;
        for (size_t s = 0; s + 1 < island.stages.size(); ++s) {
          cut += island.stages[s].blocks;
          for (const TiedParameter &tie : problem.model.ties) {
            ++tied;
            EXPECT_FALSE(tie.blockNumbers.front() < cut &&
                         cut <= tie.blockNumbers.back());
          }
        }
      }
    }
  }
  // The cases are of all sorts.
  EXPECT_GT(found, 50);
  EXPECT_GT(joined, 10);
  EXPECT_GT(tied, 10);
}

TEST(SearchTest, RoundBatchesEqualSortingAll) {
  for (uint64_t exact = 1; exact < 140; ++exact)
    for (uint64_t reach = 0; reach < exact; ++reach) {
      std::vector<uint64_t> all;
      for (uint64_t b = exact - reach; b <= exact + reach; ++b)
        all.push_back(b);
      auto twos = [](uint64_t value) { return value & (~value + 1); };
      auto distance = [&](uint64_t b) {
        return b > exact ? b - exact : exact - b;
      };
      std::stable_sort(all.begin(), all.end(), [&](uint64_t a, uint64_t b) {
        return twos(a) != twos(b) ? twos(a) > twos(b)
                                  : distance(a) < distance(b);
      });
      if (all.size() > 4)
        all.resize(4);
      ASSERT_EQ(roundBatches(exact, reach, 4), all) << exact << " " << reach;
    }
  // Of the largest batch, too, without a list of all.
  uint64_t large = (uint64_t(1) << 40) / 5 * 4;
  EXPECT_EQ(roundBatches(large, large / 16, 4).size(), 4u);
}

TEST(SearchTest, EquivalentComputeOfAnAbsurdBatch) {
  Problem problem = twoSites();
  problem.training.globalBatch = uint64_t(1) << 40;
  SearchResult result = search(problem, StrategyPins());
  ASSERT_FALSE(result.strategies.empty());
  Prediction &prediction = result.strategies[0].prediction;
  equivalentCompute(problem, result.strategies[0].strategy, prediction);
  EXPECT_TRUE(prediction.equivalentCompute.has_value());
}

} // namespace
