//===- Pipelines.h - the order of the passes ---------------*- C++ -*- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PIPELINES_PIPELINES_H
#define TOMBOLO_PIPELINES_PIPELINES_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"

#include <optional>
#include <string>

namespace tombolo {

class StrategyClock;

/// What the graph passes need to know.
struct GraphPipelineOptions {
  std::string loss = "cross-entropy";
  std::string label = "labels";
  double dropout = -1; // ratio of all dropouts; below 0: as the model says
  std::string lossMask; // input with the weights of labels; empty: none
  int64_t ignoreIndex = -100;
};

/// What the lowering of a strategy needs to know.
struct LoweringPipelineOptions {
  std::string precision = "f32";
  std::string optimizer = "adamw";
  double learningRate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weightDecay = 0.01;
  std::vector<std::string> weightDecayExclude; // "vectors" or expressions
  double momentum = 0;
  std::string schedule = "constant"; // cosine or linear
  int64_t warmupSteps = 0;
  int64_t decaySteps = 0; // of cosine and linear
  double clipGradientNorm = 0; // 0: none
};

/// From an imported model to differentiated blocks.
void addGraphPasses(mlir::OpPassManager &manager,
                    const GraphPipelineOptions &options = {});

/// What the choice of a strategy needs to know.
struct StrategyPipelineOptions {
  uint64_t globalBatch = 1; // samples per inner step over all islands
  std::string objective = "throughput";
  uint64_t maxInnerSteps = 0; // 0: the default, as below
  int64_t maxOverlap = -1;
  std::string maxCompression;
  double maxWanGbits = 0;
  uint64_t simulate = 2; // of the best; their order on the clock decides
  uint64_t searchNodes = 0;
  double searchSeconds = 0;
  std::string strategy;     // a strategy.yaml; empty: search
  bool baseline = false;    // equivalent compute also for a whole strategy
  std::string dumpProblem;  // a file to write the planning problem to
  bool explain = false;
};

/// Proves that an imported topology makes sense.
void addTopoPasses(mlir::OpPassManager &manager);

/// From a module with differentiated blocks and a topology to one proved
/// strategy with its figures. `clock`: what `options.simulate` strategies are
/// run on; null: on none.
void addStrategyPasses(mlir::OpPassManager &manager,
                       const StrategyPipelineOptions &options,
                       const LoweringPipelineOptions &lowering = {},
                       StrategyClock *clock = nullptr);

/// From a module with differentiated blocks, a topology and one strategy to a
/// strategy whose stages have blocks, functions, an optimizer and servers.
void addDistPasses(mlir::OpPassManager &manager,
                   const LoweringPipelineOptions &options = {});

/// From there to programs.
void addSchedulePasses(mlir::OpPassManager &manager);

/// The same, and the proof that they can run.
void addPlanPasses(mlir::OpPassManager &manager);

/// Makes them reachable from tombolo-opt as `tombolo-graph-pipeline`,
/// `tombolo-strategy-pipeline` (with `topo-verify`; options `global-batch` and
/// `strategy`), `tombolo-dist-pipeline` and `tombolo-plan-pipeline`, otherwise
/// with default options.
void registerPipelines();

} // namespace tombolo

#endif // TOMBOLO_PIPELINES_PIPELINES_H
