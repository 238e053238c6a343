//===- Passes.h - passes on the dist dialect --------------*- C++ -*- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_DIST_TRANSFORMS_PASSES_H
#define TOMBOLO_DIALECT_DIST_TRANSFORMS_PASSES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Pass/Pass.h"

#include <functional>
#include <memory>
#include <optional>

namespace tombolo::dist {

#define GEN_PASS_DECL
#include "tombolo/Dialect/Dist/Transforms/Passes.h.inc"

/// Seconds per inner step of a module with one `dist.strategy` on a virtual
/// clock; nothing where it cannot be lowered or run.
using StrategySimulator =
    std::function<std::optional<double>(mlir::OwningOpRef<mlir::ModuleOp>)>;

/// `dist-search-strategy` with a clock for the option `simulate`.
std::unique_ptr<mlir::Pass>
createDistSearchStrategy(DistSearchStrategyOptions options,
                         StrategySimulator simulator);

#define GEN_PASS_REGISTRATION
#include "tombolo/Dialect/Dist/Transforms/Passes.h.inc"

} // namespace tombolo::dist

#endif // TOMBOLO_DIALECT_DIST_TRANSFORMS_PASSES_H
