//===- ServerPlaces.cpp - a backup for the server -------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/ServerPlaces.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>

namespace tombolo::planning {

namespace {

/// How good a site is as a backup; larger is better. Nothing: no way there.
using Rank = std::tuple<double, double, double>;

std::optional<Rank> rankOf(const Topology &topology, const std::string &primary,
                           const Site &site) {
  auto way = topology.route(primary, site.name);
  if (!way)
    return std::nullopt;
  double rate = std::numeric_limits<double>::infinity(), rtt = 0;
  for (size_t link : *way) {
    rate = std::min(rate, topology.links[link].bytesPerSecond());
    rtt += topology.links[link].rttMs;
  }
  return Rank(rate, -rtt,
              site.hosts->diskGbytesPerSecond.value_or(
                  std::numeric_limits<double>::infinity()));
}

} // namespace

ServerPlaces placesWithBackup(const Topology &topology,
                              const std::set<std::string> &islandSites,
                              const std::string &primary,
                              const std::function<bool(const Site &)> &holds) {
  ServerPlaces alone{{primary, ""}, ""};
  const Site *home = topology.findSite(primary);
  if (!home || !home->hosts)
    return alone;
  ServerPlaces best = alone;
  std::optional<Rank> bestRank;
  for (const Site &site : topology.sites) {
    if (site.name == primary || !site.hosts || !holds(site))
      continue;
    std::optional<Rank> rank = rankOf(topology, primary, site);
    if (!rank || (bestRank && *rank <= *bestRank))
      continue;
    std::set<std::string> voters = islandSites;
    voters.insert({primary, site.name});
    std::string witness;
    // Half of an even number is no majority: one more site decides.
    if (voters.size() % 2 == 0)
      for (const Site &third : topology.sites)
        if (!voters.count(third.name) && witness.empty() &&
            topology.route(primary, third.name) &&
            topology.route(site.name, third.name))
          witness = third.name;
    if (voters.size() == 2 && witness.empty())
      continue;
    best = {{primary, site.name}, witness};
    bestRank = rank;
  }
  return best;
}

} // namespace tombolo::planning
