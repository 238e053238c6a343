//===- Overheads.cpp - what functions take on a chip with its software ----===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/CostModel.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tombolo::planning {

double seconds(const Chip &chip, Precision precision, const Work &work,
               double samples) {
  double rate = chip.flopsPerSecond(precision);
  double flops = work.flops.at(samples);
  double compute =
      flops > 0
          ? (rate > 0 ? flops / rate : std::numeric_limits<double>::infinity())
          : 0;
  // A chip of which only efficiencies are known: one roofline for the whole.
  if (chip.overheads == Overheads())
    return std::max(compute,
                    (work.bytes.at(samples) + work.streamed.at(samples)) /
                        chip.bytesPerSecond());
  // Kernels run one after the other: products at the slower of their two
  // limits, all others at that of memory.
  double moved = work.streamed.at(samples) +
                 work.scores.at(samples) * chip.overheads.scoreBytes;
  return std::max(compute, work.bytes.at(samples) / chip.bytesPerSecond()) +
         moved / chip.bytesPerSecond() +
         work.ops * chip.overheads.kernelUs * 1e-6;
}

double functionSeconds(const Chip &chip, Precision precision, const Work &work,
                       double samples, double exchangeSeconds) {
  double told = work.ops;
  for (const Exchange &exchange : work.exchanges)
    told += exchangeSeconds > 0 ? exchange.count : 0;
  return std::max(seconds(chip, precision, work, samples) + exchangeSeconds,
                  told * chip.overheads.launchUs * 1e-6);
}

std::vector<double> Overheads::figures() const {
  return {launchUs,         kernelUs, scoreBytes,  transferUs, stepMs,
          exposedReduction, ringRate, ringLatency, messagePart};
}

void Overheads::setFigures(const std::vector<double> &figures) {
  double *to[kFigures] = {&launchUs,   &kernelUs,    &scoreBytes,
                          &transferUs, &stepMs,      &exposedReduction,
                          &ringRate,   &ringLatency, &messagePart};
  for (size_t i = 0; i < kFigures && i < figures.size(); ++i)
    *to[i] = figures[i];
}

double Overheads::correction(uint64_t tensorParallel, double flops,
                             double bytes) const {
  // A mean of the corrections near by and of one that says 1, in logarithms.
  constexpr double kWidth = 0.15; // of log2
  double sum = 0, weights = 0.05;
  for (const Correction &seen : corrections) {
    if (seen.tensorParallel != tensorParallel)
      continue;
    double work = std::log2(flops / (seen.gflops * 1e9)) / kWidth;
    double size = std::log2(bytes / (seen.mbytes * 1e6)) / kWidth;
    double weight = std::exp(-0.5 * (work * work + size * size));
    if (!std::isfinite(weight))
      continue;
    sum += weight * std::log(seen.ratio);
    weights += weight;
  }
  return std::exp(sum / weights);
}

double Overheads::leastCorrection() const {
  double least = 1;
  for (const Correction &seen : corrections)
    least = std::min(least, seen.ratio);
  return least;
}

} // namespace tombolo::planning
