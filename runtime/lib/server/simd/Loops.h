//===- Loops.h - the server's loops of one instruction set ------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// All of these come to the same bits on every instruction set: each operation
// is rounded by itself, and no sum is reordered.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_SIMD_LOOPS_H
#define TOMBOLO_LIB_SERVER_SIMD_LOOPS_H

#include <stddef.h>
#include <stdint.h>

namespace tombolo::runtime::outer {

struct AdamWConstants {
  float beta1, oneMinusBeta1;
  float beta2, oneMinusBeta2;
  float stepSize;  ///< learning rate / (1 - beta1^t)
  float sqrtBias2; ///< sqrt(1 - beta2^t)
  float epsilon;
  float decay; ///< learning rate * weight decay
};

/// Every array has `count` elements; outputs may be inputs.
struct Loops {
  const char *name;

  /// The largest bit pattern of |x|: that of max |x|, or of an infinity or
  /// not-a-number when there is one.
  uint32_t (*largestBits)(const float *x, size_t count);
  /// q = x / scale to the nearest integer, ties to even, within +-127 (+-7).
  void (*toInt8)(const float *x, size_t count, float scale, uint8_t *q);
  void (*toInt4)(const float *x, size_t count, float scale, uint8_t *q);
  void (*fromInt8)(const uint8_t *q, size_t count, float scale, float *x);
  void (*fromInt4)(const uint8_t *q, size_t count, float scale, float *x);
  void (*toBf16)(const float *x, size_t count, uint8_t *q);
  void (*fromBf16)(const uint8_t *q, size_t count, float *x);

  void (*add)(const float *a, const float *b, size_t count, float *sum);
  void (*subtract)(const float *a, const float *b, size_t count, float *rest);
  void (*scale)(const float *x, float factor, size_t count, float *y);
  /// sum := sum + factor x.
  void (*addScaled)(const float *x, float factor, size_t count, float *sum);

  /// v := m v + d; u = lr (d + m v).
  void (*nesterov)(const float *d, float *v, size_t count, float lr, float m,
                   float *u);
  /// v := m v + d; u = lr v.
  void (*sgd)(const float *d, float *v, size_t count, float lr, float m,
              float *u);
  /// As torch.optim.AdamW; u is what it takes off the parameters g.
  void (*adamw)(const float *d, const float *g, float *average,
                float *averageOfSquares, size_t count, AdamWConstants constants,
                float *u);
};

const Loops *loopsBaseline();
const Loops *loopsAvx2();
const Loops *loopsAvx512();

/// The fastest this processor runs.
const Loops &selectLoops();
/// By name; null if unknown or not supported by this processor.
const Loops *findLoops(const char *name);

} // namespace tombolo::runtime::outer

#endif // TOMBOLO_LIB_SERVER_SIMD_LOOPS_H
