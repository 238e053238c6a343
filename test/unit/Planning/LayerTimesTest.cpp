//===- LayerTimesTest.cpp - measured times in place of computed ones ------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Fixtures.h"
#include "tombolo/Planning/Search.h"

#include <gtest/gtest.h>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

LayerTimes row(uint64_t first, uint64_t last, uint64_t microbatch,
               uint64_t tensorParallel, TimedSeconds seconds) {
  return {first, last, {tensorParallel, microbatch, seconds}};
}

/// Six equal blocks of 1 + 2 seconds a sample, measured otherwise.
Problem measured(std::vector<LayerTimes> rows) {
  Problem problem = equalBlocks(2, 6);
  problem.topology.chips[0].layerTimes = std::move(rows);
  EXPECT_TRUE(problem.check().empty());
  EXPECT_TRUE(applyLayerTimes(problem).empty());
  EXPECT_TRUE(problem.check().empty());
  return problem;
}

const Chip &chipOf(const Problem &problem) { return problem.topology.chips[0]; }

TEST(LayerTimesTest, SplitsAKindOnlyWhereItWasMeasuredDifferently) {
  Problem problem =
      measured({row(0, 0, 1, 1, {5, 6, 1}), row(1, 2, 1, 1, {3, 4, 1}),
                row(3, 4, 1, 1, {3, 4, 1}), //
                row(5, 5, 1, 1, {5, 6, 1})});
  EXPECT_EQ(problem.model.kinds.size(), 2u);
  EXPECT_EQ(problem.model.runs,
            (std::vector<BlockRun>{{0, 1}, {1, 4}, {0, 1}}));
  StageTimes stage = blockSeconds(problem, problem.model.runs, chipOf(problem),
                                  1, Recompute());
  EXPECT_DOUBLE_EQ(stage.forward, 2 * 5 + 4 * 3);
  EXPECT_DOUBLE_EQ(stage.backward, 2 * 6 + 4 * 4);
  EXPECT_DOUBLE_EQ(stage.update, 6);
  EXPECT_EQ(stage.source, TimeSource::Measured);
  // Both backward functions are of one size.
  EXPECT_DOUBLE_EQ(stage.backwardWeight, stage.backward / 2);
}

TEST(LayerTimesTest, InterpolatesBetweenMicrobatchesAndSaysSo) {
  Problem problem =
      measured({row(0, 5, 2, 1, {2, 6, 1}), row(0, 5, 8, 1, {5, 12, 1})});
  BlockTimes four = blockTimes(problem, 0, chipOf(problem), 4);
  EXPECT_DOUBLE_EQ(four.forward, 3);
  EXPECT_DOUBLE_EQ(four.backward(), 8);
  EXPECT_DOUBLE_EQ(four.update, 1);
  EXPECT_EQ(four.source, TimeSource::Interpolated);
}

TEST(LayerTimesTest, GoesOnInProportionToTheRooflineOutsideTheTable) {
  Problem problem = measured({row(0, 5, 2, 1, {3, 7, 1})});
  // Compute-bound: in proportion to the samples.
  BlockTimes more = blockTimes(problem, 0, chipOf(problem), 6);
  EXPECT_DOUBLE_EQ(more.forward, 9);
  EXPECT_DOUBLE_EQ(more.backward(), 21);
  EXPECT_EQ(more.source, TimeSource::Estimated);
  EXPECT_DOUBLE_EQ(blockTimes(problem, 0, chipOf(problem), 1).forward, 1.5);
}

TEST(LayerTimesTest, ScalesTheNearestDegreeAndAddsItsCollectives) {
  Problem problem = equalBlocks(4, 6);
  BlockKind &whole = problem.model.kinds[0];
  BlockKind half = whole;
  half.tensorParallel = 2;
  for (Work *work : {&half.forward, &half.backwardInput, &half.backwardWeight})
    work->flops.perSample /= 2;
  half.forward.of(Collective::AllReduce) = {1, {0, 1000}};
  whole.sharded = {half};
  problem.topology.chips[0].layerTimes = {row(0, 5, 1, 1, {2, 6, 1})};
  ASSERT_TRUE(applyLayerTimes(problem).empty());
  ReplicaChips two{2, {1000, 0.25, false}};
  BlockTimes times = blockTimes(problem, 0, chipOf(problem), 1, two);
  // 2 steps of 0.25 s, and 2 B (k - 1) / k = 1000 bytes.
  EXPECT_DOUBLE_EQ(times.forward, 1 + 0.5 + 1);
  EXPECT_DOUBLE_EQ(times.exchanges, 1.5);
  EXPECT_DOUBLE_EQ(times.backward(), 3);
  EXPECT_EQ(times.source, TimeSource::Estimated);
  // What was measured on two chips has its collectives inside.
  problem = equalBlocks(4, 6);
  problem.model.kinds[0].sharded = {half};
  problem.topology.chips[0].layerTimes = {row(0, 5, 1, 2, {2, 6, 1})};
  ASSERT_TRUE(applyLayerTimes(problem).empty());
  times = blockTimes(problem, 0, chipOf(problem), 1, two);
  EXPECT_DOUBLE_EQ(times.forward, 2);
  EXPECT_EQ(times.exchanges, 0);
  EXPECT_EQ(times.source, TimeSource::Measured);
}

// A zero is a cell that is missing, of that time alone.
TEST(LayerTimesTest, NeverReadsAMissingCellAsZero) {
  Problem problem =
      measured({row(0, 0, 1, 1, {3, 0, 2}), row(1, 5, 1, 1, {2, 6, 2})});
  size_t first = problem.model.runs[0].kind;
  BlockTimes times = blockTimes(problem, first, chipOf(problem), 1);
  EXPECT_DOUBLE_EQ(times.forward, 3);
  // Measured 6 where 2 would be computed; here 2 would be, too.
  EXPECT_DOUBLE_EQ(times.backward(), 6);
  EXPECT_EQ(times.source, TimeSource::Estimated);
  // A block of which nothing was measured.
  problem = measured({row(1, 5, 1, 1, {2, 6, 2})});
  times = blockTimes(problem, problem.model.runs[0].kind, chipOf(problem), 1);
  EXPECT_DOUBLE_EQ(times.forward, 2);
  EXPECT_DOUBLE_EQ(times.backward(), 6);
  EXPECT_DOUBLE_EQ(times.update, 2);
  EXPECT_EQ(times.source, TimeSource::Estimated);
}

TEST(LayerTimesTest, RefusesWhatCannotBe) {
  auto faultOf = [](std::vector<LayerTimes> rows) {
    Problem problem = equalBlocks(2, 6);
    problem.topology.chips[0].layerTimes = std::move(rows);
    Faults faults = problem.check();
    if (faults.empty())
      faults = applyLayerTimes(problem);
    return faults.empty() ? std::string()
                          : faults[0].path + ": " + faults[0].message;
  };
  EXPECT_EQ(faultOf({row(0, 5, 1, 1, {1, 1, 1})}), "");
  EXPECT_EQ(faultOf({row(0, 5, 1, 1, {1, 1, 1}), row(2, 3, 1, 1, {1, 1, 1})}),
            "chips[0].profile[1]: layers 2 to 3 at microbatch 1 and "
            "tensor_parallel 1 were given before, in part or whole");
  EXPECT_EQ(faultOf({row(0, 6, 1, 1, {1, 1, 1})}),
            "chips[0].profile[0]: the profile of chip 'c' has a layer 6, but "
            "the model has 6 blocks, numbered from 0 with the embedding; name "
            "a profile of this model");
  EXPECT_NE(faultOf({row(0, 5, 0, 1, {1, 1, 1})}), "");
  EXPECT_NE(faultOf({row(3, 2, 1, 1, {1, 1, 1})}), "");
  EXPECT_NE(faultOf({row(0, 5, 1, 1, {-1, 1, 1})}), "");
  EXPECT_NE(faultOf({row(0, ~uint64_t(0), 1, 1, {1, 1, 1})}), "");
}

TEST(LayerTimesTest, TheBoundIsBelowEveryStrategy) {
  std::mt19937 random(7);
  auto pick = [&](int most) {
    return static_cast<uint64_t>(random() % static_cast<unsigned>(most)) + 1;
  };
  for (int round = 0; round < 40; ++round) {
    std::vector<LayerTimes> rows;
    for (uint64_t block = 0; block < 6; block += 3) {
      double forward = 0, backward = 0; // grow with the microbatch
      for (uint64_t microbatch : {1, 2, 4}) {
        forward += static_cast<double>(pick(9));
        backward += static_cast<double>(pick(9));
        rows.push_back(
            row(block, block + 2, microbatch, 1,
                {forward, backward, 0.1 * static_cast<double>(pick(9))}));
      }
    }
    Problem problem = measured(rows);
    SearchResult result = search(problem, StrategyPins());
    ASSERT_FALSE(result.strategies.empty());
    EXPECT_GT(result.lowerBound, 0);
    EXPECT_LE(result.lowerBound,
              result.strategies[0].prediction.stepSeconds * (1 + 1e-9));
  }
}

} // namespace
