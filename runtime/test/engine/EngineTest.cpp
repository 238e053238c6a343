//===- EngineTest.cpp - what may start when -------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/engine/Engine.h"

#include "PlanBuilder.h"

#include <gtest/gtest.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

Instruction &onLane(Body &body, Lane lane) {
  Instruction *step = body.Add();
  step->set_lane(lane);
  return *step;
}

// Each lane sees only its own instructions, with the loops around them.
TEST(Engine, WalksTheSharedLoopsPerLane) {
  Program program;
  Body &outer = loop(*program.mutable_step(), 0, 2);
  onLane(outer, LANE_COMPUTE);
  Body &inner = loop(outer, 1, 3);
  onLane(inner, LANE_COLLECTIVE);
  CompiledProgram compiled(program);
  Engine engine(compiled);
  int compute = 0;
  while (engine.next(LANE_COMPUTE).state == Engine::Next::Ready) {
    EXPECT_EQ(engine.next(LANE_COMPUTE).variables[0], compute++);
    engine.complete(LANE_COMPUTE);
  }
  EXPECT_EQ(compute, 2);
  EXPECT_FALSE(engine.done());
  int collective = 0;
  while (engine.next(LANE_COLLECTIVE).state == Engine::Next::Ready) {
    Engine::Next next = engine.next(LANE_COLLECTIVE);
    EXPECT_EQ(next.variables[0] * 3 + next.variables[1], collective++);
    engine.complete(LANE_COLLECTIVE);
  }
  EXPECT_EQ(collective, 6);
  EXPECT_TRUE(engine.done());
}

// A loop inside another may begin where that one says.
TEST(Engine, CountsFromWhereALoopBegins) {
  Program program;
  Body &outer = loop(*program.mutable_step(), 0, 3);
  Body &inner = loop(outer, 1, 2);
  *outer.Mutable(0)->mutable_loop()->mutable_first() = linear(0, 0, 4);
  onLane(inner, LANE_COMPUTE);
  CompiledProgram compiled(program);
  Engine engine(compiled);
  std::vector<std::int64_t> values;
  while (engine.next(LANE_COMPUTE).state == Engine::Next::Ready) {
    values.push_back(engine.next(LANE_COMPUTE).variables[1]);
    engine.complete(LANE_COMPUTE);
  }
  EXPECT_EQ(values, (std::vector<std::int64_t>{0, 1, 4, 5, 8, 9}));
}

// A wait holds a lane until another lane's signals have come.
TEST(Engine, WaitsForSemaphores) {
  Program program;
  program.set_semaphores(2);
  Body &body = loop(*program.mutable_step(), 0, 2);
  signal(onLane(body, LANE_COMPUTE), 1);
  wait(onLane(body, LANE_COLLECTIVE), 1, linear(1, 0, 1));
  CompiledProgram compiled(program);
  Engine engine(compiled);
  Engine::Next next = engine.next(LANE_COLLECTIVE);
  EXPECT_EQ(next.state, Engine::Next::Blocked);
  EXPECT_EQ(next.semaphore, 1u);
  EXPECT_EQ(next.needed, 1);
  engine.complete(LANE_COMPUTE);
  EXPECT_EQ(engine.next(LANE_COLLECTIVE).state, Engine::Next::Ready);
  engine.complete(LANE_COLLECTIVE);
  EXPECT_EQ(engine.next(LANE_COLLECTIVE).state, Engine::Next::Blocked);
  EXPECT_EQ(engine.next(LANE_COLLECTIVE).needed, 2);
  engine.complete(LANE_COMPUTE);
  engine.complete(LANE_COLLECTIVE);
  EXPECT_TRUE(engine.done());
}

// A new step starts with semaphores at 0 and every lane at the beginning.
TEST(Engine, BeginsStepsAfresh) {
  Program program;
  program.set_semaphores(1);
  signal(onLane(*program.mutable_step(), LANE_COMPUTE), 0);
  wait(onLane(*program.mutable_step(), LANE_COLLECTIVE), 0, constant(1));
  CompiledProgram compiled(program);
  Engine engine(compiled);
  for (std::uint64_t step = 0; step < 3; ++step) {
    engine.begin(Phase::Step, step);
    EXPECT_EQ(engine.semaphore(0), 0u);
    EXPECT_EQ(engine.next(LANE_COLLECTIVE).state, Engine::Next::Blocked);
    engine.complete(LANE_COMPUTE);
    engine.complete(LANE_COLLECTIVE);
    EXPECT_TRUE(engine.done());
  }
}

// A guard that does not hold skips the instruction without signalling.
TEST(Engine, SkipsGuardedInstructions) {
  Program program;
  program.set_semaphores(1);
  Instruction &guarded = onLane(*program.mutable_step(), LANE_EXCHANGE);
  signal(guarded, 0);
  guarded.mutable_guard()->set_modulus(4);
  guarded.mutable_guard()->set_remainder(0);
  CompiledProgram compiled(program);
  Engine engine(compiled);
  for (std::uint64_t step = 0; step < 12; ++step) {
    engine.begin(Phase::Step, step);
    bool runs = engine.next(LANE_EXCHANGE).state == Engine::Next::Ready;
    EXPECT_EQ(runs, step % 4 == 3) << step;
    EXPECT_EQ(engine.done(), !runs);
    EXPECT_EQ(engine.semaphore(0), 0u);
  }
}

// A long loop in which nothing is to run costs nothing.
TEST(Engine, PassesLongLoopsWithoutWork) {
  Program program;
  Body &body = loop(*program.mutable_step(), 0, std::uint64_t{1} << 40);
  Instruction &guarded = onLane(body, LANE_EXCHANGE);
  guarded.mutable_guard()->set_modulus(2);
  CompiledProgram compiled(program);
  Engine engine(compiled);
  engine.begin(Phase::Step, 0);
  EXPECT_TRUE(engine.done());
}

TEST(Engine, RunsFinishByItself) {
  Program program;
  onLane(*program.mutable_finish(), LANE_EXCHANGE);
  CompiledProgram compiled(program);
  Engine engine(compiled);
  EXPECT_TRUE(engine.done());
  engine.begin(Phase::Finish, 7);
  EXPECT_EQ(engine.next(LANE_EXCHANGE).state, Engine::Next::Ready);
  engine.complete(LANE_EXCHANGE);
  EXPECT_TRUE(engine.done());
}

} // namespace
