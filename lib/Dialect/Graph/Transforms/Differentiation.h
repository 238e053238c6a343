//===- Differentiation.h - forward and backward functions of a block -*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_GRAPH_TRANSFORMS_DIFFERENTIATION_H
#define TOMBOLO_LIB_DIALECT_GRAPH_TRANSFORMS_DIFFERENTIATION_H

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/SetVector.h"

namespace tombolo::graph {

/// A block with the ops that compute its gradients behind its own, in one
/// working function whose further arguments are the results' gradients.
struct GradientGraph {
  mlir::func::FuncOp work;
  llvm::SmallVector<mlir::Value> data, parameters, resultGradients;
  llvm::SmallVector<mlir::Value> results;
  llvm::SmallVector<mlir::Value> dataGradients, parameterGradients;
  /// The block's own ops.
  llvm::DenseSet<mlir::Operation *> forwardOps;
  /// Numbers of the trainable parameters that get no gradient here.
  llvm::SmallVector<unsigned> unreached;
};

/// How a block's results are used: by a later block, or as the loss.
struct ResultUse {
  bool readLater = false;
  bool isLoss = false;
};

/// Builds the gradients of a block. The working function stands next to the
/// block; the caller erases it.
mlir::FailureOr<GradientGraph>
buildGradientGraph(mlir::func::FuncOp block,
                   llvm::ArrayRef<ResultUse> resultUses);

/// The three functions of docs/Architecture.md.
struct SplitFunctions {
  mlir::func::FuncOp forward, backwardInput, backwardWeight;
  unsigned savedCount = 0, carriedCount = 0;
};

/// Decides what is saved and carried, and builds the functions from the graph.
/// Their names are `name`.forward and so on.
SplitFunctions splitGradientGraph(GradientGraph &graph, llvm::StringRef name);

} // namespace tombolo::graph

#endif // TOMBOLO_LIB_DIALECT_GRAPH_TRANSFORMS_DIFFERENTIATION_H
