//===- Schedule.h - the order of a pipeline's calls -----------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_SCHEDULE_H
#define TOMBOLO_PLANNING_SCHEDULE_H

#include "tombolo/Planning/Strategy.h"

#include <vector>

namespace tombolo::planning {

/// One call of a replica: forward or backward of its own n-th microbatch.
struct Call {
  bool backward = false;
  uint64_t microbatch = 0;
  bool operator==(const Call &) const = default;
};

/// Forward calls that a replica makes before its first backward call, out of
/// `microbatches` of its own: all of them for GPipe; for 1F1B as many as there
/// are stages from this one to the last, counted in replicas where stages have
/// different numbers of them: ceil(sum of later replicas x share / turn).
/// This is also the number of microbatches whose saved values live at once.
uint64_t warmup(const Island &island, size_t stage, size_t group,
                uint64_t microbatches);

/// The same for equal stages: 1F1B min(microbatches, stages - stage).
uint64_t warmup(Schedule schedule, uint64_t stage, uint64_t stages,
                uint64_t microbatches);

/// The n-th of the 2 x `microbatches` calls of a replica: `warmup` forwards,
/// then backward and forward in turn, then the backwards that are left.
Call callAt(uint64_t n, uint64_t warmup, uint64_t microbatches);

/// Microbatches of an island's inner step, and those of one replica of a group.
/// Meaningful when batch / microbatch and the turn divide without rest.
uint64_t microbatchesPerStep(const Island &island);
uint64_t microbatchesOf(const Island &island, size_t stage, size_t group);

/// Times of one stage, in seconds per microbatch.
struct StageTimes {
  double forward = 0;
  double backward = 0;     // with recomputation
  double sendForward = 0;  // one transfer to the next stage
  double sendBackward = 0; // one transfer to the previous stage
  double tail = 0; // once, after the replica's last backward: reduce and update
};

struct PipelineTime {
  double seconds = 0;    // to the end of the last tail
  double computeEnd = 0; // to the end of the last backward
  bool deadlock = false;
};

/// Runs the schedule of equal replicas: one lane per stage. Exact: every call
/// starts when its stage is free and its input has come, transfers of a
/// direction between two stages go one after the other. From 2^20 calls on,
/// the middle, which repeats, is extrapolated.
PipelineTime pipelineTime(Schedule schedule,
                          const std::vector<StageTimes> &stages,
                          uint64_t microbatches);

/// The same for replicas in different numbers and shares: one lane per
/// replica. `times[stage][group]`.
PipelineTime pipelineTime(const Island &island,
                          const std::vector<std::vector<StageTimes>> &times);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_SCHEDULE_H
