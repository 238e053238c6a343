//===- Explain.h - why a plan is as it is ---------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_EXPLAIN_H
#define TOMBOLO_PLANNING_EXPLAIN_H

#include "tombolo/Planning/Search.h"

#include <string>
#include <vector>

namespace tombolo::planning {

/// So many strategies beside the best one are told of.
inline constexpr size_t kAlternatives = 10;

/// A strategy on one line: sites, batch, schedule and stages of each island,
/// and the server's settings; `b x2 tp4 20 blocks` is two replicas of four
/// chips.
std::string shortText(const Strategy &strategy);

/// The strategies of a result, each by what it was weighed by.
std::vector<Alternative> alternatives(const SearchResult &result);

/// In plain words and numbers: what limits the best strategy of a result, the
/// others and how they differ, what more memory or faster wires would buy,
/// which times were not measured, what is left unused. Every figure comes from
/// evaluating or searching this problem or one that differs in one figure.
std::string explain(const Problem &problem, const StrategyPins &pins,
                    const SearchResult &result);

/// The smallest changes, each by itself, that make a problem feasible which has
/// no strategy: more memory on a type of chip, more nodes of a pool, nothing
/// pinned. One line each; empty when none of these helps.
std::vector<std::string> smallestChanges(const Problem &problem,
                                         const StrategyPins &pins);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_EXPLAIN_H
