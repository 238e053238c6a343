//===- Validate.cpp - is this plan safe to run? ---------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ValidateParts.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace tombolo::runtime {

using namespace plan::v1;
using namespace detail;

namespace detail {

std::uint64_t times(std::uint64_t a, std::uint64_t b,
                    const std::string &place) {
  std::uint64_t product;
  if (__builtin_mul_overflow(a, b, &product) || product > kMaxBytes)
    throw Error(place, ": ", a, " x ", b, " is too large");
  return product;
}

void checkName(const std::string &name, const std::string &place) {
  if (name.empty() || name.size() > 4096)
    throw Error(place, ": expected a name of 1 to 4096 bytes, got ",
                name.size());
  // Names become file content and JSON; control characters have no business.
  for (unsigned char c : name)
    if (c < 0x20 || c == 0x7f)
      throw Error(place, ": a name holds a control character");
}

Span tensorIndices(const std::vector<ProgramUse> &uses) {
  Span span;
  for (const ProgramUse &use : uses)
    span.last = std::max(span.last, use.tensorParallel - 1);
  return span;
}

Span replicas(const std::vector<ProgramUse> &uses) {
  if (uses.empty())
    return {};
  Span span = uses.front().replicas;
  for (const ProgramUse &use : uses) {
    span.first = std::min(span.first, use.replicas.first);
    span.last = std::max(span.last, use.replicas.last);
  }
  return span;
}

} // namespace detail

namespace {

void finite(double value, double low, const char *what) {
  if (!std::isfinite(value) || value < low)
    throw Error(what, ": expected a finite number of at least ", low, ", got ",
                value);
}

void validateModel(const Model &model) {
  std::set<std::string> names;
  auto check = [&](const Input &input, const std::string &place) {
    checkName(input.name(), place);
    if (!names.insert(input.name()).second)
      throw Error(place, ": '", input.name(), "' stands twice");
    if (elementBytes(input.dtype()) == 0)
      throw Error(place, " '", input.name(), "': unknown dtype");
    elementCount(input.dims(), place);
  };
  for (int i = 0; i < model.inputs_size(); ++i)
    check(model.inputs(i), "model: input " + std::to_string(i));
  // None: the model computes its own loss.
  if (model.has_label())
    check(model.label(), "model: label");
  if (model.tokens_per_sample() == 0 || model.tokens_per_sample() > kMaxCount)
    throw Error("model: unusable tokens_per_sample ",
                model.tokens_per_sample());
}

void validateTraining(const Plan &plan) {
  const Training &training = plan.training();
  finite(training.learning_rate(), 0, "training: learning_rate");
  finite(training.clip_gradient_norm(), 0, "training: clip_gradient_norm");
  switch (training.optimizer_case()) {
  case Training::kSgd:
    finite(training.sgd().momentum(), 0, "training: momentum");
    finite(training.sgd().weight_decay(), 0, "training: weight_decay");
    break;
  case Training::kAdamw:
    finite(training.adamw().beta1(), 0, "training: beta1");
    finite(training.adamw().beta2(), 0, "training: beta2");
    finite(training.adamw().epsilon(), 0, "training: epsilon");
    finite(training.adamw().weight_decay(), 0, "training: weight_decay");
    break;
  default:
    throw Error("training: has no optimizer");
  }
  if (training.precision() != PRECISION_F32 &&
      training.precision() != PRECISION_BF16)
    throw Error("training: unknown precision ",
                static_cast<int>(training.precision()));
}

/// What nobody runs, but what is exported must make sense all the same.
void validatePipeline(const Island &island, const std::string &place) {
  const Pipeline &pipeline = island.pipeline();
  if (!Pipeline::Schedule_IsValid(pipeline.schedule()) ||
      pipeline.schedule() == Pipeline::SCHEDULE_UNSPECIFIED)
    throw Error(place, ": unknown schedule ",
                static_cast<int>(pipeline.schedule()));
  if (pipeline.stages_size() != island.stages_size())
    throw Error(place, ": has ", pipeline.stages_size(),
                " stages, expected those of the island, ",
                island.stages_size());
  constexpr std::uint64_t kMaxBlocks = std::uint64_t{1} << 20; // of the model
  std::uint64_t total = 0;
  for (int s = 0; s < pipeline.stages_size(); ++s) {
    const PipelineStage &stage = pipeline.stages(s);
    std::string at = place + ": stage " + std::to_string(s);
    if (stage.chunks_size() == 0 ||
        stage.chunks_size() != pipeline.stages(0).chunks_size())
      throw Error(at, ": has ", stage.chunks_size(),
                  " chunks, expected as many as all stages, and one or more");
    std::uint64_t blocks = 0;
    for (const PipelineChunk &chunk : stage.chunks()) {
      for (const BlockRun &run : chunk.runs()) {
        checkName(run.block(), at + ": block");
        if (run.count() == 0 || run.count() > kMaxBlocks - total)
          throw Error(at, ": unusable number of blocks ", run.count());
        blocks += run.count();
        total += run.count();
      }
      if (chunk.runs_size() == 0)
        throw Error(at, ": a chunk has no blocks");
    }
    if (stage.recomputed_blocks() > blocks)
      throw Error(at, ": recomputes ", stage.recomputed_blocks(), " of ",
                  blocks, " blocks");
  }
}

void validateIsland(const Plan &plan, const Island &island,
                    const std::string &place) {
  for (const std::string &site : island.sites())
    checkName(site, place + ": site");
  if (island.microbatch() == 0 || island.batch() == 0 ||
      island.batch() > kMaxCount || island.batch() % island.microbatch() != 0)
    throw Error(place, ": batch ", island.batch(),
                " is no multiple of microbatch ", island.microbatch());
  if (island.stages_size() == 0)
    throw Error(place, ": has no stages");
  if (island.inner_steps() > kMaxCount ||
      (island.inner_steps() > 0 &&
       (!plan.has_server() ||
        plan.server().overlap_steps() >= island.inner_steps())))
    throw Error(place, ": unusable inner_steps ", island.inner_steps());
  if (island.batch() / island.microbatch() >
      kMaxWork / static_cast<unsigned>(island.stages_size()))
    throw Error(place, ": ", island.batch() / island.microbatch(),
                " microbatches in ", island.stages_size(),
                " stages are too many, expected a product of at most ",
                kMaxWork);
  if (island.has_pipeline())
    validatePipeline(island, place + ": pipeline");
  std::uint64_t ranks = 0;
  for (int s = 0; s < island.stages_size(); ++s) {
    const Stage &stage = island.stages(s);
    std::string at = place + ": stage " + std::to_string(s);
    if (stage.groups_size() == 0)
      throw Error(at, ": has no replicas");
    for (const ReplicaGroup &group : stage.groups()) {
      checkName(group.site(), at + ": site");
      if (group.count() == 0 || group.count() > kMaxRanks ||
          group.tensor_parallel() == 0 || group.tensor_parallel() > kMaxRanks ||
          group.share() == 0 || group.share() > kMaxRanks)
        throw Error(at, ": unusable count, tensor_parallel or share");
      if (group.program() >= static_cast<unsigned>(plan.programs_size()))
        throw Error(at, ": program ", group.program(),
                    " does not exist, there are ", plan.programs_size());
      ranks += group.count() * group.tensor_parallel();
      if (ranks > kMaxRanks)
        throw Error(place, ": more than ", kMaxRanks, " ranks");
    }
  }
}

void validateServer(const Plan &plan) {
  const Server &server = plan.server();
  if (server.inner_steps() == 0 || server.inner_steps() > kMaxCount)
    throw Error("server: unusable inner_steps ", server.inner_steps());
  if (server.overlap_steps() >= server.inner_steps())
    throw Error("server: overlap_steps ", server.overlap_steps(),
                " is not below inner_steps ", server.inner_steps());
  if (server.fragments() == 0 || server.fragments() > kMaxRanks)
    throw Error("server: unusable number of fragments ", server.fragments());
  // Else the rounds of fragments would not come in one order on all islands
  // (docs/Server.md).
  if (hasOwnInnerSteps(plan))
    for (int i = 0; i < plan.islands_size(); ++i)
      if (std::uint64_t steps =
              IslandSteps(plan, static_cast<std::uint32_t>(i)).inRound();
          steps < server.fragments())
        throw Error("island ", i, ": inner_steps ", steps, " is below the ",
                    server.fragments(),
                    " fragments, and an island has inner_steps of its own");
  if (server.compression() < Server::COMPRESSION_NONE ||
      server.compression() > Server::COMPRESSION_INT4)
    throw Error("server: unknown compression ",
                static_cast<int>(server.compression()));
  if (server.outer().kind() < Server::Outer::KIND_SGD ||
      server.outer().kind() > Server::Outer::KIND_ADAMW)
    throw Error("server: unknown outer optimizer ",
                static_cast<int>(server.outer().kind()));
  finite(server.outer().learning_rate(), 0, "server: learning_rate");
  finite(server.outer().momentum(), 0, "server: momentum");
  finite(server.outer().beta2(), 0, "server: beta2");
  finite(server.outer().epsilon(), 0, "server: epsilon");
  finite(server.outer().weight_decay(), 0, "server: weight_decay");
  finite(server.deadline_seconds(), 0, "server: deadline_seconds");
  if (server.quorum() == 0 ||
      server.quorum() > static_cast<unsigned>(plan.islands_size()))
    throw Error("server: quorum ", server.quorum(), " of ", plan.islands_size(),
                " islands");
  if (!server.witness().empty())
    checkName(server.witness(), "server: witness");
  if (static_cast<unsigned>(server.placements_size()) != server.fragments())
    throw Error("server: expected ", server.fragments(), " placements, got ",
                server.placements_size());
  for (const Server::Placement &placement : server.placements()) {
    checkName(placement.primary(), "server: placement");
    if (!placement.backup().empty())
      checkName(placement.backup(), "server: placement: backup");
  }
}

std::vector<std::vector<ProgramUse>> collectUses(const Plan &plan) {
  std::vector<std::vector<ProgramUse>> uses(
      static_cast<std::size_t>(plan.programs_size()));
  for (int i = 0; i < plan.islands_size(); ++i) {
    const Island &island = plan.islands(i);
    std::uint64_t total = island.batch() / island.microbatch();
    for (int s = 0; s < island.stages_size(); ++s) {
      Deal deal(island.stages(s));
      std::uint64_t replica = 0;
      for (int g = 0; g < island.stages(s).groups_size(); ++g) {
        const ReplicaGroup &group = island.stages(s).groups(g);
        // Later replicas of a group never compute more than earlier ones.
        replica += group.count();
        std::uint64_t least = deal.count(replica - 1, total);
        std::uint64_t most = deal.count(replica - group.count(), total);
        if (least != most)
          throw Error("island ", i, ": stage ", s, ": group ", g, ": ", total,
                      " microbatches cannot be dealt evenly to its ",
                      group.count(), " replicas");
        uses[group.program()].push_back({&island,
                                         static_cast<std::uint32_t>(i),
                                         static_cast<std::uint32_t>(s),
                                         static_cast<std::uint32_t>(g),
                                         least,
                                         {replica - group.count(), replica - 1},
                                         group.tensor_parallel()});
      }
    }
  }
  return uses;
}

} // namespace

void validatePlan(const Plan &plan) {
  if (plan.format_version() != kPlanFormatVersion)
    throw Error("expected plan format version ", kPlanFormatVersion, ", got ",
                plan.format_version());
  if (plan.model_hash().size() != 32)
    throw Error("model_hash: expected 32 bytes, got ",
                plan.model_hash().size());
  if (plan.topology_hash().size() != 32)
    throw Error("topology_hash: expected 32 bytes, got ",
                plan.topology_hash().size());
  validateModel(plan.model());
  validateTraining(plan);
  if (plan.islands_size() == 0)
    throw Error("the plan has no islands");
  if (plan.islands_size() > 1 && !plan.has_server())
    throw Error("the plan has ", plan.islands_size(),
                " islands and no server between them");
  std::uint64_t batch = 0;
  for (int i = 0; i < plan.islands_size(); ++i) {
    validateIsland(plan, plan.islands(i), "island " + std::to_string(i));
    batch += plan.islands(i).batch();
  }
  if (batch != plan.training().global_batch())
    throw Error("training: global_batch is ", plan.training().global_batch(),
                ", the islands' batches add up to ", batch);
  if (plan.has_server())
    validateServer(plan);
  for (int i = 0; i < plan.segments_size(); ++i)
    validateSegment(plan.segments(i), "segment " + std::to_string(i) + " '" +
                                          plan.segments(i).name() + "'");
  std::vector<std::vector<ProgramUse>> uses = collectUses(plan);
  for (int i = 0; i < plan.programs_size(); ++i)
    validateProgram(plan, plan.programs(i), uses[static_cast<std::size_t>(i)],
                    "program " + std::to_string(i) + " '" +
                        plan.programs(i).name() + "'");
  if (plan.has_topology())
    validateTopology(plan);
  for (int i = 0; i < plan.programs_size(); ++i)
    validateSegmentSeconds(plan, plan.programs(i),
                           "program " + std::to_string(i) + " '" +
                               plan.programs(i).name() + "'");
  for (int i = 0; i < plan.islands_size(); ++i)
    validateOwners(plan, static_cast<std::uint32_t>(i));
  for (int i = 0; i < plan.programs_size(); ++i)
    validateHostBytes(plan, plan.programs(i),
                      "program " + std::to_string(i) + " '" +
                          plan.programs(i).name() + "'");
}

} // namespace tombolo::runtime
