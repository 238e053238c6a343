//===- GraphToPlan.h - functions of graph ops to plan segments --*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_CONVERSION_GRAPHTOPLAN_H
#define TOMBOLO_CONVERSION_GRAPHTOPLAN_H

#include "tombolo/Dialect/Plan/IR/AttributeNames.h"
#include "tombolo/Dialect/Plan/IR/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

namespace tombolo {

/// Converts a function whose types are static into a segment of the given
/// name, built at `builder`. The segment's arguments are the function's, then
/// one for each result without `plan.in_place`; all row-major, and no two may
/// share memory. Equal ops are computed once (the function is changed so).
/// Failure, with a diagnostic, on a dynamic dimension or an op that is none of
/// docs/PlanFormat.md.
mlir::FailureOr<plan::SegmentOp> convertToSegment(mlir::func::FuncOp function,
                                                  mlir::OpBuilder &builder,
                                                  llvm::StringRef name);

} // namespace tombolo

#endif // TOMBOLO_CONVERSION_GRAPHTOPLAN_H
