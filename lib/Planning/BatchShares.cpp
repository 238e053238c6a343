//===- BatchShares.cpp - who gets how much of the batch -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "BatchShares.h"
#include "Infinity.h"
#include "Parallel.h"

#include <algorithm>
#include <cmath>

namespace tombolo::planning {

/// Units into which the batch is cut when islands share it.
static constexpr uint64_t kMaxUnits = 128;

double BatchShares::hope(double ratio) {
  constexpr double kHopeful = 0.98;
  return std::isfinite(ratio) ? std::max(1.0, ratio * kHopeful) : 1;
}

/// The smallest unit of the batch that cuts it into few enough parts; into
/// more where that would leave hardly any choice; and where no divisor does
/// either, one that leaves a rest.
static uint64_t unitOf(uint64_t batch) {
  for (uint64_t most : {kMaxUnits, kMaxUnits * 32})
    for (uint64_t parts = std::min(batch, most); parts > 0; --parts)
      if (batch % parts == 0) {
        if (parts * 4 >= std::min(batch, kMaxUnits))
          return batch / parts;
        break;
      }
  return batch / kMaxUnits; // of small ones each sample is a part
}

std::vector<uint64_t>
BatchShares::share(const std::vector<IslandSearch *> &islands, double ceiling) {
  uint64_t batch = problem.training.globalBatch;
  if (islands.size() == 1)
    return {batch};
  // What is pinned is pinned.
  std::vector<uint64_t> shares(islands.size());
  std::vector<size_t> open;
  uint64_t rest = batch;
  for (size_t i = 0; i < islands.size(); ++i) {
    if (pins.islands && (*pins.islands)[i].batch) {
      shares[i] = *(*pins.islands)[i].batch;
      rest -= std::min(rest, shares[i]);
    } else {
      open.push_back(i);
    }
  }
  if (open.empty())
    return shares;
  if (rest < open.size())
    return {};
  std::vector<IslandSearch *> searches;
  for (size_t i : open)
    searches.push_back(islands[i]);
  uint64_t unit = unitOf(rest);
  isExact &= unit == 1;
  std::vector<uint64_t> own = shareUnits(searches, unit, rest, ceiling);
  if (own.empty())
    return {};
  for (size_t i = 0; i < open.size(); ++i)
    shares[open[i]] = own[i] * unit;
  shares[open.back()] += rest % unit;
  return shares;
}

/// Times that have not been searched stand with a bound, scaled to what was
/// found next to it and a little below; once the answer stands on found times
/// alone it is final.
std::vector<uint64_t>
BatchShares::shareUnits(const std::vector<IslandSearch *> &islands,
                        uint64_t unit, uint64_t batch, double ceiling) {
  constexpr size_t kMostRounds = 64;
  size_t count = islands.size(), units = batch / unit;
  // What no unit holds is the last one's.
  auto samplesOf = [&](size_t i, size_t n) {
    return n * unit + (i + 1 == count ? batch % unit : 0);
  };
  // A bound of an island of which everything is tried is below what it takes,
  // and stays as it is, so that the answer is exact.
  auto hopeOf = [&](size_t i, double ratio) {
    return islands[i]->isExact() ? 1 : hope(ratio);
  };
  std::vector<std::vector<double>> bounds(count), times(count);
  std::vector<std::vector<bool>> isFound(count,
                                         std::vector<bool>(units + 1, false));
  size_t rounds = kMostRounds;
  for (size_t i = 0; i < count; ++i) {
    bounds[i].assign(units + 1, kInfinity);
    times[i].assign(1, kInfinity);
    for (size_t n = 1; n <= units; ++n) {
      bounds[i][n] = islands[i]->bound(samplesOf(i, n));
      times[i].push_back(bounds[i][n] * hopeOf(i, leastRatio));
    }
    if (islands[i]->isExact())
      rounds += units;
  }
  std::vector<uint64_t> shares;
  for (size_t round = 0; round < rounds; ++round) {
    shares = shareBatch(times, units);
    double slowest = 0;
    for (size_t i = 0; i < shares.size(); ++i)
      slowest = std::max(slowest, times[i][shares[i]]);
    if (shares.empty() || slowest > ceiling)
      return {};
    // What is known already costs nothing.
    inParallel(count, [&](size_t i) {
      islands[i]->best(samplesOf(i, shares[i]), ceiling);
    });
    bool isNew = false;
    for (size_t i = 0; i < count; ++i) {
      size_t n = shares[i];
      if (isFound[i][n])
        continue;
      isNew = isFound[i][n] = true;
      const auto &list = islands[i]->best(samplesOf(i, n), ceiling);
      times[i][n] = list.empty() ? kInfinity : list[0].seconds;
      double ratio = kInfinity; // of what was found to the bound
      for (size_t m = 1; m <= units; ++m)
        if (isFound[i][m] && bounds[i][m] > 0)
          ratio = std::min(ratio, times[i][m] / bounds[i][m]);
      if (!std::isfinite(ratio))
        continue; // none is below the ceiling yet
      if (!islands[i]->isExact())
        leastRatio = std::min(leastRatio, ratio);
      for (size_t m = 1; m <= units; ++m)
        if (!isFound[i][m])
          times[i][m] = bounds[i][m] * hopeOf(i, ratio);
    }
    if (!isNew)
      return shares;
    if (limits.hasEnded() && round > 0)
      break;
  }
  // Out of rounds: what was found is all there is.
  isExact = false;
  for (size_t i = 0; i < count; ++i)
    for (size_t n = 1; n <= units; ++n)
      if (!isFound[i][n])
        times[i][n] = kInfinity;
  return shareBatch(times, units);
}

} // namespace tombolo::planning
