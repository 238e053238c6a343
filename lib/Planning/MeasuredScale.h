//===- MeasuredScale.h - what was measured by what is computed ------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_MEASUREDSCALE_H
#define TOMBOLO_LIB_PLANNING_MEASUREDSCALE_H

#include "tombolo/Planning/Problem.h"

namespace tombolo::planning {

/// Sets `ChipTimes::scale` of all kinds on one chip from the cells they have.
void applyScale(Problem &problem, const Chip &chip);

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_MEASUREDSCALE_H
