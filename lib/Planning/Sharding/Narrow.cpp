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

namespace {

/// A table's rows with the numbers of the values that each has, one number for
/// each of its variables.
struct Numbered {
  Table *table;
  size_t width;
  std::vector<uint32_t> numbers; // rows x width

  const uint32_t *of(size_t row) const { return &numbers[row * width]; }

  /// Keeps the rows for which `keep(row)` holds; whether any is gone.
  template <typename Keep> bool filter(Keep keep) {
    std::vector<Row> &rows = table->rows;
    size_t kept = 0;
    for (size_t row = 0; row < rows.size(); ++row) {
      if (!keep(row))
        continue;
      if (kept != row) {
        rows[kept] = rows[row];
        std::copy_n(of(row), width, &numbers[kept * width]);
      }
      ++kept;
    }
    bool changed = kept < rows.size();
    rows.resize(kept);
    return changed;
  }
};

} // namespace

void narrow(std::vector<Table> &tables, const ShardingVariables &variables,
            int64_t bound) {
  // Values are numbered over all variables.
  std::vector<uint32_t> firstOf;
  uint32_t count = 0;
  for (size_t size : variables.getSizes()) {
    firstOf.push_back(count);
    count += static_cast<uint32_t>(size);
  }
  std::vector<uint32_t> tablesOf(count, 0); // that have the variable, by value
  std::vector<Numbered> all;
  for (Table &table : tables) {
    Numbered one{&table, table.variables.size(), {}};
    one.numbers.resize(table.rows.size() * one.width);
    for (size_t i = 0; i < one.width; ++i) {
      uint32_t variable = table.variables[i];
      Selector own(variables.getWidths(), table.variables, {variable});
      for (size_t row = 0; row < table.rows.size(); ++row)
        one.numbers[row * one.width + i] =
            firstOf[variable] + static_cast<uint32_t>(own(table.rows[row].key));
      for (size_t v = 0; v < variables.getSizes()[variable]; ++v)
        ++tablesOf[firstOf[variable] + v];
    }
    all.push_back(std::move(one));
  }
  std::vector<uint32_t> present(count); // tables with a row that has the value
  std::vector<size_t> lastSeen(count);
  for (bool changed = true; changed;) {
    changed = false;
    int64_t total = 0;
    for (const Table &table : tables)
      total += leastTime(table);
    std::fill(present.begin(), present.end(), 0);
    std::fill(lastSeen.begin(), lastSeen.end(), tables.size());
    for (size_t t = 0; t < all.size(); ++t) {
      const std::vector<Row> &rows = tables[t].rows;
      int64_t most = bound - total + leastTime(tables[t]);
      changed |= all[t].filter(
          [&](size_t row) { return rows[row].cost.time <= most; });
      for (size_t row = 0; row < rows.size(); ++row)
        for (size_t i = 0; i < all[t].width; ++i) {
          uint32_t value = all[t].of(row)[i];
          if (lastSeen[value] != t) {
            lastSeen[value] = t;
            ++present[value];
          }
        }
    }
    for (Numbered &one : all)
      changed |= one.filter([&](size_t row) {
        const uint32_t *values = one.of(row);
        return std::all_of(values, values + one.width, [&](uint32_t value) {
          return present[value] == tablesOf[value];
        });
      });
  }
  condition(tables, variables);
}

} // namespace tombolo::planning
