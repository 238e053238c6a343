//===- Report.h - the page about plans and runs -----------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What a person sees of a plan in a browser: `tombolo-report` writes it to a
// file, `tombolo-run --dashboard` serves it. lib/report/web is the page itself.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_REPORT_REPORT_H
#define TOMBOLO_RUNTIME_REPORT_REPORT_H

#include "tombolo/runtime/plan/PlanFile.h"

#include <nlohmann/json.hpp>

#include <string>

namespace tombolo::report {

using Json = nlohmann::ordered_json;

/// Files that add to what a plan says of itself; empty: none.
struct Files {
  std::string planFigures; ///< of `tombolo-plan --json`
  std::string simFigures;  ///< of `tombolo-sim --json`
  std::string trace;       ///< of `tombolo-sim --trace`
  std::string metrics;     ///< of `tombolo-run --metrics`
};

/// What the page shows of a plan, and in `missing` what it says about what is
/// not there. The plan is simulated, for some seconds where it is large. Throws
/// Error with the file and the place where one is not as expected, or is of
/// another plan.
Json makeEntry(const std::string &name, const runtime::Plan &plan,
               const Files &files);

/// Whether this program was built with the page: that takes node and npm.
bool hasPage();

/// The page with `data` in it: {format, title, plans: [entry...]}, and `live`
/// where it is served and gets its run from `events` beside it. What stands in
/// `data` cannot end the element that it is in, whatever the names.
std::string makePage(Json data);

/// Control characters in texts, and those that turn the direction of writing,
/// are replaced; makePage has done so.
void cleanTexts(Json &value);

} // namespace tombolo::report

#endif // TOMBOLO_RUNTIME_REPORT_REPORT_H
