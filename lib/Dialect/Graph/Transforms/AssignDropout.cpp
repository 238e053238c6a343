//===- AssignDropout.cpp - one ratio for all dropouts ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace tombolo::graph {
#define GEN_PASS_DEF_GRAPHASSIGNDROPOUT
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

namespace {

struct AssignDropout : impl::GraphAssignDropoutBase<AssignDropout> {
  using GraphAssignDropoutBase::GraphAssignDropoutBase;

  void runOnOperation() override {
    if (!(ratio < 1)) {
      getOperation().emitError()
          << "dropout: expected a ratio in [0, 1), got " << ratio;
      return signalPassFailure();
    }
    if (ratio < 0)
      return;
    Builder builder(&getContext());
    getOperation().walk([&](DropoutOp op) {
      op.setRatioAttr(builder.getF64FloatAttr(ratio));
      if (ratio == 0) {
        op.replaceAllUsesWith(op.getInput());
        op.erase();
      }
    });
    for (auto main : getOperation().getOps<func::FuncOp>())
      for (unsigned i = main.getNumArguments(); i > 0; --i)
        if (main.getArgAttr(i - 1, kStampAttr) &&
            main.getArgument(i - 1).use_empty())
          main.eraseArgument(i - 1);
  }
};

} // namespace
} // namespace tombolo::graph
