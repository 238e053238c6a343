//===- Problem.cpp - reading a planning problem ---------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Import/Problem.h"
#include "ReadYaml.h"
#include "TopologyYaml.h"

#include "tombolo/Planning/ProblemFormat.h"

using namespace llvm;
using namespace tombolo;
using planning::Fault;
using planning::Faults;

namespace tombolo::yamlio {

using Numbers = std::vector<double>;
using Wholes = std::vector<uint64_t>;

struct WorkEntry {
  Numbers affines[std::size(planning::kWorkAffines)];
  std::optional<Numbers> exchanges[planning::kCollectives];
};
struct MeasuredEntry {
  std::string chip;
  Numbers scale;
  std::vector<Numbers> cells;
};
struct KindEntry {
  std::string name;
  uint64_t counts[std::size(planning::kKindCounts)] = {};
  Numbers affines[std::size(planning::kKindAffines)];
  std::optional<Numbers> crossing;
  WorkEntry works[std::size(planning::kKindWorks)];
  std::vector<MeasuredEntry> measured;
  std::vector<KindEntry> sharded;
};
struct TieEntry {
  std::string name;
  uint64_t elements = 0;
  Wholes blocks;
};
struct ModelEntry {
  std::string precision;
  uint64_t tokensPerSample = 0;
  std::vector<Wholes> runs;
  std::vector<KindEntry> kinds;
  std::vector<TieEntry> ties;
};
struct BoundsEntry {
  std::optional<double> reals[std::size(planning::kBoundReals)];
  std::optional<bool> tiesAcrossStages;
  std::optional<uint64_t> candidates, searchNodes, innerSteps, overlapSteps;
  std::optional<std::string> objective, compression, schedule;
  std::optional<double> wanGbits;
};
struct TrainingEntry {
  uint64_t globalBatch = 0, stateBytes = 0;
};
struct ProblemEntry {
  uint64_t version = 0;
  TopologyEntry topology;
  ModelEntry model;
  TrainingEntry training;
  BoundsEntry bounds;
};

// No schema is written of problems, which a program writes: docs/Planning.md
// says what the keys mean.

template <typename Fields> void fields(Fields &io, WorkEntry &work) {
  for (size_t i = 0; i < std::size(work.affines); ++i)
    io.required(planning::kWorkAffines[i].name, work.affines[i], "");
  for (size_t c = 0; c < planning::kCollectives; ++c)
    io.optional(planning::kCollectiveKeys[c], work.exchanges[c], "");
}

template <typename Fields> void fields(Fields &io, MeasuredEntry &measured) {
  io.required("chip", measured.chip, "");
  io.required("scale", measured.scale, "");
  io.optional("cells", measured.cells, "");
}

template <typename Fields> void fields(Fields &io, KindEntry &kind) {
  io.required("name", kind.name, "");
  for (size_t i = 0; i < std::size(kind.counts); ++i)
    io.required(planning::kKindCounts[i].name, kind.counts[i], "");
  for (size_t i = 0; i < std::size(kind.works); ++i)
    io.required(planning::kKindWorks[i].name, kind.works[i], "");
  for (size_t i = 0; i < std::size(kind.affines); ++i)
    io.required(planning::kKindAffines[i].name, kind.affines[i], "");
  io.optional(planning::kKindCrossing.name, kind.crossing, "");
  io.optional("measured", kind.measured, "");
  io.optional("sharded", kind.sharded, "");
}

template <typename Fields> void fields(Fields &io, TieEntry &tie) {
  io.required("name", tie.name, "");
  io.required("elements", tie.elements, "");
  io.required("blocks", tie.blocks, "");
}

template <typename Fields> void fields(Fields &io, ModelEntry &model) {
  io.required("precision", model.precision, "");
  io.required("tokens_per_sample", model.tokensPerSample, "");
  io.required("runs", model.runs, "");
  io.required("kinds", model.kinds, "");
  io.optional("ties", model.ties, "");
}

template <typename Fields> void fields(Fields &io, TrainingEntry &training) {
  io.required("global_batch", training.globalBatch, "");
  io.required("optimizer_state_bytes_per_parameter", training.stateBytes, "");
}

template <typename Fields> void fields(Fields &io, BoundsEntry &bounds) {
  for (size_t i = 0; i < std::size(bounds.reals); ++i)
    io.optional(planning::kBoundReals[i].name, bounds.reals[i], "");
  io.optional("ties_across_stages", bounds.tiesAcrossStages, "");
  io.optional("candidates", bounds.candidates, "");
  io.optional("search_nodes", bounds.searchNodes, "");
  io.optional("inner_steps", bounds.innerSteps, "");
  io.optional("overlap_steps", bounds.overlapSteps, "");
  io.optional("objective", bounds.objective, "");
  io.optional("compression", bounds.compression, "");
  io.optional("schedule", bounds.schedule, "");
  io.optional("wan_gbits", bounds.wanGbits, "");
}

template <typename Fields> void fields(Fields &io, ProblemEntry &problem) {
  io.required("version", problem.version, "");
  io.required("topology", problem.topology, "");
  io.required("model", problem.model, "");
  io.required("training", problem.training, "");
  io.optional("bounds", problem.bounds, "");
}

} // namespace tombolo::yamlio

namespace {

/// Turns what was parsed into the planner's structs.
class Converter {
public:
  Faults faults;

  planning::ModelProfile model(const yamlio::ModelEntry &entry) {
    planning::ModelProfile model;
    if (entry.precision == "bf16")
      model.precision = planning::Precision::BF16;
    else if (entry.precision != "f32")
      fault("model.precision",
            "expected f32 or bf16, got '" + entry.precision + "'");
    model.tokensPerSample = entry.tokensPerSample;
    for (auto [r, run] : enumerate(entry.runs))
      if (sized(planning::at("model.runs", r), run, 2))
        model.runs.push_back({static_cast<size_t>(run[0]), run[1]});
    for (auto [k, kindEntry] : enumerate(entry.kinds))
      model.kinds.push_back(kind(kindEntry, planning::at("model.kinds", k)));
    for (const yamlio::TieEntry &tie : entry.ties)
      model.ties.push_back({tie.name, tie.elements, tie.blocks});
    return model;
  }

  planning::Bounds bounds(const yamlio::BoundsEntry &entry) {
    planning::Bounds bounds;
    for (size_t i = 0; i < std::size(entry.reals); ++i)
      if (entry.reals[i])
        bounds.*planning::kBoundReals[i].field = *entry.reals[i];
    bounds.tiesAcrossStages = entry.tiesAcrossStages.value_or(false);
    bounds.candidates = entry.candidates.value_or(bounds.candidates);
    bounds.searchNodes = entry.searchNodes.value_or(bounds.searchNodes);
    bounds.innerSteps = entry.innerSteps;
    bounds.overlapSteps = entry.overlapSteps;
    bounds.wanGbits = entry.wanGbits;
    if (entry.objective == "cost")
      bounds.objective = planning::Objective::Cost;
    else if (entry.objective && entry.objective != "throughput")
      fault("bounds.objective",
            "expected throughput or cost, got '" + *entry.objective + "'");
    auto word = [&](const char *key, const std::optional<std::string> &text,
                    auto parse, auto &value) {
      if (!text)
        return;
      value = parse(*text);
      if (!value)
        fault(planning::in("bounds", key), "unknown '" + *text + "'");
    };
    word("compression", entry.compression, planning::parseCompression,
         bounds.compression);
    word("schedule", entry.schedule, planning::parseSchedule, bounds.schedule);
    return bounds;
  }

private:
  void fault(const std::string &path, const std::string &message) {
    faults.push_back({path, message});
  }

  template <typename T>
  bool sized(const std::string &path, const std::vector<T> &values,
             size_t count) {
    if (values.size() == count)
      return true;
    fault(path, "expected " + std::to_string(count) + " numbers, got " +
                    std::to_string(values.size()));
    return false;
  }

  planning::Affine affine(const yamlio::Numbers &numbers,
                          const std::string &path) {
    if (!sized(path, numbers, 2))
      return {};
    return {numbers[0], numbers[1]};
  }

  planning::BlockKind kind(const yamlio::KindEntry &entry,
                           const std::string &path) {
    planning::BlockKind kind;
    kind.name = entry.name;
    for (auto [i, key] : enumerate(planning::kKindCounts))
      kind.*key.field = entry.counts[i];
    for (auto [i, key] : enumerate(planning::kKindAffines))
      kind.*key.field = affine(entry.affines[i], planning::in(path, key.name));
    if (entry.crossing)
      kind.crossingBytes = affine(
          *entry.crossing, planning::in(path, planning::kKindCrossing.name));
    for (auto [i, key] : enumerate(planning::kKindWorks))
      kind.*key.field = work(entry.works[i], planning::in(path, key.name));
    for (auto [m, measured] : enumerate(entry.measured)) {
      std::string place = planning::at(planning::in(path, "measured"), m);
      planning::ChipTimes &times = kind.measured.emplace_back();
      times.chip = measured.chip;
      if (sized(planning::in(place, "scale"), measured.scale, planning::kTimed))
        std::copy(measured.scale.begin(), measured.scale.end(),
                  times.scale.begin());
      for (auto [c, cell] : enumerate(measured.cells)) {
        std::string where = planning::at(planning::in(place, "cells"), c);
        // One more of a chip profile: weights' part of the backward.
        bool isOfProfile = cell.size() == 3 + planning::kTimed;
        if (!isOfProfile && !sized(where, cell, 2 + planning::kTimed))
          continue;
        // Whole numbers that a double holds.
        for (double whole : {cell[0], cell[1]})
          if (!(whole >= 1 && whole <= 4294967296.0 &&
                whole == static_cast<double>(static_cast<uint64_t>(whole)))) {
            fault(where, "expected whole numbers of chips and samples");
            return kind;
          }
        times.cells.push_back({static_cast<uint64_t>(cell[0]),
                               static_cast<uint64_t>(cell[1]),
                               {cell[2], cell[3], cell[4]},
                               isOfProfile ? cell[5] : -1,
                               !isOfProfile});
      }
    }
    for (auto [s, sharded] : enumerate(entry.sharded))
      kind.sharded.push_back(
          this->kind(sharded, planning::at(planning::in(path, "sharded"), s)));
    return kind;
  }

  planning::Work work(const yamlio::WorkEntry &entry, const std::string &path) {
    planning::Work work;
    for (auto [i, key] : enumerate(planning::kWorkAffines))
      work.*key.field = affine(entry.affines[i], planning::in(path, key.name));
    for (size_t c = 0; c < planning::kCollectives; ++c) {
      const auto &numbers = entry.exchanges[c];
      std::string place = planning::in(path, planning::kCollectiveKeys[c]);
      if (numbers && sized(place, *numbers, 3))
        work.exchanges[c] = {(*numbers)[0], {(*numbers)[1], (*numbers)[2]}};
    }
    return work;
  }
};

} // namespace

std::optional<ProblemFile> tombolo::readProblem(YamlFile file,
                                                raw_ostream &errors) {
  yamlio::ProblemEntry entry;
  if (!yamlio::read(file, entry, errors))
    return std::nullopt;
  auto report = [&](const Faults &faults) {
    for (const Fault &fault : faults)
      file.report(errors, fault);
    return faults.empty();
  };
  if (entry.version != planning::kProblemVersion) {
    report({{"version", "expected version " +
                            std::to_string(planning::kProblemVersion) +
                            ", got " + std::to_string(entry.version)}});
    return std::nullopt;
  }
  planning::Problem problem;
  Faults faults;
  // Paths of a topology stand under its key here.
  auto below = [](Faults faults) {
    for (Fault &fault : faults)
      for (const char *key : {"chips", "sites", "links"})
        if (StringRef(fault.path).starts_with(key)) {
          fault.path = planning::in("topology", fault.path);
          break;
        }
    return faults;
  };
  problem.topology =
      yamlio::toTopology(entry.topology, file.getName(), faults, errors);
  if (!report(below(faults)))
    return std::nullopt;
  Converter converter;
  problem.model = converter.model(entry.model);
  problem.bounds = converter.bounds(entry.bounds);
  problem.training.globalBatch = entry.training.globalBatch;
  problem.training.optimizerStateBytesPerParameter = entry.training.stateBytes;
  if (!report(converter.faults) || !report(below(problem.check())) ||
      !report(below(planning::applyLayerTimes(problem))))
    return std::nullopt;
  return ProblemFile{std::move(file), std::move(problem)};
}

std::optional<ProblemFile> tombolo::readProblemFile(StringRef path,
                                                    raw_ostream &errors) {
  auto file = openYaml(path, errors);
  if (!file)
    return std::nullopt;
  return readProblem(std::move(*file), errors);
}
