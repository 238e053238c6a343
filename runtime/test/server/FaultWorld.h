//===- FaultWorld.h - servers and islands in a bad world --------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The real state machines behind their real logs, on a virtual clock. The
// network loses, doubles and reorders requests and answers, islands and servers
// die at any moment, sites cannot reach one another for a while, disks forget
// what was not synced, files are damaged, and operators take islands out and
// let them in again. Islands push what their number and the round decide, so
// every version can be computed by the plain reference from its members alone.
// Then:
//
// - what was acknowledged as committed is a member of its round, once;
// - all ranks of an island are told the same of a push, whatever falls between;
// - a version has the same bits for whoever sees it, before and after a fall,
//   and they are the reference's;
// - no two servers are primary in one epoch;
// - every job ends.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_SERVER_FAULTWORLD_H
#define TOMBOLO_TEST_SERVER_FAULTWORLD_H

#include "FaultServers.h"
#include "Outer.h"

#include "tombolo/runtime/File.h"

#include <queue>
#include <set>

namespace tombolo::runtime::test {

inline constexpr std::uint64_t kRounds = 6;

inline OuterConfig faultConfig(std::mt19937 &random) {
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
inline OuterConfig fragmentOf(const OuterConfig &config,
                              std::uint32_t fragment) {
  OuterConfig part = config;
  std::erase_if(part.tensors, [&](const OuterTensor &tensor) {
    return tensor.fragment != fragment;
  });
  return part;
}

/// One rank's exchange of one fragment.
struct Client {
  enum class State { Start, Join, Push, Wait, Done, Left };
  State state = State::Join;
  std::uint64_t round = 0;   ///< and version that it has
  std::uint64_t told = 0;    ///< how often it was told where to go on from
  bool pushesAtOnce = false; ///< its last push was late
  double pushSeconds = 0;    ///< when its inner steps are done
};

struct Island {
  std::uint64_t incarnation = 0;
  std::uint32_t ranks = 1;
  std::vector<std::vector<Client>> clients; ///< by rank and fragment
  std::uint32_t server = 0;                 ///< where its ranks look first
  double answerSeconds = 0;                 ///< when it answered last
  bool gone = false;                        ///< with its site
};

struct Request {
  double at = 0;
  std::uint64_t number = 0;
  std::uint32_t server = 0, island = 0, rank = 0, fragment = 0;
  std::uint64_t incarnation = 0, round = 0;
  Client::State state = Client::State::Join;
  bool answer = false;
  // Of answers.
  bool refused = false; ///< by one that is not primary
  PushResult pushed;
  Receipt receipt;

  bool operator>(const Request &other) const {
    return std::pair(at, number) > std::pair(other.at, other.number);
  }
};

class World {
public:
  /// One server, or as many as there are `votes`.
  World(unsigned seed, Faults &faults, std::vector<std::uint32_t> votes = {1})
      : faults(faults), random(seed), config(faultConfig(random)),
        servers(config, std::move(votes), seed, random, faults, now,
                {[this](const OuterEvent &event) { told(event); },
                 [this](std::uint32_t fragment, const Version &version) {
                   seen(fragment, version.number, version.parameters,
                        version.hash);
                 },
                 [this](std::uint32_t fragment) {
                   return hashes[fragment].size();
                 }}) {
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
    for (std::uint32_t i = 0; i < config.islands; ++i)
      begin(i);
    while (!allDone()) {
      disturb();
      ASSERT_NO_FATAL_FAILURE(turn());
    }
    // Each acknowledged push is in the version of its round.
    for (const auto &[fragment, island, round] : acknowledged)
      EXPECT_TRUE((members[{fragment, round + 1}].contains(island)))
          << "island " << island << " round " << round;
  }

  /// Nothing happens but that a site is lost for good, with its server and its
  /// islands: that of the primary, or another one. Rounds of other islands go
  /// on. Of the longest time that a fragment has stood still then.
  void loseSite(std::uint32_t afterPrimary, double roundSeconds,
                double &longest) {
    config.quorum = 1;
    config.livenessSeconds = 4;
    innerSeconds = roundSeconds;
    for (std::uint32_t i = 0; i < config.islands; ++i)
      begin(i);
    auto versions = [&] {
      std::size_t least = ~std::size_t(0);
      for (const auto &known : hashes)
        least = std::min(least, known.size());
      return least;
    };
    // One loss: a primary that has just asked to go on without its backup, as
    // messages were lost, has lost that already. Messages come within 2 s.
    constexpr double kCalm = 4;
    double asked = now;
    while (versions() < 3 || !servers.pairedPrimary() || now - asked < kCalm ||
           random() % 40) {
      ASSERT_NO_FATAL_FAILURE(turn());
      if (servers.isAnyAsking())
        asked = now;
    }
    std::uint32_t lost = *servers.pairedPrimary() + afterPrimary;
    lost %= servers.size();
    servers.lose(lost, 1e9);
    for (std::uint32_t i = 0; i < config.islands; ++i)
      if (siteOf(i) == lost)
        islands[i].gone = true;
    std::vector<std::pair<std::size_t, double>> last;
    for (const auto &known : hashes)
      last.push_back({known.size(), now});
    while (!allDone()) {
      ASSERT_NO_FATAL_FAILURE(turn());
      for (std::uint32_t f = 0; f < config.fragments; ++f) {
        if (hashes[f].size() <= kRounds)
          longest = std::max(longest, now - last[f].second);
        if (hashes[f].size() > last[f].first)
          last[f] = {hashes[f].size(), now};
      }
    }
  }

private:
  void turn() {
    ASSERT_LT(++turns, 60000u) << "no progress";
    now += 0.25;
    if (random() % 4 == 0)
      sendAll();
    servers.live();
    while (!wire.empty() && wire.top().at <= now) {
      Request message = wire.top();
      wire.pop();
      if (message.answer)
        ASSERT_NO_FATAL_FAILURE(answered(message));
      else
        servers.serve(message.server, [&] { requested(message); });
    }
    ASSERT_FALSE(testing::Test::HasFatalFailure());
  }

  void disturb() {
    servers.disturb();
    if (random() % 60 == 0) {
      ++faults.islands;
      begin(random() % config.islands, /*again=*/true);
    }
    if (random() % 60 == 0)
      administer(random() % config.islands);
  }

  /// An operator takes an island out, or lets it in: then it is started again.
  void administer(std::uint32_t island) {
    for (std::uint32_t s = 0; s < std::min<std::size_t>(2, servers.size());
         ++s) {
      if (!servers.primary(s))
        continue;
      return servers.serve(s, [&] {
        DurableState &state = servers.primary(s)->state();
        Membership wanted = state.state().membership();
        bool adds = wanted.removed[island];
        wanted.removed[island] = !adds;
        if (!state.state().objection(wanted).empty())
          return;
        faults.removals += !adds;
        state.setMembership(wanted);
        servers.whenTold(s, [this, island, adds] {
          if (adds)
            begin(island, /*again=*/true);
        });
      });
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
        sum.push_back(asDecoded(pushOf(f, island, event.round).push,
                                pushOf(f, island, event.round).parts,
                                config.compression));
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
      made.parts =
          cut(made.push, part, islands[island].ranks, f * 1000 + island);
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
          if (client.state != Client::State::Done &&
              client.state != Client::State::Left && !island.gone)
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

  std::uint32_t siteOf(std::uint32_t island) const {
    return island % servers.size();
  }

  void send(Request message) {
    if (!servers.reach(siteOf(message.island), message.server))
      return;
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
    if (client.state == Client::State::Push && now < client.pushSeconds)
      return false;
    for (const auto &rank : island.clients)
      if (rank[f].told < client.told)
        return false;
    return true;
  }

  void sendAll() {
    for (std::uint32_t i = 0; i < islands.size(); ++i) {
      // Heartbeats go to all that keep the state.
      for (std::uint32_t s = 0; s < std::min<std::size_t>(2, servers.size());
           ++s)
        if (!islands[i].gone && random() % 8 && servers.reach(siteOf(i), s))
          servers.hear(s, i);
      for (std::uint32_t r = 0; r < islands[i].ranks && !islands[i].gone; ++r)
        for (std::uint32_t f = 0; f < config.fragments; ++f) {
          const Client &client = islands[i].clients[r][f];
          if (client.state == Client::State::Left)
            continue;
          Request request;
          request.island = i;
          request.rank = r;
          request.fragment = f;
          request.incarnation = islands[i].incarnation;
          request.round = client.round;
          // Who trains sends a heartbeat.
          request.state = mayGoOn(islands[i], client, f) ? client.state
                                                         : Client::State::Done;
          request.server = islands[i].server;
          // Who does not answer is given up for a while.
          if (servers.size() > 1 && now - islands[i].answerSeconds > 4)
            request.server = random() % 2;
          send(request);
        }
    }
  }

  void requested(Request request) {
    std::uint32_t f = request.fragment, i = request.island;
    Island &island = islands[i];
    if (request.incarnation < island.incarnation && random() % 2)
      return; // the sender is no more
    request.answer = true;
    Replica *primary = servers.primary(request.server);
    if (!primary) {
      request.refused = true;
      return send(request);
    }
    DurableState &state = primary->state();
    auto push = [&](const PushPart &part, Compression compression,
                    std::span<const float> data) {
      PushResult result =
          state.push(part, encoded(part, compression, data), now);
      servers.take(request.server, result);
      return result;
    };
    switch (request.state) {
    case Client::State::Done:
      state.heard(i, request.incarnation, /*left=*/leaves(i), now);
      break;
    case Client::State::Start:
      // Ranks there may be fewer of than parts; the last one takes the rest.
      for (RankPart &one : startParts[f]) {
        if (std::min(one.part.rank, island.ranks - 1) != request.rank)
          continue;
        PushPart part = one.part;
        part.content = PushContent::StartParameters;
        part.fragment = f;
        part.incarnation = request.incarnation;
        push(part, Compression::None, one.data);
      }
      break;
    case Client::State::Join:
      state.heard(i, request.incarnation, false, now);
      request.receipt = state.join(f, i, request.incarnation);
      break;
    case Client::State::Push: {
      const RankPart *own =
          partOf(pushOf(f, i, request.round).parts, request.rank);
      if (!own)
        break; // owns nothing of it
      PushPart part = own->part;
      part.incarnation = request.incarnation;
      request.pushed = push(part, config.compression, own->data);
      break;
    }
    case Client::State::Wait:
      state.heard(i, request.incarnation, false, now);
      request.receipt = state.receipt(f, i, request.round, request.round + 1);
      break;
    case Client::State::Left:
      break;
    }
    servers.whenTold(request.server, [this, request] { send(request); });
  }

  void answered(const Request &message) {
    std::uint32_t f = message.fragment, i = message.island;
    if (message.refused) {
      if (islands[i].server == message.server)
        islands[i].server = 1 - message.server;
      return;
    }
    islands[i].server = message.server;
    islands[i].answerSeconds = now;
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
      case Outcome::Removed:
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
    case Client::State::Left:
      return;
    }
  }

  /// The same for all ranks of an island.
  void goOn(const Request &message, Client &client) {
    std::uint32_t f = message.fragment, i = message.island;
    bool joins = client.state == Client::State::Join;
    // An island that is taken out while its ranks join ends with an error.
    bool isRemoved = message.receipt.kind == Receipt::Kind::Removed;
    if (joins && isRemoved) {
      client.state = Client::State::Left;
      return;
    }
    auto [known, fresh] = receipts.try_emplace(
        {f, i, message.incarnation, joins ? ~0ull : message.round},
        std::pair(message.receipt.kind, message.receipt.version));
    ASSERT_EQ(known->second,
              std::pair(message.receipt.kind, message.receipt.version))
        << "ranks of island " << i << " are told different things";
    if (message.receipt.kind == Receipt::Kind::Member)
      ASSERT_TRUE((members[{f, message.receipt.version}].contains(i)));
    if (message.receipt.kind == Receipt::Kind::Late || isRemoved)
      ASSERT_TRUE((joins || !acknowledged.contains({f, i, message.round})));
    ASSERT_LT(message.receipt.version, states[f].size()) << "of no version";
    ASSERT_GE(message.receipt.version, client.round);
    client.pushesAtOnce = !joins && message.receipt.kind == Receipt::Kind::Late;
    ++client.told;
    if (isRemoved) {
      client.state = Client::State::Left;
      return;
    }
    client.pushSeconds = now + innerSeconds;
    client.round = message.receipt.version;
    client.state =
        client.round >= kRounds ? Client::State::Done : Client::State::Push;
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
  double now = 0;
  double innerSeconds = 0; ///< that islands train between two pushes
  std::uint64_t turns = 0;
  FaultServers servers;
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

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_SERVER_FAULTWORLD_H
