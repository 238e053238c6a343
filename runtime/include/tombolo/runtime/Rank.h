//===- Rank.h - one worker: program, device, lanes ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Memory: besides the planned arena a rank keeps the plan and its prepared
// segments, buffers for loading and saving (kStagingElements floats), one
// microbatch of tokens, 1 MiB of scratch per collective communicator, and what
// the libraries in the process take. docs/PlanFormat.md's peak plus
// kMemoryBeyondArena bounds its resident memory.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_RANK_H
#define TOMBOLO_RUNTIME_RANK_H

#include "tombolo/runtime/Dataset.h"
#include "tombolo/runtime/Device.h"
#include "tombolo/runtime/Exchange.h"
#include "tombolo/runtime/Transport.h"
#include "tombolo/runtime/plan/PlanFile.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace tombolo::runtime {

/// What a rank process may hold besides its arena: code, libraries, threads'
/// stacks, kernels' scratch, communication buffers.
constexpr std::uint64_t kMemoryBeyondArena = std::uint64_t{192} << 20;

struct RankConfig {
  std::uint32_t island = 0;
  std::uint64_t rank = 0;
  std::uint64_t steps = 0; ///< of the whole run, counted from step 0
  std::string model;       ///< ONNX file
  DatasetOptions data;
  std::optional<std::uint64_t> seed; ///< `--init`
  std::string checkpointDir;         ///< empty: none are written
  std::uint64_t checkpointEvery = 0; ///< steps; 0: only after the last
  bool resume = false;
};

/// One inner step, before its update.
struct StepMetrics {
  std::uint64_t step = 0;
  std::uint32_t island = 0;
  double loss = 0;
  double seconds = 0;
  std::uint64_t tokens = 0;
};

/// What a rank tells; called from its main thread.
struct RankEvents {
  std::function<void()> ready;
  /// On the island's first rank of the last stage only.
  std::function<void(const StepMetrics &)> step;
  /// On the island's rank 0 only, when a generation is complete.
  std::function<void(std::uint64_t step, const std::string &folder)> checkpoint;
};

using ExchangeFactory = std::function<std::unique_ptr<Exchange>(
    std::vector<ExchangeTensor>, ArenaAccess)>;

/// Runs one rank of an island from its start to `steps`.
class Rank {
public:
  /// Reads and checks everything that does not need the other ranks: the plan's
  /// progress, model hash, parameters or checkpoint, data. `plan` must have
  /// passed `validatePlan`; all references must outlive the rank. Throws Error.
  Rank(const Plan &plan, const RankConfig &options, Device &device,
       Transport &transport, RankEvents events = {},
       ExchangeFactory exchange = {});
  ~Rank();

  /// Connects and trains. Throws what went wrong first here, or PeerError when
  /// it was elsewhere.
  void run();

private:
  class Impl;
  std::unique_ptr<Impl> impl;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_RANK_H
