//===- Report.h - what tombolo-sim tells--------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_SIM_REPORT_H
#define TOMBOLO_SIM_REPORT_H

#include "tombolo/runtime/sim/Simulate.h"

#include <iosfwd>

namespace tombolo::runtime::sim {

/// For people: a table of ranks, then of pools, lines and failures.
void printTable(std::ostream &os, const Plan &plan, const SimResult &result);

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_SIM_REPORT_H
