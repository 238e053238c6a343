//===- Optimizers.cpp - updates of flat parameters ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "NdLoop.h"

#include <algorithm>
#include <cmath>
#include <vector>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;

namespace {

constexpr std::int64_t kGrain = 16384;

class AdvanceKernel : public Kernel {
public:
  explicit AdvanceKernel(const OpContext &context)
      : weight(context.inputs[0]), before(context.inputs[1]),
        after(context.outputs[0]) {}
  void run(std::byte *const *bases) const override {
    *after.at<std::int64_t>(bases) = *before.at<const std::int64_t>(bases) +
                                     (*weight.at<const float>(bases) > 0.0f);
  }

private:
  Tensor weight, before, after;
};

std::unique_ptr<Kernel> makeAdvance(OpContext &context) {
  context.requireInputs(2, 2);
  context.requireOutputs(1, 1);
  context.requireType(context.inputs[0], plan::v1::DTYPE_F32, "weight");
  context.requireType(context.inputs[1], plan::v1::DTYPE_I64, "updates");
  context.requireType(context.outputs[0], plan::v1::DTYPE_I64, "updates");
  for (const Tensor &tensor :
       {context.inputs[0], context.inputs[1], context.outputs[0]})
    context.require(tensor.elements() == 1, "expected 1 element, got ",
                    describe(tensor));
  return std::make_unique<AdvanceKernel>(context);
}

/// param, grad, weight, updates and `states` state tensors; outputs are param
/// and the states, in place.
void checkUpdate(const OpContext &context, std::size_t states) {
  context.requireInputs(4 + states, 4 + states);
  context.requireOutputs(1 + states, 1 + states);
  const Tensor &param = context.inputs[0];
  context.requirePlain(param, param.dims, "param");
  context.requirePlain(context.inputs[1], param.dims, "grad");
  context.requireType(context.inputs[2], plan::v1::DTYPE_F32, "weight");
  context.requireType(context.inputs[3], plan::v1::DTYPE_I64, "updates");
  context.require(context.inputs[2].elements() == 1 &&
                      context.inputs[3].elements() == 1,
                  "expected weight and updates of 1 element");
  auto same = [&](const Tensor &output, const Tensor &input) {
    context.requirePlain(input, param.dims, "the state");
    context.requirePlain(output, param.dims, "an output");
    context.require(output.base == input.base && output.offset == input.offset,
                    "expected parameters and state to be updated in place");
  };
  same(context.outputs[0], param);
  for (std::size_t i = 0; i < states; ++i)
    same(context.outputs[1 + i], context.inputs[4 + i]);
}

/// The learning rate of an update, as docs/PlanFormat.md defines it.
class LearningRate {
public:
  explicit LearningRate(const OpContext &context)
      : peak(context.real("learning_rate")),
        schedule(context.text("schedule", "")) {
    if (schedule.empty())
      return;
    context.require(schedule == "constant" || schedule == "cosine" ||
                        schedule == "linear",
                    "unknown schedule '", schedule, "'");
    warmup = static_cast<double>(context.integer("warmup_steps"));
    if (schedule != "constant")
      decay = static_cast<double>(context.integer("decay_steps"));
    context.require(warmup >= 0 && (schedule == "constant" || decay > warmup),
                    "expected 0 <= warmup_steps < decay_steps");
  }

  /// `update` counts from 1.
  double at(std::int64_t update) const {
    double t = static_cast<double>(update);
    if (t < warmup)
      return peak * (t / warmup);
    if (schedule.empty() || schedule == "constant")
      return peak;
    double left = t < decay ? (decay - t) / (decay - warmup) : 0;
    if (schedule == "linear")
      return peak * left;
    return peak * (0.5 * (1 - std::cos(kPi * left)));
  }

private:
  static constexpr double kPi = 3.14159265358979323846;
  double peak, warmup = 0, decay = 0;
  std::string schedule;
};

class SgdKernel : public Kernel {
public:
  explicit SgdKernel(const OpContext &context)
      : in(context.inputs), sgd(context.loops->sgd), threads(context.threads),
        learningRate(context) {
    constants.momentum = static_cast<float>(context.real("momentum", 0));
    constants.weightDecay = static_cast<float>(context.real("weight_decay", 0));
    context.require(in.size() == 5 || constants.momentum == 0.0f,
                    "momentum needs a momentum buffer");
  }

  void run(std::byte *const *bases) const override {
    SgdConstants k = constants;
    k.weight = *in[2].at<const float>(bases);
    if (k.weight == 0.0f)
      return;
    const std::int64_t update = *in[3].at<const std::int64_t>(bases);
    k.firstUpdate = update <= 1;
    k.learningRate = static_cast<float>(learningRate.at(update));
    float *param = in[0].at<float>(bases);
    const float *grad = in[1].at<const float>(bases);
    float *buffer = in.size() == 5 ? in[4].at<float>(bases) : nullptr;
    parallelFor(threads, in[0].elements(), kGrain,
                [&](std::int64_t first, std::int64_t last) {
                  sgd(param + first, grad + first,
                      buffer ? buffer + first : nullptr, last - first, k);
                });
  }

private:
  std::vector<Tensor> in;
  void (*sgd)(float *, const float *, float *, std::size_t, SgdConstants);
  unsigned threads;
  LearningRate learningRate;
  SgdConstants constants{};
};

std::unique_ptr<Kernel> makeSgd(OpContext &context) {
  checkUpdate(context, context.inputs.size() > 4 ? 1 : 0);
  return std::make_unique<SgdKernel>(context);
}

class AdamWKernel : public Kernel {
public:
  explicit AdamWKernel(const OpContext &context)
      : in(context.inputs), adamw(context.loops->adamw),
        threads(context.threads), learningRate(context),
        beta1(context.real("beta1")), beta2(context.real("beta2")),
        epsilon(context.real("epsilon")),
        weightDecay(context.real("weight_decay", 0)) {}

  void run(std::byte *const *bases) const override {
    AdamWConstants k;
    k.weight = *in[2].at<const float>(bases);
    if (k.weight == 0.0f)
      return;
    // Coefficients in double and rounded once, as torch.optim has them.
    const std::int64_t update = *in[3].at<const std::int64_t>(bases);
    double t = static_cast<double>(update);
    double rate = learningRate.at(update);
    k.decay = static_cast<float>(1 - rate * weightDecay);
    k.beta1 = static_cast<float>(beta1);
    k.oneMinusBeta1 = static_cast<float>(1 - beta1);
    k.beta2 = static_cast<float>(beta2);
    k.oneMinusBeta2 = static_cast<float>(1 - beta2);
    k.stepSize = static_cast<float>(rate / (1 - std::pow(beta1, t)));
    k.sqrtBias2 = static_cast<float>(std::sqrt(1 - std::pow(beta2, t)));
    k.epsilon = static_cast<float>(epsilon);
    float *param = in[0].at<float>(bases);
    const float *grad = in[1].at<const float>(bases);
    float *average = in[4].at<float>(bases);
    float *squares = in[5].at<float>(bases);
    parallelFor(threads, in[0].elements(), kGrain,
                [&](std::int64_t first, std::int64_t last) {
                  adamw(param + first, grad + first, average + first,
                        squares + first, last - first, k);
                });
  }

private:
  std::vector<Tensor> in;
  void (*adamw)(float *, const float *, float *, float *, std::size_t,
                AdamWConstants);
  unsigned threads;
  LearningRate learningRate;
  double beta1, beta2, epsilon, weightDecay;
};

std::unique_ptr<Kernel> makeAdamW(OpContext &context) {
  checkUpdate(context, 2);
  return std::make_unique<AdamWKernel>(context);
}

class SquareSumKernel : public Kernel {
public:
  explicit SquareSumKernel(const OpContext &context)
      : in(context.inputs[0]), out(context.outputs[0]),
        threads(context.threads), scale(context.real("scale")),
        parts((in.elements() + kGrain - 1) / kGrain) {}

  void run(std::byte *const *bases) const override {
    // Parts of one size, summed in order: the same sum for any threads.
    std::vector<double> sums(static_cast<std::size_t>(parts));
    const float *x = in.at<const float>(bases);
    parallelFor(threads, parts, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t part = first; part < last; ++part)
        sums[static_cast<std::size_t>(part)] = sumOf(
            x + part * kGrain, std::min(kGrain, in.elements() - part * kGrain));
    });
    double sum = 0;
    for (double part : sums)
      sum += part;
    *out.at<float>(bases) = static_cast<float>(scale * sum);
  }

private:
  static double sumOf(const float *x, std::int64_t count) {
    double sums[8] = {};
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8)
      for (int k = 0; k < 8; ++k)
        sums[k] += static_cast<double>(x[i + k]) * x[i + k];
    for (; i < count; ++i)
      sums[i % 8] += static_cast<double>(x[i]) * x[i];
    double sum = 0;
    for (double one : sums)
      sum += one;
    return sum;
  }

  Tensor in, out;
  unsigned threads;
  double scale;
  std::int64_t parts;
};

std::unique_ptr<Kernel> makeSquareSum(OpContext &context) {
  context.requireInputs(1, 1);
  context.requireOutputs(1, 1);
  context.requirePlain(context.inputs[0], context.inputs[0].dims, "x");
  context.requireType(context.outputs[0], plan::v1::DTYPE_F32, "the sum");
  context.require(context.outputs[0].elements() == 1,
                  "expected a sum of 1 element");
  return std::make_unique<SquareSumKernel>(context);
}

class ClipWeightKernel : public Kernel {
public:
  explicit ClipWeightKernel(const OpContext &context)
      : squares(context.inputs[0]), weight(context.inputs[1]),
        out(context.outputs[0]), maxNorm(context.real("max_norm")) {}
  void run(std::byte *const *bases) const override {
    double w = *weight.at<const float>(bases);
    double norm = std::sqrt(double{*squares.at<const float>(bases)}) / w;
    double coefficient = maxNorm / (norm + 1e-6);
    // Of weight zero it stays zero. A norm that is no number makes the
    // parameters none, as in PyTorch.
    bool clips = w != 0 && !(coefficient >= 1);
    *out.at<float>(bases) = static_cast<float>(clips ? w / coefficient : w);
  }

private:
  Tensor squares, weight, out;
  double maxNorm;
};

std::unique_ptr<Kernel> makeClipWeight(OpContext &context) {
  context.requireInputs(2, 2);
  context.requireOutputs(1, 1);
  for (const Tensor &tensor :
       {context.inputs[0], context.inputs[1], context.outputs[0]}) {
    context.requireType(tensor, plan::v1::DTYPE_F32, "an operand");
    context.require(tensor.elements() == 1, "expected 1 element, got ",
                    describe(tensor));
  }
  return std::make_unique<ClipWeightKernel>(context);
}

} // namespace

void cpu::addOptimizerKernels(KernelTable &table) {
  table.add(plan::v1::OPCODE_OPTIMIZER_ADVANCE, {makeAdvance});
  table.add(plan::v1::OPCODE_SGD, {makeSgd});
  table.add(plan::v1::OPCODE_ADAMW, {makeAdamW});
  table.add(plan::v1::OPCODE_SQUARE_SUM,
            {makeSquareSum, Layout::RowMajor, Layout::RowMajor,
             KernelEntry::ThroughScratch});
  table.add(plan::v1::OPCODE_CLIP_WEIGHT, {makeClipWeight});
}
