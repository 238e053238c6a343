//===- GraphFamilies.h - type inference of families of ops ------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the families of GraphOps.td call.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_GRAPH_IR_GRAPHFAMILIES_H
#define TOMBOLO_LIB_DIALECT_GRAPH_IR_GRAPHFAMILIES_H

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Location.h"
#include "mlir/IR/Value.h"

namespace tombolo::graph {

/// The shape to which both operands broadcast; their element type, unless
/// another one is given.
mlir::LogicalResult inferBroadcast(std::optional<mlir::Location> location,
                                   mlir::Value lhs, mlir::Value rhs,
                                   mlir::Type resultElement,
                                   llvm::SmallVectorImpl<mlir::Type> &types);

/// The type of `value`, which `other`, if any, must have, too.
mlir::LogicalResult inferLike(std::optional<mlir::Location> location,
                              mlir::Value value, mlir::Value other,
                              llvm::SmallVectorImpl<mlir::Type> &types);

inline mlir::Type getBool(mlir::Value value) {
  return mlir::IntegerType::get(value.getContext(), 1);
}

} // namespace tombolo::graph

#endif // TOMBOLO_LIB_DIALECT_GRAPH_IR_GRAPHFAMILIES_H
