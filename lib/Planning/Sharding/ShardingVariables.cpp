//===- ShardingVariables.cpp - a sharding problem as tables of costs ------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "ShardingVariables.h"

namespace tombolo::planning {

ShardingVariables::ShardingVariables(const ShardingProblem &problem)
    : problem(problem), units(problem) {
  for (const ShardingProblem::Op &op : problem.ops)
    addVariable(op.options.size());
  for (size_t o = 0; o < problem.ops.size(); ++o)
    addOp(o);
  for (const ShardingProblem::Value &value : problem.values)
    wanted.emplace_back(value.readers);
  addStocks();
}

void ShardingVariables::addVariable(size_t values) {
  sizes.push_back(values);
  widths.add(values);
}

void ShardingVariables::addOp(size_t op) {
  Table table{{static_cast<uint32_t>(op)}, {}};
  const std::vector<ShardingProblem::Option> &options = problem.ops[op].options;
  for (size_t i = 0; i < options.size(); ++i) {
    // An option that wants and gives the same for no less is never needed.
    bool needed = true;
    ShardingCost cost = units.option(op, i);
    for (size_t j = 0; needed && j < options.size(); ++j)
      if (j != i && options[j].wants == options[i].wants &&
          options[j].gives == options[i].gives) {
        ShardingCost other = units.option(op, j);
        needed = cost < other || (cost == other && i < j);
      }
    if (needed)
      table.rows.push_back({Key(i), cost});
  }
  tables.push_back(std::move(table));
}

/// All that may be made of a value for a reader: of every way it can come out,
/// the sets of states that some options want and that cost less than the whole.
std::vector<Stock> ShardingVariables::stocks(size_t value,
                                             size_t reader) const {
  const ShardingProblem::Value &of = problem.values[value];
  uint32_t all = 0;
  for (uint32_t states : wanted[value][reader])
    all |= states;
  size_t uses = wanted[value][reader].size();
  uint32_t splits = ((of.states == 32 ? 0 : 1u << of.states) - 1) &
                    ~((1u << ShardingProblem::kFirstSplit) - 1);
  uint32_t everything = splits | 1u << ShardingProblem::kWhole;
  std::vector<Stock> result;
  for (uint8_t given = 0; given < of.states; ++given) {
    uint32_t own = 1u << given;
    if (given == ShardingProblem::kWhole) {
      result.push_back({given, everything, 0});
      continue;
    }
    result.push_back({given, own, 0});
    int64_t whole = units.conversion(value, given, ShardingProblem::kWhole);
    // Sets of direct conversions, by adding one state after the other.
    std::vector<std::pair<Stock, uint8_t>> open = {
        {{given, own, 0}, ShardingProblem::kFirstSplit}};
    for (size_t depth = 0; depth < uses; ++depth) {
      std::vector<std::pair<Stock, uint8_t>> longer;
      for (const auto &[stock, from] : open)
        for (uint8_t to = from; to < of.states; ++to) {
          if (to == given || !(all >> to & 1))
            continue;
          int64_t time = stock.time + units.conversion(value, given, to);
          if (time >= std::min(whole, ShardingUnits::kImpossible))
            continue;
          longer.push_back({{given, stock.states | 1u << to, time},
                            static_cast<uint8_t>(to + 1)});
          result.push_back(longer.back().first);
        }
      open = std::move(longer);
    }
    if (whole < ShardingUnits::kImpossible)
      result.push_back({given, everything | own, whole});
  }
  return result;
}

void ShardingVariables::addStocks() {
  struct Reading {
    size_t op;
    size_t operand;
  };
  std::vector<std::vector<std::vector<Reading>>> readings;
  std::vector<std::pair<size_t, size_t>> givers(problem.values.size());
  for (const ShardingProblem::Value &value : problem.values)
    readings.emplace_back(value.readers);
  for (size_t o = 0; o < problem.ops.size(); ++o) {
    const ShardingProblem::Op &op = problem.ops[o];
    for (size_t i = 0; i < op.operands.size(); ++i) {
      const ShardingProblem::Use &use = op.operands[i];
      readings[use.value][use.reader].push_back({o, i});
      uint32_t states = 0;
      for (const ShardingProblem::Option &option : op.options)
        states |= 1u << option.wants[i];
      wanted[use.value][use.reader].push_back(states);
    }
    for (size_t r = 0; r < op.results.size(); ++r)
      givers[op.results[r]] = {o, r};
  }
  for (size_t v = 0; v < problem.values.size(); ++v)
    for (size_t reader = 0; reader < problem.values[v].readers; ++reader) {
      if (readings[v][reader].empty())
        continue;
      std::vector<Stock> list = stocks(v, reader);
      uint32_t variable = static_cast<uint32_t>(sizes.size());
      addVariable(list.size());
      // What it comes out as, with the cost of conversions.
      auto [giver, result] = givers[v];
      Table given{{static_cast<uint32_t>(giver), variable}, {}};
      const auto &options = problem.ops[giver].options;
      for (size_t s = 0; s < list.size(); ++s)
        for (size_t i = 0; i < options.size(); ++i)
          if (options[i].gives[result] == list[s].given)
            given.rows.push_back(
                {Key(i) | Key(s) << widths.of(given.variables[0]),
                 {list[s].time, 0, 0}});
      tables.push_back(std::move(given));
      stocked.push_back({v, reader, list});
      // What each op wants; an op that reads it twice gets two tables.
      for (const Reading &reading : readings[v][reader]) {
        Table there{{static_cast<uint32_t>(reading.op), variable}, {}};
        const auto &choices = problem.ops[reading.op].options;
        bool asGiven =
            problem.ops[reading.op].operands[reading.operand].asGiven;
        for (size_t s = 0; s < list.size(); ++s)
          for (size_t i = 0; i < choices.size(); ++i)
            if (list[s].has(choices[i].wants[reading.operand], asGiven))
              there.rows.push_back(
                  {Key(i) | Key(s) << widths.of(there.variables[0]), {}});
        tables.push_back(std::move(there));
      }
    }
}

std::vector<uint32_t>
ShardingVariables::valuesOf(const std::vector<size_t> &chosen) const {
  std::vector<uint32_t> values(chosen.begin(), chosen.end());
  std::vector<uint8_t> given(problem.values.size(), 0);
  for (size_t o = 0; o < problem.ops.size(); ++o)
    for (size_t r = 0; r < problem.ops[o].results.size(); ++r)
      given[problem.ops[o].results[r]] =
          problem.ops[o].options[chosen[o]].gives[r];
  std::vector<std::vector<uint32_t>> needed;
  for (const ShardingProblem::Value &value : problem.values)
    needed.emplace_back(value.readers, 0);
  for (size_t o = 0; o < problem.ops.size(); ++o)
    for (size_t i = 0; i < problem.ops[o].operands.size(); ++i) {
      const ShardingProblem::Use &use = problem.ops[o].operands[i];
      needed[use.value][use.reader] |=
          uint32_t(1) << problem.ops[o].options[chosen[o]].wants[i];
    }
  for (const Stocked &stock : stocked) {
    uint32_t best = 0;
    int64_t least = std::numeric_limits<int64_t>::max();
    uint32_t states = needed[stock.value][stock.reader];
    for (size_t s = 0; s < stock.list.size(); ++s)
      if (stock.list[s].given == given[stock.value] &&
          (states & ~stock.list[s].states) == 0 && stock.list[s].time < least) {
        least = stock.list[s].time;
        best = static_cast<uint32_t>(s);
      }
    values.push_back(best);
  }
  return values;
}

} // namespace tombolo::planning
