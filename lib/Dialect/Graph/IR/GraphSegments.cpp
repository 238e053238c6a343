//===- GraphSegments.cpp - what segment ops may do with memory ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The marks in the table of docs/PlanFormat.md; families have theirs in
// GraphOps.td.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

using namespace mlir;
using namespace tombolo::graph;

bool ConcatOp::canAccumulate(unsigned) { return true; }
bool PadOp::canAccumulate(unsigned) { return true; }
bool GatherBackwardOp::canAccumulate(unsigned) { return true; }
bool ReduceSumOp::canAccumulate(unsigned) { return true; }
bool ReduceMeanOp::canAccumulate(unsigned) { return true; }
bool ReduceMaxOp::canAccumulate(unsigned) { return false; }
bool LayerNormBackwardWeightOp::canAccumulate(unsigned) { return true; }
// Loss and weights, never the log-sum-exp.
bool CrossEntropyOp::canAccumulate(unsigned result) { return result < 2; }
bool CrossEntropyMergeOp::canAccumulate(unsigned result) { return result < 2; }
bool MatmulOp::canAccumulate(unsigned) { return true; }

bool MatmulOp::canWriteView(unsigned) { return true; }
bool AttentionOp::canWriteView(unsigned result) { return result == 0; }
bool AttentionBackwardOp::canWriteView(unsigned) { return true; }

bool CrossEntropyBackwardOp::canWriteInPlace(unsigned, unsigned operand) {
  return operand == 0;
}
bool OptimizerAdvanceOp::canWriteInPlace(unsigned, unsigned operand) {
  return operand == 1;
}
// Operands: parameter, gradient, weight, updates, state...
bool SgdOp::canWriteInPlace(unsigned result, unsigned operand) {
  return operand == (result == 0 ? 0 : 3 + result);
}
bool AdamwOp::canWriteInPlace(unsigned result, unsigned operand) {
  return operand == (result == 0 ? 0 : 3 + result);
}
