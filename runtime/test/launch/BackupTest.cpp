//===- BackupTest.cpp - runs that lose a site -----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LocalFixture.h"

#include <set>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

constexpr std::uint64_t kSteps = 45;

class Backup : public Local {
protected:
  void SetUp() override {
    Local::SetUp();
    addBackup();
  }

  std::vector<std::string> arguments(std::vector<std::string> more) {
    std::vector<std::string> words = Local::arguments(kSteps);
    words.insert(words.end(), more.begin(), more.end());
    words.insert(words.end(), {"--export-onnx", folder / "out.onnx"});
    return words;
  }

  std::vector<float> weights() {
    OnnxModel trained(folder / "out.onnx");
    std::vector<float> values(kVocabulary * kVocabulary);
    trained.read(*trained.find("table"), 0, values);
    return values;
  }

  std::vector<json> events(const std::string &kind) {
    std::vector<json> found;
    for (const json &line : metrics())
      if (line.value("event", "") == kind)
        found.push_back(line);
    return found;
  }

  /// Waits until a server is primary, and has its backup.
  void expectPair(const std::string &primary, const std::string &backup) {
    EXPECT_TRUE(eventually([&] {
      std::vector<json> epochs = events("epoch");
      return !epochs.empty() && epochs.back().at("site") == primary &&
             epochs.back().at("backup") == backup;
    })) << primary;
  }
  /// Versions without a gap, each told once, and no epoch of two servers.
  void expectOneHistory() {
    std::uint64_t version = 0;
    for (const json &line : events("outer_step"))
      EXPECT_EQ(line.at("version"), ++version);
    EXPECT_EQ(version, kSteps / 3);
    std::set<std::uint64_t> epochs;
    for (const json &line : events("epoch"))
      EXPECT_TRUE(epochs.insert(line.at("epoch").get<std::uint64_t>()).second);
  }

  std::set<std::uint64_t> stepsOf(int island) {
    std::set<std::uint64_t> seen;
    for (const json &line : metrics())
      if (line.contains("loss") && line.at("island") == island)
        EXPECT_TRUE(seen.insert(line.at("step").get<std::uint64_t>()).second);
    return seen;
  }
};

/// The backup goes on where the primary was: all islands train all steps and
/// come to the bits of a run that nothing happened to.
TEST_F(Backup, TakesOverFromAKilledServer) {
  Outcome outcome = run(arguments({}));
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  std::vector<float> undisturbed = weights();
  std::vector<std::string> words = arguments({});
  for (std::string &word : pausing({{0, 1, 0, 20}}))
    words.push_back(word);
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  pid_t rank = paused();
  expectPair("north", "south");
  killAt("server", "north");
  kill(rank, SIGCONT);
  outcome = finish(pid);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  ASSERT_EQ(events("part_lost").size(), 1u) << outcome.errors;
  EXPECT_EQ(events("part_lost")[0].at("site"), "north");
  EXPECT_EQ(events("epoch").back().at("site"), "south");
  EXPECT_EQ(stepsOf(0).size(), kSteps);
  EXPECT_EQ(stepsOf(1).size(), kSteps);
  expectOneHistory();
  EXPECT_EQ(weights(), undisturbed);
  expectNothingLeft();
}

/// A server that is started again copies what it has missed, and can take over
/// in its turn; or asks for the next epoch itself, when it is quick.
TEST_F(Backup, ServersTakeTurns) {
  ASSERT_EQ(run(arguments({})).status, 0);
  std::vector<float> undisturbed = weights();
  std::vector<std::string> words = arguments({"--restarts", "1"});
  for (std::string &word : pausing({{0, 1, 0, 20}, {1, 0, 0, 32}}))
    words.push_back(word);
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  std::uint64_t epoch = 0;
  for (int turn = 0; turn < 2; ++turn) {
    pid_t rank = paused();
    std::string primary;
    EXPECT_TRUE(eventually([&] {
      std::vector<json> epochs = events("epoch");
      if (epochs.empty() || epochs.back().at("backup").is_null() ||
          epochs.back().at("epoch") <= epoch)
        return false;
      primary = epochs.back().at("site");
      epoch = epochs.back().at("epoch");
      return true;
    }));
    killAt("server", primary);
    // It has its backup again.
    EXPECT_TRUE(eventually([&] {
      std::vector<json> epochs = events("epoch");
      return epochs.back().at("epoch") > epoch &&
             (turn == 1 || !epochs.back().at("backup").is_null());
    }));
    kill(rank, SIGCONT);
  }
  Outcome outcome = finish(pid);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_EQ(events("restart").size() + events("part_lost").size(), 2u)
      << outcome.errors;
  expectOneHistory();
  EXPECT_EQ(weights(), undisturbed);
  expectNothingLeft();
}

/// Server, agent and ranks of the primary's site: the other site trains on to
/// the end, and has the model.
TEST_F(Backup, TheLossOfThePrimarysSiteStopsNobodyElse) {
  letOneGoOn();
  std::vector<std::string> words = arguments({});
  // Both, or the north would go on alone while the south stands still.
  for (std::string &word : pausing({{0, 0, 0, 20}, {1, 0, 0, 20}}))
    words.push_back(word);
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  EXPECT_TRUE(eventually([&] { return stopped().size() == 2; }));
  expectPair("north", "south");
  killAt("server", "north");
  killAt("site", "north");
  EXPECT_TRUE(eventually([&] { return stopped().size() == 1; }));
  for (pid_t rank : stopped())
    kill(rank, SIGCONT);
  Outcome outcome = finish(pid);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_EQ(events("part_lost").size(), 2u) << outcome.errors;
  EXPECT_LT(stepsOf(0).size(), kSteps);
  EXPECT_EQ(stepsOf(1).size(), kSteps);
  expectOneHistory();
  EXPECT_EQ(events("outer_step").back().at("islands"), json::array({1}));
  EXPECT_EQ(weights().size(), kVocabulary * kVocabulary);
  expectNothingLeft();
}

/// A primary that cannot be reached, and does not know: the other one goes on,
/// and it is the backup when it is back.
TEST_F(Backup, APrimaryThatSleptIsTheBackup) {
  ASSERT_EQ(run(arguments({})).status, 0);
  std::vector<float> undisturbed = weights();
  std::vector<std::string> words = arguments({});
  for (std::string &word : pausing({{0, 1, 0, 20}, {1, 0, 0, 32}}))
    words.push_back(word);
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  pid_t rank = paused();
  expectPair("north", "south");
  pid_t server = find("server", "north");
  ASSERT_GT(server, 0);
  kill(server, SIGSTOP);
  EXPECT_TRUE(
      eventually([&] { return events("epoch").back().at("site") == "south"; }));
  kill(rank, SIGCONT);
  rank = paused();
  kill(server, SIGCONT);
  expectPair("south", "north");
  kill(rank, SIGCONT);
  Outcome outcome = finish(pid);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  expectOneHistory();
  EXPECT_EQ(weights(), undisturbed);
  expectNothingLeft();
}

/// The witness decides nothing while the two are there.
TEST_F(Backup, TheLossOfTheWitnessIsNotNoticed) {
  ASSERT_EQ(run(arguments({})).status, 0);
  std::vector<float> undisturbed = weights();
  std::vector<std::string> words = arguments({});
  for (std::string &word : pausing({{0, 1, 0, 20}}))
    words.push_back(word);
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  pid_t rank = paused();
  expectPair("north", "south");
  killAt("server", "east");
  kill(rank, SIGCONT);
  Outcome outcome = finish(pid);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  expectOneHistory();
  EXPECT_EQ(weights(), undisturbed);
  expectNothingLeft();
}

/// Without a majority of votes nothing can go on.
TEST_F(Backup, TheLossOfTwoOfThreeServersEndsTheRun) {
  std::vector<std::string> words = arguments({});
  for (std::string &word : pausing({{0, 1, 0, 20}}))
    words.push_back(word);
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  paused();
  expectPair("north", "south");
  killAt("server", "east");
  EXPECT_TRUE(eventually([&] { return events("part_lost").size() == 1; }));
  killAt("server", "north");
  Outcome outcome = finish(pid);
  EXPECT_EQ(outcome.status, 3);
  EXPECT_NE(outcome.errors.find("the parameter server of site north (pid "),
            std::string::npos)
      << outcome.errors;
  expectNothingLeft();
}

/// Servers and agents of each site started by hand, as at three real sites.
TEST_F(Backup, ServersStartedApart) {
  letOneGoOn();
  auto address = [&](const std::string &site) {
    return "unix:" + (folder / (site + ".sock"));
  };
  const std::vector<std::string> sites = {"north", "south", "east"};
  std::vector<pid_t> servers, agents;
  for (const std::string &site : sites) {
    std::vector<std::string> words = {"server",
                                      folder / "p.plan",
                                      "--plaintext",
                                      "--run-id",
                                      "r",
                                      "--site",
                                      site,
                                      "--address",
                                      address(site),
                                      "--state-dir",
                                      folder / ("state-" + site)};
    for (const std::string &peer : sites)
      if (peer != site)
        words.insert(words.end(), {"--peer", peer + "=" + address(peer)});
    servers.push_back(start(words));
  }
  for (const std::string &site : {"north", "south"})
    agents.push_back(start(
        {"site", folder / "p.plan", "--site", site, "--model",
         folder / "m.onnx", "--data", folder / "tokens.bin", "--steps",
         std::to_string(kSteps), "--threads", "1", "--plaintext", "--server",
         address("north") + "," + address("south"), "--run-id", "r"}));
  auto log = [&] { return readAll(folder / "stderr"); };
  EXPECT_TRUE(eventually([&] {
    return log().find("\"backup\":\"south\"") != std::string::npos &&
           log().find("\"outer_step\"") != std::string::npos;
  }));
  kill(servers[0], SIGKILL);
  kill(agents[0], SIGKILL);
  EXPECT_EQ(finish(agents[1]).status, 0) << log();
  for (pid_t pid : {servers[1], servers[2]}) {
    kill(pid, SIGTERM);
    EXPECT_EQ(finish(pid).status, 0) << log();
  }
  finish(servers[0]);
  finish(agents[0]);
  expectNothingLeft();
}

/// What a server of several cannot do without is asked for, status 2.
TEST_F(Backup, AsksForItsPlaceAmongTheServers) {
  auto told = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {"server", folder / "p.plan",
                                      "--plaintext"};
    words.insert(words.end(), more.begin(), more.end());
    Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 2) << outcome.errors;
    return outcome.errors;
  };
  EXPECT_NE(told({}).find("--site: expected a site with a server, north, "
                          "south, east, got ''"),
            std::string::npos);
  EXPECT_NE(told({"--site", "south", "--peer", "north=unix:n"})
                .find("--peer: expected east=ADDRESS too"),
            std::string::npos);
  EXPECT_NE(told({"--site", "south", "--peer", "north=unix:n", "--peer",
                  "east=unix:e"})
                .find("--state-dir"),
            std::string::npos);
}

} // namespace
