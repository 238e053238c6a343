//===- SearchStrategy.cpp - finds the strategies that train fastest -------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Only translates: the search itself is planning::search, or another solver.
//
//===----------------------------------------------------------------------===//

#include "StrategyProblem.h"

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Dist/Transforms/Passes.h"
#include "tombolo/Dialect/Topo/IR/Topo.h"
#include "tombolo/Import/Strategy.h"
#include "tombolo/Import/YamlPlaces.h"
#include "tombolo/Planning/Explain.h"
#include "tombolo/Planning/Solver.h"
#include "tombolo/Support/Interrupt.h"
#include "tombolo/Target/ProblemText.h"

using namespace mlir;

namespace tombolo::dist {
#define GEN_PASS_DEF_DISTSEARCHSTRATEGY
#include "tombolo/Dialect/Dist/Transforms/Passes.h.inc"

namespace {

struct DistSearchStrategy : impl::DistSearchStrategyBase<DistSearchStrategy> {
  using Base::Base;
  DistSearchStrategy(DistSearchStrategyOptions options,
                     StrategySimulator simulator)
      : Base(std::move(options)), simulator(std::move(simulator)) {}

  void runOnOperation() override {
    if (failed(run()))
      signalPassFailure();
  }

  LogicalResult run() {
    ModuleOp module = getOperation();
    planning::StrategyPins pins;
    std::optional<StrategyFile> file;
    if (!strategy.empty()) {
      // Every fault of form is written with its place in the file.
      file = readStrategyFile(strategy, llvm::errs());
      if (!file)
        return failure();
      pins = file->pins;
    }
    // Without a file a fault is about what there is to plan for.
    topo::TopologyOp topology = topo::findTopology(module);
    Location sites = topology ? topology.getLoc() : module.getLoc();
    auto placeOf = [&](StringRef path) -> Location {
      return file ? placeIn(file->file, path, &getContext()) : sites;
    };
    auto problem = loadProblem(module, precision, globalBatch, stateBytes, pins,
                               ShardingSource::Search, placeOf);
    if (failed(problem))
      return failure();
    if (failed(setBounds(problem->bounds)))
      return failure();
    planning::Faults faults = problem->check();
    for (const planning::Fault &fault : faults)
      module.emitError(fault.message);
    if (!faults.empty())
      return failure();

    if (!dumpProblem.empty() && failed(dump(*problem)))
      return failure();
    if (explain)
      problem->bounds.candidates =
          std::max<uint64_t>(candidates, 1 + planning::kAlternatives);

    auto placeOfOp = [&](const std::string &path) -> Location {
      return file ? placeOf(path) : module.getLoc();
    };
    planning::SearchHooks hooks;
    hooks.interrupted = wasInterrupted;
    if (simulator)
      hooks.simulate = [&](const planning::Candidate &candidate) {
        return simulateCandidate(*problem, candidate, placeOfOp);
      };
    planning::SearchResult result =
        planning::solve(solver, *problem, pins, hooks);
    if (!result.faults.empty()) {
      for (const planning::Fault &fault : ArrayRef(result.faults).drop_back())
        emitError(placeOf(fault.path), fault.message);
      const planning::Fault &last = result.faults.back();
      InFlightDiagnostic error = emitError(placeOf(last.path), last.message);
      if (explain)
        for (const std::string &change :
             planning::smallestChanges(*problem, pins))
          error.attachNote(sites) << "there is a plan " << change;
      return failure();
    }
    if (result.strategies.empty())
      return emitError(sites, "no strategy was found; raise --search-nodes");
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    size_t kept = std::min<size_t>(result.strategies.size(),
                                   std::max<uint64_t>(candidates, 1));
    for (planning::Candidate &candidate :
         MutableArrayRef(result.strategies).take_front(kept))
      if (baseline || !pins.isWhole())
        planning::equivalentCompute(*problem, candidate.strategy,
                                    candidate.prediction);
    if (explain)
      module->setAttr(kExplanationAttr, builder.getStringAttr(planning::explain(
                                            *problem, pins, result)));
    result.alternatives = planning::alternatives(result);
    result.strategies.resize(kept);
    for (planning::Candidate &candidate : result.strategies)
      setFigures(build(builder, *problem, candidate.strategy, placeOfOp),
                 candidate.prediction, result);
    return success();
  }

  StrategyOp build(OpBuilder &builder, const planning::Problem &problem,
                   const planning::Strategy &strategy,
                   llvm::function_ref<Location(const std::string &)> placeOf) {
    StrategyOp op = buildStrategy(builder, placeOf, strategy, globalBatch);
    for (auto [i, island] : llvm::enumerate(op.getBody().getOps<IslandOp>()))
      for (auto [s, stage] :
           llvm::enumerate(island.getBody().getOps<StageOp>()))
        for (auto [g, group] :
             llvm::enumerate(stage.getBody().getOps<ReplicasOp>()))
          if (auto calls = planning::callSeconds(problem, strategy, i, s, g))
            group.setCallSecondsAttr(toAttr(builder, *calls));
    return op;
  }

  static DictionaryAttr toAttr(Builder &builder,
                               const planning::CallSeconds &calls) {
    SmallVector<NamedAttribute> functions;
    for (const auto &[block, seconds] : calls.functions)
      functions.push_back(
          builder.getNamedAttr(block, builder.getDenseF64ArrayAttr(seconds)));
    return builder.getDictionaryAttr(
        {builder.getNamedAttr("functions",
                              builder.getDictionaryAttr(functions)),
         builder.getNamedAttr("update",
                              builder.getF64FloatAttr(calls.update))});
  }

  /// Lowers a candidate in a copy of the module.
  std::optional<double>
  simulateCandidate(const planning::Problem &problem,
                    const planning::Candidate &candidate,
                    llvm::function_ref<Location(const std::string &)> placeOf) {
    OwningOpRef<ModuleOp> copy = getOperation().clone();
    OpBuilder builder = OpBuilder::atBlockEnd(copy->getBody());
    setFigures(build(builder, problem, candidate.strategy, placeOf),
               candidate.prediction, planning::SearchResult());
    return simulator(std::move(copy));
  }

  LogicalResult dump(const planning::Problem &problem) {
    std::error_code error;
    llvm::raw_fd_ostream os(dumpProblem, error);
    if (!error) {
      writeProblem(os, problem);
      os.close();
      error = os.error();
      os.clear_error();
    }
    if (error)
      return getOperation().emitError("cannot write '")
             << dumpProblem << "': " << error.message();
    return success();
  }

  LogicalResult setBounds(planning::Bounds &bounds) {
    auto wrong = [&](StringRef what, StringRef got) {
      return getOperation().emitError("expected ")
             << what << ", got '" << got << "'";
    };
    if (!schedule.empty()) {
      bounds.schedule = planning::parseSchedule(schedule);
      if (!bounds.schedule || *bounds.schedule > planning::Schedule::OneFOneB)
        return wrong("schedule 1f1b or gpipe", schedule);
    }
    if (objective == "cost")
      bounds.objective = planning::Objective::Cost;
    else if (objective != "throughput")
      return wrong("objective throughput or cost", objective);
    if (!maxCompression.empty()) {
      bounds.compression = planning::parseCompression(maxCompression);
      if (!bounds.compression)
        return wrong("compression none, bf16, int8 or int4", maxCompression);
    }
    if (maxInnerSteps != 0)
      bounds.innerSteps = maxInnerSteps;
    if (maxOverlap >= 0)
      bounds.overlapSteps = maxOverlap;
    if (maxWanGbits != 0)
      bounds.wanGbits = maxWanGbits;
    if (searchSeconds != 0)
      bounds.searchSeconds = searchSeconds;
    bounds.candidates = candidates;
    bounds.simulated = simulate;
    bounds.searchNodes = searchNodes;
    return success();
  }

  StrategySimulator simulator; // null: no clock
};

} // namespace

std::unique_ptr<Pass>
createDistSearchStrategy(DistSearchStrategyOptions options,
                         StrategySimulator simulator) {
  return std::make_unique<DistSearchStrategy>(std::move(options),
                                              std::move(simulator));
}
} // namespace tombolo::dist
