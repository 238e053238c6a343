//===- StageSchedule.h - the order of microbatches in a stage ---------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_STAGESCHEDULE_H
#define TOMBOLO_PLANNING_STAGESCHEDULE_H

#include "tombolo/Planning/Strategy.h"

#include <cstdint>
#include <vector>

namespace tombolo::planning {

/// What a chunk does with a microbatch. `Backward` is both halves, block by
/// block; the halves by themselves go over all blocks of the chunk.
enum class Pass { Forward, Backward, BackwardInput, BackwardWeight };

struct ChunkCall {
  Pass pass = Pass::Forward;
  uint64_t chunk = 0;
  uint64_t microbatch = 0; // the replica's own, from 0
  bool operator==(const ChunkCall &) const = default;
};

/// Iteration i makes each call in turn, of microbatch `microbatch + i`.
struct ScheduleRun {
  uint64_t count = 0; // iterations, at least one
  std::vector<ChunkCall> calls;
  bool operator==(const ScheduleRun &) const = default;
};

/// Repetition r makes each run in turn, its microbatches moved by r * step.
struct Phase {
  uint64_t count = 1;
  uint64_t step = 0;
  std::vector<ScheduleRun> runs;
  bool operator==(const Phase &) const = default;
};

/// Places for what a chunk keeps of microbatches; microbatch m uses place m mod
/// the number of places.
struct ChunkSlots {
  /// The most microbatches whose forward has begun and whose last backward half
  /// has not ended: what forward saves for backward.
  uint64_t inFlight = 0;
  /// The most whose backward by input has begun and whose backward by weight
  /// has not ended: gradients of activations, and what the one hands to the
  /// other. 0: they are never apart, and one block's is all there is.
  uint64_t handedOn = 0;
};

/// One stage's step. Its size grows with chunks, not with microbatches or
/// stages.
struct StageSchedule {
  std::vector<Phase> phases;
  std::vector<ChunkSlots> chunks;
  /// The most of the chunks' `inFlight`.
  uint64_t inFlight = 0;
};

/// Walks the calls of a schedule in their order.
class ScheduleCursor {
public:
  explicit ScheduleCursor(const StageSchedule &schedule)
      : schedule(&schedule) {}

  bool done() const { return phase == schedule->phases.size(); }
  ChunkCall operator*() const;
  ScheduleCursor &operator++();

private:
  const StageSchedule *schedule;
  size_t phase = 0, run = 0, call = 0;
  uint64_t repetition = 0, iteration = 0;
};

/// The order of `schedule` in stage `stage` of `stages`, for `microbatches` of
/// each replica, with `chunks` of the model in every stage. `chunks` is 1 but
/// for interleaved, which needs two stages or more where it is not.
///
/// Chunk c of stage s is place c S + s of S stages in the model; a forward
/// follows that of the place before, a backward by input that of the place
/// behind, a backward by weight that by input of its own chunk.
///
/// gpipe: all forwards, then all backwards.
///
/// 1f1b: stage s runs min(M, S - 1 - s) forwards ahead of its first backward,
/// then one forward and one backward in turn, then the backwards that are left
/// (Narayanan et al. 2021, figure 4).
///
/// interleaved (Narayanan et al. 2021, section 2.2): microbatches go in groups
/// of G >= S; a group passes chunk 0, then chunk 1 ..., its backwards the
/// chunks from the last to the first. Stage s runs 2 (S - 1 - s) + (v - 1) G
/// calls of chunks ahead. As many groups as M / S, rounded down, are made, as
/// equal as can be, so that no group is smaller than S, which would make stages
/// wait for each other in a circle; below S microbatches are one group. One
/// chunk is 1f1b.
///
/// zero-bubble: ZB-H1 (Qi et al. 2024, "Zero bubble (almost) pipeline
/// parallelism", section 2.1): as 1f1b, but a backward by weight waits until s
/// more backwards by input have run. With forwards this makes S microbatches
/// in flight in every stage, as many as 1f1b has in the first. The first
/// stage's halves are never apart.
///
/// In every chunk forwards, and either half of backwards, run in the order of
/// microbatches.
StageSchedule scheduleStage(Schedule schedule, uint64_t stages, uint64_t stage,
                            uint64_t microbatches, uint64_t chunks = 1);

/// The forwards of `scheduleStage` alone, in an order that all stages have.
std::vector<Phase> scheduleForwards(uint64_t stages, uint64_t microbatches,
                                    uint64_t chunks = 1);

/// How many of a stage's blocks chunk `chunk` of `chunks` has: equally many,
/// the first ones one more where that does not divide.
uint64_t blocksOfChunk(uint64_t stageBlocks, uint64_t chunks, uint64_t chunk);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_STAGESCHEDULE_H
