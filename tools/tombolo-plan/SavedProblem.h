//===- SavedProblem.h - planning without a model --------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLO_PLAN_SAVEDPROBLEM_H
#define TOMBOLO_TOOLS_TOMBOLO_PLAN_SAVEDPROBLEM_H

#include "Options.h"

namespace tombolo {

/// Finds the best strategy of the problem that `options.problem` names and
/// prints what tombolo-plan prints of a plan. The program's exit status.
int planSavedProblem(const PlanOptions &options);

} // namespace tombolo

#endif // TOMBOLO_TOOLS_TOMBOLO_PLAN_SAVEDPROBLEM_H
