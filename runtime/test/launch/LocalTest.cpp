//===- LocalTest.cpp - tombolo-run local, with real processes -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Faults come from outside (signals), or from a rank program of the test's own
// where a real rank cannot be made to do what is needed.
//
//===----------------------------------------------------------------------===//

#include "LocalFixture.h"

#include <map>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

/// A loss that is no number ends the run with status 3 and names its step;
/// asked, the op that made it so too.
TEST_F(Local, EndsWhenTheLossIsNotFinite) {
  TinyModel wild;
  wild.tokens = kTokens;
  wild.vocabulary = kVocabulary;
  wild.replicas = 2;
  wild.learningRate = 1e38;
  std::string hash = plan.model_hash();
  plan = tinyPlan(wild);
  plan.set_model_hash(hash);
  savePlan();
  Outcome outcome = run(arguments(50));
  EXPECT_EQ(outcome.status, 3);
  EXPECT_NE(outcome.errors.find(": the loss is "), std::string::npos)
      << outcome.errors;
  std::size_t at = outcome.errors.find("step ");
  ASSERT_NE(at, std::string::npos) << outcome.errors;
  int step = std::stoi(outcome.errors.substr(at + 5));
  bool told = false;
  for (const json &line : metrics())
    told |= line.contains("loss") && line.at("step") == step &&
            line.at("loss").is_null();
  EXPECT_TRUE(told) << outcome.errors;
  std::vector<std::string> words = arguments(50);
  words.push_back("--check-numerics");
  outcome = run(words);
  EXPECT_EQ(outcome.status, 3);
  EXPECT_NE(outcome.errors.find("first op to make it so was in step"),
            std::string::npos)
      << outcome.errors;
  EXPECT_NE(outcome.errors.find("segment '"), std::string::npos)
      << outcome.errors;
}

/// Both islands train, meet every third step and at the end, and what comes out
/// is written.
TEST_F(Local, TrainsTwoIslands) {
  std::vector<std::string> words = arguments(7);
  words.insert(words.end(), {"--export-onnx", folder / "out.onnx"});
  Outcome outcome = run(words);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_EQ(outcome.errors, "");
  std::map<int, std::vector<double>> losses;
  std::vector<std::uint64_t> versions;
  for (const json &line : metrics()) {
    if (line.contains("loss")) {
      EXPECT_EQ(line.at("step"), losses[line.at("island")].size());
      EXPECT_EQ(line.at("tokens"), plan.islands(0).batch() * kTokens);
      EXPECT_GE(line.at("seconds"), 0);
      losses[line.at("island")].push_back(line.at("loss"));
    } else if (line.at("event") == "outer_step") {
      EXPECT_EQ(line.at("islands"), json({0, 1}));
      versions.push_back(line.at("version"));
    } else {
      EXPECT_NE(line.at("event"), "checkpoint") << "nobody asked for one";
    }
  }
  ASSERT_EQ(losses[0].size(), 7u);
  ASSERT_EQ(losses[1].size(), 7u);
  EXPECT_LT(losses[0].back(), losses[0].front());
  EXPECT_EQ(versions, (std::vector<std::uint64_t>{1, 2, 3}));
  OnnxModel trained(folder / "out.onnx");
  std::vector<float> weights(kVocabulary * kVocabulary);
  trained.read(*trained.find("table"), 0, weights);
  EXPECT_NE(weights, std::vector<float>(weights.size()));
  expectNothingLeft();
}

/// Islands whose ranks hold columns of the parameter and parts of the
/// optimizer's state: each owner pushes its part to the server, the model that
/// comes out is put together, and all is as with one rank to an island. A run
/// stopped under one layout goes on under the other, outer momentum and all.
TEST_F(Local, TrainsInPartsAsOnOneRank) {
  TinyModel one, parts;
  one.momentum = 0.5;
  parts = one;
  parts.tensorParallel = 2;
  parts.replicas = 2;
  parts.shardedOptimizer = true;
  struct Result {
    std::vector<double> losses;
    std::vector<float> weights;
  };
  auto train = [&](const TinyModel &model, std::uint64_t steps,
                   std::vector<std::string> more) {
    planTwoIslands(model);
    std::vector<std::string> words = arguments(steps);
    words.insert(words.end(), {"--export-onnx", folder / "out.onnx"});
    words.insert(words.end(), more.begin(), more.end());
    Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    Result result;
    for (const json &line : metrics())
      if (line.contains("loss") && line.at("island") == 0)
        result.losses.push_back(line.at("loss"));
    OnnxModel trained(folder / "out.onnx");
    result.weights.resize(kVocabulary * kVocabulary);
    trained.read(*trained.find("table"), 0, result.weights);
    return result;
  };
  auto expectAlike = [](const Result &got, const Result &want,
                        std::size_t first) {
    ASSERT_EQ(got.losses.size() + first, want.losses.size());
    for (std::size_t i = 0; i < got.losses.size(); ++i)
      EXPECT_NEAR(got.losses[i], want.losses[first + i],
                  1e-5 * want.losses[first + i])
          << "step " << first + i;
    for (std::size_t i = 0; i < want.weights.size(); ++i)
      EXPECT_NEAR(got.weights[i], want.weights[i], 1e-5) << i;
  };
  Result straight = train(one, 11, {});
  EXPECT_LT(straight.losses.back(), straight.losses.front());
  expectAlike(train(parts, 11, {}), straight, 0);
  for (bool firstInParts : {true, false}) {
    std::string folderOf = folder / (firstInParts ? "parts" : "one");
    train(firstInParts ? parts : one, 6, {"--checkpoint-dir", folderOf});
    expectAlike(train(firstInParts ? one : parts, 11,
                      {"--checkpoint-dir", folderOf, "--resume"}),
                straight, 6);
  }
  expectNothingLeft();
}

/// A run that is stopped after a round and resumed, with the outer momentum,
/// ends with the same weights to the bit.
TEST_F(Local, ResumesAsIfItHadNeverStopped) {
  auto weightsAfter = [&](std::uint64_t steps, std::vector<std::string> more) {
    std::vector<std::string> words = arguments(steps);
    words.insert(words.end(), {"--export-onnx", folder / "out.onnx"});
    words.insert(words.end(), more.begin(), more.end());
    Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    OnnxModel trained(folder / "out.onnx");
    std::vector<float> weights(kVocabulary * kVocabulary);
    trained.read(*trained.find("table"), 0, weights);
    return weights;
  };
  std::vector<float> straight = weightsAfter(11, {});
  std::vector<float> half =
      weightsAfter(6, {"--checkpoint-dir", folder / "checkpoints"});
  std::vector<float> resumed = weightsAfter(
      11, {"--checkpoint-dir", folder / "checkpoints", "--resume"});
  EXPECT_NE(half, resumed);
  EXPECT_EQ(straight, resumed);
  expectNothingLeft();
}

/// A run that was killed while it saved may leave islands at different steps:
/// all go on from the newest that all have.
TEST_F(Local, ResumesFromTheNewestStepThatAllHave) {
  std::vector<std::string> words = arguments(6);
  words.insert(words.end(), {"--checkpoint-dir", folder / "checkpoints",
                             "--checkpoint-every", "3"});
  ASSERT_EQ(run(words).status, 0);
  std::filesystem::remove_all(folder / "checkpoints/island-0/step-6");
  words.push_back("--resume");
  Outcome outcome = run(words);
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  for (const json &line : metrics())
    if (line.contains("loss"))
      EXPECT_GE(line.at("step"), 3);
  EXPECT_EQ(steps(), 6u);
  for (int island : {0, 1})
    std::filesystem::remove_all(folder / "checkpoints/island-" +
                                std::to_string(island));
  outcome = run(words);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.errors.find("holds no whole checkpoint to resume from"),
            std::string::npos)
      << outcome.errors;
  expectNothingLeft();
}

/// A run that is killed and resumed has each step's line once; events stay, and
/// a line that was cut off goes.
TEST_F(Local, AResumedRunWritesEachStepOnce) {
  std::vector<std::string> words = arguments(6);
  words.insert(words.end(), {"--checkpoint-dir", folder / "checkpoints"});
  ASSERT_EQ(run(words).status, 0);
  // As if it had gone on without saving.
  std::string more = R"({"step":6,"island":0,"loss":1.5})"
                     "\n"
                     R"({"event":"outer_step","step":7})"
                     "\n"
                     R"({"step":7,"isl)";
  std::string before = readAll(folder / "m.jsonl");
  words[7] = "8";
  words.push_back("--resume");
  Outcome outcome = finish(start(words, before + more));
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  std::map<int, std::vector<std::uint64_t>> seen;
  bool kept = false;
  for (const json &line : metrics())
    if (!line.contains("event"))
      seen[line.at("island")].push_back(line.at("step"));
    else
      kept |= line == json({{"event", "outer_step"}, {"step", 7}});
  for (int island : {0, 1})
    EXPECT_EQ(seen[island],
              (std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_TRUE(kept);
}

/// What is there to resume must not be beyond what is asked for.
TEST_F(Local, ResumesNoFurtherThanAsked) {
  std::vector<std::string> words = arguments(6);
  words.insert(words.end(), {"--checkpoint-dir", folder / "checkpoints"});
  ASSERT_EQ(run(words).status, 0);
  words.insert(words.end(), {"--resume", "--export-onnx", folder / "out.onnx"});
  words[7] = "5";
  Outcome outcome = run(words);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.errors.find("is of step 6, beyond --steps 5"),
            std::string::npos)
      << outcome.errors;
  EXPECT_FALSE(std::filesystem::exists(folder / "out.onnx"));
  words[7] = "6";
  outcome = run(words);
  EXPECT_EQ(outcome.status, 0);
  EXPECT_NE(outcome.errors.find("nothing is left to train"), std::string::npos)
      << outcome.errors;
  EXPECT_TRUE(std::filesystem::exists(folder / "out.onnx"));
  expectNothingLeft();
}

/// A plan of one island, then of two, then of one again go on from each other.
TEST_F(Local, ResumesWithOtherIslands) {
  Plan two = plan;
  auto one = [&] {
    plan.mutable_islands()->DeleteSubrange(1, 1);
    plan.mutable_server()->set_quorum(1);
    plan.mutable_training()->set_global_batch(plan.islands(0).batch());
    savePlan();
  };
  auto go = [&](std::uint64_t steps, bool resume) {
    std::vector<std::string> words = arguments(steps);
    words.insert(words.end(), {"--checkpoint-dir", folder / "checkpoints"});
    if (resume)
      words.push_back("--resume");
    Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    std::map<int, std::vector<std::uint64_t>> seen;
    for (const json &line : metrics())
      if (!line.contains("event"))
        seen[line.at("island")].push_back(line.at("step"));
    return seen;
  };
  using Seen = std::map<int, std::vector<std::uint64_t>>;
  one();
  EXPECT_EQ(go(4, false), (Seen{{0, {0, 1, 2, 3}}}));
  plan = two;
  savePlan();
  EXPECT_EQ(go(7, true), (Seen{{0, {4, 5, 6}}, {1, {4, 5, 6}}}));
  one();
  EXPECT_EQ(go(9, true), (Seen{{0, {7, 8}}}));
  plan = two;
  savePlan();
  EXPECT_EQ(go(10, true), (Seen{{0, {9}}, {1, {9}}}));
}

/// Shards of ranks that died while they saved do not stay.
TEST_F(Local, RemovesUnfinishedCheckpoints) {
  std::string dir = folder / "checkpoints";
  std::string left = dir + "/island-0/step-3/rank-1.safetensors";
  std::vector<std::string> words = arguments(5);
  words.insert(words.end(),
               {"--checkpoint-dir", dir, "--rank-program",
                script("mkdir -p $(dirname " + left + "); echo half >" + left +
                       "; echo half >" + left + ".tmp-$$; exit 3\n")});
  Outcome outcome = run(words);
  EXPECT_EQ(outcome.status, 3);
  EXPECT_FALSE(std::filesystem::exists(dir)) << "nothing whole was in it";
  expectNothingLeft();
  // Killed before it could clean up: the next run does.
  std::filesystem::create_directories(dir + "/island-1/step-4");
  writeFile(dir + "/island-1/step-4/rank-0.safetensors", "half");
  words.resize(words.size() - 2);
  outcome = run(words);
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_FALSE(std::filesystem::exists(dir + "/island-1/step-4"));
  EXPECT_TRUE(std::filesystem::exists(dir + "/island-1/step-5"));
}

/// The same parts started by hand.
TEST_F(Local, ServerAndAgentsStartedApart) {
  pid_t server = start(
      {"server", folder / "p.plan", "--run-id", "by-hand", "--plaintext"});
  std::string address;
  ASSERT_TRUE(eventually([&] {
    std::istringstream in(readAll(folder / "stderr"));
    std::string serving, at;
    in >> serving >> at >> address;
    return serving == "serving" && in.good();
  }));
  std::vector<pid_t> agents;
  for (std::string site : {"north", "south"}) {
    std::vector<std::string> words = arguments(4);
    words[0] = "site";
    words.erase(words.begin() + 8, words.begin() + 10); // --metrics
    words.insert(words.end(), {"--site", site, "--server", address, "--run-id",
                               "by-hand", "--plaintext", "--timeout-seconds",
                               "300"});
    agents.push_back(start(words));
  }
  for (pid_t agent : agents) {
    Outcome outcome = finish(agent);
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_NE(outcome.errors.find("\"step\":3"), std::string::npos)
        << outcome.errors;
  }
  kill(server, SIGTERM);
  EXPECT_EQ(finish(server).status, 0);
  EXPECT_NE(run({"site", folder / "p.plan", "--model", folder / "m.onnx",
                 "--data", folder / "tokens.bin", "--steps", "1", "--site",
                 "nowhere", "--server", address})
                .errors.find("its sites are north, south"),
            std::string::npos);
  expectNothingLeft();
}

/// The end right after a synchronisation has no outer step of its own.
TEST_F(Local, DoesNotSynchroniseTwiceAtTheEnd) {
  Outcome outcome = run(arguments(6));
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  std::uint64_t newest = 0;
  for (const json &line : metrics())
    if (line.value("event", "") == "outer_step")
      newest = line.at("version");
  EXPECT_EQ(newest, 2u);
}

/// Each rank in turn is killed in the middle of training: status 3, one line
/// that names it, and nothing is left.
TEST_F(Local, AKilledRankEndsTheRun) {
  for (int island : {0, 1}) {
    std::filesystem::remove(folder / "stderr");
    pid_t run = start(arguments(100000000));
    ASSERT_TRUE(eventually([&] { return steps() > 20; }));
    pid_t victim = 0;
    for (pid_t pid : commands("rank")) {
      std::string line = readAll("/proc/" + std::to_string(pid) + "/cmdline");
      std::string wanted = std::string("--island") + '\0' +
                           std::to_string(island) + '\0' + "--rank" + '\0' +
                           "1" + '\0';
      if (line.find(wanted) != std::string::npos)
        victim = pid;
    }
    ASSERT_NE(victim, 0);
    kill(victim, SIGKILL);
    Outcome outcome = finish(run);
    EXPECT_EQ(outcome.status, 3);
    EXPECT_EQ(outcome.errors, "tombolo-run local: error: rank 1 of island " +
                                  std::to_string(island) + " at site " +
                                  (island ? "south" : "north") + " (pid " +
                                  std::to_string(victim) +
                                  ") was killed by signal 9 (Killed)\n");
    expectNothingLeft();
  }
}

TEST_F(Local, AKilledServerOrAgentEndsTheRun) {
  for (std::string part : {"server", "site"}) {
    std::filesystem::remove(folder / "stderr");
    pid_t run = start(arguments(100000000));
    ASSERT_TRUE(eventually([&] { return steps() > 20; }));
    std::vector<pid_t> found = commands(part);
    ASSERT_EQ(found.size(), part == "server" ? 1u : 2u);
    kill(found[0], SIGKILL);
    Outcome outcome = finish(run);
    EXPECT_EQ(outcome.status, 3);
    EXPECT_NE(outcome.errors.find("(pid " + std::to_string(found[0]) +
                                  ") was killed by signal 9"),
              std::string::npos)
        << outcome.errors;
    expectNothingLeft();
  }
}

/// SIGKILL to local itself: nobody can clean up, and yet nothing is left.
TEST_F(Local, SigkillLeavesNothingBehind) {
  std::vector<std::string> words = arguments(100000000);
  words.insert(words.end(), {"--export-onnx", folder / "out.onnx"});
  pid_t run = start(words);
  ASSERT_TRUE(eventually([&] { return steps() > 20; }));
  // local, the keepers of its two folders, server, 2 agents, 4 ranks
  EXPECT_EQ(processesWith(folder.path).size(), 10u);
  kill(run, SIGKILL);
  EXPECT_EQ(finish(run).status, 128 + SIGKILL);
  EXPECT_TRUE(eventually([&] { return processesWith(folder.path).empty(); }));
  expectNothingLeft();
  EXPECT_FALSE(std::filesystem::exists(folder / "out.onnx"));
}

TEST_F(Local, CtrlCEndsTheRun) {
  pid_t run = start(arguments(100000000));
  ASSERT_TRUE(eventually([&] { return steps() > 20; }));
  kill(run, SIGINT);
  Outcome outcome = finish(run);
  EXPECT_EQ(outcome.status, 130);
  EXPECT_NE(outcome.errors.find("signal 2 (Interrupt)"), std::string::npos)
      << outcome.errors;
  expectNothingLeft();
}

/// What several ranks find wrong with the input is said once, with status 1.
TEST_F(Local, BadInputIsToldOnce) {
  std::vector<std::string> words = arguments(5);
  words.insert(words.end(),
               {"--rank-program",
                script("while [ $1 != --events-fd ]; do shift; done\n"
                       "echo '{\"event\":\"error\",\"status\":1,"
                       "\"message\":\"token file: bad\"}' >&$2\nexit 1\n")});
  Outcome outcome = run(words);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.errors, "tombolo-run local: error: token file: bad\n");
  EXPECT_FALSE(std::filesystem::exists(folder / "m.jsonl"));
  expectNothingLeft();
}

/// Ranks that go through their agent have no key, and come to the same.
TEST_F(Local, RanksBehindAGatewayHaveNoKey) {
  const std::string told = folder / "told";
  auto losses = [&](std::vector<std::string> more) {
    std::filesystem::remove(told);
    std::vector<std::string> words = arguments(9);
    words.insert(words.end(), more.begin(), more.end());
    words.insert(words.end(),
                 {"--rank-program", script("echo \"$*\" >>" + told +
                                           "\nexec " TOMBOLO_RUN " \"$@\"\n")});
    Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    std::map<std::pair<int, int>, double> found;
    for (const json &line : metrics()) {
      EXPECT_NE(line.value("event", ""), "gateway_failed") << line;
      if (!line.contains("event"))
        found[{line.at("island"), line.at("step")}] = line.at("loss");
    }
    return found;
  };
  auto alone = losses({});
  EXPECT_EQ(alone.size(), 18u);
  EXPECT_NE(readAll(told).find("--key "), std::string::npos);
  EXPECT_EQ(losses({"--gateway"}), alone);
  EXPECT_EQ(readAll(told).find("--key"), std::string::npos);
  EXPECT_NE(readAll(told).find("--gateway unix:"), std::string::npos);
  // With two servers a rank has two ways.
  addBackup();
  EXPECT_EQ(losses({"--gateway"}).size(), 18u);
  EXPECT_NE(readAll(told).find("/0,unix:"), std::string::npos);
  expectNothingLeft();
}

/// There is nothing to keep where nothing is encrypted.
TEST_F(Local, AGatewayNeedsCertificates) {
  std::vector<std::string> words = arguments(5);
  words.insert(words.end(), {"--gateway", "--plaintext"});
  Outcome outcome = run(words);
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.errors.find("--gateway: it keeps the site's key"),
            std::string::npos)
      << outcome.errors;
}

/// The rank that failed is named, not those that only lost it.
TEST_F(Local, NamesTheCulpritNotItsPeers) {
  std::vector<std::string> words = arguments(5);
  words.insert(
      words.end(),
      {"--rank-program",
       script("all=\"$*\"; while [ $1 != --events-fd ]; do shift; done\n"
              "case \"$all\" in *'--island 1 --rank 1'*) sleep 0.2\n"
              "echo '{\"event\":\"error\",\"status\":3,"
              "\"message\":\"disk on fire\"}' >&$2;;\n"
              "*) echo '{\"event\":\"error\",\"status\":3,\"peer\":true,"
              "\"message\":\"lost a peer\"}' >&$2;; esac\nexit 3\n")});
  Outcome outcome = run(words);
  EXPECT_EQ(outcome.status, 3);
  EXPECT_NE(outcome.errors.find("rank 1 of island 1 at site south"),
            std::string::npos)
      << outcome.errors;
  EXPECT_NE(outcome.errors.find("disk on fire"), std::string::npos);
  EXPECT_EQ(outcome.errors.find("lost a peer"), std::string::npos);
  expectNothingLeft();
}

/// What is wrong with the inputs is found before any process starts, and no
/// file is made.
TEST_F(Local, ChecksInputsFirst) {
  auto refused = [&](std::vector<std::string> words, int status,
                     const std::string &text) {
    Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, status) << outcome.errors;
    EXPECT_NE(outcome.errors.find(text), std::string::npos) << outcome.errors;
    EXPECT_FALSE(std::filesystem::exists(folder / "m.jsonl"));
    expectNothingLeft();
  };
  auto with = [&](std::size_t at, const std::string &value) {
    std::vector<std::string> words = arguments(5);
    words[at] = value;
    return words;
  };
  auto plus = [&](std::vector<std::string> more) {
    std::vector<std::string> words = arguments(5);
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  refused(with(1, folder / "none.plan"), 1, "none.plan");
  writeFile(folder / "bad.plan", "not a plan");
  refused(with(1, folder / "bad.plan"), 1, "bad.plan");
  refused(with(3, folder / "none.onnx"), 1, "none.onnx");
  refused(with(5, folder / "none.bin"), 1, "none.bin");
  writeFile(folder / "short.bin", std::string(4, '\0'));
  refused(with(5, folder / "short.bin"), 1, "short.bin");
  writeFile(folder / "beyond.bin", std::string(40, '\x30'));
  refused(with(5, folder / "beyond.bin"), 1, "beyond.bin");
  refused(with(9, "/no/such/folder/m.jsonl"), 1, "/no/such/folder/m.jsonl");
  refused(plus({"--export-onnx", "/no/such/folder/o.onnx"}), 1,
          "/no/such/folder");
  refused(plus({"--checkpoint-dir", "/no/such/folder/c"}), 1,
          "/no/such/folder");
  refused(plus({"--restarts", "-2"}), 2, "--restarts");
  refused(plus({"--eval-data", "/no/such/held.bin"}), 1, "/no/such/held.bin");
  refused(plus({"--eval-every", "2"}), 2, "--eval-data");
  refused(plus({"--resume"}), 2, "--checkpoint-dir");
  refused(plus({"--checkpoint-copy", folder / "c"}), 2, "--checkpoint-dir");
  refused(plus({"--checkpoint-dir", folder / "c", "--checkpoint-copy",
                folder / "./c"}),
          2, "--checkpoint-copy: expected another folder");
  refused(plus({"--nonsense"}), 2, "--nonsense");

  // Of two sites neither could go on without the other.
  plan.mutable_server()->mutable_placements(0)->set_backup("south");
  savePlan();
  refused(arguments(5), 1, "with servers at two sites alone, north and south");
  plan.mutable_server()->mutable_placements(0)->set_backup("north");
  savePlan();
  refused(arguments(5), 1, "got both in north");
  plan.mutable_server()->mutable_placements(0)->set_backup("south");
  plan.mutable_server()->set_fragments(2);
  plan.mutable_server()->add_placements()->set_primary("north");
  savePlan();
  refused(arguments(5), 1, "all fragments are kept at the same two sites");
  plan.clear_server();
  savePlan();
  EXPECT_NE(run(arguments(5)).status, 0);
}

/// A full disk under the metrics ends the run with the reason.
TEST_F(Local, AFullDiskIsAnError) {
  std::vector<std::string> words = arguments(1000);
  words[9] = "/dev/full";
  Outcome outcome = run(words);
  EXPECT_EQ(outcome.status, 1) << outcome.errors;
  EXPECT_NE(outcome.errors.find("/dev/full"), std::string::npos);
  expectNothingLeft();
}

} // namespace
