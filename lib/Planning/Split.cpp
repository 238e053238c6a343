//===- Split.cpp - splits of a model over stages --------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Variables: the cuts between stages, and for each stage whether it recomputes.
// Constraints: every stage has a block, and fits into its chip's memory.
// Objective: sum + (microbatches - 1) x slowest, where sum is the time of one
// microbatch there and back through all stages and slowest all that the slowest
// stage does for one.
//
// For each stage and cut the program keeps all pairs (sum, slowest) of which
// none is better in both: whatever follows adds to the sum and takes the
// maximum with slowest, so that nothing dropped could have become the best.
//
//===----------------------------------------------------------------------===//

#include "Infinity.h"
#include "SplitTable.h"

#include <algorithm>
#include <cmath>

namespace tombolo::planning {

SplitTable::SplitTable(const Problem &problem, uint64_t microbatch,
                       uint64_t mostCuts)
    : problem(problem), microbatch(static_cast<double>(microbatch)) {
  uint64_t blocks = problem.model.blocks();
  uint64_t step = (blocks + mostCuts - 1) / mostCuts;
  uint64_t end = 0;
  for (const BlockRun &run : problem.model.runs) {
    for (uint64_t offset = 0; offset < run.count; offset += step)
      positions.push_back(end + offset);
    end += run.count;
  }
  positions.push_back(blocks);
  if (!problem.bounds.tiesAcrossStages)
    std::erase_if(positions, [&](uint64_t cut) {
      return std::any_of(problem.model.ties.begin(), problem.model.ties.end(),
                         [&](const TiedParameter &tie) {
                           return tie.blockNumbers.front() < cut &&
                                  cut <= tie.blockNumbers.back();
                         });
    });
  end = 0;
  size_t cut = 0;
  for (const BlockRun &run : problem.model.runs) {
    end += run.count;
    size_t begin = cut;
    while (cut < positions.size() && positions[cut] < end)
      ++cut;
    // A cut between two runs may be missing.
    size_t to = cut < positions.size() && positions[cut] == end ? cut : cut - 1;
    runBegin.resize(cut, begin);
    runEnd.resize(cut, to);
  }
}

SplitTable::Memory::Memory(const SplitTable &table, const StageRanks &ranks)
    : table(table), ranks(ranks), lines(table.positions.size()) {}

double SplitTable::Memory::use(size_t i, size_t j, size_t again,
                               uint64_t inFlight) const {
  const auto &cuts = table.positions;
  Recompute recompute;
  if (again > i)
    recompute = again == j
                    ? Recompute{Recompute::Full, 0}
                    : Recompute{Recompute::Blocks, cuts[again] - cuts[i]};
  BlockRange blocks{cuts[i], cuts[j] - cuts[i]};
  StageRanks holders = ranks;
  holders.repeatedElements = repeatedElements(table.problem.model, {blocks});
  return memoryUse(table.problem,
                   slice(table.problem.model.runs, blocks.first, blocks.count),
                   table.microbatch, inFlight, recompute, i == 0,
                   j + 1 == cuts.size(), holders)
      .total();
}

double SplitTable::Memory::bytes(size_t i, size_t j, size_t again,
                                 uint64_t inFlight) {
  // Of intervals inside a run the first as long as this one stands for all: but
  // for the model's ends, where there is no neighbour.
  if (i > 0 && j + 1 < table.positions.size() && j <= table.runEnd[i]) {
    size_t first = std::max<size_t>(1, table.runBegin[i]), length = j - i;
    const auto &cuts = table.positions;
    if (first < i && cuts[first + length] - cuts[first] == cuts[j] - cuts[i] &&
        cuts[first + (again - i)] - cuts[first] == cuts[again] - cuts[i]) {
      again -= i - first;
      i = first;
      j = first + length;
    }
  }
  auto &row = lines[i];
  if (row.size() < j - i)
    row.resize(j - i);
  std::vector<Line> &byAgain = row[j - i - 1];
  byAgain.resize(j - i + 1);
  Line &line = byAgain[again - i];
  if (line.fixed < 0) {
    line.fixed = use(i, j, again, 0);
    line.perFlight = use(i, j, again, 1) - line.fixed;
  }
  return line.fixed + line.perFlight * static_cast<double>(inFlight);
}

SplitTable::Memory &SplitTable::memoryOf(const StageRanks &ranks) const {
  auto &memory = memories[{ranks.tensorParallel, ranks.optimizerParts}];
  if (!memory)
    memory = std::make_unique<Memory>(*this, ranks);
  return *memory;
}

const SplitTable::Times &
SplitTable::timesOf(const Chip &chip, const ReplicaChips &replica) const {
  auto [entry, isNew] =
      times.try_emplace({chip.name, replica.count, replica.wire.bytesPerSecond,
                         replica.wire.latency});
  Times &sums = entry->second;
  if (!isNew)
    return sums;
  auto lastForward = [&](uint64_t end) {
    return blockSeconds(problem, slice(problem.model.runs, end - 1, 1), chip,
                        microbatch, Recompute(), replica)
        .forward;
  };
  sums.all.push_back(0);
  sums.forward.push_back(0);
  sums.update.push_back(0);
  sums.early.assign(positions.size(), 0);
  sums.late.assign(positions.size(), 0);
  for (size_t i = 0; i + 1 < positions.size(); ++i) {
    StageTimes piece = blockSeconds(problem,
                                    slice(problem.model.runs, positions[i],
                                          positions[i + 1] - positions[i]),
                                    chip, microbatch, Recompute(), replica);
    sums.all.push_back(sums.all.back() + piece.forward + piece.backward);
    sums.forward.push_back(sums.forward.back() + piece.forward);
    sums.update.push_back(sums.update.back() + piece.update);
    if (i > 0)
      sums.late[i] = piece.late;
    if (i + 2 < positions.size())
      sums.early[i + 1] = lastForward(positions[i + 1]);
  }
  return sums;
}

double SplitTable::wholeBytes(size_t cut) const { return localBytes(cut, 1); }

double SplitTable::localBytes(size_t cut, uint64_t chips) const {
  if (cut == 0 || cut + 1 >= positions.size())
    return 0;
  const BlockKind &kind =
      problem.model
          .kinds[slice(problem.model.runs, positions[cut] - 1, 1)[0].kind];
  const BlockKind *sharded = kind.on(chips);
  return (sharded ? *sharded : kind).outputBytes.at(microbatch);
}

namespace {

/// A way to place the first stages up to a cut.
struct Point {
  double sum = 0;
  double slowest = 0;
  uint32_t cutBefore = 0;   // where the last stage begins
  uint32_t pointBefore = 0; // among the points there
  bool recompute = false;   // of the last stage
};

/// Keeps the points of which none is better in both, by rising sum.
void keepBest(std::vector<Point> &points) {
  std::stable_sort(
      points.begin(), points.end(), [](const Point &a, const Point &b) {
        return a.sum != b.sum ? a.sum < b.sum : a.slowest < b.slowest;
      });
  std::vector<Point> best;
  for (const Point &point : points)
    if (best.empty() || point.slowest < best.back().slowest)
      best.push_back(point);
  points = std::move(best);
}

} // namespace

std::vector<Split> splitBlocks(const Problem &problem, const SplitTable &table,
                               const SplitRequest &request) {
  size_t stages = request.stages.size();
  const std::vector<uint64_t> &cuts = table.cuts();
  size_t last = cuts.size() - 1;
  if (stages == 0 || stages > last)
    return {};
  // points[s][c]: the first s stages end at cut c.
  std::vector<std::vector<std::vector<Point>>> points(
      stages + 1, std::vector<std::vector<Point>>(last + 1));
  points[0][0].push_back({});
  for (size_t s = 0; s < stages; ++s) {
    const Chip &chip = *request.stages[s];
    StageRanks ranks = request.ranks.empty() ? StageRanks() : request.ranks[s];
    ReplicaChips replica =
        request.replicas.empty() ? ReplicaChips() : request.replicas[s];
    double available = request.available.empty() ? availableBytes(problem, chip)
                                                 : request.available[s];
    const SplitTable::Times &times = table.timesOf(chip, replica);
    SplitTable::Memory &memory = table.memoryOf(ranks);
    uint64_t inFlight =
        scheduleStage(request.schedule, stages, s, request.microbatches)
            .inFlight;
    bool isLast = s + 1 == stages;
    std::optional<uint64_t> blocks;
    if (!request.blocks.empty())
      blocks = request.blocks[s];
    auto pinned =
        request.recompute.empty() ? std::nullopt : request.recompute[s];
    bool some = false;
    for (size_t i = s; i < last; ++i) {
      const std::vector<Point> &before = points[s][i];
      if (before.empty())
        continue;
      size_t to = isLast ? last : last - (stages - 1 - s);
      for (size_t j = isLast ? last : i + 1; j <= to; ++j) {
        if (blocks && cuts[j] - cuts[i] != *blocks)
          continue;
        // Recompute only what would not fit otherwise, unless told.
        std::optional<bool> recompute;
        for (bool option : {false, true}) {
          if (pinned && (pinned->kind == Recompute::Full) != option)
            continue;
          if (memory.bytes(i, j, option ? j : i, inFlight) <= available) {
            recompute = option;
            break;
          }
        }
        if (!recompute)
          continue;
        size_t again = *recompute ? j : i;
        double seconds = times.seconds(i, j, again);
        double onTheWay = times.onTheWay(i, j, again);
        for (size_t k = 0; k < before.size(); ++k)
          points[s + 1][j].push_back(
              {before[k].sum + onTheWay, std::max(before[k].slowest, seconds),
               static_cast<uint32_t>(i), static_cast<uint32_t>(k), *recompute});
        some = true;
      }
    }
    if (!some)
      return {};
    for (std::vector<Point> &list : points[s + 1])
      keepBest(list);
  }
  std::vector<Split> result;
  for (size_t k = 0; k < points[stages][last].size(); ++k) {
    Split split;
    split.sum = points[stages][last][k].sum;
    split.slowest = points[stages][last][k].slowest;
    split.blocks.resize(stages);
    split.recompute.resize(stages);
    size_t cut = last, index = k;
    for (size_t s = stages; s-- > 0;) {
      const Point &point = points[s + 1][cut][index];
      split.blocks[s] = cuts[cut] - cuts[point.cutBefore];
      if (point.recompute)
        split.recompute[s].kind = Recompute::Full;
      cut = point.cutBefore;
      index = point.pointBefore;
    }
    result.push_back(std::move(split));
  }
  return result;
}

std::vector<Split> splitBlocks(const Problem &problem,
                               const SplitRequest &request) {
  return splitBlocks(problem, SplitTable(problem, request.microbatch), request);
}

std::vector<uint64_t> shareBatch(const std::vector<std::vector<double>> &times,
                                 uint64_t total) {
  size_t islands = times.size();
  if (islands == 0 || total < islands)
    return {};
  // best[n]: the slowest of the islands so far when they have n units.
  std::vector<double> best(total + 1, kInfinity);
  std::vector<std::vector<uint64_t>> choice(
      islands, std::vector<uint64_t>(total + 1, 0));
  best[0] = 0;
  for (size_t i = 0; i < islands; ++i) {
    std::vector<double> next(total + 1, kInfinity);
    for (uint64_t n = 1; n <= total; ++n)
      for (uint64_t own = 1; own <= n && own < times[i].size(); ++own) {
        double slowest = std::max(best[n - own], times[i][own]);
        if (slowest < next[n]) {
          next[n] = slowest;
          choice[i][n] = own;
        }
      }
    best = std::move(next);
  }
  if (best[total] == kInfinity)
    return {};
  std::vector<uint64_t> shares(islands);
  uint64_t left = total;
  for (size_t i = islands; i-- > 0;) {
    shares[i] = choice[i][left];
    left -= shares[i];
  }
  return shares;
}

} // namespace tombolo::planning
