//===- OverheadsTest.cpp --------------------------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Fixtures.h"
#include "tombolo/Planning/CostModel.h"

#include <gtest/gtest.h>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

Chip chipOf(double gflops, double gbytes) {
  Chip chip;
  chip.name = "c";
  chip.tflopsF32 = gflops / 1e3;
  chip.memoryGib = 1;
  chip.memoryGbytesPerSecond = gbytes;
  return chip;
}

} // namespace

// Products take the slower of their limits, what streams comes on top.
TEST(Overheads, KernelsRunOneAfterTheOther) {
  Chip chip = chipOf(1, 1);
  Work work;
  work.flops = {2e9, 0};
  work.bytes = {1e9, 0};
  work.streamed = {0, 5e8};
  // Without overheads one roofline for all.
  EXPECT_DOUBLE_EQ(seconds(chip, Precision::F32, work, 2), 2);
  chip.overheads.scoreBytes = 2;
  EXPECT_DOUBLE_EQ(seconds(chip, Precision::F32, work, 2), 2 + 1);
  work.bytes = {3e9, 0};
  EXPECT_DOUBLE_EQ(seconds(chip, Precision::F32, work, 2), 3 + 1);
  work.scores = {1e9, 0};
  EXPECT_DOUBLE_EQ(seconds(chip, Precision::F32, work, 2), 3 + 1 + 2);
  work.ops = 4;
  chip.overheads.kernelUs = 0.5e6;
  EXPECT_DOUBLE_EQ(seconds(chip, Precision::F32, work, 2), 3 + 1 + 2 + 2);
}

// The host that starts the ops is a bound of its own, collectives included.
TEST(Overheads, TheHostMayBeTheSlowest) {
  Chip chip = chipOf(1, 1);
  chip.overheads.launchUs = 1e6;
  Work work;
  work.flops = {2e9, 0};
  work.ops = 3;
  EXPECT_DOUBLE_EQ(functionSeconds(chip, Precision::F32, work, 1, 0), 3);
  work.of(Collective::AllReduce).count = 2;
  EXPECT_DOUBLE_EQ(functionSeconds(chip, Precision::F32, work, 1, 0.5), 5);
  EXPECT_DOUBLE_EQ(functionSeconds(chip, Precision::F32, work, 1, 4), 6);
}

// Collectives are in what is corrected, and in a plan beside it.
TEST(OverheadsTest, CorrectionsReachASimulator) {
  Problem problem = equalBlocks(2, 6);
  Pool &pool = problem.topology.sites[0].pools[0];
  pool.nodes = 1;
  pool.chipsPerNode = 2;
  pool.intraNode = Wire{8, 0}; // 1e9 bytes/s
  BlockKind half = problem.model.kinds[0];
  half.tensorParallel = 2;
  for (Work *work : {&half.forward, &half.backwardInput, &half.backwardWeight})
    work->flops.perSample /= 2;
  half.forward.of(Collective::AllReduce) = {1, {0, 1e8}};
  problem.model.kinds[0].sharded = {half};
  problem.topology.chips[0].overheads.corrections = {{2, 1000, 2e-4, 1.5}};
  Strategy strategy;
  strategy.islands = {island(2, 2, {6})};
  strategy.islands[0].stages[0].replicas[0].tensorParallel = 2;
  auto calls = callSeconds(problem, strategy, 0, 0, 0);
  ASSERT_TRUE(calls);
  double ratio = problem.topology.chips[0].overheads.correction(2, 1e12, 200);
  EXPECT_NEAR(ratio, 1.5, 0.05);
  // A second of work and 0.2 s of a sum over two chips.
  double told = 2 * 1e8 / 1e9;
  auto [forward, input, weight] = calls->functions.at("layer");
  EXPECT_NEAR(forward, ratio * (1 + told) - told, 1e-9);
  EXPECT_NEAR(input, ratio, 1e-9);
  EXPECT_NEAR(weight, ratio, 1e-9);
}

// A correction holds for the block it was seen on and fades away from it.
TEST(Overheads, CorrectionsAreLocal) {
  Overheads overheads;
  EXPECT_DOUBLE_EQ(overheads.correction(1, 1e12, 1e6), 1);
  overheads.corrections = {{2, 100, 4, 0.8}};
  EXPECT_NEAR(overheads.correction(2, 100e9, 4e6), 0.8, 0.01);
  EXPECT_NEAR(overheads.correction(2, 200e9, 4e6), 1, 1e-6);
  EXPECT_NEAR(overheads.correction(2, 100e9, 8e6), 1, 1e-6);
  EXPECT_DOUBLE_EQ(overheads.correction(1, 100e9, 4e6), 1);
  EXPECT_DOUBLE_EQ(overheads.correction(2, 100e9, 0), 1);
  EXPECT_DOUBLE_EQ(overheads.leastCorrection(), 0.8);
}
