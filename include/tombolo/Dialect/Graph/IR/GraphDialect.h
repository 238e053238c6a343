//===- GraphDialect.h - the graph dialect --------------------- -*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_IR_GRAPHDIALECT_H
#define TOMBOLO_DIALECT_GRAPH_IR_GRAPHDIALECT_H

#include "mlir/IR/Dialect.h"

#include "tombolo/Dialect/Graph/IR/GraphDialect.h.inc"

#define GET_ATTRDEF_CLASSES
#include "tombolo/Dialect/Graph/IR/GraphAttrs.h.inc"

namespace tombolo::graph {

/// Names of the attributes that stand for contracts between passes
/// (docs/Architecture.md).
inline constexpr llvm::StringLiteral kModelHashAttr = "graph.model_hash";
inline constexpr llvm::StringLiteral kModelFileAttr = "graph.model_file";
inline constexpr llvm::StringLiteral kInputAttr = "graph.input";
inline constexpr llvm::StringLiteral kOutputAttr = "graph.output";
inline constexpr llvm::StringLiteral kLabelAttr = "graph.label";
inline constexpr llvm::StringLiteral kParameterAttr = "graph.parameter";
inline constexpr llvm::StringLiteral kTrainable = "trainable";
inline constexpr llvm::StringLiteral kFrozen = "frozen";
inline constexpr llvm::StringLiteral kBlockAttr = "graph.block";
inline constexpr llvm::StringLiteral kForwardAttr = "graph.forward";
inline constexpr llvm::StringLiteral kBackwardInputAttr =
    "graph.backward_input";
inline constexpr llvm::StringLiteral kBackwardWeightAttr =
    "graph.backward_weight";
inline constexpr llvm::StringLiteral kSavedCountAttr = "graph.saved_count";
inline constexpr llvm::StringLiteral kCarriedCountAttr =
    "graph.carried_count";
/// Of an argument of @main and of blocks (unit), tensor<4xi64>: seed, step, number
/// of the first sample in the step, number of the block; what random masks
/// depend on.
inline constexpr llvm::StringLiteral kStampAttr = "graph.stamp";
/// Of a parameter (unit): weight decay does not apply to it.
inline constexpr llvm::StringLiteral kUndecayedAttr = "graph.undecayed";
/// Of a function (i64): it is what one of so many chips computes. Without it
/// the function is for one chip alone.
inline constexpr llvm::StringLiteral kTensorParallelAttr =
    "graph.tensor_parallel";
/// Of an argument or result of a function of one chip, array<i64: dimension,
/// outer, count>: the whole value's dimension of size N is seen as
/// [outer, count, N / (outer count)], and chip i has [:, i, :]. Without it the
/// value is whole.
inline constexpr llvm::StringLiteral kSplitAttr = "graph.split";
/// Of a result of a function of one chip (unit): the value is the sum over the
/// chips, which is still to be taken.
inline constexpr llvm::StringLiteral kPartialAttr = "graph.partial";
/// Of an op of a function of a block, array<i64: choice, outer>: what it splits
/// over the chips; OpSharding::getCode. Without it the op is computed whole.
inline constexpr llvm::StringLiteral kChoiceAttr = "graph.choice";
/// Of a function (i64): the chips that its ops' choices are for.
inline constexpr llvm::StringLiteral kChoicesOverAttr = "graph.choices_over";

} // namespace tombolo::graph

#endif // TOMBOLO_DIALECT_GRAPH_IR_GRAPHDIALECT_H
