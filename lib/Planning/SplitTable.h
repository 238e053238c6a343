//===- SplitTable.h - costs of runs of consecutive blocks -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_SPLITTABLE_H
#define TOMBOLO_LIB_PLANNING_SPLITTABLE_H

#include "tombolo/Planning/Search.h"

#include <map>
#include <memory>
#include <string>
#include <tuple>

namespace tombolo::planning {

/// Time and memory of every interval between two cuts, for one microbatch
/// size. Filled as it is asked, so not for several threads at once. What is
/// returned by reference stays.
class SplitTable {
public:
  SplitTable(const Problem &problem, uint64_t microbatch,
             uint64_t mostCuts = 512);

  /// Places where a split may cut, first 0 and last the number of blocks. All
  /// of them up to `mostCuts` blocks; of more, the ends of runs and a regular
  /// grid.
  const std::vector<uint64_t> &cuts() const { return positions; }
  double samples() const { return microbatch; }

  /// Seconds of one microbatch, as sums up to each cut.
  struct Times {
    std::vector<double> all, forward;
    std::vector<double> update; // once a step
    /// By cut: the forward of the block before it, and the gradients of the
    /// weights of the one behind it. 0 at the model's ends, where no stage
    /// waits for a gradient and none sends one.
    std::vector<double> early, late;

    /// Through blocks [cuts[i], cuts[j]), those before cuts[again] run again.
    double seconds(size_t i, size_t j, size_t again) const {
      return all[j] - all[i] + forward[again] - forward[i];
    }
    /// Of these, those that one microbatch adds to its way there and back:
    /// while a gradient comes the last block runs again, and the first block's
    /// weights are behind the one that goes on.
    double onTheWay(size_t i, size_t j, size_t again) const {
      return seconds(i, j, again) - (again == j ? early[j] : 0) - late[i];
    }
  };
  const Times &timesOf(const Chip &chip, const ReplicaChips &replica) const;

  /// Memory of the ranks of a stage.
  class Memory {
  public:
    Memory(const SplitTable &table, const StageRanks &ranks);

    /// Bytes of a rank that holds [cuts[i], cuts[j]), those before cuts[again]
    /// run again.
    double bytes(size_t i, size_t j, size_t again, uint64_t inFlight);

  private:
    /// Memory is linear in the microbatches in flight.
    struct Line {
      double fixed = -1; // not asked yet
      double perFlight = 0;
    };
    const SplitTable &table;
    StageRanks ranks;
    /// [i][j - i - 1][again - i], of intervals that stand for those like them.
    std::vector<std::vector<std::vector<Line>>> lines;

    double use(size_t i, size_t j, size_t again, uint64_t inFlight) const;
  };
  Memory &memoryOf(const StageRanks &ranks) const;

  /// Bytes that cross a cut: of the whole tensor, and on one chip of `chips`.
  double wholeBytes(size_t cut) const;
  double localBytes(size_t cut, uint64_t chips) const;

private:
  const Problem &problem;
  double microbatch;
  std::vector<uint64_t> positions;
  /// By cut: the first cut inside the run that the block behind it is of, and
  /// the last one.
  std::vector<size_t> runBegin, runEnd;
  mutable std::map<std::pair<uint64_t, uint64_t>, std::unique_ptr<Memory>>
      memories;
  /// By chip, chips of a replica and their wire.
  mutable std::map<std::tuple<std::string, uint64_t, double, double>, Times>
      times;
};

/// `splitBlocks` on a table with the request's microbatch.
std::vector<Split> splitBlocks(const Problem &problem, const SplitTable &table,
                               const SplitRequest &request);

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_SPLITTABLE_H
