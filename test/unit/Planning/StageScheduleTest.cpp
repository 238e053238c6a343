//===- StageScheduleTest.cpp - schedules against enumeration -----------
//---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/StageSchedule.h"

#include <gtest/gtest.h>

#include <algorithm>

using namespace tombolo::planning;

namespace {

std::vector<ChunkCall> unroll(const StageSchedule &schedule) {
  std::vector<ChunkCall> calls;
  for (ScheduleCursor next(schedule); !next.done(); ++next)
    calls.push_back(*next);
  return calls;
}

/// 1F1B told as a rule: a backward when as many microbatches are under way as
/// there are stages from here to the end, or when no forward is left.
std::vector<ChunkCall> enumerateOneFOneB(uint64_t stages, uint64_t stage,
                                         uint64_t microbatches) {
  std::vector<ChunkCall> calls;
  uint64_t forwards = 0, backwards = 0;
  while (backwards < microbatches)
    if (forwards < microbatches && forwards - backwards < stages - stage)
      calls.push_back({Pass::Forward, 0, forwards++});
    else
      calls.push_back({Pass::Backward, 0, backwards++});
  return calls;
}

/// The order of Megatron-LM for microbatches that are a multiple of stages:
/// Narayanan et al. 2021, section 2.2.
std::vector<ChunkCall> enumerateInterleaved(uint64_t stages, uint64_t stage,
                                            uint64_t microbatches,
                                            uint64_t chunks) {
  uint64_t total = microbatches * chunks, group = stages * chunks;
  uint64_t ahead =
      std::min(total, 2 * (stages - stage - 1) + (chunks - 1) * stages);
  auto at = [&](Pass pass, uint64_t k) {
    uint64_t chunk = k % group / stages;
    return ChunkCall{pass, pass == Pass::Forward ? chunk : chunks - 1 - chunk,
                     k / group * stages + k % stages};
  };
  std::vector<ChunkCall> calls;
  for (uint64_t k = 0; k < total + ahead; ++k) {
    if (k < total)
      calls.push_back(at(Pass::Forward, k));
    if (k >= ahead)
      calls.push_back(at(Pass::Backward, k - ahead));
  }
  return calls;
}

struct Case {
  Schedule schedule;
  uint64_t stages, microbatches, chunks;
};

std::vector<Case> allCases() {
  std::vector<Case> cases;
  for (uint64_t stages = 1; stages <= 6; ++stages)
    for (uint64_t microbatches = 1; microbatches <= 20; ++microbatches) {
      for (Schedule schedule :
           {Schedule::GPipe, Schedule::OneFOneB, Schedule::ZeroBubble})
        cases.push_back({schedule, stages, microbatches, 1});
      for (uint64_t chunks = 1; chunks <= 4 && stages > 1; ++chunks)
        cases.push_back({Schedule::Interleaved, stages, microbatches, chunks});
    }
  return cases;
}

std::string text(const Case &one) {
  return std::string(name(one.schedule)) + ", " + std::to_string(one.stages) +
         " stages, " + std::to_string(one.microbatches) + " microbatches, " +
         std::to_string(one.chunks) + " chunks";
}

StageSchedule make(const Case &one, uint64_t stage) {
  return scheduleStage(one.schedule, one.stages, stage, one.microbatches,
                       one.chunks);
}

struct Outcome {
  bool ends = false;
  uint64_t seconds = 0; // when the last call of all ends
};

/// Runs all stages against each other. A half of a backward takes as long as a
/// forward.
Outcome run(const Case &one) {
  uint64_t stages = one.stages, places = stages * one.chunks;
  using Times = std::vector<std::vector<uint64_t>>;
  Times forward(places, std::vector<uint64_t>(one.microbatches, 0));
  Times input = forward; // 0: has not run
  std::vector<std::vector<ChunkCall>> calls;
  for (uint64_t s = 0; s < stages; ++s)
    calls.push_back(unroll(make(one, s)));
  std::vector<size_t> next(stages);
  std::vector<uint64_t> free(stages);
  for (bool moved = true; moved;) {
    moved = false;
    for (uint64_t s = 0; s < stages; ++s)
      for (; next[s] < calls[s].size(); ++next[s], moved = true) {
        ChunkCall call = calls[s][next[s]];
        uint64_t m = call.microbatch, place = call.chunk * stages + s;
        uint64_t came = 1; // time begins at 1
        if (call.pass == Pass::Forward && place > 0)
          came = forward[place - 1][m];
        else if (call.pass == Pass::BackwardWeight)
          came = input[place][m];
        else if (call.pass != Pass::Forward)
          came = place + 1 == places ? forward[place][m] : input[place + 1][m];
        if (came == 0 || (call.pass != Pass::Forward && forward[place][m] == 0))
          break;
        uint64_t end = std::max(std::max<uint64_t>(free[s], 1), came) +
                       (call.pass == Pass::Backward ? 2 : 1);
        free[s] = end;
        if (call.pass == Pass::Forward)
          forward[place][m] = end;
        else if (call.pass != Pass::BackwardWeight)
          input[place][m] = end;
      }
  }
  Outcome outcome{true, 0};
  for (uint64_t s = 0; s < stages; ++s) {
    outcome.ends &= next[s] == calls[s].size();
    outcome.seconds = std::max(outcome.seconds, free[s] - 1);
  }
  return outcome;
}

TEST(StageSchedule, OneFOneBIsTheRule) {
  for (uint64_t stages = 1; stages <= 6; ++stages)
    for (uint64_t microbatches = 1; microbatches <= 9; ++microbatches)
      for (uint64_t stage = 0; stage < stages; ++stage)
        EXPECT_EQ(unroll(scheduleStage(Schedule::OneFOneB, stages, stage,
                                       microbatches)),
                  enumerateOneFOneB(stages, stage, microbatches))
            << stages << " stages, stage " << stage << ", " << microbatches;
}

TEST(StageSchedule, GPipeRunsForwardsThenBackwards) {
  for (uint64_t microbatches = 1; microbatches <= 9; ++microbatches) {
    std::vector<ChunkCall> expected;
    for (Pass pass : {Pass::Forward, Pass::Backward})
      for (uint64_t m = 0; m < microbatches; ++m)
        expected.push_back({pass, 0, m});
    EXPECT_EQ(unroll(scheduleStage(Schedule::GPipe, 4, 1, microbatches)),
              expected);
  }
}

TEST(StageSchedule, InterleavedIsMegatronsWhereItDivides) {
  for (uint64_t stages = 2; stages <= 5; ++stages)
    for (uint64_t groups = 1; groups <= 5; ++groups)
      for (uint64_t chunks = 2; chunks <= 4; ++chunks)
        for (uint64_t stage = 0; stage < stages; ++stage)
          EXPECT_EQ(
              unroll(scheduleStage(Schedule::Interleaved, stages, stage,
                                   groups * stages, chunks)),
              enumerateInterleaved(stages, stage, groups * stages, chunks));
}

TEST(StageSchedule, EverythingRunsOnceInTheOrderOfMicrobatches) {
  for (const Case &one : allCases())
    for (uint64_t stage = 0; stage < one.stages; ++stage) {
      // How far each half of each chunk has come.
      std::vector<uint64_t> forwards(one.chunks), inputs(one.chunks),
          weights(one.chunks);
      bool inOrder = true;
      for (const ChunkCall &call : unroll(make(one, stage))) {
        ASSERT_LT(call.chunk, one.chunks);
        if (call.pass == Pass::Forward) {
          inOrder &= call.microbatch == forwards[call.chunk]++;
          continue;
        }
        if (call.pass != Pass::BackwardWeight)
          inOrder &= call.microbatch == inputs[call.chunk]++;
        if (call.pass != Pass::BackwardInput)
          inOrder &= call.microbatch == weights[call.chunk]++;
        inOrder &= weights[call.chunk] <= inputs[call.chunk] &&
                   inputs[call.chunk] <= forwards[call.chunk];
      }
      EXPECT_TRUE(inOrder) << text(one) << ", stage " << stage;
      for (uint64_t chunk = 0; chunk < one.chunks; ++chunk)
        EXPECT_EQ(std::min({forwards[chunk], inputs[chunk], weights[chunk]}),
                  one.microbatches)
            << text(one) << ", stage " << stage;
    }
}

TEST(StageSchedule, SlotsAreWhatEnumerationCounts) {
  for (const Case &one : allCases())
    for (uint64_t stage = 0; stage < one.stages; ++stage) {
      StageSchedule schedule = make(one, stage);
      ASSERT_EQ(schedule.chunks.size(), one.chunks);
      std::vector<uint64_t> flying(one.chunks), handed(one.chunks);
      std::vector<uint64_t> mostFlying(one.chunks), mostHanded(one.chunks);
      for (const ChunkCall &call : unroll(schedule)) {
        uint64_t &f = flying[call.chunk], &h = handed[call.chunk];
        f += call.pass == Pass::Forward;
        h += call.pass == Pass::BackwardInput;
        mostFlying[call.chunk] = std::max(mostFlying[call.chunk], f);
        mostHanded[call.chunk] = std::max(mostHanded[call.chunk], h);
        f -= call.pass == Pass::Backward || call.pass == Pass::BackwardWeight;
        h -= call.pass == Pass::BackwardWeight;
      }
      for (uint64_t chunk = 0; chunk < one.chunks; ++chunk) {
        EXPECT_EQ(schedule.chunks[chunk].inFlight, mostFlying[chunk])
            << text(one) << ", stage " << stage << ", chunk " << chunk;
        EXPECT_EQ(schedule.chunks[chunk].handedOn, mostHanded[chunk])
            << text(one) << ", stage " << stage << ", chunk " << chunk;
      }
      EXPECT_EQ(schedule.inFlight,
                *std::max_element(mostFlying.begin(), mostFlying.end()));
    }
}

TEST(StageSchedule, StagesDoNotBlockEachOther) {
  for (const Case &one : allCases())
    EXPECT_TRUE(run(one).ends) << text(one);
}

TEST(StageSchedule, ZeroBubbleKeepsNoMoreThanTheFirstStageOf1F1B) {
  for (uint64_t stages = 1; stages <= 6; ++stages)
    for (uint64_t microbatches = 1; microbatches <= 20; ++microbatches)
      for (uint64_t stage = 0; stage < stages; ++stage)
        EXPECT_LE(
            scheduleStage(Schedule::ZeroBubble, stages, stage, microbatches)
                .inFlight,
            scheduleStage(Schedule::OneFOneB, stages, 0, microbatches)
                .inFlight);
}

// The bubbles of the papers, for forwards and halves of backwards of one second
// each and microbatches enough: 1F1B (S - 1) (F + B + W), interleaved that over
// the chunks, ZB-H1 (S - 1) (F + B - W). A chunk's call takes a second as a
// stage's does, so an interleaved step of v chunks lasts v times as long.
TEST(StageSchedule, BubblesAreThoseOfThePapers) {
  for (uint64_t stages = 2; stages <= 6; ++stages)
    for (uint64_t groups = 3; groups <= 4; ++groups) {
      uint64_t m = groups * stages;
      EXPECT_EQ(run({Schedule::OneFOneB, stages, m, 1}).seconds,
                3 * m + 3 * (stages - 1));
      EXPECT_EQ(run({Schedule::ZeroBubble, stages, m, 1}).seconds,
                3 * m + (stages - 1));
      for (uint64_t chunks = 2; chunks <= 4; ++chunks)
        EXPECT_EQ(run({Schedule::Interleaved, stages, m, chunks}).seconds,
                  3 * m * chunks + 3 * (stages - 1));
    }
}

TEST(StageSchedule, ForwardsAloneAreThoseOfEveryStage) {
  for (const Case &one : allCases()) {
    StageSchedule alone;
    alone.phases = scheduleForwards(one.stages, one.microbatches, one.chunks);
    for (uint64_t stage = 0; stage < one.stages; ++stage) {
      std::vector<ChunkCall> forwards = unroll(make(one, stage));
      std::erase_if(forwards, [](const ChunkCall &call) {
        return call.pass != Pass::Forward;
      });
      EXPECT_EQ(unroll(alone), forwards) << text(one) << ", stage " << stage;
    }
  }
}

TEST(StageSchedule, SizeDoesNotGrowWithMicrobatches) {
  auto size = [](const std::vector<Phase> &phases) {
    size_t calls = 0;
    for (const Phase &phase : phases) {
      EXPECT_GT(phase.count, 0u);
      for (const ScheduleRun &run : phase.runs) {
        EXPECT_GT(run.count, 0u);
        calls += run.calls.size();
      }
    }
    return calls;
  };
  for (uint64_t microbatches : {1, 2, 3, 1000, 1000003}) {
    EXPECT_LE(
        size(scheduleStage(Schedule::OneFOneB, 4, 1, microbatches).phases), 4u);
    EXPECT_LE(
        size(scheduleStage(Schedule::ZeroBubble, 4, 1, microbatches).phases),
        12u);
    for (uint64_t stages : {2, 4, 64})
      for (uint64_t stage : {uint64_t(0), stages - 1})
        EXPECT_LE(size(scheduleStage(Schedule::Interleaved, stages, stage,
                                     microbatches, 4)
                           .phases),
                  100u);
    EXPECT_LE(size(scheduleForwards(4, microbatches, 4)), 12u);
  }
}

TEST(StageSchedule, ChunksShareBlocksEvenly) {
  for (uint64_t blocks = 1; blocks <= 9; ++blocks)
    for (uint64_t chunks = 1; chunks <= blocks; ++chunks) {
      uint64_t sum = 0;
      for (uint64_t c = 0; c < chunks; ++c) {
        uint64_t own = blocksOfChunk(blocks, chunks, c);
        EXPECT_TRUE(own == blocks / chunks || own == blocks / chunks + 1);
        sum += own;
      }
      EXPECT_EQ(sum, blocks);
    }
}

} // namespace
