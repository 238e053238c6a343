//===- StageSchedule.cpp - the order of microbatches in a stage --------
//---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/StageSchedule.h"

#include <algorithm>

namespace tombolo::planning {

ChunkCall ScheduleCursor::operator*() const {
  const Phase &now = schedule->phases[phase];
  ChunkCall result = now.runs[run].calls[call];
  result.microbatch += repetition * now.step + iteration;
  return result;
}

ScheduleCursor &ScheduleCursor::operator++() {
  const Phase &now = schedule->phases[phase];
  if (++call < now.runs[run].calls.size())
    return *this;
  call = 0;
  if (++iteration < now.runs[run].count)
    return *this;
  iteration = 0;
  if (++run < now.runs.size())
    return *this;
  run = 0;
  if (++repetition < now.count)
    return *this;
  repetition = 0;
  ++phase;
  return *this;
}

namespace {

/// Collects runs, leaving out empty ones.
class Phases {
public:
  void add(uint64_t count, std::vector<ChunkCall> calls) {
    if (count > 0)
      phases.push_back({1, 0, {{count, std::move(calls)}}});
  }
  std::vector<Phase> phases;
};

std::vector<Phase> gpipe(uint64_t microbatches) {
  Phases order;
  order.add(microbatches, {{Pass::Forward, 0, 0}});
  order.add(microbatches, {{Pass::Backward, 0, 0}});
  return std::move(order.phases);
}

std::vector<Phase> oneFOneB(uint64_t stages, uint64_t stage,
                            uint64_t microbatches) {
  uint64_t ahead = std::min(microbatches, stages - 1 - stage);
  Phases order;
  order.add(ahead, {{Pass::Forward, 0, 0}});
  order.add(microbatches - ahead,
            {{Pass::Forward, 0, ahead}, {Pass::Backward, 0, 0}});
  order.add(ahead, {{Pass::Backward, 0, microbatches - ahead}});
  return std::move(order.phases);
}

std::vector<Phase> zeroBubble(uint64_t stages, uint64_t stage,
                              uint64_t microbatches) {
  if (stage == 0)
    return oneFOneB(stages, stage, microbatches);
  uint64_t ahead = std::min(microbatches, stages - 1 - stage);
  uint64_t lag = std::min(microbatches, stage); // of weights behind inputs
  Phases order;
  // Where a backward by input is, a backward by weight `lag` before it is, if
  // there is one: so runs with backwards are cut at `lag`.
  auto backwards = [&](uint64_t first, uint64_t count, bool withForward) {
    auto one = [&](uint64_t from, uint64_t to, bool withWeight) {
      if (from >= to)
        return;
      std::vector<ChunkCall> calls;
      if (withForward)
        calls.push_back({Pass::Forward, 0, from + ahead});
      calls.push_back({Pass::BackwardInput, 0, from});
      if (withWeight)
        calls.push_back({Pass::BackwardWeight, 0, from - lag});
      order.add(to - from, std::move(calls));
    };
    uint64_t end = first + count, cut = std::clamp(lag, first, end);
    one(first, cut, false);
    one(cut, end, true);
  };
  order.add(ahead, {{Pass::Forward, 0, 0}});
  backwards(0, microbatches - ahead, true);
  backwards(microbatches - ahead, ahead, false);
  order.add(lag, {{Pass::BackwardWeight, 0, microbatches - lag}});
  return std::move(order.phases);
}

/// The calls of one direction of the interleaved order, numbered from 0: group
/// after group, in each chunk after chunk, in each microbatch after microbatch.
/// The first groups have one microbatch more where they are not equal.
class GroupedCalls {
public:
  GroupedCalls(uint64_t stages, uint64_t microbatches, uint64_t chunks)
      : chunks(chunks) {
    uint64_t groups = std::max<uint64_t>(1, microbatches / stages);
    smaller = microbatches / groups;
    largerCount = microbatches % groups;
    smallerCount = groups - largerCount;
  }

  struct Place {
    uint64_t chunk;      // in the order of the direction
    uint64_t microbatch; // of the replica
    uint64_t left;       // calls, with this one, to the end of the chunk's run
    uint64_t group;      // microbatches of the group
    uint64_t like;       // calls, with this one, in groups of that size
    bool startsGroup;
  };

  Place operator[](uint64_t call) const {
    uint64_t larger = largerCount * (smaller + 1) * chunks; // calls in these
    bool inLarger = call < larger;
    uint64_t size = inLarger ? smaller + 1 : smaller;
    uint64_t first = inLarger ? 0 : larger;
    uint64_t end = larger + smallerCount * smaller * chunks;
    uint64_t number = (call - first) / (size * chunks); // of the group
    uint64_t inside = (call - first) % (size * chunks);
    return {inside / size,
            first / chunks + number * size + inside % size,
            size - inside % size,
            size,
            (inLarger ? larger : end) - call,
            inside == 0};
  }

  uint64_t largest() const { return smaller + (largerCount > 0 ? 1 : 0); }

private:
  uint64_t chunks, smaller, largerCount, smallerCount;
};

/// Writes the calls of both directions of the interleaved order as phases.
class InterleavedOrder {
public:
  InterleavedOrder(const GroupedCalls &calls, uint64_t chunks)
      : calls(calls), chunks(chunks) {}

  std::vector<Phase> phases;

  /// Adds `count` forwards from number `k` on, or as many backwards from `l`
  /// on, or both by turns.
  void add(uint64_t k, uint64_t l, uint64_t count, bool forward,
           bool backward) {
    while (count > 0) {
      // Whole groups repeat as long as the groups of both are as large.
      GroupedCalls::Place at = calls[forward ? k : l];
      uint64_t like = std::min(at.like, count);
      if (forward && backward)
        like = calls[l].group == at.group ? std::min(like, calls[l].like) : 0;
      uint64_t period = at.group * chunks;
      uint64_t times = at.startsGroup ? like / period : 0;
      Phase &phase = phases.emplace_back();
      if (times > 1) {
        phase.count = times;
        phase.step = at.group;
      }
      uint64_t left = times > 1 ? period : 1;
      for (uint64_t made = 0; left > 0; left -= std::min(left, made)) {
        phase.runs.push_back(
            run(k, l, times > 1 ? left : count, forward, backward));
        made = phase.runs.back().count;
        k += made;
        l += made;
        count -= made;
      }
      k += (phase.count - 1) * period;
      l += (phase.count - 1) * period;
      count -= (phase.count - 1) * period;
    }
  }

private:
  /// At most `most` iterations, in which no chunk changes.
  ScheduleRun run(uint64_t k, uint64_t l, uint64_t most, bool forward,
                  bool backward) const {
    ScheduleRun one{most, {}};
    if (forward) {
      GroupedCalls::Place at = calls[k];
      one.count = std::min(one.count, at.left);
      one.calls.push_back({Pass::Forward, at.chunk, at.microbatch});
    }
    if (backward) {
      GroupedCalls::Place at = calls[l];
      one.count = std::min(one.count, at.left);
      one.calls.push_back(
          {Pass::Backward, chunks - 1 - at.chunk, at.microbatch});
    }
    return one;
  }

  const GroupedCalls &calls;
  uint64_t chunks;
};

std::vector<Phase> interleaved(uint64_t stages, uint64_t stage,
                               uint64_t microbatches, uint64_t chunks) {
  GroupedCalls calls(stages, microbatches, chunks);
  uint64_t total = microbatches * chunks;
  uint64_t ahead = std::min(total, 2 * (stages - 1 - stage) +
                                       (chunks - 1) * calls.largest());
  InterleavedOrder order(calls, chunks);
  order.add(0, 0, ahead, true, false);
  order.add(ahead, 0, total - ahead, true, true);
  order.add(total, total - ahead, ahead, false, true);
  return std::move(order.phases);
}

/// Counts how many microbatches of a chunk are open at most, from `opening` to
/// the end of `closing`. A repeated phase opens as many as it closes, or has
/// one direction only, so that its first or its last repetition has the most.
uint64_t mostOpen(const std::vector<Phase> &phases, uint64_t chunk,
                  std::vector<Pass> opening, std::vector<Pass> closing) {
  uint64_t open = 0, most = 0;
  auto among = [&](const std::vector<Pass> &passes, const ChunkCall &call) {
    return call.chunk == chunk &&
           std::find(passes.begin(), passes.end(), call.pass) != passes.end();
  };
  for (const Phase &phase : phases) {
    uint64_t before = open;
    for (const ScheduleRun &run : phase.runs) {
      bool opens = false, closes = false;
      for (const ChunkCall &call : run.calls) {
        opens |= among(opening, call);
        closes |= among(closing, call);
      }
      most = std::max(most, open + (!opens ? 0 : closes ? 1 : run.count));
      open += opens && !closes ? run.count : 0;
      open -= closes && !opens ? run.count : 0;
    }
    uint64_t gain = open > before ? open - before : 0;
    uint64_t loss = before > open ? before - open : 0;
    open += (phase.count - 1) * gain;
    open -= (phase.count - 1) * loss;
    most = std::max(most, open);
  }
  return most;
}

} // namespace

StageSchedule scheduleStage(Schedule schedule, uint64_t stages, uint64_t stage,
                            uint64_t microbatches, uint64_t chunks) {
  StageSchedule result;
  switch (schedule) {
  case Schedule::GPipe:
    result.phases = gpipe(microbatches);
    break;
  case Schedule::OneFOneB:
    result.phases = oneFOneB(stages, stage, microbatches);
    break;
  case Schedule::Interleaved:
    result.phases = chunks > 1
                        ? interleaved(stages, stage, microbatches, chunks)
                        : oneFOneB(stages, stage, microbatches);
    break;
  case Schedule::ZeroBubble:
    result.phases = zeroBubble(stages, stage, microbatches);
    break;
  }
  for (uint64_t chunk = 0; chunk < chunks; ++chunk) {
    ChunkSlots slots;
    slots.inFlight = mostOpen(result.phases, chunk, {Pass::Forward},
                              {Pass::Backward, Pass::BackwardWeight});
    slots.handedOn = mostOpen(result.phases, chunk, {Pass::BackwardInput},
                              {Pass::BackwardWeight});
    result.inFlight = std::max(result.inFlight, slots.inFlight);
    result.chunks.push_back(slots);
  }
  return result;
}

std::vector<Phase> scheduleForwards(uint64_t stages, uint64_t microbatches,
                                    uint64_t chunks) {
  if (chunks == 1)
    return {{1, 0, {{microbatches, {{Pass::Forward, 0, 0}}}}}};
  GroupedCalls calls(stages, microbatches, chunks);
  InterleavedOrder order(calls, chunks);
  order.add(0, 0, microbatches * chunks, true, false);
  return std::move(order.phases);
}

uint64_t blocksOfChunk(uint64_t stageBlocks, uint64_t chunks, uint64_t chunk) {
  return stageBlocks / chunks + (chunk < stageBlocks % chunks ? 1 : 0);
}

} // namespace tombolo::planning
