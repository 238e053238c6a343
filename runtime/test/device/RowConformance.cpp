//===- RowConformance.cpp - reductions, norms, softmax, cross entropy -----===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpCase.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

constexpr double kNotANumber = std::numeric_limits<double>::quiet_NaN();

/// Rows of a value: all but the last dimension.
Dims leading(const Dims &dims) { return {dims.begin(), dims.end() - 1}; }

Host reduce(const Host &x, const Dims &axes, bool keep, Opcode opcode) {
  Dims kept, dims;
  double count = 1;
  for (std::size_t d = 0; d < x.dims.size(); ++d) {
    bool reduced = std::count(axes.begin(), axes.end(), d);
    kept.push_back(reduced ? 1 : x.dims[d]);
    if (!reduced || keep)
      dims.push_back(kept.back());
    if (reduced)
      count *= x.dims[d];
  }
  Host y = filled(DTYPE_F32, kept, opcode == OPCODE_REDUCE_MAX ? -kInf : 0);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    std::int64_t rest = i, offset = 0, stride = 1;
    for (std::size_t d = x.dims.size(); d-- > 0;) {
      std::int64_t index = rest % x.dims[d];
      rest /= x.dims[d];
      if (kept[d] != 1)
        offset += index * stride;
      stride *= kept[d];
    }
    if (opcode == OPCODE_REDUCE_MAX)
      y[offset] = std::max(y[offset], x[i]);
    else
      y[offset] += x[i];
  }
  if (opcode == OPCODE_REDUCE_MEAN)
    for (double &value : y.data)
      value /= count;
  y.dims = dims;
  return y;
}

// Any set of axes, plain and through views, overwritten and accumulated.
TEST_P(DeviceConformance, Reductions) {
  struct Form {
    Dims dims, axes;
  };
  const Form forms[] = {
      {{37}, {0}},          {{5, 37}, {1}},         {{37, 5}, {0}},
      {{300, 100}, {0}},    {{3, 4, 5, 6}, {0, 2}}, {{3, 4, 5, 6}, {1, 3}},
      {{3, 4, 50}, {0, 1}}, {{3, 4, 5}, {0, 1, 2}}, {{3, 4, 5}, {}},
      {{2, 20000}, {1}},    {{4, 1, 3}, {1}},
  };
  for (Opcode opcode :
       {OPCODE_REDUCE_SUM, OPCODE_REDUCE_MEAN, OPCODE_REDUCE_MAX}) {
    for (const Form &form : forms) {
      for (bool keep : {false, true}) {
        SCOPED_TRACE(std::to_string(&form - forms));
        Host x = random(form.dims, 1);
        Host want = reduce(x, form.axes, keep, opcode);
        std::vector<std::size_t> reversed;
        for (std::size_t i = form.dims.size(); i-- > 0;)
          reversed.push_back(i);
        for (const Placement &placement :
             {Placement{}, Placement{.pad = 3},
              Placement{.order = reversed, .lead = 1}}) {
          auto make = [&] {
            OpCase op(opcode);
            op.input(x, placement)
                .integers("axes", form.axes)
                .flag("keep_dims", keep);
            return op;
          };
          expectClose(make().output(DTYPE_F32, want.dims).run(device())[0],
                      want, 1e-6, true);
          Host before = random(want.dims, 2);
          expectClose(make().output(before).accumulate().run(device())[0],
                      plus(want, before), 1e-6, true);
        }
      }
    }
  }
}

// Sums of many like terms keep their digits.
TEST_P(DeviceConformance, LongSumsStayAccurate) {
  Host x = filled(DTYPE_F32, {100000, 3}, 0.1f);
  Host want = filled(DTYPE_F32, {3}, 0.1f * 100000.0);
  want.data.assign(3, static_cast<double>(0.1f) * 100000);
  expectClose(OpCase(OPCODE_REDUCE_SUM)
                  .input(x)
                  .integers("axes", {0})
                  .output(DTYPE_F32, {3})
                  .run(device())[0],
              want, 1e-5);
}

TEST_P(DeviceConformance, MaximumKeepsNan) {
  Host x = random({4, 40}, 1);
  x[1 * 40 + 3] = NAN;
  x[2 * 40 + 39] = NAN;
  for (std::int64_t axis : {0, 1}) {
    Host got = OpCase(OPCODE_REDUCE_MAX)
                   .input(x)
                   .integers("axes", {axis})
                   .output(DTYPE_F32, {axis ? 4 : 40})
                   .run(device())[0];
    for (std::int64_t i = 0; i < got.size(); ++i) {
      bool bad = axis ? i == 1 || i == 2 : i == 3 || i == 39;
      EXPECT_EQ(std::isnan(got[i]), bad) << i;
    }
  }
}

const Dims kRowShapes[] = {{3, 7},      {2, 5, 16}, {5, 33},
                           {4, 2, 256}, {3, 1000},  {17}};

TEST_P(DeviceConformance, SoftmaxAndItsGradient) {
  for (const Dims &dims : kRowShapes) {
    Host x = random(dims, 1, 5.0), dy = random(dims, 2);
    std::int64_t columns = dims.back();
    x[0] = 200; // without the shift by the maximum exp overflows
    Host y = x, dx = dy;
    for (std::int64_t r = 0; r < x.size() / columns; ++r) {
      double largest = -kInf, sum = 0, dot = 0;
      for (std::int64_t c = 0; c < columns; ++c)
        largest = std::max(largest, x[r * columns + c]);
      for (std::int64_t c = 0; c < columns; ++c)
        sum += y[r * columns + c] = std::exp(x[r * columns + c] - largest);
      for (std::int64_t c = 0; c < columns; ++c) {
        y[r * columns + c] = static_cast<float>(y[r * columns + c] / sum);
        dot += y[r * columns + c] * dy[r * columns + c];
      }
      for (std::int64_t c = 0; c < columns; ++c)
        dx[r * columns + c] = y[r * columns + c] * (dy[r * columns + c] - dot);
    }
    expectClose(OpCase(OPCODE_SOFTMAX)
                    .input(x)
                    .output(DTYPE_F32, dims)
                    .run(device())[0],
                y, 1e-6, true);
    expectClose(OpCase(OPCODE_SOFTMAX_BACKWARD)
                    .input(dy)
                    .input(y)
                    .output(DTYPE_F32, dims)
                    .run(device())[0],
                dx, 2e-6, true);
  }
}

// A NaN makes its row NaN and no other; -inf is a zero.
TEST_P(DeviceConformance, SoftmaxSpecialValues) {
  Host x = random({3, 35}, 1);
  x[5] = NAN;
  x[35 + 34] = -kInf;
  Host y = OpCase(OPCODE_SOFTMAX)
               .input(x)
               .output(DTYPE_F32, x.dims)
               .run(device())[0];
  for (int c = 0; c < 35; ++c) {
    EXPECT_TRUE(std::isnan(y[c]));
    EXPECT_FALSE(std::isnan(y[35 + c]));
    EXPECT_FALSE(std::isnan(y[70 + c]));
  }
  EXPECT_EQ(y[35 + 34], 0);
}

struct NormReference {
  Host y, mean, rstd, dx, dgamma, dbeta;

  NormReference(const Host &x, const Host &gamma, const Host &beta,
                const Host &dy, double epsilon)
      : y(x), mean(filled(DTYPE_F32, leading(x.dims), 0)), rstd(mean), dx(x),
        dgamma(filled(DTYPE_F32, {x.dims.back()}, 0)), dbeta(dgamma) {
    std::int64_t columns = x.dims.back();
    for (std::int64_t r = 0; r < mean.size(); ++r) {
      const double *row = x.data.data() + r * columns;
      const double *g = dy.data.data() + r * columns;
      double sum = 0, squares = 0, sumG = 0, sumGH = 0;
      for (std::int64_t c = 0; c < columns; ++c)
        sum += row[c];
      mean[r] = sum / columns;
      for (std::int64_t c = 0; c < columns; ++c)
        squares += (row[c] - mean[r]) * (row[c] - mean[r]);
      rstd[r] = 1 / std::sqrt(squares / columns + epsilon);
      for (std::int64_t c = 0; c < columns; ++c) {
        double h = (row[c] - mean[r]) * rstd[r];
        y[r * columns + c] = h * gamma[c] + beta[c];
        sumG += g[c] * gamma[c];
        sumGH += g[c] * gamma[c] * h;
        dgamma[c] += g[c] * h;
        dbeta[c] += g[c];
      }
      for (std::int64_t c = 0; c < columns; ++c) {
        double h = (row[c] - mean[r]) * rstd[r];
        dx[r * columns + c] =
            rstd[r] * (g[c] * gamma[c] - sumG / columns - h * sumGH / columns);
      }
    }
  }
};

TEST_P(DeviceConformance, LayerNormAndItsGradients) {
  for (const Dims &dims : kRowShapes) {
    SCOPED_TRACE(dims.back());
    Host x = random(dims, 1, 2.0), dy = random(dims, 2);
    for (double &value : x.data)
      value = static_cast<float>(value + 3);
    Host gamma = random({dims.back()}, 3), beta = random({dims.back()}, 4);
    NormReference want(x, gamma, beta, dy, 1e-5);
    auto got = OpCase(OPCODE_LAYER_NORM)
                   .input(x)
                   .input(gamma)
                   .input(beta)
                   .output(DTYPE_F32, dims)
                   .output(DTYPE_F32, leading(dims))
                   .output(DTYPE_F32, leading(dims))
                   .real("epsilon", 1e-5)
                   .run(device());
    expectClose(got[0], want.y, 2e-6, true);
    expectClose(got[1], want.mean, 1e-6);
    expectClose(got[2], want.rstd, 1e-6);
    std::vector<std::size_t> swapped;
    for (std::size_t i = dims.size(); i-- > 0;)
      swapped.push_back(i);
    for (const Placement &placement :
         {Placement{}, Placement{.order = swapped, .pad = 1}}) {
      expectClose(OpCase(OPCODE_LAYER_NORM_BACKWARD_INPUT)
                      .input(dy, placement)
                      .input(x, placement)
                      .input(gamma)
                      .input(want.mean)
                      .input(want.rstd)
                      .output(DTYPE_F32, dims)
                      .run(device())[0],
                  want.dx, 3e-6, true);
      auto weight = OpCase(OPCODE_LAYER_NORM_BACKWARD_WEIGHT)
                        .input(dy, placement)
                        .input(x, placement)
                        .input(want.mean)
                        .input(want.rstd)
                        .output(DTYPE_F32, gamma.dims)
                        .output(DTYPE_F32, gamma.dims)
                        .run(device());
      expectClose(weight[0], want.dgamma, 2e-6, true);
      expectClose(weight[1], want.dbeta, 2e-6, true);
    }
    Host before = random(gamma.dims, 5), before2 = random(gamma.dims, 6);
    auto sum = OpCase(OPCODE_LAYER_NORM_BACKWARD_WEIGHT)
                   .input(dy)
                   .input(x)
                   .input(want.mean)
                   .input(want.rstd)
                   .output(before)
                   .output(before2)
                   .accumulate()
                   .run(device());
    expectClose(sum[0], plus(want.dgamma, before), 2e-6, true);
    expectClose(sum[1], plus(want.dbeta, before2), 2e-6, true);
  }
}

// A row of one element has no gradient but the offset's.
TEST_P(DeviceConformance, LayerNormOfOneElement) {
  Host x = of(DTYPE_F32, {2, 1}, {3, -4}), gamma = of(DTYPE_F32, {1}, {2});
  auto y = OpCase(OPCODE_LAYER_NORM)
               .input(x)
               .input(gamma)
               .input(gamma)
               .output(DTYPE_F32, {2, 1})
               .output(DTYPE_F32, {2})
               .output(DTYPE_F32, {2})
               .real("epsilon", 1e-5)
               .run(device());
  expectClose(y[0], filled(DTYPE_F32, {2, 1}, 2), 0);
  Host dx = OpCase(OPCODE_LAYER_NORM_BACKWARD_INPUT)
                .input(x)
                .input(x)
                .input(gamma)
                .input(y[1])
                .input(y[2])
                .output(DTYPE_F32, {2, 1})
                .run(device())[0];
  for (double value : dx.data)
    EXPECT_NEAR(value, 0, 1e-6);
}

// A constant row far from zero: the variance must not cancel to below zero.
TEST_P(DeviceConformance, LayerNormOfAConstantRow) {
  Host x = filled(DTYPE_F32, {2, 100}, 1000);
  Host one = filled(DTYPE_F32, {100}, 1), zero = filled(DTYPE_F32, {100}, 0);
  auto got = OpCase(OPCODE_LAYER_NORM)
                 .input(x)
                 .input(one)
                 .input(zero)
                 .output(DTYPE_F32, x.dims)
                 .output(DTYPE_F32, {2})
                 .output(DTYPE_F32, {2})
                 .real("epsilon", 1e-5)
                 .run(device());
  expectClose(got[0], filled(DTYPE_F32, x.dims, 0), 0);
  expectClose(got[2], filled(DTYPE_F32, {2}, 1 / std::sqrt(1e-5)), 1e-6);
}

struct EntropyReference {
  double loss = 0, weights = 0;
  Host lse, dlogits;

  EntropyReference(const Host &logits, const Host &labels, double ignored)
      : lse(filled(DTYPE_F32, leading(logits.dims), 0)), dlogits(logits) {
    std::int64_t columns = logits.dims.back();
    for (std::int64_t r = 0; r < lse.size(); ++r) {
      double largest = -kInf, sum = 0;
      for (std::int64_t c = 0; c < columns; ++c)
        largest = std::max(largest, logits[r * columns + c]);
      for (std::int64_t c = 0; c < columns; ++c)
        sum += std::exp(logits[r * columns + c] - largest);
      lse[r] = largest + std::log(sum);
      bool counts = labels[r] != ignored;
      if (counts) {
        loss += lse[r] - logits[r * columns + std::int64_t(labels[r])];
        weights += 1;
      }
      for (std::int64_t c = 0; c < columns; ++c)
        dlogits[r * columns + c] =
            counts
                ? std::exp(logits[r * columns + c] - lse[r]) - (c == labels[r])
                : 0;
    }
  }
};

TEST_P(DeviceConformance, CrossEntropyAndItsGradient) {
  for (const Dims &dims : {Dims{1, 2}, Dims{4, 7}, Dims{2, 9, 33}, Dims{3, 256},
                           Dims{2, 1000}, Dims{5}}) {
    Host logits = random(dims, 1, 4.0);
    Host labels = randomIntegers(DTYPE_I64, leading(dims), 2, 0, dims.back());
    for (bool ignoreAll : {false, true}) {
      if (ignoreAll)
        std::fill(labels.data.begin(), labels.data.end(), -100);
      else if (labels.size() > 1)
        labels[1] = -100;
      EntropyReference want(logits, labels, -100);
      auto got = OpCase(OPCODE_CROSS_ENTROPY)
                     .input(logits)
                     .input(labels)
                     .output(DTYPE_F32, {})
                     .output(DTYPE_F32, {1})
                     .output(DTYPE_F32, leading(dims))
                     .integer("ignore_index", -100)
                     .run(device());
      // The loss is the difference of numbers of the logits' size.
      double rounding = 1e-6 * (20 + want.loss);
      EXPECT_NEAR(got[0][0], want.loss, rounding);
      expectClose(got[1], of(DTYPE_F32, {1}, {want.weights}), 0);
      expectClose(got[2], want.lse, 1e-6);
      auto sum = OpCase(OPCODE_CROSS_ENTROPY)
                     .input(logits)
                     .input(labels)
                     .output(of(DTYPE_F32, {}, {2.5}))
                     .output(of(DTYPE_F32, {}, {10}))
                     .output(filled(DTYPE_F32, leading(dims), 99))
                     .accumulate()
                     .integer("ignore_index", -100)
                     .run(device());
      EXPECT_NEAR(sum[0][0], want.loss + 2.5, rounding);
      expectClose(sum[1], of(DTYPE_F32, {}, {want.weights + 10}), 0);
      expectClose(sum[2], want.lse, 1e-6); // never accumulated
      auto gradient = [&] {
        OpCase op(OPCODE_CROSS_ENTROPY_BACKWARD);
        op.input(logits).input(labels).input(want.lse).integer("ignore_index",
                                                               -100);
        return op;
      };
      for (const Host &dlogits :
           {gradient().output(DTYPE_F32, dims).run(device())[0],
            gradient().inPlace(0).run(device())[0]})
        for (std::int64_t i = 0; i < dlogits.size(); ++i)
          ASSERT_NEAR(dlogits[i], want.dlogits[i], 2e-6) << i;
    }
  }
}

// Three parts of the vocabulary: their sums and picked logits give the loss of
// the whole, and each has its part of the gradient.
TEST_P(DeviceConformance, CrossEntropyOfPartsOfTheVocabulary) {
  for (const Dims &dims : {Dims{4, 6}, Dims{2, 9, 33}, Dims{3, 300}, Dims{9}}) {
    Host logits = random(dims, 1, 4.0);
    Host labels = randomIntegers(DTYPE_I64, leading(dims), 2, 0, dims.back());
    if (labels.size() > 1)
      labels[1] = -100;
    EntropyReference want(logits, labels, -100);
    std::int64_t columns = dims.back(), own = columns / 3, rows = labels.size();
    Dims local = dims, gathered = leading(dims);
    local.back() = own;
    gathered.insert(gathered.begin(), 3);
    Host sums{DTYPE_F32, gathered, std::vector<double>(3 * rows)};
    Host picked = filled(DTYPE_F32, leading(dims), 0);
    std::vector<Host> parts;
    for (std::int64_t part = 0; part < 3; ++part) {
      Host &here = parts.emplace_back(
          Host{DTYPE_F32, local, std::vector<double>(rows * own)});
      for (std::int64_t i = 0; i < here.size(); ++i)
        here[i] = logits[i / own * columns + part * own + i % own];
      auto got = OpCase(OPCODE_CROSS_ENTROPY_SHARD)
                     .input(here)
                     .input(labels)
                     .input(of(DTYPE_I64, {}, {static_cast<double>(part)}))
                     .output(DTYPE_F32, leading(dims))
                     .output(DTYPE_F32, leading(dims))
                     .integer("ignore_index", -100)
                     .integer("count", 3)
                     .run(device());
      for (std::int64_t r = 0; r < rows; ++r) {
        sums[part * rows + r] = got[0][r];
        picked[r] += got[1][r];
      }
    }
    auto merged = OpCase(OPCODE_CROSS_ENTROPY_MERGE)
                      .input(sums)
                      .input(picked)
                      .input(labels)
                      .output(of(DTYPE_F32, {}, {2.5}))
                      .output(of(DTYPE_F32, {1}, {10}))
                      .output(filled(DTYPE_F32, leading(dims), 99))
                      .accumulate()
                      .integer("ignore_index", -100)
                      .run(device());
    EXPECT_NEAR(merged[0][0], want.loss + 2.5, 1e-6 * (20 + want.loss));
    EXPECT_EQ(merged[1][0], want.weights + 10);
    expectClose(merged[2], want.lse, 1e-6); // never accumulated
    for (std::int64_t part = 0; part < 3; ++part) {
      auto gradient = [&] {
        OpCase op(OPCODE_CROSS_ENTROPY_BACKWARD);
        op.input(parts[static_cast<std::size_t>(part)])
            .input(labels)
            .input(want.lse)
            .input(of(DTYPE_I64, {}, {static_cast<double>(part)}))
            .integer("ignore_index", -100)
            .integer("count", 3);
        return op;
      };
      for (const Host &dlogits :
           {gradient().output(DTYPE_F32, local).run(device())[0],
            gradient().inPlace(0).run(device())[0]})
        for (std::int64_t i = 0; i < dlogits.size(); ++i)
          ASSERT_NEAR(dlogits[i],
                      want.dlogits[i / own * columns + part * own + i % own],
                      2e-6);
    }
  }
}

// A weight counts a token as often; an ignored one's may be anything.
TEST_P(DeviceConformance, CrossEntropyWithTokenWeights) {
  Host logits = random({4, 6}, 1, 4.0);
  Host labels = of(DTYPE_I64, {4}, {5, -100, 0, 3});
  Host weights = of(DTYPE_F32, {4}, {0.5, kNotANumber, 0, 3});
  double loss = 0;
  EntropyReference each(logits, labels, -100);
  for (std::int64_t r : {0, 3})
    loss += weights[r] *
            (each.lse[r] - logits[r * 6 + std::int64_t(labels[r])]);
  auto whole = OpCase(OPCODE_CROSS_ENTROPY)
                   .input(logits)
                   .input(labels)
                   .input(weights)
                   .output(DTYPE_F32, {})
                   .output(DTYPE_F32, {})
                   .output(DTYPE_F32, {4})
                   .integer("ignore_index", -100)
                   .run(device());
  EXPECT_NEAR(whole[0][0], loss, 1e-5);
  EXPECT_EQ(whole[1][0], 3.5);
  Host parts = each.lse, picked = filled(DTYPE_F32, {4}, 0);
  parts.dims = {1, 4};
  for (std::int64_t r : {0, 2, 3})
    picked[r] = logits[r * 6 + std::int64_t(labels[r])];
  auto merged = OpCase(OPCODE_CROSS_ENTROPY_MERGE)
                    .input(parts)
                    .input(picked)
                    .input(labels)
                    .input(weights)
                    .output(DTYPE_F32, {})
                    .output(DTYPE_F32, {})
                    .output(DTYPE_F32, {4})
                    .integer("ignore_index", -100)
                    .run(device());
  EXPECT_NEAR(merged[0][0], loss, 1e-5);
  EXPECT_EQ(merged[1][0], 3.5);
  for (bool sharded : {false, true}) {
    OpCase op(OPCODE_CROSS_ENTROPY_BACKWARD);
    op.input(logits).input(labels).input(each.lse).input(weights);
    op.integer("ignore_index", -100);
    if (sharded)
      op.input(of(DTYPE_I64, {}, {0})).integer("count", 1);
    Host got = op.output(DTYPE_F32, {4, 6}).run(device())[0];
    for (std::int64_t i = 0; i < 24; ++i)
      ASSERT_NEAR(got[i], i / 6 == 1 ? 0 : weights[i / 6] * each.dlogits[i],
                  5e-6);
  }
}

TEST_P(DeviceConformance, CrossEntropyOfPartsRefusesLabelsOutside) {
  auto shard = [](double label, double part) {
    return OpCase(OPCODE_CROSS_ENTROPY_SHARD)
        .input(random({3, 7}, 1))
        .input(of(DTYPE_I64, {3}, {0, 20, label}))
        .input(of(DTYPE_I64, {}, {part}))
        .output(DTYPE_F32, {3})
        .output(DTYPE_F32, {3})
        .integer("ignore_index", -100)
        .integer("count", 3);
  };
  shard(-100, 2).run(device());
  shard(21, 2).expectError(device(), "expected labels in [0, 21)", true);
  shard(-1, 2).expectError(device(), "at position 2", true);
  shard(1, -1).expectError(device(), "expected an index in [0, 3)", true);
}

TEST_P(DeviceConformance, CrossEntropyRefusesLabelsOutside) {
  for (double bad : {-1.0, 7.0}) {
    Host labels = of(DTYPE_I64, {3}, {0, 6, bad});
    OpCase(OPCODE_CROSS_ENTROPY)
        .input(random({3, 7}, 1))
        .input(labels)
        .output(DTYPE_F32, {})
        .output(DTYPE_F32, {})
        .output(DTYPE_F32, {3})
        .integer("ignore_index", -100)
        .expectError(device(), "expected labels in [0, 7)", true);
    OpCase(OPCODE_CROSS_ENTROPY_BACKWARD)
        .input(random({3, 7}, 1))
        .input(labels)
        .input(random({3}, 2))
        .output(DTYPE_F32, {3, 7})
        .integer("ignore_index", -100)
        .expectError(device(), "at position 2", true);
  }
}

} // namespace
