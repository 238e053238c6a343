//===- SiteDoor.cpp - where ranks of other sites come in ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SiteDoor.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

using namespace tombolo::runtime;

namespace {

// An introduction: the door's word, u64 the rank that speaks, u32 bytes of the
// communicator's name, the name. Then one byte from the door: it may come in.
// Little-endian, as all machines here are.
constexpr std::size_t kWord = 16, kHead = kWord + 8 + 4, kLongestName = 1024;
constexpr char kWelcome = 1;

/// Until the next look at who is silent for too long, or whether descriptors
/// are free again.
constexpr int kLookMilliseconds = 100;

template <typename T> T numberAt(const std::string &data, std::size_t at) {
  T value;
  std::memcpy(&value, data.data() + at, sizeof value);
  return value;
}

template <typename T> void append(std::string &data, T value) {
  data.append(reinterpret_cast<const char *>(&value), sizeof value);
}

} // namespace

SiteDoor::SiteDoor(std::uint64_t rank, const std::string &host,
                   const TlsIdentity &identity, const SiteLinks &links)
    : rank(rank), identity(identity), links(links), word(kWord, '\0') {
  if (::getrandom(word.data(), kWord, 0) != static_cast<ssize_t>(kWord))
    throw Error(Status::Failed, "no random numbers from the system");
  listener = listenOn("rank", host, 0, address);
  wake = ::eventfd(0, EFD_CLOEXEC);
  if (wake < 0) {
    ::close(listener);
    throw Error(Status::Failed,
                "cannot wait for other ranks: ", std::strerror(errno));
  }
  thread = std::thread([this] { serve(); });
}

SiteDoor::~SiteDoor() {
  std::uint64_t one = 1;
  (void)!::write(wake, &one, sizeof one);
  thread.join();
  ::close(listener);
  ::close(wake);
}

std::string SiteDoor::invitation() const { return word + address; }

std::unique_ptr<TlsStream> SiteDoor::await(const std::string &name,
                                           std::uint64_t from,
                                           Deadline deadline) {
  std::unique_lock lock(mutex);
  auto key = std::make_pair(name, from);
  bool isThere = changed.wait_until(
      lock, deadline, [&] { return !closed.empty() || arrived.contains(key); });
  if (!closed.empty())
    throw PeerError(closed);
  if (!isThere)
    throw PeerError("rank ", from, " at site ", links.sites.at(from),
                    " has not connected");
  return std::move(arrived.extract(key).mapped());
}

void SiteDoor::close(const std::string &why) noexcept {
  std::lock_guard lock(mutex);
  if (closed.empty())
    closed = why.empty() ? "given up" : why;
  changed.notify_all();
}

/// False, so that the visitor goes.
bool SiteDoor::refuse(const Visitor &visitor, const std::string &why) {
  if (links.refused)
    links.refused("rank " + std::to_string(rank) + " at site " +
                  links.sites.at(rank) + " turned away " +
                  addressOfPeer(visitor.stream->descriptor()) + ": " + why);
  return false;
}

/// What it has said, when that is whole. False: it goes, or has come in.
bool SiteDoor::hear(Visitor &visitor) {
  const std::string &said = visitor.said;
  if (said.size() < kHead)
    return true;
  auto from = numberAt<std::uint64_t>(said, kWord);
  auto bytes = numberAt<std::uint32_t>(said, kWord + 8);
  if (!std::equal(word.begin(), word.end(), said.begin()))
    return refuse(visitor, "it does not know this rank's word");
  std::string site = visitor.stream->peer();
  if (from >= links.sites.size() || links.sites[from] != site)
    return refuse(visitor, "it says that it is rank " + std::to_string(from) +
                               ", which is not at its site, '" +
                               printable(site) + "'");
  if (bytes > kLongestName || said.size() > kHead + bytes)
    return refuse(visitor, "it says more than who it is");
  if (said.size() < kHead + bytes)
    return true;
  auto key = std::make_pair(said.substr(kHead), from);
  auto progress = visitor.stream->write(std::as_bytes(std::span(&kWelcome, 1)));
  if (progress.state != TlsStream::State::Moved)
    return refuse(visitor, "it does not listen");
  std::lock_guard lock(mutex);
  arrived[key] = std::move(visitor.stream);
  changed.notify_all();
  return false;
}

/// False: it goes, or has come in.
bool SiteDoor::move(Visitor &visitor) {
  for (;;) {
    std::byte data[kHead + kLongestName];
    TlsStream::Progress progress = visitor.hasShaken
                                       ? visitor.stream->read(data)
                                       : visitor.stream->shakeHands();
    switch (progress.state) {
    case TlsStream::State::Waits:
      visitor.events = progress.events;
      return true;
    case TlsStream::State::Ended:
      return refuse(visitor, "it has gone without a word");
    case TlsStream::State::Refused:
      return refuse(visitor, progress.why);
    case TlsStream::State::Moved:
      break;
    }
    if (!std::exchange(visitor.hasShaken, true)) {
      std::string site = visitor.stream->peer();
      if (std::find(links.sites.begin(), links.sites.end(), site) ==
          links.sites.end())
        return refuse(visitor, "the certificate is that of '" +
                                   printable(site) +
                                   "', which is no site of the island");
      continue;
    }
    visitor.said.append(reinterpret_cast<const char *>(data), progress.bytes);
    if (!hear(visitor))
      return false;
  }
}

void SiteDoor::admit() {
  int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) { // no descriptors left: who waits must wait
    std::this_thread::sleep_for(std::chrono::milliseconds(kLookMilliseconds));
    return;
  }
  Visitor visitor;
  try {
    visitor.stream =
        std::make_unique<TlsStream>(identity, fd, TlsStream::Role::Answers);
  } catch (const Error &) {
    return;
  }
  visitor.introduction = std::chrono::steady_clock::now() + kIntroduction;
  visitor.events = POLLIN;
  visitors.push_back(std::move(visitor));
}

void SiteDoor::serve() {
  for (;;) {
    bool full = visitors.size() >= kMostIntroductions;
    std::vector<pollfd> polled{
        {wake, POLLIN, 0},
        {listener, static_cast<short>(full ? 0 : POLLIN), 0}};
    for (const Visitor &visitor : visitors)
      polled.push_back({visitor.stream->descriptor(), visitor.events, 0});
    if (::poll(polled.data(), polled.size(),
               visitors.empty() ? -1 : kLookMilliseconds) < 0 &&
        errno != EINTR)
      return;
    if (polled[0].revents)
      return;
    auto now = std::chrono::steady_clock::now();
    std::size_t at = 2;
    for (auto visitor = visitors.begin(); visitor != visitors.end(); ++at) {
      bool stays = !polled[at].revents || move(*visitor);
      if (stays && visitor->introduction <= now)
        stays = refuse(*visitor, "it did not say in time who it is");
      visitor = stays ? std::next(visitor) : visitors.erase(visitor);
    }
    if (polled[1].revents)
      admit();
  }
}

std::unique_ptr<TlsStream> SiteDoor::knock(const std::string &invitation,
                                           std::uint64_t self, std::uint64_t to,
                                           const std::string &name,
                                           const TlsIdentity &identity,
                                           const SiteLinks &links,
                                           Deadline deadline) {
  if (invitation.size() <= kWord)
    throw PeerError("rank ", to, " has left no address");
  auto stream = std::make_unique<TlsStream>(
      identity, dial(invitation.substr(kWord), deadline, /*isPatient=*/false),
      TlsStream::Role::Dials);
  shakeHands(*stream, deadline);
  if (stream->peer() != links.sites.at(to))
    throw PeerError("expected the certificate of site '", links.sites.at(to),
                    "', got that of '", printable(stream->peer()), "'");
  std::string said = invitation.substr(0, kWord);
  append(said, self);
  append(said, static_cast<std::uint32_t>(name.size()));
  said += name;
  writeAll(*stream, std::as_bytes(std::span(said)), deadline);
  char welcome = 0;
  readAll(*stream, std::as_writable_bytes(std::span(&welcome, 1)), deadline);
  if (welcome != kWelcome)
    throw PeerError("it answers nonsense");
  return stream;
}
