//===- CostTable.h - costs of choices of some variables -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_PLANNING_SHARDING_COSTTABLE_H
#define TOMBOLO_LIB_PLANNING_SHARDING_COSTTABLE_H

#include "tombolo/Planning/Sharding.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace tombolo::planning {

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

/// How many bits of a key each variable takes.
class Widths {
public:
  /// A variable of so many values comes next.
  void add(size_t values) {
    bits.push_back(std::max<unsigned>(1, std::bit_width(values - 1)));
  }
  unsigned of(uint32_t variable) const { return bits[variable]; }
  unsigned of(const std::vector<uint32_t> &variables) const {
    unsigned total = 0;
    for (uint32_t variable : variables)
      total += bits[variable];
    return total;
  }
  /// The key of the variables' values in a choice of all.
  Key key(const std::vector<uint32_t> &variables,
          const std::vector<uint32_t> &values) const {
    Key key = 0;
    unsigned offset = 0;
    for (uint32_t variable : variables) {
      key |= Key(values[variable]) << offset;
      offset += bits[variable];
    }
    return key;
  }

private:
  std::vector<unsigned> bits;
};

/// Takes a key over the variables `from` to one over `to`: the bits of those in
/// both lists, which ascend; of others there are zeros.
class Selector {
public:
  Selector(const Widths &widths, const std::vector<uint32_t> &from,
           const std::vector<uint32_t> &to) {
    unsigned source = 0, target = 0;
    size_t next = 0;
    for (uint32_t variable : from) {
      for (; next < to.size() && to[next] < variable; ++next)
        target += widths.of(to[next]);
      unsigned width = widths.of(variable);
      if (next < to.size() && to[next] == variable) {
        // Neighbours in both move together.
        if (!moves.empty() &&
            moves.back().source + moves.back().width == source &&
            moves.back().target + moves.back().width == target)
          moves.back().width += width;
        else
          moves.push_back({source, target, width});
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

inline int64_t leastTime(const Table &table) {
  int64_t least = table.rows.empty() ? 0 : table.rows[0].cost.time;
  for (const Row &row : table.rows)
    least = std::min(least, row.cost.time);
  return least;
}

/// The variables of both.
inline std::vector<uint32_t> allOf(const Table &a, const Table &b) {
  std::vector<uint32_t> all;
  std::set_union(a.variables.begin(), a.variables.end(), b.variables.begin(),
                 b.variables.end(), std::back_inserter(all));
  return all;
}

/// Calls `visit(key, cost)` for rows that agree in the variables of both, costs
/// added; none above `most`. Stops when it returns false.
template <typename Visit>
void join(const Widths &widths, const Table &a, const Table &b,
          const std::vector<uint32_t> &variables, int64_t most, Visit visit) {
  std::vector<uint32_t> common;
  std::set_intersection(a.variables.begin(), a.variables.end(),
                        b.variables.begin(), b.variables.end(),
                        std::back_inserter(common));
  Selector fromA(widths, a.variables, common),
      fromB(widths, b.variables, common);
  Selector placeA(widths, a.variables, variables),
      placeB(widths, b.variables, variables);
  // The rows of b by what is common, as lists through `next`.
  KeyMap heads(b.rows.size());
  std::vector<uint32_t> next(b.rows.size(), KeyMap::kNone);
  std::vector<Key> placed(b.rows.size());
  for (size_t i = b.rows.size(); i-- > 0;) {
    placed[i] = placeB(b.rows[i].key);
    uint32_t &head = heads[fromB(b.rows[i].key)];
    next[i] = head;
    head = static_cast<uint32_t>(i);
  }
  for (const Row &row : a.rows) {
    uint32_t head = heads.at(fromA(row.key));
    if (head == KeyMap::kNone)
      continue;
    Key key = placeA(row.key);
    for (uint32_t i = head; i != KeyMap::kNone; i = next[i]) {
      ShardingCost cost = row.cost;
      cost += b.rows[i].cost;
      if (cost.time <= most && !visit(key | placed[i], cost))
        return;
    }
  }
}

} // namespace tombolo::planning

#endif // TOMBOLO_LIB_PLANNING_SHARDING_COSTTABLE_H
