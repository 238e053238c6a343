//===- GraphConv.cpp - convolutions, pooling, batch norm ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Everything about these ops in one place: types, gradients, costs, sharding
// rules, and what they may do with memory.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/IR/GraphSharding.h"

using namespace mlir;
using namespace tombolo::graph;

using OptionalLocation = std::optional<Location>;
using Types = SmallVectorImpl<Type>;
using Gradients = SmallVector<Value>;
using Rule = FailureOr<ShardingRule>;

/// Bounds far above any model, so that sizes do not overflow.
static constexpr int64_t kMostWindow = int64_t{1} << 20;

/// A window over the dimensions of space.
struct Window {
  ArrayRef<int64_t> kernel, strides, dilations, low, high;
};

/// Checks a window on `input`, and that it has as many places as `output`.
static LogicalResult checkWindow(Operation *op, const Window &window,
                                 ArrayRef<Dim> input, ArrayRef<Dim> output) {
  size_t space = window.kernel.size();
  if (space < 1 || space > 3)
    return op->emitOpError("expected one to three dimensions of space, got ")
           << space;
  if (input.size() != space + 2 || output.size() != space + 2)
    return op->emitOpError("expected tensors of ")
           << space + 2 << " dimensions, got " << toString(input) << " and "
           << toString(output);
  for (ArrayRef<int64_t> list :
       {window.strides, window.dilations, window.low, window.high})
    if (list.size() != space)
      return op->emitOpError("expected ")
             << space << " numbers for each of strides, dilations and padding";
  for (size_t i = 0; i < space; ++i) {
    if (window.kernel[i] < 1 || window.strides[i] < 1 ||
        window.dilations[i] < 1 || window.low[i] < 0 || window.high[i] < 0 ||
        std::max({window.kernel[i], window.strides[i], window.dilations[i],
                  window.low[i], window.high[i]}) > kMostWindow)
      return op->emitOpError("has an unusable window along dimension ")
             << i << " of space";
    Dim from = input[i + 2], to = output[i + 2];
    int64_t reach = (window.kernel[i] - 1) * window.dilations[i] + 1;
    int64_t room = from.size + window.low[i] + window.high[i] - reach;
    if (from.batch || to.batch || room < 0 ||
        to.size != room / window.strides[i] + 1)
      return op->emitOpError("a window of ")
             << reach << " with stride " << window.strides[i]
             << " does not lead from " << toString(input) << " to "
             << toString(output);
  }
  if (input[0] != output[0] || input[1].batch || output[1].batch)
    return op->emitOpError("expected the samples of ")
           << toString(input) << " in " << toString(output);
  return success();
}

template <typename Op>
static LogicalResult checkConv(Op op, Value input, Value weight, Value output) {
  Dims from = getDims(input), to = getDims(output), w = getDims(weight);
  SmallVector<int64_t> kernel;
  for (Dim dim : ArrayRef<Dim>(w).drop_front(std::min<size_t>(2, w.size())))
    kernel.push_back(dim.batch ? 0 : dim.size);
  if (failed(checkWindow(op,
                         {kernel, op.getStrides(), op.getDilations(),
                          op.getLow(), op.getHigh()},
                         from, to)))
    return failure();
  int64_t groups = op.getGroups();
  if (groups < 1 || from[1].size % groups != 0 || w[0] != to[1] ||
      w[0].size % groups != 0 || w[1] != Dim{from[1].size / groups, false})
    return op->emitOpError("a weight ")
           << toString(w) << " in " << groups << " groups does not lead from "
           << toString(from) << " to " << toString(to);
  return success();
}

LogicalResult ConvOp::verify() {
  return checkConv(*this, getInput(), getWeight(), getResult());
}
LogicalResult ConvBackwardInputOp::verify() {
  return checkConv(*this, getResult(), getWeight(), getGradient());
}
LogicalResult ConvBackwardWeightOp::verify() {
  return checkConv(*this, getInput(), getResult(), getGradient());
}

template <typename Op>
static LogicalResult checkPool(Op op, Value input, Value output) {
  Dims from = getDims(input), to = getDims(output);
  if (failed(checkWindow(op,
                         {op.getKernel(), op.getStrides(), op.getDilations(),
                          op.getLow(), op.getHigh()},
                         from, to)))
    return failure();
  if (from[1] != to[1])
    return op->emitOpError("expected as many channels in ")
           << toString(from) << " as in " << toString(to);
  for (auto [i, size] : llvm::enumerate(op.getKernel())) {
    int64_t reach = (size - 1) * op.getDilations()[i] + 1;
    if (op.getLow()[i] >= reach || op.getHigh()[i] >= reach)
      return op->emitOpError("a window lies in the padding alone");
    if (op.getAverage() && op.getDilations()[i] != 1)
      return op->emitOpError("a mean has no dilations");
  }
  return success();
}

LogicalResult PoolOp::verify() {
  return checkPool(*this, getInput(), getResult());
}
LogicalResult PoolBackwardOp::verify() {
  if (getInput().getType() != getType())
    return emitOpError("expected the gradient of ") << getInput().getType();
  return checkPool(*this, getResult(), getGradient());
}

static LogicalResult inferBatchNorm(OptionalLocation location, Value input,
                                    ValueRange vectors, Types &types) {
  auto type = cast<RankedTensorType>(input.getType());
  Dims dims = getDims(type);
  if (dims.size() < 2 || dims[1].batch)
    return emitOptionalError(location,
                             "expected [samples, channels, ...], "
                             "got ",
                             toString(dims));
  RankedTensorType channels = getTensorType({dims[1]}, type.getElementType());
  for (Value vector : vectors)
    if (vector.getType() != channels)
      return emitOptionalError(location, "expected one number for each of ",
                               dims[1].size, " channels, got ",
                               vector.getType());
  types.assign({type, channels, channels});
  return success();
}

LogicalResult BatchNormOp::inferReturnTypes(MLIRContext *,
                                            OptionalLocation location,
                                            Adaptor adaptor, Types &types) {
  return inferBatchNorm(location, adaptor.getInput(),
                        {adaptor.getGamma(), adaptor.getBeta()}, types);
}
LogicalResult BatchNormBackwardOp::inferReturnTypes(MLIRContext *,
                                                    OptionalLocation location,
                                                    Adaptor adaptor,
                                                    Types &types) {
  if (adaptor.getGradient().getType() != adaptor.getInput().getType())
    return emitOptionalError(location, "gradient and input differ in type");
  return inferBatchNorm(
      location, adaptor.getInput(),
      {adaptor.getGamma(), adaptor.getMean(), adaptor.getVariance()}, types);
}
LogicalResult LogSoftmaxOp::inferReturnTypes(MLIRContext *, OptionalLocation,
                                             Adaptor adaptor, Types &types) {
  types.push_back(adaptor.getInput().getType());
  return success();
}

//===----------------------------------------------------------------------===//
// Gradients
//===----------------------------------------------------------------------===//

FailureOr<Gradients> ConvOp::buildGradient(OpBuilder &builder,
                                           ArrayRef<Value> results,
                                           ArrayRef<bool> needed) {
  Gradients gradients(2);
  if (needed[0])
    gradients[0] = builder.create<ConvBackwardInputOp>(
        getLoc(), getInput().getType(), results[0], getWeight(), getStrides(),
        getDilations(), getLow(), getHigh(), getGroups());
  if (needed[1])
    gradients[1] = builder.create<ConvBackwardWeightOp>(
        getLoc(), getWeight().getType(), results[0], getInput(), getStrides(),
        getDilations(), getLow(), getHigh(), getGroups());
  return gradients;
}

FailureOr<Gradients> PoolOp::buildGradient(OpBuilder &builder,
                                           ArrayRef<Value> results,
                                           ArrayRef<bool> needed) {
  Value gradient = builder.create<PoolBackwardOp>(
      getLoc(), getInput().getType(), results[0], getInput(), getKernel(),
      getStrides(), getDilations(), getLow(), getHigh(), getAverage(),
      getCountPadding());
  return Gradients{gradient};
}

FailureOr<Gradients> BatchNormOp::buildGradient(OpBuilder &builder,
                                                ArrayRef<Value> results,
                                                ArrayRef<bool> needed) {
  if (results[1] || results[2] || !results[0])
    return emitOpError("has no gradient through its mean and variance");
  auto backward = builder.create<BatchNormBackwardOp>(
      getLoc(), results[0], getInput(), getGamma(), getMean(), getVariance(),
      getEpsilonAttr());
  Gradients gradients;
  for (auto [gradient, need] : llvm::zip(backward.getResults(), needed))
    gradients.push_back(need ? gradient : Value());
  return gradients;
}

FailureOr<Gradients> LogSoftmaxOp::buildGradient(OpBuilder &builder,
                                                 ArrayRef<Value> results,
                                                 ArrayRef<bool> needed) {
  // dy - softmax(x) sum(dy)
  Value probabilities = builder.create<ExpOp>(getLoc(), getResult());
  Value sum = builder.create<ReduceSumOp>(
      getLoc(), results[0], ArrayRef<int64_t>{getType().getRank() - 1}, true);
  return Gradients{builder.create<SubOp>(
      getLoc(), results[0],
      builder.create<MulOp>(getLoc(), probabilities, sum))};
}

//===----------------------------------------------------------------------===//
// Costs
//===----------------------------------------------------------------------===//

static OpCost getCostOf(Operation *op, int64_t batch, double flops) {
  OpCost cost = getElementwiseCost(op, batch);
  cost.flops = flops;
  return cost;
}

/// Two operations for each output and element of its window.
static double convFlops(Value output, Value weight, int64_t batch) {
  double window = getNumElements(weight.getType(), 1);
  window /= getDims(weight)[0].size;
  return 2 * window * getNumElements(output.getType(), batch);
}
bool ConvOp::isContraction() { return true; }
OpCost ConvOp::getCost(int64_t batch) {
  return getCostOf(*this, batch, convFlops(getResult(), getWeight(), batch));
}
bool ConvBackwardInputOp::isContraction() { return true; }
OpCost ConvBackwardInputOp::getCost(int64_t batch) {
  return getCostOf(*this, batch, convFlops(getGradient(), getWeight(), batch));
}
bool ConvBackwardWeightOp::isContraction() { return true; }
OpCost ConvBackwardWeightOp::getCost(int64_t batch) {
  return getCostOf(*this, batch, convFlops(getGradient(), getResult(), batch));
}

static double poolFlops(Value output, ArrayRef<int64_t> kernel, int64_t batch) {
  double flops = getNumElements(output.getType(), batch);
  for (int64_t size : kernel)
    flops *= size;
  return flops;
}
OpCost PoolOp::getCost(int64_t batch) {
  return getCostOf(*this, batch, poolFlops(getResult(), getKernel(), batch));
}
OpCost PoolBackwardOp::getCost(int64_t batch) {
  return getCostOf(*this, batch, poolFlops(getGradient(), getKernel(), batch));
}

OpCost BatchNormOp::getCost(int64_t batch) {
  return getCostOf(*this, batch,
                   8.0 * getNumElements(getInput().getType(), batch));
}
OpCost BatchNormBackwardOp::getCost(int64_t batch) {
  return getCostOf(*this, batch,
                   12.0 * getNumElements(getInput().getType(), batch));
}
OpCost LogSoftmaxOp::getCost(int64_t batch) {
  return getCostOf(*this, batch, 4.0 * getNumElements(getType(), batch));
}

//===----------------------------------------------------------------------===//
// Sharding
//===----------------------------------------------------------------------===//

// The letters of space for one to three dimensions: x of the input, y of the
// output, k of the window. Space is never split: neighbours overlap.
static std::string space(StringRef letters, size_t count) {
  return letters.take_front(count).str();
}

/// `words` with #x, #y and #k for the dimensions of space. With groups the
/// channels stay whole: two letters may not share one dimension here.
static ShardingRule getSpaceRule(Operation *op, StringRef words, size_t count,
                                 StringRef whole, OperandSets linear) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] != '#') {
      text += words[i];
      continue;
    }
    char kind = words[++i];
    text += space(kind == 'x' ? "xyz" : kind == 'y' ? "uvw" : "ijk", count);
  }
  return getEinsumRule(op, text, (whole + "xyzuvwijk").str(), linear);
}

Rule ConvOp::getShardingRule() {
  return getGroups() == 1
             ? getSpaceRule(*this, "nc#x, oc#k -> no#y", getStrides().size(),
                            "", {{0}, {1}})
             : getSpaceRule(*this, "nc#x, od#k -> no#y", getStrides().size(),
                            "cdo", {{0}, {1}});
}
Rule ConvBackwardInputOp::getShardingRule() {
  return getGroups() == 1
             ? getSpaceRule(*this, "no#y, oc#k -> nc#x", getStrides().size(),
                            "", {{0}, {1}})
             : getSpaceRule(*this, "no#y, od#k -> nc#x", getStrides().size(),
                            "cdo", {{0}, {1}});
}
Rule ConvBackwardWeightOp::getShardingRule() {
  return getGroups() == 1
             ? getSpaceRule(*this, "no#y, nc#x -> oc#k", getStrides().size(),
                            "", {{0}, {1}})
             : getSpaceRule(*this, "no#y, nc#x -> od#k", getStrides().size(),
                            "cdo", {{0}, {1}});
}
Rule PoolOp::getShardingRule() {
  return getSpaceRule(*this, "nc#x -> nc#y", getKernel().size(), "",
                      getAverage() ? OperandSets{{0}} : OperandSets{});
}
Rule PoolBackwardOp::getShardingRule() {
  return getSpaceRule(*this, "nc#y, nc#x -> nc#x", getKernel().size(), "",
                      {{0}});
}

// Statistics are taken over samples and space: only channels can be split.
static ShardingRule getBatchNormRule(Operation *op, StringRef words) {
  std::string space =
      std::string("xyzw").substr(0, getDims(op->getOperand(0)).size() - 2);
  std::string text;
  for (char letter : words)
    text += letter == '#' ? space : std::string(1, letter);
  return getEinsumRule(op, text, "nxyzw");
}
Rule BatchNormOp::getShardingRule() {
  if (getDims(getInput()).size() > 6)
    return failure();
  return getBatchNormRule(*this, "nc#, c, c -> nc#, c, c");
}
Rule BatchNormBackwardOp::getShardingRule() {
  if (getDims(getInput()).size() > 6)
    return failure();
  return getBatchNormRule(*this, "nc#, nc#, c, c, c -> nc#, c, c");
}
Rule LogSoftmaxOp::getShardingRule() {
  return getEinsumRule(*this, "Rc -> Rc", "c");
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

bool ConvBackwardWeightOp::canAccumulate(unsigned) { return true; }
