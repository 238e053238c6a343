//===- Strategy.cpp - reading strategy.yaml -------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Import/Strategy.h"
#include "ReadYaml.h"

#include <set>

using namespace llvm;
using namespace tombolo;
using planning::Fault;
using planning::Faults;

namespace tombolo::yamlio {

/// Words that stand for a value.
struct ScheduleWord {
  planning::Schedule value;
};
struct CompressionWord {
  planning::Compression value;
};
struct OptimizerWord {
  planning::OuterOptimizer value;
};
struct RecomputeWord {
  planning::Recompute value;
};

struct ReplicasEntry {
  std::string pool;
  std::optional<uint64_t> count, tensorParallel, share;
};
struct StageEntry {
  std::optional<uint64_t> blocks;
  std::optional<RecomputeWord> recompute;
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
  std::optional<ScheduleWord> schedule;
  std::optional<std::vector<StageEntry>> stages;
};
struct OuterEntry {
  std::optional<OptimizerWord> optimizer;
  std::optional<double> learningRate, momentum;
};
struct PlacementEntry {
  std::vector<std::pair<std::string, planning::Placement>> places;
};
struct ServerEntry {
  std::optional<uint64_t> innerSteps, fragments, overlapSteps, quorum;
  std::optional<CompressionWord> compression;
  std::optional<OuterEntry> outer;
  std::optional<double> deadlineSeconds;
  std::optional<PlacementEntry> placement;
  std::optional<std::string> witness;
};
struct StateEntry {
  std::optional<uint64_t> dim, outer;
};
struct ParametersEntry {
  std::vector<std::pair<std::string, StateEntry>> states;
};
struct FunctionWord {
  planning::OpSeed::Function value = planning::OpSeed::Forward;
};
struct OpEntry {
  FunctionWord function;
  uint64_t op = 0;
  std::optional<uint64_t> factor, outer, linear;
};
struct ShardingEntry {
  uint64_t block = 0, tensorParallel = 0;
  std::optional<ParametersEntry> parameters;
  std::optional<std::vector<StateEntry>> inputs, outputs;
  std::optional<std::vector<OpEntry>> ops;
};
struct StrategyEntry {
  std::optional<std::vector<IslandEntry>> islands;
  std::optional<ServerEntry> server;
  std::optional<std::vector<ShardingEntry>> sharding;
};

} // namespace tombolo::yamlio

LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::ReplicasEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::StageEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::IslandEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::StateEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::OpEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::ShardingEntry)

namespace llvm::yaml {

using namespace tombolo::yamlio;
namespace planning = tombolo::planning;

/// The traits of a word, from its parser and the list of words.
template <typename Word, auto parse> struct WordTraits {
  static void output(const Word &, void *, raw_ostream &) {}
  static StringRef read(StringRef text, Word &word, StringRef expected) {
    auto value = parse(text.str());
    if (!value)
      return expected;
    word.value = *value;
    return "";
  }
  static QuotingType mustQuote(StringRef) { return QuotingType::None; }
};

template <>
struct ScalarTraits<ScheduleWord>
    : WordTraits<ScheduleWord, planning::parseSchedule> {
  static StringRef input(StringRef text, void *, ScheduleWord &word) {
    return read(text, word, "expected gpipe, 1f1b, interleaved or zero-bubble");
  }
};

template <>
struct ScalarTraits<CompressionWord>
    : WordTraits<CompressionWord, planning::parseCompression> {
  static StringRef input(StringRef text, void *, CompressionWord &word) {
    return read(text, word, "expected none, bf16, int8 or int4");
  }
};

template <>
struct ScalarTraits<OptimizerWord>
    : WordTraits<OptimizerWord, planning::parseOuterOptimizer> {
  static StringRef input(StringRef text, void *, OptimizerWord &word) {
    return read(text, word, "expected sgd or nesterov");
  }
};

template <> struct ScalarTraits<RecomputeWord> {
  static void output(const RecomputeWord &, void *, raw_ostream &) {}
  static StringRef input(StringRef text, void *, RecomputeWord &word) {
    using planning::Recompute;
    if (text == "none")
      word.value = {Recompute::None, 0};
    else if (text == "full")
      word.value = {Recompute::Full, 0};
    else if (!text.getAsInteger(10, word.value.blocks))
      word.value.kind = Recompute::Blocks;
    else
      return "expected none, full or a number of blocks";
    return "";
  }
  static QuotingType mustQuote(StringRef) { return QuotingType::None; }
};

template <> struct MappingTraits<ReplicasEntry> {
  static void mapping(IO &io, ReplicasEntry &replicas) {
    need(io, "pool", replicas.pool);
    tombolo::yamlio::optional(io, "count", replicas.count);
    tombolo::yamlio::optional(io, "tensor_parallel", replicas.tensorParallel);
    tombolo::yamlio::optional(io, "share", replicas.share);
  }
};

template <> struct MappingTraits<StageEntry> {
  static void mapping(IO &io, StageEntry &stage) {
    tombolo::yamlio::optional(io, "blocks", stage.blocks);
    io.mapOptional("recompute", stage.recompute);
    io.mapOptional("optimizer_sharding", stage.optimizerSharding);
    io.mapOptional("pool", stage.pool);
    tombolo::yamlio::optional(io, "data_parallel", stage.dataParallel);
    tombolo::yamlio::optional(io, "tensor_parallel", stage.tensorParallel);
    io.mapOptional("replicas", stage.replicas);
  }
};

template <> struct MappingTraits<IslandEntry> {
  static void mapping(IO &io, IslandEntry &island) {
    need(io, "sites", island.sites);
    tombolo::yamlio::optional(io, "batch", island.batch);
    tombolo::yamlio::optional(io, "microbatch", island.microbatch);
    io.mapOptional("schedule", island.schedule);
    tombolo::yamlio::optional(io, "chunks", island.chunks);
    tombolo::yamlio::optional(io, "inner_steps", island.innerSteps);
    io.mapOptional("stages", island.stages);
  }
};

template <> struct MappingTraits<OuterEntry> {
  static void mapping(IO &io, OuterEntry &outer) {
    io.mapOptional("optimizer", outer.optimizer);
    io.mapOptional("lr", outer.learningRate);
    io.mapOptional("momentum", outer.momentum);
  }
};

template <> struct MappingTraits<planning::Placement> {
  static void mapping(IO &io, planning::Placement &placement) {
    need(io, "primary", placement.primary);
    io.mapOptional("backup", placement.backup);
  }
};

template <> struct CustomMappingTraits<PlacementEntry> {
  static void inputOne(IO &io, StringRef key, PlacementEntry &placement) {
    planning::Placement place;
    std::string name = key.str();
    io.mapRequired(name.c_str(), place);
    placement.places.emplace_back(name, place);
  }
  static void output(IO &, PlacementEntry &) {}
};

template <> struct MappingTraits<ServerEntry> {
  static void mapping(IO &io, ServerEntry &server) {
    tombolo::yamlio::optional(io, "inner_steps", server.innerSteps);
    tombolo::yamlio::optional(io, "fragments", server.fragments);
    tombolo::yamlio::optional(io, "overlap_steps", server.overlapSteps);
    io.mapOptional("compression", server.compression);
    io.mapOptional("outer", server.outer);
    tombolo::yamlio::optional(io, "quorum", server.quorum);
    io.mapOptional("deadline_seconds", server.deadlineSeconds);
    io.mapOptional("placement", server.placement);
    io.mapOptional("witness", server.witness);
  }
};

template <> struct MappingTraits<StateEntry> {
  static void mapping(IO &io, StateEntry &state) {
    tombolo::yamlio::optional(io, "dim", state.dim);
    tombolo::yamlio::optional(io, "outer", state.outer);
  }
};

template <> struct CustomMappingTraits<ParametersEntry> {
  static void inputOne(IO &io, StringRef key, ParametersEntry &parameters) {
    StateEntry state;
    std::string name = key.str();
    io.mapRequired(name.c_str(), state);
    parameters.states.emplace_back(name, state);
  }
  static void output(IO &, ParametersEntry &) {}
};

template <>
struct ScalarTraits<FunctionWord>
    : WordTraits<FunctionWord, planning::parseFunction> {
  static StringRef input(StringRef text, void *, FunctionWord &word) {
    return read(text, word,
                "expected forward, backward_input or backward_weight");
  }
};

template <> struct MappingTraits<OpEntry> {
  static void mapping(IO &io, OpEntry &op) {
    need(io, "function", op.function);
    required(io, "op", op.op);
    tombolo::yamlio::optional(io, "factor", op.factor);
    tombolo::yamlio::optional(io, "outer", op.outer);
    tombolo::yamlio::optional(io, "linear", op.linear);
  }
};

template <> struct MappingTraits<ShardingEntry> {
  static void mapping(IO &io, ShardingEntry &sharding) {
    required(io, "block", sharding.block);
    required(io, "tensor_parallel", sharding.tensorParallel);
    io.mapOptional("parameters", sharding.parameters);
    io.mapOptional("inputs", sharding.inputs);
    io.mapOptional("outputs", sharding.outputs);
    io.mapOptional("ops", sharding.ops);
  }
};

template <> struct MappingTraits<StrategyEntry> {
  static void mapping(IO &io, StrategyEntry &strategy) {
    io.mapOptional("islands", strategy.islands);
    io.mapOptional("server", strategy.server);
    io.mapOptional("sharding", strategy.sharding);
  }
};

} // namespace llvm::yaml

namespace {

using namespace tombolo::yamlio;

/// One stage in either form.
planning::StagePins convertStage(const StageEntry &entry,
                                 const std::string &path, Faults &faults) {
  planning::StagePins stage;
  stage.blocks = entry.blocks;
  if (entry.recompute)
    stage.recompute = entry.recompute->value;
  stage.optimizerSharding = entry.optimizerSharding;
  auto zero = [&](const std::string &where, const char *key,
                  const std::optional<uint64_t> &value) {
    if (value && *value == 0)
      faults.push_back({planning::in(where, key),
                        std::string("'") + key + "' must be positive, got 0"});
  };
  zero(path, "blocks", entry.blocks);
  if (entry.replicas) {
    for (auto [given, key] :
         {std::pair(entry.pool.has_value(), "pool"),
          {entry.dataParallel.has_value(), "data_parallel"},
          {entry.tensorParallel.has_value(), "tensor_parallel"}})
      if (given)
        faults.push_back(
            {planning::in(path, key),
             std::string("'") + key + "' and 'replicas' exclude each other"});
    if (entry.replicas->empty())
      faults.push_back({planning::in(path, "replicas"),
                        "a stage needs at least one replica"});
    for (size_t i = 0; i < entry.replicas->size(); ++i) {
      const ReplicasEntry &group = (*entry.replicas)[i];
      std::string where = planning::at(planning::in(path, "replicas"), i);
      zero(where, "count", group.count);
      zero(where, "tensor_parallel", group.tensorParallel);
      zero(where, "share", group.share);
      stage.replicas.push_back({group.pool, group.count.value_or(0),
                                group.tensorParallel.value_or(1),
                                group.share.value_or(1)});
    }
    return stage;
  }
  zero(path, "data_parallel", entry.dataParallel);
  zero(path, "tensor_parallel", entry.tensorParallel);
  if (!entry.pool)
    faults.push_back({path, "a stage needs a 'pool' or 'replicas'"});
  stage.replicas.push_back({entry.pool.value_or(""),
                            entry.dataParallel.value_or(0),
                            entry.tensorParallel.value_or(1), 1});
  return stage;
}

planning::ServerPins convertServer(const ServerEntry &entry, Faults &faults) {
  planning::ServerPins server;
  server.innerSteps = entry.innerSteps;
  server.fragments = entry.fragments;
  server.overlapSteps = entry.overlapSteps;
  if (entry.compression)
    server.compression = entry.compression->value;
  if (entry.outer) {
    if (entry.outer->optimizer)
      server.outer = entry.outer->optimizer->value;
    server.outerLearningRate = entry.outer->learningRate;
    server.outerMomentum = entry.outer->momentum;
  }
  server.quorum = entry.quorum;
  server.deadlineSeconds = entry.deadlineSeconds;
  server.witness = entry.witness;
  if (entry.placement) {
    server.placement.emplace();
    for (const auto &[key, place] : entry.placement->places) {
      uint64_t fragment = 0;
      std::string path = "server.placement";
      if (StringRef(key).getAsInteger(10, fragment))
        faults.push_back(
            {planning::in(path, key),
             "expected the number of a fragment, got '" + key + "'"});
      else
        (*server.placement)[fragment] = place;
    }
  }
  return server;
}

/// A list as long as any model's; numbers above it are not counts of anything.
constexpr uint64_t kMaxNumber = uint64_t(1) << 32;

planning::ShardingState convertState(const StateEntry &entry,
                                     const std::string &path, Faults &faults) {
  if (entry.outer && !entry.dim)
    faults.push_back({planning::in(path, "outer"), "'outer' needs a 'dim'"});
  if (entry.outer && (*entry.outer == 0 || *entry.outer > kMaxNumber))
    faults.push_back({planning::in(path, "outer"),
                      "expected an 'outer' from 1 to " +
                          std::to_string(kMaxNumber) + ", got " +
                          std::to_string(*entry.outer)});
  if (entry.dim && *entry.dim > kMaxNumber)
    faults.push_back({planning::in(path, "dim"),
                      "expected the number of a dimension, got " +
                          std::to_string(*entry.dim)});
  return {entry.dim, entry.outer.value_or(1)};
}

planning::OpSeed convertOp(const OpEntry &entry, const std::string &path,
                           Faults &faults) {
  planning::OpSeed seed;
  seed.function = entry.function.value;
  seed.op = entry.op;
  if (entry.linear && (entry.factor || entry.outer))
    faults.push_back({planning::in(path, "linear"),
                      "'linear' excludes 'factor' and 'outer'"});
  if (entry.outer && !entry.factor)
    faults.push_back(
        {planning::in(path, "outer"), "'outer' needs a 'factor'"});
  for (auto [key, value] :
       {std::pair("op", std::optional(entry.op)),
        {"factor", entry.factor},
        {"outer", entry.outer},
        {"linear", entry.linear}})
    if (value.value_or(0) > kMaxNumber)
      faults.push_back({planning::in(path, key),
                        std::string("expected '") + key + "' to be at most " +
                            std::to_string(kMaxNumber) + ", got " +
                            std::to_string(*value)});
  if (entry.outer == uint64_t(0))
    faults.push_back(
        {planning::in(path, "outer"), "'outer' must be positive, got 0"});
  if (entry.factor)
    seed.choice = static_cast<int64_t>(*entry.factor);
  else if (entry.linear)
    seed.choice = -2 - static_cast<int64_t>(*entry.linear);
  seed.outer = entry.outer.value_or(1);
  return seed;
}

planning::Sharding convertSharding(const ShardingEntry &entry,
                                   const std::string &path, Faults &faults) {
  planning::Sharding sharding;
  sharding.block = entry.block;
  sharding.tensorParallel = entry.tensorParallel;
  if (entry.block > kMaxNumber)
    faults.push_back(
        {planning::in(path, "block"), "expected the number of a block, got " +
                                          std::to_string(entry.block)});
  if (entry.tensorParallel < 2 || entry.tensorParallel > kMaxNumber)
    faults.push_back({planning::in(path, "tensor_parallel"),
                      "expected 'tensor_parallel' of at least 2, got " +
                          std::to_string(entry.tensorParallel)});
  if (entry.parameters)
    for (const auto &[name, state] : entry.parameters->states)
      sharding.parameters[name] = convertState(
          state, planning::in(planning::in(path, "parameters"), name), faults);
  auto states = [&](const char *key, const auto &from, auto &to) {
    if (from)
      for (const StateEntry &state : *from)
        to.push_back(convertState(
            state, planning::at(planning::in(path, key), to.size()), faults));
  };
  states("inputs", entry.inputs, sharding.inputs);
  states("outputs", entry.outputs, sharding.outputs);
  if (entry.ops)
    for (const OpEntry &op : *entry.ops)
      sharding.ops.push_back(convertOp(
          op, planning::at(planning::in(path, "ops"), sharding.ops.size()),
          faults));
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
    for (size_t i = 0; i < entry.islands->size(); ++i) {
      const IslandEntry &from = (*entry.islands)[i];
      std::string path = planning::at("islands", i);
      planning::IslandPins island;
      island.sites = from.sites;
      island.batch = from.batch;
      island.microbatch = from.microbatch;
      if (from.schedule)
        island.schedule = from.schedule->value;
      island.chunks = from.chunks;
      island.innerSteps = from.innerSteps;
      if (from.stages) {
        island.stages.emplace();
        if (from.stages->empty())
          faults.push_back({planning::in(path, "stages"),
                            "an island needs at least one stage"});
        for (size_t s = 0; s < from.stages->size(); ++s)
          island.stages->push_back(convertStage(
              (*from.stages)[s], planning::at(planning::in(path, "stages"), s),
              faults));
      }
      pins.islands->push_back(std::move(island));
    }
  }
  if (entry.server)
    pins.server = convertServer(*entry.server, faults);
  if (entry.sharding) {
    std::set<std::pair<uint64_t, uint64_t>> seen;
    for (size_t i = 0; i < entry.sharding->size(); ++i) {
      const ShardingEntry &from = (*entry.sharding)[i];
      std::string path = planning::at("sharding", i);
      if (!seen.insert({from.block, from.tensorParallel}).second)
        faults.push_back({path, "block " + std::to_string(from.block) +
                                    " has a second sharding for "
                                    "tensor_parallel " +
                                    std::to_string(from.tensorParallel)});
      pins.shardings.push_back(convertSharding(from, path, faults));
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
