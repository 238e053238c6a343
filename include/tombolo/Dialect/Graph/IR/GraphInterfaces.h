//===- GraphInterfaces.h - interfaces of graph ops --------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_IR_GRAPHINTERFACES_H
#define TOMBOLO_DIALECT_GRAPH_IR_GRAPHINTERFACES_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/OpDefinition.h"

namespace tombolo::graph {

/// What one execution of an op costs.
struct OpCost {
  double flops = 0;
  double bytesRead = 0;
  double bytesWritten = 0;

  OpCost &operator+=(const OpCost &other) {
    flops += other.flops;
    bytesRead += other.bytesRead;
    bytesWritten += other.bytesWritten;
    return *this;
  }
};

/// One operation per result element; operands read and results written once.
OpCost getElementwiseCost(mlir::Operation *op, int64_t batch);

/// Where the elements of a tensor lie: element [i...] is at
/// offset + sum(i * stride), in elements.
struct StridedView {
  llvm::SmallVector<int64_t> shape;
  llvm::SmallVector<int64_t> strides;
  int64_t offset = 0;
};

/// The strides of a reshape to `shape` over the elements of `source` in
/// row-major order; failure when there are none and a copy is needed.
mlir::FailureOr<llvm::SmallVector<int64_t>>
getReshapedStrides(const StridedView &source, llvm::ArrayRef<int64_t> shape);

/// For each dimension of each operand and result the factor it belongs to
/// (-1: none; such a dimension cannot be split). Dimensions of one factor are
/// split alike; over a factor in `reductions` results are partial sums.
struct ShardingRule {
  llvm::SmallVector<llvm::SmallVector<int>> operands;
  llvm::SmallVector<llvm::SmallVector<int>> results;
  llvm::SmallVector<int64_t> factorSizes;
  llvm::SmallVector<int> reductions;
};

} // namespace tombolo::graph

#include "tombolo/Dialect/Graph/IR/GraphInterfaces.h.inc"

#endif // TOMBOLO_DIALECT_GRAPH_IR_GRAPHINTERFACES_H
