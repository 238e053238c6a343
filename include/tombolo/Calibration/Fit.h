//===- Fit.h - constants of a chip from measured iterations ---------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_CALIBRATION_FIT_H
#define TOMBOLO_CALIBRATION_FIT_H

#include "tombolo/Planning/CostModel.h"

#include <optional>
#include <string>
#include <vector>

namespace tombolo::calibration {

/// One measured iteration.
struct Run {
  size_t problem = 0; // index into the problems
  planning::Strategy strategy;
  double seconds = 0;
  std::string shape; // runs of one shape are held out together
};

/// What is fitted: the efficiencies and overheads of a chip and the wires of
/// its pools.
struct Constants {
  double matmul = 0.5;
  double memory = 0.7;
  planning::Overheads overheads;
  std::optional<planning::Wire> intraNode, interNode;

  /// Those that a topology has for a chip.
  static Constants of(const planning::Topology &topology,
                      const std::string &chip);
  void applyTo(planning::Topology &topology, const std::string &chip) const;
};

/// What `evaluateIsland` foretells of a run with these constants.
double predict(planning::Problem &problem, const std::string &chip,
               const Constants &constants, const Run &run);

struct FitOptions {
  std::string chip;
  /// Whether blocks that were seen often enough get a correction of their own.
  bool corrections = true;
};

/// Fits by least squares (Ceres) on the logarithms of the times, with a loss
/// under which the pull of a run fades beyond 5 % so that disturbed ones count
/// for little, from `start` on and from there with a slower host; constants
/// that no run depends on stay as they are.
/// `used`: indices of the runs to fit on. `problems` are left with the result.
Constants fit(std::vector<planning::Problem> &problems,
              const std::vector<Run> &runs, const std::vector<size_t> &used,
              const Constants &start, const FitOptions &options);

/// Mean of |predicted / measured - 1| in percent over some of the runs.
double meanError(std::vector<planning::Problem> &problems,
                 const std::vector<Run> &runs,
                 const std::vector<size_t> &chosen, const Constants &constants,
                 const std::string &chip);

} // namespace tombolo::calibration

#endif // TOMBOLO_CALIBRATION_FIT_H
