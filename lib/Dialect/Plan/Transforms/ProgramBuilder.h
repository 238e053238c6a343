//===- ProgramBuilder.h - writes the program of one stage ------------ ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_PROGRAMBUILDER_H
#define TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_PROGRAMBUILDER_H

#include "StageBlocks.h"

#include "tombolo/Dialect/Dist/Transforms/Fragments.h"
#include "tombolo/Planning/StageSchedule.h"

namespace tombolo::plan {

/// When an island exchanges which parameters with a server.
struct Synchronisation {
  int64_t innerSteps = 1; // H
  int64_t fragments = 1;
  int64_t overlapSteps = 0;
  dist::FragmentOf fragmentOf;
};

/// Everything that the program of a stage's replicas depends on.
struct StageTask {
  std::string name;
  dist::StageOp op;
  /// Of the island, in the order of the model: place c * stages + s has chunk c
  /// of stage s.
  llvm::ArrayRef<std::vector<RunBlocks>> places;
  int64_t stages = 1;
  int64_t stage = 0;
  int64_t replicas = 1;                  // of the stage
  llvm::SmallVector<int64_t> replicasOf; // by stage
  int64_t tensorParallel = 1;
  int64_t ranks = 1;        // of the island
  int64_t microbatches = 0; // of one replica in one step
  planning::Schedule schedule = planning::Schedule::OneFOneB;
  const Synchronisation *synchronisation = nullptr; // null: no server
  bool clipsGradients = false;
};

/// Writes the program at the builder's place. `symbols` is the module's;
/// segments that fill memory with zeros are added there.
mlir::FailureOr<ProgramOp> buildProgram(mlir::OpBuilder &builder,
                                        const StageTask &task,
                                        mlir::SymbolTable &symbols);

} // namespace tombolo::plan

#endif // TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_PROGRAMBUILDER_H
