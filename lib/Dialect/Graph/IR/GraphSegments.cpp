//===- GraphSegments.cpp - what segment ops may do with memory ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The marks in the table of docs/PlanFormat.md.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

using namespace mlir;
using namespace tombolo::graph;

bool ConcatOp::canAccumulate(unsigned) { return true; }
bool PadOp::canAccumulate(unsigned) { return true; }
bool GatherBackwardOp::canAccumulate(unsigned) { return true; }
bool AddOp::canAccumulate(unsigned) { return true; }
bool SubOp::canAccumulate(unsigned) { return true; }
bool MulOp::canAccumulate(unsigned) { return true; }
bool DivOp::canAccumulate(unsigned) { return true; }
bool PowOp::canAccumulate(unsigned) { return false; }
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

bool AddOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool SubOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool MulOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool DivOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool PowOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool NegOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool ExpOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool LogOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool SqrtOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool ReciprocalOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool TanhOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool ErfOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool SigmoidOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool ReluOp::canWriteInPlace(unsigned, unsigned) { return true; }
bool SoftplusOp::canWriteInPlace(unsigned, unsigned) { return true; }
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
