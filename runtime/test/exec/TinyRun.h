//===- TinyRun.h - the tiny model, run and computed by hand ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_TEST_EXEC_TINYRUN_H
#define TOMBOLO_RUNTIME_TEST_EXEC_TINYRUN_H

#include "PlanBuilder.h"
#include "Temporary.h"

#include "tombolo/runtime/Rank.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace tombolo::runtime::test {

using Weights = std::map<std::string, std::vector<float>>;

/// Files and a plan of the tiny model (PlanBuilder.h), and what training it
/// must give.
class TinyRun {
public:
  explicit TinyRun(const TinyModel &model);

  /// Runs every rank of the island as a thread with the cpu device; returns the
  /// losses. Throws the first error that was no echo.
  std::vector<double> train(std::uint64_t steps,
                            const std::string &checkpointDir = "",
                            bool resume = false, std::uint64_t every = 0);

  /// The losses of the same steps, in double precision, in plain loops. Steps
  /// from `change` on take `batch` samples.
  std::vector<double> reference(std::uint64_t steps,
                                std::uint64_t change = ~0ull,
                                std::uint64_t batch = 0);

  /// Called by every rank's `train` for its checkpoints, in its threads.
  std::function<void(std::uint64_t rank, const CheckpointNews &)> checkpoint;
  std::function<void(std::uint64_t rank, std::uint64_t step)> writing;
  /// Before the metrics of a step are kept.
  std::function<void(std::uint64_t step)> stepped;

  /// Changes the model's file, and `initial`.
  void setWeight(const std::string &name, std::size_t element, float value);

  /// Makes the model a skeleton: its weights in a file that does not exist.
  void dropWeights();

  /// The parameters after `reference`.
  Weights trained;

  TinyModel model;
  Plan plan;
  TemporaryFolder folder;
  std::string onnx;
  std::string data;
  std::vector<std::int64_t> tokens;
  Weights initial;
  RankConfig config; ///< what every rank gets besides its number
};

/// A folder's newest checkpoint, whole tensors by name.
Weights readCheckpoint(const Plan &plan, const std::string &folder);

} // namespace tombolo::runtime::test

#endif // TOMBOLO_RUNTIME_TEST_EXEC_TINYRUN_H
