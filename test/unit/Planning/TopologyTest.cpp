//===- TopologyTest.cpp - routes, rates and checks of topologies ----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Fixtures.h"

#include <gtest/gtest.h>

#include <cmath>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

Topology ring(size_t sites) {
  Topology topology;
  topology.chips = {chip("c", 1, 1)};
  for (size_t i = 0; i < sites; ++i) {
    Site site;
    site.name = "s" + std::to_string(i);
    site.pools = {pool("p", "c", 1, 1)};
    topology.sites.push_back(site);
  }
  for (size_t i = 0; i < sites; ++i)
    topology.links.push_back({"s" + std::to_string(i),
                              "s" + std::to_string((i + 1) % sites), 10, 30,
                              0});
  return topology;
}

TEST(TopologyTest, RoutesGoOverTheFewestLinks) {
  Topology topology = ring(5);
  ASSERT_TRUE(topology.check().empty());
  EXPECT_EQ(topology.route("s0", "s0")->size(), 0u);
  EXPECT_EQ(*topology.route("s0", "s2"), (std::vector<size_t>{0, 1}));
  EXPECT_EQ(*topology.route("s0", "s3"), (std::vector<size_t>{4, 3}));
  topology.links.clear();
  EXPECT_FALSE(topology.route("s0", "s1").has_value());
}

TEST(TopologyTest, MathisBoundsAConnection) {
  Link link{"a", "b", 10, 30, 0.0001};
  EXPECT_NEAR(link.connectionBytesPerSecond(), 1.22 * 1460 / (0.03 * 0.01), 1);
  EXPECT_EQ(link.connectionsNeeded(), 211u);
  link.loss = 0;
  EXPECT_TRUE(std::isinf(link.connectionBytesPerSecond()));
  EXPECT_EQ(link.connectionsNeeded(), 1u);
}

TEST(TopologyTest, ChipsShareNetworkCards) {
  Topology topology = ring(1);
  Pool &p = topology.sites[0].pools[0];
  p = pool("p", "c", 2, 8);
  p.nicsPerNode = 4;
  EXPECT_DOUBLE_EQ(topology.wireBetween("s0/p", "s0/p")->gbitsPerSecond, 100);
  Pool other = pool("q", "c", 2, 8);
  topology.sites[0].pools.push_back(other);
  EXPECT_FALSE(topology.wireBetween("s0/p", "s0/q").has_value());
  topology.sites[0].fabric = Wire{80, 12};
  EXPECT_DOUBLE_EQ(topology.wireBetween("s0/p", "s0/q")->gbitsPerSecond, 40);
  topology.sites[0].fabrics = {{"q", "p", Wire{20, 12}}};
  EXPECT_DOUBLE_EQ(topology.wireBetween("s0/p", "s0/q")->gbitsPerSecond, 10);
}

TEST(TopologyTest, CanonicalFormTellsAnyFigureApart) {
  Topology topology = ring(2);
  std::string form = topology.canonicalForm();
  EXPECT_EQ(form, ring(2).canonicalForm());
  topology.links[0].loss = 1e-9;
  EXPECT_NE(form, topology.canonicalForm());
  topology = ring(2);
  topology.sites[0].pools[0].nicsPerNode += 1;
  EXPECT_NE(form, topology.canonicalForm());
  topology = ring(2);
  topology.sites[0].pools[0].coresPerNode = 1;
  EXPECT_NE(form, topology.canonicalForm());
}

TEST(TopologyTest, EveryFaultHasItsPlace) {
  auto first = [](auto spoil) {
    Topology topology = ring(3);
    spoil(topology);
    Faults faults = topology.check();
    return faults.empty() ? std::string() : faults[0].path;
  };
  EXPECT_EQ(first([](Topology &t) { t.chips[0].memoryGib = 0; }),
            "chips[0].memory_gib");
  EXPECT_EQ(first([](Topology &t) { t.chips[0].tflopsF32 = -1; }),
            "chips[0].tflops.f32");
  EXPECT_EQ(first([](Topology &t) { t.chips.push_back(t.chips[0]); }),
            "chips[1].name");
  EXPECT_EQ(first([](Topology &t) { t.sites[1].name = "s0"; }),
            "sites[1].name");
  EXPECT_EQ(first([](Topology &t) { t.sites[1].pools[0].chip = "x"; }),
            "sites[1].pools[0].chip");
  EXPECT_EQ(first([](Topology &t) { t.sites[1].pools[0].nodes = 0; }),
            "sites[1].pools[0].nodes");
  EXPECT_EQ(first([](Topology &t) { t.sites[1].pools[0].coresPerNode = 0; }),
            "sites[1].pools[0].cores_per_node");
  EXPECT_EQ(first([](Topology &t) {
              Pool &pool = t.sites[1].pools[0];
              pool.coresPerNode = pool.chipsPerNode + 1;
            }),
            "sites[1].pools[0].cores_per_node");
  EXPECT_EQ(first([](Topology &t) { t.sites[1].pools[0].nodes = 1 << 20; }),
            "sites[1].pools[0].nodes");
  EXPECT_EQ(first([](Topology &t) {
              t.sites[0].pools[0].nodes = t.sites[0].pools[0].chipsPerNode =
                  t.sites[2].pools[0].nodes = 1 << 24;
            }),
            "sites[0].pools[0].nodes");
  EXPECT_EQ(first([](Topology &t) { t.links[2].second = "x"; }),
            "links[2].sites");
  EXPECT_EQ(first([](Topology &t) { t.links[2].rttMs = -1; }),
            "links[2].rtt_ms");
  EXPECT_EQ(first([](Topology &t) { t.links[2].loss = 1; }), "links[2].loss");
  EXPECT_EQ(first([](Topology &t) { t.links[1].gbitsPerSecond = NAN; }),
            "links[1].gbits_per_second");
  EXPECT_EQ(first([](Topology &t) { t.links.push_back(t.links[0]); }),
            "links[3].sites");
}

TEST(ModelTest, SlicesRuns) {
  std::vector<BlockRun> runs = {{0, 1}, {1, 6}, {2, 1}};
  EXPECT_EQ(slice(runs, 0, 3), (std::vector<BlockRun>{{0, 1}, {1, 2}}));
  EXPECT_EQ(slice(runs, 3, 5), (std::vector<BlockRun>{{1, 4}, {2, 1}}));
  EXPECT_EQ(slice(runs, 8, 5), std::vector<BlockRun>());
}

TEST(StrategyTest, WhatTheSliceCannotLowerYet) {
  Strategy strategy;
  strategy.islands = {island(8, 2, {3, 5}, 2)};
  EXPECT_TRUE(supportedBySlice(strategy).empty());
  strategy.islands[0].schedule = Schedule::Interleaved;
  strategy.islands[0].stages[1].recompute = {Recompute::Blocks, 2};
  strategy.islands[0].stages[1].replicas = {{"a/p", 1, 1, 1}, {"b/p", 1, 1, 2}};
  EXPECT_TRUE(supportedBySlice(strategy).empty());
  strategy.islands[0].stages[1].replicas[1].tensorParallel = 2;
  Faults faults = supportedBySlice(strategy);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].message, "a stage whose replicas have unequal tensor_parallel is not there "
            "yet");
}

} // namespace
