//===- Norms.cpp - layer norm and its gradients ---------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "NdLoop.h"

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;

namespace {

std::vector<std::int64_t> leading(const Tensor &x) {
  return {x.dims.begin(), x.dims.end() - 1};
}

/// Rows per part of work for rows of `columns` elements.
std::int64_t grainFor(std::int64_t columns) {
  return std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(columns, 1));
}

class LayerNormKernel : public Kernel {
public:
  explicit LayerNormKernel(const OpContext &context)
      : in(context.inputs), out(context.outputs), loops(context.loops),
        threads(context.threads),
        epsilon(static_cast<float>(context.real("epsilon"))) {}

  void run(std::byte *const *bases) const override {
    const float *x = in[0].at<const float>(bases);
    const float *gamma = in[1].at<const float>(bases);
    const float *beta = in[2].at<const float>(bases);
    float *y = out[0].at<float>(bases);
    float *mean = out[1].at<float>(bases), *rstd = out[2].at<float>(bases);
    const std::int64_t columns = in[0].lastDim();
    parallelFor(threads, in[0].rows(), grainFor(columns),
                [&](std::int64_t first, std::int64_t last) {
                  for (std::int64_t r = first; r < last; ++r)
                    loops->layerNormRow(x + r * columns, gamma, beta,
                                        y + r * columns, columns, epsilon,
                                        mean + r, rstd + r);
                });
  }

private:
  std::vector<Tensor> in, out;
  const Loops *loops;
  unsigned threads;
  float epsilon;
};

class LayerNormBackwardInputKernel : public Kernel {
public:
  explicit LayerNormBackwardInputKernel(const OpContext &context)
      : in(context.inputs), dx(context.outputs[0]), loops(context.loops),
        threads(context.threads) {}

  void run(std::byte *const *bases) const override {
    const float *dy = in[0].at<const float>(bases);
    const float *x = in[1].at<const float>(bases);
    const float *gamma = in[2].at<const float>(bases);
    const float *mean = in[3].at<const float>(bases);
    const float *rstd = in[4].at<const float>(bases);
    float *to = dx.at<float>(bases);
    const std::int64_t columns = dx.lastDim();
    parallelFor(threads, dx.rows(), grainFor(columns),
                [&](std::int64_t first, std::int64_t last) {
                  for (std::int64_t r = first; r < last; ++r)
                    loops->layerNormBackwardRow(
                        dy + r * columns, x + r * columns, gamma,
                        to + r * columns, columns, mean[r], rstd[r]);
                });
  }

private:
  std::vector<Tensor> in;
  Tensor dx;
  const Loops *loops;
  unsigned threads;
};

class LayerNormBackwardWeightKernel : public Kernel {
public:
  explicit LayerNormBackwardWeightKernel(const OpContext &context)
      : in(context.inputs), out(context.outputs), loops(context.loops),
        threads(context.threads), accumulate(context.accumulate) {}

  void run(std::byte *const *bases) const override {
    const float *dy = in[0].at<const float>(bases);
    const float *x = in[1].at<const float>(bases);
    const float *mean = in[2].at<const float>(bases);
    const float *rstd = in[3].at<const float>(bases);
    float *dgamma = out[0].at<float>(bases), *dbeta = out[1].at<float>(bases);
    const std::int64_t columns = in[0].lastDim();
    if (!accumulate) {
      std::fill_n(dgamma, columns, 0.0f);
      std::fill_n(dbeta, columns, 0.0f);
    }
    parallelFor(
        threads, columns, 64, [&](std::int64_t first, std::int64_t last) {
          loops->layerNormBackwardWeight(dy + first, x + first, mean, rstd,
                                         in[0].rows(), last - first, columns,
                                         dgamma + first, dbeta + first);
        });
  }

private:
  std::vector<Tensor> in, out;
  const Loops *loops;
  unsigned threads;
  bool accumulate;
};

/// x and what has its shape; the norm is over the last axis.
const Tensor &checkRows(const OpContext &context, const Tensor &x) {
  context.require(x.rank() >= 1 && x.lastDim() > 0,
                  "expected x with a last axis, got ", describe(x));
  context.requirePlain(x, x.dims, "x");
  return x;
}

std::unique_ptr<Kernel> makeForward(OpContext &context) {
  context.requireInputs(3, 3);
  context.requireOutputs(3, 3);
  const Tensor &x = checkRows(context, context.inputs[0]);
  context.requirePlain(context.inputs[1], {x.lastDim()}, "gamma");
  context.requirePlain(context.inputs[2], {x.lastDim()}, "beta");
  context.requirePlain(context.outputs[0], x.dims, "y");
  context.requirePlain(context.outputs[1], leading(x), "mean");
  context.requirePlain(context.outputs[2], leading(x), "rstd");
  return std::make_unique<LayerNormKernel>(context);
}

std::unique_ptr<Kernel> makeBackwardInput(OpContext &context) {
  context.requireInputs(5, 5);
  context.requireOutputs(1, 1);
  const Tensor &x = checkRows(context, context.inputs[1]);
  context.requirePlain(context.inputs[0], x.dims, "dy");
  context.requirePlain(context.inputs[2], {x.lastDim()}, "gamma");
  context.requirePlain(context.inputs[3], leading(x), "mean");
  context.requirePlain(context.inputs[4], leading(x), "rstd");
  context.requirePlain(context.outputs[0], x.dims, "dx");
  return std::make_unique<LayerNormBackwardInputKernel>(context);
}

std::unique_ptr<Kernel> makeBackwardWeight(OpContext &context) {
  context.requireInputs(4, 4);
  context.requireOutputs(2, 2);
  const Tensor &x = checkRows(context, context.inputs[1]);
  context.requirePlain(context.inputs[0], x.dims, "dy");
  context.requirePlain(context.inputs[2], leading(x), "mean");
  context.requirePlain(context.inputs[3], leading(x), "rstd");
  context.requirePlain(context.outputs[0], {x.lastDim()}, "dgamma");
  context.requirePlain(context.outputs[1], {x.lastDim()}, "dbeta");
  return std::make_unique<LayerNormBackwardWeightKernel>(context);
}

} // namespace

void cpu::addNormKernels(KernelTable &table) {
  table.add(plan::v1::OPCODE_LAYER_NORM, {makeForward});
  table.add(plan::v1::OPCODE_LAYER_NORM_BACKWARD_INPUT, {makeBackwardInput});
  table.add(plan::v1::OPCODE_LAYER_NORM_BACKWARD_WEIGHT,
            {makeBackwardWeight, Layout::RowMajor, Layout::RowMajor,
             KernelEntry::Itself});
}
