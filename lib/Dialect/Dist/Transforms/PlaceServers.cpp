//===- PlaceServers.cpp - where fragments are kept ------------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Dist/Transforms/Passes.h"
#include "tombolo/Dialect/Topo/IR/Topo.h"

#include <set>

using namespace mlir;

namespace tombolo::dist {
#define GEN_PASS_DEF_DISTPLACESERVERS
#include "tombolo/Dialect/Dist/Transforms/Passes.h.inc"

namespace {

class PlaceServers : public impl::DistPlaceServersBase<PlaceServers> {
public:
  void runOnOperation() override {
    planning::Topology topology;
    if (auto op = topo::findTopology(getOperation()))
      topology = topo::toTopology(op);
    for (StrategyOp strategy : getOperation().getOps<StrategyOp>())
      for (ServerOp server : strategy.getBody().getOps<ServerOp>())
        place(strategy, server, topology);
  }

private:
  void place(StrategyOp strategy, ServerOp server,
             const planning::Topology &topology) {
    std::set<uint64_t> placed;
    for (FragmentOp fragment : server.getBody().getOps<FragmentOp>())
      placed.insert(fragment.getIndex());
    StringAttr primary;
    for (IslandOp island : strategy.getBody().getOps<IslandOp>())
      for (Attribute site : island.getSites()) {
        auto name = cast<StringAttr>(site);
        const planning::Site *known = topology.findSite(name.str());
        if (!primary)
          primary = name;
        if (known && known->hosts) {
          primary = name;
          return fill(server, placed, primary);
        }
      }
    fill(server, placed, primary);
  }

  void fill(ServerOp server, const std::set<uint64_t> &placed,
            StringAttr primary) {
    OpBuilder builder = OpBuilder::atBlockEnd(&server.getBody().front());
    for (uint64_t i = 0; i < server.getFragments(); ++i)
      if (!placed.count(i))
        builder.create<FragmentOp>(server.getLoc(),
                                   builder.getI64IntegerAttr(i), primary,
                                   StringAttr());
  }
};

} // namespace
} // namespace tombolo::dist
