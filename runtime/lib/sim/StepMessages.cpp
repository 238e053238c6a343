//===- StepMessages.cpp - messages and collectives of an island -----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Messages between stages and collectives, as flows over wires and lines.
//
//===----------------------------------------------------------------------===//

#include "StepRun.h"

#include "tombolo/runtime/plan/Validate.h"

#include <algorithm>
#include <cmath>

namespace tombolo::runtime::sim {

using namespace plan::v1;

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
  const TransferPath &path =
      fold.path(moving.from, sends ? own.peerRank : other.peerRank);
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
                 static_cast<double>(elementBytes(collective.dtype()));
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
    static constexpr const char *kinds[] = {"?", "all-reduce", "reduce-scatter",
                                            "all-gather", "all-to-all"};
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
