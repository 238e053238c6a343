//===- Pipelines.cpp - the order of the passes ----------------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Pipelines/Pipelines.h"
#include "tombolo/Pipelines/StrategyClock.h"

#include "tombolo/Dialect/Dist/Transforms/OptimizerState.h"
#include "tombolo/Dialect/Dist/Transforms/Passes.h"
#include "tombolo/Dialect/Plan/Transforms/Passes.h"
#include "tombolo/Dialect/Topo/Transforms/Passes.h"

#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

namespace tombolo {

void addTopoPasses(OpPassManager &manager) {
  // Proof: changes nothing. First, because what follows counts on it.
  manager.addPass(topo::createTopoVerify());
}

void addStrategyPasses(OpPassManager &manager,
                       const StrategyPipelineOptions &options,
                       const LoweringPipelineOptions &lowering,
                       StrategyClock *clock) {
  uint64_t stateBytes =
      dist::optimizerStateBytes(lowering.optimizer, lowering.momentum);
  // The one place that decides.
  dist::DistSearchStrategyOptions search;
  search.globalBatch = options.globalBatch;
  search.precision = lowering.precision;
  search.stateBytes = stateBytes;
  search.objective = options.objective;
  search.maxInnerSteps = options.maxInnerSteps;
  search.maxOverlap = options.maxOverlap;
  search.maxCompression = options.maxCompression;
  search.maxWanGbits = options.maxWanGbits;
  search.simulate = options.simulate;
  search.searchNodes = options.searchNodes;
  search.searchSeconds = options.searchSeconds;
  search.strategy = options.strategy;
  search.baseline = options.baseline;
  search.dumpProblem = options.dumpProblem;
  search.explain = options.explain;
  dist::StrategySimulator simulator;
  if (clock && options.simulate > 0)
    simulator = [clock](OwningOpRef<ModuleOp> module) {
      return clock->run(std::move(module));
    };
  manager.addPass(dist::createDistSearchStrategy(search, simulator));
  manager.addPass(dist::createDistSelectStrategy());
  // Proof: changes nothing. Here, because it needs the blocks that the search
  // saw, before they are specialised.
  dist::DistVerifyOptions verify;
  verify.precision = lowering.precision;
  verify.stateBytes = stateBytes;
  manager.addPass(dist::createDistVerify(verify));
}

void addDistPasses(OpPassManager &manager,
                   const LoweringPipelineOptions &options) {
  // Stages have to know their blocks before anything is made for them.
  manager.addPass(dist::createDistPartitionStages());
  // Correctness: precision is lowered on differentiated functions, so that both
  // directions round alike.
  dist::DistSpecializeBlocksOptions blocks;
  blocks.precision = options.precision;
  manager.addPass(dist::createDistSpecializeBlocks(blocks));
  // Correctness: on specialised functions, because stages of different degrees
  // need different ones; before the optimizer, which is for what a chip holds.
  manager.addPass(dist::createDistPropagateShardings());
  manager.addPass(dist::createDistInsertCollectives());
  // Late: what a stage owns is known only now.
  dist::DistInstantiateOptimizerOptions optimizer;
  optimizer.optimizer = options.optimizer;
  optimizer.learningRate = options.learningRate;
  optimizer.beta1 = options.beta1;
  optimizer.beta2 = options.beta2;
  optimizer.epsilon = options.epsilon;
  optimizer.weightDecay = options.weightDecay;
  optimizer.weightDecayExclude = options.weightDecayExclude;
  optimizer.momentum = options.momentum;
  optimizer.schedule = options.schedule;
  optimizer.warmupSteps = options.warmupSteps;
  optimizer.decaySteps = options.decaySteps;
  optimizer.clipGradientNorm = options.clipGradientNorm;
  manager.addPass(dist::createDistInstantiateOptimizer(optimizer));
  manager.addPass(dist::createDistPlaceServers());
}

void addSchedulePasses(OpPassManager &manager) {
  manager.addPass(plan::createPlanScheduleMicrobatches());
  // Before lanes are ordered, because it puts instructions on other lanes.
  manager.addPass(plan::createPlanExpandCollectives());
  // Correctness: from here lanes are ordered. Before allocation, because it
  // decides how many slots a boundary has.
  manager.addPass(plan::createPlanOverlapTransfers());
  // Before allocation, because segments say how much workspace they need.
  manager.addPass(plan::createPlanLowerSegments());
  manager.addPass(plan::createPlanAllocateBuffers());
}

void addPlanPasses(OpPassManager &manager) {
  addSchedulePasses(manager);
  // Proof: changes nothing.
  manager.addPass(plan::createPlanVerify());
}

namespace {
struct StrategyCommandLine : PassPipelineOptions<StrategyCommandLine> {
  Option<uint64_t> globalBatch{
      *this, "global-batch",
      llvm::cl::desc("samples per inner step over all islands"),
      llvm::cl::init(1)};
  Option<std::string> strategy{
      *this, "strategy", llvm::cl::desc("a strategy.yaml"), llvm::cl::init("")};
};
} // namespace

void registerPipelines() {
  PassPipelineRegistration<StrategyCommandLine>(
      "tombolo-strategy-pipeline",
      "differentiated blocks and a topology to one proved strategy",
      [](OpPassManager &manager, const StrategyCommandLine &given) {
        StrategyPipelineOptions options;
        options.globalBatch = given.globalBatch;
        options.strategy = given.strategy;
        options.simulate = 0;
        addTopoPasses(manager);
        addStrategyPasses(manager, options);
      });
  PassPipelineRegistration<>(
      "tombolo-graph-pipeline", "an imported model to differentiated blocks",
      [](OpPassManager &manager) { addGraphPasses(manager); });
  PassPipelineRegistration<>(
      "tombolo-dist-pipeline", "one strategy to stages with functions",
      [](OpPassManager &manager) { addDistPasses(manager); });
  PassPipelineRegistration<>(
      "tombolo-plan-pipeline", "stages with functions to verified programs",
      [](OpPassManager &manager) { addPlanPasses(manager); });
}

} // namespace tombolo
