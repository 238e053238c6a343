//===- BuildOps.cpp - building arithmetic, contractions and norms ---------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpTable.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/Support/FormatVariadic.h"

#include <numeric>

using namespace mlir;

namespace tombolo::importer {

//===----------------------------------------------------------------------===//
// Comparisons and logic, out of `less`, `equal` and `where`
//===----------------------------------------------------------------------===//

/// `condition ? lhs : rhs` for bools; null values stand for the constants.
static LogicalResult setWhere(NodeContext &context, Value condition, Value lhs,
                              Value rhs) {
  if (!condition)
    return failure();
  auto orConstant = [&](Value value, bool constant) {
    return value ? value
                 : context.materialize(Symbolic::scalar(
                       ElementType::Bool, Scalar::boolean(constant)));
  };
  return context.setResult(
      0, context.make<graph::WhereOp>(
             {condition, orConstant(lhs, true), orConstant(rhs, false)}));
}

/// The negation of a bool.
static LogicalResult setNot(NodeContext &context, Value condition) {
  if (!condition)
    return failure();
  Value yes = context.materialize(
      Symbolic::scalar(ElementType::Bool, Scalar::boolean(true)));
  Value no = context.materialize(
      Symbolic::scalar(ElementType::Bool, Scalar::boolean(false)));
  return context.setResult(0,
                           context.make<graph::WhereOp>({condition, no, yes}));
}

/// `less` of the operands, perhaps swapped.
static Value makeLess(NodeContext &context, bool swap) {
  Value lhs = context.getValue(swap), rhs = context.getValue(!swap);
  return lhs && rhs ? context.make<graph::LessOp>({lhs, rhs}) : Value();
}

LogicalResult buildGreater(NodeContext &context) {
  return context.setResult(0, makeLess(context, true));
}
LogicalResult buildLessOrEqual(NodeContext &context) {
  return setNot(context, makeLess(context, true));
}
LogicalResult buildGreaterOrEqual(NodeContext &context) {
  return setNot(context, makeLess(context, false));
}

LogicalResult buildAnd(NodeContext &context) {
  Value lhs = context.getValue(0), rhs = context.getValue(1);
  return lhs && rhs ? setWhere(context, lhs, rhs, {}) : failure();
}
LogicalResult buildOr(NodeContext &context) {
  Value lhs = context.getValue(0), rhs = context.getValue(1);
  return lhs && rhs ? setWhere(context, lhs, {}, rhs) : failure();
}
LogicalResult buildNot(NodeContext &context) {
  return setNot(context, context.getValue(0));
}

LogicalResult buildXor(NodeContext &context) {
  Value lhs = context.getValue(0), rhs = context.getValue(1);
  if (!lhs || !rhs)
    return failure();
  Value no = context.materialize(
      Symbolic::scalar(ElementType::Bool, Scalar::boolean(false)));
  Value yes = context.materialize(
      Symbolic::scalar(ElementType::Bool, Scalar::boolean(true)));
  Value notRhs = context.make<graph::WhereOp>({rhs, no, yes});
  return notRhs ? setWhere(context, lhs, notRhs, rhs) : failure();
}

LogicalResult buildAbs(NodeContext &context) {
  Value value = context.getValue(0);
  if (!value || failed(context.requireFloat(value)))
    return failure();
  Value zero = context.makeScalar(0, getType(value).getElementType());
  Value isNegative = context.make<graph::LessOp>({value, zero});
  Value negated = context.make<graph::NegOp>(value);
  return context.setResult(
      0, context.make<graph::WhereOp>({isNegative, negated, value}));
}

/// The largest or the smallest of the operands, whatever their type.
static LogicalResult buildExtreme(NodeContext &context, bool largest) {
  if (context.getNumOperands() == 1)
    return context.forwardOperand();
  Value extreme = context.getValue(0);
  for (size_t i = 1; extreme && i < context.getNumOperands(); ++i) {
    if (!context.hasOperand(i))
      return context.emitError() << "operand " << i << " is missing";
    Value next = context.getValue(i);
    if (!next)
      return failure();
    Value isNext = largest ? context.make<graph::LessOp>({extreme, next})
                           : context.make<graph::LessOp>({next, extreme});
    extreme = isNext ? context.make<graph::WhereOp>({isNext, next, extreme})
                     : Value();
  }
  return extreme ? context.setResult(0, extreme) : failure();
}

LogicalResult buildMax(NodeContext &context) {
  return buildExtreme(context, true);
}
LogicalResult buildMin(NodeContext &context) {
  return buildExtreme(context, false);
}

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

LogicalResult buildPow(NodeContext &context) {
  Value base = context.getValue(0);
  if (!base)
    return failure();
  if (failed(context.requireFloat(base)))
    return failure();
  // The exponent may be of another type; the result has the base's.
  Value exponent;
  const Symbolic *known = context.getSymbolic(1);
  if (std::optional<Scalar> splat = known ? known->getSplat() : std::nullopt;
      splat && !splat->batch &&
      known->getRank() <= context.getOperandShape(0).size() &&
      isa<FloatType>(getType(base).getElementType())) {
    double value = isFloat(known->getType()) ? splat->asReal()
                                             : static_cast<double>(splat->bits);
    exponent = context.makeScalar(value, getType(base).getElementType());
    if (known->getRank())
      if (auto shape =
              broadcastShapes(context.getOperandShape(0), known->getShape());
          !shape || *shape != context.getOperandShape(0))
        exponent = context.makeBroadcast(exponent, known->getShape());
  } else {
    exponent = context.getValue(1);
    if (exponent)
      exponent = context.makeCast(exponent, getType(base).getElementType());
  }
  if (!exponent)
    return failure();
  return context.setResult(0, context.make<graph::PowOp>({base, exponent}));
}

LogicalResult buildGelu(NodeContext &context) {
  Value value = context.getValue(0);
  std::string approximate = context.getString("approximate", "none");
  if (!value)
    return failure();
  if (approximate != "none" && approximate != "tanh")
    return context.emitError() << "approximate is '" << approximate
                               << "', expected 'none' or 'tanh'";
  return context.setResult(
      0, context.make<graph::GeluOp>(value, [&](auto &properties) {
        properties.approximate =
            context.getBuilder().getStringAttr(approximate);
      }));
}

LogicalResult buildWhere(NodeContext &context) {
  std::optional<Shape> shape =
      broadcastShapes(context.getOperandShape(0), context.getOperandShape(1));
  if (shape)
    shape = broadcastShapes(*shape, context.getOperandShape(2));
  if (!shape)
    return context.emitError() << "operands do not go together";
  size_t yes = 1, no = 2;
  Value condition;
  if (const Symbolic *known = context.getSymbolic(0)) {
    if (std::optional<Scalar> splat = known->getSplat()) {
      Value chosen = context.getValue(splat->bits ? 1 : 2);
      return chosen
                 ? context.setResult(0, context.makeBroadcast(chosen, *shape))
                 : failure();
    }
    // A mask is true inside its triangle; for one that is false there the
    // branches change places.
    if (known->getForm() == Symbolic::Form::Triangle &&
        !known->getInside().bits) {
      std::swap(yes, no);
      condition = context.materialize(Symbolic::triangle(
          ElementType::Bool, Shape(known->getShape()), Scalar::boolean(true),
          Scalar::boolean(false), known->getOffset()));
    }
  }
  if (!condition)
    condition = context.getValue(0);
  Value lhs = context.getBroadcastableValue(yes, *shape);
  Value rhs = context.getBroadcastableValue(no, *shape);
  if (!condition || !lhs || !rhs)
    return failure();
  return context.setResult(0,
                           context.make<graph::WhereOp>({condition, lhs, rhs}));
}

LogicalResult buildCast(NodeContext &context) {
  int to = static_cast<int>(context.getInt("to", 0));
  std::optional<ElementType> element = getElementType(to);
  Type type = element ? toMlirType(*element, context.getBuilder().getContext())
                      : Type();
  if (!type) {
    std::string name = onnx::TensorProto::DataType_IsValid(to)
                           ? onnx::TensorProto::DataType_Name(
                                 static_cast<onnx::TensorProto::DataType>(to))
                           : std::to_string(to);
    return context.emitError() << "a cast to type " << name
                               << " is not there yet; export the model in "
                                  "32-bit floats";
  }
  Value value = context.getValue(0);
  if (!value)
    return failure();
  return context.setResult(0, context.makeCast(value, type));
}

LogicalResult buildIdentity(NodeContext &context) {
  return context.forwardOperand();
}

/// The argument of @main that says what masks are drawn of.
static Value getStamp(OpBuilder &builder, Location loc) {
  auto main = cast<func::FuncOp>(builder.getBlock()->getParentOp());
  unsigned count = main.getNumArguments();
  for (unsigned i = 0; i < count; ++i)
    if (main.getArgAttr(i, graph::kStampAttr))
      return main.getArgument(i);
  main.insertArgument(count, RankedTensorType::get({4}, builder.getI64Type()),
                      builder.getDictionaryAttr(builder.getNamedAttr(
                          graph::kStampAttr, builder.getUnitAttr())),
                      loc);
  return main.getArgument(count);
}

/// Dropout of samples that lie along any dimension; without one all samples of
/// a step share the mask.
static LogicalResult drop(NodeContext &context, double ratio) {
  Value value = context.getValue(0);
  if (!value || failed(context.requireFloat(value)))
    return failure();
  auto type = cast<RankedTensorType>(value.getType());
  Shape shape = getShape(type), split;
  size_t batch = shape.size();
  for (auto [i, size] : llvm::enumerate(shape)) {
    if (size.isConstant()) {
      split.push_back(size);
      continue;
    }
    batch = i;
    split.push_back({0, 1});
    if (size.batch != 1)
      split.push_back({size.batch, 0});
  }
  bool shared = batch == shape.size();
  if (shared) {
    batch = 0;
    split.insert(split.begin(), {1, 0});
  }
  SmallVector<int64_t> there, back(split.size());
  there.push_back(batch);
  for (size_t i = 0; i < split.size(); ++i)
    if (i != batch)
      there.push_back(i);
  for (auto [i, from] : llvm::enumerate(there))
    back[from] = i;
  value = context.makeReshape(value, split);
  if (!value)
    return failure();
  if (batch != 0)
    value = context.makeTranspose(value, there);
  OpBuilder &builder = context.getBuilder();
  value = builder.create<graph::DropoutOp>(
      context.getLoc(), value.getType(), value,
      getStamp(builder, context.getLoc()), Value(),
      builder.getF64FloatAttr(ratio), builder.getI64IntegerAttr(0),
      shared ? builder.getUnitAttr() : UnitAttr(), DenseI64ArrayAttr());
  if (batch != 0)
    value = context.makeTranspose(value, back);
  value = context.makeReshape(value, shape);
  return value ? context.setResult(0, value) : failure();
}

LogicalResult buildDropout(NodeContext &context) {
  double ratio = context.getFloat("ratio", 0.5);
  // Before opset 12 the operator does not say whether it trains; exporters
  // leave it out where it does not.
  bool training = true;
  if (context.getOpset() >= 12) {
    auto read = [&](size_t i, Scalar otherwise) -> std::optional<Scalar> {
      if (!context.hasOperand(i))
        return otherwise;
      const Symbolic *known = context.getSymbolic(i);
      return known ? known->asScalar() : std::nullopt;
    };
    std::optional<Scalar> given = read(1, Scalar::real(0.5));
    std::optional<Scalar> mode = read(2, Scalar::boolean(false));
    if (!given || !mode)
      return context.emitError() << "ratio and training_mode must be constants";
    ratio = given->asReal();
    training = mode->bits;
  }
  if (!(ratio >= 0 && ratio < 1))
    return context.emitError() << "expected a ratio in [0, 1), got "
                               << llvm::formatv("{0:F}", ratio).str();
  if (training && ratio != 0)
    return drop(context, ratio);
  (void)context.setResult(1, Symbolic::splat(ElementType::Bool,
                                             context.getOperandShape(0),
                                             Scalar::boolean(true)));
  return context.forwardOperand();
}

//===----------------------------------------------------------------------===//
// Contractions
//===----------------------------------------------------------------------===//

LogicalResult buildMatMul(NodeContext &context) {
  Value lhs = context.getValue(0), rhs = context.getValue(1);
  if (!lhs || !rhs)
    return failure();
  Shape left = context.getOperandShape(0), right = context.getOperandShape(1);
  // A vector is a row on the left and a column on the right; that dimension is
  // dropped again.
  bool isRow = left.size() == 1, isColumn = right.size() == 1;
  if (isRow)
    lhs = context.makeReshape(lhs, {Affine{1, 0}, left[0]});
  if (isColumn)
    rhs = context.makeReshape(rhs, {right[0], Affine{1, 0}});
  Value product = context.makeMatmul(lhs, rhs, {}, false, false);
  if (product && (isRow || isColumn)) {
    Shape shape = getShape(getType(product));
    if (isColumn)
      shape.pop_back();
    if (isRow)
      shape.erase(shape.end() - (isColumn ? 1 : 2));
    product = context.makeReshape(product, shape);
  }
  return context.setResult(0, product);
}

LogicalResult buildGemm(NodeContext &context) {
  Value lhs = context.getValue(0), rhs = context.getValue(1);
  if (!lhs || !rhs)
    return failure();
  if (getType(lhs).getRank() != 2 || getType(rhs).getRank() != 2)
    return context.emitError() << "expects matrices";
  double alpha = context.getFloat("alpha", 1),
         beta = context.getFloat("beta", 1);
  Value addend;
  if (context.hasOperand(2) && !(addend = context.getValue(2)))
    return failure();
  Type type = getType(lhs).getElementType();
  auto scaled = [&](Value value, double factor) {
    return factor == 1 ? value
                       : context.make<graph::MulOp>(
                             {value, context.makeScalar(factor, type)});
  };
  bool isBias =
      addend && alpha == 1 && beta == 1 && getType(addend).getRank() == 1;
  Value result = context.makeMatmul(lhs, rhs, {}, context.getInt("transA", 0),
                                    context.getInt("transB", 0));
  if (!result)
    return failure();
  if (isBias &&
      getShape(getType(addend)).back() == getShape(getType(result)).back()) {
    cast<graph::MatmulOp>(result.getDefiningOp())
        .getBiasMutable()
        .assign(addend);
    return context.setResult(0, result);
  }
  result = scaled(result, alpha);
  if (addend && result)
    result = context.make<graph::AddOp>({result, scaled(addend, beta)});
  return context.setResult(0, result);
}

//===----------------------------------------------------------------------===//
// Reductions and norms
//===----------------------------------------------------------------------===//

/// Softmax or its logarithm.
template <typename Op>
static LogicalResult buildSoftmaxLike(NodeContext &context) {
  Value value = context.getValue(0);
  if (!value || failed(context.requireFloat(value)))
    return failure();
  Shape shape = context.getOperandShape(0);
  bool flattens = context.getOpset() < 13;
  FailureOr<int64_t> axis = context.normalizeAxis(
      context.getInt("axis", flattens ? 1 : -1), shape.size());
  if (failed(axis))
    return failure();
  if (*axis + 1 == static_cast<int64_t>(shape.size()))
    return context.setResult(0, context.make<Op>(value));
  if (flattens) {
    // Over all dimensions from the axis on.
    Shape flat(shape.begin(), shape.begin() + *axis);
    Affine last{1, 0};
    for (Affine size : ArrayRef(shape).drop_front(*axis)) {
      std::optional<Affine> product = mul(last, size);
      if (!product)
        return context.emitError() << "cannot flatten " << toString(shape);
      last = *product;
    }
    flat.push_back(last);
    Value result = context.makeReshape(value, flat);
    result = result ? context.make<Op>(result) : Value();
    return context.setResult(0, result ? context.makeReshape(result, shape)
                                       : Value());
  }
  SmallVector<int64_t> permutation(shape.size());
  std::iota(permutation.begin(), permutation.end(), 0);
  std::swap(permutation[*axis], permutation.back());
  Value result = context.makeTranspose(value, permutation);
  result = result ? context.make<Op>(result) : Value();
  return context.setResult(
      0, result ? context.makeTranspose(result, permutation) : Value());
}

LogicalResult buildSoftmax(NodeContext &context) {
  return buildSoftmaxLike<graph::SoftmaxOp>(context);
}
LogicalResult buildLogSoftmax(NodeContext &context) {
  return buildSoftmaxLike<graph::LogSoftmaxOp>(context);
}

/// Axes are an attribute, and since some opset an operand. With `negate`, the
/// result is minus that of minus the operand.
template <typename Op>
static LogicalResult buildReduce(NodeContext &context, bool negate = false) {
  Value value = context.getValue(0);
  if (!value || failed(context.requireFloat(value)))
    return failure();
  int64_t rank = getType(value).getRank();
  auto axes = context.getAxes(1, rank);
  if (failed(axes))
    return failure();
  if (!*axes || (*axes)->empty()) {
    if (context.getInt("noop_with_empty_axes", 0))
      return context.forwardOperand();
    axes->emplace(rank);
    std::iota((*axes)->begin(), (*axes)->end(), 0);
  }
  if (negate)
    value = context.make<graph::NegOp>(value);
  Builder &builder = context.getBuilder();
  Value result = context.make<Op>(value, [&](auto &properties) {
    properties.axes = builder.getDenseI64ArrayAttr(**axes);
    properties.keep_dims = builder.getBoolAttr(context.getInt("keepdims", 1));
  });
  if (result && negate)
    result = context.make<graph::NegOp>(result);
  return context.setResult(0, result);
}

LogicalResult buildReduceSum(NodeContext &context) {
  return buildReduce<graph::ReduceSumOp>(context);
}
LogicalResult buildReduceMean(NodeContext &context) {
  return buildReduce<graph::ReduceMeanOp>(context);
}
LogicalResult buildReduceMax(NodeContext &context) {
  return buildReduce<graph::ReduceMaxOp>(context);
}

LogicalResult buildReduceMin(NodeContext &context) {
  return buildReduce<graph::ReduceMaxOp>(context, /*negate=*/true);
}

LogicalResult buildLayerNormalization(NodeContext &context) {
  Value value = context.getValue(0), gamma = context.getValue(1);
  if (!value || !gamma || failed(context.requireFloat(value)))
    return failure();
  Shape shape = context.getOperandShape(0);
  FailureOr<int64_t> axis =
      context.normalizeAxis(context.getInt("axis", -1), shape.size());
  if (failed(axis))
    return failure();
  // A norm over several dimensions is one over their product.
  Shape row(shape.begin() + *axis, shape.end());
  Affine length{1, 0};
  for (Affine size : row) {
    std::optional<Affine> product = mul(length, size);
    if (!product || !product->isConstant())
      return context.emitError()
             << "a norm over the dimensions " << toString(row)
             << " is not there yet, expected constant ones";
    length = *product;
  }
  bool flattens = row.size() > 1;
  if (flattens) {
    Shape flat(shape.begin(), shape.begin() + *axis);
    flat.push_back(length);
    if (!(value = context.makeReshape(value, flat)))
      return failure();
  }
  Value beta;
  if (context.hasOperand(2))
    beta = context.getValue(2);
  else
    beta = context.materialize(
        Symbolic::splat(ElementType::F32, row, Scalar::real(0)));
  if (!beta)
    return failure();
  // Scale and shift may be broadcast along the row.
  for (Value *operand : {&gamma, &beta}) {
    if (getShape(getType(*operand)) != row)
      *operand = context.makeBroadcast(*operand, row);
    if (*operand && flattens)
      *operand = context.makeReshape(*operand, {length});
    if (!*operand)
      return failure();
  }
  auto norm = context.create<graph::LayerNormOp>(
      {value, gamma, beta}, [&](auto &properties) {
        properties.epsilon = context.getBuilder().getF64FloatAttr(
            context.getFloat("epsilon", 1e-5f));
      });
  if (!norm)
    return failure();
  // ONNX keeps the reduced dimensions.
  Shape kept(shape);
  std::fill(kept.begin() + *axis, kept.end(), Affine{1, 0});
  for (size_t i : {1, 2})
    if (context.wantsResult(i)) {
      Value statistic = context.makeReshape(norm->getResult(i), kept);
      if (failed(context.setResult(i, statistic)))
        return failure();
    }
  Value result = norm.getResult();
  return context.setResult(0, flattens ? context.makeReshape(result, shape)
                                       : result);
}

} // namespace tombolo::importer
