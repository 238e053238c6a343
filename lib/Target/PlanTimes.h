//===- PlanTimes.h - what a simulator needs of a plan -----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_TARGET_PLANTIMES_H
#define TOMBOLO_LIB_TARGET_PLANTIMES_H

#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/Planning/CostModel.h"
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
  /// What is known of a segment on a chip beyond that; nothing where nothing
  /// is. `calls`: of its program, or null.
  std::optional<double>
  measuredSeconds(const planning::Chip &chip, size_t segment,
                  const planning::CallSeconds *calls) const;

  std::optional<planning::Topology> topology;
  planning::Precision precision = planning::Precision::F32;
  std::string modelHash;
  /// In the module's order, with what one call does.
  std::vector<std::pair<plan::SegmentOp, planning::Work>> segments;
  /// By a function's name: its segments.
  std::map<std::string, llvm::SmallVector<size_t>> partsOf;
  llvm::DenseMap<mlir::StringAttr, llvm::SmallVector<llvm::StringRef>> chips;
  /// By program and chip; of an update, seconds of one parameter.
  std::map<std::pair<std::string, std::string>, planning::CallSeconds> calls;
};

} // namespace tombolo

#endif // TOMBOLO_LIB_TARGET_PLANTIMES_H
