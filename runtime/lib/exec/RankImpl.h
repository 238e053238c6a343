//===- RankImpl.h - one worker's parts --------------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Rank.cpp has the life of a worker, RankCheckpoint.cpp what it saves and
// loads.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_EXEC_RANKIMPL_H
#define TOMBOLO_LIB_EXEC_RANKIMPL_H

#include "CheckpointParts.h"
#include "LaneRunner.h"
#include "Links.h"
#include "NumericsLog.h"
#include "SnapshotWriter.h"
#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/Exchange.h"
#include "tombolo/runtime/Rank.h"
#include "tombolo/runtime/plan/Instructions.h"
#include "tombolo/runtime/plan/Layout.h"

#include <set>

namespace tombolo::runtime {

using namespace plan::v1;
using namespace detail;

class Rank::Impl {
public:
  Impl(const Plan &plan, const RankConfig &options, Device &device,
       Transport &transport, RankEvents events, ExchangeFactory makeExchange)
      : plan(plan), options(options), device(device), transport(transport),
        events(std::move(events)), makeExchange(std::move(makeExchange)),
        island(plan.islands(static_cast<int>(options.island))),
        steps(plan, options.island), layout(island),
        self(layout.coordinates(options.rank)),
        program(plan.programs(static_cast<int>(self.program))),
        compiled(program),
        parameters(expandParameters(program, self.tensorIndex)) {
    checkSteps(plan, options.steps);
    this->options.steps = steps.ofJob(options.steps);
    const ReplicaGroup &first =
        island.stages(static_cast<int>(self.stage)).groups(0);
    for (const LocalParameter &parameter :
         expandParameters(plan.programs(static_cast<int>(first.program()))))
      if (parameter.owner)
        stageOwns.insert(parameter.name);
    prepare();
  }

  void run();

private:
  // Before the first step.
  void prepare();
  void prepareSegments();
  void prepareData();
  void prepareEvaluation();
  void loadModel();
  void loadCheckpoint(const std::string &folder);
  CheckpointInfo dealing() const;
  void connect();
  void startExchange();
  void resumeExchange(const Checkpoint &checkpoint);

  // One instruction.
  void execute(const Instruction &instruction,
               std::span<const std::int64_t> variables);
  void call(const Instruction &instruction,
            std::span<const std::int64_t> variables);
  void load(const Load &load, std::span<const std::int64_t> variables);
  void stamp(const Stamp &stamp, std::span<const std::int64_t> variables);
  void apply(std::uint32_t fragment);
  void resetIf(Exchange::Applied applied, std::uint32_t fragment);

  // Around steps.
  void report(std::uint64_t step, double seconds);
  void checkLoss(std::uint64_t step);
  bool reports() const {
    return self.stage + 1 == layout.stageCount() && self.replica == 0 &&
           self.tensorIndex == 0;
  }
  bool isEvaluationStep(std::uint64_t stepsDone) const {
    return heldOut && (stepsDone == options.steps ||
                       isDue(options.evaluateEvery, stepsDone));
  }
  /// Whether the job has come to a multiple of `every` with this step.
  bool isDue(std::uint64_t every, std::uint64_t stepsDone) const {
    return every && steps.progress(stepsDone) / every !=
                        steps.progress(stepsDone - 1) / every;
  }
  void evaluateHeldOut(LaneRunner &lanes, std::uint64_t stepsDone);
  bool isCheckpointStep(std::uint64_t stepsDone) const;
  /// The first sample of a step. What a resumed run has used before under
  /// another plan shifts all samples of this one.
  std::uint64_t firstSampleOf(std::uint64_t step) const {
    return samplesBefore + firstSample(plan, options.island, step);
  }
  /// Begins a checkpoint beside training, or, where the run ends, makes one.
  void saveCheckpoint(std::uint64_t stepsDone, bool trainsOn);
  Snapshot snapshotOf(std::uint64_t stepsDone);
  /// Waits until the last checkpoint is whole, or known not to become so; all
  /// ranks call it together. Gives what has kept this rank from writing it.
  std::exception_ptr settleCheckpoint();
  void tellOfCheckpoints();
  void catchUp(std::uint64_t stepsDone);
  void noteStop(std::uint64_t stepsDone);
  std::vector<std::pair<const char *, Kept>>
  keptOf(const FragmentPoint &point, std::uint64_t stepsDone) const;

  bool owns(const LocalParameter &parameter) const {
    return ownsParameter(parameter, self.replica, self.tensorIndex);
  }
  /// Of a state that lies in parts every replica of the stage saves its own,
  /// where replica 0 saves the parameter.
  bool ownsState(const LocalParameter &parameter) const {
    return stageOwns.count(parameter.name) &&
           (parameter.split || self.tensorIndex == 0);
  }
  /// Not AdamW's: without the second moment and the count of outer steps it
  /// would mean something else.
  bool keepsOuterMomentum() const {
    return exchange != nullptr && options.island == 0 &&
           plan.server().outer().kind() != Server::Outer::KIND_ADAMW;
  }
  std::byte *at(std::int64_t address) const { return arena->base() + address; }
  std::byte *at(const Expr &expr,
                std::span<const std::int64_t> variables) const {
    return at(evaluate(expr, variables, self));
  }
  void putFloats(std::uint64_t address, std::span<const float> values) {
    device.copyToDevice(arena->base() + address, std::as_bytes(values));
  }
  void getFloats(std::uint64_t address, std::span<float> values) {
    device.copyToHost(std::as_writable_bytes(values), arena->base() + address);
  }

  const Plan &plan;
  RankConfig options; // `steps` are the island's
  Device &device;
  Transport &transport;
  RankEvents events;
  ExchangeFactory makeExchange;
  const Island &island;
  const IslandSteps steps;
  IslandLayout layout;
  RankCoordinates self;
  const Program &program;
  CompiledProgram compiled;
  std::vector<LocalParameter> parameters;
  std::set<std::string> stageOwns; // parameters that replica 0 of it owns
  std::string contract;            // digest; with a server

  std::unique_ptr<Arena> arena;
  std::vector<std::unique_ptr<Executable>> segments; // null: not called here
  std::unique_ptr<SampleSource> samples;             // null: loads nothing
  std::vector<std::byte> staged;                     // one sample of one input
  std::unique_ptr<SampleSource> heldOut;             // null: none
  std::uint64_t heldOutSamples = 0;                  // that are evaluated
  std::optional<std::int64_t> ignoredLabel;
  std::optional<std::uint64_t> evaluating; // the first sample of the batch
  std::vector<std::byte *> addresses;

  std::unique_ptr<NumericsLog> numerics; // null: not asked for

  std::unique_ptr<Links> links;
  std::unique_ptr<Exchange> exchange;
  std::vector<const LocalParameter *> exchanged; // tensors of the exchange
  std::unique_ptr<Checkpoint> resumed;           // until the exchange has begun
  std::set<std::uint32_t> alone; // fragments without which the island goes on

  std::uint64_t samplesBefore = 0; // modulo 2^64; see firstSampleOf
  std::uint64_t loadedStep = 0;    // of the checkpoint; 0: none
  std::uint64_t firstStep = 0;
  std::uint64_t currentStep = 0;
  bool finishing = false;
  bool isStopped = false; // ends before all steps that were asked for

  double stalledSeconds = 0; // for checkpoints, not yet told
  bool hasBlocked = false;
  // The last: its threads end first.
  std::unique_ptr<SnapshotWriter> writer; // null: no checkpoints
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_EXEC_RANKIMPL_H
