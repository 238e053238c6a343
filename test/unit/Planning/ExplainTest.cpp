//===- ExplainTest.cpp - why a plan is as it is ---------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Explain.h"
#include "Fixtures.h"

#include <gtest/gtest.h>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

/// Two types of chip in two pools, one of little memory.
Problem unlike() {
  Problem problem = equalBlocks(2, 6);
  problem.topology.chips.push_back(chip("slow", 0.5, 32));
  Site &site = problem.topology.sites[0];
  site.pools.push_back(pool("q", "slow", 2, 1));
  site.fabric = Wire{100, 5};
  problem.bounds.candidates = 1 + kAlternatives;
  return problem;
}

TEST(ExplainTest, NamesTheSlowestStageTheFullestChipAndTheOthers) {
  Problem problem = unlike();
  SearchResult result = search(problem, StrategyPins());
  ASSERT_FALSE(result.strategies.empty());
  std::string text = explain(problem, StrategyPins(), result);
  EXPECT_NE(text.find("slowest stage: "), std::string::npos) << text;
  EXPECT_NE(text.find("fullest chip: "), std::string::npos) << text;
  EXPECT_NE(text.find("1 GiB more on every c: "), std::string::npos) << text;
  EXPECT_NE(text.find("1 Gbit/s more in the fabric of s: "), std::string::npos)
      << text;
  EXPECT_NE(text.find(" tokens/s: "), std::string::npos) << text;
  EXPECT_EQ(text.find("not measured"), std::string::npos) << text;
}

// A fast chip without room for what is saved, beside slow ones with: together
// they do more than each type by itself, and the text says why.
TEST(ExplainTest, SaysWhyMixingGains) {
  Problem problem = equalBlocks(1, 8);
  problem.model.kinds[0] = kind("layer", 1e12, 1000, 1e9, 1e6);
  problem.topology.chips = {chip("fast", 1, 5), chip("roomy", 0.25, 64)};
  Site &site = problem.topology.sites[0];
  site.pools = {pool("p", "fast", 2, 1), pool("q", "roomy", 2, 1)};
  site.fabric = Wire{100, 5};
  problem.training.globalBatch = 32;
  SearchResult result = search(problem, StrategyPins());
  ASSERT_FALSE(result.strategies.empty());
  Candidate &best = result.strategies[0];
  equivalentCompute(problem, best.strategy, best.prediction);
  ASSERT_TRUE(best.prediction.equivalentCompute);
  std::string text = explain(problem, StrategyPins(), result);
  EXPECT_NE(text.find("equivalent compute "), std::string::npos) << text;
  EXPECT_NE(text.find("of the blocks run again"), std::string::npos) << text;
  bool isAbove = *best.prediction.equivalentCompute > 1;
  EXPECT_EQ(text.find("above 1, because") != std::string::npos, isAbove)
      << text;
}

// The figures are those of the prediction: another problem, another text.
TEST(ExplainTest, FiguresAreEvaluated) {
  Problem problem = equalBlocks(1, 6);
  SearchResult result = search(problem, StrategyPins());
  ASSERT_FALSE(result.strategies.empty());
  std::string before = explain(problem, StrategyPins(), result);
  // Six blocks of three seconds a sample, eight samples.
  EXPECT_NE(before.find("computes 144.000 s of each step"), std::string::npos)
      << before;
  problem.topology.chips[0].tflopsF32 = 2;
  result = search(problem, StrategyPins());
  std::string after = explain(problem, StrategyPins(), result);
  EXPECT_NE(after.find("computes 72.000 s of each step"), std::string::npos)
      << after;
}

TEST(ExplainTest, TellsWhichTimesWereNotMeasured) {
  Problem problem = equalBlocks(1, 6);
  problem.topology.chips[0].layerTimes = {{0, 5, {1, 64, {1, 2, 0.1}}}};
  ASSERT_TRUE(applyLayerTimes(problem).empty());
  SearchResult result = search(problem, StrategyPins());
  ASSERT_FALSE(result.strategies.empty());
  std::string text = explain(problem, StrategyPins(), result);
  EXPECT_NE(text.find("c: block 'layer' at microbatch "), std::string::npos)
      << text;
  EXPECT_NE(text.find(": estimated (forward "), std::string::npos) << text;
}

TEST(ExplainTest, FindsTheSmallestChangeThatFits) {
  Problem problem = equalBlocks(1, 2);
  // 4 + 4 + 8 bytes for each of 2 G parameters: 30 GiB, and 16 are there.
  problem.model.kinds[0].parameterCount =
      problem.model.kinds[0].trainableCount = 1000000000;
  problem.model.kinds[0].parameterBytes = 4000000000;
  ASSERT_TRUE(search(problem, StrategyPins()).strategies.empty());
  std::vector<std::string> changes = smallestChanges(problem, StrategyPins());
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_NE((changes[0] + changes[1]).find("GiB on every c (now 16.00 GiB)"),
            std::string::npos);
  EXPECT_NE((changes[0] + changes[1]).find("with 2 nodes in s/p (now 1)"),
            std::string::npos)
      << changes[0] << changes[1];
}

} // namespace
