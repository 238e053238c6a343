//===- RowSolverTest.cpp - rows of stages against trying everything -------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "../../../lib/Planning/RowSolver.h"
#include "Fixtures.h"
#include "tombolo/Planning/StageSchedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Every way to put stages on segments, cut the blocks and keep to memory, by
/// the formulas of docs/Planning.md.
class EveryRow {
public:
  EveryRow(const Problem &problem, const SplitTable &table,
           const RowRequest &request)
      : problem(problem), table(table), request(request),
        last(table.cuts().size() - 1) {}

  /// Least seconds; infinite when nothing fits.
  double best() {
    std::vector<uint64_t> counts;
    countFrom(counts);
    return least;
  }

private:
  const Problem &problem;
  const SplitTable &table;
  const RowRequest &request;
  size_t last;
  double least = kInfinity;

  void countFrom(std::vector<uint64_t> &counts) {
    if (counts.size() == request.segments.size()) {
      std::vector<size_t> on; // segment of each stage
      for (size_t e = 0; e < counts.size(); ++e)
        on.insert(on.end(), counts[e], e);
      std::vector<size_t> cuts = {0};
      cutFrom(on, cuts);
      return;
    }
    for (uint64_t n = 1; n <= request.segments[counts.size()].mostStages; ++n) {
      counts.push_back(n);
      countFrom(counts);
      counts.pop_back();
    }
  }

  void cutFrom(const std::vector<size_t> &on, std::vector<size_t> &cuts) {
    if (cuts.size() == on.size()) {
      cuts.push_back(last);
      least = std::min(least, secondsOf(on, cuts));
      cuts.pop_back();
      return;
    }
    for (size_t cut = cuts.back() + 1; cut < last; ++cut) {
      cuts.push_back(cut);
      cutFrom(on, cuts);
      cuts.pop_back();
    }
  }

  double secondsOf(const std::vector<size_t> &on,
                   const std::vector<size_t> &cuts) {
    double sum = 0, peak = 0;
    for (size_t s = 0; s < on.size(); ++s) {
      const Segment &segment = request.segments[on[s]];
      size_t i = cuts[s], j = cuts[s + 1];
      if (i >= j)
        return kInfinity;
      size_t again = i;
      while (again <= j && !fits(segment, on.size() - s, i, j, again))
        ++again;
      if (again > j)
        return kInfinity;
      double fill = 0;
      for (const SegmentGroup &group : segment.groups) {
        StageTimes times = timesOf(segment, group, i, j, again);
        double seconds = times.forward + times.backward;
        fill = std::max(fill, seconds - (j < last ? times.early : 0) -
                                  (i > 0 ? times.late : 0));
        peak = std::max(peak, seconds * static_cast<double>(group.own - 1));
      }
      sum += fill;
      if (s + 1 == on.size())
        break;
      auto [hop, hopPeak] = hopSeconds(on[s], on[s + 1], j);
      sum += hop;
      peak = std::max(peak, hopPeak);
    }
    double pace = 0;
    if (request.schedule != Schedule::GPipe)
      pace = static_cast<double>(request.segments[0].groups[0].own - 1) * sum /
             static_cast<double>(on.size());
    return sum + std::max(peak, pace);
  }

  StageTimes timesOf(const Segment &segment, const SegmentGroup &group,
                     size_t i, size_t j, size_t again) const {
    const auto &cuts = table.cuts();
    Recompute recompute;
    if (again > i)
      recompute = again == j
                      ? Recompute{Recompute::Full, 0}
                      : Recompute{Recompute::Blocks, cuts[again] - cuts[i]};
    return blockSeconds(
        problem, slice(problem.model.runs, cuts[i], cuts[j] - cuts[i]),
        *group.chip, table.samples(), recompute, segment.replicaChips(group));
  }

  bool fits(const Segment &segment, uint64_t stages, size_t i, size_t j,
            size_t again) const {
    SplitTable::Memory &memory =
        table.memoryOf({segment.tensorParallel, segment.optimizerParts});
    for (const SegmentGroup &group : segment.groups) {
      uint64_t inFlight =
          scheduleStage(request.schedule, stages, 0, group.own).inFlight;
      if (memory.bytes(i, j, again, inFlight) >
          availableBytes(problem, *group.chip))
        return false;
    }
    return true;
  }

  /// There and back over the slowest pair of groups, and the most that they do
  /// for the other microbatches. One chip to a node, so that stages are apart.
  std::pair<double, double> hopSeconds(size_t from, size_t to, size_t cut) {
    double slowest = 0, peak = 0;
    const Segment &a = request.segments[from], &b = request.segments[to];
    for (const SegmentGroup &one : a.groups)
      for (const SegmentGroup &other : b.groups) {
        if (from == to && one.pool != other.pool)
          continue; // replicas of one pool go on to those of the same
        uint64_t first = from == to ? one.replicas : 0;
        Transfer wire =
            transferBetween(problem.topology, {one.pool, 0, one.replicas},
                            {other.pool, first, other.replicas});
        double whole = table.wholeBytes(cut), local = table.localBytes(cut, 1);
        double there =
            boundarySeconds(wire, whole, local, 1, b.replicaChips(other));
        double back =
            boundarySeconds(wire, whole, local, 1, a.replicaChips(one));
        slowest = std::max(slowest, there + back);
        peak = std::max({peak, there * static_cast<double>(one.own - 1),
                         back * static_cast<double>(other.own - 1)});
      }
    return {slowest, peak};
  }
};

class RowSolverTest : public testing::Test {
protected:
  std::mt19937 engine{1};
  uint64_t pick(uint64_t low, uint64_t high) {
    return low + engine() % (high - low + 1);
  }

  Problem randomProblem() {
    Problem problem;
    Site &site = problem.topology.sites.emplace_back();
    site.name = "s";
    // A kilobyte takes about as long as a block.
    auto wire = [&] {
      return Wire{1e-5 * static_cast<double>(pick(1, 100)),
                  static_cast<double>(pick(1, 20000))};
    };
    site.fabric = wire();
    bool tight = pick(0, 1);
    for (const char *name : {"a", "b"}) {
      problem.topology.chips.push_back(
          chip(name, static_cast<double>(pick(1, 4)),
               static_cast<double>(tight ? pick(24, 70) : pick(400, 900)) /
                   1024 / 1024));
      site.pools.push_back(pool(name, name, 8, 1));
      site.pools.back().interNode = wire();
    }
    for (int k = 0; k < 2; ++k)
      problem.model.kinds.push_back(
          kind("k", 1e11 * static_cast<double>(pick(1, 20)), pick(100, 1500),
               static_cast<double>(pick(0, 3000)),
               static_cast<double>(pick(0, 1000))));
    uint64_t blocks = pick(2, 6);
    problem.model.runs = {{0, pick(1, blocks - 1)}};
    problem.model.runs.push_back({1, blocks - problem.model.blocks()});
    problem.training.globalBatch = 64;
    problem.bounds.tiesAcrossStages = true;
    return problem;
  }

  RowRequest randomRequest(const Problem &problem) {
    RowRequest request;
    request.schedule = pick(0, 3) ? Schedule::OneFOneB : Schedule::GPipe;
    uint64_t microbatches = pick(1, 6);
    for (uint64_t e = 0, count = pick(1, 3); e < count; ++e) {
      Segment &segment = request.segments.emplace_back();
      segment.mostStages = pick(1, 3);
      uint64_t first = pick(0, 1);
      for (uint64_t g = 0, groups = pick(0, 3) ? 1 : 2; g < groups; ++g) {
        const Chip &chip = problem.topology.chips[(first + g) % 2];
        segment.groups.push_back(
            {"s/" + chip.name, &chip, pick(1, 2), microbatches, {}});
        // Side by side each takes a part.
        if (groups == 2)
          segment.groups.back().own = pick(1, microbatches);
      }
    }
    return request;
  }
};

TEST_F(RowSolverTest, FindsTheLeastOfEverythingThatThereIs) {
  int solved = 0, empty = 0, sideBySide = 0;
  for (int round = 0; round < 5000; ++round) {
    Problem problem = randomProblem();
    RowRequest request = randomRequest(problem);
    SplitTable table(problem, pick(1, 2));
    double best = EveryRow(problem, table, request).best();
    std::vector<RowSolution> found =
        RowSolver(problem, table, request).solve(kInfinity);
    if (best == kInfinity) {
      EXPECT_TRUE(found.empty()) << "round " << round;
      ++empty;
      continue;
    }
    ++solved;
    for (const Segment &segment : request.segments)
      sideBySide += segment.groups.size() > 1;
    ASSERT_FALSE(found.empty()) << "round " << round << ": " << best;
    EXPECT_NEAR(found[0].seconds, best, 1e-9 * best) << "round " << round;
    // A ceiling changes nothing for what is below it.
    found = RowSolver(problem, table, request).solve(best * 1.0001);
    ASSERT_FALSE(found.empty()) << "round " << round << ": " << best;
    EXPECT_NEAR(found[0].seconds, best, 1e-9 * best) << "round " << round;
    EXPECT_TRUE(RowSolver(problem, table, request).solve(best * 0.9999).empty())
        << "round " << round;
  }
  // All kinds of problem were among them.
  EXPECT_GE(solved, 2000);
  EXPECT_GE(empty, 200);
  EXPECT_GE(sideBySide, 500);
}

} // namespace
