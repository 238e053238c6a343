//===- RoundsTest.cpp - who is in a round, and who comes late -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Outer.h"

#include <cmath>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

const std::vector<TensorSlice> kAll = {{"b", {{0, 4, 1, 4}}},
                                       {"w", {{0, 12, 1, 12}}}};
const std::vector<float> kOnes(16, 1.0f);

OuterConfig configOf(std::uint32_t islands, std::uint32_t quorum) {
  OuterConfig config;
  config.islands = islands;
  config.quorum = quorum;
  config.deadlineSeconds = 10;
  config.livenessSeconds = 4;
  config.startSeconds = 100;
  config.tensors = {{"w", 12, 0}, {"b", 4, 0}};
  return config;
}

PushPart deltaPart(std::uint32_t island, std::uint64_t round) {
  PushPart part;
  part.island = island;
  part.round = part.baseVersion = round;
  part.tokens = 100;
  part.innerSteps = 5;
  part.step = 5 * (round + 1);
  part.slices = kAll;
  return part;
}

class Rounds : public testing::Test {
protected:
  void begin(std::uint32_t islands, std::uint32_t quorum) {
    state = std::make_unique<OuterState>(configOf(islands, quorum));
    PushPart part;
    part.content = PushContent::StartParameters;
    part.slices = kAll;
    pushNow(*state, part, std::vector<float>(16), now);
    for (std::uint32_t i = 0; i < islands; ++i)
      state->heard(i, 0, false, now);
  }
  Outcome push(std::uint32_t island, std::uint64_t round, float value = 1) {
    return pushNow(*state, deltaPart(island, round),
                   std::vector<float>(16, value), now)
        .outcome;
  }
  /// Lets time pass; `alive` islands are heard of.
  void pass(double seconds, std::vector<std::uint32_t> alive) {
    for (double end = now + seconds; now < end;) {
      now = std::min(end, now + 0.5);
      for (std::uint32_t island : alive)
        state->heard(island, incarnation, false, now);
      for (auto &closing : state->tick(now))
        events.push_back(publishNow(*state, *closing));
    }
  }
  std::uint64_t version() const { return state->current(0)->number; }

  std::unique_ptr<OuterState> state;
  double now = 0;
  std::uint64_t incarnation = 0;
  std::vector<OuterEvent> events;
};

using Members = std::vector<std::uint32_t>;

/// All live islands have committed: the round closes at once.
TEST_F(Rounds, DoNotWaitForALostIsland) {
  begin(3, 1);
  pass(5, {0, 1}); // island 2 is silent for longer than 4 s
  EXPECT_FALSE(state->isLive(2, now));
  push(0, 0);
  EXPECT_EQ(version(), 0u);
  push(1, 0);
  EXPECT_EQ(version(), 1u);
}

/// An island that dies while the others wait for it is dropped when it has been
/// silent for long enough.
TEST_F(Rounds, DropAnIslandThatDies) {
  begin(2, 1);
  push(0, 0);
  pass(3.9, {0});
  EXPECT_EQ(version(), 0u);
  pass(1, {0});
  EXPECT_EQ(version(), 1u);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].members, Members{0});
}

/// An operator takes an island out: the others do not wait for it, and all of
/// its ranks are told so of its next push, also when it has been let in again
/// meanwhile. Then it joins like one that was lost.
TEST_F(Rounds, DoNotWaitForARemovedIsland) {
  begin(3, 2);
  push(0, 0);
  push(1, 0);
  EXPECT_EQ(version(), 0u);
  state->setMembership({{false, false, true}, 2});
  pass(0.5, {0, 1, 2});
  EXPECT_EQ(version(), 1u);
  EXPECT_FALSE(state->isLive(2, now));
  EXPECT_EQ(push(2, 0), Outcome::ClosedRound);
  Receipt receipt = state->receipt(0, 2, 0, 5);
  EXPECT_EQ(receipt.kind, Receipt::Kind::Removed);
  EXPECT_TRUE(receipt.fresh);
  EXPECT_EQ(push(2, 1), Outcome::Removed);
  receipt = state->receipt(0, 2, 1, 10);
  EXPECT_EQ(receipt.kind, Receipt::Kind::Removed);
  EXPECT_EQ(state->join(0, 2, 1).kind, Receipt::Kind::Removed);
  // Of no push: what is asked for is the newest version alone.
  EXPECT_EQ(state->receipt(0, 2, ~0ull, 0).kind, Receipt::Kind::Open);

  state->setMembership({{false, false, false}, 2});
  EXPECT_EQ(push(2, 1), Outcome::Removed);
  receipt = state->receipt(0, 2, 1, 10);
  EXPECT_EQ(receipt.kind, Receipt::Kind::Removed);
  EXPECT_FALSE(receipt.fresh);
  state->heard(2, 1, false, now);
  EXPECT_EQ(state->join(0, 2, 1).kind, Receipt::Kind::Late);
  push(0, 1);
  push(1, 1);
  pass(0.5, {0, 1, 2});
  EXPECT_EQ(version(), 1u) << "it is waited for again";
  PushPart part = deltaPart(2, 1);
  part.incarnation = 1;
  pushNow(*state, part, kOnes, now);
  EXPECT_EQ(version(), 2u);
}

/// What was committed before counts, and is told so.
TEST_F(Rounds, TakeInWhatARemovedIslandHasCommitted) {
  begin(2, 1);
  push(1, 0);
  state->setMembership({{false, true}, 1});
  EXPECT_EQ(state->receipt(0, 1, 0, 5).kind, Receipt::Kind::Open);
  EXPECT_EQ(push(1, 0), Outcome::Repeated);
  push(0, 0);
  EXPECT_EQ(version(), 1u);
  EXPECT_EQ(state->receipt(0, 1, 0, 5).kind, Receipt::Kind::Member);
  // Half of a push does not.
  EXPECT_EQ(push(1, 1), Outcome::Removed);
  EXPECT_EQ(state->receipt(0, 1, 1, 10).kind, Receipt::Kind::Removed);
  push(0, 1);
  EXPECT_EQ(version(), 2u);
  // The job ends without it.
  state->heard(0, 0, /*left=*/true, now);
  state->heard(1, 0, /*left=*/false, now);
  EXPECT_TRUE(state->isFinished(now));
}

/// Somebody has to be left, as many as a round needs.
TEST_F(Rounds, CannotBeLeftByAll) {
  state = std::make_unique<OuterState>(configOf(3, 2));
  EXPECT_EQ(state->objection({{false, false, true}, 2}),
            "the run has no first version yet");
  begin(3, 2);
  EXPECT_EQ(state->objection({{false, false, true}, 2}), "");
  EXPECT_EQ(state->objection({{false, true, true}, 2}),
            "a round needs 2 islands (the quorum), and there would be 1; set "
            "another with --quorum");
  EXPECT_EQ(state->objection({{false, true, true}, 1}), "");
  EXPECT_EQ(state->objection({{true, true, true}, 1}),
            "no island would be left; end the run with SIGTERM instead");
  // A round that waits for more than are wanted now closes.
  push(0, 0);
  pass(20, {0, 1, 2});
  EXPECT_EQ(version(), 0u);
  state->setMembership({{false, true, true}, 1});
  pass(0.5, {0});
  EXPECT_EQ(version(), 1u);
}

/// A slow island holds the others for deadline_seconds after the first commit.
TEST_F(Rounds, CloseAtTheDeadlineWithoutASlowIsland) {
  begin(3, 2);
  push(1, 0);
  pass(20, {0, 1, 2}); // one of two that the quorum asks for
  EXPECT_EQ(version(), 0u);
  push(2, 0);
  pass(0.5, {0, 1, 2}); // the deadline has passed already
  EXPECT_EQ(version(), 1u);
  push(1, 1);
  push(2, 1);
  pass(9, {0, 1, 2});
  EXPECT_EQ(version(), 1u);
  pass(1.5, {0, 1, 2});
  EXPECT_EQ(version(), 2u);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].members, (Members{1, 2}));
}

/// Without a quorum a round stays open, however long.
TEST_F(Rounds, StayOpenWithoutAQuorum) {
  begin(2, 2);
  push(0, 0);
  pass(1000, {0});
  EXPECT_EQ(version(), 0u);
  push(1, 0);
  EXPECT_EQ(version(), 1u);
}

/// A late island learns of it, all of its ranks go on from the same version
/// even when another one has been published meanwhile, and its next push
/// counts.
TEST_F(Rounds, ALateIslandGoesOnFromOneVersion) {
  begin(2, 1);
  push(0, 0);
  pass(11, {0, 1});
  push(0, 1);
  pass(11, {0, 1});
  ASSERT_EQ(version(), 2u);
  EXPECT_EQ(push(1, 0), Outcome::ClosedRound);
  Receipt first = state->receipt(0, 1, 0, 5);
  EXPECT_EQ(first.kind, Receipt::Kind::Late);
  EXPECT_EQ(first.version, 2u);
  push(0, 2);
  pass(11, {0, 1});
  ASSERT_EQ(version(), 3u);
  Receipt second = state->receipt(0, 1, 0, 5);
  EXPECT_EQ(second.version, 2u);
  EXPECT_NE(state->version(0, 2), nullptr);
  EXPECT_EQ(push(1, 2), Outcome::ClosedRound);
  EXPECT_EQ(state->receipt(0, 1, 2, 15).version, 3u);
  EXPECT_EQ(state->version(0, 2), nullptr); // nobody needs it any more
  EXPECT_EQ(push(1, 3), Outcome::Accepted);
  push(0, 3);
  EXPECT_EQ(state->receipt(0, 1, 3, 20).kind, Receipt::Kind::Member);
}

/// A part of a push that came in time does not make its island a member.
TEST_F(Rounds, APushInPartsIsAllOrNothing) {
  begin(2, 1);
  PushPart half = deltaPart(1, 0);
  half.slices = {kAll[0]};
  pushNow(*state, half, std::vector<float>(4, 1e3f), now);
  push(0, 0);
  pass(11, {0, 1});
  ASSERT_EQ(version(), 1u);
  EXPECT_EQ(state->receipt(0, 1, 0, 5).kind, Receipt::Kind::Late);
  half.slices = {kAll[1]};
  half.rank = 1;
  EXPECT_EQ(pushNow(*state, half, std::vector<float>(12, 1e3f), now).outcome,
            Outcome::ClosedRound);
  EXPECT_LT(std::fabs(state->current(0)->parameters[0]), 10);
}

/// Each element has one owner while an incarnation of its island lives: who has
/// pushed it first. What others push of it counts for nothing, whoever comes
/// first in a round.
TEST_F(Rounds, ARankPushesWhatItOwnsAlone) {
  begin(1, 1);
  const TensorSlice b = kAll[0], w = kAll[1];
  auto push = [&](std::uint64_t round, std::uint32_t rank,
                  std::vector<TensorSlice> slices,
                  std::uint64_t incarnation = 0) {
    PushPart part = deltaPart(0, round);
    part.rank = rank;
    part.slices = std::move(slices);
    part.incarnation = incarnation;
    std::size_t elements = 0;
    for (const TensorSlice &slice : part.slices)
      elements += slice.ranges[0].length;
    // Nothing of it need be sent to be refused.
    Outcome admitted = state->admit(part).outcome;
    Outcome outcome =
        pushNow(*state, part, std::vector<float>(elements, 1.0f), now).outcome;
    EXPECT_EQ(admitted, outcome);
    return outcome;
  };
  EXPECT_EQ(push(0, 0, {b}), Outcome::Accepted);
  EXPECT_EQ(push(0, 1, {w}), Outcome::Accepted);
  ASSERT_EQ(version(), 1u);
  auto before = state->current(0);
  EXPECT_EQ(push(1, 0, {w}), Outcome::Inconsistent) << "another's alone";
  EXPECT_EQ(push(1, 0, {b, w}), Outcome::Inconsistent) << "and its own";
  EXPECT_EQ(push(1, 1, {{"w", {{0, 6, 1, 6}}}}), Outcome::Inconsistent);
  EXPECT_EQ(push(1, 2, {b}), Outcome::Overlap) << "who owns nothing";
  EXPECT_EQ(state->current(0), before);
  EXPECT_EQ(push(1, 1, {w}), Outcome::Accepted);
  EXPECT_EQ(push(1, 0, {b}), Outcome::Accepted);
  ASSERT_EQ(version(), 2u);
  // Started again the island may be laid out in another way.
  state->join(0, 0, 1);
  EXPECT_EQ(push(2, 2, {b, w}, 1), Outcome::Accepted);
  ASSERT_EQ(version(), 3u);
  EXPECT_EQ(push(3, 0, {b}, 1), Outcome::Overlap);
  EXPECT_EQ(push(3, 2, {b, w}, 1), Outcome::Accepted);
}

/// Also what a rank has pushed for a round that closed without its island.
TEST_F(Rounds, ALatePushHasOwnersToo) {
  begin(2, 1);
  PushPart half = deltaPart(1, 0);
  half.slices = {kAll[0]};
  pushNow(*state, half, std::vector<float>(4, 1), now);
  push(0, 0);
  pass(11, {0, 1});
  ASSERT_EQ(version(), 1u);
  PushPart other = deltaPart(1, 1);
  other.rank = 1;
  EXPECT_EQ(pushNow(*state, other, kOnes, now).outcome, Outcome::Overlap);
  other.slices = {kAll[1]};
  EXPECT_EQ(pushNow(*state, other, std::vector<float>(12, 1), now).outcome,
            Outcome::Accepted);
}

/// What is not finite is refused for good, for all ranks of the island, and
/// holds nobody up; the island's next push counts again.
TEST_F(Rounds, ForgetAPushThatIsNotFinite) {
  begin(2, 1);
  PushPart half = deltaPart(1, 0);
  half.slices = {kAll[0]};
  pushNow(*state, half, std::vector<float>(4, 1), now);
  PushPart other = half;
  other.rank = 1;
  other.slices = {kAll[1]};
  Pushed refused = pushNow(*state, other, std::vector<float>(12, NAN), now);
  EXPECT_EQ(refused.outcome, Outcome::NotFinite);
  EXPECT_TRUE(refused.discarded);
  EXPECT_EQ(pushNow(*state, half, std::vector<float>(4, 1), now).outcome,
            Outcome::NotFinite);
  EXPECT_EQ(state->receipt(0, 1, 0, 5).kind, Receipt::Kind::Discarded);
  EXPECT_EQ(state->receipt(0, 1, 0, 5).version, 0u);
  push(0, 0);
  EXPECT_EQ(version(), 1u); // without waiting
  for (PushPart part : {half, other}) {
    part.round = part.baseVersion = 1;
    part.step = 10;
    std::vector<float> ones(part.rank == 0 ? 4 : 12, 1);
    EXPECT_EQ(pushNow(*state, part, ones, now).outcome, Outcome::Accepted);
  }
  EXPECT_EQ(push(0, 1), Outcome::Accepted);
  EXPECT_EQ(version(), 2u);
}

/// Also where no other island would close the round.
TEST_F(Rounds, ALoneIslandMayPushAgainAfterARefusal) {
  begin(1, 1);
  EXPECT_EQ(push(0, 0, 1e7f), Outcome::NotFinite);
  EXPECT_EQ(push(0, 0), Outcome::NotFinite); // the same push
  EXPECT_EQ(state->receipt(0, 0, 0, 5).kind, Receipt::Kind::Discarded);
  PushPart next = deltaPart(0, 0);
  next.step = 10;
  EXPECT_EQ(pushNow(*state, next, kOnes, now).outcome, Outcome::Accepted);
  EXPECT_EQ(version(), 1u);
}

/// An island that comes back gets one version for all of its ranks, and what
/// its old ranks had pushed in part goes.
TEST_F(Rounds, AnIslandThatComesBackJoins) {
  begin(2, 1);
  PushPart half = deltaPart(1, 0);
  half.slices = {kAll[0]};
  pushNow(*state, half, std::vector<float>(4, 1), now);
  push(0, 0);
  pass(5, {0});
  ASSERT_EQ(version(), 1u);
  state->heard(1, 1, false, now);
  EXPECT_EQ(state->join(0, 1, 1).version, 1u);
  push(0, 1);
  pass(11, {0});
  ASSERT_EQ(version(), 2u);
  EXPECT_EQ(state->join(0, 1, 1).version, 1u); // another rank of it
  EXPECT_EQ(state->join(0, 1, 0).kind, Receipt::Kind::Open); // an old rank
  EXPECT_NE(state->version(0, 1), nullptr);
  PushPart late = deltaPart(1, 1);
  late.incarnation = 1;
  EXPECT_EQ(pushNow(*state, late, kOnes, now).outcome, Outcome::ClosedRound);
}

/// It also learns after which step it last pushed what counts. The number of the
/// round does not tell: who was late has missed one.
TEST_F(Rounds, AnIslandThatComesBackLearnsWhichOfItsStepsCount) {
  begin(2, 1);
  push(0, 0);
  pass(11, {0, 1});
  ASSERT_EQ(version(), 1u);
  EXPECT_EQ(state->join(0, 1, 0).countedSteps, 0u);
  PushPart late = deltaPart(1, 1);
  late.step = 12;
  EXPECT_EQ(pushNow(*state, late, kOnes, now).outcome, Outcome::Accepted);
  push(0, 1);
  ASSERT_EQ(version(), 2u);
  Receipt receipt = state->join(0, 1, 1);
  EXPECT_EQ(receipt.counted, 2u);
  EXPECT_EQ(receipt.countedSteps, 12u);
  // One of the open round counts too when it is whole.
  PushPart open = deltaPart(1, 2);
  open.incarnation = 1;
  open.step = 17;
  EXPECT_EQ(pushNow(*state, open, kOnes, now).outcome, Outcome::Accepted);
  EXPECT_EQ(state->join(0, 1, 2).countedSteps, 17u);
  EXPECT_EQ(state->join(0, 1, 2).countedSteps, 17u); // another rank of it
}

/// Who has done all of its steps is not waited for; the run is finished when
/// nobody trains and nothing is open.
TEST_F(Rounds, EndWhenAllHaveLeft) {
  begin(2, 1);
  push(0, 0);
  state->heard(0, 0, /*left=*/true, now);
  state->heard(0, 0, /*left=*/false, now); // late news
  EXPECT_FALSE(state->isFinished(now));
  push(1, 0);
  push(1, 1);
  EXPECT_EQ(version(), 2u);
  EXPECT_FALSE(state->isFinished(now));
  state->heard(1, 0, true, now);
  EXPECT_TRUE(state->isFinished(now));
  state->heard(1, 1, false, now); // started again
  EXPECT_FALSE(state->isFinished(now));
}

/// Nobody needs a server when each island has said so, or is silent.
TEST_F(Rounds, KnowWhenNobodyNeedsAServer) {
  begin(2, 1);
  EXPECT_FALSE(state->isDeserted(now));
  state->gone(0, 0);
  state->gone(1, 5); // another life
  EXPECT_FALSE(state->isDeserted(now));
  pass(3, {1});
  EXPECT_FALSE(state->isDeserted(now));
  pass(5, {});
  EXPECT_TRUE(state->isDeserted(now));
  state->heard(0, 0, false, now); // late news
  EXPECT_TRUE(state->isDeserted(now));
  state->heard(0, 1, false, now); // started again
  EXPECT_FALSE(state->isDeserted(now));
}

TEST_F(Rounds, CountTheLivesOfIslands) {
  begin(2, 1);
  EXPECT_EQ(OuterState(state->config()).nextIncarnation(0), 0u);
  EXPECT_EQ(state->nextIncarnation(0), 1u);
  state->heard(1, 4, false, now);
  EXPECT_EQ(state->nextIncarnation(1), 5u);
  state->heard(1, 2, false, now); // of an old life
  EXPECT_EQ(state->nextIncarnation(1), 5u);
}

/// When the server itself has slept, no island is taken for lost.
TEST_F(Rounds, AServerThatSleptBlamesNobody) {
  begin(2, 1);
  pass(1, {0, 1});
  push(0, 0);
  now += 60;
  EXPECT_TRUE(state->tick(now).empty() || now > 10);
  EXPECT_TRUE(state->isLive(1, now));
}

/// An island that was lost with the old primary is silent for as long as the
/// new one has not heard it; one that only the old one heard has time to come.
TEST_F(Rounds, ANewPrimaryKnowsWhomItHasHeard) {
  begin(4, 1);
  pass(10, {0, 1, 2, 3});
  for (std::uint32_t island : {0, 1, 2, 3})
    push(island, 0);
  state->takeOver(now, {{0, now - 0.5}, {1, now - 3.5}, {2, now - 9}});
  for (std::uint32_t island : {0, 1, 2, 3})
    EXPECT_TRUE(state->isLive(island, now));
  pass(1, {0});
  EXPECT_FALSE(state->isLive(1, now)) << "4.5 s after it was heard";
  EXPECT_TRUE(state->isLive(2, now)) << "it has no way to the new one, perhaps";
  EXPECT_TRUE(state->isLive(3, now));
  pass(3.5, {0});
  EXPECT_TRUE(state->isLive(0, now));
  EXPECT_FALSE(state->isLive(2, now) || state->isLive(3, now));
}

/// The state is the start minus the sum of what was published, to the bit,
/// for whoever follows it update by update.
TEST_F(Rounds, UpdatesLeadToEachVersion) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    OuterConfig config = randomConfig(random);
    OuterState server(config);
    Tensors first = randomTensors(config, random, 1);
    pushStart(server, config, first, nullptr, 0, random);
    std::vector<float> followed = server.current(0)->parameters;
    std::vector<OuterTensor> sorted = config.tensors;
    std::sort(sorted.begin(), sorted.end(),
              [](const auto &a, const auto &b) { return a.name < b.name; });
    for (std::uint64_t round = 0; round < 6; ++round) {
      for (std::uint32_t i = 0; i < config.islands; ++i)
        for (const RankPart &part :
             cut(randomPush(config, i, round, random), config, 2, seed + i))
          pushNow(server, part.part, part.data, 0);
      ASSERT_EQ(server.current(0)->number, round + 1);
      std::span<const std::byte> data = server.update(0, round + 1)->data;
      float *at = followed.data();
      for (const OuterTensor &tensor : sorted) {
        std::uint64_t bytes = encodedBytes(config.compression, tensor.elements);
        std::vector<float> q(tensor.elements);
        decode(config.compression, data.first(bytes), q);
        data = data.subspan(bytes);
        for (float x : q)
          *at = *at - x, ++at;
      }
      ASSERT_EQ(std::memcmp(followed.data(),
                            server.current(0)->parameters.data(),
                            4 * followed.size()),
                0);
    }
    EXPECT_EQ(server.update(0, 1), nullptr); // only the newest are kept
  }
}

} // namespace
