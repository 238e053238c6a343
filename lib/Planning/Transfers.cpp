//===- Transfers.cpp - what transfers and reductions take -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Transfers.h"
#include "Infinity.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace tombolo::planning {

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

/// A wire inside a node. Where cores of the host are busier than it they take
/// longer.
static Transfer wireInNode(const Topology &topology, const Pool &pool) {
  Transfer wire = over(pool.intraNode);
  if (pool.onHostCores()) {
    double part = topology.chipOf(pool).overheads.messagePart;
    wire.bytesPerSecond /= std::max(1.0, part);
    wire.latency *= std::max(1.0, part);
  }
  return wire;
}

/// What a step of a collective inside a node gets.
static Transfer ringInNode(const Topology &topology, const Pool &pool) {
  Transfer wire = wireInNode(topology, pool);
  const Overheads &overheads = topology.chipOf(pool).overheads;
  wire.bytesPerSecond *= overheads.ringRate;
  wire.latency *= overheads.ringLatency;
  return wire;
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
    return onSameNodes(pool, from, to)
               ? wireInNode(topology, pool)
               : over(topology.wireBetween(from.pool, to.pool));
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
    transfer.bytesPerSecond = std::min(
        transfer.bytesPerSecond, topology.links[link].usableBytesPerSecond());
    transfer.latency += topology.links[link].rttMs * 0.5e-3;
  }
  transfer.bytesPerSecond /=
      static_cast<double>(std::max(from.count, to.count));
  return transfer;
}

std::vector<HostCore> hostCores(const Topology &topology,
                                const ChipRange &range) {
  std::vector<HostCore> cores;
  const Pool &pool = *topology.findPool(range.pool);
  if (!pool.onHostCores())
    return cores;
  for (uint64_t c = range.first; c < range.first + range.count; ++c)
    cores.push_back(
        {&pool, nodeOf(pool, c), c % pool.chipsPerNode % *pool.coresPerNode});
  return cores;
}

double busyPart(const Topology &topology, const Pool &pool) {
  return std::min(1.0, topology.chipOf(pool).overheads.messagePart);
}

double coreBytesPerSecond(const Topology &topology, const Pool &pool) {
  constexpr double kUnmeasured = 1e9; // as in the simulator's Places::coreRate
  double rate = pool.intraNode   ? pool.intraNode->bytesPerSecond()
                : pool.interNode ? pool.interNode->bytesPerSecond()
                                 : kUnmeasured;
  return rate / topology.chipOf(pool).overheads.messagePart;
}

double coreMoveSeconds(const Topology &topology, const ChipRange &own,
                       const ChipRange &other, double bytes) {
  const Pool &pool = *topology.findPool(own.pool);
  bool inNode = own.pool == other.pool && onSameNodes(pool, own, other);
  return bytes / coreBytesPerSecond(topology, pool) +
         (inNode ? topology.chipOf(pool).overheads.messagePart *
                       over(pool.intraNode).latency
                 : 0);
}

/// Reduce-scatter, then all-gather: each `members` - 1 steps.
static double ringSeconds(double members, double bytes,
                          const Transfer &transfer) {
  return members <= 1 ? 0
                      : 2 * (members - 1) * transfer.seconds(bytes / members);
}

namespace {
/// How a range of chips lies on nodes; of the nodes only the first and the last
/// may be used in part.
struct Spread {
  uint64_t nodes, fewest, most; // chips on a node
};
} // namespace

static Spread spreadOf(const Pool &pool, const ChipRange &range) {
  uint64_t last = range.first + range.count - 1;
  uint64_t nodes = nodeOf(pool, last) - nodeOf(pool, range.first) + 1;
  if (nodes == 1)
    return {1, range.count, range.count};
  uint64_t inFirst = pool.chipsPerNode - range.first % pool.chipsPerNode;
  uint64_t inLast = last % pool.chipsPerNode + 1;
  return {nodes, std::min(inFirst, inLast),
          nodes > 2 ? pool.chipsPerNode : std::max(inFirst, inLast)};
}

Transfer insideReplicas(const Topology &topology, const ChipRange &range,
                        uint64_t tensorParallel) {
  Transfer slowest;
  if (tensorParallel <= 1)
    return slowest;
  const Pool &pool = *topology.findPool(range.pool);
  Transfer inside = ringInNode(topology, pool);
  // How a replica lies on its nodes repeats with the nodes.
  uint64_t replicas = std::min(range.count / tensorParallel, pool.chipsPerNode);
  for (uint64_t r = 0; r < replicas; ++r) {
    Spread spread = spreadOf(
        pool, {range.pool, range.first + r * tensorParallel, tensorParallel});
    if (spread.nodes == 1) {
      slowest = slower(slowest, inside);
      continue;
    }
    double most = static_cast<double>(spread.most);
    double fewest = static_cast<double>(spread.fewest);
    Transfer between = over(topology.wireBetween(range.pool, range.pool));
    // Rings in each node, then one of each of its chips between nodes, side by
    // side: of k - 1 steps so many are of either kind, and of the bytes that a
    // chip sends such a part.
    double a = static_cast<double>(spread.nodes);
    double near = (most - 1) / most, far = (a - 1) / (a * fewest);
    double k = static_cast<double>(tensorParallel);
    double perByte = far / between.bytesPerSecond;
    double latency = (a - 1) * between.latency;
    if (most > 1) {
      perByte += near / inside.bytesPerSecond;
      latency += (most - 1) * inside.latency;
    }
    slowest = slower(slowest, {(k - 1) / k / perByte, latency / (k - 1), false});
  }
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

/// Two trees, each for half of the bytes, up and down: what passes a chip is
/// twice the bytes, in a depth that grows with the logarithm of the members
/// (Sanders et al. 2009). Wins where latency rules.
static double treeSeconds(double members, double bytes,
                          const Transfer &transfer) {
  if (members <= 1)
    return 0;
  return 2 * std::ceil(std::log2(members)) * transfer.latency +
         Transfer{transfer.bytesPerSecond, 0, false}.seconds(2 * bytes);
}

/// The slowest wire between any two chips of a range.
static Transfer widestWire(const Topology &topology, const ChipRange &range) {
  const Pool &pool = *topology.findPool(range.pool);
  uint64_t last = range.first + range.count - 1;
  if (nodeOf(pool, range.first) != nodeOf(pool, last))
    return over(topology.wireBetween(range.pool, range.pool));
  return range.count > 1 ? ringInNode(topology, pool) : Transfer();
}

/// A sum inside one pool: a ring in each node, then rings between nodes.
static double poolReduceSeconds(const Topology &topology,
                                const ChipRange &range, double bytes,
                                uint64_t tensorParallel) {
  const Pool &pool = *topology.findPool(range.pool);
  double replicas = static_cast<double>(range.count / tensorParallel);
  if (replicas <= 1)
    return 0;
  Spread spread = spreadOf(pool, range);
  if (spread.nodes == 1)
    return ringSeconds(replicas, bytes, ringInNode(topology, pool));
  Transfer between = over(topology.wireBetween(range.pool, range.pool));
  // Replicas that do not lie on whole nodes, or the other way round: a ring.
  if (pool.chipsPerNode % tensorParallel != 0 ||
      range.first % tensorParallel != 0)
    return ringSeconds(replicas, bytes, between);
  // Inside a node each replica ends up with the sum of one part; the parts are
  // then summed between nodes side by side, each chip with its share of the
  // network cards. A node used in part has fewer and larger parts.
  double fewest = static_cast<double>(spread.fewest / tensorParallel);
  double most = static_cast<double>(spread.most / tensorParallel);
  double seconds =
      ringSeconds(static_cast<double>(spread.nodes), bytes / fewest, between);
  if (most > 1)
    seconds += ringSeconds(most, bytes, ringInNode(topology, pool));
  return seconds;
}

double allReduceSeconds(const Topology &topology,
                        const std::vector<ChipRange> &ranges, double bytes,
                        uint64_t tensorParallel) {
  double replicas = 0, fewest = kInfinity, inside = 0;
  Transfer slowest, between;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const ChipRange &range = ranges[i];
    double here = static_cast<double>(range.count / tensorParallel);
    replicas += here;
    fewest = std::min(fewest, here);
    inside = std::max(
        inside, poolReduceSeconds(topology, range, bytes, tensorParallel));
    slowest = slower(slowest, widestWire(topology, range));
    if (ranges.size() > 1)
      between =
          slower(between, transferBetween(topology, range,
                                          ranges[(i + 1) % ranges.size()]));
  }
  if (replicas <= 1)
    return 0;
  slowest = slower(slowest, between);
  // Level by level: each replica of a pool ends up with the sum of one part,
  // which goes round the pools; in the smallest pool there are fewest and
  // largest parts.
  double levels = inside;
  if (ranges.size() > 1)
    levels += ringSeconds(static_cast<double>(ranges.size()), bytes / fewest,
                          between);
  return std::min({levels, ringSeconds(replicas, bytes, slowest),
                   treeSeconds(replicas, bytes, slowest)});
}

} // namespace tombolo::planning
