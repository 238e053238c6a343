//===- Places.cpp - on which chip a rank runs---------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Places.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/plan/Route.h"

#include <algorithm>
#include <map>

namespace tombolo::runtime::sim {

using namespace plan::v1;

Places::Places(const Plan &plan) : message(plan.topology()) {
  if (!plan.has_topology())
    throw Error("the plan has no topology and no times to simulate it with; "
                "make it again with this version of tombolo-plan");
  std::map<std::pair<std::string, std::string>, std::uint32_t> indices;
  std::uint64_t nodes = 0, cards = 0, cores = 0;
  for (int s = 0; s < message.sites_size(); ++s)
    for (int p = 0; p < message.sites(s).pools_size(); ++p) {
      const Topology::Pool &pool = message.sites(s).pools(p);
      indices[{message.sites(s).name(), pool.name()}] =
          static_cast<std::uint32_t>(pools.size());
      pools.push_back({&pool, static_cast<std::uint32_t>(s),
                       static_cast<std::uint32_t>(p), nodes, cards, cores});
      nodes += pool.nodes();
      cards += pool.nodes() *
               std::min(pool.cards_per_node(), pool.chips_per_node());
      cores += pool.nodes() * pool.cores_per_node();
    }
  std::vector<std::uint64_t> used(pools.size());
  for (const Island &island : plan.islands()) {
    std::vector<Place> &ranks = places.emplace_back();
    for (const Stage &stage : island.stages())
      for (const ReplicaGroup &group : stage.groups()) {
        std::uint32_t index = indices.at({group.site(), group.pool()});
        const PoolPlace &pool = pools[index];
        std::uint64_t chips = pool.message->chips_per_node();
        std::uint64_t own = std::min(pool.message->cards_per_node(), chips);
        std::uint64_t cores = pool.message->cores_per_node();
        for (std::uint64_t r = group.count() * group.tensor_parallel(); r > 0;
             --r) {
          std::uint64_t chip = used[index]++;
          std::uint64_t node = chip / chips;
          ranks.push_back(
              {pool.site, index, chip, pool.firstNode + node,
               pool.firstCard + node * own + chip % chips * own / chips,
               cores > 0 ? pool.firstCore + node * cores + chip % chips % cores
                         : Place::kOwnCore});
        }
      }
  }
}

std::string Places::poolName(std::uint32_t index) const {
  return message.sites(static_cast<int>(pools[index].site)).name() + "/" +
         pools[index].message->name();
}

double Places::cardsOfChip(std::uint32_t index) const {
  const Topology::Pool &pool = *pools[index].message;
  return std::max(1.0, static_cast<double>(pool.cards_per_node()) /
                           static_cast<double>(pool.chips_per_node()));
}

double Places::coreRate(std::uint32_t index) const {
  constexpr double kUnmeasured = 1e9; // what loopback takes of a core of 2020
  const Topology::Pool &pool = *pools[index].message;
  double rate = pool.has_intra_node()   ? pool.intra_node().bytes_per_second()
                : pool.has_inter_node() ? pool.inter_node().bytes_per_second()
                                        : kUnmeasured;
  return messagesTakeCores() ? rate / pool.message_part() : rate;
}

Way Places::way(const Place &from, const Place &to) const {
  Way way;
  if (from.pool == to.pool && from.chip == to.chip)
    return way;
  auto missing = [&](const std::string &what) {
    throw Error("the topology has no ", what, ", which the plan uses");
  };
  if (from.node == to.node) {
    const Topology::Pool &own = pool(from.pool);
    if (!own.has_intra_node())
      missing("intra_node wire in pool '" + poolName(from.pool) + "'");
    way.kind = Way::IntraNode;
    way.latency = own.intra_node().latency_seconds();
    way.sendRate = way.receiveRate = own.intra_node().bytes_per_second();
    way.ringLatency = way.latency;
    if (own.has_intra_node_ring()) {
      way.ringLatency = own.intra_node_ring().latency_seconds();
      way.ringPart = own.intra_node_ring().bytes_per_second() / way.sendRate;
    }
    return way;
  }
  if (from.site != to.site) {
    auto lines = route(from.site, to.site);
    if (!lines)
      missing("way from site '" +
              message.sites(static_cast<int>(from.site)).name() + "' to '" +
              message.sites(static_cast<int>(to.site)).name() + "'");
    way.kind = Way::Lines;
    way.lines = std::move(*lines);
    way.latency = latencyOf(way.lines);
    // Between sites what a card carries matters only where pools say it.
    if (pool(from.pool).has_inter_node())
      way.sendRate = pool(from.pool).inter_node().bytes_per_second();
    if (pool(to.pool).has_inter_node())
      way.receiveRate = pool(to.pool).inter_node().bytes_per_second();
    return way;
  }
  const Topology::Site &site = message.sites(static_cast<int>(from.site));
  const Topology::Wire *wire = nullptr;
  if (from.pool == to.pool) {
    if (pool(from.pool).has_inter_node())
      wire = &pool(from.pool).inter_node();
  } else {
    if (site.has_fabric())
      wire = &site.fabric();
    auto a = pools[from.pool].inSite, b = pools[to.pool].inSite;
    for (const Topology::Fabric &pair : site.fabrics())
      if ((pair.first() == a && pair.second() == b) ||
          (pair.first() == b && pair.second() == a))
        wire = &pair.wire();
  }
  if (!wire)
    missing("wire between nodes of '" + poolName(from.pool) + "' and '" +
            poolName(to.pool) + "'");
  way.kind = Way::Cards;
  way.latency = wire->latency_seconds();
  way.sendRate = way.receiveRate = wire->bytes_per_second();
  return way;
}

std::optional<std::vector<std::uint32_t>>
Places::route(std::uint32_t from, std::uint32_t to,
              const std::vector<bool> &down) const {
  return routeBetween(message, from, to, down);
}

double Places::latencyOf(const std::vector<std::uint32_t> &directions) const {
  double seconds = 0;
  for (std::uint32_t direction : directions)
    seconds += message.lines(static_cast<int>(direction / 2)).rtt_seconds() / 2;
  return seconds;
}

std::string Places::directionName(std::uint32_t direction) const {
  const Topology::Line &line = message.lines(static_cast<int>(direction / 2));
  auto site = [&](std::uint32_t index) {
    return message.sites(static_cast<int>(index)).name();
  };
  return direction % 2 ? site(line.second()) + " to " + site(line.first())
                       : site(line.first()) + " to " + site(line.second());
}

std::uint32_t Places::site(const std::string &name) const {
  for (int s = 0; s < message.sites_size(); ++s)
    if (message.sites(s).name() == name)
      return static_cast<std::uint32_t>(s);
  std::string known;
  for (const Topology::Site &site : message.sites())
    known += (known.empty() ? "'" : ", '") + site.name() + "'";
  throw Error("there is no site '", name, "', the plan's sites are ", known);
}

std::uint32_t Places::line(const std::string &first,
                           const std::string &second) const {
  std::uint32_t a = site(first), b = site(second);
  for (int l = 0; l < message.lines_size(); ++l) {
    const Topology::Line &line = message.lines(l);
    if ((line.first() == a && line.second() == b) ||
        (line.first() == b && line.second() == a))
      return static_cast<std::uint32_t>(l);
  }
  throw Error("there is no line between '", first, "' and '", second, "'");
}

} // namespace tombolo::runtime::sim
