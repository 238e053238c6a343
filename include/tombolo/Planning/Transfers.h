//===- Transfers.h - what transfers and reductions take -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_TRANSFERS_H
#define TOMBOLO_PLANNING_TRANSFERS_H

#include "tombolo/Planning/Problem.h"

#include <limits>
#include <string>
#include <tuple>
#include <vector>

namespace tombolo::planning {

/// What one flow gets: seconds = latency + bytes / rate.
struct Transfer {
  double bytesPerSecond = std::numeric_limits<double>::infinity();
  double latency = 0; // seconds
  bool crossesSites = false;

  /// Infinite where there is no way.
  double seconds(double bytes) const;
};

/// The worse of two in each figure.
Transfer slower(const Transfer &a, const Transfer &b);

/// Chips [first, first + count) of a pool, numbered through its nodes.
struct ChipRange {
  std::string pool;
  uint64_t first = 0;
  uint64_t count = 0;
};

/// The chips of each island, stage and group: pools are filled in the order of
/// the ranks' numbers.
std::vector<std::vector<std::vector<ChipRange>>>
placeRanks(const Strategy &strategy);

/// A core of a pool's hosts: the pool, its node, and the core's number there.
using HostCore = std::tuple<const Pool *, uint64_t, uint64_t>;

/// The cores that the chips of a range are on, chip by chip; empty where these
/// are no cores of their hosts.
std::vector<HostCore> hostCores(const Topology &topology,
                                const ChipRange &range);

/// From the n-th chip of one range to the n-th of another, all at once: inside
/// a node when that holds for every n, else between nodes (each chip with its
/// part of the network cards), between pools, or over the lines between sites
/// (shared by all flows).
Transfer transferBetween(const Topology &topology, const ChipRange &from,
                         const ChipRange &to);

/// Seconds of a sum over the replicas in `ranges`, of `tensorParallel` chips
/// each, that all chips of a replica take part in with `bytes` of their own: by
/// rings of 2 (n - 1) steps of bytes / n, level by level (inside each node,
/// then between nodes, then between pools, part by part, and back), by one ring
/// over all, or by two trees of depth log2 n; whichever is fastest.
double allReduceSeconds(const Topology &topology,
                        const std::vector<ChipRange> &ranges, double bytes,
                        uint64_t tensorParallel = 1);

/// A wire over which one ring through the chips of a replica would take as long
/// as their rings do: inside each node, then between nodes side by side, each
/// chip with its share of the cards. The slowest of the replicas that lie side
/// by side in a range.
Transfer insideReplicas(const Topology &topology, const ChipRange &range,
                        uint64_t tensorParallel);

/// Seconds of a function's collectives over the chips of a replica, by rings of
/// k - 1 steps (an all-reduce: twice that), one after the other.
double exchangeSeconds(const Work &work, uint64_t chips, const Transfer &wire,
                       double samples);

/// A host's core encrypts or decrypts a gigabyte, and moves it, in 1.25 s.
inline constexpr double kWireSecondsPerByte = 1.25e-9;

/// Seconds of each own core that moves so many bytes to or from another range:
/// inside a node for as long as its wire is busy, else at that rate.
double coreMoveSeconds(const Topology &topology, const ChipRange &own,
                       const ChipRange &other, double bytes);

/// Of the time that a message takes inside a node, the part that a core of a
/// pool's hosts is busy with it at either end.
double busyPart(const Topology &topology, const Pool &pool);

/// Bytes per second that keep a core of a pool's hosts busy.
double coreBytesPerSecond(const Topology &topology, const Pool &pool);

/// What an element takes in a push or a published update: 4, 2, 1 and a scale
/// (4 bytes) for each 256 elements, half and such a scale.
double bytesPerElement(Compression compression);

/// The exchange of one fragment, from the islands and back.
struct FragmentExchange {
  double fragments = 1; // so many are alike
  double seconds = 0;   // with nothing overlapped: the sum of its parts
  /// The longest that anything is busy with it (a line in one direction, the
  /// server): exchanges cannot follow each other faster.
  double busySeconds = 0;
  double rankSeconds = 0;    // encode and apply
  double lineSeconds = 0;    // bytes over lines and through gateways, all ways
  double serverSeconds = 0;  // one pass, log, copy to the backup
  double latencySeconds = 0; // of lines
  double wanBytes = 0;       // between sites, both directions
};

/// A synchronisation of all fragments with nothing overlapped: its time, and
/// the bytes that cross between sites in both directions.
struct Synchronisation {
  double seconds = 0;
  double wanBytes = 0;
  double connections = 1; // parallel ones that its worst line needs
  std::vector<FragmentExchange> exchanges;
  /// Of a round, by island: seconds that training loses of cores that it shares
  /// with the hosts' work (`Pool::onHostCores`); 0 elsewhere.
  std::vector<double> coreSeconds;
};
Synchronisation synchronisation(const Problem &problem,
                                const Strategy &strategy);

/// Seconds of a round in which training waits for exchanges: each fragment for
/// what its exchange takes longer than `overlap_steps` inner steps; and where
/// something is busy with an exchange for longer than until the next begins,
/// for that.
double exposedSeconds(const Server &server, const Synchronisation &sync,
                      double stepSeconds);

/// Bytes that the servers at a site keep in its hosts: global state, momentum
/// and error feedback of the fragments whose primary or backup is there.
double serverHostBytes(const Problem &problem, const Strategy &strategy,
                       const std::string &site);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_TRANSFERS_H
