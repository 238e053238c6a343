//===- Rank.h - one worker: program, device, lanes ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Memory: besides the planned arena a rank keeps code and libraries, the plan
// and its prepared segments, pieces of at most 4 MiB while it loads and saves,
// one microbatch of tokens, 1 MiB of scratch per communicator that reduces (up
// to 16 MiB between sites), and its threads' stacks. kMemoryBeyondArena bounds
// all of it; measured are 30 MiB alone and up to 60 MiB with peers and a
// server. With a server the exchange client keeps the global values of the
// owned elements besides: the plan's host_bytes. With `checkpointEvery` it
// keeps, from the first snapshot on, a copy in host memory of what it saves, as
// large as its shard; where the host has no room for that it does not train
// while its shard is written.
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
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace tombolo::runtime {

/// What a rank process may hold besides the program's arena_bytes and
/// host_bytes (see above), in bytes.
constexpr std::uint64_t kMemoryBeyondArena = std::uint64_t{128} << 20;

struct RankConfig {
  std::uint32_t island = 0;
  std::uint64_t rank = 0;
  /// Of the whole job, counted from step 0 (IslandSteps), as all numbers of
  /// steps here.
  std::uint64_t steps = 0;
  std::string model;       ///< ONNX file
  DatasetOptions data;
  std::optional<std::uint64_t> seed; ///< `--init`
  std::string checkpointDir;         ///< empty: none are written
  std::string checkpointCopy; ///< another folder for all of it; empty: none
  std::uint64_t checkpointEvery = 0; ///< steps; 0: only after the last
  bool resume = false;
  std::optional<std::uint64_t> resumeStep; ///< not from the newest generation
  /// Asked after each step: whether to end there, with a checkpoint. All ranks
  /// of an island have it or none; the answer of rank 0 counts. With a server
  /// all islands then end after the same step, at most two rounds later.
  std::function<bool()> endRequested;
  /// Name the op that made a loss not finite; the device must have been made
  /// with `DeviceOptions::checkNumerics`.
  bool checkNumerics = false;
  std::uint64_t maskSeed = 0;      ///< of dropout
  std::string evaluationData;      ///< held-out samples; empty: none
  std::uint64_t evaluateEvery = 0; ///< steps; 0: only after the last
};

/// The loss of held-out samples under the current parameters.
struct EvaluationMetrics {
  std::uint64_t stepsDone = 0;
  std::uint32_t island = 0;
  double loss = 0;
  std::uint64_t samples = 0;
  std::uint64_t leftOut = 0; ///< samples that fill no batch
  std::uint64_t tokens = 0;  ///< that count, where all weigh 1: sum of weights
};

/// One inner step, before its update.
struct StepMetrics {
  std::uint64_t step = 0;
  std::uint32_t island = 0;
  double loss = 0;
  double seconds = 0;
  std::uint64_t tokens = 0;
  /// Norm of the mean gradients before clipping; where they are clipped.
  std::optional<double> gradientNorm;
};

/// What a generation came to in a folder.
struct CheckpointNews {
  enum class Kind {
    Whole,
    Copied,   ///< whole in the folder of copies
    Failed,   ///< this rank could not write: the one before stays
    Blocking, ///< this rank does not train meanwhile: no room for a copy
  };
  Kind kind = Kind::Whole;
  std::uint64_t step = 0; ///< of the job
  std::string folder;
  std::string message;       ///< of Failed and Blocking
  double seconds = 0;        ///< since its snapshot was begun
  double stalledSeconds = 0; ///< that training has stood still for checkpoints
                             ///< since it was last told
};

/// What a rank tells; called from its main thread unless it says otherwise.
struct RankEvents {
  std::function<void()> ready;
  /// Before each step, on every rank.
  std::function<void(std::uint64_t step)> begin;
  /// On the island's first rank of the last stage only.
  std::function<void(const StepMetrics &)> step;
  std::function<void(const EvaluationMetrics &)> evaluation;
  /// Between steps and at the end: on the island's rank 0 of each generation,
  /// on others what has gone wrong there.
  std::function<void(const CheckpointNews &)> checkpoint;
  /// Before a shard of a checkpoint of this step of the job is written, in the
  /// thread that does.
  std::function<void(std::uint64_t step)> writing;
  /// What `run` is going to throw, once it is known where a checkpoint is still
  /// being written: a slow disk may hold the rank up.
  std::function<void(const std::exception &)> failed;
  /// On rank 0 only, when it ends on request, after so many steps of the job.
  std::function<void(std::uint64_t stepsDone)> stopped;
  /// Likewise, when its island has been removed from the run.
  std::function<void(std::uint64_t stepsDone)> removed;
  /// On rank 0 only, after so many steps of the job: no server can be reached,
  /// and the island goes on without the receipt of a fragment; or, `isAlone`
  /// false, it has taken that.
  std::function<void(std::uint32_t fragment, std::uint64_t stepsDone,
                     bool isAlone)>
      alone;
};

using ExchangeFactory = std::function<std::unique_ptr<Exchange>(
    std::vector<ExchangeTensor>, ArenaAccess, IslandLargest)>;

/// Runs one rank of an island from its start to `steps`.
class Rank {
public:
  /// Reads and checks everything that does not need the other ranks: model
  /// hash, parameters or checkpoint, data. `plan` must have passed
  /// `validatePlan`, and `checkProgress` where the ranks start; all references
  /// must outlive the rank. Throws Error.
  Rank(const Plan &plan, const RankConfig &options, Device &device,
       Transport &transport, RankEvents events = {},
       ExchangeFactory exchange = {});
  ~Rank();

  /// Connects and trains. Throws what went wrong first here, or PeerError when
  /// it was elsewhere. A step whose loss is NaN or infinite ends the run
  /// (status 3) after its metrics have been told and before it is saved; with
  /// `checkNumerics` ranks that have not made it so throw PeerError.
  void run();

private:
  class Impl;
  std::unique_ptr<Impl> impl;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_RANK_H
