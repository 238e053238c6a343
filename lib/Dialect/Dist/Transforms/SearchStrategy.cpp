//===- SearchStrategy.cpp - finds the strategies that train fastest -------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Only translates: the search itself is planning::search.
//
//===----------------------------------------------------------------------===//

#include "StrategyProblem.h"

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Dist/Transforms/Passes.h"
#include "tombolo/Import/Strategy.h"
#include "tombolo/Planning/Search.h"

using namespace mlir;

namespace tombolo::dist {
#define GEN_PASS_DEF_DISTSEARCHSTRATEGY
#include "tombolo/Dialect/Dist/Transforms/Passes.h.inc"

namespace {

struct DistSearchStrategy : impl::DistSearchStrategyBase<DistSearchStrategy> {
  using Base::Base;

  void runOnOperation() override {
    if (failed(run()))
      signalPassFailure();
  }

  LogicalResult run() {
    ModuleOp module = getOperation();
    auto problem = loadProblem(module, precision, globalBatch, stateBytes);
    if (failed(problem))
      return failure();
    auto order = planning::parseSchedule(schedule);
    if (!order || *order > planning::Schedule::OneFOneB)
      return module.emitError("expected schedule 1f1b or gpipe, got '")
             << schedule << "'";
    problem->bounds.schedule = *order;
    problem->bounds.innerSteps = innerSteps;
    problem->bounds.candidates = candidates;
    problem->bounds.searchNodes = searchNodes;
    planning::Faults faults = problem->check();
    for (const planning::Fault &fault : faults)
      module.emitError(fault.message);
    if (!faults.empty())
      return failure();

    planning::StrategyPins pins;
    std::optional<StrategyFile> file;
    if (!strategy.empty()) {
      std::string errors;
      llvm::raw_string_ostream stream(errors);
      file = readStrategyFile(strategy, stream);
      if (!file)
        return module.emitError(StringRef(stream.str()).rtrim());
      pins = file->pins;
    }
    planning::SearchResult result = planning::search(*problem, pins);
    for (const planning::Fault &fault : result.faults) {
      Location place = module.getLoc();
      if (file) {
        YamlFile::Place at = file->file.locate(fault.path);
        place = FileLineColLoc::get(module.getContext(), file->file.getName(),
                                    at.line, at.column);
      }
      emitError(place, fault.message);
    }
    if (result.strategies.empty())
      return failure();
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    for (const planning::Candidate &candidate : result.strategies) {
      StrategyOp op = buildStrategy(builder, module.getLoc(),
                                    candidate.strategy, globalBatch);
      op.setPredictedStepSecondsAttr(
          builder.getF64FloatAttr(candidate.prediction.stepSeconds));
    }
    return success();
  }
};

} // namespace
} // namespace tombolo::dist
