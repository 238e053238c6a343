//===- StageBlocks.h - what a stage's blocks read and write ---------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_STAGEBLOCKS_H
#define TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_STAGEBLOCKS_H

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Plan/IR/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace tombolo::plan {

/// Values that lie one after the other, each rounded up to 64 bytes.
struct Packing {
  llvm::SmallVector<mlir::RankedTensorType> types;
  llvm::SmallVector<int64_t> offsets;
  int64_t bytes = 0;

  void add(mlir::Type type);
  bool operator==(const Packing &other) const { return types == other.types; }
};

/// A data argument of a block.
struct DataArgument {
  mlir::RankedTensorType type;
  int64_t source = -1;    // the earlier block's result, or -1
  mlir::StringAttr input; // else the model's input,
  bool isStamp = false;   // or what masks are drawn by
  mlir::Attribute split;  // null: whole
};

/// One `dist.run` with its functions taken apart (docs/Architecture.md).
struct RunBlocks {
  dist::RunOp op;
  int64_t first = 0; // number of its first block in its chunk
  int64_t count = 0;
  mlir::func::FuncOp forward, backwardInput, backwardWeight;
  llvm::SmallVector<DataArgument> data;
  Packing outputs; // O
  /// Of O, how each is split over the chips of a replica; null: it is whole.
  llvm::SmallVector<mlir::Attribute> splits;
  Packing saved;   // S
  Packing carried; // C
  /// The results of O that dO belongs to, and dO.
  llvm::SmallVector<int64_t> gradientResults;
  Packing outputGradients;
  /// The arguments of D that dD belongs to, and the types of dD.
  llvm::SmallVector<int64_t> gradientArguments;
  llvm::SmallVector<mlir::RankedTensorType> inputGradients;
  /// The parameters, by number, that dP belongs to.
  llvm::SmallVector<int64_t> trainable;
};

/// Takes the runs of an island apart, by their places in the model
/// (`dist::getPlaces`), and checks that the functions have the signatures of
/// docs/Architecture.md and fit each other.
mlir::FailureOr<std::vector<std::vector<RunBlocks>>>
readIsland(dist::IslandOp island, mlir::SymbolTable &symbols);

} // namespace tombolo::plan

#endif // TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_STAGEBLOCKS_H
