//===- EliminationOrder.cpp - which variable goes first -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Elimination.h"

#include <numeric>

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

namespace {

/// Which variables stand in a table together: as lists, and as bits.
class Neighbours {
public:
  Neighbours(size_t count, const std::vector<Table> &tables)
      : count(count), lists(count), bits(count * count, false) {
    for (const Table &table : tables)
      for (uint32_t a : table.variables)
        for (uint32_t b : table.variables)
          if (a != b)
            add(a, b);
  }
  const std::vector<uint32_t> &of(uint32_t variable) const {
    return lists[variable];
  }
  bool are(uint32_t a, uint32_t b) const { return bits[a * count + b]; }
  /// Takes a variable out; those around it become neighbours of each other.
  void eliminate(uint32_t variable) {
    std::vector<uint32_t> around = std::move(lists[variable]);
    for (uint32_t a : around) {
      std::erase(lists[a], variable);
      for (uint32_t b : around)
        if (a != b)
          add(a, b);
    }
  }

private:
  size_t count;
  std::vector<std::vector<uint32_t>> lists;
  std::vector<bool> bits; // of a and of b; stay when one is eliminated

  void add(uint32_t a, uint32_t b) {
    if (are(a, b))
      return;
    bits[a * count + b] = true;
    lists[a].push_back(b);
  }
};

} // namespace

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
  const Neighbours start(count, tables);
  double least = std::numeric_limits<double>::infinity();
  for (bool byFill : {true, false}) {
    Neighbours neighbours = start;
    std::vector<uint32_t> found, open(count);
    std::iota(open.begin(), open.end(), 0);
    bool wide = false;
    double total = 0;
    auto size = [&](uint32_t v) { return static_cast<double>(sizes[v]); };
    auto left = [&](uint32_t v) {
      double product = 1;
      for (uint32_t other : neighbours.of(v))
        product *= size(other);
      return product;
    };
    auto score = [&](uint32_t v) {
      if (!byFill)
        return left(v);
      double fill = 0;
      const std::vector<uint32_t> &around = neighbours.of(v);
      for (size_t i = 0; i < around.size(); ++i)
        for (size_t j = 0; j < i; ++j)
          if (!neighbours.are(around[i], around[j]))
            fill += size(around[i]) * size(around[j]);
      return fill;
    };
    std::vector<double> scores(count);
    for (uint32_t v = 0; v < count; ++v)
      scores[v] = score(v);
    std::vector<uint32_t> touched;
    std::vector<size_t> touchedIn(count, count); // the last step that did
    for (size_t step = 0; step < count; ++step) {
      auto next = std::min_element(
          open.begin(), open.end(),
          [&](uint32_t a, uint32_t b) { return scores[a] < scores[b]; });
      uint32_t best = *next;
      open.erase(next);
      found.push_back(best);
      total += left(best) * size(best);
      std::vector<uint32_t> around = neighbours.of(best);
      wide |= widths.of(around) + widths.of(best) > 128;
      neighbours.eliminate(best);
      touched.clear();
      auto touch = [&](uint32_t v) {
        if (touchedIn[v] != step) {
          touchedIn[v] = step;
          touched.push_back(v);
        }
      };
      for (uint32_t a : around) {
        touch(a);
        if (byFill)
          for (uint32_t other : neighbours.of(a))
            touch(other);
      }
      for (uint32_t v : touched)
        scores[v] = score(v);
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
