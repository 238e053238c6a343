//===- SearchLimits.cpp - what a search may return ------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "SearchLimits.h"

namespace tombolo::planning {

bool allowsUnequalDegrees(const Bounds &bounds) {
  if (bounds.unsupported)
    return true;
  Strategy strategy;
  Island &island = strategy.islands.emplace_back();
  island.stages.push_back(
      {1, Recompute(), false, {{"a/p", 1, 1, 1}, {"a/q", 1, 2, 1}}});
  return supportedBySlice(strategy).empty();
}

std::vector<Order> ordersOf(const Bounds &bounds, const IslandPins &pins) {
  constexpr uint64_t kMostChunks = 4;
  std::vector<Order> result;
  auto add = [&](Schedule schedule, uint64_t chunks) {
    auto pinned = pins.schedule ? pins.schedule : bounds.schedule;
    if ((!pinned || *pinned == schedule) &&
        (!pins.chunks || *pins.chunks == chunks))
      result.emplace_back(schedule, chunks);
  };
  for (Schedule schedule :
       {Schedule::OneFOneB, Schedule::GPipe, Schedule::ZeroBubble})
    add(schedule, 1);
  for (uint64_t chunks = 2; chunks <= kMostChunks; ++chunks)
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
