//===- OpTable.cpp - the ONNX operators that are understood ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpTable.h"

#include "llvm/ADT/StringMap.h"

namespace tombolo::importer {

using namespace graph;

static constexpr OpEntry table[] = {
    // Computed from shapes, or known.
    {"Shape", 1, 1, noGradients, evaluateShape, nullptr},
    {"Size", 1, 1, noGradients, evaluateSize, nullptr},
    {"Constant", 0, 0, noGradients, evaluateConstant, nullptr},
    {"ConstantOfShape", 1, 1, noGradients, evaluateConstantOfShape, nullptr},
    {"Range", 3, 3, noGradients, evaluateRange, nullptr},
    {"Mod", 2, 2, noGradients, evaluateMod, nullptr},
    {"Floor", 1, 1, noGradients, evaluateFloor, nullptr},
    {"Ceil", 1, 1, noGradients, evaluateCeil, nullptr},
    // The angles of a rotary embedding: positions by frequencies.
    {"Cos", 1, 1, noGradients, evaluateCos, nullptr},
    {"Sin", 1, 1, noGradients, evaluateSin, nullptr},
    {"ReduceProd", 1, 2, 0b10, evaluateReduceProd, nullptr},
    // Elementwise.
    {"Add", 2, 2, 0, evaluateAdd, buildArithmetic<AddOp>},
    {"Sub", 2, 2, 0, evaluateSub, buildArithmetic<SubOp>},
    {"Mul", 2, 2, 0, evaluateMul, buildArithmetic<MulOp>},
    {"Div", 2, 2, 0, evaluateDiv, buildArithmetic<DivOp>},
    {"Pow", 2, 2, 0, evaluatePow, buildPow},
    {"Equal", 2, 2, noGradients, evaluateEqual, buildBinary<EqualOp>},
    {"Less", 2, 2, noGradients, evaluateLess, buildBinary<LessOp>},
    {"LessOrEqual", 2, 2, noGradients, evaluateLessOrEqual, buildLessOrEqual},
    {"Greater", 2, 2, noGradients, evaluateGreater, buildGreater},
    {"GreaterOrEqual", 2, 2, noGradients, evaluateGreaterOrEqual,
     buildGreaterOrEqual},
    {"And", 2, 2, noGradients, evaluateAnd, buildAnd},
    {"Or", 2, 2, noGradients, evaluateOr, buildOr},
    {"Xor", 2, 2, noGradients, evaluateXor, buildXor},
    {"Not", 1, 1, noGradients, evaluateNot, buildNot},
    {"Abs", 1, 1, 0, evaluateAbs, buildAbs},
    {"Max", 1, 64, 0, evaluateMax, buildMax},
    {"Min", 1, 64, 0, evaluateMin, buildMin},
    {"Neg", 1, 1, 0, evaluateNeg, buildUnary<NegOp>},
    {"Sqrt", 1, 1, 0, evaluateSqrt, buildUnary<SqrtOp>},
    {"Reciprocal", 1, 1, 0, evaluateReciprocal, buildUnary<ReciprocalOp>},
    {"Exp", 1, 1, 0, evaluateExp, buildUnary<ExpOp>},
    {"Log", 1, 1, 0, evaluateLog, buildUnary<LogOp>},
    {"Erf", 1, 1, 0, nullptr, buildUnary<ErfOp>},
    {"Tanh", 1, 1, 0, nullptr, buildUnary<TanhOp>},
    {"Sigmoid", 1, 1, 0, nullptr, buildUnary<SigmoidOp>},
    {"Relu", 1, 1, 0, nullptr, buildUnary<ReluOp>},
    {"Softplus", 1, 1, 0, nullptr, buildUnary<SoftplusOp>},
    {"HardSwish", 1, 1, 0, nullptr, buildUnary<HardSwishOp>},
    {"Gelu", 1, 1, 0, nullptr, buildGelu},
    {"Mish", 1, 1, 0, nullptr, buildMish},
    {"LeakyRelu", 1, 1, 0, nullptr, buildLeakyRelu},
    {"PRelu", 2, 2, 0, nullptr, buildPRelu},
    {"Elu", 1, 1, 0, nullptr, buildElu},
    {"Selu", 1, 1, 0, nullptr, buildSelu},
    {"Celu", 1, 1, 0, nullptr, buildCelu},
    {"HardSigmoid", 1, 1, 0, nullptr, buildHardSigmoid},
    {"ThresholdedRelu", 1, 1, 0, nullptr, buildThresholdedRelu},
    {"Softsign", 1, 1, 0, nullptr, buildSoftsign},
    {"Clip", 1, 3, 0, nullptr, buildClip},
    {"Sum", 1, 64, 0, nullptr, buildSum},
    {"Mean", 1, 64, 0, nullptr, buildMean},
    {"Where", 3, 3, 0b001, evaluateWhere, buildWhere},
    {"Cast", 1, 1, 0, evaluateCast, importer::buildCast},
    {"Identity", 1, 1, 0, nullptr, buildIdentity},
    {"Dropout", 1, 3, 0b110, nullptr, buildDropout},
    // Moving elements.
    {"Reshape", 2, 2, 0b10, evaluateReshape, importer::buildReshape},
    {"Flatten", 1, 1, 0, evaluateFlatten, buildFlatten},
    {"Squeeze", 1, 2, 0b10, evaluateSqueeze, buildSqueeze},
    {"Unsqueeze", 1, 2, 0b10, evaluateUnsqueeze, buildUnsqueeze},
    {"Transpose", 1, 1, 0, evaluateTranspose, buildTranspose},
    {"Expand", 2, 2, 0b10, evaluateExpand, buildExpand},
    {"Slice", 3, 5, 0b11110, evaluateSlice, buildSlice},
    {"Split", 1, 2, 0b10, evaluateSplit, buildSplit},
    {"Tile", 2, 2, 0b10, nullptr, buildTile},
    {"Pad", 2, 4, 0b1110, nullptr, buildPad},
    {"OneHot", 3, 3, 0b011, nullptr, buildOneHot},
    {"Concat", 1, 1 << 16, 0, evaluateConcat, buildConcat},
    {"Gather", 2, 2, 0b10, evaluateGather, buildGather},
    {"Trilu", 1, 2, 0b10, evaluateTrilu, buildTrilu},
    // Windows over space.
    {"Conv", 2, 3, 0, nullptr, buildConv},
    {"MaxPool", 1, 1, 0, nullptr, buildMaxPool},
    {"AveragePool", 1, 1, 0, nullptr, buildAveragePool},
    {"GlobalAveragePool", 1, 1, 0, nullptr, buildGlobalAveragePool},
    {"GlobalMaxPool", 1, 1, 0, nullptr, buildGlobalMaxPool},
    {"BatchNormalization", 5, 5, 0b11000, nullptr, buildBatchNormalization},
    // Contractions, reductions and norms.
    {"MatMul", 2, 2, 0, nullptr, buildMatMul},
    {"Gemm", 2, 3, 0, nullptr, buildGemm},
    {"Einsum", 1, 64, 0, nullptr, buildEinsum},
    {"Softmax", 1, 1, 0, nullptr, buildSoftmax},
    {"LogSoftmax", 1, 1, 0, nullptr, buildLogSoftmax},
    {"ReduceSum", 1, 2, 0b10, evaluateReduceSum, buildReduceSum},
    {"ReduceMean", 1, 2, 0b10, nullptr, buildReduceMean},
    {"ReduceMax", 1, 2, 0b10, evaluateReduceMax, buildReduceMax},
    {"ReduceMin", 1, 2, 0b10, evaluateReduceMin, buildReduceMin},
    {"ReduceL1", 1, 2, 0b10, nullptr, buildReduceL1},
    {"ReduceL2", 1, 2, 0b10, nullptr, buildReduceL2},
    {"ReduceSumSquare", 1, 2, 0b10, nullptr, buildReduceSumSquare},
    {"ReduceLogSum", 1, 2, 0b10, nullptr, buildReduceLogSum},
    {"ReduceLogSumExp", 1, 2, 0b10, nullptr, buildReduceLogSumExp},
    {"LayerNormalization", 2, 3, 0, nullptr, buildLayerNormalization},
    {"InstanceNormalization", 3, 3, 0, nullptr, buildInstanceNormalization},
    {"GroupNormalization", 3, 3, 0, nullptr, buildGroupNormalization},
    // Losses of models that compute their own.
    {"SoftmaxCrossEntropyLoss", 2, 3, 0b110, nullptr,
     buildSoftmaxCrossEntropyLoss},
    {"NegativeLogLikelihoodLoss", 2, 3, 0b110, nullptr,
     buildNegativeLogLikelihoodLoss},
};

llvm::ArrayRef<OpEntry> getOps() { return table; }

const OpEntry *findOp(const onnx::NodeProto &node) {
  static const llvm::StringMap<const OpEntry *> byType = [] {
    llvm::StringMap<const OpEntry *> map;
    for (const OpEntry &entry : table)
      map[entry.type] = &entry;
    return map;
  }();
  if (!node.domain().empty() && node.domain() != "ai.onnx")
    return nullptr;
  // Control flow: no operator of the table has a graph inside.
  for (const onnx::AttributeProto &attribute : node.attribute())
    if (attribute.has_g() || attribute.graphs_size())
      return nullptr;
  return byType.lookup(node.op_type());
}

} // namespace tombolo::importer
