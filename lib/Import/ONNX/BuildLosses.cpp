//===- BuildLosses.cpp - building losses that models compute themselves ---===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Classes lie along dimension 1 in ONNX, along the last one in the dialect.
//
//===----------------------------------------------------------------------===//

#include "OpTable.h"

#include <algorithm>
#include <limits>
#include <numeric>

using namespace mlir;

namespace tombolo::importer {

namespace {

/// [n, classes, ...] as [n, ..., classes].
Value classesLast(NodeContext &context, Value value) {
  SmallVector<int64_t> permutation(getType(value).getRank());
  std::iota(permutation.begin(), permutation.end(), 0);
  std::rotate(permutation.begin() + 1, permutation.begin() + 2,
              permutation.end());
  return context.makeTranspose(value, permutation);
}

/// True where the last dimension, of `depth` elements, counts what `index`
/// [...] says.
Value makeHot(NodeContext &context, Value index, int64_t depth) {
  Shape shape = getShape(getType(index));
  shape.push_back({1, 0});
  Value column = context.makeReshape(index, shape);
  auto type = fromMlirType(getType(index).getElementType());
  Value range = context.materialize(
      Symbolic::linear(*type, {Affine{depth, 0}}, Scalar{}, {1}));
  return column && range ? context.make<graph::EqualOp>({column, range})
                         : Value();
}

/// Operands of a loss: what it is of, with the classes last, labels, and the
/// weight of each label, null where all are 1.
struct LossOperands {
  Value input, labels, weights;
  int64_t classes;
  /// Of labels that do not count; nothing where all do.
  std::optional<int64_t> ignored;
};

FailureOr<LossOperands> readLoss(NodeContext &context) {
  LossOperands loss;
  loss.input = context.getValue(0);
  loss.labels = context.getValue(1);
  if (!loss.input || !loss.labels || failed(context.requireFloat(loss.input)))
    return failure();
  Shape shape = context.getOperandShape(0);
  if (shape.size() < 2 || !shape[1].isConstant())
    return context.emitError()
           << "expected [samples, classes, ...], got " << toString(shape);
  loss.classes = shape[1].constant;
  loss.input = classesLast(context, loss.input);
  if (context.hasAttribute("ignore_index"))
    loss.ignored = context.getInt("ignore_index", 0);
  if (!loss.input)
    return failure();
  if (!context.hasOperand(2))
    return loss;
  Value table = context.getValue(2), labels = loss.labels;
  if (!table)
    return failure();
  // What does not count need not be a class.
  auto element = getType(labels).getElementType();
  if (loss.ignored) {
    Value mark = context.materialize(Symbolic::scalar(
        *fromMlirType(element), Scalar::integer({*loss.ignored, 0})));
    Value zero =
        context.materialize(Symbolic::scalar(*fromMlirType(element), Scalar{}));
    Value isIgnored = context.make<graph::EqualOp>({labels, mark});
    labels = isIgnored ? context.make<graph::WhereOp>({isIgnored, zero, labels})
                       : Value();
    if (!labels)
      return failure();
  }
  loss.weights =
      context.make<graph::GatherOp>({table, labels}, [&](auto &properties) {
        properties.axis = context.getBuilder().getI64IntegerAttr(0);
      });
  if (!loss.weights)
    return failure();
  return loss;
}

Value sumAll(NodeContext &context, Value value) {
  SmallVector<int64_t> axes(getType(value).getRank());
  std::iota(axes.begin(), axes.end(), 0);
  Builder &builder = context.getBuilder();
  return context.make<graph::ReduceSumOp>(value, [&](auto &properties) {
    properties.axes = builder.getDenseI64ArrayAttr(axes);
    properties.keep_dims = builder.getBoolAttr(false);
  });
}

/// The loss of each label, from logarithms of probabilities, and its mean or
/// sum, as `reduction` says.
LogicalResult buildFromLogs(NodeContext &context, const LossOperands &loss,
                            Value logs) {
  Type element = getType(logs).getElementType();
  Value hot = makeHot(context, loss.labels, loss.classes);
  Value zero = context.makeScalar(0, element);
  Value picked =
      hot ? context.make<graph::WhereOp>({hot, logs, zero}) : Value();
  Builder &builder = context.getBuilder();
  if (!picked)
    return failure();
  int64_t last = getType(picked).getRank() - 1;
  picked = context.make<graph::ReduceSumOp>(picked, [&](auto &properties) {
    properties.axes = builder.getDenseI64ArrayAttr({last});
    properties.keep_dims = builder.getBoolAttr(false);
  });
  Value each = picked ? context.make<graph::NegOp>(picked) : Value();
  Value weights = loss.weights;
  if (!each)
    return failure();
  if (loss.ignored) {
    Value mark = context.materialize(
        Symbolic::scalar(*fromMlirType(getType(loss.labels).getElementType()),
                         Scalar::integer({*loss.ignored, 0})));
    Value isIgnored = context.make<graph::EqualOp>({loss.labels, mark});
    Value other = weights ? weights : context.makeScalar(1, element);
    weights = isIgnored ? context.make<graph::WhereOp>({isIgnored, zero, other})
                        : Value();
    if (!weights)
      return failure();
  }
  if (weights)
    each = context.make<graph::MulOp>({each, weights});
  std::string reduction = context.getString("reduction", "mean");
  if (!each)
    return failure();
  if (reduction == "none")
    return context.setResult(0, each);
  Value sum = sumAll(context, each);
  if (!sum || reduction == "sum")
    return sum ? context.setResult(0, sum) : failure();
  if (!weights)
    weights = context.makeBroadcast(context.makeScalar(1, element),
                                    getShape(getType(each)));
  Value total = weights ? sumAll(context, weights) : Value();
  return total ? context.setResult(0, context.make<graph::DivOp>({sum, total}))
               : failure();
}

} // namespace

LogicalResult buildNegativeLogLikelihoodLoss(NodeContext &context) {
  FailureOr<LossOperands> loss = readLoss(context);
  return failed(loss) ? failure() : buildFromLogs(context, *loss, loss->input);
}

/// Sums and means are one op, which shards by vocabulary and keeps no
/// probabilities.
LogicalResult buildSoftmaxCrossEntropyLoss(NodeContext &context) {
  FailureOr<LossOperands> loss = readLoss(context);
  if (failed(loss))
    return failure();
  std::string reduction = context.getString("reduction", "mean");
  bool wantsLogs = context.wantsResult(1);
  if (wantsLogs || reduction == "none") {
    Value logs = context.make<graph::LogSoftmaxOp>(loss->input);
    if (!logs)
      return failure();
    if (wantsLogs) {
      // Classes go back to dimension 1.
      SmallVector<int64_t> permutation(getType(logs).getRank());
      std::iota(permutation.begin(), permutation.end(), 0);
      std::rotate(permutation.begin() + 1, permutation.end() - 1,
                  permutation.end());
      if (failed(
              context.setResult(1, context.makeTranspose(logs, permutation))))
        return failure();
    }
    return buildFromLogs(context, *loss, logs);
  }
  // Where no label is to be left out, none is the least number.
  SmallVector<Value> operands = {loss->input, loss->labels};
  if (loss->weights)
    operands.push_back(loss->weights);
  auto entropy =
      context.create<graph::CrossEntropyOp>(operands, [&](auto &properties) {
        properties.ignore_index = context.getBuilder().getI64IntegerAttr(
            loss->ignored.value_or(std::numeric_limits<int32_t>::min()));
      });
  if (!entropy)
    return failure();
  if (reduction == "sum")
    return context.setResult(0, entropy.getLoss());
  return context.setResult(
      0, context.make<graph::DivOp>({entropy.getLoss(), entropy.getWeights()}));
}

LogicalResult buildOneHot(NodeContext &context) {
  const Symbolic *known = context.getSymbolic(1);
  std::optional<Scalar> given = known ? known->asScalar() : std::nullopt;
  if (!given || given->batch)
    return context.emitError() << "the depth must be a constant";
  int64_t depth = isFloat(known->getType())
                      ? static_cast<int64_t>(given->asReal())
                      : given->bits;
  Value index = context.getValue(0), values = context.getValue(2);
  if (!index || !values)
    return failure();
  size_t rank = getType(index).getRank() + 1;
  FailureOr<int64_t> axis =
      context.normalizeAxis(context.getInt("axis", -1), rank);
  if (failed(axis))
    return failure();
  if (depth < 1)
    return context.emitError() << "expects a positive depth, got " << depth;
  if (context.getOperandShape(2) != Shape{Affine{2, 0}})
    return context.emitError()
           << "expects two values, got " << values.getType();
  if (isa<FloatType>(getType(index).getElementType()))
    index = context.makeCast(index, context.getBuilder().getI64Type());
  // Negative ones count from the end.
  Type element = getType(index).getElementType();
  Value hot = makeHot(context, index, depth);
  Value negative = context.materialize(
      Symbolic::linear(*fromMlirType(element), {Affine{depth, 0}},
                       Scalar::integer({-depth, 0}), {1}));
  Shape column = context.getOperandShape(0);
  column.push_back({1, 0});
  Value seen = context.makeReshape(index, column);
  Value alsoHot = hot && negative && seen
                      ? context.make<graph::EqualOp>({seen, negative})
                      : Value();
  Value yes = context.materialize(
      Symbolic::scalar(ElementType::Bool, Scalar::boolean(true)));
  hot = alsoHot ? context.make<graph::WhereOp>({hot, yes, alsoHot}) : Value();
  if (!hot)
    return failure();
  Builder &builder = context.getBuilder();
  auto pick = [&](int64_t i) {
    Value one = context.make<graph::SliceOp>(values, [&](auto &properties) {
      properties.axis = builder.getI64IntegerAttr(0);
      properties.offset = builder.getI64IntegerAttr(i);
      properties.size = builder.getI64IntegerAttr(1);
      properties.step = builder.getI64IntegerAttr(1);
    });
    return one ? context.makeReshape(one, {}) : Value();
  };
  Value off = pick(0), on = pick(1);
  Value result =
      off && on ? context.make<graph::WhereOp>({hot, on, off}) : Value();
  if (!result)
    return failure();
  SmallVector<int64_t> permutation(rank);
  std::iota(permutation.begin(), permutation.end(), 0);
  std::rotate(permutation.begin() + *axis, permutation.end() - 1,
              permutation.end());
  return context.setResult(0, context.makeTranspose(result, permutation));
}

} // namespace tombolo::importer
