//===- Convolution.cpp - convolution, pooling, batch norm -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// oneDNN's primitives on row-major tensors. Their scratch is the device's, so
// that a step's memory is known beforehand.
//
//===----------------------------------------------------------------------===//

#include "Kernel.h"

#include <dnnl.hpp>

#include <algorithm>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;
using dnnl::memory;

namespace {

using Sizes = std::vector<std::int64_t>;

dnnl::engine &engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

memory::desc rowMajor(const Sizes &dims) {
  return memory::desc(dims, memory::data_type::f32,
                      device::rowMajorStrides(dims));
}
memory::desc rowMajor(const Tensor &tensor) { return rowMajor(tensor.dims); }

/// Primitives one after the other on tensors of a segment and on scratch.
class PrimitiveKernel : public Kernel {
public:
  explicit PrimitiveKernel(const OpContext &context) : where(context.where) {}

  struct Operand {
    int argument;
    memory::desc layout;
    Tensor tensor;
  };

  template <typename Description>
  void add(OpContext &context, const Description &description,
           dnnl::primitive primitive, std::vector<Operand> operands) {
    memory::desc scratch = description.scratchpad_desc();
    if (scratch.get_size() > 0)
      operands.push_back(
          {DNNL_ARG_SCRATCHPAD, scratch, reserve(context, scratch.get_size())});
    stages.push_back({std::move(primitive), std::move(operands)});
  }

  static Tensor reserve(OpContext &context, std::size_t bytes) {
    return context.reserve(plan::v1::DTYPE_F32,
                           {static_cast<std::int64_t>((bytes + 3) / 4)});
  }

  void run(std::byte *const *bases) const override {
    try {
      dnnl::stream stream(engine());
      for (const Stage &stage : stages) {
        std::unordered_map<int, memory> arguments;
        for (const Operand &operand : stage.operands)
          arguments.emplace(
              operand.argument,
              memory(operand.layout, engine(), operand.tensor.address(bases)));
        stage.primitive.execute(stream, arguments);
      }
      stream.wait();
    } catch (const dnnl::error &error) {
      throw Error(Status::Failed, where, ": oneDNN: ", error.what());
    }
  }

private:
  struct Stage {
    dnnl::primitive primitive;
    std::vector<Operand> operands;
  };
  std::string where;
  std::vector<Stage> stages;
};

/// Scratch is handed in.
dnnl::primitive_attr userScratch() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

struct Window {
  Sizes kernel, strides, dilations, low, high;
};

/// Reads the attributes of a window and checks that it leads from `from` to
/// `to`, so that oneDNN is never asked for what it does not check.
Window readWindow(const OpContext &context, Sizes kernel, const Tensor &from,
                  const Tensor &to) {
  constexpr std::int64_t most = std::int64_t{1} << 20;
  Window window{std::move(kernel), context.integers("strides"),
                context.integers("dilations"), context.integers("low"),
                context.integers("high")};
  std::size_t space = window.kernel.size();
  context.require(space >= 1 && space <= 3 && from.rank() == space + 2 &&
                      to.rank() == space + 2 && from.dims[0] == to.dims[0],
                  "expected one to three dimensions of space, got ",
                  describe(from), " and ", describe(to));
  for (const Sizes *list :
       {&window.strides, &window.dilations, &window.low, &window.high})
    context.require(list->size() == space, "expected ", space,
                    " numbers in each attribute of the window");
  for (std::size_t i = 0; i < space; ++i) {
    std::int64_t k = window.kernel[i], s = window.strides[i],
                 d = window.dilations[i], l = window.low[i], h = window.high[i];
    context.require(k >= 1 && s >= 1 && d >= 1 && l >= 0 && h >= 0 &&
                        std::max({k, s, d, l, h}) <= most,
                    "unusable window along dimension ", i, " of space");
    std::int64_t room = from.dims[i + 2] + l + h - ((k - 1) * d + 1);
    context.require(room >= 0 && to.dims[i + 2] == room / s + 1,
                    "the window does not lead from ", describe(from), " to ",
                    describe(to));
    window.dilations[i] = d - 1; // oneDNN counts what is left out
  }
  return window;
}

void requireElements(const OpContext &context) {
  for (const auto *list : {&context.inputs, &context.outputs})
    for (const Tensor &tensor : *list) {
      context.require(tensor.elements() > 0, "expected elements, got ",
                      describe(tensor));
      context.requirePlain(tensor, tensor.dims, "an operand");
    }
}

template <typename Make>
std::unique_ptr<Kernel> made(OpContext &context, Make make) {
  try {
    auto kernel = std::make_unique<PrimitiveKernel>(context);
    make(*kernel);
    return kernel;
  } catch (const dnnl::error &error) {
    context.fail("oneDNN cannot do this: ", error.what());
  }
}

//===----------------------------------------------------------------------===//
// Convolution
//===----------------------------------------------------------------------===//

/// What all three convolutions are made of.
struct Convolution {
  Window window;
  memory::desc x, w, y;
  dnnl::convolution_forward::primitive_desc forward;

  Convolution(const OpContext &context, const Tensor &input,
              const Tensor &weight, const Tensor &output) {
    requireElements(context);
    context.require(weight.rank() >= 3,
                    "expected a weight of at least 3 "
                    "dimensions, got ",
                    describe(weight));
    window =
        readWindow(context, Sizes(weight.dims.begin() + 2, weight.dims.end()),
                   input, output);
    std::int64_t groups = context.integer("groups");
    context.require(groups >= 1 && input.dims[1] % groups == 0 &&
                        weight.dims[0] % groups == 0 &&
                        weight.dims[0] == output.dims[1] &&
                        weight.dims[1] == input.dims[1] / groups,
                    "the weight ", describe(weight), " in ", groups,
                    " groups does not lead from ", describe(input), " to ",
                    describe(output));
    Sizes dims = weight.dims;
    if (groups > 1) {
      dims[0] /= groups;
      dims.insert(dims.begin(), groups);
    }
    x = rowMajor(input);
    w = rowMajor(dims);
    y = rowMajor(output);
    forward = dnnl::convolution_forward::primitive_desc(
        dnnl::convolution_forward::desc(dnnl::prop_kind::forward_training,
                                        dnnl::algorithm::convolution_direct, x,
                                        w, y, window.strides, window.dilations,
                                        window.low, window.high),
        userScratch(), engine());
  }
};

std::unique_ptr<Kernel> makeConv(OpContext &context) {
  context.requireInputs(2, 2);
  context.requireOutputs(1, 1);
  const Tensor &x = context.inputs[0], &w = context.inputs[1],
               &y = context.outputs[0];
  return made(context, [&](PrimitiveKernel &kernel) {
    Convolution conv(context, x, w, y);
    kernel.add(context, conv.forward, dnnl::convolution_forward(conv.forward),
               {{DNNL_ARG_SRC, conv.x, x},
                {DNNL_ARG_WEIGHTS, conv.w, w},
                {DNNL_ARG_DST, conv.y, y}});
  });
}

std::unique_ptr<Kernel> makeConvBackwardInput(OpContext &context) {
  context.requireInputs(2, 2);
  context.requireOutputs(1, 1);
  const Tensor &dy = context.inputs[0], &w = context.inputs[1],
               &dx = context.outputs[0];
  return made(context, [&](PrimitiveKernel &kernel) {
    Convolution conv(context, dx, w, dy);
    dnnl::convolution_backward_data::primitive_desc description(
        dnnl::convolution_backward_data::desc(
            dnnl::algorithm::convolution_direct, conv.x, conv.w, conv.y,
            conv.window.strides, conv.window.dilations, conv.window.low,
            conv.window.high),
        userScratch(), engine(), conv.forward);
    kernel.add(context, description,
               dnnl::convolution_backward_data(description),
               {{DNNL_ARG_DIFF_DST, conv.y, dy},
                {DNNL_ARG_WEIGHTS, conv.w, w},
                {DNNL_ARG_DIFF_SRC, conv.x, dx}});
  });
}

std::unique_ptr<Kernel> makeConvBackwardWeight(OpContext &context) {
  context.requireInputs(2, 2);
  context.requireOutputs(1, 1);
  const Tensor &dy = context.inputs[0], &x = context.inputs[1],
               &dw = context.outputs[0];
  return made(context, [&](PrimitiveKernel &kernel) {
    Convolution conv(context, x, dw, dy);
    dnnl::convolution_backward_weights::primitive_desc description(
        dnnl::convolution_backward_weights::desc(
            dnnl::algorithm::convolution_direct, conv.x, conv.w, conv.y,
            conv.window.strides, conv.window.dilations, conv.window.low,
            conv.window.high),
        userScratch(), engine(), conv.forward);
    kernel.add(context, description,
               dnnl::convolution_backward_weights(description),
               {{DNNL_ARG_SRC, conv.x, x},
                {DNNL_ARG_DIFF_DST, conv.y, dy},
                {DNNL_ARG_DIFF_WEIGHTS, conv.w, dw}});
  });
}

//===----------------------------------------------------------------------===//
// Pooling
//===----------------------------------------------------------------------===//

struct Pooling {
  Window window;
  dnnl::algorithm algorithm;
  memory::desc x, y;
  dnnl::pooling_v2_forward::primitive_desc forward;

  Pooling(const OpContext &context, const Tensor &input, const Tensor &output) {
    requireElements(context);
    window = readWindow(context, context.integers("kernel"), input, output);
    context.require(input.dims[1] == output.dims[1],
                    "expected as many channels in ", describe(input), " as in ",
                    describe(output));
    bool average = context.flag("average");
    for (std::size_t i = 0; i < window.kernel.size(); ++i) {
      std::int64_t reach =
          (window.kernel[i] - 1) * (window.dilations[i] + 1) + 1;
      context.require(window.low[i] < reach && window.high[i] < reach,
                      "a window lies in the padding alone");
      context.require(!average || window.dilations[i] == 0,
                      "a mean has no dilations");
    }
    algorithm = !average ? dnnl::algorithm::pooling_max
                : context.flag("count_padding")
                    ? dnnl::algorithm::pooling_avg_include_padding
                    : dnnl::algorithm::pooling_avg_exclude_padding;
    x = rowMajor(input);
    y = rowMajor(output);
    forward = dnnl::pooling_v2_forward::primitive_desc(
        dnnl::pooling_v2_forward::desc(
            dnnl::prop_kind::forward_training, algorithm, x, y, window.strides,
            window.kernel, window.dilations, window.low, window.high),
        userScratch(), engine());
  }

  /// Where the places of maxima go; not for means.
  bool hasWorkspace() const {
    return algorithm == dnnl::algorithm::pooling_max;
  }
  PrimitiveKernel::Operand workspace(OpContext &context) const {
    memory::desc layout = forward.workspace_desc();
    return {DNNL_ARG_WORKSPACE, layout,
            PrimitiveKernel::reserve(context, layout.get_size())};
  }
};

std::unique_ptr<Kernel> makePool(OpContext &context) {
  context.requireInputs(1, 1);
  context.requireOutputs(1, 1);
  const Tensor &x = context.inputs[0], &y = context.outputs[0];
  return made(context, [&](PrimitiveKernel &kernel) {
    Pooling pool(context, x, y);
    std::vector<PrimitiveKernel::Operand> operands = {
        {DNNL_ARG_SRC, pool.x, x}, {DNNL_ARG_DST, pool.y, y}};
    if (pool.hasWorkspace())
      operands.push_back(pool.workspace(context));
    kernel.add(context, pool.forward, dnnl::pooling_v2_forward(pool.forward),
               operands);
  });
}

/// The places of maxima are found again: they are cheaper to find than to keep.
std::unique_ptr<Kernel> makePoolBackward(OpContext &context) {
  context.requireInputs(2, 2);
  context.requireOutputs(1, 1);
  const Tensor &dy = context.inputs[0], &x = context.inputs[1],
               &dx = context.outputs[0];
  context.require(x.dims == dx.dims, "expected dx of ", describe(x), ", got ",
                  describe(dx));
  return made(context, [&](PrimitiveKernel &kernel) {
    Pooling pool(context, dx, dy);
    std::vector<PrimitiveKernel::Operand> operands = {
        {DNNL_ARG_DIFF_DST, pool.y, dy}, {DNNL_ARG_DIFF_SRC, pool.x, dx}};
    if (pool.hasWorkspace()) {
      PrimitiveKernel::Operand workspace = pool.workspace(context);
      kernel.add(context, pool.forward, dnnl::pooling_v2_forward(pool.forward),
                 {{DNNL_ARG_SRC, pool.x, x},
                  {DNNL_ARG_DST, pool.y,
                   context.reserve(plan::v1::DTYPE_F32, dy.dims)},
                  workspace});
      operands.push_back(workspace);
    }
    dnnl::pooling_v2_backward::primitive_desc description(
        dnnl::pooling_v2_backward::desc(pool.algorithm, pool.x, pool.y,
                                        pool.window.strides, pool.window.kernel,
                                        pool.window.dilations, pool.window.low,
                                        pool.window.high),
        userScratch(), engine(), pool.forward);
    kernel.add(context, description, dnnl::pooling_v2_backward(description),
               operands);
  });
}

//===----------------------------------------------------------------------===//
// Batch norm and the logarithm of softmax
//===----------------------------------------------------------------------===//

struct BatchNorm {
  memory::desc x, channels;
  float epsilon;
  dnnl::normalization_flags flags = dnnl::normalization_flags::use_scale |
                                    dnnl::normalization_flags::use_shift;
  dnnl::batch_normalization_forward::primitive_desc forward;

  BatchNorm(const OpContext &context, const Tensor &input, std::size_t first) {
    requireElements(context);
    context.require(input.rank() >= 2,
                    "expected [samples, channels, ...], "
                    "got ",
                    describe(input));
    std::int64_t count = input.dims[1];
    for (std::size_t i = first; i < context.inputs.size(); ++i)
      context.requireDims(context.inputs[i], {count}, "a value per channel");
    context.requireDims(context.outputs[0], input.dims, "y");
    for (std::size_t i = 1; i < 3; ++i)
      context.requireDims(context.outputs[i], {count}, "a value per channel");
    // All dimensions of space are one.
    std::int64_t space = input.elements() / input.dims[0] / count;
    x = rowMajor({input.dims[0], count, 1, space});
    channels = rowMajor({count});
    epsilon = static_cast<float>(context.real("epsilon"));
    context.require(epsilon >= 0, "expected epsilon of at least 0");
    forward = dnnl::batch_normalization_forward::primitive_desc(
        dnnl::batch_normalization_forward::desc(
            dnnl::prop_kind::forward_training, x, epsilon, flags),
        userScratch(), engine());
  }
};

std::unique_ptr<Kernel> makeBatchNorm(OpContext &context) {
  context.requireInputs(3, 3);
  context.requireOutputs(3, 3);
  return made(context, [&](PrimitiveKernel &kernel) {
    const auto &in = context.inputs, &out = context.outputs;
    BatchNorm norm(context, in[0], 1);
    kernel.add(context, norm.forward,
               dnnl::batch_normalization_forward(norm.forward),
               {{DNNL_ARG_SRC, norm.x, in[0]},
                {DNNL_ARG_SCALE, norm.channels, in[1]},
                {DNNL_ARG_SHIFT, norm.channels, in[2]},
                {DNNL_ARG_DST, norm.x, out[0]},
                {DNNL_ARG_MEAN, norm.channels, out[1]},
                {DNNL_ARG_VARIANCE, norm.channels, out[2]}});
  });
}

std::unique_ptr<Kernel> makeBatchNormBackward(OpContext &context) {
  context.requireInputs(5, 5);
  context.requireOutputs(3, 3);
  return made(context, [&](PrimitiveKernel &kernel) {
    const auto &in = context.inputs, &out = context.outputs;
    BatchNorm norm(context, in[1], 2);
    context.requireDims(in[0], in[1].dims, "dy");
    dnnl::batch_normalization_backward::primitive_desc description(
        dnnl::batch_normalization_backward::desc(dnnl::prop_kind::backward,
                                                 norm.x, norm.x, norm.epsilon,
                                                 norm.flags),
        userScratch(), engine(), norm.forward);
    kernel.add(context, description,
               dnnl::batch_normalization_backward(description),
               {{DNNL_ARG_DIFF_DST, norm.x, in[0]},
                {DNNL_ARG_SRC, norm.x, in[1]},
                {DNNL_ARG_SCALE, norm.channels, in[2]},
                // Asked for, never read: no gradient depends on the shift.
                {DNNL_ARG_SHIFT, norm.channels, in[2]},
                {DNNL_ARG_MEAN, norm.channels, in[3]},
                {DNNL_ARG_VARIANCE, norm.channels, in[4]},
                {DNNL_ARG_DIFF_SRC, norm.x, out[0]},
                {DNNL_ARG_DIFF_SCALE, norm.channels, out[1]},
                {DNNL_ARG_DIFF_SHIFT, norm.channels, out[2]}});
  });
}

std::unique_ptr<Kernel> makeLogSoftmax(OpContext &context) {
  context.requireInputs(1, 1);
  context.requireOutputs(1, 1);
  const Tensor &x = context.inputs[0], &y = context.outputs[0];
  context.require(x.rank() >= 1, "expected a last axis, got ", describe(x));
  requireElements(context);
  context.requireDims(y, x.dims, "y");
  return made(context, [&](PrimitiveKernel &kernel) {
    memory::desc rows = rowMajor({x.rows(), x.lastDim()});
    dnnl::logsoftmax_forward::primitive_desc description(
        dnnl::logsoftmax_forward::desc(dnnl::prop_kind::forward_training, rows,
                                       1),
        userScratch(), engine());
    kernel.add(context, description, dnnl::logsoftmax_forward(description),
               {{DNNL_ARG_SRC, rows, x}, {DNNL_ARG_DST, rows, y}});
  });
}

} // namespace

void cpu::addConvolutionKernels(KernelTable &table) {
  table.add(plan::v1::OPCODE_CONV, {makeConv});
  table.add(plan::v1::OPCODE_CONV_BACKWARD_INPUT, {makeConvBackwardInput});
  table.add(plan::v1::OPCODE_CONV_BACKWARD_WEIGHT,
            {makeConvBackwardWeight, Layout::RowMajor, Layout::RowMajor,
             KernelEntry::ThroughScratch});
  table.add(plan::v1::OPCODE_POOL, {makePool});
  table.add(plan::v1::OPCODE_POOL_BACKWARD, {makePoolBackward});
  table.add(plan::v1::OPCODE_BATCH_NORM, {makeBatchNorm});
  table.add(plan::v1::OPCODE_BATCH_NORM_BACKWARD, {makeBatchNormBackward});
  table.add(plan::v1::OPCODE_LOG_SOFTMAX, {makeLogSoftmax});
}
