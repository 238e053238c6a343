//===- Steps.cpp - the steps of an island, each kind simulated once-----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Steps.h"

#include "HostWork.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/engine/Progress.h"
#include "tombolo/runtime/plan/Instructions.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace tombolo::runtime::sim {

using namespace plan::v1;

namespace {

std::vector<std::vector<double>> slowdownsOf(const Plan &plan,
                                             const Places &places,
                                             const SimOptions &options) {
  std::vector<std::vector<double>> all;
  if (options.stragglers.empty())
    return all;
  for (int i = 0; i < plan.islands_size(); ++i) {
    IslandLayout layout(plan.islands(i));
    std::vector<double> &ranks = all.emplace_back(layout.rankCount(), 1.0);
    for (std::uint64_t rank = 0; rank < ranks.size(); ++rank) {
      const Place &place = places.of(static_cast<std::uint32_t>(i), rank);
      for (const Straggler &slow : options.stragglers)
        if (places.poolName(place.pool) == slow.site + "/" + slow.pool &&
            (!slow.chip || *slow.chip == place.chip))
          ranks[rank] *= slow.factor;
    }
  }
  return all;
}

} // namespace

Steps::Steps(const Plan &plan, std::uint32_t island, const Places &places,
             const SimOptions &options)
    : plan(plan), island(island), options(options),
      replays(options.replay && options.jitter == 0 &&
              !(options.trace && options.traceSteps)),
      folded(plan, island, places,
             {options.fold, options.jitter > 0,
              slowdownsOf(plan, places, options)}),
      run(plan, island, folded, {options.jitter, options.seed}) {
  run.exchangeSeconds = exchangeSeconds(plan, island, folded, places);
  for (int d = 0; d < 2 * plan.topology().lines_size(); ++d)
    run.lineNames.push_back(
        places.directionName(static_cast<std::uint32_t>(d)));
  std::set<std::pair<std::uint64_t, std::uint64_t>> all;
  for (const RankClass &one : folded.classes())
    forEachInstruction(
        plan.programs(static_cast<int>(one.at.program)).step(),
        [&](const Instruction &i) {
          if (i.has_guard())
            all.insert({i.guard().modulus(), i.guard().remainder()});
        });
  guards.assign(all.begin(), all.end());
}

std::string Steps::keyOf(const StepBegin &begin,
                         const std::vector<std::uint32_t> &came) const {
  std::string key;
  auto add = [&](const void *data, std::size_t bytes) {
    key.append(static_cast<const char *>(data), bytes);
  };
  auto addAll = [&](const auto &values) {
    std::uint64_t size = values.size();
    add(&size, sizeof size);
    add(values.data(), values.size() * sizeof(values[0]));
  };
  if (!replays)
    add(&begin.step, sizeof begin.step);
  for (auto [modulus, remainder] : guards)
    key.push_back((begin.step + 1) % modulus == remainder ? '1' : '0');
  for (bool received : begin.received)
    key.push_back(received ? '1' : '0');
  addAll(begin.starts);
  addAll(begin.lines.bytesPerSecond);
  addAll(begin.lines.otherFlows);
  addAll(came);
  return key;
}

std::shared_ptr<const StepPart> Steps::runOn(StepPart &part) {
  part.firstApply = std::numeric_limits<double>::infinity();
  run.onPush = [&](std::uint32_t fragment, std::uint32_t ofClass,
                   double time) {
    part.pushes.push_back({fragment, ofClass, time});
  };
  double last = 0;
  while (!run.done() && !run.waiting()) {
    double time = run.nextTime();
    if (!std::isfinite(time)) {
      checkProgress(plan); // names who waits for whom
      throw Error(Status::BadInput, "island ", island,
                  ": the simulation comes to a halt ", last,
                  " s into a step: ",
                  folded.usesLines()
                      ? "a line that it needs is down for good"
                      : "the folded ranks wait for each other; simulate with "
                        "--unfolded and report the plan");
    }
    last = time;
    run.advance();
  }
  part.figures = run.figures();
  if (run.done()) {
    part.ends = run.ends();
    part.end = *std::max_element(part.ends.begin(), part.ends.end());
  } else {
    part.waitsFor = run.waitedFor();
    part.end = last;
    part.firstApply = run.firstWait();
  }
  return std::make_shared<const StepPart>(std::move(part));
}

std::shared_ptr<const StepPart> Steps::first(const StepBegin &begin,
                                             double base) {
  std::string key = keyOf(begin, {});
  // A step with a change of a line inside is like no other.
  auto entry = known.find(key);
  if (entry != known.end() && replays &&
      (begin.lines.changes.empty() ||
       begin.lines.changes.front().time > entry->second->end))
    return entry->second;
  ++simulatedCount;
  run.traceBase = base;
  LineConditions none;
  none.bytesPerSecond.assign(folded.resourceCount() - folded.firstLine(), 1);
  none.otherFlows.assign(none.bytesPerSecond.size(), 0);
  run.begin(Phase::Step, begin.step, begin.starts, begin.received,
            begin.lines.bytesPerSecond.empty() ? none : begin.lines);
  StepPart part;
  auto made = runOn(part);
  atKey = key;
  if (replays && (begin.lines.changes.empty() ||
                         begin.lines.changes.front().time > made->end))
    known[key] = made;
  return made;
}

std::shared_ptr<const StepPart>
Steps::then(const StepBegin &begin, const std::vector<std::uint32_t> &came,
            double base, double gap) {
  std::string key = keyOf(begin, came);
  bool quiet = begin.lines.changes.empty();
  if (replays && quiet)
    if (auto entry = known.find(key); entry != known.end())
      return entry->second;
  std::vector<std::uint32_t> before(came.begin(), came.end() - 1);
  std::string beforeKey = keyOf(begin, before);
  if (atKey != beforeKey) { // run up to there again
    Trace *trace = setTrace(nullptr);
    bool replay = std::exchange(replays, false);
    before.empty() ? first(begin, base) : then(begin, before, base, 0);
    replays = replay;
    setTrace(trace);
  }
  run.rebase(run.time());
  run.traceBase = base;
  run.traceGap = gap;
  run.clearFigures();
  StepPart part;
  run.onPush = [&](std::uint32_t fragment, std::uint32_t ofClass,
                   double time) {
    part.pushes.push_back({fragment, ofClass, time});
  };
  run.receive(came.back(), 0);
  auto made = runOn(part);
  atKey = key;
  if (replays && quiet)
    known[key] = made;
  return made;
}

} // namespace tombolo::runtime::sim
