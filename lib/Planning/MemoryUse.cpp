//===- MemoryUse.cpp - bytes of one rank ----------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/CostModel.h"

#include <algorithm>
#include <cmath>

namespace tombolo::planning {

MemoryUse memoryUse(const Problem &problem, const std::vector<ChunkUse> &chunks,
                    double microbatch, const Recompute &recompute,
                    const StageRanks &ranks) {
  MemoryUse use;
  uint64_t blocks = 0;
  for (const ChunkUse &chunk : chunks)
    for (const BlockRun &run : chunk.runs)
      blocks += run.count;
  uint64_t again = recompute.of(blocks);
  double inner = 0, carried = 0, workspace = 0, crossing = 0, handedOn = 0;
  for (const ChunkUse &chunk : chunks) {
    if (chunk.runs.empty())
      continue;
    double flying = static_cast<double>(chunk.inFlight), waiting = 0;
    double widest = 0, mostCarried = 0;
    for (const BlockRun &run : chunk.runs) {
      const BlockKind &kind =
          figuresOf(problem, run.kind, ranks.tensorParallel);
      double count = static_cast<double>(run.count);
      double trainable = static_cast<double>(kind.trainableCount) * count;
      use.parameters += static_cast<double>(kind.parameterBytes) * count;
      use.gradients += 4 * trainable;
      use.optimizerState +=
          static_cast<double>(
              problem.training.optimizerStateBytesPerParameter) *
          trainable;
      double repeated = static_cast<double>(std::min(again, run.count));
      again -= std::min(again, run.count);
      double saved = kind.savedBytes.at(microbatch);
      // The first block's input is a boundary tensor or a feed.
      double inputs = &run == &chunk.runs.front() ? count - 1 : count;
      use.saved += flying * ((count - repeated) * saved +
                             inputs * kind.inputBytes.at(microbatch));
      if (repeated > 0)
        use.recomputed =
            std::max(use.recomputed, saved + kind.outputBytes.at(microbatch));
      use.feeds += flying * count * kind.feedBytes.at(microbatch);
      if (inputs > 0)
        widest = std::max(widest, kind.inputBytes.at(microbatch));
      mostCarried = std::max(mostCarried, kind.carriedBytes.at(microbatch));
      workspace = std::max(workspace, kind.workspaceBytes.at(microbatch));
      crossing = std::max(crossing, kind.crossingBytes.at(microbatch));
      // For a backward by weight that waits: what is handed to it, gradients
      // between blocks, and what a block that ran again saved.
      waiting += count * kind.carriedBytes.at(microbatch) +
                 inputs * kind.inputBytes.at(microbatch) + repeated * saved;
    }
    if (chunk.handedOn > 0) {
      handedOn += static_cast<double>(chunk.handedOn) * waiting;
    } else {
      inner = std::max(inner, widest);
      carried = std::max(carried, mostCarried);
    }
    // What comes in stays for the backward pass, and the next is under way;
    // everything else passes through two buffers in turn, but for gradients
    // that a backward by weight waits for.
    if (!chunk.first)
      use.boundary += (flying + 3) * figuresOf(problem, chunk.runs.front().kind,
                                               ranks.tensorParallel)
                                         .inputBytes.at(microbatch);
    if (!chunk.last)
      use.boundary +=
          static_cast<double>(3 + std::max<uint64_t>(1, chunk.handedOn)) *
          figuresOf(problem, chunk.runs.back().kind, ranks.tensorParallel)
              .outputBytes.at(microbatch);
  }
  // A tied parameter counts once.
  double repeated = static_cast<double>(ranks.repeatedElements) /
                    static_cast<double>(ranks.tensorParallel);
  use.parameters -= 4 * repeated;
  use.gradients -= 4 * repeated;
  use.optimizerState -=
      static_cast<double>(problem.training.optimizerStateBytesPerParameter) *
      repeated;
  if (ranks.optimizerParts > 1) {
    // Parts are equal and multiples of 64 bytes; what is cut is padded.
    double parts = static_cast<double>(ranks.optimizerParts);
    double padded = std::ceil(use.gradients / (64 * parts)) * 64 * parts;
    if (use.gradients > 0)
      use.optimizerState *= padded / use.gradients / parts;
    use.parameters += padded - use.gradients;
    use.gradients = padded;
  }
  use.scratch = 2 * inner + carried + workspace + crossing + handedOn;
  return use;
}

MemoryUse memoryUse(const Problem &problem, const std::vector<BlockRun> &runs,
                    double microbatch, uint64_t inFlight,
                    const Recompute &recompute, bool first, bool last,
                    const StageRanks &ranks) {
  return memoryUse(problem, {{runs, inFlight, 0, first, last}}, microbatch,
                   recompute, ranks);
}

bool shardsOptimizer(const Problem &problem, uint64_t replicas) {
  return replicas > 1 && problem.training.optimizerStateBytesPerParameter > 0;
}

double availableBytes(const Problem &problem, const Chip &chip) {
  return static_cast<double>(chip.memoryBytes()) *
         (1 - problem.bounds.memoryMargin);
}

} // namespace tombolo::planning
