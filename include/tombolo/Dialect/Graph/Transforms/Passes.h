//===- Passes.h - passes of the graph dialect -------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_TRANSFORMS_PASSES_H
#define TOMBOLO_DIALECT_GRAPH_TRANSFORMS_PASSES_H

#include "tombolo/Dialect/Graph/IR/GraphDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include <memory>
#include <string>

namespace tombolo::graph {

#define GEN_PASS_DECL
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

} // namespace tombolo::graph

#endif // TOMBOLO_DIALECT_GRAPH_TRANSFORMS_PASSES_H
