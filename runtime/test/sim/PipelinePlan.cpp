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
enum : std::uint32_t {
  kForwardSegment,
  kBackwardSegment,
  kWeightSegment,
  kUpdateSegment
};

/// A call of a chunk on one of the replica's microbatches.
struct StageCall {
  std::uint32_t segment;
  std::uint64_t chunk, microbatch;
};

/// The calls of a stage in their order.
std::vector<StageCall> scheduleOf(const PipelineModel &model,
                                  std::uint32_t stage, std::uint64_t own) {
  std::uint64_t chunks = model.chunks, all = own * chunks;
  std::uint64_t behind = model.stages - 1 - stage;
  // The k-th forward and backward: the chunks take turns with as many
  // microbatches as there are stages.
  auto nth = [&](std::uint64_t k, bool forward) -> StageCall {
    std::uint64_t group = model.stages * chunks;
    std::uint64_t chunk = chunks == 1 ? 0 : k % group / model.stages;
    std::uint64_t i =
        chunks == 1 ? k : k / group * model.stages + k % model.stages;
    return forward ? StageCall{kForwardSegment, chunk, i}
                   : StageCall{kBackwardSegment, chunks - 1 - chunk, i};
  };
  std::uint64_t ahead =
      chunks == 1 ? behind : 2 * behind + (chunks - 1) * model.stages;
  ahead = std::min(ahead, all);
  std::vector<StageCall> calls;
  for (std::uint64_t k = 0; k < ahead; ++k)
    calls.push_back(nth(k, true));
  for (std::uint64_t k = 0; k < all + stage; ++k) {
    if (k + ahead < all)
      calls.push_back(nth(k + ahead, true));
    if (k < all)
      calls.push_back(nth(k, false));
    // Later stages put off more of the weights' part (Qi et al. 2024, ZB-H1).
    if (model.schedule == PipelineModel::ZeroBubble && k >= stage)
      calls.push_back({kWeightSegment, 0, k - stage});
  }
  return calls;
}

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
  bool split = model.schedule == PipelineModel::ZeroBubble;
  for (auto [segment, seconds] :
       {std::pair(kForwardSegment, model.forward),
        {kBackwardSegment, split ? model.backward / 2 : model.backward},
        {kWeightSegment, model.backward / 2},
        {kUpdateSegment, model.update}}) {
    SegmentSeconds &entry = *program.add_segment_seconds();
    entry.set_segment(segment);
    entry.set_seconds(seconds);
  }
  Body &step = *program.mutable_step();
  bool tensor = model.degreeOf(stage) > 1 && model.tensorElements > 0;
  // A boundary tensor of one microbatch: piece index x own + t is that of the
  // other side's chip piece x other / pieces.
  auto move = [&](Lane lane, std::uint32_t to, std::uint64_t i,
                  std::uint64_t done) {
    std::uint64_t degree = model.degreeOf(stage);
    std::uint64_t other = model.degreeOf(to);
    std::uint64_t pieces = std::max(degree, other), each = pieces / degree;
    for (std::uint64_t t = 0; t < each; ++t) {
      Instruction &one = transfer(step, lane, to, constant(0),
                                  model.boundaryBytes / pieces,
                                  constant(static_cast<std::int64_t>(i)));
      if (degree != other) {
        Expr &index = *(one.has_send() ? one.mutable_send()
                                       : one.mutable_receive())
                           ->mutable_tensor_index();
        index.set_constant(static_cast<std::int64_t>(t * other));
        index.set_divisor(pieces);
        Term &own = *index.add_terms();
        own.set_coordinate(COORDINATE_TENSOR_INDEX);
        own.set_factor(static_cast<std::int64_t>(each * other));
      }
      if (one.has_send())
        wait(one, lane == LANE_SEND_FORWARD ? kForward : kBackward,
             constant(static_cast<std::int64_t>(done)));
      else
        signal(one, lane == LANE_RECEIVE_FORWARD ? kReceivedForward
                                                 : kReceivedBackward);
    }
    return each;
  };
  std::uint64_t gathered = 0, done[2] = {}, came[2] = {};
  for (auto [segment, chunk, i] : scheduleOf(model, stage, own)) {
    if (segment == kWeightSegment) {
      call(step, segment, {});
      continue;
    }
    // Chunk c of stage s of S is place c S + s of the model.
    bool forward = segment == kForwardSegment;
    std::uint32_t next = (stage + 1) % model.stages;
    std::uint32_t before = (stage + model.stages - 1) % model.stages;
    bool isFirst = stage == 0 && chunk == 0;
    bool isLast = next == 0 && chunk + 1 == model.chunks;
    if (!(forward ? isFirst : isLast))
      came[forward] += move(forward ? LANE_RECEIVE_FORWARD
                                    : LANE_RECEIVE_BACKWARD,
                            forward ? before : next, i, 0);
    Instruction &one = call(step, segment, {});
    if (came[forward] > 0)
      wait(one, forward ? kReceivedForward : kReceivedBackward,
           constant(static_cast<std::int64_t>(came[forward])));
    if (tensor && gathered > 0)
      wait(one, kGathered, constant(static_cast<std::int64_t>(gathered)));
    signal(one, forward ? kForward : kBackward);
    ++done[forward];
    if (tensor) {
      wait(allReduce(step, Collective::GROUP_TENSOR, 0, model.tensorElements),
           forward ? kForward : kBackward,
           constant(static_cast<std::int64_t>(done[forward])))
          .add_signals(kGathered);
      ++gathered;
    }
    if (!(forward ? isLast : isFirst))
      move(forward ? LANE_SEND_FORWARD : LANE_SEND_BACKWARD,
           forward ? next : before, i, done[forward]);
  }
  auto all = constant(static_cast<std::int64_t>(own * model.chunks));
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
  topology.add_chips()->set_name("chip");
  topology.mutable_chips(0)->set_memory_bytes(1 << 30);
  if (model.messagePart > 0)
    topology.mutable_host_work();
  if (model.exchangeWork > 0) {
    auto &work = *topology.mutable_host_work();
    work.set_rank_seconds_per_element(model.exchangeWork);
    work.set_server_seconds_per_element(model.exchangeWork);
  }
  std::uint32_t sites = model.stagesOnSites ? model.stages : model.islands;
  for (std::uint32_t s = 0; s < sites; ++s) {
    Topology::Site &site = *topology.add_sites();
    site.set_name("site" + std::to_string(s));
    if (model.serverRate > 0)
      site.set_server_bytes_per_second(model.serverRate);
    Topology::Pool &pool = *site.add_pools();
    pool.set_name("pool");
    pool.set_nodes(model.nodes);
    pool.set_chips_per_node(model.chipsPerNode);
    pool.set_cards_per_node(model.cardsPerNode);
    pool.set_cores_per_node(model.coresPerNode);
    pool.set_message_part(model.messagePart > 0 ? model.messagePart : 1);
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
  for (const char *name : {"forward", "backward", "weight", "update"})
    plan.add_segments()->set_name(name);
  *plan.mutable_topology() = topologyOf(model);
  for (std::uint32_t i = 0; i < model.islands; ++i) {
    Island &island = *plan.add_islands();
    island.set_batch(model.microbatches);
    island.set_microbatch(1);
    const bool isAlike = i == 0 || model.innerStepsOf.empty();
    PipelineModel its = model; // what the programs of this island are made of
    if (!model.innerStepsOf.empty()) {
      its.innerSteps = model.innerStepsOf[i];
      island.set_inner_steps(its.innerSteps);
    }
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
      group.set_program(isAlike ? s : i * model.stages + s);
      if (i == 0 || !isAlike)
        stageProgram(*plan.add_programs(), its, s,
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
