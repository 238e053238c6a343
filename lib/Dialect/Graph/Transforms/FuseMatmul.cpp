//===- FuseMatmul.cpp - bias and transposes into matmul -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FusePatterns.h"

using namespace mlir;

namespace tombolo::graph {
namespace {

/// product + bias, in either order.
struct FuseBias : OpRewritePattern<AddOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(AddOp op,
                                PatternRewriter &rewriter) const override {
    for (auto [value, addend] : {std::pair(op.getLhs(), op.getRhs()),
                                 std::pair(op.getRhs(), op.getLhs())}) {
      auto matmul = value.getDefiningOp<MatmulOp>();
      if (!matmul || matmul.getBias() || !value.hasOneUse() ||
          value.getType() != op.getType())
        continue;
      Value bias = asChannels(rewriter, addend, getLastDim(value));
      if (!bias)
        continue;
      rewriter.replaceOpWithNewOp<MatmulOp>(
          op, op.getType(), matmul.getLhs(), matmul.getRhs(), bias,
          matmul.getTransposeA(), matmul.getTransposeB());
      return success();
    }
    return failure();
  }
};

/// The operand of a transpose of just the last two dimensions.
Value getSwapped(Value value) {
  auto transpose = value.getDefiningOp<TransposeOp>();
  if (!transpose)
    return {};
  SmallVector<int64_t> permutation(transpose.getPermutation());
  if (permutation.size() < 2)
    return {};
  std::swap(permutation.end()[-1], permutation.end()[-2]);
  return llvm::equal(permutation, llvm::seq<int64_t>(0, permutation.size()))
             ? Value(transpose.getInput())
             : Value();
}

struct FuseTranspose : OpRewritePattern<MatmulOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(MatmulOp op,
                                PatternRewriter &rewriter) const override {
    Value lhs = getSwapped(op.getLhs()), rhs = getSwapped(op.getRhs());
    if (!lhs && !rhs)
      return failure();
    rewriter.replaceOpWithNewOp<MatmulOp>(
        op, op.getType(), lhs ? lhs : op.getLhs(), rhs ? rhs : op.getRhs(),
        op.getBias(), op.getTransposeA() != static_cast<bool>(lhs),
        op.getTransposeB() != static_cast<bool>(rhs));
    return success();
  }
};

} // namespace

void addMatmulPatterns(RewritePatternSet &patterns) {
  patterns.add<FuseBias, FuseTranspose>(patterns.getContext());
}

} // namespace tombolo::graph
