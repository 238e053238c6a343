//===- ShapeRules.cpp - result shapes of ONNX operators -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpTable.h"

#include <algorithm>
#include <limits>
#include <numeric>

using namespace mlir;

namespace tombolo::importer {

/// A Slice end from here on means "to the end": exporters write 2^31-1 or
/// 2^63-1.
static constexpr int64_t endOfAxis = std::numeric_limits<int32_t>::max();

/// `number` / `divisor`, rounded up; neither is negative. Does not overflow.
static int64_t ceilDiv(int64_t number, int64_t divisor) {
  return number / divisor + (number % divisor != 0);
}

/// A position in [0, size] as ONNX's Slice clamps it.
static std::optional<Affine> clamp(Affine position, Affine size) {
  if (position.isConstant() && position.constant >= endOfAxis)
    return size;
  if (position.isConstant() && position.constant <= -endOfAxis)
    return Affine{};
  std::optional<int> sign = compare(position, {});
  if (!sign)
    return std::nullopt;
  if (*sign < 0) {
    std::optional<Affine> moved = add(position, size);
    if (!moved || !(sign = compare(*moved, {})))
      return std::nullopt;
    position = *sign < 0 ? Affine{} : *moved;
  }
  std::optional<int> beyond = compare(position, size);
  if (!beyond)
    return std::nullopt;
  return *beyond > 0 ? size : position;
}

/// A slice that steps backwards, from `start` to before `end`, along an axis of
/// `size` elements.
static SliceRange sliceBackwards(size_t axis, int64_t start, int64_t end,
                                 int64_t step, int64_t size) {
  auto place = [&](int64_t position, int64_t least) {
    if (position < 0 && position > -endOfAxis)
      position += size;
    return std::clamp(position, least, size - 1);
  };
  start = place(start, 0);
  end = place(end, -1);
  int64_t count = start > end ? ceilDiv(start - end, -step) : 0;
  return {axis, {start, 0}, {count, 0}, step};
}

FailureOr<SmallVector<SliceRange>> getSlices(NodeContext &context,
                                             ArrayRef<Affine> shape) {
  FailureOr<SmallVector<Affine>> starts = context.getIntegers(1, "starts");
  if (failed(starts))
    return failure();
  FailureOr<SmallVector<Affine>> ends = context.getIntegers(2, "ends");
  if (failed(ends))
    return failure();
  SmallVector<int64_t> axes(starts->size()), steps(starts->size(), 1);
  std::iota(axes.begin(), axes.end(), 0);
  if (context.hasOperand(3)) {
    FailureOr<SmallVector<int64_t>> given = context.getConstants(3, "axes");
    if (failed(given))
      return failure();
    axes = *given;
  }
  if (context.hasOperand(4)) {
    FailureOr<SmallVector<int64_t>> given = context.getConstants(4, "steps");
    if (failed(given))
      return failure();
    steps = *given;
  }
  if (ends->size() != starts->size() || axes.size() != starts->size() ||
      steps.size() != starts->size())
    return context.emitError() << "starts, ends, axes and steps must have one "
                                  "length";
  SmallVector<SliceRange> slices;
  for (size_t i = 0; i < axes.size(); ++i) {
    FailureOr<int64_t> axis = context.normalizeAxis(axes[i], shape.size());
    if (failed(axis))
      return failure();
    if (steps[i] == 0 || steps[i] == std::numeric_limits<int64_t>::min())
      return context.emitError() << "has a step of " << steps[i];
    if (steps[i] < 0) {
      Affine start = (*starts)[i], end = (*ends)[i], size = shape[*axis];
      if (!start.isConstant() || !end.isConstant() || !size.isConstant() ||
          size.constant < 1)
        return context.emitError()
               << "steps backwards along axis " << *axis << " of "
               << toString(shape) << ", expected constants";
      slices.push_back(sliceBackwards(*axis, start.constant, end.constant,
                                      steps[i], size.constant));
      continue;
    }
    std::optional<Affine> start = clamp((*starts)[i], shape[*axis]);
    std::optional<Affine> end = clamp((*ends)[i], shape[*axis]);
    std::optional<Affine> size =
        start && end ? sub(*end, *start) : std::nullopt;
    std::optional<int> sign = size ? compare(*size, {}) : std::nullopt;
    if (!sign)
      return context.emitError()
             << "cuts axis " << *axis
             << " at a place that depends on the batch size";
    if (*sign < 0)
      size = Affine{};
    if (steps[i] != 1) {
      if (!size->isConstant())
        return context.emitError()
               << "takes every " << steps[i] << "th sample of the batch";
      size->constant = ceilDiv(size->constant, steps[i]);
    }
    slices.push_back({static_cast<size_t>(*axis), *start, *size, steps[i]});
  }
  return slices;
}

FailureOr<SmallVector<int64_t>> getSplitSizes(NodeContext &context,
                                              Affine length) {
  std::optional<SmallVector<int64_t>> sizes = context.getInts("split");
  if (context.hasOperand(1)) {
    FailureOr<SmallVector<int64_t>> given =
        context.getConstants(1, "sizes of the parts");
    if (failed(given))
      return failure();
    sizes = *given;
  }
  if (!length.isConstant())
    return context.emitError() << "splits the batch";
  int64_t parts = static_cast<int64_t>(context.getNumResults());
  if (parts == 0)
    return context.emitError() << "has no results";
  if (!sizes) {
    // Equal parts, of which the last may be smaller (opset 18).
    int64_t part = ceilDiv(length.constant, parts);
    sizes.emplace(parts, part);
    sizes->back() = length.constant - part * (parts - 1);
  }
  int64_t left = length.constant;
  for (int64_t size : *sizes) {
    if (size < 1 || size > left)
      left = -1;
    if (left < 0)
      break;
    left -= size;
  }
  if (left != 0 || sizes->size() != context.getNumResults())
    return context.emitError() << "its parts do not add up to the "
                               << length.constant << " elements of the axis";
  return *sizes;
}

FailureOr<Shape> getReshape(NodeContext &context) {
  Shape from = context.getOperandShape(0);
  FailureOr<SmallVector<Affine>> given = context.getIntegers(1, "shape");
  if (failed(given))
    return failure();
  Shape to;
  std::optional<size_t> unknown;
  bool allowZero = context.getInt("allowzero", 0);
  for (auto [i, size] : llvm::enumerate(*given)) {
    to.push_back(size);
    if (size == Affine{-1, 0}) {
      if (unknown)
        return context.emitError() << "has two unknown dimensions";
      unknown = i;
      to.back() = {1, 0};
    } else if (size == Affine{0, 0} && !allowZero) {
      if (i >= from.size())
        return context.emitError()
               << "keeps dimension " << i << " of a tensor of " << from.size()
               << " dimensions";
      to.back() = from[i];
    }
  }
  if (unknown) {
    std::optional<Affine> all = product(from), known = product(to);
    std::optional<Affine> rest =
        all && known ? div(*all, *known) : std::nullopt;
    if (!rest || mul(*rest, *known) != all) {
      to[*unknown] = {-1, 0};
      return context.emitError()
             << "cannot reshape " << toString(from) << " to " << toString(to);
    }
    to[*unknown] = *rest;
  }
  return to;
}

FailureOr<Shape> getSqueeze(NodeContext &context) {
  Shape from = context.getOperandShape(0);
  auto axes = context.getAxes(1, from.size());
  if (failed(axes))
    return failure();
  Shape to;
  for (auto [i, size] : llvm::enumerate(from)) {
    bool isOne = size == Affine{1, 0};
    bool named = *axes && llvm::is_contained(**axes, i);
    if (named && !isOne)
      return context.emitError()
             << "dimension " << i << " of " << toString(from) << " is not 1";
    if (!(named || (!*axes && isOne)))
      to.push_back(size);
  }
  return to;
}

FailureOr<Shape> getUnsqueeze(NodeContext &context) {
  Shape from = context.getOperandShape(0);
  // Axes count in the result.
  size_t added = 0;
  if (auto attribute = context.getInts("axes"))
    added = attribute->size();
  else if (const Symbolic *axes = context.getSymbolic(1))
    added = axes->getRank() == 0 ? 1 : axes->getShape()[0].constant;
  if (added > 64)
    return context.emitError() << "adds " << added << " dimensions";
  auto axes = context.getAxes(1, from.size() + added);
  if (failed(axes))
    return failure();
  if (!*axes)
    return context.emitError() << "names no axes";
  Shape to;
  size_t next = 0;
  for (size_t i = 0; i < from.size() + added; ++i)
    to.push_back(llvm::is_contained(**axes, i) ? Affine{1, 0} : from[next++]);
  return to;
}

FailureOr<Shape> getFlatten(NodeContext &context) {
  Shape from = context.getOperandShape(0);
  int64_t axis = context.getInt("axis", 1);
  int64_t rank = static_cast<int64_t>(from.size());
  if (axis < -rank || axis > rank)
    return context.emitError()
           << "axis " << axis << " is outside the " << rank << " dimensions";
  if (axis < 0)
    axis += rank;
  std::optional<Affine> rows = product(ArrayRef(from).take_front(axis));
  std::optional<Affine> columns = product(ArrayRef(from).drop_front(axis));
  if (!rows || !columns)
    return context.emitError() << "cannot flatten " << toString(from);
  return Shape{*rows, *columns};
}

FailureOr<Shape> getExpand(NodeContext &context) {
  FailureOr<SmallVector<Affine>> given = context.getIntegers(1, "shape");
  if (failed(given))
    return failure();
  Shape from = context.getOperandShape(0);
  // A dimension may be given as 1 to keep the operand's.
  std::optional<Shape> to = broadcastShapes(from, *given);
  if (!to)
    return context.emitError()
           << "cannot expand " << toString(from) << " to " << toString(*given);
  return *to;
}

FailureOr<SmallVector<int64_t>> getPermutation(NodeContext &context,
                                               size_t rank) {
  SmallVector<int64_t> permutation(rank);
  std::iota(permutation.rbegin(), permutation.rend(), 0);
  if (auto given = context.getInts("perm"))
    permutation = *given;
  SmallVector<int64_t> sorted(permutation);
  llvm::sort(sorted);
  if (!llvm::equal(sorted, llvm::seq<int64_t>(0, rank)))
    return context.emitError()
           << "perm is not a permutation of " << rank << " dimensions";
  return permutation;
}

} // namespace tombolo::importer
