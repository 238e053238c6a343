//===- SiteTransport.cpp - ranks of an island at several sites ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A communicator has its own connection between every two of its ranks, and a
// thread that takes what comes. Debian's Gloo is built without its TLS, and
// would take the first who connects for the peer.
//
//===----------------------------------------------------------------------===//

#include "SiteDoor.h"
#include "SiteLink.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <poll.h>
#include <set>
#include <sys/eventfd.h>
#include <unistd.h>

using namespace tombolo::runtime;

namespace {

/// The links of this rank, so that one that is lost ends all.
class Links {
public:
  void add(SiteLink *link) {
    std::lock_guard lock(mutex);
    if (!why.empty())
      throw PeerError(why);
    all.insert(link);
  }
  void remove(SiteLink *link) {
    std::lock_guard lock(mutex);
    all.erase(link);
  }
  void giveUp(const std::string &reason) noexcept {
    std::lock_guard lock(mutex);
    if (why.empty())
      why = reason.empty() ? "given up" : reason;
    for (SiteLink *link : all)
      link->giveUp(why);
  }

private:
  std::mutex mutex;
  std::set<SiteLink *> all;
  std::string why;
};

class SiteCommunicator : public Communicator {
public:
  /// `streams`: by position; none at its own.
  SiteCommunicator(int self, std::vector<std::uint64_t> ranks,
                   std::vector<std::unique_ptr<TlsStream>> streams,
                   std::shared_ptr<Links> all,
                   std::chrono::milliseconds timeout)
      : Communicator(self, static_cast<int>(ranks.size())),
        ranks(std::move(ranks)), links(streams.size()), all(std::move(all)),
        timeout(timeout), wake(::eventfd(0, EFD_CLOEXEC)) {
    if (wake < 0)
      throw Error(Status::Failed, "cannot wait for other ranks");
    for (std::size_t i = 0; i < streams.size(); ++i)
      if (streams[i])
        links[i] = std::make_unique<SiteLink>(std::move(streams[i]));
    try {
      for (auto &link : links)
        if (link)
          this->all->add(link.get());
      thread = std::thread([this] { take(); });
    } catch (...) {
      forget();
      throw;
    }
  }

  ~SiteCommunicator() override {
    leaving = true;
    for (auto &link : links)
      if (link)
        link->sayFarewell();
    std::uint64_t one = 1;
    (void)!::write(wake, &one, sizeof one);
    thread.join();
    forget();
  }

  void send(int to, std::uint32_t tag,
            std::span<const std::byte> data) override {
    guarded("sending to", to, [&] { linkTo(to).send(tag, data, deadline()); });
  }

  void receive(int from, std::uint32_t tag,
               std::span<std::byte> data) override {
    guarded("receiving from", from, [&] {
      Deadline end = deadline();
      SiteLink::Receipt(linkTo(from), tag, data, end).wait(end);
    });
  }

  void sendReceive(int to, std::span<const std::byte> out, int from,
                   std::span<std::byte> in, std::uint32_t tag) override {
    guarded("exchanging with", from, [&] {
      Deadline end = deadline();
      SiteLink::Receipt receipt(linkTo(from), tag, in, end);
      linkTo(to).send(tag, out, end);
      receipt.wait(end);
    });
  }

protected:
  /// A line is filled only when more is on its way than one piece: so many go,
  /// and are asked for, before the ones before them have come.
  void ringStep(const RingStep &step) override {
    const std::size_t pieces = step.pieces();
    const std::size_t ahead = std::min(kAhead, pieces);
    std::span<std::byte> places;
    if (step.add)
      places = scratch(std::min(ahead * RingStep::kPiece, step.longest));
    auto placeOf = [&](std::size_t i) {
      std::span<std::byte> kept = step.piece(step.in, i);
      return step.add
                 ? places.subspan(i % ahead * RingStep::kPiece, kept.size())
                 : kept;
    };
    // They go when all has been given up: what still comes belongs to them.
    std::deque<SiteLink::Receipt> receipts;
    auto ask = [&](std::size_t i) {
      receipts.emplace_back(linkTo(previous()), kRingTag, placeOf(i),
                            deadline());
    };
    guarded("exchanging with", previous(), [&] {
      for (std::size_t i = 0; i < ahead; ++i)
        ask(i);
    });
    // Nobody waits for ever: were all to wait with a piece for who asks for it,
    // each would have taken more than the next, all around.
    std::size_t sent = 0;
    for (std::size_t i = 0; i < pieces; ++i) {
      guarded("exchanging with", next(), [&] {
        for (; sent < std::min(i + ahead, pieces); ++sent)
          linkTo(next()).send(kRingTag, step.piece(step.out, sent), deadline());
      });
      guarded("exchanging with", previous(), [&] {
        receipts.front().wait(deadline());
        receipts.pop_front();
        if (step.add)
          step.take(i, placeOf(i));
        if (i + ahead < pieces)
          ask(i + ahead);
      });
    }
  }

private:
  /// Pieces, a MiB each: what 10 Gbit/s bring in 13 ms, or 4.5 in 30.
  static constexpr std::size_t kAhead = 16;
  static_assert(kAhead <= SiteLink::kMostAhead);

  Deadline deadline() const {
    return std::chrono::steady_clock::now() + timeout;
  }
  SiteLink &linkTo(int peer) { return *links[static_cast<std::size_t>(peer)]; }

  void forget() {
    for (auto &link : links)
      if (link)
        all->remove(link.get());
    ::close(wake);
  }

  /// A failed wait makes the communicator unusable, on all sides.
  template <typename Action>
  void guarded(const char *what, int peer, Action action) {
    try {
      action();
    } catch (const PeerError &error) {
      for (auto &link : links)
        if (link)
          link->giveUp(error.what());
      throw PeerError(what, " rank ", ranks[static_cast<std::size_t>(peer)],
                      ": ", error.what());
    }
  }

  void take() {
    std::vector<bool> ended(links.size());
    for (;;) {
      std::vector<pollfd> polled{{wake, POLLIN, 0}};
      std::vector<std::size_t> which{0};
      for (std::size_t i = 0; i < links.size(); ++i)
        if (links[i] && !ended[i]) {
          polled.push_back({links[i]->descriptor(), POLLIN, 0});
          which.push_back(i);
        }
      if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR)
        return;
      if (polled[0].revents)
        return;
      for (std::size_t i = 1; i < polled.size(); ++i) {
        std::string lost;
        if (!polled[i].revents || links[which[i]]->take(lost))
          continue;
        ended[which[i]] = true;
        if (!lost.empty() && !leaving)
          all->giveUp("rank " + std::to_string(ranks[which[i]]) +
                      " is lost: " + lost);
      }
    }
  }

  std::vector<std::uint64_t> ranks;
  std::vector<std::unique_ptr<SiteLink>> links; // by position
  std::shared_ptr<Links> all;
  std::chrono::milliseconds timeout;
  int wake;
  std::atomic<bool> leaving = false;
  std::thread thread;
};

class SiteTransport : public Transport {
public:
  SiteTransport(std::uint64_t rank, const std::string &store,
                const std::string &host, SiteLinks links,
                TransportOptions options)
      : self(rank), store(store), host(host), links(std::move(links)),
        options(std::move(options)), identity(this->links.tls),
        client(store, this->options.connectTimeout, this->options.keeper),
        door(rank, host, identity, this->links),
        all(std::make_shared<Links>()) {
    std::string invitation = door.invitation();
    client.set(doorOf(rank), {invitation.begin(), invitation.end()});
  }

  std::unique_ptr<Communicator>
  connect(const std::string &name,
          std::span<const std::uint64_t> ranks) override {
    auto at = std::find(ranks.begin(), ranks.end(), self);
    if (at == ranks.end())
      throw Error("rank ", self, " is no member of communicator '", name, "'");
    bool isOneSite = std::all_of(ranks.begin(), ranks.end(), [&](auto rank) {
      return links.sites.at(rank) == links.sites.at(self);
    });
    if (isOneSite)
      return atHome().connect(name, ranks);
    Deadline deadline =
        std::chrono::steady_clock::now() + options.connectTimeout;
    std::vector<std::unique_ptr<TlsStream>> streams(ranks.size());
    for (std::size_t i = 0; i < ranks.size(); ++i)
      if (ranks[i] != self)
        streams[i] = meet(name, ranks[i], deadline);
    return std::make_unique<SiteCommunicator>(
        static_cast<int>(at - ranks.begin()),
        std::vector<std::uint64_t>(ranks.begin(), ranks.end()),
        std::move(streams), all, options.timeout);
  }

  void abort(const std::string &why) noexcept override {
    all->giveUp(why);
    door.close(why);
    if (std::lock_guard lock(homeMutex); home)
      home->abort(why);
  }

private:
  std::string doorOf(std::uint64_t rank) const {
    return options.scope + "door-of-rank-" + std::to_string(rank);
  }

  /// Of two ranks the later one knocks.
  std::unique_ptr<TlsStream> meet(const std::string &name, std::uint64_t peer,
                                  Deadline deadline) {
    try {
      if (peer > self)
        return door.await(options.scope + name, peer, deadline);
      std::vector<char> invitation =
          client.get(doorOf(peer), options.connectTimeout);
      return SiteDoor::knock({invitation.begin(), invitation.end()}, self, peer,
                             options.scope + name, identity, links, deadline);
    } catch (const PeerError &error) {
      throw PeerError("connecting '", name, "' with rank ", peer, " at site ",
                      links.sites.at(peer), ": ", error.what());
    }
  }

  Transport &atHome() {
    std::lock_guard lock(homeMutex);
    if (!home)
      home = createGlooTransport(self, store, host, options);
    return *home;
  }

  std::uint64_t self;
  std::string store, host;
  SiteLinks links;
  TransportOptions options;
  TlsIdentity identity;
  StoreClient client;
  SiteDoor door;
  std::shared_ptr<Links> all;
  std::mutex homeMutex;
  std::unique_ptr<Transport> home; // over Gloo, where it is needed
};

} // namespace

std::unique_ptr<Transport> tombolo::runtime::createSiteTransport(
    std::uint64_t rank, const std::string &store, const std::string &host,
    SiteLinks links, TransportOptions options) {
  if (rank >= links.sites.size())
    throw Error("rank ", rank, " is none of the island's ", links.sites.size());
  return std::make_unique<SiteTransport>(rank, store, host, std::move(links),
                                         std::move(options));
}
