//===- SimulateStrategy.cpp - what a strategy takes on a virtual clock ----===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
//
// The runtime's libraries throw; here exceptions become diagnostics.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Pipelines/Pipelines.h"
#include "tombolo/Target/PlanExport.h"
#include "tombolo/runtime/sim/Simulate.h"
#include "tombolo/schema/plan.pb.h"

using namespace mlir;

namespace tombolo {

std::optional<double> simulateStrategy(ModuleOp module,
                                       const LoweringPipelineOptions &options) {
  PassManager manager(module.getContext());
  // The strategy that is taken comes by here again.
  manager.enableVerifier(false);
  addDistPasses(manager, options);
  // The clock runs the programs itself.
  addPlanPasses(manager, /*progress=*/false);
  if (failed(manager.run(module)))
    return std::nullopt;
  FailureOr<std::unique_ptr<plan::v1::Plan>> plan = exportPlan(module);
  if (failed(plan))
    return std::nullopt;
  // What a file must pass first, plan-verify has seen to.
  try {
    return runtime::sim::simulate(**plan, {}).stepSeconds;
  } catch (const std::exception &error) {
    emitError(module.getLoc()) << error.what();
    return std::nullopt;
  }
}

} // namespace tombolo
