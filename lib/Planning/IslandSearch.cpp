//===- IslandSearch.cpp - which search suits an island --------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "IslandSearch.h"

#include <algorithm>

namespace tombolo::planning {

/// Mixes that the search of a large island opens for one batch, where nobody
/// says.
static constexpr uint64_t kDefaultMixes = 400;
/// Up to these everything is tried.
static constexpr uint64_t kSmallBlocks = 12;
static constexpr uint64_t kSmallChips = 8;
static constexpr uint64_t kSmallBatch = 64;

std::vector<uint64_t> divisorsOf(uint64_t number) {
  std::vector<uint64_t> small, large;
  for (uint64_t n = 1; n * n <= number; ++n)
    if (number % n == 0) {
      small.push_back(n);
      if (n != number / n)
        large.push_back(number / n);
    }
  small.insert(small.end(), large.rbegin(), large.rend());
  return small;
}

std::vector<IslandPool> poolsOf(const Problem &problem,
                                const IslandPins &island) {
  std::vector<uint64_t> degrees = {1};
  for (const BlockKind &sharded : problem.model.kinds[0].sharded) {
    uint64_t degree = sharded.tensorParallel;
    if (std::all_of(problem.model.kinds.begin(), problem.model.kinds.end(),
                    [&](const BlockKind &kind) { return kind.on(degree); }))
      degrees.push_back(degree);
  }
  std::vector<IslandPool> pools;
  for (const std::string &name : island.sites)
    if (const Site *site = problem.topology.findSite(name))
      for (const Pool &pool : site->pools) {
        std::string qualified = name + "/" + pool.name;
        if (!island.pools.empty() &&
            std::find(island.pools.begin(), island.pools.end(), qualified) ==
                island.pools.end())
          continue;
        IslandPool &one = pools.emplace_back(IslandPool{
            std::move(qualified), &pool, &problem.topology.chipOf(pool), {}});
        for (uint64_t degree : degrees)
          if (pool.chipsPerNode % degree == 0)
            one.degrees.push_back(degree);
      }
  return pools;
}

double busySeconds(const Problem &problem, const std::vector<IslandPool> &pools,
                   uint64_t batch) {
  std::vector<double> blocks(problem.model.kinds.size(), 0);
  for (const BlockRun &run : problem.model.runs)
    blocks[run.kind] += static_cast<double>(run.count);
  double least = 0;
  for (size_t kind = 0; kind < blocks.size(); ++kind) {
    double rate = 0; // samples per second
    for (const IslandPool &pool : pools)
      rate +=
          static_cast<double>(pool.pool->chips()) /
          std::max(1e-300, leastSecondsPerSample(problem, kind, *pool.chip));
    least = std::max(least, blocks[kind] * static_cast<double>(batch) / rate);
  }
  return least;
}

const std::vector<FoundIsland> &IslandSearch::best(uint64_t batch,
                                                   double ceiling) {
  Known &entry = known[batch];
  if (entry.islands.empty() && entry.ceiling < ceiling) {
    limits.refill();
    entry.islands = find(batch, ceiling);
    entry.ceiling = ceiling;
  }
  return entry.islands;
}

bool isSmall(const Problem &problem, uint64_t chips) {
  return problem.bounds.objective == Objective::Throughput &&
         problem.model.blocks() <= kSmallBlocks && chips <= kSmallChips &&
         problem.training.globalBatch <= kSmallBatch;
}

std::unique_ptr<IslandSearch> makeIslandSearch(const Problem &problem,
                                               const IslandPins &pins,
                                               const SearchHooks &hooks) {
  SearchLimits limits(problem.bounds, hooks, kDefaultMixes);
  if (pins.stages)
    return makePinnedIsland(problem, pins, limits);
  uint64_t chips = 0;
  for (const IslandPool &one : poolsOf(problem, pins))
    chips += one.pool->chips();
  if (isSmall(problem, chips))
    return makeExactIsland(problem, pins, hooks);
  return makeRowIsland(problem, pins, limits);
}

} // namespace tombolo::planning
