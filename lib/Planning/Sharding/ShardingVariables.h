//===- ShardingVariables.h - a sharding problem as tables of costs --------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Variables: the option of each op, and for each value and reader what there is
// of it: the state it came out in and those it was converted to. Constraints,
// each between two variables: a value comes out as its op's option says; what
// an op's option wants is there. Objective: options + conversions.
//
// Of what is there only sets matter that are cheaper than converting to the
// whole, which has all splits; so there are few.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_SHARDING_SHARDINGVARIABLES_H
#define TOMBOLO_LIB_PLANNING_SHARDING_SHARDINGVARIABLES_H

#include "CostTable.h"
#include "ShardingUnits.h"

namespace tombolo::planning {

/// What there is of a value for one reader.
struct Stock {
  uint8_t given;
  uint32_t states; // bits, also those that are free slices
  int64_t time;

  bool has(uint8_t state, bool asGiven) const {
    return asGiven && given != ShardingProblem::kPartial ? state == given
                                                         : states >> state & 1;
  }
};

class ShardingVariables {
public:
  explicit ShardingVariables(const ShardingProblem &problem);

  /// Values of each variable; the ops come first.
  const std::vector<size_t> &getSizes() const { return sizes; }
  const Widths &getWidths() const { return widths; }
  /// Of one or two variables each; every possible choice has a row in each.
  const std::vector<Table> &getTables() const { return tables; }

  /// A choice of options as values of all variables.
  std::vector<uint32_t> valuesOf(const std::vector<size_t> &chosen) const;

private:
  const ShardingProblem &problem;
  ShardingUnits units;
  std::vector<size_t> sizes;
  Widths widths;
  std::vector<Table> tables;

  /// What the variables after the ops stand for.
  struct Stocked {
    size_t value, reader;
    std::vector<Stock> list;
  };
  std::vector<Stocked> stocked;

  /// States wanted of each value by each reader's ops: one set per op.
  std::vector<std::vector<std::vector<uint32_t>>> wanted;

  void addVariable(size_t values);
  void addOp(size_t op);
  void addStocks();
  std::vector<Stock> stocks(size_t value, size_t reader) const;
};

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_SHARDING_SHARDINGVARIABLES_H
