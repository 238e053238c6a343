//===- SymbolicShapeOps.cpp - evaluating shapes and movements -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpTable.h"

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace mlir;

namespace tombolo::importer {
namespace {

/// Runs a function that reports its failures; evaluation only says that it
/// could not, and building then reports.
template <typename Function> auto silently(NodeContext &context, Function f) {
  ScopedDiagnosticHandler handler(context.getLoc().getContext(),
                                  [](Diagnostic &) { return success(); });
  return f();
}

/// Evaluates a Reshape-like node of a known operand.
bool evaluateReshapeLike(NodeContext &context,
                         FailureOr<Shape> (*getShape)(NodeContext &)) {
  const Symbolic *operand = context.getSymbolic(0);
  if (!operand)
    return false;
  FailureOr<Shape> shape = silently(context, [&] { return getShape(context); });
  return succeeded(shape) && setIfKnown(context, operand->reshape(*shape));
}

} // namespace

//===----------------------------------------------------------------------===//
// Evaluation
//===----------------------------------------------------------------------===//

bool evaluateShape(NodeContext &context) {
  Shape shape = context.getOperandShape(0);
  int64_t rank = static_cast<int64_t>(shape.size());
  auto bound = [&](int64_t at) {
    return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank);
  };
  int64_t start = bound(context.getInt("start", 0));
  int64_t end = bound(context.getInt("end", rank));
  ArrayRef<Affine> part(shape);
  part = start < end ? part.slice(start, end - start) : ArrayRef<Affine>();
  return setIfKnown(context, Symbolic::vector(part));
}

bool evaluateSize(NodeContext &context) {
  std::optional<Affine> size = product(context.getOperandShape(0));
  return size && setIfKnown(context, Symbolic::scalar(ElementType::I64,
                                                      Scalar::integer(*size)));
}

bool evaluateConstant(NodeContext &context) {
  if (const onnx::AttributeProto *value = context.find("value"))
    return setIfKnown(context, Symbolic::fromTensor(value->t()));
  auto number = [&](ElementType type, Scalar value) {
    return setIfKnown(context, Symbolic::scalar(type, value));
  };
  if (const onnx::AttributeProto *value = context.find("value_int"))
    return number(ElementType::I64, Scalar::integer({value->i(), 0}));
  if (const onnx::AttributeProto *value = context.find("value_float"))
    return number(ElementType::F32, Scalar::real(value->f()));
  if (auto values = context.getInts("value_ints")) {
    SmallVector<Affine> integers;
    for (int64_t value : *values)
      integers.push_back({value, 0});
    return setIfKnown(context, Symbolic::vector(integers));
  }
  if (const onnx::AttributeProto *value = context.find("value_floats")) {
    std::vector<Scalar> reals;
    for (float real : value->floats())
      reals.push_back(Scalar::real(real));
    Shape shape{{static_cast<int64_t>(reals.size()), 0}};
    return setIfKnown(
        context, Symbolic::dense(ElementType::F32, shape, std::move(reals)));
  }
  return false;
}

bool evaluateConstantOfShape(NodeContext &context) {
  const Symbolic *operand = context.getSymbolic(0);
  std::optional<SmallVector<Affine>> sizes =
      operand ? operand->asVector() : std::nullopt;
  if (!sizes)
    return false;
  for (Affine size : *sizes) {
    std::optional<int> sign = compare(size, {});
    if (!sign || *sign < 0)
      return false;
  }
  ElementType type = ElementType::F32;
  Scalar value = Scalar::real(0);
  if (const onnx::AttributeProto *attribute = context.find("value")) {
    std::optional<Symbolic> given = Symbolic::fromTensor(attribute->t());
    std::optional<Scalar> element = given ? given->asScalar() : std::nullopt;
    if (!element)
      return false;
    type = given->getType();
    value = *element;
  }
  return setIfKnown(
      context,
      Symbolic::splat(type, Shape(sizes->begin(), sizes->end()), value));
}

bool evaluateRange(NodeContext &context) {
  std::optional<Scalar> values[3];
  for (size_t i = 0; i < 3; ++i) {
    const Symbolic *operand = context.getSymbolic(i);
    if (!operand || !(values[i] = operand->asScalar()) ||
        operand->getType() != context.getSymbolic(0)->getType())
      return false;
  }
  ElementType type = context.getSymbolic(0)->getType();
  if (isFloat(type)) {
    double start = values[0]->asReal(), limit = values[1]->asReal(),
           delta = values[2]->asReal();
    double count = std::ceil((limit - start) / delta);
    if (delta == 0 || !(count <= static_cast<double>(maxDense))) // or NaN
      return false;
    count = std::max(count, 0.0);
    std::vector<Scalar> elements;
    for (int64_t i = 0; i < static_cast<int64_t>(count); ++i)
      elements.push_back(
          roundReal(type, start + static_cast<double>(i) * delta));
    Shape shape{{static_cast<int64_t>(elements.size()), 0}};
    return setIfKnown(context,
                      Symbolic::dense(type, shape, std::move(elements)));
  }
  Affine start = values[0]->asInteger(), delta = values[2]->asInteger();
  std::optional<Affine> length = sub(values[1]->asInteger(), start);
  if (!length || !delta.isConstant() || delta.constant == 0)
    return false;
  Affine size;
  if (length->isConstant()) {
    std::optional<Affine> quotient = div(*length, delta);
    if (!quotient)
      return false;
    // The quotient is rounded to zero, so that the product does not overflow.
    bool more = quotient->constant * delta.constant != length->constant &&
                (length->constant < 0) == (delta.constant < 0);
    size.constant = std::max<int64_t>(0, quotient->constant + more);
  } else if (delta.constant == 1 && compare(*length, {}).value_or(-1) >= 0) {
    size = *length;
  } else {
    return false;
  }
  return setIfKnown(
      context,
      Symbolic::linear(type, {size}, Scalar::integer(start), {delta.constant}));
}

bool evaluateReshape(NodeContext &context) {
  return evaluateReshapeLike(context, getReshape);
}
bool evaluateFlatten(NodeContext &context) {
  return evaluateReshapeLike(context, getFlatten);
}
bool evaluateSqueeze(NodeContext &context) {
  return evaluateReshapeLike(context, getSqueeze);
}
bool evaluateUnsqueeze(NodeContext &context) {
  return evaluateReshapeLike(context, getUnsqueeze);
}

bool evaluateTranspose(NodeContext &context) {
  const Symbolic *operand = context.getSymbolic(0);
  if (!operand)
    return false;
  auto permutation = silently(
      context, [&] { return getPermutation(context, operand->getRank()); });
  return succeeded(permutation) &&
         setIfKnown(context, operand->transpose(*permutation));
}

bool evaluateExpand(NodeContext &context) {
  const Symbolic *operand = context.getSymbolic(0);
  if (!operand)
    return false;
  auto shape = silently(context, [&] { return getExpand(context); });
  return succeeded(shape) && setIfKnown(context, operand->broadcast(*shape));
}

bool evaluateSlice(NodeContext &context) {
  const Symbolic *operand = context.getSymbolic(0);
  if (!operand)
    return false;
  auto slices = silently(
      context, [&] { return getSlices(context, operand->getShape()); });
  if (failed(slices))
    return false;
  std::optional<Symbolic> result = *operand;
  for (const SliceRange &slice : *slices) {
    result = result->slice(slice.axis, slice.start, slice.size, slice.step);
    if (!result)
      return false;
  }
  return setIfKnown(context, std::move(result));
}

bool evaluateSplit(NodeContext &context) {
  const Symbolic *operand = context.getSymbolic(0);
  if (!operand)
    return false;
  auto parts = silently(context, [&]() -> FailureOr<std::vector<Symbolic>> {
    FailureOr<int64_t> axis =
        context.normalizeAxis(context.getInt("axis", 0), operand->getRank());
    if (failed(axis))
      return failure();
    auto sizes = getSplitSizes(context, operand->getShape()[*axis]);
    if (failed(sizes))
      return failure();
    std::vector<Symbolic> parts;
    int64_t start = 0;
    for (int64_t size : *sizes) {
      auto part = operand->slice(*axis, {start, 0}, {size, 0}, 1);
      if (!part)
        return failure();
      parts.push_back(std::move(*part));
      start += size;
    }
    return parts;
  });
  if (failed(parts))
    return false;
  for (auto [i, part] : llvm::enumerate(*parts))
    (void)context.setResult(i, std::move(part));
  return true;
}

bool evaluateConcat(NodeContext &context) {
  if (!context.allSymbolic() || context.getNumOperands() == 0)
    return false;
  const Symbolic &first = *context.getSymbolic(0);
  auto axis = silently(context, [&] {
    return context.normalizeAxis(context.getInt("axis", 0), first.getRank());
  });
  if (failed(axis))
    return false;
  Shape shape(first.getShape());
  shape[*axis] = {};
  SmallVector<const Symbolic *> parts;
  for (size_t i = 0; i < context.getNumOperands(); ++i) {
    const Symbolic *part = context.getSymbolic(i);
    if (!part || part->getType() != first.getType() ||
        part->getRank() != first.getRank())
      return false;
    for (auto [d, size] : llvm::enumerate(part->getShape())) {
      if (static_cast<int64_t>(d) != *axis) {
        if (size != shape[d])
          return false;
        continue;
      }
      std::optional<Affine> sum = add(shape[d], size);
      if (!sum)
        return false;
      shape[d] = *sum;
    }
    parts.push_back(part);
  }
  // Row-major: for each index before the axis, the parts one after the other.
  std::optional<int64_t> count = countDense(shape);
  if (!count)
    return false;
  if (*count == 0) // the other dimensions may be of any size
    return setIfKnown(context, Symbolic::dense(first.getType(), shape,
                                               std::vector<Scalar>()));
  SmallVector<Symbolic::Elements> all;
  SmallVector<int64_t> runs;
  for (const Symbolic *part : parts) {
    all.push_back(part->expand());
    if (!all.back())
      return false;
    runs.push_back(*countDense(part->getShape().drop_front(*axis)));
  }
  int64_t outer = *countDense(ArrayRef(shape).take_front(*axis));
  std::vector<Scalar> joined;
  joined.reserve(*count);
  for (int64_t o = 0; o < outer; ++o)
    for (auto [elements, run] : llvm::zip(all, runs))
      joined.insert(joined.end(), elements->begin() + o * run,
                    elements->begin() + (o + 1) * run);
  return setIfKnown(context,
                    Symbolic::dense(first.getType(), shape, std::move(joined)));
}

bool evaluateGather(NodeContext &context) {
  const Symbolic *table = context.getSymbolic(0);
  const Symbolic *indices = context.getSymbolic(1);
  if (!table || !indices || table->getRank() == 0 ||
      isFloat(indices->getType()))
    return false;
  auto axis = silently(context, [&] {
    return context.normalizeAxis(context.getInt("axis", 0), table->getRank());
  });
  if (failed(axis))
    return false;
  Shape shape(table->getShape().take_front(*axis));
  shape.append(indices->getShape().begin(), indices->getShape().end());
  shape.append(table->getShape().begin() + *axis + 1, table->getShape().end());
  if (std::optional<Scalar> splat = table->getSplat())
    return setIfKnown(context,
                      Symbolic::splat(table->getType(), shape, *splat));
  Symbolic::Elements given = indices->expand();
  Affine length = table->getShape()[*axis];
  if (!given || !length.isConstant())
    return false;
  std::vector<int64_t> positions;
  positions.reserve(given->size());
  for (Scalar position : *given) {
    if (position.batch)
      return false;
    if (position.bits < 0)
      position.bits += length.constant;
    if (position.bits < 0 || position.bits >= length.constant)
      return false;
    positions.push_back(position.bits);
  }
  size_t width = indices->getRank();
  return setIfKnown(
      context, table->rearrange(shape, [&](ArrayRef<int64_t> result,
                                           MutableArrayRef<int64_t> source) {
        int64_t n = 0;
        for (size_t d = 0; d < width; ++d)
          n = n * indices->getShape()[d].constant + result[*axis + d];
        for (int64_t d = 0; d < *axis; ++d)
          source[d] = result[d];
        source[*axis] = positions[n];
        for (size_t d = *axis + 1; d < table->getRank(); ++d)
          source[d] = result[d + width - 1];
      }));
}

bool evaluateTrilu(NodeContext &context) {
  const Symbolic *operand = context.getSymbolic(0);
  if (!operand || operand->getRank() < 2)
    return false;
  int64_t k = 0;
  if (context.hasOperand(1)) {
    const Symbolic *diagonal = context.getSymbolic(1);
    std::optional<Scalar> value =
        diagonal ? diagonal->asScalar() : std::nullopt;
    if (!value || value->batch || !isDiagonal(value->bits))
      return false;
    k = value->bits;
  }
  // Upper keeps j >= i + k, which is not (j <= i + k - 1).
  bool upper = context.getInt("upper", 1);
  Scalar keep = Scalar::boolean(!upper), drop = Scalar::boolean(upper);
  Symbolic mask =
      Symbolic::triangle(ElementType::Bool, Shape(operand->getShape()), keep,
                         drop, upper ? k - 1 : k);
  Symbolic zero = Symbolic::scalar(operand->getType(), Scalar{});
  return setIfKnown(context,
                    elementwise({&mask, operand, &zero}, operand->getType(),
                                [](ArrayRef<Scalar> values) {
                                  return std::optional<Scalar>(
                                      values[0].bits ? values[1] : values[2]);
                                }));
}

/// Reduces all elements of a tensor of integers, as in the product of a shape.
static bool evaluateReduce(NodeContext &context,
                           std::optional<Affine> (*combine)(Affine, Affine)) {
  const Symbolic *operand = context.getSymbolic(0);
  if (!operand || isFloat(operand->getType()) || operand->getRank() > 1)
    return false;
  std::optional<SmallVector<Affine>> values = operand->asVector();
  if (!values || values->empty() || operand->getRank() == 0)
    return false;
  Affine result = values->front();
  for (Affine value : ArrayRef(*values).drop_front()) {
    std::optional<Affine> next = combine(result, value);
    if (!next)
      return false;
    result = *next;
  }
  Shape shape;
  if (context.getInt("keepdims", 1))
    shape.push_back({1, 0});
  return setIfKnown(context, Symbolic::splat(operand->getType(), shape,
                                             Scalar::integer(result)));
}

bool evaluateReduceProd(NodeContext &context) {
  return evaluateReduce(context, mul);
}
bool evaluateReduceSum(NodeContext &context) {
  return evaluateReduce(context, add);
}
bool evaluateReduceMax(NodeContext &context) {
  return evaluateReduce(context, [](Affine x, Affine y) {
    std::optional<int> sign = compare(x, y);
    return sign ? std::optional(*sign > 0 ? x : y) : std::nullopt;
  });
}
bool evaluateReduceMin(NodeContext &context) {
  return evaluateReduce(context, [](Affine x, Affine y) {
    std::optional<int> sign = compare(x, y);
    return sign ? std::optional(*sign < 0 ? x : y) : std::nullopt;
  });
}

} // namespace tombolo::importer
