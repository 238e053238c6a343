//===- Run.cpp - islands, lines and the server over a whole run---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Run.h"

#include "Infinity.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/plan/Layout.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace tombolo::runtime::sim {

using namespace plan::v1;

static constexpr std::uint64_t kDefaultRounds = 3;

Run::Run(const Plan &plan, const Places &places, const SimOptions &options,
         std::vector<std::unique_ptr<Steps>> &steps, Trace *trace)
    : plan(plan), places(places), options(options), steps(steps),
      trace(trace) {
  std::uint64_t target = options.steps;
  if (target == 0)
    target =
        plan.has_server() ? kDefaultRounds * plan.server().inner_steps() : 1;
  checkSteps(plan, target);
  std::size_t directions =
      2 * static_cast<std::size_t>(plan.topology().lines_size());
  bytesOnLines.resize(directions);
  pipelineRate.resize(directions);
  std::uint32_t fragments = plan.has_server() ? plan.server().fragments() : 0;
  std::vector<Fold *> folds;
  for (std::uint32_t i = 0; i < steps.size(); ++i) {
    Fold &fold = steps[i]->fold();
    folds.push_back(&fold);
    IslandState &state = states.emplace_back();
    state.inRound = IslandSteps(plan, i).inRound();
    state.target = IslandSteps(plan, i).ofJob(target);
    // Without a push there is nothing to wait for.
    state.received.assign(fragments, true);
    state.begin.starts.assign(fold.classes().size(), 0);
    std::set<std::uint32_t> sites;
    for (const RankClass &one : fold.classes())
      sites.insert(places.of(i, one.rank).site);
    state.sites.assign(sites.begin(), sites.end());
    figures.emplace_back();
    steps[i]->setTrace(options.traceSteps ? trace : nullptr);
  }
  if (plan.has_server()) {
    Exchange::Hooks hooks;
    hooks.at = [this](double time, std::function<void()> what) {
      at(time, std::move(what));
    };
    hooks.now = [this] { return now; };
    hooks.receive = [this](std::uint32_t i, std::uint32_t f) { receive(i, f); };
    hooks.commit = [this](std::uint32_t i, std::uint32_t f) {
      ++figures[i].commits;
      if (f == 0) {
        states[i].sinceCommit = 0;
        ++figures[i].rounds;
      }
    };
    hooks.crossed = [this](const std::vector<std::uint32_t> &on, double bytes) {
      for (std::uint32_t direction : on)
        bytesOnLines[direction] += bytes;
      crossedBytes += on.empty() ? 0 : bytes;
    };
    hooks.say = [this](const std::string &text) { say(text); };
    hooks.traceRound = [this](const std::string &text) {
      if (this->trace)
        this->trace->instant(0, text, now);
    };
    hooks.traceLine = [this](std::uint32_t direction) {
      if (this->trace)
        this->trace->counter(
            0, this->places.directionName(direction) + ", exchange", now,
            exchange->load(direction));
    };
    if (trace)
      lineTracks = std::make_unique<LineTracks>(*trace, plan, places, folds);
    hooks.traceMove = [this](const Exchange::Move &move, bool isWhole) {
      if (lineTracks)
        lineTracks->add(move, isWhole, now);
    };
    exchange = std::make_unique<Exchange>(plan, places, folds, hooks);
  }
  planFaults();
}

void Run::at(double time, std::function<void()> what) {
  if (std::isfinite(time))
    queue.push({std::max(time, now), order++, std::move(what)});
}

void Run::at(std::uint32_t i, double time, std::function<void()> what) {
  at(time, [this, i, incarnation = states[i].incarnation,
            what = std::move(what)] {
    if (states[i].incarnation == incarnation)
      what();
  });
}

void Run::say(const std::string &text) {
  char time[32];
  std::snprintf(time, sizeof time, "%.3f s: ", now);
  told.push_back(time + text);
  if (trace)
    trace->instant(0, text, now);
}

void Run::go() {
  for (std::uint32_t i = 0; i < states.size(); ++i)
    if (!states[i].down)
      beginStep(i);
  auto isOver = [&] {
    // Who is down when all others are done trains no more in this run; alone it
    // is waited for.
    bool any = false, all = true;
    for (const IslandState &state : states) {
      any |= state.finished;
      all &= state.finished || state.down;
    }
    return any && all;
  };
  while (!isOver()) {
    if (queue.empty()) {
      std::string text = "the run comes to a halt at " + std::to_string(now) +
                         " s: ";
      for (std::uint32_t i = 0; i < states.size(); ++i)
        if (!states[i].finished)
          text += "island " + std::to_string(i) +
                  (states[i].down ? " is down for good; "
                                  : " waits for the server; ");
      throw Error(Status::BadInput,
                  text + "give the failures a duration and lines a rate, or "
                         "the server a backup");
    }
    Event event = queue.top();
    queue.pop();
    now = event.time;
    ++eventCount;
    event.what();
  }
  for (std::uint32_t i = 0; i < states.size(); ++i) {
    if (states[i].down)
      figures[i].downSeconds += now - states[i].downSince;
    ended = std::max(ended, states[i].finished ? figures[i].end : now);
  }
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

LineConditions Run::conditions(std::uint32_t i) const {
  LineConditions lines;
  const Topology &topology = plan.topology();
  for (std::uint32_t l = 0; l < static_cast<unsigned>(topology.lines_size());
       ++l)
    for (std::uint32_t d = 2 * l; d < 2 * l + 2; ++d) {
      lines.bytesPerSecond.push_back(
          topology.lines(static_cast<int>(l)).bytes_per_second());
      lines.otherFlows.push_back(exchange ? exchange->flowsOn(d) : 0);
    }
  for (const LineEvent &event : lineEvents)
    for (std::uint32_t d = 2 * event.line; d < 2 * event.line + 2; ++d) {
      if (event.time <= states[i].base)
        lines.bytesPerSecond[d] = event.bytesPerSecond;
      else
        lines.changes.push_back(
            {event.time - states[i].base, d, event.bytesPerSecond});
    }
  return lines;
}

void Run::beginStep(std::uint32_t i) {
  IslandState &state = states[i];
  state.begin.step = state.step;
  state.begin.received = state.received;
  state.came.clear();
  bool onLines = steps[i]->fold().usesLines();
  state.begin.lines = onLines ? conditions(i) : LineConditions();
  state.part = nullptr;
  goOn(i, steps[i]->first(state.begin, state.base));
}

/// Takes a part of a step that begins at the state's base. Pushes that the part
/// before had are under way already.
void Run::goOn(std::uint32_t i, std::shared_ptr<const StepPart> part) {
  IslandState &state = states[i];
  std::swap(state.part, part);
  const std::shared_ptr<const StepPart> &before = part;
  state.partEnd = state.base + state.part->end;
  auto isUnderWay = [&](const StepPart::Push &push) {
    return before && std::any_of(before->pushes.begin(), before->pushes.end(),
                                 [&](const StepPart::Push &other) {
                                   return other.fragment == push.fragment &&
                                          other.ofClass == push.ofClass;
                                 });
  };
  for (const StepPart::Push &push : state.part->pushes)
    if (!isUnderWay(push))
      at(i, state.base + push.time, [this, i, push] {
        // The next version is another one.
        states[i].received[push.fragment] = false;
        exchange->push(i, push.fragment, push.ofClass);
      });
  if (state.part->waitsFor.empty())
    at(i, state.partEnd, [this, i] { endStep(i); });
  else
    at(i, state.base + state.part->firstApply, [this, i] { decide(i); });
}

/// The first class comes to where it has to wait, or not.
void Run::decide(std::uint32_t i) {
  IslandState &state = states[i];
  bool here = false;
  for (std::uint32_t f : state.part->waitsFor)
    here |= state.received[f] && !state.begin.received[f];
  if (here && state.came.empty()) {
    // Nobody has looked before, so the step is one where it was there already.
    state.begin.received = state.received;
    Trace *told = steps[i]->setTrace(nullptr);
    auto part = steps[i]->first(state.begin, state.base);
    steps[i]->setTrace(told);
    goOn(i, part);
    return;
  }
  state.waits = true;
  at(i, state.partEnd, [this, i] { resume(i); });
}

/// Goes on with a version that has come, if all of the island wait.
void Run::resume(std::uint32_t i) {
  IslandState &state = states[i];
  if (!state.waits || now < state.partEnd)
    return;
  for (std::uint32_t f : state.part->waitsFor)
    if (state.received[f]) {
      state.waits = false;
      double gap = now - state.partEnd;
      StepFigures idle = state.part->figures;
      for (auto &exposed : idle.exposed)
        exposed[static_cast<std::size_t>(Exposure::Exchange)] += gap;
      figures[i].figures.add(idle);
      state.base = now;
      state.came.push_back(f);
      auto next = steps[i]->then(state.begin, state.came, now, gap);
      state.part = nullptr;
      goOn(i, next);
      return;
    }
}

void Run::receive(std::uint32_t i, std::uint32_t fragment) {
  states[i].received[fragment] = true;
  resume(i);
}

void Run::endStep(std::uint32_t i) {
  IslandState &state = states[i];
  const StepPart &part = *state.part;
  figures[i].figures.add(part.figures);
  for (std::size_t d = 0; d < part.figures.lineBytes.size(); ++d) {
    bytesOnLines[d] += part.figures.lineBytes[d];
    crossedBytes += part.figures.lineBytes[d];
    if (exchange && part.figures.lineBytes[d] > 0) {
      // What the pipeline takes of a line is not there for the exchange, which
      // has its half at least.
      double rate = part.figures.lineBytes[d] / std::max(part.end, 1e-9);
      if (std::abs(rate - pipelineRate[d]) > 1e-3 * rate) {
        pipelineRate[d] = rate;
        double capacity =
            plan.topology().lines(static_cast<int>(d / 2)).bytes_per_second();
        for (const LineEvent &event : lineEvents)
          if (event.line == d / 2 && event.time <= now)
            capacity = event.bytesPerSecond;
        exchange->lineCapacity(static_cast<std::uint32_t>(d),
                               std::max(capacity / 2, capacity - rate));
      }
    }
  }
  ++figures[i].steps;
  if (++state.step == state.inRound)
    begun = {now, crossedBytes};
  ++state.sinceCommit;
  double first = *std::min_element(part.ends.begin(), part.ends.end());
  state.base += first;
  state.begin.starts = part.ends;
  for (double &start : state.begin.starts)
    start -= first;
  if (state.step < state.target) {
    beginStep(i);
    return;
  }
  state.finished = true;
  ++state.incarnation;
  figures[i].end = now;
  if (exchange)
    exchange->finish(i);
}

//===----------------------------------------------------------------------===//
// Failures
//===----------------------------------------------------------------------===//

void Run::planFaults() {
  std::map<std::uint32_t, std::vector<std::pair<double, double>>> outages;
  for (const Fault &fault : options.faults) {
    places.site(fault.site);
    if (fault.kind == Fault::Line)
      outages[places.line(fault.site, fault.other)].push_back(
          {fault.seconds, fault.seconds + fault.duration});
    if (fault.kind == Fault::Chip) {
      bool known = false;
      for (std::uint32_t p = 0; p < places.poolCount(); ++p)
        known |= places.poolName(p) == fault.site + "/" + fault.other;
      if (!known)
        throw Error("there is no pool '", fault.other, "' at site '",
                    fault.site, "'");
    }
    if (fault.kind == Fault::Server) {
      const auto &placements = plan.server().placements();
      if (std::none_of(placements.begin(), placements.end(),
                       [&](const auto &of) {
                         return of.primary() == fault.site ||
                                of.backup() == fault.site;
                       }))
        throw Error("the plan has no server that could fail at '", fault.site,
                    "'");
    }
    at(fault.seconds, [this, &fault] { fail(fault); });
    at(fault.seconds + fault.duration, [this, &fault] { repair(fault); });
  }
  // By line, what it carries and when it carries nothing.
  std::map<std::uint32_t, std::vector<std::pair<double, double>>> rates;
  for (const LineChange &change : options.lineChanges)
    rates[places.line(change.first, change.second)].push_back(
        {change.seconds, change.bytesPerSecond});
  for (std::uint32_t l = 0;
       l < static_cast<unsigned>(plan.topology().lines_size()); ++l) {
    std::set<double> times;
    for (auto [time, rate] : rates[l])
      times.insert(time);
    for (auto [begin, end] : outages[l]) {
      times.insert(begin);
      if (std::isfinite(end))
        times.insert(end);
    }
    for (double time : times) {
      double rate =
          plan.topology().lines(static_cast<int>(l)).bytes_per_second();
      for (auto [since, given] : rates[l])
        if (since <= time)
          rate = given;
      for (auto [begin, end] : outages[l])
        if (begin <= time && time < end)
          rate = 0;
      lineEvents.push_back({time, l, rate});
    }
  }
  std::stable_sort(lineEvents.begin(), lineEvents.end(),
                   [](const LineEvent &a, const LineEvent &b) {
                     return a.time < b.time;
                   });
  if (exchange)
    for (const LineEvent &event : lineEvents)
      at(event.time, [this, &event] {
        for (std::uint32_t d = 2 * event.line; d < 2 * event.line + 2; ++d)
          exchange->lineCapacity(
              d, std::max(event.bytesPerSecond / 2,
                          event.bytesPerSecond - pipelineRate[d]));
      });
}

double Run::lineCapacityBytes(std::uint32_t line) const {
  double rate =
      plan.topology().lines(static_cast<int>(line)).bytes_per_second();
  double bytes = 0, since = 0;
  for (const LineEvent &event : lineEvents)
    if (event.line == line && event.time < ended) {
      double from = std::max(event.time, 0.0);
      bytes += rate * (from - since);
      since = from;
      rate = event.bytesPerSecond;
    }
  return bytes + rate * (ended - since);
}

bool Run::hits(const Fault &fault, std::uint32_t i) const {
  if (fault.kind != Fault::Site && fault.kind != Fault::Chip)
    return false;
  for (const Stage &stage : plan.islands(static_cast<int>(i)).stages())
    for (const ReplicaGroup &group : stage.groups())
      if (group.site() == fault.site &&
          (fault.kind == Fault::Site || group.pool() == fault.other))
        return true;
  return false;
}

void Run::fail(const Fault &fault) {
  switch (fault.kind) {
  case Fault::Site:
    say("site " + fault.site + " fails");
    break;
  case Fault::Chip:
    say("a chip of " + fault.site + "/" + fault.other + " fails");
    break;
  case Fault::Server:
    say("the server at " + fault.site + " fails");
    break;
  case Fault::Line:
    say("the line between " + fault.site + " and " + fault.other + " fails");
    break;
  }
  if (exchange &&
      (fault.kind == Fault::Site || fault.kind == Fault::Server))
    exchange->serverFails(places.site(fault.site));
  if (exchange && fault.kind == Fault::Line)
    exchange->lineFails(places.line(fault.site, fault.other));
  for (std::uint32_t i = 0; i < states.size(); ++i)
    if (hits(fault, i) && ++states[i].faults == 1)
      stop(i);
}

void Run::repair(const Fault &fault) {
  switch (fault.kind) {
  case Fault::Line:
    say("the line between " + fault.site + " and " + fault.other + " is back");
    break;
  case Fault::Server:
    say("the server at " + fault.site + " is back");
    break;
  case Fault::Chip:
    say("the chip of " + fault.site + "/" + fault.other + " is back");
    break;
  case Fault::Site:
    say("site " + fault.site + " is back");
    break;
  }
  if (exchange &&
      (fault.kind == Fault::Site || fault.kind == Fault::Server))
    exchange->serverIsBack(places.site(fault.site));
  if (exchange && fault.kind == Fault::Line)
    exchange->lineIsBack(places.line(fault.site, fault.other));
  for (std::uint32_t i = 0; i < states.size(); ++i)
    if (hits(fault, i) && --states[i].faults == 0 && !states[i].finished)
      at(i, now + options.restartSeconds, [this, i] { restart(i); });
}

/// An island's ranks end; what no version has of their work is lost.
void Run::stop(std::uint32_t i) {
  IslandState &state = states[i];
  if (state.finished)
    return;
  if (!state.down)
    state.downSince = now;
  state.down = true;
  state.waits = false;
  ++state.incarnation;
  std::uint64_t lost = state.sinceCommit;
  if (!exchange) {
    std::uint64_t every = options.snapshotSteps;
    lost = every > 0 ? state.step % every : state.step;
    state.step -= lost;
  }
  figures[i].stepsLost += lost;
  state.sinceCommit = 0;
  say("island " + std::to_string(i) + " stops and loses " +
      std::to_string(lost) + " steps");
  if (!exchange)
    return;
  exchange->leave(i);
  at(i, now + kLeaseSeconds, [this, i] { exchange->forget(i); });
}

void Run::restart(std::uint32_t i) {
  auto begin = [this, i] {
    IslandState &state = states[i];
    if (exchange)
      // It takes part from the round on that is open now.
      state.step = exchange->round(0) * state.inRound;
    figures[i].downSeconds += now - state.downSince;
    state.down = false;
    std::fill(state.received.begin(), state.received.end(), true);
    std::fill(state.begin.starts.begin(), state.begin.starts.end(), 0);
    state.base = now;
    say("island " + std::to_string(i) + " trains again, at step " +
        std::to_string(state.step));
    if (state.step >= state.target) {
      state.finished = true;
      figures[i].end = now;
      exchange->finish(i);
      return;
    }
    beginStep(i);
  };
  if (exchange)
    exchange->join(i, begin);
  else
    begin();
}

} // namespace tombolo::runtime::sim
