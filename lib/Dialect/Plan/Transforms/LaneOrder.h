//===- LaneOrder.h - semaphores between lanes -------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_LANEORDER_H
#define TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_LANEORDER_H

#include "tombolo/Dialect/Plan/IR/Plan.h"

namespace tombolo::plan {

/// Adds semaphores to a program, in front of its step.
class LaneOrder {
public:
  explicit LaneOrder(ProgramOp program) : program(program), builder(program) {
    builder.setInsertionPoint(program.getStep());
  }

  SemaphoreOp addSemaphore(const llvm::Twine &name) {
    return builder.create<SemaphoreOp>(program.getLoc(),
                                       builder.getStringAttr(prefix + name));
  }

  /// Of the names of semaphores from now on.
  void setPrefix(llvm::StringRef text) { prefix = text.str(); }

  /// Has an instruction wait; a value that is never positive always holds.
  void wait(mlir::Operation *op, SemaphoreOp semaphore, ExprAttr value) {
    if (value.isConstant() && value.getConstant() <= 0)
      return;
    auto instruction = mlir::cast<InstructionOpInterface>(op);
    llvm::SmallVector<mlir::Attribute> waits;
    if (auto old = instruction.getWaits())
      llvm::append_range(waits, *old);
    waits.push_back(WaitAttr::get(
        op->getContext(),
        mlir::FlatSymbolRefAttr::get(semaphore.getSymNameAttr()), value));
    instruction.setWaitsAttr(builder.getArrayAttr(waits));
  }

  void signal(mlir::Operation *op, SemaphoreOp semaphore) {
    auto instruction = mlir::cast<InstructionOpInterface>(op);
    llvm::SmallVector<mlir::Attribute> signals;
    if (auto old = instruction.getSignals())
      llvm::append_range(signals, *old);
    signals.push_back(mlir::FlatSymbolRefAttr::get(semaphore.getSymNameAttr()));
    instruction.setSignalsAttr(builder.getArrayAttr(signals));
  }

private:
  ProgramOp program;
  mlir::OpBuilder builder;
  std::string prefix;
};

/// Orders the collectives inside the loops of a body against compute: one
/// starts when the compute in front of it is complete, and compute behind it
/// goes on until it touches memory that the collective works on. What is in the
/// `received` buffers does not come from compute. Names of calls are looked up
/// in `symbols`.
void orderCollectives(mlir::Block &body, const mlir::SymbolTable &symbols,
                      const llvm::DenseSet<mlir::StringAttr> &received,
                      LaneOrder &order);

} // namespace tombolo::plan

#endif // TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_LANEORDER_H
