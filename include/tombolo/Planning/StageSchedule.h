//===- StageSchedule.h - the order of microbatches in a stage ---------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_STAGESCHEDULE_H
#define TOMBOLO_PLANNING_STAGESCHEDULE_H

#include "tombolo/Planning/Strategy.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace tombolo::planning {

/// A loop of a stage's step. Iteration i runs the forward of microbatch
/// `forward + i`, if there is one, and then the backward of microbatch
/// `backward + i`, if there is one. Microbatches are the replica's own, from 0.
struct Phase {
  uint64_t count = 0; // iterations, at least one
  std::optional<uint64_t> forward;
  std::optional<uint64_t> backward;
  bool operator==(const Phase &) const = default;
};

/// One stage's step: warm-up, steady state, cool-down; phases without
/// iterations are left out.
struct StageSchedule {
  std::vector<Phase> phases;
  /// The most microbatches whose forward has run and whose backward has not
  /// finished: as many slots hold what forward saves for backward.
  uint64_t inFlight = 0;
};

/// The order of `schedule` (gpipe or 1f1b) in stage `stage` of `stages`, for
/// `microbatches` of each replica.
///
/// gpipe: all forwards, then all backwards. 1f1b: stage s of S runs
/// min(M, S - 1 - s) forwards ahead of the stage's first backward, then one
/// forward and one backward in turn, then the backwards that are left
/// (Narayanan et al. 2021, figure 4). Either way the backwards run in the order
/// of the forwards, so that a slot can be found as microbatch mod slots.
StageSchedule scheduleStage(Schedule schedule, uint64_t stages, uint64_t stage,
                            uint64_t microbatches);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_STAGESCHEDULE_H
