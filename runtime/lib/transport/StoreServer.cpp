//===- StoreServer.cpp - where ranks find each other ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/StoreServer.h"

#include "Sockets.h"

#include "tombolo/runtime/Transport.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace tombolo::runtime {

// A request: u8 operation (1 set, 2 get, 3 claim: set what is not set, and
// answer as a get before it would have), u32 key bytes, u32 value bytes, key,
// value. A reply: u8 found, u32 value bytes, value. Little-endian, as all
// machines of one site here are.
namespace {

constexpr std::uint32_t kMaxKey = 4096, kMaxValue = 1 << 20;
constexpr std::size_t kHead = 9;
constexpr std::size_t kMaxConnections = 65536;
// A client that does not take its replies is not read any further.
constexpr std::size_t kMaxPending = 1 << 20;
// Until the next look whether descriptors are free again.
constexpr int kBackOffMilliseconds = 100;

std::uint32_t numberAt(const std::string &data, std::size_t at) {
  std::uint32_t value;
  std::memcpy(&value, data.data() + at, sizeof value);
  return value;
}

} // namespace

struct StoreServer::State {
  int listener = -1;
  int wake = -1;
  std::string address;
  std::thread thread;

  std::optional<StoreDoor> door;
  std::optional<TlsIdentity> identity; // with a door

  struct Connection {
    std::string in;
    std::string out;
    // With a door:
    std::unique_ptr<TlsStream> tls;
    bool isKnown = false;
    short events = POLLIN; // of its next move
    Deadline introduction;
  };
  std::map<int, Connection> connections;
  std::map<std::string, std::string> values;

  ~State() {
    for (auto &[fd, connection] : connections)
      close(fd, connection);
    if (listener >= 0)
      ::close(listener);
    if (wake >= 0)
      ::close(wake);
  }

  /// Answers complete requests in `in` while there is room for replies; false
  /// for a client to drop.
  bool answer(Connection &connection) {
    std::string &in = connection.in;
    std::size_t used = 0;
    while (in.size() - used >= kHead && connection.out.size() < kMaxPending) {
      auto operation = static_cast<unsigned char>(in[used]);
      std::uint32_t key = numberAt(in, used + 1);
      std::uint32_t value = numberAt(in, used + 5);
      if (key > kMaxKey || value > kMaxValue || operation < 1 || operation > 3)
        return false;
      if (in.size() - used < kHead + key + value)
        break;
      std::string name = in.substr(used + kHead, key);
      std::string found;
      char ok = 1;
      if (operation == 1) {
        values[name] = in.substr(used + kHead + key, value);
      } else {
        auto entry = values.find(name);
        ok = entry != values.end();
        if (ok)
          found = entry->second;
        else if (operation == 3)
          values[name] = in.substr(used + kHead + key, value);
      }
      auto bytes = static_cast<std::uint32_t>(found.size());
      connection.out += ok;
      connection.out.append(reinterpret_cast<char *>(&bytes), sizeof bytes);
      connection.out += found;
      used += kHead + key + value;
    }
    in.erase(0, used);
    return true;
  }

  static void close(int fd, Connection &connection) {
    if (!connection.tls) // which closes it
      ::close(fd);
  }

  /// What came of `bytes` read or written: their number, 0 for none yet, and
  /// nothing when the connection is over.
  static std::optional<std::size_t> resultOf(ssize_t bytes) {
    if (bytes > 0)
      return static_cast<std::size_t>(bytes);
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
      return 0;
    return std::nullopt;
  }
  static std::optional<std::size_t>
  resultOf(Connection &connection, const TlsStream::Progress &progress) {
    if (progress.state == TlsStream::State::Moved)
      return progress.bytes;
    connection.events = progress.events;
    if (progress.state == TlsStream::State::Waits)
      return 0;
    return std::nullopt;
  }
  static std::optional<std::size_t> receive(int fd, Connection &connection,
                                            std::span<char> data) {
    if (connection.tls)
      return resultOf(connection,
                      connection.tls->read(std::as_writable_bytes(data)));
    return resultOf(::recv(fd, data.data(), data.size(), MSG_DONTWAIT));
  }
  static std::optional<std::size_t> send(int fd, Connection &connection) {
    std::span<const char> data(connection.out);
    if (connection.tls)
      return resultOf(connection, connection.tls->write(std::as_bytes(data)));
    return resultOf(
        ::send(fd, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  void refuse(int fd, const std::string &why) {
    if (door->refused)
      door->refused("the store of the sites turned away " + addressOfPeer(fd) +
                    ": " + why);
  }

  /// False for somebody who may not come in.
  bool introduce(int fd, Connection &connection) {
    TlsStream::Progress progress = connection.tls->shakeHands();
    connection.events = POLLIN;
    if (progress.state == TlsStream::State::Waits) {
      connection.events = progress.events;
      return true;
    }
    if (progress.state != TlsStream::State::Moved) {
      refuse(fd, progress.why);
      return false;
    }
    std::string site = connection.tls->peer();
    connection.isKnown = door->sites.contains(site);
    if (!connection.isKnown)
      refuse(fd, "the certificate is that of '" + printable(site) +
                     "', which is none of its sites");
    return connection.isKnown;
  }

  bool serve(int fd, short events) {
    Connection &connection = connections[fd];
    if (connection.tls && !connection.isKnown) {
      if (!introduce(fd, connection))
        return false;
      if (!connection.isKnown)
        return true; // not done yet
    }
    // TLS may have read more than it has handed out, of which poll knows
    // nothing.
    for (bool moved = true; moved;) {
      moved = false;
      if ((connection.tls || events & (POLLIN | POLLHUP | POLLERR)) &&
          connection.out.size() < kMaxPending) {
        char data[65536];
        std::optional<std::size_t> got = receive(fd, connection, data);
        if (!got)
          return false;
        connection.in.append(data, *got);
        moved |= *got > 0;
      }
      if (!answer(connection))
        return false;
      if (!connection.out.empty()) {
        std::optional<std::size_t> put = send(fd, connection);
        if (!put)
          return false;
        connection.out.erase(0, *put);
        moved |= *put > 0;
        if (!answer(connection)) // what had to wait for room
          return false;
      }
      moved &= connection.tls != nullptr;
    }
    return true;
  }

  short eventsOf(const Connection &connection) const {
    if (connection.tls && !connection.isKnown)
      return connection.events;
    return static_cast<short>(
        (connection.out.size() < kMaxPending ? POLLIN : 0) |
        (connection.out.empty() ? 0 : POLLOUT));
  }

  void admit(int fd) {
    Connection &connection = connections[fd];
    if (!door)
      return;
    connection.introduction = std::chrono::steady_clock::now() + kIntroduction;
    try {
      connection.tls =
          std::make_unique<TlsStream>(*identity, fd, TlsStream::Role::Answers);
    } catch (const Error &) {
      connections.erase(fd);
    }
  }

  /// Those who do not say in time who they are; how many are left.
  std::size_t dropSilent() {
    std::size_t left = 0;
    auto now = std::chrono::steady_clock::now();
    for (auto at = connections.begin(); at != connections.end();) {
      bool isStranger = at->second.tls && !at->second.isKnown;
      if (isStranger && at->second.introduction <= now) {
        refuse(at->first, "it did not say who it is");
        at = connections.erase(at);
        continue;
      }
      left += isStranger;
      ++at;
    }
    return left;
  }

  void run() {
    bool full = false; // no descriptors left: who waits must wait
    for (;;) {
      std::size_t strangers = dropSilent();
      full |= strangers >= kMostIntroductions;
      std::vector<pollfd> polled{
          {wake, POLLIN, 0},
          {listener, static_cast<short>(full ? 0 : POLLIN), 0}};
      for (auto &[fd, connection] : connections)
        polled.push_back({fd, eventsOf(connection), 0});
      if (::poll(polled.data(), polled.size(),
                 full || strangers ? kBackOffMilliseconds : -1) < 0) {
        if (errno == EINTR)
          continue;
        return;
      }
      if (polled[0].revents)
        return;
      full = false;
      if (polled[1].revents) {
        int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd >= 0 && connections.size() < kMaxConnections)
          admit(fd);
        else if (fd >= 0)
          ::close(fd);
        else
          full = errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
                 errno == ENOMEM;
      }
      for (std::size_t i = 2; i < polled.size(); ++i)
        if (polled[i].revents && !serve(polled[i].fd, polled[i].revents)) {
          close(polled[i].fd, connections.at(polled[i].fd));
          connections.erase(polled[i].fd);
        }
    }
  }
};

StoreServer::StoreServer(const std::string &host, std::uint16_t port,
                         std::optional<StoreDoor> door)
    : state(std::make_unique<State>()) {
  if (door)
    state->identity.emplace(door->files);
  state->door = std::move(door);
  state->wake = ::eventfd(0, EFD_CLOEXEC);
  if (state->wake < 0)
    throw Error(Status::Failed, "store on '", host,
                "': cannot wait for others: ", std::strerror(errno));
  state->listener = listenOn("store", host, port, state->address);
  state->thread = std::thread([this] { state->run(); });
}

StoreServer::~StoreServer() {
  std::uint64_t wake = 1;
  (void)!::write(state->wake, &wake, sizeof wake);
  state->thread.join();
}

const std::string &StoreServer::address() const { return state->address; }

StoreClient::StoreClient(const std::string &address,
                         std::chrono::milliseconds timeout,
                         const std::optional<StoreKeeper> &keeper)
    : address(address), timeout(timeout) {
  auto deadline = std::chrono::steady_clock::now() + timeout;
  parseAddress(address); // an Error of its own
  try {
    fd = dial(address, deadline, /*isPatient=*/true);
    if (keeper) {
      tls = std::make_unique<TlsStream>(TlsIdentity(keeper->files),
                                        std::exchange(fd, -1),
                                        TlsStream::Role::Dials);
      shakeHands(*tls, deadline);
      if (tls->peer() != keeper->site)
        throw PeerError("expected the certificate of site '", keeper->site,
                        "', got that of '", printable(tls->peer()), "'");
      return;
    }
  } catch (const PeerError &error) {
    throw PeerError("store at ", address, ": ", error.what());
  }
  // A store that has gone silent must not hold anyone for ever.
  timeval limit{static_cast<time_t>(timeout.count() / 1000),
                static_cast<suseconds_t>(timeout.count() % 1000 * 1000)};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

StoreClient::~StoreClient() {
  if (fd >= 0)
    ::close(fd);
}

void StoreClient::transfer(bool sending, char *data, std::size_t bytes) {
  if (tls) {
    auto deadline = std::chrono::steady_clock::now() + timeout;
    auto all = std::as_writable_bytes(std::span(data, bytes));
    try {
      sending ? writeAll(*tls, all, deadline) : readAll(*tls, all, deadline);
    } catch (const PeerError &error) {
      throw PeerError("store at ", address, ": ", error.what());
    }
    return;
  }
  while (bytes > 0) {
    ssize_t n = sending ? ::send(fd, data, bytes, MSG_NOSIGNAL)
                        : ::recv(fd, data, bytes, 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      throw PeerError("store at ", address, ": the connection is lost");
    data += n;
    bytes -= static_cast<std::size_t>(n);
  }
}

bool StoreClient::ask(char operation, const std::string &key,
                      std::vector<char> &value) {
  if (key.size() > kMaxKey || value.size() > kMaxValue)
    throw Error("store: unusable size of key or value");
  std::string request;
  auto keyBytes = static_cast<std::uint32_t>(key.size());
  auto valueBytes = static_cast<std::uint32_t>(value.size());
  request += operation;
  request.append(reinterpret_cast<char *>(&keyBytes), sizeof keyBytes);
  request.append(reinterpret_cast<char *>(&valueBytes), sizeof valueBytes);
  request += key;
  request.append(value.data(), value.size());
  std::lock_guard lock(mutex);
  transfer(true, request.data(), request.size());
  char head[5];
  transfer(false, head, sizeof head);
  std::uint32_t bytes;
  std::memcpy(&bytes, head + 1, sizeof bytes);
  if (bytes > kMaxValue)
    throw PeerError("store at ", address, ": it answers nonsense");
  value.resize(bytes);
  transfer(false, value.data(), value.size());
  return head[0] != 0;
}

void StoreClient::set(const std::string &key, const std::vector<char> &value) {
  std::vector<char> data = value;
  ask(1, key, data);
}

bool StoreClient::claim(const std::string &key,
                        const std::vector<char> &value) {
  std::vector<char> data = value;
  return !ask(3, key, data);
}

std::optional<std::vector<char>> StoreClient::look(const std::string &key) {
  std::vector<char> value;
  if (!ask(2, key, value))
    return std::nullopt;
  return value;
}

std::vector<char> StoreClient::get(const std::string &key,
                                   std::chrono::milliseconds timeout) {
  auto deadline = std::chrono::steady_clock::now() + timeout;
  auto pause = std::chrono::milliseconds(1);
  for (;;) {
    if (std::optional<std::vector<char>> value = look(key))
      return *value;
    if (std::chrono::steady_clock::now() >= deadline)
      throw PeerError("store at ", address, ": nobody set '", key, "' within ",
                      timeout.count() / 1000.0, " seconds");
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::milliseconds(50));
  }
}

} // namespace tombolo::runtime
