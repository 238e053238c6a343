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

#include <array>
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

TinyModel tensorParallel() {
  TinyModel model;
  model.tensorParallel = 2;
  model.replicas = 2;
  model.shardedOptimizer = true;
  model.momentum = 0.5;
  return model;
}

TEST(Validate, AcceptsTensorParallelPlans) {
  Plan plan = tinyPlan(tensorParallel());
  EXPECT_NO_THROW(validatePlan(plan));
  addServer(plan, 3);
  EXPECT_NO_THROW(validatePlan(plan));
  plan = tinyPlan(twoStages());
  widenFirstStage(plan);
  EXPECT_NO_THROW(validatePlan(plan));
}

// The owners' slices need not be listed run by run: millions of runs that fill
// the parameter are seen to do so.
TEST(Validate, FindsOwnersOfStridedSlices) {
  auto sliced = [](std::vector<std::array<std::uint64_t, 5>> slices) {
    Plan plan = tinyPlan(tensorParallel());
    ParameterFamily &family = *plan.mutable_programs(0)->mutable_parameters(0);
    // A fused weight [1 << 20, 3 x 4], each third split by columns.
    family.set_dims(0, 1 << 20);
    family.set_dims(1, 12);
    family.clear_slices();
    for (auto [begin, length, count, stride, tensor] : slices) {
      Slice &slice = *family.add_slices();
      slice.set_begin(begin);
      slice.set_length(length);
      slice.set_count(count);
      slice.set_stride(stride);
      slice.set_tensor_stride(tensor);
    }
    Program &program = *plan.mutable_programs(0);
    program.set_arena_bytes(std::uint64_t{1} << 30);
    family.set_address(std::uint64_t{1} << 28);
    program.mutable_regions(0)->set_offset(std::uint64_t{1} << 28);
    program.mutable_regions(0)->set_bytes(std::uint64_t{1} << 28);
    program.mutable_states(0)->set_part_bytes(std::uint64_t{1} << 28);
    return plan;
  };
  std::uint64_t rows = 1 << 20;
  EXPECT_NO_THROW(validatePlan(
      sliced({{0, 2, rows, 12, 2}, {4, 2, rows, 12, 2}, {8, 2, rows, 12, 2}})));
  EXPECT_NO_THROW(validatePlan(sliced({{0, 2, rows * 3, 4, 2}})));
  EXPECT_NO_THROW(validatePlan(sliced({{0, rows * 6, 1, 0, rows * 6}})));
  expectError(
      [&] {
        validatePlan(sliced(
            {{0, 2, rows, 12, 2}, {4, 2, rows, 12, 2}, {6, 2, rows, 12, 2}}));
      },
      "element 6 has two owners");
  expectError(
      [&] {
        validatePlan(sliced({{0, 2, rows, 12, 2}, {4, 2, rows, 12, 2}}));
      },
      "element 8 has no owner");
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
    {"loopBeginsBelowZero",
     [](Plan &p) {
       first(p, Instruction::kLoop)
           .mutable_loop()
           ->mutable_first()
           ->set_constant(-1);
     },
     "a loop that begins at -1"},
    {"loopBeginsAtItself",
     [](Plan &p) {
       Loop &loop = *first(p, Instruction::kLoop).mutable_loop();
       Term &term = *loop.mutable_first()->add_terms();
       term.set_variable(loop.variable());
       term.set_factor(1);
     },
     "belongs to no loop around"},
    {"fragmentsOfTooFew",
     [](Plan &p) {
       p.mutable_programs(0)->mutable_parameters(0)->add_fragments()->set_count(
           7);
     },
     "its fragments have 7 parameters"},
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
     "expected host_bytes of 512"},
    {"innerStepsBelowFragments",
     [](Plan &p) {
       addServer(p, 3);
       p.mutable_server()->set_fragments(3);
       p.mutable_islands(0)->set_inner_steps(2);
     },
     "inner_steps 2 is below the 3 fragments"},
    {"turnOfAnotherIsland",
     [](Plan &p) {
       addServer(p, 3);
       p.mutable_islands(0)->set_inner_steps(4);
     },
     "guard: expected 0 modulo 4, the inner_steps of island 0, got 0 modulo 3"},
    {"turnOfAnotherFragment",
     [](Plan &p) {
       addServer(p, 3);
       p.mutable_server()->set_overlap_steps(1);
     },
     "guard: expected 1 modulo 3"},
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

const Fault kTensorFaults[] = {
    {"partsPastArena",
     [](Plan &p) {
       p.mutable_programs(0)->mutable_states(0)->set_part_bytes(1 << 20);
     },
     "lies outside the arena"},
    {"partsTooSmall",
     [](Plan &p) {
       p.mutable_programs(0)->mutable_states(0)->set_part_bytes(4);
     },
     "is held of 2 x 4 only"},
    {"partsUneven",
     [](Plan &p) {
       p.mutable_programs(0)->mutable_states(0)->set_part_bytes(66);
     },
     "no multiple of 4"},
    {"tensorStride",
     [](Plan &p) {
       p.mutable_programs(0)
           ->mutable_parameters(0)
           ->mutable_slices(0)
           ->set_tensor_stride(5);
     },
     "slice reaches"},
    {"tensorStrideOverflows",
     [](Plan &p) {
       p.mutable_programs(0)
           ->mutable_parameters(0)
           ->mutable_slices(0)
           ->set_tensor_stride(~0ull);
     },
     "too large"},
    {"halfWithoutOwner",
     [](Plan &p) {
       p.mutable_programs(0)
           ->mutable_parameters(0)
           ->mutable_slices(0)
           ->set_tensor_stride(0);
     },
     "element 4 has no owner"},
    {"tensorIndexAddress",
     [](Plan &p) { p.mutable_programs(0)->set_tensor_index_address(4); },
     "tensor_index_address"},
    {"coordinatePastArena",
     [](Plan &p) {
       Expr &address =
           *first(p, Instruction::kCall).mutable_call()->mutable_arguments(0);
       address = plus(address, COORDINATE_REPLICA, 1 << 20);
     },
     "outside the arena"},
    {"coordinateOfAWait",
     [](Plan &p) {
       Instruction &step = first(p, Instruction::kCollective);
       wait(step, 0, plus(constant(0), COORDINATE_TENSOR_INDEX, 1));
     },
     "must be the same on all ranks"},
    {"coordinateUnknown",
     [](Plan &p) {
       first(p, Instruction::kCall)
           .mutable_call()
           ->mutable_arguments(0)
           ->add_terms()
           ->set_coordinate(static_cast<Coordinate>(9));
     },
     "unknown coordinate 9"},
    {"divisorHuge",
     [](Plan &p) {
       first(p, Instruction::kCall)
           .mutable_call()
           ->mutable_arguments(0)
           ->set_divisor(~0ull);
     },
     "divisor is too large"},
    {"divisorUnaligned",
     [](Plan &p) {
       Expr &address =
           *first(p, Instruction::kCall).mutable_call()->mutable_arguments(0);
       address = plus(constant(0), COORDINATE_REPLICA, 4);
       address.set_divisor(3);
     },
     "not always a multiple of 4"},
    {"collectiveParts",
     [](Plan &p) {
       Collective &c = *first(p, Instruction::kCollective).mutable_collective();
       c.set_kind(Collective::KIND_ALL_TO_ALL);
       c.set_elements(31);
     },
     "31 elements are no equal parts for 2 ranks"},
    {"collectiveKind",
     [](Plan &p) {
       first(p, Instruction::kCollective)
           .mutable_collective()
           ->set_kind(static_cast<Collective::Kind>(9));
     },
     "unknown kind 9"},
    {"collectiveSumOfIntegers",
     [](Plan &p) {
       Collective &c = *first(p, Instruction::kCollective).mutable_collective();
       c.set_kind(Collective::KIND_REDUCE_SCATTER_SUM);
       c.set_dtype(DTYPE_I32);
     },
     "expected f32 or bf16, got i32"},
    {"collectiveDtype",
     [](Plan &p) {
       first(p, Instruction::kCollective)
           .mutable_collective()
           ->set_dtype(DTYPE_UNSPECIFIED);
     },
     "unknown dtype"},
    {"replicasOfUnlikeDegree",
     [](Plan &p) {
       Stage &stage = *p.mutable_islands(0)->mutable_stages(0);
       *stage.add_groups() = stage.groups(0);
       stage.mutable_groups(0)->set_count(1);
       stage.mutable_groups(1)->set_count(1);
       stage.mutable_groups(1)->set_tensor_parallel(1);
     },
     "differ in tensor-parallel degree"},
};

const Fault kWidenedFaults[] = {
    {"noTensorIndex",
     [](Plan &p) {
       first(p, Instruction::kSend).mutable_send()->clear_tensor_index();
     },
     "names no tensor index"},
    {"tensorIndexTooLarge",
     [](Plan &p) {
       *first(p, Instruction::kSend).mutable_send()->mutable_tensor_index() =
           plus(constant(0), COORDINATE_TENSOR_INDEX, 1);
     },
     "tensor_index 1 does not exist: stage 1 has 1"},
    {"tensorIndexNegative",
     [](Plan &p) {
       *first(p, Instruction::kSend).mutable_send()->mutable_tensor_index() =
           constant(-1);
     },
     "tensor_index -1 does not exist"},
    {"tensorIndexOfALoop",
     [](Plan &p) {
       *first(p, Instruction::kSend).mutable_send()->mutable_tensor_index() =
           linear(0, 0, 0);
     },
     "belongs to no loop around"},
};

class ValidateTensorFault : public testing::TestWithParam<Fault> {};

TEST_P(ValidateTensorFault, IsFound) {
  Plan plan = tinyPlan(tensorParallel());
  GetParam().damage(plan);
  expectError([&] { validatePlan(plan); }, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(All, ValidateTensorFault,
                         testing::ValuesIn(kTensorFaults),
                         [](const auto &info) { return info.param.name; });

class ValidateWidenedFault : public testing::TestWithParam<Fault> {};

TEST_P(ValidateWidenedFault, IsFound) {
  Plan plan = tinyPlan(twoStages());
  widenFirstStage(plan);
  GetParam().damage(plan);
  expectError([&] { validatePlan(plan); }, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(All, ValidateWidenedFault,
                         testing::ValuesIn(kWidenedFaults),
                         [](const auto &info) { return info.param.name; });

class ValidateFault : public testing::TestWithParam<Fault> {};

TEST_P(ValidateFault, IsFound) {
  Plan plan = tinyPlan(twoStages());
  GetParam().damage(plan);
  expectError([&] { validatePlan(plan); }, GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(All, ValidateFault, testing::ValuesIn(kFaults),
                         [](const auto &info) { return info.param.name; });

/// Two stages of two chunks each, as a compiler would say it.
Plan saidPlan() {
  Plan plan = tinyPlan(twoStages());
  Pipeline &pipeline = *plan.mutable_islands(0)->mutable_pipeline();
  pipeline.set_schedule(Pipeline::SCHEDULE_INTERLEAVED);
  for (int s = 0; s < 2; ++s) {
    PipelineStage &stage = *pipeline.add_stages();
    stage.set_recomputed_blocks(3);
    for (int c = 0; c < 2; ++c) {
      BlockRun &run = *stage.add_chunks()->add_runs();
      run.set_block("layer");
      run.set_count(2);
    }
  }
  return plan;
}

// No executor goes by it, but who exports a plan does.
TEST(Validate, ChecksWhatProgramsWereMadeFrom) {
  EXPECT_NO_THROW(validatePlan(saidPlan()));
  using Damage = std::function<void(Pipeline &)>;
  const std::pair<Damage, const char *> faults[] = {
      {[](Pipeline &p) { p.clear_schedule(); }, "unknown schedule 0"},
      {[](Pipeline &p) { p.set_schedule(Pipeline::Schedule(9)); },
       "unknown schedule 9"},
      {[](Pipeline &p) { p.mutable_stages()->RemoveLast(); },
       "has 1 stages, expected those of the island, 2"},
      {[](Pipeline &p) { p.mutable_stages(1)->mutable_chunks()->RemoveLast(); },
       "stage 1: has 1 chunks"},
      {[](Pipeline &p) {
         for (PipelineStage &stage : *p.mutable_stages())
           stage.clear_chunks();
       },
       "stage 0: has 0 chunks"},
      {[](Pipeline &p) {
         p.mutable_stages(0)->mutable_chunks(1)->clear_runs();
       },
       "stage 0: a chunk has no blocks"},
      {[](Pipeline &p) {
         // Each could be; all together are too many.
         for (PipelineStage &stage : *p.mutable_stages())
           stage.mutable_chunks(1)->mutable_runs(0)->set_count(1 << 19);
       },
       "unusable number of blocks"},
      {[](Pipeline &p) {
         p.mutable_stages(0)->mutable_chunks(1)->mutable_runs(0)->set_block(
             "a\nb");
       },
       "control character"},
      {[](Pipeline &p) { p.mutable_stages(1)->set_recomputed_blocks(5); },
       "stage 1: recomputes 5 of 4 blocks"}};
  for (const auto &[damage, message] : faults) {
    Plan plan = saidPlan();
    damage(*plan.mutable_islands(0)->mutable_pipeline());
    expectError([&] { validatePlan(plan); }, message);
  }
}

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
