//===- Bandwidth.cpp - the line that a synchronisation needs --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Bandwidth.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace tombolo::planning {

/// By how much one exchange of a fragment holds up the step that needs it.
static double exposedSeconds(const LayerSynchronisation &what,
                             uint64_t fragment, double layerSeconds) {
  double layers = static_cast<double>(what.layers);
  double forward = what.stepSeconds / 3 / layers, backward = 2 * forward;
  std::vector<double> came(what.layers, 0);
  double line = 0; // free from then on; 0 is where the backward pass begins
  for (uint64_t l = what.layers; l-- > 0;)
    if (l % what.fragments == fragment) {
      double done = static_cast<double>(what.layers - l) * backward;
      line = came[l] = std::max(line, done) + layerSeconds;
    }
  double begin = layers * backward +
                 static_cast<double>(what.overlapSteps) * what.stepSeconds;
  double clock = begin;
  for (uint64_t l = 0; l < what.layers; ++l)
    clock = std::max(clock, came[l]) + forward;
  return clock - begin - layers * forward;
}

double computeUtilisation(const LayerSynchronisation &what,
                          double gbitsPerSecond) {
  double layerSeconds = what.parameters * what.bitsPerParameter /
                        static_cast<double>(what.layers) /
                        (gbitsPerSecond * 1e9);
  double exposed = 0;
  for (uint64_t f = 0; f < what.fragments; ++f)
    exposed += exposedSeconds(what, f, layerSeconds);
  double computed = static_cast<double>(what.innerSteps) * what.stepSeconds;
  return computed / (computed + exposed);
}

double neededGbits(const LayerSynchronisation &what, double utilisation) {
  // Utilisation rises with the rate.
  double low = 1e-6, high = 1e9;
  for (int i = 0; i < 100; ++i) {
    double middle = std::sqrt(low * high);
    (computeUtilisation(what, middle) >= utilisation ? high : low) = middle;
  }
  return high;
}

} // namespace tombolo::planning
