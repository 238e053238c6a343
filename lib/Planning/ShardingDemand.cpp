//===- ShardingDemand.cpp - what shardings are searched for ---------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/ShardingDemand.h"

#include <algorithm>
#include <map>

namespace tombolo::planning {

double ShardingDemand::seconds(Collective collective, double bytes) const {
  Work work;
  work.of(collective) = {1, {bytes, 0}};
  return exchangeSeconds(work, tensorParallel, wire, 0);
}

std::vector<ShardingDemand> shardingDemands(const Problem &problem,
                                            const StrategyPins &pins) {
  std::map<uint64_t, ShardingDemand> demands;
  std::map<uint64_t, bool> degrees;
  size_t islands = pins.islands ? pins.islands->size() : 0;
  for (size_t i = 0; i < islands; ++i) {
    const IslandPins &island = (*pins.islands)[i];
    size_t stages = island.stages ? island.stages->size() : 0;
    for (size_t s = 0; s < stages; ++s) {
      const StagePins &stage = (*island.stages)[s];
      uint64_t turn = 0;
      for (const ReplicaGroup &group : stage.replicas)
        turn += std::max<uint64_t>(group.count, 1) * group.share;
      for (size_t g = 0; g < stage.replicas.size(); ++g) {
        const ReplicaGroup &group = stage.replicas[g];
        degrees[group.tensorParallel] = true;
        const Pool *pool = problem.topology.findPool(group.pool);
        if (group.tensorParallel <= 1 || !pool ||
            demands.count(group.tensorParallel))
          continue;
        const Chip &chip = problem.topology.chipOf(*pool);
        ShardingDemand demand;
        demand.tensorParallel = group.tensorParallel;
        demand.flopsPerSecond = chip.flopsPerSecond(problem.precision());
        demand.bytesPerSecond = chip.bytesPerSecond();
        demand.wire = insideReplicas(problem.topology,
                                     {group.pool, 0, group.tensorParallel},
                                     group.tensorParallel);
        demand.microbatch = std::max<uint64_t>(island.microbatch.value_or(1), 1);
        uint64_t batch = island.batch.value_or(problem.training.globalBatch);
        demand.microbatches = std::max<uint64_t>(
            1, batch / demand.microbatch / std::max<uint64_t>(turn, 1));
        demand.inFlight = std::min<uint64_t>(demand.microbatches,
                                             island.stages->size());
        bool recomputes = stage.recompute &&
                          stage.recompute->kind == Recompute::Full;
        demand.saved = recomputes ? 0 : demand.inFlight;
        demand.bytesPerParameter =
            8 + static_cast<double>(
                    problem.training.optimizerStateBytesPerParameter);
        demand.path = in(
            at(in(at(in(at("islands", i), "stages"), s), "replicas"), g),
            "tensor_parallel");
        demands.emplace(group.tensorParallel, demand);
      }
    }
  }
  std::vector<ShardingDemand> result;
  for (auto &[degree, demand] : demands) {
    demand.wholeBoundaries = degrees.size() > 1;
    result.push_back(demand);
  }
  return result;
}

} // namespace tombolo::planning
