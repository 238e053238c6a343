//===- BuildShapeOps.cpp - building movements of elements -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpTable.h"

#include <algorithm>
#include <numeric>

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

/// The elements of an axis at these places.
static Value makePick(NodeContext &context, Value value, size_t axis,
                      std::vector<Scalar> places) {
  Shape length{{static_cast<int64_t>(places.size()), 0}};
  Value indices = context.materialize(
      Symbolic::dense(ElementType::I64, length, std::move(places)));
  return indices ? context.make<graph::GatherOp>(
                       {value, indices},
                       [&](auto &properties) {
                         properties.axis =
                             context.getBuilder().getI64IntegerAttr(axis);
                       })
                 : Value();
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
    if (slice.step < 0) {
      std::vector<Scalar> places;
      for (int64_t i = 0; i < slice.size.constant; ++i)
        places.push_back(
            Scalar::integer({slice.start.constant + i * slice.step, 0}));
      value = makePick(context, value, slice.axis, std::move(places));
    } else {
      value = context.make<graph::SliceOp>(value, [&](auto &properties) {
        properties.axis = builder.getI64IntegerAttr(slice.axis);
        properties.offset = builder.getI64IntegerAttr(slice.start.constant);
        properties.size = builder.getI64IntegerAttr(slice.size.constant);
        properties.step = builder.getI64IntegerAttr(slice.step);
      });
    }
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

/// Each axis repeats as the next larger of two, so nothing is moved until a
/// reader needs the elements in a row.
LogicalResult buildTile(NodeContext &context) {
  Value value = context.getValue(0);
  if (!value)
    return failure();
  Shape shape = context.getOperandShape(0);
  auto repeats = context.getConstants(1, "repeats");
  if (failed(repeats))
    return failure();
  if (repeats->size() != shape.size() ||
      llvm::any_of(*repeats, [](int64_t count) { return count < 1; }))
    return context.emitError() << "expects a positive number for each of the "
                               << shape.size() << " dimensions";
  Shape apart, repeated, result;
  for (auto [size, count] : llvm::zip(shape, *repeats)) {
    if (count != 1) {
      apart.push_back({1, 0});
      repeated.push_back({count, 0});
    }
    apart.push_back(size);
    repeated.push_back(size);
    std::optional<Affine> both = mul(size, {count, 0});
    if (!both)
      return context.emitError() << "has an absurdly large result";
    result.push_back(*both);
  }
  value = context.makeReshape(value, apart);
  if (value)
    value = context.makeBroadcast(value, repeated);
  return value ? context.setResult(0, context.makeReshape(value, result))
               : failure();
}

namespace {

/// Padding of one axis; a negative number cuts.
struct PadRange {
  size_t axis;
  int64_t low, high;
};

/// The axes that are padded. Since opset 18 they may be named.
FailureOr<SmallVector<PadRange>> getPads(NodeContext &context,
                                         ArrayRef<Affine> shape) {
  auto pads = context.getConstants(1, "pads");
  if (failed(pads))
    return failure();
  SmallVector<int64_t> axes(shape.size());
  std::iota(axes.begin(), axes.end(), 0);
  if (context.hasOperand(3)) {
    auto given = context.getConstants(3, "axes");
    if (failed(given))
      return failure();
    axes = *given;
  }
  if (pads->size() != 2 * axes.size())
    return context.emitError()
           << "expects " << 2 * axes.size() << " pads, got " << pads->size();
  SmallVector<PadRange> ranges;
  for (size_t i = 0; i < axes.size(); ++i) {
    FailureOr<int64_t> axis = context.normalizeAxis(axes[i], shape.size());
    if (failed(axis))
      return failure();
    PadRange range{static_cast<size_t>(*axis), (*pads)[i],
                   (*pads)[i + axes.size()]};
    if (range.low == 0 && range.high == 0)
      continue;
    Affine size = shape[range.axis];
    constexpr int64_t most = int64_t{1} << 31;
    if (!size.isConstant())
      return context.emitError()
             << "pads axis " << range.axis << ", the batch, which is free";
    if (std::abs(range.low) > most || std::abs(range.high) > most ||
        size.constant + range.low + range.high < 1)
      return context.emitError() << "leaves nothing of axis " << range.axis
                                 << " of " << toString(shape);
    ranges.push_back(range);
  }
  return ranges;
}

/// Which element of an axis of `size` stands at `position`, which may lie
/// beyond both ends.
int64_t reflected(StringRef mode, int64_t position, int64_t size) {
  if (mode == "edge")
    return std::clamp<int64_t>(position, 0, size - 1);
  auto modulo = [](int64_t a, int64_t b) { return ((a % b) + b) % b; };
  if (mode == "wrap")
    return modulo(position, size);
  if (size == 1)
    return 0;
  int64_t turned = modulo(position, 2 * (size - 1));
  return std::min(turned, 2 * (size - 1) - turned);
}

} // namespace

/// Elements of the axis itself are looked up; others are joined on.
LogicalResult buildPad(NodeContext &context) {
  Value value = context.getValue(0);
  if (!value)
    return failure();
  Shape shape = context.getOperandShape(0);
  std::string mode = context.getString("mode", "constant");
  if (mode != "constant" && mode != "reflect" && mode != "edge" &&
      mode != "wrap")
    return context.emitError() << "mode is '" << mode
                               << "', expected 'constant', 'reflect', 'edge' "
                                  "or 'wrap'";
  auto ranges = getPads(context, shape);
  if (failed(ranges))
    return failure();
  ElementType type =
      *fromMlirType(cast<RankedTensorType>(value.getType()).getElementType());
  Scalar filling{};
  if (context.hasOperand(2)) {
    const Symbolic *known = context.getSymbolic(2);
    std::optional<Scalar> given = known ? known->asScalar() : std::nullopt;
    if (!given)
      return context.emitError() << "the value it pads with must be a constant";
    filling = *given;
  }
  Builder &builder = context.getBuilder();
  for (const PadRange &range : *ranges) {
    int64_t size = shape[range.axis].constant;
    if (mode != "constant") {
      std::vector<Scalar> places;
      for (int64_t i = -range.low; i < size + range.high; ++i)
        places.push_back(Scalar::integer({reflected(mode, i, size), 0}));
      value = makePick(context, value, range.axis, std::move(places));
      shape[range.axis].constant += range.low + range.high;
    } else {
      int64_t begin = std::max<int64_t>(0, -range.low);
      int64_t end = size - std::max<int64_t>(0, -range.high);
      if (begin >= end)
        return context.emitError() << "cuts all of axis " << range.axis;
      if (end - begin != size)
        value = context.make<graph::SliceOp>(value, [&](auto &properties) {
          properties.axis = builder.getI64IntegerAttr(range.axis);
          properties.offset = builder.getI64IntegerAttr(begin);
          properties.size = builder.getI64IntegerAttr(end - begin);
          properties.step = builder.getI64IntegerAttr(1);
        });
      SmallVector<Value> parts;
      auto addFilling = [&](int64_t count) {
        if (count <= 0 || !value)
          return;
        Shape strip(shape);
        strip[range.axis] = {count, 0};
        parts.push_back(
            context.materialize(Symbolic::splat(type, strip, filling)));
      };
      addFilling(range.low);
      parts.push_back(value);
      addFilling(range.high);
      if (llvm::is_contained(parts, Value()))
        return failure();
      if (parts.size() > 1)
        value = context.make<graph::ConcatOp>(parts, [&](auto &properties) {
          properties.axis = builder.getI64IntegerAttr(range.axis);
        });
      shape[range.axis].constant += range.low + range.high;
    }
    if (!value)
      return failure();
  }
  return context.setResult(0, value);
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
