//===- FaultServers.h - servers that die, and cannot reach one another ----===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The servers of a run - one alone, or primary, backup and witnesses - with
// their disks and what goes between them, on a virtual clock.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_SERVER_FAULTSERVERS_H
#define TOMBOLO_TEST_SERVER_FAULTSERVERS_H

#include "Replica.h"
#include "SimulatedDisk.h"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <queue>

namespace tombolo::runtime::test {

struct Faults {
  std::size_t messages = 0, islands = 0, powerLosses = 0, kills = 0,
              damages = 0, cuts = 0, removals = 0;
  /// What follows from them.
  std::size_t takeOvers = 0, joins = 0;
  std::size_t all() const {
    return messages + islands + powerLosses + kills + damages + cuts + removals;
  }
};

class FaultServers {
public:
  /// What the world around them wants to know.
  struct Watch {
    /// A version was made and may be seen.
    std::function<void(const OuterEvent &)> told;
    /// A version that is somewhere.
    std::function<void(std::uint32_t fragment, const Version &)> seen;
    /// The newest version that anybody has seen.
    std::function<std::uint64_t(std::uint32_t fragment)> versions;
  };

  FaultServers(const OuterConfig &config, std::vector<std::uint32_t> votes,
               unsigned seed, std::mt19937 &random, Faults &faults, double &now,
               Watch watch)
      : config(config), votes(std::move(votes)), random(random), faults(faults),
        now(now), watch(std::move(watch)) {
    for (std::size_t i = 0; i < this->votes.size(); ++i)
      servers.push_back(std::make_unique<Server>(seed * 31 + 7 + 1000 * i));
  }

  std::size_t size() const { return servers.size(); }
  bool isUp(std::uint32_t number) const {
    return servers[number]->replica != nullptr;
  }
  /// Null: nobody, or one that is no primary.
  Replica *primary(std::uint32_t number) {
    Replica *replica = servers[number]->replica.get();
    return replica && replica->serves(now) ? replica : nullptr;
  }
  bool isAnyAsking() const {
    return std::any_of(servers.begin(), servers.end(), [](const auto &server) {
      return server->replica && server->replica->isAsking();
    });
  }
  /// An island says to a server that it is there.
  void hear(std::uint32_t number, std::uint32_t island) {
    Replica *replica = servers[number]->replica.get();
    if (replica)
      replica->overhear(island, now);
  }
  /// One that has its backup.
  std::optional<std::uint32_t> pairedPrimary() {
    for (std::uint32_t i = 0; i < 2; ++i)
      if (Replica *replica = primary(i); replica && replica->newest().backup())
        return i;
    return std::nullopt;
  }

  /// Whether two sites reach one another; server i is at site i.
  bool reach(std::uint32_t a, std::uint32_t b) const {
    auto cut = cuts.find(std::minmax(a, b));
    return a == b || cut == cuts.end() || cut->second <= now;
  }
  void cut(std::uint32_t a, std::uint32_t b, double seconds) {
    cuts[std::minmax(a, b)] = now + seconds;
  }
  /// The site is gone for so long.
  void lose(std::uint32_t number, double seconds) {
    servers[number]->disk.losePower();
    down(number, seconds);
  }

  /// What has been decided for a request waits for the other disk; `answer` is
  /// called, or never.
  void whenTold(std::uint32_t number, std::function<void()> answer) {
    Server &server = *servers[number];
    Replica::Mark mark = server.replica->mark();
    DurableState::sync(mark.log);
    server.answers.push_back({mark, std::move(answer)});
    answerSome(server);
  }
  void take(std::uint32_t number, const PushResult &result) {
    if (result.closing)
      servers[number]->closings.push_back({result.closing});
  }

  /// Runs `work` on a server that is up, or comes up now.
  template <typename Work> void serve(std::uint32_t number, Work work) {
    Server &server = *servers[number];
    if (!server.replica && now < server.upAgain)
      return;
    try {
      if (!server.replica)
        start(number);
      if (!testing::Test::HasFatalFailure())
        work();
    } catch (const PowerLoss &) {
      ++faults.powerLosses;
      down(number, static_cast<double>(random() % 12));
    }
  }

  /// One moment of all of them.
  void live() {
    for (std::uint32_t i = 0; i < size(); ++i)
      serve(i, [&] { closeSome(i); });
    while (!wire.empty() && wire.top().at <= now) {
      Peer message = wire.top();
      wire.pop();
      if (isUp(message.to))
        serve(message.to, [&] {
          servers[message.to]->replica->receive(message.message, now);
        });
    }
    for (std::uint32_t i = 0; i < size(); ++i)
      if (isUp(i))
        serve(i, [&] { talk(i); });
  }

  void disturb() {
    std::uint32_t number = random() % size();
    Server &server = *servers[number];
    switch (random() % (size() > 1 ? 40 : 60)) {
    case 0:
      if (server.replica)
        server.disk.losePowerIn(1 + random() % 30);
      break;
    case 1:
      if (!server.replica)
        break;
      ++faults.kills;
      server.disk.unplug();
      down(number, static_cast<double>(random() % 12));
      break;
    case 2:
      if (!server.replica)
        break;
      ++faults.powerLosses;
      lose(number, static_cast<double>(random() % 12));
      if (random() % 2)
        damage(server.disk);
      break;
    case 3:
      if (size() == 1)
        break;
      ++faults.cuts;
      if (random() % 2) // a line, or all of a site's
        return cut(number, (number + 1 + random() % (size() - 1)) % size(),
                   static_cast<double>(random() % 25));
      for (std::uint32_t other = 0; other < size(); ++other)
        if (other != number)
          cut(number, other, static_cast<double>(random() % 25));
      break;
    default:
      break;
    }
  }

private:
  /// What the server's thread does, in pieces, so that requests come between.
  struct Closing {
    std::shared_ptr<RoundClosing> what;
    std::optional<Replica::Mark> logged;
  };
  struct Answer {
    Replica::Mark mark;
    std::function<void()> send;
  };
  struct Server {
    explicit Server(unsigned seed) : disk(seed) {}
    SimulatedDisk disk;
    std::unique_ptr<Replica> replica;
    double upAgain = 0;
    std::uint64_t term = 0; ///< of what follows
    std::deque<Closing> closings;
    std::deque<Answer> answers;
    std::mutex mutex; // of a test with one thread
  };
  struct Peer {
    double at = 0;
    std::uint64_t number = 0;
    std::uint32_t to = 0;
    server::v1::PeerMessage message;
    bool operator>(const Peer &other) const {
      return std::pair(at, number) > std::pair(other.at, other.number);
    }
  };

  void start(std::uint32_t number) {
    Server &server = *servers[number];
    DurableOptions options;
    options.contract = Contract("plan");
    options.runId = "run";
    options.snapshotBytes = random() % 2;
    ReplicaOptions replica;
    replica.self = number;
    replica.votes = votes;
    replica.heldBytes = random() % 2 ? 1 << 20 : 1;
    server.replica =
        std::make_unique<Replica>(config, std::move(options),
                                  std::move(replica), server.disk.mount(), now);
    server.term = ~std::uint64_t(0);
    noteTerm(number);
  }

  void down(std::uint32_t number, double seconds) {
    Server &server = *servers[number];
    server.closings.clear();
    server.answers.clear();
    server.replica.reset();
    server.upAgain = now + seconds;
  }

  /// A server that has become primary has all that anybody has seen.
  void noteTerm(std::uint32_t number) {
    Server &server = *servers[number];
    if (!server.replica)
      return;
    if (size() > 1 && server.replica->isPrimary()) {
      const server::v1::Grant &grant = server.replica->newest();
      auto [known, fresh] = primaries.try_emplace(grant.epoch(), number);
      ASSERT_EQ(known->second, number) << "two primaries in an epoch";
      faults.joins += fresh && grant.backup();
      if (grant.backup())
        compareBackup(1 - number, grant.epoch());
    }
    if (server.term == server.replica->term())
      return;
    server.term = server.replica->term();
    server.closings.clear();
    server.answers.clear();
    if (!server.replica->isPrimary())
      return;
    ++faults.takeOvers;
    DurableState &state = server.replica->state();
    for (auto &closing : state.takeUnfinished())
      server.closings.push_back({closing, {}});
    for (std::uint32_t f = 0; f < config.fragments; ++f) {
      auto newest = state.state().current(f);
      ASSERT_GE(newest ? newest->number + 1 : 0, watch.versions(f))
          << "fragment " << f << " went back";
      if (newest)
        watch.seen(f, *newest);
    }
    for (const OuterEvent &event : state.newestEvents())
      watch.told(event);
  }

  /// A member has what everybody has.
  void compareBackup(std::uint32_t number, std::uint64_t epoch) {
    Replica *backup = servers[number]->replica.get();
    if (!backup || backup->isPrimary() || backup->epoch() != epoch)
      return;
    for (std::uint32_t f = 0; f < config.fragments; ++f)
      if (auto newest = backup->state().state().current(f))
        watch.seen(f, *newest);
  }

  void closeSome(std::uint32_t number) {
    Server &server = *servers[number];
    noteTerm(number);
    Replica &replica = *server.replica;
    if (!replica.isPrimary())
      return;
    DurableState &state = replica.state();
    for (auto &due : state.tick(now))
      server.closings.push_back({due, {}});
    if (server.closings.empty() || random() % 2)
      return;
    Closing &closing = server.closings.front();
    if (!closing.logged) {
      closing.what->compute();
      state.logVersion(*closing.what);
      closing.logged = replica.mark();
      return;
    }
    DurableState::sync(closing.logged->log);
    if (replica.mayTell(*closing.logged) != Replica::Told::Yes)
      return;
    ASSERT_NO_FATAL_FAILURE(watch.told(closing.what->event()));
    state.publish(*closing.what);
    server.closings.pop_front();
    if (state.wantsSnapshot()) {
      DurableState::Snapshot snapshot = state.beginSnapshot();
      state.writeSnapshot(snapshot);
    }
  }

  void answerSome(Server &server) {
    for (auto answer = server.answers.begin();
         answer != server.answers.end();) {
      Replica::Told told = server.replica->mayTell(answer->mark);
      if (told == Replica::Told::NotYet) {
        ++answer;
        continue;
      }
      if (told == Replica::Told::Yes)
        answer->send();
      answer = server.answers.erase(answer);
    }
  }

  void talk(std::uint32_t number) {
    Server &server = *servers[number];
    server.replica->tick(now);
    std::unique_lock lock(server.mutex);
    if (random() % 3)
      while (server.replica->work(lock, now)) {
      }
    noteTerm(number);
    answerSome(server);
    for (std::uint32_t peer = 0; peer < size(); ++peer) {
      if (peer == number)
        continue;
      for (int most = 0; most < 8; ++most) {
        auto message = server.replica->next(peer, now);
        if (!message)
          break;
        send(number, peer, std::move(*message));
      }
    }
  }

  void send(std::uint32_t from, std::uint32_t to,
            server::v1::PeerMessage message) {
    if (!reach(from, to))
      return;
    std::size_t copies = random() % 16 == 0 ? 0 : random() % 16 == 0 ? 2 : 1;
    faults.messages += copies != 1;
    for (std::size_t c = 0; c < copies; ++c) {
      // Now and then one comes when all is different.
      double late = random() % 50 == 0 ? 20 : 0;
      wire.push({now + static_cast<double>(random() % 40) / 100 + late, count++,
                 to, message});
    }
  }

  /// Turns a bit of the newest snapshot, when there is another way.
  void damage(SimulatedDisk &disk) {
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
      content[random() % content.size()] ^=
          static_cast<char>(1 << random() % 8);
  }

  const OuterConfig &config;
  const std::vector<std::uint32_t> votes;
  std::mt19937 &random;
  Faults &faults;
  const double &now;
  Watch watch;
  std::vector<std::unique_ptr<Server>> servers;
  std::map<std::pair<std::uint32_t, std::uint32_t>, double> cuts; // until
  std::map<std::uint64_t, std::uint32_t> primaries;               // by epoch
  std::priority_queue<Peer, std::vector<Peer>, std::greater<>> wire;
  std::uint64_t count = 0;
};

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_SERVER_FAULTSERVERS_H
