//===- PipelinePlan.h - plans whose time is known-----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_TEST_SIM_PIPELINEPLAN_H
#define TOMBOLO_RUNTIME_TEST_SIM_PIPELINEPLAN_H

#include "PlanBuilder.h"

namespace tombolo::runtime::test {

/// A pipeline with the structure of real programs and nothing else: it can be
/// simulated, not run.
struct PipelineModel {
  std::uint32_t stages = 1;
  std::uint64_t replicas = 1;
  std::vector<std::uint64_t> replicasOf; ///< by stage, instead
  std::uint64_t tensorParallel = 1;
  /// By stage, instead; each a multiple or a divisor of its neighbours'. Of
  /// each boundary tensor every chip of the larger replica has its own part.
  std::vector<std::uint64_t> tensorParallelOf;
  std::uint64_t microbatches = 4; ///< of the island
  enum { OneFOneB, Interleaved, ZeroBubble } schedule = OneFOneB;
  std::uint64_t chunks = 1; ///< of each stage; `microbatches` is a multiple of
                            ///< `stages` where there are several
  double forward = 1, backward = 2, update = 0; ///< of one chunk
  std::uint64_t boundaryBytes = 0;
  std::uint64_t gradientElements = 0; ///< all-reduced over replicas; 0: not
  std::uint64_t tensorElements = 0;   ///< all-reduced after each call; 0: not

  // Where.
  std::uint64_t nodes = 1, chipsPerNode = 8, cardsPerNode = 8;
  std::uint64_t coresPerNode = 0; ///< 0: each chip computes by itself
  double messagePart = 0; ///< of a core; 0: nothing but calls takes cores
  double exchangeWork =
      0; ///< seconds of a core by element, of ranks and servers
  double intraRate = 1e9, intraLatency = 0;
  double interRate = 1e8, interLatency = 0;

  // Several islands, each at a site of its own, with a server at the first.
  std::uint32_t islands = 1;
  std::uint64_t innerSteps = 0; ///< 0: no server
  std::vector<std::uint64_t> innerStepsOf; ///< by island, instead
  std::uint64_t overlapSteps = 0;
  std::uint64_t parameters = 0; ///< that each stage pushes
  double lineRate = 1e6, lineRtt = 0.02, serverRate = 2e9; ///< 0: no limit
  double deadline = 0;
  bool stagesOnSites = false; ///< one island, each stage at another site

  std::uint64_t degreeOf(std::uint32_t stage) const {
    return tensorParallelOf.empty() ? tensorParallel : tensorParallelOf[stage];
  }
};

Plan pipelinePlan(const PipelineModel &model);

} // namespace tombolo::runtime::test

#endif // TOMBOLO_RUNTIME_TEST_SIM_PIPELINEPLAN_H
