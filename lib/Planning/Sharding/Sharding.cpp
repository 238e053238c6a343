//===- Sharding.cpp - what a choice of shardings costs --------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "ShardingUnits.h"

#include <algorithm>
#include <cmath>

namespace tombolo::planning {

double ShardingProblem::unit() const {
  // No choice costs more than this.
  double most = 0;
  for (const Value &value : values) {
    double dearest = 0, largest = 0;
    for (double seconds : value.conversions)
      if (std::isfinite(seconds))
        dearest = std::max(dearest, seconds);
    for (double bytes : value.bytes)
      largest = std::max(largest, bytes);
    most += dearest * static_cast<double>(value.readers * value.states) +
            secondsPerByte * largest;
  }
  for (const Op &op : ops) {
    double dearest = 0;
    for (const Option &option : op.options)
      dearest =
          std::max(dearest, option.seconds + secondsPerByte * option.bytes);
    most += dearest;
  }
  return most > 0 ? std::ldexp(most, -50) : 1;
}

ShardingUnits::ShardingUnits(const ShardingProblem &problem)
    : problem(problem), unit(problem.unit()) {
  double most = 0;
  for (const ShardingProblem::Value &value : problem.values)
    for (double bytes : value.bytes)
      most += bytes;
  for (const ShardingProblem::Op &op : problem.ops)
    for (const ShardingProblem::Option &option : op.options)
      most += option.bytes;
  // Bytes are whole numbers unless there are absurdly many.
  byteUnit = std::max(1.0, std::ldexp(most, -60));
}

int64_t ShardingUnits::time(double seconds) const {
  return std::isfinite(seconds) ? std::llround(seconds / unit) : kImpossible;
}

ShardingCost ShardingUnits::keep(double bytes) const {
  return {time(bytes * problem.secondsPerByte), std::llround(bytes / byteUnit),
          0};
}

ShardingCost ShardingUnits::option(size_t op, size_t number) const {
  const ShardingProblem::Op &of = problem.ops[op];
  const ShardingProblem::Option &option = of.options[number];
  ShardingCost cost = keep(option.bytes);
  cost.time += time(option.seconds);
  cost.splits = option.splits;
  for (size_t r = 0; r < of.results.size(); ++r) {
    const ShardingProblem::Value &value = problem.values[of.results[r]];
    if (!value.bytes.empty())
      cost += keep(value.bytes[option.gives[r]]);
  }
  return cost;
}

int64_t ShardingUnits::conversion(size_t value, uint8_t from,
                                  uint8_t to) const {
  const ShardingProblem::Value &of = problem.values[value];
  if (from == to ||
      (from == ShardingProblem::kWhole && to >= ShardingProblem::kFirstSplit))
    return 0;
  return time(of.conversions[size_t(from) * of.states + to]);
}

int64_t ShardingUnits::conversions(size_t value, uint8_t from,
                                   uint32_t wanted) const {
  wanted &= ~(uint32_t(1) << from);
  if (wanted == 0)
    return 0;
  int64_t direct = 0;
  for (uint8_t to = 0; to < problem.values[value].states; ++to)
    if (wanted >> to & 1)
      direct = std::min(kImpossible, direct + conversion(value, from, to));
  // There is no way to partial sums.
  if (wanted >> ShardingProblem::kPartial & 1)
    return direct;
  return std::min(direct, conversion(value, from, ShardingProblem::kWhole));
}

std::optional<ShardingCost>
ShardingProblem::evaluate(const std::vector<size_t> &chosen) const {
  ShardingUnits units(*this);
  // The state each value comes out in, and those each reader wants.
  std::vector<uint8_t> given(values.size(), kWhole);
  std::vector<std::vector<uint32_t>> wanted(values.size());
  for (size_t v = 0; v < values.size(); ++v)
    wanted[v].assign(values[v].readers, 0);
  ShardingCost cost;
  for (size_t o = 0; o < ops.size(); ++o) {
    const Option &option = ops[o].options[chosen[o]];
    cost += units.option(o, chosen[o]);
    for (size_t i = 0; i < ops[o].operands.size(); ++i)
      wanted[ops[o].operands[i].value][ops[o].operands[i].reader] |=
          uint32_t(1) << option.wants[i];
    for (size_t r = 0; r < ops[o].results.size(); ++r)
      given[ops[o].results[r]] = option.gives[r];
  }
  for (size_t o = 0; o < ops.size(); ++o)
    for (size_t i = 0; i < ops[o].operands.size(); ++i) {
      uint8_t state = given[ops[o].operands[i].value];
      if (ops[o].operands[i].asGiven && state != kPartial &&
          state != ops[o].options[chosen[o]].wants[i])
        return std::nullopt;
    }
  for (size_t v = 0; v < values.size(); ++v)
    for (uint32_t states : wanted[v]) {
      int64_t time = units.conversions(v, given[v], states);
      if (time >= ShardingUnits::kImpossible)
        return std::nullopt;
      cost.time += time;
    }
  return cost;
}

Faults ShardingProblem::check() const {
  Faults faults;
  auto fault = [&](const std::string &path, std::string message) {
    faults.push_back({path, std::move(message)});
  };
  auto isFigure = [](double figure) { return figure >= 0 && figure < 1e24; };
  if (!isFigure(secondsPerByte))
    fault("seconds_per_byte", "expected a price that is not negative");
  std::vector<size_t> givers(values.size(), 0);
  for (size_t v = 0; v < values.size(); ++v) {
    const Value &value = values[v];
    std::string path = at("values", v);
    size_t states = value.states;
    if (states < kFirstSplit || states > kMaxStates)
      fault(path, "expected 2 to " + std::to_string(kMaxStates) +
                      " states, got " + std::to_string(states));
    if (value.conversions.size() != states * states)
      fault(path, "expected a conversion for each pair of states");
    for (double seconds : value.conversions)
      if (!(seconds >= 0)) // infinite: there is no way
        fault(path, "a conversion has a cost that is negative");
    if (!value.bytes.empty() && value.bytes.size() != states)
      fault(path, "expected bytes for each state");
    for (double bytes : value.bytes)
      if (!isFigure(bytes))
        fault(path, "bytes are negative or absurdly many");
    if (value.readers > 1024)
      fault(path, "absurdly many readers");
  }
  if (!faults.empty())
    return faults;
  for (size_t o = 0; o < ops.size(); ++o) {
    const Op &op = ops[o];
    std::string path = at("ops", o);
    if (op.options.empty() || op.options.size() > kMaxOptions)
      fault(path, "expected 1 to " + std::to_string(kMaxOptions) +
                      " options, got " + std::to_string(op.options.size()));
    bool fine = true;
    for (const Use &use : op.operands)
      fine &=
          use.value < values.size() && use.reader < values[use.value].readers;
    for (size_t result : op.results) {
      fine &= result < values.size();
      if (result < values.size())
        ++givers[result];
    }
    if (!fine) {
      fault(path, "refers to a value or reader that does not exist");
      continue;
    }
    for (const Option &option : op.options) {
      bool states = option.wants.size() == op.operands.size() &&
                    option.gives.size() == op.results.size();
      for (size_t i = 0; states && i < op.operands.size(); ++i)
        states &= option.wants[i] < values[op.operands[i].value].states;
      for (size_t r = 0; states && r < op.results.size(); ++r)
        states &= option.gives[r] < values[op.results[r]].states;
      if (!states)
        fault(path, "an option needs a state for each operand and result");
      if (!isFigure(option.seconds) || !isFigure(option.bytes))
        fault(path, "an option has a cost that is negative or absurdly large");
    }
  }
  for (size_t v = 0; v < values.size(); ++v)
    if (givers[v] != 1)
      fault(at("values", v), "expected one op that gives the value, found " +
                                 std::to_string(givers[v]));
  return faults;
}

} // namespace tombolo::planning
