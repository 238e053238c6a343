//===- Timeline.h - what each class of ranks does when in a step ----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_REPORT_TIMELINE_H
#define TOMBOLO_REPORT_TIMELINE_H

#include "PlanJson.h"

#include <string>

namespace tombolo::report {

/// Simulates one inner step and tells, for each class of ranks that behave
/// alike, what its lanes do: `ticks` of `tick_seconds` from the step's begin.
///   calls  [gap, ticks, kind, microbatch, name]...  the chip; the gap is from
///          the end of the call before; microbatch -1: none; name: into `names`
///   lanes  by lane, [gap, ticks, name]...           transfers and collectives
/// Kinds: 0 forward, 1 recompute, 2 backward by input, 3 backward by weight,
/// 4 update and the like. Above `kMostBars` bars, neighbours of one kind are
/// told as one, and then classes are left out (`classes_left_out`).
/// Throws Error where the plan cannot be simulated.
Json timelineJson(const runtime::Plan &plan);

/// The same from what `tombolo-sim --trace` wrote, which may be of several
/// steps. It has no microbatches and does not tell what runs again
/// (`from_trace`). Throws Error with the file where it is no trace, or of
/// another plan.
Json readTrace(const std::string &path, const runtime::Plan &plan);

} // namespace tombolo::report

#endif // TOMBOLO_REPORT_TIMELINE_H
