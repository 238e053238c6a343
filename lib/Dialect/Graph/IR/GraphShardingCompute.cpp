//===- GraphShardingCompute.cpp - sharding of ops that compute ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Rules are written as in einsum: B and R are leading dimensions, c channels
// that an op needs together. Elementwise families have theirs in GraphOps.td.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace tombolo::graph;

using Dimension = ShardingRule::Dimension;
using Tensor = ShardingRule::Tensor;
using Rule = FailureOr<ShardingRule>;
using Shard = FailureOr<SmallVector<Value>>;

/// Whether a value is zero everywhere: then it is its own partial sum.
static bool isZero(Value value) {
  while (auto *op = value.getDefiningOp()) {
    if (!isa<BroadcastOp, ReshapeOp>(op))
      break;
    value = op->getOperand(0);
  }
  return matchPattern(value, m_AnyZeroFloat());
}

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

Rule GeluOp::getShardingRule() { return getElementwiseRule(*this); }
Rule GeluBackwardOp::getShardingRule() {
  return getElementwiseRule(*this, {{0}});
}

Rule WhereOp::getShardingRule() {
  OperandSets linear = {{1, 2}};
  if (isZero(getRhs()))
    linear.push_back({1});
  if (isZero(getLhs()))
    linear.push_back({2});
  return getElementwiseRule(*this, linear);
}

//===----------------------------------------------------------------------===//
// Reductions and norms
//===----------------------------------------------------------------------===//

static ShardingRule getReductionRule(Operation *op, ArrayRef<int64_t> axes,
                                     bool keepDims, bool isSum) {
  ShardingRule rule;
  Tensor operand, result;
  for (auto [axis, dim] : llvm::enumerate(getDims(op->getOperand(0)))) {
    bool reduced = llvm::is_contained(axes, static_cast<int64_t>(axis));
    Dimension dimension;
    if (int factor = addFactor(rule, dim, isSum || !reduced); factor >= 0)
      dimension = {factor};
    operand.push_back(dimension);
    if (!reduced)
      result.push_back(dimension);
    else if (keepDims)
      result.emplace_back();
  }
  rule.operands = {operand};
  rule.results = {result};
  setReduced(rule);
  if (isSum)
    rule.linear = {{0}};
  return rule;
}

Rule ReduceSumOp::getShardingRule() {
  return getReductionRule(*this, getAxes(), getKeepDims(), /*isSum=*/true);
}
Rule ReduceMeanOp::getShardingRule() {
  return getReductionRule(*this, getAxes(), getKeepDims(), /*isSum=*/true);
}
// Chips' maxima would have to be exchanged, and only sums are.
Rule ReduceMaxOp::getShardingRule() {
  return getReductionRule(*this, getAxes(), getKeepDims(), /*isSum=*/false);
}

Shard ReduceMeanOp::buildShard(OpBuilder &builder, ValueRange operands,
                               TypeRange types, int factor,
                               const ShardContext &context) {
  Shard results = buildShardByClone(*this, builder, operands, types);
  Dims whole = getDims(getInput()), local = getDims(operands[0]);
  bool split = llvm::any_of(
      getAxes(), [&](int64_t axis) { return whole[axis] != local[axis]; });
  // The mean of `count` means, of equally many elements each.
  if (split)
    results->front() =
        builder.create<DivOp>(getLoc(), results->front(),
                              buildScalar(builder, getLoc(), context.count,
                                          getType().getElementType()));
  return results;
}

Rule SoftmaxOp::getShardingRule() {
  return getEinsumRule(*this, "Rc -> Rc", "c");
}
Rule SoftmaxBackwardOp::getShardingRule() {
  return getEinsumRule(*this, "Rc, Rc -> Rc", "c", {{0}});
}

Rule LayerNormOp::getShardingRule() {
  return getEinsumRule(*this, "Rc, c, c -> Rc, R, R", "c");
}
Rule LayerNormBackwardInputOp::getShardingRule() {
  return getEinsumRule(*this, "Rc, Rc, c, R, R -> Rc", "c", {{0}});
}
// Sums over rows, each channel apart.
Rule LayerNormBackwardWeightOp::getShardingRule() {
  return getEinsumRule(*this, "Rc, Rc, R, R -> c, c", "", {{0}});
}

//===----------------------------------------------------------------------===//
// Loss
//===----------------------------------------------------------------------===//

/// The factor of the vocabulary, the last of the logits; -1 when it has one
/// element.
static int getVocabularyFactor(const ShardingRule &rule) {
  const Dimension &last = rule.operands[0].back();
  return last.empty() ? -1 : last[0];
}

Rule CrossEntropyOp::getShardingRule() {
  ShardingRule rule = getEinsumRule(
      *this, getTokenWeights() ? "Rv, R, R -> , , R" : "Rv, R -> , , R");
  if (int factor = getVocabularyFactor(rule); factor >= 0) {
    ShardingFactor &vocabulary = rule.factors[factor];
    vocabulary.consecutive = true;
    vocabulary.reduced = false;
    vocabulary.allReduced = {getLse().getType()};
    vocabulary.allGathered = {getLse().getType()};
  }
  return rule;
}

Shard CrossEntropyOp::buildShard(OpBuilder &builder, ValueRange operands,
                                 TypeRange types, int factor,
                                 const ShardContext &context) {
  if (getDims(operands[0]).back() == getDims(getLogits()).back())
    return buildShardByClone(*this, builder, operands, types);
  auto part = builder.create<CrossEntropyShardOp>(
      getLoc(), operands[0], operands[1], context.getTensorIndex(),
      getIgnoreIndex(), context.count);
  Value parts =
      builder.create<AllGatherOp>(getLoc(), part.getLse(), context.count);
  Value picked = builder.create<AllReduceOp>(getLoc(), part.getPicked());
  return llvm::to_vector_of<Value>(
      builder
          .create<CrossEntropyMergeOp>(
              getLoc(), parts, picked, operands[1],
              getTokenWeights() ? operands[2] : Value(), getIgnoreIndex())
          .getResults());
}

Rule CrossEntropyBackwardOp::getShardingRule() {
  ShardingRule rule = getEinsumRule(
      *this, getTokenWeights() ? "Rv, R, R, R, -> Rv" : "Rv, R, R, -> Rv");
  if (int factor = getVocabularyFactor(rule); factor >= 0) {
    rule.factors[factor].consecutive = true;
    rule.factors[factor].splittable = !getIndex();
  }
  return rule;
}

Shard CrossEntropyBackwardOp::buildShard(OpBuilder &builder,
                                         ValueRange operands, TypeRange types,
                                         int factor,
                                         const ShardContext &context) {
  if (getDims(operands[0]).back() == getDims(getLogits()).back())
    return buildShardByClone(*this, builder, operands, types);
  return SmallVector<Value>{builder.create<CrossEntropyBackwardOp>(
      getLoc(), types[0], operands[0], operands[1], operands[2],
      getTokenWeights() ? operands[3] : Value(), context.getTensorIndex(),
      getIgnoreIndexAttr(), builder.getI64IntegerAttr(context.count))};
}

//===----------------------------------------------------------------------===//
// Contractions
//===----------------------------------------------------------------------===//

Rule MatmulOp::getShardingRule() {
  std::string words = getTransposeA() ? "Bkm, " : "Bmk, ";
  words += getTransposeB() ? "Bnk" : "Bkn";
  words += ", n -> Bmn";
  return getEinsumRule(*this, words, "",
                       getBias() ? OperandSets{{0, 2}, {1, 2}}
                                 : OperandSets{{0}, {1}});
}

Shard MatmulOp::buildShard(OpBuilder &builder, ValueRange operands,
                           TypeRange types, int factor,
                           const ShardContext &context) {
  SmallVector<Value> local(operands);
  Dims whole = getDims(getLhs()), part = getDims(operands[0]);
  size_t inner = whole.size() - (getTransposeA() ? 2 : 1);
  // The first chip alone adds the bias to its part of the sum.
  if (getBias() && whole[inner] != part[inner]) {
    auto element = getBias().getType().getElementType();
    Value first = builder.create<ConstantOp>(
        getLoc(),
        DenseElementsAttr::get(RankedTensorType::get({}, builder.getI64Type()),
                               builder.getI64IntegerAttr(0).getValue()));
    Value isFirst =
        builder.create<EqualOp>(getLoc(), context.getTensorIndex(), first);
    local[2] =
        builder.create<WhereOp>(getLoc(), isFirst, local[2],
                                buildScalar(builder, getLoc(), 0, element));
  }
  return buildShardByClone(*this, builder, local, types);
}

// Batch and heads; never positions, of which queries need all keys. Where a
// group of query heads reads one head of keys, a broadcast and a reshape in
// front of the op tie the heads to the groups.
Rule AttentionOp::getShardingRule() {
  return getEinsumRule(*this, "Btd, Bsd, Bse -> Bte, Bt", "tsde");
}
Rule AttentionBackwardOp::getShardingRule() {
  return getEinsumRule(*this, "Bte, Btd, Bsd, Bse, Bte, Bt -> Btd, Bsd, Bse",
                       "tsde", {{0}});
}
