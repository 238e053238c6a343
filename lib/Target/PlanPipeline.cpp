//===- PlanPipeline.cpp - what programs were made from --------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "PlanPipeline.h"

#include <algorithm>

using namespace mlir;
using namespace tombolo::plan;

LogicalResult tombolo::exportPipeline(IslandOp island, v1::Island &message) {
  if (!island.getSchedule())
    return success();
  v1::Pipeline &to = *message.mutable_pipeline();
  std::string word = island.getSchedule()->upper();
  std::replace(word.begin(), word.end(), '-', '_');
  v1::Pipeline::Schedule schedule;
  if (!v1::Pipeline::Schedule_Parse("SCHEDULE_" + word, &schedule))
    return island.emitOpError()
           << "unknown schedule '" << *island.getSchedule() << "'";
  to.set_schedule(schedule);
  for (auto stage : island.getBody().getOps<StageOp>()) {
    v1::PipelineStage &toStage = *to.add_stages();
    toStage.set_recomputed_blocks(stage.getRecomputedBlocks().value_or(0));
    toStage.set_optimizer_sharding(stage.getOptimizerSharding());
    if (!stage.getChunks())
      return stage.emitOpError(
          "needs the blocks of its chunks, as the island has a schedule");
    for (auto chunk : stage.getChunks()->getAsRange<ArrayAttr>()) {
      v1::PipelineChunk &toChunk = *toStage.add_chunks();
      for (auto blocks : chunk.getAsRange<BlocksAttr>()) {
        v1::BlockRun &run = *toChunk.add_runs();
        run.set_block(blocks.getBlock().str());
        run.set_count(blocks.getCount());
      }
    }
  }
  return success();
}
