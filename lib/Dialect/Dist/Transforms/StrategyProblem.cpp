//===- StrategyProblem.cpp - the planning problem of a module -------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "StrategyProblem.h"

#include "tombolo/Conversion/GraphToPlanning.h"
#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Topo/IR/Topo.h"

using namespace mlir;
using namespace tombolo;

FailureOr<planning::Problem>
dist::loadProblem(ModuleOp module, StringRef precision, uint64_t globalBatch,
                  uint64_t stateBytes, const planning::StrategyPins &pins,
                  ShardingSource source,
                  function_ref<Location(StringRef)> placeOf) {
  if (precision != "f32" && precision != "bf16")
    return module.emitError("expected precision f32 or bf16, got '")
           << precision << "'";
  topo::TopologyOp topology = topo::findTopology(module);
  if (!topology)
    return module.emitError("expected a topo.topology");
  auto model =
      profileModel(module, precision == "f32" ? planning::Precision::F32
                                              : planning::Precision::BF16);
  if (failed(model))
    return failure();
  planning::Problem problem;
  problem.topology = topo::toTopology(topology);
  problem.model = std::move(*model);
  problem.training.globalBatch = globalBatch;
  problem.training.optimizerStateBytesPerParameter = stateBytes;
  problem.bounds.tiesAcrossStages = true;
  planning::Faults faults = problem.check();
  for (const planning::Fault &fault : faults)
    emitError(topo::locate(topology, fault.path), fault.message);
  if (!faults.empty())
    return failure();
  auto shardings =
      shardModel(module, problem.model, shardingDemands(problem, pins),
                 pins.shardings, source);
  if (failed(shardings))
    return failure();
  for (const planning::Fault &fault : *shardings)
    emitError(placeOf(fault.path), fault.message);
  if (!shardings->empty())
    return failure();
  // Last: what splits the model goes by the kinds of the module.
  faults = planning::applyLayerTimes(problem);
  for (const planning::Fault &fault : faults)
    emitError(topo::locate(topology, fault.path), fault.message);
  if (!faults.empty())
    return failure();
  if (auto hash = module->getAttrOfType<StringAttr>(graph::kModelHashAttr))
    planning::applyFunctionTimes(problem, hash.str());
  return problem;
}
