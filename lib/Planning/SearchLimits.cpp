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
  fragments = isAllowed([](Strategy &s) { s.server->fragments = 2; });
  overlap = isAllowed([](Strategy &s) { s.server->overlapSteps = 1; });
  compression =
      isAllowed([](Strategy &s) { s.server->compression = Compression::Int8; });
  for (Schedule schedule : {Schedule::OneFOneB, Schedule::GPipe})
    if (isAllowed([&](Strategy &s) { s.islands[0].schedule = schedule; }))
      schedules.push_back(schedule);
}

} // namespace tombolo::planning
