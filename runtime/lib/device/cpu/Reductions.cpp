//===- Reductions.cpp - sums, means and maxima over axes ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "NdLoop.h"

#include <limits>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;

namespace {

enum class Kind { Sum, Mean, Max };

/// The input as a nest of kept and reduced dimensions. Where the reduced ones
/// hold the contiguous dimension, each output is a sum of rows; where a kept
/// one does, a row of outputs is a sum of rows; otherwise elements are taken
/// one by one.
template <Kind K> class ReduceKernel : public Kernel {
public:
  ReduceKernel(const OpContext &context, const std::vector<bool> &reduced)
      : x(context.inputs[0]), y(context.outputs[0]), loops(context.loops),
        threads(context.threads), kept(select(reduced, false)),
        dropped(select(reduced, true)) {
    for (std::size_t i = 0; i < reduced.size(); ++i)
      if (reduced[i])
        count *= x.dims[i];
  }

  void run(std::byte *const *bases) const override {
    const float *from = x.at<const float>(bases);
    float *to = y.at<float>(bases);
    const std::int64_t outputs = y.elements();
    if (!outputs)
      return;
    // Whole rows of outputs at once: kept's innermost dimension.
    if (kept.innerStride(0) == 1 && dropped.innerStride(0) != 1 &&
        kept.rowLength() > 1)
      sumColumns(from, to);
    else
      sumRows(from, to);
    if (K == Kind::Mean)
      for (std::int64_t i = 0; i < outputs; ++i)
        to[i] /= static_cast<float>(count);
  }

private:
  static constexpr float kStart =
      K == Kind::Max ? -std::numeric_limits<float>::infinity() : 0.0f;

  NdLoop select(const std::vector<bool> &reduced, bool wanted) const {
    std::vector<std::int64_t> dims, strides;
    for (std::size_t i = 0; i < reduced.size(); ++i) {
      if (reduced[i] == wanted) {
        dims.push_back(x.dims[i]);
        strides.push_back(x.strides[i]);
      }
    }
    return NdLoop(dims, {strides});
  }

  void sumColumns(const float *from, float *to) const {
    const std::int64_t columns = kept.rowLength();
    std::fill_n(to, y.elements(), kStart);
    std::int64_t row = 0;
    kept.forRows(0, kept.rows(), [&](const std::int64_t *start) {
      float *out = to + row++ * columns;
      const float *in = from + start[0];
      parallelFor(
          threads, columns, 512, [&](std::int64_t first, std::int64_t last) {
            dropped.forRows(0, dropped.rows(), [&](const std::int64_t *offset) {
              auto *function = K == Kind::Max ? loops->maxRows : loops->addRows;
              function(in + offset[0] + first, dropped.rowLength(),
                       last - first, dropped.innerStride(0), out + first);
            });
          });
    });
  }

  void sumRows(const float *from, float *to) const {
    const std::int64_t columns = kept.rowLength();
    parallelFor(threads, kept.rows(),
                std::max<std::int64_t>(
                    1, 16384 / std::max<std::int64_t>(1, columns * count)),
                [&](std::int64_t first, std::int64_t last) {
                  std::int64_t row = first;
                  kept.forRows(first, last, [&](const std::int64_t *start) {
                    for (std::int64_t c = 0; c < columns; ++c)
                      to[row * columns + c] =
                          reduceOne(from + start[0] + c * kept.innerStride(0));
                    ++row;
                  });
                });
  }

  float reduceOne(const float *from) const {
    // Partial sums of rows are added in double: it costs nothing here.
    double sum = 0;
    float largest = kStart;
    const std::int64_t length = dropped.rowLength();
    const std::int64_t stride = dropped.innerStride(0);
    dropped.forRows(0, dropped.rows(), [&](const std::int64_t *offset) {
      const float *row = from + offset[0];
      if (K == Kind::Max) {
        if (stride == 1)
          take(largest, loops->maxRow(row, length));
        else
          for (std::int64_t i = 0; i < length; ++i)
            take(largest, row[i * stride]);
      } else if (stride == 1) {
        sum += loops->sumRow(row, length);
      } else {
        for (std::int64_t i = 0; i < length; ++i)
          sum += row[i * stride];
      }
    });
    return K == Kind::Max ? largest : static_cast<float>(sum);
  }

  /// A NaN wins and stays.
  static void take(float &largest, float value) {
    if (value > largest || value != value)
      largest = largest != largest ? largest : value;
  }

  Tensor x, y;
  const Loops *loops;
  unsigned threads;
  NdLoop kept, dropped;
  std::int64_t count = 1; ///< of reduced elements per output
};

template <Kind K> std::unique_ptr<Kernel> makeReduce(OpContext &context) {
  context.requireInputs(1, 1);
  context.requireOutputs(1, 1);
  const Tensor &x = context.inputs[0];
  context.requireType(x, plan::v1::DTYPE_F32, "x");
  std::vector<bool> reduced(x.rank(), false);
  for (std::int64_t axis : context.integers("axes")) {
    context.require(axis >= 0 && axis < static_cast<std::int64_t>(x.rank()) &&
                        !reduced[axis],
                    "expected distinct axes below ", x.rank(), ", got ", axis);
    reduced[axis] = true;
  }
  bool keep = context.flag("keep_dims");
  std::vector<std::int64_t> dims;
  for (std::size_t i = 0; i < x.rank(); ++i) {
    if (!reduced[i])
      dims.push_back(x.dims[i]);
    else if (keep)
      dims.push_back(1);
  }
  context.requirePlain(context.outputs[0], dims, "y");
  return std::make_unique<ReduceKernel<K>>(context, reduced);
}

} // namespace

void cpu::addReductionKernels(KernelTable &table) {
  auto add = [&](Opcode opcode, Factory factory) {
    table.add(opcode, {factory, Layout::Any, Layout::RowMajor,
                       KernelEntry::ThroughScratch});
  };
  add(plan::v1::OPCODE_REDUCE_SUM, makeReduce<Kind::Sum>);
  add(plan::v1::OPCODE_REDUCE_MEAN, makeReduce<Kind::Mean>);
  add(plan::v1::OPCODE_REDUCE_MAX, makeReduce<Kind::Max>);
}
