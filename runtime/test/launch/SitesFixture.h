//===- SitesFixture.h - a job whose sites are started apart -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_LAUNCH_SITESFIXTURE_H
#define TOMBOLO_TEST_LAUNCH_SITESFIXTURE_H

#include "LocalFixture.h"

#include <map>

namespace tombolo::runtime::test {

inline constexpr std::uint64_t kSteps = 24;

/// A command for each site, as an operator gives them, with certificates of
/// utils/make-certs. Addresses are sockets in the test's folder.
class Sites : public Local {
protected:
  void SetUp() override {
    Local::SetUp();
    if (!std::filesystem::exists(TOMBOLO_MAKE_CERTS))
      GTEST_SKIP() << "utils/make-certs is not here";
    std::string command = std::string(TOMBOLO_MAKE_CERTS) + " " +
                          (folder / "certs") + " north south 2>" +
                          (folder / "make-certs");
    ASSERT_EQ(std::system(command.c_str()), 0)
        << readAll(folder / "make-certs");
  }

  std::string address(const std::string &site) {
    return "unix:" + (folder / (site + ".sock"));
  }

  std::vector<std::string> site(const std::string &name,
                                std::vector<std::string> more) {
    std::vector<std::string> words = {"site",      folder / "p.plan",
                                      "--model",   folder / "m.onnx",
                                      "--data",    folder / "tokens.bin",
                                      "--steps",   std::to_string(kSteps),
                                      "--site",    name,
                                      "--threads", "1",
                                      "--certs",   folder / "certs"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  /// With a server of its own, of a plan that has a backup.
  std::vector<std::string> replicated(const std::string &name,
                                      std::vector<std::string> more = {}) {
    std::vector<std::string> words =
        site(name, {"--address", address(name), "--state-dir", folder / name,
                    "--peer", "east=" + address("east"), "--peer",
                    name == "north" ? "south=" + address("south")
                                    : "north=" + address("north")});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  pid_t startWitness(const std::string &runId = "") {
    return start({"server",
                  folder / "p.plan",
                  "--site",
                  "east",
                  "--address",
                  address("east"),
                  "--peer",
                  "north=" + address("north"),
                  "--peer",
                  "south=" + address("south"),
                  "--state-dir",
                  folder / "east",
                  "--until-finished",
                  "--run-id",
                  runId,
                  "--cert",
                  folder / "certs/server.crt",
                  "--key",
                  folder / "certs/server.key",
                  "--ca",
                  folder / "certs/ca.crt"});
  }

  /// The plan's one server, started apart from its site.
  pid_t startServer() {
    return start({"server", folder / "p.plan", "--address", address("north"),
                  "--state-dir", folder / "server", "--until-finished",
                  "--cert", folder / "certs/server.crt", "--key",
                  folder / "certs/server.key", "--ca",
                  folder / "certs/ca.crt"});
  }

  /// Waits until a stopped rank has a SIGTERM that it sees when it goes on.
  void awaitSigterm(pid_t rank) {
    EXPECT_TRUE(eventually([&] {
      std::string status = readAll("/proc/" + std::to_string(rank) + "/status");
      std::size_t at = status.find("ShdPnd:");
      return at != std::string::npos &&
             std::stoull(status.substr(at + 7), nullptr, 16) >> (SIGTERM - 1) &
                 1;
    }));
  }

  using Losses = std::map<std::pair<int, int>, double>; // {island, step}
  static Losses lossesOf(const std::string &text) {
    Losses losses;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
      json entry = json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (entry.is_object() && entry.contains("loss"))
        losses[{entry.at("island"), entry.at("step")}] = entry.at("loss");
    }
    return losses;
  }
  std::string log() { return readAll(folder / "stderr"); }

  /// Of the whole job in one command.
  Losses local() {
    Outcome outcome = run(arguments(kSteps));
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    Losses losses = lossesOf(readAll(folder / "m.jsonl"));
    EXPECT_EQ(losses.size(), 2 * kSteps);
    std::filesystem::remove(folder / "stderr");
    return losses;
  }
};

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_LAUNCH_SITESFIXTURE_H
