//===- FoldTest.cpp - one rank for all like it, one step for all like it------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PipelinePlan.h"

#include "tombolo/runtime/sim/Simulate.h"

#include <gtest/gtest.h>

#include <random>

using namespace tombolo::runtime;
using namespace tombolo::runtime::sim;
using namespace tombolo::runtime::test;

namespace {

std::uint64_t classesOf(const SimResult &result) {
  std::uint64_t count = 0;
  for (const IslandResult &island : result.islands)
    count += island.classes.size();
  return count;
}

/// Each rank for itself gives what classes give.
void expectSame(const PipelineModel &model, const std::string &what) {
  Plan plan = pipelinePlan(model);
  SimOptions options;
  options.steps = 4;
  SimResult folded = simulate(plan, options);
  options.fold = false;
  SimResult unfolded = simulate(plan, options);
  EXPECT_NEAR(folded.seconds, unfolded.seconds, 1e-9 * unfolded.seconds)
      << what;
  EXPECT_NEAR(folded.bubbleFraction, unfolded.bubbleFraction, 1e-9) << what;
  for (std::size_t l = 0; l < folded.lines.size(); ++l)
    EXPECT_NEAR(folded.lines[l].bytes, unfolded.lines[l].bytes,
                1e-9 * unfolded.lines[l].bytes + 1e-9)
        << what;
}

// Two chips of the first stage take turns at each of the second one.
TEST(Fold, ChipsThatTakeTurnsAreTwo) {
  PipelineModel model;
  model.stages = 2;
  model.tensorParallelOf = {4, 2};
  model.replicas = 3;
  model.microbatches = 12;
  model.nodes = 4;
  model.boundaryBytes = 30000000;
  SimResult result = simulate(pipelinePlan(model), {});
  EXPECT_EQ(classesOf(result), 3u);
  expectSame(model, "unequal degrees");
}

TEST(Fold, LikeReplicasAreOne) {
  PipelineModel model;
  model.stages = 4;
  model.replicas = 16;
  model.microbatches = 64;
  model.nodes = 8;
  model.boundaryBytes = 1000000;
  model.gradientElements = 100000;
  SimResult result = simulate(pipelinePlan(model), {});
  EXPECT_EQ(classesOf(result), 4u);
  expectSame(model, "like replicas");
}

// Ranks with a core to themselves are not like those that share one.
TEST(Fold, WhoSharesACoreCounts) {
  PipelineModel model;
  model.replicas = 3;
  model.microbatches = 6;
  model.chipsPerNode = 3;
  model.coresPerNode = 2;
  SimResult result = simulate(pipelinePlan(model), {});
  EXPECT_EQ(classesOf(result), 2u);
  EXPECT_EQ(result.islands[0].classes[0].ranks, 2u);
  expectSame(model, "two of three share");
}

// Transfers inside nodes and between them, shared cards and cores, replicas in
// different numbers, parts of nodes, exchanges.
TEST(Fold, UnfoldedIsTheSame) {
  std::mt19937_64 random(1), degrees(2), cores(3);
  auto pick = [&](std::initializer_list<std::uint64_t> from) {
    return *(from.begin() + random() % from.size());
  };
  for (int i = 0; i < 60; ++i) {
    PipelineModel model;
    model.stages = static_cast<std::uint32_t>(pick({1, 2, 3, 4}));
    model.tensorParallel = pick({1, 1, 2, 4});
    model.replicas = pick({1, 2, 3, 4, 6});
    model.microbatches = 12;
    if (i % 3 == 0)
      for (std::uint32_t s = 0; s < model.stages; ++s)
        model.replicasOf.push_back(pick({1, 2, 3, 4, 6}));
    if (i % 5 == 4)
      for (std::uint32_t s = 0; s < model.stages; ++s)
        model.tensorParallelOf.push_back(std::uint64_t{1} << degrees() % 3);
    model.boundaryBytes = pick({0, 1000, 30000000});
    model.gradientElements = pick({0, 1000, 1000000});
    model.tensorElements = pick({0, 1000000});
    model.chipsPerNode = pick({1, 2, 4, 8});
    model.cardsPerNode = pick({1, 2, 4, 8});
    if (i % 2 == 0)
      model.coresPerNode = 1 + cores() % model.chipsPerNode;
    if (i % 6 < 4) // with cores in half of these
      model.messagePart = 0.7;
    model.nodes = 256 / model.chipsPerNode;
    model.intraLatency = 1e-3;
    model.interLatency = 2e-3;
    model.update = 0.5;
    if (i % 4 == 1) {
      model.islands = 2;
      model.innerSteps = 2;
      model.parameters = 1000000;
    } else if (i % 4 == 2 && model.stages > 1) {
      model.stagesOnSites = true;
    }
    expectSame(model, "case " + std::to_string(i));
    if (model.islands == 2) { // exchanges on cores that train
      model.coresPerNode = 1 + cores() % model.chipsPerNode;
      model.messagePart = 0.7;
      model.exchangeWork = 1e-7;
      model.serverRate = 0;
      expectSame(model, "case " + std::to_string(i) + " on cores");
    }
  }
}

// 200 steps one by one are what is replayed, to the bit.
TEST(Fold, ReplayedIsTheSame) {
  for (std::uint64_t overlap : {0, 2})
    for (std::uint64_t parameters : {1000000, 20000000}) {
      PipelineModel model;
      model.stages = 3;
      model.islands = 3;
      model.microbatches = 6;
      model.innerSteps = 8;
      model.overlapSteps = overlap;
      model.parameters = parameters;
      model.boundaryBytes = 1000;
      model.update = 0.25;
      Plan plan = pipelinePlan(model);
      SimOptions options;
      options.steps = 200;
      options.faults = {parseFault("site1@300+100"),
                        parseFault("line:site0,site2@700+60")};
      SimResult replayed = simulate(plan, options);
      options.replay = false;
      SimResult honest = simulate(plan, options);
      EXPECT_EQ(replayed.seconds, honest.seconds);
      EXPECT_EQ(replayed.goodput, honest.goodput);
      EXPECT_EQ(replayed.bubbleFraction, honest.bubbleFraction);
      EXPECT_EQ(replayed.exchangeSeconds, honest.exchangeSeconds);
      EXPECT_EQ(replayed.log, honest.log);
      EXPECT_LT(replayed.stepsSimulated, 60u);
      EXPECT_GT(honest.stepsSimulated, 500u);
    }
}

} // namespace
