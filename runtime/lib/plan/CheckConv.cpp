//===- CheckConv.cpp - ops on windows against docs/PlanFormat.md ----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpCheck.h"

namespace tombolo::runtime::detail {

namespace {

// Far above any model, so that sizes do not overflow.
constexpr std::int64_t kMostWindow = std::int64_t{1} << 20;

void plain(OpCheck &c) {
  for (int i = 0; i < c.ins(); ++i)
    c.type("input", c.in(i), {DTYPE_F32});
  for (int i = 0; i < c.outs(); ++i)
    c.type("output", c.out(i), {DTYPE_F32});
}

/// Attributes of a window, and that it leads from `from` to `to`.
void window(OpCheck &c, const std::vector<std::int64_t> &kernel,
            const Dims &from, const Dims &to, bool isPool, bool isMean) {
  std::size_t space = kernel.size();
  std::vector<std::int64_t> strides = c.integers("strides"),
                            dilations = c.integers("dilations"),
                            low = c.integers("low"), high = c.integers("high");
  if (space < 1 || space > 3 || from.size() != space + 2 ||
      to.size() != space + 2)
    c.fail("expected one to three dimensions of space, got shapes ", text(from),
           " and ", text(to));
  for (const auto *list : {&strides, &dilations, &low, &high})
    if (list->size() != space)
      c.fail("expected ", space, " numbers in each attribute of the window");
  if (from[0] != to[0])
    c.fail("expected as many samples in ", text(from), " as in ", text(to));
  for (std::size_t i = 0; i < space; ++i) {
    if (kernel[i] < 1 || strides[i] < 1 || dilations[i] < 1 || low[i] < 0 ||
        high[i] < 0 ||
        std::max({kernel[i], strides[i], dilations[i], low[i], high[i]}) >
            kMostWindow ||
        from[i + 2] > static_cast<std::uint64_t>(1) << 40)
      c.fail("unusable window along dimension ", i, " of space");
    std::int64_t reach = (kernel[i] - 1) * dilations[i] + 1;
    std::int64_t room =
        static_cast<std::int64_t>(from[i + 2]) + low[i] + high[i] - reach;
    if (room < 0 ||
        to[i + 2] != static_cast<std::uint64_t>(room / strides[i] + 1))
      c.fail("a window of ", reach, " with stride ", strides[i],
             " does not lead from ", text(from), " to ", text(to));
    if (isPool && (low[i] >= reach || high[i] >= reach))
      c.fail("a window lies in the padding alone");
    if (isMean && dilations[i] != 1)
      c.fail("a mean has no dilations");
  }
}

void conv(OpCheck &c, const Value &input, const Value &weight,
          const Value &output) {
  c.arity(2, 1);
  plain(c);
  Dims from = c.dims(input), w = c.dims(weight), to = c.dims(output);
  c.rank("weight", weight, 3);
  std::vector<std::int64_t> kernel;
  for (std::size_t i = 2; i < w.size(); ++i)
    kernel.push_back(static_cast<std::int64_t>(
        std::min<std::uint64_t>(w[i], kMostWindow + 1)));
  window(c, kernel, from, to, false, false);
  std::int64_t given = c.integer("groups");
  auto groups = static_cast<std::uint64_t>(given);
  if (given < 1 || from[1] % groups != 0 || w[0] % groups != 0 ||
      w[0] != to[1] || w[1] != from[1] / groups)
    c.fail("a weight ", text(w), " in ", given, " groups does not lead from ",
           text(from), " to ", text(to));
}

void pool(OpCheck &c, const Value &input, const Value &output) {
  plain(c);
  bool average = c.flag("average");
  c.flag("count_padding");
  Dims from = c.dims(input), to = c.dims(output);
  window(c, c.integers("kernel"), from, to, true, average);
  if (from[1] != to[1])
    c.fail("expected as many channels in ", text(from), " as in ", text(to));
}

void batchNorm(OpCheck &c, const Value &input, int vectorsIn) {
  plain(c);
  c.rank("input", input, 2);
  Dims shape = c.dims(input), channels = {shape[1]};
  for (int i = c.ins() - vectorsIn; i < c.ins(); ++i)
    c.shape("one number for each channel", c.in(i), channels);
  c.shape("output", c.out(0), shape);
  c.shape("one number for each channel", c.out(1), channels);
  c.shape("one number for each channel", c.out(2), channels);
  if (c.number("epsilon") < 0)
    c.fail("attribute 'epsilon': expected a number not below 0");
}

} // namespace

void checkConv(OpCheck &c) {
  c.arity(2, 1);
  conv(c, c.in(0), c.in(1), c.out(0));
}
void checkConvBackwardInput(OpCheck &c) {
  c.arity(2, 1);
  conv(c, c.out(0), c.in(1), c.in(0));
}
void checkConvBackwardWeight(OpCheck &c) {
  c.arity(2, 1);
  conv(c, c.in(1), c.out(0), c.in(0));
}
void checkPool(OpCheck &c) {
  c.arity(1, 1);
  pool(c, c.in(0), c.out(0));
}
void checkPoolBackward(OpCheck &c) {
  c.arity(2, 1);
  pool(c, c.out(0), c.in(0));
  c.shape("x", c.in(1), c.dims(c.out(0)));
}
void checkBatchNorm(OpCheck &c) {
  c.arity(3, 3);
  batchNorm(c, c.in(0), 2);
}
void checkBatchNormBackward(OpCheck &c) {
  c.arity(5, 3);
  batchNorm(c, c.in(1), 3);
  c.shape("dy", c.in(0), c.dims(c.in(1)));
}
void checkLogSoftmax(OpCheck &c) {
  c.arity(1, 1);
  plain(c);
  c.rank("input", c.in(0), 1);
  c.shape("output", c.out(0), c.dims(c.in(0)));
}

} // namespace tombolo::runtime::detail
