//===- RestartTest.cpp - islands that fail and go on ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LocalFixture.h"

#include "tombolo/runtime/Checkpoint.h"

#include <fstream>
#include <map>
#include <regex>
#include <set>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

constexpr std::uint64_t kSteps = 45;

class Restart : public Local {
protected:
  /// Only the north trains, without a server.
  void planOneIsland() {
    TinyModel tiny;
    tiny.replicas = 2;
    tiny.tokens = kTokens;
    tiny.vocabulary = kVocabulary;
    std::string hash = plan.model_hash();
    plan = tinyPlan(tiny);
    plan.set_model_hash(hash);
    Island &island = *plan.mutable_islands(0);
    island.clear_sites();
    island.add_sites("north");
    for (auto &stage : *island.mutable_stages())
      for (auto &group : *stage.mutable_groups())
        group.set_site("north");
    savePlan();
  }

  std::vector<std::string> arguments(std::uint64_t steps,
                                     std::vector<std::string> more) {
    std::vector<std::string> words = Local::arguments(steps);
    words.insert(words.end(), more.begin(), more.end());
    words.insert(words.end(), {"--export-onnx", folder / "out.onnx"});
    return words;
  }

  static void add(std::vector<std::string> &words,
                  const std::vector<std::string> &more) {
    words.insert(words.end(), more.begin(), more.end());
  }

  std::vector<float> weights() {
    OnnxModel trained(folder / "out.onnx");
    std::vector<float> values(kVocabulary * kVocabulary);
    trained.read(*trained.find("table"), 0, values);
    return values;
  }

  /// Kills the rank that has paused.
  pid_t killRank() {
    pid_t victim = paused();
    if (victim > 0)
      kill(victim, SIGKILL);
    return victim;
  }
  /// Kills the server, or the agent of a site, and waits for its successor,
  /// while a rank has paused.
  void killPart(const std::string &command, const std::string &site = "") {
    pid_t rank = paused();
    pid_t victim = 0;
    for (pid_t pid : commands(command))
      if (site.empty() ||
          readAll("/proc/" + std::to_string(pid) + "/cmdline")
                  .find(std::string("--site") + '\0' + site + '\0') !=
              std::string::npos)
        victim = pid;
    ASSERT_GT(victim, 0);
    kill(victim, SIGKILL);
    EXPECT_TRUE(eventually([&] { return events("restart").size() == 1; }));
    if (rank > 0)
      kill(rank, SIGCONT); // if it is still there
  }

  std::vector<json> events(const std::string &kind) {
    std::vector<json> found;
    for (const json &line : metrics())
      if (line.value("event", "") == kind)
        found.push_back(line);
    return found;
  }

  /// Under a server a step may have no line: the last of a round, when the rank
  /// that should have told of it fell after the push and the push was accepted.
  void expectEachStepOnce(int islands, std::size_t missing = 0) {
    std::map<int, std::set<std::uint64_t>> seen;
    for (const json &line : metrics())
      if (line.contains("loss"))
        EXPECT_TRUE(seen[line.at("island")]
                        .insert(line.at("step").get<std::uint64_t>())
                        .second)
            << line;
    for (int island = 0; island < islands; ++island) {
      EXPECT_GE(seen[island].size() + missing, kSteps) << "island " << island;
      for (std::uint64_t step = 0; step < kSteps; ++step)
        EXPECT_TRUE(seen[island].count(step) || (missing && step % 3 == 2))
            << "island " << island << " step " << step;
    }
  }

  /// Turns one byte of a file around.
  void damage(const std::string &path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-1, std::ios::end);
    char last = static_cast<char>(file.get());
    file.seekp(-1, std::ios::end);
    file.put(static_cast<char>(last ^ 1));
    ASSERT_TRUE(file.good());
  }

  /// SIGTERM in the middle of a run, and --resume after it: the weights are
  /// those of a run that was not stopped.
  void expectSigtermSaves(std::size_t islands) {
    constexpr std::uint64_t kSteps = 250; // the signal comes before the end
    ASSERT_EQ(run(arguments(kSteps, {})).status, 0);
    std::vector<float> undisturbed = weights();
    std::filesystem::remove(folder / "out.onnx");
    std::vector<std::string> more = {"--checkpoint-dir",
                                     folder / "checkpoints"};
    std::filesystem::remove(folder / "stderr");
    std::vector<std::string> words = arguments(kSteps, more);
    add(words, pausing({{0, 1, 0, 21}}));
    pid_t pid = start(words);
    pid_t rank = paused();
    kill(pid, SIGTERM);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    kill(rank, SIGCONT);
    Outcome outcome = finish(pid);
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    std::vector<json> stopped = events("stopped");
    ASSERT_EQ(stopped.size(), islands) << outcome.errors;
    std::uint64_t step = stopped[0].at("step");
    EXPECT_EQ(stopped.back().at("step"), step);
    EXPECT_EQ(steps(), islands * step);
    EXPECT_LT(step, kSteps);
    EXPECT_NE(
        outcome.errors.find("the checkpoint of step " + std::to_string(step)),
        std::string::npos)
        << outcome.errors;
    EXPECT_FALSE(std::filesystem::exists(folder / "out.onnx"));
    expectNothingLeft();
    more.push_back("--resume");
    outcome = run(arguments(kSteps, more));
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    std::vector<json> lines = metrics();
    auto first = std::find_if(lines.begin(), lines.end(), [](const json &line) {
      return line.contains("loss");
    });
    ASSERT_NE(first, lines.end());
    EXPECT_EQ(first->at("step"), step);
    EXPECT_EQ(weights(), undisturbed);
  }
};

/// An island whose rank is killed goes on from its snapshot and ends with the
/// weights of a run without the fault, to the bit.
TEST_F(Restart, AKilledRankRestartsItsIsland) {
  planOneIsland();
  ASSERT_EQ(run(arguments(kSteps, {})).status, 0);
  std::vector<float> undisturbed = weights();
  std::vector<std::string> words =
      arguments(kSteps, {"--restarts", "2", "--checkpoint-dir",
                         folder / "checkpoints", "--checkpoint-every", "10"});
  add(words, pausing({{0, 1, 0, 43}}));
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  pid_t victim = killRank();
  Outcome outcome = finish(pid);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_NE(outcome.errors.find(
                "rank 1 of island 0 at site north (pid " +
                std::to_string(victim) +
                ") was killed by signal 9 (Killed); island 0 is started again"),
            std::string::npos)
      << outcome.errors;
  std::vector<json> restarts = events("restart");
  ASSERT_EQ(restarts.size(), 1u);
  EXPECT_EQ(restarts[0].at("incarnation"), 1);
  EXPECT_EQ(restarts[0].at("restarts_left"), 1);
  // The steps since the last whole snapshot were lost, and no more: that of
  // step 40 was perhaps still being written.
  std::uint64_t step = restarts[0].at("step");
  EXPECT_TRUE(step == 30 || step == 40) << step;
  expectEachStepOnce(1);
  EXPECT_EQ(weights(), undisturbed);
  expectNothingLeft();
}

/// Islands joined by a server: either may fail, the other waits for it in its
/// round and does nothing twice.
TEST_F(Restart, OtherIslandsDoNotNotice) {
  ASSERT_EQ(run(arguments(kSteps, {})).status, 0);
  std::vector<float> undisturbed = weights();
  std::vector<std::string> words =
      arguments(kSteps, {"--restarts", "1", "--checkpoint-dir",
                         folder / "checkpoints", "--checkpoint-every", "3"});
  add(words, pausing({{1, 0, 0, 20}, {0, 1, 0, 40}}));
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  killRank();
  EXPECT_TRUE(eventually([&] { return events("restart").size() == 1; }));
  killRank();
  Outcome outcome = finish(pid);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  std::vector<json> restarts = events("restart");
  ASSERT_EQ(restarts.size(), 2u) << outcome.errors;
  EXPECT_EQ(restarts[0].at("island"), 1);
  EXPECT_EQ(restarts[1].at("island"), 0);
  expectEachStepOnce(2, 1);
  std::uint64_t version = 0;
  for (const json &line : events("outer_step"))
    EXPECT_EQ(line.at("version"), ++version) << "each round closes once";
  EXPECT_EQ(version, kSteps / 3);
  EXPECT_EQ(weights(), undisturbed);
  expectNothingLeft();
}

/// A server that is killed goes on from its log, at the same address: nothing is
/// lost, and nothing counts twice.
TEST_F(Restart, AKilledServerGoesOnFromItsLog) {
  ASSERT_EQ(run(arguments(kSteps, {})).status, 0);
  std::vector<float> undisturbed = weights();
  std::vector<std::string> words = arguments(kSteps, {"--restarts", "1"});
  add(words, pausing({{0, 1, 0, 20}}));
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  killPart("server");
  Outcome outcome = finish(pid);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_NE(outcome.errors.find("the parameter server (pid "),
            std::string::npos)
      << outcome.errors;
  expectEachStepOnce(2);
  std::uint64_t version = 0;
  for (const json &line : events("outer_step"))
    EXPECT_EQ(line.at("version"), ++version);
  EXPECT_EQ(version, kSteps / 3);
  EXPECT_EQ(weights(), undisturbed);
  expectNothingLeft();
}

/// An agent that is killed takes its ranks along; the next one starts them again
/// from their snapshots.
TEST_F(Restart, AKilledAgentIsReplaced) {
  ASSERT_EQ(run(arguments(kSteps, {})).status, 0);
  std::vector<float> undisturbed = weights();
  std::vector<std::string> words =
      arguments(kSteps, {"--restarts", "1", "--checkpoint-dir",
                         folder / "checkpoints", "--checkpoint-every", "3"});
  add(words, pausing({{1, 1, 0, 20}}));
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  killPart("site", "south");
  Outcome outcome = finish(pid);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_EQ(events("restart")[0].at("site"), "south");
  expectEachStepOnce(2, 1);
  EXPECT_EQ(events("outer_step").size(), kSteps / 3);
  EXPECT_EQ(weights(), undisturbed);
  expectNothingLeft();
}

/// Without any snapshot an island that has failed begins with what the server
/// has: no step that is in it is done again.
TEST_F(Restart, AnIslandWithoutSnapshotTakesTheServersState) {
  std::vector<std::string> words = arguments(kSteps, {"--restarts", "1"});
  add(words, pausing({{0, 0, 0, 31}}));
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  killRank();
  Outcome outcome = finish(pid);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_EQ(events("restart").size(), 1u);
  EXPECT_EQ(events("outer_step").size(), kSteps / 3);
  expectEachStepOnce(2, 1);
  expectNothingLeft();
}

/// When no restart is left the rank is named, with status 3.
TEST_F(Restart, RestartsAreUsedUp) {
  planOneIsland();
  std::vector<std::string> words = arguments(kSteps, {"--restarts", "1"});
  add(words, pausing({{0, 0, 0, 5}, {0, 1, 1, 5}}));
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  pid_t first = killRank();
  EXPECT_TRUE(eventually([&] { return events("restart").size() == 1; }));
  pid_t second = killRank();
  EXPECT_NE(first, second);
  Outcome outcome = finish(pid);
  EXPECT_EQ(outcome.status, 3);
  EXPECT_NE(outcome.errors.find(
                "error: rank 1 of island 0 at site north (pid " +
                std::to_string(second) + ") was killed by signal 9 (Killed)\n"),
            std::string::npos)
      << outcome.errors;
  expectNothingLeft();
}

/// A rank that is stopped says no more that it lives: it is taken for dead, and
/// those that wait for it are not.
TEST_F(Restart, AStoppedRankIsTakenForDead) {
  planOneIsland();
  std::vector<std::string> words = arguments(
      kSteps, {"--restarts", "1", "--stall-seconds", "3", "--checkpoint-dir",
               folder / "checkpoints", "--checkpoint-every", "10"});
  add(words, pausing({{0, 1, 0, 23}}));
  std::filesystem::remove(folder / "stderr");
  Outcome outcome = finish(start(words)); // nobody lets it go on
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  std::vector<json> restarts = events("restart");
  ASSERT_EQ(restarts.size(), 1u);
  std::uint64_t step = restarts[0].at("step");
  EXPECT_TRUE(step == 10 || step == 20) << step;
  EXPECT_TRUE(
      std::regex_search(restarts[0].at("message").get<std::string>(),
                        std::regex("^rank 1 of island 0 at site north \\(pid "
                                   "[0-9]+\\) has not said for 3 s that it "
                                   "lives, and was killed$")))
      << restarts[0];
  expectEachStepOnce(1);
  expectNothingLeft();
}

/// Where that would mend nothing it is left alone: somebody may have stopped it
/// to look at it.
TEST_F(Restart, AStoppedRankIsLeftAloneWithoutRestarts) {
  planOneIsland();
  std::vector<std::string> words = arguments(kSteps, {"--stall-seconds", "2"});
  add(words, pausing({{0, 1, 0, 13}}));
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  pid_t rank = paused();
  std::this_thread::sleep_for(std::chrono::seconds(4));
  EXPECT_EQ(kill(rank, SIGCONT), 0);
  Outcome outcome = finish(pid);
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  expectEachStepOnce(1);
  expectNothingLeft();
}

/// A rank that has said why it ends, and is then held up by its disk until it
/// is killed: what it has said is the reason, not what the others say.
TEST_F(Restart, WhatAKilledRankHasSaidCounts) {
  planOneIsland();
  std::string body =
      "words=\"$*\"\n"
      "case \"$words\" in *'--incarnation 0'*)\n"
      "  while [ $1 != --events-fd ]; do shift; done\n"
      "  case \"$words\" in *'--rank 0 '*)\n"
      "    echo '{\"event\":\"error\",\"status\":3,\"message\":"
      "\"the loss is nan\",\"peer\":false}' >&$2; exec sleep 100;;\n"
      "  esac\n"
      "  sleep 0.2\n"
      "  echo '{\"event\":\"error\",\"status\":3,\"message\":"
      "\"a peer is gone\",\"peer\":true}' >&$2; exit 3;;\n"
      "esac\nexec " TOMBOLO_RUN " \"$@\"\n";
  Outcome outcome =
      run(arguments(5, {"--restarts", "1", "--rank-program", script(body)}));
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  ASSERT_EQ(events("restart").size(), 1u) << outcome.errors;
  EXPECT_NE(events("restart")[0].at("message").get<std::string>().find(
                "the loss is nan"),
            std::string::npos)
      << outcome.errors;
  expectNothingLeft();
}

/// What is wrong with the input is not tried again.
TEST_F(Restart, BadInputIsNotTriedAgain) {
  std::vector<std::string> words = arguments(
      5, {"--restarts", "3", "--rank-program",
          script("while [ $1 != --events-fd ]; do shift; done\n"
                 "echo '{\"event\":\"error\",\"status\":1,"
                 "\"message\":\"token file: bad\"}' >&$2\nexit 1\n")});
  Outcome outcome = run(words);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.errors, "tombolo-run local: error: token file: bad\n");
  expectNothingLeft();
}

/// A damaged generation is named, kept aside, and the one before it used: when
/// a run is resumed, and when an island is restarted.
TEST_F(Restart, ADamagedCheckpointIsPassedOver) {
  planOneIsland();
  std::string dir = folder / "checkpoints";
  std::vector<std::string> more = {"--checkpoint-dir", dir,
                                   "--checkpoint-every", "4"};
  ASSERT_EQ(run(arguments(8, more)).status, 0);
  std::string shard = dir + "/island-0/step-8/rank-0.safetensors";
  damage(shard);
  more.push_back("--resume");
  Outcome outcome = run(arguments(8, more));
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_NE(outcome.errors.find("'" + shard + "': 'table"), std::string::npos)
      << outcome.errors;
  EXPECT_NE(outcome.errors.find("another checkpoint is taken"),
            std::string::npos);
  ASSERT_EQ(events("checkpoint_damaged").size(), 1u);
  EXPECT_EQ(events("checkpoint_damaged")[0].at("island"), 0);
  EXPECT_EQ(steps(), 4u);
  EXPECT_EQ(metrics()[1].at("step"), 4);
  EXPECT_TRUE(
      std::filesystem::exists(dir + "/island-0/set-aside/manifest.json"));

  // Torn: shorter than it says. Both generations: nothing is left to go on
  // from, and what was trained is not begun anew in silence.
  std::filesystem::resize_file(shard, 100);
  damage(dir + "/island-0/step-4/manifest.json");
  outcome = run(arguments(8, more));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.errors.find("rank-0.safetensors"), std::string::npos)
      << outcome.errors;
  EXPECT_NE(outcome.errors.find("step-4/manifest.json"), std::string::npos)
      << outcome.errors;
  EXPECT_NE(outcome.errors.find("holds no whole checkpoint"), std::string::npos)
      << outcome.errors;
  expectNothingLeft();
}

/// A rank that finds its island's newest snapshot damaged after a restart: the
/// agent has looked before, says so, and takes the one before.
TEST_F(Restart, ADamagedSnapshotIsPassedOverInARestart) {
  planOneIsland();
  std::string dir = folder / "checkpoints";
  // The ranks stop for good after two generations, as the one that they damage
  // shall stay the newest.
  std::vector<std::string> first =
      arguments(8, {"--checkpoint-dir", dir, "--checkpoint-every", "4"});
  ASSERT_EQ(run(first).status, 0);
  std::string shard = dir + "/island-0/step-8/rank-0.safetensors";
  // The first incarnation damages the newest generation, fails, and hands over
  // to real ranks.
  std::string body = "case \"$*\" in *'--incarnation 0'*)\n"
                     "  echo x >>" +
                     shard + "; : >" + shard +
                     "; exit 3;;\n"
                     "esac\nexec " TOMBOLO_RUN " \"$@\"\n";
  std::vector<std::string> words = arguments(
      12, {"--checkpoint-dir", dir, "--checkpoint-every", "4", "--resume",
           "--restarts", "1", "--rank-program", script(body)});
  std::filesystem::remove(folder / "stderr");
  Outcome outcome = finish(start(words));
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  ASSERT_EQ(events("checkpoint_damaged").size(), 1u) << outcome.errors;
  ASSERT_EQ(events("restart").size(), 1u) << outcome.errors;
  EXPECT_EQ(events("restart")[0].at("step"), 4);
  EXPECT_NE(outcome.errors.find("'" + shard + "'"), std::string::npos)
      << outcome.errors;
  expectNothingLeft();
}

/// A copy takes the place of what is damaged or gone: when a run is resumed,
/// and when an island is restarted. Where both are damaged both are named.
TEST_F(Restart, TheCopyOfACheckpointIsUsed) {
  planOneIsland();
  std::string dir = folder / "checkpoints", copies = folder / "copies";
  std::string shard = dir + "/island-0/step-8/rank-0.safetensors";
  std::vector<std::string> more = {"--checkpoint-dir",   dir,
                                   "--checkpoint-copy",  copies,
                                   "--checkpoint-every", "4"};
  ASSERT_EQ(run(arguments(8, more)).status, 0);
  EXPECT_EQ(events("checkpoint").size(), 2u);
  EXPECT_EQ(events("checkpoint_copied").size(), 2u);
  EXPECT_EQ(events("checkpoint_copied").back().at("path"),
            copies + "/island-0/step-8");
  Outcome outcome = run(arguments(8, more));
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.errors.find("already holds"), std::string::npos)
      << outcome.errors;

  damage(shard);
  more.push_back("--resume");
  outcome = run(arguments(12, more));
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  ASSERT_EQ(events("checkpoint_damaged").size(), 1u) << outcome.errors;
  ASSERT_EQ(events("checkpoint_restored").size(), 1u) << outcome.errors;
  EXPECT_NE(outcome.errors.find("put back from its copy '" + copies),
            std::string::npos)
      << outcome.errors;
  EXPECT_EQ(steps(), 4u);

  // The first incarnation's machine loses its disk.
  std::string body = "case \"$*\" in *'--incarnation 0'*)\n"
                     "  rm -r " +
                     dir +
                     "/island-0; exit 3;;\n"
                     "esac\nexec " TOMBOLO_RUN " \"$@\"\n";
  std::vector<std::string> words = arguments(16, more);
  add(words, {"--restarts", "1", "--rank-program", script(body)});
  outcome = run(words);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_EQ(events("restart")[0].at("step"), 12) << outcome.errors;
  EXPECT_EQ(events("checkpoint_restored").size(), 1u) << outcome.errors;
  EXPECT_EQ(steps(), 4u);

  std::filesystem::remove_all(dir + "/island-0/step-12");
  std::filesystem::remove_all(copies + "/island-0/step-12");
  damage(dir + "/island-0/step-16/rank-0.safetensors");
  damage(copies + "/island-0/step-16/manifest.json");
  outcome = run(arguments(16, more));
  EXPECT_EQ(outcome.status, 1);
  for (const std::string &named :
       {dir + "/island-0/step-16/rank-0.safetensors",
        copies + "/island-0/step-16/manifest.json",
        "holds no whole checkpoint to resume from, nor does '" + copies + "'"})
    EXPECT_NE(outcome.errors.find(named), std::string::npos) << outcome.errors;
  expectNothingLeft();
}

/// A run that has lost a site and ended goes on with it: the lost island begins
/// with what the other one has, and both end with the same parameters.
TEST_F(Restart, AJobThatHasLostAnIslandIsResumed) {
  addBackup();
  letOneGoOn();
  std::string dir = folder / "checkpoints";
  auto train = [&](std::uint64_t steps, bool resume, const std::string &site) {
    std::vector<std::string> words =
        arguments(steps, {"--checkpoint-dir", dir, "--checkpoint-every", "4"});
    if (!site.empty()) // else nobody is to be lost
      add(words, {"--detection-seconds", "1"});
    if (resume)
      words.push_back("--resume");
    int island = site == "south";
    if (!site.empty())
      add(words, pausing({{island, 0, 0, steps - 11}}));
    std::filesystem::remove(folder / "stderr");
    pid_t pid = start(words);
    if (!site.empty()) {
      paused();
      killAt("site", site);
    }
    return finish(pid);
  };
  auto parametersOf = [&](int island, int step) {
    Checkpoint checkpoint(checkpointFolder(dir, island, step));
    LocalParameter table;
    table.name = "table";
    table.dims = {kVocabulary, kVocabulary};
    table.elements = table.localElements = kVocabulary * kVocabulary;
    tombolo::plan::v1::Slice &all = table.ranges.emplace_back();
    all.set_length(table.elements);
    all.set_count(1);
    all.set_stride(table.elements);
    std::vector<float> values(table.elements);
    checkpoint.read("table", table, [&](std::uint64_t at, auto some) {
      std::copy(some.begin(), some.end(), values.begin() + at);
    });
    return values;
  };
  std::uint64_t steps = 45;
  for (std::string lost : {"south", "north"}) {
    SCOPED_TRACE(lost);
    Outcome outcome = train(steps, /*resume=*/lost == "north", lost);
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    outcome = train(steps + 14, /*resume=*/true, "");
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    std::vector<json> missing = events("checkpoint_missing");
    ASSERT_EQ(missing.size(), 1u) << outcome.errors;
    EXPECT_EQ(missing[0].at("island"), lost == "south" ? 1 : 0);
    EXPECT_EQ(missing[0].at("step"), steps);
    EXPECT_NE(outcome.errors.find(missing[0].at("message")), std::string::npos);
    std::map<int, std::set<int>> seen;
    for (const json &line : metrics())
      if (line.contains("loss"))
        seen[line.at("island")].insert(line.at("step").get<int>());
    for (int island : {0, 1}) {
      EXPECT_EQ(seen[island].size(), 14u);
      EXPECT_EQ(*seen[island].begin(), static_cast<int>(steps));
    }
    EXPECT_EQ(events("outer_step").back().at("islands"), json({0, 1}));
    EXPECT_EQ(parametersOf(0, steps + 14), parametersOf(1, steps + 14));
    steps += 28;
  }
  expectNothingLeft();
}

/// SIGTERM lets the step end, saves it and ends with status 0; the run goes on
/// from there and comes to the weights of one that was not stopped.
TEST_F(Restart, SigtermSavesTheStepAndEnds) {
  planOneIsland();
  expectSigtermSaves(/*islands=*/1);
}

/// Under a server all islands end after the same step, wherever each of them
/// was.
TEST_F(Restart, SigtermUnderAServerEndsAllIslandsAfterTheSameStep) {
  expectSigtermSaves(/*islands=*/2);
}

} // namespace
