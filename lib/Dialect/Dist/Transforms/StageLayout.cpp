//===- StageLayout.cpp - where a stage's parameters lie -------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/Transforms/StageLayout.h"

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace tombolo::dist {

static constexpr int64_t kAlignment = 64;
static int64_t alignUp(int64_t bytes) {
  return llvm::alignTo(bytes, kAlignment);
}

FailureOr<StageLayout> layOut(StageOp stage, SymbolTable &symbols) {
  StageLayout layout;
  struct Place {
    int64_t offset;
    bool frozen;
  };
  llvm::DenseMap<StringAttr, Place> placed;
  for (RunOp run : stage.getBody().getOps<RunOp>()) {
    RunLayout &mine = layout.runs.emplace_back();
    size_t firstFamily = layout.families.size();
    int64_t trainableStart = layout.trainableBytes;
    int64_t frozenStart = layout.frozenBytes;
    for (auto [k, attribute] : llvm::enumerate(run.getParametersOf(0))) {
      auto symbol = cast<FlatSymbolRefAttr>(attribute);
      auto known = placed.find(symbol.getAttr());
      if (known != placed.end()) {
        mine.offsets.push_back(known->second.offset);
        mine.frozen.push_back(known->second.frozen);
        continue;
      }
      auto parameter = symbols.lookup<graph::ParameterOp>(symbol.getAttr());
      if (!parameter)
        return run.emitOpError() << "unknown parameter " << symbol;
      bool frozen = parameter.getFrozen();
      int64_t &end = frozen ? layout.frozenBytes : layout.trainableBytes;
      auto type = cast<RankedTensorType>(parameter.getType());
      placed[symbol.getAttr()] = {end, frozen};
      mine.offsets.push_back(end);
      mine.frozen.push_back(frozen);
      ParameterFamily &family = layout.families.emplace_back();
      family.type = type;
      family.frozen = frozen;
      family.offset = end;
      for (int64_t block = 0; block < run.getCount(); ++block)
        family.parameters.push_back(
            cast<FlatSymbolRefAttr>(run.getParametersOf(block)[k]));
      end += alignUp(graph::getNumBytes(type, 1));
    }
    mine.stride = layout.trainableBytes - trainableStart;
    mine.frozenStride = layout.frozenBytes - frozenStart;
    layout.trainableBytes = trainableStart + mine.stride * run.getCount();
    layout.frozenBytes = frozenStart + mine.frozenStride * run.getCount();
    for (size_t i = firstFamily; i < layout.families.size(); ++i) {
      ParameterFamily &family = layout.families[i];
      family.stride = family.frozen ? mine.frozenStride : mine.stride;
    }
  }
  if (stage.getOptimizerSharding()) {
    layout.parts = 0;
    for (auto group : stage.getBody().getOps<ReplicasOp>())
      layout.parts += group.getCount();
    layout.trainableBytes =
        llvm::alignTo(layout.trainableBytes, kAlignment * layout.parts);
  }
  return layout;
}

} // namespace tombolo::dist
