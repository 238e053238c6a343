//===- Models.cpp - measured iterations as planning problems --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Fitting.h"

#include "tombolo/Conversion/GraphToPlanning.h"
#include "tombolo/Conversion/ShardModel.h"
#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Import/ONNX.h"
#include "tombolo/Import/Strategy.h"
#include "tombolo/Pipelines/Pipelines.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace tombolo {
namespace {

/// Equal stages on one pool. What comes before the first of the model's equal
/// blocks is in the first stage, what comes after the last in the last.
planning::Strategy strategyOf(const RunLine &line, const std::string &pool,
                              uint64_t blocks) {
  planning::Strategy strategy;
  planning::Island &island = strategy.islands.emplace_back();
  island.sites = {planning::splitPool(pool).first};
  island.batch = line.globalBatch;
  island.microbatch = line.microbatch;
  uint64_t layers = blocks - 2;
  for (uint64_t s = 0; s < line.pipelineParallel; ++s) {
    planning::Stage &stage = island.stages.emplace_back();
    stage.blocks = layers / line.pipelineParallel + (s == 0) +
                   (s + 1 == line.pipelineParallel);
    stage.recompute.kind =
        line.recompute ? planning::Recompute::Full : planning::Recompute::None;
    stage.replicas = {{pool, line.dataParallel, line.tensorParallel, 1}};
  }
  return strategy;
}

/// Why a line cannot be of this model and topology; empty: it can.
std::string faultOf(const RunLine &line, const planning::Topology &topology,
                    const std::string &pool, uint64_t blocks) {
  const planning::Pool *found = topology.findPool(pool);
  if (!found)
    return "the topology has no pool '" + pool + "'";
  uint64_t chips =
      line.dataParallel * line.tensorParallel * line.pipelineParallel;
  if (chips > found->chips())
    return "needs " + std::to_string(chips) + " chips; pool '" + pool +
           "' has " + std::to_string(found->chips());
  if (blocks < 3 || (blocks - 2) % line.pipelineParallel != 0)
    return "the model's " + std::to_string(blocks) +
           " blocks less two do not divide into " +
           std::to_string(line.pipelineParallel) + " stages";
  if (line.globalBatch % (line.microbatch * line.dataParallel) != 0)
    return "global batch " + std::to_string(line.globalBatch) +
           " is not a multiple of microbatch x data_parallel";
  return "";
}

/// A path of the table; relative to it.
std::string beside(const std::string &table, const std::string &path) {
  if (llvm::sys::path::is_absolute(path))
    return path;
  llvm::SmallString<128> result(llvm::sys::path::parent_path(table));
  llvm::sys::path::append(result, path);
  return std::string(result);
}

/// How a model's runs were sharded; nothing where its lines do not agree or the
/// file cannot be read.
std::optional<std::vector<planning::Sharding>>
shardingOf(const std::string &table,
           const std::vector<const RunLine *> &members) {
  for (const RunLine *line : members)
    if (line->sharding != members[0]->sharding) {
      llvm::errs() << table << ":" << line->line << ": error: expected '"
                   << members[0]->sharding
                   << "' in 'sharding', as on the model's line "
                   << members[0]->line << ", got '" << line->sharding << "'\n";
      return std::nullopt;
    }
  if (members[0]->sharding.empty())
    return std::vector<planning::Sharding>();
  auto file =
      readStrategyFile(beside(table, members[0]->sharding), llvm::errs());
  if (!file)
    return std::nullopt;
  return std::move(file->pins.shardings);
}

/// What a sharding is chosen for. Where runs say theirs it matters only over
/// how many chips; else each configuration has the one that `tombolo-plan`
/// would choose for it.
std::string keyOf(const planning::ShardingDemand &demand,
                  const std::string &pool, bool isSaid) {
  std::string key = std::to_string(demand.tensorParallel);
  if (isSaid)
    return key;
  for (uint64_t number :
       {demand.microbatch, demand.microbatches, demand.inFlight, demand.saved})
    key += " " + std::to_string(number);
  return key + " " + pool;
}

/// Shards a model over as many chips as a demand says.
LogicalResult shard(ModuleOp module, planning::ModelProfile &model,
                    const planning::ShardingDemand &demand,
                    std::vector<planning::Sharding> said,
                    const std::string &name) {
  // What is said of another number of chips is of other runs, or of none.
  std::erase_if(said, [&](const planning::Sharding &one) {
    return one.tensorParallel != demand.tensorParallel;
  });
  auto shardings = shardModel(module, model, {demand}, said);
  if (failed(shardings))
    return failure();
  for (const planning::Fault &fault : *shardings)
    llvm::errs() << name << ": error: " << fault.message << "\n";
  return success(shardings->empty());
}

} // namespace

std::optional<Runs> loadRuns(const std::string &table,
                             const std::vector<RunLine> &lines,
                             const planning::Topology &topology,
                             planning::Precision precision) {
  DialectRegistry registry;
  registry.insert<func::FuncDialect, graph::GraphDialect>();
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  std::string pools;
  for (const planning::Site &site : topology.sites)
    for (const planning::Pool &pool : site.pools)
      pools += (pools.empty() ? "" : ",") + site.name + "/" + pool.name;

  Runs result;
  result.runs.resize(lines.size());
  std::map<std::string, std::vector<const RunLine *>> byModel;
  for (const RunLine &line : lines)
    byModel[line.model].push_back(&line);
  for (const auto &[model, members] : byModel) {
    OwningOpRef<ModuleOp> module =
        importOnnx(beside(table, model), {}, &context);
    PassManager manager(&context);
    addGraphPasses(manager);
    if (!module || failed(manager.run(*module)))
      return std::nullopt;
    auto profile = profileModel(*module, precision);
    if (failed(profile))
      return std::nullopt;
    planning::Problem problem;
    problem.topology = topology;
    problem.model = std::move(*profile);
    problem.bounds.tiesAcrossStages = true;

    uint64_t blocks = problem.model.blocks();
    auto said = shardingOf(table, members);
    if (!said)
      return std::nullopt;
    std::map<std::string, size_t> problems; // by what they are sharded for
    for (const RunLine *line : members) {
      std::string pool = line->pool.empty() ? pools : line->pool;
      std::string fault = faultOf(*line, topology, pool, blocks);
      if (!fault.empty()) {
        llvm::errs() << table << ":" << line->line << ": error: " << fault
                     << "\n";
        return std::nullopt;
      }
      planning::Strategy strategy = strategyOf(*line, pool, blocks);
      problem.training.globalBatch = line->globalBatch;
      std::vector<planning::ShardingDemand> demands; // one, or none
      if (line->tensorParallel > 1)
        demands = shardingDemands(problem, planning::pinsOf(strategy));
      // What runs leave unsaid of theirs is chosen for one sample.
      if (!demands.empty() && !said->empty())
        demands.front().microbatch = 1;
      std::string key =
          demands.empty() ? "" : keyOf(demands.front(), pool, !said->empty());
      auto [entry, fresh] = problems.try_emplace(key, result.problems.size());
      if (fresh) {
        result.problems.push_back(problem);
        if (!demands.empty() &&
            failed(shard(*module, result.problems.back().model, demands.front(),
                         *said, model)))
          return std::nullopt;
      }
      result.runs[static_cast<size_t>(line - lines.data())] = {
          entry->second, std::move(strategy), line->seconds, line->shape};
    }
  }
  return result;
}

} // namespace tombolo
