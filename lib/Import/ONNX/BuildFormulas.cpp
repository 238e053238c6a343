//===- BuildFormulas.cpp - operators that are formulas of others ----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Activations, reductions and norms that ops of the dialect make up. The
// branch of a `where` that is not taken must be finite, too: its gradient is
// multiplied by zero.
//
//===----------------------------------------------------------------------===//

#include "OpTable.h"

#include <numeric>

using namespace mlir;

namespace tombolo::importer {

namespace {

/// A formula on floats, starting from operand 0. Null values stand for what an
/// error has been reported of, and lead to null values.
class Formula {
public:
  explicit Formula(NodeContext &context, bool floats = true)
      : context(context), x(context.getValue(0)) {
    if (x && floats && failed(context.requireFloat(x)))
      x = {};
  }

  Value operand() const { return x; }
  Value operand(size_t i) { return x ? context.getValue(i) : Value(); }
  Value number(double value) {
    return x ? context.makeScalar(value, getType(x).getElementType()) : Value();
  }
  Value attribute(StringRef name, double otherwise) {
    return number(context.getFloat(name, otherwise));
  }

  template <typename Op> Value make(ArrayRef<Value> operands) {
    return llvm::all_of(operands, [](Value value) { return value; })
               ? context.make<Op>(operands)
               : Value();
  }
  Value add(Value a, Value b) { return make<graph::AddOp>({a, b}); }
  Value sub(Value a, Value b) { return make<graph::SubOp>({a, b}); }
  Value mul(Value a, Value b) { return make<graph::MulOp>({a, b}); }
  Value div(Value a, Value b) { return make<graph::DivOp>({a, b}); }
  Value less(Value a, Value b) { return make<graph::LessOp>({a, b}); }
  Value where(Value condition, Value yes, Value no) {
    return make<graph::WhereOp>({condition, yes, no});
  }
  /// Of equal ones the first, so that the gradient reaches a value at a bound.
  Value atLeast(Value a, Value bound) {
    return where(less(a, bound), bound, a);
  }
  Value atMost(Value a, Value bound) { return where(less(bound, a), bound, a); }
  Value abs(Value a) {
    return where(less(a, number(0)), make<graph::NegOp>({a}), a);
  }
  /// e^a - 1, also near 0: tanh(a / 2) (e^a + 1).
  Value expMinusOne(Value a) {
    Value half = make<graph::TanhOp>({mul(a, number(0.5))});
    return mul(half, add(make<graph::ExpOp>({a}), number(1)));
  }
  /// a where it is positive, else b: b may be what it likes there.
  Value positiveElse(Value a, Value b) {
    return where(less(number(0), a), a, b);
  }
  Value negativePart() { return atMost(x, number(0)); }

  template <typename Op>
  Value reduce(Value value, ArrayRef<int64_t> axes, bool keep) {
    if (!value)
      return {};
    Builder &builder = context.getBuilder();
    return context.make<Op>(value, [&](auto &properties) {
      properties.axes = builder.getDenseI64ArrayAttr(axes);
      properties.keep_dims = builder.getBoolAttr(keep);
    });
  }

  /// The largest element as the mean of all that equal it, which has a
  /// gradient.
  Value largest(ArrayRef<int64_t> axes, bool keep) {
    Value most = reduce<graph::ReduceMaxOp>(x, axes, /*keep=*/true);
    Value isLargest = make<graph::EqualOp>({x, most});
    Value sum = where(isLargest, x, number(0));
    Value count = where(isLargest, number(1), number(0));
    return div(reduce<graph::ReduceSumOp>(sum, axes, keep),
               reduce<graph::ReduceSumOp>(count, axes, keep));
  }

  LogicalResult is(Value result) {
    return result ? context.setResult(0, result) : failure();
  }

private:
  NodeContext &context;
  Value x;
};

} // namespace

//===----------------------------------------------------------------------===//
// Activations
//===----------------------------------------------------------------------===//

/// The upper bound wins where the two cross.
LogicalResult buildClip(NodeContext &context) {
  Formula f(context, /*floats=*/false);
  Value value = f.operand();
  if (context.hasOperand(1))
    value = f.atLeast(value, f.operand(1));
  if (context.hasOperand(2))
    value = f.atMost(value, f.operand(2));
  return f.is(value);
}

LogicalResult buildLeakyRelu(NodeContext &context) {
  Formula f(context);
  Value x = f.operand();
  return f.is(f.positiveElse(x, f.mul(x, f.attribute("alpha", 0.01f))));
}

LogicalResult buildPRelu(NodeContext &context) {
  Formula f(context);
  Value x = f.operand();
  return f.is(f.positiveElse(x, f.mul(x, f.operand(1))));
}

LogicalResult buildElu(NodeContext &context) {
  Formula f(context);
  Value low = f.mul(f.attribute("alpha", 1), f.expMinusOne(f.negativePart()));
  return f.is(f.positiveElse(f.operand(), low));
}

LogicalResult buildSelu(NodeContext &context) {
  Formula f(context);
  Value alpha = f.attribute("alpha", 1.67326319217681884765625);
  Value gamma = f.attribute("gamma", 1.05070102214813232421875);
  Value low = f.mul(alpha, f.expMinusOne(f.negativePart()));
  return f.is(f.mul(gamma, f.positiveElse(f.operand(), low)));
}

LogicalResult buildCelu(NodeContext &context) {
  Formula f(context);
  Value alpha = f.attribute("alpha", 1);
  Value low = f.mul(alpha, f.expMinusOne(f.div(f.negativePart(), alpha)));
  return f.is(f.positiveElse(f.operand(), low));
}

LogicalResult buildHardSigmoid(NodeContext &context) {
  Formula f(context);
  Value line = f.add(f.mul(f.operand(), f.attribute("alpha", 0.2f)),
                     f.attribute("beta", 0.5));
  return f.is(f.atMost(f.atLeast(line, f.number(0)), f.number(1)));
}

LogicalResult buildThresholdedRelu(NodeContext &context) {
  Formula f(context);
  Value x = f.operand();
  return f.is(f.where(f.less(f.attribute("alpha", 1), x), x, f.number(0)));
}

LogicalResult buildSoftsign(NodeContext &context) {
  Formula f(context);
  Value x = f.operand();
  return f.is(f.div(x, f.add(f.number(1), f.abs(x))));
}

LogicalResult buildMish(NodeContext &context) {
  Formula f(context);
  Value x = f.operand();
  Value soft = f.make<graph::SoftplusOp>({x});
  return f.is(f.mul(x, f.make<graph::TanhOp>({soft})));
}

static LogicalResult buildSumOf(NodeContext &context, bool mean) {
  Formula f(context);
  Value sum = f.operand();
  for (size_t i = 1; i < context.getNumOperands(); ++i) {
    if (!context.hasOperand(i))
      return context.emitError() << "operand " << i << " is missing";
    sum = f.add(sum, f.operand(i));
  }
  if (mean)
    sum = f.div(sum, f.number(static_cast<double>(context.getNumOperands())));
  return f.is(sum);
}

LogicalResult buildSum(NodeContext &context) {
  return buildSumOf(context, /*mean=*/false);
}
LogicalResult buildMean(NodeContext &context) {
  return buildSumOf(context, /*mean=*/true);
}

//===----------------------------------------------------------------------===//
// Reductions
//===----------------------------------------------------------------------===//

/// `formula` of the axes that are reduced.
static LogicalResult buildReduction(
    NodeContext &context,
    llvm::function_ref<Value(Formula &, ArrayRef<int64_t>, bool)> formula) {
  Formula f(context);
  if (!f.operand())
    return failure();
  int64_t rank = getType(f.operand()).getRank();
  auto axes = context.getAxes(1, rank);
  if (failed(axes))
    return failure();
  if (!*axes || (*axes)->empty()) {
    axes->emplace(rank);
    // With noop_with_empty_axes the function is taken of each element.
    if (context.getInt("noop_with_empty_axes", 0))
      (*axes)->clear();
    else
      std::iota((*axes)->begin(), (*axes)->end(), 0);
  }
  return f.is(formula(f, **axes, context.getInt("keepdims", 1)));
}

LogicalResult buildReduceL1(NodeContext &context) {
  return buildReduction(
      context, [](Formula &f, ArrayRef<int64_t> axes, bool keep) {
        return f.reduce<graph::ReduceSumOp>(f.abs(f.operand()), axes, keep);
      });
}

static Value sumOfSquares(Formula &f, ArrayRef<int64_t> axes, bool keep) {
  Value square = f.mul(f.operand(), f.operand());
  return f.reduce<graph::ReduceSumOp>(square, axes, keep);
}

LogicalResult buildReduceSumSquare(NodeContext &context) {
  return buildReduction(context, sumOfSquares);
}

LogicalResult buildReduceL2(NodeContext &context) {
  return buildReduction(
      context, [](Formula &f, ArrayRef<int64_t> axes, bool keep) {
        return f.make<graph::SqrtOp>({sumOfSquares(f, axes, keep)});
      });
}

LogicalResult buildReduceLogSum(NodeContext &context) {
  return buildReduction(
      context, [](Formula &f, ArrayRef<int64_t> axes, bool keep) {
        Value sum = f.reduce<graph::ReduceSumOp>(f.operand(), axes, keep);
        return f.make<graph::LogOp>({sum});
      });
}

/// Taken of the distances to the largest element, whose exponentials are at
/// most 1.
LogicalResult buildReduceLogSumExp(NodeContext &context) {
  return buildReduction(
      context, [](Formula &f, ArrayRef<int64_t> axes, bool keep) {
        Value x = f.operand();
        Value most = f.largest(axes, /*keep=*/true);
        Value exponentials = f.make<graph::ExpOp>({f.sub(x, most)});
        Value log = f.make<graph::LogOp>(
            {f.reduce<graph::ReduceSumOp>(exponentials, axes, keep)});
        return f.add(log, f.largest(axes, keep));
      });
}

//===----------------------------------------------------------------------===//
// Norms
//===----------------------------------------------------------------------===//

/// `x` [samples, channels, ...] with all elements of a group of channels made
/// mean 0 and variance 1.
static Value normalizeGroups(NodeContext &context, Value x, int64_t groups) {
  Shape shape = getShape(cast<RankedTensorType>(x.getType()));
  if (shape.size() < 3 || !shape[1].isConstant() || groups < 1 ||
      shape[1].constant % groups != 0) {
    context.emitError() << "expected [samples, channels, space...] and groups "
                           "that divide the channels, got "
                        << toString(shape) << " and " << groups << " groups";
    return {};
  }
  std::optional<Affine> all = product(ArrayRef(shape).drop_front(1));
  if (!all || !all->isConstant()) {
    context.emitError() << "expected constant sizes of space, got "
                        << toString(shape);
    return {};
  }
  Affine length{all->constant / groups, 0};
  Value rows = context.makeReshape(x, {shape[0], Affine{groups, 0}, length});
  auto vector = [&](double value) {
    return context.materialize(
        Symbolic::splat(ElementType::F32, {length}, Scalar::real(value)));
  };
  Value one = vector(1), zero = vector(0);
  if (!rows || !one || !zero)
    return {};
  rows = context.make<graph::LayerNormOp>(
      {rows, one, zero}, [&](auto &properties) {
        properties.epsilon = context.getBuilder().getF64FloatAttr(
            context.getFloat("epsilon", 1e-5f));
      });
  return rows ? context.makeReshape(rows, shape) : Value();
}

/// Scales and shifts channels by operands 1 and 2, one number for each of
/// `count` equal parts of them.
static LogicalResult buildGroupNorm(NodeContext &context, int64_t groups,
                                    int64_t count) {
  Formula f(context);
  Value x = f.operand();
  x = x ? normalizeGroups(context, x, groups) : Value();
  if (!x)
    return failure();
  Shape shape = context.getOperandShape(0);
  Shape parts = {shape[0], {count, 0}, {shape[1].constant / count, 0}};
  parts.append(shape.begin() + 2, shape.end());
  x = context.makeReshape(x, parts);
  Value factors[2];
  for (size_t i : {1, 2}) {
    Value vector = context.getValue(i);
    if (!vector)
      return failure();
    if (context.getOperandShape(i) != Shape{Affine{count, 0}})
      return context.emitError()
             << "expected " << count << " numbers, got " << vector.getType();
    Shape along(parts.size(), Affine{1, 0});
    along[1] = {count, 0};
    factors[i - 1] = context.makeReshape(vector, along);
  }
  x = f.add(f.mul(x, factors[0]), factors[1]);
  return f.is(x ? context.makeReshape(x, shape) : Value());
}

LogicalResult buildInstanceNormalization(NodeContext &context) {
  Shape shape = context.getOperandShape(0);
  int64_t channels = shape.size() > 1 ? shape[1].constant : 1;
  return buildGroupNorm(context, channels, channels);
}

/// Until opset 20 there is one scale for each group, then one for each channel.
LogicalResult buildGroupNormalization(NodeContext &context) {
  Shape shape = context.getOperandShape(0);
  int64_t groups = context.getInt("num_groups", 0);
  bool perChannel = context.getOpset() >= 21 && shape.size() > 1;
  return buildGroupNorm(context, groups,
                        perChannel ? shape[1].constant : groups);
}

} // namespace tombolo::importer
