//===- Search.h - finding strategies --------------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_SEARCH_H
#define TOMBOLO_PLANNING_SEARCH_H

#include "tombolo/Planning/CostModel.h"

#include <chrono>
#include <functional>
#include <map>

namespace tombolo::planning {

/// How to split the blocks of a model over stages of given chips.
struct SplitRequest {
  std::vector<const Chip *> stages; // the chip of each stage
  /// Per stage, where replicas have several chips or share the optimizer's
  /// state; empty or one entry per stage.
  std::vector<StageRanks> ranks;
  std::vector<ReplicaChips> replicas;
  /// Bytes of each stage's ranks, where replicas are on several chips; empty:
  /// what the chip has.
  std::vector<double> available;
  uint64_t microbatch = 1;   // samples
  uint64_t microbatches = 1; // of one replica and step
  Schedule schedule = Schedule::OneFOneB;
  /// Per stage, where pinned; empty or one entry per stage.
  std::vector<std::optional<uint64_t>> blocks;
  std::vector<std::optional<Recompute>> recompute;
};

struct Split {
  std::vector<uint64_t> blocks;
  std::vector<Recompute> recompute;
  double sum = 0;     // seconds of one microbatch through all stages
  double slowest = 0; // seconds of one microbatch in the slowest stage
  /// What is minimised: fill and drain, then the slowest stage sets the pace.
  double seconds(uint64_t microbatches) const {
    return sum + static_cast<double>(microbatches - 1) * slowest;
  }
};

/// All splits worth having: of no two is one better in both `sum` and
/// `slowest`, and for every number of microbatches the best is among them.
/// Every stage has a block or more and fits into its chip's memory; a stage
/// recomputes only where it would not fit otherwise. Exact, by dynamic
/// programming over stages and cuts. Empty: nothing fits.
std::vector<Split> splitBlocks(const Problem &problem,
                               const SplitRequest &request);

/// Shares `total` units between islands so that the slowest is fastest:
/// times[i][n] are the seconds island i needs for n units (infinite: cannot);
/// every island gets one unit or more. Exact. Empty: impossible. Ties go to
/// fewer units for the later islands.
std::vector<uint64_t> shareBatch(const std::vector<std::vector<double>> &times,
                                 uint64_t total);

struct Candidate {
  Strategy strategy;
  Prediction prediction;
};

/// Seconds per inner step of one strategy.
struct SimulatedStep {
  double predictedSeconds = 0; // by the cost model
  double simulatedSeconds = 0; // on a virtual clock
};

/// What a strategy was weighed by (see `alternatives` in Explain.h).
struct Alternative {
  std::string strategy; // in short
  double stepSeconds = 0;
  double tokensPerSecond = 0;
  double memoryBytes = 0;    // of the rank that needs most
  double memoryFraction = 0; // of the fullest rank, of what its chip has
  double wanBytesPerRound = 0;
  double wanBytesPerSecond = 0;
};

struct SearchResult {
  std::vector<Candidate> strategies; // best first
  /// Of the first of them, those that were simulated, in the same order.
  std::vector<SimulatedStep> simulated;
  /// All that were kept, for people, in the same order; set by who wants them.
  std::vector<Alternative> alternatives;
  uint64_t candidates = 0;           // layouts that were looked at
  double lowerBound = 0;             // seconds per inner step
  bool optimal = false;              // the best meets the bound
  /// Whether a limit of time or somebody's wish ended it: another run may find
  /// something else.
  bool timeEnded = false;
  Faults faults; // why there is none
};

/// What others have to say in a search.
struct SearchHooks {
  /// Asked now and then; true: return the best found so far.
  std::function<bool()> interrupted;
  /// When it returns the best found so far; `search` sets it where it is
  /// missing and `Bounds::searchSeconds` is there.
  std::optional<std::chrono::steady_clock::time_point> deadline;
  /// Seconds per inner step of a candidate on a virtual clock; nothing where it
  /// cannot be run. Asked of the `Bounds::simulated` best by the cost model,
  /// whose order these seconds then decide.
  std::function<std::optional<double>(const Candidate &)> simulate;
};

/// Of the numbers at most `reach` from `exact` the `most` that have the highest
/// powers of two as factors; among equals the nearest, then the lower. `reach`
/// is below `exact`, and their sum below 2^62.
std::vector<uint64_t> roundBatches(uint64_t exact, uint64_t reach, size_t most);

/// Fills in what `pins` leave open: islands, shares of the batch, layouts, the
/// parameter server (docs/Planning.md has the space and the algorithm). The
/// same problem gives the same strategies unless time ended it. The problem
/// must have passed `check`. Only strategies that can be lowered are returned
/// (see supportedBySlice); where all that the pins allow cannot, `faults` say
/// so.
SearchResult search(const Problem &problem, const StrategyPins &pins,
                    const SearchHooks &hooks = {});

/// One line for each pool that has chips in no stage: how many, and why.
std::vector<std::string> unusedChips(const Topology &topology,
                                     const Strategy &strategy);

/// What is proved of the best strategy: `optimal: lower bound = found`, or how
/// far the lower bound is.
std::string proofLine(const SearchResult &result);

/// What the simulated strategies take on the clock and by the cost model, the
/// one that was taken first; empty where none was.
std::string simulationLine(const SearchResult &result);

/// What so many chips of one type reach in one site, which equivalent compute
/// compares with (docs/Planning.md).
struct UniformCluster {
  std::string chip;
  double tokensPerSecond = 0;
  /// Else the plan is that of chips with as much memory as the model needs.
  bool memorySuffices = true;
  std::optional<Candidate> plan; ///< of whole nodes
};
/// One for each type in `chips`, by name, with its count.
std::vector<UniformCluster>
uniformClusters(const Problem &problem,
                const std::map<std::string, uint64_t> &chips);
/// All chips by type.
std::map<std::string, uint64_t> chipsListed(const Topology &topology);

/// Sets the two equivalent-compute figures of a prediction (see the design's
/// definition; docs/Planning.md has the formula).
void equivalentCompute(const Problem &problem, const Strategy &strategy,
                       Prediction &prediction);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_SEARCH_H
