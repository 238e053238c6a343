//===- Split.cpp - splits of a model over stages --------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Variables: the cuts between stages, and for each stage whether it recomputes.
// Constraints: every stage has a block, and fits into its chip's memory.
// Objective: sum + (microbatches - 1) x slowest, where sum is the time of one
// microbatch through all stages and slowest that of the slowest stage.
//
// For each stage and cut the program keeps all pairs (sum, slowest) of which
// none is better in both: whatever follows adds to the sum and takes the
// maximum with slowest, so that nothing dropped could have become the best.
//
//===----------------------------------------------------------------------===//

#include "SplitTable.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tombolo::planning {

static constexpr double kInfinity = std::numeric_limits<double>::infinity();
static constexpr uint64_t kMaxCuts = 512;

SplitTable::SplitTable(const Problem &problem, uint64_t microbatch)
    : problem(problem), microbatch(static_cast<double>(microbatch)) {
  uint64_t blocks = problem.model.blocks();
  uint64_t step = (blocks + kMaxCuts - 1) / kMaxCuts;
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
}

const SplitTable::Memory &SplitTable::memoryOf(uint64_t tensorParallel) const {
  auto [entry, isNew] = memories.try_emplace(tensorParallel);
  Memory &memory = entry->second;
  if (!isNew)
    return memory;
  StageRanks ranks{tensorParallel, 1};
  size_t count = positions.size();
  memory.none.resize(count);
  memory.full.resize(count);
  memory.inputAt.assign(count, 0);
  memory.outputAt.assign(count, 0);
  auto figures = [&](uint64_t block) -> const BlockKind & {
    const BlockKind &kind =
        problem.model.kinds[slice(problem.model.runs, block, 1)[0].kind];
    const BlockKind *sharded = kind.on(tensorParallel);
    return sharded ? *sharded : kind;
  };
  for (size_t i = 0; i + 1 < count; ++i) {
    memory.inputAt[i] = figures(positions[i]).inputBytes.at(microbatch);
    memory.outputAt[i + 1] =
        figures(positions[i + 1] - 1).outputBytes.at(microbatch);
    for (size_t j = i + 1; j < count; ++j) {
      auto runs =
          slice(problem.model.runs, positions[i], positions[j] - positions[i]);
      // Memory is linear in the microbatches in flight.
      auto terms = [&](const Recompute &recompute) {
        MemoryUse idle = memoryUse(problem, runs, microbatch, 0, recompute,
                                   true, true, ranks);
        MemoryUse one = memoryUse(problem, runs, microbatch, 1, recompute, true,
                                  true, ranks);
        return Terms{idle.total() - idle.gradients - idle.optimizerState,
                     idle.gradients, idle.optimizerState,
                     one.total() - idle.total()};
      };
      memory.none[i].push_back(terms({Recompute::None, 0}));
      memory.full[i].push_back(terms({Recompute::Full, 0}));
    }
  }
  return memory;
}

const SplitTable::Times &
SplitTable::timesOf(const Chip &chip, const ReplicaChips &replica) const {
  auto [entry, isNew] =
      times.try_emplace({chip.name, replica.count, replica.wire.bytesPerSecond,
                         replica.wire.latency});
  Times &sums = entry->second;
  if (!isNew)
    return sums;
  sums.all.push_back(0);
  sums.forward.push_back(0);
  for (size_t i = 0; i + 1 < positions.size(); ++i) {
    StageTimes piece = blockSeconds(problem,
                                    slice(problem.model.runs, positions[i],
                                          positions[i + 1] - positions[i]),
                                    chip, microbatch, Recompute(), replica);
    sums.all.push_back(sums.all.back() + piece.forward + piece.backward);
    sums.forward.push_back(sums.forward.back() + piece.forward);
  }
  return sums;
}

double SplitTable::seconds(const Chip &chip, const ReplicaChips &replica,
                           size_t i, size_t j, bool recompute) const {
  const Times &sums = timesOf(chip, replica);
  double result = sums.all[j] - sums.all[i];
  return recompute ? result + sums.forward[j] - sums.forward[i] : result;
}

double SplitTable::bytes(const StageRanks &ranks, size_t i, size_t j,
                         bool recompute, uint64_t inFlight, bool first,
                         bool last) const {
  const Memory &memory = memoryOf(ranks.tensorParallel);
  const Terms &terms = (recompute ? memory.full : memory.none)[i][j - i - 1];
  double flying = static_cast<double>(inFlight);
  double total = terms.fixed + flying * terms.perFlight;
  // All as in memoryUse.
  double gradients = terms.gradients, state = terms.optimizerState;
  if (ranks.optimizerParts > 1 && gradients > 0) {
    double parts = static_cast<double>(ranks.optimizerParts);
    double padded = std::ceil(gradients / (64 * parts)) * 64 * parts;
    state *= padded / gradients / parts;
    total += padded - gradients;
    gradients = padded;
  }
  total += gradients + state;
  if (!first)
    total += (flying + 3) * memory.inputAt[i];
  if (!last)
    total += 4 * memory.outputAt[j];
  return total;
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
    double available = availableBytes(problem, chip);
    uint64_t inFlight =
        scheduleStage(request.schedule, stages, s, request.microbatches)
            .inFlight;
    bool isFirst = s == 0, isLast = s + 1 == stages;
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
          if (table.bytes(ranks, i, j, option, inFlight, isFirst, isLast) <=
              available) {
            recompute = option;
            break;
          }
        }
        if (!recompute)
          continue;
        double seconds = table.seconds(chip, replica, i, j, *recompute);
        for (size_t k = 0; k < before.size(); ++k)
          points[s + 1][j].push_back(
              {before[k].sum + seconds, std::max(before[k].slowest, seconds),
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
