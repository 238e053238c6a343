//===- LayerTimes.cpp - measured seconds of a model's blocks --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/LayerTimes.h"
#include "MeasuredScale.h"
#include "tombolo/Planning/CostModel.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

namespace tombolo::planning {

/// Beyond these a figure is a fault of whoever measured.
static constexpr uint64_t kMaxBlock = uint64_t(1) << 20;
static constexpr uint64_t kMaxSize = uint64_t(1) << 32;
static constexpr double kMaxSeconds = 1e6;
/// A time that falls by less than either where the microbatch grows is noise. A
/// layer that takes a millisecond is mostly its host's doing: in tables that
/// others measured on data centre GPUs a head takes up to 1.2 ms less, and down
/// to 0.39 of it, at the next microbatch.
static constexpr double kNoise = 0.1;
static constexpr double kNoiseSeconds = 2e-3;

namespace {

/// A time that is less than one of the same block at a smaller microbatch.
struct Fall {
  size_t before, row; // of the table
  Timed what;
  double from, to; // seconds

  double part() const { return to / from; }
  bool isNoise() const {
    return part() >= 1 - kNoise || from - to < kNoiseSeconds;
  }
};

} // namespace

/// By ascending microbatch, each of a degree's rows against the last that has a
/// time of the same block.
static std::vector<Fall> fallsOf(const std::vector<LayerTimes> &rows) {
  std::vector<size_t> order(rows.size());
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::tie(rows[a].time.tensorParallel, rows[a].time.microbatch) <
           std::tie(rows[b].time.tensorParallel, rows[b].time.microbatch);
  });
  std::vector<Fall> falls;
  // An update does not depend on the microbatch.
  for (Timed what : {Timed::Forward, Timed::Backward}) {
    struct Piece {
      uint64_t lastBlock;
      size_t row;
    };
    std::map<uint64_t, Piece> seen; // by first block, of one degree
    uint64_t degree = 0;
    auto secondsOf = [&](size_t row) {
      return rows[row].time.seconds[static_cast<size_t>(what)];
    };
    for (size_t r : order) {
      const LayerTimes &row = rows[r];
      if (std::exchange(degree, row.time.tensorParallel) !=
          row.time.tensorParallel)
        seen.clear();
      if (secondsOf(r) <= 0) // not measured
        continue;
      // Takes the place of what it meets, so that each row is met by few.
      auto piece = seen.upper_bound(row.firstBlock);
      if (piece != seen.begin() &&
          std::prev(piece)->second.lastBlock >= row.firstBlock)
        --piece;
      while (piece != seen.end() && piece->first <= row.lastBlock) {
        auto [first, old] = *piece;
        Fall fall{old.row, r, what, secondsOf(old.row), secondsOf(r)};
        if (fall.to < fall.from)
          falls.push_back(fall);
        piece = seen.erase(piece);
        if (first < row.firstBlock)
          seen[first] = {row.firstBlock - 1, old.row};
        if (old.lastBlock > row.lastBlock)
          seen[row.lastBlock + 1] = old;
      }
      seen[row.firstBlock] = {row.lastBlock, r};
    }
  }
  return falls;
}

static std::string text(const std::vector<LayerTimes> &rows, const Fall &fall) {
  const LayerTimes &row = rows[fall.row], &before = rows[fall.before];
  auto seconds = [](double value) {
    char buffer[32];
    std::snprintf(buffer, sizeof buffer, "%g s", value);
    return std::string(buffer);
  };
  return std::string(fall.what == Timed::Forward ? "forward" : "backward") +
         " of layers " +
         std::to_string(std::max(row.firstBlock, before.firstBlock)) + " to " +
         std::to_string(std::min(row.lastBlock, before.lastBlock)) +
         " at tensor_parallel " + std::to_string(row.time.tensorParallel) +
         " takes " + seconds(fall.to) + " at microbatch " +
         std::to_string(row.time.microbatch) + ", " + seconds(fall.from) +
         " at microbatch " + std::to_string(before.time.microbatch);
}

std::optional<Fault> layerTimesNoise(const std::vector<LayerTimes> &rows,
                                     const std::string &path) {
  std::vector<Fall> falls = fallsOf(rows);
  std::erase_if(falls, [](const Fall &fall) {
    return fall.part() >= 1 - kNoise || !fall.isNoise();
  });
  if (falls.empty())
    return std::nullopt;
  const Fall &most = *std::min_element(
      falls.begin(), falls.end(),
      [](const Fall &a, const Fall &b) { return a.part() < b.part(); });
  return Fault{at(path, most.row),
               std::to_string(falls.size()) +
                   " times fall by more than a tenth, though less than 2 ms, "
                   "where the microbatch grows, which is taken for noise of "
                   "the measurement; most of all, " +
                   text(rows, most)};
}

Faults checkLayerTimes(const std::vector<LayerTimes> &rows,
                       const std::string &path) {
  Faults faults;
  auto fault = [&](size_t row, std::string message) {
    faults.push_back({at(path, row), std::move(message)});
  };
  // By degree and microbatch: where the ranges of blocks begin.
  std::map<std::pair<uint64_t, uint64_t>, std::map<uint64_t, size_t>> ranges;
  for (size_t r = 0; r < rows.size(); ++r) {
    const LayerTimes &row = rows[r];
    const MeasuredTime &time = row.time;
    if (row.lastBlock < row.firstBlock || row.lastBlock >= kMaxBlock) {
      fault(r, "expected a last layer from " + std::to_string(row.firstBlock) +
                   " to " + std::to_string(kMaxBlock - 1) + ", got " +
                   std::to_string(row.lastBlock));
      continue;
    }
    for (auto [what, value] : {std::pair("microbatch", time.microbatch),
                               {"tensor_parallel", time.tensorParallel}})
      if (value == 0 || value > kMaxSize)
        fault(r, std::string("'") + what + "' must be from 1 to " +
                     std::to_string(kMaxSize) + ", got " +
                     std::to_string(value));
    for (double seconds : time.seconds)
      if (!(seconds >= 0 && seconds <= kMaxSeconds)) {
        fault(r, "expected from 0 to 1000000 seconds, got " +
                     std::to_string(seconds));
        break;
      }
    auto &others = ranges[{time.tensorParallel, time.microbatch}];
    auto next = others.lower_bound(row.firstBlock);
    bool meets = next != others.end() && next->first <= row.lastBlock;
    if (!meets && next != others.begin())
      meets = rows[std::prev(next)->second].lastBlock >= row.firstBlock;
    if (meets)
      fault(r, "layers " + std::to_string(row.firstBlock) + " to " +
                   std::to_string(row.lastBlock) + " at microbatch " +
                   std::to_string(time.microbatch) + " and tensor_parallel " +
                   std::to_string(time.tensorParallel) +
                   " were given before, in part or whole");
    else
      others.emplace(row.firstBlock, r);
  }
  if (!faults.empty())
    return faults;
  for (const Fall &fall : fallsOf(rows))
    if (!fall.isNoise())
      fault(fall.row,
            "times must grow with the microbatch: " + text(rows, fall) +
                "; measure again, or leave the field empty");
  return faults;
}

/// What was measured of the blocks of each piece on one chip; pieces are given
/// by their first blocks, and rows begin and end with pieces.
static std::vector<std::vector<MeasuredTime>>
cellsOf(const Chip &chip, const std::vector<uint64_t> &starts) {
  std::vector<std::vector<MeasuredTime>> cells(starts.size());
  for (const LayerTimes &row : chip.layerTimes) {
    auto piece = std::lower_bound(starts.begin(), starts.end(), row.firstBlock);
    for (; piece != starts.end() && *piece <= row.lastBlock; ++piece)
      cells[static_cast<size_t>(piece - starts.begin())].push_back(row.time);
  }
  for (auto &list : cells)
    std::sort(list.begin(), list.end(),
              [](const MeasuredTime &a, const MeasuredTime &b) {
                return std::tie(a.tensorParallel, a.microbatch) <
                       std::tie(b.tensorParallel, b.microbatch);
              });
  return cells;
}

/// Measured by computed, of each quantity, over all blocks that were measured
/// on one chip alone, at their smallest microbatch; other degrees only where
/// there is nothing else.
static TimedSeconds scaleOf(const Problem &problem, const Chip &chip) {
  TimedSeconds measured = {}, computed = {};
  for (const BlockRun &run : problem.model.runs) {
    const BlockKind &kind = problem.model.kinds[run.kind];
    const ChipTimes *times = kind.measuredOn(chip.name);
    for (size_t q = 0; times && q < kTimed; ++q) {
      auto cell = std::find_if(
          times->cells.begin(), times->cells.end(),
          [&](const MeasuredTime &time) { return time.seconds[q] > 0; });
      if (cell == times->cells.end())
        continue;
      double samples = static_cast<double>(cell->microbatch);
      auto roofline = [&](const Work &work) {
        return seconds(chip, problem.precision(), work, samples);
      };
      double here =
          q == static_cast<size_t>(Timed::Forward) ? roofline(kind.forward)
          : q == static_cast<size_t>(Timed::Backward)
              ? roofline(kind.backwardInput) + roofline(kind.backwardWeight)
              : updateSeconds(problem, chip, kind);
      double count = static_cast<double>(run.count);
      measured[q] +=
          count * cell->seconds[q] * static_cast<double>(cell->tensorParallel);
      computed[q] += count * here;
    }
  }
  TimedSeconds scale = {1, 1, 1};
  for (size_t q = 0; q < kTimed; ++q)
    if (measured[q] > 0 && computed[q] > 0 && std::isfinite(computed[q]))
      scale[q] = measured[q] / computed[q];
  return scale;
}

void applyScale(Problem &problem, const Chip &chip) {
  TimedSeconds scale = scaleOf(problem, chip);
  for (BlockKind &kind : problem.model.kinds)
    for (ChipTimes &times : kind.measured)
      if (times.chip == chip.name)
        times.scale = scale;
}

Faults applyLayerTimes(Problem &problem) {
  ModelProfile &model = problem.model;
  const Topology &topology = problem.topology;
  Faults faults;
  uint64_t blocks = model.blocks();
  std::set<uint64_t> cuts;
  std::vector<const Chip *> chips;
  for (size_t c = 0; c < topology.chips.size(); ++c) {
    const Chip &chip = topology.chips[c];
    if (chip.layerTimes.empty())
      continue;
    chips.push_back(&chip);
    for (size_t r = 0; r < chip.layerTimes.size(); ++r) {
      const LayerTimes &row = chip.layerTimes[r];
      cuts.insert({row.firstBlock, row.lastBlock + 1});
      if (row.lastBlock < blocks)
        continue;
      faults.push_back(
          {at(in(at("chips", c), "profile"), r),
           "the profile of chip '" + chip.name + "' has a layer " +
               std::to_string(row.lastBlock) + ", but the model has " +
               std::to_string(blocks) +
               " blocks, numbered from 0 with the embedding; name a profile "
               "of this model"});
      break;
    }
  }
  if (chips.empty() || !faults.empty())
    return faults;

  // Runs, cut where rows begin and end.
  std::vector<uint64_t> starts;
  std::vector<BlockRun> pieces;
  uint64_t first = 0;
  for (const BlockRun &run : model.runs) {
    uint64_t end = first + run.count;
    for (uint64_t begin = first; begin < end;) {
      auto cut = cuts.upper_bound(begin);
      uint64_t next = cut == cuts.end() ? end : std::min(end, *cut);
      starts.push_back(begin);
      pieces.push_back({run.kind, next - begin});
      begin = next;
    }
    first = end;
  }

  // Pieces of one kind that were measured alike become one kind.
  std::vector<std::vector<std::vector<MeasuredTime>>> cells; // by chip, piece
  for (const Chip *chip : chips)
    cells.push_back(cellsOf(*chip, starts));
  auto alike = [&](size_t a, size_t b) {
    if (pieces[a].kind != pieces[b].kind)
      return false;
    for (const auto &ofChip : cells)
      if (ofChip[a] != ofChip[b])
        return false;
    return true;
  };
  // By kind: the first pieces of each new kind of it. Few, or as many as there
  // are different rows.
  std::map<size_t, std::vector<std::pair<size_t, size_t>>> seen;
  std::vector<BlockKind> kinds;
  std::vector<BlockRun> runs;
  for (size_t p = 0; p < pieces.size(); ++p) {
    auto &known = seen[pieces[p].kind];
    auto same = std::find_if(known.begin(), known.end(), [&](const auto &one) {
      return alike(one.first, p);
    });
    size_t kind = kinds.size();
    if (same == known.end()) {
      known.emplace_back(p, kind);
      BlockKind &split = kinds.emplace_back(model.kinds[pieces[p].kind]);
      for (size_t c = 0; c < chips.size(); ++c)
        split.measured.push_back({chips[c]->name, cells[c][p]});
    } else {
      kind = same->second;
    }
    if (!runs.empty() && runs.back().kind == kind)
      runs.back().count += pieces[p].count;
    else
      runs.push_back({kind, pieces[p].count});
  }
  model.kinds = std::move(kinds);
  model.runs = std::move(runs);
  for (const Chip *chip : chips)
    applyScale(problem, *chip);
  // Figures stand in one place.
  for (Chip &chip : problem.topology.chips)
    chip.layerTimes.clear();
  return faults;
}

} // namespace tombolo::planning
