//===- PlanPipeline.h - what programs were made from ----------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_TARGET_PLANPIPELINE_H
#define TOMBOLO_LIB_TARGET_PLANPIPELINE_H

#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/schema/plan.pb.h"

namespace tombolo {

/// Writes what the programs of an island were made from, where it says so.
mlir::LogicalResult exportPipeline(plan::IslandOp island,
                                   plan::v1::Island &message);

} // namespace tombolo

#endif // TOMBOLO_LIB_TARGET_PLANPIPELINE_H
