//===- CostModelTest.cpp - closed forms and checks ------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/CostModel.h"
#include "Fixtures.h"
#include "tombolo/Planning/Transfers.h"

#include <gtest/gtest.h>

#include <cmath>

#include <cmath>
#include <functional>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

TEST(RooflineTest, TheSlowerOfComputeAndMemory) {
  Chip c = chip("c", 2, 1);
  c.matmulEfficiency = 0.5;
  c.memoryEfficiency = 0.1;
  Work work;
  work.flops = {1e12, 1e12};
  EXPECT_DOUBLE_EQ(seconds(c, Precision::F32, work, 3), 4);
  EXPECT_DOUBLE_EQ(seconds(c, Precision::BF16, work, 3), 0.5);
  work.bytes = {0, 1e12};
  EXPECT_DOUBLE_EQ(seconds(c, Precision::F32, work, 3), 30);
}

TEST(PipelineTest, EqualStagesTakeFillPlusSteadyPlusDrain) {
  for (Schedule schedule : {Schedule::OneFOneB, Schedule::GPipe})
    for (uint64_t p : {1, 2, 3, 8})
      for (uint64_t m : {1, 2, 5, 16}) {
        std::vector<StageTimes> stages(p, StageTimes{1, 2, 0, 0, 0});
        PipelineTime time = pipelineTime(schedule, stages, m);
        EXPECT_FALSE(time.deadlock);
        EXPECT_DOUBLE_EQ(time.seconds, static_cast<double>(m + p - 1) * 3)
            << name(schedule) << " p " << p << " m " << m;
      }
}

TEST(PipelineTest, TheSlowestStageSetsThePace) {
  std::vector<StageTimes> stages = {
      {1, 2, 0, 0, 0}, {4, 5, 0, 0, 0}, {1, 1, 0, 0, 0}};
  double m = 40;
  double seconds = pipelineTime(Schedule::OneFOneB, stages, 40).seconds;
  // It idles only while the first microbatch comes and the last one leaves.
  EXPECT_GE(seconds, 3 + m * 9 - 1e-9);
  EXPECT_LE(seconds, 14 + m * 9);
}

TEST(PipelineTest, TailsOfEarlyStagesEndLast) {
  std::vector<StageTimes> stages(3, StageTimes{1, 2, 0, 0, 10});
  EXPECT_DOUBLE_EQ(pipelineTime(Schedule::OneFOneB, stages, 4).seconds,
                   6 * 3 + 10);
  EXPECT_DOUBLE_EQ(pipelineTime(Schedule::OneFOneB, stages, 4).computeEnd, 18);
}

TEST(PipelineTest, TransfersAddToFillAndDrain) {
  // With one microbatch nothing hides them.
  std::vector<StageTimes> stages(4, StageTimes{1, 2, 0.25, 0.5, 0});
  EXPECT_DOUBLE_EQ(pipelineTime(Schedule::OneFOneB, stages, 1).seconds,
                   4 * 3 + 3 * 0.75);
}

TEST(PipelineTest, TheMiddleOfALongStepIsExtrapolatedExactly) {
  std::vector<StageTimes> stages(64, StageTimes{1, 2, 0, 0, 0});
  uint64_t m = uint64_t(1) << 34;
  EXPECT_DOUBLE_EQ(pipelineTime(Schedule::OneFOneB, stages, m).seconds,
                   static_cast<double>(m + 63) * 3);
}

TEST(PipelineTest, UnequalReplicasTakeTheirShares) {
  // Two replicas, one of three times the speed and share: 8 microbatches.
  Island island;
  island.batch = 8;
  island.microbatch = 1;
  Stage stage;
  stage.replicas = {{"s/p", 1, 1, 3}, {"s/q", 1, 1, 1}};
  island.stages = {stage};
  PipelineTime time =
      pipelineTime(island, {{{1, 1, 0, 0, 0}, {3, 3, 0, 0, 0}}});
  EXPECT_FALSE(time.deadlock);
  EXPECT_DOUBLE_EQ(time.seconds, 12);
}

TEST(PipelineTest, StagesWithUnequalReplicasAgreeWithWork) {
  // Stage 1 has two replicas and takes twice as long: the pace is stage 0's.
  Island island;
  island.batch = 32;
  island.microbatch = 1;
  Stage one, two;
  one.replicas = {{"s/p", 1, 1, 1}};
  two.replicas = {{"s/p", 2, 1, 1}};
  island.stages = {two, one};
  PipelineTime time =
      pipelineTime(island, {{{2, 4, 0, 0, 0}}, {{1, 2, 0, 0, 0}}});
  EXPECT_FALSE(time.deadlock);
  EXPECT_GE(time.seconds, 32 * 3 + 6 - 1e-9);
  EXPECT_LE(time.seconds, 32 * 3 + 6 + 12);
}

TEST(PipelineTest, PeriodsAreBounded) {
  EXPECT_EQ(periodOf({}), 1u);
  EXPECT_EQ(periodOf({4, 6, 1}), 12u);
  EXPECT_EQ(periodOf({4, 0}), std::nullopt);
  EXPECT_EQ(periodOf({kMaxPeriod}), kMaxPeriod);
  EXPECT_EQ(periodOf({kMaxPeriod + 1}), std::nullopt);
  EXPECT_EQ(periodOf({kMaxPeriod, 3}), std::nullopt);
  // The least common multiple alone would overflow.
  EXPECT_EQ(periodOf({(uint64_t(1) << 63) - 1, (uint64_t(1) << 63) - 25}),
            std::nullopt);
}

TEST(VerifyTest, RefusesSharesWithoutAShortPeriod) {
  Problem problem = equalBlocks(2, 2);
  problem.training.globalBatch = 1009 * 1013;
  Strategy strategy;
  strategy.islands = {island(problem.training.globalBatch, 1, {1, 1})};
  strategy.islands[0].stages[0].replicas[0].share = 1009;
  strategy.islands[0].stages[1].replicas[0].share = 1013;
  Faults faults = problem.verify(strategy);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].path, "islands[0].stages");
  strategy.islands[0].stages[1].replicas[0].share = 1;
  EXPECT_TRUE(problem.verify(strategy).empty());
}

TEST(AllReduceTest, SeveralPoolsSumLevelByLevel) {
  Problem problem = equalBlocks(1, 1);
  Site &site = problem.topology.sites[0];
  site.pools = {pool("p", "c", 2, 4), pool("q", "c", 1, 4)};
  site.pools[0].interNode = Wire{8, 100}; // 1 GB/s
  site.fabric = Wire{80, 12};             // 10 GB/s
  std::vector<ChipRange> within = {{"s/p", 0, 4}, {"s/q", 0, 4}};
  std::vector<ChipRange> across = {{"s/p", 2, 4}, {"s/q", 0, 4}};
  EXPECT_NEAR(allReduceSeconds(problem.topology, within, 8e9),
              6 * (2e9 / 300e9 + 3e-6) + 2 * (1e9 / 10e9 + 12e-6), 1e-9);
  // Two nodes of two: parts of a half between them, of a quarter between pools.
  EXPECT_NEAR(allReduceSeconds(problem.topology, across, 8e9),
              2 * (4e9 / 300e9 + 3e-6) + 2 * (2e9 / 1e9 + 100e-6) +
                  2 * (1e9 / 10e9 + 12e-6),
              1e-9);
}

TEST(AllReduceTest, OfSitesTheLineIsSharedByAllChipsOfAPool) {
  Problem problem = equalBlocks(1, 1);
  problem.topology.sites[0].pools = {pool("p", "c", 1, 4)};
  Site other = problem.topology.sites[0];
  other.name = "t";
  problem.topology.sites.push_back(other);
  problem.topology.links = {{"s", "t", 8, 20, 0}}; // 1 GB/s
  // A quarter of 8 GB per chip goes half and half, four chips at once.
  EXPECT_NEAR(
      allReduceSeconds(problem.topology, {{"s/p", 0, 4}, {"t/p", 0, 4}}, 8e9),
      6 * (2e9 / 300e9 + 3e-6) + 2 * (1e9 / 0.25e9 + 0.01), 1e-9);
}

TEST(AllReduceTest, WhereLatencyRulesATreeIsFaster) {
  Problem problem = equalBlocks(1, 1);
  Pool many = pool("p", "c", 64, 1);
  many.interNode = Wire{8, 100}; // 1 GB/s
  problem.topology.sites[0].pools[0] = many;
  double ring = 126 * (1000.0 / 64 / 1e9 + 100e-6);
  double tree = 2 * 6 * 100e-6 + 2000 / 1e9;
  ASSERT_LT(tree, ring);
  EXPECT_NEAR(allReduceSeconds(problem.topology, {{"s/p", 0, 64}}, 1000), tree,
              1e-12);
}

TEST(LineTest, LossBoundsOneConnectionAndSoTheirNumber) {
  Link line{"s", "t", 10, 30, 1e-4};
  double one = 1.22 * 1460 / (0.03 * 0.01);
  EXPECT_NEAR(line.connectionBytesPerSecond(), one, 1);
  EXPECT_EQ(line.connectionsNeeded(), std::ceil(1.25e9 / one));
  EXPECT_DOUBLE_EQ(line.usableBytesPerSecond(), 1.25e9);
  line.loss = 0.25; // more connections than anybody opens
  EXPECT_NEAR(line.usableBytesPerSecond(), 1024 * 1.22 * 1460 / (0.03 * 0.5),
              1);
}

TEST(AllReduceTest, RingInsideANode) {
  Problem problem = equalBlocks(1, 1);
  problem.topology.sites[0].pools[0] = pool("p", "c", 2, 8);
  double bytes = 8e9;
  // 2 (n - 1) steps of bytes / n at 300 GB/s and 3 us.
  EXPECT_NEAR(allReduceSeconds(problem.topology, {{"s/p", 0, 8}}, bytes),
              14 * (1e9 / 300e9 + 3e-6), 1e-12);
  EXPECT_EQ(allReduceSeconds(problem.topology, {{"s/p", 0, 1}}, bytes), 0);
}

TEST(AllReduceTest, BetweenNodesEachChipHasItsShareOfTheCards) {
  Problem problem = equalBlocks(1, 1);
  Pool shared = pool("p", "c", 4, 8);
  shared.nicsPerNode = 2; // a quarter of 25 GB/s for each chip
  problem.topology.sites[0].pools[0] = shared;
  double inside = 14 * (1e9 / 300e9 + 3e-6);
  double between = 6 * (1e9 / 4 / 6.25e9 + 8e-6);
  EXPECT_NEAR(allReduceSeconds(problem.topology, {{"s/p", 0, 32}}, 8e9),
              inside + between, 1e-9);
}

TEST(MemoryTest, CountsWhatAStageKeeps) {
  Problem problem = equalBlocks(4, 8);
  problem.model.kinds[0].feedBytes.perSample = 7;
  problem.model.kinds[0].workspaceBytes.constant = 5;
  problem.model.kinds[0].carriedBytes.perSample = 3;
  MemoryUse use = memoryUse(problem, {{0, 2}}, 2, 3, Recompute(), false, false);
  EXPECT_EQ(use.parameters, 8000);
  EXPECT_EQ(use.gradients, 8000);
  EXPECT_EQ(use.optimizerState, 16000);
  EXPECT_EQ(use.saved, 3 * (2 * 2000 + 200));
  EXPECT_EQ(use.boundary, 6 * 200 + 4 * 200);
  EXPECT_EQ(use.feeds, 3 * 2 * 14);
  EXPECT_EQ(use.scratch, 2 * 200 + 6 + 5);
  EXPECT_EQ(use.recomputed, 0);
  MemoryUse full =
      memoryUse(problem, {{0, 2}}, 2, 3, {Recompute::Full, 0}, true, true);
  EXPECT_EQ(full.saved, 3 * 200);
  EXPECT_EQ(full.recomputed, 2000 + 200);
  EXPECT_EQ(full.boundary, 0);
}

// Gradients between blocks and what backward by input hands on lie in two
// places in turn, unless backwards by weight wait for them.
TEST(MemoryTest, CountsWhatWaitsForBackwardByWeight) {
  Problem problem = equalBlocks(4, 8);
  problem.model.kinds[0].carriedBytes.perSample = 3;
  problem.model.kinds[0].crossingBytes.constant = 11;
  auto use = [&](uint64_t handedOn) {
    return memoryUse(problem, {{{{0, 3}}, 3, handedOn, false, false}}, 2, {});
  };
  EXPECT_EQ(use(0).scratch, 2 * 200 + 6 + 11);
  EXPECT_EQ(use(0).boundary, 6 * 200 + 4 * 200);
  EXPECT_EQ(use(2).scratch, 2 * (3 * 6 + 2 * 200) + 11);
  EXPECT_EQ(use(2).boundary, 6 * 200 + 5 * 200);
}

TEST(MemoryTest, CountsATiedParameterOnceInAStage) {
  Problem problem = equalBlocks(4, 8);
  problem.model.ties = {{"t", 100, {0, 1, 5}}};
  EXPECT_EQ(repeatedElements(problem.model, {{0, 2}, {5, 1}}), 200u);
  EXPECT_EQ(repeatedElements(problem.model, {{1, 4}}), 0u);
  Problem apart = equalBlocks(4, 8);
  Strategy strategy;
  strategy.islands = {island(8, 1, {4, 4})};
  auto parameters = [&](const Problem &of, size_t stage) {
    return evaluate(of, strategy).islands[0].stages[stage][0].memory.parameters;
  };
  EXPECT_EQ(parameters(problem, 0), parameters(apart, 0) - 400);
  EXPECT_EQ(parameters(problem, 1), parameters(apart, 1));
}

// A server is chosen for islands that are foretold already.
TEST(MemoryTest, CountsWhatRanksKeepForTheServer) {
  Problem problem = equalBlocks(4, 8);
  problem.model.ties = {{"t", 100, {0, 5}}};
  Strategy strategy;
  strategy.islands = {island(8, 1, {4, 4})};
  std::vector<IslandPrediction> islands = {
      evaluateIsland(problem, strategy, 0)};
  auto host = [&](size_t stage) {
    return evaluate(problem, strategy, islands)
        .islands[0]
        .stages[stage][0]
        .memory.host;
  };
  EXPECT_EQ(host(0), 0);
  double elements = islands[0].stages[0][0].memory.gradients / 4;
  strategy.server.emplace().quorum = 1;
  EXPECT_EQ(host(0), 8 * elements);
  strategy.server->overlapSteps = 1;
  EXPECT_EQ(host(0), 12 * elements);
  // The second stage does not own what the first has too.
  strategy.server->compression = Compression::Int8;
  EXPECT_EQ(host(0), 20 * elements);
  EXPECT_EQ(host(1), 20 * elements - 800);
}

TEST(EvaluateTest, BubbleOfEqualStages) {
  Problem problem = equalBlocks(4, 8);
  problem.model.kinds[0].outputBytes = problem.model.kinds[0].inputBytes = {};
  for (Wire *wire : {&*problem.topology.sites[0].pools[0].interNode})
    wire->latencyUs = 0;
  Strategy strategy;
  strategy.islands = {island(8, 1, {2, 2, 2, 2})};
  ASSERT_TRUE(problem.verify(strategy).empty());
  Prediction prediction = evaluate(problem, strategy);
  // Three stages of 5 s there and back: the weights of a stage's first block,
  // 1 s, are behind its gradient.
  EXPECT_NEAR(prediction.bubbleFraction, 15.0 / 63, 1e-6);
  EXPECT_NEAR(prediction.islands[0].stepSeconds, 8 * 6 + 3 * 5, 1e-3);
  EXPECT_NEAR(prediction.tokensPerSecond,
              80 / prediction.islands[0].stepSeconds, 1e-9);
  EXPECT_EQ(prediction.wanBytesPerRound, 0);
  // The last block of a stage, 1 s, runs again before its gradient comes.
  Strategy again = strategy;
  for (Stage &stage : again.islands[0].stages)
    stage.recompute = {Recompute::Full, 0};
  EXPECT_NEAR(evaluate(problem, again).islands[0].stepSeconds, 8 * 8 + 3 * 6,
              1e-3);
  // In a framework where a backward is one call nothing is before or behind.
  problem.bounds.wholeBackward = true;
  EXPECT_NEAR(evaluate(problem, strategy).islands[0].stepSeconds, 11 * 6, 1e-3);
  EXPECT_NEAR(evaluate(problem, again).islands[0].stepSeconds, 11 * 8, 1e-3);
}

// Chips 0 and 2, and 1 and 3, are shares of one core each: a step is at least
// what the ranks on one compute, whatever the pipeline would have them wait.
TEST(EvaluateTest, RanksOnOneCoreComputeOneAfterTheOther) {
  Problem problem = equalBlocks(4, 8);
  problem.model.kinds[0].outputBytes = problem.model.kinds[0].inputBytes = {};
  Pool &pool = problem.topology.sites[0].pools[0];
  pool.nodes = 1;
  pool.chipsPerNode = pool.nicsPerNode = 4;
  pool.intraNode->latencyUs = 0;
  Strategy strategy;
  strategy.islands = {island(8, 1, {1, 3, 3, 1})};
  auto foretold = [&] {
    EXPECT_TRUE(problem.verify(strategy).empty());
    return evaluate(problem, strategy).islands[0].stepSeconds;
  };
  double apart = foretold();
  pool.coresPerNode = 4;
  EXPECT_EQ(foretold(), apart);
  // Of eight microbatches four blocks each, which take 3 s: 96 s; the pipeline
  // of the slower stages needs less.
  EXPECT_LT(apart, 96);
  pool.coresPerNode = 2;
  EXPECT_NEAR(foretold(), 96, 1e-3);
  pool.coresPerNode = 1;
  EXPECT_NEAR(foretold(), 192, 1e-3);
  // All four chips are replicas, two on each core.
  strategy.islands = {island(8, 1, {8}, 4)};
  EXPECT_NEAR(foretold(), 192, 1e-3);
  pool.coresPerNode = 2;
  EXPECT_NEAR(foretold(), 96, 1e-3);
}

// Both ends of a message, and every step of a ring, are the core's work.
TEST(EvaluateTest, CoresMoveTheirMessages) {
  Problem problem = equalBlocks(4, 8);
  BlockKind &kind = problem.model.kinds[0];
  kind.inputBytes = kind.outputBytes = {4e6, 0};
  Pool &pool = problem.topology.sites[0].pools[0];
  pool.nodes = 1;
  pool.chipsPerNode = pool.nicsPerNode = 2;
  pool.intraNode = Wire{0.008, 0}; // 1 MB/s
  Strategy strategy;
  strategy.islands = {island(8, 1, {4, 4})};
  auto foretold = [&] {
    EXPECT_TRUE(problem.verify(strategy).empty());
    return evaluate(problem, strategy).islands[0].stepSeconds;
  };
  double apart = foretold();
  pool.coresPerNode = 2;
  const double part = problem.topology.chips[0].overheads.messagePart = 0.9;
  // Of eight microbatches four blocks, 3 s each, and a part of 4 s each to send
  // and to receive a message.
  double core = 8 * (4 * 3 + 2 * 4 * part);
  EXPECT_LT(apart, core);
  EXPECT_NEAR(foretold(), core, 1e-3);
  pool.coresPerNode = 1;
  EXPECT_NEAR(foretold(), 2 * core, 1e-3);
  strategy.islands = {island(8, 1, {8}, 2)};
  double sum =
      evaluate(problem, strategy).islands[0].stages[0][0].allReduceSeconds;
  EXPECT_GT(sum, 0);
  EXPECT_NEAR(foretold(), 8 * 8 * 3 + 2 * part * sum, 1e-3);
  // Over a line cores move the bytes, and need not wait as long as these take.
  Site other = problem.topology.sites[0];
  other.name = "t";
  problem.topology.sites.push_back(other);
  problem.topology.links = {{"s", "t", 0.0008, 1000, 0}}; // 0.1 MB/s
  strategy.islands = {island(8, 1, {4, 4})};
  strategy.islands[0].sites = {"s", "t"};
  strategy.islands[0].stages[1].replicas[0].pool = "t/p";
  double line = foretold();
  for (Site &site : problem.topology.sites)
    site.pools[0].coresPerNode.reset();
  EXPECT_EQ(foretold(), line);
}

/// Two sites of equal chips, each an island, that meet every 10 steps.
static std::pair<Problem, Strategy> islandsOverALine() {
  Problem problem = equalBlocks(2, 8);
  Site site = problem.topology.sites[0];
  site.name = "t";
  problem.topology.sites.push_back(site);
  problem.topology.links = {{"s", "t", 0.008, 20, 0}}; // 1 MB/s
  Strategy strategy;
  strategy.islands = {island(4, 1, {8}), island(4, 1, {8})};
  strategy.islands[1].sites = {"t"};
  strategy.islands[1].stages[0].replicas[0].pool = "t/p";
  strategy.server.emplace();
  strategy.server->innerSteps = 10;
  strategy.server->placement[0] = {"s", ""};
  return {problem, strategy};
}

TEST(EvaluateTest, ARoundWaitsForTheLine) {
  auto [problem, strategy] = islandsOverALine();
  ASSERT_TRUE(problem.verify(strategy).empty());
  Prediction prediction = evaluate(problem, strategy);
  double bytes = 4 * 8000;
  EXPECT_EQ(prediction.wanBytesPerRound, 2 * bytes);
  EXPECT_NEAR(prediction.synchronisationSeconds, 2 * (bytes / 1e6 + 0.01),
              1e-4);
  EXPECT_EQ(prediction.connections, 1);
  EXPECT_NEAR(prediction.stepSeconds,
              prediction.islands[0].stepSeconds +
                  prediction.synchronisationSeconds / 10,
              1e-9);
}

/// Islands of 10 and 5 inner steps: a round is that of the slower one, and what
/// both do in it counts.
TEST(EvaluateTest, IslandsOfUnequalInnerSteps) {
  auto [problem, strategy] = islandsOverALine();
  strategy.server->overlapSteps = 1;
  EXPECT_FALSE(hasOwnInnerSteps(strategy));
  Prediction equal = evaluate(problem, strategy);
  strategy.islands[1].innerSteps = 10;
  EXPECT_FALSE(hasOwnInnerSteps(strategy));
  EXPECT_EQ(evaluate(problem, strategy).stepSeconds, equal.stepSeconds);
  strategy.islands[1].innerSteps = 5;
  EXPECT_TRUE(hasOwnInnerSteps(strategy));
  ASSERT_TRUE(problem.verify(strategy).empty());
  Prediction fewer = evaluate(problem, strategy);
  EXPECT_EQ(fewer.stepSeconds, equal.stepSeconds);
  EXPECT_NEAR(fewer.tokensPerSecond, 0.75 * equal.tokensPerSecond, 1e-9);
  EXPECT_EQ(fewer.wanBytesPerRound, equal.wanBytesPerRound);
  strategy.islands[1].innerSteps = 20;
  Prediction more = evaluate(problem, strategy);
  EXPECT_NEAR(more.stepSeconds, 2 * equal.stepSeconds, 1e-6);
  EXPECT_NEAR(more.tokensPerSecond, 0.75 * equal.tokensPerSecond, 1e-6);
}

/// What hides of an exchange is the slowest island's own step.
TEST(EvaluateTest, OverlapIsOfAnIslandsOwnSteps) {
  Problem problem = equalBlocks(2, 8);
  Site site = problem.topology.sites[0];
  site.name = "t";
  problem.topology.sites.push_back(site);
  problem.topology.links = {{"s", "t", 4e-6, 20, 0}}; // 500 B/s
  Strategy strategy;
  strategy.islands = {island(4, 1, {8}), island(4, 1, {8})};
  strategy.islands[1].sites = {"t"};
  strategy.islands[1].stages[0].replicas[0].pool = "t/p";
  strategy.server.emplace();
  strategy.server->innerSteps = 10;
  strategy.server->overlapSteps = 1;
  strategy.server->placement[0] = {"s", ""};
  double step = evaluate(problem, strategy).islands[0].stepSeconds;
  double exchange = synchronisation(problem, strategy).seconds;
  strategy.islands[1].innerSteps = 5;
  Prediction prediction = evaluate(problem, strategy);
  ASSERT_GT(exchange, step);
  // The other waits as long, but has half a round to spare.
  EXPECT_NEAR(prediction.synchronisationSeconds, exchange - step, 1e-6);
  EXPECT_NEAR(prediction.stepSeconds,
              step + prediction.synchronisationSeconds / 10, 1e-6);
}

//===----------------------------------------------------------------------===//
// Faults
//===----------------------------------------------------------------------===//

struct FaultCase {
  const char *path;
  const char *part; // of the message
  std::function<void(Problem &, Strategy &)> spoil;
};

class VerifyTest : public testing::TestWithParam<FaultCase> {};

TEST_P(VerifyTest, NamesThePlaceAndTheFault) {
  Problem problem = equalBlocks(4, 8);
  Strategy strategy;
  strategy.islands = {island(8, 2, {3, 5}, 2)};
  ASSERT_TRUE(problem.verify(strategy).empty());
  GetParam().spoil(problem, strategy);
  Faults faults = problem.verify(strategy);
  ASSERT_FALSE(faults.empty());
  EXPECT_EQ(faults[0].path, GetParam().path);
  EXPECT_NE(faults[0].message.find(GetParam().part), std::string::npos)
      << faults[0].message;
}

constexpr uint64_t kHuge = ~uint64_t(0);

INSTANTIATE_TEST_SUITE_P(
    Faults, VerifyTest,
    testing::Values(
        FaultCase{"islands", "at least one island",
                  [](Problem &, Strategy &s) { s.islands.clear(); }},
        FaultCase{
            "islands[0].stages", "hold 9 blocks, but the model has 8",
            [](Problem &, Strategy &s) { s.islands[0].stages[1].blocks = 6; }},
        FaultCase{"islands[0].stages[0].blocks", "must be from 1",
                  [](Problem &, Strategy &s) {
                    s.islands[0].stages[0].blocks = kHuge;
                  }},
        FaultCase{"islands[0].stages[0].replicas[0].pool", "unknown pool",
                  [](Problem &, Strategy &s) {
                    s.islands[0].stages[0].replicas[0].pool = "s/x";
                  }},
        FaultCase{"islands[0].stages[0].replicas[0].pool", "lacks chips",
                  [](Problem &, Strategy &s) {
                    for (Stage &stage : s.islands[0].stages)
                      stage.replicas[0].count = 4;
                  }},
        FaultCase{"islands[0].stages[1].replicas[0].count", "must be from 1",
                  [](Problem &, Strategy &s) {
                    s.islands[0].stages[1].replicas[0].count = 0;
                  }},
        FaultCase{"islands[0].sites[0]", "unknown site 'x'",
                  [](Problem &, Strategy &s) { s.islands[0].sites = {"x"}; }},
        FaultCase{"islands[0].batch", "not a multiple of the microbatch 3",
                  [](Problem &, Strategy &s) { s.islands[0].microbatch = 3; }},
        FaultCase{"islands[0].microbatch", "are too many, expected a product",
                  [](Problem &p, Strategy &s) {
                    p.training.globalBatch = 16777216;
                    s.islands[0].batch = 16777216;
                    s.islands[0].microbatch = 1;
                  }},
        FaultCase{"islands[0].batch", "cannot share in turns of 2",
                  [](Problem &p, Strategy &s) {
                    s.islands[0].batch = p.training.globalBatch = 6;
                  }},
        FaultCase{"islands", "add up to 8, expected the global batch 16",
                  [](Problem &p, Strategy &) { p.training.globalBatch = 16; }},
        FaultCase{"islands[0].stages[0]", "does not fit into the memory",
                  [](Problem &p, Strategy &) {
                    p.topology.chips[0].memoryGib = 1e-5;
                  }},
        FaultCase{"server", "several islands need a 'server'",
                  [](Problem &p, Strategy &s) {
                    s.islands.push_back(s.islands[0]);
                    p.training.globalBatch = 16;
                  }},
        FaultCase{"server.overlap_steps", "below inner_steps 16",
                  [](Problem &, Strategy &s) {
                    s.server.emplace();
                    s.server->overlapSteps = 16;
                  }},
        FaultCase{"islands[0].inner_steps",
                  "must be more than the server's "
                  "overlap_steps 4",
                  [](Problem &, Strategy &s) {
                    s.server.emplace();
                    s.server->overlapSteps = 4;
                    s.islands[0].innerSteps = 4;
                  }},
        FaultCase{"islands[0].inner_steps",
                  "at least the server's fragments 8, got 4",
                  [](Problem &, Strategy &s) {
                    s.server.emplace();
                    s.server->fragments = 8;
                    s.islands[0].innerSteps = 4;
                  }},
        FaultCase{"server.quorum", "more than the number of islands",
                  [](Problem &, Strategy &s) {
                    s.server.emplace();
                    s.server->quorum = 2;
                  }},
        FaultCase{"server.placement.1", "no fragment 1 of 1",
                  [](Problem &, Strategy &s) {
                    s.server.emplace();
                    s.server->placement[1] = {"s", ""};
                  }},
        FaultCase{"islands[0].sites", "no route from site",
                  [](Problem &p, Strategy &s) {
                    Site far = p.topology.sites[0];
                    far.name = "far";
                    p.topology.sites.push_back(far);
                    s.server.emplace();
                    s.server->placement[0] = {"far", ""};
                  }}));

TEST(VerifyTest, MemoryFaultSaysStageNeededAndAvailable) {
  Problem problem = equalBlocks(2, 4);
  problem.topology.chips[0].memoryGib = 1.0 / 32 / 1024; // 32 KiB
  Strategy strategy;
  strategy.islands = {island(8, 8, {1, 3})};
  Faults faults = problem.verify(strategy);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].path, "islands[0].stages[1]");
  // 3 x 16000 kept, 1 microbatch x (3 x 8000 + 2 x 800) saved, 4 x 800 at the
  // boundary, 2 x 800 inside; 98 % of 32 KiB.
  EXPECT_NE(
      faults[0].message.find("needs 78400 bytes per chip, 32112 of 32768 are"),
      std::string::npos)
      << faults[0].message;
}

TEST(CheckTest, AbsurdFiguresAreFaultsNotOverflows) {
  Problem problem = equalBlocks(2, 4);
  problem.topology.chips[0].tflopsF32 = 1e300;
  EXPECT_FALSE(problem.check().empty());
  problem = equalBlocks(2, 4);
  problem.topology.sites[0].pools[0].nodes = kHuge;
  EXPECT_FALSE(problem.check().empty());
  problem = equalBlocks(2, 4);
  problem.model.runs[0].count = kHuge;
  EXPECT_FALSE(problem.check().empty());
  problem = equalBlocks(2, 4);
  problem.model.kinds[0].forward.flops.perSample = NAN;
  EXPECT_FALSE(problem.check().empty());
  problem = equalBlocks(2, 4);
  problem.topology.chips[0].memoryGib = 1e15;
  EXPECT_TRUE(problem.check().empty());
  EXPECT_GT(problem.topology.chips[0].memoryBytes(), 0u);
  problem.training.globalBatch = 0;
  EXPECT_FALSE(problem.check().empty());
  problem = equalBlocks(2, 4);
  problem.model.precision = Precision::BF16;
  problem.topology.chips[0].tflopsBF16.reset();
  Faults faults = problem.check();
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].path, "sites[0].pools[0].chip");
}

//===----------------------------------------------------------------------===//
// Tensor parallelism and optimizer sharding
//===----------------------------------------------------------------------===//

/// `equalBlocks` with figures of two chips: half of everything, and one sum of
/// 1e9 bytes per sample in each of forward and backward-by-input.
Problem shardedBlocks() {
  Problem problem = equalBlocks(8, 4);
  problem.topology.sites[0].pools[0] = pool("p", "c", 2, 4);
  BlockKind &kind = problem.model.kinds[0];
  BlockKind half = kind;
  half.tensorParallel = 2;
  for (Work *work : {&half.forward, &half.backwardInput, &half.backwardWeight})
    work->flops.perSample /= 2;
  half.forward.of(Collective::AllReduce) = {1, {0, 1e9}};
  half.backwardInput.of(Collective::AllReduce) = {1, {0, 1e9}};
  half.parameterCount /= 2;
  half.trainableCount /= 2;
  half.parameterBytes /= 2;
  half.savedBytes.perSample /= 2;
  kind.sharded = {half};
  return problem;
}

TEST(TensorParallelTest, CollectivesAreRingsInsideTheNode) {
  Problem problem = shardedBlocks();
  Strategy strategy;
  strategy.islands = {island(8, 2, {4})};
  strategy.islands[0].stages[0].replicas[0].tensorParallel = 2;
  ASSERT_TRUE(problem.verify(strategy).empty());
  GroupPrediction group = evaluateIsland(problem, strategy, 0).stages[0][0];
  // Two steps of half the bytes at 2400 Gbit/s, 3 us each; four blocks.
  double sum = 2 * (3e-6 + 0.5 * 2e9 / 300e9);
  EXPECT_NEAR(group.exchangeSeconds, 4 * 2 * sum, 1e-9);
  // Half a second per sample of each function, and the sums.
  EXPECT_NEAR(group.forwardSeconds, 4 * (0.5 * 2 + sum), 1e-9);
  EXPECT_NEAR(group.backwardSeconds, 4 * (2 * 0.5 * 2 + sum), 1e-9);
  EXPECT_EQ(group.memory.parameters, 4 * 2000.0);
  EXPECT_EQ(group.memory.gradients, 4 * 2000.0);
}

TEST(TensorParallelTest, AReplicaOverNodesGoesAtThePaceOfTheNetwork) {
  Problem problem = shardedBlocks();
  ChipRange aligned{"s/p", 0, 4}, crossing{"s/p", 3, 2};
  EXPECT_EQ(insideReplicas(problem.topology, aligned, 2).bytesPerSecond, 300e9);
  EXPECT_EQ(insideReplicas(problem.topology, crossing, 2).bytesPerSecond, 25e9);
  // Eight chips on two nodes: rings of four inside each, and between them four
  // side by side, each with a quarter of the bytes and its share of the cards.
  double bytes = 1e9;
  Work sum;
  sum.of(Collective::AllReduce) = {1, {bytes, 0}};
  Transfer wire = insideReplicas(problem.topology, {"s/p", 0, 8}, 8);
  EXPECT_NEAR(exchangeSeconds(sum, 8, wire, 0),
              6 * (3e-6 + bytes / 4 / 300e9) + 2 * (8e-6 + bytes / 8 / 25e9),
              1e-9);
  // Chip i of each replica sums with chip i of the others: two replicas of two
  // chips on one node are rings of two.
  EXPECT_NEAR(allReduceSeconds(problem.topology, {aligned}, 1e9, 2),
              2 * (3e-6 + 0.5e9 / 300e9), 1e-12);
}

TEST(TensorParallelTest, ADegreeWithoutFiguresIsRefused) {
  Problem problem = shardedBlocks();
  Strategy strategy;
  strategy.islands = {island(8, 2, {4})};
  strategy.islands[0].stages[0].replicas[0].tensorParallel = 4;
  Faults faults = problem.verify(strategy);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].path, "islands[0].stages[0].replicas[0].tensor_parallel");
  EXPECT_EQ(faults[0].message,
            "there is no sharding of block 'layer' over 4 chips");
}

TEST(OptimizerShardingTest, TheStateIsDividedByTheReplicas) {
  Problem problem = shardedBlocks();
  MemoryUse whole = memoryUse(problem, {{0, 4}}, 2, 1, Recompute(), true, true);
  MemoryUse part =
      memoryUse(problem, {{0, 4}}, 2, 1, Recompute(), true, true, {1, 3});
  // 16,000 bytes of gradients padded to a multiple of 3 x 64.
  EXPECT_EQ(part.gradients, 16128);
  EXPECT_EQ(part.parameters, whole.parameters + 128);
  EXPECT_EQ(part.optimizerState, 2 * 16128.0 / 3);
  EXPECT_TRUE(shardsOptimizer(problem, 2));
  EXPECT_FALSE(shardsOptimizer(problem, 1));
  problem.training.optimizerStateBytesPerParameter = 0;
  EXPECT_FALSE(shardsOptimizer(problem, 2));
}

} // namespace
