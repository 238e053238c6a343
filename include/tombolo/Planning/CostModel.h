//===- CostModel.h - what a strategy would cost ---------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_COSTMODEL_H
#define TOMBOLO_PLANNING_COSTMODEL_H

#include "tombolo/Planning/PipelineTime.h"
#include "tombolo/Planning/Problem.h"
#include "tombolo/Planning/Transfers.h"

#include <array>
#include <map>
#include <optional>
#include <string>

namespace tombolo::planning {

/// Bytes of one rank of a stage.
struct MemoryUse {
  double parameters = 0;
  double gradients = 0;
  double optimizerState = 0;
  double saved = 0;      // all microbatches in flight
  double recomputed = 0; // one block's saved values while it runs again
  double boundary = 0;   // tensors to and from the neighbouring stages
  double feeds = 0;      // model inputs and labels
  double scratch = 0;    // gradients inside the stage, workspace
  /// On the host and not on the chip, so not in the total: what a rank that
  /// talks to the parameter server keeps of the last global version, and of
  /// what compression has lost. Known once there is a server.
  double host = 0;

  double total() const {
    return parameters + gradients + optimizerState + saved + recomputed +
           boundary + feeds + scratch;
  }
};

struct GroupPrediction {
  double forwardSeconds = 0;  // per microbatch
  double backwardSeconds = 0; // with recomputation
  double sendForwardSeconds = 0;
  double sendBackwardSeconds = 0;
  double exchangeSeconds = 0;  // of forward and backward: collectives in a
                               // replica, nothing overlapped
  double allReduceSeconds = 0; // per inner step
  double updateSeconds = 0;
  TimeSource source = TimeSource::Computed; // the least sure of the blocks'
  uint64_t microbatchesInFlight = 0;
  MemoryUse memory;          // per rank
  double availableBytes = 0; // of the chip, less the margin
};

struct IslandPrediction {
  double stepSeconds = 0;
  double bubbleFraction = 0;
  double wanBytesPerStep = 0; // pipeline boundaries and reductions over lines
  std::vector<std::vector<GroupPrediction>> stages; // by stage and group
};

/// What is foretold of a strategy. Equivalent compute is filled in by
/// `equivalentCompute`, which costs a search.
struct Prediction {
  double stepSeconds = 0; // one inner step, synchronisation spread over H
  double tokensPerSecond = 0;
  double synchronisationSeconds = 0; // waited for, once each round
  double wanBytesPerRound = 0;
  double connections = 0; // parallel, over the worst line; 0: no server
  double bubbleFraction = 0;
  std::optional<double> equivalentCompute;
  std::optional<double> equivalentComputeOfUsedChips;
  std::vector<IslandPrediction> islands;
};

/// Roofline: max(FLOPs / (peak x efficiency), bytes / (bandwidth x
/// efficiency)). On a chip whose overheads are known its kernels run one after
/// the other instead: products by that roofline, all others by their bytes, and
/// each with the overhead.
double seconds(const Chip &chip, Precision precision, const Work &work,
               double samples);

/// With collectives that take so long; at least as long as the host needs to
/// start all of it.
double functionSeconds(const Chip &chip, Precision precision, const Work &work,
                       double samples, double exchangeSeconds);

/// A kind's figures over so many chips, which `Problem::verify` has seen to be
/// there.
const BlockKind &figuresOf(const Problem &problem, size_t kind, uint64_t chips);

/// The optimizer's pass over a block's parameters, by the chip's memory.
double updateSeconds(const Problem &problem, const Chip &chip,
                     const BlockKind &figures);

/// Chips of a replica and the wire between them.
struct ReplicaChips {
  uint64_t count = 1;
  Transfer wire;
};

/// Seconds of one block on one microbatch.
struct BlockTimes {
  double forward = 0;
  double backwardInput = 0;
  double backwardWeight = 0;
  double update = 0; // once a step, of all its parameters
  /// Of the first three: collectives in a replica. 0 where they were measured
  /// together with the rest.
  double exchanges = 0;
  TimeSource source = TimeSource::Computed;

  double backward() const { return backwardInput + backwardWeight; }
};

/// By the roofline and the collectives of the replica; or, on a chip that the
/// kind was measured on, as measured: linear between the two nearest
/// microbatches; beyond them and for other numbers of chips in proportion to
/// the roofline, with the collectives on top where it was measured on fewer
/// chips. A measured backward is divided as the roofline would.
BlockTimes blockTimes(const Problem &problem, size_t kind, const Chip &chip,
                      double microbatch, const ReplicaChips &replica = {});

/// What one call of each function of a stage's blocks takes on a group's chips,
/// where these have times of their own: measured ones, or corrections.
struct CallSeconds {
  /// By the blocks' names and `BlockFunction`, without the collectives in a
  /// replica, which a plan has apart. A mean where blocks of one name differ.
  std::map<std::string, std::array<double, kBlockFunctions>> functions;
  double update = 0; // once a step, of all the stage's parameters
};
/// So that a simulator reads what `blockTimes` says. Nothing where the chips
/// have no such times: the roofline of each piece of a function is all then.
std::optional<CallSeconds> callSeconds(const Problem &problem,
                                       const Strategy &strategy, size_t island,
                                       size_t stage, size_t group);

/// Chip-seconds of one sample of each of a kind's functions cannot be less,
/// whatever the microbatch and the chips of a replica.
double leastSecondsPerSample(const Problem &problem, size_t kind,
                             const Chip &chip);

/// Forward and backward seconds of the blocks in `runs` on one microbatch.
StageTimes blockSeconds(const Problem &problem,
                        const std::vector<BlockRun> &runs, const Chip &chip,
                        double microbatch, const Recompute &recompute,
                        const ReplicaChips &replica = {});

/// What a stage is held by.
struct StageRanks {
  uint64_t tensorParallel = 1;
  /// Replicas that share the optimizer's state; 1: each has all of it.
  uint64_t optimizerParts = 1;
  /// Of tied parameters that several of the stage's blocks use: what counting
  /// block by block counts too much.
  uint64_t repeatedElements = 0;
};

/// The blocks of each chunk of a stage: chunk c of stage s of S is place
/// c S + s of the model.
std::vector<BlockRange> chunkRanges(const Island &island, size_t stage);
std::vector<std::vector<BlockRun>>
chunkRuns(const ModelProfile &model, const Island &island, size_t stage);

/// A chunk and what is kept of it.
struct ChunkUse {
  std::vector<BlockRun> runs;
  uint64_t inFlight = 1; // microbatches, as of ChunkSlots
  uint64_t handedOn = 0;
  bool first = false, last = false; // of the model: no neighbour there
};

/// Memory of one rank of a stage of some chunks.
MemoryUse memoryUse(const Problem &problem, const std::vector<ChunkUse> &chunks,
                    double microbatch, const Recompute &recompute,
                    const StageRanks &ranks = {});

/// Memory of one rank of a stage that holds `runs`. `first` and `last`: whether
/// the model begins and ends here (no neighbour to talk to).
MemoryUse memoryUse(const Problem &problem, const std::vector<BlockRun> &runs,
                    double microbatch, uint64_t inFlight,
                    const Recompute &recompute, bool first, bool last,
                    const StageRanks &ranks = {});

/// Whether a stage of so many replicas shards its optimizer state when nobody
/// says: where that saves memory.
bool shardsOptimizer(const Problem &problem, uint64_t replicas);

/// What a stage may use of a chip's memory.
double availableBytes(const Problem &problem, const Chip &chip);

/// Seconds of a boundary tensor from replicas of `from` chips to replicas of
/// `to`: `localBytes` on each chip that sends, of `wholeBytes` in all.
double boundarySeconds(const Transfer &transfer, double wholeBytes,
                       double localBytes, uint64_t from,
                       const ReplicaChips &to);

/// Foretells a strategy that `Problem::verify` accepts.
Prediction evaluate(const Problem &problem, const Strategy &strategy);
/// The same with islands that are foretold already: other servers are cheap.
Prediction evaluate(const Problem &problem, const Strategy &strategy,
                    const std::vector<IslandPrediction> &islands);
IslandPrediction evaluateIsland(const Problem &problem,
                                const Strategy &strategy, size_t island);

/// A step cannot be shorter, whatever the strategy, in seconds: all chips busy
/// all the time, each block where the chips are relatively best.
double lowerBound(const Problem &problem);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_COSTMODEL_H
