//===- HostWork.cpp - what exchanges take of cores that train -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "HostWork.h"

#include "tombolo/runtime/plan/Parameters.h"

#include <algorithm>
#include <map>

namespace tombolo::runtime::sim {

using namespace plan::v1;

double bytesPerElement(Server::Compression compression) {
  switch (compression) {
  case Server::COMPRESSION_BF16:
    return 2;
  case Server::COMPRESSION_INT8:
    return 1 + 4.0 / 256;
  case Server::COMPRESSION_INT4:
    return 0.5 + 4.0 / 256;
  default:
    return 4;
  }
}

void forEachOwner(
    const Plan &plan, const Fold &fold,
    const std::function<void(std::uint64_t rank,
                             const std::vector<double> &elements)> &visit) {
  const IslandLayout &layout = fold.layout();
  // Owners are in replica 0 of each stage; of its ranks all but the first own
  // alike.
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::vector<double>> owned;
  for (std::uint32_t s = 0; s < layout.stageCount(); ++s)
    for (std::uint64_t t = 0;; ++t) {
      std::uint64_t rank = layout.rankOf(s, 0, 0) + t;
      if (rank >= layout.rankCount())
        break;
      RankCoordinates at = layout.coordinates(rank);
      if (at.stage != s || at.replica != 0)
        break;
      auto [entry, fresh] =
          owned.try_emplace({at.program, std::min<std::uint64_t>(t, 1)});
      if (fresh) {
        entry->second.resize(plan.server().fragments());
        for (const LocalParameter &parameter :
             expandParameters(plan.programs(static_cast<int>(at.program)), t))
          if (parameter.trainable && ownsParameter(parameter, 0, t))
            entry->second[parameter.fragment] +=
                static_cast<double>(parameter.localElements);
      }
      visit(rank, entry->second);
    }
}

namespace {

/// What a server of a plan's, at a site, works for each exchange of a fragment,
/// by fragment; seconds of a core.
std::vector<double> serverSeconds(const Plan &plan,
                                  const std::vector<double> &elements,
                                  const std::string &site) {
  const Topology::HostWork &work = plan.topology().host_work();
  double members = plan.islands_size();
  double perElement = bytesPerElement(plan.server().compression());
  std::vector<double> seconds(elements.size());
  for (std::size_t f = 0; f < elements.size(); ++f) {
    const Server::Placement &place =
        plan.server().placements(static_cast<int>(f));
    bool copies = !place.backup().empty() && place.backup() != place.primary();
    // A pass over each push, the outer step, and one to encode and hash.
    double passes =
        (members + 2) * elements[f] * work.server_seconds_per_element();
    double bytes = elements[f] * perElement;
    double copy = copies ? (members + 1) * bytes : 0;
    if (place.primary() == site)
      seconds[f] +=
          passes + (2 * members * bytes + copy) * work.seconds_per_byte();
    if (copies && place.backup() == site) // makes every version again
      seconds[f] += passes + copy * work.seconds_per_byte();
  }
  return seconds;
}

} // namespace

std::vector<std::vector<double>> exchangeSeconds(const Plan &plan,
                                                 std::uint32_t island,
                                                 const Fold &fold,
                                                 const Places &places) {
  std::size_t fragments = plan.has_server() ? plan.server().fragments() : 0;
  std::vector<std::vector<double>> seconds(fold.classes().size(),
                                           std::vector<double>(fragments));
  bool onCores = false;
  for (const RankClass &one : fold.classes())
    onCores |= !one.core.empty();
  if (fragments == 0 || !onCores || !plan.topology().has_host_work())
    return seconds;
  const Topology::HostWork &work = plan.topology().host_work();
  double perElement = 2 * bytesPerElement(plan.server().compression()) *
                          work.seconds_per_byte() + // there and back
                      work.rank_seconds_per_element();
  // What the rank that owns most of a stage does all of the stage do: replicas
  // pull the same, and of a replica all but the first own alike.
  std::map<std::uint32_t, std::vector<double>> owned;
  std::vector<double> all(fragments);
  forEachOwner(plan, fold,
               [&](std::uint64_t rank, const std::vector<double> &elements) {
                 std::vector<double> &most =
                     owned[fold.layout().coordinates(rank).stage];
                 most.resize(fragments);
                 for (std::size_t f = 0; f < fragments; ++f) {
                   all[f] += elements[f];
                   most[f] = std::max(most[f], elements[f]);
                 }
               });
  std::map<std::uint64_t, std::vector<double>> cores;
  for (std::uint64_t rank = 0; rank < fold.layout().rankCount(); ++rank) {
    std::uint64_t core = places.of(island, rank).core;
    auto own = owned.find(fold.layout().coordinates(rank).stage);
    if (core == Place::kOwnCore || own == owned.end())
      continue;
    std::vector<double> &sum = cores[core];
    sum.resize(fragments);
    for (std::size_t f = 0; f < fragments; ++f)
      sum[f] += own->second[f] * perElement;
  }
  std::map<std::uint32_t, std::vector<double>> servers; // by site
  for (std::uint32_t c = 0; c < seconds.size(); ++c) {
    const Place &at = places.of(island, fold.classes()[c].rank);
    if (at.core == Place::kOwnCore)
      continue;
    if (auto own = cores.find(at.core); own != cores.end())
      seconds[c] = own->second;
    const Topology::Site &site =
        places.topology().sites(static_cast<int>(at.site));
    if (site.has_server_bytes_per_second())
      continue; // the server has machines of its own
    auto [server, fresh] = servers.try_emplace(at.site);
    if (fresh)
      server->second = serverSeconds(plan, all, site.name());
    double onNode = static_cast<double>(places.pool(at.pool).cores_per_node());
    for (std::size_t f = 0; f < fragments; ++f)
      seconds[c][f] += server->second[f] / onNode;
  }
  return seconds;
}

} // namespace tombolo::runtime::sim
