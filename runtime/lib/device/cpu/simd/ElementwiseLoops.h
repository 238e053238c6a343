//===- ElementwiseLoops.h - elementwise rows --------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_SIMD_ELEMENTWISELOOPS_H
#define TOMBOLO_LIB_DEVICE_CPU_SIMD_ELEMENTWISELOOPS_H

#include "Math.h"

namespace {

template <typename Op>
void unaryRow(const void *const *inputs, void *output, size_t count) {
  const float *x = static_cast<const float *>(inputs[0]);
  float *y = static_cast<float *>(output);
  size_t i = 0;
  for (; i + kWidth <= count; i += kWidth)
    store(y + i, Op::apply(load(x + i)));
  if (size_t rest = count - i)
    storePart(y + i, Op::apply(loadPart(x + i, rest)), rest);
}

template <typename Op>
void binaryRow(const void *const *inputs, void *output, size_t count) {
  const float *x = static_cast<const float *>(inputs[0]);
  const float *y = static_cast<const float *>(inputs[1]);
  float *z = static_cast<float *>(output);
  size_t i = 0;
  for (; i + kWidth <= count; i += kWidth)
    store(z + i, Op::apply(load(x + i), load(y + i)));
  if (size_t rest = count - i)
    storePart(z + i, Op::apply(loadPart(x + i, rest), loadPart(y + i, rest)),
              rest);
}

struct AddOp {
  static TOMBOLO_INLINE Vec apply(Vec x, Vec y) { return x + y; }
};
struct SubOp {
  static TOMBOLO_INLINE Vec apply(Vec x, Vec y) { return x - y; }
};
struct MulOp {
  static TOMBOLO_INLINE Vec apply(Vec x, Vec y) { return x * y; }
};
struct DivOp {
  static TOMBOLO_INLINE Vec apply(Vec x, Vec y) { return x / y; }
};
struct NegOp {
  static TOMBOLO_INLINE Vec apply(Vec x) { return -x; }
};
struct ExpOp {
  static TOMBOLO_INLINE Vec apply(Vec x) { return exponential(x); }
};
struct LogOp {
  static TOMBOLO_INLINE Vec apply(Vec x) { return logarithm(x); }
};
struct SqrtOp {
  static TOMBOLO_INLINE Vec apply(Vec x) { return squareRoot(x); }
};
struct ReciprocalOp {
  static TOMBOLO_INLINE Vec apply(Vec x) { return 1.0f / x; }
};
struct TanhOp {
  static TOMBOLO_INLINE Vec apply(Vec x) { return hyperbolicTangent(x); }
};
struct ErfOp {
  static TOMBOLO_INLINE Vec apply(Vec x) { return errorFunction(x); }
};
struct SigmoidOp {
  static TOMBOLO_INLINE Vec apply(Vec x) { return logistic(x); }
};
struct ReluOp {
  static TOMBOLO_INLINE Vec apply(Vec x) { return atLeast(x, 0.0f); }
};
/// log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))
struct SoftplusOp {
  static TOMBOLO_INLINE Vec apply(Vec x) {
    Vec magnitude = x > splat(0.0f) ? x : -x;
    Vec small = exponential(-magnitude);
    // log(1 + e) without the loss of what 1 + e rounds away.
    Vec sum = 1.0f + small;
    Vec rounded = sum - 1.0f;
    Vec exact = logarithm(sum) * (small / rounded);
    return atLeast(x, 0.0f) + (rounded == splat(0.0f) ? small : exact);
  }
};
struct ReluBackwardOp {
  static TOMBOLO_INLINE Vec apply(Vec dy, Vec x) {
    return x > splat(0.0f) ? dy : splat(0.0f);
  }
};
/// x max(0, min(1, x/6 + 1/2))
struct HardSwishOp {
  static TOMBOLO_INLINE Vec apply(Vec x) {
    Vec gate = atLeast((x + 3.0f) * (1.0f / 6), 0.0f);
    return x * (gate < splat(1.0f) ? gate : splat(1.0f));
  }
};
/// dy times 0 below -3, 1 above 3, x/3 + 1/2 between
struct HardSwishBackwardOp {
  static TOMBOLO_INLINE Vec apply(Vec dy, Vec x) {
    Vec slope = x > splat(3.0f) ? splat(1.0f) : (x + 1.5f) * (1.0f / 3);
    return dy * (x < splat(-3.0f) ? splat(0.0f) : slope);
  }
};

constexpr float kInverseSqrtTwoPi = 0.39894228040143267794f;
constexpr float kSqrtTwoOverPi = 0.79788456080286535588f;
constexpr float kGeluCubic = 0.044715f;

/// x/2 (1 + erf(x/√2)) = x Φ(x)
struct GeluOp {
  static TOMBOLO_INLINE Vec apply(Vec x) { return x * normalDistribution(x); }
};
/// dy (Φ(x) + x φ(x))
struct GeluBackwardOp {
  static TOMBOLO_INLINE Vec apply(Vec dy, Vec x) {
    Vec cdf = normalDistribution(x);
    Vec pdf = exponential(x * x * -0.5f) * kInverseSqrtTwoPi;
    return dy * (cdf + x * pdf);
  }
};
/// x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))
struct GeluTanhOp {
  static TOMBOLO_INLINE Vec apply(Vec x) {
    Vec inner = kSqrtTwoOverPi * (x + kGeluCubic * (x * x * x));
    return 0.5f * x * (1.0f + hyperbolicTangent(inner));
  }
};
struct GeluTanhBackwardOp {
  static TOMBOLO_INLINE Vec apply(Vec dy, Vec x) {
    Vec square = x * x;
    Vec t = hyperbolicTangent(kSqrtTwoOverPi * (x + kGeluCubic * square * x));
    Vec slope = kSqrtTwoOverPi * (1.0f + 3.0f * kGeluCubic * square);
    return dy * (0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * slope);
  }
};

/// A general power has no vector form of this accuracy; the exponents that
/// models use (squares, cubes, roots) do not need one.
void powRow(const void *const *inputs, void *output, size_t count) {
  const float *x = static_cast<const float *>(inputs[0]);
  const float *y = static_cast<const float *>(inputs[1]);
  float *z = static_cast<float *>(output);
  for (size_t i = 0; i < count; ++i) {
    float base = x[i], exponent = y[i];
    if (exponent == 2.0f)
      z[i] = base * base;
    else if (exponent == 3.0f)
      z[i] = base * base * base;
    else if (exponent == 1.0f)
      z[i] = base;
    else if (exponent == 0.5f && base >= 0.0f)
      z[i] = __builtin_sqrtf(base);
    else
      z[i] = __builtin_powf(base, exponent);
  }
}

} // namespace

#endif // TOMBOLO_LIB_DEVICE_CPU_SIMD_ELEMENTWISELOOPS_H
