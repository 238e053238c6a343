//===- FusePatterns.cpp - one op for what exporters decompose -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FusePatterns.h"

#include "tombolo/Dialect/Graph/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/OperationSupport.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

#include <cmath>

using namespace mlir;

namespace tombolo::graph {
#define GEN_PASS_DEF_GRAPHFUSEPATTERNS
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

std::optional<double> getConstantNumber(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (!isa<BroadcastOp, ReshapeOp, TransposeOp>(op))
      break;
    value = op->getOperand(0);
  }
  DenseElementsAttr elements;
  if (!matchPattern(value, m_Constant(&elements)) || !elements.isSplat() ||
      !isa<FloatType>(elements.getElementType()))
    return std::nullopt;
  APFloat number = elements.getSplatValue<APFloat>();
  bool inexact;
  number.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &inexact);
  return number.convertToDouble();
}

static void addFactors(Value value, Product &product, unsigned depth) {
  // A long product is no pattern that anything here looks for.
  constexpr unsigned maxDepth = 8;
  if (std::optional<double> number = getConstantNumber(value)) {
    product.scale *= *number;
    return;
  }
  Operation *op = value.getDefiningOp();
  bool takesApart = op && depth < maxDepth && (depth == 0 || op->hasOneUse());
  if (auto mul = takesApart ? dyn_cast<MulOp>(op) : MulOp()) {
    addFactors(mul.getLhs(), product, depth + 1);
    addFactors(mul.getRhs(), product, depth + 1);
    return;
  }
  if (auto div = takesApart ? dyn_cast<DivOp>(op) : DivOp())
    if (auto number = getConstantNumber(div.getRhs())) {
      product.scale /= *number;
      addFactors(div.getLhs(), product, depth + 1);
      return;
    }
  if (auto pow = takesApart ? dyn_cast<PowOp>(op) : PowOp())
    if (auto exponent = getConstantNumber(pow.getRhs());
        exponent && (*exponent == 2 || *exponent == 3) &&
        pow.getLhs().getType() == pow.getType()) {
      product.factors.append(static_cast<size_t>(*exponent), pow.getLhs());
      return;
    }
  product.factors.push_back(value);
}

Product getProduct(Value value) {
  Product product;
  addFactors(value, product, 0);
  return product;
}

bool isSameValue(Value lhs, Value rhs) {
  if (lhs == rhs)
    return true;
  Operation *left = lhs.getDefiningOp(), *right = rhs.getDefiningOp();
  if (!left || !right || !isPure(left))
    return false;
  if (cast<OpResult>(lhs).getResultNumber() !=
      cast<OpResult>(rhs).getResultNumber())
    return false;
  // One level: what the operands are made of must be shared.
  return OperationEquivalence::isEquivalentTo(
      left, right, OperationEquivalence::exactValueMatch, nullptr,
      OperationEquivalence::IgnoreLocations);
}

bool hasOnlyChannels(Value value, Dim size) {
  Dims dims = getDims(value);
  return !size.batch && !dims.empty() && dims.back() == size &&
         llvm::all_of(ArrayRef(dims).drop_back(),
                      [](Dim dim) { return dim.isOne(); });
}

Value asChannels(OpBuilder &builder, Value value, Dim size) {
  if (!hasOnlyChannels(value, size))
    return {};
  auto type = cast<RankedTensorType>(value.getType());
  return buildReshape(builder, value.getLoc(), value,
                      getTensorType(size, type.getElementType()));
}

namespace {
struct FusePatterns : impl::GraphFusePatternsBase<FusePatterns> {
  using GraphFusePatternsBase::GraphFusePatternsBase;

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    addLayerNormPatterns(patterns);
    addGeluPatterns(patterns);
    addMatmulPatterns(patterns);
    addAttentionPatterns(patterns);
    GreedyRewriteConfig config;
    // From the inputs on: a fusion sees its operands fused.
    config.useTopDownTraversal = true;
    if (failed(applyPatternsAndFoldGreedily(getOperation(), std::move(patterns),
                                            config)))
      signalPassFailure();
  }
};
} // namespace

} // namespace tombolo::graph
