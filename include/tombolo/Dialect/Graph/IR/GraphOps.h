//===- GraphOps.h - ops of the graph dialect ------------------ -*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_IR_GRAPHOPS_H
#define TOMBOLO_DIALECT_GRAPH_IR_GRAPHOPS_H

#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Graph/IR/GraphInterfaces.h"
#include "tombolo/Dialect/Graph/IR/GraphSharding.h"
#include "tombolo/Dialect/Graph/IR/GraphTypes.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#define GET_OP_CLASSES
#include "tombolo/Dialect/Graph/IR/GraphOps.h.inc"

namespace tombolo::graph {

/// A scalar constant (rank 0) of a float element type.
mlir::Value buildScalar(mlir::OpBuilder &builder, mlir::Location loc,
                        double value, mlir::Type elementType);

/// A tensor of zeros: a scalar constant, broadcast.
mlir::Value buildZeros(mlir::OpBuilder &builder, mlir::Location loc,
                       mlir::RankedTensorType type);

/// `value` cast to the element type, or itself.
mlir::Value buildCast(mlir::OpBuilder &builder, mlir::Location loc,
                      mlir::Value value, mlir::Type elementType);

/// `value` reshaped to the type, or itself.
mlir::Value buildReshape(mlir::OpBuilder &builder, mlir::Location loc,
                         mlir::Value value, mlir::RankedTensorType type);

/// The sum of `gradient` over the dimensions along which an operand of type
/// `type` was broadcast: the gradient of that operand.
mlir::Value sumToShape(mlir::OpBuilder &builder, mlir::Location loc,
                       mlir::Value gradient, mlir::RankedTensorType type);

} // namespace tombolo::graph

#endif // TOMBOLO_DIALECT_GRAPH_IR_GRAPHOPS_H
