//===- ShardingUnits.h - costs of a sharding problem as whole numbers -----===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_SHARDINGUNITS_H
#define TOMBOLO_LIB_PLANNING_SHARDINGUNITS_H

#include "tombolo/Planning/Sharding.h"

namespace tombolo::planning {

/// Rounds each elementary cost once, so that the solver and `evaluate` agree to
/// the last unit.
class ShardingUnits {
public:
  /// More than any choice costs; sums of several do not overflow.
  static constexpr int64_t kImpossible = int64_t(1) << 56;

  explicit ShardingUnits(const ShardingProblem &problem);

  /// An option, with what its results keep.
  ShardingCost option(size_t op, size_t number) const;
  /// One conversion; slices of the whole are free.
  int64_t conversion(size_t value, uint8_t from, uint8_t to) const;
  /// The cheapest way to all states of a set; `kImpossible` or more: none.
  int64_t conversions(size_t value, uint8_t from, uint32_t wanted) const;

private:
  const ShardingProblem &problem;
  double unit, byteUnit;
  int64_t time(double seconds) const;
  ShardingCost keep(double bytes) const;
};

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_SHARDINGUNITS_H
