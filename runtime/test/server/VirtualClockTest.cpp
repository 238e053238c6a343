//===- VirtualClockTest.cpp - the server in a bad network -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Ranks of random layouts talk to the state machine through a network that
// loses, doubles, delays and reorders requests and answers, and islands restart
// in the middle of a push. Time is a number. Whatever happens, every version
// must be, to the bit, the one of a run without any fault.
//
//===----------------------------------------------------------------------===//

#include "Outer.h"

#include <queue>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

struct Message {
  double at = 0;
  std::uint64_t number = 0; // equal times: first sent, first there
  std::uint32_t sender = 0; // index into ranks
  std::uint64_t round = 0;
  bool answer = false;
  PushResult result; // of an answer
  RankPart part;     // of a request

  bool operator>(const Message &other) const {
    return std::pair(at, number) > std::pair(other.at, other.number);
  }
};

/// One rank: sends its part of the open round again and again until an answer
/// says that it is in, then waits for the round to close.
struct Rank {
  std::uint32_t island = 0;
  std::uint32_t number = 0;
  std::uint64_t incarnation = 0;
  std::uint64_t round = 0;
  bool acknowledged = false;
};

class World {
public:
  World(unsigned seed, bool faults)
      : random(seed), config(randomConfig(random)), faults(faults),
        state(config), network(seed * 7919 + 1) {
    Tensors first = randomTensors(config, random, 1);
    pushStart(state, config, first, nullptr, 0, random);
    // What is pushed depends on the seed alone, never on the network.
    for (std::uint64_t round = 0; round < kRounds; ++round)
      for (std::uint32_t i = 0; i < config.islands; ++i) {
        IslandPush push = randomPush(config, i, round, random);
        parts.push_back(cut(push, config, 1 + (seed + i) % 3, seed * 7 + i));
      }
    for (std::uint32_t i = 0; i < config.islands; ++i)
      for (std::uint32_t r = 0; r < 3; ++r)
        ranks.push_back({i, r});
  }

  static constexpr std::uint64_t kRounds = 5;

  void run(std::vector<std::string> &hashes) {
    double now = 0;
    std::uint64_t events = 0;
    for (int turn = 0; state.current(0)->number < kRounds; ++turn) {
      ASSERT_LT(turn, 100000) << "no progress";
      // Everybody who is not done sends (again).
      for (std::uint32_t i = 0; i < ranks.size(); ++i)
        sendPart(i, now);
      now += 1;
      if (faults && network() % 12 == 0)
        restart(network() % config.islands);
      while (!wire.empty() && wire.top().at <= now) {
        Message message = wire.top();
        wire.pop();
        if (message.answer) {
          Rank &rank = ranks[message.sender];
          if (rank.round == message.round)
            rank.acknowledged = true;
          continue;
        }
        auto before = state.current(0);
        Pushed result =
            pushNow(state, message.part.part, message.part.data, message.at);
        bool fine = result.outcome == Outcome::Accepted ||
                    result.outcome == Outcome::Repeated ||
                    (faults && result.outcome == Outcome::OldIncarnation);
        ASSERT_TRUE(fine) << name(result.outcome) << ": " << result.message;
        if (result.event) {
          ++events;
          ASSERT_EQ(result.event->version, before->number + 1);
          ASSERT_EQ(result.event->members.size(), config.islands);
          hashes.push_back(result.event->hash);
          // A round's parts that come later must be recognised, so ranks go on
          // at once, while old messages are still on their way.
          for (Rank &rank : ranks) {
            rank.round = result.event->version;
            rank.acknowledged = false;
          }
        } else {
          ASSERT_EQ(state.current(0), before) << "changed without an event";
        }
        if (result.outcome != Outcome::OldIncarnation)
          answer(message, now);
      }
    }
    ASSERT_EQ(events, kRounds);
  }

private:
  const RankPart *partOf(const Rank &rank) const {
    const auto &list = parts[rank.round * config.islands + rank.island];
    for (const RankPart &part : list)
      if (part.part.rank == rank.number)
        return &part;
    return nullptr; // owns nothing in this round's layout
  }

  void sendPart(std::uint32_t sender, double now) {
    Rank &rank = ranks[sender];
    if (rank.acknowledged || rank.round >= kRounds)
      return;
    const RankPart *part = partOf(rank);
    if (!part)
      return;
    int copies = faults ? static_cast<int>(network() % 3) : 1; // lost, doubled
    for (int c = 0; c < copies; ++c) {
      Message message;
      message.at = now + delay();
      message.number = count++;
      message.sender = sender;
      message.round = rank.round;
      message.part = *part;
      message.part.part.incarnation = rank.incarnation;
      wire.push(std::move(message));
    }
  }

  void answer(const Message &request, double now) {
    if (faults && network() % 3 == 0)
      return; // lost
    Message message;
    message.at = now + delay();
    message.number = count++;
    message.sender = request.sender;
    message.round = request.round;
    message.answer = true;
    // An answer to an earlier incarnation does not reach the new one.
    if (request.part.part.incarnation == ranks[request.sender].incarnation)
      wire.push(std::move(message));
  }

  /// All ranks of an island start anew and push the open round once more.
  void restart(std::uint32_t island) {
    std::vector<Message> kept;
    for (; !wire.empty(); wire.pop())
      if (!wire.top().answer || ranks[wire.top().sender].island != island)
        kept.push_back(wire.top());
    for (Message &message : kept)
      wire.push(std::move(message));
    for (Rank &rank : ranks)
      if (rank.island == island) {
        ++rank.incarnation;
        rank.acknowledged = false;
      }
  }

  double delay() {
    return faults ? static_cast<double>(network() % 400) / 100 : 0.01;
  }

  std::mt19937 random;
  OuterConfig config;
  bool faults;
  OuterState state;
  std::mt19937 network;
  std::vector<std::vector<RankPart>> parts; // by round, then island
  std::vector<Rank> ranks;
  std::priority_queue<Message, std::vector<Message>, std::greater<>> wire;
  std::uint64_t count = 0;
};

/// No push counts twice and none is forgotten: with faults or without, every
/// version has the same hash.
TEST(VirtualClock, FaultsNeverChangeAVersion) {
  for (unsigned seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::vector<std::string> clean, faulty;
    ASSERT_NO_FATAL_FAILURE(World(seed, false).run(clean));
    ASSERT_NO_FATAL_FAILURE(World(seed, true).run(faulty));
    ASSERT_EQ(clean.size(), World::kRounds);
    ASSERT_EQ(clean, faulty);
  }
}

} // namespace
