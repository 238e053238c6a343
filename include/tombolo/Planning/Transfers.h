//===- Transfers.h - what transfers and reductions take -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_TRANSFERS_H
#define TOMBOLO_PLANNING_TRANSFERS_H

#include "tombolo/Planning/Problem.h"

#include <limits>

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

/// From the n-th chip of one range to the n-th of another, all at once: inside
/// a node when that holds for every n, else between nodes (each chip with its
/// part of the network cards), between pools, or over the lines between sites
/// (shared by all flows).
Transfer transferBetween(const Topology &topology, const ChipRange &from,
                         const ChipRange &to);

/// Seconds of a sum over the replicas in `ranges`, of `tensorParallel` chips
/// each, that all chips of a replica take part in with `bytes` of their own, by
/// rings of 2 (n - 1) steps of bytes / n: inside each node, then between nodes,
/// part by part, then inside again.
double allReduceSeconds(const Topology &topology,
                        const std::vector<ChipRange> &ranges, double bytes,
                        uint64_t tensorParallel = 1);

/// The slowest wire between neighbours among the chips of any one of the
/// replicas that lie side by side in a range.
Transfer insideReplicas(const Topology &topology, const ChipRange &range,
                        uint64_t tensorParallel);

/// Seconds of a function's collectives over the chips of a replica, by rings of
/// k - 1 steps (an all-reduce: twice that), one after the other.
double exchangeSeconds(const Work &work, uint64_t chips, const Transfer &wire,
                       double samples);

/// One outer synchronisation with nothing overlapped: its time, and the bytes
/// that cross between sites in both directions.
struct Synchronisation {
  double seconds = 0;
  double wanBytes = 0;
};
Synchronisation synchronisation(const Problem &problem,
                                const Strategy &strategy);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_TRANSFERS_H
