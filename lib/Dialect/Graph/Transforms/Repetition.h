//===- Repetition.h - which segments make a block ---------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_GRAPH_TRANSFORMS_REPETITION_H
#define TOMBOLO_LIB_DIALECT_GRAPH_TRANSFORMS_REPETITION_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

namespace tombolo::graph {

/// What lies between two successive cuts.
struct Segment {
  unsigned kind = 0; ///< equal exactly for segments that do the same
  unsigned size = 0; ///< ops
  bool hasParameters = false;
  bool hasMatrices = false; ///< parameters of two dimensions or more
  bool readsGiven = true;   ///< what enters the whole sequence
};

/// Divides the segments into blocks: the end of each block, ascending, the
/// last one being the number of segments.
///
/// The repetition that covers the most ops is divided into its periods; the
/// rest, before and after, is treated likewise and is one block where nothing
/// repeats. Only a period with a matrix in it counts as a repetition. Where
/// nothing repeats in the whole sequence, every segment with parameters begins
/// a block.
llvm::SmallVector<unsigned> groupSegments(llvm::ArrayRef<Segment> segments);

/// Whether something with a matrix in it repeats, of which each repetition reads
/// what enters the sequence.
bool repeats(llvm::ArrayRef<Segment> segments);

} // namespace tombolo::graph

#endif // TOMBOLO_LIB_DIALECT_GRAPH_TRANSFORMS_REPETITION_H
