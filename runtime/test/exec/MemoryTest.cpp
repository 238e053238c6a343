//===- MemoryTest.cpp - a rank keeps within its planned memory ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Resident.h"
#include "TinyRun.h"

#include "tombolo/runtime/Onnx.h"
#include "tombolo/runtime/server/ExchangeClient.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <functional>
#include <sys/wait.h>
#include <unistd.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

/// The answer of a process of its own that runs `body`; empty when it failed.
/// It ends when the test does.
std::string inProcess(const std::function<void(int answer)> &body,
                      pid_t &child) {
  int ends[2];
  if (::pipe(ends) != 0)
    return "";
  child = ::fork();
  if (child == 0) {
    ::close(ends[0]);
    try {
      body(ends[1]);
    } catch (const std::exception &error) {
      std::fprintf(stderr, "child: %s\n", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string answer;
  for (char c; ::read(ends[0], &c, 1) == 1 && c != '\n';)
    answer += c;
  ::close(ends[0]);
  return answer;
}

void reply(int to, const std::string &text) {
  (void)!::write(to, (text + "\n").data(), text.size() + 1);
}

/// A model of some size, whose ranks are processes of their own.
class Memory : public testing::Test {
protected:
  Memory() : run(model()) {
    run.initial.clear(); // is on disk; ranks shall not inherit it
  }
  ~Memory() override {
    if (server > 0) {
      ::kill(server, SIGKILL);
      ::waitpid(server, nullptr, 0);
    }
  }

  static TinyModel model() {
    TinyModel model;
    model.vocabulary = 6144; // 144 MiB of parameters, as much of gradients
    model.tokens = 64;
    model.batch = 4;
    return model;
  }

  std::string serve() {
    return inProcess(
        [&](int answer) {
          ParameterServer service(serverOptions(run.plan, "run"));
          reply(answer, service.address());
          for (;;)
            ::pause();
        },
        server);
  }

  /// The most memory that a rank had resident, all in all. It trains up to
  /// `steps`, checkpoints and all.
  std::uint64_t peakOf(std::uint64_t steps, const std::string &address,
                       bool resume) {
    pid_t child = 0;
    std::string peak = inProcess(
        [&](int answer) {
          // Forget what the test's own process once held.
          std::ofstream("/proc/self/clear_refs") << "5";
          if (address.empty()) { // all ranks as threads
            run.train(steps, run.folder / "c", resume);
            return reply(answer, std::to_string(peakResident()));
          }
          RankConfig config = run.config;
          config.steps = steps;
          config.checkpointDir = run.folder / "c";
          config.resume = resume;
          std::unique_ptr<Device> device = createDevice("cpu");
          InprocHub hub(1);
          std::unique_ptr<Transport> transport = hub.transport(0);
          auto exchange = [&](std::vector<ExchangeTensor> tensors,
                              ArenaAccess access, IslandLargest) {
            ExchangeOptions options = exchangeOptions(run.plan, 0, 0);
            options.server = address;
            options.runId = "run";
            return connectExchange(options, std::move(tensors),
                                   std::move(access));
          };
          Rank(run.plan, config, *device, *transport, {}, exchange).run();
          reply(answer, std::to_string(peakResident()));
        },
        child);
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    return peak.empty() ? 0 : std::stoull(peak);
  }

  void expectWithinPlan(std::uint64_t peak) {
    const Program &program = run.plan.programs(0);
    std::uint64_t planned = program.arena_bytes() + program.host_bytes();
    std::cout << "planned " << (planned >> 20) << " MiB, resident "
              << (peak >> 20) << " MiB\n";
    EXPECT_GT(peak, planned); // all of it is used, so the plan is exact
    EXPECT_LE(peak, planned + kMemoryBeyondArena);
  }

  TinyRun run;
  pid_t server = 0;
};

// Alone: the arena and less than the stated constant.
TEST_F(Memory, StaysWithinThePlannedPeakAndTheConstant) {
  ASSERT_GT(run.plan.programs(0).arena_bytes(), kMemoryBeyondArena);
  expectWithinPlan(peakOf(2, "", false));
}

// Two ranks with a part of the parameter each, that they load and save in runs
// of columns: no one of them ever holds the whole.
TEST_F(Memory, LoadsPartsWithinThePlan) {
  TinyModel parts = model();
  parts.tensorParallel = 2;
  run.plan = tinyPlan(parts);
  run.plan.set_model_hash(modelHash(run.onnx));
  for (bool resume : {false, true}) {
    std::uint64_t planned = 2 * run.plan.programs(0).arena_bytes();
    std::uint64_t peak = peakOf(resume ? 2 : 1, "", resume);
    std::cout << "planned " << (planned >> 20) << " MiB, resident "
              << (peak >> 20) << " MiB\n";
    EXPECT_GT(peak, planned);
    EXPECT_LE(peak, planned + kMemoryBeyondArena);
  }
}

// With a server host_bytes besides, also while a run is resumed with its outer
// momentum.
TEST_F(Memory, CountsWhatTheExchangeKeeps) {
  addServer(run.plan, 1);
  run.plan.set_checksum(std::string(32, 'c'));
  // Large enough that twice of it would not hide in the constant.
  ASSERT_GT(run.plan.programs(0).host_bytes(), kMemoryBeyondArena);
  expectWithinPlan(peakOf(2, serve(), false));
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
  expectWithinPlan(peakOf(3, serve(), true));
}

} // namespace
