//===- Strategy.cpp - reading strategy.yaml -------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Import/Strategy.h"
#include "ReadYaml.h"

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
struct StrategyEntry {
  std::optional<std::vector<IslandEntry>> islands;
  std::optional<ServerEntry> server;
};

} // namespace tombolo::yamlio

LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::ReplicasEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::StageEntry)
LLVM_YAML_IS_SEQUENCE_VECTOR(tombolo::yamlio::IslandEntry)

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

template <> struct MappingTraits<StrategyEntry> {
  static void mapping(IO &io, StrategyEntry &strategy) {
    io.mapOptional("islands", strategy.islands);
    io.mapOptional("server", strategy.server);
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
