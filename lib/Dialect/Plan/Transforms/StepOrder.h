//===- StepOrder.h - what is complete before an instruction -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_STEPORDER_H
#define TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_STEPORDER_H

#include "tombolo/Dialect/Plan/IR/Plan.h"

#include "llvm/ADT/MapVector.h"

namespace tombolo::plan {

/// Which instructions of a step have run for the last time before another one
/// starts: those before it in its own lane, and those before the signals that
/// it waits for. Only waits for all signals of a step count, as they stand
/// where lanes take turns; what waits inside loops order is left out, so the
/// answer may be no where it could be yes, never the other way round.
class StepOrder {
public:
  explicit StepOrder(StepOp step);

  /// Whether every execution of `earlier` is complete when `later`, which
  /// stands in no loop, starts.
  bool isCompleteBefore(mlir::Operation *earlier, mlir::Operation *later) const;

  /// Instructions of the step, in program order.
  llvm::ArrayRef<mlir::Operation *> getInstructions() const {
    return instructions;
  }

private:
  /// By lane, the number of the last instruction known to be complete.
  using Known = llvm::SmallMapVector<Lane, int64_t, 4>;
  struct Place {
    int64_t number;
    Known before, after;
  };

  llvm::SmallVector<mlir::Operation *> instructions;
  llvm::DenseMap<mlir::Operation *, Place> places;
};

/// How often an instruction runs in a step; saturates.
int64_t countExecutions(mlir::Operation *op);

} // namespace tombolo::plan

#endif // TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_STEPORDER_H
