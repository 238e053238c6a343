//===- Strategy.cpp - reading strategy.yaml -------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Import/Strategy.h"
#include "ReadYaml.h"
#include "Schema.h"
#include "StrategyYaml.h"

#include <set>

using namespace llvm;
using namespace tombolo;
using namespace tombolo::yamlio;
using planning::Fault;
using planning::Faults;

namespace tombolo::yamlio {

/// `none`, `full`, or a number of blocks.
static constexpr const char *kRecomputeWords[] = {"none", "full"};

static void readValue(const YamlNode &node, const char *key, const Items &,
                      planning::Recompute &field, Findings &findings) {
  using planning::Recompute;
  if (node.kind == YamlNode::Scalar && node.text == kRecomputeWords[0]) {
    field = {Recompute::None, 0};
  } else if (node.kind == YamlNode::Scalar && node.text == kRecomputeWords[1]) {
    field = {Recompute::Full, 0};
  } else if (node.asNumber()) {
    field.kind = Recompute::Blocks;
    readValue(node, key, kBlocksAgain, field.blocks, findings);
  } else {
    findings.expected(node, "none, full or a number of blocks");
  }
}

static json::Object schemaOf(const planning::Recompute &, const Items &) {
  return json::Object{
      {"anyOf", json::Array{schemaOf(kRecomputeWords),
                            schemaOf(uint64_t(), kBlocksAgain)}}};
}

} // namespace tombolo::yamlio

namespace {

/// One stage in either form.
planning::StagePins convertStage(const StageEntry &entry) {
  planning::StagePins stage;
  stage.blocks = entry.blocks;
  stage.recompute = entry.recompute;
  stage.optimizerSharding = entry.optimizerSharding;
  if (entry.replicas)
    for (const ReplicasEntry &group : *entry.replicas)
      stage.replicas.push_back({group.pool, group.count.value_or(0),
                                group.tensorParallel.value_or(1),
                                group.share.value_or(1)});
  else
    stage.replicas.push_back({entry.pool.value_or(""),
                              entry.dataParallel.value_or(0),
                              entry.tensorParallel.value_or(1), 1});
  return stage;
}

planning::IslandPins convertIsland(const IslandEntry &entry) {
  planning::IslandPins island;
  island.sites = entry.sites;
  island.batch = entry.batch;
  island.microbatch = entry.microbatch;
  island.schedule = entry.schedule;
  island.chunks = entry.chunks;
  island.innerSteps = entry.innerSteps;
  if (entry.stages) {
    island.stages.emplace();
    for (const StageEntry &stage : *entry.stages)
      island.stages->push_back(convertStage(stage));
  }
  return island;
}

planning::ServerPins convertServer(const ServerEntry &entry) {
  planning::ServerPins server;
  server.innerSteps = entry.innerSteps;
  server.fragments = entry.fragments;
  server.overlapSteps = entry.overlapSteps;
  server.compression = entry.compression;
  if (entry.outer) {
    server.outer = entry.outer->optimizer;
    server.outerLearningRate = entry.outer->learningRate;
    server.outerMomentum = entry.outer->momentum;
    server.outerBeta2 = entry.outer->beta2;
    server.outerEpsilon = entry.outer->epsilon;
    server.outerWeightDecay = entry.outer->weightDecay;
  }
  server.quorum = entry.quorum;
  server.deadlineSeconds = entry.deadlineSeconds;
  server.witness = entry.witness;
  if (entry.placement) {
    server.placement.emplace();
    for (const auto &[fragment, place] : *entry.placement)
      (*server.placement)[std::stoull(fragment)] = place; // as kByFragment says
  }
  return server;
}

/// Keys of one outer optimizer beside another one's name.
void checkOuter(const planning::ServerPins &server, Faults &faults) {
  planning::OuterOptimizer outer =
      server.outer.value_or(planning::Server().outer);
  if (outer == planning::OuterOptimizer::AdamW)
    return;
  auto check = [&](const char *key, bool isGiven) {
    if (isGiven)
      faults.push_back({planning::in("server.outer", key),
                        std::string(key) +
                            " belongs to adamw, but the outer "
                            "optimizer is " +
                            planning::name(outer)});
  };
  check("beta2", server.outerBeta2.has_value());
  check("eps", server.outerEpsilon.has_value());
  check("weight_decay", server.outerWeightDecay.has_value());
}

planning::ShardingState convertState(const StateEntry &entry) {
  return {entry.dim, entry.outer.value_or(1)};
}

planning::OpSeed convertOp(const OpEntry &entry) {
  planning::OpSeed seed;
  seed.function = entry.function;
  seed.op = entry.op;
  if (entry.factor)
    seed.choice = static_cast<int64_t>(*entry.factor);
  else if (entry.linear)
    seed.choice = -2 - static_cast<int64_t>(*entry.linear);
  seed.outer = entry.outer.value_or(1);
  return seed;
}

planning::Sharding convertSharding(const ShardingEntry &entry) {
  planning::Sharding sharding;
  sharding.block = entry.block;
  sharding.tensorParallel = entry.tensorParallel;
  if (entry.parameters)
    for (const auto &[name, state] : *entry.parameters)
      sharding.parameters[name] = convertState(state);
  auto all = [](const auto &from, auto convert, auto &to) {
    if (from)
      for (const auto &one : *from)
        to.push_back(convert(one));
  };
  all(entry.inputs, convertState, sharding.inputs);
  all(entry.outputs, convertState, sharding.outputs);
  all(entry.ops, convertOp, sharding.ops);
  return sharding;
}

} // namespace

std::optional<StrategyFile> tombolo::readStrategy(YamlFile file,
                                                  raw_ostream &errors) {
  StrategyEntry entry;
  if (!yamlio::read(file, entry, errors))
    return std::nullopt;
  Faults faults;
  planning::StrategyPins pins;
  if (entry.islands) {
    pins.islands.emplace();
    for (const IslandEntry &island : *entry.islands)
      pins.islands->push_back(convertIsland(island));
  }
  if (entry.server) {
    pins.server = convertServer(*entry.server);
    checkOuter(*pins.server, faults);
  }
  if (entry.sharding) {
    std::set<std::pair<uint64_t, uint64_t>> seen;
    for (size_t i = 0; i < entry.sharding->size(); ++i) {
      const ShardingEntry &from = (*entry.sharding)[i];
      if (!seen.insert({from.block, from.tensorParallel}).second)
        faults.push_back({planning::at("sharding", i),
                          "block " + std::to_string(from.block) +
                              " has a second sharding for "
                              "tensor_parallel " +
                              std::to_string(from.tensorParallel)});
      pins.shardings.push_back(convertSharding(from));
    }
  }
  for (const Fault &fault : faults)
    file.report(errors, fault);
  if (!faults.empty())
    return std::nullopt;
  return StrategyFile{std::move(file), std::move(pins)};
}

std::optional<StrategyFile> tombolo::readStrategyFile(StringRef path,
                                                      raw_ostream &errors) {
  auto file = openYaml(path, errors);
  if (!file)
    return std::nullopt;
  return readStrategy(std::move(*file), errors);
}

void tombolo::writeStrategySchema(raw_ostream &out) {
  writeSchema<StrategyEntry>(
      "Tombolo: strategy.yaml",
      "Who does what: islands of chips, their pipelines, the server between "
      "them. Whole or in part; the search fills in the rest.",
      out);
}
