//===- OptimizerLoops.h - updates of flat parameters ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// In the order of operations of torch.optim, so that 50 steps agree closely.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_SIMD_OPTIMIZERLOOPS_H
#define TOMBOLO_LIB_DEVICE_CPU_SIMD_OPTIMIZERLOOPS_H

#include "Loops.h"
#include "RowLoops.h"

namespace {

using tombolo::runtime::cpu::AdamWConstants;
using tombolo::runtime::cpu::SgdConstants;

void adamw(float *param, const float *grad, float *average,
           float *averageOfSquares, size_t count, AdamWConstants k) {
  forEachVec(
      count, [=](size_t i, size_t n) __attribute__((always_inline)) {
        Vec g = loadUpTo(grad + i, n) / k.weight;
        Vec p = loadUpTo(param + i, n) * k.decay;
        Vec m = loadUpTo(average + i, n) * k.beta1 + g * k.oneMinusBeta1;
        Vec v = loadUpTo(averageOfSquares + i, n) * k.beta2 +
                g * g * k.oneMinusBeta2;
        Vec denominator = squareRoot(v) / k.sqrtBias2 + k.epsilon;
        p = p - k.stepSize * (m / denominator);
        storeUpTo(average + i, m, n);
        storeUpTo(averageOfSquares + i, v, n);
        storeUpTo(param + i, p, n);
      });
}

void sgd(float *param, const float *grad, float *momentumBuffer, size_t count,
         SgdConstants k) {
  forEachVec(
      count, [=](size_t i, size_t n) __attribute__((always_inline)) {
        Vec p = loadUpTo(param + i, n);
        Vec d = loadUpTo(grad + i, n) / k.weight + k.weightDecay * p;
        if (momentumBuffer) {
          if (!k.firstUpdate)
            d = loadUpTo(momentumBuffer + i, n) * k.momentum + d;
          storeUpTo(momentumBuffer + i, d, n);
        }
        storeUpTo(param + i, p - k.learningRate * d, n);
      });
}

} // namespace

#endif // TOMBOLO_LIB_DEVICE_CPU_SIMD_OPTIMIZERLOOPS_H
