//===- ConvolutionConformance.cpp - convolution, pooling, batch norm ------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpCase.h"

#include <cmath>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

/// A window over two dimensions of space.
struct Window {
  Dims kernel, strides, dilations, low, high;
  std::int64_t groups = 1;

  std::int64_t places(int d, std::int64_t size) const {
    return (size + low[d] + high[d] - (kernel[d] - 1) * dilations[d] - 1) /
               strides[d] +
           1;
  }
  OpCase on(OpCase op) const {
    return op.integers("strides", strides)
        .integers("dilations", dilations)
        .integers("low", low)
        .integers("high", high);
  }
  /// Calls function(n, y, x, i, j, row, column) for every element of every
  /// window that lies inside [height, width].
  template <typename F>
  void each(std::int64_t height, std::int64_t width, F function) const {
    for (std::int64_t y = 0; y < places(0, height); ++y)
      for (std::int64_t x = 0; x < places(1, width); ++x)
        for (std::int64_t i = 0; i < kernel[0]; ++i)
          for (std::int64_t j = 0; j < kernel[1]; ++j) {
            std::int64_t row = y * strides[0] + i * dilations[0] - low[0];
            std::int64_t column = x * strides[1] + j * dilations[1] - low[1];
            if (row >= 0 && row < height && column >= 0 && column < width)
              function(y, x, i, j, row, column);
          }
  }
};

double &at(Host &host, std::int64_t a, std::int64_t b, std::int64_t c,
           std::int64_t d) {
  return host
      .data[((a * host.dims[1] + b) * host.dims[2] + c) * host.dims[3] + d];
}

const Window kWindows[] = {
    {{3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {{2, 3}, {2, 1}, {1, 2}, {0, 1}, {1, 0}},
    {{1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}},
    {{3, 2}, {3, 2}, {1, 1}, {1, 0}, {1, 1}, 2},
};

// The three directions of a convolution against plain loops: y = w * x is
// linear in both, so each gradient is the same sum read another way.
TEST_P(DeviceConformance, Convolution) {
  for (const Window &window : kWindows) {
    const std::int64_t n = 2, c = 4, o = 6, h = 7, w = 8, g = window.groups;
    Host x = random({n, c, h, w}, 1);
    Host weight = random({o, c / g, window.kernel[0], window.kernel[1]}, 2);
    Host y =
        filled(DTYPE_F32, {n, o, window.places(0, h), window.places(1, w)}, 0);
    Host dy = random(y.dims, 3);
    Host dx = filled(DTYPE_F32, x.dims, 0),
         dw = filled(DTYPE_F32, weight.dims, 0);
    for (std::int64_t s = 0; s < n; ++s)
      for (std::int64_t out = 0; out < o; ++out)
        for (std::int64_t k = 0; k < c / g; ++k) {
          std::int64_t in = out / (o / g) * (c / g) + k;
          window.each(
              h, w,
              [&](auto py, auto px, auto i, auto j, auto row, auto column) {
                double factor = at(weight, out, k, i, j);
                double gradient = at(dy, s, out, py, px);
                at(y, s, out, py, px) += factor * at(x, s, in, row, column);
                at(dx, s, in, row, column) += factor * gradient;
                at(dw, out, k, i, j) += gradient * at(x, s, in, row, column);
              });
        }
    auto make = [&](Opcode opcode) {
      return window.on(OpCase(opcode)).integer("groups", g);
    };
    expectClose(make(OPCODE_CONV)
                    .input(x)
                    .input(weight)
                    .output(DTYPE_F32, y.dims)
                    .run(device())[0],
                y, 2e-6, true);
    expectClose(make(OPCODE_CONV_BACKWARD_INPUT)
                    .input(dy)
                    .input(weight)
                    .output(DTYPE_F32, x.dims)
                    .run(device())[0],
                dx, 2e-6, true);
    Host before = random(weight.dims, 4), sum = dw;
    for (std::int64_t i = 0; i < sum.size(); ++i)
      sum[i] += before[i];
    expectClose(make(OPCODE_CONV_BACKWARD_WEIGHT)
                    .input(dy)
                    .input(x)
                    .output(before)
                    .accumulate()
                    .run(device())[0],
                sum, 4e-6, true);
  }
}

// Maxima and both means, and where their gradients go.
TEST_P(DeviceConformance, Pooling) {
  for (const Window &window : kWindows)
    for (int kind = 0; kind < 3; ++kind) {
      bool average = kind > 0, counts = kind == 2;
      if (average && window.dilations != Dims{1, 1})
        continue;
      const std::int64_t n = 2, c = 3, h = 7, w = 8;
      Host x = random({n, c, h, w}, 1);
      Host y = filled(DTYPE_F32,
                      {n, c, window.places(0, h), window.places(1, w)}, 0);
      Host dy = random(y.dims, 3), dx = filled(DTYPE_F32, x.dims, 0);
      for (std::int64_t s = 0; s < n; ++s)
        for (std::int64_t k = 0; k < c; ++k) {
          Host inside = filled(DTYPE_F32, y.dims, 0);
          Host best = filled(DTYPE_F32, y.dims, -INFINITY);
          Host place = filled(DTYPE_I64, y.dims, 0);
          window.each(h, w,
                      [&](auto py, auto px, auto, auto, auto row, auto column) {
                        at(inside, s, k, py, px) += 1;
                        if (at(x, s, k, row, column) > at(best, s, k, py, px)) {
                          at(best, s, k, py, px) = at(x, s, k, row, column);
                          at(place, s, k, py, px) =
                              static_cast<double>(row * w + column);
                        }
                      });
          window.each(
              h, w, [&](auto py, auto px, auto, auto, auto row, auto column) {
                double count = counts ? static_cast<double>(window.kernel[0] *
                                                            window.kernel[1])
                                      : at(inside, s, k, py, px);
                bool isBest = at(place, s, k, py, px) ==
                              static_cast<double>(row * w + column);
                double part = average ? 1 / count : isBest;
                at(y, s, k, py, px) += part * at(x, s, k, row, column);
                at(dx, s, k, row, column) += part * at(dy, s, k, py, px);
              });
        }
      auto make = [&](Opcode opcode) {
        OpCase op = window.on(OpCase(opcode)).integers("kernel", window.kernel);
        if (average)
          op.flag("average", true);
        if (counts)
          op.flag("count_padding", true);
        return op;
      };
      expectClose(
          make(OPCODE_POOL).input(x).output(DTYPE_F32, y.dims).run(device())[0],
          y, 1e-6, true);
      expectClose(make(OPCODE_POOL_BACKWARD)
                      .input(dy)
                      .input(x)
                      .output(DTYPE_F32, x.dims)
                      .run(device())[0],
                  dx, 1e-6, true);
    }
}

TEST_P(DeviceConformance, BatchNorm) {
  for (const Dims &dims : {Dims{5, 3}, Dims{4, 3, 6}, Dims{2, 3, 4, 5}}) {
    const std::int64_t n = dims[0], c = dims[1], space = product(dims) / n / c;
    const double count = static_cast<double>(n * space), epsilon = 1e-3;
    Host x = random(dims, 1), dy = random(dims, 2);
    Host gamma = random({c}, 3), beta = random({c}, 4);
    Host y = x, dx = x, mean = gamma, variance = gamma, dgamma = gamma,
         dbeta = gamma;
    for (std::int64_t k = 0; k < c; ++k) {
      auto each = [&](auto function) {
        for (std::int64_t s = 0; s < n; ++s)
          for (std::int64_t p = 0; p < space; ++p)
            function((s * c + k) * space + p);
      };
      double sum = 0, squares = 0, rise = 0, turn = 0;
      each([&](std::int64_t i) { sum += x[i]; });
      mean[k] = sum / count;
      each([&](std::int64_t i) {
        squares += (x[i] - mean[k]) * (x[i] - mean[k]);
      });
      variance[k] = squares / count;
      double rstd = 1 / std::sqrt(variance[k] + epsilon);
      auto normal = [&](std::int64_t i) { return (x[i] - mean[k]) * rstd; };
      each([&](std::int64_t i) {
        y[i] = normal(i) * gamma[k] + beta[k];
        rise += dy[i];
        turn += dy[i] * normal(i);
      });
      dbeta[k] = rise;
      dgamma[k] = turn;
      each([&](std::int64_t i) {
        dx[i] =
            gamma[k] * rstd * (dy[i] - rise / count - normal(i) * turn / count);
      });
    }
    std::vector<Host> forward = OpCase(OPCODE_BATCH_NORM)
                                    .input(x)
                                    .input(gamma)
                                    .input(beta)
                                    .output(DTYPE_F32, dims)
                                    .output(DTYPE_F32, {c})
                                    .output(DTYPE_F32, {c})
                                    .real("epsilon", epsilon)
                                    .run(device());
    expectClose(forward[0], y, 4e-6, true);
    expectClose(forward[1], mean, 2e-6, true);
    expectClose(forward[2], variance, 2e-6, true);
    std::vector<Host> backward = OpCase(OPCODE_BATCH_NORM_BACKWARD)
                                     .input(dy)
                                     .input(x)
                                     .input(gamma)
                                     .input(forward[1])
                                     .input(forward[2])
                                     .output(DTYPE_F32, dims)
                                     .output(DTYPE_F32, {c})
                                     .output(DTYPE_F32, {c})
                                     .real("epsilon", epsilon)
                                     .run(device());
    expectClose(backward[0], dx, 8e-6, true);
    expectClose(backward[1], dgamma, 8e-6, true);
    expectClose(backward[2], dbeta, 4e-6, true);
  }
}

TEST_P(DeviceConformance, LogSoftmax) {
  Host x = random({4, 3, 9}, 1, 20.0), y = x;
  for (std::int64_t r = 0; r < 12; ++r) {
    double most = -INFINITY, sum = 0;
    for (std::int64_t i = 0; i < 9; ++i)
      most = std::max(most, x[r * 9 + i]);
    for (std::int64_t i = 0; i < 9; ++i)
      sum += std::exp(x[r * 9 + i] - most);
    for (std::int64_t i = 0; i < 9; ++i)
      y[r * 9 + i] = x[r * 9 + i] - most - std::log(sum);
  }
  expectClose(OpCase(OPCODE_LOG_SOFTMAX)
                  .input(x)
                  .output(DTYPE_F32, x.dims)
                  .run(device())[0],
              y, 1e-6, true);
}

} // namespace
