//===- FaultTest.cpp - the server in a bad world --------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The real state machine behind its real log, on a virtual clock. The network
// loses, doubles and reorders requests and answers, islands and servers die at
// any moment, the disk forgets what was not synced, and files are damaged.
// Islands push what their number and the round decide, so every version can be
// computed by the plain reference from its members alone. Then:
//
// - what was acknowledged as committed is a member of its round, once;
// - all ranks of an island are told the same of a push, whatever falls between;
// - a version has the same bits for whoever sees it, before and after a fall,
//   and they are the reference's;
// - every job ends.
//
//===----------------------------------------------------------------------===//

#include "Outer.h"
#include "SimulatedDisk.h"

#include "tombolo/runtime/File.h"
#include "tombolo/runtime/server/DurableState.h"

#include <deque>
#include <queue>
#include <set>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

struct Faults {
  std::size_t messages = 0, islands = 0, powerLosses = 0, kills = 0,
              damages = 0;
  std::size_t all() const {
    return messages + islands + powerLosses + kills + damages;
  }
};

constexpr std::uint64_t kRounds = 6;

OuterConfig faultConfig(std::mt19937 &random) {
  OuterConfig config = randomConfig(random);
  config.islands = 1 + random() % 4;
  config.quorum = 1 + random() % config.islands;
  config.fragments = 1 + random() % 2;
  config.tensors.push_back({"last", 1 + random() % 40, config.fragments - 1});
  for (OuterTensor &tensor : config.tensors) {
    tensor.elements = 1 + tensor.elements % 600;
    if (tensor.name != "last")
      tensor.fragment = random() % config.fragments;
  }
  config.tensors.push_back({"first", 7, 0});
  config.deadlineSeconds = 20;
  config.livenessSeconds = 15;
  return config;
}

/// Each fragment by itself.
OuterConfig fragmentOf(const OuterConfig &config, std::uint32_t fragment) {
  OuterConfig part = config;
  std::erase_if(part.tensors, [&](const OuterTensor &tensor) {
    return tensor.fragment != fragment;
  });
  return part;
}

/// One rank's exchange of one fragment.
struct Client {
  enum class State { Start, Join, Push, Wait, Done };
  State state = State::Join;
  std::uint64_t round = 0;    ///< and version that it has
  std::uint64_t told = 0;     ///< how often it was told where to go on from
  bool pushesAtOnce = false;  ///< its last push was late
};

struct Island {
  std::uint64_t incarnation = 0;
  std::uint32_t ranks = 1;
  std::vector<std::vector<Client>> clients; ///< by rank and fragment
};

struct Request {
  double at = 0;
  std::uint64_t number = 0;
  std::uint32_t island = 0, rank = 0, fragment = 0;
  std::uint64_t incarnation = 0, round = 0;
  Client::State state = Client::State::Join;
  bool answer = false;
  // Of answers.
  PushResult pushed;
  Receipt receipt;

  bool operator>(const Request &other) const {
    return std::pair(at, number) > std::pair(other.at, other.number);
  }
};

class World {
public:
  World(unsigned seed, Faults &faults)
      : faults(faults), random(seed), config(faultConfig(random)),
        disk(seed * 31 + 7) {
    for (std::uint32_t f = 0; f < config.fragments; ++f) {
      OuterConfig part = fragmentOf(config, f);
      first.push_back(randomTensors(part, random, 1));
      references.emplace_back(part);
      Tensors zero;
      for (const OuterTensor &tensor : part.tensors)
        zero[tensor.name].resize(tensor.elements);
      references.back().start(first.back(), zero);
      hashes.emplace_back();
      states.push_back({flat(f)});
      startParts.push_back(cutTensors(first.back(), part, 2, random));
    }
    for (std::uint32_t i = 0; i < config.islands; ++i) {
      Island &island = islands.emplace_back();
      island.ranks = 1 + random() % 2;
      island.clients.assign(island.ranks,
                            std::vector<Client>(config.fragments));
    }
    pushes.resize(config.fragments);
  }

  void run() {
    startServer();
    for (std::uint32_t i = 0; i < config.islands; ++i)
      begin(i);
    std::uint64_t turns = 0;
    while (!allDone()) {
      ASSERT_LT(++turns, 60000u) << "no progress";
      now += 0.25;
      disturb();
      if (random() % 4 == 0)
        sendAll();
      serve([&] { closeSome(); });
      while (!wire.empty() && wire.top().at <= now) {
        Request message = wire.top();
        wire.pop();
        if (message.answer)
          ASSERT_NO_FATAL_FAILURE(answered(message));
        else
          serve([&] { requested(message); });
      }
      if (testing::Test::HasFatalFailure())
        return;
    }
    // Each acknowledged push is in the version of its round.
    for (const auto &[fragment, island, round] : acknowledged)
      EXPECT_TRUE((members[{fragment, round + 1}].contains(island)))
          << "island " << island << " round " << round;
  }

private:
  // ------------------------------------------------------------ the server

  void startServer() {
    DurableOptions options;
    options.planChecksum = "plan";
    options.runId = "run";
    options.snapshotBytes = random() % 2;
    server = std::make_unique<DurableState>(config, options, disk.mount(), now);
    closings.clear();
    for (auto &closing : server->takeUnfinished())
      closings.push_back({closing});
    // Nothing that anybody has seen is gone.
    for (std::uint32_t f = 0; f < config.fragments; ++f) {
      auto newest = server->state().current(f);
      ASSERT_GE(newest ? newest->number + 1 : 0, hashes[f].size())
          << "fragment " << f << " went back";
      if (newest)
        seen(f, newest->number, newest->parameters, newest->hash);
    }
    for (const OuterEvent &event : server->recovered())
      told(event);
  }

  void serverDown() {
    server.reset();
    closings.clear();
    upAgain = now + static_cast<double>(random() % 12);
  }

  template <typename Work> void serve(Work work) {
    if (!server && now < upAgain)
      return;
    try {
      if (!server)
        startServer();
      if (!testing::Test::HasFatalFailure())
        work();
    } catch (const PowerLoss &) {
      ++faults.powerLosses;
      serverDown();
    }
  }

  void disturb() {
    switch (random() % 60) {
    case 0:
      if (server)
        disk.losePowerIn(1 + random() % 30);
      break;
    case 1:
      if (!server)
        break;
      ++faults.kills;
      disk.unplug();
      serverDown();
      break;
    case 2:
      if (!server)
        break;
      ++faults.powerLosses;
      disk.losePower();
      serverDown();
      if (random() % 2)
        damage();
      break;
    case 3:
      ++faults.islands;
      begin(random() % config.islands, /*again=*/true);
      break;
    default:
      break;
    }
  }

  /// Turns a bit of the newest snapshot, when there is another way.
  void damage() {
    std::vector<std::uint64_t> snapshots;
    bool fromNothing = false;
    for (const std::string &name : disk.list()) {
      if (name.starts_with("snapshot-") && !name.ends_with(".tmp"))
        snapshots.push_back(std::stoull(name.substr(9)));
      fromNothing |= name == "log-0";
    }
    if (snapshots.empty() || (snapshots.size() < 2 && !fromNothing))
      return;
    ++faults.damages;
    std::string &content = disk.content(
        "snapshot-" +
        std::to_string(*std::max_element(snapshots.begin(), snapshots.end())));
    if (random() % 2)
      content.resize(random() % content.size());
    else
      content[random() % content.size()] ^= static_cast<char>(1 << random() % 8);
  }

  /// What the server's thread does, in pieces, so that requests come between.
  struct Closing {
    std::shared_ptr<RoundClosing> what;
    bool logged = false;
  };
  void closeSome() {
    for (auto &due : server->tick(now))
      closings.push_back({due});
    if (closings.empty() || random() % 2)
      return;
    Closing &closing = closings.front();
    if (!closing.logged) {
      closing.what->compute();
      server->logVersion(*closing.what);
      closing.logged = true;
      return;
    }
    DurableState::sync(server->mark());
    ASSERT_NO_FATAL_FAILURE(told(closing.what->event()));
    server->publish(*closing.what);
    closings.pop_front();
    if (server->wantsSnapshot()) {
      DurableState::Snapshot snapshot = server->beginSnapshot();
      server->writeSnapshot(snapshot);
    }
  }

  /// A version is there: the reference makes the same of its members.
  void told(const OuterEvent &event) {
    std::uint32_t f = event.fragment;
    std::set<std::uint32_t> who(event.members.begin(), event.members.end());
    ASSERT_EQ(who.size(), event.members.size());
    auto [known, fresh] = members.try_emplace({f, event.version}, who);
    ASSERT_EQ(known->second, who) << "version " << event.version;
    if (fresh && event.kind == OuterEvent::Kind::OuterStep) {
      ASSERT_EQ(event.version, states[f].size());
      std::vector<IslandPush> sum;
      for (std::uint32_t island : who)
        sum.push_back(
            asDecoded(pushOf(f, island, event.round).push,
                      pushOf(f, island, event.round).parts, config.compression));
      references[f].round(sum);
      states[f].push_back(flat(f));
    }
    ASSERT_EQ(event.version + 1, states[f].size());
    if (hashes[f].size() <= event.version)
      hashes[f].resize(event.version + 1);
    std::string &hash = hashes[f][event.version];
    ASSERT_TRUE(hash.empty() || hash == event.hash);
    hash = event.hash;
  }

  void seen(std::uint32_t f, std::uint64_t version,
            const std::vector<float> &parameters, const std::string &hash) {
    // One that was durable and not yet told of: it is told in a moment.
    if (version >= states[f].size())
      return;
    ASSERT_EQ(std::memcmp(parameters.data(), states[f][version].data(),
                          parameters.size() * sizeof(float)),
              0)
        << "fragment " << f << " version " << version;
    if (version < hashes[f].size() && !hashes[f][version].empty())
      ASSERT_EQ(hash, hashes[f][version]);
  }

  std::vector<float> flat(std::uint32_t f) const {
    std::vector<float> all;
    for (const auto &[name, values] : references[f].g) // by name
      all.insert(all.end(), values.begin(), values.end());
    return all;
  }

  // ------------------------------------------------------------ the islands

  struct Pushed {
    IslandPush push;
    std::vector<RankPart> parts;
  };
  const Pushed &pushOf(std::uint32_t f, std::uint32_t island,
                       std::uint64_t round) {
    auto [entry, fresh] = pushes[f].try_emplace({island, round});
    if (fresh) {
      std::mt19937 own(f * 1000 + island * 100 + round);
      OuterConfig part = fragmentOf(config, f);
      Pushed &made = entry->second;
      made.push = randomPush(part, island, round, own);
      made.parts = cut(made.push, part, islands[island].ranks, own);
      for (RankPart &one : made.parts) {
        one.part.fragment = f;
        one.part.step = round + 1;
      }
    }
    return entry->second;
  }

  /// An island is started, or started again: what was under way to it is lost.
  void begin(std::uint32_t number, bool again = false) {
    Island &island = islands[number];
    if (again)
      ++island.incarnation;
    for (auto &rank : island.clients)
      for (Client &client : rank)
        client = {number == 0 ? Client::State::Start : Client::State::Join};
  }

  bool allDone() const {
    for (const Island &island : islands)
      for (const auto &rank : island.clients)
        for (const Client &client : rank)
          if (client.state != Client::State::Done)
            return false;
    return true;
  }

  const RankPart *partOf(const std::vector<RankPart> &parts,
                         std::uint32_t rank) const {
    for (const RankPart &part : parts)
      if (part.part.rank == rank)
        return &part;
    return nullptr;
  }

  void send(Request message) {
    // Lost, once, or twice, after any time.
    std::size_t copies = random() % 8 == 0 ? 0 : random() % 8 == 0 ? 2 : 1;
    faults.messages += copies != 1;
    for (std::size_t c = 0; c < copies; ++c) {
      message.at = now + static_cast<double>(random() % 200) / 100;
      message.number = count++;
      wire.push(message);
    }
  }

  /// Steps are taken by all ranks of an island together. So none is ahead of
  /// another by more than the push that follows a late one at once.
  bool mayGoOn(const Island &island, const Client &client,
               std::uint32_t f) const {
    if (client.state != Client::State::Push &&
        client.state != Client::State::Wait)
      return true;
    if (client.state == Client::State::Push && client.pushesAtOnce)
      return true;
    for (const auto &rank : island.clients)
      if (rank[f].told < client.told)
        return false;
    return true;
  }

  void sendAll() {
    for (std::uint32_t i = 0; i < islands.size(); ++i)
      for (std::uint32_t r = 0; r < islands[i].ranks; ++r)
        for (std::uint32_t f = 0; f < config.fragments; ++f) {
          const Client &client = islands[i].clients[r][f];
          if (!mayGoOn(islands[i], client, f))
            continue;
          Request request;
          request.island = i;
          request.rank = r;
          request.fragment = f;
          request.incarnation = islands[i].incarnation;
          request.round = client.round;
          request.state = client.state;
          send(request);
        }
  }

  void requested(Request request) {
    std::uint32_t f = request.fragment, i = request.island;
    Island &island = islands[i];
    if (request.incarnation < island.incarnation && random() % 2)
      return; // the sender is no more
    switch (request.state) {
    case Client::State::Done:
      server->heard(i, request.incarnation, /*left=*/leaves(i), now);
      return;
    case Client::State::Start:
      // Ranks there may be fewer of than parts; the last one takes the rest.
      for (RankPart &one : startParts[f]) {
        if (std::min(one.part.rank, island.ranks - 1) != request.rank)
          continue;
        PushPart part = one.part;
        part.content = PushContent::StartParameters;
        part.fragment = f;
        part.incarnation = request.incarnation;
        take(server->push(part, encoded(part, Compression::None, one.data),
                          now));
      }
      DurableState::sync(server->mark());
      break;
    case Client::State::Join:
      server->heard(i, request.incarnation, false, now);
      request.receipt = server->join(f, i, request.incarnation);
      break;
    case Client::State::Push: {
      const RankPart *own = partOf(pushOf(f, i, request.round).parts,
                                   request.rank);
      if (!own)
        break; // owns nothing of it
      PushPart part = own->part;
      part.incarnation = request.incarnation;
      request.pushed = take(server->push(
          part, encoded(part, config.compression, own->data), now));
      break;
    }
    case Client::State::Wait:
      server->heard(i, request.incarnation, false, now);
      request.receipt = server->receipt(f, i, request.round, request.round + 1);
      break;
    }
    DurableState::sync(server->mark());
    request.answer = true;
    send(request);
  }

  PushResult take(PushResult result) {
    if (result.closing)
      closings.push_back({result.closing});
    return result;
  }

  void answered(const Request &message) {
    std::uint32_t f = message.fragment, i = message.island;
    if (message.state == Client::State::Push && message.pushed.committed)
      acknowledged.insert({f, i, message.round});
    Island &island = islands[i];
    Client &client = island.clients[message.rank][f];
    if (message.incarnation != island.incarnation ||
        message.state != client.state || message.round != client.round)
      return; // of another time
    switch (client.state) {
    case Client::State::Start:
      client.state = Client::State::Join;
      return;
    case Client::State::Join:
    case Client::State::Wait:
      if (message.receipt.kind == Receipt::Kind::Open)
        return;
      goOn(message, client);
      return;
    case Client::State::Push:
      switch (message.pushed.outcome) {
      case Outcome::Accepted:
      case Outcome::Repeated:
      case Outcome::ClosedRound:
        client.state = Client::State::Wait;
        return;
      case Outcome::Busy:
        return;
      case Outcome::WrongBase:
      default:
        FAIL() << name(message.pushed.outcome) << ": "
               << message.pushed.message;
      }
    case Client::State::Done:
      return;
    }
  }

  /// The same for all ranks of an island.
  void goOn(const Request &message, Client &client) {
    std::uint32_t f = message.fragment, i = message.island;
    bool joins = client.state == Client::State::Join;
    auto [known, fresh] = receipts.try_emplace(
        {f, i, message.incarnation, joins ? ~0ull : message.round},
        std::pair(message.receipt.kind, message.receipt.version));
    ASSERT_EQ(known->second,
              std::pair(message.receipt.kind, message.receipt.version))
        << "ranks of island " << i << " are told different things";
    if (message.receipt.kind == Receipt::Kind::Member)
      ASSERT_TRUE((members[{f, message.receipt.version}].contains(i)));
    if (message.receipt.kind == Receipt::Kind::Late)
      ASSERT_TRUE((joins || !acknowledged.contains({f, i, message.round})));
    ASSERT_LT(message.receipt.version, states[f].size()) << "of no version";
    ASSERT_GE(message.receipt.version, client.round);
    client.pushesAtOnce =
        !joins && message.receipt.kind == Receipt::Kind::Late;
    ++client.told;
    client.round = message.receipt.version;
    client.state = client.round >= kRounds ? Client::State::Done
                                           : Client::State::Push;
  }

  bool leaves(std::uint32_t number) const {
    for (const auto &rank : islands[number].clients)
      for (const Client &client : rank)
        if (client.state != Client::State::Done)
          return false;
    return true;
  }

  Faults &faults;
  std::mt19937 random;
  OuterConfig config;
  SimulatedDisk disk;
  double now = 0, upAgain = 0;
  std::unique_ptr<DurableState> server;
  std::deque<Closing> closings;
  std::vector<Island> islands;
  std::priority_queue<Request, std::vector<Request>, std::greater<>> wire;
  std::uint64_t count = 0;

  // What is known from outside, by fragment.
  std::vector<Tensors> first;
  std::vector<std::vector<RankPart>> startParts;
  std::vector<Reference> references;
  std::vector<std::vector<std::vector<float>>> states; // by version
  std::vector<std::vector<std::string>> hashes;
  std::vector<std::map<std::pair<std::uint32_t, std::uint64_t>, Pushed>> pushes;
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::set<std::uint32_t>>
      members;
  std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint64_t>>
      acknowledged;
  std::map<
      std::tuple<std::uint32_t, std::uint32_t, std::uint64_t, std::uint64_t>,
      std::pair<Receipt::Kind, std::uint64_t>>
      receipts;
};

TEST(Faults, LoseNothingAndChangeNothing) {
  Faults faults;
  for (unsigned seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World(seed, faults).run();
    if (HasFatalFailure() || HasNonfatalFailure())
      return;
  }
  RecordProperty("power losses", static_cast<int>(faults.powerLosses));
  RecordProperty("killed servers", static_cast<int>(faults.kills));
  RecordProperty("killed islands", static_cast<int>(faults.islands));
  RecordProperty("damaged files", static_cast<int>(faults.damages));
  RecordProperty("messages", static_cast<int>(faults.messages));
  EXPECT_GT(faults.powerLosses, 100u);
  EXPECT_GT(faults.kills, 100u);
  EXPECT_GT(faults.islands, 100u);
  EXPECT_GT(faults.damages, 20u);
  EXPECT_GT(faults.all(), 10000u);
}

} // namespace
