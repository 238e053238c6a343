//===- PlanJson.h - a plan as the page reads it ---------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_REPORT_PLANJSON_H
#define TOMBOLO_REPORT_PLANJSON_H

#include "tombolo/runtime/report/Report.h"

namespace tombolo::report {

/// What a validated plan says by itself: the training, sites and lines, islands
/// with their stages and each one's memory by region, the server, what the
/// planner foretold. web/src/data.ts has the names.
Json planJson(const runtime::Plan &plan);

} // namespace tombolo::report

#endif // TOMBOLO_REPORT_PLANJSON_H
