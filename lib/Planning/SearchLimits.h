//===- SearchLimits.h - what ends a search, what it may return ------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_SEARCHLIMITS_H
#define TOMBOLO_LIB_PLANNING_SEARCHLIMITS_H

#include "tombolo/Planning/Search.h"

#include <chrono>

namespace tombolo::planning {

/// Ends a search: nodes of its own, a moment, somebody's wish.
class SearchLimits {
public:
  /// `nodes`: as many may be opened between two calls of `refill`.
  SearchLimits(const Bounds &bounds, const SearchHooks &hooks, uint64_t nodes)
      : most(bounds.searchNodes ? bounds.searchNodes : nodes), left(most),
        interrupted(hooks.interrupted), deadline(hooks.deadline) {}

  /// Whether one more node may be opened, which then is.
  bool spend() {
    if (left == 0 || hasEnded())
      return false;
    --left;
    return true;
  }
  void refill() { left = most; }

  /// Whether time is over.
  bool hasEnded() const {
    return (interrupted && interrupted()) ||
           (deadline && std::chrono::steady_clock::now() >= *deadline);
  }

private:
  uint64_t most;
  uint64_t left;
  std::function<bool()> interrupted;
  std::optional<std::chrono::steady_clock::time_point> deadline;
};

/// Whether replicas of one stage may have unequal `tensor_parallel`: what
/// `supportedBySlice` refuses, the search tries in `Bounds::unsupported` alone.
bool allowsUnequalDegrees(const Bounds &bounds);

/// An order of microbatches, with chunks of the model in each stage.
using Order = std::pair<Schedule, uint64_t>;
/// All orders that are tried, those with one chunk first; or those that pins
/// and bounds leave.
std::vector<Order> ordersOf(const Bounds &bounds, const IslandPins &pins);

/// Whether every rank has the memory that it was foretold to need.
bool fitsMemory(const IslandPrediction &prediction);

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_SEARCHLIMITS_H
