//===- SitesTest.cpp - jobs whose sites are started apart -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SitesFixture.h"

#include <httplib.h>

#include <regex>

#include <sys/socket.h>
#include <sys/un.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

/// One server, which runs where the plan has it.
TEST_F(Sites, TrainAsInOneCommand) {
  Losses expected = local();
  // Whoever comes first waits.
  pid_t south = start(site("south", {"--server", address("north")}));
  pid_t north = start(site("north", {"--address", address("north")}));
  EXPECT_EQ(finish(south).status, 0) << log();
  EXPECT_EQ(finish(north).status, 0) << log();
  EXPECT_EQ(lossesOf(log()), expected);
  expectNothingLeft();
}

/// Only the agents have keys; and somebody who is no rank is told of by the
/// server, with the reason.
TEST_F(Sites, TrainThroughGateways) {
  Losses expected = local();
  pid_t north =
      start(site("north", {"--address", address("north"), "--gateway"}));
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  const std::string path = address("north").substr(5);
  std::copy(path.begin(), path.end(), to.sun_path);
  int stranger = -1;
  EXPECT_TRUE(eventually([&] {
    stranger = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(stranger, reinterpret_cast<sockaddr *>(&to), sizeof to) == 0)
      return true;
    close(stranger);
    return false;
  }));
  EXPECT_EQ(send(stranger, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
  EXPECT_TRUE(eventually([&] {
    return log().find("\"event\":\"stranger_refused\"") != std::string::npos;
  }));
  EXPECT_NE(log().find("\"reason\":\"no_tls\""), std::string::npos) << log();
  close(stranger);
  pid_t south =
      start(site("south", {"--server", address("north"), "--gateway"}));
  EXPECT_TRUE(eventually([&] { return !commands("rank").empty(); }));
  for (pid_t rank : commands("rank"))
    EXPECT_EQ(
        readAll("/proc/" + std::to_string(rank) + "/cmdline").find(".key"),
        std::string::npos);
  EXPECT_EQ(finish(south).status, 0) << log();
  EXPECT_EQ(finish(north).status, 0) << log();
  EXPECT_EQ(lossesOf(log()), expected);
  expectNothingLeft();
}

/// A site's page has the whole plan, and of the run what its agent knows.
TEST_F(Sites, APageShowsWhatItsSiteKnows) {
  if (!TOMBOLO_HAS_PAGE)
    GTEST_SKIP() << "built without node and npm";
  pid_t south =
      start(site("south", {"--server", address("north"), "--dashboard", "0"}));
  std::smatch found;
  std::string text;
  ASSERT_TRUE(eventually([&] {
    text = log();
    return std::regex_search(
        text, found, std::regex("site: dashboard at http://([0-9.:]+)/\n"));
  })) << text;
  httplib::Client client("http://" + found[1].str());
  auto page = client.Get("/");
  ASSERT_TRUE(page);
  EXPECT_NE(page->body.find("\"title\":\"p.plan at south\""),
            std::string::npos);
  std::string events;
  bool started = false;
  pid_t north = 0;
  auto whole = client.Get("/events", [&](const char *data, std::size_t size) {
    events.append(data, size);
    if (!std::exchange(started, true)) // nothing is missed
      north = start(site("north", {"--address", address("north")}));
    return true;
  });
  ASSERT_TRUE(whole);
  EXPECT_EQ(finish(south).status, 0) << log();
  EXPECT_EQ(finish(north).status, 0) << log();
  EXPECT_TRUE(events.ends_with("event: end\ndata: {}\n\n")) << events;
  auto count = [&](const std::string &what) {
    std::regex pattern(what);
    return std::distance(
        std::sregex_iterator(events.begin(), events.end(), pattern),
        std::sregex_iterator());
  };
  EXPECT_EQ(count("event: point\n"), kSteps);
  EXPECT_EQ(count("event: point\ndata: \\{.*\"island\":1,"), kSteps);
  expectNothingLeft();
}

/// Primary, backup and witness; all end when the job does.
TEST_F(Sites, TrainWithABackup) {
  addBackup();
  Losses expected = local();
  pid_t north = start(replicated("north")), south = start(replicated("south"));
  pid_t east = startWitness();
  for (pid_t pid : {north, south, east})
    EXPECT_EQ(finish(pid).status, 0) << log();
  EXPECT_EQ(lossesOf(log()), expected);
  expectNothingLeft();
}

/// The site with the primary dies as a whole. The other one goes on; the same
/// command brings it back.
TEST_F(Sites, ASiteThatWasKilledRejoins) {
  addBackup();
  letOneGoOn();
  std::vector<std::string> pauses = pausing(
      {{0, 0, 0, 20}, {1, 0, 0, 20}, /*the second life:*/ {0, 0, 1, 19}});
  pid_t north = start(replicated("north", pauses));
  pid_t south = start(replicated("south", pauses));
  pid_t east = startWitness();
  EXPECT_TRUE(eventually([&] { return stopped().size() == 2; })) << log();
  kill(north, SIGKILL);
  finish(north);
  EXPECT_TRUE(eventually([&] { return stopped().size() == 1; }));
  EXPECT_TRUE(eventually([&] {
    return log().find("\"event\":\"epoch\",\"site\":\"south\"") !=
           std::string::npos;
  })) << log();
  north = start(replicated("north", pauses));
  EXPECT_TRUE(eventually([&] { return stopped().size() == 2; })) << log();
  for (pid_t rank : stopped())
    kill(rank, SIGCONT);
  for (pid_t pid : {north, south, east})
    EXPECT_EQ(finish(pid).status, 0) << log();
  Losses losses = lossesOf(log());
  EXPECT_EQ(losses.size(), 2 * kSteps);
  EXPECT_NE(log().find("{\"event\":\"begin\",\"incarnation\":1,\"island\":0"),
            std::string::npos)
      << log();
  // The last round is again of both.
  std::size_t last = log().rfind("\"outer_step\"");
  ASSERT_NE(last, std::string::npos);
  EXPECT_NE(log().find("\"islands\":[0,1]", last), std::string::npos) << log();
  expectNothingLeft();
}

/// SIGTERM to one site ends all after the same step. The same commands, as
/// another run, go on from there, and come to what would have been.
TEST_F(Sites, AJobThatWasToldToEndGoesOn) {
  addBackup();
  Losses expected = local();
  auto startAll = [&](const std::string &runId, bool pauses) {
    std::vector<std::string> more = {"--run-id", runId, "--checkpoint-dir",
                                     folder / "c"};
    if (pauses)
      for (std::string &word : pausing({{0, 0, 0, 6}}))
        more.push_back(word);
    return std::vector<pid_t>{start(replicated("north", more)),
                              start(replicated("south", more)),
                              startWitness(runId)};
  };
  std::vector<pid_t> all = startAll("first", /*pauses=*/true);
  pid_t rank = paused();
  kill(all[0], SIGTERM);
  awaitSigterm(rank); // of its agent
  kill(rank, SIGCONT);
  for (pid_t pid : all)
    EXPECT_EQ(finish(pid).status, 0) << log();
  std::size_t done = lossesOf(log()).size();
  EXPECT_LT(done, expected.size()) << log();
  EXPECT_EQ(lossesOf(log()).count({0, 6}), 1u) << "the step is finished";
  for (pid_t pid : startAll("second", false))
    EXPECT_EQ(finish(pid).status, 0) << log();
  EXPECT_EQ(lossesOf(log()), expected);
  expectNothingLeft();
}

/// A site whose machine has nothing joins a job that the others resume, at
/// once: that is no restart.
TEST_F(Sites, AnEmptySiteJoinsAResumedJob) {
  std::vector<std::string> words = arguments(kSteps / 2);
  words.insert(words.end(), {"--checkpoint-dir", folder / "north-saved"});
  ASSERT_EQ(run(words).status, 0) << log();
  std::filesystem::remove_all(folder / "north-saved/island-1");
  std::filesystem::remove(folder / "stderr");
  pid_t south = start(site("south", {"--server", address("north"),
                                     "--checkpoint-dir", folder / "saved"}));
  pid_t north =
      start(site("north", {"--address", address("north"), "--resume",
                           "--checkpoint-dir", folder / "north-saved"}));
  EXPECT_EQ(finish(south).status, 0) << log();
  EXPECT_EQ(finish(north).status, 0) << log();
  Losses losses = lossesOf(log());
  EXPECT_EQ(losses.size(), kSteps) << log();
  EXPECT_EQ(losses.begin()->first.second, static_cast<int>(kSteps / 2));
  EXPECT_EQ(losses.count({1, kSteps / 2}), 1u);
  EXPECT_EQ(log().find("\"restart\""), std::string::npos) << log();
  expectNothingLeft();
}

/// Nothing is trained yet, and so nothing to be saved.
TEST_F(Sites, ASiteThatWaitsForTheFirstVersionEndsAtOnce) {
  pid_t server = startServer();
  for (const char *how : {"end-run", "leave-run"}) {
    pid_t south =
        start(site("south", {"--server", address("north"), "--sigterm", how,
                             "--checkpoint-dir", folder / "c"}));
    EXPECT_TRUE(eventually([&] {
      return log().find("\"event\":\"ready\"") != std::string::npos;
    })) << log();
    auto begin = std::chrono::steady_clock::now();
    kill(south, SIGTERM);
    EXPECT_EQ(finish(south).status, 128 + SIGTERM) << log();
    EXPECT_LT(std::chrono::steady_clock::now() - begin,
              std::chrono::seconds(5));
    std::filesystem::remove(folder / "stderr");
  }
  kill(server, SIGTERM);
  finish(server);
  expectNothingLeft();
}

/// No server for longer than any of them is waited for: that is no rank's
/// fault, and uses no restart up.
TEST_F(Sites, AServerIsWaitedForWithoutEnd) {
  Losses expected = local();
  pid_t server = startServer();
  pid_t north = start(site("north", {"--server", address("north")}));
  std::vector<std::string> words =
      site("south",
           {"--server", address("north"), "--checkpoint-dir", folder / "c"});
  for (std::string &word : pausing({{1, 0, 0, 10}}))
    words.push_back(word);
  pid_t south = start(words);
  pid_t rank = paused();
  kill(server, SIGKILL);
  finish(server);
  kill(rank, SIGCONT);
  auto count = [&](const std::string &what) {
    std::string text = log();
    std::size_t found = 0;
    for (std::size_t at = 0; (at = text.find(what, at)) != text.npos; ++at)
      ++found;
    return found;
  };
  auto untilBoth = [&](const std::string &what) {
    auto both = [&] { return count(what) == 2; };
    EXPECT_TRUE(eventually(both) || eventually(both) || eventually(both))
        << log();
  };
  untilBoth("\"event\":\"server_unreachable\""); // once for each island
  server = startServer();
  untilBoth("\"event\":\"server_back\"");
  for (pid_t pid : {south, north, server})
    EXPECT_EQ(finish(pid).status, 0) << log();
  EXPECT_EQ(count("\"event\":\"restart\""), 0u) << log();
  EXPECT_EQ(lossesOf(log()), expected);
  expectNothingLeft();
}

/// Nor is it that of its peers, where one rank alone waits for a server.
TEST_F(Sites, PeersOfARankThatIsCutOffUseNoRestartUp) {
  pid_t server = startServer();
  pid_t north = start(site("north", {"--server", address("north")}));
  pid_t south = start(site(
      "south",
      {"--server", address("north"), "--rank-program",
       script("all=\"$*\"; tell() { while [ $1 != --events-fd ]; do shift; "
              "done; echo \"$told\" >/dev/fd/$2; }\n"
              "case \"$all\" in *'--incarnation 0 --island 1 --rank 1 '*)\n"
              "  told='{\"event\":\"server_unreachable\",\"island\":1}'\n"
              "  tell \"$@\"; touch " +
              (folder / "told") +
              "; exec sleep 60;;\n"
              "*'--incarnation 0 --island 1 --rank 0 '*) while ! test -e " +
              (folder / "told") +
              "; do sleep 0.1; done; sleep 1\n"
              "  told='{\"event\":\"error\",\"status\":3,\"peer\":true,"
              "\"message\":\"waited for a peer\"}'\n"
              "  tell \"$@\"; exit 3;;\nesac\n"
              "exec " TOMBOLO_RUN " \"$@\"\n")}));
  for (pid_t pid : {south, north, server})
    EXPECT_EQ(finish(pid).status, 0) << log();
  EXPECT_NE(log().find("\"event\":\"restart\""), std::string::npos) << log();
  EXPECT_NE(log().find("\"restarts_left\":0"), std::string::npos) << log();
  expectNothingLeft();
}

/// Its own server dies, and is started again from its state.
TEST_F(Sites, AnAgentRestartsItsServer) {
  Losses expected = local();
  std::vector<std::string> words =
      site("north", {"--address", address("north"), "--state-dir",
                     folder / "north", "--restarts", "1"});
  for (std::string &word : pausing({{0, 0, 0, 10}}))
    words.push_back(word);
  pid_t north = start(words);
  pid_t south = start(site("south", {"--server", address("north")}));
  pid_t rank = paused();
  std::vector<pid_t> servers = commands("server");
  ASSERT_EQ(servers.size(), 1u) << log();
  kill(servers[0], SIGKILL);
  EXPECT_TRUE(eventually([&] {
    return log().find("\"part\":\"server\"") != std::string::npos;
  })) << log();
  kill(rank, SIGCONT);
  EXPECT_EQ(finish(south).status, 0) << log();
  EXPECT_EQ(finish(north).status, 0) << log();
  EXPECT_EQ(lossesOf(log()), expected);
  expectNothingLeft();
}

/// What cannot be is told before anything starts.
TEST_F(Sites, AskForTheirServers) {
  auto told = [&](std::vector<std::string> words, int status = 2) {
    Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, status) << outcome.errors;
    return outcome.errors;
  };
  EXPECT_NE(told(site("north", {})).find("expected --server with its address"),
            std::string::npos);
  EXPECT_NE(told(site("south", {"--address", address("south")}))
                .find("the plan's one server is in north, not in south"),
            std::string::npos);
  EXPECT_NE(told(site("north", {"--address", "127.0.0.1:0"}))
                .find("expected a port that the other sites know"),
            std::string::npos);
  EXPECT_NE(told(site("north", {"--server", address("north"), "--peer", "a=b"}))
                .find("--address is missing"),
            std::string::npos);
  // A folder without the server's certificate.
  std::filesystem::remove(folder / "certs/server.key");
  EXPECT_NE(told(site("north", {"--address", address("north")}), 1)
                .find("server.key"),
            std::string::npos);
  addBackup();
  EXPECT_NE(told(site("north", {"--address", address("north")}))
                .find("--peer: expected south=ADDRESS too"),
            std::string::npos);
  expectNothingLeft();
}

} // namespace
