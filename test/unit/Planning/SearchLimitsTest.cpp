//===- SearchLimitsTest.cpp - bounds, odd figures, the clock --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Fixtures.h"
#include "tombolo/Planning/Search.h"

#include <gtest/gtest.h>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

/// Two alike sites of four chips, with a line between them.
Problem alikeSites(uint64_t batch, uint64_t blocks = 8) {
  Problem problem = equalBlocks(4, blocks);
  Site other = problem.topology.sites[0];
  other.name = "t";
  problem.topology.sites.push_back(other);
  problem.topology.links = {{"s", "t", 1, 20, 0}};
  problem.training.globalBatch = batch;
  return problem;
}

TEST(SearchBoundsTest, NothingIsSentAboveTheBoundBetweenSites) {
  Problem problem = alikeSites(64);
  SearchResult free = search(problem, StrategyPins());
  ASSERT_FALSE(free.strategies.empty());
  ASSERT_EQ(free.strategies[0].strategy.islands.size(), 2u);
  // A site by itself keeps any bound.
  problem.bounds.wanGbits = 1e-9;
  SearchResult bound = search(problem, StrategyPins());
  ASSERT_FALSE(bound.strategies.empty());
  EXPECT_EQ(bound.strategies[0].strategy.islands.size(), 1u);
  EXPECT_EQ(bound.strategies[0].prediction.wanBytesPerRound, 0);
  // Both of them cannot.
  StrategyPins pins;
  pins.islands.emplace(2);
  (*pins.islands)[0].sites = {"s"};
  (*pins.islands)[1].sites = {"t"};
  SearchResult none = search(problem, pins);
  EXPECT_TRUE(none.strategies.empty());
  ASSERT_EQ(none.faults.size(), 1u);
  EXPECT_NE(none.faults[0].message.find("bound of 1e-09 Gbit/s"),
            std::string::npos);
  SearchResult given = search(problem, pinsOf(free.strategies[0].strategy));
  EXPECT_TRUE(given.strategies.empty());
  EXPECT_EQ(given.faults.size(), 1u);
}

TEST(SearchBoundsTest, ABatchWithoutDivisorsIsSharedWithARest) {
  // One block makes no pipeline over both sites.
  SearchResult prime = search(alikeSites(8209, 1), StrategyPins());
  ASSERT_FALSE(prime.strategies.empty());
  const Strategy &strategy = prime.strategies[0].strategy;
  ASSERT_EQ(strategy.islands.size(), 2u);
  EXPECT_EQ(strategy.islands[0].batch + strategy.islands[1].batch, 8209u);
}

TEST(SearchBoundsTest, TurnsAreNoLongerThanASchedule) {
  // All chips at once would take turns of 12,000 + 12,000 or more.
  Problem problem = equalBlocks(12000, 1);
  problem.topology.chips.push_back(chip("fast", 3, 16));
  Site &site = problem.topology.sites[0];
  site.pools.push_back(pool("q", "fast", 12000, 1));
  site.fabric = Wire{100, 12};
  problem.training.globalBatch = 655360;
  SearchResult result = search(problem, StrategyPins());
  ASSERT_FALSE(result.strategies.empty());
  EXPECT_TRUE(problem.verify(result.strategies[0].strategy).empty());
}

TEST(SearchBoundsTest, SmallSitesGetOnlyWhatCanBeLowered) {
  // On eight samples two slow chips as one replica beside a fast one would be
  // best.
  Problem problem = equalBlocks(1, 1);
  BlockKind &kind = problem.model.kinds[0];
  BlockKind half = kind;
  half.tensorParallel = 2;
  for (Affine *flops : {&half.forward.flops, &half.backwardInput.flops,
                        &half.backwardWeight.flops})
    flops->perSample /= 2;
  kind.sharded = {half};
  problem.topology.chips.push_back(chip("fast", 2, 16));
  Site &site = problem.topology.sites[0];
  site.pools = {pool("p", "c", 1, 2), pool("q", "fast", 1, 1)};
  site.fabric = Wire{100, 12};
  StrategyPins pins;
  pins.islands.emplace(1);
  (*pins.islands)[0].sites = {"s"};
  SearchResult result = search(problem, pins);
  ASSERT_FALSE(result.strategies.empty());
  EXPECT_TRUE(supportedBySlice(result.strategies[0].strategy).empty());
}

TEST(SearchBoundsTest, ATimeLimitIsThatOfTheWhole) {
  Problem problem = alikeSites(60);
  problem.bounds.searchSeconds = 1e-9;
  SearchResult result = search(problem, StrategyPins());
  EXPECT_TRUE(result.timeEnded);
  EXPECT_FALSE(result.strategies.empty());
}

TEST(ClockTest, DecidesBetweenTheBestAndTheProofSaysSo) {
  Problem problem = equalBlocks(4, 8);
  problem.bounds.simulated = 3;
  // The later it is asked, the faster.
  double seconds = 100;
  SearchHooks hooks;
  std::vector<Strategy> asked;
  hooks.simulate = [&](const Candidate &candidate) {
    asked.push_back(candidate.strategy);
    return std::optional<double>(candidate.prediction.stepSeconds *
                                 (seconds -= 30));
  };
  SearchResult plain = search(problem, StrategyPins());
  SearchResult result = search(problem, StrategyPins(), hooks);
  ASSERT_EQ(asked.size(), 3u);
  ASSERT_EQ(result.simulated.size(), 3u);
  EXPECT_EQ(asked[0], plain.strategies[0].strategy);
  EXPECT_EQ(result.strategies[0].strategy, asked[2]);
  EXPECT_EQ(result.strategies[2].strategy, asked[0]);
  EXPECT_LT(result.simulated[0].simulatedSeconds,
            result.simulated[1].simulatedSeconds);
  EXPECT_TRUE(plain.optimal);
  // Unless both take as long, what the model likes best is not what is taken.
  EXPECT_EQ(result.optimal,
            result.strategies[0].prediction.stepSeconds <=
                plain.strategies[0].prediction.stepSeconds * (1 + 1e-9));
}

TEST(ClockTest, WhatCannotBeRunGoesBehindAllOthers) {
  Problem problem = equalBlocks(4, 8);
  problem.bounds.simulated = 1;
  SearchHooks hooks;
  std::vector<Strategy> asked;
  hooks.simulate = [&](const Candidate &candidate) -> std::optional<double> {
    asked.push_back(candidate.strategy);
    if (asked.size() == 1)
      return std::nullopt;
    return candidate.prediction.stepSeconds;
  };
  SearchResult result = search(problem, StrategyPins(), hooks);
  ASSERT_EQ(asked.size(), 2u);
  EXPECT_EQ(result.strategies.front().strategy, asked[1]);
  EXPECT_EQ(result.strategies.back().strategy, asked[0]);
}

} // namespace
