//===- Dropout.cpp - masks that any layout draws alike --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "NdLoop.h"
#include "Philox.h"

#include <algorithm>
#include <cmath>
#include <cstring>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;

namespace {

/// A sample's elements lie here in `pieces` pieces of `length` elements, each
/// contiguous in the whole sample, too: piece p is the `p * count + index`-th
/// there.
class DropoutKernel : public Kernel {
public:
  explicit DropoutKernel(const OpContext &context)
      : in(context.inputs), out(context.outputs[0]), threads(context.threads),
        site(context.integer("site")), shared(context.flag("shared")) {
    double ratio = context.real("ratio");
    threshold = static_cast<std::uint64_t>(std::llround(std::ldexp(ratio, 32)));
    scale = static_cast<float>(1 / (1 - ratio));
    samples = in[0].dims[0];
    length = samples == 0 ? 0 : in[0].elements() / samples;
    if (in.size() < 3 || length == 0)
      return;
    std::vector<std::int64_t> part = context.integers("part");
    pieces = part[1];
    for (std::int64_t d = 1; d < part[0]; ++d)
      pieces *= in[0].dims[static_cast<std::size_t>(d)];
    length /= pieces;
    count = part[2];
  }

  void run(std::byte *const *bases) const override {
    const float *x = in[0].at<const float>(bases);
    float *y = out.at<float>(bases);
    const std::int64_t *stamp = in[1].at<const std::int64_t>(bases);
    if (stamp[1] < 0) { // evaluation
      if (x != y)
        std::memcpy(y, x, static_cast<std::size_t>(in[0].elements()) * 4);
      return;
    }
    std::int64_t index =
        in.size() == 3 ? *in[2].at<const std::int64_t>(bases) : std::int64_t{0};
    parallelFor(threads, samples * pieces, 1,
                [&](std::int64_t first, std::int64_t last) {
                  for (std::int64_t p = first; p < last; ++p)
                    drop(x + p * length, y + p * length, stamp, p / pieces,
                         (p % pieces * count + index) * length);
                });
  }

private:
  /// `begin`: number of the first element in its sample.
  void drop(const float *x, float *y, const std::int64_t *stamp,
            std::int64_t sample, std::int64_t begin) const {
    auto word = [](std::int64_t value) {
      return static_cast<std::uint32_t>(value);
    };
    std::array<std::uint32_t, 4> counter{
        0, shared ? ~std::uint32_t{0} : word(stamp[2] + sample), word(stamp[1]),
        word(stamp[3]) * 256u + word(site)};
    std::array<std::uint32_t, 2> key{word(stamp[0]), word(stamp[0] >> 32)};
    for (std::int64_t i = 0; i < length;) {
      std::int64_t element = begin + i;
      counter[0] = word(element / 4);
      std::array<std::uint32_t, 4> words = philox4x32(counter, key);
      std::int64_t stop = std::min(length, i + 4 - element % 4);
      for (std::int64_t at = element % 4; i < stop; ++i, ++at)
        y[i] = words[static_cast<std::size_t>(at)] >= threshold ? x[i] * scale
                                                                : 0.0f;
    }
  }

  std::vector<Tensor> in;
  Tensor out;
  unsigned threads;
  std::int64_t site;
  bool shared;
  std::uint64_t threshold;
  float scale;
  std::int64_t samples, length, pieces = 1, count = 1;
};

std::unique_ptr<Kernel> makeDropout(OpContext &context) {
  context.requireInputs(2, 3);
  context.requireOutputs(1, 1);
  context.requirePlain(context.inputs[0], context.inputs[0].dims, "x");
  context.requirePlain(context.outputs[0], context.inputs[0].dims, "y");
  context.require(context.inputs[0].rank() > 0, "expected samples");
  context.requireType(context.inputs[1], plan::v1::DTYPE_I64, "stamp");
  context.require(context.inputs[1].elements() == 4,
                  "expected a stamp of 4 numbers");
  double ratio = context.real("ratio");
  context.require(ratio >= 0 && ratio < 1, "expected a ratio in [0, 1)");
  if (context.inputs.size() == 3) {
    context.requireType(context.inputs[2], plan::v1::DTYPE_I64, "index");
    context.require(context.inputs[2].elements() == 1,
                    "expected an index of 1 element");
    std::vector<std::int64_t> part = context.integers("part");
    const std::vector<std::int64_t> &dims = context.inputs[0].dims;
    context.require(part.size() == 3 && part[0] > 0 &&
                        part[0] < static_cast<std::int64_t>(dims.size()) &&
                        part[1] > 0 && part[2] > 0 &&
                        dims[static_cast<std::size_t>(part[0])] % part[1] == 0,
                    "expected a part [dimension, outer, count] of the input");
  }
  return std::make_unique<DropoutKernel>(context);
}

} // namespace

void cpu::addDropoutKernel(KernelTable &table) {
  table.add(plan::v1::OPCODE_DROPOUT, {makeDropout});
}
