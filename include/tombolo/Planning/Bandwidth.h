//===- Bandwidth.h - the line that a synchronisation needs ----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_BANDWIDTH_H
#define TOMBOLO_PLANNING_BANDWIDTH_H

#include <cstdint>

namespace tombolo::planning {

/// How replicas in two places are kept together, layer by layer: the setting of
/// Douillard et al., "Streaming DiLoCo with overlapping communication" (2025),
/// section 3.2 and table 4.
///
/// A step is a forward and a backward pass through equal layers, the backward
/// twice as long. Layer l is in fragment l mod `fragments`. Once in
/// `innerSteps` steps a fragment's layers go over the line, one after the
/// other, each as soon as its backward is done; a layer's forward,
/// `overlapSteps` steps later, waits until it has come. Both directions at
/// once, no latency, and no two fragments at the same time.
///
/// Data parallelism is one fragment and `innerSteps` 1; DiLoCo one fragment.
struct LayerSynchronisation {
  uint64_t layers = 1;
  double parameters = 0;
  double bitsPerParameter = 16;
  double stepSeconds = 1;
  uint64_t innerSteps = 1;
  uint64_t fragments = 1;
  uint64_t overlapSteps = 0;
};

/// The part of the time in which is computed, in (0, 1].
double computeUtilisation(const LayerSynchronisation &what,
                          double gbitsPerSecond);

/// The slowest line that reaches a utilisation, in (0, 1), in Gbit/s.
double neededGbits(const LayerSynchronisation &what, double utilisation);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_BANDWIDTH_H
