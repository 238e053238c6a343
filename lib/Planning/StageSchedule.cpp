//===- StageSchedule.cpp - the order of microbatches in a stage -------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/StageSchedule.h"

#include <algorithm>

namespace tombolo::planning {

StageSchedule scheduleStage(Schedule schedule, uint64_t stages, uint64_t stage,
                            uint64_t microbatches) {
  // Forwards before the first backward's own.
  uint64_t ahead = schedule == Schedule::GPipe
                       ? microbatches
                       : std::min(microbatches, stages - 1 - stage);
  StageSchedule result;
  auto add = [&](uint64_t count, std::optional<uint64_t> forward,
                 std::optional<uint64_t> backward) {
    if (count > 0)
      result.phases.push_back({count, forward, backward});
  };
  add(ahead, 0, std::nullopt);
  add(microbatches - ahead, ahead, 0);
  add(ahead, std::nullopt, microbatches - ahead);
  result.inFlight = std::min(ahead + 1, microbatches);
  return result;
}

} // namespace tombolo::planning
