//===- LocalFixture.h - a whole run of tombolo-run local --------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_LAUNCH_LOCALFIXTURE_H
#define TOMBOLO_TEST_LAUNCH_LOCALFIXTURE_H

#include "PlanBuilder.h"
#include "Processes.h"
#include "Temporary.h"

#include "tombolo/runtime/File.h"
#include "tombolo/runtime/Onnx.h"
#include "tombolo/schema/onnx_subset.pb.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <csignal>
#include <sstream>

#include <fcntl.h>
#include <sys/wait.h>

namespace tombolo::runtime::test {

using nlohmann::json;

inline constexpr std::uint64_t kVocabulary = 8, kTokens = 4;

/// How a command ended and what it wrote to stderr.
struct Outcome {
  int status = -1; // 128 + signal when killed
  std::string errors;
};

/// Two islands at two sites, two ranks each: server, agents and real ranks that
/// train.
class Local : public testing::Test {
protected:
  void SetUp() override {
    tombolo::onnx_subset::ModelProto model;
    auto *table = model.mutable_graph()->add_initializer();
    table->set_name("table");
    table->set_data_type(1);
    table->add_dims(kVocabulary);
    table->add_dims(kVocabulary);
    table->set_raw_data(std::string(kVocabulary * kVocabulary * 4, '\0'));
    auto *node = model.mutable_graph()->add_node();
    node->set_op_type("Gather");
    node->add_input("table");
    node->add_input("ids");
    node->add_output("logits");
    writeFile(folder / "m.onnx", model.SerializeAsString());

    TinyModel tiny;
    tiny.replicas = 2;
    planTwoIslands(tiny);
    std::string tokens;
    for (int i = 0; i < 200; ++i)
      tokens += {static_cast<char>(i * i % kVocabulary), '\0'};
    writeFile(folder / "tokens.bin", tokens);
  }

  /// Both islands train `tiny`; their server is in the north.
  void planTwoIslands(TinyModel tiny) {
    tiny.tokens = kTokens;
    tiny.vocabulary = kVocabulary;
    plan = tinyPlan(tiny);
    plan.set_model_hash(modelHash(folder / "m.onnx"));
    *plan.add_islands() = plan.islands(0);
    for (int i = 0; i < 2; ++i) {
      plan.mutable_islands(i)->clear_sites();
      plan.mutable_islands(i)->add_sites(i ? "south" : "north");
      for (auto &stage : *plan.mutable_islands(i)->mutable_stages())
        for (auto &group : *stage.mutable_groups())
          group.set_site(i ? "south" : "north");
    }
    plan.mutable_training()->set_global_batch(2 * plan.islands(0).batch());
    addServer(plan, 3, "north");
    savePlan();
  }

  /// A server at each island's site; a third one in the east only votes.
  void addBackup() {
    Server &server = *plan.mutable_server();
    server.mutable_placements(0)->set_backup("south");
    server.set_witness("east");
    savePlan();
  }

  /// A round needs one island alone.
  void letOneGoOn() {
    plan.mutable_server()->set_quorum(1);
    for (Program &program : *plan.mutable_programs()) // late pushes
      program.set_host_bytes(program.host_bytes() / 2 * 3);
    savePlan();
  }

  void savePlan() { writePlan(plan, folder / "p.plan"); }

  std::vector<std::string> arguments(std::uint64_t steps) {
    return {
        "local",     folder / "p.plan",     "--model",   folder / "m.onnx",
        "--data",    folder / "tokens.bin", "--steps",   std::to_string(steps),
        "--metrics", folder / "m.jsonl",    "--threads", "1"};
  }

  /// Starts tombolo-run; its processes carry the folder's name in their
  /// environment. `metricsBefore`: what stands in the metrics file.
  pid_t start(std::vector<std::string> words,
              const std::string &metricsBefore = "") {
    std::filesystem::remove(folder / "m.jsonl");
    if (!metricsBefore.empty())
      writeFile(folder / "m.jsonl", metricsBefore);
    words.insert(words.begin(), TOMBOLO_RUN);
    std::vector<char *> argv;
    for (std::string &word : words)
      argv.push_back(word.data());
    argv.push_back(nullptr);
    std::string errors = folder / "stderr";
    pid_t pid = fork();
    if (pid == 0) {
      setenv("TOMBOLO_TEST_MARK", folder.path.c_str(), 1);
      int fd = open(errors.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
      dup2(fd, 1);
      dup2(fd, 2);
      execv(argv[0], argv.data());
      _exit(127);
    }
    return pid;
  }

  Outcome finish(pid_t pid) {
    int status = 0;
    waitpid(pid, &status, 0);
    return {WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
            readAll(folder / "stderr")};
  }
  Outcome run(std::vector<std::string> words) {
    std::filesystem::remove(folder / "stderr");
    return finish(start(words));
  }

  void expectNothingLeft() {
    EXPECT_TRUE(eventually([&] { return processesWith(folder.path).empty(); }));
    for (const auto &entry : std::filesystem::directory_iterator(folder.path))
      EXPECT_EQ(entry.path().string().find(".tmp-"), std::string::npos)
          << entry.path();
  }

  std::vector<json> metrics() {
    std::vector<json> lines;
    std::istringstream in(readAll(folder / "m.jsonl"));
    for (std::string line; std::getline(in, line);)
      lines.push_back(json::parse(line));
    return lines;
  }
  std::size_t steps() {
    std::string text = readAll(folder / "m.jsonl");
    std::size_t count = 0;
    for (std::size_t at = 0; (at = text.find("\"loss\"", at)) != text.npos;
         ++at)
      ++count;
    return count;
  }

  /// The processes of this run with a word in their command line.
  std::vector<pid_t> commands(const std::string &word) {
    std::vector<pid_t> found;
    for (pid_t pid : processesWith(folder.path)) {
      std::string line = readAll("/proc/" + std::to_string(pid) + "/cmdline");
      if (line.find('\0' + word + '\0') != std::string::npos)
        found.push_back(pid);
    }
    return found;
  }

  pid_t find(const std::string &command, const std::string &site) {
    pid_t found = 0;
    for (pid_t pid : commands(command))
      if (readAll("/proc/" + std::to_string(pid) + "/cmdline")
              .find(std::string("--site") + '\0' + site + '\0') !=
          std::string::npos)
        found = pid;
    return found;
  }
  void killAt(const std::string &command, const std::string &site) {
    pid_t victim = find(command, site);
    ASSERT_GT(victim, 0) << command << " of " << site;
    kill(victim, SIGKILL);
  }

  /// A rank that stops before a step (SIGSTOP) until the test lets it go on.
  struct Pause {
    int island, rank, incarnation;
    std::uint64_t step;
  };
  std::vector<std::string> pausing(const std::vector<Pause> &pauses) {
    std::string body = "case \"$*\" in\n";
    for (const Pause &pause : pauses)
      body += "*'--incarnation " + std::to_string(pause.incarnation) +
              " --island " + std::to_string(pause.island) + " --rank " +
              std::to_string(pause.rank) + " '*)\n  exec " TOMBOLO_RUN
              " \"$@\" --pause-at " +
              std::to_string(pause.step) + ";;\n";
    return {"--rank-program",
            script(body + "esac\nexec " TOMBOLO_RUN " \"$@\"\n")};
  }
  /// Those that have stopped.
  std::vector<pid_t> stopped() {
    std::vector<pid_t> found;
    for (pid_t pid : commands("rank")) {
      std::string stat = readAll("/proc/" + std::to_string(pid) + "/stat");
      std::size_t end = stat.rfind(')');
      if (end != std::string::npos && stat.compare(end, 3, ") T") == 0)
        found.push_back(pid);
    }
    return found;
  }
  /// Waits for one.
  pid_t paused() {
    std::vector<pid_t> found;
    EXPECT_TRUE(eventually([&] { return !(found = stopped()).empty(); }));
    return found.empty() ? 0 : found.back();
  }

  /// A shell script in the place of the ranks.
  std::string script(const std::string &body) {
    std::string path = folder / "rank.sh";
    writeFile(path, "#!/bin/sh\n" + body);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
  }

  test::TemporaryFolder folder;
  Plan plan;
};

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_LAUNCH_LOCALFIXTURE_H
