//===- PipelineTime.h - how long a pipeline's step takes ------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_PIPELINETIME_H
#define TOMBOLO_PLANNING_PIPELINETIME_H

#include "tombolo/Planning/StageSchedule.h"
#include "tombolo/Planning/Strategy.h"

#include <optional>
#include <vector>

namespace tombolo::planning {

/// Microbatches of an island's inner step, and those of one replica of a group.
/// Meaningful when batch / microbatch and the turn divide without rest.
uint64_t microbatchesPerStep(const Island &island);
uint64_t microbatchesOf(const Island &island, size_t stage, size_t group);

/// An island's microbatches in a step, times its stages, at most: what reads a
/// plan goes through each (docs/PlanFormat.md).
inline constexpr uint64_t kMostStageMicrobatches = uint64_t(1) << 24;

/// Longer periods than this are refused: the time of one is computed call by
/// call.
inline constexpr uint64_t kMaxPeriod = uint64_t(1) << 16;

/// Microbatches after which the turns of all stages end together; nullopt above
/// `kMaxPeriod`, or when a turn is empty.
std::optional<uint64_t> periodOf(const std::vector<uint64_t> &turns);

/// Where a time comes from; the later, the less sure.
enum class TimeSource { Computed, Measured, Interpolated, Estimated };
/// `computed`, `measured`, `interpolated`, `estimated`.
const char *name(TimeSource source);
std::optional<TimeSource> parseTimeSource(const std::string &text);

/// Seconds per microbatch of one chunk of a stage.
struct ChunkTimes {
  double forward = 0;
  double backward = 0;       // with recomputation
  double backwardWeight = 0; // of it: what may wait
  double sendForward = 0;    // to the place behind, which may be stage 0
  double sendBackward = 0;   // to the place before
  double early = 0;          // of the backward: before it needs a gradient
  double late = 0;           // and behind the gradient that it sends on
  /// Between sites, from asking for what is sent until it is there; 0 inside
  /// one.
  double askForward = 0, askBackward = 0;
};

/// Times of one stage, in seconds per microbatch.
struct StageTimes {
  double forward = 0;
  double backward = 0;     // with recomputation
  double sendForward = 0;  // one transfer to the next stage
  double sendBackward = 0; // one transfer to the previous stage
  double tail = 0; // once, after the stage's last backward: reduce and update
  double exchanges = 0; // of forward and backward: collectives in a replica
  double backwardWeight = 0; // of the backward: what may wait
  /// Of the backward, what needs no gradient from the next stage, where the
  /// last block runs again, and what the stage before does not wait for: the
  /// weights of the first block.
  double early = 0, late = 0;
  /// Between sites, from asking for what is sent until it is there; 0 inside
  /// one.
  double askForward = 0, askBackward = 0;
  double update = 0;         // once, of all parameters by one rank
  TimeSource source = TimeSource::Computed; // the least sure of the blocks'
  /// Of each chunk, where the stage has several; empty: all of it is one.
  std::vector<ChunkTimes> chunks = {};

  /// The stage as one chunk.
  ChunkTimes whole() const {
    return {forward, backward, backwardWeight, sendForward, sendBackward,
            early,   late,     askForward,     askBackward};
  }
};

struct PipelineTime {
  double seconds = 0;    // to the end of the last tail
  double computeEnd = 0; // to the end of the last backward
  bool deadlock = false; // the schedule waits for itself
};

/// Runs the order of `scheduleStage` on equal replicas: one lane per stage.
/// Exact: every call starts when its stage is free and its input has come, but
/// for the `early` part of a backward, and a gradient is sent on before the
/// `late` part; transfers of a direction from a stage go one after the other.
/// Between sites a receiver asks for each tensor when it has the one before,
/// and the asking takes as long over the lines as what comes: so a stage gets
/// one a round trip at most, from however many. Of very many microbatches the
/// middle, which repeats, is extrapolated. Every stage has `chunks` chunks.
PipelineTime pipelineTime(Schedule schedule,
                          const std::vector<StageTimes> &stages,
                          uint64_t microbatches, uint64_t chunks = 1);

/// The same for replicas in different numbers and shares: one lane per
/// replica. `times[stage][group]`. The island's turns must have a period.
PipelineTime pipelineTime(const Island &island,
                          const std::vector<std::vector<StageTimes>> &times);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_PIPELINETIME_H
