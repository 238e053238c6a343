//===- Simulate.cpp - a plan on a virtual clock-------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/sim/Simulate.h"

#include "Run.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/plan/Layout.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

namespace tombolo::runtime::sim {

using namespace plan::v1;

namespace {

std::vector<std::unique_ptr<Steps>> makeSteps(const Plan &plan,
                                              const Places &places,
                                              const SimOptions &options) {
  std::vector<std::unique_ptr<Steps>> steps;
  for (std::uint32_t i = 0; i < static_cast<unsigned>(plan.islands_size()); ++i)
    steps.push_back(std::make_unique<Steps>(plan, i, places, options));
  return steps;
}

void checkStragglers(const Places &places, const SimOptions &options) {
  for (const Straggler &slow : options.stragglers) {
    bool known = false;
    for (std::uint32_t p = 0; p < places.poolCount(); ++p)
      known |= places.poolName(p) == slow.site + "/" + slow.pool &&
               (!slow.chip || *slow.chip < places.pool(p).nodes() *
                                               places.pool(p).chips_per_node());
    if (!known)
      throw Error("there is no chip ",
                  slow.chip ? std::to_string(*slow.chip) + " of " : "of ",
                  "pool '", slow.site, "/", slow.pool,
                  "' that could be slow: expected a pool of the plan's "
                  "topology, and a chip that it has");
  }
}

/// Names everything that the trace will be about.
void nameTracks(const Plan &plan, const Places &places,
                std::vector<std::unique_ptr<Steps>> &steps, Trace &trace) {
  static constexpr const char *lanes[] = {
      "",           "compute",       "send forward",     "receive forward",
      "send backward", "receive backward", "collective", "exchange"};
  trace.process(0, "lines and server");
  for (std::uint32_t i = 0; i < steps.size(); ++i) {
    trace.process(i + 1, "island " + std::to_string(i));
    const std::vector<RankClass> &classes = steps[i]->fold().classes();
    for (std::uint32_t c = 0; c < classes.size(); ++c) {
      const RankClass &one = classes[c];
      std::string name = "stage " + std::to_string(one.at.stage) + ", rank " +
                         std::to_string(one.rank);
      if (one.count > 1)
        name += " and " + std::to_string(one.count - 1) + " like it";
      const Program &program =
          plan.programs(static_cast<int>(one.at.program));
      for (Lane lane : kLanes)
        trace.thread(i + 1, laneThread(c, lane),
                     name + ", " + lanes[static_cast<int>(lane)]);
      trace.counter(i + 1, "memory of " + name, 0,
                    static_cast<double>(program.arena_bytes()));
    }
  }
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

/// Sums over ranks, in seconds.
struct Sums {
  double busy = 0;
  std::array<double, kExposures> exposed{};
  double ranks = 0;

  double total() const {
    return busy + std::accumulate(exposed.begin(), exposed.end(), 0.0);
  }
};

} // namespace

SimResult simulate(const Plan &plan, const SimOptions &options) {
  Places places(plan);
  checkStragglers(places, options);
  std::vector<std::unique_ptr<Steps>> steps = makeSteps(plan, places, options);
  if (options.trace)
    nameTracks(plan, places, steps, *options.trace);
  Run run(plan, places, options, steps, options.trace);
  run.go();

  // What it would be without failures.
  SimOptions healthy = options;
  healthy.faults.clear();
  healthy.trace = nullptr;
  std::unique_ptr<Run> other;
  std::vector<std::unique_ptr<Steps>> otherSteps;
  if (!options.faults.empty()) {
    bool again = options.trace != nullptr;
    if (again)
      otherSteps = makeSteps(plan, places, healthy);
    other = std::make_unique<Run>(plan, places, healthy,
                                  again ? otherSteps : steps, nullptr);
    other->go();
  }
  const Run &base = other ? *other : run;

  SimResult result;
  result.seconds = run.seconds();
  result.log = run.log();
  double tokensPerSample = static_cast<double>(plan.model().tokens_per_sample());
  auto tokensOf = [&](const Run &of) {
    double tokens = 0;
    for (std::size_t i = 0; i < of.islands().size(); ++i)
      tokens += static_cast<double>(of.islands()[i].steps -
                                    of.islands()[i].stepsLost) *
                static_cast<double>(
                    plan.islands(static_cast<int>(i)).batch()) *
                tokensPerSample;
    return tokens;
  };
  std::uint64_t baseSteps = 1, baseRounds = 0;
  for (std::uint32_t i = 0; i < base.islands().size(); ++i) {
    const IslandFigures &island = base.islands()[i];
    baseSteps = std::max(baseSteps, IslandSteps(plan, i).toJob(island.steps));
    baseRounds = std::max(baseRounds, island.rounds);
  }
  // Into the first round of a server nothing comes from one before.
  std::uint64_t inRound = plan.has_server() ? plan.server().inner_steps() : 0;
  const bool goesOn = plan.has_server() && baseSteps > inRound;
  Run::Begin begin = goesOn ? base.firstRound() : Run::Begin();
  double steady = base.seconds() - begin.seconds;
  double steadySteps = static_cast<double>(baseSteps - (goesOn ? inRound : 0));
  double firstTokens = 0;
  for (std::uint32_t i = 0; goesOn && i < base.islands().size(); ++i)
    firstTokens +=
        static_cast<double>(IslandSteps(plan, i).inRound()) *
        static_cast<double>(plan.islands(static_cast<int>(i)).batch()) *
        tokensPerSample;
  result.stepSeconds = steady / steadySteps;
  if (steady > 0)
    result.tokensPerSecond = (tokensOf(base) - firstTokens) / steady;
  if (run.seconds() > 0 && base.seconds() > 0 && tokensOf(base) > 0)
    result.goodput =
        tokensOf(run) / run.seconds() / (tokensOf(base) / base.seconds());
  for (const Fault &fault : options.faults)
    if (fault.seconds >= run.seconds())
      result.warnings.push_back(
          "the failure of '" + fault.site + "' at " + number(fault.seconds) +
          " s comes after the end of what is simulated, at " +
          number(run.seconds()) + " s: simulate more (--rounds)");
  const Prediction &predicted = plan.prediction();
  if (predicted.tokens_per_second() > 0) {
    // What it is compared with are the same clusters.
    double ratio = result.tokensPerSecond / predicted.tokens_per_second();
    if (predicted.has_equivalent_compute())
      result.equivalentCompute = ratio * predicted.equivalent_compute();
    if (predicted.has_equivalent_compute_of_used_chips())
      result.equivalentComputeOfUsedChips =
          ratio * predicted.equivalent_compute_of_used_chips();
  }
  if (goesOn)
    result.wanBytesPerRound = (base.wanBytes() - begin.wanBytes) *
                              static_cast<double>(inRound) / steadySteps;
  else if (baseRounds > 0)
    result.wanBytesPerRound = base.wanBytes() / static_cast<double>(baseRounds);
  else
    result.wanBytesPerRound = base.wanBytes() / static_cast<double>(baseSteps);

  Sums all;
  std::vector<Sums> pools(places.poolCount());
  for (std::uint32_t i = 0; i < steps.size(); ++i) {
    const IslandFigures &from = run.islands()[i];
    IslandResult &island = result.islands.emplace_back();
    island.steps = from.steps;
    island.stepsLost = from.stepsLost;
    island.rounds = from.rounds;
    island.downSeconds = from.downSeconds;
    if (from.steps > 0)
      island.stepSeconds = (from.end > 0 ? from.end - from.downSeconds
                                         : run.seconds() - from.downSeconds) /
                           static_cast<double>(from.steps);
    result.steps += from.steps;
    const std::vector<RankClass> &classes = steps[i]->fold().classes();
    for (std::uint32_t c = 0; c < classes.size(); ++c) {
      const RankClass &one = classes[c];
      const Program &program =
          plan.programs(static_cast<int>(one.at.program));
      ClassResult &to = island.classes.emplace_back();
      to.stage = one.at.stage;
      to.rank = one.rank;
      to.ranks = one.count;
      to.pool = places.poolName(places.of(i, one.rank).pool);
      to.memoryBytes = program.arena_bytes();
      to.hostBytes = program.host_bytes();
      if (c < from.figures.busy.size()) {
        to.busySeconds = from.figures.busy[c];
        to.exposedSeconds = from.figures.exposed[c];
      }
      double count = static_cast<double>(one.count);
      for (Sums *sums : {&all, &pools[places.of(i, one.rank).pool]}) {
        sums->busy += count * to.busySeconds;
        sums->ranks += count;
        for (std::size_t e = 0; e < kExposures; ++e)
          sums->exposed[e] += count * to.exposedSeconds[e];
      }
    }
    // With steps that are lost in the middle there is more than was counted.
    result.stepsSimulated += steps[i]->simulated();
    result.events += steps[i]->events();
  }
  result.events += run.events();
  if (all.total() > 0)
    result.bubbleFraction =
        all.exposed[static_cast<std::size_t>(Exposure::Waiting)] / all.total();
  double rounds = 0; // whole and in parts, as all fragments have come
  for (const IslandFigures &island : run.islands())
    rounds = std::max(rounds, static_cast<double>(island.commits) /
                                  std::max(1u, plan.server().fragments()));
  if (rounds > 0 && all.ranks > 0)
    result.exchangeSeconds =
        all.exposed[static_cast<std::size_t>(Exposure::Exchange)] / all.ranks /
        rounds;
  for (std::uint32_t p = 0; p < places.poolCount(); ++p) {
    PoolResult &pool = result.pools.emplace_back();
    pool.name = places.poolName(p);
    pool.chips = places.pool(p).nodes() * places.pool(p).chips_per_node();
    pool.used = static_cast<std::uint64_t>(pools[p].ranks);
    if (pool.used > 0 && run.seconds() > 0)
      pool.utilisation = pools[p].busy / pools[p].ranks / run.seconds();
  }
  for (int l = 0; l < plan.topology().lines_size(); ++l)
    for (int d = 0; d < 2; ++d) {
      const Topology::Line &from = plan.topology().lines(l);
      auto site = [&](std::uint32_t s) {
        return plan.topology().sites(static_cast<int>(s)).name();
      };
      LineResult &line = result.lines.emplace_back();
      line.first = site(d ? from.second() : from.first());
      line.second = site(d ? from.first() : from.second());
      line.bytes = run.lineBytes()[static_cast<std::size_t>(2 * l + d)];
      double capacity = run.lineCapacityBytes(static_cast<std::uint32_t>(l));
      if (capacity > 0)
        line.utilisation = line.bytes / capacity;
    }
  return result;
}

} // namespace tombolo::runtime::sim
