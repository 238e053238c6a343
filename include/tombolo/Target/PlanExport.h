//===- PlanExport.h - the plan dialect as plan.proto -----*- C++ -*- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TARGET_PLANEXPORT_H
#define TOMBOLO_TARGET_PLANEXPORT_H

#include "mlir/IR/BuiltinOps.h"

#include <memory>
#include <string>

namespace google::protobuf {
class Arena;
} // namespace google::protobuf

namespace tombolo::plan::v1 {
class Plan;
class Segment;
} // namespace tombolo::plan::v1

namespace tombolo::plan {
class SegmentOp;
} // namespace tombolo::plan

namespace tombolo {

/// The message of one segment.
mlir::LogicalResult exportSegment(plan::SegmentOp segment,
                                  plan::v1::Segment &message);

/// A plan's message and the memory it lies in: as many small parts are given
/// back faster together.
class ExportedPlan {
public:
  ExportedPlan();
  ExportedPlan(ExportedPlan &&) noexcept;
  ExportedPlan &operator=(ExportedPlan &&) noexcept;
  ~ExportedPlan();

  plan::v1::Plan &operator*() const { return *plan; }
  plan::v1::Plan *operator->() const { return plan; }

private:
  std::unique_ptr<google::protobuf::Arena> arena;
  plan::v1::Plan *plan; // in the arena
};

/// The message of a module whose buffers are allocated, without its checksum.
/// Fails with a diagnostic when something is left that has no place in it.
mlir::FailureOr<ExportedPlan> exportPlan(mlir::ModuleOp module);

/// What every runtime checks before it runs a plan (`validatePlan`), and with
/// `progress` that the ranks of each island run to their end together
/// (`checkProgress`).
mlir::LogicalResult checkPlan(const plan::v1::Plan &plan, mlir::Location loc,
                              bool progress = true);

/// The bytes of the plan file, checksum included. Equal plans give equal bytes.
mlir::FailureOr<std::string> serializePlan(const plan::v1::Plan &plan,
                                           mlir::Location loc);

/// Writes a file aside and renames it, so that `path` is either all of it or
/// what it was before.
mlir::LogicalResult writeFile(llvm::StringRef path, llvm::StringRef data,
                              mlir::Location loc);

/// The same for several files (path and data): none is put in its place before
/// all are written aside, so that one that cannot be written leaves the others
/// as they were.
mlir::LogicalResult
writeFiles(llvm::ArrayRef<std::pair<llvm::StringRef, llvm::StringRef>> files,
           mlir::Location loc);

/// The message of a plan file's bytes; null, and said why, when they are no
/// valid plan.
std::unique_ptr<plan::v1::Plan> readPlan(llvm::StringRef bytes,
                                         mlir::Location loc);

/// The message in protobuf's text format, for reading. Fails when the bytes
/// are no valid plan.
mlir::FailureOr<std::string> printPlan(llvm::StringRef bytes,
                                       mlir::Location loc);

/// Registers `--export-plan` (IR with allocated buffers to a plan file),
/// `--print-plan` (a plan file to text) and `--print-segment` (the segment
/// @main to text) with mlir-translate's main.
void registerPlanTranslations();

} // namespace tombolo

#endif // TOMBOLO_TARGET_PLANEXPORT_H
