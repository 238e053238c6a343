//===- GraphCompute.cpp - types of ops that compute -----------------------===//
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

using OptionalLocation = std::optional<Location>;
using Types = SmallVectorImpl<Type>;

static RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}
static RankedTensorType f32TensorOf(ArrayRef<Dim> dims, MLIRContext *context) {
  return getTensorType(dims, Float32Type::get(context));
}

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

LogicalResult tombolo::graph::inferBroadcast(OptionalLocation location,
                                             Value lhs, Value rhs,
                                             Type resultElement, Types &types) {
  RankedTensorType left = typeOf(lhs), right = typeOf(rhs);
  if (left.getElementType() != right.getElementType())
    return emitOptionalError(
        location, "operands differ in element type: ", left, " and ", right);
  std::optional<Dims> dims = broadcastDims(getDims(left), getDims(right));
  if (!dims)
    return emitOptionalError(location, "shapes ", toString(getDims(left)),
                             " and ", toString(getDims(right)),
                             " do not broadcast");
  types.push_back(getTensorType(*dims, resultElement ? resultElement
                                                     : left.getElementType()));
  return success();
}

LogicalResult tombolo::graph::inferLike(OptionalLocation location, Value value,
                                        Value other, Types &types) {
  if (other && value.getType() != other.getType())
    return emitOptionalError(location, "gradient of type ", value.getType(),
                             " does not fit the value of type ",
                             other.getType());
  types.push_back(value.getType());
  return success();
}

LogicalResult GeluOp::inferReturnTypes(MLIRContext *, OptionalLocation location,
                                       Adaptor adaptor, Types &types) {
  return inferLike(location, adaptor.getInput(), {}, types);
}
LogicalResult GeluBackwardOp::inferReturnTypes(MLIRContext *,
                                               OptionalLocation location,
                                               Adaptor adaptor, Types &types) {
  return inferLike(location, adaptor.getGradient(), adaptor.getInput(), types);
}

static LogicalResult verifyApproximate(Operation *op, StringRef approximate) {
  if (approximate == "none" || approximate == "tanh")
    return success();
  return op->emitOpError("approximate must be \"none\" or \"tanh\", got \"")
         << approximate << "\"";
}
LogicalResult GeluOp::verify() {
  return verifyApproximate(*this, getApproximate());
}
LogicalResult GeluBackwardOp::verify() {
  return verifyApproximate(*this, getApproximate());
}

LogicalResult WhereOp::inferReturnTypes(MLIRContext *,
                                        OptionalLocation location,
                                        Adaptor adaptor, Types &types) {
  SmallVector<Type> branches;
  if (failed(inferBroadcast(location, adaptor.getLhs(), adaptor.getRhs(), {},
                            branches)))
    return failure();
  auto branch = cast<RankedTensorType>(branches[0]);
  RankedTensorType condition = typeOf(adaptor.getCondition());
  std::optional<Dims> dims = broadcastDims(getDims(condition), getDims(branch));
  if (!dims)
    return emitOptionalError(
        location, "condition of shape ", toString(getDims(condition)),
        " does not broadcast with ", toString(getDims(branch)));
  types.push_back(getTensorType(*dims, branch.getElementType()));
  return success();
}

/// Whether the attribute is a float constant with every element `value`.
static bool isSplatOf(Attribute attribute, double value) {
  auto elements = dyn_cast_or_null<DenseFPElementsAttr>(attribute);
  return elements && elements.isSplat() &&
         elements.getSplatValue<APFloat>().isExactlyValue(value);
}

OpFoldResult AddOp::fold(FoldAdaptor adaptor) {
  if (isSplatOf(adaptor.getRhs(), 0.0) && getLhs().getType() == getType())
    return getLhs();
  return {};
}

OpFoldResult MulOp::fold(FoldAdaptor adaptor) {
  if (isSplatOf(adaptor.getRhs(), 1.0) && getLhs().getType() == getType())
    return getLhs();
  return {};
}

//===----------------------------------------------------------------------===//
// Reductions and norms
//===----------------------------------------------------------------------===//

LogicalResult SoftmaxOp::inferReturnTypes(MLIRContext *,
                                          OptionalLocation location,
                                          Adaptor adaptor, Types &types) {
  return inferLike(location, adaptor.getInput(), {}, types);
}
LogicalResult SoftmaxBackwardOp::inferReturnTypes(MLIRContext *,
                                                  OptionalLocation location,
                                                  Adaptor adaptor,
                                                  Types &types) {
  return inferLike(location, adaptor.getGradient(), adaptor.getOutput(), types);
}

static LogicalResult inferReduction(OptionalLocation location, Value input,
                                    ArrayRef<int64_t> axes, bool keepDims,
                                    Types &types) {
  RankedTensorType type = typeOf(input);
  Dims dims = getDims(type), result;
  int64_t last = -1;
  for (int64_t axis : axes) {
    if (axis <= last || axis >= static_cast<int64_t>(dims.size()))
      return emitOptionalError(location, "axes must be ascending and below ",
                               dims.size());
    last = axis;
  }
  for (auto [index, dim] : llvm::enumerate(dims)) {
    if (!llvm::is_contained(axes, static_cast<int64_t>(index)))
      result.push_back(dim);
    else if (keepDims)
      result.push_back(Dim());
  }
  types.push_back(getTensorType(result, type.getElementType()));
  return success();
}

#define TOMBOLO_REDUCTION(OP)                                                  \
  LogicalResult OP::inferReturnTypes(MLIRContext *, OptionalLocation location, \
                                     Adaptor adaptor, Types &types) {          \
    return inferReduction(location, adaptor.getInput(), adaptor.getAxes(),     \
                          adaptor.getKeepDims(), types);                       \
  }
TOMBOLO_REDUCTION(ReduceSumOp)
TOMBOLO_REDUCTION(ReduceMeanOp)
TOMBOLO_REDUCTION(ReduceMaxOp)
#undef TOMBOLO_REDUCTION

/// Checks that a tensor is [C] where the input is [B..., C].
static LogicalResult checkChannels(OptionalLocation location, Value input,
                                   Value vector, StringRef name) {
  Dims dims = getDims(input), channels = getDims(vector);
  if (!dims.empty() && channels.size() == 1 && channels[0] == dims.back() &&
      !channels[0].batch)
    return success();
  return emitOptionalError(location, name,
                           " must have the shape of the last "
                           "dimension of ",
                           toString(dims), ", got ", toString(channels));
}

/// Checks that a tensor has the leading dimensions of the input.
static LogicalResult checkRows(OptionalLocation location, Value input,
                               Value rows, StringRef name) {
  if (ArrayRef<Dim>(getDims(rows)) == ArrayRef<Dim>(getDims(input)).drop_back())
    return success();
  return emitOptionalError(location, name,
                           " must have the leading dimensions "
                           "of ",
                           toString(getDims(input)), ", got ",
                           toString(getDims(rows)));
}

LogicalResult LayerNormOp::inferReturnTypes(MLIRContext *context,
                                            OptionalLocation location,
                                            Adaptor adaptor, Types &types) {
  Value input = adaptor.getInput();
  if (failed(checkChannels(location, input, adaptor.getGamma(), "scale")) ||
      failed(checkChannels(location, input, adaptor.getBeta(), "shift")))
    return failure();
  RankedTensorType statistics =
      f32TensorOf(ArrayRef<Dim>(getDims(input)).drop_back(), context);
  types.assign({input.getType(), statistics, statistics});
  return success();
}

LogicalResult LayerNormBackwardInputOp::inferReturnTypes(
    MLIRContext *, OptionalLocation location, Adaptor adaptor, Types &types) {
  Value input = adaptor.getInput();
  if (failed(checkChannels(location, input, adaptor.getGamma(), "scale")) ||
      failed(checkRows(location, input, adaptor.getMean(), "mean")) ||
      failed(checkRows(location, input, adaptor.getRstd(), "rstd")))
    return failure();
  return inferLike(location, adaptor.getGradient(), input, types);
}

LogicalResult
LayerNormBackwardWeightOp::inferReturnTypes(MLIRContext *context,
                                            OptionalLocation location,
                                            Adaptor adaptor, Types &types) {
  Value input = adaptor.getInput();
  SmallVector<Type> gradient;
  if (failed(inferLike(location, adaptor.getGradient(), input, gradient)))
    return failure();
  if (getDims(input).empty() || getDims(input).back().batch)
    return emitOptionalError(location, "the last dimension must be constant");
  if (failed(checkRows(location, input, adaptor.getMean(), "mean")) ||
      failed(checkRows(location, input, adaptor.getRstd(), "rstd")))
    return failure();
  types.assign(2, f32TensorOf({getDims(input).back()}, context));
  return success();
}

LogicalResult CrossEntropyOp::inferReturnTypes(MLIRContext *context,
                                               OptionalLocation location,
                                               Adaptor adaptor, Types &types) {
  Value logits = adaptor.getLogits();
  if (getDims(logits).empty() || getDims(logits).back().batch)
    return emitOptionalError(location, "logits need a constant last dimension");
  if (failed(checkRows(location, logits, adaptor.getLabels(), "labels")) ||
      (adaptor.getTokenWeights() &&
       failed(
           checkRows(location, logits, adaptor.getTokenWeights(), "weights"))))
    return failure();
  RankedTensorType scalar = f32TensorOf({}, context);
  types.assign(
      {scalar, scalar,
       f32TensorOf(ArrayRef<Dim>(getDims(logits)).drop_back(), context)});
  return success();
}

LogicalResult CrossEntropyBackwardOp::inferReturnTypes(
    MLIRContext *, OptionalLocation location, Adaptor adaptor, Types &types) {
  Value logits = adaptor.getLogits();
  if (getDims(logits).empty() ||
      failed(checkRows(location, logits, adaptor.getLabels(), "labels")) ||
      failed(checkRows(location, logits, adaptor.getLse(), "lse")) ||
      (adaptor.getTokenWeights() &&
       failed(
           checkRows(location, logits, adaptor.getTokenWeights(), "weights"))))
    return failure();
  if (!adaptor.getIndex() != !adaptor.getCount())
    return emitOptionalError(location, "a part of the vocabulary and the count "
                                       "of parts go together");
  types.push_back(logits.getType());
  return success();
}

LogicalResult CrossEntropyShardOp::inferReturnTypes(MLIRContext *context,
                                                    OptionalLocation location,
                                                    Adaptor adaptor,
                                                    Types &types) {
  Value logits = adaptor.getLogits();
  if (getDims(logits).empty() || getDims(logits).back().batch)
    return emitOptionalError(location, "logits need a constant last dimension");
  if (failed(checkRows(location, logits, adaptor.getLabels(), "labels")))
    return failure();
  types.assign(
      2, f32TensorOf(ArrayRef<Dim>(getDims(logits)).drop_back(), context));
  return success();
}

LogicalResult CrossEntropyMergeOp::inferReturnTypes(MLIRContext *context,
                                                    OptionalLocation location,
                                                    Adaptor adaptor,
                                                    Types &types) {
  Dims parts = getDims(adaptor.getParts()), rows = getDims(adaptor.getPicked());
  if (parts.empty() || parts[0].batch ||
      ArrayRef<Dim>(parts).drop_front() != ArrayRef<Dim>(rows) ||
      getDims(adaptor.getLabels()) != rows ||
      (adaptor.getTokenWeights() && getDims(adaptor.getTokenWeights()) != rows))
    return emitOptionalError(location, "parts ", toString(parts), ", picked ",
                             toString(rows), " and labels ",
                             toString(getDims(adaptor.getLabels())),
                             " do not go together");
  RankedTensorType scalar = f32TensorOf({}, context);
  types.assign({scalar, scalar, f32TensorOf(rows, context)});
  return success();
}

//===----------------------------------------------------------------------===//
// Contractions
//===----------------------------------------------------------------------===//

LogicalResult MatmulOp::verify() {
  RankedTensorType lhs = getLhs().getType(), rhs = getRhs().getType(),
                   result = getType();
  if (lhs.getElementType() != rhs.getElementType())
    return emitOpError("operands differ in element type: ")
           << lhs << " and " << rhs;
  if (result.getElementType() != lhs.getElementType() &&
      !result.getElementType().isF32())
    return emitOpError("result must be f32 or of the operands' type, got ")
           << result;
  Dims a = getDims(lhs), b = getDims(rhs);
  if (a.size() < 2 || b.size() < 2)
    return emitOpError("operands need at least two dimensions, got ")
           << toString(a) << " and " << toString(b);
  if (getTransposeA())
    std::swap(a[a.size() - 1], a[a.size() - 2]);
  if (getTransposeB())
    std::swap(b[b.size() - 1], b[b.size() - 2]);
  if (a.back() != b[b.size() - 2])
    return emitOpError("inner dimensions differ: ")
           << toString(a) << " times " << toString(b);
  std::optional<Dims> dims = broadcastDims(ArrayRef<Dim>(a).drop_back(2),
                                           ArrayRef<Dim>(b).drop_back(2));
  if (!dims)
    return emitOpError("batch dimensions do not broadcast: ")
           << toString(a) << " times " << toString(b);
  dims->push_back(a[a.size() - 2]);
  dims->push_back(b.back());
  if (*dims != getDims(result))
    return emitOpError("expects a result of shape ")
           << toString(*dims) << ", got " << toString(getDims(result));
  if (getBias() &&
      failed(checkChannels(getLoc(), getResult(), getBias(), "bias")))
    return failure();
  return success();
}

/// Checks q[B..., T, D], k[B..., S, D], v[B..., S, E].
static LogicalResult checkAttention(OptionalLocation location, Value query,
                                    Value key, Value value) {
  Dims q = getDims(query), k = getDims(key), v = getDims(value);
  size_t rank = q.size();
  if (rank < 2 || k.size() != rank || v.size() != rank)
    return emitOptionalError(location, "query, key and value need the same "
                                       "rank of at least 2");
  ArrayRef<Dim> batch = ArrayRef<Dim>(q).drop_back(2);
  if (batch != ArrayRef<Dim>(k).drop_back(2) ||
      batch != ArrayRef<Dim>(v).drop_back(2) || q.back() != k.back() ||
      k[rank - 2] != v[rank - 2])
    return emitOptionalError(location, "query ", toString(q), ", key ",
                             toString(k), " and value ", toString(v),
                             " do not go together");
  Type element = typeOf(query).getElementType();
  if (typeOf(key).getElementType() != element ||
      typeOf(value).getElementType() != element)
    return emitOptionalError(location,
                             "operands must have the same element type");
  return success();
}

LogicalResult AttentionOp::inferReturnTypes(MLIRContext *context,
                                            OptionalLocation location,
                                            Adaptor adaptor, Types &types) {
  if (failed(checkAttention(location, adaptor.getQuery(), adaptor.getKey(),
                            adaptor.getValue())))
    return failure();
  Dims dims = getDims(adaptor.getQuery());
  RankedTensorType lse = f32TensorOf(ArrayRef<Dim>(dims).drop_back(), context);
  dims.back() = getDims(adaptor.getValue()).back();
  types.assign(
      {getTensorType(dims, typeOf(adaptor.getQuery()).getElementType()), lse});
  return success();
}

LogicalResult AttentionBackwardOp::inferReturnTypes(MLIRContext *context,
                                                    OptionalLocation location,
                                                    Adaptor adaptor,
                                                    Types &types) {
  if (failed(checkAttention(location, adaptor.getQuery(), adaptor.getKey(),
                            adaptor.getValue())) ||
      failed(checkRows(location, adaptor.getQuery(), adaptor.getLse(), "lse")))
    return failure();
  SmallVector<Type> output;
  if (failed(inferLike(location, adaptor.getGradient(), adaptor.getOutput(),
                       output)))
    return failure();
  types.assign({adaptor.getQuery().getType(), adaptor.getKey().getType(),
                adaptor.getValue().getType()});
  return success();
}

//===----------------------------------------------------------------------===//
// Optimizer
//===----------------------------------------------------------------------===//

/// Checks that all are flat and of one type, and that weight and updates have
/// one element.
static LogicalResult checkOptimizer(OptionalLocation location,
                                    ArrayRef<Value> slices, Value weight,
                                    Value updates) {
  for (Value slice : slices)
    if (slice.getType() != slices[0].getType() || typeOf(slice).getRank() != 1)
      return emitOptionalError(location,
                               "slices must be flat and of one type, "
                               "got ",
                               slices[0].getType(), " and ", slice.getType());
  for (Value scalar : {weight, updates})
    if (getNumElements(getDims(scalar)) != Dim())
      return emitOptionalError(location, "expects one element, got ",
                               scalar.getType());
  return success();
}

LogicalResult OptimizerAdvanceOp::inferReturnTypes(MLIRContext *,
                                                   OptionalLocation location,
                                                   Adaptor adaptor,
                                                   Types &types) {
  types.push_back(adaptor.getUpdates().getType());
  return checkOptimizer(location, {}, adaptor.getWeight(),
                        adaptor.getUpdates());
}

LogicalResult SgdOp::inferReturnTypes(MLIRContext *, OptionalLocation location,
                                      Adaptor adaptor, Types &types) {
  SmallVector<Value> slices = {adaptor.getParameter(), adaptor.getGradient()};
  if (Value buffer = adaptor.getMomentumBuffer())
    slices.push_back(buffer);
  types.assign(slices.size() - 1, slices[0].getType());
  return checkOptimizer(location, slices, adaptor.getWeight(),
                        adaptor.getUpdates());
}

LogicalResult AdamwOp::inferReturnTypes(MLIRContext *,
                                        OptionalLocation location,
                                        Adaptor adaptor, Types &types) {
  types.assign(3, adaptor.getParameter().getType());
  return checkOptimizer(location,
                        {adaptor.getParameter(), adaptor.getGradient(),
                         adaptor.getExpAvg(), adaptor.getExpAvgSq()},
                        adaptor.getWeight(), adaptor.getUpdates());
}

//===----------------------------------------------------------------------===//
// Precision
//===----------------------------------------------------------------------===//

bool GatherOp::keepsFloat32(unsigned operand) { return operand == 0; }
bool LayerNormOp::keepsFloat32(unsigned operand) { return operand > 0; }
bool LayerNormBackwardInputOp::keepsFloat32(unsigned operand) {
  return operand > 1;
}
bool LayerNormBackwardWeightOp::keepsFloat32(unsigned operand) {
  return operand > 1;
}
bool CrossEntropyOp::keepsFloat32(unsigned) { return true; }
bool CrossEntropyBackwardOp::keepsFloat32(unsigned) { return true; }
bool CrossEntropyShardOp::keepsFloat32(unsigned) { return true; }
bool CrossEntropyMergeOp::keepsFloat32(unsigned) { return true; }
bool MatmulOp::keepsFloat32(unsigned operand) { return operand == 2; }
bool AttentionBackwardOp::keepsFloat32(unsigned operand) {
  return operand == 5;
}
bool OptimizerAdvanceOp::keepsFloat32(unsigned) { return true; }
bool SgdOp::keepsFloat32(unsigned) { return true; }
bool AdamwOp::keepsFloat32(unsigned) { return true; }
