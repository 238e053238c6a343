//===- RowSolver.cpp - the best stages of a row of pools ------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Variables: how many stages lie on each pool of the row (at least one, at most
// what its chips make), the cuts between stages, the blocks that run again.
// Constraints: every stage has a block and fits into its chip's memory with
// what the schedule keeps in flight there. Objective: sum + max(peak, pace),
// where sum is the time of one microbatch there and back through all stages and
// between them, peak the most that a stage or a hop takes for its other
// microbatches, and pace what 1F1B needs to send them round with as many in
// flight as there are stages.
//
// Stages are placed from the last one to the first: what is in flight depends
// on the stages behind. For a given ceiling on the peak, the least sum from
// each cut on, with each number of stages on the segment and behind it, is a
// shortest path. Lowering the ceiling below the peak that was found walks along
// the front of pairs (sum, peak), from the least sum to the least peak.
//
//===----------------------------------------------------------------------===//

#include "RowSolver.h"
#include "Infinity.h"

#include <algorithm>
#include <cmath>

namespace tombolo::planning {

RowSolver::RowSolver(const Problem &problem, const SplitTable &table,
                     RowRequest given)
    : problem(problem), table(table), request(std::move(given)),
      last(table.cuts().size() - 1) {
  for (const Segment &segment : request.segments) {
    Part &part = parts.emplace_back();
    part.memory =
        &table.memoryOf({segment.tensorParallel, segment.optimizerParts});
    for (const SegmentGroup &group : segment.groups) {
      part.groups.push_back(
          {&table.timesOf(*group.chip, segment.replicaChips(group)),
           availableBytes(problem, *group.chip),
           group.own,
           {}});
      part.mostOwn = std::max(part.mostOwn, group.own);
      Hop hop = hopInside(segment, group);
      if (part.groups.size() == 1)
        part.inside = std::move(hop);
      else
        takeSlower(part.inside, hop);
    }
  }
  for (size_t e = 0; e + 1 < parts.size(); ++e)
    parts[e].toNext = hopBetween(request.segments[e], request.segments[e + 1]);
  // By cut: what lies behind it, inside a stage and where one begins.
  std::vector<double> inside(last, kInfinity), first(last, kInfinity);
  double stages = 0;
  for (size_t e = 0; e < parts.size(); ++e) {
    Part &part = parts[e];
    stages += static_cast<double>(request.segments[e].mostStages);
    // A stage takes no less than in its first group.
    const SplitTable::Times &times = *part.groups.front().times;
    part.leastBefore.push_back(0);
    double all = 0, begun = 0, most = 0;
    for (size_t c = 0; c < last; ++c) {
      inside[c] = std::min(inside[c], times.all[c + 1] - times.all[c]);
      first[c] = std::min(first[c], times.onTheWay(c, c + 1, c));
      all += inside[c];
      begun += first[c];
      most = std::max(most, inside[c] - first[c]);
      part.leastBefore.push_back(std::max(begun, all - stages * most));
    }
  }
  least = parts.back().leastBefore.back();
}

RowSolver::Hop RowSolver::hopOf(const Segment &from, const Segment &to,
                                const Transfer &transfer,
                                const SegmentGroup &fromGroup,
                                const SegmentGroup &toGroup) const {
  Hop hop;
  for (size_t c = 0; c <= last; ++c) {
    double whole = table.wholeBytes(c);
    double there = boundarySeconds(
        transfer, whole, table.localBytes(c, from.tensorParallel),
        from.tensorParallel, to.replicaChips(toGroup));
    double back =
        boundarySeconds(transfer, whole, table.localBytes(c, to.tensorParallel),
                        to.tensorParallel, from.replicaChips(fromGroup));
    hop.seconds.push_back(there + back);
    hop.peak.push_back(std::max(there * static_cast<double>(fromGroup.own - 1),
                                back * static_cast<double>(toGroup.own - 1)));
  }
  return hop;
}

void RowSolver::takeSlower(Hop &hop, const Hop &other) {
  for (size_t c = 0; c < hop.seconds.size(); ++c) {
    hop.seconds[c] = std::max(hop.seconds[c], other.seconds[c]);
    hop.peak[c] = std::max(hop.peak[c], other.peak[c]);
  }
}

/// Where replicas of unlike pools talk to each other, as the slowest do.
RowSolver::Hop RowSolver::hopBetween(const Segment &from,
                                     const Segment &to) const {
  auto chipsOf = [](const Segment &segment, const SegmentGroup &group) {
    return ChipRange{group.pool, 0, group.replicas * segment.tensorParallel};
  };
  Hop slowest;
  for (const SegmentGroup &one : from.groups)
    for (const SegmentGroup &other : to.groups) {
      Hop hop = hopOf(from, to,
                      transferBetween(problem.topology, chipsOf(from, one),
                                      chipsOf(to, other)),
                      one, other);
      if (slowest.seconds.empty())
        slowest = std::move(hop);
      else
        takeSlower(slowest, hop);
    }
  return slowest;
}

/// Between stages of one pool: as many hops inside nodes as there are, spread
/// over all of them. Replicas side by side give to those of their own pool.
RowSolver::Hop RowSolver::hopInside(const Segment &segment,
                                    const SegmentGroup &group) const {
  const Pool &pool = *problem.topology.findPool(group.pool);
  uint64_t chips = group.replicas * segment.tensorParallel;
  uint64_t perNode =
      pool.chipsPerNode % chips == 0 ? pool.chipsPerNode / chips : 1;
  // Stages on a node are joined inside it; the last one with the next node.
  double between =
      perNode >= segment.mostStages ? 0 : 1 / static_cast<double>(perNode);
  auto hop = [&](uint64_t to) {
    return hopOf(segment, segment,
                 transferBetween(problem.topology, {group.pool, 0, chips},
                                 {group.pool, to, chips}),
                 group, group);
  };
  if (segment.mostStages <= 1)
    return {std::vector<double>(last + 1, 0), std::vector<double>(last + 1, 0)};
  if (between == 0)
    return hop(chips);
  Hop far = hop(std::max(chips, pool.chipsPerNode));
  if (between == 1)
    return far;
  Hop near = hop(chips);
  for (size_t c = 0; c <= last; ++c)
    far.seconds[c] = between * far.seconds[c] + (1 - between) * near.seconds[c];
  return far;
}

RowSolver::Cost RowSolver::costOf(size_t segment, uint64_t after, size_t i,
                                  size_t j) {
  Part &part = parts[segment];
  // What is in flight no longer grows with the stages behind.
  if (request.schedule == Schedule::GPipe)
    after = 0;
  else
    after = std::min(after, part.mostOwn - 1);
  if (part.costs.size() <= after)
    part.costs.resize(after + 1);
  auto &rows = part.costs[after];
  rows.resize(last);
  std::vector<Cost> &row = rows[i];
  if (row.size() < j - i)
    row.resize(j - i);
  Cost &cost = row[j - i - 1];
  if (cost.fill >= 0)
    return cost;
  for (Group &group : part.groups)
    while (group.inFlight.size() <= after)
      group.inFlight.push_back(scheduleStage(request.schedule,
                                             group.inFlight.size() + 1, 0,
                                             group.own)
                                   .inFlight);
  auto fits = [&](size_t again) {
    return std::ranges::all_of(part.groups, [&](const Group &group) {
      return part.memory->bytes(i, j, again, group.inFlight[after]) <=
             group.available;
    });
  };
  size_t again = i;
  if (!fits(i)) {
    for (++again; again < j && !fits(again);)
      ++again;
    if (again == j && !fits(j)) {
      cost.fill = cost.peak = kInfinity;
      return cost;
    }
  }
  Part::Load load = part.load(i, j, again);
  cost.fill = load.fill;
  cost.peak = load.peak;
  cost.again = static_cast<uint32_t>(again);
  return cost;
}

size_t RowSolver::longest(size_t segment, double peak) const {
  const Part &part = parts[segment];
  size_t most = 0;
  for (size_t i = 0, j = 0; i < last; ++i) {
    while (j < last && part.load(i, j + 1, i).peak <= peak)
      ++j;
    most = std::max(most, j - std::min(i, j));
    j = std::max(j, i + 1);
  }
  return most;
}

std::vector<RowSolution> RowSolver::pass(bool leastPeak, double peak) {
  size_t count = parts.size();
  // The segments before a segment cannot hold more than so many cuts.
  std::vector<size_t> reach(count), span(count);
  size_t before = 0;
  for (size_t e = 0; e < count; ++e) {
    reach[e] = before;
    span[e] = longest(e, peak);
    if (span[e] == 0)
      return {};
    before = std::min<size_t>(
        last,
        before +
            std::min<uint64_t>(request.segments[e].mostStages, last) * span[e]);
  }
  if (before < last)
    return {};

  std::vector<std::vector<Frontier>> frontiers(count + 1);
  auto empty = [&] {
    return Frontier{std::vector<double>(last + 1, kInfinity),
                    std::vector<uint32_t>(last + 1, kNone),
                    std::vector<uint32_t>(last + 1, kNone)};
  };
  frontiers[count].push_back(empty());
  frontiers[count][0].value[last] = 0;
  std::vector<double> here, next;
  for (size_t e = count; e-- > 0;) {
    Part &part = parts[e];
    auto &result = frontiers[e];
    part.ends.assign(frontiers[e + 1].size(), {});
    uint64_t most = std::min<uint64_t>(request.segments[e].mostStages, last);
    for (uint64_t behind = 0; behind < frontiers[e + 1].size(); ++behind) {
      const Frontier &from = frontiers[e + 1][behind];
      if (request.limits && request.limits->hasEnded())
        return {};
      if (from.value.empty())
        continue;
      here = from.value;
      for (uint64_t on = 1; on <= most && behind + on <= last; ++on) {
        next.assign(last + 1, kInfinity);
        std::vector<uint32_t> &ends =
            part.ends[behind].emplace_back(last + 1, kNone);
        const Hop &hop = on == 1 ? part.toNext : part.inside;
        bool some = false;
        // What begins here leaves the segments before a cut each, and no more
        // than they and the rest of this one can hold.
        size_t high =
            std::min<size_t>(last - 1, reach[e] + (most - on) * span[e]);
        if (e == 0 && on == most)
          high = 0;
        for (size_t i = e; i <= high; ++i)
          for (size_t j = i + 1; j <= std::min(last, i + span[e]); ++j) {
            if (here[j] == kInfinity)
              continue;
            Part::Load base = part.load(i, j, i);
            if (base.peak > peak)
              break;
            double hopSeconds = 0, hopPeak = 0;
            if (j != last) {
              hopSeconds = hop.seconds[j];
              hopPeak = hop.peak[j];
              if (hopPeak > peak)
                continue;
            }
            double bound = leastPeak ? std::max(here[j], base.peak)
                                     : here[j] + base.fill + hopSeconds;
            if (bound >= next[i] ||
                (!leastPeak && bound + part.leastBefore[i] >= enough))
              continue;
            Cost cost = costOf(e, behind + on - 1, i, j);
            if (!(cost.peak <= peak))
              continue;
            double value = leastPeak ? std::max({here[j], cost.peak, hopPeak})
                                     : here[j] + cost.fill + hopSeconds;
            if (value < next[i]) {
              next[i] = value;
              ends[i] = static_cast<uint32_t>(j);
              some = true;
            }
          }
        if (!some)
          break;
        if (result.size() <= behind + on)
          result.resize(behind + on + 1);
        Frontier &best = result[behind + on];
        if (best.value.empty())
          best = empty();
        for (size_t i = 0; i <= last; ++i)
          if (next[i] < best.value[i]) {
            best.value[i] = next[i];
            best.behind[i] = static_cast<uint32_t>(behind);
            best.on[i] = static_cast<uint32_t>(on);
          }
        std::swap(here, next);
      }
    }
  }
  std::vector<RowSolution> solutions;
  for (uint64_t stages = 0; stages < frontiers[0].size(); ++stages)
    if (!frontiers[0][stages].value.empty() &&
        frontiers[0][stages].value[0] < kInfinity)
      solutions.push_back(trace(frontiers, stages));
  return solutions;
}

RowSolution
RowSolver::trace(const std::vector<std::vector<Frontier>> &frontiers,
                 uint64_t stages) {
  RowSolution solution;
  size_t cut = 0;
  for (size_t e = 0; e < parts.size(); ++e) {
    const Frontier &from = frontiers[e][stages];
    uint64_t behind = from.behind[cut], on = from.on[cut];
    for (uint64_t n = on; n > 0; --n) {
      size_t end = parts[e].ends[behind][n - 1][cut];
      Cost cost = costOf(e, behind + n - 1, cut, end);
      solution.stages.push_back({e, cut, end, cost.again});
      cut = end;
    }
    stages = behind;
  }
  finish(solution);
  return solution;
}

void RowSolver::finish(RowSolution &solution) const {
  size_t count = solution.stages.size();
  for (size_t s = 0; s < count; ++s) {
    const RowStage &stage = solution.stages[s];
    const Part &part = parts[stage.segment];
    Part::Load load = part.load(stage.begin, stage.end, stage.again);
    solution.sum += load.fill;
    solution.peak = std::max(solution.peak, load.peak);
    if (s + 1 == count)
      break;
    const Hop &hop = solution.stages[s + 1].segment == stage.segment
                         ? part.inside
                         : part.toNext;
    solution.sum += hop.seconds[stage.end];
    solution.peak = std::max(solution.peak, hop.peak[stage.end]);
  }
  double pace = 0;
  if (request.schedule != Schedule::GPipe)
    pace = static_cast<double>(parts[0].groups[0].own - 1) * solution.sum /
           static_cast<double>(count);
  solution.seconds = solution.sum + std::max(solution.peak, pace);
}

std::vector<RowSolution> RowSolver::solve(double ceiling) {
  std::vector<RowSolution> found;
  // No useful peak is above, and none can be: all blocks in one stage, again.
  double highest = 0;
  for (size_t e = 0; e < parts.size(); ++e) {
    highest = std::max(highest, parts[e].load(0, last, last).peak);
    for (const Hop *hop : {&parts[e].inside, &parts[e].toNext})
      for (double peak : hop->peak)
        highest = std::max(highest, peak);
  }
  double most = std::min(ceiling - least, highest * (1 + 1e-9));
  if (!(most >= 0))
    return found;
  double best = ceiling;
  auto keep = [&](std::vector<RowSolution> &solutions) {
    for (RowSolution &one : solutions) {
      waits |= one.seconds > (one.sum + one.peak) * (1 + 1e-9);
      best = std::min(best, one.seconds);
      if (std::none_of(found.begin(), found.end(), [&](const auto &other) {
            return other.stages == one.stages;
          }))
        found.push_back(one);
    }
  };
  auto byPeak = [](const RowSolution &a, const RowSolution &b) {
    return a.peak < b.peak;
  };
  auto bySum = [](const RowSolution &a, const RowSolution &b) {
    return a.sum < b.sum;
  };
  // The least peak, looked for from what perfectly even stages would have.
  double even = 0;
  for (size_t e = 0; e < parts.size(); ++e)
    even += static_cast<double>(
                std::min<uint64_t>(request.segments[e].mostStages, last)) /
            std::max(1e-300, parts[e].load(0, last, 0).peak);
  // A part whose replicas have one microbatch each has no peak.
  double guess = std::isfinite(1 / even) && even < 1e200
                     ? std::min(most, 1.2 / even)
                     : most;
  std::vector<RowSolution> solutions;
  for (;;) {
    solutions = pass(true, guess);
    if (!solutions.empty() || !(guess < most))
      break;
    guess = guess > 0 ? std::min(most, guess * 2) : most;
  }
  if (solutions.empty())
    return found;
  double leastPeak =
      std::min_element(solutions.begin(), solutions.end(), byPeak)->peak;
  // Among those the least sum, then along the front from the other end.
  solutions = pass(false, leastPeak * (1 + 1e-12));
  keep(solutions);
  constexpr int kMostPasses = 24;
  for (int i = 0; i < kMostPasses; ++i) {
    double peak = std::min(most, best - least);
    if (i > 0) {
      const auto &one =
          *std::min_element(solutions.begin(), solutions.end(), bySum);
      if (one.sum + leastPeak >= best * (1 - 1e-12))
        break;
      peak = one.peak * (1 - 1e-9);
    }
    if (peak < leastPeak)
      break;
    // What is near is kept: its exact time may be less.
    constexpr double kNear = 1.03;
    enough = std::min(ceiling, best * kNear) - leastPeak;
    solutions = pass(false, peak);
    if (solutions.empty())
      break;
    keep(solutions);
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const RowSolution &a, const RowSolution &b) {
                     return a.seconds < b.seconds;
                   });
  while (!found.empty() && found.back().seconds >= ceiling)
    found.pop_back();
  return found;
}

} // namespace tombolo::planning
