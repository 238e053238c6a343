//===- Json.cpp - what came out of a simulation, for programs
//----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/sim/Json.h"

#include <algorithm>
#include <cmath>

namespace tombolo::runtime::sim {

using Json = nlohmann::ordered_json;

namespace {

nlohmann::ordered_json figure(std::optional<double> value) {
  if (!value || !std::isfinite(*value))
    return nullptr;
  return *value;
}

} // namespace

nlohmann::ordered_json toJson(const Plan &plan, const SimResult &result) {
  // By island and stage: the most of its ranks.
  auto most = [&](auto bytesOf) {
    Json islands = Json::array();
    for (int i = 0; i < plan.islands_size(); ++i) {
      std::vector<std::uint64_t> stages(
          static_cast<std::size_t>(plan.islands(i).stages_size()));
      for (const ClassResult &one :
           result.islands[static_cast<std::size_t>(i)].classes)
        stages[one.stage] = std::max(stages[one.stage], bytesOf(one));
      islands.push_back(stages);
    }
    return islands;
  };
  Json root;
  root["predicted"] = {
      {"step_seconds", result.stepSeconds},
      {"tokens_per_second", result.tokensPerSecond},
      {"equivalent_compute", figure(result.equivalentCompute)},
      {"equivalent_compute_of_used_chips",
       figure(result.equivalentComputeOfUsedChips)},
      {"peak_memory_bytes",
       most([](const ClassResult &of) { return of.memoryBytes; })},
      {"host_memory_bytes",
       most([](const ClassResult &of) { return of.hostBytes; })},
      {"wan_bytes_per_round", result.wanBytesPerRound},
      {"bubble_fraction", result.bubbleFraction},
      {"exchange_seconds", result.exchangeSeconds},
      {"goodput", result.goodput}};
  Json islands = Json::array();
  for (const IslandResult &island : result.islands) {
    Json classes = Json::array();
    for (const ClassResult &one : island.classes) {
      Json exposed;
      for (std::size_t e = 0; e < kExposures; ++e)
        exposed[name(static_cast<Exposure>(e))] = one.exposedSeconds[e];
      classes.push_back({{"stage", one.stage},
                         {"rank", one.rank},
                         {"ranks", one.ranks},
                         {"pool", one.pool},
                         {"compute_seconds", one.busySeconds},
                         {"exposed_seconds", std::move(exposed)}});
    }
    islands.push_back({{"step_seconds", island.stepSeconds},
                       {"steps", island.steps},
                       {"steps_lost", island.stepsLost},
                       {"rounds", island.rounds},
                       {"down_seconds", island.downSeconds},
                       {"classes", std::move(classes)}});
  }
  Json pools = Json::array(), lines = Json::array();
  for (const PoolResult &pool : result.pools)
    pools.push_back({{"pool", pool.name},
                     {"chips", pool.chips},
                     {"used", pool.used},
                     {"utilisation", pool.utilisation}});
  for (const LineResult &line : result.lines)
    lines.push_back({{"from", line.first},
                     {"to", line.second},
                     {"bytes", line.bytes},
                     {"utilisation", line.utilisation}});
  root["simulated"] = {{"seconds", result.seconds},
                       {"steps", result.steps},
                       {"steps_simulated", result.stepsSimulated},
                       {"events", result.events},
                       {"islands", std::move(islands)},
                       {"pools", std::move(pools)},
                       {"lines", std::move(lines)},
                       {"log", result.log}};
  return root;
}

} // namespace tombolo::runtime::sim
