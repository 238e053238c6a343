//===- PlanSummary.cpp - what tombolo-plan tells about a plan -------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Target/PlanSummary.h"
#include "YamlText.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/YAMLTraits.h"

#include <cmath>

using namespace llvm;
using namespace tombolo;
using namespace tombolo::planning;

//===----------------------------------------------------------------------===//
// Table
//===----------------------------------------------------------------------===//

/// `1.5 GiB`.
static std::string bytesText(double bytes) {
  static constexpr const char *kUnits[] = {"B",   "KiB", "MiB",
                                           "GiB", "TiB", "PiB"};
  size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < std::size(kUnits); ++unit)
    bytes /= 1024;
  std::string text;
  raw_string_ostream(text) << format(unit == 0 ? "%.0f " : "%.1f ", bytes)
                           << kUnits[unit];
  return text;
}

static std::string secondsText(double seconds) {
  std::string text;
  raw_string_ostream os(text);
  if (seconds < 1e-3)
    os << format("%.1f us", seconds * 1e6);
  else if (seconds < 1)
    os << format("%.2f ms", seconds * 1e3);
  else
    os << format("%.3f s", seconds);
  return text;
}

void tombolo::printPlanTable(raw_ostream &os, const Candidate &candidate) {
  const Strategy &strategy = candidate.strategy;
  const Prediction &prediction = candidate.prediction;
  std::vector<std::vector<std::string>> rows = {
      {"island", "stage", "pool", "replicas", "tp", "blocks", "recompute",
       "memory per chip", "of", "forward", "backward"}};
  // What the chips of a replica tell each other, where any has several.
  bool exchanges = false;
  for (const Island &island : strategy.islands)
    for (const Stage &stage : island.stages)
      for (const ReplicaGroup &group : stage.replicas)
        exchanges |= group.tensorParallel > 1;
  if (exchanges)
    rows[0].push_back("of both, tp");
  TimeSource leastSure = TimeSource::Computed;
  for (size_t i = 0; i < strategy.islands.size(); ++i) {
    const std::vector<Stage> &stages = strategy.islands[i].stages;
    const auto &foretold = prediction.islands[i].stages;
    // Like stages in a row are one line, with the most memory of any.
    for (size_t s = 0, end; s < stages.size(); s = end) {
      for (end = s + 1; end < stages.size() && stages[end] == stages[s];)
        ++end;
      std::string numbers = std::to_string(s);
      if (end > s + 1)
        numbers += "-" + std::to_string(end - 1);
      for (size_t g = 0; g < stages[s].replicas.size(); ++g) {
        const ReplicaGroup &group = stages[s].replicas[g];
        double memory = 0, forward = 0, backward = 0, exchanged = 0;
        TimeSource source = TimeSource::Computed;
        for (size_t k = s; k < end; ++k) {
          memory = std::max(memory, foretold[k][g].memory.total());
          forward = std::max(forward, foretold[k][g].forwardSeconds);
          backward = std::max(backward, foretold[k][g].backwardSeconds);
          exchanged = std::max(exchanged, foretold[k][g].exchangeSeconds);
          source = std::max(source, foretold[k][g].source);
        }
        leastSure = std::max(leastSure, source);
        const char *about = source > TimeSource::Measured ? "~" : "";
        rows.push_back(
            {std::to_string(i), numbers, group.pool,
             std::to_string(group.count), std::to_string(group.tensorParallel),
             std::to_string(stages[s].blocks), stages[s].recompute.text(),
             bytesText(memory), bytesText(foretold[s][g].availableBytes),
             about + secondsText(forward), about + secondsText(backward)});
        if (exchanges)
          rows.back().push_back(secondsText(exchanged));
      }
    }
  }
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const auto &row : rows)
    for (size_t c = 0; c < row.size(); ++c)
      widths[c] = std::max(widths[c], row[c].size());
  for (const auto &row : rows) {
    for (size_t c = 0; c < row.size(); ++c) {
      bool isName = c == 2 || c == 6;
      os << (c ? "  " : "");
      if (isName)
        os << left_justify(row[c], widths[c]);
      else
        os << right_justify(row[c], widths[c]);
    }
    os << "\n";
  }
  if (leastSure == TimeSource::Interpolated)
    os << "~ interpolated between measured microbatches\n";
  if (leastSure == TimeSource::Estimated)
    os << "~ estimated or interpolated from measured times\n";
  os << "\n";
  for (size_t i = 0; i < strategy.islands.size(); ++i) {
    const Island &island = strategy.islands[i];
    os << "island " << i << " (" << join(island.sites, ", ") << "): batch "
       << island.batch << ", microbatch " << island.microbatch << ", "
       << name(island.schedule) << ", " << island.ranks() << " chips, ";
    if (hasOwnInnerSteps(strategy))
      os << innerStepsOf(strategy, island) << " inner steps, ";
    os << "step " << secondsText(prediction.islands[i].stepSeconds)
       << ", bubble "
       << format("%.1f %%", 100 * prediction.islands[i].bubbleFraction) << "\n";
  }
  if (const auto &server = strategy.server) {
    double host = 0;
    for (const IslandPrediction &island : prediction.islands)
      for (const auto &groups : island.stages)
        for (const GroupPrediction &group : groups)
          host = std::max(host, group.memory.host);
    os << "server: every " << server->innerSteps << " steps, "
       << secondsText(prediction.synchronisationSeconds) << " each time, "
       << bytesText(prediction.wanBytesPerRound) << " between sites, up to "
       << bytesText(host) << " of host memory per rank\n";
    auto place = llvm::find_if(server->placement, [](const auto &entry) {
      return !entry.second.backup.empty();
    });
    if (place == server->placement.end())
      place = server->placement.begin();
    os << "server at "
       << (place == server->placement.end() ? strategy.islands[0].sites[0]
                                            : place->second.primary);
    if (place != server->placement.end() && !place->second.backup.empty()) {
      os << ", backup at " << place->second.backup;
      if (!server->witness.empty())
        os << ", witness at " << server->witness;
      os << "\n";
    } else {
      os << ", without a backup: what ends it ends all rounds (a backup needs "
            "'hosts' at two sites and a third site that can vote)\n";
    }
  }
  os << "step: " << secondsText(prediction.stepSeconds) << ", "
     << format("%.1f", prediction.tokensPerSecond) << " tokens/s\n";
  if (prediction.equivalentCompute) {
    os << "equivalent compute: "
       << format("%.3f", *prediction.equivalentCompute);
    if (prediction.equivalentComputeOfUsedChips)
      os << " (of the chips used: "
         << format("%.3f", *prediction.equivalentComputeOfUsedChips) << ")";
    os << "\n";
  }
}

//===----------------------------------------------------------------------===//
// JSON
//===----------------------------------------------------------------------===//

static json::Value figure(std::optional<double> value) {
  if (!value || !std::isfinite(*value))
    return nullptr;
  return *value;
}

static json::Value count(uint64_t value) { return static_cast<int64_t>(value); }

static json::Value recomputeJson(const Recompute &recompute) {
  if (recompute.kind == Recompute::Blocks)
    return count(recompute.blocks);
  return recompute.text();
}

/// A state as `strategy.yaml` has it; whole is `{}`.
static json::Value stateJson(const ShardingState &state) {
  json::Object object;
  if (state.dim)
    object["dim"] = count(*state.dim);
  if (state.outer != 1)
    object["outer"] = count(state.outer);
  return object;
}

static json::Object shardingJson(const Sharding &sharding) {
  json::Object parameters;
  for (const auto &[name, state] : sharding.parameters)
    parameters[name] = stateJson(state);
  json::Array ops;
  for (const OpSeed &seed : sharding.ops) {
    json::Object op{{"function", name(seed.function)}, {"op", count(seed.op)}};
    if (seed.choice >= 0)
      op["factor"] = seed.choice;
    else if (seed.choice < -1)
      op["linear"] = -2 - seed.choice;
    if (seed.outer != 1)
      op["outer"] = count(seed.outer);
    ops.push_back(std::move(op));
  }
  auto states = [](const std::vector<ShardingState> &from) {
    json::Array array;
    for (const ShardingState &state : from)
      array.push_back(stateJson(state));
    return array;
  };
  return json::Object{{"block", count(sharding.block)},
                      {"tensor_parallel", count(sharding.tensorParallel)},
                      {"parameters", std::move(parameters)},
                      {"inputs", states(sharding.inputs)},
                      {"outputs", states(sharding.outputs)},
                      {"ops", std::move(ops)}};
}

static json::Object outerJson(const Server &server) {
  json::Object outer{{"optimizer", name(server.outer)},
                     {"lr", server.outerLearningRate},
                     {"momentum", server.outerMomentum}};
  if (server.outer == OuterOptimizer::AdamW) {
    outer["beta2"] = server.outerBeta2;
    outer["eps"] = server.outerEpsilon;
    outer["weight_decay"] = server.outerWeightDecay;
  }
  return outer;
}

static json::Object strategyJson(const Strategy &strategy) {
  json::Array islands;
  for (const Island &island : strategy.islands) {
    json::Array stages;
    for (const Stage &stage : island.stages) {
      json::Array replicas;
      for (const ReplicaGroup &group : stage.replicas)
        replicas.push_back(
            json::Object{{"pool", group.pool},
                         {"count", count(group.count)},
                         {"tensor_parallel", count(group.tensorParallel)},
                         {"share", count(group.share)}});
      stages.push_back(
          json::Object{{"blocks", count(stage.blocks)},
                       {"recompute", recomputeJson(stage.recompute)},
                       {"optimizer_sharding", stage.optimizerSharding},
                       {"replicas", std::move(replicas)}});
    }
    json::Object object{{"sites", json::Array(island.sites)},
                        {"batch", count(island.batch)},
                        {"microbatch", count(island.microbatch)},
                        {"schedule", name(island.schedule)},
                        {"chunks", count(island.chunks)},
                        {"stages", std::move(stages)}};
    if (island.innerSteps)
      object["inner_steps"] = count(*island.innerSteps);
    islands.push_back(std::move(object));
  }
  json::Object result{{"islands", std::move(islands)}};
  if (const auto &server = strategy.server) {
    json::Object placement;
    for (const auto &[fragment, place] : server->placement) {
      json::Object where{{"primary", place.primary}};
      if (!place.backup.empty())
        where["backup"] = place.backup;
      placement[std::to_string(fragment)] = std::move(where);
    }
    json::Object object{{"inner_steps", count(server->innerSteps)},
                        {"fragments", count(server->fragments)},
                        {"overlap_steps", count(server->overlapSteps)},
                        {"compression", name(server->compression)},
                        {"outer", outerJson(*server)},
                        {"quorum", count(server->quorum)},
                        {"deadline_seconds", server->deadlineSeconds},
                        {"placement", std::move(placement)}};
    if (!server->witness.empty())
      object["witness"] = server->witness;
    result["server"] = std::move(object);
  }
  if (!strategy.shardings.empty()) {
    json::Array shardings;
    for (const Sharding &sharding : strategy.shardings)
      shardings.push_back(shardingJson(sharding));
    result["sharding"] = std::move(shardings);
  }
  return result;
}

/// The strategies that the search kept, best first.
static json::Array alternativesJson(const SearchResult &result) {
  json::Array all;
  for (const auto &[i, one] : enumerate(result.alternatives))
    all.push_back(
        json::Object{{"strategy", one.strategy},
                     {"step_seconds", figure(one.stepSeconds)},
                     {"simulated_step_seconds",
                      i < result.simulated.size()
                          ? figure(result.simulated[i].simulatedSeconds)
                          : json::Value(nullptr)},
                     {"tokens_per_second", figure(one.tokensPerSecond)},
                     {"memory_fraction", figure(one.memoryFraction)},
                     {"peak_memory_bytes", figure(one.memoryBytes)},
                     {"wan_bytes_per_round", figure(one.wanBytesPerRound)},
                     {"wan_bytes_per_second", figure(one.wanBytesPerSecond)}});
  return all;
}

void tombolo::writeSummaryJson(raw_ostream &os, const SearchResult &result,
                               const Candidate &candidate) {
  const Prediction &prediction = candidate.prediction;
  // By island, then stage: the most of its ranks.
  auto most = [&](auto bytesOf) {
    json::Array islands;
    for (const IslandPrediction &island : prediction.islands) {
      json::Array stages;
      for (const auto &groups : island.stages) {
        double bytes = 0;
        for (const GroupPrediction &group : groups)
          bytes = std::max(bytes, bytesOf(group.memory));
        stages.push_back(
            static_cast<int64_t>(std::min(std::ceil(bytes), 9e18)));
      }
      islands.push_back(std::move(stages));
    }
    return islands;
  };
  // The same of collectives inside replicas, forward and backward of one
  // microbatch, nothing overlapped.
  json::Array exchanges;
  for (const IslandPrediction &island : prediction.islands) {
    json::Array stages;
    for (const auto &groups : island.stages) {
      double seconds = 0;
      for (const GroupPrediction &group : groups)
        seconds = std::max(seconds, group.exchangeSeconds);
      stages.push_back(figure(seconds));
    }
    exchanges.push_back(std::move(stages));
  }
  // Where times come from.
  json::Array sources;
  for (const IslandPrediction &island : prediction.islands) {
    json::Array stages;
    for (const auto &groups : island.stages) {
      TimeSource source = TimeSource::Computed;
      for (const GroupPrediction &group : groups)
        source = std::max(source, group.source);
      stages.push_back(name(source));
    }
    sources.push_back(std::move(stages));
  }
  json::Array simulated;
  for (const SimulatedStep &one : result.simulated)
    simulated.push_back(json::Object{
        {"predicted_step_seconds", figure(one.predictedSeconds)},
        {"simulated_step_seconds", figure(one.simulatedSeconds)}});
  json::Object root{
      {"predicted",
       json::Object{
           {"step_seconds", figure(prediction.stepSeconds)},
           {"tokens_per_second", figure(prediction.tokensPerSecond)},
           {"equivalent_compute", figure(prediction.equivalentCompute)},
           {"equivalent_compute_of_used_chips",
            figure(prediction.equivalentComputeOfUsedChips)},
           {"peak_memory_bytes",
            most([](const MemoryUse &use) { return use.total(); })},
           {"host_memory_bytes",
            most([](const MemoryUse &use) { return use.host; })},
           {"tensor_parallel_seconds", std::move(exchanges)},
           {"time_sources", std::move(sources)},
           {"wan_bytes_per_round", figure(prediction.wanBytesPerRound)},
           {"bubble_fraction", figure(prediction.bubbleFraction)}}},
      {"search", json::Object{{"candidates", count(result.candidates)},
                              {"lower_bound", figure(result.lowerBound)},
                              {"optimal", result.optimal},
                              {"simulated", std::move(simulated)},
                              {"alternatives", alternativesJson(result)}}},
      {"strategy", strategyJson(candidate.strategy)}};
  os << formatv("{0:2}", json::Value(std::move(root))) << "\n";
}

//===----------------------------------------------------------------------===//
// YAML
//===----------------------------------------------------------------------===//

static std::string stateText(const ShardingState &state) {
  if (!state.dim)
    return "{}";
  std::string text = "{dim: " + std::to_string(*state.dim);
  if (state.outer != 1)
    text += ", outer: " + std::to_string(state.outer);
  return text + "}";
}

static void writeSharding(raw_ostream &os, const Sharding &sharding) {
  os << "  - block: " << sharding.block
     << "\n    tensor_parallel: " << sharding.tensorParallel << "\n";
  if (!sharding.parameters.empty()) {
    os << "    parameters:\n";
    for (const auto &[name, state] : sharding.parameters)
      os << "      " << scalar(name) << ": " << stateText(state) << "\n";
  }
  for (auto [key, states] : {std::pair("inputs", &sharding.inputs),
                             {"outputs", &sharding.outputs}}) {
    if (states->empty())
      continue;
    os << "    " << key << ": [";
    interleaveComma(*states, os, [&](const ShardingState &state) {
      os << stateText(state);
    });
    os << "]\n";
  }
  if (!sharding.ops.empty())
    os << "    ops:\n";
  for (const OpSeed &seed : sharding.ops) {
    os << "      - {function: " << name(seed.function) << ", op: " << seed.op;
    if (seed.choice >= 0)
      os << ", factor: " << seed.choice;
    else if (seed.choice < -1)
      os << ", linear: " << -2 - seed.choice;
    if (seed.outer != 1)
      os << ", outer: " << seed.outer;
    os << "}\n";
  }
}

void tombolo::writeStrategyYaml(raw_ostream &os, const Strategy &strategy) {
  os << "islands:\n";
  for (const Island &island : strategy.islands) {
    os << "  - sites: [";
    interleaveComma(island.sites, os,
                    [&](const std::string &site) { os << scalar(site); });
    os << "]\n    batch: " << island.batch
       << "\n    microbatch: " << island.microbatch
       << "\n    schedule: " << name(island.schedule)
       << "\n    chunks: " << island.chunks << "\n";
    if (island.innerSteps)
      os << "    inner_steps: " << *island.innerSteps << "\n";
    os << "    stages:\n";
    for (const Stage &stage : island.stages) {
      os << "      - blocks: " << stage.blocks
         << "\n        recompute: " << stage.recompute.text()
         << "\n        optimizer_sharding: "
         << (stage.optimizerSharding ? "true" : "false")
         << "\n        replicas:\n";
      for (const ReplicaGroup &group : stage.replicas)
        os << "          - {pool: " << scalar(group.pool)
           << ", count: " << group.count
           << ", tensor_parallel: " << group.tensorParallel
           << ", share: " << group.share << "}\n";
    }
  }
  if (const auto &server = strategy.server) {
    os << "server:\n  inner_steps: " << server->innerSteps
       << "\n  fragments: " << server->fragments
       << "\n  overlap_steps: " << server->overlapSteps
       << "\n  compression: " << name(server->compression)
       << "\n  outer: {optimizer: " << name(server->outer)
       << ", lr: " << real(server->outerLearningRate)
       << ", momentum: " << real(server->outerMomentum);
    if (server->outer == OuterOptimizer::AdamW)
      os << ", beta2: " << real(server->outerBeta2)
         << ", eps: " << real(server->outerEpsilon)
         << ", weight_decay: " << real(server->outerWeightDecay);
    os << "}\n  quorum: " << server->quorum
       << "\n  deadline_seconds: " << real(server->deadlineSeconds) << "\n";
    if (!server->placement.empty()) {
      os << "  placement:\n";
      for (const auto &[fragment, place] : server->placement) {
        os << "    " << fragment << ": {primary: " << scalar(place.primary);
        if (!place.backup.empty())
          os << ", backup: " << scalar(place.backup);
        os << "}\n";
      }
    }
    if (!server->witness.empty())
      os << "  witness: " << scalar(server->witness) << "\n";
  }
  if (!strategy.shardings.empty())
    os << "sharding:\n";
  for (const Sharding &sharding : strategy.shardings)
    writeSharding(os, sharding);
}
