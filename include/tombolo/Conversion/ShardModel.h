//===- ShardModel.h - how a model's blocks are best split over chips ------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_CONVERSION_SHARDMODEL_H
#define TOMBOLO_CONVERSION_SHARDMODEL_H

#include "tombolo/Planning/ShardingDemand.h"

#include "mlir/IR/BuiltinOps.h"

namespace tombolo {

/// What the search for one number of chips found.
struct ShardingReport {
  uint64_t tensorParallel = 1;
  uint64_t ops = 0;          // of the problem
  uint64_t largestTable = 0; // rows
  bool proven = true;
  /// Ops that had to be named for propagation to find the same.
  uint64_t opSeeds = 0;
  /// Whether propagation from the seeds costs as much as the best choice.
  bool reproduced = true;
  double seconds = 0; // of one microbatch through the model, with memory
};

enum class ShardingSource {
  Search, ///< what pins leave open is searched
  /// Pins say all that is said; where a kind of block has them, what follows
  /// from them by propagation, as the lowering has it, is taken unsearched.
  Strategy,
};

/// Adds to a profile of this module (`profileModel`) the figures of its blocks
/// over the chips of each demand, and to `profile.shardings` the seeds from
/// which `dist-propagate-shardings` finds the cheapest sharding again. What
/// `pins` say is kept. The module stays as it is.
///
/// Returns faults of pins and of a number of chips that divides nothing, with
/// their paths in `strategy.yaml`; fails with a diagnostic when the module is
/// not as `graph-differentiate` leaves it.
mlir::FailureOr<planning::Faults>
shardModel(mlir::ModuleOp module, planning::ModelProfile &profile,
           llvm::ArrayRef<planning::ShardingDemand> demands,
           llvm::ArrayRef<planning::Sharding> pins,
           ShardingSource source = ShardingSource::Search,
           std::vector<ShardingReport> *reports = nullptr);

} // namespace tombolo

#endif // TOMBOLO_CONVERSION_SHARDMODEL_H
