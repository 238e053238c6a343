//===- Inputs.h - figures and metrics that others wrote -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_REPORT_INPUTS_H
#define TOMBOLO_REPORT_INPUTS_H

#include "PlanJson.h"

#include <string>

namespace tombolo::report {

/// The three readers take only what the page shows, check its types, and throw
/// Error with the file and the place where it is not as expected, or where the
/// file is of another plan.

/// Of `tombolo-plan --json`: `search`, and of `strategy` what a plan does not
/// say.
Json readPlanFigures(const std::string &path, const runtime::Plan &plan);

/// Of `tombolo-sim --json`: `predicted` and `simulated`.
Json readSimFigures(const std::string &path, const runtime::Plan &plan);

/// `metrics.jsonl` (RunHistory.h). A last line without its end (a run that goes
/// on, or was killed) is passed over.
Json readMetrics(const std::string &path, const runtime::Plan &plan);

} // namespace tombolo::report

#endif // TOMBOLO_REPORT_INPUTS_H
