//===- EliminationOrder.cpp - which variable goes first -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Elimination.h"

#include <set>

namespace tombolo::planning {

/// Of each variable the values that the first of its tables has.
static std::vector<size_t> countValues(const ShardingVariables &variables,
                                       const std::vector<Table> &tables) {
  std::vector<std::vector<bool>> seen;
  for (size_t size : variables.getSizes())
    seen.emplace_back(size, false);
  std::vector<size_t> counts(seen.size(), 0);
  std::vector<bool> known(seen.size(), false);
  for (const Table &table : tables)
    for (uint32_t variable : table.variables) {
      if (known[variable])
        continue;
      known[variable] = true;
      Selector own(variables.getWidths(), table.variables, {variable});
      for (const Row &row : table.rows) {
        size_t value = static_cast<size_t>(own(row.key));
        counts[variable] += !seen[variable][value];
        seen[variable][value] = true;
      }
    }
  return counts;
}

// Greedy, by two rules: the variable whose elimination leaves the smallest
// table, or the one that joins the fewest choices of variables not joined yet.
// The order with less work is taken, as far as sizes of variables tell.
std::optional<std::vector<uint32_t>>
findEliminationOrder(const ShardingVariables &variables,
                     const std::vector<Table> &tables) {
  const std::vector<size_t> sizes = countValues(variables, tables);
  const Widths &widths = variables.getWidths();
  std::vector<uint32_t> order;
  bool tooWide = false;
  size_t count = sizes.size();
  std::vector<std::set<uint32_t>> start(count);
  for (const Table &table : tables)
    for (uint32_t a : table.variables)
      for (uint32_t b : table.variables)
        if (a != b)
          start[a].insert(b);
  double least = std::numeric_limits<double>::infinity();
  for (bool byFill : {true, false}) {
    auto neighbours = start;
    std::vector<uint32_t> found;
    std::vector<bool> gone(count, false);
    bool wide = false;
    double total = 0;
    auto size = [&](uint32_t v) { return static_cast<double>(sizes[v]); };
    auto left = [&](uint32_t v) {
      double product = 1;
      for (uint32_t other : neighbours[v])
        product *= size(other);
      return product;
    };
    auto score = [&](uint32_t v) {
      if (!byFill)
        return left(v);
      double fill = 0;
      for (uint32_t a : neighbours[v])
        for (uint32_t b : neighbours[v])
          if (a < b && !neighbours[a].count(b))
            fill += size(a) * size(b);
      return fill;
    };
    std::vector<double> scores(count);
    for (uint32_t v = 0; v < count; ++v)
      scores[v] = score(v);
    for (size_t step = 0; step < count; ++step) {
      uint32_t best = 0;
      bool first = true;
      for (uint32_t v = 0; v < count; ++v)
        if (!gone[v] && (first || scores[v] < scores[best])) {
          best = v;
          first = false;
        }
      gone[best] = true;
      found.push_back(best);
      total += left(best) * size(best);
      std::vector<uint32_t> around(neighbours[best].begin(),
                                   neighbours[best].end());
      wide |= widths.of(around) + widths.of(best) > 128;
      std::set<uint32_t> touched(around.begin(), around.end());
      for (uint32_t a : around) {
        neighbours[a].erase(best);
        for (uint32_t b : around)
          if (a != b)
            neighbours[a].insert(b);
        if (byFill)
          touched.insert(neighbours[a].begin(), neighbours[a].end());
      }
      for (uint32_t a : touched)
        scores[a] = score(a);
    }
    if (order.empty() || total < least) {
      least = total;
      order = std::move(found);
      tooWide = wide;
    }
  }
  if (tooWide)
    return std::nullopt;
  return order;
}

} // namespace tombolo::planning
