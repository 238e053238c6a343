//===- StrategyProblem.h - the planning problem of a module ---------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_DIST_TRANSFORMS_STRATEGYPROBLEM_H
#define TOMBOLO_LIB_DIALECT_DIST_TRANSFORMS_STRATEGYPROBLEM_H

#include "tombolo/Conversion/ShardModel.h"
#include "tombolo/Planning/Problem.h"

#include "mlir/IR/BuiltinOps.h"

namespace tombolo::dist {

/// Topology and costs of a module as a problem that has passed its check, with
/// the shardings over the numbers of chips that `pins` name; reports what is
/// missing or wrong. `placeOf`: where a path of `pins` stands. `source`:
/// whether the pins are a person's or a whole strategy's.
mlir::FailureOr<planning::Problem>
loadProblem(mlir::ModuleOp module, llvm::StringRef precision,
            uint64_t globalBatch, uint64_t stateBytes,
            const planning::StrategyPins &pins, ShardingSource source,
            llvm::function_ref<mlir::Location(llvm::StringRef)> placeOf);

} // namespace tombolo::dist

#endif // TOMBOLO_LIB_DIALECT_DIST_TRANSFORMS_STRATEGYPROBLEM_H
