//===- FunctionParts.h - a function between its collectives -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_FUNCTIONPARTS_H
#define TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_FUNCTIONPARTS_H

#include "tombolo/Dialect/Plan/IR/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <variant>

namespace tombolo::plan {

/// Memory during a call of the function that was split.
struct PartMemory {
  enum class Kind {
    Address,    // what the caller passes for argument or result `number`
    Crossing,   // `offset` bytes into the buffer of what crosses parts
    TensorIndex // the rank's number in its replica
  };
  Kind kind = Kind::Address;
  unsigned number = 0;
  int64_t offset = 0;
  /// Added once for each chip before this one in the replica.
  int64_t perTensorIndex = 0;

  bool operator==(const PartMemory &) const = default;
};

/// A call of a part: memory for its arguments, then for its results.
struct PartCall {
  mlir::func::FuncOp function;
  llvm::SmallVector<PartMemory> operands;
};

/// A collective of the replica's chips, in place.
struct PartCollective {
  mlir::Operation *source; // the op of the graph dialect it stands for
  llvm::StringRef kind;
  PartMemory memory;
  int64_t elements;
  mlir::Type type;
  int64_t count; // chips, 0 where the op does not say
};

using PartStep = std::variant<PartCall, PartCollective>;

/// What a call of the function becomes, in order.
struct FunctionParts {
  llvm::SmallVector<PartStep> steps;
  int64_t crossingBytes = 0;
  bool readsTensorIndex = false;
};

/// Whether a function has to be split before it can become a segment: it has a
/// collective or asks for the tensor index.
bool needsSplitting(mlir::func::FuncOp function);

/// Splits a function of one chip's ops at its collectives. The parts are
/// private functions without collectives, added to `symbols` in front of the
/// function, which keeps its body. A collective is done in as few rounds as its
/// operands allow, those of a round one after the other; an op stays between
/// the collectives between which it stands if it can. Values that a part leaves
/// to another one lie in the memory of a result of the function where they are
/// one, else in the buffer of what crosses, which is used again over time.
mlir::FailureOr<FunctionParts> splitAtCollectives(mlir::func::FuncOp function,
                                                  mlir::SymbolTable &symbols);

} // namespace tombolo::plan

#endif // TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_FUNCTIONPARTS_H
