//===- ProgressTest.cpp - deadlocks and mismatches are found --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/engine/Progress.h"
#include "tombolo/runtime/plan/Validate.h"

#include "Expect.h"
#include "PlanBuilder.h"

#include <chrono>
#include <functional>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

TinyModel pipeline(std::uint64_t replicas = 1) {
  TinyModel model;
  model.stages = 2;
  model.replicas = replicas;
  model.batch = 4 * replicas;
  return model;
}

/// Every instruction of `program`'s step for which `pick` holds.
void forEach(Program &program,
             const std::function<void(Instruction &)> &visit) {
  std::function<void(Body &)> walk = [&](Body &body) {
    for (Instruction &i : body)
      if (i.has_loop())
        walk(*i.mutable_loop()->mutable_body());
      else
        visit(i);
  };
  walk(*program.mutable_step());
}

TEST(Progress, AcceptsGoodPlans) {
  for (std::uint64_t replicas : {1, 2, 3}) {
    TinyModel one;
    one.replicas = replicas;
    one.batch = 4 * replicas;
    EXPECT_NO_THROW(checkProgress(tinyPlan(one)));
    EXPECT_NO_THROW(checkProgress(tinyPlan(pipeline(replicas))));
  }
}

// The second stage wants a gradient step before it has the activations.
TEST(Progress, ReportsTheCycle) {
  Plan plan = tinyPlan(pipeline());
  // Stage 0 does not send before the backward's receive has come, and the
  // backward needs what is sent.
  forEach(*plan.mutable_programs(0), [](Instruction &i) {
    if (i.has_send())
      wait(i, 4, constant(1));
  });
  validatePlan(plan);
  expectError([&] { checkProgress(plan); },
              "island 0: step 0: deadlock: rank 0 (stage 0) lane");
  expectError([&] { checkProgress(plan); }, "and so round");
  expectError([&] { checkProgress(plan); },
              "rank 1 (stage 1) lane receive-forward waits to receive "
              "microbatch 0 from rank 0");
}

TEST(Progress, ReportsASignalThatNeverComes) {
  Plan plan = tinyPlan({});
  forEach(*plan.mutable_programs(0), [](Instruction &i) {
    if (i.has_collective())
      wait(i, 5, constant(1));
  });
  expectError([&] { checkProgress(plan); },
              "waits for semaphore 5 to reach 1 (it is 0)");
}

TEST(Progress, ReportsAMissingReceive) {
  Plan plan = tinyPlan(pipeline());
  Program &first = *plan.mutable_programs(0);
  for (Instruction &i : *first.mutable_step())
    if (i.has_loop() && i.loop().variable() == 1)
      i.mutable_loop()->set_count(3);
  expectError([&] { checkProgress(plan); }, "deadlock");
}

TEST(Progress, ReportsSizesThatDiffer) {
  Plan plan = tinyPlan(pipeline());
  forEach(*plan.mutable_programs(1), [](Instruction &i) {
    if (i.has_receive())
      i.mutable_receive()->set_bytes(64);
  });
  validatePlan(plan);
  expectError([&] { checkProgress(plan); },
              "transfers 128 bytes while rank 1 (stage 1) lane receive-forward "
              "expects 64");
}

TEST(Progress, ReportsMicrobatchesThatDiffer) {
  Plan plan = tinyPlan(pipeline());
  forEach(*plan.mutable_programs(0), [](Instruction &i) {
    if (i.has_send())
      *i.mutable_send()->mutable_microbatch() = linear(3, 0, -1);
  });
  validatePlan(plan);
  expectError([&] { checkProgress(plan); }, "microbatch");
}

// Collectives of one group meet in the same order with the same sizes.
TEST(Progress, ReportsCollectivesThatDiffer) {
  Plan plan = tinyPlan(pipeline());
  forEach(*plan.mutable_programs(1), [](Instruction &i) {
    if (i.has_collective() &&
        i.collective().group() == Collective::GROUP_ISLAND)
      i.mutable_collective()->set_elements(1);
  });
  expectError([&] { checkProgress(plan); },
              "is in all_reduce_sum of 2 elements of f32 while rank 1");
  Plan swapped = tinyPlan(pipeline());
  auto &steps = *swapped.mutable_programs(1)->mutable_step();
  for (auto i = steps.begin(); i != steps.end();)
    i = i->has_collective() &&
                i->collective().group() == Collective::GROUP_ISLAND
            ? steps.erase(i)
            : std::next(i);
  expectError([&] { checkProgress(swapped); }, "deadlock");
}

// Collectives over a replica's ranks, and halves that cross tensor-parallel
// indices, are matched too.
TEST(Progress, AcceptsTensorParallelPlans) {
  TinyModel model;
  model.tensorParallel = 2;
  model.replicas = 2;
  model.shardedOptimizer = true;
  Plan plan = tinyPlan(model);
  validatePlan(plan);
  EXPECT_NO_THROW(checkProgress(plan));
  plan = tinyPlan(pipeline(2));
  widenFirstStage(plan);
  validatePlan(plan);
  EXPECT_NO_THROW(checkProgress(plan));
}

// Both halves from index 0: it is a microbatch ahead with the second.
TEST(Progress, ReportsAWrongTensorIndex) {
  Plan plan = tinyPlan(pipeline());
  widenFirstStage(plan);
  forEach(*plan.mutable_programs(1), [](Instruction &i) {
    if (i.has_receive())
      *i.mutable_receive()->mutable_tensor_index() = constant(0);
  });
  validatePlan(plan);
  expectError([&] { checkProgress(plan); },
              "is at microbatch 1 while rank 2 (stage 1) lane receive-forward");
}

// Members that enter groups in different orders wait for each other; what is
// over a replica on one rank is no reduction over replicas on another.
TEST(Progress, ReportsGroupsInDifferentOrders) {
  TinyModel model;
  model.tensorParallel = 2;
  model.replicas = 2;
  Plan plan = tinyPlan(model);
  *plan.add_programs() = plan.programs(0);
  Stage &stage = *plan.mutable_islands(0)->mutable_stages(0);
  stage.mutable_groups(0)->set_count(1);
  *stage.add_groups() = stage.groups(0);
  stage.mutable_groups(1)->set_program(1);
  Body &step = *plan.mutable_programs(1)->mutable_step();
  validatePlan(plan);
  EXPECT_NO_THROW(checkProgress(plan));
  allReduce(*plan.mutable_programs(0)->mutable_step(), Collective::GROUP_ISLAND,
            0, 1);
  allReduce(step, Collective::GROUP_REPLICAS, 0, 1);
  validatePlan(plan);
  expectError([&] { checkProgress(plan); }, "deadlock");
  step.rbegin()->mutable_collective()->set_group(Collective::GROUP_ISLAND);
  EXPECT_NO_THROW(checkProgress(plan));
  Collective &last = *step.rbegin()->mutable_collective();
  last.set_kind(Collective::KIND_ALL_GATHER);
  last.set_elements(4);
  expectError([&] { checkProgress(plan); },
              "is in all_gather of 4 elements of f32 while rank 0");
}

// What happens only in some steps is looked at in such a step.
TEST(Progress, LooksAtGuardedSteps) {
  Plan plan = tinyPlan(pipeline());
  Instruction &extra = allReduce(*plan.mutable_programs(0)->mutable_step(),
                                 Collective::GROUP_ISLAND, 0, 1);
  extra.mutable_guard()->set_modulus(5);
  extra.mutable_guard()->set_remainder(3);
  expectError([&] { checkProgress(plan); }, "step 2: deadlock");
}

// Equal replicas are run once: thousands cost about what one costs.
TEST(Progress, FoldsEqualReplicas) {
  EXPECT_NO_THROW(checkProgress(tinyPlan(pipeline(4096))));
}

// Microbatches that are dealt alike are looked at once, not one by one: a few
// bytes that ask for millions cost nothing but the instructions they run.
TEST(Progress, EndsForManyMicrobatchesAndGuards) {
  Plan plan = tinyPlan({});
  plan.mutable_islands(0)->set_batch(std::uint64_t{1} << 40);
  EXPECT_NO_THROW(checkProgress(plan));
  Program &program = *plan.mutable_programs(0);
  Instruction &last = *program.mutable_step()->rbegin();
  for (std::uint64_t modulus = 2; modulus < 300; ++modulus) {
    Instruction *step = program.add_step();
    *step = last;
    step->mutable_guard()->set_modulus(modulus);
  }
  expectError([&] { checkProgress(plan); }, "different guards");
  plan = tinyPlan({});
  Instruction body = plan.programs(0).step(0);
  while (body.has_loop())
    body = Instruction(body.loop().body(0));
  body.clear_waits();
  body.clear_signals();
  Body &hot = loop(*plan.mutable_programs(0)->mutable_step(), 60, 1 << 24);
  for (int i = 0; i < 8; ++i)
    *hot.Add() = body;
  expectError([&] { checkProgress(plan); }, "until it is known");
}

// Unequal stages (two replicas against three) are still matched exactly.
TEST(Progress, MatchesUnequalReplicaCounts) {
  TinyModel model = pipeline(2);
  model.batch = 12;
  Plan plan = tinyPlan(model);
  plan.mutable_islands(0)->mutable_stages(1)->mutable_groups(0)->set_count(3);
  Program &second = *plan.mutable_programs(1);
  for (Instruction &i : *second.mutable_step()) {
    if (i.has_loop())
      i.mutable_loop()->set_count(4);
    if (i.has_collective() && i.waits_size())
      i.mutable_waits(0)->mutable_value()->set_constant(4);
  }
  validatePlan(plan);
  EXPECT_NO_THROW(checkProgress(plan));
}

} // namespace
