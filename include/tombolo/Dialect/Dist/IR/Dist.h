//===- Dist.h - the dist dialect ------------------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_DIST_IR_DIST_H
#define TOMBOLO_DIALECT_DIST_IR_DIST_H

#include "tombolo/Planning/Search.h"
#include "tombolo/Support/Places.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/RegionKindInterface.h"

#include "tombolo/Dialect/Dist/IR/DistDialect.h.inc"

#define GET_OP_CLASSES
#include "tombolo/Dialect/Dist/IR/DistOps.h.inc"

namespace tombolo::dist {

/// Attribute (string) of the module: the precision that blocks were specialized
/// for.
inline constexpr llvm::StringLiteral kPrecisionAttr = "dist.precision";

/// The plain struct of a verified strategy.
planning::Strategy toStrategy(StrategyOp op);

/// Builds the ops of a strategy at the builder's place. Paths are those of
/// `strategy.yaml`.
StrategyOp buildStrategy(mlir::OpBuilder &builder, PlaceOf placeOf,
                         const planning::Strategy &strategy,
                         uint64_t globalBatch);

/// The runs of an island in the order of the model: place c S + s of S stages
/// has those of chunk c of stage s.
llvm::SmallVector<llvm::SmallVector<RunOp>> getPlaces(IslandOp island);

/// One entry of a strategy's `sharding`, both ways; `path` is its own in
/// `strategy.yaml`.
planning::Sharding toSharding(ShardingOp op);
ShardingOp buildSharding(mlir::OpBuilder &builder, PlaceOf placeOf,
                         const std::string &path,
                         const planning::Sharding &sharding);
/// That no kind of block has two for one degree. Called by the verifier.
mlir::LogicalResult verifyShardings(StrategyOp op);

/// The place in the file of a key of a sharding, or of an entry in it
/// (`parameters.NAME`, `inputs[0]`, `ops[3]`).
mlir::Location locate(ShardingOp op, llvm::StringRef key);

/// Writes what a search found to a strategy's `predicted` and `search`.
void setFigures(StrategyOp op, const planning::Prediction &prediction,
                const planning::SearchResult &search);

/// What stands in a strategy's `predicted`. Nothing when a figure is missing or
/// there are not as many islands, stages and groups as the strategy has.
std::optional<planning::Prediction> toPrediction(StrategyOp op);

/// Of a module: what dist-search-strategy says about its best strategy.
inline constexpr llvm::StringLiteral kExplanationAttr = "dist.explanation";

/// A module's strategies with their predictions and the figures of their
/// search, as `dist-search-strategy` wrote them. Fails with a diagnostic where
/// they are missing.
mlir::FailureOr<planning::SearchResult> toSearchResult(mlir::ModuleOp module);

/// The location of the op that a fault with this path is about, e.g.
/// `islands[0].stages[2].blocks`.
mlir::Location locate(StrategyOp op, llvm::StringRef path);

} // namespace tombolo::dist

#endif // TOMBOLO_DIALECT_DIST_IR_DIST_H
