//===- PipelinePlan.cpp - plans whose time is known---------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PipelinePlan.h"

#include <algorithm>

namespace tombolo::runtime::test {

namespace {

/// Semaphores.
enum : std::uint32_t {
  kReceivedForward,
  kReceivedBackward,
  kForward,
  kBackward,
  kReduced,
  kUpdated,
  kGathered,
  kSemaphores
};
enum : std::uint32_t { kForwardSegment, kBackwardSegment, kUpdateSegment };

Instruction &guarded(Instruction &i, std::uint64_t modulus,
                     std::uint64_t remainder) {
  i.mutable_guard()->set_modulus(modulus);
  i.mutable_guard()->set_remainder(remainder);
  return i;
}

void stageProgram(Program &program, const PipelineModel &model,
                  std::uint32_t stage, std::uint64_t own) {
  program.set_name("stage " + std::to_string(stage));
  program.set_semaphores(kSemaphores);
  program.set_arena_bytes(1 << 20);
  for (auto [segment, seconds] :
       {std::pair(kForwardSegment, model.forward),
        {kBackwardSegment, model.backward},
        {kUpdateSegment, model.update}}) {
    SegmentSeconds &entry = *program.add_segment_seconds();
    entry.set_segment(segment);
    entry.set_seconds(seconds);
  }
  Body &step = *program.mutable_step();
  bool first = stage == 0, last = stage + 1 == model.stages;
  bool tensor = model.degreeOf(stage) > 1 && model.tensorElements > 0;
  // Of a boundary each rank of the side with fewer moves several pieces.
  auto pieces = [&](std::uint32_t to) {
    return std::max(model.degreeOf(stage), model.degreeOf(to)) /
           model.degreeOf(stage);
  };
  std::uint64_t gathered = 0;
  auto compute = [&](bool forward, std::uint64_t i) {
    Instruction &one =
        call(step, forward ? kForwardSegment : kBackwardSegment, {});
    auto count = constant(static_cast<std::int64_t>(i + 1));
    if (forward && !first)
      wait(one, kReceivedForward,
           constant(static_cast<std::int64_t>((i + 1) * pieces(stage - 1))));
    if (!forward && !last)
      wait(one, kReceivedBackward,
           constant(static_cast<std::int64_t>((i + 1) * pieces(stage + 1))));
    if (tensor && gathered > 0)
      wait(one, kGathered, constant(static_cast<std::int64_t>(gathered)));
    signal(one, forward ? kForward : kBackward);
    if (!tensor)
      return;
    Instruction &sum = allReduce(step, Collective::GROUP_TENSOR, 0,
                                 model.tensorElements);
    wait(sum, forward ? kForward : kBackward, count);
    signal(sum, kGathered);
    ++gathered;
  };
  // 1F1B.
  std::uint64_t ahead =
      std::min<std::uint64_t>(own, model.stages - 1 - stage);
  for (std::uint64_t i = 0; i < ahead; ++i)
    compute(true, i);
  for (std::uint64_t i = 0; i < own; ++i) {
    if (i + ahead < own)
      compute(true, i + ahead);
    compute(false, i);
  }
  for (std::uint64_t i = 0; i < own; ++i) {
    auto local = constant(static_cast<std::int64_t>(i));
    auto count = constant(static_cast<std::int64_t>(i + 1));
    auto move = [&](Lane lane, std::uint32_t to, auto tie) {
      auto own = static_cast<std::int64_t>(model.degreeOf(stage));
      auto other = static_cast<std::int64_t>(model.degreeOf(to));
      auto n = static_cast<std::int64_t>(pieces(to));
      for (std::int64_t piece = 0; piece < n; ++piece) {
        Instruction &one =
            transfer(step, lane, to, constant(0), model.boundaryBytes, local);
        if (own != other) {
          bool sends = one.has_send();
          Expr &index = *(sends ? one.mutable_send() : one.mutable_receive())
                             ->mutable_tensor_index();
          index.set_constant(piece * other);
          index.set_divisor(static_cast<std::uint64_t>(n * own));
          Term &term = *index.add_terms();
          term.set_factor(n * other);
          term.set_coordinate(COORDINATE_TENSOR_INDEX);
        }
        tie(one);
      }
    };
    auto received = [](std::uint32_t semaphore) {
      return [semaphore](Instruction &one) { signal(one, semaphore); };
    };
    auto computed = [&](std::uint32_t semaphore) {
      return [&, semaphore](Instruction &one) { wait(one, semaphore, count); };
    };
    if (!first)
      move(LANE_RECEIVE_FORWARD, stage - 1, received(kReceivedForward));
    if (!last)
      move(LANE_SEND_FORWARD, stage + 1, computed(kForward));
    if (!last)
      move(LANE_RECEIVE_BACKWARD, stage + 1, received(kReceivedBackward));
    if (!first)
      move(LANE_SEND_BACKWARD, stage - 1, computed(kBackward));
  }
  auto all = constant(static_cast<std::int64_t>(own));
  std::int64_t reductions = 1;
  if (model.gradientElements > 0) {
    signal(wait(allReduce(step, Collective::GROUP_REPLICAS, 0,
                          model.gradientElements),
                kBackward, all),
           kReduced);
    ++reductions;
  }
  signal(wait(allReduce(step, Collective::GROUP_ISLAND, 0, 2), kBackward, all),
         kReduced);
  signal(wait(call(step, kUpdateSegment, {}), kReduced, constant(reductions)),
         kUpdated);
  if (model.innerSteps == 0)
    return;
  auto exchange = [&](bool push, std::uint64_t remainder) -> Instruction & {
    Instruction &one = *step.Add();
    one.set_lane(LANE_EXCHANGE);
    (push ? one.mutable_push() : one.mutable_apply())->set_fragment(0);
    return guarded(wait(one, kUpdated, constant(1)), model.innerSteps,
                   remainder);
  };
  exchange(true, 0);
  exchange(false, model.overlapSteps % model.innerSteps);
  if (model.parameters == 0)
    return;
  ParameterFamily &family = *program.add_parameters();
  family.mutable_names()->add_listed("w" + std::to_string(stage));
  family.mutable_initializers()->add_listed("w" + std::to_string(stage));
  family.set_count(1);
  family.set_dtype(DTYPE_F32);
  family.add_dims(model.parameters);
  family.set_trainable(true);
  family.set_owner(true);
}

Topology topologyOf(const PipelineModel &model) {
  Topology topology;
  topology.set_server_bytes_per_second(model.serverRate);
  topology.add_chips()->set_name("chip");
  topology.mutable_chips(0)->set_memory_bytes(1 << 30);
  std::uint32_t sites = model.stagesOnSites ? model.stages : model.islands;
  for (std::uint32_t s = 0; s < sites; ++s) {
    Topology::Site &site = *topology.add_sites();
    site.set_name("site" + std::to_string(s));
    Topology::Pool &pool = *site.add_pools();
    pool.set_name("pool");
    pool.set_nodes(model.nodes);
    pool.set_chips_per_node(model.chipsPerNode);
    pool.set_cards_per_node(model.cardsPerNode);
    pool.mutable_intra_node()->set_bytes_per_second(model.intraRate);
    pool.mutable_intra_node()->set_latency_seconds(model.intraLatency);
    pool.mutable_inter_node()->set_bytes_per_second(model.interRate);
    pool.mutable_inter_node()->set_latency_seconds(model.interLatency);
  }
  for (std::uint32_t s = 1; s < sites; ++s) {
    Topology::Line &line = *topology.add_lines();
    line.set_first(model.stagesOnSites ? s - 1 : 0);
    line.set_second(s);
    line.set_bytes_per_second(model.lineRate);
    line.set_rtt_seconds(model.lineRtt);
  }
  return topology;
}

} // namespace

Plan pipelinePlan(const PipelineModel &model) {
  Plan plan;
  plan.mutable_model()->set_tokens_per_sample(8);
  for (const char *name : {"forward", "backward", "update"})
    plan.add_segments()->set_name(name);
  *plan.mutable_topology() = topologyOf(model);
  for (std::uint32_t i = 0; i < model.islands; ++i) {
    Island &island = *plan.add_islands();
    island.set_batch(model.microbatches);
    island.set_microbatch(1);
    for (std::uint32_t s = 0; s < model.stages; ++s) {
      std::string site =
          "site" + std::to_string(model.stagesOnSites ? s : i);
      if (i == 0 || model.stagesOnSites)
        island.add_sites(site);
      ReplicaGroup &group = *island.add_stages()->add_groups();
      group.set_site(site);
      group.set_pool("pool");
      std::uint64_t replicas =
          model.replicasOf.empty() ? model.replicas : model.replicasOf[s];
      group.set_count(replicas);
      group.set_tensor_parallel(model.degreeOf(s));
      group.set_share(1);
      group.set_program(s);
      if (i == 0)
        stageProgram(*plan.add_programs(), model, s,
                     model.microbatches / replicas);
    }
  }
  if (model.innerSteps > 0) {
    Server &server = *plan.mutable_server();
    server.set_inner_steps(model.innerSteps);
    server.set_overlap_steps(model.overlapSteps);
    server.set_fragments(1);
    server.set_compression(Server::COMPRESSION_NONE);
    server.set_quorum(1);
    server.set_deadline_seconds(model.deadline);
    server.add_placements()->set_primary("site0");
  }
  return plan;
}

} // namespace tombolo::runtime::test
