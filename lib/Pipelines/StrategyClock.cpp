//===- StrategyClock.cpp - strategies on a virtual clock ------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// The runtime's libraries throw; here exceptions become diagnostics.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Pipelines/StrategyClock.h"

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Plan/Transforms/Passes.h"
#include "tombolo/Target/PlanExport.h"
#include "tombolo/runtime/sim/Simulate.h"
#include "tombolo/schema/plan.pb.h"

using namespace mlir;

namespace tombolo {

/// Seconds per inner step of a module whose buffers are allocated.
static std::optional<double> simulatePlan(ModuleOp module) {
  FailureOr<ExportedPlan> plan = exportPlan(module);
  if (failed(plan) ||
      failed(checkPlan(**plan, module.getLoc(), /*progress=*/false)))
    return std::nullopt;
  try {
    return runtime::sim::simulate(**plan, {}).stepSeconds;
  } catch (const std::exception &error) {
    emitError(module.getLoc()) << error.what();
    return std::nullopt;
  }
}

StrategyClock::StrategyClock(LoweringPipelineOptions options)
    : options(std::move(options)) {}

std::optional<double> StrategyClock::run(OwningOpRef<ModuleOp> module) {
  MLIRContext *context = module->getContext();
  Lowered one;
  ScopedDiagnosticHandler later(context, [&](Diagnostic &diagnostic) {
    one.diagnostics.push_back(std::move(diagnostic));
    return success();
  });
  bool isThere = false;
  for (auto op : module->getOps<dist::StrategyOp>()) {
    one.strategy = dist::toStrategy(op);
    isThere = true;
  }
  PassManager manager(context);
  // Who takes the strategy verifies it.
  manager.enableVerifier(false);
  addDistPasses(manager, options);
  addSchedulePasses(manager);
  // The clock checks the message, and runs the programs itself.
  manager.addPass(plan::createPlanVerify({/*message=*/false}));
  if (!isThere || failed(manager.run(*module)))
    return std::nullopt;
  std::optional<double> seconds = simulatePlan(*module);
  if (seconds) {
    one.module = std::move(module);
    lowered.push_back(std::move(one));
  }
  return seconds;
}

OwningOpRef<ModuleOp>
StrategyClock::takeLowered(const planning::Strategy &strategy) {
  for (Lowered &one : lowered)
    if (one.strategy == strategy) {
      DiagnosticEngine &engine = one.module->getContext()->getDiagEngine();
      for (Diagnostic &diagnostic : one.diagnostics)
        engine.emit(std::move(diagnostic));
      OwningOpRef<ModuleOp> module = std::move(one.module);
      lowered.clear(); // nobody takes another one
      return module;
    }
  return nullptr;
}

} // namespace tombolo
