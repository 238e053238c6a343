//===- IslandSearch.h - the best layouts of one island --------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_ISLANDSEARCH_H
#define TOMBOLO_LIB_PLANNING_ISLANDSEARCH_H

#include "SearchLimits.h"
#include "SplitTable.h"

#include <limits>
#include <map>
#include <memory>

namespace tombolo::planning {

/// An island and what the closed formula says of it.
struct FoundIsland {
  double seconds = 0;
  Island island;
};

/// Searches layouts of one island for any batch. What was computed is kept, so
/// that asking for many batches is cheap. Not for several threads at once.
class IslandSearch {
public:
  virtual ~IslandSearch() = default;

  /// The fastest islands for a batch by the closed formula, best first, at most
  /// `kFinalists`; empty: none fits, or none takes less than `ceiling` seconds.
  const std::vector<FoundIsland> &
  best(uint64_t batch,
       double ceiling = std::numeric_limits<double>::infinity());

  /// No island is faster with this batch by the closed formula, in seconds.
  virtual double bound(uint64_t) { return 0; }

  /// Whether `best` is the best by the exact time unless a limit ended it, and
  /// its seconds are exact.
  virtual bool isExact() const { return false; }

  uint64_t candidates() const { return scored; }
  /// Whether no limit ended any of it.
  bool complete() const { return isComplete; }

protected:
  explicit IslandSearch(SearchLimits limits) : limits(std::move(limits)) {}

  /// Layouts of an island that are looked at with the exact time.
  static constexpr size_t kFinalists = 8;

  /// May leave out what takes more than `ceiling` seconds.
  virtual std::vector<FoundIsland> find(uint64_t batch, double ceiling) = 0;

  SearchLimits limits;
  uint64_t scored = 0;
  bool isComplete = true;

private:
  struct Known {
    std::vector<FoundIsland> islands;
    double ceiling = -1; // that they were looked for under
  };
  std::map<uint64_t, Known> known; // by batch
};

/// The one that fits the problem and the pins: for pinned stages; trying
/// everything; rows of pools.
std::unique_ptr<IslandSearch> makeIslandSearch(const Problem &problem,
                                               const IslandPins &pins,
                                               const SearchHooks &hooks);
std::unique_ptr<IslandSearch> makePinnedIsland(const Problem &problem,
                                               const IslandPins &pins,
                                               const SearchLimits &limits);
std::unique_ptr<IslandSearch> makeExactIsland(const Problem &problem,
                                              const IslandPins &pins,
                                              const SearchHooks &hooks);
std::unique_ptr<IslandSearch> makeRowIsland(const Problem &problem,
                                            const IslandPins &pins,
                                            const SearchLimits &limits);

/// A pool that an island may use.
struct IslandPool {
  std::string name; // site/pool
  const Pool *pool;
  const Chip *chip;
  /// Chips of a replica: divisors of a node's chips that every kind of block
  /// has figures for.
  std::vector<uint64_t> degrees;
};
std::vector<IslandPool> poolsOf(const Problem &problem,
                                const IslandPins &island);

/// Seconds of a batch that the chips of some pools cannot stay below: all busy
/// all the time, each kind of block by itself.
double busySeconds(const Problem &problem, const std::vector<IslandPool> &pools,
                   uint64_t batch);

/// Whether an island of so many chips is small enough that everything is tried.
bool isSmall(const Problem &problem, uint64_t chips);

/// Microbatches that a replica beside others takes in a turn, at most.
inline constexpr uint64_t kMostShare = 8;

/// All divisors, rising.
std::vector<uint64_t> divisorsOf(uint64_t number);

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_ISLANDSEARCH_H
