//===- Elimination.h - variables of shardings, one after the other --------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_SHARDING_ELIMINATION_H
#define TOMBOLO_LIB_PLANNING_SHARDING_ELIMINATION_H

#include "ShardingVariables.h"

namespace tombolo::planning {

/// An order in which variables are joined and eliminated, good for the values
/// that the tables still have; nullopt when a table would have keys that are
/// too long.
std::optional<std::vector<uint32_t>>
findEliminationOrder(const ShardingVariables &variables,
                     const std::vector<Table> &tables);

/// Moves time between tables, so that the sum over the tables is the same for
/// every choice but the least rows of all tables together come close to the
/// best choice. Rows that are in no possible choice may be dropped. With it
/// come tables of one variable.
std::vector<Table> tighten(const ShardingVariables &variables,
                           const std::vector<Table> &tables,
                           const std::vector<uint32_t> &order);

/// Drops rows that no choice of at most `bound` has, as far as sums of least
/// rows tell. Every variable must have a table of its own.
void narrow(std::vector<Table> &tables, const ShardingVariables &variables,
            int64_t bound);

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_SHARDING_ELIMINATION_H
