//===- Specialize.h - batch size and precision of functions -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What dist-specialize-blocks does to the functions of a block, once per
// distinct (block, microbatch, precision).
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_TRANSFORMS_SPECIALIZE_H
#define TOMBOLO_DIALECT_GRAPH_TRANSFORMS_SPECIALIZE_H

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace tombolo::graph {

/// The functions of a differentiated block and the lengths of the lists they
/// share (docs/Architecture.md).
struct BlockFunctions {
  mlir::func::FuncOp forward, backwardInput, backwardWeight;
  unsigned savedCount = 0, carriedCount = 0;

  /// Looks up the functions a block names; failure (with a diagnostic) when
  /// the block is not differentiated or its functions do not exist.
  static mlir::FailureOr<BlockFunctions> get(mlir::func::FuncOp block);

  /// Results of the forward function that are the block's own.
  unsigned getOutputCount() {
    return forward.getNumResults() - savedCount;
  }
  /// Data, parameters, and gradients of results that the functions take.
  unsigned getParameterCount();
  unsigned getDataCount() {
    return forward.getNumArguments() - getParameterCount();
  }
  unsigned getGradientCount() {
    return backwardInput.getNumArguments() - forward.getNumArguments() -
           savedCount;
  }
};

/// Gives the batch dimension of every value in the function the size `batch`
/// (at least 1).
void specializeBatch(mlir::func::FuncOp function, int64_t batch);

/// Stores activations and feeds matrix products in bf16 (design: parameters,
/// their gradients, statistics of norms, softmax and loss stay f32). Changes
/// the types of the three functions alike.
void lowerPrecision(BlockFunctions functions);

} // namespace tombolo::graph

#endif // TOMBOLO_DIALECT_GRAPH_TRANSFORMS_SPECIALIZE_H
