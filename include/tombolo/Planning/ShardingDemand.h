//===- ShardingDemand.h - what shardings are searched for -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_SHARDINGDEMAND_H
#define TOMBOLO_PLANNING_SHARDINGDEMAND_H

#include "tombolo/Planning/Problem.h"
#include "tombolo/Planning/Transfers.h"

namespace tombolo::planning {

/// A number of chips over which blocks are to be split, and what time and
/// memory cost there.
struct ShardingDemand {
  uint64_t tensorParallel = 1;
  double flopsPerSecond = 1;
  double bytesPerSecond = 1; // of the chip's memory
  Transfer wire;             // between the chips of a replica
  uint64_t microbatch = 1;   // samples
  /// Microbatches of a replica's step, over which what happens once a step is
  /// spread; those in flight, whose inputs of blocks are kept; and those whose
  /// saved values are (0: they are computed again).
  uint64_t microbatches = 1, inFlight = 1, saved = 1;
  /// Of a parameter that trains: itself, its gradient, the optimizer's state.
  double bytesPerParameter = 16;
  /// Whether boundary tensors must be whole: replicas of unequal numbers of
  /// chips meet.
  bool wholeBoundaries = false;
  std::string path; // in `strategy.yaml`
  /// Nobody asked for it: where nothing can be split it is left out.
  bool isCandidate = false;

  /// The price of a byte that is kept: the time to read it once.
  double secondsPerByte() const { return 1 / bytesPerSecond; }
  /// One collective over a tensor of so many bytes, by a ring.
  double seconds(Collective collective, double bytes) const;
};

/// One for each degree above 1 that the pins name, by rising degree: costs are
/// those of the first stage that has it. Where stages are left to the search,
/// also for each degree that divides the chips of a pool's nodes: costs are those
/// of the first such pool, for one sample, with a few microbatches in flight.
/// Pools and chips that do not exist are left out; `search` reports them.
std::vector<ShardingDemand> shardingDemands(const Problem &problem,
                                            const StrategyPins &pins);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_SHARDINGDEMAND_H
