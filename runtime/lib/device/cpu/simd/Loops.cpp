//===- Loops.cpp - the loops, compiled for one instruction set ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// CMake compiles this file once for each instruction set, with TOMBOLO_LOOPS
// the name of the function to define and TOMBOLO_LOOPS_NAME what to call it.
//
//===----------------------------------------------------------------------===//

#include "Loops.h"

#include "ElementwiseLoops.h"
#include "OptimizerLoops.h"
#include "RowLoops.h"

const tombolo::runtime::cpu::Loops *tombolo::runtime::cpu::TOMBOLO_LOOPS() {
  static constexpr Loops loops = {
      .name = TOMBOLO_LOOPS_NAME,
      .add = binaryRow<AddOp>,
      .sub = binaryRow<SubOp>,
      .mul = binaryRow<MulOp>,
      .div = binaryRow<DivOp>,
      .pow = powRow,
      .neg = unaryRow<NegOp>,
      .exp = unaryRow<ExpOp>,
      .log = unaryRow<LogOp>,
      .sqrt = unaryRow<SqrtOp>,
      .reciprocal = unaryRow<ReciprocalOp>,
      .tanh = unaryRow<TanhOp>,
      .erf = unaryRow<ErfOp>,
      .sigmoid = unaryRow<SigmoidOp>,
      .relu = unaryRow<ReluOp>,
      .softplus = unaryRow<SoftplusOp>,
      .hardSwish = unaryRow<HardSwishOp>,
      .reluBackward = binaryRow<ReluBackwardOp>,
      .hardSwishBackward = binaryRow<HardSwishBackwardOp>,
      .gelu = unaryRow<GeluOp>,
      .geluTanh = unaryRow<GeluTanhOp>,
      .geluBackward = binaryRow<GeluBackwardOp>,
      .geluTanhBackward = binaryRow<GeluTanhBackwardOp>,
      .sumRow = sumRow,
      .maxRow = maxRow,
      .addRows = addRows,
      .maxRows = maxRows,
      .softmaxRow = softmaxRow,
      .softmaxBackwardRow = softmaxBackwardRow,
      .logSumExpRow = logSumExpRow,
      .expRow = expRow,
      .scaleRow = scaleRow,
      .expShiftRow = expShiftRow,
      .dotRow = dotRow,
      .scoreGradientRow = scoreGradientRow,
      .layerNormRow = layerNormRow,
      .layerNormBackwardRow = layerNormBackwardRow,
      .layerNormBackwardWeight = layerNormBackwardWeight,
      .adamw = adamw,
      .sgd = sgd,
  };
  return &loops;
}
