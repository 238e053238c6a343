//===- ShardingSeeds.h - a strategy's seeds for its block functions -------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_DIST_TRANSFORMS_SHARDINGSEEDS_H
#define TOMBOLO_LIB_DIALECT_DIST_TRANSFORMS_SHARDINGSEEDS_H

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Graph/Transforms/BlockSharding.h"

#include "mlir/IR/SymbolTable.h"

namespace tombolo::dist {

/// A run with the functions that its stage computes with.
struct ShardedRun {
  RunOp run;
  int64_t count = 1; // chips of a replica
  int64_t microbatch = 1;
  mlir::func::FuncOp block; // batch symbolic
  graph::BlockFunctions functions;
  /// Results of the block that have a gradient.
  llvm::SmallVector<unsigned> gradientOutputs;
};

/// The runs of an island in order, those on one chip, too.
mlir::FailureOr<std::vector<ShardedRun>> readRuns(IslandOp island,
                                                  mlir::SymbolTable &symbols);

/// A strategy's `dist.sharding` by block function and degree.
class SeedTable {
public:
  static mlir::FailureOr<SeedTable> read(StrategyOp strategy,
                                         mlir::SymbolTable &symbols);

  struct Entry {
    ShardingOp op; // null: nothing is said, so all is whole
    graph::ShardingSeeds seeds;
  };
  Entry get(mlir::StringRef block, int64_t count) const;

private:
  mlir::LogicalResult add(ShardingOp op);
  mlir::LogicalResult readMain(mlir::func::FuncOp main);

  struct Block {
    mlir::func::FuncOp function;
    llvm::SmallVector<mlir::StringRef> parameters;
    size_t first; // number of the first of its kind
  };
  std::vector<Block> blocks;
  llvm::StringMap<llvm::DenseMap<int64_t, Entry>> entries;
};

} // namespace tombolo::dist

#endif // TOMBOLO_LIB_DIALECT_DIST_TRANSFORMS_SHARDINGSEEDS_H
