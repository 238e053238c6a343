//===- DeadPeerTest.cpp - a killed rank is noticed by all -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/StoreServer.h"
#include "tombolo/runtime/Transport.h"

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <numeric>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace tombolo::runtime;

namespace {

constexpr std::uint64_t kRanks = 4;
constexpr int kNoticed = 42;

/// Sums round after round until it is told of a lost peer.
[[noreturn]] void reduceForEver(std::uint64_t rank, const std::string &store,
                                int ready) {
  try {
    // The timeout is long: what ends the wait must be the dead peer itself.
    auto transport = createGlooTransport(
        rank, store, "127.0.0.1",
        {std::chrono::minutes(5), std::chrono::seconds(30)});
    std::vector<std::uint64_t> ranks(kRanks);
    std::iota(ranks.begin(), ranks.end(), 0);
    auto ring = transport->connect("all", ranks);
    std::vector<float> data(10000);
    for (int round = 0;; ++round) {
      ring->allReduceSum(data);
      char byte = 1;
      if (round == 3)
        (void)!::write(ready, &byte, 1);
    }
  } catch (const PeerError &) {
    ::_exit(kNoticed);
  } catch (...) {
    ::_exit(1);
  }
}

/// Processes that end with the test, however it ends.
struct Children {
  ~Children() {
    for (pid_t child : pids)
      if (child > 0) {
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
      }
  }
  std::vector<pid_t> pids; // 0: has been waited for
};

/// A store in a process of its own, so that the test forks no thread.
class Store {
public:
  Store() {
    int pipe[2];
    EXPECT_EQ(::pipe(pipe), 0);
    process.pids.push_back(::fork());
    if (process.pids[0] == 0) {
      StoreServer server;
      std::string text = server.address() + "\n";
      (void)!::write(pipe[1], text.data(), text.size());
      for (;;)
        ::pause();
    }
    for (char c; ::read(pipe[0], &c, 1) == 1 && c != '\n';)
      address += c;
    ::close(pipe[0]);
    ::close(pipe[1]);
  }
  std::string address;

private:
  Children process;
};

/// The exit status of a child, -1 when it does not end.
int waitFor(pid_t &child) {
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  int status = 0;
  while (::waitpid(child, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline)
      return -1;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  child = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

// Of four processes in a ring one is killed: the other three end by themselves.
TEST(DeadPeer, EndsEveryRank) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  Store store;
  Children ranks;
  std::vector<pid_t> &children = ranks.pids;
  for (std::uint64_t rank = 0; rank < kRanks; ++rank) {
    pid_t child = ::fork();
    if (child == 0)
      reduceForEver(rank, store.address, ready[1]);
    children.push_back(child);
  }
  ::close(ready[1]); // so that a rank that dies does not leave the test waiting
  for (std::uint64_t i = 0; i < kRanks; ++i) {
    char byte;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  }
  ::kill(children[2], SIGKILL);
  for (std::uint64_t rank = 0; rank < kRanks; ++rank)
    EXPECT_EQ(waitFor(children[rank]), rank == 2 ? 256 + SIGKILL : kNoticed)
        << "rank " << rank;
  ::close(ready[0]);
}

/// Sends or receives messages larger than any socket's buffer for ever.
[[noreturn]] void transferForEver(std::uint64_t rank, bool sends,
                                  const std::string &store, int ready) {
  try {
    auto transport = createGlooTransport(
        rank, store, "127.0.0.1",
        {std::chrono::minutes(5), std::chrono::seconds(30)});
    std::vector<std::uint64_t> ranks{0, 1};
    auto pair = transport->connect("pair", ranks);
    std::vector<std::byte> data(64 << 20);
    for (;;) {
      int other = 1 - static_cast<int>(rank);
      if (sends)
        pair->send(other, 0, data);
      else
        pair->receive(other, 0, data);
      char byte = 1;
      (void)!::write(ready, &byte, 1);
    }
  } catch (const PeerError &) {
    ::_exit(kNoticed);
  } catch (...) {
    ::_exit(1);
  }
}

// A message of which a part is on its way ends with the peer: what it waits for
// never comes, and the other side's timeout is long.
TEST(DeadPeer, EndsWhatIsUnderWay) {
  for (bool survivorSends : {true, false}) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    Store store;
    Children ranks;
    for (std::uint64_t rank : {0u, 1u}) {
      pid_t child = ::fork();
      if (child == 0)
        transferForEver(rank, (rank == 0) == survivorSends, store.address,
                        ready[1]);
      ranks.pids.push_back(child);
    }
    ::close(ready[1]);
    char byte;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    // It is hardly ever between two messages. Stopped first: the survivor's
    // message gets stuck where it is.
    ::kill(ranks.pids[1], SIGSTOP);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    ::kill(ranks.pids[1], SIGKILL);
    EXPECT_EQ(waitFor(ranks.pids[0]), kNoticed) << "sends: " << survivorSends;
    EXPECT_EQ(waitFor(ranks.pids[1]), 256 + SIGKILL);
    ::close(ready[0]);
  }
}

} // namespace
