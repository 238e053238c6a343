//===- DashboardTest.cpp - the page of a run, and who asks for it ---------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// How the page follows a run is tested in a browser (lib/report/web/test).
//
//===----------------------------------------------------------------------===//

#include "LocalFixture.h"

#include <httplib.h>

#include <regex>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

constexpr std::uint64_t kSteps = 30;

class Dashboard : public Local {
protected:
  void SetUp() override {
    Local::SetUp();
    if (!TOMBOLO_HAS_PAGE)
      GTEST_SKIP() << "built without node and npm";
    std::filesystem::remove(folder / "stderr");
  }

  /// A run of which island 1 stands still before step 20.
  std::vector<std::string> shown(std::vector<std::string> more = {}) {
    std::vector<std::string> words = arguments(kSteps);
    words.insert(words.end(), {"--dashboard", "0"});
    for (std::string &word : pausing({{1, 0, 0, 20}}))
      words.push_back(word);
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  /// What stands behind `label` on stderr.
  std::string told(const std::string &label) {
    const std::regex line(label + " at (http://\\S+)\n");
    std::smatch found;
    std::string text;
    EXPECT_TRUE(eventually([&] {
      text = readAll(folder / "stderr");
      return std::regex_search(text, found, line);
    })) << text;
    return found[1];
  }

  static int portOf(const std::string &url) {
    return std::stoi(url.substr(url.rfind(':') + 1));
  }

  /// A client that has sent `text` and reads nothing.
  static int mute(int port, const std::string &text) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int little = 1; // of what is sent to it the kernel takes little
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(
        connect(fd, reinterpret_cast<sockaddr *>(&address), sizeof address), 0);
    EXPECT_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    return fd;
  }
};

/// One that comes late is told all, then what is new, then the end.
TEST_F(Dashboard, TellsOfARunToItsEnd) {
  pid_t pid = start(shown());
  std::string url = told("dashboard");
  pid_t rank = paused();
  ASSERT_TRUE(eventually([&] { return steps() >= 40; })); // 20 of each island
  httplib::Client client("127.0.0.1", portOf(url));
  auto page = client.Get("/");
  ASSERT_TRUE(page);
  EXPECT_EQ(page->status, 200);
  EXPECT_NE(page->body.find("connect-src 'self'"), std::string::npos);
  EXPECT_NE(page->body.find("\"live\":true"), std::string::npos);
  std::string text;
  bool wakened = false;
  auto events = client.Get("/events", [&](const char *data, std::size_t size) {
    text.append(data, size);
    if (!std::exchange(wakened, true))
      kill(rank, SIGCONT);
    return true;
  });
  ASSERT_TRUE(events);
  EXPECT_EQ(events->get_header_value("Content-Type"), "text/event-stream");
  EXPECT_EQ(text.rfind("retry: 1000\nevent: run\ndata: {", 0), 0u) << text;
  EXPECT_TRUE(text.ends_with("\n\nevent: end\ndata: {}\n\n")) << text;
  // Step 29 is the last, and was told of as it came.
  EXPECT_NE(text.find("event: point\ndata: {\"step\":29,"), std::string::npos);
  EXPECT_EQ(finish(pid).status, 0);
  expectNothingLeft();
}

TEST_F(Dashboard, IsForThisMachineAndForReading) {
  pid_t pid = start(shown());
  std::string url = told("dashboard");
  EXPECT_EQ(url.rfind("http://127.0.0.1:", 0), 0u) << url;
  EXPECT_EQ(url.find("token"), std::string::npos) << url;
  pid_t rank = paused();
  httplib::Client client("127.0.0.1", portOf(url));
  auto statusOf = [&](const httplib::Result &result) {
    return result ? result->status : 0;
  };
  EXPECT_EQ(statusOf(client.Get("/../../etc/passwd")), 404);
  EXPECT_EQ(statusOf(client.Get("/metrics")), 404);
  for (const char *path : {"/", "/events"}) {
    EXPECT_EQ(statusOf(client.Post(path, "x", "text/plain")), 405);
    EXPECT_EQ(statusOf(client.Delete(path)), 405);
    EXPECT_EQ(statusOf(client.Options(path)), 405);
    // A name that somebody else has pointed here.
    EXPECT_EQ(statusOf(client.Get(path, {{"Host", "rebound.example"}})), 403);
  }
  EXPECT_GE(statusOf(client.Get("/" + std::string(100'000, 'x'))), 400);
  kill(rank, SIGCONT);
  EXPECT_EQ(finish(pid).status, 0);
}

TEST_F(Dashboard, ElsewhereOnlyWhoHasTheTokenMayRead) {
  pid_t pid = start(shown({"--dashboard-host", "0.0.0.0"}));
  std::string url = told("dashboard");
  pid_t rank = paused();
  std::smatch found;
  ASSERT_TRUE(std::regex_match(
      url, found,
      std::regex("http://0\\.0\\.0\\.0:(\\d+)(/\\?token=[0-9a-f]{32})")));
  httplib::Client client("127.0.0.1", std::stoi(found[1]));
  std::string query = found[2].str().substr(1);
  for (std::string path : {"/", "/events", "/?token=", "/?token=0"}) {
    auto result = client.Get(path);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->status, 403) << path;
    EXPECT_EQ(result->body.find("data"), std::string::npos) << result->body;
  }
  EXPECT_EQ(client.Get("/" + query.substr(0, query.size() - 1) + "g")->status,
            403);
  EXPECT_EQ(client.Get("/" + query)->status, 200);
  kill(rank, SIGCONT);
  EXPECT_EQ(finish(pid).status, 0);
}

/// However many come, say nothing, or do not read, the run goes on and ends.
TEST_F(Dashboard, NobodyHoldsUpTheRun) {
  pid_t pid = start(shown({"--metrics-port", "0"}));
  int page = portOf(told("dashboard"));
  std::string metrics = told("metrics");
  int other = portOf(metrics.substr(0, metrics.rfind('/')));
  pid_t rank = paused();
  std::vector<int> clients;
  const std::string host = " HTTP/1.1\r\nHost: localhost\r\n";
  for (int port : {page, other}) {
    for (int i = 0; i < 20; ++i)
      clients.push_back(mute(port, "GET /events" + host + "\r\n"));
    for (int i = 0; i < 20; ++i)
      clients.push_back(mute(port, "GET /" + host + "X-Slow: "));
    for (int i = 0; i < 40; ++i)
      clients.push_back(mute(port, ""));
  }
  kill(rank, SIGCONT);
  EXPECT_EQ(finish(pid).status, 0);
  EXPECT_EQ(steps(), 2 * kSteps);
  for (int fd : clients)
    close(fd);
  expectNothingLeft();
}

TEST_F(Dashboard, SaysWhyItCannotListen) {
  std::vector<std::string> words = arguments(6);
  words.insert(words.end(),
               {"--dashboard", "0", "--dashboard-host", "203.0.113.1"});
  Outcome outcome = run(words);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.errors.find("--dashboard 0: cannot listen at 203.0.113.1"),
            std::string::npos)
      << outcome.errors;
  EXPECT_EQ(steps(), 0u);
  words = arguments(6);
  words.insert(words.end(), {"--dashboard-host", "::1"});
  EXPECT_EQ(run(words).status, 2); // without a port
}

/// Where node and npm were missing the option is there, and says so.
class NoDashboard : public Local {};
TEST_F(NoDashboard, IsAnErrorThatSaysWhatIsMissing) {
  if (TOMBOLO_HAS_PAGE)
    GTEST_SKIP() << "built with the page";
  std::vector<std::string> words = arguments(6);
  words.insert(words.end(), {"--dashboard", "0"});
  Outcome outcome = run(words);
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.errors.find("built without the page"), std::string::npos)
      << outcome.errors;
  EXPECT_EQ(steps(), 0u);
}

} // namespace
