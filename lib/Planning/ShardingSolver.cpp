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

namespace tombolo::planning {

namespace {

__extension__ typedef unsigned __int128 Key;

/// Numbers by key; open addressing, since there are millions and none is ever
/// removed.
class KeyMap {
public:
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

  explicit KeyMap(size_t expected) {
    slots.resize(std::bit_ceil(std::max<size_t>(16, 2 * expected)));
  }
  /// The number of a key, to be set where it is `kNone`.
  uint32_t &operator[](Key key) {
    if (2 * used >= slots.size())
      grow();
    Slot &slot = find(key);
    if (slot.number == kNone) {
      slot.key = key;
      ++used;
    }
    return slot.number;
  }
  uint32_t at(Key key) { return find(key).number; }

private:
  struct Slot {
    Key key = 0;
    uint32_t number = kNone;
  };
  std::vector<Slot> slots;
  size_t used = 0;

  static size_t hash(Key key) {
    uint64_t low = static_cast<uint64_t>(key);
    uint64_t high = static_cast<uint64_t>(key >> 64);
    uint64_t mixed = (low ^ (high * 0x9e3779b97f4a7c15u)) * 0xff51afd7ed558ccdu;
    return mixed ^ (mixed >> 32);
  }
  Slot &find(Key key) {
    size_t mask = slots.size() - 1;
    size_t at = hash(key) & mask;
    while (slots[at].number != kNone && slots[at].key != key)
      at = (at + 1) & mask;
    return slots[at];
  }
  void grow() {
    std::vector<Slot> old(2 * slots.size());
    old.swap(slots);
    for (const Slot &slot : old)
      if (slot.number != kNone)
        find(slot.key) = slot;
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

  /// One run. `beam`: rows of a table at most, the cheapest and those of the
  /// choice `known`; `bound`: what a choice may cost. Nullopt when no choice is
  /// left.
  std::optional<ShardingSolution> run(uint64_t beam, int64_t bound,
                                      const std::vector<uint32_t> *known);

  /// Where nothing is split, if that is allowed.
  std::optional<ShardingSolution> wholeChoice() const;

  /// A choice as values of all variables.
  std::vector<uint32_t> valuesOf(const std::vector<size_t> &chosen) const;

  bool isTooWide() const { return tooWide; }

private:
  const ShardingProblem &problem;
  ShardingUnits units;
  std::vector<size_t> sizes; // values of each variable; ops first
  std::vector<Table> initial;
  std::vector<uint32_t> order;
  bool tooWide = false;

  /// What the variables after the ops stand for.
  struct Stocked {
    size_t value, reader;
    std::vector<Stock> list;
  };
  std::vector<Stocked> stocked;

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
  static std::vector<uint32_t> allOf(const Table &a, const Table &b);
  template <typename Visit>
  void join(const Table &a, const Table &b,
            const std::vector<uint32_t> &variables, int64_t most,
            Visit visit) const;
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
                  {Key(i) | Key(s) << bits(there.variables[0]), {}});
        initial.push_back(std::move(there));
      }
    }
}

std::optional<ShardingSolution> Elimination::wholeChoice() const {
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

std::vector<uint32_t>
Elimination::valuesOf(const std::vector<size_t> &chosen) const {
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
          (states & ~stock.list[s].states) == 0 &&
          stock.list[s].time < least) {
        least = stock.list[s].time;
        best = static_cast<uint32_t>(s);
      }
    values.push_back(best);
  }
  return values;
}

/// Greedy, by two rules: the variable whose elimination leaves the smallest
/// table, or the one that joins the fewest choices of variables not joined yet.
/// The order with less work is taken, as far as sizes of variables tell.
void Elimination::findOrder() {
  size_t count = sizes.size();
  std::vector<std::set<uint32_t>> start(count);
  for (const Table &table : initial)
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
      wide |= bits(around) + bits(best) > 128;
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
    if (total < least) {
      least = total;
      order = std::move(found);
      tooWide = wide;
    }
  }
}

/// Rows kept in the runs that look for a good choice.
static constexpr uint64_t kNoBeam = uint64_t(1) << 20;
static constexpr uint64_t kFirstBeam = 256, kLastBeam = 4096, kWider = 8;

static int64_t leastTime(const Table &table) {
  int64_t least = table.rows.empty() ? 0 : table.rows[0].cost.time;
  for (const Row &row : table.rows)
    least = std::min(least, row.cost.time);
  return least;
}

std::vector<uint32_t> Elimination::allOf(const Table &a, const Table &b) {
  std::vector<uint32_t> all;
  std::set_union(a.variables.begin(), a.variables.end(), b.variables.begin(),
                 b.variables.end(), std::back_inserter(all));
  return all;
}

/// Calls `visit(key, cost)` for rows that agree in the variables of both, costs
/// added; none above `most`. Stops when it returns false.
template <typename Visit>
void Elimination::join(const Table &a, const Table &b,
                       const std::vector<uint32_t> &variables, int64_t most,
                       Visit visit) const {
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
    for (uint32_t variable : variables) {
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
  KeyMap heads(b.rows.size());
  std::vector<uint32_t> next(b.rows.size(), KeyMap::kNone);
  std::vector<Key> placed(b.rows.size());
  for (size_t i = b.rows.size(); i-- > 0;) {
    placed[i] = place(b.rows[i].key, movesB);
    uint32_t &head = heads[fromB(b.rows[i].key)];
    next[i] = head;
    head = static_cast<uint32_t>(i);
  }
  for (const Row &row : a.rows) {
    uint32_t head = heads.at(fromA(row.key));
    if (head == KeyMap::kNone)
      continue;
    Key key = place(row.key, movesA);
    for (uint32_t i = head; i != KeyMap::kNone; i = next[i]) {
      ShardingCost cost = row.cost;
      cost += b.rows[i].cost;
      if (cost.time <= most && !visit(key | placed[i], cost))
        return;
    }
  }
}

std::optional<ShardingSolution>
Elimination::run(uint64_t beam, int64_t bound,
                 const std::vector<uint32_t> *known) {
  struct Step {
    uint32_t variable;
    std::vector<uint32_t> others;
    KeyMap best{0}; // by the others' values
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
    tables[with[0]] = Table();
    int64_t others = total - least[with[0]];
    // With a beam a join is cut only far beyond it.
    uint64_t limit = beam < kNoBeam ? beam * 64 : beam;
    for (size_t i = 1; i + 1 < with.size(); ++i) {
      others -= least[with[i]];
      Table longer{allOf(joint, tables[with[i]]), {}};
      join(joint, tables[with[i]], longer.variables, bound - others,
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
    std::vector<uint32_t> variables = joint.variables;
    if (with.size() > 1) {
      others -= least[with.back()];
      last = std::move(tables[with.back()]);
      tables[with.back()] = Table();
      variables = allOf(joint, last);
    }
    Step step;
    step.variable = variable;
    for (uint32_t other : variables)
      if (other != variable)
        step.others.push_back(other);
    Selector rest(*this, variables, step.others);
    Selector own(*this, variables, {variable});
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
      join(joint, last, variables, bound - others, keep);
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
      Key kept = 0;
      std::optional<Row> keptRow;
      if (known) {
        unsigned offset = 0;
        for (uint32_t other : step.others) {
          kept |= Key((*known)[other]) << offset;
          offset += bits(other);
        }
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
  std::optional<ShardingSolution> best = elimination.wholeChoice();
  if (elimination.isTooWide())
    return best;
  uint64_t largest = 0;
  for (uint64_t beam = std::min(kFirstBeam, maxRows);; beam *= kWider) {
    // Only the last run may do without a limit.
    beam = beam > kLastBeam ? maxRows : std::min(beam, maxRows);
    std::vector<uint32_t> known;
    if (best)
      known = elimination.valuesOf(best->chosen);
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
