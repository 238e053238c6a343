//===- ShardingSolver.cpp - the cheapest choice of shardings --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// The solver eliminates one variable after the other: joins all tables that
// speak of it into one, and keeps for each choice of the others the best choice
// of it. Tables hold only rows that are possible. First runs that keep only the
// cheapest rows of each table give a choice that bounds the best from above;
// what costs more is dropped from the tables before, and in the exact run from
// joined ones. Costs were moved between the tables before, so that this least
// is close to the truth and few rows remain.
//
//===----------------------------------------------------------------------===//

#include "Elimination.h"

namespace tombolo::planning {

namespace {

/// Rows kept in the runs that look for a good choice.
constexpr uint64_t kNoBeam = uint64_t(1) << 20;
constexpr uint64_t kFirstBeam = 256, kLastBeam = 4096, kWider = 8;

class Elimination {
public:
  /// `order`: of all variables; `start`: the tables before any is gone.
  Elimination(const ShardingProblem &problem,
              const ShardingVariables &variables,
              const std::vector<uint32_t> &order,
              const std::vector<Table> &start)
      : problem(problem), variables(variables), widths(variables.getWidths()),
        order(order), start(start) {}

  /// One run. `beam`: rows of a table at most, the cheapest and those of the
  /// choice `known`; `bound`: what a choice may cost. Nullopt when no choice is
  /// left.
  std::optional<ShardingSolution> run(uint64_t beam, int64_t bound,
                                      const std::vector<uint32_t> *known) const;

private:
  const ShardingProblem &problem;
  const ShardingVariables &variables;
  const Widths &widths;
  const std::vector<uint32_t> &order;
  const std::vector<Table> &start;
};

std::optional<ShardingSolution>
Elimination::run(uint64_t beam, int64_t bound,
                 const std::vector<uint32_t> *known) const {
  struct Step {
    uint32_t variable;
    std::vector<uint32_t> others;
    KeyMap best{0}; // by the others' values
  };
  ShardingSolution solution;
  std::vector<Table> tables = start;
  std::vector<int64_t> least;
  int64_t total = 0; // the least that all tables add together
  for (const Table &table : tables) {
    if (table.rows.empty())
      return std::nullopt;
    least.push_back(leastTime(table));
    total += least.back();
  }
  std::vector<Step> steps;
  for (uint32_t variable : order) {
    std::vector<size_t> with;
    for (size_t t = 0; t < tables.size(); ++t)
      if (std::binary_search(tables[t].variables.begin(),
                             tables[t].variables.end(), variable))
        with.push_back(t);
    std::sort(with.begin(), with.end(), [&](size_t a, size_t b) {
      return tables[a].rows.size() != tables[b].rows.size()
                 ? tables[a].rows.size() < tables[b].rows.size()
                 : a < b;
    });
    Table joint = std::move(tables[with[0]]);
    tables[with[0]] = Table();
    int64_t others = total - least[with[0]];
    // With a beam a join is cut only far beyond it.
    uint64_t limit = beam < kNoBeam ? beam * 64 : beam;
    for (size_t i = 1; i + 1 < with.size(); ++i) {
      others -= least[with[i]];
      Table longer{allOf(joint, tables[with[i]]), {}};
      join(widths, joint, tables[with[i]], longer.variables, bound - others,
           [&](Key key, const ShardingCost &cost) {
             if (longer.rows.size() >= limit)
               return solution.proven = false;
             longer.rows.push_back({key, cost});
             return true;
           });
      solution.largestTable =
          std::max<uint64_t>(solution.largestTable, longer.rows.size());
      tables[with[i]] = Table();
      joint = std::move(longer);
    }
    // The last join keeps, for each choice of the others, the best.
    Table last;
    std::vector<uint32_t> joined = joint.variables;
    if (with.size() > 1) {
      others -= least[with.back()];
      last = std::move(tables[with.back()]);
      tables[with.back()] = Table();
      joined = allOf(joint, last);
    }
    Step step;
    step.variable = variable;
    for (uint32_t other : joined)
      if (other != variable)
        step.others.push_back(other);
    Selector rest(widths, joined, step.others);
    Selector own(widths, joined, {variable});
    Table left{step.others, {}};
    KeyMap places(joint.rows.size());
    std::vector<uint32_t> choices;
    auto keep = [&](Key all, const ShardingCost &cost) {
      Key key = rest(all);
      uint32_t choice = static_cast<uint32_t>(own(all));
      uint32_t &place = places[key];
      if (place == KeyMap::kNone) {
        if (left.rows.size() >= limit) {
          solution.proven = false;
          return false;
        }
        place = static_cast<uint32_t>(left.rows.size());
        left.rows.push_back({key, cost});
        choices.push_back(choice);
        return true;
      }
      Row &known = left.rows[place];
      if (cost < known.cost ||
          (cost == known.cost && choice < choices[place])) {
        known.cost = cost;
        choices[place] = choice;
      }
      return true;
    };
    if (with.size() > 1)
      join(widths, joint, last, joined, bound - others, keep);
    else
      for (const Row &row : joint.rows)
        if (!keep(row.key, row.cost))
          break;
    solution.largestTable =
        std::max<uint64_t>(solution.largestTable, left.rows.size());
    if (left.rows.empty())
      return std::nullopt;
    // The places become the choices.
    for (size_t i = 0; i < left.rows.size(); ++i)
      places[left.rows[i].key] = choices[i];
    step.best = std::move(places);
    if (left.rows.size() > beam) {
      solution.proven = false;
      std::nth_element(left.rows.begin(),
                       left.rows.begin() + static_cast<std::ptrdiff_t>(beam),
                       left.rows.end(), [](const Row &a, const Row &b) {
                         return a.cost != b.cost ? a.cost < b.cost
                                                 : a.key < b.key;
                       });
      std::optional<Row> keptRow;
      if (known) {
        Key kept = widths.key(step.others, *known);
        for (size_t i = beam; i < left.rows.size() && !keptRow; ++i)
          if (left.rows[i].key == kept)
            keptRow = left.rows[i];
      }
      left.rows.resize(beam);
      if (keptRow)
        left.rows.push_back(*keptRow);
    }
    steps.push_back(std::move(step));
    total = others + leastTime(left);
    least.push_back(leastTime(left));
    tables.push_back(std::move(left));
  }
  // Back: each variable as the later ones ask.
  std::vector<uint32_t> value(variables.getSizes().size(), 0);
  for (size_t i = steps.size(); i-- > 0;) {
    value[steps[i].variable] =
        steps[i].best.at(widths.key(steps[i].others, value));
  }
  for (size_t o = 0; o < problem.ops.size(); ++o)
    solution.chosen.push_back(value[o]);
  auto cost = problem.evaluate(solution.chosen);
  if (!cost)
    return std::nullopt;
  solution.cost = *cost;
  return solution;
}

/// Where nothing is split, if that is allowed.
std::optional<ShardingSolution> wholeChoice(const ShardingProblem &problem) {
  ShardingSolution solution;
  for (const ShardingProblem::Op &op : problem.ops) {
    size_t whole = 0;
    for (size_t i = 0; i < op.options.size(); ++i) {
      auto isWhole = [](uint8_t state) {
        return state == ShardingProblem::kWhole;
      };
      const ShardingProblem::Option &option = op.options[i];
      if (std::all_of(option.wants.begin(), option.wants.end(), isWhole) &&
          std::all_of(option.gives.begin(), option.gives.end(), isWhole)) {
        whole = i;
        break;
      }
    }
    solution.chosen.push_back(whole);
  }
  auto cost = problem.evaluate(solution.chosen);
  if (!cost)
    return std::nullopt;
  solution.cost = *cost;
  solution.proven = false;
  return solution;
}

} // namespace

std::optional<ShardingSolution>
solveSharding(const ShardingProblem &problem, uint64_t maxRows,
              const std::vector<size_t> *guess) {
  constexpr int64_t kNoBound = ShardingUnits::kImpossible;
  std::optional<ShardingSolution> best = wholeChoice(problem);
  if (auto cost = guess ? problem.evaluate(*guess) : std::nullopt;
      cost && (!best || *cost < best->cost))
    best = {*guess, *cost, /*proven=*/false, 0};
  ShardingVariables variables(problem);
  auto order = findEliminationOrder(variables, variables.getTables());
  if (!order)
    return best;
  std::vector<Table> tables = tighten(variables, variables.getTables(), *order);
  uint64_t largest = 0;
  for (uint64_t beam = std::min(kFirstBeam, maxRows);; beam *= kWider) {
    // Only the last run may do without a limit.
    beam = beam > kLastBeam ? maxRows : std::min(beam, maxRows);
    std::vector<uint32_t> known;
    if (best) {
      known = variables.valuesOf(best->chosen);
      narrow(tables, variables, best->cost.time);
      if (auto better = findEliminationOrder(variables, tables))
        order = std::move(better);
    }
    Elimination elimination(problem, variables, *order, tables);
    auto found = elimination.run(beam, best ? best->cost.time : kNoBound,
                                 best ? &known : nullptr);
    if (found) {
      largest = std::max(largest, found->largestTable);
      if (!best || found->proven || found->cost < best->cost)
        best = found;
      best->largestTable = largest;
      if (found->proven)
        return best;
    }
    if (beam == maxRows)
      return best;
  }
}

} // namespace tombolo::planning
