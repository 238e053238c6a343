//===- OpTable.h - the ONNX operators that are understood -------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_ONNX_OPTABLE_H
#define TOMBOLO_LIB_IMPORT_ONNX_OPTABLE_H

#include "NodeContext.h"

namespace tombolo::importer {

/// How to import one operator.
struct OpEntry {
  const char *type;
  unsigned minOperands, maxOperands;
  /// Bit i: no gradient flows to operand i.
  uint32_t noGradient;
  /// Sets the results when they follow from what is known at import and
  /// returns true; null for operators that are never folded.
  bool (*evaluate)(NodeContext &);
  /// Builds ops of the dialect, or fails with an error; null for operators
  /// that must be folded.
  mlir::LogicalResult (*build)(NodeContext &);
};

/// Every operand is without gradient.
inline constexpr uint32_t noGradients = ~uint32_t{0};

/// All operators, in the order of the table.
llvm::ArrayRef<OpEntry> getOps();

/// Null when the operator is not supported.
const OpEntry *findOp(const onnx::NodeProto &node);

//===--- Shared by all evaluation -----------------------------------------===//

/// Sets the node's first result if its value is known; returns whether it is.
inline bool setIfKnown(NodeContext &context, std::optional<Symbolic> value) {
  if (value)
    (void)context.setResult(0, std::move(*value));
  return value.has_value();
}

//===--- Shared by evaluation and building --------------------------------===//

/// A slice along one axis.
struct SliceRange {
  size_t axis;
  Affine start, size;
  int64_t step;
};
/// The slices of a Slice node on an operand of this shape; steps may be
/// negative. An error when they are not known.
mlir::FailureOr<llvm::SmallVector<SliceRange>>
getSlices(NodeContext &context, llvm::ArrayRef<Affine> shape);
/// Whether Trilu may be given this diagonal: beyond those of any matrix, and
/// without overflow when indices are added.
inline bool isDiagonal(int64_t k) {
  constexpr int64_t most = int64_t{1} << 30;
  return k >= -most && k <= most;
}
/// The sizes of a Split node's results along its axis.
mlir::FailureOr<llvm::SmallVector<int64_t>> getSplitSizes(NodeContext &context,
                                                          Affine length);
/// The result shapes of Reshape, Squeeze, Unsqueeze, Flatten and Expand.
mlir::FailureOr<Shape> getReshape(NodeContext &context);
mlir::FailureOr<Shape> getSqueeze(NodeContext &context);
mlir::FailureOr<Shape> getUnsqueeze(NodeContext &context);
mlir::FailureOr<Shape> getFlatten(NodeContext &context);
mlir::FailureOr<Shape> getExpand(NodeContext &context);
/// Transpose's permutation.
mlir::FailureOr<llvm::SmallVector<int64_t>> getPermutation(NodeContext &context,
                                                           size_t rank);

//===--- Evaluation (SymbolicOps.cpp) -------------------------------------===//
bool evaluateAdd(NodeContext &);
bool evaluateSub(NodeContext &);
bool evaluateMul(NodeContext &);
bool evaluateDiv(NodeContext &);
bool evaluateMod(NodeContext &);
bool evaluatePow(NodeContext &);
bool evaluateMin(NodeContext &);
bool evaluateMax(NodeContext &);
bool evaluateEqual(NodeContext &);
bool evaluateLess(NodeContext &);
bool evaluateLessOrEqual(NodeContext &);
bool evaluateGreater(NodeContext &);
bool evaluateGreaterOrEqual(NodeContext &);
bool evaluateAnd(NodeContext &);
bool evaluateOr(NodeContext &);
bool evaluateXor(NodeContext &);
bool evaluateNot(NodeContext &);
bool evaluateNeg(NodeContext &);
bool evaluateAbs(NodeContext &);
bool evaluateFloor(NodeContext &);
bool evaluateCeil(NodeContext &);
bool evaluateSqrt(NodeContext &);
bool evaluateReciprocal(NodeContext &);
bool evaluateExp(NodeContext &);
bool evaluateCos(NodeContext &);
bool evaluateSin(NodeContext &);
bool evaluateLog(NodeContext &);
bool evaluateCast(NodeContext &);
bool evaluateWhere(NodeContext &);
// SymbolicShapeOps.cpp
bool evaluateShape(NodeContext &);
bool evaluateSize(NodeContext &);
bool evaluateConstant(NodeContext &);
bool evaluateConstantOfShape(NodeContext &);
bool evaluateRange(NodeContext &);
bool evaluateReshape(NodeContext &);
bool evaluateFlatten(NodeContext &);
bool evaluateSqueeze(NodeContext &);
bool evaluateUnsqueeze(NodeContext &);
bool evaluateTranspose(NodeContext &);
bool evaluateExpand(NodeContext &);
bool evaluateSlice(NodeContext &);
bool evaluateSplit(NodeContext &);
bool evaluateConcat(NodeContext &);
bool evaluateGather(NodeContext &);
bool evaluateTrilu(NodeContext &);
bool evaluateReduceProd(NodeContext &);
bool evaluateReduceSum(NodeContext &);
bool evaluateReduceMax(NodeContext &);
bool evaluateReduceMin(NodeContext &);

//===--- Building (BuildOps.cpp, BuildShapeOps.cpp) -----------------------===//
mlir::LogicalResult buildGreater(NodeContext &);
mlir::LogicalResult buildLessOrEqual(NodeContext &);
mlir::LogicalResult buildGreaterOrEqual(NodeContext &);
mlir::LogicalResult buildAnd(NodeContext &);
mlir::LogicalResult buildOr(NodeContext &);
mlir::LogicalResult buildXor(NodeContext &);
mlir::LogicalResult buildAbs(NodeContext &);
mlir::LogicalResult buildMax(NodeContext &);
mlir::LogicalResult buildMin(NodeContext &);
mlir::LogicalResult buildNot(NodeContext &);
mlir::LogicalResult buildPow(NodeContext &);
mlir::LogicalResult buildGelu(NodeContext &);
mlir::LogicalResult buildWhere(NodeContext &);
mlir::LogicalResult buildCast(NodeContext &);
mlir::LogicalResult buildIdentity(NodeContext &);
mlir::LogicalResult buildDropout(NodeContext &);
mlir::LogicalResult buildMatMul(NodeContext &);
mlir::LogicalResult buildGemm(NodeContext &);
mlir::LogicalResult buildSoftmax(NodeContext &);
mlir::LogicalResult buildLogSoftmax(NodeContext &);
mlir::LogicalResult buildReduceSum(NodeContext &);
mlir::LogicalResult buildReduceMean(NodeContext &);
mlir::LogicalResult buildReduceMax(NodeContext &);
mlir::LogicalResult buildReduceMin(NodeContext &);
mlir::LogicalResult buildLayerNormalization(NodeContext &);
// BuildFormulas.cpp
mlir::LogicalResult buildClip(NodeContext &);
mlir::LogicalResult buildLeakyRelu(NodeContext &);
mlir::LogicalResult buildPRelu(NodeContext &);
mlir::LogicalResult buildElu(NodeContext &);
mlir::LogicalResult buildSelu(NodeContext &);
mlir::LogicalResult buildCelu(NodeContext &);
mlir::LogicalResult buildHardSigmoid(NodeContext &);
mlir::LogicalResult buildThresholdedRelu(NodeContext &);
mlir::LogicalResult buildSoftsign(NodeContext &);
mlir::LogicalResult buildMish(NodeContext &);
mlir::LogicalResult buildSum(NodeContext &);
mlir::LogicalResult buildMean(NodeContext &);
mlir::LogicalResult buildReduceL1(NodeContext &);
mlir::LogicalResult buildReduceL2(NodeContext &);
mlir::LogicalResult buildReduceSumSquare(NodeContext &);
mlir::LogicalResult buildReduceLogSum(NodeContext &);
mlir::LogicalResult buildReduceLogSumExp(NodeContext &);
mlir::LogicalResult buildInstanceNormalization(NodeContext &);
mlir::LogicalResult buildGroupNormalization(NodeContext &);
// BuildEinsum.cpp
mlir::LogicalResult buildEinsum(NodeContext &);
// BuildLosses.cpp
mlir::LogicalResult buildNegativeLogLikelihoodLoss(NodeContext &);
mlir::LogicalResult buildSoftmaxCrossEntropyLoss(NodeContext &);
mlir::LogicalResult buildOneHot(NodeContext &);
// BuildConv.cpp
mlir::LogicalResult buildConv(NodeContext &);
mlir::LogicalResult buildMaxPool(NodeContext &);
mlir::LogicalResult buildAveragePool(NodeContext &);
mlir::LogicalResult buildGlobalAveragePool(NodeContext &);
mlir::LogicalResult buildGlobalMaxPool(NodeContext &);
mlir::LogicalResult buildBatchNormalization(NodeContext &);
// BuildShapeOps.cpp
mlir::LogicalResult buildReshape(NodeContext &);
mlir::LogicalResult buildFlatten(NodeContext &);
mlir::LogicalResult buildSqueeze(NodeContext &);
mlir::LogicalResult buildUnsqueeze(NodeContext &);
mlir::LogicalResult buildTranspose(NodeContext &);
mlir::LogicalResult buildExpand(NodeContext &);
mlir::LogicalResult buildSlice(NodeContext &);
mlir::LogicalResult buildSplit(NodeContext &);
mlir::LogicalResult buildTile(NodeContext &);
mlir::LogicalResult buildPad(NodeContext &);
mlir::LogicalResult buildConcat(NodeContext &);
mlir::LogicalResult buildGather(NodeContext &);
mlir::LogicalResult buildTrilu(NodeContext &);

/// A binary elementwise op.
template <typename Op> mlir::LogicalResult buildBinary(NodeContext &context) {
  std::optional<Shape> shape =
      broadcastShapes(context.getOperandShape(0), context.getOperandShape(1));
  if (!shape)
    return context.emitError()
           << "operands of shapes " << toString(context.getOperandShape(0))
           << " and " << toString(context.getOperandShape(1))
           << " do not go together";
  mlir::Value lhs = context.getBroadcastableValue(0, *shape);
  mlir::Value rhs = context.getBroadcastableValue(1, *shape);
  if (!lhs || !rhs)
    return mlir::failure();
  return context.setResult(0, context.make<Op>({lhs, rhs}));
}

/// A binary elementwise op on floats: integers are computed with at import
/// only.
template <typename Op>
mlir::LogicalResult buildArithmetic(NodeContext &context) {
  mlir::Value lhs = context.getValue(0);
  if (!lhs || mlir::failed(context.requireFloat(lhs)))
    return mlir::failure();
  return buildBinary<Op>(context);
}

/// A unary elementwise op on floats.
template <typename Op> mlir::LogicalResult buildUnary(NodeContext &context) {
  mlir::Value value = context.getValue(0);
  if (!value || mlir::failed(context.requireFloat(value)))
    return mlir::failure();
  return context.setResult(0, context.make<Op>(value));
}

} // namespace tombolo::importer

#endif // TOMBOLO_LIB_IMPORT_ONNX_OPTABLE_H
