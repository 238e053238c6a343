//===- FaultTest.cpp - failures and returns-----------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Expect.h"
#include "PipelinePlan.h"

#include "tombolo/runtime/sim/Simulate.h"

#include <gtest/gtest.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::sim;
using namespace tombolo::runtime::test;

namespace {

/// Steps of 12 s; rounds of 4, and about 2 s to exchange.
PipelineModel islands(std::uint32_t count) {
  PipelineModel model;
  model.islands = count;
  model.innerSteps = 4;
  model.parameters = 250000;
  model.deadline = 30;
  return model;
}

SimOptions with(std::initializer_list<const char *> faults,
                std::uint64_t steps = 40) {
  SimOptions options;
  options.steps = steps;
  for (const char *text : faults)
    options.faults.push_back(parseFault(text));
  return options;
}

// The others go on; the island comes back into the open round.
TEST(Fault, ASiteThatComesBack) {
  SimResult result = simulate(pipelinePlan(islands(3)), with({"site1@70+100"}));
  EXPECT_EQ(result.islands[0].steps, 40u);
  EXPECT_GT(result.islands[1].stepsLost, 0u);
  EXPECT_LT(result.islands[1].steps, 40u);
  EXPECT_GT(result.islands[1].downSeconds, 130);
  EXPECT_LT(result.goodput, 1);
  EXPECT_GT(result.goodput, 0.85);
  // Nobody waits longer than the deadline or the lease, once.
  SimResult healthy = simulate(pipelinePlan(islands(3)), with({}));
  EXPECT_LT(result.seconds, healthy.seconds + 31);
  ASSERT_FALSE(result.log.empty());
  EXPECT_NE(result.log[0].find("site site1 fails"), std::string::npos);
}

TEST(Fault, ASiteThatIsGoneForGood) {
  SimResult result = simulate(pipelinePlan(islands(3)), with({"site2@70"}));
  EXPECT_EQ(result.islands[1].steps, 40u);
  EXPECT_LT(result.islands[2].steps, 8u);
}

// Without overlap all wait until it is back.
TEST(Fault, TheServer) {
  SimResult healthy = simulate(pipelinePlan(islands(2)), with({}));
  SimResult result =
      simulate(pipelinePlan(islands(2)), with({"server:site0@45+100"}));
  EXPECT_NEAR(result.seconds, healthy.seconds + 97, 3);
  expectError(
      [] { simulate(pipelinePlan(islands(2)), with({"server:site0@45"})); },
      "comes to a halt");
}

TEST(Fault, ALine) {
  PipelineModel model = islands(2);
  model.deadline = 0;
  SimResult healthy = simulate(pipelinePlan(model), with({}));
  SimResult result =
      simulate(pipelinePlan(model), with({"line:site0,site1@45+100"}));
  EXPECT_NEAR(result.seconds, healthy.seconds + 97, 3);
}

// One island goes on from its last snapshot.
TEST(Fault, AChipWithoutAServer) {
  PipelineModel model;
  SimOptions options = with({"site0/pool@100+10"}, 20);
  options.snapshotSteps = 5;
  options.restartSeconds = 7;
  SimResult result = simulate(pipelinePlan(model), options);
  // 8 steps are done, 3 of them lost, and what there is of the ninth.
  EXPECT_EQ(result.islands[0].stepsLost, 3u);
  EXPECT_EQ(result.islands[0].steps, 23u);
  EXPECT_NEAR(result.seconds, 117 + 15 * 12, 1e-3);
  EXPECT_NEAR(result.goodput, 240 / (117 + 15 * 12.0), 1e-4);
}

// A pipeline over a line stands while it is down.
TEST(Fault, ALineInsideAnIsland) {
  PipelineModel model;
  model.stages = 2;
  model.stagesOnSites = true;
  model.boundaryBytes = 1000;
  SimResult healthy = simulate(pipelinePlan(model), with({}, 10));
  SimResult result =
      simulate(pipelinePlan(model), with({"line:site0,site1@20+50"}, 10));
  EXPECT_GT(result.seconds, healthy.seconds + 40);
  EXPECT_LT(result.seconds, healthy.seconds + 51);
}

TEST(Fault, ALineThatGetsThinner) {
  PipelineModel model = islands(2);
  SimOptions options = with({}, 8);
  double before = simulate(pipelinePlan(model), options).seconds;
  options.lineChanges.push_back({0, "site0", "site1", 5e5});
  EXPECT_NEAR(simulate(pipelinePlan(model), options).seconds, before + 4, 1e-3);
}

TEST(Fault, UnknownPlaces) {
  Plan plan = pipelinePlan(islands(2));
  expectError([&] { simulate(plan, with({"nowhere@1"})); },
              "there is no site 'nowhere', the plan's sites are 'site0', "
              "'site1'");
  expectError([&] { simulate(plan, with({"site0/x@1"})); },
              "there is no pool 'x' at site 'site0'");
  expectError([&] { simulate(plan, with({"server:site1@1"})); },
              "the plan has no server that could fail at 'site1'");
  expectError([&] { simulate(plan, with({"line:site1,nowhere@1"})); },
              "there is no site 'nowhere'");
  SimOptions options;
  options.lineChanges.push_back({0, "site0", "site9", 1});
  expectError([&] { simulate(plan, options); }, "there is no site 'site9'");
}

} // namespace
