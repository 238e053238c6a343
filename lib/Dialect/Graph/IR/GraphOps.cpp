//===- GraphOps.cpp - parameters, constants and data movement -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "GraphFamilies.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"

using namespace mlir;
using namespace tombolo::graph;

#define GET_OP_CLASSES
#include "tombolo/Dialect/Graph/IR/GraphOps.cpp.inc"

//===----------------------------------------------------------------------===//
// Builders
//===----------------------------------------------------------------------===//

Value tombolo::graph::buildScalar(OpBuilder &builder, Location loc,
                                  double value, Type elementType) {
  auto type = RankedTensorType::get({}, elementType);
  return builder.create<ConstantOp>(
      loc,
      DenseElementsAttr::get(type, builder.getFloatAttr(elementType, value)));
}

Value tombolo::graph::buildZeros(OpBuilder &builder, Location loc,
                                 RankedTensorType type) {
  Value zero = builder.create<ConstantOp>(
      loc,
      DenseElementsAttr::get(RankedTensorType::get({}, type.getElementType()),
                             builder.getZeroAttr(type.getElementType())));
  return builder.create<BroadcastOp>(loc, type, zero);
}

Value tombolo::graph::buildCast(OpBuilder &builder, Location loc, Value value,
                                Type elementType) {
  auto type = cast<RankedTensorType>(value.getType());
  if (type.getElementType() == elementType)
    return value;
  return builder.create<CastOp>(loc, withElementType(type, elementType), value);
}

Value tombolo::graph::buildReshape(OpBuilder &builder, Location loc,
                                   Value value, RankedTensorType type) {
  if (value.getType() == type)
    return value;
  return builder.create<ReshapeOp>(loc, type, value);
}

Value tombolo::graph::sumToShape(OpBuilder &builder, Location loc,
                                 Value gradient, RankedTensorType type) {
  auto from = cast<RankedTensorType>(gradient.getType());
  Dims dims = getDims(from), target = getDims(type);
  size_t skip = dims.size() - target.size();
  SmallVector<int64_t> axes;
  for (size_t i = 0; i < dims.size(); ++i)
    if (i < skip || dims[i] != target[i - skip])
      axes.push_back(i);
  if (!axes.empty())
    gradient = builder.create<ReduceSumOp>(loc, gradient, axes,
                                           /*keep_dims=*/false);
  return buildReshape(builder, loc, gradient,
                      withElementType(type, from.getElementType()));
}

//===----------------------------------------------------------------------===//
// Parameters and constants
//===----------------------------------------------------------------------===//

LogicalResult ParameterOp::verify() {
  auto type = cast<RankedTensorType>(getType());
  if (!type.hasStaticShape())
    return emitOpError("must not depend on the batch size, got ") << type;
  return success();
}

LogicalResult
GetParameterOp::verifySymbolUses(SymbolTableCollection &symbolTable) {
  auto parameter = symbolTable.lookupNearestSymbolFrom<ParameterOp>(
      *this, getParameterAttr());
  if (!parameter)
    return emitOpError() << "no parameter is named '" << getParameter() << "'";
  if (parameter.getType() != getType())
    return emitOpError() << "parameter '" << getParameter() << "' has type "
                         << parameter.getType() << ", got " << getType();
  return success();
}

LogicalResult ConstantOp::inferReturnTypes(MLIRContext *,
                                           std::optional<Location> location,
                                           Adaptor adaptor,
                                           SmallVectorImpl<Type> &types) {
  auto type = dyn_cast<RankedTensorType>(adaptor.getValue().getType());
  if (!type)
    return emitOptionalError(location, "value must be of a ranked tensor type");
  types.push_back(type);
  return success();
}

OpFoldResult ConstantOp::fold(FoldAdaptor) { return getValue(); }

LogicalResult CausalMaskOp::verify() {
  RankedTensorType type = getType();
  if (!type.hasStaticShape() || type.getRank() < 2)
    return emitOpError("must have a constant shape of at least two dimensions, "
                       "got ")
           << type;
  for (int64_t size : type.getShape().drop_back(2))
    if (size != 1)
      return emitOpError("must have leading dimensions of 1, got ") << type;
  return success();
}

//===----------------------------------------------------------------------===//
// Views
//===----------------------------------------------------------------------===//

/// Checks that an op changes no element type.
static LogicalResult verifySameElements(Operation *op, RankedTensorType from,
                                        RankedTensorType to) {
  if (from.getElementType() == to.getElementType())
    return success();
  return op->emitOpError("must not change the element type, got ")
         << from << " to " << to;
}

/// A splat, or nothing: the only constants that folders of views copy.
static DenseElementsAttr getSplat(Attribute attribute) {
  auto elements = dyn_cast_or_null<DenseElementsAttr>(attribute);
  return elements && elements.isSplat() ? elements : DenseElementsAttr();
}

LogicalResult ReshapeOp::verify() {
  RankedTensorType from = getInput().getType(), to = getType();
  if (failed(verifySameElements(*this, from, to)))
    return failure();
  if (getNumElements(getDims(from)) != getNumElements(getDims(to)))
    return emitOpError("must keep the number of elements, got ")
           << toString(getDims(from)) << " to " << toString(getDims(to));
  return success();
}

OpFoldResult ReshapeOp::fold(FoldAdaptor adaptor) {
  if (getInput().getType() == getType())
    return getInput();
  if (auto producer = getInput().getDefiningOp<ReshapeOp>()) {
    if (producer.getInput().getType() == getType())
      return producer.getInput();
    getInputMutable().assign(producer.getInput());
    return getResult();
  }
  if (auto elements = dyn_cast_or_null<DenseElementsAttr>(adaptor.getInput()))
    if (getType().hasStaticShape())
      return elements.reshape(getType());
  return {};
}

static LogicalResult checkAxis(std::optional<Location> location, int64_t axis,
                               size_t rank) {
  if (axis >= 0 && axis < static_cast<int64_t>(rank))
    return success();
  return emitOptionalError(location, "axis ", axis, " is outside [0, ", rank,
                           ")");
}

LogicalResult TransposeOp::inferReturnTypes(MLIRContext *,
                                            std::optional<Location> location,
                                            Adaptor adaptor,
                                            SmallVectorImpl<Type> &types) {
  auto type = cast<RankedTensorType>(adaptor.getInput().getType());
  Dims from = getDims(type), to;
  ArrayRef<int64_t> permutation = adaptor.getPermutation();
  llvm::SmallBitVector seen(from.size());
  for (int64_t source : permutation) {
    if (source < 0 || source >= static_cast<int64_t>(from.size()) ||
        seen.test(source))
      return emitOptionalError(location, "permutation is not one of ",
                               from.size(), " dimensions");
    seen.set(source);
    to.push_back(from[source]);
  }
  if (to.size() != from.size())
    return emitOptionalError(location, "permutation is not one of ",
                             from.size(), " dimensions");
  types.push_back(getTensorType(to, type.getElementType()));
  return success();
}

OpFoldResult TransposeOp::fold(FoldAdaptor adaptor) {
  if (llvm::equal(getPermutation(),
                  llvm::seq<int64_t>(0, getPermutation().size())))
    return getInput();
  if (auto producer = getInput().getDefiningOp<TransposeOp>()) {
    SmallVector<int64_t> composed;
    for (int64_t source : getPermutation())
      composed.push_back(producer.getPermutation()[source]);
    setPermutation(composed);
    getInputMutable().assign(producer.getInput());
    return getResult();
  }
  if (DenseElementsAttr splat = getSplat(adaptor.getInput()))
    return splat.resizeSplat(getType());
  return {};
}

LogicalResult BroadcastOp::verify() {
  RankedTensorType from = getInput().getType(), to = getType();
  if (failed(verifySameElements(*this, from, to)))
    return failure();
  Dims target = getDims(to);
  std::optional<Dims> dims = broadcastDims(getDims(from), target);
  if (!dims || *dims != target)
    return emitOpError() << toString(getDims(from)) << " does not broadcast to "
                         << toString(target);
  return success();
}

OpFoldResult BroadcastOp::fold(FoldAdaptor adaptor) {
  if (getInput().getType() == getType())
    return getInput();
  return {};
}

LogicalResult SliceOp::inferReturnTypes(MLIRContext *,
                                        std::optional<Location> location,
                                        Adaptor adaptor,
                                        SmallVectorImpl<Type> &types) {
  auto type = cast<RankedTensorType>(adaptor.getInput().getType());
  Dims dims = getDims(type);
  int64_t axis = adaptor.getAxis(), offset = adaptor.getOffset(),
          size = adaptor.getSize(), step = adaptor.getStep();
  if (failed(checkAxis(location, axis, dims.size())))
    return failure();
  if (dims[axis].batch)
    return emitOptionalError(location, "axis ", axis,
                             " is the batch, which is never cut");
  int64_t length = dims[axis].size;
  if (step < 1 || size < 1 || offset < 0 || offset >= length ||
      (size - 1) > (length - 1 - offset) / step)
    return emitOptionalError(location, "offset ", offset, ", size ", size,
                             ", step ", step, " leave the ", length,
                             " elements of axis ", axis);
  dims[axis] = {size, false};
  types.push_back(getTensorType(dims, type.getElementType()));
  return success();
}

OpFoldResult SliceOp::fold(FoldAdaptor adaptor) {
  if (getInput().getType() == getType())
    return getInput();
  if (DenseElementsAttr splat = getSplat(adaptor.getInput()))
    return splat.resizeSplat(getType());
  return {};
}

LogicalResult SplitOp::inferReturnTypes(MLIRContext *,
                                        std::optional<Location> location,
                                        Adaptor adaptor,
                                        SmallVectorImpl<Type> &types) {
  auto type = cast<RankedTensorType>(adaptor.getInput().getType());
  Dims dims = getDims(type);
  int64_t axis = adaptor.getAxis(), total = 0;
  if (failed(checkAxis(location, axis, dims.size())))
    return failure();
  if (dims[axis].batch)
    return emitOptionalError(location, "axis ", axis,
                             " is the batch, which is never cut");
  int64_t length = dims[axis].size;
  for (int64_t size : adaptor.getSizes()) {
    if (size < 1 || size > length - total)
      return emitOptionalError(location, "sizes do not add up to the ", length,
                               " elements of axis ", axis);
    total += size;
    dims[axis] = {size, false};
    types.push_back(getTensorType(dims, type.getElementType()));
  }
  if (total != length)
    return emitOptionalError(location, "sizes add up to ", total, ", axis ",
                             axis, " has ", length, " elements");
  return success();
}

//===----------------------------------------------------------------------===//
// Data movement
//===----------------------------------------------------------------------===//

LogicalResult ConcatOp::inferReturnTypes(MLIRContext *,
                                         std::optional<Location> location,
                                         Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  if (adaptor.getInputs().empty())
    return emitOptionalError(location, "needs at least one operand");
  auto type = cast<RankedTensorType>(adaptor.getInputs()[0].getType());
  Dims dims = getDims(type);
  int64_t axis = adaptor.getAxis();
  if (failed(checkAxis(location, axis, dims.size())))
    return failure();
  if (dims[axis].batch)
    return emitOptionalError(location, "axis ", axis,
                             " is the batch, which is never joined");
  for (Value input : adaptor.getInputs().drop_front()) {
    Dims other = getDims(input);
    if (other.size() != dims.size() ||
        cast<RankedTensorType>(input.getType()).getElementType() !=
            type.getElementType())
      return emitOptionalError(location, "cannot join ", type, " and ",
                               input.getType());
    for (auto [index, dim] : llvm::enumerate(other)) {
      if (static_cast<int64_t>(index) == axis && !dim.batch)
        dims[axis].size += dim.size;
      else if (dim != dims[index])
        return emitOptionalError(location, "cannot join ", type, " and ",
                                 input.getType(), " along axis ", axis);
    }
  }
  types.push_back(getTensorType(dims, type.getElementType()));
  return success();
}

LogicalResult PadOp::verify() {
  RankedTensorType from = getInput().getType(), to = getType();
  if (failed(verifySameElements(*this, from, to)))
    return failure();
  Dims input = getDims(from), result = getDims(to);
  if (input.size() != result.size() || getLow().size() != input.size())
    return emitOpError("must keep the rank and give one offset per dimension");
  for (auto [index, low] : llvm::enumerate(getLow())) {
    bool same = input[index] == result[index] && low == 0;
    bool inside = !input[index].batch && !result[index].batch && low >= 0 &&
                  low <= result[index].size &&
                  input[index].size <= result[index].size - low;
    if (!same && !inside)
      return emitOpError("offset ")
             << low << " of dimension " << index << " puts " << toString(input)
             << " outside " << toString(result);
  }
  return success();
}

/// `table` with dimension `axis` replaced by the dimensions of `indices`.
static Dims getGatherDims(ArrayRef<Dim> table, ArrayRef<Dim> indices,
                          int64_t axis) {
  Dims dims(table.take_front(axis));
  dims.append(indices.begin(), indices.end());
  dims.append(table.begin() + axis + 1, table.end());
  return dims;
}

/// Checks that an op on a part of a table or vocabulary says of how many.
static LogicalResult checkPart(std::optional<Location> location, Value index,
                               std::optional<uint64_t> count) {
  if (!index == !count && count.value_or(1) >= 1)
    return success();
  return emitOptionalError(location, "a part and the count of parts, at least "
                                     "1, go together");
}

LogicalResult GatherOp::inferReturnTypes(MLIRContext *,
                                         std::optional<Location> location,
                                         Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  if (failed(checkPart(location, adaptor.getIndex(), adaptor.getCount())))
    return failure();
  auto type = cast<RankedTensorType>(adaptor.getTable().getType());
  Dims table = getDims(type);
  int64_t axis = adaptor.getAxis();
  if (failed(checkAxis(location, axis, table.size())))
    return failure();
  if (table[axis].batch)
    return emitOptionalError(location, "axis ", axis,
                             " is the batch, which is never indexed");
  RankedTensorType result =
      getTensorType(getGatherDims(table, getDims(adaptor.getIndices()), axis),
                    type.getElementType());
  if (!result)
    return emitOptionalError(
        location, "table and indices must not both depend on the batch size");
  types.push_back(result);
  return success();
}

LogicalResult GatherBackwardOp::verify() {
  if (failed(checkPart(getLoc(), getIndex(), getCount())))
    return failure();
  Dims table = getDims(getType());
  int64_t axis = getAxis();
  if (failed(checkAxis(getLoc(), axis, table.size())))
    return failure();
  Dims expected = getGatherDims(table, getDims(getIndices()), axis);
  if (expected != getDims(getGradient()))
    return emitOpError("expects a gradient of shape ")
           << toString(expected) << ", got "
           << toString(getDims(getGradient()));
  return success();
}

LogicalResult CastOp::verify() {
  if (getDims(getInput().getType()) != getDims(getType()))
    return emitOpError("must not change the shape, got ")
           << getInput().getType() << " to " << getType();
  return success();
}

OpFoldResult CastOp::fold(FoldAdaptor adaptor) {
  if (getInput().getType() == getType())
    return getInput();
  return {};
}
