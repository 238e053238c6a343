//===- WatchTest.cpp - runs that are looked at ----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "LocalFixture.h"

#include <httplib.h>

#include <regex>

#include <pty.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

constexpr std::uint64_t kSteps = 30;

/// A run of which island 1 stands still before step 20, to be looked at.
class Watch : public Local {
protected:
  std::vector<std::string> watched() {
    std::vector<std::string> words = arguments(kSteps);
    words.insert(words.end(), {"--metrics-port", "0"});
    for (std::string &word : pausing({{1, 0, 0, 20}}))
      words.push_back(word);
    return words;
  }

  /// Where a run says that it serves its metrics.
  std::string address() {
    const std::regex at("metrics at http://([^/]+)/metrics");
    std::smatch found;
    std::string text;
    EXPECT_TRUE(eventually([&] {
      text = readAll(folder / "stderr");
      return std::regex_search(text, found, at);
    })) << text;
    return found[1];
  }

  /// What a command writes on a terminal of so many columns.
  std::string onTerminal(std::vector<std::string> words, unsigned short columns,
                         const char *noColor = "", const char *kind = "xterm") {
    std::filesystem::remove(folder / "m.jsonl");
    words.insert(words.begin(), TOMBOLO_RUN);
    std::vector<char *> argv;
    for (std::string &word : words)
      argv.push_back(word.data());
    argv.push_back(nullptr);
    winsize size{};
    size.ws_col = columns;
    size.ws_row = 24;
    int terminal = -1;
    pid_t pid = forkpty(&terminal, nullptr, nullptr, &size);
    if (pid == 0) {
      setenv("TERM", kind, 1);
      setenv("NO_COLOR", noColor, 1);
      setenv("TOMBOLO_TEST_MARK", folder.path.c_str(), 1);
      execv(argv[0], argv.data());
      _exit(127);
    }
    std::string text;
    char bytes[4096];
    for (ssize_t got; (got = read(terminal, bytes, sizeof bytes)) > 0;)
      text.append(bytes, static_cast<std::size_t>(got));
    close(terminal);
    int status = 0;
    waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0) << text;
    return text;
  }
  /// Without what moves the cursor and colours.
  static std::vector<std::string> plainLines(const std::string &text) {
    std::string plain =
        std::regex_replace(text, std::regex("\033\\[[0-9;]*[A-Za-z]|\r"), "");
    std::vector<std::string> lines;
    std::istringstream in(plain);
    for (std::string line; std::getline(in, line);)
      lines.push_back(line);
    return lines;
  }
};

/// Prometheus' text format, JSON, and the command that shows it.
TEST_F(Watch, ServesWhatItKnows) {
  std::filesystem::remove(folder / "stderr");
  pid_t pid = start(watched());
  std::string at = address();
  pid_t rank = paused();
  EXPECT_TRUE(eventually([&] { return steps() >= 40; })); // 20 of each island
  httplib::Client client("http://" + at);
  auto answer = client.Get("/metrics");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(answer->get_header_value("Content-Type"),
            "text/plain; version=0.0.4");
  const std::regex line(
      "# (HELP|TYPE) tombolo_[a-z_]+ .+|"
      "tombolo_[a-z_]+(\\{[a-z]+=\"[^\"]*\"(,[a-z]+=\"[^\"]*\")*\\})? "
      "(NaN|-?[0-9.e+-]+)");
  std::istringstream in(answer->body);
  for (std::string each; std::getline(in, each);)
    EXPECT_TRUE(std::regex_match(each, line)) << each;
  auto has = [&](const std::string &text) {
    EXPECT_NE(answer->body.find(text), std::string::npos) << text << " in\n"
                                                          << answer->body;
  };
  has("tombolo_step{island=\"1\",sites=\"south\"} 20\n");
  has("tombolo_steps 30\n");
  has("tombolo_outer_steps_total 6\n"); // H = 3
  has("tombolo_version{fragment=\"0\"} 6\n");
  has("tombolo_events_total{event=\"outer_step\"} 6\n");
  has("tombolo_behind_rounds{island=\"1\",sites=\"south\"} 0\n");
  has("tombolo_island_state{island=\"1\",sites=\"south\",state=\"training\"} "
      "1");
  // Six pushes of all parameters, and what they are answered with.
  has("tombolo_pushed_bytes_total{island=\"1\",sites=\"south\"} " +
      std::to_string(6 * 4 * kVocabulary * kVocabulary) + "\n");

  auto status = client.Get("/status");
  ASSERT_TRUE(status);
  json known = json::parse(status->body);
  EXPECT_EQ(known.at("steps"), kSteps);
  EXPECT_EQ(known.at("islands").at(1).at("step"), 20);
  EXPECT_EQ(known.at("server").at("primary"), "north");
  EXPECT_TRUE(known.at("islands").at(0).at("last_sync_seconds").is_number());
  auto nothing = client.Get("/etc/passwd");
  ASSERT_TRUE(nothing);
  EXPECT_EQ(nothing->status, 404);
  auto post = client.Post("/status", std::string(100000, 'x'), "text/plain");
  EXPECT_TRUE(!post || post->status >= 400);

  std::string before = readAll(folder / "stderr");
  std::filesystem::remove(folder / "stderr");
  std::string metricsBefore = readAll(folder / "m.jsonl");
  Outcome shown = finish(start({"status", at}, metricsBefore));
  EXPECT_EQ(shown.status, 0) << shown.errors;
  std::vector<std::string> table = plainLines(shown.errors);
  ASSERT_EQ(table.size(), 4u) << shown.errors;
  EXPECT_EQ(table[0].substr(0, 5), "site ");
  EXPECT_NE(table[2].find("south"), std::string::npos) << table[2];
  EXPECT_NE(table[2].find("20/30"), std::string::npos) << table[2];
  EXPECT_EQ(table[3], "server north, 6 outer steps");
  kill(rank, SIGCONT);
  EXPECT_EQ(finish(pid).status, 0);
  EXPECT_EQ(run({"status", at}).status, 3);
  EXPECT_EQ(run({"status", "nowhere"}).status, 2);
  expectNothingLeft();
}

/// Every event is one line with its time; steps are as they were.
TEST_F(Watch, EventsHaveTheirTime) {
  ASSERT_EQ(run(arguments(6)).status, 0);
  const std::regex time("\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z");
  std::size_t events = 0;
  for (const json &line : metrics()) {
    EXPECT_EQ(line.contains("time"), line.contains("event")) << line;
    if (!line.contains("event"))
      continue;
    ++events;
    EXPECT_TRUE(std::regex_match(line.at("time").get<std::string>(), time));
  }
  EXPECT_EQ(events, 3u); // start, two outer steps
}

/// A port that is taken is told before anything is started.
TEST_F(Watch, RefusesAPortThatIsTaken) {
  httplib::Server other;
  int port = other.bind_to_any_port("127.0.0.1");
  ASSERT_GT(port, 0);
  std::vector<std::string> words = arguments(6);
  words.insert(words.end(), {"--metrics-port", std::to_string(port)});
  Outcome outcome = run(words);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.errors.find("cannot listen at 127.0.0.1"),
            std::string::npos)
      << outcome.errors;
  EXPECT_EQ(steps(), 0u);
}

TEST_F(Watch, DrawsATableOnATerminal) {
  std::string text = onTerminal(arguments(kSteps), 100);
  std::vector<std::string> lines = plainLines(text);
  ASSERT_GE(lines.size(), 4u) << text;
  // The last one stays.
  std::vector<std::string> last(lines.end() - 4, lines.end());
  for (const char *head : {"site", "step", "loss", "tokens/s", "last sync"})
    EXPECT_NE(last[0].find(head), std::string::npos) << last[0];
  EXPECT_EQ(last[1].substr(0, 5), "north");
  EXPECT_EQ(last[2].substr(0, 5), "south");
  EXPECT_NE(last[1].find("30/30"), std::string::npos) << last[1];
  EXPECT_EQ(last[3], "server north, 10 outer steps");
  EXPECT_NE(text.find("\033[32m"), std::string::npos); // done
}

TEST_F(Watch, KeepsToNarrowTerminalsWithoutColour) {
  std::string text = onTerminal(arguments(kSteps), 24, /*noColor=*/"1");
  std::vector<std::string> lines = plainLines(text);
  ASSERT_GE(lines.size(), 4u);
  for (const std::string &line : lines)
    EXPECT_LE(line.size(), 24u) << line;
  EXPECT_NE(lines[lines.size() - 2].find("30/30"), std::string::npos) << text;
  EXPECT_FALSE(std::regex_search(text, std::regex("\033\\[[0-9;]*m"))) << text;
}

/// Neither a pipe nor a terminal that cannot is written to.
TEST_F(Watch, IsQuietElsewhere) {
  Outcome outcome = run(arguments(kSteps));
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.errors, "");
  EXPECT_EQ(onTerminal(arguments(kSteps), 80, "", "dumb"), "");
}

} // namespace
