//===- SpecializeBlocks.cpp - static block functions ----------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Dist/Transforms/Passes.h"
#include "tombolo/Dialect/Graph/Transforms/Specialize.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace tombolo::dist {
#define GEN_PASS_DEF_DISTSPECIALIZEBLOCKS
#include "tombolo/Dialect/Dist/Transforms/Passes.h.inc"

namespace {

class SpecializeBlocks
    : public impl::DistSpecializeBlocksBase<SpecializeBlocks> {
public:
  using Base = impl::DistSpecializeBlocksBase<SpecializeBlocks>;
  using Base::Base;

  void runOnOperation() override {
    if (precision != "f32" && precision != "bf16") {
      getOperation().emitError()
          << "expected precision f32 or bf16, got '" << precision << "'";
      return signalPassFailure();
    }
    SymbolTable table(getOperation());
    symbols = &table;
    made.clear();
    WalkResult result = getOperation().walk([&](RunOp run) {
      return failed(specialize(run)) ? WalkResult::interrupt()
                                     : WalkResult::advance();
    });
    if (result.wasInterrupted())
      return signalPassFailure();
    getOperation()->setAttr(kPrecisionAttr,
                            StringAttr::get(&getContext(), precision));
  }

private:
  LogicalResult specialize(RunOp run) {
    int64_t microbatch = run->getParentOfType<IslandOp>().getMicrobatch();
    auto stage = run->getParentOfType<StageOp>();
    int64_t degree = stage.getTensorParallel();
    for (ReplicasOp replicas : stage.getBody().getOps<ReplicasOp>())
      if (static_cast<int64_t>(replicas.getTensorParallel()) != degree)
        return replicas.emitOpError("expected tensor_parallel ")
               << degree << " as in the stage's other replicas, got "
               << replicas.getTensorParallel();
    auto block = symbols->lookup<func::FuncOp>(run.getBlock());
    if (!block)
      return run.emitOpError() << "unknown block " << run.getBlockAttr();
    FailureOr<graph::BlockFunctions> special = specialized(block, microbatch, degree);
    if (failed(special))
      return failure();
    run.setForwardAttr(SymbolRefAttr::get(special->forward));
    run.setBackwardInputAttr(SymbolRefAttr::get(special->backwardInput));
    run.setBackwardWeightAttr(SymbolRefAttr::get(special->backwardWeight));
    return success();
  }

  /// The static clones of a block's functions, made when first asked for.
  FailureOr<graph::BlockFunctions> specialized(func::FuncOp block,
                                               int64_t microbatch,
                                               int64_t degree) {
    auto [entry, fresh] = made.try_emplace({block, microbatch, degree});
    if (!fresh)
      return entry->second;
    FailureOr<graph::BlockFunctions> original =
        graph::BlockFunctions::get(block);
    if (failed(original))
      return failure();
    graph::BlockFunctions special = *original;
    for (func::FuncOp *function :
         {&special.forward, &special.backwardInput, &special.backwardWeight}) {
      func::FuncOp clone = function->clone();
      clone.setSymName((clone.getSymName() + ".m" + Twine(microbatch) + "." +
                        precision.getValue() + getSuffix(degree))
                           .str());
      clone.setPrivate();
      symbols->insert(clone);
      graph::specializeBatch(clone, microbatch);
      *function = clone;
    }
    if (precision == "bf16")
      graph::lowerPrecision(special);
    return entry->second = special;
  }

  static std::string getSuffix(int64_t degree) {
    return degree > 1 ? ".t" + std::to_string(degree) : "";
  }

  llvm::DenseMap<std::tuple<func::FuncOp, int64_t, int64_t>,
                 graph::BlockFunctions>
      made;
  SymbolTable *symbols = nullptr;
};

} // namespace
} // namespace tombolo::dist
