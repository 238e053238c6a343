//===- ProcessTest.cpp - ranks as processes over Gloo ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Resident.h"
#include "TinyRun.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/StoreServer.h"
#include "tombolo/runtime/plan/Layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <functional>
#include <sys/resource.h>
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
  /// In each rank's process, before it is made.
  using Adapt = std::function<void(RankConfig &, RankEvents &)>;

  Processes(const TinyRun &run, std::uint64_t steps, const Adapt &adapt = {}) {
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
        ::_exit(work(run, rank, steps, address, adapt));
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
           const std::string &address, const Adapt &adapt) {
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
      if (adapt)
        adapt(config, events);
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

// A rank that is killed before its shard is durable: the generation never comes
// to be, and the run goes on from the one before as if nothing had been.
TEST(Process, FallsBackOnTheLastWholeGeneration) {
  for (std::uint64_t victim : {0u, 3u}) {
    TinyRun run(grid());
    std::string saved = run.folder / "c";
    std::vector<double> losses;
    auto take = [&](Processes &processes) {
      for (Report report; processes.next(report);) {
        losses.resize(std::max<std::size_t>(losses.size(), report.step + 1));
        losses[report.step] = report.loss;
      }
    };
    auto saving = [&](RankConfig &config, RankEvents &) {
      config.checkpointDir = saved;
      config.checkpointEvery = 3;
      config.resume = !losses.empty();
    };
    {
      Processes processes(run, 10, [&](RankConfig &config, RankEvents &events) {
        saving(config, events);
        events.writing = [rank = config.rank, victim](std::uint64_t step) {
          if (rank == victim && step == 6)
            ::raise(SIGKILL);
        };
      });
      take(processes);
      for (std::size_t rank = 0; rank < 4; ++rank)
        EXPECT_EQ(processes.status(rank),
                  rank == victim ? 256 + SIGKILL : kPeerLost);
    }
    EXPECT_EQ(latestCheckpoint(saved, 0), checkpointFolder(saved, 0, 3));
    ASSERT_LT(losses.size(), 10u);
    discardUnfinished(saved, 0); // as an agent does
    Processes processes(run, 10, saving);
    take(processes);
    for (std::size_t rank = 0; rank < 4; ++rank)
      EXPECT_EQ(processes.status(rank), 0);
    std::vector<double> expected = run.reference(10);
    ASSERT_EQ(losses.size(), 10u);
    for (std::size_t step = 0; step < 10; ++step)
      EXPECT_NEAR(losses[step], expected[step], 1e-5 * expected[step]);
    EXPECT_EQ(latestCheckpoint(saved, 0), checkpointFolder(saved, 0, 10));
  }
}

// A disk that is full for a while (here: a limit on the size of files): what
// was whole stays, training goes on, and later generations are written.
TEST(Process, TrainsOnWhileTheDiskIsFull) {
  TinyRun run(grid());
  std::string saved = run.folder / "c";
  Processes processes(run, 8, [&](RankConfig &config, RankEvents &events) {
    config.checkpointDir = saved;
    config.checkpointEvery = 2;
    std::signal(SIGXFSZ, SIG_IGN);
    events.writing = [](std::uint64_t step) {
      rlimit limit{};
      ::getrlimit(RLIMIT_FSIZE, &limit);
      limit.rlim_cur = step == 4 ? 100 : limit.rlim_max;
      ::setrlimit(RLIMIT_FSIZE, &limit);
    };
    events.checkpoint = [saved,
                         failed = false](const CheckpointNews &news) mutable {
      bool isFull = news.kind == CheckpointNews::Kind::Failed;
      failed |= isFull;
      if (isFull != (news.step == 4) ||
          (isFull && news.message.find("cannot write: File too large") ==
                         std::string::npos) ||
          (news.step == 8 && !failed))
        throw Error("unexpected: ", news.message);
      if (isFull && latestCheckpoint(saved, 0) != checkpointFolder(saved, 0, 2))
        throw Error("the one before is gone");
    };
  });
  std::size_t steps = 0;
  for (Report report; processes.next(report);)
    ++steps;
  EXPECT_EQ(steps, 8u);
  for (std::size_t rank = 0; rank < 4; ++rank)
    EXPECT_EQ(processes.status(rank), 0) << rank;
  EXPECT_EQ(latestCheckpoint(saved, 0), checkpointFolder(saved, 0, 8));
  EXPECT_NO_THROW(Checkpoint(checkpointFolder(saved, 0, 6)).check());
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
