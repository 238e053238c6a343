//===- Topo.h - the topo dialect ------------------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_TOPO_IR_TOPO_H
#define TOMBOLO_DIALECT_TOPO_IR_TOPO_H

#include "tombolo/Planning/Topology.h"
#include "tombolo/Support/Places.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/RegionKindInterface.h"
#include "mlir/IR/SymbolTable.h"

#include "tombolo/Dialect/Topo/IR/TopoDialect.h.inc"

#define GET_OP_CLASSES
#include "tombolo/Dialect/Topo/IR/TopoOps.h.inc"

namespace tombolo::topo {

/// The module's topology, or null when it has none.
TopologyOp findTopology(mlir::ModuleOp module);

/// The plain struct that the planner works on, in the order of the ops.
planning::Topology toTopology(TopologyOp op);

/// Builds the ops of a topology at the builder's place. Paths are those of
/// `sites.yaml`.
TopologyOp buildTopology(mlir::OpBuilder &builder, PlaceOf placeOf,
                         const planning::Topology &topology);

/// The location of the op that a fault of `planning::Topology::check` is about.
mlir::Location locate(TopologyOp op, llvm::StringRef path);

/// SHA-256 of the canonical form, 32 bytes: the plan's topology_hash.
std::string topologyHash(const planning::Topology &topology);

} // namespace tombolo::topo

#endif // TOMBOLO_DIALECT_TOPO_IR_TOPO_H
