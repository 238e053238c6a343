//===- PlanJson.cpp - a plan as the page reads it -------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "PlanJson.h"

#include "tombolo/runtime/File.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace tombolo::report {

using namespace tombolo::plan::v1;

static Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

static Json wireJson(const Topology::Wire &wire) {
  return {{"bytes_per_second", number(wire.bytes_per_second())},
          {"latency_seconds", number(wire.latency_seconds())}};
}

static Json topologyJson(const Topology &topology) {
  Json sites = Json::array(), lines = Json::array();
  for (const Topology::Site &site : topology.sites()) {
    Json pools = Json::array();
    for (const Topology::Pool &pool : site.pools()) {
      const Topology::Chip &chip =
          topology.chips(static_cast<int>(pool.chip()));
      Json one = {{"name", pool.name()},
                  {"chip", chip.name()},
                  {"chip_memory_bytes", chip.memory_bytes()},
                  {"nodes", pool.nodes()},
                  {"chips_per_node", pool.chips_per_node()},
                  {"cards_per_node", pool.cards_per_node()}};
      if (pool.cores_per_node() > 0)
        one["cores_per_node"] = pool.cores_per_node();
      if (pool.has_intra_node())
        one["intra_node"] = wireJson(pool.intra_node());
      if (pool.has_inter_node())
        one["inter_node"] = wireJson(pool.inter_node());
      pools.push_back(std::move(one));
    }
    sites.push_back({{"name", site.name()}, {"pools", std::move(pools)}});
  }
  for (const Topology::Line &line : topology.lines())
    lines.push_back({{"first", line.first()},
                     {"second", line.second()},
                     {"bytes_per_second", number(line.bytes_per_second())},
                     {"rtt_seconds", number(line.rtt_seconds())},
                     {"loss", number(line.loss())}});
  return {{"sites", std::move(sites)}, {"lines", std::move(lines)}};
}

/// Bytes of the arena by name of region, and what is in none.
static Json memoryJson(const Program &program) {
  std::map<std::string, std::uint64_t> byName;
  std::uint64_t covered = 0;
  for (const Region &region : program.regions()) {
    byName[region.name()] += region.bytes();
    covered += region.bytes();
  }
  if (covered < program.arena_bytes())
    byName["padding"] += program.arena_bytes() - covered;
  Json regions = Json::array();
  for (const auto &[name, bytes] : byName)
    if (bytes > 0)
      regions.push_back({{"name", name}, {"bytes", bytes}});
  return regions;
}

static std::uint64_t chipMemory(const Plan &plan, const ReplicaGroup &group) {
  for (const Topology::Site &site : plan.topology().sites())
    if (site.name() == group.site())
      for (const Topology::Pool &pool : site.pools())
        if (pool.name() == group.pool())
          return plan.topology()
              .chips(static_cast<int>(pool.chip()))
              .memory_bytes();
  return 0;
}

static Json islandJson(const Plan &plan, const Island &island) {
  Json stages = Json::array();
  for (const Stage &stage : island.stages()) {
    Json groups = Json::array();
    for (const ReplicaGroup &group : stage.groups()) {
      const Program &program = plan.programs(static_cast<int>(group.program()));
      Json one = {{"site", group.site()},
                  {"pool", group.pool()},
                  {"replicas", group.count()},
                  {"tensor_parallel", group.tensor_parallel()},
                  {"share", group.share()},
                  {"arena_bytes", program.arena_bytes()},
                  {"host_bytes", program.host_bytes()},
                  {"memory", memoryJson(program)}};
      if (std::uint64_t bytes = chipMemory(plan, group))
        one["chip_memory_bytes"] = bytes;
      groups.push_back(std::move(one));
    }
    stages.push_back({{"groups", std::move(groups)}});
  }
  Json sites = Json::array();
  for (const std::string &site : island.sites())
    sites.push_back(site);
  std::uint64_t innerSteps =
      island.inner_steps() ? island.inner_steps() : plan.server().inner_steps();
  return {{"sites", std::move(sites)},
          {"batch", island.batch()},
          {"microbatch", island.microbatch()},
          {"inner_steps", innerSteps},
          {"stages", std::move(stages)}};
}

static Json serverJson(const Server &server) {
  static constexpr const char *compressions[] = {"?", "none", "bf16", "int8",
                                                 "int4"};
  Json placements = Json::array();
  for (const Server::Placement &place : server.placements())
    placements.push_back(
        {{"primary", place.primary()}, {"backup", place.backup()}});
  return {{"inner_steps", server.inner_steps()},
          {"overlap_steps", server.overlap_steps()},
          {"fragments", server.fragments()},
          {"compression", compressions[server.compression()]},
          {"quorum", server.quorum()},
          {"deadline_seconds", number(server.deadline_seconds())},
          {"placements", std::move(placements)}};
}

/// Elements of all parameters of the model: each is owned once in an island.
static std::uint64_t parameterElements(const Plan &plan) {
  std::set<std::uint32_t> programs;
  if (plan.islands_size() > 0)
    for (const Stage &stage : plan.islands(0).stages())
      for (const ReplicaGroup &group : stage.groups())
        programs.insert(group.program());
  std::uint64_t elements = 0;
  for (std::uint32_t index : programs)
    for (const ParameterFamily &family :
         plan.programs(static_cast<int>(index)).parameters()) {
      if (!family.owner())
        continue;
      std::uint64_t one = 1;
      for (std::uint64_t dim : family.dims())
        one *= dim;
      elements += one * family.count();
    }
  return elements;
}

Json planJson(const runtime::Plan &plan) {
  const Prediction &prediction = plan.prediction();
  Json foretold = {
      {"step_seconds", number(prediction.step_seconds())},
      {"tokens_per_second", number(prediction.tokens_per_second())},
      {"equivalent_compute", prediction.has_equivalent_compute()
                                 ? number(prediction.equivalent_compute())
                                 : Json(nullptr)},
      {"equivalent_compute_of_used_chips",
       prediction.has_equivalent_compute_of_used_chips()
           ? number(prediction.equivalent_compute_of_used_chips())
           : Json(nullptr)},
      {"wan_bytes_per_round", number(prediction.wan_bytes_per_round())},
      {"bubble_fraction", number(prediction.bubble_fraction())}};
  Json islands = Json::array();
  for (const Island &island : plan.islands())
    islands.push_back(islandJson(plan, island));
  const Training &training = plan.training();
  Json result = {
      {"model_hash", runtime::toHex(plan.model_hash())},
      {"topology_hash", runtime::toHex(plan.topology_hash())},
      {"tokens_per_sample", plan.model().tokens_per_sample()},
      {"parameters", parameterElements(plan)},
      {"optimizer", training.has_sgd() ? "SGD" : "AdamW"},
      {"learning_rate", number(training.learning_rate())},
      {"global_batch", training.global_batch()},
      {"precision", training.precision() == PRECISION_BF16 ? "bf16" : "f32"},
      {"prediction", plan.has_prediction() ? foretold : Json(nullptr)},
      {"islands", std::move(islands)},
      {"server", plan.has_server() ? serverJson(plan.server()) : Json(nullptr)},
      {"topology",
       plan.has_topology() ? topologyJson(plan.topology()) : Json(nullptr)}};
  return result;
}

} // namespace tombolo::report
