//===- InitAll.h - all dialects and passes ----------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The only list of Tombolo's dialects and passes.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_INITALL_H
#define TOMBOLO_INITALL_H

#include "tombolo/Conversion/Passes.h"
#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Dist/Transforms/Passes.h"
#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"
#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/Dialect/Plan/Transforms/Passes.h"
#include "tombolo/Dialect/Topo/IR/Topo.h"
#include "tombolo/Pipelines/Pipelines.h"
#include "tombolo/Dialect/Topo/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/DialectRegistry.h"

namespace tombolo {

inline void registerAllDialects(mlir::DialectRegistry &registry) {
  registry.insert<mlir::func::FuncDialect, dist::DistDialect,
                  graph::GraphDialect, plan::PlanDialect, topo::TopoDialect>();
}

inline void registerAllPasses() {
  registerConversionPasses();
  dist::registerDistPasses();
  graph::registerGraphPasses();
  plan::registerPlanPasses();
  registerPipelines();
  topo::registerTopoPasses();
}

} // namespace tombolo

#endif // TOMBOLO_INITALL_H
