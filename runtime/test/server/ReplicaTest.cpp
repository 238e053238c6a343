//===- ReplicaTest.cpp - votes and roles of servers -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Replica.h"
#include "Outer.h"
#include "SimulatedDisk.h"

#include "tombolo/runtime/Error.h"

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
namespace wire = tombolo::server::v1;

namespace {

wire::Grant grant(std::uint64_t epoch, std::uint32_t primary, bool backup,
                  bool first = false) {
  wire::Grant result;
  result.set_epoch(epoch);
  result.set_primary(primary);
  result.set_backup(backup);
  result.set_first(first);
  return result;
}

TEST(Voter, KeepsItsPromises) {
  SimulatedDisk disk(1);
  auto storage = disk.mount();
  {
    Voter voter(*storage, Contract("plan"));
    EXPECT_TRUE(voter.prepare(3, /*first=*/true));
    EXPECT_TRUE(voter.accept(grant(3, 0, false, true)));
    EXPECT_TRUE(voter.prepare(7, false));
    EXPECT_FALSE(voter.prepare(6, false));
    EXPECT_FALSE(voter.accept(grant(6, 0, true)));
  }
  disk.losePower();
  storage = disk.mount();
  Voter again(*storage, Contract("plan"));
  EXPECT_EQ(again.starts(), 2u);
  EXPECT_EQ(again.promised(), 7u);
  EXPECT_EQ(again.accepted().epoch(), 3u);
  EXPECT_FALSE(again.prepare(6, false));
  EXPECT_TRUE(again.accept(grant(7, 1, false)));
  // The run is founded: nobody founds it once more.
  EXPECT_FALSE(again.prepare(9, /*first=*/true));
}

TEST(Voter, DoesNotVoteWhenItHasForgotten) {
  SimulatedDisk disk(1);
  auto storage = disk.mount();
  Voter voter(*storage, Contract("plan"));
  EXPECT_FALSE(voter.prepare(3, /*first=*/false));
  EXPECT_FALSE(voter.accept(grant(3, 1, false)));
  EXPECT_EQ(voter.promised(), 0u);
}

TEST(Voter, RefusesDamageAndOtherPlans) {
  SimulatedDisk disk(1);
  auto storage = disk.mount();
  Voter(*storage, Contract("plan"));
  EXPECT_THROW(Voter(*storage, Contract("another")), Error);
  disk.content("vote")[80] ^= 1;
  EXPECT_THROW(Voter(*storage, Contract("plan")), Error);
}

/// Servers whose messages arrive at once, unless they are held up.
class Replicas : public testing::Test {
protected:
  void SetUp() override {
    config.islands = 1;
    config.tensors.push_back({"w", 10, 0});
    for (std::uint32_t i = 0; i < 3; ++i) {
      disks.push_back(std::make_unique<SimulatedDisk>(i));
      replicas.emplace_back();
      start(i);
    }
  }

  void start(std::uint32_t number) {
    DurableOptions durable;
    durable.contract = Contract("plan");
    ReplicaOptions options;
    options.self = number;
    options.votes = {1, 1, 1};
    replicas[number].reset();
    replicas[number] = std::make_unique<Replica>(config, durable, options,
                                                 disks[number]->mount(), now);
  }

  /// So much time goes by.
  void pass(double seconds) {
    for (double end = now + seconds; now < end; now += 0.25)
      for (std::uint32_t from = 0; from < 3; ++from) {
        if (!replicas[from])
          continue;
        replicas[from]->tick(now);
        std::unique_lock lock(mutex);
        while (replicas[from]->work(lock, now)) {
        }
        for (std::uint32_t to = 0; to < 3; ++to)
          while (to != from) {
            auto message = replicas[from]->next(to, now);
            if (!message)
              break;
            if (replicas[to] && !cut.contains(from) && !cut.contains(to) &&
                !deaf.contains(to))
              replicas[to]->receive(*message, now);
          }
      }
  }

  Replica::Told log(std::uint32_t number) {
    replicas[number]->state().logBarrier();
    Replica::Mark mark = replicas[number]->mark();
    DurableState::sync(mark.log);
    pass(1);
    return replicas[number]->mayTell(mark);
  }

  OuterConfig config;
  std::vector<std::unique_ptr<SimulatedDisk>> disks;
  std::vector<std::unique_ptr<Replica>> replicas;
  std::set<std::uint32_t> cut;  ///< cannot reach anybody
  std::set<std::uint32_t> deaf; ///< hear nobody
  std::mutex mutex;
  double now = 0;
};

TEST_F(Replicas, ThePlansPrimaryBeginsAndTakesItsBackup) {
  pass(3);
  ASSERT_TRUE(replicas[0]->serves(now));
  EXPECT_FALSE(replicas[1]->serves(now));
  EXPECT_TRUE(replicas[0]->newest().backup());
  EXPECT_EQ(log(0), Replica::Told::Yes);
}

TEST_F(Replicas, NobodyBeginsWithoutAll) {
  cut = {2};
  pass(20);
  EXPECT_FALSE(replicas[0]->serves(now));
  EXPECT_FALSE(replicas[1]->serves(now));
}

/// The end comes from who keeps the state, and reaches all, also late.
TEST_F(Replicas, ThePrimaryTellsTheEnd) {
  pass(3);
  wire::PeerMessage message;
  message.set_from(2);
  message.set_epoch(replicas[0]->epoch());
  message.mutable_over();
  replicas[0]->receive(message, now);
  replicas[1]->receive(message, now);
  EXPECT_FALSE(replicas[0]->isOver() || replicas[1]->isOver());
  cut = {2};
  replicas[0]->setOver();
  pass(1);
  EXPECT_TRUE(replicas[1]->isOver());
  EXPECT_FALSE(replicas[2]->isOver());
  cut.clear();
  pass(1);
  EXPECT_TRUE(replicas[2]->isOver());
}

TEST_F(Replicas, AnOldPrimaryTellsNothing) {
  pass(3);
  cut = {0};
  replicas[0]->state().logBarrier();
  Replica::Mark mark = replicas[0]->mark();
  pass(1);
  EXPECT_EQ(replicas[0]->mayTell(mark), Replica::Told::NotYet);
  pass(6);
  EXPECT_FALSE(replicas[0]->serves(now));
  ASSERT_TRUE(replicas[1]->serves(now));
  EXPECT_GT(replicas[1]->epoch(), replicas[0]->epoch());
  EXPECT_EQ(replicas[0]->mayTell(mark), Replica::Told::NotYet);
  EXPECT_EQ(log(1), Replica::Told::Yes);
  cut.clear();
  pass(5);
  EXPECT_EQ(replicas[0]->mayTell(mark), Replica::Told::Never);
  EXPECT_FALSE(replicas[0]->isPrimary());
  EXPECT_TRUE(replicas[1]->newest().backup()) << "the old one is the backup";
}

TEST_F(Replicas, AlonePartitionedFromAllItGoesOnlyWithAGrant) {
  pass(3);
  replicas[1].reset();
  pass(6);
  EXPECT_EQ(log(0), Replica::Told::Yes) << "the witness has granted it";
  cut = {0};
  EXPECT_EQ(log(0), Replica::Told::Yes) << "nobody else can be granted any";
  start(1);
  pass(10);
  EXPECT_FALSE(replicas[1]->serves(now));
}

/// The primary and the witness have made it a member, and the primary is lost
/// before it has heard of that: the witness tells.
TEST_F(Replicas, AMemberThatHasNotHeardOfItDecides) {
  unsigned seen = 0;
  for (int moments = 1; moments < 20; ++moments) {
    deaf.clear();
    for (std::uint32_t i = 0; i < 3; ++i) {
      replicas[i].reset();
      disks[i] = std::make_unique<SimulatedDisk>(i);
    }
    for (std::uint32_t i = 0; i < 3; ++i)
      start(i);
    pass(0.25 * moments);
    deaf = {1};
    pass(1.5);
    std::uint64_t epoch = replicas[0]->epoch();
    if (!replicas[0]->newest().backup() || replicas[1]->epoch() >= epoch)
      continue;
    ++seen;
    replicas[0].reset();
    deaf.clear();
    pass(10);
    ASSERT_TRUE(replicas[1]->serves(now)) << "deaf after " << moments;
    EXPECT_GT(replicas[1]->epoch(), epoch);
  }
  EXPECT_GT(seen, 0u);
}

/// Its own copy may lack what the other has told since.
TEST_F(Replicas, ABackupThatMissedSomethingNeverDecides) {
  pass(3);
  replicas[1].reset();
  pass(6);
  EXPECT_EQ(log(0), Replica::Told::Yes);
  replicas[0].reset();
  start(1);
  pass(30);
  EXPECT_FALSE(replicas[1]->serves(now));
  start(0);
  pass(10);
  EXPECT_TRUE(replicas[0]->serves(now));
  EXPECT_TRUE(replicas[0]->newest().backup());
}

/// What an operator has said of who takes part goes with the state.
TEST_F(Replicas, ABackupKnowsWhoTakesPart) {
  config.islands = 2;
  for (std::uint32_t i = 0; i < 3; ++i) {
    replicas[i].reset();
    disks[i] = std::make_unique<SimulatedDisk>(i);
  }
  for (std::uint32_t i = 0; i < 3; ++i)
    start(i);
  pass(3);
  const Membership without{{false, true}, 1};
  replicas[0]->state().setMembership(without);
  EXPECT_EQ(log(0), Replica::Told::Yes);
  replicas[0].reset();
  pass(10);
  ASSERT_TRUE(replicas[1]->serves(now));
  EXPECT_EQ(replicas[1]->state().state().membership(), without);
  // One that begins with nothing gets it too.
  disks[0] = std::make_unique<SimulatedDisk>(99);
  start(0);
  pass(10);
  ASSERT_TRUE(replicas[1]->newest().backup());
  EXPECT_EQ(replicas[0]->state().state().membership(), without);
}

/// A folder that was lost: the server is a copy again, and votes no more.
TEST_F(Replicas, AnEmptyFolderIsNoVote) {
  pass(3);
  replicas[0].reset();
  disks[0] = std::make_unique<SimulatedDisk>(99);
  start(0);
  pass(10);
  EXPECT_TRUE(replicas[1]->serves(now));
  EXPECT_FALSE(replicas[0]->isPrimary());
  EXPECT_TRUE(replicas[1]->newest().backup());
  replicas[2].reset();
  replicas[1].reset();
  pass(20);
  EXPECT_FALSE(replicas[0]->isPrimary());
}

} // namespace
