//===- ProblemText.h - writing a planning problem -------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TARGET_PROBLEMTEXT_H
#define TOMBOLO_TARGET_PROBLEMTEXT_H

#include "tombolo/Planning/Problem.h"

#include "llvm/Support/raw_ostream.h"

namespace tombolo {

/// A problem as YAML that `readProblem` reads back as the same problem. Of the
/// model it has what decides about a strategy; how blocks are sharded inside
/// (`ModelProfile::shardings`) only follows one and is left out.
void writeProblem(llvm::raw_ostream &os, const planning::Problem &problem);

} // namespace tombolo

#endif // TOMBOLO_TARGET_PROBLEMTEXT_H
