//===- Gemm.h - products of matrices with strides ---------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_GEMM_H
#define TOMBOLO_LIB_DEVICE_CPU_GEMM_H

#include <cstdint>
#include <optional>

namespace tombolo::runtime::cpu {

/// How a matrix of `rows` x `columns` lies in memory, in the words of BLAS.
struct MatrixLayout {
  char transposed = 'N'; ///< 'T': columns are contiguous, `leading` apart
  std::int64_t leading = 1;

  /// Nothing if neither rows nor columns are contiguous or they overlap.
  static std::optional<MatrixLayout> of(std::int64_t rows, std::int64_t columns,
                                        std::int64_t rowStride,
                                        std::int64_t columnStride);
};

/// c (row-major, `leadingC` apart) = alpha a b + beta c; c is not read when
/// beta is 0. All extents positive.
void gemm(std::int64_t m, std::int64_t n, std::int64_t k, float alpha,
          const float *a, MatrixLayout layoutA, const float *b,
          MatrixLayout layoutB, float beta, float *c, std::int64_t leadingC);

} // namespace tombolo::runtime::cpu

#endif // TOMBOLO_LIB_DEVICE_CPU_GEMM_H
