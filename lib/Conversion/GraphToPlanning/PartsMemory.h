//===- PartsMemory.h - scratch of a function on each chip -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_CONVERSION_GRAPHTOPLANNING_PARTSMEMORY_H
#define TOMBOLO_LIB_CONVERSION_GRAPHTOPLANNING_PARTSMEMORY_H

#include "tombolo/Dialect/Graph/Transforms/BlockSharding.h"

namespace tombolo {

/// Bytes of one chip of a replica during a call of one of a block's functions.
struct PartsMemory {
  double inner = 0;    // the most that lives at once inside of a part
  double crossing = 0; // the most that parts and collectives leave to others
};

/// Foretells what plan-expand-collectives and plan-lower-segments lay out for
/// `function` of a block, without building the chip's function: it is cut into
/// parts at the rounds of its collectives.
PartsMemory getPartsMemory(const graph::BlockGraph &graph,
                           const graph::BlockStates &states, unsigned function,
                           int64_t batch);

} // namespace tombolo

#endif // TOMBOLO_LIB_CONVERSION_GRAPHTOPLANNING_PARTSMEMORY_H
