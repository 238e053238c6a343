//===- GraphInterfaces.h - interfaces of graph ops --------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_IR_GRAPHINTERFACES_H
#define TOMBOLO_DIALECT_GRAPH_IR_GRAPHINTERFACES_H

#include "tombolo/Dialect/Graph/IR/GraphTypes.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/OpDefinition.h"

namespace tombolo::graph {

/// What one execution of an op costs.
struct OpCost {
  double flops = 0;
  double bytesRead = 0;
  double bytesWritten = 0;
  /// Of attention: one for each row of queries and of keys of a head; backward
  /// takes each twice.
  double scores = 0;
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

/// A loop of an op as one would write it with indices (the letters of an einsum).
struct ShardingFactor {
  /// Iterations, perhaps a multiple of the batch.
  Dim size;
  /// Whether parts of it may lie on different chips: of [outer, k, rest]
  /// iterations, chip i has [:, i, :].
  bool splittable = true;
  /// Whether the parts must be consecutive: outer is 1.
  bool consecutive = false;
  /// Whether results without this factor are partial sums of the whole; if
  /// not, they are whole on every chip.
  bool reduced = false;
  /// What `buildShard` itself exchanges over the chips when this is split:
  /// tensors that are summed, and the parts, one of each chip, of tensors that
  /// are gathered.
  llvm::SmallVector<mlir::RankedTensorType, 1> allReduced, allGathered;
};

/// How an op may be split over chips. A dimension is a list of factors, major
/// to minor, whose sizes multiply to its size: a reshape of [6] to [2, 3] has
/// factors {a: 2, b: 3} and dimensions [[a, b]] and [[a], [b]]. Splitting factor
/// f splits every dimension that has it; operands without it are whole. A tensor
/// has a factor at most once. GraphSharding.h has what to do with a rule.
struct ShardingRule {
  using Dimension = llvm::SmallVector<int, 2>;
  using Tensor = llvm::SmallVector<Dimension, 4>;

  llvm::SmallVector<ShardingFactor> factors;
  llvm::SmallVector<Tensor> operands;
  llvm::SmallVector<Tensor> results;
  /// Sets of operands in which the op is linear together: when all operands of a
  /// set are partial sums and the others whole, its results are partial sums.
  llvm::SmallVector<llvm::SmallVector<int, 2>, 2> linear;
};

/// What `buildShard` may ask for.
struct ShardContext {
  /// Chips of a tensor-parallel replica.
  int64_t count;
  /// The chip's number among them, tensor<i64>.
  llvm::function_ref<mlir::Value()> getTensorIndex;
};

/// The op itself on local operands with local result types.
mlir::FailureOr<llvm::SmallVector<mlir::Value>>
buildShardByClone(mlir::Operation *op, mlir::OpBuilder &builder,
                  mlir::ValueRange operands, mlir::TypeRange resultTypes);

} // namespace tombolo::graph

#include "tombolo/Dialect/Graph/IR/GraphInterfaces.h.inc"

namespace tombolo::graph {

/// What ops cost a chip together, by what bounds their time.
struct WorkCost {
  double flops = 0;
  double contractedBytes = 0; // moved by contractions while they compute
  double streamedBytes = 0;   // moved by all other ops
  double scores = 0;          // of attention
  double ops = 0;             // that are run: a view is none

  /// `cost`: what `op` costs on one chip.
  void add(CostOpInterface op, const OpCost &cost);
};

} // namespace tombolo::graph

#endif // TOMBOLO_DIALECT_GRAPH_IR_GRAPHINTERFACES_H
