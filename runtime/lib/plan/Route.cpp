//===- Route.cpp - the lines between two sites of a plan ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/plan/Route.h"

#include "tombolo/schema/plan.pb.h"

#include <algorithm>
#include <deque>

using namespace tombolo::runtime;
using tombolo::plan::v1::Topology;

std::optional<std::vector<std::uint32_t>>
tombolo::runtime::routeBetween(const Topology &topology, std::uint32_t from,
                               std::uint32_t to,
                               const std::vector<bool> &down) {
  std::vector<std::uint32_t> back(
      static_cast<std::size_t>(topology.sites_size()), ~0u);
  std::vector<bool> seen(back.size());
  std::deque<std::uint32_t> queue{from};
  seen[from] = true;
  while (!queue.empty() && !seen[to]) {
    std::uint32_t at = queue.front();
    queue.pop_front();
    for (std::uint32_t l = 0; l < static_cast<unsigned>(topology.lines_size());
         ++l) {
      const Topology::Line &line = topology.lines(static_cast<int>(l));
      if (!down.empty() && down[l])
        continue;
      for (bool reversed : {false, true}) {
        std::uint32_t a = reversed ? line.second() : line.first();
        std::uint32_t b = reversed ? line.first() : line.second();
        if (a != at || seen[b])
          continue;
        seen[b] = true;
        back[b] = 2 * l + reversed;
        queue.push_back(b);
      }
    }
  }
  if (!seen[to])
    return std::nullopt;
  std::vector<std::uint32_t> directions;
  for (std::uint32_t at = to; at != from;) {
    directions.push_back(back[at]);
    const Topology::Line &line = topology.lines(static_cast<int>(back[at] / 2));
    at = back[at] % 2 ? line.second() : line.first();
  }
  std::reverse(directions.begin(), directions.end());
  return directions;
}
