//===- OuterSyncTest.cpp - what a synchronisation of islands takes --------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Fixtures.h"
#include "tombolo/Planning/CostModel.h"

#include <gtest/gtest.h>

using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

/// Sites s, t, ... of a chip each, in a chain of lines of 1 GB/s and 20 ms,
/// each an island of a model of a million parameters; the server is at s.
struct Chain {
  Problem problem = equalBlocks(1, 8);
  Strategy strategy;

  explicit Chain(size_t sites) {
    problem.model.kinds[0] = kind("layer", 1e12, 125000, 1000, 100);
    problem.bounds.codecBytesPerSecond = problem.bounds.serverBytesPerSecond =
        1e30; // a line alone
    Site first = problem.topology.sites[0];
    for (size_t i = 1; i < sites; ++i) {
      first.name = std::string(1, static_cast<char>('s' + i));
      problem.topology.links.push_back(
          {problem.topology.sites.back().name, first.name, 8, 20, 0});
      problem.topology.sites.push_back(first);
    }
    for (const Site &site : problem.topology.sites) {
      Island one = island(1, 1, {8});
      one.sites = {site.name};
      one.stages[0].replicas[0].pool = site.name + "/p";
      strategy.islands.push_back(one);
    }
    problem.training.globalBatch = sites;
    strategy.server.emplace();
    strategy.server->innerSteps = 10;
    strategy.server->placement[0] = {"s", ""};
    EXPECT_TRUE(problem.verify(strategy).empty());
  }
  Server &server() { return *strategy.server; }
  Synchronisation sync() const { return synchronisation(problem, strategy); }
};

TEST(OuterSyncTest, OneFlowPushesAndPulls) {
  Chain chain(2);
  EXPECT_NEAR(chain.sync().seconds, 2 * (4e6 / 1e9 + 0.01), 1e-9);
  EXPECT_EQ(chain.sync().wanBytes, 8e6);
}

TEST(OuterSyncTest, FlowsShareALine) {
  Chain chain(3); // that of t and u
  EXPECT_NEAR(chain.sync().seconds, 2 * (8e6 / 1e9 + 0.02), 1e-9);
  EXPECT_EQ(chain.sync().wanBytes, 16e6);
}

TEST(OuterSyncTest, CompressionShrinksWhatCrosses) {
  Chain chain(2);
  for (auto [how, bytes] : {std::pair(Compression::BF16, 2.0),
                            {Compression::Int8, 1 + 4.0 / 256},
                            {Compression::Int4, 0.5 + 4.0 / 256}}) {
    chain.server().compression = how;
    EXPECT_DOUBLE_EQ(chain.sync().wanBytes, 2 * bytes * 1e6);
  }
}

// Where chips are cores of the host a round is longer by what a core does for
// exchanges: a rank's own pushes and pulls, and a share of the server's work.
TEST(OuterSyncTest, CoresThatTrainDoWhatHostsDo) {
  Chain chain(2);
  double waits = chain.sync().seconds;
  double round = evaluate(chain.problem, chain.strategy).stepSeconds;
  EXPECT_EQ(chain.sync().coreSeconds, (std::vector<double>{0, 0}));
  for (Site &site : chain.problem.topology.sites)
    site.pools[0].coresPerNode = site.pools[0].chipsPerNode = 4;
  chain.problem.bounds.codecBytesPerSecond = 1e9;
  double rank = 1e6 * 2 * 4 * (1 / 1e9 + kWireSecondsPerByte);
  chain.problem.bounds.serverBytesPerSecond = 2e9;
  double server = 4 * 4e6 / 2e9 + 2 * 2 * 4e6 * kWireSecondsPerByte;
  std::vector<double> seconds = chain.sync().coreSeconds;
  ASSERT_EQ(seconds.size(), 2u);
  EXPECT_NEAR(seconds[0], rank + server / 4, 1e-9);
  EXPECT_NEAR(seconds[1], rank, 1e-9);
  EXPECT_EQ(chain.sync().seconds, waits) << "nobody waits for it besides";
  EXPECT_NEAR(evaluate(chain.problem, chain.strategy).stepSeconds,
              round + (rank + server / 4) / 10, 1e-9);
  // A backup takes in the same and makes every version again.
  chain.server().placement[0] = {"s", "t"};
  double copy = 3 * 4e6 * kWireSecondsPerByte;
  seconds = chain.sync().coreSeconds;
  EXPECT_NEAR(seconds[0], rank + (server + copy) / 4, 1e-9);
  EXPECT_NEAR(seconds[1], rank + (4 * 4e6 / 2e9 + copy) / 4, 1e-9);
}

TEST(OuterSyncTest, EncodingServerDisksAndEncryptionTakeTheirTime) {
  Chain chain(2);
  double line = chain.sync().seconds;
  // Encode and apply all of it, f32.
  chain.problem.bounds.codecBytesPerSecond = 1e9;
  EXPECT_NEAR(chain.sync().seconds - line, 2 * 4e6 / 1e9, 1e-9);
  chain.problem.bounds.codecBytesPerSecond = 1e30;
  // Two pushes come in and two updates go out, slower than the line, and one
  // pass.
  chain.problem.bounds.serverBytesPerSecond = 1e8;
  EXPECT_EQ(chain.sync().seconds, line) << "without hosts there is no limit";
  chain.problem.topology.sites[0].hosts = Hosts{1, 64, {}, {}};
  chain.problem.bounds.hostCores = 1e30;
  EXPECT_NEAR(chain.sync().seconds, 2 * (8e6 / 1e8 + 0.01) + 4e6 / 1e8, 1e-9);
  chain.problem.topology.sites[0].hosts->count = 2;
  EXPECT_NEAR(chain.sync().seconds, 2 * (4e6 / 1e8 + 0.01) + 2e6 / 1e8, 1e-9);
  chain.problem.bounds.serverBytesPerSecond = 1e30;
  // The log: two pushes, and the update.
  chain.problem.topology.sites[0].hosts = Hosts{1, 64, 0.1, {}};
  EXPECT_NEAR(chain.sync().seconds - line, (8e6 / 1e8 - 4e6 / 1e9) + 4e6 / 1e8,
              1e-9);
  // One core encrypts 0.8 GB in a second, less than the line carries.
  chain.problem.topology.sites[0].hosts = Hosts{1, 64, {}, {}};
  chain.problem.bounds.hostCores = 1;
  EXPECT_NEAR(chain.sync().seconds, 2 * (4e6 / 0.8e9 + 0.01), 1e-9);
}

TEST(OuterSyncTest, ABackupIsWrittenBeforeTheUpdateCounts) {
  Chain chain(2);
  double alone = chain.sync().seconds;
  chain.server().placement[0].backup = "t";
  // Two pushes and the update go to t, which answers.
  EXPECT_NEAR(chain.sync().seconds - alone, 12e6 / 1e9 + 0.02, 1e-9);
  EXPECT_EQ(chain.sync().wanBytes, 8e6 + 12e6);
}

TEST(OuterSyncTest, OnlyWhatOutlastsTheWindowIsExposed) {
  Chain chain(2);
  Synchronisation sync = chain.sync();
  double exchange = sync.seconds;
  EXPECT_DOUBLE_EQ(exposedSeconds(chain.server(), sync, 1e-3), exchange);
  chain.server().overlapSteps = 3;
  EXPECT_NEAR(exposedSeconds(chain.server(), sync, 5e-3), exchange - 15e-3,
              1e-12);
  EXPECT_EQ(exposedSeconds(chain.server(), sync, 1), 0);
}

TEST(OuterSyncTest, FragmentsStreamAsFastAsTheLineCarriesThem) {
  Chain chain(2);
  chain.server().fragments = 5;
  for (uint64_t f = 1; f < 5; ++f)
    chain.server().placement[f] = {"s", ""};
  Synchronisation sync = chain.sync();
  double one = 0.8e6 / 1e9;
  EXPECT_NEAR(sync.seconds, 5 * 2 * (one + 0.01), 1e-9);
  EXPECT_EQ(sync.wanBytes, 8e6);
  // A window for the whole exchange, but the next begins after 2 steps, before
  // the line is free.
  chain.server().overlapSteps = 9;
  double step = one / 4;
  chain.problem.topology.links[0].rttMs = 0;
  sync = chain.sync();
  EXPECT_NEAR(exposedSeconds(chain.server(), sync, step), 5 * (one - 2 * step),
              1e-12);
}

TEST(OuterSyncTest, AnIslandOfTwoSitesPushesFromBoth) {
  Chain chain(3);
  // Six blocks at s, where the server is, two at t; u is the other island.
  Island joined = island(2, 1, {6, 2});
  joined.sites = {"s", "t"};
  joined.stages[1].replicas[0].pool = "t/p";
  chain.strategy.islands = {joined, chain.strategy.islands[2]};
  ASSERT_TRUE(chain.problem.verify(chain.strategy).empty());
  Synchronisation sync = chain.sync();
  EXPECT_DOUBLE_EQ(sync.wanBytes, 2 * (1e6 + 4e6));
  EXPECT_NEAR(sync.seconds, 2 * (5e6 / 1e9 + 0.02), 1e-9);
}

TEST(OuterSyncTest, ServersNeedTheMemoryOfTheirHosts) {
  Chain chain(2);
  EXPECT_EQ(serverHostBytes(chain.problem, chain.strategy, "s"), 12e6);
  EXPECT_EQ(serverHostBytes(chain.problem, chain.strategy, "t"), 0);
  chain.server().outer = OuterOptimizer::AdamW; // has a second moment
  EXPECT_EQ(serverHostBytes(chain.problem, chain.strategy, "s"), 16e6);
  chain.server().outer = OuterOptimizer::Nesterov;
  chain.problem.topology.sites[0].hosts = Hosts{1, 0.01, {}, {}};
  Faults faults = chain.problem.verify(chain.strategy);
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].path, "server.placement");
  EXPECT_NE(faults[0].message.find("need 12000000 bytes"), std::string::npos);
}

} // namespace
