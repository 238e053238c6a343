//===- Solver.h - what finds strategies, by name --------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_SOLVER_H
#define TOMBOLO_PLANNING_SOLVER_H

#include "tombolo/Planning/Search.h"

#include <functional>
#include <string>
#include <vector>

namespace tombolo::planning {

/// Finds strategies of a problem that passed `check`, with what is pinned kept:
/// at least the strategies, best first, or why there are none.
using Solver = std::function<SearchResult(
    const Problem &problem, const StrategyPins &pins, const SearchHooks &)>;

/// Tombolo's own, `search`.
inline constexpr const char *kDefaultSolver = "search";

/// Adds a solver (a plugin's, examples/plugin), which the pass
/// `dist-search-strategy` then has under `solver=NAME`. A later one of a name
/// takes the place of an earlier one.
void registerSolver(const std::string &name, Solver solver);

/// The names of all there are, in order.
std::vector<std::string> solverNames();

/// Runs the named solver; without faults its strategies are those that
/// `Problem::verify` accepts, or it says what is wrong with the best: whoever
/// wrote a solver, no strategy is taken that is not proved.
SearchResult solve(const std::string &name, const Problem &problem,
                   const StrategyPins &pins, const SearchHooks &hooks);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_SOLVER_H
