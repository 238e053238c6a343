//===- Pipelines.h - the order of the passes ---------------*- C++ -*- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PIPELINES_PIPELINES_H
#define TOMBOLO_PIPELINES_PIPELINES_H

#include "mlir/Pass/PassManager.h"

#include <string>

namespace tombolo {

/// What the graph passes need to know.
struct GraphPipelineOptions {
  std::string loss = "cross-entropy";
  std::string label = "labels";
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
  double momentum = 0;
  std::string schedule = "constant"; // cosine or linear
  int64_t warmupSteps = 0;
  int64_t decaySteps = 0; // of cosine and linear
};

/// From an imported model to differentiated blocks.
void addGraphPasses(mlir::OpPassManager &manager,
                    const GraphPipelineOptions &options = {});

/// From a module with differentiated blocks, a topology and one strategy to a
/// strategy whose stages have blocks, functions, an optimizer and servers.
void addDistPasses(mlir::OpPassManager &manager,
                   const LoweringPipelineOptions &options = {});

/// From there to verified programs.
void addPlanPasses(mlir::OpPassManager &manager);

/// Makes the three reachable from tombolo-opt as `tombolo-graph-pipeline`,
/// `tombolo-dist-pipeline` and `tombolo-plan-pipeline`, with default options.
void registerPipelines();

} // namespace tombolo

#endif // TOMBOLO_PIPELINES_PIPELINES_H
