//===- Simulate.h - a plan on a virtual clock -------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// docs/Simulation.md says what is simulated and what is not.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SIM_SIMULATE_H
#define TOMBOLO_RUNTIME_SIM_SIMULATE_H

#include "tombolo/runtime/plan/PlanFile.h"

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace tombolo::runtime::sim {

class Trace;

/// Something that stops at `seconds`, and is back `duration` later.
struct Fault {
  enum Kind {
    Site,   ///< all chips and servers of `site`
    Chip,   ///< one chip of pool `site`/`other`: its island stops
    Server, ///< the parameter server at `site`
    Line,   ///< the line between `site` and `other`
  } kind = Site;
  std::string site;
  std::string other;
  double seconds = 0;
  double duration = std::numeric_limits<double>::infinity();
};

/// `SITE`, `SITE/POOL`, `server:SITE` or `line:SITE,SITE`, then `@SECONDS` and
/// perhaps `+DURATION`. Throws Error (status 2) when it is not of that form.
Fault parseFault(const std::string &text);

/// From `seconds` on the line between two sites carries so much each way.
struct LineChange {
  double seconds = 0;
  std::string first;
  std::string second;
  double bytesPerSecond = 0;
};

/// A CSV file with the header `seconds,first,second,gbits_per_second`; seconds
/// do not descend. Throws Error with the file's name and line.
std::vector<LineChange> readLineTrace(const std::string &path);

/// Chip number `chip` of a pool, or all of them, takes `factor` times as long.
struct Straggler {
  std::string site;
  std::string pool;
  std::optional<std::uint64_t> chip;
  double factor = 1;
};

/// `SITE/POOL=FACTOR` or `SITE/POOL:CHIP=FACTOR`. Throws Error (status 2).
Straggler parseStraggler(const std::string &text);

struct SimOptions {
  /// Of the job (IslandSteps). 0: three rounds, so that two tell what goes on
  /// and on; one step without a server.
  std::uint64_t steps = 0;
  std::vector<Fault> faults;
  std::vector<LineChange> lineChanges;
  std::vector<Straggler> stragglers;
  /// Each call takes 1 + jitter x z times its seconds, z standard normal.
  double jitter = 0;
  std::uint64_t seed = 0;
  /// From the return of chips to their first step, without what is pulled.
  double restartSeconds = 30;
  /// Without a server an island goes on from its last snapshot; they are taken
  /// after so many steps. 0: none, it begins again.
  std::uint64_t snapshotSteps = 100;
  bool fold = true;   ///< simulate one of all like ranks
  bool replay = true; ///< play equal steps again instead of simulating them
  Trace *trace = nullptr;
  /// Whether the trace is told of what is in a step, which takes every step to
  /// be simulated; else of lines, versions and failures only.
  bool traceSteps = true;
};

/// What a rank's time goes to when it does not compute.
enum class Exposure : std::uint8_t {
  Waiting,        ///< for other ranks to come: the pipeline's bubble, imbalance
  Pipeline,       ///< transfers between stages
  TensorParallel, ///< collectives in a replica
  DataParallel,   ///< collectives over replicas
  Island,         ///< collectives over all ranks
  Exchange,       ///< for the server's version
};
inline constexpr std::size_t kExposures = 6;
/// `waiting`, `pipeline`, `tensor_parallel`, `data_parallel`, `island`,
/// `exchange`.
const char *name(Exposure exposure);

/// What the ranks of an island did in one step, or in several, in seconds of
/// single ranks.
struct StepFigures {
  std::vector<double> busy;                             // by class
  std::vector<std::array<double, kExposures>> exposed;  // by class
  std::vector<double> lineBytes; // by direction of line

  void add(const StepFigures &other);
};

struct ClassResult {
  std::uint32_t stage = 0;
  std::uint64_t rank = 0;  ///< one of them
  std::uint64_t ranks = 0; ///< how many
  std::string pool;        ///< site/pool
  double busySeconds = 0;  ///< of one, in all its steps
  std::array<double, kExposures> exposedSeconds{};
  std::uint64_t memoryBytes = 0;
  std::uint64_t hostBytes = 0;
};

struct IslandResult {
  std::vector<ClassResult> classes;
  double stepSeconds = 0; ///< mean of the steps that were run
  std::uint64_t steps = 0;
  std::uint64_t stepsLost = 0; ///< run, and lost with a failure
  double downSeconds = 0;
  std::uint64_t rounds = 0;
};

struct PoolResult {
  std::string name;
  std::uint64_t chips = 0;
  std::uint64_t used = 0;
  double utilisation = 0; ///< of the used chips' time: computing
};

struct LineResult {
  std::string first, second; ///< in this direction
  double bytes = 0;
  double utilisation = 0; ///< of what it can carry, on average
};

struct SimResult {
  double seconds = 0; ///< until all islands are done
  /// Of a run without failures, outer exchange included: behind its first
  /// round, which nothing comes into from one before, where there are more.
  double stepSeconds = 0;
  double tokensPerSecond = 0; ///< likewise
  double bubbleFraction = 0;  ///< part of the ranks' time spent waiting for ranks
  double exchangeSeconds = 0; ///< exposed, of each round
  double wanBytesPerRound = 0; ///< likewise
  std::optional<double> equivalentCompute, equivalentComputeOfUsedChips;
  /// Tokens that count, per second, over those of the same run without failures.
  double goodput = 1;
  std::vector<IslandResult> islands;
  std::vector<PoolResult> pools;
  std::vector<LineResult> lines; ///< both directions of each
  std::uint64_t steps = 0;
  std::uint64_t stepsSimulated = 0; ///< the others were replayed
  std::uint64_t events = 0;
  std::vector<std::string> log; ///< failures and returns, in order
  std::vector<std::string> warnings; ///< what was asked for and had no effect
};

/// Runs a validated plan. Throws Error: no topology in the plan, an unknown
/// site, a plan that waits for itself (with the cycle of ranks), or a run that
/// comes to a halt.
SimResult simulate(const Plan &plan, const SimOptions &options);

} // namespace tombolo::runtime::sim

#endif // TOMBOLO_RUNTIME_SIM_SIMULATE_H
