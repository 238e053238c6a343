//===- Progress.h - can the programs of an island run to their end --------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_ENGINE_PROGRESS_H
#define TOMBOLO_RUNTIME_ENGINE_PROGRESS_H

#include "tombolo/runtime/plan/PlanFile.h"

namespace tombolo::runtime {

/// Runs the programs of every island against each other: compute takes no
/// time, a send completes only with its receive (so no buffering is assumed), a
/// collective when all its members have come. One step of each combination of
/// guards that hold, and `finish`. Throws Error when the ranks wait for each
/// other (naming the cycle) or when what meets does not match (sizes,
/// microbatches, kinds).
///
/// Which ranks act in what order changes nothing (every lane waits for one
/// thing at a time), so one schedule decides for all. Sets of replicas that
/// exchange with each other alike are run once: the cost does not grow with the
/// data-parallel degree. Throws Error for a plan that takes more than 2^26
/// instructions to decide. `plan` must have passed `validatePlan`.
void checkProgress(const Plan &plan);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_ENGINE_PROGRESS_H
