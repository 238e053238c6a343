//===- StageScheduleTest.cpp - schedules against enumeration ----------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/StageSchedule.h"

#include <gtest/gtest.h>

#include <algorithm>

using namespace tombolo::planning;

namespace {

struct Event {
  bool forward;
  uint64_t microbatch;
  bool operator==(const Event &) const = default;
};

std::vector<Event> unroll(const StageSchedule &schedule) {
  std::vector<Event> events;
  for (const Phase &phase : schedule.phases)
    for (uint64_t i = 0; i < phase.count; ++i) {
      if (phase.forward)
        events.push_back({true, *phase.forward + i});
      if (phase.backward)
        events.push_back({false, *phase.backward + i});
    }
  return events;
}

/// 1F1B told as a rule: a backward when as many microbatches are under way as
/// there are stages from here to the end, or when no forward is left.
std::vector<Event> enumerateOneFOneB(uint64_t stages, uint64_t stage,
                                     uint64_t microbatches) {
  std::vector<Event> events;
  uint64_t forwards = 0, backwards = 0;
  while (backwards < microbatches)
    if (forwards < microbatches && forwards - backwards < stages - stage)
      events.push_back({true, forwards++});
    else
      events.push_back({false, backwards++});
  return events;
}

uint64_t mostInFlight(const std::vector<Event> &events) {
  uint64_t now = 0, most = 0;
  for (const Event &event : events) {
    now += event.forward ? 1 : -1;
    most = std::max(most, now);
  }
  return most;
}

/// Runs all stages against each other; a forward waits for that of the stage
/// before, a backward for that of the stage behind. True if all of them end.
bool runsToTheEnd(const std::vector<std::vector<Event>> &stages,
                  uint64_t microbatches) {
  size_t count = stages.size();
  std::vector<size_t> next(count);
  std::vector<std::vector<bool>> forward(count), backward(count);
  for (size_t s = 0; s < count; ++s) {
    forward[s].resize(microbatches);
    backward[s].resize(microbatches);
  }
  for (bool moved = true; moved;) {
    moved = false;
    for (size_t s = 0; s < count; ++s) {
      if (next[s] == stages[s].size())
        continue;
      Event event = stages[s][next[s]];
      uint64_t m = event.microbatch;
      bool ready = event.forward ? s == 0 || forward[s - 1][m]
                                 : forward[s][m] && (s + 1 == count ||
                                                     backward[s + 1][m]);
      if (!ready)
        continue;
      (event.forward ? forward : backward)[s][m] = true;
      ++next[s];
      moved = true;
    }
  }
  for (size_t s = 0; s < count; ++s)
    if (next[s] != stages[s].size())
      return false;
  return true;
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
    std::vector<Event> expected;
    for (bool forward : {true, false})
      for (uint64_t m = 0; m < microbatches; ++m)
        expected.push_back({forward, m});
    EXPECT_EQ(unroll(scheduleStage(Schedule::GPipe, 4, 1, microbatches)),
              expected);
  }
}

TEST(StageSchedule, InFlightIsWhatEnumerationCounts) {
  for (Schedule schedule : {Schedule::GPipe, Schedule::OneFOneB})
    for (uint64_t stages = 1; stages <= 6; ++stages)
      for (uint64_t microbatches = 1; microbatches <= 9; ++microbatches)
        for (uint64_t stage = 0; stage < stages; ++stage) {
          StageSchedule one =
              scheduleStage(schedule, stages, stage, microbatches);
          EXPECT_EQ(one.inFlight, mostInFlight(unroll(one)));
        }
}

TEST(StageSchedule, StagesDoNotBlockEachOther) {
  for (Schedule schedule : {Schedule::GPipe, Schedule::OneFOneB})
    for (uint64_t stages = 1; stages <= 6; ++stages)
      for (uint64_t microbatches = 1; microbatches <= 9; ++microbatches) {
        std::vector<std::vector<Event>> all;
        for (uint64_t stage = 0; stage < stages; ++stage)
          all.push_back(
              unroll(scheduleStage(schedule, stages, stage, microbatches)));
        EXPECT_TRUE(runsToTheEnd(all, microbatches))
            << stages << " stages, " << microbatches << " microbatches";
      }
}

TEST(StageSchedule, PhasesAreFewAndNeverEmpty) {
  for (uint64_t microbatches : {1, 2, 3, 1000000}) {
    StageSchedule one =
        scheduleStage(Schedule::OneFOneB, 4, 1, microbatches);
    EXPECT_LE(one.phases.size(), 3u);
    for (const Phase &phase : one.phases)
      EXPECT_GT(phase.count, 0u);
  }
}

} // namespace
