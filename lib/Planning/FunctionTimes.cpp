//===- FunctionTimes.cpp - measured seconds of blocks' functions ----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/FunctionTimes.h"
#include "Infinity.h"
#include "MeasuredScale.h"
#include "tombolo/Planning/CostModel.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <numeric>
#include <tuple>

namespace tombolo::planning {

/// Beyond these a figure is a fault of whoever measured.
static constexpr uint64_t kMaxSize = uint64_t(1) << 32;
static constexpr double kMaxSeconds = 1e6;
/// How much less than a smaller microbatch a larger one may be seen to take:
/// small kernels are told apart no better.
static constexpr double kNoise = 0.1;

const char *name(BlockFunction function) {
  switch (function) {
  case BlockFunction::Forward:
    return "forward";
  case BlockFunction::BackwardInput:
    return "backward_input";
  case BlockFunction::BackwardWeight:
    return "backward_weight";
  }
  return "";
}

std::optional<BlockFunction> parseBlockFunction(const std::string &text) {
  for (BlockFunction function :
       {BlockFunction::Forward, BlockFunction::BackwardInput,
        BlockFunction::BackwardWeight})
    if (text == name(function))
      return function;
  return std::nullopt;
}

double FunctionTime::seconds() const {
  return std::accumulate(partSeconds.begin(), partSeconds.end(), 0.0);
}

static std::string text(const FunctionCall &call) {
  return std::string(name(call.function)) + " of block '" + call.block +
         "' at microbatch " + std::to_string(call.microbatch) +
         " and tensor_parallel " + std::to_string(call.tensorParallel);
}

static auto without(const FunctionCall &call) {
  return std::tie(call.model, call.precision, call.block, call.function,
                  call.tensorParallel);
}

static bool isPossible(double seconds) {
  return seconds > 0 && seconds <= kMaxSeconds;
}

static std::string microseconds(double seconds) {
  char buffer[40];
  std::snprintf(buffer, sizeof(buffer), "%g us", seconds * 1e6);
  return buffer;
}

Faults checkFunctionTimes(const std::vector<FunctionTime> &rows,
                          const PathOf &pathOf) {
  Faults faults;
  std::vector<size_t> order;
  for (size_t r = 0; r < rows.size(); ++r) {
    const FunctionCall &call = rows[r].call;
    for (auto [what, value] : {std::pair("microbatch", call.microbatch),
                               {"tensor_parallel", call.tensorParallel}})
      if (value == 0 || value > kMaxSize)
        faults.push_back({in(pathOf(r), what),
                          std::string("'") + what + "' must be from 1 to " +
                              std::to_string(kMaxSize) + ", got " +
                              std::to_string(value)});
    if (rows[r].partSeconds.empty())
      faults.push_back(
          {pathOf(r), text(call) + ": expected one part at least"});
    for (size_t p = 0; p < rows[r].partSeconds.size(); ++p)
      if (!isPossible(rows[r].partSeconds[p]))
        faults.push_back({at(in(pathOf(r), "parts"), p),
                          text(call) +
                              ": expected a time above 0 us and at most 1e12 "
                              "us, got " +
                              microseconds(rows[r].partSeconds[p])});
    order.push_back(r);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::tuple_cat(without(rows[a].call),
                          std::tie(rows[a].call.microbatch)) <
           std::tuple_cat(without(rows[b].call),
                          std::tie(rows[b].call.microbatch));
  });
  for (size_t i = 1; i < order.size() && faults.empty(); ++i) {
    const FunctionTime &small = rows[order[i - 1]], &large = rows[order[i]];
    if (without(small.call) != without(large.call))
      continue;
    if (small.call.microbatch == large.call.microbatch)
      faults.push_back(
          {pathOf(order[i]), text(large.call) + " was given before"});
    else if (large.seconds() < (1 - kNoise) * small.seconds())
      faults.push_back(
          {pathOf(order[i]),
           "times must grow with the microbatch: " + text(large.call) +
               " takes " + microseconds(large.seconds()) + ", at microbatch " +
               std::to_string(small.call.microbatch) + " it takes " +
               microseconds(small.seconds())});
  }
  return faults;
}

Faults checkUpdateTimes(const std::vector<UpdateTime> &rows,
                        const PathOf &pathOf) {
  Faults faults;
  for (size_t r = 0; r < rows.size(); ++r)
    if (rows[r].parameters == 0 || !isPossible(rows[r].seconds))
      faults.push_back(
          {pathOf(r), "an update needs parameters and a time above "
                      "0 us, got " +
                          std::to_string(rows[r].parameters) +
                          " parameters and " + microseconds(rows[r].seconds)});
  return faults;
}

bool measures(const Chip &chip, const std::string &modelHash,
              Precision precision) {
  return std::any_of(chip.functionTimes.begin(), chip.functionTimes.end(),
                     [&](const FunctionTime &row) {
                       return row.call.model == modelHash &&
                              row.call.precision == precision;
                     });
}

std::optional<std::vector<double>> measuredParts(const Chip &chip,
                                                 const FunctionCall &call) {
  const FunctionTime *nearest = nullptr;
  double least = kInfinity;
  for (const FunctionTime &row : chip.functionTimes) {
    double distance =
        std::abs(std::log2(static_cast<double>(row.call.microbatch) /
                           static_cast<double>(call.microbatch)));
    if (without(row.call) == without(call) && distance < least) {
      nearest = &row;
      least = distance;
    }
  }
  if (!nearest)
    return std::nullopt;
  std::vector<double> parts = nearest->partSeconds;
  for (double &part : parts)
    part /= nearest->seconds();
  return parts;
}

std::optional<double> measuredUpdate(const Chip &chip, uint64_t stateBytes,
                                     double parameters) {
  const UpdateTime *nearest = nullptr;
  double least = kInfinity;
  for (const UpdateTime &row : chip.updateTimes) {
    double distance =
        std::abs(std::log2(static_cast<double>(row.parameters) / parameters));
    if (row.stateBytes == stateBytes && distance < least) {
      nearest = &row;
      least = distance;
    }
  }
  if (!nearest)
    return std::nullopt;
  return nearest->seconds * parameters /
         static_cast<double>(nearest->parameters);
}

/// What a chip's rows say of one kind of block.
static std::vector<MeasuredTime> cellsOf(const Problem &problem,
                                         const BlockKind &kind,
                                         const Chip &chip,
                                         const std::string &modelHash) {
  using Functions = std::array<double, kBlockFunctions>;
  std::map<std::pair<uint64_t, uint64_t>, Functions> seen; // degree, microbatch
  for (const FunctionTime &row : chip.functionTimes)
    if (row.call.model == modelHash && row.call.block == kind.name &&
        row.call.precision == problem.precision())
      seen[{row.call.tensorParallel, row.call.microbatch}]
          [static_cast<size_t>(row.call.function)] = row.seconds();
  std::vector<MeasuredTime> cells;
  for (const auto &[at, functions] : seen) {
    MeasuredTime &cell = cells.emplace_back();
    cell.tensorParallel = at.first;
    cell.microbatch = at.second;
    cell.withExchanges = false;
    auto [forward, input, weight] = functions;
    const BlockKind *figures = kind.on(at.first);
    double trainable =
        static_cast<double>(figures ? figures->trainableCount : 0);
    cell.seconds = {
        forward, input + weight,
        trainable > 0
            ? measuredUpdate(chip,
                             problem.training.optimizerStateBytesPerParameter,
                             trainable)
                  .value_or(0)
            : 0};
    if (input + weight > 0)
      cell.weightPart = weight / (input + weight);
  }
  return cells;
}

void applyFunctionTimes(Problem &problem, const std::string &modelHash) {
  std::vector<const Chip *> chips;
  for (const Chip &chip : problem.topology.chips) {
    if (!measures(chip, modelHash, problem.precision()))
      continue;
    chips.push_back(&chip);
    for (BlockKind &kind : problem.model.kinds)
      kind.measured.push_back(
          {chip.name, cellsOf(problem, kind, chip, modelHash)});
  }
  for (const Chip *chip : chips)
    applyScale(problem, *chip);
}

} // namespace tombolo::planning
