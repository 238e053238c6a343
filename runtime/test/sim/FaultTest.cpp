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
using tombolo::plan::v1::Topology;

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

Plan withBackup(const PipelineModel &model) {
  Plan plan = pipelinePlan(model);
  plan.mutable_server()->mutable_placements(0)->set_backup("site1");
  return plan;
}

// With a backup they wait until it has taken over, whatever was under way, and
// whichever of the two servers is lost.
TEST(Fault, AServerWithABackup) {
  Plan plan = withBackup(islands(2));
  SimResult healthy = simulate(plan, with({}));
  // Rounds of 48 s and about 5 s of exchange: from the middle of one to that of
  // the next.
  for (double at = 45; at < 60; at += 0.5)
    for (std::string site : {"site0", "site1"}) {
      std::string fault = "server:" + site + "@" + std::to_string(at) + "+200";
      SimResult result = simulate(plan, with({fault.c_str()}));
      EXPECT_LT(result.seconds, healthy.seconds + 7) << fault;
      EXPECT_EQ(result.islands[0].rounds, 10u) << fault;
      EXPECT_EQ(result.islands[1].rounds, 10u) << fault;
    }
  // Away for less than it takes to miss it, and for good.
  EXPECT_LT(simulate(plan, with({"server:site0@49+2"})).seconds,
            healthy.seconds + 3);
  SimResult gone = simulate(plan, with({"server:site0@49"}));
  EXPECT_LT(gone.seconds, healthy.seconds + 7);
  EXPECT_NE(gone.log[1].find("the backup of the server at site0 takes over"),
            std::string::npos);
  // One server after the other.
  EXPECT_LT(simulate(plan, with({"server:site0@49+60", "server:site1@200+60"}))
                .seconds,
            healthy.seconds + 14);
}

// Who was away is no backup before it has all that the other one has: 12 bytes
// an element, 3 s of a line.
TEST(Fault, AServerIsWholeWhenItHasTheState) {
  Plan plan = withBackup(islands(2));
  double healthy = simulate(plan, with({})).seconds;
  auto lost = [&](const char *second) {
    return simulate(plan, with({"server:site0@49+60", second})).seconds -
           healthy;
  };
  EXPECT_GT(lost("server:site1@111+300"), 200);
  EXPECT_LT(lost("server:site1@130+300"), 14);
  // A line that is four times as fast has brought it by then.
  for (Topology::Line &line : *plan.mutable_topology()->mutable_lines())
    line.set_bytes_per_second(4 * line.bytes_per_second());
  healthy = simulate(plan, with({})).seconds;
  EXPECT_LT(lost("server:site1@111+300"), 14);
  // Sent again from the beginning where it is cut off.
  SimResult twice =
      simulate(plan, with({"server:site0@49+60", "server:site0@109.5+5",
                           "server:site1@130+300"}));
  EXPECT_LT(twice.seconds, healthy + 20);
}

// The site with the primary is lost: the other one trains on, and it comes
// back.
TEST(Fault, ASiteWithThePrimary) {
  PipelineModel model = islands(3);
  model.deadline = 0; // who is back waits for nobody's, nor they for its
  Plan plan = withBackup(model);
  SimResult healthy = simulate(plan, with({}));
  for (double at = 45; at < 60; at += 0.5) {
    SimResult result = simulate(
        plan, with({("site0@" + std::to_string(at) + "+100").c_str()}));
    EXPECT_EQ(result.islands[1].steps, 40u) << at;
    EXPECT_LT(result.islands[0].steps, 40u) << at;
    EXPECT_GT(result.islands[0].steps, 20u) << at;
    EXPECT_LT(result.seconds, healthy.seconds + 45) << at;
  }
}

TEST(Fault, AfterTheEnd) {
  SimResult result = simulate(pipelinePlan(islands(2)), with({"site1@9000"}));
  ASSERT_EQ(result.warnings.size(), 1u);
  EXPECT_NE(result.warnings[0].find("the failure of 'site1' at 9000 s comes "
                                    "after the end of what is simulated"),
            std::string::npos);
  EXPECT_EQ(result.goodput, 1);
}

TEST(Fault, ALine) {
  PipelineModel model = islands(2);
  model.deadline = 0;
  SimResult healthy = simulate(pipelinePlan(model), with({}));
  SimResult result =
      simulate(pipelinePlan(model), with({"line:site0,site1@45+100"}));
  EXPECT_NEAR(result.seconds, healthy.seconds + 97, 3);
  // One that is over before it changes nothing, also where there is a way
  // round.
  model.islands = 3;
  EXPECT_EQ(
      simulate(pipelinePlan(model), with({"line:site0,site1@45+100"})).seconds,
      simulate(pipelinePlan(model),
               with({"line:site0,site1@45+100", "line:site0,site1@46+1"}))
          .seconds);
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
