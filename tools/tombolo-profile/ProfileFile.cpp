//===- ProfileFile.cpp - writing fitted constants as a chip profile -------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Fitting.h"

#include <iomanip>
#include <ostream>

namespace tombolo {

void writeProfile(std::ostream &os, const std::string &chip,
                  const calibration::Constants &constants,
                  const FitReport &report) {
  const planning::Overheads &over = constants.overheads;
  os << std::setprecision(6);
  os << "tombolo_profile: 1\nchip: " << chip
     << "\nfit: {precision: " << report.precision << ", runs: " << report.runs
     << ", shapes: " << report.shapes << ", error_percent: " << report.error;
  if (report.heldOut)
    os << ", held_out_error_percent: " << *report.heldOut;
  os << "}\nefficiency:\n  matmul: " << constants.matmul
     << "\n  memory: " << constants.memory << "\n  launch_us: " << over.launchUs
     << "\n  kernel_us: " << over.kernelUs
     << "\n  score_bytes: " << over.scoreBytes
     << "\n  transfer_us: " << over.transferUs << "\n  step_ms: " << over.stepMs
     << "\n  exposed_reduction: " << over.exposedReduction << "\n";
  if (!over.corrections.empty())
    os << "  corrections:\n";
  for (const planning::Overheads::Correction &seen : over.corrections)
    os << "    - {tensor_parallel: " << seen.tensorParallel
       << ", gflops: " << seen.gflops << ", mbytes: " << seen.mbytes
       << ", ratio: " << seen.ratio << "}\n";
  auto wire = [&](const char *name, const std::optional<planning::Wire> &wire) {
    if (wire)
      os << name << ": {gbits_per_second: " << wire->gbitsPerSecond
         << ", latency_us: " << wire->latencyUs << "}\n";
  };
  wire("intra_node", constants.intraNode);
  wire("inter_node", constants.interNode);
}

} // namespace tombolo
