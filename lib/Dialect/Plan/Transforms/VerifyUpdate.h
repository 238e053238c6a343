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

namespace tombolo::plan {

/// Proves of a program that runs on `replicas` replicas of the stage `place`:
/// every byte of the gradients goes through exactly one sum over them, when all
/// that is added to it is there and before anything reads it; what is left
/// scattered over them is read only where its sum is, and every byte of the
/// parameters is then updated by one replica and given to the others before
/// anything else touches it. With one replica nothing goes over replicas.
mlir::LogicalResult verifyUpdate(ProgramOp program, int64_t replicas,
                                 llvm::StringRef place,
                                 const mlir::SymbolTable &symbols);

} // namespace tombolo::plan

#endif // TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_VERIFYUPDATE_H
