//===- ContractionConformance.cpp - matmul and attention against plain loops
//===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpCase.h"

#include <cmath>
#include <limits>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

/// y[B..., M, N] for a and b with equal or absent leading dimensions.
struct MatmulForm {
  Dims batchA, batchB, batchY;
  std::int64_t m, n, k;
};

const MatmulForm kMatmulForms[] = {
    {{}, {}, {}, 1, 1, 1},
    {{}, {}, {}, 5, 7, 3},
    {{}, {}, {}, 64, 48, 33},
    // Rows a multiple of a kilobyte apart, more of them than a panel has.
    {{}, {}, {}, 256, 64, 270},
    {{2}, {2}, {2}, 64, 256, 258},
    {{}, {}, {}, 1, 17, 9},
    {{}, {}, {}, 17, 1, 9},
    {{}, {}, {}, 4, 3, 0},
    {{}, {}, {}, 0, 3, 4},
    {{3}, {}, {3}, 5, 7, 4},
    {{2, 3}, {}, {2, 3}, 5, 7, 4},
    {{2, 3}, {3}, {2, 3}, 5, 7, 4},
    {{2, 3}, {2, 3}, {2, 3}, 6, 5, 8},
    {{2, 1}, {1, 3}, {2, 3}, 6, 5, 8},
    {{}, {4}, {4}, 6, 5, 8},
    {{4}, {4}, {4}, 1, 5, 8},
    {{4}, {1}, {4}, 1, 5, 8},
};

Dims joined(Dims batch, std::int64_t rows, std::int64_t columns) {
  batch.insert(batch.end(), {rows, columns});
  return batch;
}

/// Index of the batch of x for batch `i` of y.
std::int64_t batchIndex(const Dims &x, const Dims &y, std::int64_t i) {
  std::int64_t offset = 0, stride = 1;
  for (std::size_t d = y.size(), k = x.size(); d-- > 0;) {
    std::int64_t index = i % y[d];
    i /= y[d];
    if (k > 0) {
      --k;
      if (x[k] != 1)
        offset += index * stride;
      stride *= x[k];
    }
  }
  return offset;
}

Host multiply(const MatmulForm &form, const Host &a, const Host &b,
              bool transposeA, bool transposeB, const Host *bias) {
  Host y = filled(DTYPE_F32, joined(form.batchY, form.m, form.n), 0);
  for (std::int64_t i = 0; i < product(form.batchY); ++i) {
    const double *x = a.data.data() +
                      batchIndex(form.batchA, form.batchY, i) * form.m * form.k;
    const double *w = b.data.data() +
                      batchIndex(form.batchB, form.batchY, i) * form.k * form.n;
    for (std::int64_t r = 0; r < form.m; ++r)
      for (std::int64_t c = 0; c < form.n; ++c) {
        double sum = bias ? bias->data[c] : 0;
        for (std::int64_t k = 0; k < form.k; ++k)
          sum += (transposeA ? x[k * form.m + r] : x[r * form.k + k]) *
                 (transposeB ? w[c * form.k + k] : w[k * form.n + c]);
        y[(i * form.m + r) * form.n + c] = sum;
      }
  }
  return y;
}

Placement transposedPlacement(const Dims &dims) {
  Placement placement;
  for (std::size_t i = 0; i < dims.size(); ++i)
    placement.order.push_back(i);
  std::swap(placement.order[dims.size() - 1], placement.order[dims.size() - 2]);
  return placement;
}

// Every form, transposition, bias, accumulation; operands dense, transposed in
// memory and padded.
TEST_P(DeviceConformance, Matmul) {
  for (const MatmulForm &form : kMatmulForms) {
    SCOPED_TRACE(&form - kMatmulForms);
    for (int bits = 0; bits < 16; ++bits) {
      bool ta = bits & 1, tb = bits & 2, withBias = bits & 4, add = bits & 8;
      SCOPED_TRACE(bits);
      Host a = random(ta ? joined(form.batchA, form.k, form.m)
                         : joined(form.batchA, form.m, form.k),
                      1);
      Host b = random(tb ? joined(form.batchB, form.n, form.k)
                         : joined(form.batchB, form.k, form.n),
                      2);
      Host bias = random({form.n}, 3);
      Host want = multiply(form, a, b, ta, tb, withBias ? &bias : nullptr);
      Host before = random(want.dims, 4);
      if (add)
        for (std::int64_t i = 0; i < want.size(); ++i)
          want[i] += before[i];
      const Placement padded{.pad = 3, .lead = 2};
      for (int layout = 0; layout < 3; ++layout) {
        auto in = [&](const Host &x) {
          return layout == 0   ? Placement{}
                 : layout == 1 ? transposedPlacement(x.dims)
                               : padded;
        };
        OpCase op(OPCODE_MATMUL);
        op.input(a, in(a)).input(b, in(b));
        if (withBias)
          op.input(bias, layout == 2 ? Placement{.lead = 1} : Placement{});
        op.flag("transpose_a", ta).flag("transpose_b", tb);
        Placement out = layout == 2 ? padded : Placement{};
        if (add)
          op.output(before, out).accumulate();
        else
          op.output(DTYPE_F32, want.dims, out);
        expectClose(op.run(device())[0], want, 2e-6, true);
      }
    }
  }
}

// Neither rows nor columns contiguous; rows repeated with stride 0.
TEST_P(DeviceConformance, MatmulOfOddViews) {
  const MatmulForm form{{3}, {}, {3}, 4, 5, 6};
  Host a = random({3, 4, 6}, 1), b = random({6, 5}, 2);
  Host want = multiply(form, a, b, false, false, nullptr);
  expectClose(OpCase(OPCODE_MATMUL)
                  .input(a, {.order = {1, 2, 0}})
                  .input(b)
                  .output(DTYPE_F32, want.dims, {.order = {1, 0, 2}})
                  .run(device())[0],
              want, 2e-6, true);
  Host same{DTYPE_F32, {3, 4, 6}, {}};
  Host row = random({6}, 3);
  for (int i = 0; i < 12; ++i)
    same.data.insert(same.data.end(), row.data.begin(), row.data.end());
  want = multiply(form, same, b, false, false, nullptr);
  expectClose(OpCase(OPCODE_MATMUL)
                  .input(same, {.repeated = {0, 1}})
                  .input(b)
                  .output(DTYPE_F32, want.dims)
                  .run(device())[0],
              want, 2e-6, true);
}

// A weight gradient: a product over all rows of all batches, accumulated.
TEST_P(DeviceConformance, MatmulAsWeightGradient) {
  const MatmulForm form{{}, {}, {}, 40, 24, 96};
  Host x = random({96, 40}, 1), dy = random({96, 24}, 2);
  Host gradient = random({40, 24}, 3);
  Host want = multiply(form, x, dy, true, false, nullptr);
  for (std::int64_t i = 0; i < want.size(); ++i)
    want[i] += gradient[i];
  expectClose(OpCase(OPCODE_MATMUL)
                  .input(x)
                  .input(dy)
                  .flag("transpose_a", true)
                  .output(gradient)
                  .accumulate()
                  .run(device())[0],
              want, 2e-6, true);
}

TEST_P(DeviceConformance, MatmulRefusesWrongShapes) {
  OpCase(OPCODE_MATMUL)
      .input(random({3, 4}, 1))
      .input(random({5, 2}, 2))
      .output(DTYPE_F32, {3, 2})
      .expectError(device(), "inner dimensions");
  OpCase(OPCODE_MATMUL)
      .input(random({3, 4}, 1))
      .input(random({4, 2}, 2))
      .output(DTYPE_F32, {3, 3})
      .expectError(device(), "expected y of 3 x 2");
  OpCase(OPCODE_MATMUL)
      .input(random({3, 4}, 1))
      .input(random({4, 2}, 2))
      .output(DTYPE_F32, {3, 2}, {.order = {1, 0}})
      .expectError(device(), "contiguous rows");
}

struct AttentionForm {
  Dims batch;
  std::int64_t queries, keys, depth, valueDepth;
  bool causal;
};

const AttentionForm kAttentionForms[] = {
    {{2, 3}, 5, 5, 4, 4, false}, {{2, 3}, 5, 5, 4, 4, true},
    {{}, 1, 1, 1, 1, true},      {{2}, 7, 11, 3, 5, false},
    {{2}, 7, 11, 3, 5, true},    {{1, 2}, 128, 128, 32, 32, true},
    {{2}, 130, 130, 8, 8, true}, {{2}, 65, 200, 8, 16, true},
    {{2}, 100, 33, 8, 8, false}, {{3}, 1, 40, 8, 8, true},
};

struct AttentionReference {
  Host o, lse, dq, dk, dv;

  AttentionReference(const AttentionForm &f, const Host &q, const Host &k,
                     const Host &v, const Host &dout, double scale)
      : o(filled(DTYPE_F32, joined(f.batch, f.queries, f.valueDepth), 0)),
        lse(filled(DTYPE_F32, rows(f), 0)), dq(q), dk(k), dv(v) {
    for (Host *host : {&dq, &dk, &dv})
      std::fill(host->data.begin(), host->data.end(), 0.0);
    for (std::int64_t b = 0; b < product(f.batch); ++b)
      for (std::int64_t i = 0; i < f.queries; ++i)
        row(f, q, k, v, dout, scale, b, i);
  }

  static Dims rows(const AttentionForm &f) {
    Dims dims = f.batch;
    dims.push_back(f.queries);
    return dims;
  }

  void row(const AttentionForm &f, const Host &q, const Host &k, const Host &v,
           const Host &dout, double scale, std::int64_t b, std::int64_t i) {
    std::int64_t n = f.causal ? i + 1 + f.keys - f.queries : f.keys;
    std::int64_t qi = (b * f.queries + i) * f.depth;
    std::int64_t oi = (b * f.queries + i) * f.valueDepth;
    auto ki = [&](std::int64_t j) { return (b * f.keys + j) * f.depth; };
    auto vi = [&](std::int64_t j) { return (b * f.keys + j) * f.valueDepth; };
    std::vector<double> p(n);
    double largest = -kInf, sum = 0, delta = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t d = 0; d < f.depth; ++d)
        p[j] += scale * q[qi + d] * k[ki(j) + d];
      largest = std::max(largest, p[j]);
    }
    for (std::int64_t j = 0; j < n; ++j)
      sum += p[j] = std::exp(p[j] - largest);
    lse[b * f.queries + i] = largest + std::log(sum);
    for (std::int64_t j = 0; j < n; ++j) {
      p[j] /= sum;
      for (std::int64_t e = 0; e < f.valueDepth; ++e)
        o[oi + e] += p[j] * v[vi(j) + e];
    }
    for (std::int64_t e = 0; e < f.valueDepth; ++e)
      delta += dout[oi + e] * o[oi + e];
    for (std::int64_t j = 0; j < n; ++j) {
      double dp = 0;
      for (std::int64_t e = 0; e < f.valueDepth; ++e) {
        dp += dout[oi + e] * v[vi(j) + e];
        dv[vi(j) + e] += p[j] * dout[oi + e];
      }
      double ds = p[j] * (dp - delta) * scale;
      for (std::int64_t d = 0; d < f.depth; ++d) {
        dq[qi + d] += ds * k[ki(j) + d];
        dk[ki(j) + d] += ds * q[qi + d];
      }
    }
  }
};

// Dense operands; heads interleaved as [B, T, H, D]; rows padded as in a fused
// QKV tensor; columns first, which no kernel takes as it is.
TEST_P(DeviceConformance, AttentionAndItsGradient) {
  for (const AttentionForm &f : kAttentionForms) {
    SCOPED_TRACE(&f - kAttentionForms);
    Host q = random(joined(f.batch, f.queries, f.depth), 1);
    Host k = random(joined(f.batch, f.keys, f.depth), 2);
    Host v = random(joined(f.batch, f.keys, f.valueDepth), 3);
    Host dout = random(joined(f.batch, f.queries, f.valueDepth), 4);
    double scale = 1 / std::sqrt(static_cast<double>(f.depth));
    AttentionReference want(f, q, k, v, dout, scale);
    std::vector<Placement> placements = {{}, {.pad = 5, .lead = 3}};
    if (f.batch.size() == 2)
      placements.push_back({.order = {0, 2, 1, 3}});
    placements.push_back(transposedPlacement(q.dims));
    for (const Placement &in : placements) {
      bool rowsContiguous =
          in.order.empty() || in.order.back() + 1 == q.dims.size();
      Placement out = rowsContiguous ? in : Placement{};
      auto got = OpCase(OPCODE_ATTENTION)
                     .input(q, in)
                     .input(k, in)
                     .input(v, in)
                     .output(DTYPE_F32, want.o.dims, out)
                     .output(DTYPE_F32, want.lse.dims)
                     .flag("causal", f.causal)
                     .real("scale", scale)
                     .run(device());
      expectClose(got[0], want.o, 3e-6, true);
      expectClose(got[1], want.lse, 2e-6, true);
      auto gradient = OpCase(OPCODE_ATTENTION_BACKWARD)
                          .input(dout, in)
                          .input(q, in)
                          .input(k, in)
                          .input(v, in)
                          .input(want.o, in)
                          .input(want.lse)
                          .output(DTYPE_F32, q.dims, out)
                          .output(DTYPE_F32, k.dims, out)
                          .output(DTYPE_F32, v.dims, out)
                          .flag("causal", f.causal)
                          .real("scale", scale)
                          .run(device());
      expectClose(gradient[0], want.dq, 5e-6, true);
      expectClose(gradient[1], want.dk, 5e-6, true);
      expectClose(gradient[2], want.dv, 5e-6, true);
    }
  }
}

// Keys and values shared by neighbouring heads through a stride of 0.
TEST_P(DeviceConformance, AttentionWithSharedKeys) {
  const AttentionForm f{{2, 3}, 6, 6, 4, 4, true};
  Host q = random({2, 3, 6, 4}, 1), key = random({2, 1, 6, 4}, 2);
  Host k{DTYPE_F32, {2, 3, 6, 4}, {}};
  for (int b = 0; b < 2; ++b)
    for (int h = 0; h < 3; ++h)
      k.data.insert(k.data.end(), key.data.begin() + b * 24,
                    key.data.begin() + (b + 1) * 24);
  AttentionReference want(f, q, k, k, q, 0.5);
  auto got = OpCase(OPCODE_ATTENTION)
                 .input(q)
                 .input(k, {.repeated = {1}})
                 .input(k, {.repeated = {1}})
                 .output(DTYPE_F32, q.dims)
                 .output(DTYPE_F32, {2, 3, 6})
                 .flag("causal", true)
                 .real("scale", 0.5)
                 .run(device());
  expectClose(got[0], want.o, 3e-6, true);
}

TEST_P(DeviceConformance, AttentionRefusesWrongShapes) {
  OpCase(OPCODE_ATTENTION)
      .input(random({2, 5, 4}, 1))
      .input(random({2, 5, 3}, 2))
      .input(random({2, 5, 4}, 3))
      .output(DTYPE_F32, {2, 5, 4})
      .output(DTYPE_F32, {2, 5})
      .real("scale", 1)
      .expectError(device(), "expected k to be");
  OpCase(OPCODE_ATTENTION)
      .input(random({2, 5, 4}, 1))
      .input(random({3, 5, 4}, 2))
      .input(random({2, 5, 4}, 3))
      .output(DTYPE_F32, {2, 5, 4})
      .output(DTYPE_F32, {2, 5})
      .real("scale", 1)
      .expectError(device(), "expected k to be");
}

} // namespace
