//===- FuzzSearchTest.cpp - the search on absurd problems -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Figures over many powers of ten, models of one block and of thousands, pins
// that make no sense. Whatever comes out is a strategy that `verify` accepts,
// or a reason.
//
//===----------------------------------------------------------------------===//

#include "Fixtures.h"
#include "tombolo/Planning/Search.h"

#include <gtest/gtest.h>

#include <cmath>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

class Random {
public:
  explicit Random(uint32_t seed) : engine(seed) {}
  uint64_t operator()(uint64_t low, uint64_t high) {
    return low + engine() % (high - low + 1);
  }
  /// Evenly over powers of ten.
  double power(double low, double high) {
    double part = static_cast<double>(engine()) / 4294967296.0;
    return low * std::pow(high / low, part);
  }
  uint64_t oneOf(std::initializer_list<uint64_t> values) {
    return values.begin()[engine() % values.size()];
  }
  bool rarely() { return (*this)(0, 9) == 0; }

private:
  std::mt19937 engine;
};

Wire wire(Random &pick) {
  return {pick.power(1e-3, 1e5), pick.rarely() ? 1e7 : pick.power(0.1, 1e4)};
}

Topology randomTopology(Random &pick) {
  Topology topology;
  size_t types = pick(1, 3);
  for (size_t c = 0; c < types; ++c) {
    Chip &one = topology.chips.emplace_back(
        chip("c" + std::to_string(c), pick.power(1e-3, 1e5),
             pick.power(1e-3, 1e4)));
    one.memoryGbytesPerSecond = pick.power(1e-2, 1e6);
    if (pick(0, 1))
      one.pricePerHour = pick.power(1e-3, 1e3);
  }
  size_t sites = pick.oneOf({1, 1, 1, 2, 2, 3});
  for (size_t s = 0; s < sites; ++s) {
    Site &site = topology.sites.emplace_back();
    site.name = "s" + std::to_string(s);
    if (pick(0, 3))
      site.fabric = wire(pick);
    if (pick.rarely())
      site.hosts = Hosts{1, pick.power(1e-3, 1e3), {}, {}};
    for (size_t p = pick(1, 2); p-- > 0;) {
      Pool one = pool("p" + std::to_string(p),
                      "c" + std::to_string(pick(0, types - 1)),
                      pick.oneOf({1, 1, 2, 3, 7, 64, 300}),
                      pick.oneOf({1, 1, 2, 8}));
      one.nicsPerNode = pick(1, 8);
      one.intraNode = wire(pick);
      one.interNode = wire(pick);
      site.pools.push_back(std::move(one));
    }
  }
  for (size_t s = 0; s + 1 < sites; ++s)
    if (!pick.rarely())
      topology.links.push_back({"s" + std::to_string(s),
                                "s" + std::to_string(s + 1),
                                pick.power(1e-3, 1e3), pick.power(1e-2, 1e4),
                                pick.rarely() ? 0.5 : 0});
  return topology;
}

ModelProfile randomModel(Random &pick) {
  ModelProfile model;
  size_t kinds = pick(1, 3);
  for (size_t k = 0; k < kinds; ++k) {
    BlockKind one =
        kind("k" + std::to_string(k), pick.power(1, 1e18),
             static_cast<uint64_t>(pick.power(1, 1e11)), pick.power(1, 1e12),
             pick.power(1, 1e10));
    if (pick.rarely())
      one.trainableCount = 0;
    BlockKind half = one;
    half.tensorParallel = 2;
    half.forward.of(Collective::AllReduce) = {1, {0, pick.power(1, 1e9)}};
    half.savedBytes.perSample /= 2;
    if (pick(0, 1))
      one.sharded = {half};
    model.kinds.push_back(one);
  }
  for (size_t r = pick(1, 3); r-- > 0;)
    model.runs.push_back(
        {pick(0, kinds - 1), pick.oneOf({1, 1, 2, 6, 30, 97, 5000})});
  model.tokensPerSample = pick.oneOf({1, 10, 4096});
  if (model.blocks() > 1 && pick.rarely())
    model.ties = {{"w", 1, {0, model.blocks() - 1}}};
  return model;
}

Problem randomProblem(Random &pick) {
  Problem problem;
  problem.topology = randomTopology(pick);
  problem.model = randomModel(pick);
  problem.training.globalBatch = pick.oneOf({1, 2, 7, 64, 97, 1000});
  problem.training.optimizerStateBytesPerParameter = pick.oneOf({0, 4, 8});
  Bounds &bounds = problem.bounds;
  bounds.searchNodes = 8;
  bounds.searchSeconds = 0.02; // whatever came of it by then
  bounds.tiesAcrossStages = pick(0, 1);
  bounds.unsupported = pick(0, 1);
  bounds.candidates = pick.oneOf({1, 1, 3});
  if (pick.rarely())
    bounds.objective = Objective::Cost;
  if (pick.rarely())
    bounds.innerSteps = pick.oneOf({1, 2, 1000000});
  if (pick.rarely())
    bounds.wanGbits = pick.power(1e-6, 1e3);
  return problem;
}

/// Some keys of a strategy, with or without sense.
StrategyPins randomPins(Random &pick, const Problem &problem) {
  StrategyPins pins;
  if (pick(0, 2) > 0)
    return pins;
  auto &islands = pins.islands.emplace();
  for (const Site &site : problem.topology.sites) {
    IslandPins &island = islands.emplace_back();
    island.sites = {site.name};
    if (pick(0, 1))
      island.batch = pick.oneOf({0, 1, 7, 32, 1000000});
    if (pick(0, 1))
      island.microbatch = pick.oneOf({0, 1, 2, 1000000});
    if (pick.rarely())
      island.schedule = Schedule::ZeroBubble;
    if (pick.rarely())
      island.chunks = pick.oneOf({0, 2, 1000000});
    if (pick(0, 1))
      continue;
    auto &stages = island.stages.emplace();
    for (size_t s = pick(0, 3); s-- > 0;) {
      StagePins &stage = stages.emplace_back();
      if (pick(0, 1))
        stage.blocks = pick.oneOf({0, 1, 2, 5000});
      for (size_t g = pick(0, 2); g-- > 0;)
        stage.replicas.push_back({pick.rarely() ? "s0/none" : site.name + "/p0",
                                  pick.oneOf({0, 0, 1, 8}),
                                  pick.oneOf({1, 1, 2}),
                                  pick.oneOf({1, 1, 3})});
    }
  }
  if (pick.rarely())
    islands.clear();
  if (pick.rarely())
    pins.server.emplace().innerSteps = pick.oneOf({0, 1, 64, 1000000});
  return pins;
}

TEST(FuzzSearchTest, GivesAStrategyOrAReason) {
  Random pick(20261128);
  int found = 0, refused = 0;
  for (int round = 0; round < 70; ++round) {
    SCOPED_TRACE(round);
    Problem problem = randomProblem(pick);
    StrategyPins pins = randomPins(pick, problem);
    if (!problem.check().empty())
      continue;
    SearchResult result = search(problem, pins);
    if (result.strategies.empty()) {
      ++refused;
      EXPECT_FALSE(result.faults.empty());
      continue;
    }
    ++found;
    for (const Candidate &one : result.strategies) {
      EXPECT_TRUE(problem.verify(one.strategy).empty());
      EXPECT_TRUE(std::isfinite(one.prediction.stepSeconds));
      EXPECT_GT(one.prediction.stepSeconds, 0);
      EXPECT_GE(one.prediction.stepSeconds, result.lowerBound * (1 - 1e-9));
    }
  }
  EXPECT_GT(found, 10);
  EXPECT_GT(refused, 10);
}

} // namespace
