//===- PlaceServers.cpp - where fragments are kept ------------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Dist/Transforms/Passes.h"
#include "tombolo/Dialect/Topo/IR/Topo.h"
#include "tombolo/Planning/ServerPlaces.h"

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
    planning::ServerPlaces places;
    for (FragmentOp fragment : server.getBody().getOps<FragmentOp>()) {
      placed.insert(fragment.getIndex());
      if (fragment.getBackup())
        places.place = {fragment.getPrimary().str(),
                        fragment.getBackup()->str()};
    }
    if (placed.size() == server.getFragments())
      return;
    if (places.place.primary.empty())
      places =
          choose(strategy, topology, placed.empty() && !server.getWitness());
    OpBuilder builder = OpBuilder::atBlockEnd(&server.getBody().front());
    StringAttr backup;
    if (!places.place.backup.empty())
      backup = builder.getStringAttr(places.place.backup);
    for (uint64_t i = 0; i < server.getFragments(); ++i)
      if (!placed.count(i))
        builder.create<FragmentOp>(
            server.getLoc(), builder.getI64IntegerAttr(i),
            builder.getStringAttr(places.place.primary), backup);
    if (!places.witness.empty())
      server.setWitness(places.witness);
  }

  planning::ServerPlaces choose(StrategyOp strategy,
                                const planning::Topology &topology,
                                bool withBackup) {
    std::set<std::string> sites;
    std::string first;
    const planning::Site *home = nullptr;
    for (IslandOp island : strategy.getBody().getOps<IslandOp>())
      for (auto site : island.getSites().getAsRange<StringAttr>()) {
        sites.insert(site.str());
        if (first.empty())
          first = site.str();
        const planning::Site *known = topology.findSite(site.str());
        if (!home && known && known->hosts)
          home = known;
      }
    if (!home || !withBackup)
      return {{home ? home->name : first, ""}, ""};
    // What a fragment takes is not known here; what holds the primary will do.
    auto memory = [](const planning::Site &site) {
      return static_cast<double>(site.hosts->count) * site.hosts->memoryGib;
    };
    return planning::placesWithBackup(topology, sites, home->name,
                                      [&](const planning::Site &site) {
                                        return memory(site) >= memory(*home);
                                      });
  }
};

} // namespace
} // namespace tombolo::dist
