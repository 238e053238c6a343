//===- Transfers.cpp - what transfers and reductions take -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Transfers.h"

#include <algorithm>
#include <map>

namespace tombolo::planning {

static constexpr double kInfinity = std::numeric_limits<double>::infinity();

double Transfer::seconds(double bytes) const {
  return bytesPerSecond > 0 ? latency + bytes / bytesPerSecond : kInfinity;
}

Transfer slower(const Transfer &a, const Transfer &b) {
  return {std::min(a.bytesPerSecond, b.bytesPerSecond),
          std::max(a.latency, b.latency), a.crossesSites || b.crossesSites};
}

std::vector<std::vector<std::vector<ChipRange>>>
placeRanks(const Strategy &strategy) {
  std::map<std::string, uint64_t> used;
  std::vector<std::vector<std::vector<ChipRange>>> islands;
  for (const Island &island : strategy.islands) {
    auto &stages = islands.emplace_back();
    for (const Stage &stage : island.stages) {
      auto &groups = stages.emplace_back();
      for (const ReplicaGroup &group : stage.replicas) {
        uint64_t &next = used[group.pool];
        uint64_t count = group.count * group.tensorParallel;
        groups.push_back({group.pool, next, count});
        next += count;
      }
    }
  }
  return islands;
}

static Transfer over(const std::optional<Wire> &wire) {
  if (!wire)
    return {0, kInfinity, false};
  return {wire->bytesPerSecond(), wire->latencySeconds(), false};
}

static uint64_t nodeOf(const Pool &pool, uint64_t chip) {
  return chip / pool.chipsPerNode;
}

/// Whether the n-th chips of two ranges are on one node for every n; for ranges
/// of different length, whether all of them are on one.
static bool onSameNodes(const Pool &pool, const ChipRange &from,
                        const ChipRange &to) {
  uint64_t checked = std::min(from.count, pool.chipsPerNode);
  if (from.count != to.count) {
    uint64_t node = nodeOf(pool, from.first);
    return nodeOf(pool, from.first + from.count - 1) == node &&
           nodeOf(pool, to.first) == node &&
           nodeOf(pool, to.first + to.count - 1) == node;
  }
  // Repeats with every node.
  for (uint64_t i = 0; i < checked; ++i)
    if (nodeOf(pool, from.first + i) != nodeOf(pool, to.first + i))
      return false;
  return true;
}

Transfer transferBetween(const Topology &topology, const ChipRange &from,
                         const ChipRange &to) {
  if (from.pool == to.pool) {
    const Pool &pool = *topology.findPool(from.pool);
    return over(onSameNodes(pool, from, to)
                    ? pool.intraNode
                    : topology.wireBetween(from.pool, to.pool));
  }
  std::string fromSite = splitPool(from.pool).first;
  std::string toSite = splitPool(to.pool).first;
  if (fromSite == toSite)
    return over(topology.wireBetween(from.pool, to.pool));
  auto way = topology.route(fromSite, toSite);
  if (!way)
    return {0, kInfinity, true};
  Transfer transfer{kInfinity, 0, true};
  for (size_t link : *way) {
    transfer.bytesPerSecond = std::min(transfer.bytesPerSecond,
                                       topology.links[link].bytesPerSecond());
    transfer.latency += topology.links[link].rttMs * 0.5e-3;
  }
  transfer.bytesPerSecond /=
      static_cast<double>(std::max(from.count, to.count));
  return transfer;
}

/// Reduce-scatter, then all-gather: each `members` - 1 steps.
static double ringSeconds(double members, double bytes,
                          const Transfer &transfer) {
  return members <= 1 ? 0
                      : 2 * (members - 1) * transfer.seconds(bytes / members);
}

Transfer insideReplicas(const Topology &topology, const ChipRange &range,
                        uint64_t tensorParallel) {
  Transfer slowest;
  if (tensorParallel <= 1)
    return slowest;
  const Pool &pool = *topology.findPool(range.pool);
  // Whether one lies on two nodes repeats with the nodes.
  bool crosses = tensorParallel > pool.chipsPerNode;
  uint64_t replicas = std::min(range.count / tensorParallel, pool.chipsPerNode);
  for (uint64_t r = 0; r < replicas && !crosses; ++r) {
    uint64_t first = range.first + r * tensorParallel;
    crosses = nodeOf(pool, first) != nodeOf(pool, first + tensorParallel - 1);
  }
  if (pool.chipsPerNode > 1)
    slowest = over(pool.intraNode);
  if (crosses)
    slowest =
        slower(slowest, over(topology.wireBetween(range.pool, range.pool)));
  return slowest;
}

double exchangeSeconds(const Work &work, uint64_t chips, const Transfer &wire,
                       double samples) {
  if (chips <= 1)
    return 0;
  double steps = 0;
  for (size_t c = 0; c < kCollectives; ++c)
    steps += work.exchanges[c].count *
             (static_cast<Collective>(c) == Collective::AllReduce ? 2 : 1);
  if (steps == 0)
    return 0;
  steps *= static_cast<double>(chips - 1);
  // Infinite where there is no wire.
  return wire.seconds(work.sentBytes(chips, samples)) +
         (steps - 1) * wire.latency;
}

double allReduceSeconds(const Topology &topology,
                        const std::vector<ChipRange> &ranges, double bytes,
                        uint64_t tensorParallel) {
  uint64_t replicas = 0;
  for (const ChipRange &range : ranges)
    replicas += range.count / tensorParallel;
  if (replicas <= 1)
    return 0;
  if (ranges.size() > 1) {
    // Several pools: one ring over all replicas at the pace of the slowest
    // wire.
    Transfer slowest;
    for (size_t i = 0; i < ranges.size(); ++i) {
      slowest =
          slower(slowest, transferBetween(topology, ranges[i],
                                          ranges[(i + 1) % ranges.size()]));
      const Pool &pool = *topology.findPool(ranges[i].pool);
      if (ranges[i].count > 1 && pool.intraNode)
        slowest = slower(slowest, over(pool.intraNode));
      if (nodeOf(pool, ranges[i].first) !=
          nodeOf(pool, ranges[i].first + ranges[i].count - 1))
        slowest =
            slower(slowest,
                   over(topology.wireBetween(ranges[i].pool, ranges[i].pool)));
    }
    return ringSeconds(static_cast<double>(replicas), bytes, slowest);
  }
  const ChipRange &range = ranges[0];
  const Pool &pool = *topology.findPool(range.pool);
  uint64_t last = range.first + range.count - 1;
  double nodes =
      static_cast<double>(nodeOf(pool, last) - nodeOf(pool, range.first) + 1);
  if (nodes == 1)
    return ringSeconds(static_cast<double>(replicas), bytes,
                       over(pool.intraNode));
  Transfer between = over(topology.wireBetween(range.pool, range.pool));
  // Replicas that do not lie on whole nodes, or the other way round: a ring.
  if (pool.chipsPerNode % tensorParallel != 0 ||
      range.first % tensorParallel != 0)
    return ringSeconds(static_cast<double>(replicas), bytes, between);
  // Inside a node each replica ends up with the sum of one part; the parts are
  // then summed between nodes side by side, each chip with its share of the
  // network cards. A node used in part has fewer and larger parts.
  uint64_t inFirst = pool.chipsPerNode - range.first % pool.chipsPerNode;
  uint64_t inLast = last % pool.chipsPerNode + 1;
  double fewest =
      static_cast<double>(std::min(inFirst, inLast) / tensorParallel);
  double most = static_cast<double>(std::min(range.count, pool.chipsPerNode) /
                                    tensorParallel);
  double seconds = ringSeconds(nodes, bytes / fewest, between);
  if (most > 1)
    seconds += ringSeconds(most, bytes, over(pool.intraNode));
  return seconds;
}

static double bytesPerElement(Compression compression) {
  switch (compression) {
  case Compression::None:
    return 4;
  case Compression::BF16:
    return 2;
  case Compression::Int8:
    return 1 + 4.0 / 256; // a scale for each 256 elements
  case Compression::Int4:
    return 0.5 + 4.0 / 256;
  }
  return 4;
}

Synchronisation synchronisation(const Problem &problem,
                                const Strategy &strategy) {
  Synchronisation result;
  if (!strategy.server || strategy.islands.empty())
    return result;
  const Server &server = *strategy.server;
  const Topology &topology = problem.topology;
  double rate = problem.bounds.serverBytesPerSecond;
  double islands = static_cast<double>(strategy.islands.size());
  double fragments = static_cast<double>(server.fragments);
  double bytes = problem.model.trainableCount() *
                 bytesPerElement(server.compression) / fragments;

  // One fragment kept at a place: seconds and bytes across.
  auto one = [&](const Placement &place) {
    Synchronisation cost;
    // Every island pushes at once: a line carries all flows that cross it.
    std::map<size_t, double> load;
    double latency = 0;
    for (const Island &island : strategy.islands) {
      auto way = topology.route(island.sites[0], place.primary);
      double delay = 0;
      for (size_t link : way.value_or(std::vector<size_t>())) {
        load[link] += bytes;
        delay += topology.links[link].rttMs * 0.5e-3;
      }
      latency = std::max(latency, delay);
      cost.wanBytes += way && !way->empty() ? 2 * bytes : 0;
    }
    double line = bytes * islands / rate; // what the server takes in
    for (const auto &[link, carried] : load)
      line = std::max(line, carried / topology.links[link].bytesPerSecond());
    // Push, one pass over the fragment at the server, pull.
    cost.seconds = 2 * (latency + line) + bytes / rate;
    if (!place.backup.empty() && place.backup != place.primary) {
      // Pushes and the update count only when they are there too.
      double copied = bytes * (islands + 1), slowest = 0;
      auto way = topology.route(place.primary, place.backup);
      for (size_t link : way.value_or(std::vector<size_t>())) {
        slowest =
            std::max(slowest, copied / topology.links[link].bytesPerSecond());
        cost.seconds += topology.links[link].rttMs * 1e-3;
      }
      cost.seconds += slowest;
      cost.wanBytes += copied;
    }
    return cost;
  };
  // With nothing overlapped fragments are served one after the other.
  auto add = [&](const Placement &place, double times) {
    Synchronisation cost = one(place);
    result.seconds += times * cost.seconds;
    result.wanBytes += times * cost.wanBytes;
  };
  for (const auto &[index, place] : server.placement)
    add(place, 1);
  double unplaced = fragments - static_cast<double>(server.placement.size());
  if (unplaced > 0)
    add({strategy.islands[0].sites[0], ""}, unplaced);
  return result;
}

} // namespace tombolo::planning
