//===- TorchTitan.cpp - a plan as a configuration of TorchTitan -----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Target/PlanToEngines.h"

#include "Grid.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

using namespace llvm;
using namespace tombolo;
using namespace tombolo::engines;
using namespace tombolo::plan;

/// The modules of a part by the names that TorchTitan's transformers have.
static std::string modulesOf(const Part &part) {
  std::vector<std::string> names;
  if (part.hasEmbedding)
    names.push_back("tok_embeddings");
  for (uint64_t i = 0; i < part.layers; ++i)
    names.push_back("layers." + std::to_string(part.firstLayer + i));
  if (part.hasHead) {
    names.push_back("norm");
    names.push_back("output");
  }
  return "[\"" + join(names, "\", \"") + "\"]";
}

/// The word for it, after what is not the same.
static const char *scheduleOf(const Grid &grid, v1::Pipeline::Schedule schedule,
                              Export &to) {
  if (grid.chunks > 1) {
    if (schedule == v1::Pipeline::SCHEDULE_ZERO_BUBBLE)
      return "InterleavedZeroBubble";
    return "Interleaved1F1B";
  }
  if (schedule == v1::Pipeline::SCHEDULE_ZERO_BUBBLE)
    to.notes.push_back("schedule zero-bubble with one chunk on each stage; "
                       "here 1F1B, which computes the same with longer waits");
  return schedule == v1::Pipeline::SCHEDULE_GPIPE ? "GPipe" : "1F1B";
}

/// Layers are recomputed all or none.
static const char *checkpointing(const Grid &grid, Export &to) {
  if (grid.recomputesNothing())
    return "none";
  if (!grid.recomputesAll()) {
    uint64_t recomputed = 0;
    for (const Part &part : grid.parts)
      recomputed += part.recomputed;
    to.notes.push_back(
        "recompute of single stages: " + std::to_string(recomputed) + " of " +
        std::to_string(grid.layers) + " layers in the plan, here all");
  }
  return "full";
}

static Export titanIsland(const v1::Plan &plan, const v1::Island &island) {
  Export to;
  auto grid = gridOf(plan, island, to.notes);
  if (!grid)
    return to;
  uint64_t rounds =
      std::max<uint64_t>(1, grid->microbatches / grid->pipelineParallel);
  if (grid->chunks > 1 && grid->microbatches % rounds != 0) {
    to.notes.push_back("interleaved stages need a multiple of " +
                       std::to_string(rounds) +
                       " microbatches of each replica, the plan has " +
                       std::to_string(grid->microbatches));
    return to;
  }
  auto add = [&](const char *name, uint64_t value) {
    to.lines.push_back(std::string(name) + " = " + std::to_string(value));
  };
  auto word = [&](const char *name, const char *value) {
    to.lines.push_back(std::string(name) + " = \"" + value + "\"");
  };
  bool isPipeline = grid->pipelineParallel > 1;
  // Plain replicas stand beside nothing else there.
  bool shards = grid->shardsOptimizer || isPipeline || grid->tensorParallel > 1;
  if (shards && grid->dataParallel > 1)
    to.notes.push_back("replicas that each have all parameters; here "
                       "parameters, gradients and the optimizer's state are "
                       "sharded over them");
  to.lines.push_back("[parallelism]");
  add("data_parallel_replicate_degree", shards ? 1 : grid->dataParallel);
  add("data_parallel_shard_degree", shards ? grid->dataParallel : 1);
  add("tensor_parallel_degree", grid->tensorParallel);
  add("pipeline_parallel_degree", grid->pipelineParallel);
  if (isPipeline) {
    word("pipeline_parallel_schedule",
         scheduleOf(*grid, island.pipeline().schedule(), to));
    add("pipeline_parallel_microbatch_size", island.microbatch());
    to.lines.push_back("module_fqns_per_model_part = [");
    std::vector<std::string> splits;
    for (const Part &part : grid->parts) {
      to.lines.push_back("  " + modulesOf(part) + ",");
      if (!part.hasEmbedding)
        splits.push_back(part.layers > 0
                             ? "layers." + std::to_string(part.firstLayer)
                             : "norm");
    }
    to.lines.push_back("]");
    to.lines.push_back("# before there was module_fqns_per_model_part: "
                       "pipeline_parallel_split_points = [\"" +
                       join(splits, "\", \"") + "\"]");
  }
  to.lines.push_back("");
  to.lines.push_back("[training]");
  // Without a pipeline microbatches are the steps of gradient accumulation.
  add("local_batch_size",
      isPipeline ? island.batch() / grid->dataParallel : island.microbatch());
  add("global_batch_size", island.batch());
  add("seq_len", plan.model().tokens_per_sample());
  word("mixed_precision_param",
       plan.training().precision() == v1::PRECISION_BF16 ? "bfloat16"
                                                         : "float32");
  to.lines.push_back("");
  to.lines.push_back("[activation_checkpoint]");
  word("mode", checkpointing(*grid, to));
  append_range(to.notes, grid->notes);
  return to;
}

mlir::LogicalResult tombolo::writeTorchTitan(const v1::Plan &plan,
                                             std::optional<unsigned> island,
                                             mlir::Location loc,
                                             raw_ostream &out) {
  auto islands = chosenIslands(plan, island, loc);
  if (!islands)
    return mlir::failure();
  if (islands->size() > 1)
    return mlir::emitError(loc)
           << "a configuration of TorchTitan is of one island, the plan has "
           << islands->size() << "; choose with --island";
  unsigned i = islands->front();
  Export one = titanIsland(plan, plan.islands(i));
  if (mlir::failed(report(plan, *islands, one, "TorchTitan", loc)))
    return mlir::failure();

  out << "# A plan of Tombolo as a configuration of TorchTitan: "
      << title(plan, i) << "\n";
  for (const std::string &line : poolsOf(plan.islands(i)))
    out << "#   " << line << "\n";
  if (plan.islands_size() > 1)
    out << "# not expressed: the exchange with the other islands\n";
  for (const std::string &note : one.notes)
    out << "# not expressed: " << note << "\n";
  out << "# The model, its data and its optimizer are not in it.\n\n";
  for (const std::string &line : one.lines)
    out << line << "\n";
  return mlir::success();
}
