//===- Vec.h - one native vector of floats ----------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Included only by Loops.cpp, which is compiled once for each instruction set.
// Everything here has internal linkage and no standard library template is
// used: a weak symbol compiled for AVX-512 could otherwise be the one the
// linker keeps for machines without it.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_SIMD_VEC_H
#define TOMBOLO_LIB_DEVICE_CPU_SIMD_VEC_H

#include <stddef.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr size_t kWidth = 16;
#elif defined(__AVX2__)
constexpr size_t kWidth = 8;
#else
constexpr size_t kWidth = 4;
#endif

typedef float Vec __attribute__((vector_size(kWidth * 4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(kWidth * 4), may_alias));

#define TOMBOLO_INLINE inline __attribute__((always_inline))

TOMBOLO_INLINE Vec splat(float value) { return Vec{} + value; }

TOMBOLO_INLINE Vec load(const float *from) {
  Vec value;
  __builtin_memcpy(&value, from, sizeof(Vec));
  return value;
}

TOMBOLO_INLINE void store(float *to, Vec value) {
  __builtin_memcpy(to, &value, sizeof(Vec));
}

/// The first `count` < kWidth elements; the others are zero.
TOMBOLO_INLINE Vec loadPart(const float *from, size_t count) {
#if defined(__AVX512F__)
  return (Vec)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1),
                                    from);
#else
  Vec value{};
  for (size_t i = 0; i < count; ++i)
    value[i] = from[i];
  return value;
#endif
}

TOMBOLO_INLINE void storePart(float *to, Vec value, size_t count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1),
                        (__m512)value);
#else
  for (size_t i = 0; i < count; ++i)
    to[i] = value[i];
#endif
}

TOMBOLO_INLINE Vec squareRoot(Vec x) {
#if defined(__AVX512F__)
  return (Vec)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
  return (Vec)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
  return (Vec)_mm_sqrt_ps((__m128)x);
#else
  for (size_t i = 0; i < kWidth; ++i)
    x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

TOMBOLO_INLINE Vec bitsToVec(IntVec x) { return (Vec)x; }
TOMBOLO_INLINE IntVec vecToBits(Vec x) { return (IntVec)x; }

TOMBOLO_INLINE Vec absolute(Vec x) {
  return bitsToVec(vecToBits(x) & (IntVec{} + 0x7fffffff));
}

/// NaN in `x` stays NaN: the comparison is false for it.
TOMBOLO_INLINE Vec atMost(Vec x, float bound) {
  return x > splat(bound) ? splat(bound) : x;
}
TOMBOLO_INLINE Vec atLeast(Vec x, float bound) {
  return x < splat(bound) ? splat(bound) : x;
}
/// NaN if either is NaN.
TOMBOLO_INLINE Vec maximum(Vec x, Vec y) {
  Vec larger = x > y ? x : y; // y when x is NaN
  return x == x ? larger : x;
}

/// The upper half of the first 2 `Half` lanes moved down.
template <size_t Half> TOMBOLO_INLINE Vec upperHalf(Vec x) {
  IntVec lanes;
  for (size_t i = 0; i < kWidth; ++i)
    lanes[i] = static_cast<int32_t>((i + Half) % kWidth);
  return __builtin_shuffle(x, lanes);
}

TOMBOLO_INLINE float sumOf(Vec x) {
  if constexpr (kWidth > 8)
    x += upperHalf<8>(x);
  if constexpr (kWidth > 4)
    x += upperHalf<4>(x);
  x += upperHalf<2>(x);
  x += upperHalf<1>(x);
  return x[0];
}

TOMBOLO_INLINE float maximumOf(Vec x) {
  if constexpr (kWidth > 8)
    x = maximum(x, upperHalf<8>(x));
  if constexpr (kWidth > 4)
    x = maximum(x, upperHalf<4>(x));
  x = maximum(x, upperHalf<2>(x));
  x = maximum(x, upperHalf<1>(x));
  return x[0];
}

} // namespace

#endif // TOMBOLO_LIB_DEVICE_CPU_SIMD_VEC_H
