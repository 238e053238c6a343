//===- FaultTest.cpp - the server in a bad world --------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// FaultWorld.h says what happens and what holds.
//
//===----------------------------------------------------------------------===//

#include "FaultWorld.h"

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

void record(const Faults &faults) {
  auto put = [](const char *name, std::size_t count) {
    testing::Test::RecordProperty(name, static_cast<int>(count));
  };
  put("power losses", faults.powerLosses);
  put("killed servers", faults.kills);
  put("killed islands", faults.islands);
  put("damaged files", faults.damages);
  put("cut lines", faults.cuts);
  put("messages", faults.messages);
  put("removed islands", faults.removals);
  put("primaries", faults.takeOvers);
  EXPECT_GT(faults.powerLosses, 100u);
  EXPECT_GT(faults.kills, 100u);
  EXPECT_GT(faults.islands, 100u);
  EXPECT_GT(faults.damages, 20u);
  EXPECT_GT(faults.removals, 100u);
  EXPECT_GT(faults.all(), 10000u);
}

TEST(Faults, LoseNothingAndChangeNothing) {
  Faults faults;
  for (unsigned seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World(seed, faults).run();
    if (HasFatalFailure() || HasNonfatalFailure())
      return;
  }
  record(faults);
}

/// Primary, backup and witness; with two sites the witness's vote counts twice.
TEST(Faults, LoseNothingBetweenPrimaryAndBackup) {
  Faults faults;
  const std::vector<std::vector<std::uint32_t>> votes = {
      {1, 1, 1}, {1, 1, 1, 1}, {2, 1}, {1, 2}, {1, 1, 1, 1, 1}};
  for (unsigned seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World(seed, faults, votes[seed % votes.size()]).run();
    if (HasFatalFailure() || HasNonfatalFailure())
      return;
  }
  record(faults);
  EXPECT_GT(faults.cuts, 100u);
  EXPECT_GT(faults.takeOvers, 300u);
  EXPECT_GT(faults.joins, 300u);
}

/// Whichever site is lost for good, no fragment stands still for more than two
/// rounds, in which messages are lost all the same.
TEST(Faults, TheLossOfASiteStopsNoFragment) {
  Faults faults;
  constexpr double kRoundSeconds = 10;
  double longestOfAll = 0;
  constexpr unsigned kSeeds = 240;
  for (unsigned seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    double longest = 0;
    World(seed, faults, {1, 1, 1}).loseSite(seed % 3, kRoundSeconds, longest);
    if (HasFatalFailure())
      return;
    // One is the round that is trained for.
    EXPECT_LE(longest, 3.1 * kRoundSeconds) << "an eighth of messages is lost";
    longestOfAll = std::max(longestOfAll, longest);
  }
  RecordProperty("longest seconds", std::to_string(longestOfAll));
}

} // namespace
