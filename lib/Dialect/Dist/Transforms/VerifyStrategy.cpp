//===- VerifyStrategy.cpp - proves that strategies can be carried out -----===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "StrategyProblem.h"

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Dist/Transforms/Passes.h"

using namespace mlir;

namespace tombolo::dist {
#define GEN_PASS_DEF_DISTVERIFY
#include "tombolo/Dialect/Dist/Transforms/Passes.h.inc"

namespace {

struct DistVerify : impl::DistVerifyBase<DistVerify> {
  using Base::Base;

  void runOnOperation() override {
    markAllAnalysesPreserved();
    auto strategies = getOperation().getOps<StrategyOp>();
    if (strategies.empty()) {
      getOperation().emitError("expected a dist.strategy");
      return signalPassFailure();
    }
    for (StrategyOp op : strategies) {
      planning::Strategy strategy = toStrategy(op);
      auto problem = loadProblem(
          getOperation(), precision, op.getGlobalBatch(), stateBytes,
          planning::pinsOf(strategy), ShardingSource::Strategy,
          [&](StringRef path) { return locate(op, path.str()); });
      if (failed(problem))
        return signalPassFailure();
      planning::Faults faults = problem->verify(strategy);
      for (const planning::Fault &fault : faults)
        emitError(locate(op, fault.path), fault.message);
      if (!faults.empty())
        signalPassFailure();
    }
  }
};

} // namespace
} // namespace tombolo::dist
