//===- Places.h - on which chip a rank runs, and how it reaches others--------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_SIM_PLACES_H
#define TOMBOLO_RUNTIME_LIB_SIM_PLACES_H

#include "tombolo/runtime/plan/Layout.h"

#include <optional>

namespace tombolo::runtime::sim {

/// Where a rank runs. Pools, nodes, cards and cores are numbered through the
/// topology.
struct Place {
  static constexpr std::uint64_t kOwnCore = ~std::uint64_t{0};

  std::uint32_t site = 0;
  std::uint32_t pool = 0;
  std::uint64_t chip = 0; ///< in its pool
  std::uint64_t node = 0;
  std::uint64_t card = 0; ///< or the cards it has for itself
  /// Of the host; kOwnCore: the chip is none of the host's cores.
  std::uint64_t core = kOwnCore;
};

/// A way between two ranks.
struct Way {
  enum Kind : std::uint8_t {
    Same,      ///< the same rank, nothing moves
    IntraNode, ///< over the chips' own wires
    Cards,     ///< over network cards inside a site
    Lines,     ///< over lines between sites, and cards where pools have them
  } kind = Same;
  double latency = 0;
  /// Inside a node, of a step of a collective: its latency, and the part of the
  /// rate that it gets.
  double ringLatency = 0, ringPart = 1;
  /// Bytes per second of one card where cards are used; 0: unbounded.
  double sendRate = 0, receiveRate = 0;
  /// Direction of line l: 2 l from its first to its second site, else 2 l + 1.
  std::vector<std::uint32_t> lines;
};

/// The topology of a plan with everybody on their chips.
class Places {
public:
  /// Throws Error when the plan has no topology.
  explicit Places(const Plan &plan);

  const plan::v1::Topology &topology() const { return message; }
  const Place &of(std::uint32_t island, std::uint64_t rank) const {
    return places[island][rank];
  }
  const plan::v1::Topology::Pool &pool(std::uint32_t index) const {
    return *pools[index].message;
  }
  std::uint32_t poolCount() const {
    return static_cast<std::uint32_t>(pools.size());
  }
  std::string poolName(std::uint32_t index) const;
  std::uint32_t poolSite(std::uint32_t index) const {
    return pools[index].site;
  }
  /// Cards that a chip has for itself; 1 where it shares one.
  double cardsOfChip(std::uint32_t pool) const;
  /// Bytes per second of messages that keep a core of the pool's hosts busy:
  /// what they move inside a node, where the cores are the wire.
  double coreRate(std::uint32_t pool) const;
  /// Whether the plan says what messages take of cores.
  bool messagesTakeCores() const { return message.has_host_work(); }

  /// Throws Error where the topology has none.
  Way way(const Place &from, const Place &to) const;
  /// Over the fewest lines, without those in `down` (by line; empty: none).
  /// Ties are broken by the order of lines. Nothing where there is no way.
  std::optional<std::vector<std::uint32_t>>
  route(std::uint32_t from, std::uint32_t to,
        const std::vector<bool> &down = {}) const;
  /// `amsterdam to shanghai`.
  std::string directionName(std::uint32_t direction) const;
  double latencyOf(const std::vector<std::uint32_t> &directions) const;
  /// Throws Error when there is none of that name.
  std::uint32_t site(const std::string &name) const;
  std::uint32_t line(const std::string &first, const std::string &second) const;

private:
  struct PoolPlace {
    const plan::v1::Topology::Pool *message;
    std::uint32_t site;
    std::uint32_t inSite;
    std::uint64_t firstNode;
    std::uint64_t firstCard;
    std::uint64_t firstCore;
  };
  const plan::v1::Topology &message;
  std::vector<PoolPlace> pools;
  std::vector<std::vector<Place>> places;
};

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_LIB_SIM_PLACES_H
