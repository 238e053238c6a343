//===- GraphPipeline.cpp - the order of the passes on models --------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Apart from the others: programs that only look at models need no more.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/Transforms/Passes.h"
#include "tombolo/Pipelines/Pipelines.h"

#include "mlir/Transforms/Passes.h"

using namespace mlir;

namespace tombolo {

void addGraphPasses(OpPassManager &manager,
                    const GraphPipelineOptions &options) {
  // Correctness: exporters compute shapes at run time; what depends on them has
  // a type only when they are folded.
  manager.addPass(graph::createGraphInferShapes());
  manager.addPass(graph::createGraphFoldConstants());
  // Before patterns: without dropout there are more of them.
  manager.addPass(graph::createGraphAssignDropout({options.dropout}));
  // Correctness: the loss comes next, so that what only other outputs need is
  // dead before blocks are found, and so that the loss is part of the last one.
  graph::GraphAppendLossOptions loss;
  loss.kind = options.loss;
  loss.label = options.label;
  loss.mask = options.lossMask;
  loss.ignoreIndex = options.ignoreIndex;
  manager.addPass(graph::createGraphAppendLoss(loss));
  // Speed of the result: kernels want whole patterns. Before blocks are found,
  // because exporters put parts of a pattern on both sides of a cut, and before
  // differentiation, because a whole op's gradient is the better one.
  manager.addPass(graph::createGraphFusePatterns());
  manager.addPass(createCanonicalizerPass());
  // Speed of the compiler: everything behind works on distinct blocks.
  manager.addPass(graph::createGraphFindBlocks());
  manager.addPass(graph::createGraphDifferentiate());
}

} // namespace tombolo
