//===- BuildShapeOps.cpp - building movements of elements -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpTable.h"

using namespace mlir;

namespace tombolo::importer {

/// Reshapes operand 0 to what `getTarget` says.
static LogicalResult
buildReshapeTo(NodeContext &context,
               FailureOr<Shape> (*getTarget)(NodeContext &)) {
  FailureOr<Shape> shape = getTarget(context);
  if (failed(shape))
    return failure();
  Value value = context.getValue(0);
  return value ? context.setResult(0, context.makeReshape(value, *shape))
               : failure();
}

LogicalResult buildReshape(NodeContext &context) {
  return buildReshapeTo(context, getReshape);
}
LogicalResult buildFlatten(NodeContext &context) {
  return buildReshapeTo(context, getFlatten);
}
LogicalResult buildSqueeze(NodeContext &context) {
  return buildReshapeTo(context, getSqueeze);
}
LogicalResult buildUnsqueeze(NodeContext &context) {
  return buildReshapeTo(context, getUnsqueeze);
}

LogicalResult buildTranspose(NodeContext &context) {
  Value value = context.getValue(0);
  if (!value)
    return failure();
  auto permutation = getPermutation(context, context.getOperandShape(0).size());
  if (failed(permutation))
    return failure();
  return context.setResult(0, context.makeTranspose(value, *permutation));
}

LogicalResult buildExpand(NodeContext &context) {
  Value value = context.getValue(0);
  if (!value)
    return failure();
  FailureOr<Shape> shape = getExpand(context);
  if (failed(shape))
    return failure();
  return context.setResult(0, context.makeBroadcast(value, *shape));
}

LogicalResult buildSlice(NodeContext &context) {
  Value value = context.getValue(0);
  if (!value)
    return failure();
  Shape shape = context.getOperandShape(0);
  auto slices = getSlices(context, shape);
  if (failed(slices))
    return failure();
  for (const SliceRange &slice : *slices) {
    if (slice.start == Affine{} && slice.size == shape[slice.axis] &&
        slice.step == 1)
      continue;
    if (!shape[slice.axis].isConstant())
      return context.emitError()
             << "cuts axis " << slice.axis << ", the batch, which is free";
    if (slice.size.constant == 0)
      return context.emitError() << "takes nothing of axis " << slice.axis;
    Builder &builder = context.getBuilder();
    value = context.make<graph::SliceOp>(value, [&](auto &properties) {
      properties.axis = builder.getI64IntegerAttr(slice.axis);
      properties.offset = builder.getI64IntegerAttr(slice.start.constant);
      properties.size = builder.getI64IntegerAttr(slice.size.constant);
      properties.step = builder.getI64IntegerAttr(slice.step);
    });
    if (!value)
      return failure();
    shape[slice.axis] = slice.size;
  }
  return context.setResult(0, value);
}

LogicalResult buildSplit(NodeContext &context) {
  Value value = context.getValue(0);
  if (!value)
    return failure();
  Shape shape = context.getOperandShape(0);
  FailureOr<int64_t> axis =
      context.normalizeAxis(context.getInt("axis", 0), shape.size());
  if (failed(axis))
    return failure();
  auto sizes = getSplitSizes(context, shape[*axis]);
  if (failed(sizes))
    return failure();
  if (sizes->size() == 1)
    return context.setResult(0, value);
  Builder &builder = context.getBuilder();
  auto split = context.create<graph::SplitOp>(value, [&](auto &properties) {
    properties.axis = builder.getI64IntegerAttr(*axis);
    properties.sizes = builder.getDenseI64ArrayAttr(*sizes);
  });
  if (!split)
    return failure();
  for (auto [i, result] : llvm::enumerate(split->getResults()))
    if (failed(context.setResult(i, result)))
      return failure();
  return success();
}

LogicalResult buildConcat(NodeContext &context) {
  SmallVector<Value> values;
  for (size_t i = 0; i < context.getNumOperands(); ++i) {
    values.push_back(context.hasOperand(i) ? context.getValue(i) : Value());
    if (!values.back())
      return context.hasOperand(i)
                 ? failure()
                 : LogicalResult(context.emitError() << "lacks an operand");
  }
  FailureOr<int64_t> axis = context.normalizeAxis(
      context.getInt("axis", 0), context.getOperandShape(0).size());
  if (failed(axis))
    return failure();
  if (values.size() == 1)
    return context.setResult(0, values[0]);
  return context.setResult(
      0, context.make<graph::ConcatOp>(values, [&](auto &properties) {
        properties.axis = context.getBuilder().getI64IntegerAttr(*axis);
      }));
}

LogicalResult buildGather(NodeContext &context) {
  Value table = context.getValue(0);
  if (!table)
    return failure();
  Shape shape = context.getOperandShape(0);
  FailureOr<int64_t> axis =
      context.normalizeAxis(context.getInt("axis", 0), shape.size());
  if (failed(axis))
    return failure();
  Value indices;
  std::optional<Shape> repeated;
  if (const Symbolic *known = context.getSymbolic(1);
      known && !isFloat(known->getType()) && shape[*axis].isConstant()) {
    // Indices that are the same along a dimension (positions, for each sample
    // of the batch) are looked up once.
    Shape once(known->getShape().begin(), known->getShape().end());
    if (known->getForm() == Symbolic::Form::Linear)
      for (auto [size, coefficient] : llvm::zip(once, known->getCoefficients()))
        if (coefficient == 0)
          size = {1, 0};
    if (once != Shape(known->getShape())) {
      repeated.emplace(shape.begin(), shape.begin() + *axis);
      repeated->append(known->getShape().begin(), known->getShape().end());
      repeated->append(shape.begin() + *axis + 1, shape.end());
    }
    Symbolic small =
        known->getForm() == Symbolic::Form::Linear
            ? Symbolic::linear(known->getType(), once, known->getBase(),
                               known->getCoefficients())
            : *known;
    // Negative indices count from the end; out of range is an error now.
    int64_t length = shape[*axis].constant;
    std::optional<Symbolic> normalized =
        small.map(small.getType(), [&](Scalar value) -> std::optional<Scalar> {
          Scalar moved{value.bits < 0 ? value.bits + length : value.bits, 0};
          if (value.batch || moved.bits < 0 || moved.bits >= length)
            return std::nullopt;
          return moved;
        });
    if (!normalized)
      return context.emitError()
             << "an index is outside the " << length << " elements of axis "
             << *axis << ", or depends on the batch size";
    indices = context.materialize(*normalized);
  } else {
    indices = context.getValue(1);
  }
  if (!indices)
    return failure();
  Value result =
      context.make<graph::GatherOp>({table, indices}, [&](auto &properties) {
        properties.axis = context.getBuilder().getI64IntegerAttr(*axis);
      });
  if (result && repeated)
    result = context.makeBroadcast(result, *repeated);
  return context.setResult(0, result);
}

LogicalResult buildTrilu(NodeContext &context) {
  Value value = context.getValue(0);
  if (!value)
    return failure();
  Shape shape = context.getOperandShape(0);
  int64_t k = 0;
  if (context.hasOperand(1)) {
    auto given = context.getConstants(1, "diagonal");
    if (failed(given))
      return failure();
    if (given->size() != 1 || !isDiagonal((*given)[0]))
      return context.emitError() << "expects one small number as its diagonal";
    k = (*given)[0];
  }
  if (shape.size() < 2)
    return context.emitError() << "expects matrices";
  Shape maskShape(shape.size(), Affine{1, 0});
  llvm::copy(ArrayRef(shape).take_back(2), maskShape.end() - 2);
  bool upper = context.getInt("upper", 1);
  Value mask = context.materialize(
      Symbolic::triangle(ElementType::Bool, maskShape, Scalar::boolean(true),
                         Scalar::boolean(false), upper ? k - 1 : k));
  Value zero = context.materialize(Symbolic::scalar(
      *fromMlirType(cast<RankedTensorType>(value.getType()).getElementType()),
      Scalar{}));
  if (!mask || !zero)
    return failure();
  if (upper)
    std::swap(value, zero);
  return context.setResult(0,
                           context.make<graph::WhereOp>({mask, value, zero}));
}

} // namespace tombolo::importer
