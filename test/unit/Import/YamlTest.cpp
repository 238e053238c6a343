//===- YamlTest.cpp - reading sites.yaml and strategy.yaml ----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Import/Strategy.h"
#include "tombolo/Import/Topology.h"

#include <gtest/gtest.h>

using namespace tombolo;

namespace {

const char *kSites = R"(chips:
  - name: a
    tflops: {f32: 19.5, bf16: 312}
    memory_gib: 80
    memory_gbytes_per_second: 2039
    efficiency: {matmul: 0.62, memory: 0.8}
    price_per_hour: 2.0
sites:
  - name: north
    hosts: {count: 2, memory_gib: 512, address: "10.1.0.1:7000"}
    pools:
      - {name: x, chip: a, nodes: 16, chips_per_node: 8, nics_per_node: 4,
         intra_node: {gbits_per_second: 2400, latency_us: 3}, cores_per_node: 2,
         inter_node: {gbits_per_second: 200, latency_us: 8}}
      - {name: y, chip: a, nodes: 1, chips_per_node: 1}
    fabric: {gbits_per_second: 100, latency_us: 12}
    fabrics: [{pools: [x, y], gbits_per_second: 50, latency_us: 15}]
  - name: south
    pools:
      - {name: x, chip: a, nodes: 1, chips_per_node: 1}
links:
  - {sites: [north, south], gbits_per_second: 10, rtt_ms: 30, loss: 0.0001}
)";

std::string topologyErrors(const std::string &text) {
  std::string errors;
  llvm::raw_string_ostream stream(errors);
  auto file = readTopology(YamlFile("sites.yaml", text), stream);
  EXPECT_EQ(file.has_value(), stream.str().empty());
  return stream.str();
}

std::string replaced(const std::string &from, const std::string &to,
                     std::string text = kSites) {
  size_t place = text.find(from);
  EXPECT_NE(place, std::string::npos) << from;
  return text.replace(place, from.size(), to);
}

TEST(TopologyFileTest, ReadsTheFormat) {
  std::string errors;
  llvm::raw_string_ostream stream(errors);
  auto file = readTopology(YamlFile("sites.yaml", kSites), stream);
  ASSERT_TRUE(file.has_value()) << stream.str();
  const planning::Topology &topology = file->topology;
  ASSERT_EQ(topology.sites.size(), 2u);
  EXPECT_EQ(topology.chips[0].tflopsBF16, 312);
  EXPECT_EQ(topology.chips[0].matmulEfficiency, 0.62);
  EXPECT_EQ(topology.chips[0].pricePerHour, 2.0);
  EXPECT_EQ(topology.sites[0].hosts->address, "10.1.0.1:7000");
  EXPECT_EQ(topology.sites[0].pools[0].nicsPerNode, 4u);
  EXPECT_EQ(topology.sites[0].pools[1].nicsPerNode, 1u);
  EXPECT_EQ(topology.sites[0].pools[0].coresPerNode, 2u);
  EXPECT_FALSE(topology.sites[0].pools[1].coresPerNode.has_value());
  EXPECT_EQ(topology.sites[0].pools[0].interNode->latencyUs, 8);
  EXPECT_EQ(topology.sites[0].fabrics[0].second, "y");
  EXPECT_EQ(topology.links[0].loss, 0.0001);
  EXPECT_EQ(topology.totalChips(), 130u);
}

struct Fault {
  const char *from;
  const char *to;
  const char *error;
};

class TopologyFaultTest : public testing::TestWithParam<Fault> {};

TEST_P(TopologyFaultTest, PointsAtThePlace) {
  std::string errors = topologyErrors(replaced(GetParam().from, GetParam().to));
  EXPECT_EQ(errors.substr(0, std::string(GetParam().error).size()),
            GetParam().error);
}

INSTANTIATE_TEST_SUITE_P(
    Faults, TopologyFaultTest,
    testing::Values(
        Fault{"memory_gib: 80", "memory_gb: 80",
              "sites.yaml:4:5: error: unknown key 'memory_gb'"},
        Fault{"    memory_gib: 80\n", "",
              "sites.yaml:2:5: error: missing required key 'memory_gib'"},
        Fault{"[north, south]", "[north, south", "sites.yaml:22:"},
        Fault{"price_per_hour", "price",
              "sites.yaml:7:5: error: unknown key 'price'"},
        Fault{"price_per_hour", "name",
              "sites.yaml:7:5: error: duplicated mapping key 'name'"},
        Fault{"- name: south", "- name: north",
              "sites.yaml:18:11: error: duplicate site name 'north'"},
        Fault{"- name: south", "- name: a",
              "sites.yaml:18:11: error: a chip is named 'a', too: rename one"},
        Fault{"{name: y,", "{name: x,",
              "sites.yaml:15:16: error: duplicate pool name 'x'"},
        Fault{"chip: a, nodes: 16", "chip: b, nodes: 16",
              "sites.yaml:12:25: error: chip 'b' is not defined under 'chips'"},
        Fault{"[north, south]", "[north, west]",
              "sites.yaml:22:13: error: link to a site 'west'"},
        Fault{"[north, south]", "[north]",
              "sites.yaml:22:13: error: 'sites': expected 2 entries, got 1"},
        Fault{"gbits_per_second: 10,", "gbits_per_second: 0,",
              "sites.yaml:22:47: error: 'gbits_per_second' must be positive"},
        Fault{"nodes: 16", "nodes: 0",
              "sites.yaml:12:35: error: 'nodes' must be positive, got 0"},
        Fault{"nodes: 16", "nodes: -3",
              "sites.yaml:12:35: error: 'nodes' must be positive, got "
              "-3"},
        Fault{"nodes: 16", "nodes: 1.5",
              "sites.yaml:12:35: error: expected a whole number, got '1.5'"},
        Fault{"nodes: 16", "nodes: 99999999999",
              "sites.yaml:12:35: error: 'nodes' must be at most"},
        Fault{"latency_us: 8", "latency_us: -8",
              "sites.yaml:14:58: error: 'latency_us' must not be negative"},
        Fault{"rtt_ms: 30", "rtt_ms: -1",
              "sites.yaml:22:59: error: 'rtt_ms' must not be negative"},
        Fault{"loss: 0.0001", "loss: 1",
              "sites.yaml:22:69: error: 'loss' must be at least 0 and below 1"},
        Fault{"loss: 0.0001", "loss: nan",
              "sites.yaml:22:69: error: expected a number, got 'nan'"},
        Fault{"f32: 19.5", "f32: -1",
              "sites.yaml:3:19: error: 'f32' must be positive"},
        Fault{"f32: 19.5", "f32: fast",
              "sites.yaml:3:19: error: expected a number, got 'fast'"},
        Fault{"matmul: 0.62", "matmul: 62",
              "sites.yaml:6:26: error: 'matmul' must be above 0"},
        Fault{"    efficiency: {matmul: 0.62, memory: 0.8}\n", "",
              "sites.yaml:2:5: error: a chip needs 'efficiency' or 'profile'"},
        Fault{"efficiency: {matmul: 0.62, memory: 0.8}",
              "profile: {file: a.csv, model: m}",
              "a.csv: error: there is no such file\nsites.yaml:6:14: error: "
              "cannot use the profile of chip 'a', see above"},
        Fault{"intra_node", "#", "sites.yaml:"},
        Fault{"pools: [x, y]", "pools: [x, z]",
              "sites.yaml:17:23: error: site 'north' has no pool 'z'"},
        Fault{"sites:\n  - name: north", "sites: {\n  - name: north",
              "sites.yaml:"}));

TEST(TopologyFileTest, TellsAllThatIsWrong) {
  EXPECT_EQ(
      topologyErrors(replaced("nodes: 16", "nodes: 0",
                              replaced("memory_gib: 80", "memory_gib: {}",
                                       replaced("rtt_ms", "rtt", kSites)))),
      "sites.yaml:4:17: error: expected a number, got a mapping\n"
      "sites.yaml:12:35: error: 'nodes' must be positive, got 0\n"
      "sites.yaml:22:51: error: unknown key 'rtt'\n");
  std::string many = kSites;
  for (int i = 0; i < 30; ++i)
    many += "x" + std::to_string(i) + ": 1\n";
  EXPECT_NE(topologyErrors(many).find("here and further on 10 more faults"),
            std::string::npos);
}

TEST(TopologyFileTest, TakesNumbersAsYamlHasThem) {
  for (const char *nodes : {"16.0", "1.6e1", "0x10", "0o20", "+16"})
    EXPECT_EQ(
        topologyErrors(replaced("nodes: 16", std::string("nodes: ") + nodes)),
        "");
  for (const char *nodes :
       {"'16'", "\"16\"", "1_6", "true", "0x", "[16]", "", "~"})
    EXPECT_NE(
        topologyErrors(replaced("nodes: 16", std::string("nodes: ") + nodes)),
        "");
}

TEST(TopologyFileTest, RefusesWhatIsNoTopology) {
  EXPECT_EQ(topologyErrors(replaced("name: south", "name: &a south")), "");
  EXPECT_EQ(topologyErrors(replaced("name: south", "name: *a")),
            "sites.yaml:18:11: error: aliases are not read; write out what is "
            "meant\n");
  EXPECT_EQ(topologyErrors(""), "sites.yaml:1:1: error: the file is empty\n");
  for (const char *text : {"# nothing\n", "---\n", "--- # no\n...\n"})
    EXPECT_EQ(topologyErrors(text),
              "sites.yaml:1:1: error: the file is empty\n");
  EXPECT_EQ(topologyErrors("%YAML 1.2\n---\nchips: []\n...\n---\n")
                .rfind("sites.yaml:", 0),
            0u);
  EXPECT_EQ(topologyErrors("- 1\n").rfind("sites.yaml:", 0), 0u);
  EXPECT_EQ(topologyErrors("hello").rfind("sites.yaml:", 0), 0u);
  EXPECT_EQ(topologyErrors(std::string("a: \0b", 5)),
            "sites.yaml:1:4: error: not a text file\n");
  EXPECT_EQ(topologyErrors(std::string(100000, '[')),
            "sites.yaml:1:65: error: nested too deeply\n");
  std::string dashes;
  for (int i = 0; i < 100000; ++i)
    dashes += "- ";
  EXPECT_NE(topologyErrors(dashes).find("nested too deeply"),
            std::string::npos);
  EXPECT_EQ(topologyErrors(std::string(kSites) + "---\nchips: []\n"),
            "sites.yaml:1:1: error: expected one YAML document\n");
}

TEST(TopologyFileTest, CutOffAnywhereIsAnErrorOrATopology) {
  std::string text = kSites;
  for (size_t size = 0; size < text.size(); size += 7)
    topologyErrors(text.substr(0, size));
}

const char *kStrategy = R"(islands:
  - sites: [north]
    batch: 128
    microbatch: 4
    schedule: 1f1b
    chunks: 1
    stages:
      - {pool: north/x, data_parallel: 2, tensor_parallel: 4, blocks: 20, recompute: none}
      - blocks: 12
        recompute: full
        optimizer_sharding: true
        replicas:
          - {pool: north/y, count: 1, tensor_parallel: 2, share: 3}
          - {pool: north/x, count: 1, tensor_parallel: 4, share: 1}
server:
  inner_steps: 16
  fragments: 8
  overlap_steps: 2
  compression: int8
  outer: {optimizer: nesterov, lr: 0.7, momentum: 0.9}
  quorum: 1
  deadline_seconds: 60
  placement: {0: {primary: north, backup: south}}
  witness: north
)";

TEST(StrategyFileTest, ReadsBothForms) {
  std::string errors;
  llvm::raw_string_ostream stream(errors);
  auto file = readStrategy(YamlFile("s.yaml", kStrategy), stream);
  ASSERT_TRUE(file.has_value()) << stream.str();
  EXPECT_TRUE(file->pins.isWhole());
  const planning::IslandPins &island = file->pins.islands->at(0);
  EXPECT_EQ(island.schedule, planning::Schedule::OneFOneB);
  const auto &stages = *island.stages;
  EXPECT_EQ(stages[0].replicas,
            (std::vector<planning::ReplicaGroup>{{"north/x", 2, 4, 1}}));
  EXPECT_EQ(stages[1].replicas[0].share, 3u);
  EXPECT_EQ(stages[1].recompute->kind, planning::Recompute::Full);
  EXPECT_EQ(file->pins.server->placement->at(0).backup, "south");
  EXPECT_EQ(file->pins.server->outerLearningRate, 0.7);
  EXPECT_EQ(file->pins.server->compression, planning::Compression::Int8);
}

TEST(StrategyFileTest, APartIsPins) {
  std::string errors;
  llvm::raw_string_ostream stream(errors);
  auto file =
      readStrategy(YamlFile("s.yaml", "server: {inner_steps: 5}\n"), stream);
  ASSERT_TRUE(file.has_value()) << stream.str();
  EXPECT_FALSE(file->pins.isWhole());
  EXPECT_FALSE(file->pins.islands.has_value());
  EXPECT_EQ(file->pins.server->innerSteps, 5u);
}

TEST(StrategyFileTest, AnIslandHasItsOwnInnerSteps) {
  std::string errors;
  llvm::raw_string_ostream stream(errors);
  auto file =
      readStrategy(YamlFile("s.yaml", "islands:\n"
                                      "  - {sites: [a]}\n"
                                      "  - {sites: [b], inner_steps: 4}\n"
                                      "server: {inner_steps: 8}\n"),
                   stream);
  ASSERT_TRUE(file.has_value()) << stream.str();
  EXPECT_FALSE(file->pins.islands->at(0).innerSteps);
  EXPECT_EQ(file->pins.islands->at(1).innerSteps, 4u);
  EXPECT_FALSE(
      readStrategy(YamlFile("s.yaml", "islands:\n"
                                      "  - {sites: [b], inner_steps: 0}\n"),
                   stream)
          .has_value());
  EXPECT_NE(stream.str().find("s.yaml:2:31: error: 'inner_steps' must be"),
            std::string::npos)
      << stream.str();
}

TEST(StrategyFileTest, ReadsAdamWAsTheOuterOptimizer) {
  std::string errors;
  llvm::raw_string_ostream stream(errors);
  auto file = readStrategy(
      YamlFile("s.yaml", "server:\n  outer: {optimizer: adamw, lr: 0.01, "
                         "momentum: 0.8, beta2: 0.95, eps: 1e-6}\n"),
      stream);
  ASSERT_TRUE(file.has_value()) << stream.str();
  const planning::ServerPins &server = *file->pins.server;
  EXPECT_EQ(server.outer, planning::OuterOptimizer::AdamW);
  EXPECT_EQ(server.outerMomentum, 0.8);
  EXPECT_EQ(server.outerBeta2, 0.95);
  EXPECT_EQ(server.outerEpsilon, 1e-6);
  EXPECT_FALSE(server.outerWeightDecay.has_value());
  planning::Server all = planning::Server::with(*server.outer);
  EXPECT_EQ(all.outerWeightDecay, 0.01);
  EXPECT_EQ(all.outerMomentum, 0.9);
}

TEST(StrategyFileTest, OtherOuterOptimizersHaveNoBeta2) {
  std::string errors;
  llvm::raw_string_ostream stream(errors);
  EXPECT_FALSE(readStrategy(YamlFile("s.yaml", "server:\n  outer: {optimizer: "
                                               "sgd, beta2: 0.9}\n"),
                            stream));
  EXPECT_NE(stream.str().find("s.yaml:2:"), std::string::npos) << stream.str();
  EXPECT_NE(stream.str().find(
                "beta2 belongs to adamw, but the outer optimizer is sgd"),
            std::string::npos)
      << stream.str();
}

TEST(StrategyFileTest, LaterFaultsPointAtTheirPlace) {
  std::string errors;
  llvm::raw_string_ostream stream(errors);
  auto file = readStrategy(YamlFile("s.yaml", kStrategy), stream);
  ASSERT_TRUE(file.has_value());
  auto line = [&](const char *path) {
    std::string text;
    llvm::raw_string_ostream out(text);
    file->file.report(out, {path, "m"});
    return out.str();
  };
  EXPECT_EQ(line("islands[0].stages"), "s.yaml:8:7: error: m\n");
  // The short form has no replicas: the pool of the stage is meant.
  EXPECT_EQ(line("islands[0].stages[0].replicas[0].pool"),
            "s.yaml:8:16: error: m\n");
  EXPECT_EQ(line("islands[0].stages[1].replicas[1].pool"),
            "s.yaml:14:20: error: m\n");
  EXPECT_EQ(line("server.placement.0.backup"), "s.yaml:23:43: error: m\n");
  EXPECT_EQ(line("nothing.like[3].it"), "s.yaml:1:1: error: m\n");
}

class StrategyFaultTest : public testing::TestWithParam<Fault> {};

TEST_P(StrategyFaultTest, PointsAtThePlace) {
  std::string errors;
  llvm::raw_string_ostream stream(errors);
  auto file = readStrategy(
      YamlFile("s.yaml", replaced(GetParam().from, GetParam().to, kStrategy)),
      stream);
  EXPECT_FALSE(file.has_value());
  EXPECT_EQ(stream.str().substr(0, std::string(GetParam().error).size()),
            GetParam().error);
}

INSTANTIATE_TEST_SUITE_P(
    Faults, StrategyFaultTest,
    testing::Values(
        Fault{"schedule: 1f1b", "schedule: fast",
              "s.yaml:5:15: error: expected gpipe, 1f1b, interleaved or "
              "zero-bubble"},
        Fault{"recompute: full", "recompute: some",
              "s.yaml:10:20: error: expected none, full or a number of blocks"},
        Fault{"compression: int8", "compression: zip",
              "s.yaml:19:16: error: expected none, bf16, int8 or int4"},
        Fault{"batch: 128", "batch: many",
              "s.yaml:3:12: error: expected a whole number"},
        Fault{"data_parallel: 2", "data_parallel: 0",
              "s.yaml:8:40: error: 'data_parallel' must be positive, got 0"},
        Fault{"pool: north/x, data_parallel: 2, ", "",
              "s.yaml:8:9: error: a stage needs 'pool' or 'replicas'"},
        Fault{"        optimizer_sharding: true", "        pool: north/x",
              "s.yaml:11:15: error: 'pool' and 'replicas' exclude each other"},
        Fault{"{0: {", "{first: {",
              "s.yaml:23:15: error: 'placement' must be the number of a "
              "fragment, got 'first'"},
        Fault{"witness: north", "sharding: {}",
              "s.yaml:24:3: error: unknown key 'sharding'"}));

} // namespace
