//===- SelectStrategy.cpp - keeps one strategy and erases the others ------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Dist/Transforms/Passes.h"

using namespace mlir;

namespace tombolo::dist {
#define GEN_PASS_DEF_DISTSELECTSTRATEGY
#include "tombolo/Dialect/Dist/Transforms/Passes.h.inc"

namespace {

struct DistSelectStrategy : impl::DistSelectStrategyBase<DistSelectStrategy> {
  using Base::Base;

  void runOnOperation() override {
    SmallVector<StrategyOp> strategies(getOperation().getOps<StrategyOp>());
    if (index >= strategies.size()) {
      getOperation().emitError("expected an index below the number of "
                               "strategies, got ")
          << uint64_t(index) << " of " << strategies.size();
      return signalPassFailure();
    }
    for (auto [number, strategy] : llvm::enumerate(strategies))
      if (number != index)
        strategy.erase();
  }
};

} // namespace
} // namespace tombolo::dist
