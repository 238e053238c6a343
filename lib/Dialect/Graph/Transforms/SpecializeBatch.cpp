//===- SpecializeBatch.cpp - give the batch dimension a size --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"
#include "tombolo/Dialect/Graph/Transforms/Specialize.h"

using namespace mlir;

namespace tombolo::graph {
#define GEN_PASS_DEF_GRAPHSPECIALIZEBATCH
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

FailureOr<BlockFunctions> BlockFunctions::get(func::FuncOp block) {
  BlockFunctions functions;
  for (auto [attribute, function] :
       {std::pair(kForwardAttr, &functions.forward),
        std::pair(kBackwardInputAttr, &functions.backwardInput),
        std::pair(kBackwardWeightAttr, &functions.backwardWeight)}) {
    auto name = block->getAttrOfType<FlatSymbolRefAttr>(attribute);
    if (!name)
      return block.emitError()
             << "block is not differentiated: it has no attribute '"
             << attribute << "'; run graph-differentiate first";
    *function = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(block, name);
    if (!*function)
      return block.emitError() << "no function is named " << name;
  }
  for (auto [attribute, count] :
       {std::pair(kSavedCountAttr, &functions.savedCount),
        std::pair(kCarriedCountAttr, &functions.carriedCount)}) {
    auto value = block->getAttrOfType<IntegerAttr>(attribute);
    if (!value)
      return block.emitError() << "block has no attribute '" << attribute
                               << "'; run graph-differentiate first";
    *count = value.getInt();
  }
  return functions;
}

unsigned BlockFunctions::getParameterCount() {
  unsigned count = 0;
  for (unsigned i = 0, e = forward.getNumArguments(); i < e; ++i)
    count += forward.getArgAttr(i, kParameterAttr) != nullptr;
  return count;
}

void specializeBatch(func::FuncOp function, int64_t batch) {
  auto specialize = [&](Type type) -> Type {
    auto tensor = dyn_cast<RankedTensorType>(type);
    return tensor ? getStaticType(tensor, batch) : type;
  };
  function.walk([&](Operation *op) {
    for (Value result : op->getResults())
      result.setType(specialize(result.getType()));
    for (Region &region : op->getRegions())
      for (BlockArgument argument : region.getArguments())
        argument.setType(specialize(argument.getType()));
  });
  FunctionType type = function.getFunctionType();
  function.setFunctionType(FunctionType::get(
      type.getContext(), llvm::map_to_vector(type.getInputs(), specialize),
      llvm::map_to_vector(type.getResults(), specialize)));
}

namespace {
struct SpecializeBatch : impl::GraphSpecializeBatchBase<SpecializeBatch> {
  using GraphSpecializeBatchBase::GraphSpecializeBatchBase;

  void runOnOperation() override {
    if (batch < 1) {
      getOperation().emitError()
          << "batch must be at least 1, got " << batch.getValue();
      return signalPassFailure();
    }
    for (auto function : getOperation().getOps<func::FuncOp>())
      specializeBatch(function, batch);
  }
};
} // namespace
} // namespace tombolo::graph
