//===- VerifyUpdate.h - from gradients to parameters ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_VERIFYUPDATE_H
#define TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_VERIFYUPDATE_H

#include "tombolo/Dialect/Plan/IR/Plan.h"

#include <vector>

namespace tombolo::plan {

/// Bytes [begin, end) of the region "parameters", of one that other stages of
/// the island have, too.
struct SharedBytes {
  int64_t begin = 0, end = 0;
  llvm::SmallVector<int64_t> stages; ///< that have it, ascending
};

/// Of each program of an island, in order, the trainable parameters that other
/// stages have; program i is of stage `stages[i]`.
std::vector<llvm::SmallVector<SharedBytes>>
findShared(llvm::ArrayRef<ProgramOp> programs, llvm::ArrayRef<int64_t> stages);

/// Proves of a program that runs on `replicas` replicas of the stage `place`:
/// every byte of the gradients goes through exactly one sum over them, or,
/// where the parameter is `shared`, over all replicas of the stages that have
/// it, when all that is added to it is there and before anything reads it; what
/// is left scattered over them is read only where its sum is, and every byte of
/// the parameters is then updated by one replica and given to the others before
/// anything else touches it. With one replica nothing goes over replicas.
mlir::LogicalResult verifyUpdate(ProgramOp program, int64_t replicas,
                                 llvm::StringRef place,
                                 llvm::ArrayRef<SharedBytes> shared,
                                 const mlir::SymbolTable &symbols);

/// Proves, where gradients are clipped by their norm: on all ranks together
/// that have a gradient its square counts once, when it is complete; the sum
/// goes through one reduction over the island, unless its only rank `isAlone`,
/// before anything reads it. `replicasOf` has the number of replicas of each
/// stage, each of which has `tensorParallel` ranks.
mlir::LogicalResult verifyNorm(ProgramOp program, int64_t stage,
                               int64_t tensorParallel,
                               llvm::ArrayRef<int64_t> replicasOf,
                               llvm::StringRef place,
                               const mlir::SymbolTable &symbols);

} // namespace tombolo::plan

#endif // TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_VERIFYUPDATE_H
