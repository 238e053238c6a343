//===- Grid.cpp - an island as other engines see it -----------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Grid.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

#include <numeric>
#include <set>
#include <utility>

using namespace llvm;
using namespace tombolo;
using namespace tombolo::engines;
using namespace tombolo::plan;

static uint64_t replicasOf(const v1::Stage &stage) {
  uint64_t count = 0;
  for (const v1::ReplicaGroup &group : stage.groups())
    count += group.count();
  return count;
}

bool Grid::recomputesNothing() const {
  return all_of(parts, [](const Part &part) { return part.recomputed == 0; });
}
bool Grid::recomputesAll() const {
  return all_of(
      parts, [](const Part &part) { return part.recomputed == part.layers; });
}

namespace {

/// Gives the model's blocks their names in a transformer.
class Transformer {
public:
  Transformer(const v1::Pipeline &pipeline, std::vector<std::string> &refusals)
      : pipeline(pipeline), refusals(refusals) {}

  bool read(Grid &grid) {
    int chunks = pipeline.stages(0).chunks_size();
    uint64_t total = 0;
    for (const v1::PipelineStage &stage : pipeline.stages())
      for (const v1::PipelineChunk &chunk : stage.chunks())
        total += blocksOf(chunk);
    if (total < 3) {
      refusals.push_back("the model has " + std::to_string(total) +
                         " blocks, expected an embedding, layers and a head");
      return false;
    }
    grid.chunks = chunks;
    grid.layers = total - 2;
    grid.pipelineParallel = pipeline.stages_size();
    std::vector<uint64_t> again; // of each stage, blocks still to be recomputed
    for (const v1::PipelineStage &stage : pipeline.stages())
      again.push_back(stage.recomputed_blocks());
    std::set<std::string> kinds;
    uint64_t block = 0;
    bool recomputesEnds = false;
    for (int c = 0; c < chunks; ++c)
      for (int s = 0; s < pipeline.stages_size(); ++s) {
        const v1::PipelineChunk &chunk = pipeline.stages(s).chunks(c);
        Part &part = grid.parts.emplace_back();
        part.firstLayer = block == 0 ? 0 : block - 1;
        uint64_t end = block;
        for (const v1::BlockRun &run : chunk.runs()) {
          uint64_t start = std::exchange(end, end + run.count());
          if (std::max<uint64_t>(start, 1) < std::min(end, total - 1))
            kinds.insert(run.block()); // not the embedding or the head alone
        }
        part.hasEmbedding = block == 0;
        part.hasHead = end == total;
        part.layers =
            end - block - uint64_t(part.hasEmbedding) - uint64_t(part.hasHead);
        uint64_t recomputed = std::min(again[s], end - block);
        again[s] -= recomputed;
        bool first = part.hasEmbedding && recomputed > 0;
        bool last = part.hasHead && recomputed == end - block;
        recomputesEnds |= first || last;
        part.recomputed = recomputed - uint64_t(first) - uint64_t(last);
        block = end;
      }
    if (kinds.size() > 1) {
      refusals.push_back("between the first block and the last there are " +
                         std::to_string(kinds.size()) +
                         " kinds of blocks, expected equal layers");
      return false;
    }
    if (recomputesEnds)
      grid.notes.push_back("embedding or head are recomputed in the plan, here "
                           "layers alone are");
    return true;
  }

private:
  const v1::Pipeline &pipeline;
  std::vector<std::string> &refusals;

  static uint64_t blocksOf(const v1::PipelineChunk &chunk) {
    uint64_t count = 0;
    for (const v1::BlockRun &run : chunk.runs())
      count += run.count();
    return count;
  }
};

} // namespace

std::optional<Grid> engines::gridOf(const v1::Plan &plan,
                                    const v1::Island &island,
                                    std::vector<std::string> &refusals) {
  Grid grid;
  if (!island.has_pipeline()) {
    refusals.push_back("the plan does not say what its programs were made "
                       "from; make it again with this version");
    return std::nullopt;
  }
  if (plan.model().vocabulary() == 0)
    refusals.push_back("the model is no language model");
  const v1::Stage &first = island.stages(0);
  grid.tensorParallel = first.groups(0).tensor_parallel();
  grid.dataParallel = replicasOf(first);
  for (int s = 0; s < island.stages_size(); ++s) {
    std::string stage = "stage " + std::to_string(s);
    for (const v1::ReplicaGroup &group : island.stages(s).groups()) {
      if (group.tensor_parallel() != grid.tensorParallel)
        refusals.push_back(
            stage + " has tensor parallelism " +
            std::to_string(group.tensor_parallel()) + ", stage 0 has " +
            std::to_string(grid.tensorParallel) + ": expected one for all");
      if (group.share() != island.stages(s).groups(0).share())
        refusals.push_back(stage + " gives its replicas unequal shares of the "
                                   "microbatches");
    }
    if (uint64_t replicas = replicasOf(island.stages(s));
        replicas != grid.dataParallel)
      refusals.push_back(stage + " has " + std::to_string(replicas) +
                         " replicas, stage 0 has " +
                         std::to_string(grid.dataParallel) +
                         ": expected as many for all");
  }
  bool isTransformer = Transformer(island.pipeline(), refusals).read(grid);
  if (!isTransformer || !refusals.empty())
    return std::nullopt;
  grid.microbatches = island.batch() / island.microbatch() / grid.dataParallel;
  bool shardsEverywhere = true;
  for (const v1::PipelineStage &stage : island.pipeline().stages()) {
    grid.shardsOptimizer |= stage.optimizer_sharding();
    shardsEverywhere &= stage.optimizer_sharding();
  }
  if (grid.shardsOptimizer && !shardsEverywhere)
    grid.notes.push_back("the optimizer's state is sharded on some stages of "
                         "the plan, here on all");
  if (grid.tensorParallel > 1)
    grid.notes.push_back("how tensors inside a layer are split is the engine's "
                         "choice, not the plan's");
  return grid;
}

std::string engines::title(const v1::Plan &plan, unsigned island) {
  std::string text = "island " + std::to_string(island) + " (";
  for (int i = 0; i < plan.islands(island).sites_size(); ++i)
    text += (i > 0 ? ", " : "") + plan.islands(island).sites(i);
  return text + ")";
}

std::vector<std::string> engines::poolsOf(const v1::Island &island) {
  std::vector<std::string> lines;
  uint64_t rank = 0;
  for (const v1::Stage &stage : island.stages())
    for (const v1::ReplicaGroup &group : stage.groups()) {
      uint64_t ranks = group.count() * group.tensor_parallel();
      lines.push_back("ranks " + std::to_string(rank) + " to " +
                      std::to_string(rank + ranks - 1) + ": " + group.site() +
                      "/" + group.pool());
      rank += ranks;
    }
  return lines;
}

std::optional<std::vector<unsigned>>
engines::chosenIslands(const v1::Plan &plan, std::optional<unsigned> island,
                       mlir::Location loc) {
  unsigned count = plan.islands_size();
  if (island && *island >= count) {
    mlir::emitError(loc) << "there is no island " << *island
                         << ", expected one of " << count;
    return std::nullopt;
  }
  if (island)
    return std::vector<unsigned>{*island};
  std::vector<unsigned> all(count);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

mlir::LogicalResult engines::report(const v1::Plan &plan,
                                    ArrayRef<unsigned> islands,
                                    ArrayRef<Export> exports,
                                    const char *engine, mlir::Location loc) {
  bool any =
      any_of(exports, [](const Export &one) { return !one.lines.empty(); });
  for (auto [island, one] : zip(islands, exports))
    for (const std::string &note : one.notes) {
      mlir::InFlightDiagnostic said =
          any ? mlir::emitWarning(loc) : mlir::emitError(loc);
      said << title(plan, island) << ": "
           << (one.lines.empty() ? "cannot be expressed in " : "not in ")
           << engine << ": " << note;
    }
  return mlir::success(any);
}
