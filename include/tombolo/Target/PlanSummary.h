//===- PlanSummary.h - what tombolo-plan tells about a plan ---------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TARGET_PLANSUMMARY_H
#define TOMBOLO_TARGET_PLANSUMMARY_H

#include "tombolo/Planning/Search.h"

#include "llvm/Support/raw_ostream.h"

namespace tombolo {

/// The table of islands, stages, degrees, memory per chip, step time, traffic
/// between sites and equivalent compute.
void printPlanTable(llvm::raw_ostream &os,
                    const planning::Candidate &candidate);

/// `--json`: `predicted`, `search` and `strategy` with the names of the design.
void writeSummaryJson(llvm::raw_ostream &os,
                      const planning::SearchResult &result,
                      const planning::Candidate &candidate);

/// A strategy as `strategy.yaml` in its long form; reading it back gives the
/// same strategy.
void writeStrategyYaml(llvm::raw_ostream &os,
                       const planning::Strategy &strategy);

} // namespace tombolo

#endif // TOMBOLO_TARGET_PLANSUMMARY_H
