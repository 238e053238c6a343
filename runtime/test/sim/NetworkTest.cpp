//===- NetworkTest.cpp - rates are max-min fair-------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Network.h"

#include <gtest/gtest.h>

#include <cmath>
#include <queue>
#include <random>

using namespace tombolo::runtime::sim;

namespace {

struct Clock {
  struct Later {
    bool operator()(const Network::Timer &a, const Network::Timer &b) const {
      return a.time > b.time;
    }
  };
  std::priority_queue<Network::Timer, std::vector<Network::Timer>, Later> queue;
  Network network{[this](const Network::Timer &timer) { queue.push(timer); }};
  double now = 0;

  /// The flow that completes next, at `now`.
  std::uint32_t next() {
    for (;;) {
      Network::Timer timer = queue.top();
      queue.pop();
      now = timer.time;
      if (network.wake(timer.flow, timer.version, now))
        return timer.flow;
    }
  }
};

TEST(Network, AloneAFlowTakesLatencyAndBytes) {
  Clock clock;
  std::uint32_t line = clock.network.addResource(100);
  Path path{{line, 1}};
  clock.network.start(0, path, 1000, 0.5);
  clock.next();
  EXPECT_DOUBLE_EQ(clock.now, 10.5);
}

// Two share the line; when the smaller has gone the other has it alone.
TEST(Network, FlowsShareALine) {
  Clock clock;
  std::uint32_t line = clock.network.addResource(100);
  Path path{{line, 1}};
  std::uint32_t large = clock.network.start(0, path, 1000, 0);
  std::uint32_t small = clock.network.start(0, path, 100, 0);
  EXPECT_EQ(clock.next(), small);
  EXPECT_DOUBLE_EQ(clock.now, 2);
  EXPECT_EQ(clock.next(), large);
  EXPECT_DOUBLE_EQ(clock.now, 11);
}

// What is still on the way takes nothing of the line any more.
TEST(Network, LatencyDoesNotHoldTheLine) {
  Clock clock;
  std::uint32_t line = clock.network.addResource(100);
  Path path{{line, 1}};
  clock.network.start(0, path, 100, 5);
  std::uint32_t second = clock.network.start(2, path, 100, 0);
  EXPECT_EQ(clock.next(), second);
  EXPECT_DOUBLE_EQ(clock.now, 3);
  clock.next();
  EXPECT_DOUBLE_EQ(clock.now, 6);
}

TEST(Network, ALineThatFailsAndComesBack) {
  Clock clock;
  std::uint32_t line = clock.network.addResource(100);
  Path path{{line, 1}};
  clock.network.start(0, path, 1000, 0);
  clock.network.setCapacity(line, 0, 4);
  clock.network.setCapacity(line, 200, 10);
  clock.next();
  EXPECT_DOUBLE_EQ(clock.now, 13);
}

// Every flow has a full resource where none has more per flow: what makes an
// allocation max-min fair (Bertsekas and Gallager, 6.5.2).
TEST(Network, EachFlowHasItsBottleneck) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    Clock clock;
    std::vector<double> capacity;
    for (int r = 0; r < 5; ++r) {
      capacity.push_back(1 + static_cast<double>(random() % 100));
      clock.network.addResource(capacity.back());
    }
    std::vector<Path> paths(1 + random() % 8);
    for (Path &path : paths)
      for (std::uint32_t r = 0; r < 5; ++r)
        if (random() % 2 || (r == 4 && path.empty()))
          path.push_back({r, 1 + static_cast<double>(random() % 3)});
    for (const Path &path : paths)
      clock.network.start(0, path, 1e9, 0);
    std::vector<double> rates;
    for (std::uint32_t f = 0; f < paths.size(); ++f)
      rates.push_back(clock.network.rate(f));
    for (std::uint32_t f = 0; f < paths.size(); ++f) {
      bool held = false;
      for (const Usage &usage : paths[f]) {
        double used = 0, most = 0;
        for (std::uint32_t g = 0; g < paths.size(); ++g)
          for (const Usage &other : paths[g])
            if (other.resource == usage.resource) {
              used += rates[g] * other.perByte;
              most = std::max(most, rates[g]);
            }
        EXPECT_LE(used, capacity[usage.resource] * (1 + 1e-9));
        held |= used > capacity[usage.resource] * (1 - 1e-9) &&
                most < rates[f] * (1 + 1e-9);
      }
      EXPECT_TRUE(held) << "round " << round << ", flow " << f;
    }
  }
}

} // namespace
