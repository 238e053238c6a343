//===- Passes.h - passes between dialects -----------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_CONVERSION_PASSES_H
#define TOMBOLO_CONVERSION_PASSES_H

#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Plan/IR/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"
#include <memory>

namespace tombolo {

#define GEN_PASS_DECL
#include "tombolo/Conversion/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "tombolo/Conversion/Passes.h.inc"

} // namespace tombolo

#endif // TOMBOLO_CONVERSION_PASSES_H
