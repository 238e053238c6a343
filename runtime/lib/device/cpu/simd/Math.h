//===- Math.h - exp, log, tanh, erf of a vector -----------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Relative errors stay below about 2e-7. The polynomials are minimax fits
// (Lawson's iteration) of the stated function on the stated range. Infinities,
// NaN and signed zeros behave as in the C library; exp underflows gradually.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_SIMD_MATH_H
#define TOMBOLO_LIB_DEVICE_CPU_SIMD_MATH_H

#include "Vec.h"

namespace {

constexpr float kInfinity = __builtin_inff();

/// 1 + r + r² P(r) approximates eʳ for |r| ≤ ln(2)/2; returns r + r² P(r).
TOMBOLO_INLINE Vec expm1OfRemainder(Vec r) {
  Vec p = splat(1.395048574e-03f);
  p = p * r + splat(8.368887939e-03f);
  p = p * r + splat(4.166620597e-02f);
  p = p * r + splat(1.666651815e-01f);
  p = p * r + splat(5.000000000e-01f);
  return p * (r * r) + r;
}

TOMBOLO_INLINE Vec powerOfTwo(IntVec exponent) {
  return bitsToVec((exponent + 127) << 23);
}

/// Added to x, leaves the nearest integer in the low bits.
constexpr float kToInteger = 12582912.0f; // 1.5 * 2^23

/// y 2^n where `whole` is n, from -150 to 129, and `shifted` n + kToInteger.
TOMBOLO_INLINE Vec timesPowerOfTwo(Vec y, [[maybe_unused]] Vec shifted,
                                   [[maybe_unused]] Vec whole) {
#if defined(__AVX512F__)
  return (Vec)_mm512_scalef_ps((__m512)y, (__m512)whole);
#else
  // Two steps, since 2^n alone may be out of range. A NaN is in y already.
  IntVec n = vecToBits(shifted) - vecToBits(splat(kToInteger));
  IntVec half = n >> 1;
  return y * powerOfTwo(half) * powerOfTwo(n - half);
#endif
}

TOMBOLO_INLINE Vec exponential(Vec x) {
  // Beyond these the result is infinite, or zero after rounding.
  x = atLeast(atMost(x, 89.0f), -104.0f);
  Vec shifted = x * splat(1.44269504f) + splat(kToInteger);
  Vec whole = shifted - splat(kToInteger);
  // ln 2 in two parts, so that the remainder keeps its low bits.
  Vec r = x - whole * splat(0.693359375f);
  r = r - whole * splat(-2.12194440e-4f);
  Vec y = expm1OfRemainder(r) + 1.0f;
  return timesPowerOfTwo(y, shifted, whole);
}

/// 2^x for x in [-150, 128).
TOMBOLO_INLINE Vec exponentialOfTwo(Vec x) {
  Vec shifted = x + splat(kToInteger);
  Vec whole = shifted - splat(kToInteger);
  Vec r = x - whole;
  // 1 + r P(r) for |r| ≤ 1/2.
  Vec p = splat(1.547589782e-04f);
  p = p * r + splat(1.340028364e-03f);
  p = p * r + splat(9.618005715e-03f);
  p = p * r + splat(5.550327897e-02f);
  p = p * r + splat(2.402265072e-01f);
  p = p * r + splat(6.931471825e-01f);
  return timesPowerOfTwo(p * r + 1.0f, shifted, whole);
}

TOMBOLO_INLINE Vec logarithm(Vec x) {
  // Subnormals are scaled up first.
  IntVec isTiny = x < splat(1.17549435e-38f);
  Vec scaled = isTiny ? x * splat(8388608.0f) : x;
  IntVec bits = vecToBits(scaled);
  // x = 2^n m with m in [sqrt(1/2), sqrt(2)).
  IntVec n = (bits - 0x3f3504f3) >> 23;
  Vec m = bitsToVec(bits - (n << 23));
  n = isTiny ? n - 23 : n;
  Vec f = m - 1.0f;
  Vec p = splat(6.746601313e-02f);
  p = p * f + splat(-1.167564094e-01f);
  p = p * f + splat(1.188817471e-01f);
  p = p * f + splat(-1.240559146e-01f);
  p = p * f + splat(1.421955079e-01f);
  p = p * f + splat(-1.666799635e-01f);
  p = p * f + splat(2.000211924e-01f);
  p = p * f + splat(-2.500000894e-01f);
  p = p * f + splat(3.333331347e-01f);
  Vec exponent = __builtin_convertvector(n, Vec);
  Vec square = f * f;
  Vec low = p * f * square + exponent * splat(-2.12194440e-4f);
  low = low - splat(0.5f) * square;
  Vec y = f + low + exponent * splat(0.693359375f);
  y = x == splat(kInfinity) ? x : y;
  y = x == splat(0.0f) ? splat(-kInfinity) : y;
  y = x < splat(0.0f) ? splat(__builtin_nanf("")) : y;
  return x == x ? y : x;
}

TOMBOLO_INLINE Vec withSignOf(Vec magnitude, Vec sign) {
  IntVec mask = IntVec{} + INT32_MIN;
  return bitsToVec((vecToBits(magnitude) & ~mask) | (vecToBits(sign) & mask));
}

/// x + x³ P(x²) below 0.625, 1 - 2/(e^2|x| + 1) above.
TOMBOLO_INLINE Vec hyperbolicTangent(Vec x) {
  Vec s = x * x;
  Vec p = splat(-5.717036780e-03f);
  p = p * s + splat(2.065057866e-02f);
  p = p * s + splat(-5.374349654e-02f);
  p = p * s + splat(1.333149076e-01f);
  p = p * s + splat(-3.333328366e-01f);
  Vec small = p * s * x + x;
  Vec t = absolute(x);
  Vec large = 1.0f - 2.0f / (exponential(t + t) + 1.0f);
  return t < splat(0.625f) ? small : withSignOf(large, x == x ? x : large);
}

/// x + x P(x²) below 0.9277, 1 - e^(t P(t)) with t = |x| above.
TOMBOLO_INLINE Vec errorFunction(Vec x) {
  Vec s = x * x;
  Vec p = splat(-5.987233017e-04f);
  p = p * s + splat(4.992981441e-03f);
  p = p * s + splat(-2.676690556e-02f);
  p = p * s + splat(1.128183901e-01f);
  p = p * s + splat(-3.761249781e-01f);
  p = p * s + splat(1.283791512e-01f);
  Vec small = p * x + x;
  Vec t = atMost(absolute(x), 4.0f);
  Vec q = splat(-1.152592995e-05f);
  q = q * t + splat(3.257553326e-04f);
  q = q * t + splat(-3.654470900e-03f);
  q = q * t + splat(2.378749289e-02f);
  q = q * t + splat(-1.062664315e-01f);
  q = q * t + splat(-6.351334453e-01f);
  q = q * t + splat(-1.128652930e+00f);
  Vec large = 1.0f - exponential(q * t);
  return t < splat(0.9277f) ? small : withSignOf(large, x == x ? x : large);
}

/// The normal distribution Φ(x): with t = |x|, Φ(-t) = 2^P(t). P(0) = -1 and
/// its leading coefficient is negative, so that it falls on beyond the fit's
/// range [0, 6], where all but the sign of Φ(-t) is lost beside 1 anyway.
TOMBOLO_INLINE Vec normalDistribution(Vec x) {
  Vec t = absolute(x);
  Vec p = splat(-9.551700941e-07f);
  p = p * t + splat(1.666879143e-05f);
  p = p * t + splat(-7.964984252e-05f);
  p = p * t + splat(-3.853716771e-04f);
  p = p * t + splat(7.369515020e-03f);
  p = p * t + splat(-5.269134045e-02f);
  p = p * t + splat(-4.591499269e-01f);
  p = p * t + splat(-1.151111603e+00f);
  p = p * t + splat(-1.0f);
  Vec tail = exponentialOfTwo(atLeast(p, -150.0f));
  return x < splat(0.0f) ? tail : 1.0f - tail;
}

TOMBOLO_INLINE Vec logistic(Vec x) { return 1.0f / (1.0f + exponential(-x)); }

} // namespace

#endif // TOMBOLO_LIB_DEVICE_CPU_SIMD_MATH_H
