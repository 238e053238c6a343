//===- FunctionTimesTest.cpp - what a chip profile says of functions ------===//
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

constexpr BlockFunction kAll[] = {BlockFunction::Forward,
                                  BlockFunction::BackwardInput,
                                  BlockFunction::BackwardWeight};

FunctionTime row(const Problem &problem, BlockFunction function,
                 uint64_t microbatch, std::vector<double> parts,
                 uint64_t chips = 1) {
  return {{"hash", problem.precision(), problem.model.kinds[0].name, function,
           chips, microbatch},
          std::move(parts)};
}

/// Six equal blocks of 1 + 2 seconds a sample, functions measured otherwise.
Problem measured(const std::vector<std::pair<uint64_t, TimedSeconds>> &cells) {
  Problem problem = equalBlocks(2, 6);
  Chip &chip = problem.topology.chips[0];
  for (const auto &[microbatch, seconds] : cells)
    for (BlockFunction function : kAll)
      chip.functionTimes.push_back(
          row(problem, function, microbatch,
              {seconds[static_cast<size_t>(function)]}));
  EXPECT_TRUE(problem.check().empty());
  applyFunctionTimes(problem, "hash");
  EXPECT_TRUE(problem.check().empty());
  return problem;
}

const Chip &chipOf(const Problem &problem) { return problem.topology.chips[0]; }

TEST(FunctionTimesTest, TakeThePlaceOfWhatIsComputed) {
  Problem problem = measured({{2, {5, 3, 1}}});
  BlockTimes times = blockTimes(problem, 0, chipOf(problem), 2);
  EXPECT_EQ(times.source, TimeSource::Measured);
  EXPECT_DOUBLE_EQ(times.forward, 5);
  EXPECT_DOUBLE_EQ(times.backwardInput, 3);
  EXPECT_DOUBLE_EQ(times.backwardWeight, 1);
}

TEST(FunctionTimesTest, AreInterpolatedAndGoneOnFrom) {
  Problem problem = measured({{2, {2, 4, 2}}, {8, {5, 8, 4}}});
  BlockTimes four = blockTimes(problem, 0, chipOf(problem), 4);
  EXPECT_EQ(four.source, TimeSource::Interpolated);
  EXPECT_DOUBLE_EQ(four.forward, 3);
  EXPECT_DOUBLE_EQ(four.backward(), 8);
  BlockTimes beyond = blockTimes(problem, 0, chipOf(problem), 16);
  EXPECT_EQ(beyond.source, TimeSource::Estimated);
  EXPECT_GT(beyond.forward, 5);
}

TEST(FunctionTimesTest, SayNothingOfOtherModels) {
  Problem problem = equalBlocks(2, 6);
  problem.topology.chips[0].functionTimes = {
      row(problem, BlockFunction::Forward, 1, {7})};
  applyFunctionTimes(problem, "another");
  EXPECT_EQ(blockTimes(problem, 0, chipOf(problem), 1).source,
            TimeSource::Computed);
}

TEST(FunctionTimesTest, GiveASimulatorThePartsBetweenCollectives) {
  Problem problem = equalBlocks(2, 6);
  Chip chip = chipOf(problem);
  chip.functionTimes = {row(problem, BlockFunction::Forward, 2, {1, 3}, 2),
                        row(problem, BlockFunction::Forward, 6, {2, 10}, 2)};
  FunctionCall call = chip.functionTimes[0].call;
  EXPECT_EQ(measuredParts(chip, call), (std::vector<double>{0.25, 0.75}));
  // At 4 the larger one is nearer by ratio.
  call.microbatch = 4;
  auto parts = measuredParts(chip, call);
  ASSERT_TRUE(parts);
  EXPECT_DOUBLE_EQ((*parts)[0] + (*parts)[1], 1);
  EXPECT_DOUBLE_EQ((*parts)[1] / (*parts)[0], 5);
  call.microbatch = 1;
  EXPECT_EQ(measuredParts(chip, call), (std::vector<double>{0.25, 0.75}));
  call.tensorParallel = 1;
  EXPECT_FALSE(measuredParts(chip, call));
}

/// Of one stage of all blocks.
std::optional<CallSeconds> callsOf(const Problem &problem,
                                   uint64_t microbatch) {
  Strategy strategy;
  strategy.islands = {island(microbatch, microbatch, {6})};
  return callSeconds(problem, strategy, 0, 0, 0);
}

// A measured cell, between two, and outside: what the planner has of a block is
// what a simulator is given.
TEST(FunctionTimesTest, GiveASimulatorWhatThePlannerHas) {
  Problem problem = measured({{2, {2, 4, 2}}, {8, {5, 8, 4}}});
  for (uint64_t microbatch : {1, 2, 4, 8, 16}) {
    BlockTimes times = blockTimes(problem, 0, chipOf(problem),
                                  static_cast<double>(microbatch));
    auto calls = callsOf(problem, microbatch);
    ASSERT_TRUE(calls);
    auto [forward, input, weight] = calls->functions.at("layer");
    EXPECT_DOUBLE_EQ(forward, times.forward);
    EXPECT_DOUBLE_EQ(input, times.backwardInput);
    EXPECT_DOUBLE_EQ(weight, times.backwardWeight);
    EXPECT_DOUBLE_EQ(calls->update, 6 * times.update);
  }
  // Of chips that only have rates every piece is computed by itself.
  EXPECT_FALSE(callsOf(equalBlocks(2, 6), 2));
}

TEST(FunctionTimesTest, AnUpdateGoesAtTheRateOfTheNearestSize) {
  Chip chip;
  chip.updateTimes = {{8, 1000, 1e-6}, {8, 1000000, 4e-3}, {0, 1000, 5e-7}};
  EXPECT_DOUBLE_EQ(*measuredUpdate(chip, 8, 2000), 2e-6);
  EXPECT_DOUBLE_EQ(*measuredUpdate(chip, 8, 500000), 2e-3);
  EXPECT_DOUBLE_EQ(*measuredUpdate(chip, 0, 1000), 5e-7);
  EXPECT_FALSE(measuredUpdate(chip, 4, 1000));
}

TEST(FunctionTimesTest, RefuseWhatCannotBe) {
  Problem problem = equalBlocks(2, 6);
  auto faultOf = [&](std::vector<FunctionTime> rows) {
    Faults faults = checkFunctionTimes(
        rows, [](size_t r) { return "row " + std::to_string(r); });
    return faults.empty() ? "" : faults[0].path + ": " + faults[0].message;
  };
  auto forward = [&](uint64_t microbatch, std::vector<double> parts) {
    return row(problem, BlockFunction::Forward, microbatch, std::move(parts));
  };
  EXPECT_EQ(faultOf({forward(1, {1}), forward(2, {0.95})}), "");
  EXPECT_NE(faultOf({forward(2, {1}), forward(1, {1.5})})
                .find("row 0: times must grow with the microbatch"),
            std::string::npos);
  EXPECT_NE(faultOf({forward(1, {1}), forward(1, {1})}).find("row 1"),
            std::string::npos);
  EXPECT_NE(faultOf({forward(1, {1, -1})}).find("row 0.parts[1]"),
            std::string::npos);
  EXPECT_NE(faultOf({forward(1, {})}).find("one part at least"),
            std::string::npos);
  EXPECT_NE(faultOf({forward(0, {1})}).find("microbatch"), std::string::npos);
  EXPECT_FALSE(
      checkUpdateTimes({{8, 0, 1}}, [](size_t) { return ""; }).empty());
  EXPECT_FALSE(
      checkUpdateTimes({{8, 1, -1}}, [](size_t) { return ""; }).empty());
}

/// A ring inside a node goes at the chip's own pace for rings.
TEST(FunctionTimesTest, RingsTakeTheirPartOfTheWire) {
  Problem problem = equalBlocks(2, 6);
  Pool &node = problem.topology.sites[0].pools[0];
  node.nodes = 1;
  node.chipsPerNode = 2;
  node.intraNode = Wire{8, 10}; // 1e9 bytes/s
  std::string pool = problem.topology.sites[0].name + "/" + node.name;
  std::vector<ChipRange> two = {{pool, 0, 2}};
  double alike = allReduceSeconds(problem.topology, two, 1e6);
  EXPECT_NEAR(alike, 2 * 10e-6 + 1e-3, 1e-9);
  problem.topology.chips[0].overheads.ringRate = 0.5;
  problem.topology.chips[0].overheads.ringLatency = 3;
  EXPECT_NEAR(allReduceSeconds(problem.topology, two, 1e6), 6 * 10e-6 + 2e-3,
              1e-9);
}

} // namespace
