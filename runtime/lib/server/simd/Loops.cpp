//===- Loops.cpp - the server's loops for one instruction set -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// CMake compiles this file once for each instruction set, with TOMBOLO_LOOPS
// the name of the function to define and TOMBOLO_LOOPS_NAME what to call it.
// Everything has internal linkage and no library template is used, so that no
// code for a larger instruction set is linked into the rest. Plain loops: the
// compiler vectorises them.
//
//===----------------------------------------------------------------------===//

#include "Loops.h"

namespace {

using tombolo::runtime::outer::AdamWConstants;

inline uint32_t bitsOf(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float floatOf(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

uint32_t largestBits(const float *x, size_t count) {
  int32_t largest = 0; // of floats without sign: ordered as the floats are
  for (size_t k = 0; k < count; ++k) {
    int32_t bits = static_cast<int32_t>(bitsOf(x[k]) & 0x7fffffffu);
    largest = bits > largest ? bits : largest;
  }
  return static_cast<uint32_t>(largest);
}

/// Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the
/// low bits in two's complement.
constexpr float kRound = 12582912.0f;

inline uint32_t quantize(float x, float scale, float most) {
  float q = x / scale;
  q = q > most ? most : q;
  q = q < -most ? -most : q;
  return bitsOf(q + kRound);
}

void toInt8(const float *x, size_t count, float scale, uint8_t *q) {
  for (size_t k = 0; k < count; ++k)
    q[k] = static_cast<uint8_t>(quantize(x[k], scale, 127));
}

void toInt4(const float *x, size_t count, float scale, uint8_t *q) {
  for (size_t k = 0; k < count / 2; ++k) {
    uint32_t low = quantize(x[2 * k], scale, 7) & 15;
    uint32_t high = quantize(x[2 * k + 1], scale, 7) & 15;
    q[k] = static_cast<uint8_t>(low | high << 4);
  }
  if (count % 2)
    q[count / 2] = static_cast<uint8_t>(quantize(x[count - 1], scale, 7) & 15);
}

void fromInt8(const uint8_t *q, size_t count, float scale, float *x) {
  for (size_t k = 0; k < count; ++k)
    x[k] = static_cast<float>(static_cast<int8_t>(q[k])) * scale;
}

inline float fromNibble(uint32_t nibble) {
  return static_cast<float>(static_cast<int32_t>(nibble ^ 8) - 8);
}

void fromInt4(const uint8_t *q, size_t count, float scale, float *x) {
  for (size_t k = 0; k < count / 2; ++k) {
    x[2 * k] = fromNibble(q[k] & 15) * scale;
    x[2 * k + 1] = fromNibble(q[k] >> 4) * scale;
  }
  if (count % 2)
    x[count - 1] = fromNibble(q[count / 2] & 15) * scale;
}

void toBf16(const float *x, size_t count, uint8_t *q) {
  for (size_t k = 0; k < count; ++k) {
    uint32_t bits = bitsOf(x[k]);
    uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
    // A not-a-number must not become infinite.
    rounded = (bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x400000u : rounded;
    uint16_t high = static_cast<uint16_t>(rounded >> 16);
    __builtin_memcpy(q + 2 * k, &high, sizeof high);
  }
}

void fromBf16(const uint8_t *q, size_t count, float *x) {
  for (size_t k = 0; k < count; ++k) {
    uint16_t high;
    __builtin_memcpy(&high, q + 2 * k, sizeof high);
    x[k] = floatOf(static_cast<uint32_t>(high) << 16);
  }
}

void add(const float *a, const float *b, size_t count, float *sum) {
  for (size_t k = 0; k < count; ++k)
    sum[k] = a[k] + b[k];
}

void subtract(const float *a, const float *b, size_t count, float *rest) {
  for (size_t k = 0; k < count; ++k)
    rest[k] = a[k] - b[k];
}

void scale(const float *x, float factor, size_t count, float *y) {
  for (size_t k = 0; k < count; ++k)
    y[k] = factor * x[k];
}

void addScaled(const float *x, float factor, size_t count, float *sum) {
  for (size_t k = 0; k < count; ++k)
    sum[k] = sum[k] + factor * x[k];
}

void nesterov(const float *d, float *v, size_t count, float lr, float m,
              float *u) {
  for (size_t k = 0; k < count; ++k) {
    v[k] = m * v[k] + d[k];
    u[k] = lr * (d[k] + m * v[k]);
  }
}

void sgd(const float *d, float *v, size_t count, float lr, float m, float *u) {
  for (size_t k = 0; k < count; ++k) {
    v[k] = m * v[k] + d[k];
    u[k] = lr * v[k];
  }
}

void adamw(const float *d, const float *g, float *average,
           float *averageOfSquares, size_t count, AdamWConstants c, float *u) {
  for (size_t k = 0; k < count; ++k) {
    float m = average[k] * c.beta1 + d[k] * c.oneMinusBeta1;
    float v = averageOfSquares[k] * c.beta2 + d[k] * d[k] * c.oneMinusBeta2;
    average[k] = m;
    averageOfSquares[k] = v;
    float denominator = __builtin_sqrtf(v) / c.sqrtBias2 + c.epsilon;
    u[k] = c.stepSize * (m / denominator) + c.decay * g[k];
  }
}

} // namespace

const tombolo::runtime::outer::Loops *tombolo::runtime::outer::TOMBOLO_LOOPS() {
  static constexpr Loops loops = {
      .name = TOMBOLO_LOOPS_NAME,
      .largestBits = largestBits,
      .toInt8 = toInt8,
      .toInt4 = toInt4,
      .fromInt8 = fromInt8,
      .fromInt4 = fromInt4,
      .toBf16 = toBf16,
      .fromBf16 = fromBf16,
      .add = add,
      .subtract = subtract,
      .scale = scale,
      .addScaled = addScaled,
      .nesterov = nesterov,
      .sgd = sgd,
      .adamw = adamw,
  };
  return &loops;
}
