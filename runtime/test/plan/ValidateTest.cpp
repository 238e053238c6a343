//===- ValidateTest.cpp - each kind of fault in a plan is found -----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/plan/Validate.h"

#include "Expect.h"
#include "PlanBuilder.h"

#include <cmath>
#include <cstdlib>
#include <functional>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

TinyModel twoStages() {
  TinyModel model;
  model.stages = 2;
  model.replicas = 2;
  return model;
}

TEST(Validate, AcceptsGoodPlans) {
  EXPECT_NO_THROW(validatePlan(tinyPlan({})));
  EXPECT_NO_THROW(validatePlan(tinyPlan(twoStages())));
  Plan withServer = tinyPlan(twoStages());
  addServer(withServer, 3);
  EXPECT_NO_THROW(validatePlan(withServer));
}

struct Fault {
  const char *name;
  std::function<void(Plan &)> damage;
  const char *message;
};

Instruction &first(Plan &plan, Instruction::ActionCase kind) {
  std::function<Instruction *(Body &)> search = [&](Body &body) {
    for (Instruction &i : body) {
      if (i.action_case() == kind)
        return &i;
      if (i.has_loop())
        if (Instruction *found = search(*i.mutable_loop()->mutable_body()))
          return found;
    }
    return static_cast<Instruction *>(nullptr);
  };
  for (Program &program : *plan.mutable_programs())
    if (Instruction *found = search(*program.mutable_step()))
      return *found;
  std::abort();
}

const Fault kFaults[] = {
    {"version", [](Plan &p) { p.set_format_version(2); },
     "expected plan format version 1, got 2"},
    {"modelHash", [](Plan &p) { p.set_model_hash("x"); }, "model_hash"},
    {"noIsland", [](Plan &p) { p.clear_islands(); }, "no islands"},
    {"batch", [](Plan &p) { p.mutable_islands(0)->set_microbatch(3); },
     "no multiple of microbatch"},
    {"globalBatch", [](Plan &p) { p.mutable_training()->set_global_batch(9); },
     "add up to"},
    {"noOptimizer", [](Plan &p) { p.mutable_training()->clear_sgd(); },
     "no optimizer"},
    {"notFinite", [](Plan &p) { p.mutable_training()->set_learning_rate(NAN); },
     "learning_rate"},
    {"programIndex",
     [](Plan &p) {
       p.mutable_islands(0)->mutable_stages(0)->mutable_groups(0)->set_program(
           7);
     },
     "program 7 does not exist"},
    {"noReplicas",
     [](Plan &p) {
       p.mutable_islands(0)->mutable_stages(0)->mutable_groups(0)->set_count(0);
     },
     "unusable count"},
    {"unevenDeal",
     [](Plan &p) {
       p.mutable_islands(0)->mutable_stages(0)->mutable_groups(0)->set_count(3);
     },
     "cannot be dealt evenly"},
    {"twoIslandsNoServer",
     [](Plan &p) {
       *p.add_islands() = p.islands(0);
       p.mutable_training()->set_global_batch(8);
     },
     "no server"},
    {"segmentIndex",
     [](Plan &p) {
       first(p, Instruction::kCall).mutable_call()->set_segment(99);
     },
     "segment 99 does not exist"},
    {"argumentCount",
     [](Plan &p) {
       first(p, Instruction::kCall).mutable_call()->add_arguments();
     },
     "arguments, got"},
    {"addressPastArena",
     [](Plan &p) {
       first(p, Instruction::kCall)
           .mutable_call()
           ->mutable_arguments(0)
           ->set_constant(1 << 30);
     },
     "outside the arena"},
    {"addressNegativeInLastIteration",
     [](Plan &p) {
       *first(p, Instruction::kLoad).mutable_load()->mutable_address() =
           linear(32, 0, -64);
     },
     "outside the arena"},
    {"addressOverflows",
     [](Plan &p) {
       *first(p, Instruction::kLoad).mutable_load()->mutable_address() =
           linear(INT64_MAX, 0, 1 << 20);
     },
     "overflows"},
    {"addressMisaligned",
     [](Plan &p) {
       first(p, Instruction::kLoad)
           .mutable_load()
           ->mutable_address()
           ->set_constant(4);
     },
     "multiple of 8"},
    {"negativeModulo",
     [](Plan &p) {
       *first(p, Instruction::kLoad).mutable_load()->mutable_address() =
           linear(0, 0, 64, -1, 2);
     },
     "negative number modulo"},
    {"foreignVariable",
     [](Plan &p) {
       *first(p, Instruction::kCall).mutable_call()->mutable_arguments(0) =
           linear(0, 5, 8);
     },
     "belongs to no loop"},
    {"microbatch",
     [](Plan &p) {
       *first(p, Instruction::kLoad).mutable_load()->mutable_microbatch() =
           linear(1, 0, 1);
     },
     "does not exist"},
    {"inputIndex",
     [](Plan &p) { first(p, Instruction::kLoad).mutable_load()->set_input(2); },
     "input 2 does not exist"},
    {"semaphore", [](Plan &p) { first(p, Instruction::kCall).add_signals(99); },
     "semaphore 99 does not exist"},
    {"lane",
     [](Plan &p) { first(p, Instruction::kCall).set_lane(LANE_COLLECTIVE); },
     "wrong lane"},
    {"guard",
     [](Plan &p) {
       first(p, Instruction::kCall).mutable_guard()->set_modulus(0);
     },
     "guard"},
    {"stageOfTransfer",
     [](Plan &p) { first(p, Instruction::kSend).mutable_send()->set_stage(9); },
     "stage 9 does not exist"},
    {"transferToItself",
     [](Plan &p) { first(p, Instruction::kSend).mutable_send()->set_stage(0); },
     "stage itself"},
    {"transferBytes",
     [](Plan &p) { first(p, Instruction::kSend).mutable_send()->set_bytes(0); },
     "unusable size"},
    {"collectiveGroup",
     [](Plan &p) {
       first(p, Instruction::kCollective)
           .mutable_collective()
           ->set_group(Collective::GROUP_UNSPECIFIED);
     },
     "unknown group"},
    {"collectiveRange",
     [](Plan &p) {
       first(p, Instruction::kCollective)
           .mutable_collective()
           ->set_elements(1 << 20);
     },
     "outside the arena"},
    {"emptyInstruction",
     [](Plan &p) { p.mutable_programs(0)->add_step()->set_lane(LANE_COMPUTE); },
     "no action"},
    {"loopTwice",
     [](Plan &p) {
       Program &program = *p.mutable_programs(0);
       for (int i = 0; i < program.step_size(); ++i)
         if (program.step(i).has_loop()) {
           *program.add_step() = program.step(i);
           return;
         }
     },
     "stands twice in the program"},
    {"loopCount",
     [](Plan &p) { first(p, Instruction::kLoop).mutable_loop()->set_count(0); },
     "unusable loop count"},
    {"pushWithoutServer",
     [](Plan &p) {
       Instruction *i = p.mutable_programs(0)->add_step();
       i->set_lane(LANE_EXCHANGE);
       i->mutable_push();
     },
     "no server"},
    {"valueOutsideArgument",
     [](Plan &p) {
       p.mutable_segments(0)->mutable_values(0)->set_dims(0, 999);
     },
     "outside its storage"},
    {"valueOfNoArgument",
     [](Plan &p) {
       p.mutable_segments(0)->mutable_values(0)->set_argument(44);
     },
     "argument 44 does not exist"},
    {"hugeDimension",
     [](Plan &p) {
       p.mutable_segments(0)->mutable_values(0)->set_dims(0, UINT64_MAX);
     },
     "too large"},
    {"zeroDimension",
     [](Plan &p) { p.mutable_segments(0)->mutable_values(0)->set_dims(0, 0); },
     "positive"},
    {"opValue",
     [](Plan &p) { p.mutable_segments(0)->mutable_ops(0)->set_inputs(0, 50); },
     "value 50 does not exist"},
    {"writesReadOnly",
     [](Plan &p) {
       p.mutable_segments(0)->mutable_arguments(0)->set_access(ACCESS_READ);
     },
     "read-only"},
    {"readsWriteOnly",
     [](Plan &p) {
       p.mutable_segments(0)->mutable_arguments(0)->set_access(ACCESS_WRITE);
     },
     "write-only and not yet written"},
    {"parameterOutside",
     [](Plan &p) {
       p.mutable_programs(0)->mutable_parameters(0)->set_address(1 << 28);
     },
     "outside the arena"},
    {"parameterNotInRegion",
     [](Plan &p) {
       p.mutable_programs(0)->mutable_parameters(0)->set_address(256);
     },
     "not in the region 'parameters'"},
    {"sliceOutside",
     [](Plan &p) {
       Slice *s = p.mutable_programs(0)->mutable_parameters(0)->add_slices();
       s->set_begin(60);
       s->set_length(8);
       s->set_count(1);
     },
     "slice reaches"},
    {"sliceOverflow",
     [](Plan &p) {
       Slice *s = p.mutable_programs(0)->mutable_parameters(0)->add_slices();
       s->set_length(1);
       s->set_count(UINT64_MAX);
       s->set_stride(UINT64_MAX);
     },
     "too large"},
    {"noOwner",
     [](Plan &p) {
       p.mutable_programs(0)->mutable_parameters(0)->set_owner(false);
     },
     "has no owner"},
    {"twoOwners",
     [](Plan &p) {
       *p.mutable_programs(1)->mutable_parameters(0)->mutable_names() =
           p.programs(0).parameters(0).names();
       p.mutable_programs(0)->mutable_parameters(0)->clear_dims();
       p.mutable_programs(0)->mutable_parameters(0)->add_dims(8);
     },
     "two owners"},
    {"controlCharacter",
     [](Plan &p) {
       p.mutable_programs(0)
           ->mutable_parameters(0)
           ->mutable_names()
           ->set_listed(0, "a\nb");
     },
     "control character"},
    {"statsAddress",
     [](Plan &p) { p.mutable_programs(0)->set_stats_address(~0ull); },
     "stats_address"},
    {"updatesAddress",
     [](Plan &p) { p.mutable_programs(0)->set_updates_address(4); },
     "updates_address"},
    {"region",
     [](Plan &p) {
       p.mutable_programs(0)->mutable_regions(0)->set_bytes(~0ull);
     },
     "outside the arena"},
    {"hostBytesWithoutServer",
     [](Plan &p) { p.mutable_programs(0)->set_host_bytes(256); },
     "expected host_bytes of 0"},
    {"hostBytesWithServer",
     [](Plan &p) {
       addServer(p, 3);
       p.mutable_programs(0)->set_host_bytes(252);
     },
     "expected host_bytes of 256"},
    {"aliasedArguments",
     [](Plan &p) {
       Call &call = *first(p, Instruction::kLoop)
                         .mutable_loop()
                         ->mutable_body(1)
                         ->mutable_call();
       *call.mutable_arguments(2) = call.arguments(0);
     },
     "overlap and one is written"},
};

class ValidateFault : public testing::TestWithParam<Fault> {};

TEST_P(ValidateFault, IsFound) {
  Plan plan = tinyPlan(twoStages());
  GetParam().damage(plan);
  expectError([&] { validatePlan(plan); }, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(All, ValidateFault, testing::ValuesIn(kFaults),
                         [](const auto &info) { return info.param.name; });

// Deep nesting is refused before it exhausts the stack.
TEST(Validate, RefusesDeepNesting) {
  Plan plan = tinyPlan({});
  Body *body = plan.mutable_programs(0)->mutable_step();
  for (std::uint32_t i = 0; i < 60; ++i)
    body = &loop(*body, 100 + i, 1);
  expectError([&] { validatePlan(plan); }, "nested more than");
}

// A few bytes cannot make the reader list billions of pieces or iterations.
TEST(Validate, RefusesWhatWouldNotEnd) {
  Plan plan = tinyPlan({});
  Slice *slice = plan.mutable_programs(0)->mutable_parameters(0)->add_slices();
  slice->set_length(1);
  slice->set_count(std::uint64_t{1} << 40);
  slice->set_stride(1);
  plan.mutable_programs(0)->mutable_parameters(0)->set_dims(0, std::uint64_t{1}
                                                                   << 40);
  plan.mutable_programs(0)->set_arena_bytes(std::uint64_t{1} << 50);
  expectError([&] { validatePlan(plan); }, "pieces");
  plan = tinyPlan({});
  Body &outer = loop(*plan.mutable_programs(0)->mutable_step(), 50, 1 << 20);
  loop(outer, 51, 1 << 20);
  expectError([&] { validatePlan(plan); }, "run more than");
  plan = tinyPlan({});
  for (std::uint32_t variable : {50, 51, 52})
    loop(*plan.mutable_programs(0)->mutable_step(), variable, 1 << 23);
  expectError([&] { validatePlan(plan); }, "instructions and iterations");
  plan = tinyPlan({});
  plan.mutable_islands(0)->set_batch(std::uint64_t{1} << 30);
  plan.mutable_training()->set_global_batch(std::uint64_t{1} << 30);
  expectError([&] { validatePlan(plan); }, "are too many");
}

// Several terms of one variable are bounded together: i - i stays 0.
TEST(Validate, BoundsAddressesExactly) {
  Plan plan = tinyPlan({});
  Expr &address =
      *first(plan, Instruction::kLoad).mutable_load()->mutable_address();
  std::int64_t base = address.constant();
  address = linear(base, 0, 1 << 20);
  *address.add_terms() = linear(0, 0, -(1 << 20)).terms(0);
  EXPECT_NO_THROW(validatePlan(plan));
  address.mutable_terms(1)->set_factor(-(1 << 19));
  expectError([&] { validatePlan(plan); }, "outside the arena");
}

} // namespace
