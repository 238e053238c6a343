//===- SavedProblem.cpp - planning without a model ------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "SavedProblem.h"

#include "tombolo/Import/Problem.h"
#include "tombolo/Import/Strategy.h"
#include "tombolo/Planning/Explain.h"
#include "tombolo/Support/Interrupt.h"
#include "tombolo/Target/PlanSummary.h"

using namespace tombolo;

int tombolo::planSavedProblem(const PlanOptions &options) {
  std::optional<ProblemFile> saved =
      readProblemFile(options.problem, llvm::errs());
  if (!saved)
    return 1;
  planning::Problem &problem = saved->problem;
  planning::StrategyPins pins;
  std::optional<StrategyFile> strategy;
  if (!options.search.strategy.empty()) {
    strategy = readStrategyFile(options.search.strategy, llvm::errs());
    if (!strategy)
      return 1;
    pins = strategy->pins;
  }
  const YamlFile &places = strategy ? strategy->file : saved->file;
  bool explains = options.search.explain;
  if (explains)
    problem.bounds.candidates = std::max<uint64_t>(problem.bounds.candidates,
                                                   1 + planning::kAlternatives);

  endWorkOnInterrupt();
  planning::SearchHooks hooks;
  hooks.interrupted = wasInterrupted;
  planning::SearchResult found = planning::search(problem, pins, hooks);
  for (const planning::Fault &fault : found.faults)
    places.report(llvm::errs(), fault);
  if (found.strategies.empty()) {
    if (found.faults.empty())
      places.report(llvm::errs(), YamlFile::Place(), "no strategy was found");
    if (explains)
      for (const std::string &change : planning::smallestChanges(problem, pins))
        llvm::errs() << places.getName() << ": note: there is a plan " << change
                     << "\n";
    return 1;
  }
  planning::Candidate &best = found.strategies.front();
  if (options.search.baseline || !pins.isWhole())
    planning::equivalentCompute(problem, best.strategy, best.prediction);
  printPlanTable(llvm::outs(), best);
  llvm::outs() << planning::proofLine(found) << "\n";
  for (const std::string &line :
       planning::unusedChips(problem.topology, best.strategy))
    llvm::outs() << line << "\n";
  if (explains)
    llvm::outs() << "\n" << planning::explain(problem, pins, found);
  if (options.json.empty())
    return 0;
  std::error_code error;
  llvm::raw_fd_ostream os(options.json, error);
  if (error) {
    llvm::errs() << options.json
                 << ": error: cannot write the file: " << error.message()
                 << "\n";
    return 1;
  }
  found.alternatives = planning::alternatives(found);
  writeSummaryJson(os, found, best);
  return 0;
}
