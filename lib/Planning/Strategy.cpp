//===- Strategy.cpp - words and sums of a strategy ------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Strategy.h"

#include <algorithm>
#include <iterator>

namespace tombolo::planning {

namespace {
constexpr const char *kSchedules[] = {"gpipe", "1f1b", "interleaved",
                                      "zero-bubble"};
constexpr const char *kCompressions[] = {"none", "bf16", "int8", "int4"};
constexpr const char *kOuterOptimizers[] = {"sgd", "nesterov", "adamw"};
constexpr const char *kFunctions[] = {"forward", "backward_input",
                                      "backward_weight"};

template <typename Enum, size_t size>
std::optional<Enum> parse(const char *const (&words)[size],
                          const std::string &text) {
  auto found = std::find(std::begin(words), std::end(words), text);
  if (found == std::end(words))
    return std::nullopt;
  return static_cast<Enum>(found - std::begin(words));
}
} // namespace

std::span<const char *const> words(Schedule) { return kSchedules; }
std::span<const char *const> words(Compression) { return kCompressions; }
std::span<const char *const> words(OuterOptimizer) { return kOuterOptimizers; }
std::span<const char *const> words(OpSeed::Function) { return kFunctions; }

const char *name(Schedule schedule) {
  return kSchedules[static_cast<size_t>(schedule)];
}
const char *name(Compression compression) {
  return kCompressions[static_cast<size_t>(compression)];
}
const char *name(OuterOptimizer optimizer) {
  return kOuterOptimizers[static_cast<size_t>(optimizer)];
}
std::optional<Schedule> parseSchedule(const std::string &text) {
  return parse<Schedule>(kSchedules, text);
}
std::optional<Compression> parseCompression(const std::string &text) {
  return parse<Compression>(kCompressions, text);
}
std::optional<OuterOptimizer> parseOuterOptimizer(const std::string &text) {
  return parse<OuterOptimizer>(kOuterOptimizers, text);
}

const char *name(OpSeed::Function function) {
  return kFunctions[static_cast<size_t>(function)];
}
uint64_t Recompute::of(uint64_t stageBlocks) const {
  return kind == None   ? 0
         : kind == Full ? stageBlocks
                        : std::min(blocks, stageBlocks);
}

std::string Recompute::text() const {
  return kind == None ? "none" : kind == Full ? "full" : std::to_string(blocks);
}

bool dealAlike(const std::vector<ReplicaGroup> &one,
               const std::vector<ReplicaGroup> &other) {
  return std::ranges::equal(one, other,
                            [](const ReplicaGroup &a, const ReplicaGroup &b) {
                              return a.count == b.count && a.share == b.share;
                            });
}

uint64_t Stage::replicaCount() const {
  uint64_t total = 0;
  for (const ReplicaGroup &group : replicas)
    total += group.count;
  return total;
}

uint64_t Stage::ranks() const {
  uint64_t total = 0;
  for (const ReplicaGroup &group : replicas)
    total += group.count * group.tensorParallel;
  return total;
}

uint64_t Stage::turn() const {
  uint64_t total = 0;
  for (const ReplicaGroup &group : replicas)
    total += group.count * group.share;
  return total;
}

uint64_t Island::ranks() const {
  uint64_t total = 0;
  for (const Stage &stage : stages)
    total += stage.ranks();
  return total;
}

Server Server::with(OuterOptimizer outer) {
  Server server;
  server.outer = outer;
  if (outer == OuterOptimizer::AdamW) {
    server.outerLearningRate = 1e-3;
    server.outerMomentum = 0.9;
  }
  return server;
}

double Server::bytesPerParameter() const {
  return outer == OuterOptimizer::AdamW ? 16 : 12;
}

bool StrategyPins::isWhole() const {
  if (!islands)
    return false;
  for (const IslandPins &island : *islands) {
    if (!island.batch || !island.microbatch || !island.stages)
      return false;
    for (const StagePins &stage : *island.stages) {
      if (!stage.blocks || !stage.recompute || stage.replicas.empty())
        return false;
      for (const ReplicaGroup &group : stage.replicas)
        if (group.count == 0)
          return false;
    }
  }
  return true;
}

uint64_t innerStepsOf(const Strategy &strategy, const Island &island) {
  return strategy.server
             ? island.innerSteps.value_or(strategy.server->innerSteps)
             : 1;
}

bool hasOwnInnerSteps(const Strategy &strategy) {
  return strategy.server &&
         std::any_of(strategy.islands.begin(), strategy.islands.end(),
                     [&](const Island &island) {
                       return innerStepsOf(strategy, island) !=
                              strategy.server->innerSteps;
                     });
}

StrategyPins pinsOf(const Strategy &strategy) {
  StrategyPins pins;
  pins.islands.emplace();
  for (const Island &island : strategy.islands) {
    IslandPins plain;
    plain.sites = island.sites;
    plain.batch = island.batch;
    plain.microbatch = island.microbatch;
    plain.schedule = island.schedule;
    plain.chunks = island.chunks;
    plain.innerSteps = island.innerSteps;
    plain.stages.emplace();
    for (const Stage &stage : island.stages)
      plain.stages->push_back({stage.blocks, stage.recompute,
                               stage.optimizerSharding, stage.replicas});
    pins.islands->push_back(std::move(plain));
  }
  pins.shardings = strategy.shardings;
  if (const auto &server = strategy.server) {
    ServerPins plain;
    plain.innerSteps = server->innerSteps;
    plain.fragments = server->fragments;
    plain.overlapSteps = server->overlapSteps;
    plain.compression = server->compression;
    plain.outer = server->outer;
    plain.outerLearningRate = server->outerLearningRate;
    plain.outerMomentum = server->outerMomentum;
    plain.outerBeta2 = server->outerBeta2;
    plain.outerEpsilon = server->outerEpsilon;
    plain.outerWeightDecay = server->outerWeightDecay;
    plain.quorum = server->quorum;
    plain.deadlineSeconds = server->deadlineSeconds;
    plain.placement = server->placement;
    plain.witness = server->witness;
    pins.server = std::move(plain);
  }
  return pins;
}

Faults supportedBySlice(const Strategy &strategy) {
  Faults faults;
  auto notYet = [&](std::string path, const std::string &what) {
    faults.push_back({std::move(path), what + " is not there yet"});
  };
  for (size_t i = 0; i < strategy.islands.size(); ++i) {
    const Island &island = strategy.islands[i];
    std::string path = at("islands", i);
    for (size_t s = 0; s < island.stages.size(); ++s) {
      const Stage &stage = island.stages[s];
      std::string place = at(in(path, "stages"), s);
      for (const ReplicaGroup &group : stage.replicas)
        if (group.tensorParallel != stage.replicas.front().tensorParallel)
          notYet(in(place, "replicas"),
                 "a stage whose replicas have unequal tensor_parallel");
    }
  }
  return faults;
}

} // namespace tombolo::planning
