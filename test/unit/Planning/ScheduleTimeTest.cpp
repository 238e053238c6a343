//===- ScheduleTimeTest.cpp - times of schedules in closed form -----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Fixtures.h"
#include "tombolo/Planning/CostModel.h"

#include <gtest/gtest.h>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

/// Equal stages of `chunks` equal chunks: forward f, backward b + w.
std::vector<StageTimes> equalStages(size_t stages, uint64_t chunks, double f,
                                    double b, double w) {
  StageTimes stage;
  stage.forward = f;
  stage.backward = b + w;
  stage.backwardWeight = w;
  double part = 1.0 / static_cast<double>(chunks);
  if (chunks > 1)
    stage.chunks.assign(chunks, {f * part, (b + w) * part, w * part, 0, 0});
  return std::vector<StageTimes>(stages, stage);
}

TEST(ScheduleTimeTest, FillAndDrainAreWithoutWhatIsEarlyAndLate) {
  StageTimes stage{1, 4, 0, 0, 0};
  stage.early = 1;
  stage.late = 1.5;
  for (Schedule schedule : {Schedule::OneFOneB, Schedule::GPipe})
    for (uint64_t p : {1, 2, 3, 8})
      for (uint64_t m : {1, 2, 5, 16}) {
        PipelineTime time =
            pipelineTime(schedule, std::vector<StageTimes>(p, stage), m);
        EXPECT_DOUBLE_EQ(time.seconds, static_cast<double>(m) * 5 +
                                           static_cast<double>(p - 1) * 2.5)
            << name(schedule) << " p " << p << " m " << m;
      }
}

TEST(ScheduleTimeTest, WeightsThatWaitAreBehindNoGradient) {
  // One microbatch: the gradients of the last stage's weights are the longest.
  StageTimes stage{1, 4, 0, 0, 0};
  stage.early = 1;
  stage.late = stage.backwardWeight = 1.5;
  EXPECT_DOUBLE_EQ(
      pipelineTime(Schedule::ZeroBubble, {stage, stage}, 1).seconds,
      2 + 2.5 + 1.5 + 1.5);
}

TEST(ScheduleTimeTest, ABackwardIsCutWhereItsGradientsComeAndGo) {
  Problem problem = equalBlocks(1, 4);
  const Chip &c = problem.topology.chips[0];
  problem.model.kinds[0].backwardWeight.flops.perSample = 3e12;
  auto of = [&](Recompute recompute) {
    return blockSeconds(problem, problem.model.runs, c, 1, recompute);
  };
  EXPECT_DOUBLE_EQ(of({}).late, 3);
  EXPECT_DOUBLE_EQ(of({}).early, 0);
  EXPECT_DOUBLE_EQ(of({Recompute::Blocks, 3}).early, 0);
  EXPECT_DOUBLE_EQ(of({Recompute::Full, 0}).early, 1);
  EXPECT_DOUBLE_EQ(of({Recompute::Full, 0}).backward, 4 * (1 + 3 + 1));
}

// Narayanan et al. 2021, section 2.2: fill and drain shrink by the chunks.
TEST(ScheduleTimeTest, InterleavedDividesTheBubbleByTheChunks) {
  for (size_t p : {2, 4, 8})
    for (uint64_t v : {1, 2, 4})
      for (uint64_t m : {p, 2 * p, 6 * p}) {
        PipelineTime time = pipelineTime(Schedule::Interleaved,
                                         equalStages(p, v, 1, 1, 1), m, v);
        ASSERT_FALSE(time.deadlock);
        double bubble =
            3.0 * static_cast<double>(p - 1) / static_cast<double>(v);
        EXPECT_NEAR(time.seconds, 3.0 * static_cast<double>(m) + bubble, 1e-9)
            << p << " stages, " << v << " chunks, " << m << " microbatches";
      }
}

// Qi et al. 2024, table 1: (p - 1)(f + b - w) where f = b = w, against
// (p - 1)(f + b + w) of 1F1B.
TEST(ScheduleTimeTest, ZeroBubbleFillsWithBackwardByWeight) {
  for (size_t p : {2, 3, 4, 8})
    for (uint64_t m : {p, 2 * p, 5 * p}) {
      double work = 3.0 * static_cast<double>(m);
      double fill = static_cast<double>(p - 1);
      PipelineTime zero =
          pipelineTime(Schedule::ZeroBubble, equalStages(p, 1, 1, 1, 1), m);
      ASSERT_FALSE(zero.deadlock);
      EXPECT_NEAR(zero.seconds, work + fill, 1e-9) << p << " " << m;
      PipelineTime plain =
          pipelineTime(Schedule::OneFOneB, equalStages(p, 1, 1, 1, 1), m);
      EXPECT_NEAR(plain.seconds, work + 3 * fill, 1e-9);
    }
}

// The middle repeats: what is extrapolated agrees with the closed form.
TEST(ScheduleTimeTest, LongStepsAreExtrapolatedExactly) {
  uint64_t m = uint64_t(1) << 20;
  for (uint64_t v : {1, 2}) {
    PipelineTime time =
        pipelineTime(Schedule::Interleaved, equalStages(4, v, 1, 1, 1), m, v);
    EXPECT_NEAR(time.seconds,
                3.0 * static_cast<double>(m) + 9.0 / static_cast<double>(v),
                1e-3);
  }
  PipelineTime zero =
      pipelineTime(Schedule::ZeroBubble, equalStages(4, 1, 1, 1, 1), m);
  EXPECT_NEAR(zero.seconds, 3.0 * static_cast<double>(m) + 3, 1e-3);
}

TEST(ScheduleTimeTest, AChunkTalksToTheNextPlaceAroundTheRing) {
  // Two stages of two chunks and one microbatch: places 0, 1, 2, 3 in turn.
  std::vector<StageTimes> stages = equalStages(2, 2, 2, 2, 2);
  for (StageTimes &stage : stages)
    for (ChunkTimes &chunk : stage.chunks)
      chunk.sendForward = chunk.sendBackward = 0.25;
  EXPECT_DOUBLE_EQ(pipelineTime(Schedule::Interleaved, stages, 1, 2).seconds,
                   4 * 1 + 4 * 2 + 6 * 0.25);
}

// Over a line a receiver asks for one tensor after the other: two round trips
// for what two senders, or two receivers, have for one. Inside a site they do
// not wait for each other.
TEST(ScheduleTimeTest, AStageGetsOneTensorARoundTrip) {
  StageTimes stage{1e-3, 2e-3};
  stage.sendForward = stage.sendBackward = 1.01; // 1 s on the way
  auto secondsOf = [&](std::vector<uint64_t> replicas, uint64_t microbatches) {
    Island island;
    island.batch = microbatches;
    island.microbatch = 1;
    for (uint64_t count : replicas) {
      island.stages.emplace_back();
      island.stages.back().replicas = {{"s/p", count, 1, 1}};
    }
    return pipelineTime(island, {{stage}, {stage}}).seconds;
  };
  auto perTwo = [&](std::vector<uint64_t> replicas) {
    return secondsOf(replicas, 32) - secondsOf(replicas, 30);
  };
  for (std::vector<uint64_t> replicas : {std::vector<uint64_t>{2, 1}, {1, 2}}) {
    stage.askForward = stage.askBackward = 0;
    EXPECT_LT(perTwo(replicas), 2 * 1.02);
    stage.askForward = stage.askBackward = 2.01;
    EXPECT_NEAR(perTwo(replicas), 2 * 2.01, 1e-9);
    // What a line is crossed for takes longer than asking for it.
    stage.forward = 1;
    stage.backward = 2;
    double asked = perTwo(replicas);
    stage.askForward = stage.askBackward = 0;
    EXPECT_NEAR(perTwo(replicas), asked, 1e-9);
    stage.forward = 1e-3;
    stage.backward = 2e-3;
  }
}

TEST(ScheduleTimeTest, ChunksOfAStageAreApartInTheModel) {
  Problem problem = equalBlocks(2, 7);
  problem.model.kinds.push_back(problem.model.kinds[0]);
  problem.model.runs = {{0, 4}, {1, 3}};
  Island both = island(8, 1, {4, 3});
  both.schedule = Schedule::Interleaved;
  both.chunks = 2;
  // Places of 2, 2, 2 and 1 blocks.
  EXPECT_EQ(chunkRuns(problem.model, both, 0),
            (std::vector<std::vector<BlockRun>>{{{0, 2}}, {{1, 2}}}));
  EXPECT_EQ(chunkRuns(problem.model, both, 1),
            (std::vector<std::vector<BlockRun>>{{{0, 2}}, {{1, 1}}}));
  Strategy strategy;
  strategy.islands = {both};
  ASSERT_TRUE(problem.verify(strategy).empty());
  IslandPrediction prediction = evaluateIsland(problem, strategy, 0);
  EXPECT_DOUBLE_EQ(prediction.stages[0][0].forwardSeconds, 4);
  EXPECT_DOUBLE_EQ(prediction.stages[1][0].backwardSeconds, 6);
  // All blocks are held once.
  EXPECT_EQ(prediction.stages[0][0].memory.parameters +
                prediction.stages[1][0].memory.parameters,
            7 * 4000);
  strategy.islands[0].schedule = Schedule::OneFOneB;
  EXPECT_EQ(problem.verify(strategy)[0].path, "islands[0].chunks");
  strategy.islands[0].schedule = Schedule::Interleaved;
  strategy.islands[0].chunks = 4;
  EXPECT_EQ(problem.verify(strategy)[0].path, "islands[0].stages[1].blocks");
}

// ZB-H1 keeps as many microbatches in every stage as 1F1B in the first, and
// what waits for the backward by weight.
TEST(ScheduleTimeTest, ZeroBubbleKeepsWhatWaits) {
  Problem problem = equalBlocks(4, 8);
  problem.model.kinds[0].carriedBytes.perSample = 7;
  Strategy strategy;
  strategy.islands = {island(8, 1, {2, 2, 2, 2})};
  IslandPrediction plain = evaluateIsland(problem, strategy, 0);
  strategy.islands[0].schedule = Schedule::ZeroBubble;
  ASSERT_TRUE(problem.verify(strategy).empty());
  IslandPrediction zero = evaluateIsland(problem, strategy, 0);
  EXPECT_LT(zero.stepSeconds, plain.stepSeconds);
  EXPECT_LT(zero.bubbleFraction, plain.bubbleFraction);
  for (size_t s = 0; s < 4; ++s) {
    uint64_t inFlight = zero.stages[s][0].microbatchesInFlight;
    EXPECT_LE(inFlight, 4u);
    EXPECT_GE(inFlight, plain.stages[s][0].microbatchesInFlight);
    StageSchedule order = scheduleStage(Schedule::ZeroBubble, 4, s, 8);
    // What is handed on for both blocks and the gradient between them, once
    // for each that waits; else in turn in two places.
    double handedOn = static_cast<double>(order.chunks[0].handedOn);
    EXPECT_EQ(plain.stages[s][0].memory.scratch, 2 * 100 + 7);
    EXPECT_EQ(zero.stages[s][0].memory.scratch,
              handedOn > 0 ? handedOn * (2 * 7 + 100) : 2 * 100 + 7);
  }
}

} // namespace
