//===- SpanningTest.cpp - islands with ranks at several sites -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LocalFixture.h"

#include <map>
#include <set>

#include <arpa/inet.h>
#include <sys/socket.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

constexpr std::uint64_t kSteps = 24;

/// One island of two stages with two replicas each: the first stage in the
/// north, the second in the south.
class Spanning : public Local {
protected:
  void SetUp() override {
    Local::SetUp();
    TinyModel tiny;
    tiny.replicas = 2;
    tiny.stages = 2;
    tiny.tokens = kTokens;
    tiny.vocabulary = kVocabulary;
    std::string hash = plan.model_hash();
    plan = tinyPlan(tiny);
    plan.set_model_hash(hash);
    Island &island = *plan.mutable_islands(0);
    island.clear_sites();
    for (int stage = 0; stage < 2; ++stage) {
      std::string site = stage ? "south" : "north";
      island.add_sites(site);
      for (auto &group : *island.mutable_stages(stage)->mutable_groups())
        group.set_site(site);
    }
    // The second stage's parameter.
    addTensor("norm.weight", {kVocabulary});
    savePlan();
  }

  /// Gives the model another weight.
  void addTensor(const std::string &name, std::vector<std::uint64_t> dims) {
    tombolo::onnx_subset::ModelProto model;
    ASSERT_TRUE(model.ParseFromString(readAll(folder / "m.onnx")));
    auto *tensor = model.mutable_graph()->add_initializer();
    tensor->set_name(name);
    tensor->set_data_type(1);
    std::uint64_t elements = 1;
    for (std::uint64_t dim : dims) {
      tensor->add_dims(static_cast<std::int64_t>(dim));
      elements *= dim;
    }
    std::vector<float> ones(elements, 1);
    tensor->set_raw_data(std::string(
        reinterpret_cast<const char *>(ones.data()), elements * sizeof(float)));
    writeFile(folder / "m.onnx", model.SerializeAsString());
    plan.set_model_hash(modelHash(folder / "m.onnx"));
  }

  /// One that is in the south alone, and a server in the north.
  void addSecondIsland() {
    *plan.add_islands() = plan.islands(0);
    Island &second = *plan.mutable_islands(1);
    second.clear_sites();
    second.add_sites("south");
    for (auto &stage : *second.mutable_stages())
      for (auto &group : *stage.mutable_groups())
        group.set_site("south");
    plan.mutable_training()->set_global_batch(2 * plan.islands(0).batch());
    addServer(plan, 3, "north");
    savePlan();
  }

  std::vector<json> events(const std::string &kind) {
    std::vector<json> found;
    for (const json &line : metrics())
      if (line.value("event", "") == kind)
        found.push_back(line);
    return found;
  }

  /// The rank that has paused; not all processes where there is none.
  pid_t killPaused() {
    pid_t victim = paused();
    if (victim > 0)
      kill(victim, SIGKILL);
    return victim;
  }

  std::vector<std::string> with(std::vector<std::string> more) {
    std::vector<std::string> words = arguments(kSteps);
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  using Losses = std::map<std::uint64_t, double>; // by step
  static Losses lossesOf(const std::string &text) {
    Losses losses;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
      json entry = json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (entry.is_object() && entry.contains("loss"))
        losses[entry.at("step")] = entry.at("loss");
    }
    return losses;
  }
  Losses losses() { return lossesOf(readAll(folder / "m.jsonl")); }
  std::string log() { return readAll(folder / "stderr"); }

  /// Without encryption, in one command.
  Losses plain() {
    Outcome outcome = run(with({"--plaintext"}));
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    Losses found = losses();
    EXPECT_EQ(found.size(), kSteps);
    EXPECT_LT(found[kSteps - 1], found[0]) << "it learns";
    std::filesystem::remove(folder / "stderr");
    return found;
  }

  static std::string wordBehind(pid_t pid, const std::string &option) {
    std::string line = readAll("/proc/" + std::to_string(pid) + "/cmdline");
    std::size_t at = line.find(option + '\0');
    return at == line.npos ? "" : line.c_str() + at + option.size() + 1;
  }

  /// Ports of loopback at which a process listens.
  static std::set<int> portsOf(pid_t pid) {
    std::string sockets;
    std::error_code ignored;
    for (const auto &entry : std::filesystem::directory_iterator(
             "/proc/" + std::to_string(pid) + "/fd", ignored))
      sockets +=
          std::filesystem::read_symlink(entry.path(), ignored).string() + "\n";
    std::set<int> ports;
    std::istringstream in(readAll("/proc/net/tcp"));
    std::string line;
    std::getline(in, line);
    while (std::getline(in, line)) {
      std::istringstream words(line);
      std::string number, local, remote, state, word, inode;
      words >> number >> local >> remote >> state;
      for (int i = 0; i < 6; ++i)
        words >> inode;
      if (state == "0A" &&
          sockets.find("socket:[" + inode + "]\n") != sockets.npos)
        ports.insert(std::stoi(local.substr(local.find(':') + 1), nullptr, 16));
    }
    return ports;
  }

  /// Says something in plain text, and hears nothing but an alert.
  static void comeInPlainText(int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(port));
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to), 0);
    std::string said("\2\1\0\0\0\0\0\0\0k and more to come", 26);
    send(fd, said.data(), said.size(), MSG_NOSIGNAL);
    char answer[256];
    std::string all;
    for (ssize_t got; (got = recv(fd, answer, sizeof answer, 0)) > 0;)
      all.append(answer, static_cast<std::size_t>(got));
    EXPECT_TRUE(all.empty() || all[0] == 21) << "an alert of TLS at most";
    close(fd);
  }

  static int freePort() {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    socklen_t length = sizeof at;
    bind(fd, reinterpret_cast<sockaddr *>(&at), length);
    getsockname(fd, reinterpret_cast<sockaddr *>(&at), &length);
    close(fd);
    return ntohs(at.sin_port);
  }

  /// The command of a site that is started apart.
  std::vector<std::string> site(const std::string &name,
                                const std::string &rendezvous,
                                std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"site",         folder / "p.plan",
                                      "--model",      folder / "m.onnx",
                                      "--data",       folder / "tokens.bin",
                                      "--steps",      std::to_string(kSteps),
                                      "--site",       name,
                                      "--rendezvous", rendezvous,
                                      "--threads",    "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  void makeSiteCertificates() {
    std::string command = std::string(TOMBOLO_MAKE_CERTS) + " " +
                          (folder / "certs") + " north south 2>" +
                          (folder / "make-certs");
    ASSERT_EQ(std::system(command.c_str()), 0)
        << readAll(folder / "make-certs");
  }
};

/// Over TLS, as by default, an island at two sites comes to the bits that it
/// comes to without. Whoever comes to a rank's door or to the store in plain
/// text goes, is told of, and changes nothing.
TEST_F(Spanning, TrainsOverTlsAmongStrangers) {
  Losses expected = plain();
  pid_t pid = start(with(pausing({{0, 0, 0, 10}})));
  pid_t rank = paused();
  ASSERT_GT(rank, 0) << log();
  std::string store = wordBehind(rank, "--rendezvous");
  EXPECT_NE(store, "");
  comeInPlainText(std::stoi(store.substr(store.find(':') + 1)));
  pid_t other = 0; // one that has not stopped
  for (pid_t each : commands("rank"))
    if (wordBehind(each, "--rank") == "2")
      other = each;
  // One is its door, others are Gloo's, within the site: they are closed once
  // their peer is there.
  std::set<int> ports = portsOf(other);
  EXPECT_EQ(ports.size(), 1u);
  for (int port : ports)
    comeInPlainText(port);
  kill(rank, SIGCONT);
  Outcome outcome = finish(pid);
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_EQ(losses(), expected);
  std::string told = readAll(folder / "m.jsonl");
  EXPECT_NE(told.find("the store of the sites turned away 127.0.0.1"),
            told.npos)
      << told;
  EXPECT_NE(told.find("rank 2 at site south turned away 127.0.0.1"), told.npos)
      << told;
  expectNothingLeft();
}

/// Beside an island at one site, under a server.
TEST_F(Spanning, JoinsOtherIslandsByAServer) {
  addSecondIsland();
  Outcome outcome = run(with({"--plaintext"}));
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  std::map<std::pair<int, int>, double> plain, encrypted;
  for (auto *found : {&plain, &encrypted}) {
    for (const json &line : metrics())
      if (line.contains("loss"))
        (*found)[{line.at("island"), line.at("step")}] = line.at("loss");
    EXPECT_EQ(found->size(), 2 * kSteps);
    if (found == &plain) {
      outcome = run(with({}));
      ASSERT_EQ(outcome.status, 0) << outcome.errors;
    }
  }
  EXPECT_EQ(plain, encrypted);
  expectNothingLeft();
}

/// Sites that are started apart meet at the one with the first rank.
TEST_F(Spanning, SitesThatAreStartedApartMeet) {
  if (!std::filesystem::exists(TOMBOLO_MAKE_CERTS))
    GTEST_SKIP() << "utils/make-certs is not here";
  makeSiteCertificates();
  Losses expected = plain();
  std::string place = "127.0.0.1:" + std::to_string(freePort());
  std::vector<std::string> more = {"--certs", folder / "certs"};
  pid_t south = start(site("south", place, more)); // it waits
  pid_t north = start(site("north", place, more));
  EXPECT_EQ(finish(south).status, 0) << log();
  EXPECT_EQ(finish(north).status, 0) << log();
  EXPECT_EQ(lossesOf(log()), expected);
  expectNothingLeft();
}

/// A rank dies, at the site of the first rank or at the other: the ranks of
/// both end and start again from the island's snapshot, and come to the same
/// bits.
TEST_F(Spanning, AKilledRankRestartsTheIslandAtAllSites) {
  Losses expected = plain();
  for (int victim : {1, 3}) {
    std::filesystem::remove_all(folder / "checkpoints");
    std::vector<std::string> words =
        with({"--restarts", "1", "--checkpoint-dir", folder / "checkpoints",
              "--checkpoint-every", "5"});
    for (std::string &word : pausing({{0, victim, 0, 13}}))
      words.push_back(word);
    std::filesystem::remove(folder / "stderr");
    pid_t pid = start(words);
    killPaused();
    Outcome outcome = finish(pid);
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_EQ(losses(), expected);
    std::vector<json> restarts = events("restart");
    ASSERT_EQ(restarts.size(), 1u) << outcome.errors;
    std::uint64_t step = restarts[0].at("step");
    EXPECT_TRUE(step == 5 || step == 10) << step; // not yet whole, perhaps
    EXPECT_EQ(restarts[0].at("incarnation"), 1);
    EXPECT_NE(outcome.errors.find("rank " + std::to_string(victim) +
                                  " of island 0 at site " +
                                  (victim == 1 ? "north" : "south")),
              std::string::npos)
        << outcome.errors;
    expectNothingLeft();
  }
}

/// An agent that is killed takes its ranks along; the next one and those of the
/// other sites start the island again. That is no restart of the island's own.
TEST_F(Spanning, AKilledAgentIsReplaced) {
  Losses expected = plain();
  for (const char *site : {"south", "north"}) {
    std::filesystem::remove_all(folder / "checkpoints");
    std::vector<std::string> words =
        with({"--restarts", "1", "--checkpoint-dir", folder / "checkpoints",
              "--checkpoint-every", "5"});
    for (std::string &word : pausing({{0, 1, 0, 13}}))
      words.push_back(word);
    std::filesystem::remove(folder / "stderr");
    pid_t pid = start(words);
    EXPECT_GT(paused(), 0);
    killAt("site", site);
    // The rank that has paused goes with its agent or when the other says so.
    Outcome outcome = finish(pid);
    ASSERT_EQ(outcome.status, 0) << site << outcome.errors;
    EXPECT_EQ(losses(), expected) << site;
    expectNothingLeft();
  }
}

/// When no restart is left the rank is named, whichever site it was at.
TEST_F(Spanning, RestartsAreUsedUp) {
  std::vector<std::string> words = with({"--restarts", "1"});
  for (std::string &word : pausing({{0, 0, 0, 5}, {0, 3, 1, 5}}))
    words.push_back(word);
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(words);
  killPaused();
  EXPECT_TRUE(eventually([&] { return events("restart").size() == 1; }));
  pid_t second = killPaused();
  Outcome outcome = finish(pid);
  EXPECT_EQ(outcome.status, 3);
  EXPECT_NE(outcome.errors.find(
                "error: rank 3 of island 0 at site south (pid " +
                std::to_string(second) + ") was killed by signal 9 (Killed)\n"),
            std::string::npos)
      << outcome.errors;
  expectNothingLeft();
}

/// Sites that are started apart agree on it, too.
TEST_F(Spanning, SitesThatAreStartedApartRestartIt) {
  if (!std::filesystem::exists(TOMBOLO_MAKE_CERTS))
    GTEST_SKIP() << "utils/make-certs is not here";
  makeSiteCertificates();
  Losses expected = plain();
  std::string place = "127.0.0.1:" + std::to_string(freePort());
  std::vector<std::string> more = {
      "--certs",          folder / "certs",       "--restarts",         "1",
      "--checkpoint-dir", folder / "checkpoints", "--checkpoint-every", "5"};
  for (std::string &word : pausing({{0, 2, 0, 13}, {0, 1, 1, 17}}))
    more.push_back(word);
  pid_t south = start(site("south", place, more));
  pid_t north = start(site("north", place, more));
  killPaused();
  // A whole site goes, and the same command brings it back.
  EXPECT_GT(paused(), 0) << log();
  kill(south, SIGKILL);
  finish(south);
  south = start(site("south", place, more));
  EXPECT_EQ(finish(south).status, 0) << log();
  EXPECT_EQ(finish(north).status, 0) << log();
  EXPECT_EQ(lossesOf(log()), expected);
  EXPECT_NE(log().find("the agent of site south was started again"),
            std::string::npos)
      << log();
  expectNothingLeft();
}

/// Another island, which a server joins with it, does no step twice.
TEST_F(Spanning, OtherIslandsDoNotNotice) {
  addSecondIsland();
  std::vector<std::string> words =
      with({"--restarts", "1", "--checkpoint-dir", folder / "checkpoints",
            "--checkpoint-every", "3"});
  for (std::string &word : pausing({{0, 3, 0, 14}}))
    words.push_back(word);
  pid_t pid = start(words);
  killPaused();
  Outcome outcome = finish(pid);
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_EQ(events("restart").size(), 1u);
  std::map<int, std::map<int, int>> seen; // island, step
  for (const json &line : metrics())
    if (line.contains("loss"))
      ++seen[line.at("island")][line.at("step")];
  EXPECT_EQ(seen[1].size(), kSteps) << "the other island";
  // Of a round's last step the line may have gone with the rank.
  EXPECT_GE(seen[0].size() + 1, kSteps);
  for (const auto &[island, steps] : seen)
    for (const auto &[step, times] : steps)
      EXPECT_EQ(times, 1) << "island " << island << " step " << step;
  std::uint64_t version = 0;
  for (const json &line : events("outer_step"))
    EXPECT_EQ(line.at("version"), ++version);
  EXPECT_EQ(version, kSteps / 3);
  expectNothingLeft();
}

/// What cannot be is told before anything starts.
TEST_F(Spanning, AsksForCertificates) {
  auto told = [&](std::vector<std::string> words, int status = 2) {
    Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, status) << outcome.errors;
    return outcome.errors;
  };
  auto has = [](const std::string &text, const std::string &part) {
    EXPECT_NE(text.find(part), text.npos) << text;
  };
  has(told(site("north", "127.0.0.1:7000")),
      "--cert, --key and --ca: expected");
  has(told(site("north", "10.1.0.1:7000", {"--plaintext"})),
      "expected them on this machine, at a loopback address");
  has(told(site("north", "127.0.0.1:7000",
                {"--plaintext", "--host", "10.1.0.1"})),
      "expected them on this machine, at a loopback address");
  has(told({"rank", folder / "p.plan", "--model", folder / "m.onnx", "--data",
            folder / "tokens.bin", "--steps", "3", "--rank", "0",
            "--rendezvous", "127.0.0.1:7000"}),
      "--cert, --key and --ca: expected");
  has(told(with({"--executor", "torch"})),
      "which talk over TLS, and the torch executor has none here");
  has(told(site("north", "127.0.0.1:port", {"--plaintext"}), 1),
      "expected a port from 1 to 65535");
  expectNothingLeft();
}

} // namespace
