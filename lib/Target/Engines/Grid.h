//===- Grid.h - an island as other engines see it -------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Engines with fixed degrees number ranks as Tombolo does, tensor-parallel
// index fastest and stages slowest, and know models as an embedding, layers and
// a head. Where an island is such a grid, this says so in their words.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_TARGET_ENGINES_GRID_H
#define TOMBOLO_LIB_TARGET_ENGINES_GRID_H

#include "tombolo/schema/plan.pb.h"

#include "mlir/IR/Diagnostics.h"

#include <string>
#include <vector>

namespace tombolo::engines {

/// What one rank holds of the model in a row.
struct Part {
  bool hasEmbedding = false, hasHead = false;
  uint64_t firstLayer = 0, layers = 0;
  uint64_t recomputed = 0; // of the layers, the first so many
};

struct Grid {
  uint64_t tensorParallel = 1, dataParallel = 1, pipelineParallel = 1;
  uint64_t chunks = 1; // of the model on each stage
  std::vector<Part>
      parts; // chunk by chunk, in each stage by stage: the model's order
  uint64_t layers = 0;
  uint64_t microbatches = 1;    // of one replica and step
  bool shardsOptimizer = false; // on one stage at least
  /// What is left out whatever the engine.
  std::vector<std::string> notes;

  uint64_t ranks() const {
    return tensorParallel * dataParallel * pipelineParallel;
  }
  bool recomputesNothing() const;
  bool recomputesAll() const;
};

/// The grid, or nothing and in `refusals` why it is none.
std::optional<Grid> gridOf(const plan::v1::Plan &plan,
                           const plan::v1::Island &island,
                           std::vector<std::string> &refusals);

/// Of an island: what an engine was given, and what it was not.
struct Export {
  std::vector<std::string> lines; // empty: it cannot be expressed
  std::vector<std::string> notes; // or why not
};

/// `island 0 (north, south)`; names of a valid plan have no line breaks.
std::string title(const plan::v1::Plan &plan, unsigned island);

/// Comments: which ranks are on which pool.
std::vector<std::string> poolsOf(const plan::v1::Island &island);

/// The islands that are meant; nothing, and said so, when there is none.
std::optional<std::vector<unsigned>>
chosenIslands(const plan::v1::Plan &plan, std::optional<unsigned> island,
              mlir::Location loc);

/// Warns of what is not expressed. Fails when no island can be.
mlir::LogicalResult report(const plan::v1::Plan &plan,
                           llvm::ArrayRef<unsigned> islands,
                           llvm::ArrayRef<Export> exports, const char *engine,
                           mlir::Location loc);

} // namespace tombolo::engines

#endif // TOMBOLO_LIB_TARGET_ENGINES_GRID_H
