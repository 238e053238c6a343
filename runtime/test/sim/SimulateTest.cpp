//===- SimulateTest.cpp - times that are known in closed form-----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Expect.h"
#include "PipelinePlan.h"

#include "tombolo/runtime/sim/Simulate.h"
#include "tombolo/runtime/sim/Trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

using namespace tombolo::runtime;
using namespace tombolo::runtime::sim;
using namespace tombolo::runtime::test;

namespace {

SimResult simulated(const PipelineModel &model, std::uint64_t steps = 1) {
  SimOptions options;
  options.steps = steps;
  return simulate(pipelinePlan(model), options);
}

// Narayanan et al. 2021, section 2.2: (m + p - 1) (f + b), of which each rank
// idles (p - 1) (f + b).
TEST(Simulate, OneFOneBBubble) {
  for (std::uint32_t stages : {1, 2, 4, 7})
    for (std::uint64_t microbatches : {1, 2, 8, 32}) {
      PipelineModel model;
      model.stages = stages;
      model.microbatches = microbatches;
      model.chipsPerNode = 8;
      SimResult result = simulated(model);
      double m = static_cast<double>(microbatches), p = stages;
      // The sums of losses are two elements over rings of 1e9 bytes/s.
      EXPECT_NEAR(result.seconds, (m + p - 1) * 3, 1e-6);
      EXPECT_NEAR(result.bubbleFraction, (p - 1) / (m + p - 1), 1e-6);
    }
}

// With v chunks of a stage p - 1 calls of one chunk each way are idle, a v-th of
// 1F1B's (Narayanan et al. 2021, section 2.2).
TEST(Simulate, InterleavedBubble) {
  for (std::uint32_t stages : {2, 4})
    for (std::uint64_t chunks : {2, 3})
      for (std::uint64_t turns : {1, 2, 5}) {
        PipelineModel model;
        model.schedule = PipelineModel::Interleaved;
        model.stages = stages;
        model.chunks = chunks;
        model.microbatches = turns * stages;
        SimResult result = simulated(model);
        double m = static_cast<double>(model.microbatches), p = stages;
        double v = static_cast<double>(chunks);
        EXPECT_NEAR(result.seconds, (m * v + p - 1) * 3, 1e-6);
        EXPECT_NEAR(result.bubbleFraction, (p - 1) / (m * v + p - 1), 1e-6);
      }
}

// Where forward, backward by input and by weight take t each, (p - 1) t are idle
// (Qi et al. 2024, table 1), a third of 1F1B's.
TEST(Simulate, ZeroBubbleBubble) {
  for (std::uint32_t stages : {2, 4, 7})
    for (std::uint64_t microbatches : {8, 32}) {
      PipelineModel model;
      model.schedule = PipelineModel::ZeroBubble;
      model.stages = stages;
      model.microbatches = microbatches;
      SimResult result = simulated(model);
      double m = static_cast<double>(microbatches), p = stages;
      EXPECT_NEAR(result.seconds, 3 * m + p - 1, 1e-6);
      EXPECT_NEAR(result.bubbleFraction, (p - 1) / (3 * m + p - 1), 1e-6);
    }
}

// A ring of n ranks inside a node takes 2 (n - 1) steps of latency + B / n
// (Thakur et al. 2005); in this plan a ring of gradients, then a sum of two
// elements.
TEST(Simulate, RingAndTreeAllReduce) {
  PipelineModel model;
  model.replicas = 4;
  model.microbatches = 4;
  model.gradientElements = 1000000;
  model.intraLatency = 1e-3;
  SimResult result = simulated(model);
  double bytes = 4e6, n = 4;
  double ring = 2 * (n - 1) * (1e-3 + bytes / n / 1e9);
  // The small one over two trees: 2 log2 n latencies (Sanders et al. 2009).
  double small = 2 * 2 * 1e-3 + 2 * 8 / 1e9;
  EXPECT_NEAR(result.seconds, 3 + ring + small, 1e-9);
  ASSERT_EQ(result.islands[0].classes.size(), 1u);
  const ClassResult &one = result.islands[0].classes[0];
  EXPECT_EQ(one.ranks, 4u);
  EXPECT_NEAR(one.exposedSeconds[static_cast<std::size_t>(
                  Exposure::DataParallel)],
              ring, 1e-9);
}

// A chip that sends, receives and adds at once has a pace of its own for rings;
// what passes between stages goes at that of the wire.
TEST(Simulate, RingsInsideNodesHaveTheirOwnWire) {
  PipelineModel model;
  model.microbatches = 4;
  model.replicas = 4;
  model.gradientElements = 1000000;
  model.intraLatency = 1e-6;
  Plan plan = pipelinePlan(model);
  double alike = simulate(plan, {}).seconds;
  for (auto &site : *plan.mutable_topology()->mutable_sites())
    for (auto &pool : *site.mutable_pools()) {
      *pool.mutable_intra_node_ring() = pool.intra_node();
      pool.mutable_intra_node_ring()->set_bytes_per_second(0.25e9);
    }
  // 2 (n - 1) / n of 4e6 bytes, and twice that of the losses over two trees.
  double more = (2 * 3 / 4.0 * 4e6 + 2 * 8) * 3 / 1e9;
  EXPECT_NEAR(simulate(plan, {}).seconds, alike + more, 1e-9);
  plan.mutable_topology()->mutable_chips(0)->set_step_seconds(0.5);
  EXPECT_NEAR(simulate(plan, {}).seconds, alike + more + 0.5, 1e-9);
}

// Rings inside nodes, and between them side by side, each with its part and its
// own card.
TEST(Simulate, RingsOverNodes) {
  PipelineModel model;
  model.replicas = 32;
  model.microbatches = 32;
  model.nodes = 4;
  model.gradientElements = 1 << 20;
  model.intraLatency = 1e-4;
  model.interLatency = 1e-3;
  auto seconds = [&](double bytes) {
    double k = 8, a = 4;
    return 2 * (k - 1) * (1e-4 + bytes / k / 1e9) +
           2 * (a - 1) * (1e-3 + bytes / k / a / 1e8);
  };
  // Rings over nodes are faster than a tree also where latency rules.
  EXPECT_NEAR(simulated(model).seconds,
              3 + seconds(4 << 20) + seconds(8), 1e-9);
  // Two chips to a card: half of it for each.
  model.cardsPerNode = 4;
  double slower = simulated(model).seconds;
  EXPECT_NEAR(slower,
              3 + seconds(4 << 20) + seconds(8) +
                  2 * 3 * ((4 << 20) + 8) / 8.0 / 4 / 1e8,
              1e-9);
}

// Replicas that send over one line at once share it.
TEST(Simulate, TransferOverASharedLine) {
  for (std::uint64_t replicas : {1, 3, 8}) {
    PipelineModel model;
    model.stages = 2;
    model.stagesOnSites = true;
    model.replicas = replicas;
    model.microbatches = replicas;
    model.boundaryBytes = 1000000;
    model.interRate = 1e12;
    SimResult result = simulated(model);
    double flows = static_cast<double>(replicas);
    double transfer = 0.01 + flows * 1e6 / 1e6;
    // The sum of losses crosses the line too: 2 n steps of 8 / n bytes between
    // the sites, over the n replicas side by side.
    EXPECT_NEAR(result.seconds, 6 + 2 * transfer, 0.25);
    EXPECT_GT(result.seconds, 6 + 2 * transfer);
    ASSERT_EQ(result.lines.size(), 2u);
    EXPECT_NEAR(result.lines[0].bytes, flows * 1e6, 200);
  }
}

// Over a line a receiver asks for one message after the other, so it gets one a
// round trip, from however many senders; a sender is done when the last byte
// has left, so several receivers do not wait for each other's. As
// ScheduleTimeTest.AStageGetsOneTensorARoundTrip has it of the planner.
TEST(Simulate, AReceiverGetsOneMessageARoundTrip) {
  PipelineModel model;
  model.stages = 2;
  model.stagesOnSites = true;
  model.forward = 1e-3;
  model.backward = 2e-3;
  model.boundaryBytes = 10000; // 0.01 s
  model.lineRtt = 2;
  model.interRate = 1e12;
  auto perTwo = [&](std::vector<std::uint64_t> replicas) {
    model.replicasOf = std::move(replicas);
    model.microbatches = 30;
    double before = simulated(model).seconds;
    model.microbatches = 32;
    return simulated(model).seconds - before;
  };
  EXPECT_NEAR(perTwo({2, 1}), 2 * 2.01, 1e-6);
  EXPECT_NEAR(perTwo({1, 2}), 2 * 2.01, 1e-6);
  EXPECT_NEAR(perTwo({2, 2}), 2.01, 0.02); // bytes share the line
}

// One microbatch: it is asked for while it is made, and the gradient too.
TEST(Simulate, AskingAheadCostsNothing) {
  PipelineModel model;
  model.stages = 2;
  model.stagesOnSites = true;
  model.microbatches = 1;
  model.boundaryBytes = 1000000;
  model.lineRtt = 1;
  SimResult result = simulated(model);
  double sums = 2 * 0.5; // of losses: two trees of one hop, or one ring
  EXPECT_NEAR(result.seconds, 6 + 2 * 1.5 + sums, 1e-3);
  // Calls of no time are there before anybody has heard that they are wanted.
  model.forward = 1e-3;
  EXPECT_NEAR(simulated(model).seconds, 4 + 2 * 1.5 + 0.5 + sums, 4e-3);
}

TEST(Simulate, TensorParallelCollectives) {
  PipelineModel model;
  model.tensorParallel = 4;
  model.tensorElements = 250000;
  model.microbatches = 3;
  SimResult result = simulated(model);
  double ring = 2 * 3 * (1e6 / 4 / 1e9);
  EXPECT_NEAR(result.seconds, 3 * 3 + 6 * ring, 1e-6);
}

// Push, one pass of the server, pull; the round trip once.
TEST(Simulate, OuterExchange) {
  PipelineModel model;
  model.islands = 2;
  model.innerSteps = 4;
  model.parameters = 250000; // 1e6 bytes
  SimResult result = simulated(model, 8);
  double exchange = 2 * (1e6 / 1e6 + 0.01) + 1e6 / 2e9;
  EXPECT_NEAR(result.seconds, 8 * 12 + 2 * exchange, 1e-3);
  // The island at the server has its first version half a round trip earlier,
  // and then waits for the other's next push.
  double half = 1e6 / 1e6 + 0.01 + 2 * 1e6 / 2e9;
  EXPECT_NEAR(result.exchangeSeconds, (3 * exchange + half) / 4, 1e-3);
  EXPECT_NEAR(result.wanBytesPerRound, 2e6, 1);
  EXPECT_EQ(result.islands[1].rounds, 2u);
}

// An island that is half as fast takes half the steps: nobody waits but for the
// exchange, and steps are counted in the server's.
TEST(Simulate, UnequalInnerSteps) {
  PipelineModel model;
  model.islands = 2;
  model.innerSteps = 4;
  model.parameters = 250000; // 1e6 bytes
  model.innerStepsOf = {4, 2};
  SimOptions options;
  options.steps = 8;
  SimResult result = simulate(pipelinePlan(model), options);
  EXPECT_EQ(result.islands[0].steps, 8u);
  EXPECT_EQ(result.islands[1].steps, 4u);
  EXPECT_EQ(result.islands[0].rounds, 2u);
  EXPECT_EQ(result.islands[1].rounds, 2u);
  // The second pushes while the first still trains, and then its round is made.
  double half = 1e6 / 2e9 + 1e6 / 2e9;
  EXPECT_NEAR(result.seconds, 8 * 12 + 2 * half, 2.1);
  EXPECT_NEAR(result.stepSeconds, result.seconds / 8, 0.2);
  EXPECT_NEAR(result.tokensPerSecond * 4 * result.stepSeconds, (4 + 2) * 4 * 8,
              1e-6);
  EXPECT_NEAR(result.wanBytesPerRound, 2e6, 1);
  options.steps = 6;
  EXPECT_THROW(simulate(pipelinePlan(model), options), Error);
}

// Where nothing is said of steps the figures are those of a run that goes on
// and on, though nothing comes into its first round from one before.
TEST(Simulate, TheDefaultTellsWhatGoesOn) {
  PipelineModel model;
  model.islands = 2;
  model.innerSteps = 4;
  model.parameters = 7500000; // 30 s each way
  for (std::uint64_t overlap : {0, 2}) {
    model.overlapSteps = overlap;
    SimResult shortly = simulated(model, 0), longer = simulated(model, 400);
    EXPECT_GT(shortly.stepSeconds, 12 + 30.0 / 4);
    EXPECT_NEAR(shortly.stepSeconds, longer.stepSeconds, 1e-6);
    EXPECT_NEAR(shortly.tokensPerSecond, longer.tokensPerSecond, 1e-6);
    EXPECT_NEAR(shortly.wanBytesPerRound, longer.wanBytesPerRound, 1);
    EXPECT_NEAR(shortly.wanBytesPerRound, 2 * 4 * 7.5e6, 1);
  }
}

// What fits into the steps of the overlap costs nothing.
TEST(Simulate, OverlappedExchange) {
  PipelineModel model;
  model.islands = 2;
  model.innerSteps = 4;
  model.overlapSteps = 2;
  model.parameters = 2500000; // 10 s each way, steps of 12 s
  EXPECT_NEAR(simulated(model, 16).seconds, 16 * 12, 1e-3);
  model.parameters = 7500000; // 30 s each way
  SimResult late = simulated(model, 16);
  EXPECT_GT(late.seconds, 16 * 12 + 3 * (60 - 24));
  EXPECT_LT(late.seconds, 16 * 12 + 4 * (60.2 - 24));
}

/// Calls on compute lanes, by name, in the order of their ends.
struct CallTrace : Trace {
  struct Slice {
    std::string name;
    double start, end;
  };
  std::vector<Slice> calls;

  void call(std::uint32_t, std::uint32_t, const std::string &name, double start,
            double end, std::uint64_t, const tombolo::plan::v1::Call &,
            std::span<const std::int64_t>) override {
    calls.push_back({name, start, end});
  }
};

// Replicas that compute at once on one core have a part of it each; the figures
// and the trace are of what that takes.
TEST(Simulate, ReplicasOnOneCoreTakeTheSum) {
  for (std::uint64_t replicas : {2, 3}) {
    PipelineModel model;
    model.replicas = replicas;
    model.microbatches = 6 * replicas;
    model.update = 0.5;
    model.chipsPerNode = replicas;
    model.coresPerNode = 1;
    CallTrace trace;
    SimOptions options;
    options.steps = 1;
    options.trace = &trace;
    SimResult result = simulate(pipelinePlan(model), options);
    double n = static_cast<double>(replicas), own = 6 * 3 + 0.5;
    // The sums of losses are two elements over rings of 1e9 bytes/s.
    EXPECT_NEAR(result.seconds, n * own, 1e-6);
    ASSERT_EQ(result.islands[0].classes.size(), 1u);
    EXPECT_NEAR(result.islands[0].classes[0].busySeconds, n * own, 1e-6);
    ASSERT_EQ(trace.calls.size(), 13u);
    EXPECT_EQ(trace.calls[0].name, "forward");
    EXPECT_NEAR(trace.calls[0].end - trace.calls[0].start, n, 1e-9);
    EXPECT_EQ(trace.calls[1].name, "backward");
    EXPECT_NEAR(trace.calls[1].start, trace.calls[0].end, 1e-9);
    EXPECT_NEAR(trace.calls[1].end - trace.calls[1].start, 2 * n, 1e-9);
    // As many cores as chips are one for each.
    model.coresPerNode = replicas;
    EXPECT_NEAR(simulated(model).seconds, own, 1e-6);
  }
}

// While one stage waits the others have its part of the core, so no bubble is
// left: where transfers take no time some stage always has work.
TEST(Simulate, StagesOnOneCoreHaveNoBubble) {
  for (auto schedule : {PipelineModel::OneFOneB, PipelineModel::ZeroBubble})
    for (std::uint32_t stages : {2, 4})
      for (std::uint64_t microbatches : {1, 4, 9}) {
        PipelineModel model;
        model.schedule = schedule;
        model.stages = stages;
        model.microbatches = microbatches;
        model.chipsPerNode = stages;
        model.coresPerNode = 1;
        double m = static_cast<double>(microbatches), p = stages;
        EXPECT_NEAR(simulated(model).seconds, p * m * 3, 1e-6);
      }
}

// A message takes its part of the core at either end, and two ends on one core
// take it after one another where that is longer than the wire.
TEST(Simulate, MessagesTakeTheCoresOfBothEnds) {
  PipelineModel model;
  model.stages = 2;
  model.microbatches = 1;
  model.boundaryBytes = 500000000; // half a second there, half a second back
  model.chipsPerNode = 2;
  model.coresPerNode = 2;
  model.messagePart = 1;
  EXPECT_NEAR(simulated(model).seconds, 2 * 3 + 2 * 0.5, 1e-6);
  model.coresPerNode = 1;
  EXPECT_NEAR(simulated(model).seconds, 2 * 3 + 2 * 1.0, 1e-6);
  // Nothing is hidden behind calls: the core has both to do.
  model.microbatches = 4;
  EXPECT_NEAR(simulated(model).seconds, 4 * (2 * 3 + 2 * 1.0), 1e-6);
  model.messagePart = 0.75;
  EXPECT_NEAR(simulated(model).seconds, 4 * (2 * 3 + 2 * 0.75), 1e-6);
  // Without host_work what computes alone takes the core.
  model.messagePart = 0;
  EXPECT_LT(simulated(model).seconds, 4 * 2 * 3 + 1.5);
}

// Latency inside a node is work of the cores.
TEST(Simulate, LatencyTakesTheCoresOfBothEnds) {
  PipelineModel model;
  model.stages = 2;
  model.microbatches = 1;
  model.boundaryBytes = 400000000;
  model.intraLatency = 0.1;
  model.chipsPerNode = 2;
  model.coresPerNode = 1;
  model.messagePart = 0.75;
  // Beside the messages two steps of a ring, for the loss.
  double messages = 2 * 0.5, sum = 2 * 0.1;
  EXPECT_NEAR(simulated(model).seconds, 2 * 3 + 2 * 0.75 * (messages + sum),
              1e-6);
  model.messagePart = 0.25; // then the wire is longer
  EXPECT_NEAR(simulated(model).seconds, 2 * 3 + messages + sum, 1e-6);
}

// In a ring each rank's core does its part of each step.
TEST(Simulate, SumsTakeTheCoresOfAllMembers) {
  PipelineModel model;
  model.replicas = 2;
  model.microbatches = 4;
  model.gradientElements = 125000000; // half a second on a wire of one's own
  model.chipsPerNode = 2;
  model.coresPerNode = 2;
  model.messagePart = 1;
  EXPECT_NEAR(simulated(model).seconds, 2 * 3 + 0.5, 1e-6);
  model.coresPerNode = 1;
  EXPECT_NEAR(simulated(model).seconds, 2 * (2 * 3 + 0.5), 1e-6);
  // Where a ring gets half of the wire its steps take twice as long, for the
  // cores too.
  Plan plan = pipelinePlan(model);
  auto &pool = *plan.mutable_topology()->mutable_sites(0)->mutable_pools(0);
  pool.mutable_intra_node_ring()->set_bytes_per_second(model.intraRate / 2);
  EXPECT_NEAR(simulate(plan, {}).seconds, 2 * (2 * 3 + 1.0), 1e-6);
}

/// Two islands that exchange 1000 parameters of each stage every fourth step
/// beside training, on cores of hosts that have no others for the server.
PipelineModel exchangingOnCores() {
  PipelineModel model;
  model.islands = 2;
  model.innerSteps = 4;
  model.overlapSteps = 2;
  model.parameters = 1000;
  model.lineRate = 1e9;
  model.serverRate = 0;
  model.messagePart = 1;
  return model;
}

// An exchange takes a rank's core for what it pushes and pulls, and where the
// server is that of the server's work too; there the island is slower.
TEST(Simulate, ExchangesTakeTheCoresThatTrain) {
  PipelineModel model = exchangingOnCores();
  model.coresPerNode = 8;
  Plan plan = pipelinePlan(model);
  SimOptions options;
  options.steps = 40;
  double without = simulate(plan, options).seconds;
  auto &work = *plan.mutable_topology()->mutable_host_work();
  work.set_rank_seconds_per_element(1e-4);
  double rank = 1000 * 1e-4;
  EXPECT_NEAR(simulate(plan, options).seconds, without + 10 * rank, 1e-6);
  work.set_seconds_per_byte(1e-5); // of 4 bytes an element, there and back
  rank += 1000 * 8 * 1e-5;
  double server = 2 * 1000 * 8 * 1e-5;
  work.set_server_seconds_per_element(1e-3);
  server += (2 + 2) * 1000 * 1e-3; // on one of eight cores
  EXPECT_NEAR(simulate(plan, options).seconds,
              without + 10 * (rank + server / 8), 1e-6);
  // A backup makes every version again, on its own island's cores.
  plan.mutable_server()->mutable_placements(0)->set_backup("site1");
  double copy = 3 * 1000 * 4 * 1e-5;
  EXPECT_NEAR(simulate(plan, options).seconds,
              without + 10 * (rank + (server + copy) / 8), 1e-3);
  plan.mutable_server()->mutable_placements(0)->clear_backup();
  // A server with machines of its own takes nothing of them.
  for (auto &site : *plan.mutable_topology()->mutable_sites())
    site.set_server_bytes_per_second(1e30);
  EXPECT_NEAR(simulate(plan, options).seconds, without + 10 * rank, 1e-6);
  // Chips that are no cores of the host lose nothing.
  for (auto &site : *plan.mutable_topology()->mutable_sites())
    site.mutable_pools(0)->set_cores_per_node(0);
  EXPECT_NEAR(simulate(plan, options).seconds, without, 1e-6);
}

// What two ranks on one core push and pull it does one after the other.
TEST(Simulate, ExchangesOfRanksOnOneCoreAddUp) {
  PipelineModel model = exchangingOnCores();
  model.stages = 2;
  model.chipsPerNode = 2;
  model.coresPerNode = 1;
  Plan plan = pipelinePlan(model);
  SimOptions options;
  options.steps = 40;
  double without = simulate(plan, options).seconds;
  auto &work = *plan.mutable_topology()->mutable_host_work();
  work.set_rank_seconds_per_element(1e-3);
  EXPECT_NEAR(simulate(plan, options).seconds, without + 10 * 2 * 1.0, 1e-6);
}

// Of three chips on two cores the first and the third share one.
TEST(Simulate, ChipsAreDealtToCoresInTurn) {
  PipelineModel model;
  model.stages = 2;
  model.replicasOf = {2, 1};
  model.microbatches = 12;
  model.chipsPerNode = 3;
  model.coresPerNode = 2;
  double seconds = simulated(model).seconds;
  EXPECT_GE(seconds, 6 * 3 + 12 * 3);
  EXPECT_LT(seconds, 6 * 3 + 12 * 3 + 6);
}

// A step takes at least what the core with most work has to do, and, where
// transfers take no time, at most what all cores have: one of them works.
TEST(Simulate, AStepTakesWhatTheBusiestCoreComputes) {
  std::mt19937_64 random(7);
  auto pick = [&](std::initializer_list<std::uint64_t> from) {
    return *(from.begin() + random() % from.size());
  };
  for (int i = 0; i < 60; ++i) {
    PipelineModel model;
    model.stages = static_cast<std::uint32_t>(pick({1, 2, 3, 4}));
    for (std::uint32_t s = 0; s < model.stages; ++s)
      model.replicasOf.push_back(pick({1, 2, 3, 4}));
    // Stages with more replicas than the ones before would wait for themselves
    // in this order of calls.
    std::sort(model.replicasOf.rbegin(), model.replicasOf.rend());
    model.tensorParallel = pick({1, 2});
    model.microbatches = 12;
    model.update = 0.5;
    model.chipsPerNode = pick({2, 3, 5, 8});
    model.coresPerNode = 1 + random() % (model.chipsPerNode - 1);
    model.nodes = 32;
    std::vector<double> cores(model.nodes * model.coresPerNode);
    std::uint64_t chip = 0;
    double all = 0;
    for (std::uint64_t replicas : model.replicasOf)
      for (std::uint64_t r = 0; r < replicas * model.tensorParallel; ++r) {
        double work = 12.0 / static_cast<double>(replicas) * 3 + 0.5;
        cores[chip / model.chipsPerNode * model.coresPerNode +
              chip % model.chipsPerNode % model.coresPerNode] += work;
        all += work;
        ++chip;
      }
    double most = *std::max_element(cores.begin(), cores.end());
    double seconds = simulated(model).seconds;
    EXPECT_GE(seconds, most * (1 - 1e-9)) << "case " << i;
    EXPECT_LE(seconds, all + 1e-5) << "case " << i;
  }
}

TEST(Simulate, StragglersHoldUpTheirStage) {
  PipelineModel model;
  model.replicas = 4;
  model.microbatches = 8;
  SimOptions options;
  options.stragglers.push_back(parseStraggler("site0/pool:2=1.5"));
  SimResult result = simulate(pipelinePlan(model), options);
  EXPECT_NEAR(result.seconds, 2 * 3 * 1.5, 1e-6);
  EXPECT_EQ(result.islands[0].classes.size(), 2u);
}

TEST(Simulate, JitterDependsOnTheSeed) {
  PipelineModel model;
  model.stages = 2;
  model.replicas = 4;
  model.microbatches = 32;
  SimOptions options;
  options.jitter = 0.05;
  options.steps = 3;
  Plan plan = pipelinePlan(model);
  double first = simulate(plan, options).seconds;
  EXPECT_EQ(first, simulate(plan, options).seconds);
  options.seed = 1;
  EXPECT_NE(first, simulate(plan, options).seconds);
  // The slowest replica decides.
  EXPECT_GT(first, 3 * 27.0);
  EXPECT_LT(first, 3 * 27.0 * 1.2);
}

TEST(Simulate, NamesWhoWaitsForWhom) {
  PipelineModel model;
  model.stages = 2;
  Plan plan = pipelinePlan(model);
  // The first stage does not send before a gradient has come.
  for (Instruction &i : *plan.mutable_programs(0)->mutable_step())
    if (i.has_send())
      wait(i, 1, constant(1));
  expectError([&] { simulate(plan, {}); }, "deadlock: rank 0 (stage 0) lane");
  expectError([&] { simulate(plan, {}); }, "and so round");
}

TEST(Simulate, WantsATopology) {
  Plan plan = pipelinePlan({});
  plan.clear_topology();
  expectError([&] { simulate(plan, {}); }, "the plan has no topology");
}

} // namespace
