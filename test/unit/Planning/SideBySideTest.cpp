//===- SideBySideTest.cpp - stages that lie on several pools --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Islands of more chips than the exact search takes: there stages are found by
// mixes and rows.
//
//===----------------------------------------------------------------------===//

#include "Fixtures.h"
#include "tombolo/Planning/Search.h"

#include <gtest/gtest.h>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

/// One site with 16 chips of one speed and 16 of `speed` times that.
Problem twoPools(uint64_t blocks, double speed) {
  Problem problem = equalBlocks(16, blocks);
  problem.topology.chips.push_back(chip("fast", speed, 16));
  Site &site = problem.topology.sites[0];
  site.pools.push_back(pool("q", "fast", 16, 1));
  site.fabric = Wire{100, 12};
  return problem;
}

Strategy bestOf(const SearchResult &result) {
  EXPECT_FALSE(result.strategies.empty());
  return result.strategies.at(0).strategy;
}

TEST(SideBySideTest, ABlockThatNoPipelineDividesRunsOnBothPoolsBySpeed) {
  Problem problem = twoPools(1, 3);
  problem.training.globalBatch = 64;
  SearchResult result = search(problem, StrategyPins());
  Strategy strategy = bestOf(result);
  ASSERT_EQ(strategy.islands.size(), 1u);
  ASSERT_EQ(strategy.islands[0].stages.size(), 1u);
  const std::vector<ReplicaGroup> &groups =
      strategy.islands[0].stages[0].replicas;
  ASSERT_EQ(groups.size(), 2u);
  for (const ReplicaGroup &group : groups) {
    EXPECT_EQ(group.count, 16u) << group.pool;
    EXPECT_EQ(group.share, group.pool == "s/q" ? 3u : 1u) << group.pool;
  }
  // All chips are busy: one sample of three seconds on a slow chip while a fast
  // one does three.
  EXPECT_NEAR(result.strategies[0].prediction.stepSeconds, 3, 0.01);
  EXPECT_TRUE(problem.verify(strategy).empty());
  EXPECT_TRUE(supportedBySlice(strategy).empty());
}

TEST(SideBySideTest, FewMicrobatchesShareStagesRatherThanFillAPipeline) {
  // Two stages, one for each pool, would wait for each other.
  Problem problem = twoPools(8, 1.5);
  problem.training.globalBatch = 40;
  Strategy strategy = bestOf(search(problem, StrategyPins()));
  ASSERT_EQ(strategy.islands.size(), 1u);
  for (const Stage &stage : strategy.islands[0].stages)
    EXPECT_EQ(stage.replicas.size(), 2u);
}

TEST(SideBySideTest, APoolWhoseMemoryIsTooSmallForABlockIsNotBesideAnother) {
  Problem problem = twoPools(1, 3);
  problem.training.globalBatch = 64;
  // Parameters, gradients and state do not fit.
  problem.topology.chips[0].memoryGib = 8.0 / 1024 / 1024;
  Strategy strategy = bestOf(search(problem, StrategyPins()));
  for (const Island &island : strategy.islands)
    for (const Stage &stage : island.stages)
      for (const ReplicaGroup &group : stage.replicas)
        EXPECT_EQ(group.pool, "s/q");
}

TEST(SideBySideTest, ThePriceOfBothPoolsCounts) {
  Problem problem = twoPools(1, 3);
  problem.training.globalBatch = 64;
  problem.bounds.objective = Objective::Cost;
  // A sample on a slow chip costs three times as much time, and more money.
  problem.topology.chips[0].pricePerHour = 1;
  problem.topology.chips[1].pricePerHour = 2;
  Strategy strategy = bestOf(search(problem, StrategyPins()));
  for (const Stage &stage : strategy.islands[0].stages)
    for (const ReplicaGroup &group : stage.replicas)
      EXPECT_EQ(group.pool, "s/q");
}

} // namespace
