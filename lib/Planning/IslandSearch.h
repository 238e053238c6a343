//===- IslandSearch.h - the best layouts of one island --------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_ISLANDSEARCH_H
#define TOMBOLO_LIB_PLANNING_ISLANDSEARCH_H

#include "SplitTable.h"

#include <memory>
#include <tuple>
#include <unordered_map>

namespace tombolo::planning {

/// Searches layouts of one island for any batch: pools in a row, a number of
/// stages on each, replicas, microbatch; the split comes from `splitBlocks`.
/// Splits are kept, so that asking for many batches is cheap.
class IslandSearch {
public:
  IslandSearch(const Problem &problem, IslandPins pins);

  /// The `most` fastest islands for a batch by the closed formula, best first,
  /// each with its seconds; equal layouts once.
  std::vector<std::pair<double, Island>> best(uint64_t batch, size_t most);

  uint64_t candidates() const { return scored; }
  bool outOfNodes() const;

private:
  /// Pools in a row, without degrees.
  struct Row {
    std::vector<std::string> pools;
  };
  /// Degrees on a row; with pinned stages only the replicas left open.
  struct Shape {
    size_t row = 0;
    std::vector<uint64_t> stagesOn; // of each pool
    uint64_t dataParallel = 1;
    uint64_t stages = 1;
    uint64_t turn = 1; // microbatches in the longest turn of a stage
    /// Microbatches after which the turns of all stages end together.
    uint64_t period = 1;
  };
  /// What a shape costs with a microbatch whatever the split, in seconds.
  struct Fixed {
    double least = 0;     // one microbatch through the model, fastest chips
    double longest = 0;   // its slowest block
    double transfers = 0; // there and back through all stages
    double tail = 0;      // reduction and update
  };
  struct Layout {
    size_t shape = 0;
    uint64_t microbatch = 1;
    double bound = 0; // no split is faster, in seconds
    const Fixed *fixed = nullptr;
  };

  const Problem &problem;
  IslandPins pins;
  std::vector<Row> rows;
  uint64_t scored = 0;
  uint64_t splitsComputed = 0;

  std::vector<Shape> shapes;
  std::map<uint64_t, std::vector<size_t>> shapesByPeriod;
  /// By microbatch and shape; few of all pairs are ever looked at.
  std::map<uint64_t, std::unordered_map<size_t, Fixed>> fixedCosts;
  std::map<uint64_t, std::unique_ptr<SplitTable>> tables; // by microbatch
  using SplitKey =
      std::tuple<size_t, std::vector<uint64_t>, uint64_t, uint64_t, uint64_t>;
  std::map<SplitKey, std::vector<Split>> splits;

  Schedule schedule() const;
  void findRows();
  void findShapes();
  void findPinnedShapes();
  std::vector<std::vector<uint64_t>> stageCounts(const Row &row,
                                                 uint64_t dataParallel) const;
  std::vector<std::vector<ReplicaGroup>> replicasOf(const Shape &shape) const;
  std::vector<const Chip *> chipsOf(const Shape &shape) const;
  std::vector<StageRanks> ranksOf(const Shape &shape) const;
  bool shards(size_t stage, uint64_t replicas) const;
  const Fixed &fixedOf(size_t shape, uint64_t microbatch);
  Fixed compute(const Shape &shape, uint64_t microbatch) const;
  std::vector<ReplicaChips> replicaChipsOf(const Shape &shape) const;
  double transfersOf(const Shape &shape, double bytes) const;
  std::vector<Layout> layouts(uint64_t batch);
  double pace(double slowest, double sum, const Layout &layout) const;
  const std::vector<Split> &splitsOf(const Layout &layout, uint64_t batch);
  uint64_t microbatches(const Layout &layout, uint64_t batch) const;
};

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_ISLANDSEARCH_H
