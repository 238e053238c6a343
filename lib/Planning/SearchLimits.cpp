//===- SearchLimits.cpp - what a search may return ------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "SearchLimits.h"

namespace tombolo::planning {

Choices::Choices(const Bounds &bounds) {
  // A small strategy with one decision of a kind, asked about.
  auto isAllowed = [&](auto change) {
    Strategy strategy;
    Island &island = strategy.islands.emplace_back();
    island.sites = {"a"};
    island.batch = island.microbatch = 2;
    island.stages.push_back({2, Recompute(), false, {{"a/p", 1, 1, 1}}});
    strategy.server.emplace();
    change(strategy);
    return bounds.unsupported || supportedBySlice(strategy).empty();
  };
  severalSites =
      isAllowed([](Strategy &s) { s.islands[0].sites.push_back("b"); });
  severalPools = isAllowed([](Strategy &s) {
    s.islands[0].stages[0].replicas.push_back({"a/q", 1, 1, 1});
  });
  someBlocksAgain = isAllowed([](Strategy &s) {
    s.islands[0].stages[0].recompute = {Recompute::Blocks, 1};
  });
  // Whoever allows no overlap wants exchanges that training waits for.
  overlap = bounds.mostOverlapSteps() > 0;
  fragments = overlap;
  compression =
      isAllowed([](Strategy &s) { s.server->compression = Compression::Int8; });
  zeroBubble = isAllowed(
      [](Strategy &s) { s.islands[0].schedule = Schedule::ZeroBubble; });
  interleaved = isAllowed([](Strategy &s) {
    s.islands[0].stages.push_back(s.islands[0].stages[0]);
    s.islands[0].schedule = Schedule::Interleaved;
    s.islands[0].chunks = 2;
  });
  for (Schedule schedule : {Schedule::OneFOneB, Schedule::GPipe})
    if (isAllowed([&](Strategy &s) { s.islands[0].schedule = schedule; }))
      schedules.push_back(schedule);
}

std::vector<Choices::Order> Choices::orders(const Bounds &bounds,
                                            const IslandPins &pins) const {
  constexpr uint64_t kMostChunks = 4;
  std::vector<Order> result;
  auto add = [&](Schedule schedule, uint64_t chunks) {
    auto pinned = pins.schedule ? pins.schedule : bounds.schedule;
    if ((!pinned || *pinned == schedule) &&
        (!pins.chunks || *pins.chunks == chunks))
      result.emplace_back(schedule, chunks);
  };
  for (Schedule schedule : schedules)
    add(schedule, 1);
  if (zeroBubble)
    add(Schedule::ZeroBubble, 1);
  for (uint64_t chunks = 2; interleaved && chunks <= kMostChunks; ++chunks)
    add(Schedule::Interleaved, chunks);
  return result;
}

bool fitsMemory(const IslandPrediction &prediction) {
  for (const auto &stage : prediction.stages)
    for (const GroupPrediction &group : stage)
      if (!(group.memory.total() <= group.availableBytes))
        return false;
  return true;
}

} // namespace tombolo::planning
