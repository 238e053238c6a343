//===- Problem.h - reading a planning problem -----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_IMPORT_PROBLEM_H
#define TOMBOLO_IMPORT_PROBLEM_H

#include "tombolo/Import/YamlFile.h"
#include "tombolo/Planning/Problem.h"

namespace tombolo {

struct ProblemFile {
  YamlFile file;
  planning::Problem problem;
};

/// Reads and checks a problem as `writeProblem` writes it. Every fault goes to
/// `errors` with its place; then there is no problem.
std::optional<ProblemFile> readProblem(YamlFile file,
                                       llvm::raw_ostream &errors);
std::optional<ProblemFile> readProblemFile(llvm::StringRef path,
                                           llvm::raw_ostream &errors);

} // namespace tombolo

#endif // TOMBOLO_IMPORT_PROBLEM_H
