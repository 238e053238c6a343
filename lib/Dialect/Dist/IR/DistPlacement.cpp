//===- DistPlacement.cpp - what passes add to a strategy -------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/IR/Dist.h"

using namespace mlir;
using namespace tombolo::dist;

SmallVector<SmallVector<RunOp>> tombolo::dist::getPlaces(IslandOp island) {
  auto stages = llvm::to_vector(island.getBody().getOps<StageOp>());
  SmallVector<SmallVector<RunOp>> places(island.getChunks() * stages.size());
  for (auto [s, stage] : llvm::enumerate(stages))
    for (RunOp run : stage.getBody().getOps<RunOp>())
      places[run.getChunk() * stages.size() + s].push_back(run);
  return places;
}

LogicalResult RunOp::verify() {
  auto island = (*this)->getParentOfType<IslandOp>();
  if (island && getChunk() >= island.getChunks())
    return emitOpError() << "is in chunk " << static_cast<int64_t>(getChunk())
                         << " of " << static_cast<int64_t>(island.getChunks());
  if (getParameters().empty())
    return emitOpError("expected at least one block");
  size_t count = getParametersOf(0).size();
  for (Attribute list : getParameters())
    if (cast<ArrayAttr>(list).size() != count)
      return emitOpError() << "expected " << count
                           << " parameters for each block, got "
                           << cast<ArrayAttr>(list).size();
  bool all = getForward() && getBackwardInput() && getBackwardWeight();
  bool none = !getForward() && !getBackwardInput() && !getBackwardWeight();
  if (!all && !none)
    return emitOpError("expected three functions, or none");
  return success();
}

LogicalResult OptimizerOp::verify() {
  SmallVector<StringRef> expected;
  if (getKind() == "sgd")
    expected = {"momentum", "weight_decay"};
  else if (getKind() == "adamw")
    expected = {"beta1", "beta2", "epsilon", "weight_decay"};
  else
    return emitOpError() << "expected sgd or adamw, got \"" << getKind()
                         << "\"";
  for (StringRef name : expected)
    if (!getSettings().getAs<FloatAttr>(name))
      return emitOpError() << "expected a real setting '" << name << "'";
  return success();
}
