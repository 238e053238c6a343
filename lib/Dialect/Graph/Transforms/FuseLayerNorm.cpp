//===- FuseLayerNorm.cpp - layer_norm from its steps ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Exporters write, before opset 17,
//
//   d = x - mean(x);  y = d / sqrt(mean(d^2) + epsilon) * gamma + beta
//
// First d / sqrt(...) becomes a norm with gamma 1 and beta 0, then the factor
// and the addend take these places: so norms without either are found as well.
//
//===----------------------------------------------------------------------===//

#include "FusePatterns.h"

using namespace mlir;

namespace tombolo::graph {
namespace {

/// The operand of a mean over the last dimension that keeps it; null for
/// anything else.
Value getRowMean(Value value) {
  auto mean = value.getDefiningOp<ReduceMeanOp>();
  if (!mean || !mean.getKeepDims() || mean.getAxes().size() != 1)
    return {};
  RankedTensorType type = mean.getInput().getType();
  return mean.getAxes()[0] + 1 == type.getRank() ? Value(mean.getInput())
                                                 : Value();
}

/// x, when `value` is x - mean(x).
Value getCentered(Value value) {
  auto sub = value.getDefiningOp<SubOp>();
  if (!sub)
    return {};
  Value of = getRowMean(sub.getRhs());
  return of && isSameValue(of, sub.getLhs()) ? Value(sub.getLhs()) : Value();
}

/// x, when `value` is x * x.
Value getSquared(Value value) {
  if (auto pow = value.getDefiningOp<PowOp>())
    return getConstantNumber(pow.getRhs()) == 2.0 ? Value(pow.getLhs())
                                                  : Value();
  if (auto mul = value.getDefiningOp<MulOp>())
    return isSameValue(mul.getLhs(), mul.getRhs()) ? Value(mul.getLhs())
                                                   : Value();
  return {};
}

/// The deviation when `value` is sqrt(variance + epsilon) of `centered`: the
/// epsilon.
std::optional<double> getDeviation(Value value, Value centered) {
  auto sqrt = value.getDefiningOp<SqrtOp>();
  auto add = sqrt ? sqrt.getInput().getDefiningOp<AddOp>() : AddOp();
  if (!add)
    return std::nullopt;
  Value variance = add.getLhs(), addend = add.getRhs();
  std::optional<double> epsilon = getConstantNumber(addend);
  if (!epsilon) {
    std::swap(variance, addend);
    epsilon = getConstantNumber(addend);
  }
  Value square = getRowMean(variance);
  Value of = square ? getSquared(square) : Value();
  if (!epsilon || !of || !isSameValue(of, centered))
    return std::nullopt;
  return epsilon;
}

Value buildChannels(OpBuilder &builder, Location loc, Value like,
                    double value) {
  Type type = cast<RankedTensorType>(like.getType()).getElementType();
  Value scalar = buildScalar(builder, loc, value, type);
  return builder.create<BroadcastOp>(loc, getTensorType(getLastDim(like), type),
                                     scalar);
}

/// Replaces `op` by a norm without factor and addend of what it centers.
LogicalResult normalize(PatternRewriter &rewriter, Operation *op,
                        Value centered, Value deviation) {
  Value input = getCentered(centered);
  std::optional<double> epsilon =
      input ? getDeviation(deviation, centered) : std::nullopt;
  if (!epsilon || input.getType() != op->getResult(0).getType() ||
      getLastDim(input).batch)
    return failure();
  Location loc = op->getLoc();
  auto norm = rewriter.create<LayerNormOp>(
      loc, input, buildChannels(rewriter, loc, input, 1),
      buildChannels(rewriter, loc, input, 0),
      rewriter.getF64FloatAttr(*epsilon));
  rewriter.replaceOp(op, norm.getResult());
  return success();
}

struct FuseDivision : OpRewritePattern<DivOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(DivOp op,
                                PatternRewriter &rewriter) const override {
    return normalize(rewriter, op, op.getLhs(), op.getRhs());
  }
};

/// d * (1 / sqrt(...)), with the reciprocal as an op or as a division.
struct FuseReciprocal : OpRewritePattern<MulOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(MulOp op,
                                PatternRewriter &rewriter) const override {
    for (auto [centered, inverse] : {std::pair(op.getLhs(), op.getRhs()),
                                     std::pair(op.getRhs(), op.getLhs())}) {
      Value deviation;
      if (auto reciprocal = inverse.getDefiningOp<ReciprocalOp>())
        deviation = reciprocal.getInput();
      else if (auto div = inverse.getDefiningOp<DivOp>();
               div && getConstantNumber(div.getLhs()) == 1.0)
        deviation = div.getRhs();
      if (deviation && succeeded(normalize(rewriter, op, centered, deviation)))
        return success();
    }
    return failure();
  }
};

/// A norm that nothing else reads, whose factor is 1 (the addend is 0 then).
LayerNormOp getNorm(Value value, bool mayHaveFactor) {
  auto norm = value.getDefiningOp<LayerNormOp>();
  if (!norm || value != norm.getResult() || !value.hasOneUse() ||
      !norm.getMean().use_empty() || !norm.getRstd().use_empty() ||
      getConstantNumber(norm.getBeta()) != 0.0)
    return {};
  if (!mayHaveFactor && getConstantNumber(norm.getGamma()) != 1.0)
    return {};
  return norm;
}

/// norm * gamma, or norm + beta.
template <typename Op> struct FuseChannels : OpRewritePattern<Op> {
  using OpRewritePattern<Op>::OpRewritePattern;
  LogicalResult matchAndRewrite(Op op,
                                PatternRewriter &rewriter) const override {
    constexpr bool isAddend = std::is_same_v<Op, AddOp>;
    for (auto [value, other] : {std::pair(op.getLhs(), op.getRhs()),
                                std::pair(op.getRhs(), op.getLhs())}) {
      LayerNormOp norm = getNorm(value, isAddend);
      if (!norm || value.getType() != op.getType())
        continue;
      rewriter.setInsertionPoint(op);
      Value channels = asChannels(rewriter, other, getLastDim(value));
      if (!channels)
        continue;
      auto fused = rewriter.create<LayerNormOp>(
          op.getLoc(), norm.getInput(), isAddend ? norm.getGamma() : channels,
          isAddend ? channels : norm.getBeta(), norm.getEpsilonAttr());
      rewriter.replaceOp(op, fused.getResult());
      return success();
    }
    return failure();
  }
};

} // namespace

void addLayerNormPatterns(RewritePatternSet &patterns) {
  patterns.add<FuseDivision, FuseReciprocal, FuseChannels<MulOp>,
               FuseChannels<AddOp>>(patterns.getContext());
}

} // namespace tombolo::graph
