//===- BuildConv.cpp - building convolutions, pooling and batch norm ------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpTable.h"

#include <numeric>

using namespace mlir;

namespace tombolo::importer {

namespace {

/// A window over the dimensions of space, and the sizes that it leads to.
struct Window {
  SmallVector<int64_t> kernel, strides, dilations, low, high, output;
};

/// Reads strides, dilations and padding for a window of `kernel`. `ceil_mode`
/// is allowed where it changes nothing.
FailureOr<Window> readWindow(NodeContext &context, ArrayRef<Affine> input,
                             ArrayRef<int64_t> kernel) {
  size_t space = kernel.size();
  if (space < 1 || space > 3 || input.size() != space + 2)
    return context.emitError()
           << "expected one to three dimensions of space, got operands "
           << toString(input) << " and a window of " << space << " dimensions";
  auto read = [&](StringRef name, size_t count, int64_t otherwise,
                  int64_t least) -> FailureOr<SmallVector<int64_t>> {
    auto given = context.getInts(name);
    SmallVector<int64_t> values =
        given ? *given : SmallVector<int64_t>(count, otherwise);
    if (values.size() != count || llvm::any_of(values, [&](int64_t value) {
          return value < least || value > (int64_t{1} << 20);
        }))
      return context.emitError() << "attribute '" << name << "': expected "
                                 << count << " numbers of at least " << least;
    return values;
  };
  auto strides = read("strides", space, 1, 1);
  auto dilations = read("dilations", space, 1, 1);
  auto pads = read("pads", 2 * space, 0, 0);
  if (failed(strides) || failed(dilations) || failed(pads))
    return failure();
  std::string autoPad = context.getString("auto_pad", "NOTSET");
  if (autoPad != "NOTSET" && autoPad != "VALID" && autoPad != "SAME_UPPER" &&
      autoPad != "SAME_LOWER")
    return context.emitError() << "unknown auto_pad '" << autoPad << "'";
  Window window;
  window.kernel.assign(kernel.begin(), kernel.end());
  window.strides = *strides;
  window.dilations = *dilations;
  for (size_t i = 0; i < space; ++i) {
    Affine size = input[i + 2];
    if (!size.isConstant() || kernel[i] < 1 || kernel[i] > (int64_t{1} << 20))
      return context.emitError() << "unusable window along dimension " << i
                                 << " of space of " << toString(input);
    int64_t reach = (kernel[i] - 1) * window.dilations[i] + 1;
    int64_t low = (*pads)[i], high = (*pads)[space + i];
    if (StringRef(autoPad).starts_with("SAME")) {
      int64_t places =
          (size.constant + window.strides[i] - 1) / window.strides[i];
      int64_t total = std::max<int64_t>(0, (places - 1) * window.strides[i] +
                                               reach - size.constant);
      low = autoPad == "SAME_UPPER" ? total / 2 : total - total / 2;
      high = total - low;
    } else if (autoPad == "VALID") {
      low = high = 0;
    }
    int64_t room = size.constant + low + high - reach;
    if (room < 0)
      return context.emitError()
             << "the window reaches over " << reach << " elements, dimension "
             << i << " of space has " << size.constant + low + high;
    if (context.getInt("ceil_mode", 0) && room % window.strides[i] != 0)
      return context.emitError()
             << "ceil_mode with a window that goes beyond the input is not "
                "there yet: pad the input instead";
    window.low.push_back(low);
    window.high.push_back(high);
    window.output.push_back(room / window.strides[i] + 1);
  }
  return window;
}

/// The type of the result: samples of `input`, channels, space.
RankedTensorType getResultType(NodeContext &context, Value input,
                               int64_t channels, const Window &window) {
  Shape shape = getShape(cast<RankedTensorType>(input.getType()));
  shape.truncate(1);
  shape.push_back({channels, 0});
  for (int64_t size : window.output)
    shape.push_back({size, 0});
  return getTensorType(shape, context.getBuilder().getF32Type());
}

/// An error unless the value is f32.
LogicalResult requireFloat32(NodeContext &context, Value value) {
  if (cast<RankedTensorType>(value.getType()).getElementType().isF32())
    return success();
  return context.emitError()
         << "expected operands of 32-bit floats, got " << value.getType();
}

LogicalResult buildPool(NodeContext &context, bool average) {
  Value input = context.getValue(0);
  if (!input || failed(requireFloat32(context, input)))
    return failure();
  if (context.wantsResult(1))
    return context.emitError() << "the indices of maxima are not there yet";
  if (context.getInt("storage_order", 0))
    return context.emitError() << "storage_order 1 is not there yet";
  Shape shape = context.getOperandShape(0);
  auto kernel = context.getInts("kernel_shape");
  if (!kernel)
    return context.emitError() << "has no kernel_shape";
  FailureOr<Window> window = readWindow(context, shape, *kernel);
  if (failed(window))
    return failure();
  bool countPadding = context.getInt("count_include_pad", 0);
  for (auto [i, size] : llvm::enumerate(window->kernel)) {
    int64_t reach = (size - 1) * window->dilations[i] + 1;
    if (window->low[i] >= reach || window->high[i] >= reach)
      return context.emitError() << "a window lies in the padding alone";
    if (average && window->dilations[i] != 1)
      return context.emitError() << "a mean with dilations is not there yet";
  }
  RankedTensorType type =
      getResultType(context, input, shape[1].constant, *window);
  if (!type)
    return context.emitError() << "has an absurdly large result";
  return context.setResult(0,
                           context.getBuilder().create<graph::PoolOp>(
                               context.getLoc(), type, input, window->kernel,
                               window->strides, window->dilations, window->low,
                               window->high, average, countPadding));
}

/// The axes of space.
FailureOr<SmallVector<int64_t>> getSpace(NodeContext &context, Value input) {
  int64_t rank = cast<RankedTensorType>(input.getType()).getRank();
  if (rank < 3)
    return context.emitError()
           << "expected [samples, channels, space...], got " << input.getType();
  return llvm::to_vector(llvm::seq<int64_t>(2, rank));
}

template <typename Op> LogicalResult buildGlobalPool(NodeContext &context) {
  Value input = context.getValue(0);
  if (!input || failed(context.requireFloat(input)))
    return failure();
  FailureOr<SmallVector<int64_t>> axes = getSpace(context, input);
  if (failed(axes))
    return failure();
  Builder &builder = context.getBuilder();
  return context.setResult(0, context.make<Op>(input, [&](auto &properties) {
    properties.axes = builder.getDenseI64ArrayAttr(*axes);
    properties.keep_dims = builder.getBoolAttr(true);
  }));
}

/// [channels] as it broadcasts along dimension 1 of a tensor of this rank.
Value alongChannels(NodeContext &context, Value vector, size_t rank) {
  Shape shape(rank, Affine{1, 0});
  shape[1] = getShape(cast<RankedTensorType>(vector.getType()))[0];
  return context.makeReshape(vector, shape);
}

} // namespace

LogicalResult buildConv(NodeContext &context) {
  Value input = context.getValue(0), weight = context.getValue(1);
  if (!input || !weight || failed(requireFloat32(context, input)) ||
      failed(requireFloat32(context, weight)))
    return failure();
  Shape shape = context.getOperandShape(0), filter = context.getOperandShape(1);
  if (filter.size() < 3 || shape.size() != filter.size() ||
      llvm::any_of(filter, [](Affine size) { return !size.isConstant(); }) ||
      !shape[1].isConstant())
    return context.emitError()
           << "expected [samples, channels, space...] and a constant window, "
              "got "
           << toString(shape) << " and " << toString(filter);
  SmallVector<int64_t> kernel;
  for (Affine size : ArrayRef(filter).drop_front(2))
    kernel.push_back(size.constant);
  if (auto given = context.getInts("kernel_shape"); given && *given != kernel)
    return context.emitError()
           << "kernel_shape differs from the weight's " << toString(filter);
  int64_t groups = context.getInt("group", 1);
  if (groups < 1 || filter[0].constant % groups != 0 ||
      shape[1].constant % groups != 0 ||
      filter[1].constant != shape[1].constant / groups)
    return context.emitError()
           << "a weight " << toString(filter) << " in " << groups
           << " groups does not fit the input " << toString(shape);
  FailureOr<Window> window = readWindow(context, shape, kernel);
  if (failed(window))
    return failure();
  RankedTensorType type =
      getResultType(context, input, filter[0].constant, *window);
  if (!type)
    return context.emitError() << "has an absurdly large result";
  Value result = context.getBuilder().create<graph::ConvOp>(
      context.getLoc(), type, input, weight, window->strides, window->dilations,
      window->low, window->high, groups);
  if (context.hasOperand(2)) {
    Value bias = context.getValue(2);
    if (!bias)
      return failure();
    if (getShape(cast<RankedTensorType>(bias.getType())) != Shape{filter[0]})
      return context.emitError() << "expected one bias for each of "
                                 << filter[0].constant << " channels";
    bias = alongChannels(context, bias, shape.size());
    result = bias ? context.make<graph::AddOp>({result, bias}) : Value();
  }
  return context.setResult(0, result);
}

LogicalResult buildMaxPool(NodeContext &context) {
  return buildPool(context, /*average=*/false);
}
LogicalResult buildAveragePool(NodeContext &context) {
  return buildPool(context, /*average=*/true);
}
LogicalResult buildGlobalAveragePool(NodeContext &context) {
  return buildGlobalPool<graph::ReduceMeanOp>(context);
}
LogicalResult buildGlobalMaxPool(NodeContext &context) {
  return buildGlobalPool<graph::ReduceMaxOp>(context);
}

/// In training form statistics are those of the microbatch; else they are the
/// given ones, and the op is an affine map.
LogicalResult buildBatchNormalization(NodeContext &context) {
  Value input = context.getValue(0), gamma = context.getValue(1),
        beta = context.getValue(2);
  if (!input || !gamma || !beta || failed(requireFloat32(context, input)) ||
      failed(requireFloat32(context, gamma)) ||
      failed(requireFloat32(context, beta)))
    return failure();
  Shape shape = context.getOperandShape(0);
  double epsilon = context.getFloat("epsilon", 1e-5f);
  if (shape.size() < 2 || !shape[1].isConstant())
    return context.emitError()
           << "expected [samples, channels, ...], got " << toString(shape);
  // Before opset 14 training is told by the results that are asked for.
  bool training = context.getOpset() >= 14
                      ? context.getInt("training_mode", 0) != 0
                      : context.getNumResults() > 1;
  Builder &builder = context.getBuilder();
  if (training) {
    auto norm = context.create<graph::BatchNormOp>(
        {input, gamma, beta}, [&](auto &properties) {
          properties.epsilon = builder.getF64FloatAttr(epsilon);
        });
    if (!norm)
      return failure();
    if (context.getOpset() >= 14) {
      // running * momentum + statistic * (1 - momentum)
      double momentum = context.getFloat("momentum", 0.9f);
      for (size_t i : {1, 2}) {
        if (!context.wantsResult(i))
          continue;
        Value running = context.getValue(2 + i);
        if (!running || failed(requireFloat32(context, running)))
          return failure();
        Value kept = context.make<graph::MulOp>(
            {running, context.makeScalar(momentum, builder.getF32Type())});
        Value added = context.make<graph::MulOp>(
            {norm->getResult(i),
             context.makeScalar(1 - momentum, builder.getF32Type())});
        if (!kept || !added ||
            failed(context.setResult(
                i, context.make<graph::AddOp>({kept, added}))))
          return failure();
      }
    }
    return context.setResult(0, norm.getResult());
  }
  Value mean = context.getValue(3), variance = context.getValue(4);
  if (!mean || !variance || failed(requireFloat32(context, mean)) ||
      failed(requireFloat32(context, variance)))
    return failure();
  for (Value *vector : {&gamma, &beta, &mean, &variance}) {
    if (getShape(cast<RankedTensorType>(vector->getType())) != Shape{shape[1]})
      return context.emitError()
             << "expected one number for each of " << shape[1].constant
             << " channels, got " << vector->getType();
    if (!(*vector = alongChannels(context, *vector, shape.size())))
      return failure();
  }
  Value shifted = context.make<graph::AddOp>(
      {variance, context.makeScalar(epsilon, builder.getF32Type())});
  Value deviation = context.make<graph::SqrtOp>(shifted);
  Value centred = context.make<graph::SubOp>({input, mean});
  Value normal = context.make<graph::DivOp>({centred, deviation});
  Value scaled = context.make<graph::MulOp>({normal, gamma});
  return context.setResult(0, context.make<graph::AddOp>({scaled, beta}));
}

} // namespace tombolo::importer
