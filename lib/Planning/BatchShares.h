//===- BatchShares.h - who gets how much of the batch ---------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_BATCHSHARES_H
#define TOMBOLO_LIB_PLANNING_BATCHSHARES_H

#include "IslandSearch.h"

namespace tombolo::planning {

/// Shares the global batch between islands so that the slowest is fastest. What
/// it learns of bounds it keeps for later islands.
class BatchShares {
public:
  BatchShares(const Problem &problem, const StrategyPins &pins,
              const SearchLimits &limits)
      : problem(problem), pins(pins), limits(limits) {}

  /// Samples of each island; empty when they cannot, or would take more than
  /// `ceiling` seconds. Exact by `shareBatch` on the times of the islands.
  std::vector<uint64_t> share(const std::vector<IslandSearch *> &islands,
                              double ceiling);

  /// What a bound of a large island is scaled by: what was not searched is
  /// expected to be hardly better than what was.
  double hope() const { return hope(leastRatio); }

  /// Whether all shares were tried, to the single sample.
  bool triedAll() const { return isExact; }

private:
  const Problem &problem;
  const StrategyPins &pins;
  const SearchLimits &limits;
  /// The least ratio of an island's time to its bound, of large islands.
  double leastRatio = std::numeric_limits<double>::infinity();
  bool isExact = true;

  static double hope(double ratio);
  std::vector<uint64_t> shareUnits(const std::vector<IslandSearch *> &islands,
                                   uint64_t unit, uint64_t batch,
                                   double ceiling);
};

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_BATCHSHARES_H
