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

namespace {

const Transfer &transferOf(const Instruction &instruction) {
  return instruction.has_send() ? instruction.send() : instruction.receive();
}

Exposure exposureOf(const Collective &collective) {
  switch (collective.group()) {
  case Collective::GROUP_TENSOR:
    return Exposure::TensorParallel;
  case Collective::GROUP_ISLAND:
    return Exposure::Island;
  default:
    return Exposure::DataParallel;
  }
}

double elementBytesOf(DType dtype) {
  switch (dtype) {
  case DTYPE_BF16:
    return 2;
  case DTYPE_I64:
    return 8;
  case DTYPE_BOOL:
    return 1;
  default:
    return 4;
  }
}

/// What rings of n ranks, `perNode` of them on each of `nodes` nodes, send: by
/// each rank inside its node, then between nodes; and how many steps that takes
/// (Thakur, Rabenseifner and Gropp 2005, section 4; inside nodes first, as
/// NCCL's hierarchical rings).
struct Rings {
  double intraBytes = 0, interBytes = 0;
  double intraSteps = 0, interSteps = 0;
};
Rings ringsOf(Collective::Kind kind, double bytes, const GroupClass &group) {
  double k = static_cast<double>(group.mostPerNode);
  double part = static_cast<double>(group.perNode);
  double a = static_cast<double>(group.nodes);
  Rings rings;
  if (kind == Collective::KIND_ALL_TO_ALL) {
    double n = static_cast<double>(group.ranks);
    rings.intraBytes = bytes * (k - 1) / n;
    rings.interBytes = bytes * (n - part) / n;
    rings.intraSteps = k - 1;
    rings.interSteps = n - part;
    return rings;
  }
  // An all-reduce is a reduce-scatter and an all-gather.
  double passes = kind == Collective::KIND_ALL_REDUCE_SUM ? 2 : 1;
  rings.intraBytes = passes * bytes * (k - 1) / k;
  rings.intraSteps = passes * (k - 1);
  rings.interBytes = passes * bytes / part * (a - 1) / a;
  rings.interSteps = passes * (a - 1);
  return rings;
}

} // namespace

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

/// One side of a transfer is there; starts it when both are.
void StepRun::post(std::uint32_t w, Lane lane, const Engine::Next &next) {
  const Instruction &instruction = *next.instruction;
  const Transfer &transfer = transferOf(instruction);
  Worker &worker = workers[w];
  const RankCoordinates &at = fold.classes()[w].at;
  const IslandLayout &layout = fold.layout();
  Post &own = worker.posts[lane];
  own.local = static_cast<std::uint64_t>(
      evaluate(transfer.microbatch(), next.variables));
  own.peerRank = layout.peer(at, transfer, own.local);
  own.peer = fold.classOf(own.peerRank);
  own.peerLocal =
      layout.deal(transfer.stage())
          .place(layout.deal(at.stage).microbatch(at.replica, own.local))
          .local;
  worker.states[lane] = State::Posted;
  own.since = now;

  Lane otherLane = counterpart(lane);
  Worker &peer = workers[own.peer];
  const Post &other = peer.posts[otherLane];
  if (peer.states[otherLane] != State::Posted || other.peer != w ||
      other.local != own.peerLocal || other.peerLocal != own.local)
    return;
  worker.states[lane] = peer.states[otherLane] = State::Busy;
  bool sends = instruction.has_send();
  Moving moving;
  moving.from = sends ? w : own.peer;
  moving.fromLane = sends ? lane : otherLane;
  moving.to = sends ? own.peer : w;
  moving.toLane = sends ? otherLane : lane;
  moving.instruction = &instruction;
  moving.begun = now;
  const TransferPath &path = fold.path(
      moving.from, sends ? own.peerRank : other.peerRank);
  auto bytes = static_cast<double>(transfer.bytes());
  if (path.onLines) {
    moving.lines = &path;
    later(std::max(now, (sends ? other.since : now) + path.latency), moving);
    return;
  }
  startFlow(path.path, bytes + path.latencyBytes,
            path.latencyBytes > 0 ? 0 : path.latency, moving);
}

void StepRun::later(double time, const Moving &message) {
  std::uint32_t number;
  if (freeMessages.empty()) {
    number = static_cast<std::uint32_t>(messages.size());
    messages.push_back(message);
  } else {
    number = freeMessages.back();
    freeMessages.pop_back();
    messages[number] = message;
  }
  if (time > now)
    schedule(time, kMessage, number);
  else
    messageGoesOn(number);
}

/// The sender has heard that it is waited for, or it has come.
void StepRun::messageGoesOn(std::uint32_t number) {
  Moving message = messages[number];
  freeMessages.push_back(number);
  if (message.sent < 0) {
    startFlow(message.lines->path,
              static_cast<double>(transferOf(*message.instruction).bytes()), 0,
              message);
    return;
  }
  if (trace)
    traceFlow(message);
  complete(message.to, message.toLane, {Exposure::Pipeline, message.begun});
}

void StepRun::enter(std::uint32_t w, const Engine::Next &next) {
  const Instruction &instruction = *next.instruction;
  const GroupClass *&known = workers[w].groups[next.position];
  if (!known)
    known = &fold.group(w, instruction.collective());
  const GroupClass &group = *known;
  if (entered.size() < fold.groupCount())
    entered.resize(fold.groupCount(), 0);
  std::uint32_t &in = entered[group.number];
  if (++in < group.members.size())
    return;
  in = 0;
  for (std::uint32_t member : group.members)
    workers[member].states[LANE_COLLECTIVE] = State::Busy;
  startCollective(group, instruction);
}

void StepRun::startCollective(const GroupClass &group,
                              const Instruction &instruction) {
  const Collective &collective = instruction.collective();
  Moving moving;
  moving.group = &group;
  moving.instruction = &instruction;
  moving.begun = now;
  if (group.ranks < 2) {
    startFlow(group.intra, 0, 0, moving);
    return;
  }
  double bytes = static_cast<double>(collective.elements()) *
                 elementBytesOf(collective.dtype());
  Rings rings = ringsOf(collective.kind(), bytes, group);
  rings.intraBytes /= group.ringPart;
  double intra = rings.intraSteps * group.intraLatency;
  double inter = rings.interSteps * group.interLatency;
  if (collective.kind() == Collective::KIND_ALL_REDUCE_SUM &&
      collective.group() != Collective::GROUP_TENSOR) {
    // Two trees, each for half of the bytes, up and down (Sanders et al. 2009),
    // where latency rules; as in the planner's cost model.
    const Path &path = group.inter.empty() ? group.intra : group.inter;
    double hops = 2 * std::ceil(std::log2(static_cast<double>(group.ranks)));
    double twice = 2 * bytes / (group.inter.empty() ? group.ringPart : 1);
    double latency = hops * std::max(group.intraLatency, group.interLatency);
    auto alone = [&](const Path &over, double sent) {
      return over.empty() ? 0 : sent / network.freeRate(over);
    };
    if (latency + alone(path, twice) <
        intra + inter + alone(group.intra, rings.intraBytes) +
            alone(group.inter, rings.interBytes)) {
      if (group.latencyBytes > 0 && group.inter.empty()) {
        twice += hops * group.latencyBytes;
        latency = 0;
      }
      startFlow(path, twice, latency, moving);
      return;
    }
  }
  if (group.latencyBytes > 0) {
    rings.intraBytes += rings.intraSteps * group.latencyBytes;
    intra = 0;
  }
  if (group.inter.empty()) {
    startFlow(group.intra, rings.intraBytes, intra, moving);
  } else if (group.intra.empty()) {
    startFlow(group.inter, rings.interBytes, inter, moving);
  } else {
    moving.interBytes = rings.interBytes;
    moving.interLatency = inter;
    startFlow(group.intra, rings.intraBytes, intra, moving);
  }
}

void StepRun::startFlow(const Path &path, double bytes, double latency,
                        const Moving &what) {
  for (const Usage &usage : path)
    if (usage.resource >= fold.firstLine())
      counted.lineBytes[usage.resource - fold.firstLine()] +=
          bytes * usage.perByte;
  std::uint32_t flow = network.start(now, path, bytes, latency);
  if (flow >= moving.size())
    moving.resize(flow + 1);
  moving[flow] = what;
  moving[flow].path = &path;
  if (trace)
    traceLines(path);
}

void StepRun::flowDone(std::uint32_t flow) {
  ++eventCount;
  Moving what = moving[flow];
  if (trace)
    traceLines(*what.path);
  if (what.interBytes >= 0) {
    double bytes = what.interBytes, latency = what.interLatency;
    what.interBytes = -1;
    startFlow(what.group->inter, bytes, latency, what);
    return;
  }
  if (what.computes) {
    Worker &worker = workers[what.from];
    if (trace && now > what.begun)
      traceCall(what.from, worker.engine->next(LANE_COMPUTE), what.begun, now);
    counted.busy[what.from] += now - what.begun;
    worker.idleSince = now;
    computed(what.from);
    return;
  }
  if (what.lines) {
    what.sent = now;
    complete(what.from, what.fromLane, {Exposure::Pipeline, what.begun});
    later(now + what.lines->latency, what);
    return;
  }
  if (trace)
    traceFlow(what);
  if (what.group) {
    Cause cause{exposureOf(what.instruction->collective()), what.begun};
    for (std::uint32_t member : what.group->members) {
      if (workers[member].states[LANE_COMPUTE] == State::Idle)
        workers[member].meetings.push_back({cause, now});
      complete(member, LANE_COLLECTIVE, cause);
    }
    return;
  }
  Cause cause{Exposure::Pipeline, what.begun};
  complete(what.from, what.fromLane, cause);
  complete(what.to, what.toLane, cause);
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

void StepRun::traceLines(const Path &path) {
  for (const Usage &usage : path)
    if (usage.resource >= fold.firstLine()) {
      std::uint32_t direction = usage.resource - fold.firstLine();
      trace->counter(island + 1, lineNames[direction] + ", steps",
                     traceBase + now,
                     network.load(usage.resource, backgroundFlows[direction]));
    }
}

void StepRun::traceFlow(const Moving &what) {
  double start = traceBase + what.begun, end = traceBase + now;
  if (what.group) {
    static constexpr const char *kinds[] = {"?", "all-reduce",
                                            "reduce-scatter", "all-gather",
                                            "all-to-all"};
    const Collective &collective = what.instruction->collective();
    for (std::uint32_t member : what.group->members)
      trace->slice(island + 1, laneThread(member, LANE_COLLECTIVE),
                   std::string(kinds[collective.kind()]) + ", " +
                       name(exposureOf(collective)),
                   start, end);
    return;
  }
  std::string text =
      std::to_string(transferOf(*what.instruction).bytes()) + " bytes";
  trace->slice(island + 1, laneThread(what.from, what.fromLane), text, start,
               what.sent < 0 ? end : traceBase + what.sent);
  trace->slice(island + 1, laneThread(what.to, what.toLane), text, start, end);
  trace->arrow(island + 1, laneThread(what.from, what.fromLane), start,
               island + 1, laneThread(what.to, what.toLane), end);
}

} // namespace tombolo::runtime::sim
