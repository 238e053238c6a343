//===- Narrow.cpp - what no choice below a bound can have -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Reduced cost fixing: a row that costs more than the bound together with the
// least of every other table is in no choice that is sought, and a value
// without a row in one of its tables is in none either. Both follow from each
// other until nothing more goes. Variables that have one value left no longer
// tie the tables of others together.
//
//===----------------------------------------------------------------------===//

#include "Elimination.h"

namespace tombolo::planning {

/// Takes variables with one value out of tables of two.
static void condition(std::vector<Table> &tables,
                      const ShardingVariables &variables) {
  std::vector<bool> isFixed(variables.getSizes().size(), false);
  for (const Table &table : tables)
    if (table.variables.size() == 1 && table.rows.size() == 1)
      isFixed[table.variables[0]] = true;
  for (Table &table : tables) {
    if (table.variables.size() != 2)
      continue;
    std::vector<uint32_t> open;
    for (uint32_t variable : table.variables)
      if (!isFixed[variable])
        open.push_back(variable);
    if (open.size() == 2)
      continue;
    if (open.empty())
      open = {table.variables[0]};
    Selector rest(variables.getWidths(), table.variables, open);
    for (Row &row : table.rows)
      row.key = rest(row.key);
    table.variables = std::move(open);
  }
}

void narrow(std::vector<Table> &tables, const ShardingVariables &variables,
            int64_t bound) {
  const Widths &widths = variables.getWidths();
  // How many tables have a row with the value, by variable and value.
  std::vector<std::vector<uint32_t>> present;
  std::vector<std::vector<size_t>> lastSeen;
  std::vector<uint32_t> tablesOf(variables.getSizes().size(), 0);
  for (const Table &table : tables)
    for (uint32_t variable : table.variables)
      ++tablesOf[variable];
  std::vector<Selector> selectors; // of each table's variables, in order
  for (const Table &table : tables)
    for (uint32_t variable : table.variables)
      selectors.emplace_back(widths, table.variables,
                             std::vector<uint32_t>{variable});
  auto forValues = [&](const Table &table, size_t first, const Row &row,
                       auto visit) {
    for (size_t i = 0; i < table.variables.size(); ++i)
      if (!visit(table.variables[i],
                 static_cast<size_t>(selectors[first + i](row.key))))
        return false;
    return true;
  };
  for (bool changed = true; changed;) {
    changed = false;
    int64_t total = 0;
    for (const Table &table : tables)
      total += leastTime(table);
    present.clear();
    lastSeen.clear();
    for (size_t size : variables.getSizes()) {
      present.emplace_back(size, 0);
      lastSeen.emplace_back(size, tables.size());
    }
    size_t first = 0;
    for (size_t t = 0; t < tables.size(); ++t) {
      Table &table = tables[t];
      int64_t most = bound - total + leastTime(table);
      changed |= std::erase_if(table.rows, [&](const Row &row) {
                   return row.cost.time > most;
                 }) > 0;
      for (const Row &row : table.rows)
        forValues(table, first, row, [&](uint32_t variable, size_t value) {
          if (lastSeen[variable][value] != t) {
            lastSeen[variable][value] = t;
            ++present[variable][value];
          }
          return true;
        });
      first += table.variables.size();
    }
    first = 0;
    for (Table &table : tables) {
      changed |= std::erase_if(table.rows, [&](const Row &row) {
                   return !forValues(
                       table, first, row, [&](uint32_t variable, size_t value) {
                         return present[variable][value] == tablesOf[variable];
                       });
                 }) > 0;
      first += table.variables.size();
    }
  }
  condition(tables, variables);
}

} // namespace tombolo::planning
