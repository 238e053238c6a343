//===- ShardingSolver.cpp - the cheapest choice of shardings --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Variables: the option of each op, and for each value and reader what there is
// of it: the state it came out in and those it was converted to. Constraints,
// each between two variables: a value comes out as its op's option says; what
// an op's option wants is there. Objective: options + conversions.
//
// Of what is there only sets matter that are cheaper than converting to the
// whole, which has all splits; so there are few.
//
// The solver eliminates one variable after the other: joins all tables that
// speak of it into one, and keeps for each choice of the others the best choice
// of it. Tables hold only rows that are possible. A first run that keeps only
// the cheapest rows of each table gives a choice that bounds the best from
// above; the exact run drops rows which, with the least that the other tables
// add, cost more.
//
//===----------------------------------------------------------------------===//

#include "ShardingUnits.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <set>
#include <unordered_map>

namespace tombolo::planning {

namespace {

__extension__ typedef unsigned __int128 Key;

struct KeyHash {
  size_t operator()(Key key) const {
    uint64_t low = static_cast<uint64_t>(key);
    uint64_t high = static_cast<uint64_t>(key >> 64);
    uint64_t hash = (low ^ (high * 0x9e3779b97f4a7c15u)) * 0xff51afd7ed558ccdu;
    return hash ^ (hash >> 32);
  }
};

struct Row {
  Key key;
  ShardingCost cost;
};

/// Costs of the possible choices of some variables; a choice is a key that has
/// the variables' values side by side.
struct Table {
  std::vector<uint32_t> variables; // ascending
  std::vector<Row> rows;
};

/// What there is of a value for one reader.
struct Stock {
  uint8_t given;
  uint32_t states; // bits, also those that are free slices
  int64_t time;

  bool has(uint8_t state, bool asGiven) const {
    return asGiven && given != ShardingProblem::kPartial ? state == given
                                                         : states >> state & 1;
  }
};

class Elimination {
public:
  explicit Elimination(const ShardingProblem &problem)
      : problem(problem), units(problem) {
    for (const ShardingProblem::Op &op : problem.ops)
      sizes.push_back(op.options.size());
    for (size_t o = 0; o < problem.ops.size(); ++o)
      addOp(o);
    for (const ShardingProblem::Value &value : problem.values)
      wanted.emplace_back(value.readers);
    addStocks();
    findOrder();
  }

  /// One run. `beam`: rows of a table at most; `bound`: what a choice may cost.
  /// Nullopt when no choice is left.
  std::optional<ShardingSolution> run(uint64_t beam, int64_t bound);

  bool isTooWide() const { return tooWide; }

private:
  const ShardingProblem &problem;
  ShardingUnits units;
  std::vector<size_t> sizes; // values of each variable; ops first
  std::vector<Table> initial;
  std::vector<uint32_t> order;
  bool tooWide = false;

  /// States wanted of each value by each reader's ops: one set per op.
  std::vector<std::vector<std::vector<uint32_t>>> wanted;

  unsigned bits(uint32_t variable) const {
    return std::max<unsigned>(1, std::bit_width(sizes[variable] - 1));
  }
  unsigned bits(const std::vector<uint32_t> &variables) const {
    unsigned total = 0;
    for (uint32_t variable : variables)
      total += bits(variable);
    return total;
  }

  void addOp(size_t op);
  void addStocks();
  void findOrder();
  std::vector<Stock> stocks(size_t value, size_t reader) const;

  class Selector;
  Table join(const Table &a, const Table &b, int64_t most, uint64_t limit,
             bool &cut) const;
};

/// The bits of `to` variables from a key over `from`, which has them all.
class Elimination::Selector {
public:
  Selector(const Elimination &in, const std::vector<uint32_t> &from,
           const std::vector<uint32_t> &to) {
    unsigned source = 0, target = 0;
    size_t next = 0;
    for (uint32_t variable : from) {
      unsigned width = in.bits(variable);
      if (next < to.size() && to[next] == variable) {
        // Neighbours in both move together.
        if (!moves.empty() &&
            moves.back().source + moves.back().width == source)
          moves.back().width += width;
        else
          moves.push_back({source, target, width});
        target += width;
        ++next;
      }
      source += width;
    }
  }
  Key operator()(Key key) const {
    Key result = 0;
    for (const Move &move : moves)
      result |= ((key >> move.source) & ones(move.width)) << move.target;
    return result;
  }

private:
  struct Move {
    unsigned source, target, width;
  };
  std::vector<Move> moves;
  static Key ones(unsigned width) {
    return width >= 128 ? ~Key(0) : (Key(1) << width) - 1;
  }
};

void Elimination::addOp(size_t op) {
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
  initial.push_back(std::move(table));
}

/// All that may be made of a value for a reader: of every way it can come out,
/// the sets of states that some options want and that cost less than the whole.
std::vector<Stock> Elimination::stocks(size_t value, size_t reader) const {
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

void Elimination::addStocks() {
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
      sizes.push_back(list.size());
      // What it comes out as, with the cost of conversions.
      auto [giver, result] = givers[v];
      Table given{{static_cast<uint32_t>(giver), variable}, {}};
      const auto &options = problem.ops[giver].options;
      for (size_t s = 0; s < list.size(); ++s)
        for (size_t i = 0; i < options.size(); ++i)
          if (options[i].gives[result] == list[s].given)
            given.rows.push_back({Key(i) | Key(s) << bits(given.variables[0]),
                                  {list[s].time, 0, 0}});
      initial.push_back(std::move(given));
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
                  {Key(i) | Key(s) << bits(there.variables[0]), {}});
        initial.push_back(std::move(there));
      }
    }
}

/// Always the variable whose elimination leaves the smallest table, as far as
/// sizes of variables tell.
void Elimination::findOrder() {
  size_t count = sizes.size();
  std::vector<std::set<uint32_t>> neighbours(count);
  for (const Table &table : initial)
    for (uint32_t a : table.variables)
      for (uint32_t b : table.variables)
        if (a != b)
          neighbours[a].insert(b);
  std::vector<bool> gone(count, false);
  auto score = [&](uint32_t variable) {
    double product = 1;
    for (uint32_t other : neighbours[variable])
      product *= static_cast<double>(sizes[other]);
    return product;
  };
  std::vector<double> scores(count);
  for (uint32_t v = 0; v < count; ++v)
    scores[v] = score(v);
  for (size_t step = 0; step < count; ++step) {
    uint32_t best = 0;
    double least = std::numeric_limits<double>::infinity();
    bool found = false;
    for (uint32_t v = 0; v < count; ++v)
      if (!gone[v] && (!found || scores[v] < least)) {
        least = scores[v];
        best = v;
        found = true;
      }
    gone[best] = true;
    order.push_back(best);
    std::vector<uint32_t> around(neighbours[best].begin(),
                                 neighbours[best].end());
    if (bits(around) + bits(best) > 128)
      tooWide = true;
    for (uint32_t a : around) {
      neighbours[a].erase(best);
      for (uint32_t b : around)
        if (a != b)
          neighbours[a].insert(b);
    }
    for (uint32_t a : around)
      scores[a] = score(a);
  }
}

static int64_t leastTime(const Table &table) {
  int64_t least = table.rows.empty() ? 0 : table.rows[0].cost.time;
  for (const Row &row : table.rows)
    least = std::min(least, row.cost.time);
  return least;
}

/// Rows that agree in the variables of both, costs added; none above `most`.
/// Stops beyond `limit` rows and sets `cut`.
Table Elimination::join(const Table &a, const Table &b, int64_t most,
                        uint64_t limit, bool &cut) const {
  Table result;
  std::set_union(a.variables.begin(), a.variables.end(), b.variables.begin(),
                 b.variables.end(), std::back_inserter(result.variables));
  std::vector<uint32_t> common;
  std::set_intersection(a.variables.begin(), a.variables.end(),
                        b.variables.begin(), b.variables.end(),
                        std::back_inserter(common));
  Selector fromA(*this, a.variables, common), fromB(*this, b.variables, common);
  // Where the bits of each go in the joint key.
  struct Move {
    unsigned source, target, width;
  };
  auto placement = [&](const Table &table) {
    std::vector<Move> moves;
    unsigned target = 0, source = 0;
    size_t next = 0;
    for (uint32_t variable : result.variables) {
      unsigned width = bits(variable);
      if (next < table.variables.size() && table.variables[next] == variable) {
        if (!moves.empty() &&
            moves.back().target + moves.back().width == target)
          moves.back().width += width;
        else
          moves.push_back({source, target, width});
        source += width;
        ++next;
      }
      target += width;
    }
    return moves;
  };
  auto place = [](Key key, const std::vector<Move> &moves) {
    Key placed = 0;
    for (const Move &move : moves) {
      Key mask = move.width >= 128 ? ~Key(0) : (Key(1) << move.width) - 1;
      placed |= ((key >> move.source) & mask) << move.target;
    }
    return placed;
  };
  std::vector<Move> movesA = placement(a), movesB = placement(b);
  // The rows of b by what is common, as lists through `next`.
  std::unordered_map<Key, uint32_t, KeyHash> heads;
  constexpr uint32_t kEnd = std::numeric_limits<uint32_t>::max();
  std::vector<uint32_t> next(b.rows.size(), kEnd);
  std::vector<Key> placed(b.rows.size());
  heads.reserve(b.rows.size());
  for (size_t i = b.rows.size(); i-- > 0;) {
    placed[i] = place(b.rows[i].key, movesB);
    auto [entry, isNew] =
        heads.try_emplace(fromB(b.rows[i].key), static_cast<uint32_t>(i));
    if (!isNew) {
      next[i] = entry->second;
      entry->second = static_cast<uint32_t>(i);
    }
  }
  for (const Row &row : a.rows) {
    auto head = heads.find(fromA(row.key));
    if (head == heads.end())
      continue;
    Key key = place(row.key, movesA);
    for (uint32_t i = head->second; i != kEnd; i = next[i]) {
      ShardingCost cost = row.cost;
      cost += b.rows[i].cost;
      if (cost.time > most)
        continue;
      if (result.rows.size() >= limit) {
        cut = true;
        return result;
      }
      result.rows.push_back({key | placed[i], cost});
    }
  }
  return result;
}

std::optional<ShardingSolution> Elimination::run(uint64_t beam, int64_t bound) {
  struct Step {
    uint32_t variable;
    std::vector<uint32_t> others;
    std::unordered_map<Key, uint32_t, KeyHash> best;
  };
  ShardingSolution solution;
  std::vector<Table> tables = initial;
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
    int64_t others = total - least[with[0]];
    for (size_t i = 1; i < with.size(); ++i) {
      others -= least[with[i]];
      bool cut = false;
      // With a beam the join itself is cut only far beyond it.
      joint = join(joint, tables[with[i]], bound - others,
                   beam < (uint64_t(1) << 40) ? beam * 64 : beam, cut);
      solution.largestTable =
          std::max<uint64_t>(solution.largestTable, joint.rows.size());
      solution.proven &= !cut;
      tables[with[i]] = Table();
    }
    tables[with[0]] = Table();
    Step step;
    step.variable = variable;
    for (uint32_t other : joint.variables)
      if (other != variable)
        step.others.push_back(other);
    Selector rest(*this, joint.variables, step.others);
    Selector own(*this, joint.variables, {variable});
    Table left{step.others, {}};
    std::unordered_map<Key, uint32_t, KeyHash> places;
    places.reserve(joint.rows.size());
    std::vector<uint32_t> choices;
    for (const Row &row : joint.rows) {
      Key key = rest(row.key);
      uint32_t choice = static_cast<uint32_t>(own(row.key));
      auto [place, isNew] =
          places.try_emplace(key, static_cast<uint32_t>(left.rows.size()));
      if (isNew) {
        left.rows.push_back({key, row.cost});
        choices.push_back(choice);
        continue;
      }
      Row &known = left.rows[place->second];
      uint32_t &chosen = choices[place->second];
      if (row.cost < known.cost ||
          (row.cost == known.cost && choice < chosen)) {
        known.cost = row.cost;
        chosen = choice;
      }
    }
    if (left.rows.empty())
      return std::nullopt;
    for (size_t i = 0; i < left.rows.size(); ++i)
      step.best.emplace(left.rows[i].key, choices[i]);
    if (left.rows.size() > beam) {
      solution.proven = false;
      std::nth_element(left.rows.begin(),
                       left.rows.begin() + static_cast<std::ptrdiff_t>(beam),
                       left.rows.end(), [](const Row &a, const Row &b) {
                         return a.cost != b.cost ? a.cost < b.cost
                                                 : a.key < b.key;
                       });
      left.rows.resize(beam);
    }
    steps.push_back(std::move(step));
    total = others + leastTime(left);
    least.push_back(leastTime(left));
    tables.push_back(std::move(left));
  }
  // Back: each variable as the later ones ask.
  std::vector<uint32_t> value(sizes.size(), 0);
  for (size_t i = steps.size(); i-- > 0;) {
    Key key = 0;
    unsigned offset = 0;
    for (uint32_t other : steps[i].others) {
      key |= Key(value[other]) << offset;
      offset += bits(other);
    }
    value[steps[i].variable] = steps[i].best.at(key);
  }
  for (size_t o = 0; o < problem.ops.size(); ++o)
    solution.chosen.push_back(value[o]);
  auto cost = problem.evaluate(solution.chosen);
  if (!cost)
    return std::nullopt;
  solution.cost = *cost;
  return solution;
}

} // namespace

std::optional<ShardingSolution> solveSharding(const ShardingProblem &problem,
                                              uint64_t maxRows) {
  constexpr int64_t kNoBound = ShardingUnits::kImpossible;
  Elimination elimination(problem);
  std::optional<ShardingSolution> best;
  uint64_t largest = 0;
  for (uint64_t beam = std::min<uint64_t>(64, maxRows);; beam *= 16) {
    beam = std::min(beam, maxRows);
    auto found = elimination.run(beam, best ? best->cost.time : kNoBound);
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
