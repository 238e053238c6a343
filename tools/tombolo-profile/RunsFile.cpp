//===- RunsFile.cpp - reading a table of measured iterations --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Fitting.h"

#include <charconv>
#include <cmath>
#include <fstream>
#include <ostream>
#include <set>

namespace tombolo {

static std::vector<std::string> cells(std::string line) {
  if (!line.empty() && line.back() == '\r')
    line.pop_back();
  std::vector<std::string> result(1);
  for (char c : line)
    if (c == ',')
      result.emplace_back();
    else
      result.back() += c;
  return result;
}

std::optional<std::vector<RunLine>> readRuns(const std::string &path,
                                             std::ostream &errors) {
  std::ifstream file(path);
  if (!file) {
    errors << path << ": error: cannot be opened\n";
    return std::nullopt;
  }
  unsigned number = 1;
  auto fault = [&](const std::string &message) {
    errors << path << ":" << number << ": error: " << message << "\n";
    return std::nullopt;
  };
  const std::set<std::string> needed = {
      "model",           "global_batch",      "microbatch", "data_parallel",
      "tensor_parallel", "pipeline_parallel", "seconds"};
  const std::set<std::string> known = {"pool", "recompute", "shape", "sharding",
                                       "use"};
  std::string line;
  std::getline(file, line);
  std::vector<std::string> header = cells(line);
  std::set<std::string> seen;
  for (const std::string &name : header) {
    if (!needed.count(name) && !known.count(name))
      return fault("unknown column '" + name + "'");
    if (!seen.insert(name).second)
      return fault("column '" + name + "' twice");
  }
  for (const std::string &name : needed)
    if (!seen.count(name))
      return fault("expected a column '" + name + "'");

  std::vector<RunLine> lines;
  while (std::getline(file, line)) {
    ++number;
    if (line.empty() || line == "\r")
      continue;
    std::vector<std::string> values = cells(line);
    if (values.size() != header.size())
      return fault("expected " + std::to_string(header.size()) +
                   " columns, got " + std::to_string(values.size()));
    RunLine run;
    run.line = number;
    for (size_t i = 0; i < header.size(); ++i) {
      const std::string &name = header[i], &value = values[i];
      const char *end = value.data() + value.size();
      auto count = [&](uint64_t &to) {
        auto [rest, error] = std::from_chars(value.data(), end, to);
        return error == std::errc() && rest == end && to > 0 && to < (1u << 24);
      };
      bool good = true;
      if (name == "model")
        run.model = value, good = !value.empty();
      else if (name == "pool")
        run.pool = value;
      else if (name == "sharding")
        run.sharding = value;
      else if (name == "shape")
        run.shape = value;
      else if (name == "global_batch")
        good = count(run.globalBatch);
      else if (name == "microbatch")
        good = count(run.microbatch);
      else if (name == "data_parallel")
        good = count(run.dataParallel);
      else if (name == "tensor_parallel")
        good = count(run.tensorParallel);
      else if (name == "pipeline_parallel")
        good = count(run.pipelineParallel);
      else if (name == "recompute")
        run.recompute = value == "full",
        good = value == "full" || value == "none";
      else if (name == "use")
        run.use = value,
        good = value.empty() || value == "fit" || value == "test";
      else if (name == "seconds") {
        auto [rest, error] = std::from_chars(value.data(), end, run.seconds);
        good = error == std::errc() && rest == end && run.seconds > 0 &&
               std::isfinite(run.seconds);
      }
      if (!good)
        return fault("bad '" + name + "': '" + value + "'");
    }
    if (run.shape.empty())
      run.shape = run.model;
    lines.push_back(std::move(run));
  }
  if (lines.empty())
    return fault("the table has no runs");
  return lines;
}

} // namespace tombolo
