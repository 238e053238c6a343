//===- GraphCollectives.cpp - what chips do together ----------------------===//
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

/// [count, ...] without its first dimension.
static LogicalResult inferPart(OptionalLocation location, Value input,
                               Types &types) {
  auto type = cast<RankedTensorType>(input.getType());
  if (type.getRank() == 0 || type.isDynamicDim(0))
    return emitOptionalError(
        location, "expected a leading dimension of one part per chip, got ",
        type);
  types.push_back(RankedTensorType::get(type.getShape().drop_front(),
                                        type.getElementType(),
                                        type.getEncoding()));
  return success();
}

LogicalResult AllReduceOp::inferReturnTypes(MLIRContext *, OptionalLocation,
                                            Adaptor adaptor, Types &types) {
  types.push_back(adaptor.getInput().getType());
  return success();
}

LogicalResult AllGatherOp::inferReturnTypes(MLIRContext *,
                                            OptionalLocation location,
                                            Adaptor adaptor, Types &types) {
  if (adaptor.getCount() < 1)
    return emitOptionalError(location, "expected a positive count, got ",
                             adaptor.getCount());
  auto type = cast<RankedTensorType>(adaptor.getInput().getType());
  SmallVector<int64_t> shape{int64_t(adaptor.getCount())};
  llvm::append_range(shape, type.getShape());
  types.push_back(RankedTensorType::get(shape, type.getElementType(),
                                        type.getEncoding()));
  return success();
}

LogicalResult ReduceScatterOp::inferReturnTypes(MLIRContext *,
                                                OptionalLocation location,
                                                Adaptor adaptor, Types &types) {
  return inferPart(location, adaptor.getInput(), types);
}

LogicalResult AllToAllOp::inferReturnTypes(MLIRContext *, OptionalLocation,
                                           Adaptor adaptor, Types &types) {
  types.push_back(adaptor.getInput().getType());
  return success();
}

LogicalResult ShardOp::inferReturnTypes(MLIRContext *,
                                        OptionalLocation location,
                                        Adaptor adaptor, Types &types) {
  return inferPart(location, adaptor.getInput(), types);
}
