//===- FoldConstants.cpp - compute what is known --------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"

#include "mlir/IR/Matchers.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>
#include <numeric>

using namespace mlir;

namespace tombolo::graph {
#define GEN_PASS_DEF_GRAPHFOLDCONSTANTS
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

namespace {

/// Constants longer than this are not computed: they would only make the plan
/// larger. Splats have any size.
constexpr int64_t maxElements = 1 << 16;

//===----------------------------------------------------------------------===//
// Evaluation
//===----------------------------------------------------------------------===//

/// A tensor whose elements are read as doubles or as integers.
struct Elements {
  RankedTensorType type;
  DenseElementsAttr attribute;
  SmallVector<int64_t> strides; // row-major, in elements

  bool isFloat() const { return isa<FloatType>(type.getElementType()); }
};

/// One element: `real` of a float tensor, `integer` of the others.
struct Number {
  double real = 0;
  int64_t integer = 0;
};

Number getNumber(const Elements &from, int64_t index) {
  auto at = [&](auto range) {
    return from.attribute.isSplat() ? *range.begin() : *(range.begin() + index);
  };
  if (!from.isFloat()) {
    APInt value = at(from.attribute.getValues<APInt>());
    return {0, value.getBitWidth() == 1
                   ? static_cast<int64_t>(value.getZExtValue())
                   : value.getSExtValue()};
  }
  APFloat value = at(from.attribute.getValues<APFloat>());
  bool inexact;
  value.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &inexact);
  return {value.convertToDouble(), 0};
}

/// Rounds to the element type, once, from double.
Attribute getAttribute(Builder &builder, Type type, Number number) {
  if (isa<FloatType>(type))
    return builder.getFloatAttr(type, number.real);
  return builder.getIntegerAttr(type, number.integer);
}

/// The value of an elementwise op; nullopt for others and for integer faults.
std::optional<Number> compute(Operation *op, ArrayRef<Number> x, bool isFloat) {
  using Result = std::optional<Number>;
  auto arithmetic = [&](auto function) -> Result {
    if (isFloat)
      return Number{function(x[0].real, x[1].real), 0};
    // Two's complement, as the kernels.
    return Number{
        0, static_cast<int64_t>(function(static_cast<uint64_t>(x[0].integer),
                                         static_cast<uint64_t>(x[1].integer)))};
  };
  auto real = [](double value) -> Result { return Number{value, 0}; };
  return llvm::TypeSwitch<Operation *, Result>(op)
      .Case<AddOp>([&](auto) {
        return arithmetic([](auto a, auto b) { return a + b; });
      })
      .Case<SubOp>([&](auto) {
        return arithmetic([](auto a, auto b) { return a - b; });
      })
      .Case<MulOp>([&](auto) {
        return arithmetic([](auto a, auto b) { return a * b; });
      })
      .Case<DivOp>([&](auto) -> Result {
        if (isFloat)
          return real(x[0].real / x[1].real);
        if (x[1].integer == 0 || x[1].integer == -1)
          return std::nullopt;
        return Number{0, x[0].integer / x[1].integer};
      })
      .Case<PowOp>([&](auto) -> Result {
        return isFloat ? real(std::pow(x[0].real, x[1].real)) : std::nullopt;
      })
      .Case<NegOp>([&](auto) { return real(-x[0].real); })
      .Case<ExpOp>([&](auto) { return real(std::exp(x[0].real)); })
      .Case<LogOp>([&](auto) { return real(std::log(x[0].real)); })
      .Case<SqrtOp>([&](auto) { return real(std::sqrt(x[0].real)); })
      .Case<ReciprocalOp>([&](auto) { return real(1 / x[0].real); })
      .Case<TanhOp>([&](auto) { return real(std::tanh(x[0].real)); })
      .Case<ErfOp>([&](auto) { return real(std::erf(x[0].real)); })
      .Case<SigmoidOp>(
          [&](auto) { return real(1 / (1 + std::exp(-x[0].real))); })
      .Case<ReluOp>([&](auto) { return real(std::max(x[0].real, 0.0)); })
      .Case<SoftplusOp>([&](auto) {
        return real(std::max(x[0].real, 0.0) +
                    std::log1p(std::exp(-std::fabs(x[0].real))));
      })
      .Case<EqualOp>([&](auto) {
        return Number{0, isFloat ? x[0].real == x[1].real
                                 : x[0].integer == x[1].integer};
      })
      .Case<LessOp>([&](auto) {
        return Number{0, isFloat ? x[0].real < x[1].real
                                 : x[0].integer < x[1].integer};
      })
      .Case<WhereOp>([&](auto) { return x[0].integer ? x[1] : x[2]; })
      .Default([](Operation *) { return std::nullopt; });
}

/// A cast, by the plan format's rules.
std::optional<Number> castNumber(Number x, bool fromFloat, Type to) {
  if (to.isInteger(1))
    return Number{0, fromFloat ? x.real != 0 : x.integer != 0};
  if (isa<FloatType>(to))
    return Number{fromFloat ? x.real : static_cast<double>(x.integer), 0};
  if (!fromFloat)
    return Number{0, to.isInteger(32) ? static_cast<int32_t>(x.integer)
                                      : x.integer};
  double bound = to.isInteger(32) ? 0x1p31 : 0x1p63;
  if (!(std::fabs(x.real) < bound))
    return std::nullopt;
  return Number{0, static_cast<int64_t>(x.real)};
}

/// Where element `index` (row-major, of `type`) of the result lies in an
/// operand that is broadcast to it.
int64_t getBroadcastIndex(const Elements &operand, RankedTensorType type,
                          ArrayRef<int64_t> strides, int64_t index) {
  int64_t at = 0;
  size_t skip = type.getRank() - operand.type.getRank();
  for (int64_t d = 0; d < type.getRank(); ++d) {
    int64_t i = index / strides[d] % type.getDimSize(d);
    if (d >= static_cast<int64_t>(skip) &&
        operand.type.getDimSize(d - skip) != 1)
      at += i * operand.strides[d - skip];
  }
  return at;
}

struct EvaluateElementwise : RewritePattern {
  explicit EvaluateElementwise(MLIRContext *context)
      : RewritePattern(MatchAnyOpTypeTag(), /*benefit=*/1, context) {}

  LogicalResult matchAndRewrite(Operation *op,
                                PatternRewriter &rewriter) const override {
    if (!isa<AddOp, SubOp, MulOp, DivOp, PowOp, NegOp, ExpOp, LogOp, SqrtOp,
             ReciprocalOp, TanhOp, ErfOp, SigmoidOp, ReluOp, SoftplusOp,
             EqualOp, LessOp, WhereOp, CastOp>(op))
      return failure();
    auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
    if (!type || !type.hasStaticShape())
      return failure();
    SmallVector<Elements> operands;
    bool isSplat = true;
    for (Value value : op->getOperands()) {
      DenseElementsAttr attribute;
      if (!matchPattern(value, m_Constant(&attribute)))
        return failure();
      auto from = cast<RankedTensorType>(value.getType());
      operands.push_back(
          {from, attribute, getRowMajorStrides(from.getShape())});
      isSplat &= attribute.isSplat();
    }
    int64_t count = isSplat ? 1 : type.getNumElements();
    if (count > maxElements)
      return failure();
    Type element = type.getElementType();
    bool isFloat = operands.front().isFloat();
    SmallVector<int64_t> strides = getRowMajorStrides(type.getShape());
    SmallVector<Attribute> results;
    for (int64_t n = 0; n < count; ++n) {
      SmallVector<Number> numbers;
      for (const Elements &operand : operands)
        numbers.push_back(
            getNumber(operand, getBroadcastIndex(operand, type, strides, n)));
      std::optional<Number> result =
          isa<CastOp>(op) ? castNumber(numbers[0], isFloat, element)
                          : compute(op, numbers, isFloat);
      if (!result)
        return failure();
      results.push_back(getAttribute(rewriter, element, *result));
    }
    rewriter.replaceOpWithNewOp<ConstantOp>(
        op, DenseElementsAttr::get(type, results));
    return success();
  }
};

/// Moves the elements of a constant; `indexMap` takes a result's index to the
/// operand's.
template <typename Op>
LogicalResult
moveElements(Op op, PatternRewriter &rewriter,
             llvm::function_ref<int64_t(ArrayRef<int64_t> index,
                                        ArrayRef<int64_t> strides)>
                 indexMap) {
  DenseElementsAttr attribute;
  auto type = cast<RankedTensorType>(op.getResult().getType());
  if (!matchPattern(op.getInput(), m_Constant(&attribute)) ||
      !type.hasStaticShape() || type.getNumElements() > maxElements)
    return failure();
  auto from = cast<RankedTensorType>(op.getInput().getType());
  SmallVector<int64_t> source = getRowMajorStrides(from.getShape());
  SmallVector<int64_t> strides = getRowMajorStrides(type.getShape());
  auto values = attribute.getValues<Attribute>();
  SmallVector<Attribute> results;
  SmallVector<int64_t> index(type.getRank());
  for (int64_t n = 0; n < type.getNumElements(); ++n) {
    for (int64_t d = 0; d < type.getRank(); ++d)
      index[d] = n / strides[d] % type.getDimSize(d);
    results.push_back(values[indexMap(index, source)]);
  }
  rewriter.replaceOpWithNewOp<ConstantOp>(
      op, DenseElementsAttr::get(type, results));
  return success();
}

LogicalResult evaluateTranspose(TransposeOp op, PatternRewriter &rewriter) {
  ArrayRef<int64_t> permutation = op.getPermutation();
  return moveElements(op, rewriter,
                      [&](ArrayRef<int64_t> index, ArrayRef<int64_t> strides) {
                        int64_t at = 0;
                        for (auto [d, source] : llvm::enumerate(permutation))
                          at += index[d] * strides[source];
                        return at;
                      });
}

LogicalResult evaluateSlice(SliceOp op, PatternRewriter &rewriter) {
  return moveElements(
      op, rewriter, [&](ArrayRef<int64_t> index, ArrayRef<int64_t> strides) {
        int64_t at = 0;
        for (auto [d, i] : llvm::enumerate(index))
          at += strides[d] *
                (d == op.getAxis() ? op.getOffset() + i * op.getStep() : i);
        return at;
      });
}

//===----------------------------------------------------------------------===//
// Simplification
//===----------------------------------------------------------------------===//

/// A condition that is the same everywhere chooses once.
LogicalResult chooseBranch(WhereOp op, PatternRewriter &rewriter) {
  DenseElementsAttr condition;
  if (!matchPattern(op.getCondition(), m_Constant(&condition)) ||
      !condition.isSplat())
    return failure();
  Value chosen = condition.getSplatValue<bool>() ? op.getLhs() : op.getRhs();
  rewriter.replaceOpWithNewOp<BroadcastOp>(op, op.getType(), chosen);
  return success();
}

/// An elementwise op broadcasts by itself.
struct DropBroadcasts : RewritePattern {
  explicit DropBroadcasts(MLIRContext *context)
      : RewritePattern(MatchAnyOpTypeTag(), /*benefit=*/1, context) {}

  LogicalResult matchAndRewrite(Operation *op,
                                PatternRewriter &rewriter) const override {
    if (!isa<AddOp, SubOp, MulOp, DivOp, PowOp, WhereOp, EqualOp, LessOp>(op))
      return failure();
    for (OpOperand &operand : op->getOpOperands()) {
      auto broadcast = operand.get().getDefiningOp<BroadcastOp>();
      if (!broadcast)
        continue;
      std::optional<Dims> dims = getDims(broadcast.getInput());
      for (OpOperand &other : op->getOpOperands())
        if (dims && &other != &operand)
          dims = broadcastDims(*dims, getDims(other.get()));
      if (!dims || *dims != getDims(op->getResult(0)))
        continue;
      rewriter.modifyOpInPlace(op, [&] { operand.set(broadcast.getInput()); });
      return success();
    }
    return failure();
  }
};

/// Known indices at equal distances are a slice: its gradient needs no sums.
LogicalResult sliceInsteadOfGather(GatherOp op, PatternRewriter &rewriter) {
  DenseIntElementsAttr indices;
  if (!matchPattern(op.getIndices(), m_Constant(&indices)))
    return failure();
  SmallVector<int64_t> positions;
  for (const APInt &index : indices.getValues<APInt>())
    positions.push_back(index.getSExtValue());
  Dims table = getDims(op.getTable());
  int64_t axis = op.getAxis();
  if (positions.empty() || table[axis].batch)
    return failure();
  int64_t step = positions.size() > 1 ? positions[1] - positions[0] : 1;
  int64_t length = table[axis].size;
  // Positions outside are left for the executor to report.
  if (step < 1 || positions.front() < 0 || positions.back() >= length)
    return failure();
  for (size_t i = 1; i < positions.size(); ++i)
    if (positions[i] - positions[i - 1] != step)
      return failure();
  Value slice = rewriter.createOrFold<SliceOp>(
      op.getLoc(), op.getTable(), axis, positions.front(),
      static_cast<int64_t>(positions.size()), step);
  rewriter.replaceOp(op,
                     buildReshape(rewriter, op.getLoc(), slice, op.getType()));
  return success();
}

/// Slices that share out an axis are one split, whose gradient is one concat.
LogicalResult splitInsteadOfSlices(SliceOp op, PatternRewriter &rewriter) {
  Value input = op.getInput();
  SmallVector<SliceOp> slices;
  for (Operation *user : input.getUsers())
    if (auto slice = dyn_cast<SliceOp>(user);
        slice && slice.getAxis() == op.getAxis() && slice.getStep() == 1)
      slices.push_back(slice);
  llvm::sort(slices, [](SliceOp lhs, SliceOp rhs) {
    return lhs.getOffset() < rhs.getOffset();
  });
  int64_t end = 0;
  SmallVector<int64_t> sizes;
  for (SliceOp slice : slices) {
    if (static_cast<int64_t>(slice.getOffset()) != end ||
        slice->getBlock() != op->getBlock())
      return failure();
    sizes.push_back(slice.getSize());
    end += slice.getSize();
  }
  if (slices.size() < 2 || end != getDims(input)[op.getAxis()].size)
    return failure();
  // All of them see a value that stands right behind the input.
  rewriter.setInsertionPointAfterValue(input);
  auto split = rewriter.create<SplitOp>(op.getLoc(), input, op.getAxisAttr(),
                                        rewriter.getDenseI64ArrayAttr(sizes));
  for (auto [slice, part] : llvm::zip(slices, split.getResults()))
    rewriter.replaceOp(slice, part);
  return success();
}

struct FoldConstants : impl::GraphFoldConstantsBase<FoldConstants> {
  using GraphFoldConstantsBase::GraphFoldConstantsBase;

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<EvaluateElementwise, DropBroadcasts>(&getContext());
    patterns.add(evaluateTranspose);
    patterns.add(evaluateSlice);
    patterns.add(chooseBranch);
    patterns.add(sliceInsteadOfGather);
    patterns.add(splitInsteadOfSlices);
    if (failed(
            applyPatternsAndFoldGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
} // namespace tombolo::graph
