//===- Rank.cpp - one worker: program, device, lanes ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RankImpl.h"

#include "tombolo/runtime/InitialParameters.h"
#include "tombolo/runtime/plan/Contract.h"
#include "tombolo/runtime/plan/Validate.h"

#include <chrono>
#include <cmath>
#include <cstring>

namespace tombolo::runtime {

/// How long a rank that has failed still works on a checkpoint: all of them may
/// have failed alike, as by a loss that is not finite, and then it becomes
/// whole. Less than whoever started them has.
static constexpr std::chrono::duration<double> kPatience{0.5};

Rank::Rank(const Plan &plan, const RankConfig &options, Device &device,
           Transport &transport, RankEvents events, ExchangeFactory exchange) {
  if (options.island >= static_cast<unsigned>(plan.islands_size()))
    throw Error("island ", options.island, " does not exist: the plan has ",
                plan.islands_size());
  impl = std::make_unique<Impl>(plan, options, device, transport,
                                std::move(events), std::move(exchange));
}
Rank::~Rank() = default;
void Rank::run() { impl->run(); }

// ------------------------------------------------------ before the first step

void Rank::Impl::prepare() {
  if (!device.hostAccessible() && layout.rankCount() > 1)
    throw Error("device '", device.name(),
                "': its memory is not the host's, "
                "and no transport here can reach it");
  arena = device.allocateArena(program.arena_bytes());
  if (program.has_tensor_index_address()) {
    auto index = static_cast<std::int64_t>(self.tensorIndex);
    device.copyToDevice(arena->base() + program.tensor_index_address(),
                        std::as_bytes(std::span(&index, 1)));
  }
  prepareSegments();
  if (options.checkNumerics)
    numerics = std::make_unique<NumericsLog>(program);
  prepareData();
  loadModel();
}

void Rank::Impl::prepareSegments() {
  segments.resize(static_cast<std::size_t>(plan.segments_size()));
  auto prepare = [&](const Instruction &instruction) {
    if (!instruction.has_call())
      return;
    std::uint32_t index = instruction.call().segment();
    if (!segments[index])
      segments[index] = device.prepare(plan.segments(static_cast<int>(index)));
  };
  forEachInstruction(program.step(), prepare);
  forEachInstruction(program.finish(), prepare);
  forEachInstruction(program.evaluate(), prepare);
}

void Rank::Impl::prepareData() {
  bool loads = false;
  auto look = [&](const Instruction &instruction) {
    loads |= instruction.has_load();
  };
  forEachInstruction(program.step(), look);
  forEachInstruction(program.finish(), look);
  forEachInstruction(program.evaluate(), look);
  if (loads)
    samples = openDataset(options.data, plan.model());
  prepareEvaluation();
}

/// Every rank reads the held-out data: all of them have to know how much it is.
void Rank::Impl::prepareEvaluation() {
  if (options.evaluationData.empty())
    return;
  if (program.evaluate().empty())
    throw Error("the plan has no program to evaluate by; plan it again");
  DatasetOptions data = options.data;
  data.path = options.evaluationData;
  data.shuffle = std::nullopt;
  heldOut = openDataset(data, plan.model());
  for (const Segment &segment : plan.segments())
    for (const Op &op : segment.ops())
      if (op.opcode() == OPCODE_CROSS_ENTROPY ||
          op.opcode() == OPCODE_CROSS_ENTROPY_MERGE)
        for (const Attribute &attribute : op.attributes())
          if (attribute.name() == "ignore_index")
            ignoredLabel = attribute.integer();
  // The labels of what fills the last batch up do not count.
  std::uint64_t batch = island.batch();
  heldOutSamples = heldOut->size();
  if (!ignoredLabel || plan.model().label().dtype() != DTYPE_I64)
    heldOutSamples -= heldOutSamples % batch;
  if (heldOutSamples == 0)
    throw Error("'", options.evaluationData, "': expected at least ", batch,
                " samples, as many as a batch, got ", heldOut->size());
}

void Rank::Impl::loadModel() {
  OnnxModel model(options.model);
  if (model.hash() != plan.model_hash())
    throw Error("'", options.model,
                "': expected the model the plan was made "
                "for (hash ",
                toHex(plan.model_hash()).substr(0, 16), "), got another (",
                toHex(model.hash()).substr(0, 16),
                "); plan it again with tombolo-plan");
  std::string found =
      options.checkpointDir.empty() ? ""
      : options.resume
          ? resumedCheckpoint(options.checkpointDir, options.island,
                              options.resumeStep)
          : latestCheckpoint(options.checkpointDir, options.island);
  if (!options.resume && found.empty() && !options.checkpointCopy.empty())
    found = latestCheckpoint(options.checkpointCopy, options.island);
  if (!options.resume && !found.empty())
    throw Error("'", found,
                "': the folder already holds a checkpoint; give --resume to go "
                "on from it, or another --checkpoint-dir or --checkpoint-copy");
  if (options.resume && found.empty())
    throw Error("'", options.checkpointDir, "': holds no checkpoint of island ",
                options.island, " to resume from");
  if (options.resume)
    return loadCheckpoint(found);
  for (const LocalParameter &parameter : parameters)
    fillParameter(model, parameter, options.seed,
                  [&](std::uint64_t element, std::span<const float> values) {
                    putFloats(parameter.address + element * 4, values);
                  });
}

void Rank::Impl::connect() {
  links = std::make_unique<Links>(transport, layout, options.rank, program);
}

void Rank::Impl::startExchange() {
  std::unique_ptr<Checkpoint> checkpoint = std::move(resumed);
  if (!plan.has_server())
    return;
  if (!makeExchange)
    throw Error("the plan has a parameter server; give --server ADDRESS");
  contract = contractOf(plan).digest();
  std::vector<ExchangeTensor> tensors;
  for (const LocalParameter &parameter : parameters) {
    if (!parameter.trainable)
      continue;
    ExchangeTensor tensor;
    tensor.name = parameter.name;
    tensor.elements = parameter.elements;
    tensor.fragment = parameter.fragment;
    for (const Slice &slice : parameter.ranges)
      tensor.ranges.push_back(
          {slice.begin(), slice.length(), slice.count(), slice.stride()});
    tensor.address = parameter.address;
    tensor.owner = owns(parameter);
    tensors.push_back(std::move(tensor));
    exchanged.push_back(&parameter);
  }
  ArenaAccess access;
  access.read = [this](std::uint64_t address, std::span<std::byte> to) {
    device.copyToHost(to, arena->base() + address);
  };
  access.write = [this](std::uint64_t address,
                        std::span<const std::byte> from) {
    device.copyToDevice(arena->base() + address, from);
  };
  exchange = makeExchange(
      std::move(tensors), std::move(access),
      [this](std::span<std::uint64_t> numbers) { links->largest(numbers); });
  if (checkpoint)
    resumeExchange(*checkpoint);
  checkpoint.reset();
  // All ranks install the same version: another island's push may have closed
  // a round in between that this island was a member of before its restart.
  std::uint64_t begun;
  do
    begun = exchange->begin(firstStep);
  while (!links->agree(begun));
  // What the others have synchronised at the end counts as another round.
  firstStep = std::min(
      {begun, options.steps, exchange->stopStep().value_or(options.steps)});
}

// ------------------------------------------------------------ one instruction

void Rank::Impl::execute(const Instruction &instruction,
                         std::span<const std::int64_t> variables) {
  if (links->carry(instruction, variables, arena->base()))
    return;
  switch (instruction.action_case()) {
  case Instruction::kCall:
    return call(instruction, variables);
  case Instruction::kLoad:
    return load(instruction.load(), variables);
  case Instruction::kStamp:
    return stamp(instruction.stamp(), variables);
  case Instruction::kPush:
    return exchange->beginPush(instruction.push().fragment(),
                               finishing ? currentStep : currentStep + 1);
  case Instruction::kApply:
    return apply(instruction.apply().fragment());
  default:
    throw Error(Status::Failed, "an instruction without action");
  }
}

void Rank::Impl::call(const Instruction &instruction,
                      std::span<const std::int64_t> variables) {
  const Call &call = instruction.call();
  addresses.clear();
  for (const Expr &argument : call.arguments())
    addresses.push_back(at(argument, variables));
  const Segment &segment = plan.segments(static_cast<int>(call.segment()));
  std::byte *workspace =
      segment.workspace_bytes() > 0 ? at(call.workspace(), variables) : nullptr;
  segments[call.segment()]->run(addresses, workspace);
  if (numerics)
    numerics->look(device, instruction, variables);
}

void Rank::Impl::load(const Load &load,
                      std::span<const std::int64_t> variables) {
  const Model &model = plan.model();
  const Input &input =
      load.input() == static_cast<unsigned>(model.inputs_size())
          ? model.label()
          : model.inputs(static_cast<int>(load.input()));
  std::uint64_t j =
      layout.deal(self.stage)
          .microbatch(self.replica, static_cast<std::uint64_t>(evaluate(
                                        load.microbatch(), variables)));
  std::uint64_t first =
      (evaluating ? *evaluating : firstSampleOf(currentStep)) +
      j * island.microbatch();
  staged.resize(sampleBytes(input));
  std::byte *to = at(load.address(), variables);
  for (std::uint64_t s = 0; s < island.microbatch(); ++s, to += staged.size()) {
    if (!evaluating) {
      samples->read(load.input(), first + s, staged);
    } else if (first + s < heldOutSamples) {
      heldOut->read(load.input(), first + s, staged);
    } else {
      heldOut->read(load.input(), 0, staged);
      if (&input == &model.label())
        for (std::size_t i = 0; i + 8 <= staged.size(); i += 8)
          std::memcpy(staged.data() + i, &*ignoredLabel, 8);
    }
    device.copyToDevice(to, staged);
  }
}

/// Masks depend on nothing that a layout could change.
void Rank::Impl::stamp(const Stamp &stamp,
                       std::span<const std::int64_t> variables) {
  std::uint64_t j =
      layout.deal(self.stage)
          .microbatch(self.replica, static_cast<std::uint64_t>(evaluate(
                                        stamp.microbatch(), variables, self)));
  std::uint64_t first = j * island.microbatch();
  for (std::uint32_t i = 0; i < options.island; ++i)
    first += plan.islands(static_cast<int>(i)).batch();
  std::int64_t words[] = {static_cast<std::int64_t>(options.maskSeed),
                          evaluating ? -1
                                     : static_cast<std::int64_t>(currentStep),
                          static_cast<std::int64_t>(first),
                          evaluate(stamp.block(), variables, self)};
  device.copyToDevice(at(stamp.address(), variables),
                      std::as_bytes(std::span(words)));
}

void Rank::Impl::apply(std::uint32_t fragment) {
  resetIf(exchange->apply(fragment, finishing ? currentStep : currentStep + 1),
          fragment);
}

void Rank::Impl::resetIf(Exchange::Applied applied, std::uint32_t fragment) {
  if (applied != Exchange::Applied::Reset)
    return;
  for (const LocalParameter &parameter : parameters) {
    if (!parameter.trainable || parameter.fragment != fragment)
      continue;
    for (const StateRegion &state : program.states()) {
      ParameterPart part = statePart(program, state, parameter, self.replica);
      std::vector<float> zeros(part.parameter.localElements);
      if (!zeros.empty())
        putFloats(part.address, zeros);
    }
  }
}

// --------------------------------------------------------------- around steps

void Rank::Impl::report(std::uint64_t step, double seconds) {
  if (!reports() || !events.step)
    return;
  float stats[2];
  getFloats(program.stats_address(), stats);
  StepMetrics metrics;
  metrics.step = step;
  metrics.island = options.island;
  // A step of weight zero has no loss; it changes nothing either.
  metrics.loss = stats[1] > 0 ? static_cast<double>(stats[0]) / stats[1] : 0;
  metrics.seconds = seconds;
  metrics.tokens = island.batch() * plan.model().tokens_per_sample();
  if (program.has_gradient_squares_address()) {
    float squares[1];
    getFloats(program.gradient_squares_address(), squares);
    metrics.gradientNorm =
        stats[1] > 0 ? std::sqrt(static_cast<double>(squares[0])) / stats[1]
                     : 0;
  }
  events.step(metrics);
}

/// Every rank has the island's sums, so that all end in the same step.
void Rank::Impl::checkLoss(std::uint64_t step) {
  float stats[2];
  getFloats(program.stats_address(), stats);
  double loss = stats[1] == 0 ? stats[0] : stats[0] / stats[1];
  if (std::isfinite(loss))
    return;
  std::string what = "step " + std::to_string(step) + ": the loss is " +
                     (std::isnan(loss) ? "nan"
                      : loss > 0       ? "inf"
                                       : "-inf");
  if (!numerics)
    throw Error(Status::Failed, what,
                "; give --check-numerics to learn which op made it so");
  std::string cause = numerics->cause();
  if (!cause.empty())
    throw Error(Status::Failed, what, ": ", cause);
  // A rank that has a cause explains more, and does not come to this barrier:
  // who left first would end it in the middle of its step.
  links->barrier();
  throw Error(Status::Failed, what,
              ": no op made it so of finite operands: what was loaded, or a "
              "sum over ranks, is not finite");
}

/// The loss of all held-out samples, batch by batch.
void Rank::Impl::evaluateHeldOut(LaneRunner &lanes, std::uint64_t stepsDone) {
  double loss = 0, weight = 0;
  for (std::uint64_t first = 0; first < heldOutSamples;
       first += island.batch()) {
    evaluating = first;
    lanes.run(Phase::Evaluate, currentStep);
    float stats[2];
    getFloats(program.stats_address(), stats);
    loss += stats[0];
    weight += stats[1];
  }
  evaluating.reset();
  if (!reports() || !events.evaluation)
    return;
  EvaluationMetrics metrics;
  metrics.stepsDone = stepsDone;
  metrics.island = options.island;
  metrics.loss = weight > 0 ? loss / weight : 0;
  metrics.samples = heldOutSamples;
  metrics.leftOut = heldOut->size() - heldOutSamples;
  metrics.tokens = static_cast<std::uint64_t>(std::llround(weight));
  events.evaluation(metrics);
}

/// Takes what an island that is cut off from its servers has gone on without,
/// as soon as it is there.
void Rank::Impl::catchUp(std::uint64_t stepsDone) {
  if (!exchange)
    return;
  for (std::uint32_t fragment : exchange->putOff())
    resetIf(exchange->applyLate(fragment, stepsDone), fragment);
  std::vector<std::uint32_t> list = exchange->putOff();
  std::set<std::uint32_t> now(list.begin(), list.end());
  if (options.rank == 0 && events.alone)
    for (std::uint32_t f = 0; f < plan.server().fragments(); ++f)
      if (now.count(f) != alone.count(f))
        events.alone(f, steps.toJob(stepsDone), now.count(f) > 0);
  alone = std::move(now);
}

/// Under a server all islands end after the same step, as if no more had been
/// asked for. One that has gone on alone may be further then, and ends at once.
void Rank::Impl::noteStop(std::uint64_t stepsDone) {
  if (!exchange)
    return;
  if (options.rank == 0 && options.endRequested && options.endRequested())
    exchange->requestStop();
  std::optional<std::uint64_t> stop = exchange->stopStep();
  if (!stop || *stop >= options.steps)
    return;
  options.steps = *stop;
  isStopped = true;
}

void Rank::Impl::run() {
  if (events.ready)
    events.ready();
  auto giveUp = [this](const std::string &why) {
    transport.abort(why);
    if (exchange)
      exchange->abort();
  };
  if (!options.checkpointDir.empty()) {
    SnapshotWriter::Place place{
        {options.checkpointDir}, options.rank, layout.rankCount()};
    if (!options.checkpointCopy.empty())
      place.dirs.push_back(options.checkpointCopy);
    writer = std::make_unique<SnapshotWriter>(std::move(place), events.writing);
  }
  try {
    connect();
    startExchange();
    LaneRunner lanes(
        compiled,
        [this](const Instruction &instruction,
               std::span<const std::int64_t> variables) {
          execute(instruction, variables);
        },
        giveUp);
    noteStop(firstStep);
    for (currentStep = firstStep; currentStep < options.steps; ++currentStep) {
      if (events.begin)
        events.begin(currentStep);
      auto start = std::chrono::steady_clock::now();
      if (numerics)
        numerics->beginStep(device, currentStep);
      lanes.run(Phase::Step, currentStep);
      std::chrono::duration<double> took =
          std::chrono::steady_clock::now() - start;
      report(currentStep, took.count());
      checkLoss(currentStep);
      tellOfCheckpoints();
      std::uint64_t stepsDone = currentStep + 1;
      catchUp(stepsDone);
      noteStop(stepsDone);
      if (stepsDone >= options.steps)
        continue;
      if (isEvaluationStep(stepsDone))
        evaluateHeldOut(lanes, stepsDone);
      bool end = options.endRequested && !exchange &&
                 links->fromFirst(options.endRequested());
      if (isCheckpointStep(stepsDone) ||
          (end && !options.checkpointDir.empty()))
        saveCheckpoint(stepsDone, /*trainsOn=*/!end);
      if (!end)
        continue;
      links->barrier();
      if (options.rank == 0 && events.stopped)
        events.stopped(steps.toJob(stepsDone));
      return;
    }
    finishing = true;
    if (firstStep < options.steps)
      lanes.run(Phase::Finish, currentStep);
    if (exchange)
      exchange->end(currentStep);
    if (isCheckpointStep(options.steps) && loadedStep < options.steps) {
      // What it has saved alone beyond the end is older than the end.
      if (currentStep > options.steps) {
        settleCheckpoint();
        if (options.rank == 0)
          for (const std::string &folder :
               {options.checkpointDir, options.checkpointCopy})
            if (!folder.empty())
              setAsideBeyond(folder, options.island,
                             steps.toJob(options.steps));
      }
      saveCheckpoint(options.steps, /*trainsOn=*/false);
    }
    // What is saved and exported: islands have come to the last version.
    if (isEvaluationStep(options.steps) && firstStep < options.steps)
      evaluateHeldOut(lanes, options.steps);
    // Nobody closes its connections while another still waits on them.
    links->barrier();
    bool isRemoved = exchange && exchange->isRemoved();
    const auto &tell = isRemoved ? events.removed : events.stopped;
    if ((isStopped || isRemoved) && options.rank == 0 && tell)
      tell(steps.toJob(options.steps));
  } catch (const std::exception &error) {
    giveUp(error.what());
    if (writer && writer->isOpen()) {
      if (events.failed)
        events.failed(error);
      writer->end(kPatience);
      tellOfCheckpoints();
    }
    throw;
  }
}

} // namespace tombolo::runtime
