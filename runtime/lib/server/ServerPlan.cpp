//===- ServerPlan.cpp - what a plan says about the server -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/plan/Parameters.h"
#include "tombolo/runtime/server/ExchangeClient.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include <algorithm>
#include <map>
#include <optional>

using namespace tombolo::runtime;
using tombolo::plan::v1::Server;

namespace {

/// A parameter as one island has it.
struct Parameter {
  std::uint64_t elements = 0;
  std::uint32_t fragment = 0;
};

/// The trainable parameters of an island. That each element has one owner has
/// been validated.
std::map<std::string, Parameter> parametersOf(const Plan &plan,
                                              std::uint32_t island) {
  std::map<std::string, Parameter> parameters;
  IslandLayout layout(plan.islands(island));
  // Many ranks run few programs; each is expanded once.
  std::map<std::uint32_t, std::vector<LocalParameter>> expanded;
  for (std::uint64_t rank = 0; rank < layout.rankCount(); ++rank) {
    RankCoordinates where = layout.coordinates(rank);
    if (where.replica != 0)
      continue; // owns nothing, and holds what replica 0 holds
    auto [program, fresh] = expanded.try_emplace(where.program);
    if (fresh)
      program->second = expandParameters(plan.programs(where.program));
    for (const LocalParameter &local : program->second) {
      if (!local.trainable)
        continue;
      if (local.dtype != tombolo::plan::v1::DTYPE_F32)
        throw Error("plan: trainable parameter '", local.name,
                    "' is not f32, which the exchange between islands needs");
      auto [entry, first] = parameters.try_emplace(local.name);
      Parameter &parameter = entry->second;
      if (first) {
        parameter.elements = local.elements;
        parameter.fragment = local.fragment;
      } else if (parameter.elements != local.elements ||
                 parameter.fragment != local.fragment) {
        throw Error("plan: parameter '", local.name, "' of island ", island,
                    " has ", parameter.elements, " elements in fragment ",
                    parameter.fragment, " on one rank and ", local.elements,
                    " in fragment ", local.fragment, " on rank ", rank);
      }
    }
  }
  return parameters;
}

Compression compressionOf(const Server &server) {
  switch (server.compression()) {
  case Server::COMPRESSION_BF16:
    return Compression::Bf16;
  case Server::COMPRESSION_INT8:
    return Compression::Int8;
  case Server::COMPRESSION_INT4:
    return Compression::Int4;
  default:
    return Compression::None;
  }
}

/// Nothing: none that this version knows.
std::optional<OuterOptimizer> optimizerOf(const Server &server) {
  switch (server.outer().kind()) {
  case Server::Outer::KIND_SGD:
    return OuterOptimizer::Sgd;
  case Server::Outer::KIND_NESTEROV:
    return OuterOptimizer::Nesterov;
  case Server::Outer::KIND_ADAMW:
    return OuterOptimizer::AdamW;
  default:
    return std::nullopt;
  }
}

} // namespace

void tombolo::runtime::checkServerPlan(const Plan &plan) {
  if (!plan.has_server())
    throw Error("plan: it has no server section, so there is nothing to serve");
  const Server &server = plan.server();
  const Server::Placement &first = server.placements(0);
  for (const Server::Placement &placement : server.placements())
    if (placement.backup() != first.backup() ||
        (!first.backup().empty() && placement.primary() != first.primary()))
      throw Error("plan: with a backup all fragments are kept at the same two "
                  "sites by this version, expected ",
                  first.primary(), " and ",
                  first.backup().empty() ? "no backup" : first.backup(),
                  ", got ", placement.primary(), " and ",
                  placement.backup().empty() ? "no backup" : placement.backup(),
                  "; set 'placement' in the strategy's 'server' section");
  if (!first.backup().empty() && first.backup() == first.primary())
    throw Error("plan: expected the backup at another site than the primary, "
                "got both in ",
                first.primary());
  ServerGroup group = serverGroup(plan);
  if (group.sites.size() == 2 && server.witness().empty())
    throw Error("plan: with servers at two sites alone, ", group.sites[0],
                " and ", group.sites[1],
                ", one of them has to be named whose vote decides, or a third "
                "site; set 'witness' in the strategy's 'server' section");
  if (server.inner_steps() == 0)
    throw Error("plan: expected server.inner_steps of at least 1, got 0");
  if (server.overlap_steps() >= server.inner_steps())
    throw Error("plan: expected server.overlap_steps below inner_steps ",
                server.inner_steps(), ", got ", server.overlap_steps());
  if (!optimizerOf(server))
    throw Error("plan: the server has no outer optimizer");
}

ServerGroup tombolo::runtime::serverGroup(const Plan &plan) {
  ServerGroup group;
  const Server &server = plan.server();
  const Server::Placement &place = server.placements(0);
  group.sites = {place.primary()};
  if (place.backup().empty())
    return group;
  auto add = [&](const std::string &site) {
    if (std::find(group.sites.begin(), group.sites.end(), site) ==
        group.sites.end())
      group.sites.push_back(site);
  };
  add(place.backup());
  for (const auto &island : plan.islands())
    for (const std::string &site : island.sites())
      add(site);
  if (!server.witness().empty())
    add(server.witness());
  group.votes.assign(group.sites.size(), 1);
  // Half of them shall be able to go on when the others are lost.
  if (group.sites.size() % 2 == 0)
    for (std::size_t i = 0; i < group.sites.size(); ++i)
      if (group.sites[i] == server.witness())
        group.votes[i] = 2;
  return group;
}

ParameterServerOptions tombolo::runtime::serverOptions(const Plan &plan,
                                                       std::string runId) {
  checkServerPlan(plan);
  ParameterServerOptions options;
  options.runId = std::move(runId);
  options.planChecksum = plan.checksum();
  options.group = serverGroup(plan);
  const Server &server = plan.server();
  options.outer.islands = plan.islands_size();
  options.outer.fragments = server.fragments();
  OuterSettings &outer = options.outer.outer;
  outer.optimizer = *optimizerOf(server);
  outer.learningRate = server.outer().learning_rate();
  outer.momentum = server.outer().momentum();
  outer.beta2 = server.outer().beta2();
  outer.epsilon = server.outer().epsilon();
  outer.weightDecay = server.outer().weight_decay();
  options.outer.compression = compressionOf(server);
  options.outer.quorum = server.quorum();
  options.outer.deadlineSeconds = server.deadline_seconds();

  std::map<std::string, Parameter> first;
  for (int island = 0; island < plan.islands_size(); ++island) {
    IslandLayout layout(plan.islands(island));
    if (layout.rankCount() > 1u << 20)
      throw Error("plan: island ", island, " has ", layout.rankCount(),
                  " ranks, expected at most ", 1u << 20);
    options.ranks.push_back(static_cast<std::uint32_t>(layout.rankCount()));
    options.sites.emplace_back(plan.islands(island).sites().begin(),
                               plan.islands(island).sites().end());
    std::map<std::string, Parameter> here = parametersOf(plan, island);
    if (island == 0) {
      for (const auto &[name, parameter] : here)
        options.outer.tensors.push_back(
            {name, parameter.elements, parameter.fragment});
      first = std::move(here);
      continue;
    }
    for (const auto &[name, parameter] : here) {
      auto other = first.find(name);
      if (other == first.end() ||
          other->second.elements != parameter.elements ||
          other->second.fragment != parameter.fragment)
        throw Error("plan: parameter '", name, "' of island ", island,
                    " is not the same in island 0");
    }
    if (here.size() != first.size())
      throw Error("plan: island ", island, " has ", here.size(),
                  " trainable parameters, island 0 has ", first.size());
  }
  return options;
}

ExchangeOptions tombolo::runtime::exchangeOptions(const Plan &plan,
                                                  std::uint32_t island,
                                                  std::uint32_t rank) {
  checkServerPlan(plan);
  ExchangeOptions options;
  options.planChecksum = plan.checksum();
  options.island = island;
  options.rank = rank;
  options.fragments = plan.server().fragments();
  options.innerSteps = IslandSteps(plan, island).inRound();
  options.overlapSteps = plan.server().overlap_steps();
  options.compression = compressionOf(plan.server());
  options.tokensPerStep =
      plan.islands(island).batch() *
      std::max<std::uint64_t>(1, plan.model().tokens_per_sample());
  return options;
}
