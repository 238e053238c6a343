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
        interrupted(hooks.interrupted) {
    if (bounds.searchSeconds)
      deadline = std::chrono::steady_clock::now() +
                 std::chrono::duration_cast<std::chrono::nanoseconds>(
                     std::chrono::duration<double>(*bounds.searchSeconds));
  }

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

/// Kinds of decision that may be taken: all in `Bounds::unsupported`, else
/// those that `supportedBySlice` lets through. The only place where the search
/// asks.
struct Choices {
  bool severalSites = true; // an island over several sites
  bool severalPools = true; // a stage on several pools
  bool someBlocksAgain = true;
  bool fragments = true;
  bool overlap = true;
  bool compression = true;
  std::vector<Schedule> schedules; // gpipe and 1f1b
  bool zeroBubble = true;
  bool interleaved = true;

  explicit Choices(const Bounds &bounds);

  /// An order of microbatches, with chunks of the model in each stage.
  using Order = std::pair<Schedule, uint64_t>;
  /// All orders that are tried, those with one chunk first; or those that pins
  /// and bounds leave.
  std::vector<Order> orders(const Bounds &bounds, const IslandPins &pins) const;
};

/// Whether every rank has the memory that it was foretold to need.
bool fitsMemory(const IslandPrediction &prediction);

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_SEARCHLIMITS_H
