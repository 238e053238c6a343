//===- Verify.cpp - proves that a topology makes sense --------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Topo/IR/Topo.h"
#include "tombolo/Dialect/Topo/Transforms/Passes.h"

using namespace mlir;

namespace tombolo::topo {
#define GEN_PASS_DEF_TOPOVERIFY
#include "tombolo/Dialect/Topo/Transforms/Passes.h.inc"

namespace {

struct TopoVerify : impl::TopoVerifyBase<TopoVerify> {
  void runOnOperation() override {
    markAllAnalysesPreserved();
    auto ops = getOperation().getOps<TopologyOp>();
    if (llvm::range_size(ops) != 1) {
      getOperation().emitError("expected one topo.topology, got ")
          << llvm::range_size(ops);
      return signalPassFailure();
    }
    TopologyOp op = *ops.begin();
    planning::Topology topology = toTopology(op);
    planning::Faults faults = topology.check();
    for (const planning::Fault &fault : faults)
      emitError(locate(op, fault.path), fault.message);
    if (!faults.empty())
      return signalPassFailure();
    const std::string &first = topology.sites[0].name;
    for (size_t i = 1; i < topology.sites.size(); ++i)
      if (!topology.route(first, topology.sites[i].name))
        emitWarning(locate(op, planning::at("sites", i)))
            << "site '" << topology.sites[i].name
            << "' is not reached from site '" << first << "'";
  }
};

} // namespace
} // namespace tombolo::topo
