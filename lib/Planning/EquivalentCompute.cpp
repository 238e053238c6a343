//===- EquivalentCompute.cpp - a plan against clusters of one chip --------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Parallel.h"
#include "tombolo/Planning/Search.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

namespace tombolo::planning {

std::vector<uint64_t> roundBatches(uint64_t exact, uint64_t reach,
                                   size_t most) {
  std::vector<uint64_t> result;
  for (uint64_t twos = std::bit_floor(exact + reach); twos > 0; twos /= 2) {
    // The odd multiples, from the nearest on: the `offset`-th below and above.
    uint64_t odd = (exact / twos - 1) | 1; // the last one up to `exact`
    if (exact < twos)
      odd = static_cast<uint64_t>(-1); // none: the first one is above
    uint64_t below = odd, above = odd + 2;
    while (result.size() < most) {
      bool hasBelow =
          below != static_cast<uint64_t>(-1) && exact - below * twos <= reach;
      bool hasAbove = above * twos - exact <= reach;
      if (!hasBelow && !hasAbove)
        break;
      bool takeBelow = hasBelow && (!hasAbove || exact - below * twos <=
                                                     above * twos - exact);
      uint64_t &next = takeBelow ? below : above;
      result.push_back(next * twos);
      next = takeBelow ? below - 2 : above + 2;
    }
  }
  return result;
}

/// The best plan on `chips` chips of one type in one site. The batch is the one
/// in proportion, or the best of those next to it that divide well: within a
/// sixteenth, as a plan would round it.
static UniformCluster clusterOf(const Problem &problem, const Chip &chip,
                                uint64_t chips, double proportion) {
  // The wires and nodes of the largest pool of that type.
  const Pool *model = nullptr;
  for (const Site &site : problem.topology.sites)
    for (const Pool &pool : site.pools)
      if (pool.chip == chip.name && (!model || pool.chips() > model->chips()))
        model = &pool;
  Problem uniform = problem;
  Pool pool = *model;
  pool.chipsPerNode = std::min(pool.chipsPerNode, chips);
  pool.nodes = (chips + pool.chipsPerNode - 1) / pool.chipsPerNode;
  // Whole nodes, of which these chips are a part.
  double whole = static_cast<double>(pool.nodes * pool.chipsPerNode) /
                 static_cast<double>(chips);
  if (!pool.interNode)
    pool.interNode = pool.intraNode;
  if (!pool.interNode)
    for (const Site &site : problem.topology.sites)
      if (site.fabric && !pool.interNode)
        pool.interNode = site.fabric;
  if (!pool.interNode) // single chips that nothing but a line ever joined
    pool.interNode = Wire{1e6, 0};
  Site site;
  site.name = "uniform";
  site.pools = {pool};
  uniform.topology.sites = {site};
  uniform.topology.links.clear();
  uniform.bounds.candidates = 1;
  uniform.bounds.objective = Objective::Throughput;

  double batch =
      static_cast<double>(problem.training.globalBatch) * proportion * whole;
  uint64_t exact = std::max<uint64_t>(1, std::llround(batch));
  uint64_t reach = exact == problem.training.globalBatch ? 0 : exact / 16;
  constexpr size_t kTried = 4;
  std::vector<uint64_t> batches = roundBatches(exact, reach, kTried);
  if (std::find(batches.begin(), batches.end(), exact) == batches.end())
    batches.push_back(exact);

  UniformCluster cluster;
  cluster.chip = chip.name;
  for (bool enough : {false, true}) {
    cluster.memorySuffices = !enough;
    if (enough)
      for (Chip &other : uniform.topology.chips)
        other.memoryGib = 1e9; // as if the memory sufficed
    std::vector<SearchResult> results(batches.size());
    inParallel(batches.size(), [&](size_t i) {
      Problem one = uniform;
      one.training.globalBatch = batches[i];
      results[i] = search(one, StrategyPins());
    });
    for (SearchResult &result : results)
      if (!result.strategies.empty()) {
        Candidate &found = result.strategies[0];
        double tokens = found.prediction.tokensPerSecond / whole;
        if (tokens > cluster.tokensPerSecond) {
          cluster.tokensPerSecond = tokens;
          cluster.plan = std::move(found);
        }
      }
    if (cluster.plan)
      break;
  }
  return cluster;
}

std::vector<UniformCluster>
uniformClusters(const Problem &problem,
                const std::map<std::string, uint64_t> &chips) {
  double peak = 0;
  for (const auto &[name, count] : chips)
    peak += static_cast<double>(count) *
            problem.topology.findChip(name)->peakFlops(problem.precision());
  std::vector<std::pair<std::string, uint64_t>> types(chips.begin(),
                                                      chips.end());
  std::vector<UniformCluster> clusters(types.size());
  inParallel(types.size(), [&](size_t i) {
    const Chip &chip = *problem.topology.findChip(types[i].first);
    double part = static_cast<double>(types[i].second) *
                  chip.peakFlops(problem.precision()) / peak;
    clusters[i] = clusterOf(problem, chip, types[i].second, part);
  });
  return clusters;
}

std::map<std::string, uint64_t> chipsListed(const Topology &topology) {
  std::map<std::string, uint64_t> listed;
  for (const Site &site : topology.sites)
    for (const Pool &pool : site.pools)
      listed[pool.chip] += pool.chips();
  return listed;
}

void equivalentCompute(const Problem &problem, const Strategy &strategy,
                       Prediction &prediction) {
  // Chips by type: all that are listed, and those that the strategy uses.
  std::map<std::string, uint64_t> listed = chipsListed(problem.topology), used;
  for (const Island &island : strategy.islands)
    for (const Stage &stage : island.stages)
      for (const ReplicaGroup &group : stage.replicas)
        used[problem.topology.findPool(group.pool)->chip] +=
            group.count * group.tensorParallel;
  auto figure = [&](const std::map<std::string, uint64_t> &counts)
      -> std::optional<double> {
    double tokens = 0;
    for (const UniformCluster &cluster : uniformClusters(problem, counts))
      tokens += cluster.tokensPerSecond;
    if (tokens <= 0)
      return std::nullopt;
    return prediction.tokensPerSecond / tokens;
  };
  prediction.equivalentCompute = figure(listed);
  prediction.equivalentComputeOfUsedChips =
      used == listed ? prediction.equivalentCompute : figure(used);
}

} // namespace tombolo::planning
