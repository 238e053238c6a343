//===- ShardingDemand.cpp - what shardings are searched for ---------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
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

/// What a demand takes from a pool.
static void setPool(const Problem &problem, const std::string &name,
                    const Pool &pool, ShardingDemand &demand) {
  const Chip &chip = problem.topology.chipOf(pool);
  demand.flopsPerSecond = chip.flopsPerSecond(problem.precision());
  demand.bytesPerSecond = chip.bytesPerSecond();
  demand.wire =
      insideReplicas(problem.topology, {name, 0, demand.tensorParallel},
                     demand.tensorParallel);
  demand.bytesPerParameter =
      8 + static_cast<double>(problem.training.optimizerStateBytesPerParameter);
}

/// Degrees that the search may choose where stages are left to it.
static void addCandidates(const Problem &problem, const StrategyPins &pins,
                          std::map<uint64_t, ShardingDemand> &demands) {
  if (pins.islands &&
      std::all_of(pins.islands->begin(), pins.islands->end(),
                  [](const IslandPins &island) { return island.stages; }))
    return;
  constexpr uint64_t kInFlight = 4;
  // More than these are no degree but somebody's whole machine.
  constexpr uint64_t kMost = 64;
  for (const Site &site : problem.topology.sites)
    for (const Pool &pool : site.pools)
      for (uint64_t degree = 2; degree <= std::min(pool.chipsPerNode, kMost);
           ++degree) {
        if (pool.chipsPerNode % degree != 0 || demands.count(degree))
          continue;
        ShardingDemand demand;
        demand.tensorParallel = degree;
        demand.microbatches = demand.inFlight = demand.saved =
            std::min(kInFlight, problem.training.globalBatch);
        demand.isCandidate = true;
        setPool(problem, site.name + "/" + pool.name, pool, demand);
        demands.emplace(degree, demand);
      }
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
        ShardingDemand demand;
        demand.tensorParallel = group.tensorParallel;
        setPool(problem, group.pool, *pool, demand);
        demand.microbatch =
            std::max<uint64_t>(island.microbatch.value_or(1), 1);
        uint64_t batch = island.batch.value_or(problem.training.globalBatch);
        demand.microbatches = std::max<uint64_t>(
            1, batch / demand.microbatch / std::max<uint64_t>(turn, 1));
        demand.inFlight =
            std::min<uint64_t>(demand.microbatches, island.stages->size());
        bool recomputes =
            stage.recompute && stage.recompute->kind == Recompute::Full;
        demand.saved = recomputes ? 0 : demand.inFlight;
        demand.path =
            in(at(in(at(in(at("islands", i), "stages"), s), "replicas"), g),
               "tensor_parallel");
        demands.emplace(group.tensorParallel, demand);
      }
    }
  }
  size_t named = demands.size();
  addCandidates(problem, pins, demands);
  bool mixes = degrees.size() > 1 || demands.size() > named;
  std::vector<ShardingDemand> result;
  for (auto &[degree, demand] : demands) {
    demand.wholeBoundaries = mixes;
    result.push_back(demand);
  }
  return result;
}

} // namespace tombolo::planning
