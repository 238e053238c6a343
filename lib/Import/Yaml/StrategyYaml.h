//===- StrategyYaml.h - the shape of a strategy in YAML -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_YAML_STRATEGYYAML_H
#define TOMBOLO_LIB_IMPORT_YAML_STRATEGYYAML_H

#include "Fields.h"

#include "tombolo/Planning/Strategy.h"

namespace tombolo::yamlio {

struct ReplicasEntry {
  std::string pool;
  std::optional<uint64_t> count, tensorParallel, share;
};
struct StageEntry {
  std::optional<uint64_t> blocks;
  std::optional<planning::Recompute> recompute;
  std::optional<bool> optimizerSharding;
  // Short form.
  std::optional<std::string> pool;
  std::optional<uint64_t> dataParallel, tensorParallel;
  // Long form.
  std::optional<std::vector<ReplicasEntry>> replicas;
};
struct IslandEntry {
  std::vector<std::string> sites;
  std::optional<uint64_t> batch, microbatch, chunks, innerSteps;
  std::optional<planning::Schedule> schedule;
  std::optional<std::vector<StageEntry>> stages;
};
struct OuterEntry {
  std::optional<planning::OuterOptimizer> optimizer;
  std::optional<double> learningRate, momentum, beta2, epsilon, weightDecay;
};
struct ServerEntry {
  std::optional<uint64_t> innerSteps, fragments, overlapSteps, quorum;
  std::optional<planning::Compression> compression;
  std::optional<OuterEntry> outer;
  std::optional<double> deadlineSeconds;
  std::optional<Named<planning::Placement>> placement;
  std::optional<std::string> witness;
};
struct StateEntry {
  std::optional<uint64_t> dim, outer;
};
struct OpEntry {
  planning::OpSeed::Function function = planning::OpSeed::Forward;
  uint64_t op = 0;
  std::optional<uint64_t> factor, outer, linear;
};
struct ShardingEntry {
  uint64_t block = 0, tensorParallel = 0;
  std::optional<Named<StateEntry>> parameters;
  std::optional<std::vector<StateEntry>> inputs, outputs;
  std::optional<std::vector<OpEntry>> ops;
};
struct StrategyEntry {
  std::optional<std::vector<IslandEntry>> islands;
  std::optional<ServerEntry> server;
  std::optional<std::vector<ShardingEntry>> sharding;
};

/// As many as numbers that are not 0.
inline constexpr Range kDivisors = {1, planning::kNumbers.most};
inline constexpr Range kSeveral = {2, planning::kNumbers.most};
/// Of a recomputing stage.
inline constexpr Range kBlocksAgain = {0, planning::kPartCounts.most};
/// Fragments by number; a number of more digits is none.
inline constexpr Items kByFragment = {
    .form = {"^[0-9]{1,9}$", "the number of a fragment"}};

template <typename Fields> void fields(Fields &io, ReplicasEntry &replicas) {
  io.required("pool", replicas.pool, kPoolPath, "the pool they are on");
  io.optional("count", replicas.count, planning::kPartCounts,
              "number of replicas; left out: the search chooses");
  io.optional("tensor_parallel", replicas.tensorParallel, planning::kPartCounts,
              "chips of each replica; left out: 1");
  io.optional("share", replicas.share, planning::kPartCounts,
              "microbatches that each takes in one turn, relative to others; "
              "left out: 1");
}

template <typename Fields> void fields(Fields &io, StageEntry &stage) {
  io.optional("blocks", stage.blocks, planning::kPartCounts,
              "number of consecutive blocks of the model");
  io.optional("recompute", stage.recompute,
              "none, full, or the number of blocks whose forward is run again "
              "in the backward pass");
  io.optional("optimizer_sharding", stage.optimizerSharding,
              "whether each replica keeps a part of the optimizer state only");
  io.optional("pool", stage.pool, kPoolPath,
              "short form: all replicas are on this pool");
  io.optional("data_parallel", stage.dataParallel, planning::kPartCounts,
              "short form: number of replicas");
  io.optional("tensor_parallel", stage.tensorParallel, planning::kPartCounts,
              "short form: chips of each replica");
  io.optional("replicas", stage.replicas, kSome,
              "long form: groups of equal replicas, each on one pool");
  io.atLeastOne("a stage", {"pool", "replicas"});
  io.excludes("replicas", {"pool", "data_parallel", "tensor_parallel"});
}

template <typename Fields> void fields(Fields &io, IslandEntry &island) {
  io.required("sites", island.sites, kSome, "the sites whose chips it uses");
  io.optional("batch", island.batch, planning::kSampleCounts,
              "samples per inner step; the islands' batches add up to the "
              "global batch");
  io.optional("microbatch", island.microbatch, planning::kSampleCounts,
              "samples that pass the pipeline together; divides the batch");
  io.optional("schedule", island.schedule, "order of microbatches");
  io.optional("chunks", island.chunks, planning::kPartCounts,
              "model chunks per stage, with the interleaved schedule");
  io.optional("inner_steps", island.innerSteps, planning::kSampleCounts,
              "the island's own number of inner steps between two "
              "synchronisations of a fragment, where it is not the server's");
  io.optional("stages", island.stages, kSome,
              "the pipeline in order, all blocks of the model together");
}

template <typename Fields> void fields(Fields &io, OuterEntry &outer) {
  io.optional("optimizer", outer.optimizer, "of the outer step");
  io.optional("lr", outer.learningRate, planning::kAbove0,
              "outer learning rate");
  io.optional("momentum", outer.momentum, planning::kFrom0Below1,
              "outer momentum; adamw: beta 1");
  io.optional("beta2", outer.beta2, planning::kFrom0Below1,
              "adamw: decay of the second moment; left out: 0.999");
  io.optional("eps", outer.epsilon, planning::kAbove0,
              "adamw: added to the root; left out: 1e-8");
  io.optional("weight_decay", outer.weightDecay, planning::kFrom0,
              "adamw: left out: 0.01");
}

template <typename Fields> void fields(Fields &io, planning::Placement &place) {
  io.required("primary", place.primary, kName, "site of the fragment's server");
  io.optional("backup", place.backup, kName, "another site that has a copy");
}

template <typename Fields> void fields(Fields &io, ServerEntry &server) {
  io.optional("inner_steps", server.innerSteps, planning::kSampleCounts,
              "inner steps between two synchronisations of a fragment");
  io.optional("fragments", server.fragments, planning::kFragmentCounts,
              "parts of the model that are synchronised one after another");
  io.optional("overlap_steps", server.overlapSteps,
              Range{0, planning::kSampleCounts.most},
              "inner steps that a fragment's exchange may take while training "
              "goes on, less than inner_steps; 0: wait");
  io.optional("compression", server.compression, "of what is exchanged");
  io.optional("outer", server.outer, "the outer optimizer");
  io.optional("quorum", server.quorum, planning::kPartCounts,
              "islands that must have committed before a round closes");
  io.optional("deadline_seconds", server.deadlineSeconds, planning::kAbove0,
              "after the first commit a round waits so long for the others");
  io.optional("placement", server.placement, kByFragment,
              "where the servers of fragments are, by the fragment's number");
  io.optional("witness", server.witness, kName,
              "with two sites: the one that decides when the line is cut");
}

template <typename Fields> void fields(Fields &io, StateEntry &state) {
  io.optional("dim", state.dim, planning::kNumbers,
              "dimension that is split; left out: each chip has the whole");
  io.optional("outer", state.outer, kDivisors,
              "the dimension is seen as [outer, chips, rest]; left out: 1");
  io.needs("outer", "dim");
}

template <typename Fields> void fields(Fields &io, OpEntry &op) {
  io.required("function", op.function, "the function of the block it is in");
  io.required("op", op.op, planning::kNumbers, "its place among the ops");
  io.optional("factor", op.factor, planning::kNumbers,
              "factor of the op's sharding rule that is split");
  io.optional("outer", op.outer, kDivisors, "inside the factor; left out: 1");
  io.optional("linear", op.linear, planning::kNumbers,
              "nothing is split; it works on partial sums by this linear set");
  io.excludes("linear", {"factor", "outer"});
  io.needs("outer", "factor");
}

template <typename Fields> void fields(Fields &io, ShardingEntry &sharding) {
  io.required("block", sharding.block, planning::kNumbers,
              "number of the first block of the kind");
  io.required("tensor_parallel", sharding.tensorParallel, kSeveral,
              "chips that the block is spread over");
  io.optional("parameters", sharding.parameters,
              "how parameters lie, by name; those left out are searched");
  io.optional("inputs", sharding.inputs, "how data arguments lie, in order");
  io.optional("outputs", sharding.outputs, "how results lie, in order");
  io.optional("ops", sharding.ops, "what ops inside the block split");
}

template <typename Fields> void fields(Fields &io, StrategyEntry &strategy) {
  io.optional("islands", strategy.islands, kSome,
              "the islands, all of them: a site that none names is not used; "
              "left out: the search chooses");
  io.optional("server", strategy.server,
              "how islands are synchronised; what is left out is searched");
  io.optional("sharding", strategy.sharding,
              "how blocks lie on the chips of a replica");
}

} // namespace tombolo::yamlio

#endif // TOMBOLO_LIB_IMPORT_YAML_STRATEGYYAML_H
