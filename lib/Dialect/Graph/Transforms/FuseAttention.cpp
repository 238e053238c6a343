//===- FuseAttention.cpp - attention from its steps -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Looks for softmax(mask(scale q k^T)) v. The scale may stand before or behind
// the mask, or on q and k; the mask is a choice or an addend, and causal or
// absent. A finite mask value of at most -1e4 counts as minus infinity: the
// exponential of the masked score is 0 in f32 unless two scores of one row
// differ by nearly 1e4. A causal row always keeps its first score, so that the
// one case that would differ, a row wholly masked, does not occur. Any other
// mask is left as it stands.
//
//===----------------------------------------------------------------------===//

#include "FusePatterns.h"

#include "mlir/IR/IRMapping.h"

#include <numeric>

using namespace mlir;

namespace tombolo::graph {
namespace {

constexpr double maskThreshold = -1e4;

/// Looks through ops that only repeat a mask along leading dimensions.
Value skipBroadcasts(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    bool keepsMatrix = false;
    if (isa<BroadcastOp, ReshapeOp>(op)) {
      Dims from = getDims(op->getOperand(0)), to = getDims(op->getResult(0));
      keepsMatrix =
          from.size() >= 2 && to.size() >= 2 &&
          ArrayRef<Dim>(from).take_back(2) == ArrayRef<Dim>(to).take_back(2);
    }
    if (!keepsMatrix)
      break;
    value = op->getOperand(0);
  }
  return value;
}

std::optional<bool> getConstantBool(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (!isa<BroadcastOp, ReshapeOp>(op))
      break;
    value = op->getOperand(0);
  }
  DenseElementsAttr elements;
  auto constant = value.getDefiningOp<ConstantOp>();
  if (constant)
    elements = dyn_cast<DenseElementsAttr>(constant.getValue());
  if (!elements || !elements.isSplat() ||
      !elements.getElementType().isInteger(1))
    return std::nullopt;
  return elements.getSplatValue<bool>();
}

/// A bool that is a causal mask or its negation, and its offset.
struct Mask {
  int64_t offset;
  bool inside; ///< the value where j <= i + offset
};
std::optional<Mask> getMask(Value condition, ArrayRef<Dim> scores) {
  bool inside = true;
  condition = skipBroadcasts(condition);
  if (auto where = condition.getDefiningOp<WhereOp>()) {
    std::optional<bool> lhs = getConstantBool(where.getLhs());
    std::optional<bool> rhs = getConstantBool(where.getRhs());
    if (!lhs || !rhs || *lhs == *rhs)
      return std::nullopt;
    inside = *lhs;
    condition = skipBroadcasts(where.getCondition());
  }
  auto mask = condition.getDefiningOp<CausalMaskOp>();
  if (!mask ||
      ArrayRef<Dim>(getDims(condition)).take_back(2) != scores.take_back(2))
    return std::nullopt;
  return Mask{static_cast<int64_t>(mask.getOffset()), inside};
}

/// What was found between the softmax and q k^T.
struct Scores {
  MatmulOp product;
  double scale = 1;
  std::optional<int64_t> offset; ///< of the causal mask
};

/// Walks from the softmax's operand down to the product.
std::optional<Scores> getScores(Value value) {
  Scores scores;
  Dims dims = getDims(value);
  // What is found below a mask is masked by it; what is multiplied above it
  // changes the masked value as well.
  auto addMask = [&](int64_t offset, double masked) {
    if (scores.offset || !(masked * scores.scale <= maskThreshold))
      return false;
    scores.offset = offset;
    return true;
  };
  // Mask and scales: more ops than this is no such pattern.
  for (unsigned step = 0; step < 8; ++step) {
    Operation *op = value.getDefiningOp();
    if (!op || !value.hasOneUse())
      return std::nullopt;
    if (auto product = dyn_cast<MatmulOp>(op)) {
      scores.product = product;
      return scores;
    }
    if (auto where = dyn_cast<WhereOp>(op)) {
      std::optional<Mask> mask = getMask(where.getCondition(), dims);
      if (!mask)
        return std::nullopt;
      Value kept = mask->inside ? where.getLhs() : where.getRhs();
      auto masked =
          getConstantNumber(mask->inside ? where.getRhs() : where.getLhs());
      if (!masked || !addMask(mask->offset, *masked))
        return std::nullopt;
      value = kept;
    } else if (auto add = dyn_cast<AddOp>(op)) {
      bool found = false;
      for (auto [kept, addend] : {std::pair(add.getLhs(), add.getRhs()),
                                  std::pair(add.getRhs(), add.getLhs())}) {
        auto where = skipBroadcasts(addend).getDefiningOp<WhereOp>();
        std::optional<Mask> mask =
            where ? getMask(where.getCondition(), dims) : std::nullopt;
        if (!mask)
          continue;
        auto in =
            getConstantNumber(mask->inside ? where.getLhs() : where.getRhs());
        auto out =
            getConstantNumber(mask->inside ? where.getRhs() : where.getLhs());
        if (in != 0.0 || !out || !addMask(mask->offset, *out))
          return std::nullopt;
        value = kept;
        found = true;
        break;
      }
      if (!found)
        return std::nullopt;
    } else if (auto mul = dyn_cast<MulOp>(op)) {
      std::optional<double> factor = getConstantNumber(mul.getRhs());
      if (!factor || !(*factor > 0))
        return std::nullopt;
      scores.scale *= *factor;
      value = mul.getLhs();
    } else if (auto div = dyn_cast<DivOp>(op)) {
      std::optional<double> divisor = getConstantNumber(div.getRhs());
      if (!divisor || !(*divisor > 0))
        return std::nullopt;
      scores.scale /= *divisor;
      value = div.getLhs();
    } else {
      return std::nullopt;
    }
    if (getDims(value) != dims)
      return std::nullopt;
  }
  return std::nullopt;
}

/// An operand of q k^T without its scale: views above a multiplication are
/// built again on what it multiplies.
Value stripScale(PatternRewriter &rewriter, Value value, double &scale) {
  SmallVector<Operation *> views;
  Value source = value;
  while (Operation *op = source.getDefiningOp()) {
    if (!isa<TransposeOp, ReshapeOp>(op))
      break;
    views.push_back(op);
    source = op->getOperand(0);
  }
  Value unscaled;
  std::optional<double> factor;
  if (auto mul = source.getDefiningOp<MulOp>()) {
    factor = getConstantNumber(mul.getRhs());
    unscaled = mul.getLhs();
  } else if (auto div = source.getDefiningOp<DivOp>()) {
    factor = getConstantNumber(div.getRhs());
    if (factor)
      factor = 1 / *factor;
    unscaled = div.getLhs();
  }
  if (!factor || !(*factor > 0) || unscaled.getType() != source.getType())
    return value;
  scale *= *factor;
  IRMapping mapping;
  mapping.map(source, unscaled);
  for (Operation *view : llvm::reverse(views))
    rewriter.clone(*view, mapping);
  return mapping.lookup(value);
}

/// `value` with its last two dimensions swapped.
Value swapLast(PatternRewriter &rewriter, Value value) {
  SmallVector<int64_t> permutation(getDims(value).size());
  std::iota(permutation.begin(), permutation.end(), 0);
  std::swap(permutation.end()[-1], permutation.end()[-2]);
  return rewriter.createOrFold<TransposeOp>(
      value.getLoc(), value, rewriter.getDenseI64ArrayAttr(permutation));
}

struct FuseAttention : OpRewritePattern<MatmulOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(MatmulOp op,
                                PatternRewriter &rewriter) const override {
    auto softmax = op.getLhs().getDefiningOp<SoftmaxOp>();
    if (!softmax || !softmax->hasOneUse() || op.getBias() || op.getTransposeA())
      return failure();
    std::optional<Scores> scores = getScores(softmax.getInput());
    if (!scores || scores->product.getBias())
      return failure();
    MatmulOp product = scores->product;
    Dims dims = getDims(product.getResult()), value = getDims(op.getRhs());
    // Batch dimensions must be those of all three operands: attention does not
    // broadcast.
    auto batch = ArrayRef<Dim>(dims).drop_back(2);
    for (const Dims &operand :
         {getDims(product.getLhs()), getDims(product.getRhs()), value})
      if (ArrayRef<Dim>(operand).drop_back(2) != batch)
        return failure();
    if (scores->offset) {
      // The op's mask is aligned with the last row and column.
      Dim rows = dims[dims.size() - 2], columns = dims.back();
      if (rows.batch || columns.batch || columns.size < rows.size ||
          *scores->offset != columns.size - rows.size)
        return failure();
    }
    rewriter.setInsertionPoint(op);
    double scale = scores->scale;
    Value q = stripScale(rewriter, product.getLhs(), scale);
    Value k = stripScale(rewriter, product.getRhs(), scale);
    if (product.getTransposeA())
      q = swapLast(rewriter, q);
    if (!product.getTransposeB())
      k = swapLast(rewriter, k);
    Value v =
        op.getTransposeB() ? swapLast(rewriter, op.getRhs()) : op.getRhs();
    auto attention = rewriter.create<AttentionOp>(
        op.getLoc(), q, k, v, rewriter.getBoolAttr(scores->offset.has_value()),
        rewriter.getF64FloatAttr(scale));
    rewriter.replaceOp(op, attention.getResult());
    return success();
  }
};

} // namespace

void addAttentionPatterns(RewritePatternSet &patterns) {
  // Before a transpose of v becomes a flag.
  patterns.add<FuseAttention>(patterns.getContext(), /*benefit=*/2);
}

} // namespace tombolo::graph
