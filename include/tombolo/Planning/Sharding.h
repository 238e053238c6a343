//===- Sharding.h - how the ops of blocks are split over chips ------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_SHARDING_H
#define TOMBOLO_PLANNING_SHARDING_H

#include "tombolo/Planning/Fault.h"

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tombolo::planning {

/// What the solver minimises, in this order. `time` is in units of
/// `ShardingProblem::unit()`, whole numbers so that sums are exact and equal
/// costs are equal.
struct ShardingCost {
  int64_t time = 0;   // seconds + price of memory
  int64_t memory = 0; // bytes kept
  int64_t splits = 0; // things that are split

  ShardingCost &operator+=(const ShardingCost &other) {
    time += other.time;
    memory += other.memory;
    splits += other.splits;
    return *this;
  }
  auto operator<=>(const ShardingCost &) const = default;
};

/// A choice of one option for each op, such that all operands can be had in the
/// states that the options want; the cheapest is sought.
///
/// States of a value are numbered; `kWhole` and `kPartial` are always the same,
/// the others are splits, whose meaning only the maker of the problem knows.
///
/// A value comes out of its op in one state. A reader (a function: forward or
/// one of the backward ones) that wants it in others converts it, each
/// conversion once for all ops of the reader: directly, or to the whole, of
/// which all splits are free local slices, whichever is cheaper.
struct ShardingProblem {
  static constexpr uint8_t kWhole = 0, kPartial = 1, kFirstSplit = 2;
  /// States of a value at most, and options of an op.
  static constexpr size_t kMaxStates = 32, kMaxOptions = 200;

  struct Value {
    std::string name;
    uint8_t states = kFirstSplit;
    /// Seconds from state i to state j at [i * states + j]; infinite where
    /// there is no way. From whole to a split: not read.
    std::vector<double> conversions;
    /// Bytes kept when it comes out in a state; empty: none.
    std::vector<double> bytes;
    /// Functions that read it, each with its own conversions.
    size_t readers = 1;
  };
  struct Use {
    size_t value = 0;
    size_t reader = 0;
    /// Wants it as it came out (a value that is kept for another function);
    /// of partial sums also what they are converted to.
    bool asGiven = false;
  };
  /// One way to compute an op.
  struct Option {
    double seconds = 0; // with the op's own collectives
    double bytes = 0;   // kept
    uint32_t splits = 0;
    std::vector<uint8_t> wants; // state of each operand
    std::vector<uint8_t> gives; // state of each result
  };
  /// Also what is no computation: the choice of a parameter's state is an op
  /// that gives the parameter and wants its gradient.
  struct Op {
    std::string name;
    std::vector<Use> operands;
    std::vector<size_t> results;
    std::vector<Option> options;
  };

  std::vector<Value> values;
  std::vector<Op> ops;
  double secondsPerByte = 0; // price of memory

  /// Every value has one op that gives it; figures are numbers and not
  /// negative.
  Faults check() const;

  /// Seconds of one unit of `ShardingCost::time`: 2^-50 of all there is.
  double unit() const;

  /// The cost of a choice; nullopt when some conversion does not exist.
  std::optional<ShardingCost> evaluate(const std::vector<size_t> &chosen) const;
};

struct ShardingSolution {
  std::vector<size_t> chosen; // option of each op
  ShardingCost cost;
  /// False when the tables outgrew `maxRows` and this is only the best found.
  bool proven = true;
  uint64_t largestTable = 0; // rows
};

inline constexpr uint64_t kMostShardingRows = uint64_t(1) << 22;

/// The choice of least cost; nullopt when there is none at all. Exact, by
/// elimination of one variable after the other, as long as no table has more
/// than `maxRows` rows. Deterministic. The problem must have passed `check`.
/// `guess`: null, or a choice that is thought to be good, which bounds the
/// search from the start.
std::optional<ShardingSolution>
solveSharding(const ShardingProblem &problem,
              uint64_t maxRows = kMostShardingRows,
              const std::vector<size_t> *guess = nullptr);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_SHARDING_H
