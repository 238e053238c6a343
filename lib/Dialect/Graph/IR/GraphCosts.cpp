//===- GraphCosts.cpp - what ops cost -------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// FLOPs are multiplications and additions counted apart (2 M N K for a matrix
// product), an exponential or a division counts as one. Views cost nothing.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

using namespace mlir;

namespace tombolo::graph {

/// Bytes of all operands and of all results, no FLOPs.
static OpCost getTraffic(Operation *op, int64_t batch) {
  OpCost cost;
  for (Value operand : op->getOperands())
    cost.bytesRead += getNumBytes(operand.getType(), batch);
  for (Value result : op->getResults())
    cost.bytesWritten += getNumBytes(result.getType(), batch);
  return cost;
}

static double elements(Value value, int64_t batch) {
  return getNumElements(value.getType(), batch);
}

OpCost getElementwiseCost(Operation *op, int64_t batch) {
  OpCost cost = getTraffic(op, batch);
  for (Value result : op->getResults())
    cost.flops += elements(result, batch);
  return cost;
}

OpCost ReshapeOp::getCost(int64_t) { return {}; }
OpCost TransposeOp::getCost(int64_t) { return {}; }
OpCost BroadcastOp::getCost(int64_t) { return {}; }
OpCost SliceOp::getCost(int64_t) { return {}; }
OpCost SplitOp::getCost(int64_t) { return {}; }

OpCost GatherOp::getCost(int64_t batch) {
  // Only the rows that are looked up are read.
  OpCost cost;
  cost.bytesWritten = getNumBytes(getType(), batch);
  cost.bytesRead =
      cost.bytesWritten + getNumBytes(getIndices().getType(), batch);
  return cost;
}

OpCost GatherBackwardOp::getCost(int64_t batch) {
  // Zeroes the table, then reads, adds and writes each row.
  OpCost cost = getTraffic(*this, batch);
  double rows = getNumBytes(getGradient().getType(), batch);
  cost.flops = elements(getGradient(), batch);
  cost.bytesRead += rows;
  cost.bytesWritten += rows;
  return cost;
}

static OpCost getReductionCost(Operation *op, int64_t batch) {
  OpCost cost = getTraffic(op, batch);
  cost.flops = elements(op->getOperand(0), batch);
  return cost;
}
OpCost ReduceSumOp::getCost(int64_t batch) {
  return getReductionCost(*this, batch);
}
OpCost ReduceMeanOp::getCost(int64_t batch) {
  return getReductionCost(*this, batch);
}
OpCost ReduceMaxOp::getCost(int64_t batch) {
  return getReductionCost(*this, batch);
}

/// `perElement` operations for each element of operand 0.
static OpCost getRowCost(Operation *op, int64_t batch, double perElement) {
  OpCost cost = getTraffic(op, batch);
  cost.flops = perElement * elements(op->getOperand(0), batch);
  return cost;
}
// Maximum, subtraction, exponential, sum, division.
OpCost SoftmaxOp::getCost(int64_t batch) { return getRowCost(*this, batch, 5); }
OpCost SoftmaxBackwardOp::getCost(int64_t batch) {
  return getRowCost(*this, batch, 4);
}
OpCost LayerNormOp::getCost(int64_t batch) {
  return getRowCost(*this, batch, 8);
}
OpCost LayerNormBackwardInputOp::getCost(int64_t batch) {
  return getRowCost(*this, batch, 11);
}
OpCost LayerNormBackwardWeightOp::getCost(int64_t batch) {
  return getRowCost(*this, batch, 5);
}
OpCost CrossEntropyOp::getCost(int64_t batch) {
  return getRowCost(*this, batch, 4);
}
OpCost CrossEntropyBackwardOp::getCost(int64_t batch) {
  return getRowCost(*this, batch, 3);
}

OpCost CrossEntropyShardOp::getCost(int64_t batch) {
  return getRowCost(*this, batch, 4);
}
OpCost CrossEntropyMergeOp::getCost(int64_t batch) {
  return getRowCost(*this, batch, 4);
}

bool MatmulOp::isContraction() { return true; }
OpCost MatmulOp::getCost(int64_t batch) {
  OpCost cost = getTraffic(*this, batch);
  Dims lhs = getDims(getLhs());
  double inner = lhs[lhs.size() - (getTransposeA() ? 2 : 1)].at(batch);
  double outer = elements(getResult(), batch);
  cost.flops = 2 * outer * inner + (getBias() ? outer : 0);
  return cost;
}

/// Scores of a call: each row of queries meets each row of keys of its head.
static double getScores(Value query, Value key, int64_t batch) {
  Dims k = getDims(key);
  double rows = elements(query, batch) / getDims(query).back().at(batch);
  return rows * k[k.size() - 2].at(batch);
}

/// FLOPs of one product of queries with keys or of scores with values; a
/// causal mask leaves half of it.
static double getScoreProduct(Value query, Value key, Value depth, bool causal,
                              int64_t batch) {
  double flops =
      2 * getScores(query, key, batch) * getDims(depth).back().at(batch);
  return causal ? flops / 2 : flops;
}

bool AttentionOp::isContraction() { return true; }
OpCost AttentionOp::getCost(int64_t batch) {
  OpCost cost = getTraffic(*this, batch);
  cost.scores = getScores(getQuery(), getKey(), batch);
  cost.flops =
      getScoreProduct(getQuery(), getKey(), getQuery(), getCausal(), batch) +
      getScoreProduct(getQuery(), getKey(), getValue(), getCausal(), batch);
  return cost;
}

bool AttentionBackwardOp::isContraction() { return true; }
OpCost AttentionBackwardOp::getCost(int64_t batch) {
  // Scores again, then dq and dk from them; dv and the gradient of the scores.
  OpCost cost = getTraffic(*this, batch);
  cost.scores = 2 * getScores(getQuery(), getKey(), batch);
  cost.flops =
      3 * getScoreProduct(getQuery(), getKey(), getQuery(), getCausal(),
                          batch) +
      2 * getScoreProduct(getQuery(), getKey(), getValue(), getCausal(), batch);
  return cost;
}

void WorkCost::add(CostOpInterface op, const OpCost &cost) {
  double moved = cost.bytesRead + cost.bytesWritten;
  flops += cost.flops;
  (op.isContraction() ? contractedBytes : streamedBytes) += moved;
  scores += cost.scores;
  ops += moved > 0;
}

} // namespace tombolo::graph
