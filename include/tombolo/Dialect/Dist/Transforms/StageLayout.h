//===- StageLayout.h - where a stage's parameters lie ---------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_DIST_TRANSFORMS_STAGELAYOUT_H
#define TOMBOLO_DIALECT_DIST_TRANSFORMS_STAGELAYOUT_H

#include "tombolo/Dialect/Dist/IR/Dist.h"

#include "mlir/IR/SymbolTable.h"

namespace tombolo::dist {

/// Where the parameters of one run lie: parameter k of block l at
/// offset[k] + l * stride of its region, in bytes.
struct RunLayout {
  llvm::SmallVector<int64_t> offsets;
  llvm::SmallVector<bool> frozen;
  int64_t stride = 0;       // of trainable parameters
  int64_t frozenStride = 0; // of frozen ones
  int64_t strideOf(size_t parameter) const {
    return frozen[parameter] ? frozenStride : stride;
  }
};

/// Parameters of one type that lie evenly: parameter k of all blocks of a run.
struct ParameterFamily {
  llvm::SmallVector<mlir::FlatSymbolRefAttr> parameters;
  mlir::RankedTensorType type;
  bool frozen = false;
  int64_t offset = 0;
  int64_t stride = 0;
};

/// Two regions, trainable and frozen, each filled in the order of the stage's
/// runs, block by block, parameters rounded up to 64 bytes. A tied parameter
/// lies where its first user put it.
///
/// Where the optimizer is sharded, replica r updates part r of the trainable
/// region, which is rounded up so that the parts are equal.
struct StageLayout {
  std::vector<RunLayout> runs;
  std::vector<ParameterFamily> families;
  int64_t trainableBytes = 0;
  int64_t frozenBytes = 0;
  int64_t parts = 1;
  int64_t partBytes() const { return trainableBytes / parts; }
};

/// Computes the layout of a stage that has its runs. Fails with a diagnostic
/// when a run names a parameter that does not exist.
mlir::FailureOr<StageLayout> layOut(StageOp stage, mlir::SymbolTable &symbols);

} // namespace tombolo::dist

#endif // TOMBOLO_DIALECT_DIST_TRANSFORMS_STAGELAYOUT_H
