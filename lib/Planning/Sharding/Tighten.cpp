//===- Tighten.cpp - sums of least costs close to the least sum -----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Sequential reweighted message passing (Kolmogorov, "A new look at reweighted
// message passing", PAMI 2015) for tables of two variables: the variables are
// visited in turn, forth and back. A visited variable draws out of each of its
// tables the least cost of each of its values, and gives equal parts of what it
// then has to those of its tables whose other variable is still to come. The
// sum of the tables' least costs, a lower bound, never falls. All costs are
// whole numbers, so each choice costs in sum exactly what it did.
//
// Values without a row in one of their tables are impossible; their rows in the
// other tables are dropped.
//
//===----------------------------------------------------------------------===//

#include "Elimination.h"

namespace tombolo::planning {

namespace {

/// A value, or pair of values, that no choice has.
constexpr int64_t kNever = ShardingUnits::kImpossible;

struct Pair {
  uint32_t values[2];
  ShardingCost cost;
};

/// A table of two variables.
struct Edge {
  uint32_t variables[2];
  std::vector<Pair> rows;
};

class MessagePassing {
public:
  MessagePassing(const ShardingVariables &variables,
                 const std::vector<Table> &tables,
                 const std::vector<uint32_t> &order);

  /// Visits all variables, forth and then back; gives the new bound.
  int64_t pass();

  std::vector<Table> getTables() const;

private:
  const Widths &widths;
  const std::vector<uint32_t> &order;
  std::vector<uint32_t> rank;                 // of each variable in the order
  std::vector<std::vector<ShardingCost>> own; // by variable and value
  std::vector<std::vector<bool>> possible;
  std::vector<Edge> edges;
  /// The edges of a variable, and which of their ends it is.
  std::vector<std::vector<std::pair<size_t, unsigned>>> around;
  std::vector<int64_t> least; // scratch, by value

  void visit(uint32_t variable, bool forth);
};

MessagePassing::MessagePassing(const ShardingVariables &variables,
                               const std::vector<Table> &tables,
                               const std::vector<uint32_t> &order)
    : widths(variables.getWidths()), order(order) {
  size_t count = variables.getSizes().size();
  rank.resize(count);
  for (size_t i = 0; i < count; ++i)
    rank[order[i]] = static_cast<uint32_t>(i);
  around.resize(count);
  for (size_t size : variables.getSizes()) {
    own.emplace_back(size);
    possible.emplace_back(size, true);
  }
  for (const Table &table : tables) {
    if (table.variables.size() == 1) {
      uint32_t variable = table.variables[0];
      std::vector<bool> there(own[variable].size(), false);
      for (const Row &row : table.rows) {
        own[variable][static_cast<size_t>(row.key)] += row.cost;
        there[static_cast<size_t>(row.key)] = true;
      }
      for (size_t value = 0; value < there.size(); ++value)
        if (!there[value])
          possible[variable][value] = false;
      continue;
    }
    Edge edge{{table.variables[0], table.variables[1]}, {}};
    unsigned shift = widths.of(edge.variables[0]);
    Key mask = (Key(1) << shift) - 1;
    for (const Row &row : table.rows)
      edge.rows.push_back({{static_cast<uint32_t>(row.key & mask),
                            static_cast<uint32_t>(row.key >> shift)},
                           row.cost});
    for (unsigned end : {0u, 1u})
      around[edge.variables[end]].push_back({edges.size(), end});
    edges.push_back(std::move(edge));
  }
}

void MessagePassing::visit(uint32_t variable, bool forth) {
  std::vector<ShardingCost> &costs = own[variable];
  std::vector<bool> &can = possible[variable];
  size_t later = 0;
  auto isLater = [&](const Edge &edge, unsigned end) {
    return (rank[edge.variables[1 - end]] > rank[variable]) == forth;
  };
  for (auto [number, end] : around[variable]) {
    Edge &edge = edges[number];
    later += isLater(edge, end);
    least.assign(costs.size(), kNever);
    const std::vector<bool> &others = possible[edge.variables[1 - end]];
    std::erase_if(edge.rows, [&](const Pair &row) {
      return !can[row.values[end]] || !others[row.values[1 - end]];
    });
    for (const Pair &row : edge.rows) {
      int64_t &known = least[row.values[end]];
      known = std::min(known, row.cost.time);
    }
    for (Pair &row : edge.rows)
      row.cost.time -= least[row.values[end]];
    for (size_t value = 0; value < costs.size(); ++value) {
      if (least[value] == kNever)
        can[value] = false;
      else
        costs[value].time += least[value];
    }
  }
  size_t parts = std::max(later, around[variable].size() - later);
  if (later == 0)
    return;
  for (size_t value = 0; value < costs.size(); ++value)
    if (can[value]) {
      least[value] = costs[value].time / static_cast<int64_t>(parts);
      costs[value].time -= least[value] * static_cast<int64_t>(later);
    }
  for (auto [number, end] : around[variable]) {
    Edge &edge = edges[number];
    if (isLater(edge, end))
      for (Pair &row : edge.rows)
        if (can[row.values[end]])
          row.cost.time += least[row.values[end]];
  }
}

int64_t MessagePassing::pass() {
  for (size_t i = 0; i < order.size(); ++i)
    visit(order[i], true);
  for (size_t i = order.size(); i-- > 0;)
    visit(order[i], false);
  int64_t bound = 0;
  for (size_t variable = 0; variable < own.size(); ++variable) {
    int64_t lowest = kNever;
    for (size_t value = 0; value < own[variable].size(); ++value)
      if (possible[variable][value])
        lowest = std::min(lowest, own[variable][value].time);
    if (lowest == kNever)
      return kNever;
    bound += lowest;
  }
  for (const Edge &edge : edges) {
    int64_t lowest = kNever;
    for (const Pair &row : edge.rows)
      lowest = std::min(lowest, row.cost.time);
    if (lowest == kNever)
      return kNever;
    bound += lowest;
  }
  return bound;
}

std::vector<Table> MessagePassing::getTables() const {
  std::vector<Table> tables;
  for (uint32_t variable = 0; variable < own.size(); ++variable) {
    Table table{{variable}, {}};
    for (size_t value = 0; value < own[variable].size(); ++value)
      if (possible[variable][value])
        table.rows.push_back({Key(value), own[variable][value]});
    tables.push_back(std::move(table));
  }
  for (const Edge &edge : edges) {
    Table table{{edge.variables[0], edge.variables[1]}, {}};
    unsigned shift = widths.of(edge.variables[0]);
    for (const Pair &row : edge.rows)
      if (possible[edge.variables[0]][row.values[0]] &&
          possible[edge.variables[1]][row.values[1]])
        table.rows.push_back(
            {Key(row.values[0]) | Key(row.values[1]) << shift, row.cost});
    tables.push_back(std::move(table));
  }
  return tables;
}

} // namespace

std::vector<Table> tighten(const ShardingVariables &variables,
                           const std::vector<Table> &tables,
                           const std::vector<uint32_t> &order) {
  // Most of what can be had comes with the first passes.
  constexpr unsigned kPasses = 40;
  constexpr int64_t kWorthwhile = 20000; // a part of the bound
  MessagePassing messages(variables, tables, order);
  int64_t bound = std::numeric_limits<int64_t>::min();
  for (unsigned i = 0; i < kPasses; ++i) {
    int64_t better = messages.pass();
    if (better == kNever || (i > 0 && better - bound <= better / kWorthwhile))
      break;
    bound = better;
  }
  return messages.getTables();
}

} // namespace tombolo::planning
