//===- Fitting.h - fitting constants to iterations
//----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLO_PROFILE_FITTING_H
#define TOMBOLO_TOOLS_TOMBOLO_PROFILE_FITTING_H

#include "tombolo/Calibration/Fit.h"

#include <iosfwd>
#include <map>

namespace tombolo {

/// A line of a table of measured iterations (docs/Profiles.md).
struct RunLine {
  unsigned line = 0;
  std::string model;    // path, relative to the table
  std::string pool;     // site/pool; empty: the only one
  std::string sharding; // strategy.yaml, relative to the table; empty: none
  uint64_t globalBatch = 0, microbatch = 0;
  uint64_t dataParallel = 0, tensorParallel = 0, pipelineParallel = 0;
  bool recompute = false;
  double seconds = 0;
  std::string shape; // default: the model
  /// `fit` or `test`; empty: by cross-validation.
  std::string use;
};

/// Reads a table; faults are written as `runs.csv:3: error: ...`, and then
/// there is nothing.
std::optional<std::vector<RunLine>> readRuns(const std::string &path,
                                             std::ostream &errors);

/// Turns models and lines into problems and runs. Nothing when a model cannot
/// be read or a line does not suit it; faults go to stderr.
struct Runs {
  std::vector<planning::Problem> problems;
  std::vector<calibration::Run> runs; // in the order of the lines
};
std::optional<Runs> loadRuns(const std::string &table,
                             const std::vector<RunLine> &lines,
                             const planning::Topology &topology,
                             planning::Precision precision);

struct FitOptions {
  std::string table, topology, chip, output, predictions, precision = "bf16";
  size_t folds = 2;
  bool noCorrections = false;
  bool wholeBackward = false; // as planning::Bounds
};

/// Fits constants to a table and writes a chip profile; the exit status.
int fit(const FitOptions &options);

/// What the fit says of itself in the profile.
struct FitReport {
  std::string precision;
  size_t runs = 0, shapes = 0;
  double error = 0;              // percent, on the runs it was fitted to
  std::optional<double> heldOut; // percent, on shapes not fitted
};

/// Writes a chip profile (docs/Profiles.md).
void writeProfile(std::ostream &os, const std::string &chip,
                  const calibration::Constants &constants,
                  const FitReport &report);

} // namespace tombolo

#endif // TOMBOLO_TOOLS_TOMBOLO_PROFILE_FITTING_H
