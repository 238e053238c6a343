//===- ProcessTest.cpp - ranks as processes over Gloo ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Resident.h"
#include "TinyRun.h"

#include "tombolo/runtime/StoreServer.h"
#include "tombolo/runtime/plan/Layout.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <functional>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

constexpr int kPeerLost = 42;

/// What a rank's process tells the test.
struct Report {
  std::uint64_t step;
  double loss;
  std::uint64_t resident;
};

/// The ranks of a run as processes; this process computes nothing, so that
/// none of them inherits threads.
class Processes {
public:
  Processes(const TinyRun &run, std::uint64_t steps) {
    EXPECT_EQ(::pipe(addresses), 0);
    store = ::fork();
    if (store == 0) {
      StoreServer server;
      std::string text = server.address() + "\n";
      (void)!::write(addresses[1], text.data(), text.size());
      for (;;)
        ::pause();
    }
    std::string address;
    for (char c; ::read(addresses[0], &c, 1) == 1 && c != '\n';)
      address += c;
    // Made after the store's fork: when all ranks have ended nobody writes.
    EXPECT_EQ(::pipe(reports), 0);
    std::uint64_t ranks = IslandLayout(run.plan.islands(0)).rankCount();
    for (std::uint64_t rank = 0; rank < ranks; ++rank) {
      pid_t child = ::fork();
      if (child == 0)
        ::_exit(work(run, rank, steps, address));
      children.push_back(child);
    }
    ::close(reports[1]);
  }
  ~Processes() {
    for (pid_t child : children)
      ::kill(child, SIGKILL);
    ::kill(store, SIGKILL);
    while (::wait(nullptr) > 0) {
    }
    for (int fd : {addresses[0], addresses[1], reports[0]})
      ::close(fd);
  }

  bool next(Report &report) {
    return ::read(reports[0], &report, sizeof report) == sizeof report;
  }
  /// The exit status of a rank, or -1 when it does not end.
  int status(std::size_t rank) {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    int status = 0;
    while (::waitpid(children[rank], &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > deadline)
        return -1;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
  }

  std::vector<pid_t> children;

private:
  int work(const TinyRun &run, std::uint64_t rank, std::uint64_t steps,
           const std::string &address) {
    try {
      RankConfig config = run.config;
      config.rank = rank;
      config.steps = steps;
      std::unique_ptr<Device> device = createDevice("cpu");
      std::unique_ptr<Transport> transport = createGlooTransport(
          rank, address, "127.0.0.1",
          {std::chrono::minutes(5), std::chrono::minutes(1), "i0/"});
      RankEvents events;
      events.step = [&](const StepMetrics &metrics) {
        Report report{metrics.step, metrics.loss, peakResident()};
        (void)!::write(reports[1], &report, sizeof report);
      };
      Rank(run.plan, config, *device, *transport, events).run();
      return 0;
    } catch (const PeerError &) {
      return kPeerLost;
    } catch (const std::exception &error) {
      std::fprintf(stderr, "rank %d: %s\n", int(rank), error.what());
      return 1;
    }
  }

  int addresses[2];
  int reports[2];
  pid_t store;
};

TinyModel grid() {
  TinyModel model;
  model.stages = 2;
  model.replicas = 2;
  model.batch = 8;
  return model;
}

// Two stages of two replicas, four processes: the same losses as plain loops.
TEST(Process, TrainsOverGloo) {
  TinyRun run(grid());
  std::vector<double> expected = run.reference(10);
  Processes processes(run, 10);
  for (std::uint64_t step = 0; step < 10; ++step) {
    Report report;
    ASSERT_TRUE(processes.next(report));
    EXPECT_EQ(report.step, step);
    EXPECT_NEAR(report.loss, expected[step], 1e-5 * expected[step]);
  }
  for (std::size_t rank = 0; rank < 4; ++rank)
    EXPECT_EQ(processes.status(rank), 0) << rank;
}

// Whichever rank is killed, the others end by themselves.
TEST(Process, EndsWhenARankIsKilled) {
  for (std::size_t victim : {0u, 3u}) {
    TinyRun run(grid());
    Processes processes(run, 1000000000);
    Report report;
    ASSERT_TRUE(processes.next(report));
    ::kill(processes.children[victim], SIGKILL);
    while (processes.next(report)) {
    }
    for (std::size_t rank = 0; rank < 4; ++rank)
      EXPECT_EQ(processes.status(rank),
                rank == victim ? 256 + SIGKILL : kPeerLost)
          << "rank " << rank << " of victim " << victim;
  }
}

// A whole process with libraries, threads and buffers: its peak is the planned
// arena and less than the stated constant.
TEST(Process, StaysWithinThePlannedMemory) {
  TinyModel model;
  model.stages = 2;
  model.vocabulary = 4096;
  model.tokens = 64;
  model.batch = 2;
  TinyRun run(model);
  std::uint64_t inherited = peakResident(); // the weights the test made
  Processes processes(run, 2);
  Report report{};
  while (processes.next(report)) {
  }
  ASSERT_EQ(processes.status(1), 0);
  std::uint64_t planned = run.plan.programs(1).arena_bytes();
  std::cout << "planned " << (planned >> 20) << " MiB, resident "
            << (report.resident >> 20) << " MiB, of which inherited at most "
            << (inherited >> 20) << " MiB\n";
  EXPECT_LE(report.resident, planned + kMemoryBeyondArena);
}

} // namespace
