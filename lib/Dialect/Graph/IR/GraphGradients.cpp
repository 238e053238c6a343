//===- GraphGradients.cpp - gradients of ops ------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every function builds the gradients of an op's operands out of other graph
// ops. What it uses of the op's operands and results is what the backward
// functions need saved, so it uses as little and as small as it can.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

using namespace mlir;
using namespace tombolo::graph;

using Gradients = SmallVector<Value>;

namespace {

/// The builder with the location of the op that is differentiated.
class GradientBuilder {
public:
  GradientBuilder(OpBuilder &builder, Operation *op)
      : builder(builder), loc(op->getLoc()) {}

  template <typename OpTy, typename... Args> OpTy create(Args &&...args) {
    return builder.create<OpTy>(loc, std::forward<Args>(args)...);
  }
  Value add(Value lhs, Value rhs) { return create<AddOp>(lhs, rhs); }
  Value sub(Value lhs, Value rhs) { return create<SubOp>(lhs, rhs); }
  Value mul(Value lhs, Value rhs) { return create<MulOp>(lhs, rhs); }
  Value div(Value lhs, Value rhs) { return create<DivOp>(lhs, rhs); }
  Value neg(Value value) { return create<NegOp>(value); }

  /// A scalar of the element type of `like`.
  Value scalar(double value, Value like) {
    return buildScalar(builder, loc, value,
                       cast<RankedTensorType>(like.getType()).getElementType());
  }
  Value zeros(Type type) {
    return buildZeros(builder, loc, cast<RankedTensorType>(type));
  }
  Value cast_(Value value, Type like) {
    return buildCast(builder, loc, value,
                     cast<RankedTensorType>(like).getElementType());
  }
  Value reshape(Value value, Type like) {
    auto type = cast<RankedTensorType>(like);
    return buildReshape(
        builder, loc, value,
        withElementType(
            type, cast<RankedTensorType>(value.getType()).getElementType()));
  }
  Value sumTo(Value gradient, Value operand) {
    return sumToShape(builder, loc, gradient,
                      cast<RankedTensorType>(operand.getType()));
  }
  Value matmul(Value lhs, Value rhs, bool transposeA, bool transposeB);

private:
  OpBuilder &builder;
  Location loc;
};

Value GradientBuilder::matmul(Value lhs, Value rhs, bool transposeA,
                              bool transposeB) {
  Dims a = getDims(lhs), b = getDims(rhs);
  if (transposeA)
    std::swap(a[a.size() - 1], a[a.size() - 2]);
  if (transposeB)
    std::swap(b[b.size() - 1], b[b.size() - 2]);
  Dims dims = *broadcastDims(ArrayRef<Dim>(a).drop_back(2),
                             ArrayRef<Dim>(b).drop_back(2));
  dims.push_back(a[a.size() - 2]);
  dims.push_back(b.back());
  RankedTensorType type = getTensorType(
      dims, cast<RankedTensorType>(lhs.getType()).getElementType());
  return builder.create<MatmulOp>(loc, type, lhs, rhs, Value(), transposeA,
                                  transposeB);
}

} // namespace

//===----------------------------------------------------------------------===//
// Views and data movement
//===----------------------------------------------------------------------===//

FailureOr<Gradients> ReshapeOp::buildGradient(OpBuilder &builder,
                                              ArrayRef<Value> results,
                                              ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{b.reshape(results[0], getInput().getType())};
}

FailureOr<Gradients> TransposeOp::buildGradient(OpBuilder &builder,
                                                ArrayRef<Value> results,
                                                ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  SmallVector<int64_t> inverse(getPermutation().size());
  for (auto [index, source] : llvm::enumerate(getPermutation()))
    inverse[source] = index;
  return Gradients{b.create<TransposeOp>(results[0], inverse)};
}

FailureOr<Gradients> BroadcastOp::buildGradient(OpBuilder &builder,
                                                ArrayRef<Value> results,
                                                ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{b.sumTo(results[0], getInput())};
}

FailureOr<Gradients> SliceOp::buildGradient(OpBuilder &builder,
                                            ArrayRef<Value> results,
                                            ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  RankedTensorType type = getInput().getType();
  if (getStep() == 1) {
    SmallVector<int64_t> low(type.getRank(), 0);
    low[getAxis()] = getOffset();
    return Gradients{b.create<PadOp>(type, results[0], low)};
  }
  SmallVector<int64_t> positions;
  for (int64_t i = 0, size = getSize(); i < size; ++i)
    positions.push_back(getOffset() + i * getStep());
  Value indices = b.create<ConstantOp>(DenseIntElementsAttr::get(
      RankedTensorType::get({static_cast<int64_t>(positions.size())},
                            builder.getI64Type()),
      positions));
  Value table =
      b.create<GatherBackwardOp>(withElementType(type, builder.getF32Type()),
                                 results[0], indices, Value(), getAxis(),
                                 IntegerAttr());
  return Gradients{b.cast_(table, type)};
}

FailureOr<Gradients> SplitOp::buildGradient(OpBuilder &builder,
                                            ArrayRef<Value> results,
                                            ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  SmallVector<Value> parts;
  for (auto [gradient, result] : llvm::zip(results, getResults()))
    parts.push_back(gradient ? gradient : b.zeros(result.getType()));
  return Gradients{b.create<ConcatOp>(parts, getAxis())};
}

FailureOr<Gradients> ConcatOp::buildGradient(OpBuilder &builder,
                                             ArrayRef<Value> results,
                                             ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  SmallVector<int64_t> sizes;
  for (Value input : getInputs())
    sizes.push_back(getDims(input)[getAxis()].size);
  auto parts = b.create<SplitOp>(results[0], getAxis(), sizes);
  Gradients gradients;
  for (auto [part, need] : llvm::zip(parts.getResults(), needed))
    gradients.push_back(need ? part : Value());
  return gradients;
}

FailureOr<Gradients> PadOp::buildGradient(OpBuilder &builder,
                                          ArrayRef<Value> results,
                                          ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  Value gradient = results[0];
  Dims from = getDims(getInput().getType()), to = getDims(getType());
  for (auto [index, low] : llvm::enumerate(getLow()))
    if (from[index] != to[index])
      gradient = b.create<SliceOp>(gradient, static_cast<int64_t>(index), low,
                                   from[index].size, 1);
  return Gradients{gradient};
}

FailureOr<Gradients> GatherOp::buildGradient(OpBuilder &builder,
                                             ArrayRef<Value> results,
                                             ArrayRef<bool> needed) {
  if (!needed[0])
    return Gradients{Value(), Value()};
  GradientBuilder b(builder, *this);
  RankedTensorType type = getTable().getType();
  Value table =
      b.create<GatherBackwardOp>(withElementType(type, builder.getF32Type()),
                                 results[0], getIndices(), Value(),
                                 getAxis(), IntegerAttr());
  return Gradients{b.cast_(table, type), Value()};
}

FailureOr<Gradients> CastOp::buildGradient(OpBuilder &builder,
                                           ArrayRef<Value> results,
                                           ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{b.cast_(results[0], getInput().getType())};
}

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

FailureOr<Gradients> AddOp::buildGradient(OpBuilder &builder,
                                          ArrayRef<Value> results,
                                          ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{needed[0] ? b.sumTo(results[0], getLhs()) : Value(),
                   needed[1] ? b.sumTo(results[0], getRhs()) : Value()};
}

FailureOr<Gradients> SubOp::buildGradient(OpBuilder &builder,
                                          ArrayRef<Value> results,
                                          ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{needed[0] ? b.sumTo(results[0], getLhs()) : Value(),
                   needed[1] ? b.neg(b.sumTo(results[0], getRhs())) : Value()};
}

FailureOr<Gradients> MulOp::buildGradient(OpBuilder &builder,
                                          ArrayRef<Value> results,
                                          ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  Gradients gradients(2);
  if (needed[0])
    gradients[0] = b.sumTo(b.mul(results[0], getRhs()), getLhs());
  if (needed[1])
    gradients[1] = b.sumTo(b.mul(results[0], getLhs()), getRhs());
  return gradients;
}

FailureOr<Gradients> DivOp::buildGradient(OpBuilder &builder,
                                          ArrayRef<Value> results,
                                          ArrayRef<bool> needed) {
  // d/dx = dz / y; d/dy = -dz z / y.
  GradientBuilder b(builder, *this);
  Gradients gradients(2);
  Value quotient = b.div(results[0], getRhs());
  if (needed[0])
    gradients[0] = b.sumTo(quotient, getLhs());
  if (needed[1])
    gradients[1] = b.neg(b.sumTo(b.mul(quotient, getResult()), getRhs()));
  return gradients;
}

FailureOr<Gradients> PowOp::buildGradient(OpBuilder &builder,
                                          ArrayRef<Value> results,
                                          ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  Gradients gradients(2);
  if (needed[0]) {
    Value power =
        b.create<PowOp>(getLhs(), b.sub(getRhs(), b.scalar(1, getRhs())));
    gradients[0] = b.sumTo(b.mul(results[0], b.mul(power, getRhs())), getLhs());
  }
  if (needed[1]) {
    // x^y log x, taken as 0 where x is 0.
    Value log = b.create<LogOp>(getLhs());
    Value zero = b.scalar(0, getLhs());
    Value isZero = b.create<EqualOp>(getLhs(), zero);
    Value safe = b.create<WhereOp>(isZero, zero, log);
    gradients[1] =
        b.sumTo(b.mul(results[0], b.mul(getResult(), safe)), getRhs());
  }
  return gradients;
}

FailureOr<Gradients> NegOp::buildGradient(OpBuilder &builder,
                                          ArrayRef<Value> results,
                                          ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{b.neg(results[0])};
}

FailureOr<Gradients> ExpOp::buildGradient(OpBuilder &builder,
                                          ArrayRef<Value> results,
                                          ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{b.mul(results[0], getResult())};
}

FailureOr<Gradients> LogOp::buildGradient(OpBuilder &builder,
                                          ArrayRef<Value> results,
                                          ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{b.div(results[0], getInput())};
}

FailureOr<Gradients> SqrtOp::buildGradient(OpBuilder &builder,
                                           ArrayRef<Value> results,
                                           ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  Value half = b.mul(results[0], b.scalar(0.5, getInput()));
  return Gradients{b.div(half, getResult())};
}

FailureOr<Gradients> ReciprocalOp::buildGradient(OpBuilder &builder,
                                                 ArrayRef<Value> results,
                                                 ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{b.neg(b.mul(results[0], b.mul(getResult(), getResult())))};
}

FailureOr<Gradients> TanhOp::buildGradient(OpBuilder &builder,
                                           ArrayRef<Value> results,
                                           ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  Value slope = b.sub(b.scalar(1, getInput()), b.mul(getResult(), getResult()));
  return Gradients{b.mul(results[0], slope)};
}

FailureOr<Gradients> ErfOp::buildGradient(OpBuilder &builder,
                                          ArrayRef<Value> results,
                                          ArrayRef<bool> needed) {
  // 2/sqrt(pi) exp(-x^2)
  GradientBuilder b(builder, *this);
  Value bell = b.create<ExpOp>(b.neg(b.mul(getInput(), getInput())));
  Value slope = b.mul(bell, b.scalar(1.1283791670955126, getInput()));
  return Gradients{b.mul(results[0], slope)};
}

FailureOr<Gradients> SigmoidOp::buildGradient(OpBuilder &builder,
                                              ArrayRef<Value> results,
                                              ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  Value slope = b.mul(getResult(), b.sub(b.scalar(1, getInput()), getResult()));
  return Gradients{b.mul(results[0], slope)};
}

FailureOr<Gradients> ReluOp::buildGradient(OpBuilder &builder,
                                           ArrayRef<Value> results,
                                           ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  // The result is positive where the input is.
  return Gradients{b.create<ReluBackwardOp>(results[0], getResult())};
}

FailureOr<Gradients> SoftplusOp::buildGradient(OpBuilder &builder,
                                               ArrayRef<Value> results,
                                               ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{b.mul(results[0], b.create<SigmoidOp>(getInput()))};
}

FailureOr<Gradients> HardSwishOp::buildGradient(OpBuilder &builder,
                                                ArrayRef<Value> results,
                                                ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{b.create<HardSwishBackwardOp>(results[0], getInput())};
}

FailureOr<Gradients> GeluOp::buildGradient(OpBuilder &builder,
                                           ArrayRef<Value> results,
                                           ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{
      b.create<GeluBackwardOp>(results[0], getInput(), getApproximateAttr())};
}

FailureOr<Gradients> WhereOp::buildGradient(OpBuilder &builder,
                                            ArrayRef<Value> results,
                                            ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  Gradients gradients(3);
  Value zero = b.scalar(0, results[0]);
  if (needed[1])
    gradients[1] =
        b.sumTo(b.create<WhereOp>(getCondition(), results[0], zero), getLhs());
  if (needed[2])
    gradients[2] =
        b.sumTo(b.create<WhereOp>(getCondition(), zero, results[0]), getRhs());
  return gradients;
}

//===----------------------------------------------------------------------===//
// Reductions and norms
//===----------------------------------------------------------------------===//

/// `gradient` of a reduction of `input`, as large as the input.
static Value expandReduction(GradientBuilder &b, Value gradient, Value input,
                             ArrayRef<int64_t> axes) {
  auto type = cast<RankedTensorType>(input.getType());
  Dims dims = getDims(type);
  for (int64_t axis : axes)
    dims[axis] = Dim();
  gradient = b.reshape(gradient, getTensorType(dims, type.getElementType()));
  return b.create<BroadcastOp>(type, gradient);
}

FailureOr<Gradients> ReduceSumOp::buildGradient(OpBuilder &builder,
                                                ArrayRef<Value> results,
                                                ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{expandReduction(b, results[0], getInput(), getAxes())};
}

FailureOr<Gradients> ReduceMeanOp::buildGradient(OpBuilder &builder,
                                                 ArrayRef<Value> results,
                                                 ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  Dims dims = getDims(getInput().getType());
  int64_t count = 1;
  Value scaled = results[0];
  for (int64_t axis : getAxes()) {
    count *= dims[axis].size;
    if (!dims[axis].batch)
      continue;
    // The size of the batch is known only later: a sum of as many ones.
    RankedTensorType ones =
        getTensorType({Dim{1, true}}, getType().getElementType());
    Value batch = b.create<ReduceSumOp>(
        b.create<BroadcastOp>(ones, b.scalar(1, scaled)),
        ArrayRef<int64_t>{0}, false);
    scaled = b.div(scaled, batch);
  }
  if (count != 1)
    scaled = b.mul(scaled, b.scalar(1.0 / count, scaled));
  return Gradients{expandReduction(b, scaled, getInput(), getAxes())};
}

FailureOr<Gradients> SoftmaxOp::buildGradient(OpBuilder &builder,
                                              ArrayRef<Value> results,
                                              ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  return Gradients{b.create<SoftmaxBackwardOp>(results[0], getResult())};
}

FailureOr<Gradients> LayerNormOp::buildGradient(OpBuilder &builder,
                                                ArrayRef<Value> results,
                                                ArrayRef<bool> needed) {
  if (results[1] || results[2] || !results[0])
    return emitOpError("has no gradient through its mean and rstd");
  GradientBuilder b(builder, *this);
  Gradients gradients(3);
  if (needed[0])
    gradients[0] = b.create<LayerNormBackwardInputOp>(
        results[0], getInput(), getGamma(), getMean(), getRstd());
  if (needed[1] || needed[2]) {
    auto weights = b.create<LayerNormBackwardWeightOp>(results[0], getInput(),
                                                       getMean(), getRstd());
    if (needed[1])
      gradients[1] = b.cast_(weights.getGammaGradient(), getGamma().getType());
    if (needed[2])
      gradients[2] = b.cast_(weights.getBetaGradient(), getBeta().getType());
  }
  return gradients;
}

FailureOr<Gradients> CrossEntropyOp::buildGradient(OpBuilder &builder,
                                                   ArrayRef<Value> results,
                                                   ArrayRef<bool> needed) {
  // The sum of weights does not depend on the logits.
  if (results[2] || !results[0])
    return emitOpError("has a gradient through its loss only");
  GradientBuilder b(builder, *this);
  Value gradient = b.create<CrossEntropyBackwardOp>(
      getLogits(), getLabels(), getLse(), getTokenWeights(), Value(),
      getIgnoreIndexAttr(), IntegerAttr());
  // The seed is 1 when the loss itself is what is trained on.
  DenseElementsAttr seed;
  if (auto constant = results[0].getDefiningOp<ConstantOp>())
    seed = dyn_cast<DenseElementsAttr>(constant.getValue());
  if (!seed || !seed.getSplatValue<APFloat>().isExactlyValue(1.0))
    gradient = b.mul(gradient, b.cast_(results[0], gradient.getType()));
  Gradients gradients((*this)->getNumOperands());
  gradients[0] = gradient;
  if (getTokenWeights() && needed[2])
    return emitOpError("has no gradient with respect to the weights of tokens");
  return gradients;
}

//===----------------------------------------------------------------------===//
// Contractions
//===----------------------------------------------------------------------===//

FailureOr<Gradients> MatmulOp::buildGradient(OpBuilder &builder,
                                             ArrayRef<Value> results,
                                             ArrayRef<bool> needed) {
  GradientBuilder b(builder, *this);
  Gradients gradients(getNumOperands());
  Value a = getLhs(), w = getRhs();
  bool ta = getTransposeA(), tb = getTransposeB();
  Value gradient = b.cast_(results[0], a.getType());
  if (needed[0])
    gradients[0] = b.sumTo(ta ? b.matmul(w, gradient, tb, true)
                              : b.matmul(gradient, w, false, !tb),
                           a);
  if (needed[1]) {
    // Weights under batched activations: one product over all rows.
    Dims rows = getDims(a), out = getDims(gradient);
    Value left = a, right = gradient;
    if (getDims(w).size() == 2 && rows.size() > 2 && !ta) {
      Type element = cast<RankedTensorType>(a.getType()).getElementType();
      Dim count = getNumElements(ArrayRef<Dim>(rows).drop_back());
      left = b.reshape(a, getTensorType({count, rows.back()}, element));
      right = b.reshape(gradient, getTensorType({count, out.back()}, element));
    }
    gradients[1] = b.sumTo(tb ? b.matmul(right, left, true, ta)
                              : b.matmul(left, right, !ta, false),
                           w);
  }
  if (getBias() && needed[2])
    gradients[2] = b.cast_(b.sumTo(results[0], getBias()), getBias().getType());
  return gradients;
}

FailureOr<Gradients> AttentionOp::buildGradient(OpBuilder &builder,
                                                ArrayRef<Value> results,
                                                ArrayRef<bool> needed) {
  if (results[1] || !results[0])
    return emitOpError("has no gradient through its log-sum-exp");
  GradientBuilder b(builder, *this);
  auto backward = b.create<AttentionBackwardOp>(
      results[0], getQuery(), getKey(), getValue(), getResult(), getLse(),
      getCausalAttr(), getScaleAttr());
  Gradients gradients;
  for (auto [gradient, need] : llvm::zip(backward.getResults(), needed))
    gradients.push_back(need ? gradient : Value());
  return gradients;
}
