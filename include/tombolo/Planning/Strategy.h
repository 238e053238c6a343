//===- Strategy.h - who does what -----------------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_STRATEGY_H
#define TOMBOLO_PLANNING_STRATEGY_H

#include "tombolo/Planning/Fault.h"

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tombolo::planning {

enum class Schedule { GPipe, OneFOneB, Interleaved, ZeroBubble };
enum class Compression { None, BF16, Int8, Int4 };
enum class OuterOptimizer { SGD, Nesterov, AdamW };

/// The words of `strategy.yaml`: `gpipe`, `1f1b`, `int8`, `nesterov` ...; all
/// of a kind in the order of its values.
std::span<const char *const> words(Schedule);
std::span<const char *const> words(Compression);
std::span<const char *const> words(OuterOptimizer);
const char *name(Schedule schedule);
const char *name(Compression compression);
const char *name(OuterOptimizer optimizer);
std::optional<Schedule> parseSchedule(const std::string &text);
std::optional<Compression> parseCompression(const std::string &text);
std::optional<OuterOptimizer> parseOuterOptimizer(const std::string &text);

/// How many blocks of a stage run their forward again in the backward pass.
struct Recompute {
  enum Kind { None, Full, Blocks } kind = None;
  uint64_t blocks = 0; // with Blocks

  /// Of a stage of `stageBlocks` blocks, how many are run again.
  uint64_t of(uint64_t stageBlocks) const;
  std::string text() const; // none, full, or the number
  bool operator==(const Recompute &) const = default;
};

/// Equal replicas of a stage on one pool.
struct ReplicaGroup {
  std::string pool;            // site/pool
  uint64_t count = 1;          // replicas
  uint64_t tensorParallel = 1; // chips per replica
  uint64_t share = 1; // microbatches that each replica takes in one turn
  bool operator==(const ReplicaGroup &) const = default;
};

/// Whether two stages give each microbatch to replicas of the same number.
bool dealAlike(const std::vector<ReplicaGroup> &one,
               const std::vector<ReplicaGroup> &other);

struct Stage {
  uint64_t blocks = 0;
  Recompute recompute;
  bool optimizerSharding = false;
  std::vector<ReplicaGroup> replicas;

  uint64_t replicaCount() const;
  uint64_t ranks() const;
  /// Microbatches that all replicas together take in one turn.
  uint64_t turn() const;
  bool operator==(const Stage &) const = default;
};

struct Island {
  std::vector<std::string> sites;
  uint64_t batch = 0;      // samples per inner step
  uint64_t microbatch = 0; // samples
  Schedule schedule = Schedule::OneFOneB;
  uint64_t chunks = 1;
  std::vector<Stage> stages;
  std::optional<uint64_t> innerSteps; // its own H

  uint64_t ranks() const;
  bool operator==(const Island &) const = default;
};

struct Placement {
  std::string primary; // site
  std::string backup;  // site, or empty
  bool operator==(const Placement &) const = default;
};

struct Server {
  uint64_t innerSteps = 16; // H
  uint64_t fragments = 1;
  uint64_t overlapSteps = 0;
  Compression compression = Compression::None;
  OuterOptimizer outer = OuterOptimizer::Nesterov;
  double outerLearningRate = 0.7;
  double outerMomentum = 0.5; // docs/LossStudy.md; AdamW: beta 1
  // AdamW alone.
  double outerBeta2 = 0.999;
  double outerEpsilon = 1e-8;
  double outerWeightDecay = 0.01;
  uint64_t quorum = 1;
  double deadlineSeconds = 60;
  std::map<uint64_t, Placement> placement; // by fragment
  std::string witness;                     // site, or empty

  /// With an outer optimizer and what else it has unless somebody says so; of
  /// AdamW as torch.optim.AdamW.
  static Server with(OuterOptimizer outer);
  /// What a server holds of each parameter between rounds: the global state,
  /// the optimizer's moments and the error feedback, in f32.
  double bytesPerParameter() const;
  bool operator==(const Server &) const = default;
};

/// How a tensor lies on the k chips of a replica: without `dim` each has the
/// whole; else dimension `dim` is seen as [outer, k, rest] and chip i has
/// [:, i, :].
struct ShardingState {
  std::optional<uint64_t> dim;
  uint64_t outer = 1;
  bool operator==(const ShardingState &) const = default;
};

/// What an op inside a block splits.
struct OpSeed {
  enum Function { Forward, BackwardInput, BackwardWeight };
  Function function = Forward;
  /// Place among the function's ops, at the plan's precision.
  uint64_t op = 0;
  /// A factor of the op's sharding rule; -1: nothing; -2 - l: nothing, on
  /// partial sums, by the rule's linear set l.
  int64_t choice = -1;
  uint64_t outer = 1; // inside the factor
  bool operator==(const OpSeed &) const = default;
};

/// The sharding of a kind of block over `tensorParallel` chips, as the seeds
/// that propagation starts from (docs/Planning.md).
struct Sharding {
  uint64_t block = 0; // number of the first block of the kind
  uint64_t tensorParallel = 1;
  /// By name in the first block of the kind. In pins those that are missing
  /// are searched, and so are the lists where they are empty.
  std::map<std::string, ShardingState> parameters;
  std::vector<ShardingState> inputs;  // data arguments, in order
  std::vector<ShardingState> outputs; // results, in order
  std::vector<OpSeed> ops;
  bool operator==(const Sharding &) const = default;
};

/// `forward`, `backward_input`, `backward_weight`.
std::span<const char *const> words(OpSeed::Function);
const char *name(OpSeed::Function function);

/// `strategy.yaml` in its long form. Without `server` there is one island and
/// no outer synchronisation.
struct Strategy {
  std::vector<Island> islands;
  std::optional<Server> server;
  /// One for each kind of block and degree above 1 that is used.
  std::vector<Sharding> shardings;
  bool operator==(const Strategy &) const = default;
};

/// What a person fixed of a strategy; the search fills in the rest. A missing
/// `islands` leaves everything to the search; an `islands` list that is there
/// is complete.
struct StagePins {
  std::optional<uint64_t> blocks;
  std::optional<Recompute> recompute;
  std::optional<bool> optimizerSharding;
  std::vector<ReplicaGroup> replicas; // count 0: left to the search
};

struct IslandPins {
  std::vector<std::string> sites;
  /// Those that it may use, as `site/pool`; empty: all of its sites. Only the
  /// search sets it, when it splits a site into islands.
  std::vector<std::string> pools;
  std::optional<uint64_t> batch;
  std::optional<uint64_t> microbatch;
  std::optional<Schedule> schedule;
  std::optional<uint64_t> chunks;
  std::optional<std::vector<StagePins>> stages;
  std::optional<uint64_t> innerSteps;
};

struct ServerPins {
  std::optional<uint64_t> innerSteps;
  std::optional<uint64_t> fragments;
  std::optional<uint64_t> overlapSteps;
  std::optional<Compression> compression;
  std::optional<OuterOptimizer> outer;
  std::optional<double> outerLearningRate;
  std::optional<double> outerMomentum;
  std::optional<double> outerBeta2;
  std::optional<double> outerEpsilon;
  std::optional<double> outerWeightDecay;
  std::optional<uint64_t> quorum;
  std::optional<double> deadlineSeconds;
  std::optional<std::map<uint64_t, Placement>> placement;
  std::optional<std::string> witness;
};

struct StrategyPins {
  std::optional<std::vector<IslandPins>> islands;
  std::optional<ServerPins> server;
  std::vector<Sharding> shardings;

  /// Whether nothing inside the islands is left to the search. The server's
  /// missing keys have defaults and do not count.
  bool isWhole() const;
};

/// H of an island: its own, or the server's; 1 without a server.
uint64_t innerStepsOf(const Strategy &strategy, const Island &island);
/// Whether an island has other inner steps than the server says.
bool hasOwnInnerSteps(const Strategy &strategy);

/// A strategy as pins that leave nothing open.
StrategyPins pinsOf(const Strategy &strategy);

/// What a strategy asks for that cannot be lowered or run yet: replicas of one
/// stage with unequal `tensor_parallel`. Empty: all of it can.
Faults supportedBySlice(const Strategy &strategy);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_STRATEGY_H
