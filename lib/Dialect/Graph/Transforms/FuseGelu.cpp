//===- FuseGelu.cpp - gelu from its steps ---------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Both forms are a product of 1/2, x and a gate,
//
//   1 + erf(x / sqrt 2)   or   1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)),
//
// in any order and association.
//
//===----------------------------------------------------------------------===//

#include "FusePatterns.h"

#include <numbers>

using namespace mlir;

namespace tombolo::graph {
namespace {

/// The other operand of an addition to the number `addend`.
Value getAddedTo(Value value, double addend) {
  auto add = value.getDefiningOp<AddOp>();
  if (!add || add.getType() != add.getLhs().getType())
    return {};
  if (getConstantNumber(add.getRhs()) == addend)
    return add.getLhs();
  return {};
}

/// Whether `value` is x^3 times `scale`.
bool isScaledCube(Value value, Value x, double scale) {
  Product product = getProduct(value);
  return isNear(product.scale, scale) && product.factors.size() == 3 &&
         llvm::all_of(product.factors,
                      [&](Value factor) { return isSameValue(factor, x); });
}

bool isErfGate(Value gate, Value x) {
  Value inner = getAddedTo(gate, 1);
  auto erf = inner ? inner.getDefiningOp<ErfOp>() : ErfOp();
  if (!erf)
    return false;
  Product product = getProduct(erf.getInput());
  return isNear(product.scale, 1 / std::numbers::sqrt2) &&
         product.factors.size() == 1 && isSameValue(product.factors[0], x);
}

bool isTanhGate(Value gate, Value x) {
  Value inner = getAddedTo(gate, 1);
  auto tanh = inner ? inner.getDefiningOp<TanhOp>() : TanhOp();
  if (!tanh)
    return false;
  Product product = getProduct(tanh.getInput());
  constexpr double cubic = 0.044715;
  double scale = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
  if (!isNear(product.scale, scale))
    return false;
  if (product.factors.size() == 1) {
    // x + 0.044715 x^3
    auto add = product.factors[0].getDefiningOp<AddOp>();
    return add && ((isSameValue(add.getLhs(), x) &&
                    isScaledCube(add.getRhs(), x, cubic)) ||
                   (isSameValue(add.getRhs(), x) &&
                    isScaledCube(add.getLhs(), x, cubic)));
  }
  // x (1 + 0.044715 x^2)
  if (product.factors.size() != 2)
    return false;
  for (unsigned i : {0, 1}) {
    Value square = getAddedTo(product.factors[1 - i], 1);
    if (!square || !isSameValue(product.factors[i], x))
      continue;
    Product squared = getProduct(square);
    if (isNear(squared.scale, cubic) && squared.factors.size() == 2 &&
        isSameValue(squared.factors[0], x) &&
        isSameValue(squared.factors[1], x))
      return true;
  }
  return false;
}

struct FuseGelu : OpRewritePattern<MulOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(MulOp op,
                                PatternRewriter &rewriter) const override {
    Product product = getProduct(op.getResult());
    if (!isNear(product.scale, 0.5) || product.factors.size() != 2)
      return failure();
    for (unsigned i : {0, 1}) {
      Value x = product.factors[i], gate = product.factors[1 - i];
      if (x.getType() != op.getType())
        continue;
      const char *approximate = isErfGate(gate, x)    ? "none"
                                : isTanhGate(gate, x) ? "tanh"
                                                      : nullptr;
      if (approximate) {
        rewriter.replaceOpWithNewOp<GeluOp>(
            op, x, rewriter.getStringAttr(approximate));
        return success();
      }
    }
    return failure();
  }
};

} // namespace

void addGeluPatterns(RewritePatternSet &patterns) {
  patterns.add<FuseGelu>(patterns.getContext());
}

} // namespace tombolo::graph
