//===- GraphShardingMovement.cpp - sharding of views and movement ---------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include <numeric>

using namespace mlir;
using namespace tombolo::graph;

using Dimension = ShardingRule::Dimension;
using Tensor = ShardingRule::Tensor;
using Rule = FailureOr<ShardingRule>;
using Shard = FailureOr<SmallVector<Value>>;

static void push(Dimension &dimension, int factor) {
  if (factor >= 0)
    dimension.push_back(factor);
}

/// A factor for each dimension.
static Tensor addFactors(ShardingRule &rule, ArrayRef<Dim> dims) {
  Tensor tensor;
  for (Dim dim : dims)
    push(tensor.emplace_back(), addFactor(rule, dim));
  return tensor;
}

/// How many parts a dimension was split into.
static int64_t getParts(Value whole, Value local, int64_t axis) {
  return getDims(whole)[axis].size / getDims(local)[axis].size;
}

//===----------------------------------------------------------------------===//
// Views
//===----------------------------------------------------------------------===//

Rule ReshapeOp::getShardingRule() {
  ShardingRule rule;
  setReshape(rule, getDims(getInput().getType()), getDims(getType()),
             rule.operands.emplace_back(), rule.results.emplace_back());
  rule.linear = {{0}};
  return rule;
}

Rule TransposeOp::getShardingRule() {
  ShardingRule rule;
  Tensor operand = addFactors(rule, getDims(getInput().getType())), result;
  for (int64_t source : getPermutation())
    result.push_back(operand[source]);
  rule.operands = {operand};
  rule.results = {result};
  rule.linear = {{0}};
  return rule;
}

// A partial scalar is partial everywhere; a dimension that is new may be split
// at no cost.
Rule BroadcastOp::getShardingRule() { return getElementwiseRule(*this, {{0}}); }

/// Operands and results of one shape but for the axis, which has no factors
/// yet.
static ShardingRule getAxisRule(Operation *op, int64_t axis) {
  ShardingRule rule;
  Dims dims = getDims(op->getOperand(0));
  dims[axis] = Dim();
  Tensor tensor = addFactors(rule, dims);
  rule.operands.assign(op->getNumOperands(), tensor);
  rule.results.assign(op->getNumResults(), tensor);
  return rule;
}

/// A dimension of consecutive runs, each of which may be split: [runs, run].
static Dimension getRuns(ShardingRule &rule, int64_t size, int64_t runSize,
                         int run) {
  Dimension dimension;
  push(dimension, addFactor(rule, {size / runSize}, /*splittable=*/false));
  push(dimension, run);
  return dimension;
}

// What is cut out is a number of runs, and each run is split: the heads of a
// fused QKV tensor.
Rule SliceOp::getShardingRule() {
  int64_t axis = getAxis(), offset = getOffset(), size = getSize(),
          step = getStep();
  int64_t length = getDims(getInput().getType())[axis].size;
  ShardingRule rule = getAxisRule(*this, axis);
  rule.linear = {{0}};
  if (step == 1) {
    int64_t runSize = std::gcd(length, std::gcd(offset, size));
    int run = addFactor(rule, {runSize});
    rule.operands[0][axis] = getRuns(rule, length, runSize, run);
    rule.results[0][axis] = getRuns(rule, size, runSize, run);
    return rule;
  }
  // One of each `step` elements.
  bool even = size * step == length && offset < step;
  int taken = addFactor(rule, {size}, even);
  push(rule.results[0][axis], taken);
  if (even) {
    push(rule.operands[0][axis], taken);
    push(rule.operands[0][axis], addFactor(rule, {step}, false));
  } else {
    push(rule.operands[0][axis], addFactor(rule, {length}, false));
  }
  return rule;
}

Shard SliceOp::buildShard(OpBuilder &builder, ValueRange operands,
                          TypeRange types, int factor,
                          const ShardContext &context) {
  int64_t parts = getParts(getInput(), operands[0], getAxis());
  // Every step-th element of a part: the same first one in each part.
  int64_t offset = getStep() == 1 ? getOffset() / parts : getOffset();
  return SmallVector<Value>{builder.create<SliceOp>(
      getLoc(), operands[0], getAxis(), offset, getSize() / parts, getStep())};
}

/// The largest run that all sizes are multiples of.
static int64_t getRunSize(ArrayRef<int64_t> sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{0},
                         [](int64_t a, int64_t b) { return std::gcd(a, b); });
}

Rule SplitOp::getShardingRule() {
  int64_t axis = getAxis(), runSize = getRunSize(getSizes());
  ShardingRule rule = getAxisRule(*this, axis);
  rule.linear = {{0}};
  int run = addFactor(rule, {runSize});
  int64_t length = getDims(getInput().getType())[axis].size;
  rule.operands[0][axis] = getRuns(rule, length, runSize, run);
  for (auto [result, size] : llvm::zip(rule.results, getSizes()))
    result[axis] = getRuns(rule, size, runSize, run);
  return rule;
}

Shard SplitOp::buildShard(OpBuilder &builder, ValueRange operands,
                          TypeRange types, int factor,
                          const ShardContext &context) {
  int64_t parts = getParts(getInput(), operands[0], getAxis());
  SmallVector<int64_t> sizes;
  for (int64_t size : getSizes())
    sizes.push_back(size / parts);
  return llvm::to_vector_of<Value>(
      builder.create<SplitOp>(getLoc(), operands[0], getAxis(), sizes)
          .getResults());
}

//===----------------------------------------------------------------------===//
// Data movement
//===----------------------------------------------------------------------===//

Rule ConcatOp::getShardingRule() {
  int64_t axis = getAxis();
  SmallVector<int64_t> sizes;
  for (Value input : getInputs())
    sizes.push_back(getDims(input)[axis].size);
  int64_t runSize = getRunSize(sizes);
  ShardingRule rule = getAxisRule(*this, axis);
  int run = addFactor(rule, {runSize});
  for (auto [operand, size] : llvm::zip(rule.operands, sizes))
    operand[axis] = getRuns(rule, size, runSize, run);
  rule.results[0][axis] =
      getRuns(rule, getDims(getResult())[axis].size, runSize, run);
  rule.linear.emplace_back(
      llvm::to_vector(llvm::seq<int>(0, getInputs().size())));
  return rule;
}

Rule PadOp::getShardingRule() {
  ShardingRule rule;
  Tensor operand, result;
  for (auto [from, to, low] :
       llvm::zip(getDims(getInput().getType()), getDims(getType()), getLow())) {
    if (from == to) {
      push(operand.emplace_back(), addFactor(rule, from));
      result.push_back(operand.back());
      continue;
    }
    int64_t runSize = std::gcd(low, std::gcd(from.size, to.size));
    int run = addFactor(rule, {runSize});
    operand.push_back(getRuns(rule, from.size, runSize, run));
    result.push_back(getRuns(rule, to.size, runSize, run));
  }
  rule.operands = {operand};
  rule.results = {result};
  rule.linear = {{0}};
  return rule;
}

Shard PadOp::buildShard(OpBuilder &builder, ValueRange operands,
                        TypeRange types, int factor,
                        const ShardContext &context) {
  SmallVector<int64_t> low;
  for (auto [axis, offset] : llvm::enumerate(getLow()))
    low.push_back(offset / getParts(getInput(), operands[0], axis));
  return SmallVector<Value>{
      builder.create<PadOp>(getLoc(), types[0], operands[0], low)};
}

Rule CastOp::getShardingRule() {
  // Integers and bools are not summed over chips.
  bool linear = isa<FloatType>(getInput().getType().getElementType()) &&
                isa<FloatType>(getType().getElementType());
  return getElementwiseRule(*this, linear ? OperandSets{{0}} : OperandSets());
}

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

/// Factors of table, indices, and what is looked up. The axis splits when no
/// part of the table was taken yet: a chip looks up what it has.
static ShardingRule getTableRule(ArrayRef<Dim> table, ArrayRef<Dim> indices,
                                 int64_t axis, bool splitsAxis, Tensor &tables,
                                 Tensor &positions, Tensor &slices) {
  ShardingRule rule;
  tables = addFactors(rule, table);
  positions = addFactors(rule, indices);
  if (!tables[axis].empty()) {
    rule.factors[tables[axis][0]].splittable = splitsAxis;
    rule.factors[tables[axis][0]].consecutive = true;
  }
  slices.assign(tables.begin(), tables.begin() + axis);
  slices.append(positions.begin(), positions.end());
  slices.append(tables.begin() + axis + 1, tables.end());
  return rule;
}

Rule GatherOp::getShardingRule() {
  RankedTensorType table = getTable().getType();
  // Integers are not summed over chips.
  bool isFloat = isa<FloatType>(table.getElementType());
  Tensor tables, positions, slices;
  ShardingRule rule =
      getTableRule(getDims(table), getDims(getIndices()), getAxis(),
                   !getIndex() && isFloat, tables, positions, slices);
  rule.operands = {tables, positions};
  if (getIndex())
    rule.operands.emplace_back();
  rule.results = {slices};
  if (isFloat)
    rule.linear = {{0}};
  setReduced(rule);
  return rule;
}

Rule GatherBackwardOp::getShardingRule() {
  Tensor tables, positions, slices;
  ShardingRule rule =
      getTableRule(getDims(getType()), getDims(getIndices()), getAxis(),
                   !getIndex(), tables, positions, slices);
  rule.operands = {slices, positions};
  if (getIndex())
    rule.operands.emplace_back();
  rule.results = {tables};
  rule.linear = {{0}};
  setReduced(rule);
  return rule;
}

/// The op on a part of the table, or on all of it.
template <typename Op>
static Shard buildTableShard(Op op, OpBuilder &builder, ValueRange operands,
                             Type type, bool splitsAxis,
                             const ShardContext &context) {
  if (!splitsAxis)
    return buildShardByClone(op, builder, operands, type);
  return SmallVector<Value>{builder.create<Op>(
      op.getLoc(), type, operands[0], operands[1], context.getTensorIndex(),
      op.getAxisAttr(), builder.getI64IntegerAttr(context.count))};
}

Shard GatherOp::buildShard(OpBuilder &builder, ValueRange operands,
                           TypeRange types, int factor,
                           const ShardContext &context) {
  return buildTableShard(*this, builder, operands, types[0],
                         getParts(getTable(), operands[0], getAxis()) != 1,
                         context);
}

Shard GatherBackwardOp::buildShard(OpBuilder &builder, ValueRange operands,
                                   TypeRange types, int factor,
                                   const ShardContext &context) {
  bool splitsAxis = getDims(cast<RankedTensorType>(types[0]))[getAxis()] !=
                    getDims(getType())[getAxis()];
  return buildTableShard(*this, builder, operands, types[0], splitsAxis,
                         context);
}
