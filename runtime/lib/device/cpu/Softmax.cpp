//===- Softmax.cpp - softmax and cross entropy ----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "NdLoop.h"
#include "ShardIndex.h"

#include <cmath>
#include <cstring>
#include <limits>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;

namespace {

std::int64_t grainFor(std::int64_t columns) {
  return std::max<std::int64_t>(1, 2048 / std::max<std::int64_t>(columns, 1));
}

class SoftmaxKernel : public Kernel {
public:
  explicit SoftmaxKernel(const OpContext &context)
      : x(context.inputs[0]), y(context.outputs[0]), loops(context.loops),
        threads(context.threads) {}

  void run(std::byte *const *bases) const override {
    const float *from = x.at<const float>(bases);
    float *to = y.at<float>(bases);
    const std::int64_t columns = x.lastDim();
    if (!columns)
      return;
    parallelFor(threads, x.rows(), grainFor(columns),
                [&](std::int64_t first, std::int64_t last) {
                  for (std::int64_t r = first; r < last; ++r)
                    loops->softmaxRow(from + r * columns, to + r * columns,
                                      columns);
                });
  }

private:
  Tensor x, y;
  const Loops *loops;
  unsigned threads;
};

class SoftmaxBackwardKernel : public Kernel {
public:
  explicit SoftmaxBackwardKernel(const OpContext &context)
      : dy(context.inputs[0]), y(context.inputs[1]), dx(context.outputs[0]),
        loops(context.loops), threads(context.threads) {}

  void run(std::byte *const *bases) const override {
    const float *gradient = dy.at<const float>(bases);
    const float *result = y.at<const float>(bases);
    float *to = dx.at<float>(bases);
    const std::int64_t columns = y.lastDim();
    parallelFor(threads, y.rows(), grainFor(columns),
                [&](std::int64_t first, std::int64_t last) {
                  for (std::int64_t r = first; r < last; ++r)
                    loops->softmaxBackwardRow(gradient + r * columns,
                                              result + r * columns,
                                              to + r * columns, columns);
                });
  }

private:
  Tensor dy, y, dx;
  const Loops *loops;
  unsigned threads;
};

/// What cross entropy and its gradient know about labels.
struct Labels {
  Tensor tensor;
  std::optional<Tensor> weights; // of each label; absent: 1
  std::int64_t classes = 0; // of all parts
  std::optional<std::int64_t> ignored;
  std::string where;

  /// `operand`: the position of the labels' weights, when there are so many
  /// inputs before `end`.
  Labels(const OpContext &context, const Tensor &tensor, std::int64_t classes,
         std::size_t operand, std::size_t end)
      : tensor(tensor), classes(classes),
        ignored(context.optionalInteger("ignore_index")), where(context.where) {
    if (end <= operand)
      return;
    weights = context.inputs[operand];
    context.requirePlain(*weights, tensor.dims, "token_weights");
  }

  /// Of a label that counts.
  float weight(std::byte *const *bases, std::int64_t i) const {
    return weights ? weights->at<const float>(bases)[i] : 1.0f;
  }

  bool counts(std::int64_t label) const {
    return !ignored || label != *ignored;
  }

  /// Before anything is written, so that threads need not throw.
  void check(std::byte *const *bases) const {
    const std::int64_t *label = tensor.at<const std::int64_t>(bases);
    for (std::int64_t i = 0, count = tensor.elements(); i < count; ++i)
      if (counts(label[i]) && (label[i] < 0 || label[i] >= classes))
        throw Error(where, ": expected labels in [0, ", classes, "), got ",
                    label[i], " at position ", i);
  }
};

class CrossEntropyKernel : public Kernel {
public:
  explicit CrossEntropyKernel(const OpContext &context)
      : logits(context.inputs[0]),
        labels(context, context.inputs[1], logits.lastDim(), 2,
               context.inputs.size()),
        out(context.outputs), loops(context.loops), threads(context.threads),
        accumulate(context.accumulate) {}

  void run(std::byte *const *bases) const override {
    labels.check(bases);
    const float *x = logits.at<const float>(bases);
    const std::int64_t *label = labels.tensor.at<const std::int64_t>(bases);
    float *lse = out[2].at<float>(bases);
    const std::int64_t rows = logits.rows(), columns = logits.lastDim();
    parallelFor(threads, rows, grainFor(columns),
                [&](std::int64_t first, std::int64_t last) {
                  for (std::int64_t r = first; r < last; ++r)
                    lse[r] = loops->logSumExpRow(x + r * columns, columns);
                });
    double loss = 0, weights = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      if (!labels.counts(label[r]))
        continue;
      double weight = labels.weight(bases, r);
      loss += weight * (lse[r] - x[r * columns + label[r]]);
      weights += weight;
    }
    float *lossOut = out[0].at<float>(bases);
    float *weightsOut = out[1].at<float>(bases);
    *lossOut = static_cast<float>((accumulate ? *lossOut : 0.0) + loss);
    *weightsOut =
        static_cast<float>((accumulate ? *weightsOut : 0.0) + weights);
  }

private:
  Tensor logits;
  Labels labels;
  std::vector<Tensor> out;
  const Loops *loops;
  unsigned threads;
  bool accumulate;
};

class CrossEntropyBackwardKernel : public Kernel {
public:
  explicit CrossEntropyBackwardKernel(const OpContext &context)
      : logits(context.inputs[0]), shard(context, lastOperand(context)),
        labels(context, context.inputs[1], logits.lastDim() * shard.parts(), 3,
               lastOperand(context)),
        lse(context.inputs[2]), dlogits(context.outputs[0]),
        loops(context.loops), threads(context.threads) {}

  void run(std::byte *const *bases) const override {
    labels.check(bases);
    const float *x = logits.at<const float>(bases);
    const std::int64_t *label = labels.tensor.at<const std::int64_t>(bases);
    const float *shift = lse.at<const float>(bases);
    float *to = dlogits.at<float>(bases);
    const std::int64_t columns = logits.lastDim();
    const std::int64_t begin = shard.read(bases) * columns;
    parallelFor(threads, logits.rows(), grainFor(columns),
                [&](std::int64_t first, std::int64_t last) {
                  for (std::int64_t r = first; r < last; ++r) {
                    float *row = to + r * columns;
                    if (!labels.counts(label[r])) {
                      std::fill_n(row, columns, 0.0f);
                      continue;
                    }
                    loops->expShiftRow(x + r * columns, row, columns, shift[r]);
                    std::int64_t own = label[r] - begin;
                    if (own >= 0 && own < columns)
                      row[own] -= 1.0f;
                    if (labels.weights) {
                      float weight = labels.weight(bases, r);
                      for (std::int64_t c = 0; c < columns; ++c)
                        row[c] *= weight;
                    }
                  }
                });
  }

private:
  /// The position of `index`, or the number of inputs.
  static std::size_t lastOperand(const OpContext &context) {
    return context.inputs.size() -
           (context.optionalInteger("count").has_value() ? 1 : 0);
  }

  Tensor logits;
  ShardIndex shard;
  Labels labels;
  Tensor lse, dlogits;
  const Loops *loops;
  unsigned threads;
};

/// What one part of the vocabulary gives to the loss of each row.
class CrossEntropyShardKernel : public Kernel {
public:
  explicit CrossEntropyShardKernel(const OpContext &context)
      : logits(context.inputs[0]), shard(context, 2),
        labels(context, context.inputs[1], logits.lastDim() * shard.parts(), 2,
               2),
        lse(context.outputs[0]), picked(context.outputs[1]),
        loops(context.loops), threads(context.threads) {}

  void run(std::byte *const *bases) const override {
    labels.check(bases);
    const float *x = logits.at<const float>(bases);
    const std::int64_t *label = labels.tensor.at<const std::int64_t>(bases);
    float *sum = lse.at<float>(bases), *own = picked.at<float>(bases);
    const std::int64_t columns = logits.lastDim();
    const std::int64_t begin = shard.read(bases) * columns;
    parallelFor(threads, logits.rows(), grainFor(columns),
                [&](std::int64_t first, std::int64_t last) {
                  for (std::int64_t r = first; r < last; ++r) {
                    const float *row = x + r * columns;
                    sum[r] = loops->logSumExpRow(row, columns);
                    std::int64_t at = label[r] - begin;
                    bool here =
                        labels.counts(label[r]) && at >= 0 && at < columns;
                    own[r] = here ? row[at] : 0.0f;
                  }
                });
  }

private:
  Tensor logits;
  ShardIndex shard;
  Labels labels;
  Tensor lse, picked;
  const Loops *loops;
  unsigned threads;
};

/// The loss from what all parts of the vocabulary gave.
class CrossEntropyMergeKernel : public Kernel {
public:
  explicit CrossEntropyMergeKernel(const OpContext &context)
      : parts(context.inputs[0]), picked(context.inputs[1]),
        // Which labels exist the parts have checked.
        labels(context, context.inputs[2], 0, 3, context.inputs.size()),
        out(context.outputs),
        accumulate(context.accumulate) {}

  void run(std::byte *const *bases) const override {
    const float *part = parts.at<const float>(bases);
    const float *own = picked.at<const float>(bases);
    const std::int64_t *label = labels.tensor.at<const std::int64_t>(bases);
    float *lse = out[2].at<float>(bases);
    const std::int64_t count = parts.dims[0], rows = picked.elements();
    double loss = 0, weights = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      float largest = part[r];
      for (std::int64_t k = 1; k < count; ++k)
        largest = std::max(largest, part[k * rows + r]);
      double sum = 0;
      for (std::int64_t k = 0; k < count; ++k)
        sum += std::exp(static_cast<double>(part[k * rows + r]) - largest);
      // A row of -inf, or one with a NaN or inf, stays what it is.
      lse[r] = std::isfinite(largest)
                   ? static_cast<float>(largest + std::log(sum))
                   : largest;
      if (!labels.counts(label[r]))
        continue;
      double weight = labels.weight(bases, r);
      loss += weight * (lse[r] - own[r]);
      weights += weight;
    }
    float *lossOut = out[0].at<float>(bases);
    float *weightsOut = out[1].at<float>(bases);
    *lossOut = static_cast<float>((accumulate ? *lossOut : 0.0) + loss);
    *weightsOut =
        static_cast<float>((accumulate ? *weightsOut : 0.0) + weights);
  }

private:
  Tensor parts, picked;
  Labels labels;
  std::vector<Tensor> out;
  bool accumulate;
};

std::unique_ptr<Kernel> makeSoftmax(OpContext &context) {
  context.requireInputs(1, 1);
  context.requireOutputs(1, 1);
  const Tensor &x = context.inputs[0];
  context.require(x.rank() >= 1, "expected x with a last axis");
  context.requirePlain(x, x.dims, "x");
  context.requirePlain(context.outputs[0], x.dims, "y");
  return std::make_unique<SoftmaxKernel>(context);
}

std::unique_ptr<Kernel> makeSoftmaxBackward(OpContext &context) {
  context.requireInputs(2, 2);
  context.requireOutputs(1, 1);
  const Tensor &y = context.inputs[1];
  context.require(y.rank() >= 1, "expected y with a last axis");
  context.requirePlain(context.inputs[0], y.dims, "dy");
  context.requirePlain(y, y.dims, "y");
  context.requirePlain(context.outputs[0], y.dims, "dx");
  return std::make_unique<SoftmaxBackwardKernel>(context);
}

/// Returns the dims of labels and lse.
std::vector<std::int64_t> checkLogits(const OpContext &context) {
  const Tensor &logits = context.inputs[0];
  context.require(logits.rank() >= 1 && logits.lastDim() > 0,
                  "expected logits with a last axis, got ", describe(logits));
  context.requirePlain(logits, logits.dims, "logits");
  std::vector<std::int64_t> rows(logits.dims.begin(), logits.dims.end() - 1);
  context.requireType(context.inputs[1], plan::v1::DTYPE_I64, "labels");
  context.requireDims(context.inputs[1], rows, "labels");
  return rows;
}

/// Loss, weights and lse.
void checkEntropyOutputs(const OpContext &context,
                         const std::vector<std::int64_t> &rows) {
  context.requireOutputs(3, 3);
  for (int i : {0, 1}) {
    context.requireType(context.outputs[i], plan::v1::DTYPE_F32,
                        "loss and weights");
    context.require(context.outputs[i].elements() == 1,
                    "expected loss and weights of 1 element, got ",
                    describe(context.outputs[i]));
  }
  context.requirePlain(context.outputs[2], rows, "lse");
}

std::unique_ptr<Kernel> makeCrossEntropy(OpContext &context) {
  context.requireInputs(2, 3);
  checkEntropyOutputs(context, checkLogits(context));
  return std::make_unique<CrossEntropyKernel>(context);
}

std::unique_ptr<Kernel> makeCrossEntropyShard(OpContext &context) {
  context.requireInputs(3, 3);
  context.requireOutputs(2, 2);
  std::vector<std::int64_t> rows = checkLogits(context);
  context.requirePlain(context.outputs[0], rows, "lse");
  context.requirePlain(context.outputs[1], rows, "picked");
  return std::make_unique<CrossEntropyShardKernel>(context);
}

std::unique_ptr<Kernel> makeCrossEntropyMerge(OpContext &context) {
  context.requireInputs(3, 4);
  const Tensor &parts = context.inputs[0];
  context.require(parts.rank() >= 1 && parts.dims[0] > 0,
                  "expected parts with a first axis, got ", describe(parts));
  std::vector<std::int64_t> rows(parts.dims.begin() + 1, parts.dims.end());
  context.requirePlain(parts, parts.dims, "parts");
  context.requirePlain(context.inputs[1], rows, "picked");
  context.requireType(context.inputs[2], plan::v1::DTYPE_I64, "labels");
  context.requireDims(context.inputs[2], rows, "labels");
  checkEntropyOutputs(context, rows);
  return std::make_unique<CrossEntropyMergeKernel>(context);
}

std::unique_ptr<Kernel> makeCrossEntropyBackward(OpContext &context) {
  context.requireInputs(3, 5);
  context.requireOutputs(1, 1);
  std::vector<std::int64_t> rows = checkLogits(context);
  context.requirePlain(context.inputs[2], rows, "lse");
  context.requirePlain(context.outputs[0], context.inputs[0].dims, "dlogits");
  return std::make_unique<CrossEntropyBackwardKernel>(context);
}

} // namespace

void cpu::addSoftmaxKernels(KernelTable &table) {
  table.add(plan::v1::OPCODE_SOFTMAX, {makeSoftmax});
  table.add(plan::v1::OPCODE_SOFTMAX_BACKWARD, {makeSoftmaxBackward});
  table.add(plan::v1::OPCODE_CROSS_ENTROPY,
            {makeCrossEntropy, Layout::RowMajor, Layout::RowMajor,
             KernelEntry::Itself});
  table.add(plan::v1::OPCODE_CROSS_ENTROPY_BACKWARD,
            {makeCrossEntropyBackward});
  table.add(plan::v1::OPCODE_CROSS_ENTROPY_SHARD, {makeCrossEntropyShard});
  table.add(plan::v1::OPCODE_CROSS_ENTROPY_MERGE,
            {makeCrossEntropyMerge, Layout::RowMajor, Layout::RowMajor,
             KernelEntry::Itself});
}
