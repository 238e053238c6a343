//===- RowSolver.h - the best stages of a row of pools --------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_ROWSOLVER_H
#define TOMBOLO_LIB_PLANNING_ROWSOLVER_H

#include "SearchLimits.h"
#include "SplitTable.h"

namespace tombolo::planning {

/// Like replicas of a stage.
struct SegmentGroup {
  std::string pool;
  const Chip *chip = nullptr;
  uint64_t replicas = 1;
  uint64_t own = 1; // microbatches of each in a step
  Transfer insideReplica;
};

/// Like stages in a row, on one pool or on several side by side.
struct Segment {
  std::vector<SegmentGroup> groups;
  uint64_t tensorParallel = 1; // chips of a replica
  uint64_t optimizerParts = 1;
  uint64_t mostStages = 1; // that the pools' chips make

  ReplicaChips replicaChips(const SegmentGroup &group) const {
    return {tensorParallel, group.insideReplica};
  }
};

/// What a row is solved for.
struct RowRequest {
  std::vector<Segment> segments; // from the first stage to the last
  Schedule schedule = Schedule::OneFOneB;
  /// Null, or what ends it early: then with what was found by then.
  const SearchLimits *limits = nullptr;
};

struct RowStage {
  size_t segment = 0;
  size_t begin = 0, end = 0; // cuts
  size_t again = 0;          // cut: blocks from `begin` up to it run again
  bool operator==(const RowStage &) const = default;
};

/// A solution of a row: `sum` is one microbatch there and back through all
/// stages, with transfers, in seconds; `peak` the most that any stage or hop
/// still has to do for the others.
struct RowSolution {
  std::vector<RowStage> stages;
  double sum = 0;
  double peak = 0;
  /// The closed form, in seconds, without reduction and update.
  double seconds = 0;
};

/// Exact for the closed form of docs/Planning.md on one row: cuts, numbers of
/// stages on each pool, blocks that run again.
class RowSolver {
public:
  RowSolver(const Problem &problem, const SplitTable &table,
            RowRequest request);

  /// Solutions below `ceiling` seconds of closed form, with the best one if
  /// there is any, and the best of other numbers of stages and of other peaks.
  std::vector<RowSolution> solve(double ceiling);

  /// Whether some solution that was found waits for what 1F1B keeps in flight,
  /// also where the ceiling is below it.
  bool paceDecides() const { return waits; }

private:
  static constexpr uint32_t kNone = ~uint32_t(0);

  /// A stage of a segment on an interval of cuts, with so many stages after it.
  struct Cost {
    double fill = -1; // seconds of a microbatch; below 0: not asked yet
    double peak = 0;
    uint32_t again = 0;
  };
  /// A boundary between two stages, by cut.
  struct Hop {
    std::vector<double> seconds; // there and back
    std::vector<double> peak;
  };
  /// What solves the rest of the row from a cut on with so many stages.
  struct Frontier {
    std::vector<double> value;    // by cut
    std::vector<uint32_t> behind; // stages behind the segment
    std::vector<uint32_t> on;     // stages on it
  };

  const Problem &problem;
  const SplitTable &table;
  RowRequest request;
  size_t last; // the last cut
  double least = 0;
  bool waits = false;
  /// What follows from the best solution so far: no more than this, in seconds.
  double enough = std::numeric_limits<double>::infinity();
  struct Group {
    const SplitTable::Times *times = nullptr;
    double available = 0;
    uint64_t own = 1;               // microbatches of a replica
    std::vector<uint64_t> inFlight; // by stages after it
  };
  struct Part {
    std::vector<Group> groups;
    SplitTable::Memory *memory = nullptr;
    uint64_t mostOwn = 1; // of any group
    Hop inside, toNext;
    std::vector<std::vector<std::vector<Cost>>> costs; // [after][i][j - i - 1]
    /// By cut: what comes before it takes no less on this part and those
    /// before.
    std::vector<double> leastBefore;
    /// The stages of one pass: where the stage that begins at a cut ends.
    std::vector<std::vector<std::vector<uint32_t>>> ends; // [behind][on][cut]

    /// A stage in the group where it takes longest.
    struct Load {
      double fill = 0; // seconds of a microbatch on its way there and back
      double peak = 0; // and of what is left to do after the first one
    };
    Load load(size_t i, size_t j, size_t again) const {
      Load most;
      for (const Group &group : groups) {
        double seconds = group.times->seconds(i, j, again);
        most.fill = std::max(most.fill, group.times->onTheWay(i, j, again));
        most.peak =
            std::max(most.peak, seconds * static_cast<double>(group.own - 1));
      }
      return most;
    }
  };
  std::vector<Part> parts;

  Hop hopOf(const Segment &from, const Segment &to, const Transfer &transfer,
            const SegmentGroup &fromGroup, const SegmentGroup &toGroup) const;
  Hop hopBetween(const Segment &from, const Segment &to) const;
  Hop hopInside(const Segment &segment, const SegmentGroup &group) const;
  static void takeSlower(Hop &hop, const Hop &other);
  Cost costOf(size_t segment, uint64_t after, size_t i, size_t j);
  /// The most cuts that a stage can span under a peak.
  size_t longest(size_t segment, double peak) const;
  /// One pass: least peak, or least sum with no more than `peak`. One solution
  /// for each number of stages.
  std::vector<RowSolution> pass(bool leastPeak, double peak);
  RowSolution trace(const std::vector<std::vector<Frontier>> &frontiers,
                    uint64_t stages);
  void finish(RowSolution &solution) const;
};

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_ROWSOLVER_H
