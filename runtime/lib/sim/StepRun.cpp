//===- StepRun.cpp - one inner step of an island on a virtual clock-----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StepRun.h"

#include "Infinity.h"

#include "Random.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tombolo::runtime::sim {

using namespace plan::v1;

const char *name(Exposure exposure) {
  static constexpr const char *names[] = {"waiting",       "pipeline",
                                          "tensor_parallel", "data_parallel",
                                          "island",        "exchange"};
  return names[static_cast<std::size_t>(exposure)];
}

void StepFigures::add(const StepFigures &other) {
  busy.resize(std::max(busy.size(), other.busy.size()));
  exposed.resize(busy.size());
  lineBytes.resize(std::max(lineBytes.size(), other.lineBytes.size()));
  for (std::size_t c = 0; c < other.busy.size(); ++c) {
    busy[c] += other.busy[c];
    for (std::size_t e = 0; e < kExposures; ++e)
      exposed[c][e] += other.exposed[c][e];
  }
  for (std::size_t l = 0; l < other.lineBytes.size(); ++l)
    lineBytes[l] += other.lineBytes[l];
}

StepRun::StepRun(const Plan &plan, std::uint32_t island, Fold &fold,
                 const StepOptions &options)
    : plan(plan), island(island), fold(fold), options(options),
      network([this](const Network::Timer &timer) {
        if (std::isfinite(timer.time))
          schedule(timer.time, kFlow, timer.flow, timer.version);
      }) {
  std::uint32_t lines = fold.resourceCount() - fold.firstLine();
  for (std::uint32_t r = 0; r < fold.resourceCount(); ++r)
    network.addResource(1);
  for (std::uint32_t l = 0; l < lines; ++l)
    background.push_back({{fold.firstLine() + l, 1}});
  for (std::uint32_t c = 0; c < fold.classes().size(); ++c) {
    const RankClass &of = fold.classes()[c];
    const Program &program = plan.programs(static_cast<int>(of.at.program));
    auto &shared = compiled[of.at.program];
    if (!shared) {
      shared = std::make_unique<CompiledProgram>(program);
      std::vector<double> &seconds = segmentSeconds[of.at.program];
      seconds.resize(static_cast<std::size_t>(plan.segments_size()));
      for (const SegmentSeconds &entry : program.segment_seconds())
        seconds[entry.segment()] = entry.seconds();
    }
    Worker worker;
    worker.program = shared.get();
    worker.engine = std::make_unique<Engine>(*shared);
    worker.seconds = &segmentSeconds[of.at.program];
    worker.stepSeconds = fold.stepSeconds(c);
    for (Lane lane : kLanes)
      if (!shared->code(Phase::Step, lane).empty())
        worker.lanes.push_back(lane);
    std::uint64_t degree = plan.islands(static_cast<int>(island))
                               .stages(static_cast<int>(of.at.stage))
                               .groups(static_cast<int>(of.at.group))
                               .tensor_parallel();
    worker.alike = 0;
    for (std::uint64_t i = 0; i < degree; ++i)
      worker.alike += fold.classOf(fold.layout().rankOf(
                          of.at.stage, of.at.replica, i)) == c;
    workers.push_back(std::move(worker));
  }
}

void StepRun::begin(Phase phase, std::uint64_t number,
                    const std::vector<double> &starts,
                    std::vector<bool> versions, const LineConditions &lines) {
  step = number;
  now = 0;
  order = 0;
  waits = 0;
  queue = {};
  network.clear();
  messages.clear();
  freeMessages.clear();
  entered.clear();
  received = std::move(versions);
  startTimes = starts;
  endTimes.assign(workers.size(), 0);
  undone = static_cast<std::uint32_t>(workers.size());
  clearFigures();
  changes = lines.changes;
  nextChange = 0;
  backgroundFlows.assign(background.size(), Network::kNoFlow);
  for (std::uint32_t l = 0; l < background.size(); ++l) {
    network.setCapacity(fold.firstLine() + l, lines.bytesPerSecond[l], 0);
    if (fold.usesLines() && lines.otherFlows[l] > 0) {
      background[l][0].perByte = lines.otherFlows[l];
      backgroundFlows[l] = network.start(0, background[l], kInfinity, 0);
    }
  }
  for (std::uint32_t w = 0; w < workers.size(); ++w) {
    Worker &worker = workers[w];
    worker.engine->begin(phase, step);
    worker.states.fill(State::Idle);
    if (phase != ofPhase || worker.groups.empty())
      worker.groups.assign(worker.program->code(phase, LANE_COLLECTIVE).size(),
                           nullptr);
    worker.idleSince = starts[w];
    worker.calls = 0;
    worker.exchanged = 0;
    worker.meetings.clear();
    worker.completesCall = worker.done = worker.begun = false;
    schedule(starts[w], kBegin, w);
  }
  ofPhase = phase;
}

void StepRun::schedule(double time, std::uint32_t kind, std::uint32_t flow,
                       std::uint32_t version) {
  queue.push({time, order++, kind, flow, version});
}

double StepRun::nextTime() const {
  double time = queue.empty() ? kInfinity : queue.top().time;
  if (nextChange < changes.size())
    time = std::min(time, changes[nextChange].time);
  return time;
}

void StepRun::advance() {
  if (nextChange < changes.size() &&
      (queue.empty() || changes[nextChange].time <= queue.top().time)) {
    const LineConditions::Change &change = changes[nextChange++];
    now = std::max(now, change.time);
    network.setCapacity(fold.firstLine() + change.direction,
                        change.bytesPerSecond, now);
    return;
  }
  Event event = queue.top();
  queue.pop();
  now = event.time;
  if (event.kind == kFlow) {
    if (network.wake(event.flow, event.version, now))
      flowDone(event.flow);
    return;
  }
  ++eventCount;
  if (event.kind == kMessage) {
    messageGoesOn(event.flow);
    return;
  }
  if (event.kind == kBegin) {
    workers[event.flow].begun = true;
    poll(event.flow, kAllLanes, {});
    finishIfDone(event.flow, {});
    return;
  }
  computed(event.kind / 8);
}

/// A call, or several, have run.
void StepRun::computed(std::uint32_t w) {
  Worker &worker = workers[w];
  worker.states[LANE_COMPUTE] = State::Idle;
  if (worker.completesCall)
    complete(w, LANE_COMPUTE, {});
  else {
    poll(w, bitOf(LANE_COMPUTE), {});
    finishIfDone(w, {});
  }
}

/// Starts whatever may start on those of the lanes that do nothing.
void StepRun::poll(std::uint32_t w, LaneSet lanes, const Cause &cause) {
  while (lanes != 0) {
    auto lane = static_cast<Lane>(std::countr_zero(lanes));
    lanes &= static_cast<LaneSet>(lanes - 1);
    if (workers[w].states[lane] == State::Idle)
      lanes |= pollLane(w, lane, cause);
  }
}

/// The lanes that may go on because of what was completed at once.
LaneSet StepRun::pollLane(std::uint32_t w, Lane lane, const Cause &cause) {
  Worker &worker = workers[w];
  LaneSet others = 0;
  while (worker.engine->ready(lane)) {
    Engine::Next next = worker.engine->next(lane);
    const Instruction &instruction = *next.instruction;
    switch (instruction.action_case()) {
    case Instruction::kCall:
      compute(w, next, cause);
      return others;
    case Instruction::kSend:
    case Instruction::kReceive:
      post(w, lane, next);
      return others;
    case Instruction::kCollective:
      worker.states[lane] = State::Posted;
      enter(w, next);
      return others;
    case Instruction::kPush:
      // An island's ranks all push before its next version can come.
      received[instruction.push().fragment()] = false;
      worker.exchanged += exchangeSeconds[w][instruction.push().fragment()];
      if (onPush)
        onPush(instruction.push().fragment(), w, now);
      break;
    case Instruction::kApply:
      if (!received[instruction.apply().fragment()]) {
        worker.states[lane] = State::Waiting;
        worker.waitingSince = now;
        ++waits;
        return others;
      }
      break;
    default: // loads and stamps take no time
      break;
    }
    others |= worker.engine->complete(lane) & ~bitOf(lane);
  }
  return others;
}

double StepRun::secondsOf(Worker &worker, std::uint32_t w,
                          std::uint32_t segment) {
  double seconds = (*worker.seconds)[segment] * fold.classes()[w].slowdown;
  if (options.jitter > 0) {
    double z = slowestNormal(
        drawUniform(options.seed, {island, fold.classes()[w].rank, step,
                                   worker.calls}),
        worker.alike);
    seconds *= std::max(0.0, 1 + options.jitter * z);
  }
  ++worker.calls;
  return seconds;
}

/// Adds what the compute lane was idle for to what it was idle for. One
/// collective waits for another of its lane; a transfer waits for none.
void StepRun::idle(Worker &worker, std::uint32_t w, const Cause &cause) {
  auto &exposed = counted.exposed[w];
  auto until = [&](const Cause &of, double end) {
    double begun = std::clamp(of.begun, worker.idleSince, end);
    exposed[static_cast<std::size_t>(Exposure::Waiting)] +=
        begun - worker.idleSince;
    exposed[static_cast<std::size_t>(of.kind)] += end - begun;
    worker.idleSince = end;
  };
  if (cause.kind != Exposure::Pipeline)
    for (const auto &[meeting, end] : worker.meetings)
      if (end > worker.idleSince)
        until(meeting, end);
  worker.meetings.clear();
  until(cause, now);
}

/// Runs the call and those behind it that need nothing more than what is there,
/// up to the first that signals.
void StepRun::compute(std::uint32_t w, Engine::Next next, const Cause &cause) {
  Worker &worker = workers[w];
  idle(worker, w, cause);
  worker.states[LANE_COMPUTE] = State::Busy;
  worker.completesCall = false;
  if (!fold.classes()[w].core.empty()) {
    computeOnSharedCore(w, next);
    return;
  }
  double end = now;
  for (;;) {
    if (next.instruction->has_call()) {
      const Call &call = next.instruction->call();
      double seconds = secondsOf(worker, w, call.segment());
      if (trace && seconds > 0)
        traceCall(w, next, end, end + seconds);
      end += seconds;
    }
    ++eventCount;
    if (next.instruction->signals_size() > 0) {
      worker.completesCall = true;
      break;
    }
    worker.engine->complete(LANE_COMPUTE);
    if (!worker.engine->ready(LANE_COMPUTE))
      break;
    next = worker.engine->next(LANE_COMPUTE);
  }
  counted.busy[w] += end - now;
  worker.idleSince = end;
  schedule(end, w * 8 + LANE_COMPUTE);
}

/// Runs the one call, whose end depends on what else begins meanwhile.
void StepRun::computeOnSharedCore(std::uint32_t w, const Engine::Next &next) {
  workers[w].completesCall = true;
  Moving call;
  call.computes = true;
  call.from = w;
  call.begun = now;
  const RankClass &of = fold.classes()[w];
  startFlow(of.core,
            of.coreRate *
                secondsOf(workers[w], w, next.instruction->call().segment()),
            0, call);
}

void StepRun::complete(std::uint32_t w, Lane lane, const Cause &cause) {
  Worker &worker = workers[w];
  worker.states[lane] = State::Idle;
  worker.completesCall &= lane != LANE_COMPUTE;
  poll(w, worker.engine->complete(lane), cause);
  finishIfDone(w, cause);
}

void StepRun::finishIfDone(std::uint32_t w, const Cause &cause) {
  Worker &worker = workers[w];
  if (worker.done || !worker.begun || !worker.engine->done())
    return;
  for (Lane lane : worker.lanes)
    if (worker.states[lane] != State::Idle)
      return;
  idle(worker, w, cause);
  worker.done = true;
  endTimes[w] = now + worker.stepSeconds + worker.exchanged;
  counted.exposed[w][static_cast<std::size_t>(Exposure::Exchange)] +=
      worker.exchanged;
  --undone;
}

std::vector<std::uint32_t> StepRun::waitedFor() const {
  std::vector<std::uint32_t> fragments;
  for (const Worker &worker : workers)
    if (worker.states[LANE_EXCHANGE] == State::Waiting) {
      std::uint32_t fragment = worker.engine->next(LANE_EXCHANGE)
                                   .instruction->apply()
                                   .fragment();
      if (std::find(fragments.begin(), fragments.end(), fragment) ==
          fragments.end())
        fragments.push_back(fragment);
    }
  return fragments;
}

double StepRun::firstWait() const {
  double first = kInfinity;
  for (const Worker &worker : workers)
    if (worker.states[LANE_EXCHANGE] == State::Waiting)
      first = std::min(first, worker.waitingSince);
  return first;
}

void StepRun::clearFigures() {
  counted.busy.assign(workers.size(), 0);
  counted.exposed.assign(workers.size(), {});
  counted.lineBytes.assign(background.size(), 0);
}

void StepRun::rebase(double time) {
  now -= time;
  for (std::uint32_t w = 0; w < workers.size(); ++w) {
    workers[w].idleSince -= time;
    workers[w].waitingSince -= time;
    for (auto &[meeting, end] : workers[w].meetings) {
      meeting.begun -= time;
      end -= time;
    }
    endTimes[w] -= time;
  }
  for (LineConditions::Change &change : changes)
    change.time -= time;
  traceBase += time;
}

void StepRun::receive(std::uint32_t fragment, double time) {
  now = std::max(now, time);
  received[fragment] = true;
  for (std::uint32_t w = 0; w < workers.size(); ++w) {
    Worker &worker = workers[w];
    if (worker.states[LANE_EXCHANGE] != State::Waiting ||
        worker.engine->next(LANE_EXCHANGE).instruction->apply().fragment() !=
            fragment)
      continue;
    --waits;
    if (trace)
      trace->slice(island + 1, laneThread(w, LANE_EXCHANGE),
                   "wait for fragment " + std::to_string(fragment),
                   traceBase + worker.waitingSince - traceGap, traceBase + now);
    complete(w, LANE_EXCHANGE, {Exposure::Exchange, worker.waitingSince});
  }
}

void StepRun::traceCall(std::uint32_t w, const Engine::Next &next, double start,
                        double end) {
  const Call &call = next.instruction->call();
  trace->call(island + 1, laneThread(w, LANE_COMPUTE),
              plan.segments(static_cast<int>(call.segment())).name(),
              traceBase + start, traceBase + end, fold.classes()[w].rank, call,
              next.variables);
}

} // namespace tombolo::runtime::sim
