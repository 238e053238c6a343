//===- PlanTimes.h - what a simulator needs of a plan -----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_TARGET_PLANTIMES_H
#define TOMBOLO_LIB_TARGET_PLANTIMES_H

#include "LayerSeconds.h"

#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/Planning/Model.h"
#include "tombolo/schema/plan.pb.h"

#include "mlir/IR/BuiltinOps.h"

#include "llvm/ADT/DenseMap.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tombolo {

/// What segments take on the chips that run them, and the topology they are on.
/// A module without a topology has neither.
class PlanTimes {
public:
  static mlir::FailureOr<PlanTimes> create(mlir::ModuleOp module);

  void exportTopology(plan::v1::Plan &to) const;

  /// The types of chip that run a program, by first use; one without a name
  /// when the module has no topology or nobody runs the program.
  llvm::SmallVector<llvm::StringRef> chipsOf(plan::ProgramOp program) const;
  llvm::StringRef chipOf(plan::ReplicasOp group) const;

  /// Writes what the segments that a program calls take on a chip to `to`, as
  /// which it is exported.
  void exportSeconds(llvm::StringRef chip, plan::ProgramOp program,
                     plan::v1::Program &to) const;

private:
  /// What one call of a segment does.
  static planning::Work workOf(plan::SegmentOp segment);
  /// What a segment takes on a chip by the cost model.
  double computedSeconds(const planning::Chip &chip, size_t segment) const;
  /// What was measured of a segment on a chip; nothing where nothing was.
  /// `layers`: of its program.
  std::optional<double>
  measuredSeconds(const planning::Chip &chip, size_t segment,
                  const std::optional<LayerSeconds> &layers) const;

  std::optional<planning::Topology> topology;
  planning::Precision precision = planning::Precision::F32;
  std::string modelHash;
  SegmentWorks segments; // in the module's order
  /// By a function's name: its segments.
  std::map<std::string, llvm::SmallVector<size_t>> partsOf;
  llvm::DenseMap<mlir::StringAttr, llvm::SmallVector<llvm::StringRef>> chips;
};

} // namespace tombolo

#endif // TOMBOLO_LIB_TARGET_PLANTIMES_H
