//===- StrategyClock.h - strategies on a virtual clock --------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PIPELINES_STRATEGYCLOCK_H
#define TOMBOLO_PIPELINES_STRATEGYCLOCK_H

#include "tombolo/Pipelines/Pipelines.h"
#include "tombolo/Planning/Strategy.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/OwningOpRef.h"

#include <optional>
#include <vector>

namespace tombolo {

/// Lowers strategies and runs their plans on a virtual clock.
class StrategyClock {
public:
  explicit StrategyClock(LoweringPipelineOptions options);

  /// Seconds per inner step of a module with differentiated blocks, a topology
  /// and one strategy. Nothing where it cannot be lowered or run. What is wrong
  /// with it is told when it is taken.
  std::optional<double> run(mlir::OwningOpRef<mlir::ModuleOp> module);

  /// The module that was lowered for a strategy, as `addDistPasses` and
  /// `addSchedulePasses` leave it, with their diagnostics; null where there is
  /// none.
  mlir::OwningOpRef<mlir::ModuleOp>
  takeLowered(const planning::Strategy &strategy);

private:
  struct Lowered {
    planning::Strategy strategy;
    mlir::OwningOpRef<mlir::ModuleOp> module;
    std::vector<mlir::Diagnostic> diagnostics;
  };

  LoweringPipelineOptions options;
  std::vector<Lowered> lowered;
};

} // namespace tombolo

#endif // TOMBOLO_PIPELINES_STRATEGYCLOCK_H
