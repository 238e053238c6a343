//===- SearchPins.h - what somebody fixed of a strategy -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_SEARCHPINS_H
#define TOMBOLO_LIB_PLANNING_SEARCHPINS_H

#include "tombolo/Planning/Problem.h"

namespace tombolo::planning {

/// Faults in the pins that would otherwise only show as "nothing found", and
/// pairs of pins and bounds that contradict each other.
Faults checkPins(const Problem &problem, const StrategyPins &pins);

/// Why nothing fits: the resource that is short, how much there is and how much
/// it would take.
Faults whyNothingFits(const Problem &problem);

/// That all strategies send more than `Bounds::wanGbits`, this much at least.
Fault tooMuchBetweenSites(const Problem &problem, double gbits);

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_SEARCHPINS_H
