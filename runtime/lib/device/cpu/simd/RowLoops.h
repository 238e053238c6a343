//===- RowLoops.h - reductions, softmax and norms of rows -------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_SIMD_ROWLOOPS_H
#define TOMBOLO_LIB_DEVICE_CPU_SIMD_ROWLOOPS_H

#include "Math.h"

namespace {

/// Sums are taken in parts of this many terms per lane and the parts added, so
/// that the rounding error grows with the length's root of parts, not terms.
constexpr size_t kPart = 64;

/// Σ f(i) over vectors of a row; `f(i, n)` gives n elements from i (the others
/// zero).
template <typename Function>
TOMBOLO_INLINE float sumOver(size_t count, Function f) {
  Vec total{};
  size_t i = 0;
  while (i + kWidth <= count) {
    Vec a{}, b{}, c{}, d{};
    size_t last = i + kPart * 4 * kWidth;
    last = last < count ? last : count;
    for (; i + 4 * kWidth <= last; i += 4 * kWidth) {
      a += f(i, kWidth);
      b += f(i + kWidth, kWidth);
      c += f(i + 2 * kWidth, kWidth);
      d += f(i + 3 * kWidth, kWidth);
    }
    for (; i + kWidth <= last; i += kWidth)
      a += f(i, kWidth);
    total += (a + b) + (c + d);
  }
  if (size_t rest = count - i)
    total += f(i, rest);
  return sumOf(total);
}

TOMBOLO_INLINE Vec loadUpTo(const float *from, size_t count) {
  return count == kWidth ? load(from) : loadPart(from, count);
}
TOMBOLO_INLINE void storeUpTo(float *to, Vec value, size_t count) {
  count == kWidth ? store(to, value) : storePart(to, value, count);
}

template <typename Function>
TOMBOLO_INLINE void forEachVec(size_t count, Function f) {
  size_t i = 0;
  for (; i + kWidth <= count; i += kWidth)
    f(i, kWidth);
  if (size_t rest = count - i)
    f(i, rest);
}

/// As loadPart, but the lanes beyond `count` are `filler`.
TOMBOLO_INLINE Vec loadFilled(const float *from, size_t count, float filler) {
  if (count == kWidth)
    return load(from);
#if defined(__AVX512F__)
  return (Vec)_mm512_mask_loadu_ps(
      (__m512)splat(filler), static_cast<__mmask16>((1u << count) - 1), from);
#else
  Vec value = splat(filler);
  for (size_t i = 0; i < count; ++i)
    value[i] = from[i];
  return value;
#endif
}

/// The first `count` lanes of `value`, zero beyond.
TOMBOLO_INLINE Vec firstLanes(Vec value, size_t count) {
  if (count == kWidth)
    return value;
#if defined(__AVX512F__)
  return (Vec)_mm512_maskz_mov_ps(static_cast<__mmask16>((1u << count) - 1),
                                  (__m512)value);
#else
  for (size_t i = count; i < kWidth; ++i)
    value[i] = 0.0f;
  return value;
#endif
}

float sumRow(const float *x, size_t count) {
  return sumOver(
      count, [=](size_t i, size_t n)
                 __attribute__((always_inline)) { return loadUpTo(x + i, n); });
}

float maxRow(const float *x, size_t count) {
  Vec a = splat(-kInfinity), b = a;
  size_t i = 0;
  for (; i + 2 * kWidth <= count; i += 2 * kWidth) {
    a = maximum(a, load(x + i));
    b = maximum(b, load(x + i + kWidth));
  }
  for (; i + kWidth <= count; i += kWidth)
    a = maximum(a, load(x + i));
  if (size_t rest = count - i)
    b = maximum(b, loadFilled(x + i, rest, -kInfinity));
  return maximumOf(maximum(a, b));
}

void addRows(const float *x, size_t rows, size_t columns, size_t stride,
             float *sum) {
  for (size_t first = 0; first < rows; first += kPart) {
    size_t last = first + kPart < rows ? first + kPart : rows;
    size_t c = 0;
    for (; c + 4 * kWidth <= columns; c += 4 * kWidth) {
      Vec part[4] = {};
      for (size_t r = first; r < last; ++r)
        for (size_t k = 0; k < 4; ++k)
          part[k] += load(x + r * stride + c + k * kWidth);
      for (size_t k = 0; k < 4; ++k)
        store(sum + c + k * kWidth, load(sum + c + k * kWidth) + part[k]);
    }
    for (; c < columns; c += kWidth) {
      size_t n = columns - c < kWidth ? columns - c : kWidth;
      Vec part{};
      for (size_t r = first; r < last; ++r)
        part += loadUpTo(x + r * stride + c, n);
      storeUpTo(sum + c, loadUpTo(sum + c, n) + part, n);
    }
  }
}

void maxRows(const float *x, size_t rows, size_t columns, size_t stride,
             float *largest) {
  for (size_t c = 0; c < columns; c += kWidth) {
    size_t n = columns - c < kWidth ? columns - c : kWidth;
    Vec result = loadUpTo(largest + c, n);
    for (size_t r = 0; r < rows; ++r)
      result = maximum(result, loadUpTo(x + r * stride + c, n));
    storeUpTo(largest + c, result, n);
  }
}

/// y = exp(x - shift), returns Σ y. (Lanes beyond the row as -inf would give
/// zero as well, but slowly: processors stumble over underflow.)
TOMBOLO_INLINE float expAndSum(const float *x, float *y, size_t count,
                               float shift) {
  Vec total{};
  forEachVec(
      count, [&](size_t i, size_t n) __attribute__((always_inline)) {
        Vec value = exponential(loadFilled(x + i, n, shift) - shift);
        storeUpTo(y + i, value, n);
        total += firstLanes(value, n);
      });
  return sumOf(total);
}

/// The shift that keeps exp in range. With a maximum of -inf every term is
/// -inf; a shift of zero then gives exp = 0 where -inf - -inf would be NaN.
TOMBOLO_INLINE float shiftFor(float largest) {
  return largest == -kInfinity ? 0.0f : largest;
}

float softmaxRow(const float *x, float *y, size_t count) {
  float shift = maxRow(x, count);
  float sum = expAndSum(x, y, count, shift);
  Vec inverse = splat(1.0f / sum);
  forEachVec(
      count, [=](size_t i, size_t n) __attribute__((always_inline)) {
        storeUpTo(y + i, loadUpTo(y + i, n) * inverse, n);
      });
  return shift + __builtin_logf(sum);
}

float dotRow(const float *x, const float *y, size_t count) {
  return sumOver(
      count, [=](size_t i, size_t n) __attribute__((always_inline)) {
        return loadUpTo(x + i, n) * loadUpTo(y + i, n);
      });
}

void softmaxBackwardRow(const float *dy, const float *y, float *dx,
                        size_t count) {
  Vec sum = splat(dotRow(dy, y, count));
  forEachVec(
      count, [=](size_t i, size_t n) __attribute__((always_inline)) {
        storeUpTo(dx + i, loadUpTo(y + i, n) * (loadUpTo(dy + i, n) - sum), n);
      });
}

float logSumExpRow(const float *x, size_t count) {
  float shift = shiftFor(maxRow(x, count));
  Vec total{};
  forEachVec(
      count, [&](size_t i, size_t n) __attribute__((always_inline)) {
        Vec value = exponential(loadFilled(x + i, n, shift) - shift);
        total += firstLanes(value, n);
      });
  return shift + __builtin_logf(sumOf(total));
}

void expShiftRow(const float *x, float *y, size_t count, float shift) {
  forEachVec(
      count, [=](size_t i, size_t n) __attribute__((always_inline)) {
        storeUpTo(y + i, exponential(loadUpTo(x + i, n) - shift), n);
      });
}

float expRow(float *x, size_t count, float *sum) {
  float shift = maxRow(x, count);
  *sum = expAndSum(x, x, count, shift);
  return shift;
}

void scaleRow(float *x, size_t count, float factor) {
  forEachVec(
      count, [=](size_t i, size_t n) __attribute__((always_inline)) {
        storeUpTo(x + i, loadUpTo(x + i, n) * factor, n);
      });
}

void scoreGradientRow(float *s, float *dp, size_t count, float lse, float delta,
                      float scale) {
  forEachVec(
      count, [=](size_t i, size_t n) __attribute__((always_inline)) {
        Vec p = exponential(loadUpTo(s + i, n) - lse);
        storeUpTo(s + i, p, n);
        storeUpTo(dp + i, p * ((loadUpTo(dp + i, n) - delta) * scale), n);
      });
}

void layerNormRow(const float *x, const float *gamma, const float *beta,
                  float *y, size_t count, float epsilon, float *mean,
                  float *rstd) {
  float average = sumRow(x, count) / static_cast<float>(count);
  // Two passes: the difference of mean square and squared mean would cancel.
  float squares = sumOver(
      count, [=](size_t i, size_t n) __attribute__((always_inline)) {
        Vec difference = loadFilled(x + i, n, average) - average;
        return difference * difference;
      });
  float inverse =
      1.0f / __builtin_sqrtf(squares / static_cast<float>(count) + epsilon);
  forEachVec(
      count, [=](size_t i, size_t n) __attribute__((always_inline)) {
        Vec h = (loadUpTo(x + i, n) - average) * inverse;
        storeUpTo(y + i, h * loadUpTo(gamma + i, n) + loadUpTo(beta + i, n), n);
      });
  *mean = average;
  *rstd = inverse;
}

void layerNormBackwardRow(const float *dy, const float *x, const float *gamma,
                          float *dx, size_t count, float mean, float rstd) {
  Vec sumG{}, sumGH{};
  forEachVec(
      count, [&](size_t i, size_t n) __attribute__((always_inline)) {
        Vec g = loadUpTo(dy + i, n) * loadUpTo(gamma + i, n);
        sumG += g;
        sumGH += g * ((loadUpTo(x + i, n) - mean) * rstd);
      });
  Vec meanG = splat(sumOf(sumG) / static_cast<float>(count));
  Vec meanGH = splat(sumOf(sumGH) / static_cast<float>(count));
  forEachVec(
      count, [=](size_t i, size_t n) __attribute__((always_inline)) {
        Vec g = loadUpTo(dy + i, n) * loadUpTo(gamma + i, n);
        Vec h = (loadUpTo(x + i, n) - mean) * rstd;
        storeUpTo(dx + i, rstd * (g - meanG - h * meanGH), n);
      });
}

template <size_t N>
TOMBOLO_INLINE void layerNormWeightColumns(const float *dy, const float *x,
                                           const float *mean, const float *rstd,
                                           size_t first, size_t last,
                                           size_t stride, size_t c, size_t n,
                                           float *dgamma, float *dbeta) {
  Vec gamma[N] = {}, beta[N] = {};
  for (size_t r = first; r < last; ++r) {
    Vec m = splat(mean[r]), s = splat(rstd[r]);
    for (size_t k = 0; k < N; ++k) {
      Vec g = loadUpTo(dy + r * stride + c + k * kWidth, n);
      Vec h = (loadUpTo(x + r * stride + c + k * kWidth, n) - m) * s;
      gamma[k] += g * h;
      beta[k] += g;
    }
  }
  for (size_t k = 0; k < N; ++k) {
    float *toGamma = dgamma + c + k * kWidth, *toBeta = dbeta + c + k * kWidth;
    storeUpTo(toGamma, loadUpTo(toGamma, n) + gamma[k], n);
    storeUpTo(toBeta, loadUpTo(toBeta, n) + beta[k], n);
  }
}

void layerNormBackwardWeight(const float *dy, const float *x, const float *mean,
                             const float *rstd, size_t rows, size_t columns,
                             size_t stride, float *dgamma, float *dbeta) {
  for (size_t first = 0; first < rows; first += kPart) {
    size_t last = first + kPart < rows ? first + kPart : rows;
    size_t c = 0;
    for (; c + 4 * kWidth <= columns; c += 4 * kWidth)
      layerNormWeightColumns<4>(dy, x, mean, rstd, first, last, stride, c,
                                kWidth, dgamma, dbeta);
    for (; c < columns; c += kWidth) {
      size_t n = columns - c < kWidth ? columns - c : kWidth;
      layerNormWeightColumns<1>(dy, x, mean, rstd, first, last, stride, c, n,
                                dgamma, dbeta);
    }
  }
}

} // namespace

#endif // TOMBOLO_LIB_DEVICE_CPU_SIMD_ROWLOOPS_H
