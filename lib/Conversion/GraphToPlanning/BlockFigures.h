//===- BlockFigures.h - what a block costs on each chip -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_CONVERSION_GRAPHTOPLANNING_BLOCKFIGURES_H
#define TOMBOLO_LIB_CONVERSION_GRAPHTOPLANNING_BLOCKFIGURES_H

#include "ShardingBuilder.h"

namespace tombolo {

/// The line through a figure at one and at two samples.
planning::Affine lineThrough(double one, double two);

/// What ops cost on any number of samples, from what they do on one and on two.
planning::Work lineThrough(const graph::WorkCost &one,
                           const graph::WorkCost &two);

/// The most bytes of inner values that live at once in a function. Results and
/// arguments are the caller's; constants are part of the program. `bytesOf`:
/// what a value takes while it lives.
double getWorkspaceBytes(mlir::func::FuncOp function,
                         llvm::function_ref<double(mlir::Value)> bytesOf);

/// A kind's figures on each chip of a replica, from those on one chip.
planning::BlockKind shardFigures(const planning::BlockKind &whole,
                                 const ChainKind &chain,
                                 const graph::BlockGraph &graph,
                                 const graph::BlockSharding &sharding);

} // namespace tombolo

#endif // TOMBOLO_LIB_CONVERSION_GRAPHTOPLANNING_BLOCKFIGURES_H
