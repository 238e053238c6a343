//===- Solver.cpp - what finds strategies, by name ------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Solver.h"

#include <map>

namespace tombolo::planning {

static std::map<std::string, Solver> &solvers() {
  static std::map<std::string, Solver> all = {
      {kDefaultSolver,
       [](const Problem &problem, const StrategyPins &pins,
          const SearchHooks &hooks) { return search(problem, pins, hooks); }}};
  return all;
}

void registerSolver(const std::string &name, Solver solver) {
  solvers()[name] = std::move(solver);
}

std::vector<std::string> solverNames() {
  std::vector<std::string> names;
  for (const auto &[name, solver] : solvers())
    names.push_back(name);
  return names;
}

SearchResult solve(const std::string &name, const Problem &problem,
                   const StrategyPins &pins, const SearchHooks &hooks) {
  auto found = solvers().find(name);
  if (found == solvers().end()) {
    std::string all;
    for (const std::string &one : solverNames())
      all += (all.empty() ? "" : ", ") + one;
    SearchResult none;
    none.faults.push_back(
        {"", "there is no solver '" + name + "'; there are: " + all});
    return none;
  }
  SearchResult result = found->second(problem, pins, hooks);
  if (name == kDefaultSolver) // verifies each itself
    return result;
  for (size_t i = 0; result.faults.empty() && i < result.strategies.size();
       ++i) {
    const Strategy &strategy = result.strategies[i].strategy;
    Faults faults = problem.verify(strategy);
    Faults unsupported = supportedBySlice(strategy);
    faults.insert(faults.end(), unsupported.begin(), unsupported.end());
    for (Fault &fault : faults)
      result.faults.push_back(
          {"", "solver '" + name + "' gave a strategy that does not hold: " +
                   fault.path + ": " + fault.message});
  }
  if (!result.faults.empty())
    result.strategies.clear();
  return result;
}

} // namespace tombolo::planning
