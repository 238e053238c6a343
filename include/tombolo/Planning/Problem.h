//===- Problem.h - the planning problem and its checks --------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_PROBLEM_H
#define TOMBOLO_PLANNING_PROBLEM_H

#include "tombolo/Planning/Model.h"
#include "tombolo/Planning/Strategy.h"
#include "tombolo/Planning/Topology.h"

namespace tombolo::planning {

struct TrainingOptions {
  uint64_t globalBatch = 1; // samples per inner step over all islands
  /// AdamW 8, SGD with momentum 4, SGD 0.
  uint64_t optimizerStateBytesPerParameter = 8;
};

/// What is made least: seconds per step, or those times the price per hour of
/// the chips that are used.
enum class Objective { Throughput, Cost };

/// What the search may choose from, and what it assumes.
struct Bounds {
  Objective objective = Objective::Throughput;
  /// What the server may be given at most: as somebody said, else the default.
  /// What is pinned beyond a default is kept, beyond what was said contradicts.
  /// Defaults are what docs/LossStudy.md finds within 2 % of synchronous training.
  std::optional<uint64_t> innerSteps;     // H
  std::optional<uint64_t> overlapSteps;   // inner steps
  std::optional<Compression> compression; // the coarsest
  uint64_t mostInnerSteps() const { return innerSteps.value_or(16); }
  uint64_t mostOverlapSteps() const { return overlapSteps.value_or(5); }
  Compression mostCompression() const {
    return compression.value_or(Compression::Int8);
  }
  std::optional<double> wanGbits; // mean rate between all sites, at most
  /// Where it is not pinned; nothing: the search chooses.
  std::optional<Schedule> schedule;
  uint64_t candidates = 1;  // how many strategies to return, best first
  uint64_t simulated = 0;   // how many of the best are simulated, where one can
  uint64_t searchNodes = 0; // rows and stages to open at most; 0: the default
  std::optional<double> searchSeconds; // then the best found so far
  /// Also what supportedBySlice refuses (tests of the search alone).
  bool unsupported = false;
  double memoryMargin = 0.02; // of a chip's memory, for fragmentation
  /// What a server takes in and gives out when the line is not the limit,
  /// bytes per second.
  double serverBytesPerSecond = 2e9;
  /// What a rank encodes or applies of its own parameters, bytes of f32 per
  /// second.
  double codecBytesPerSecond = 2e9;
  /// Of a host (`hosts:`), for encryption: 1.25 s per GB and core at each end.
  double hostCores = 8;
  /// Whether a tied parameter may have users in different stages. What sums
  /// its gradients then is not there yet.
  bool tiesAcrossStages = false;
  /// Times are of a framework where a stage's backward is one call, as in
  /// Megatron-LM: what it computes again waits for the gradient, too, and the
  /// gradient goes on when all of it is done. For evaluate(); no search asks.
  bool wholeBackward = false;
};

/// Model and topology in, strategy out. `check` says whether it is a problem at
/// all; `verify` whether a strategy solves it. Both run in every build.
struct Problem {
  Topology topology;
  ModelProfile model;
  TrainingOptions training;
  Bounds bounds;

  Precision precision() const { return model.precision; }

  Faults check() const;

  /// Everything that makes the strategy impossible: blocks or batches that do
  /// not add up, unknown sites and pools, pools used beyond their chips, a
  /// batch that cannot be dealt out, stages that do not fit into memory
  /// (needed and available bytes), missing routes, schedules that would wait
  /// for themselves. Paths are those of `strategy.yaml`.
  Faults verify(const Strategy &strategy) const;
};

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_PROBLEM_H
