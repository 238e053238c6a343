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

// Of four processes in a ring one is killed: the other three end by themselves.
TEST(DeadPeer, EndsEveryRank) {
  // The store is a process of its own so that the test forks no thread.
  int address[2], ready[2];
  ASSERT_EQ(::pipe(address), 0);
  ASSERT_EQ(::pipe(ready), 0);
  Children store, ranks;
  store.pids.push_back(::fork());
  if (store.pids[0] == 0) {
    StoreServer server;
    std::string text = server.address() + "\n";
    (void)!::write(address[1], text.data(), text.size());
    for (;;)
      ::pause();
  }
  std::string where;
  for (char c; ::read(address[0], &c, 1) == 1 && c != '\n';)
    where += c;
  std::vector<pid_t> &children = ranks.pids;
  for (std::uint64_t rank = 0; rank < kRanks; ++rank) {
    pid_t child = ::fork();
    if (child == 0)
      reduceForEver(rank, where, ready[1]);
    children.push_back(child);
  }
  ::close(address[1]);
  ::close(ready[1]); // so that a rank that dies does not leave the test waiting
  for (std::uint64_t i = 0; i < kRanks; ++i) {
    char byte;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  }
  ::kill(children[2], SIGKILL);
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  int left = 0;
  for (std::uint64_t rank = 0; rank < kRanks; ++rank) {
    int status = 0;
    pid_t got = 0;
    while ((got = ::waitpid(children[rank], &status, WNOHANG)) == 0 &&
           std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (got == 0) {
      ++left;
      continue;
    }
    children[rank] = 0;
    if (rank != 2) {
      EXPECT_TRUE(WIFEXITED(status));
      EXPECT_EQ(WEXITSTATUS(status), kNoticed) << "rank " << rank;
    }
  }
  EXPECT_EQ(left, 0) << "ranks that hung";
  ::close(address[0]);
  ::close(ready[0]);
}

} // namespace
