//===- SplitTable.h - costs of runs of consecutive blocks -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_SPLITTABLE_H
#define TOMBOLO_LIB_PLANNING_SPLITTABLE_H

#include "tombolo/Planning/Search.h"

#include <map>
#include <string>
#include <tuple>

namespace tombolo::planning {

/// Time and memory of every interval between two cuts, for one microbatch
/// size; built once and used for all splits with it.
class SplitTable {
public:
  SplitTable(const Problem &problem, uint64_t microbatch);

  /// Places where a split may cut, first 0 and last the number of blocks. All
  /// of them up to 512 blocks; of more, the ends of runs and a regular grid.
  const std::vector<uint64_t> &cuts() const { return positions; }

  /// Seconds of one microbatch through blocks [cuts[i], cuts[j]).
  double seconds(const Chip &chip, const ReplicaChips &replica, size_t i,
                 size_t j, bool recompute) const;

  /// Bytes of a rank that holds [cuts[i], cuts[j]).
  double bytes(const StageRanks &ranks, size_t i, size_t j, bool recompute,
               uint64_t inFlight, bool first, bool last) const;

private:
  struct Terms {
    double fixed = 0; // but gradients and optimizer state
    double gradients = 0;
    double optimizerState = 0;
    double perFlight = 0;
  };
  /// Of one number of chips.
  struct Memory {
    std::vector<std::vector<Terms>> none, full; // [i][j - i - 1]
    std::vector<double> inputAt, outputAt;      // boundary tensors at a cut
  };
  struct Times {
    std::vector<double> all, forward; // sums up to each cut
  };

  const Problem &problem;
  double microbatch;
  std::vector<uint64_t> positions;
  mutable std::map<uint64_t, Memory> memories; // by chips of a replica
  /// By chip, chips of a replica and their wire.
  mutable std::map<std::tuple<std::string, uint64_t, double, double>, Times>
      times;
  const Memory &memoryOf(uint64_t tensorParallel) const;
  const Times &timesOf(const Chip &chip, const ReplicaChips &replica) const;
};

/// `splitBlocks` on a table with the request's microbatch.
std::vector<Split> splitBlocks(const Problem &problem, const SplitTable &table,
                               const SplitRequest &request);

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_SPLITTABLE_H
