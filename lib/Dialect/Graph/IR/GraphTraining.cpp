//===- GraphTraining.cpp - what only training needs -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

using namespace mlir;
using namespace tombolo::graph;

using OptionalLocation = std::optional<Location>;
using Types = SmallVectorImpl<Type>;

static RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

//===----------------------------------------------------------------------===//
// Gradient clipping
//===----------------------------------------------------------------------===//

LogicalResult ClipWeightOp::inferReturnTypes(MLIRContext *,
                                             OptionalLocation location,
                                             Adaptor adaptor, Types &types) {
  for (Value value : {adaptor.getSquares(), adaptor.getWeight()})
    if (!typeOf(value).hasStaticShape() || typeOf(value).getNumElements() != 1)
      return emitOptionalError(location, "expects one element, got ",
                               value.getType());
  types.push_back(adaptor.getWeight().getType());
  return success();
}

bool ClipWeightOp::keepsFloat32(unsigned) { return true; }

//===----------------------------------------------------------------------===//
// Dropout
//===----------------------------------------------------------------------===//

LogicalResult DropoutOp::inferReturnTypes(MLIRContext *,
                                          OptionalLocation location,
                                          Adaptor adaptor, Types &types) {
  double ratio = adaptor.getRatio().convertToDouble();
  if (!(ratio >= 0 && ratio < 1))
    return emitOptionalError(location, "expected a ratio in [0, 1), got ",
                             std::to_string(ratio));
  RankedTensorType stamp = typeOf(adaptor.getStamp());
  if (!stamp.hasStaticShape() || stamp.getNumElements() != 4)
    return emitOptionalError(location,
                             "expected a stamp of 4 numbers (seed, step, first "
                             "sample, block), got ",
                             stamp);
  RankedTensorType type = typeOf(adaptor.getInput());
  for (int64_t i = 1; i < type.getRank(); ++i)
    if (type.isDynamicDim(i))
      return emitOptionalError(location,
                               "expected the samples in the first dimension, "
                               "got ",
                               type);
  types.push_back(type);
  return success();
}

FailureOr<SmallVector<Value>>
DropoutOp::buildGradient(OpBuilder &builder, ArrayRef<Value> resultGradients,
                         ArrayRef<bool> needed) {
  SmallVector<Value> gradients((*this)->getNumOperands());
  // The mask is drawn again: nothing has to be saved.
  if (needed[0] && resultGradients[0])
    gradients[0] = builder.create<DropoutOp>(
        getLoc(), resultGradients[0].getType(), resultGradients[0], getStamp(),
        getIndex(), getRatioAttr(), getSiteAttr(), getSharedAttr(),
        getPartAttr());
  return gradients;
}

OpCost DropoutOp::getCost(int64_t batch) {
  // About 20 integer operations for each number of the generator.
  OpCost cost = getElementwiseCost(*this, batch);
  cost.flops *= 20;
  return cost;
}

FailureOr<ShardingRule> DropoutOp::getShardingRule() {
  RankedTensorType type = getInput().getType();
  std::string letters = "abdefghijklmnopqr";
  std::string word = letters.substr(0, type.getRank());
  // A part knows its place in the whole, but not a part of a part.
  ShardingRule rule =
      getEinsumRule(*this, word + (getIndex() ? ", s, -> " : ", s -> ") + word,
                    getIndex() ? word + "s" : std::string("as"), {{0}});
  for (ShardingFactor &factor : rule.factors)
    factor.consecutive = true;
  return rule;
}

FailureOr<SmallVector<Value>>
DropoutOp::buildShard(OpBuilder &builder, ValueRange operands, TypeRange types,
                      int factor, const ShardContext &context) {
  ArrayRef<int64_t> whole = getInput().getType().getShape();
  ArrayRef<int64_t> part = typeOf(operands[0]).getShape();
  for (auto [i, sizes] : llvm::enumerate(llvm::zip(whole, part)))
    if (std::get<0>(sizes) != std::get<1>(sizes))
      return SmallVector<Value>{builder.create<DropoutOp>(
          getLoc(), types[0], operands[0], operands[1],
          context.getTensorIndex(), getRatioAttr(), getSiteAttr(),
          getSharedAttr(),
          builder.getDenseI64ArrayAttr(
              {static_cast<int64_t>(i), 1, context.count}))};
  return buildShardByClone(*this, builder, operands, types);
}

bool DropoutOp::canWriteInPlace(unsigned, unsigned operand) {
  return operand == 0;
}
