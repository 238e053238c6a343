//===- Loops.h - the vectorised loops of one instruction set ----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_SIMD_LOOPS_H
#define TOMBOLO_LIB_DEVICE_CPU_SIMD_LOOPS_H

#include <stddef.h>
#include <stdint.h>

namespace tombolo::runtime::cpu {

/// One row of an elementwise op: `count` contiguous elements from each input to
/// the output. The output may be one of the inputs.
using RowFunction = void (*)(const void *const *inputs, void *output,
                             size_t count);

struct AdamWConstants {
  float decay; ///< 1 - learning rate * weight decay
  float beta1;
  float oneMinusBeta1;
  float beta2;
  float oneMinusBeta2;
  float stepSize;  ///< learning rate / (1 - beta1^t)
  float sqrtBias2; ///< sqrt(1 - beta2^t)
  float epsilon;
  float weight; ///< the gradient's divisor
};

struct SgdConstants {
  float learningRate;
  float momentum;
  float weightDecay;
  float weight;
  bool firstUpdate;
};

/// Rows are contiguous f32; row r of a matrix starts at r * stride elements.
struct Loops {
  const char *name;

  // Elementwise.
  RowFunction add, sub, mul, div, pow;
  RowFunction neg, exp, log, sqrt, reciprocal, tanh, erf, sigmoid, relu,
      softplus;
  RowFunction hardSwish;
  RowFunction reluBackward, hardSwishBackward; ///< dy, x
  RowFunction gelu, geluTanh;
  RowFunction geluBackward, geluTanhBackward; ///< dy, x

  /// sum of a row, in parts of bounded length so that errors stay small.
  float (*sumRow)(const float *x, size_t count);
  float (*maxRow)(const float *x, size_t count);
  /// sum[c] += Σ_r x[r, c].
  void (*addRows)(const float *x, size_t rows, size_t columns, size_t stride,
                  float *sum);
  /// largest[c] = max(largest[c], x[r, c]) over r.
  void (*maxRows)(const float *x, size_t rows, size_t columns, size_t stride,
                  float *largest);

  /// y = softmax(x), returns log Σ exp(x). y may be x.
  float (*softmaxRow)(const float *x, float *y, size_t count);
  void (*softmaxBackwardRow)(const float *dy, const float *y, float *dx,
                             size_t count);
  float (*logSumExpRow)(const float *x, size_t count);
  /// x = exp(x - max x), returns max x; *sum = Σ of the new x.
  float (*expRow)(float *x, size_t count, float *sum);
  /// x *= factor.
  void (*scaleRow)(float *x, size_t count, float factor);
  /// y = exp(x - shift). y may be x.
  void (*expShiftRow)(const float *x, float *y, size_t count, float shift);
  float (*dotRow)(const float *x, const float *y, size_t count);
  /// p = exp(s - lse), ds = p (dp - delta) scale; `s` becomes p, `dp` ds.
  void (*scoreGradientRow)(float *s, float *dp, size_t count, float lse,
                           float delta, float scale);

  void (*layerNormRow)(const float *x, const float *gamma, const float *beta,
                       float *y, size_t count, float epsilon, float *mean,
                       float *rstd);
  void (*layerNormBackwardRow)(const float *dy, const float *x,
                               const float *gamma, float *dx, size_t count,
                               float mean, float rstd);
  /// dgamma[c] += Σ_r dy[r, c] (x[r, c] - mean[r]) rstd[r]; dbeta[c] += Σ dy.
  void (*layerNormBackwardWeight)(const float *dy, const float *x,
                                  const float *mean, const float *rstd,
                                  size_t rows, size_t columns, size_t stride,
                                  float *dgamma, float *dbeta);

  void (*adamw)(float *param, const float *grad, float *average,
                float *averageOfSquares, size_t count,
                AdamWConstants constants);
  /// `momentumBuffer` may be null.
  void (*sgd)(float *param, const float *grad, float *momentumBuffer,
              size_t count, SgdConstants constants);
};

const Loops *loopsBaseline();
const Loops *loopsAvx2();
const Loops *loopsAvx512();

/// The fastest this processor runs. TOMBOLO_CPU_ISA=baseline|avx2|avx512 in the
/// environment asks for a lower one (tests compare them).
const Loops &selectLoops();

/// By name; null if unknown or not supported by this processor.
const Loops *findLoops(const char *name);

} // namespace tombolo::runtime::cpu

#endif // TOMBOLO_LIB_DEVICE_CPU_SIMD_LOOPS_H
