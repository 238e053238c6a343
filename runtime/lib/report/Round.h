//===- Round.h - lines between islands over one round ---------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_REPORT_ROUND_H
#define TOMBOLO_REPORT_ROUND_H

#include "PlanJson.h"

namespace tombolo::report {

/// What the exchange between islands loads each line with over one round of
/// three simulated ones, by direction, and what pipelines load it with on
/// average; null without lines or without a server. Throws Error where the plan
/// cannot be simulated.
Json roundJson(const runtime::Plan &plan);

} // namespace tombolo::report

#endif // TOMBOLO_REPORT_ROUND_H
