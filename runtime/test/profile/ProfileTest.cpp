//===- ProfileTest.cpp - what is measured is what was asked ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PlanBuilder.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/plan/Validate.h"
#include "tombolo/runtime/profile/DeviceTimes.h"
#include "tombolo/runtime/profile/LinkTimes.h"
#include "tombolo/runtime/profile/ProgramTimer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
using namespace tombolo::runtime::profile;

namespace {

/// Of the ranks of a stage.
const Program &programOf(const Plan &plan, std::uint64_t stage) {
  const ReplicaGroup &group =
      plan.islands(0).stages(static_cast<int>(stage)).groups(0);
  return plan.programs(static_cast<int>(group.program()));
}

/// How often a step calls each segment, loops counted.
void countCalls(const google::protobuf::RepeatedPtrField<Instruction> &body,
                std::uint64_t times,
                std::map<std::uint32_t, std::uint64_t> &calls) {
  for (const Instruction &instruction : body)
    if (instruction.has_loop())
      countCalls(instruction.loop().body(), times * instruction.loop().count(),
                 calls);
    else if (instruction.has_call())
      calls[instruction.call().segment()] += times;
}

TEST(ProgramTimer, TimesEveryCallOfAStep) {
  for (std::uint32_t stages : {1, 2}) {
    TinyModel model;
    model.stages = stages;
    model.replicas = 2;
    Plan plan = tinyPlan(model);
    validatePlan(plan);
    auto device = createDevice("cpu");
    for (std::uint64_t rank = 0; rank < 2 * stages; ++rank) {
      ProgramTimer timer(plan, 0, rank, *device);
      timer.step();
      EXPECT_TRUE(timer.times().empty()) << "nothing was counted";
      for (int step = 0; step < 5; ++step) {
        timer.step();
        timer.count();
      }
      std::map<std::uint32_t, std::uint64_t> calls;
      countCalls(programOf(plan, rank / 2).step(), 1, calls);
      auto times = timer.times();
      ASSERT_EQ(times.size(), calls.size());
      for (const SegmentTime &time : times) {
        EXPECT_EQ(time.calls, calls.at(time.segment));
        EXPECT_GT(time.spread.seconds, 0);
        EXPECT_LE(time.spread.lower, time.spread.upper);
        EXPECT_EQ(time.spread.steps, 5u);
      }
    }
  }
}

/// With peers a step is that of training: ranks wait for one another, and what
/// a pipeline's second stage computes on has come from the first.
TEST(ProgramTimer, WaitsForPeersThatAreThere) {
  TinyModel model;
  model.stages = 2;
  model.replicas = 2;
  Plan plan = tinyPlan(model);
  validatePlan(plan);
  constexpr int kSteps = 4;
  InprocHub hub(4);
  std::atomic<int> begun[kSteps] = {};
  std::vector<std::vector<CollectiveTime>> collectives(4);
  std::vector<std::thread> threads;
  for (std::uint64_t rank = 0; rank < 4; ++rank)
    threads.emplace_back([&, rank] {
      auto device = createDevice("cpu");
      auto transport = hub.transport(rank);
      ProgramTimer timer(plan, 0, rank, *device, transport.get());
      for (int step = 0; step < kSteps; ++step) {
        ++begun[step];
        timer.step();
        timer.count();
        EXPECT_EQ(begun[step], 4) << "went through a step by itself";
        // All go on as long as the first one says.
        EXPECT_EQ(timer.fromFirst(rank == 0 && step < 2), step < 2);
      }
      for (const SegmentTime &time : timer.times()) {
        EXPECT_GT(time.spread.seconds, 0);
        EXPECT_EQ(time.spread.steps, std::uint64_t(kSteps));
      }
      collectives[rank] = timer.collectives();
    });
  for (std::thread &thread : threads)
    thread.join();
  for (std::uint64_t rank = 0; rank < 4; ++rank) {
    std::uint64_t expected = 0, calls = 0;
    for (const Instruction &instruction : programOf(plan, rank / 2).step())
      expected += instruction.has_collective();
    bool sumsLosses = false;
    for (const CollectiveTime &time : collectives[rank]) {
      calls += time.calls;
      EXPECT_GE(time.spread.seconds, 0);
      EXPECT_EQ(time.spread.steps, std::uint64_t(kSteps));
      // A loss and a count over four: 3 messages to sum, 3 to tell, of a
      // quarter each.
      sumsLosses |= time.messages == 6 && time.bytes == 12;
    }
    EXPECT_GT(expected, 0u);
    EXPECT_EQ(calls, expected);
    EXPECT_TRUE(sumsLosses);
  }
}

/// Messages of a step at either end, loops counted.
std::uint64_t
countMessages(const google::protobuf::RepeatedPtrField<Instruction> &body) {
  std::uint64_t count = 0;
  for (const Instruction &instruction : body)
    count += instruction.has_loop()
                 ? instruction.loop().count() *
                       countMessages(instruction.loop().body())
                 : instruction.has_send() || instruction.has_receive();
  return count;
}

/// On the processor's clock it is known what a step carries, and that this is
/// work, too.
TEST(ProgramTimer, TellsWhatItCarries) {
  TinyModel model;
  model.stages = 2;
  Plan plan = tinyPlan(model);
  validatePlan(plan);
  InprocHub hub(2);
  std::vector<std::thread> threads;
  for (std::uint64_t rank = 0; rank < 2; ++rank)
    threads.emplace_back([&, rank] {
      auto device = createDevice("cpu");
      auto transport = hub.transport(rank);
      ProgramTimer timer(plan, 0, rank, *device, transport.get(),
                         CallClock::Processor);
      EXPECT_EQ(timer.carrying().spread.steps, 0u) << "nothing was counted";
      for (int step = 0; step < 3; ++step) {
        timer.step();
        timer.count();
      }
      CarryTime carry = timer.carrying();
      EXPECT_EQ(carry.messages, static_cast<double>(countMessages(
                                    programOf(plan, rank).step())));
      EXPECT_GT(carry.messages, 0);
      EXPECT_GT(carry.bytes, carry.messages);
      EXPECT_GE(carry.ringMessages, 2) << "the sum of the losses";
      EXPECT_GT(carry.spread.seconds, 0);
      EXPECT_EQ(carry.spread.steps, 3u);
      EXPECT_TRUE(timer.collectives().empty()) << "ranks wait for cores, too";
    });
  for (std::thread &thread : threads)
    thread.join();
}

/// A step that waits for a peer ends when the rank gives up.
TEST(ProgramTimer, EndsWhenItsRankGivesUp) {
  TinyModel model;
  model.stages = 2;
  Plan plan = tinyPlan(model);
  validatePlan(plan);
  InprocHub hub(2);
  auto first = hub.transport(0), second = hub.transport(1);
  std::unique_ptr<ProgramTimer> silent; // never begins its step
  auto device = createDevice("cpu"), other = createDevice("cpu");
  std::thread connecting([&] {
    silent = std::make_unique<ProgramTimer>(plan, 0, 1, *other, second.get());
  });
  ProgramTimer timer(plan, 0, 0, *device, first.get());
  connecting.join();
  std::thread givesUp([&] { first->abort("told to end"); });
  EXPECT_THROW(timer.step(), PeerError);
  givesUp.join();
}

TEST(LinkTimes, AllMembersHaveOneAnswer) {
  InprocHub hub(3);
  std::vector<LinkTime> messages(3), sums(3);
  std::vector<std::thread> threads;
  for (std::uint64_t rank = 0; rank < 3; ++rank)
    threads.emplace_back([&, rank] {
      auto transport = hub.transport(rank);
      std::uint64_t all[] = {0, 1, 2};
      auto over = transport->connect("all", all);
      messages[rank] = measureMessage(*over, 4096, 1e-4);
      sums[rank] = measureAllReduce(*over, 4096, 1e-4);
    });
  for (std::thread &thread : threads)
    thread.join();
  for (const auto &times : {messages, sums})
    for (const LinkTime &time : times) {
      EXPECT_EQ(time.bytes, 4096u);
      EXPECT_GT(time.seconds, 0);
      EXPECT_EQ(time.seconds, times[0].seconds);
      EXPECT_LE(time.lower, time.upper);
      EXPECT_GE(time.runs, 8u);
    }
}

TEST(LinkTimes, FindsLatencyAndRate) {
  std::vector<WireTime> times;
  for (double bytes = 1024; bytes <= 1 << 24; bytes *= 4)
    times.push_back({4, bytes, 4 * 1e-5 + bytes / 2e9});
  WireFit fit = fitWire(times);
  EXPECT_NEAR(fit.latencySeconds, 1e-5, 1e-9);
  EXPECT_NEAR(fit.bytesPerSecond, 2e9, 1e5);
  // What hardly weighs changes little.
  times.push_back({4, 1 << 20, 1, 1e-6});
  EXPECT_NEAR(fitWire(times).bytesPerSecond, 2e9, 2e7);
  times.pop_back();
  // No latency is below zero: then there is none.
  for (WireTime &time : times)
    time.seconds -= 4 * 1e-5 + 1e-7;
  EXPECT_EQ(fitWire(times).latencySeconds, 0);
  // On a busy machine fewer bytes may take longer: no rate is without end.
  for (WireTime &time : times)
    time.seconds = 1e-3 / time.bytes;
  fit = fitWire(times);
  EXPECT_GT(fit.bytesPerSecond, 0);
  EXPECT_LT(fit.bytesPerSecond, 1e300);
}

TEST(DeviceTimes, AreRatesAndFractionsOfThem) {
  auto device = createDevice("cpu");
  DeviceTimes times = measureDevice(*device, 0.01);
  EXPECT_GT(times.tflopsF32, 0);
  EXPECT_GT(times.memoryGbytesPerSecond, 0);
  for (double part : {times.matmul, times.memory}) {
    EXPECT_GT(part, 0);
    EXPECT_LE(part, 1);
  }
  EXPECT_THROW(measureDevice(*createDevice("null"), 0.01), Error);
}

} // namespace
