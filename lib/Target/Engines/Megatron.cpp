//===- Megatron.cpp - a plan as arguments of Megatron-LM ------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Target/PlanToEngines.h"

#include "Grid.h"

#include "llvm/ADT/STLExtras.h"

using namespace llvm;
using namespace tombolo;
using namespace tombolo::engines;
using namespace tombolo::plan;

/// `Et*3|t*4|t*3L`: what each stage and chunk holds, in the model's order.
static std::string layoutOf(const Grid &grid) {
  std::string text;
  for (const Part &part : grid.parts) {
    if (&part != &grid.parts.front())
      text += '|';
    if (part.hasEmbedding)
      text += 'E';
    if (part.layers > 0)
      text += part.layers == 1 ? "t" : "t*" + std::to_string(part.layers);
    if (part.hasHead)
      text += 'L';
  }
  return text;
}

/// There is one number for all stages: that of the one that recomputes most, so
/// that each keeps its memory.
static void addRecompute(const Grid &grid, Export &to) {
  if (grid.recomputesNothing())
    return;
  to.lines.push_back("--recompute-granularity full");
  if (grid.recomputesAll()) {
    to.lines.push_back("--recompute-method uniform");
    to.lines.push_back("--recompute-num-layers 1");
    return;
  }
  uint64_t most = 0;
  for (const Part &part : grid.parts)
    most = std::max(most, part.recomputed);
  to.lines.push_back("--recompute-method block");
  to.lines.push_back("--recompute-num-layers " + std::to_string(most));
  for (auto [i, part] : enumerate(grid.parts))
    if (uint64_t here = std::min(most, part.layers); here != part.recomputed)
      to.notes.push_back(
          "recompute of stage " + std::to_string(i % grid.pipelineParallel) +
          (grid.chunks > 1
               ? ", chunk " + std::to_string(i / grid.pipelineParallel)
               : "") +
          ": " + std::to_string(part.recomputed) + " of " +
          std::to_string(part.layers) + " layers in the plan, here " +
          std::to_string(here));
}

static void addSchedule(const Grid &grid, v1::Pipeline::Schedule schedule,
                        Export &to) {
  if (grid.pipelineParallel == 1)
    return;
  if (schedule == v1::Pipeline::SCHEDULE_GPIPE)
    to.notes.push_back("schedule gpipe; here 1F1B, which computes the same and "
                       "keeps less in memory");
  if (schedule == v1::Pipeline::SCHEDULE_ZERO_BUBBLE)
    to.notes.push_back(
        "schedule zero-bubble; here " +
        std::string(grid.chunks > 1 ? "interleaved 1F1B" : "1F1B") +
        ", which computes the same with longer waits");
}

static Export megatronIsland(const v1::Plan &plan, const v1::Island &island) {
  Export to;
  auto grid = gridOf(plan, island, to.notes);
  if (!grid)
    return to;
  if (grid->chunks > 1 && grid->microbatches % grid->pipelineParallel != 0) {
    to.notes.push_back("interleaved stages need a multiple of " +
                       std::to_string(grid->pipelineParallel) +
                       " microbatches of each replica, the plan has " +
                       std::to_string(grid->microbatches));
    return to;
  }
  auto add = [&](const char *name, uint64_t value) {
    to.lines.push_back(std::string(name) + " " + std::to_string(value));
  };
  add("--tensor-model-parallel-size", grid->tensorParallel);
  add("--pipeline-model-parallel-size", grid->pipelineParallel);
  // Chunks follow from it too.
  if (grid->pipelineParallel > 1)
    to.lines.push_back("--pipeline-model-parallel-layout '" + layoutOf(*grid) +
                       "'");
  add("--num-layers", grid->layers);
  add("--seq-length", plan.model().tokens_per_sample());
  add("--micro-batch-size", island.microbatch());
  add("--global-batch-size", island.batch());
  addRecompute(*grid, to);
  addSchedule(*grid, island.pipeline().schedule(), to);
  if (grid->shardsOptimizer)
    to.lines.push_back("--use-distributed-optimizer");
  if (plan.training().precision() == v1::PRECISION_BF16)
    to.lines.push_back("--bf16");
  append_range(to.notes, grid->notes);
  return to;
}

mlir::LogicalResult tombolo::writeMegatron(const v1::Plan &plan,
                                           std::optional<unsigned> island,
                                           mlir::Location loc,
                                           raw_ostream &out) {
  auto islands = chosenIslands(plan, island, loc);
  if (!islands)
    return mlir::failure();
  std::vector<Export> exports;
  for (unsigned i : *islands)
    exports.push_back(megatronIsland(plan, plan.islands(i)));
  if (mlir::failed(report(plan, *islands, exports, "Megatron-LM", loc)))
    return mlir::failure();

  out << "# A plan of Tombolo as arguments of Megatron-LM. In bash:\n"
         "#   . FILE && torchrun ... pretrain_gpt.py \"${island_N[@]}\" ...\n"
         "# with the model's shape, its data and its optimizer behind.\n";
  if (plan.islands_size() > 1)
    out << "# not expressed: the exchange between islands; each trains a model "
           "of its own\n";
  for (auto [i, one] : zip(*islands, exports)) {
    const v1::Island &from = plan.islands(i);
    out << "\n# " << title(plan, i);
    if (one.lines.empty()) {
      out << " cannot be expressed:\n";
      for (const std::string &note : one.notes)
        out << "#   " << note << "\n";
      continue;
    }
    out << "\n";
    for (const std::string &line : poolsOf(from))
      out << "#   " << line << "\n";
    for (const std::string &note : one.notes)
      out << "#   not expressed: " << note << "\n";
    out << "island_" << i << "=(\n";
    for (const std::string &line : one.lines)
      out << "  " << line << "\n";
    out << ")\n";
  }
  return mlir::success();
}
