//===- Gateway.cpp - a site's way to the servers --------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Gateway.h"

#include "Sockets.h"

#include "tombolo/runtime/Transport.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <system_error>
#include <unistd.h>
#include <utility>

using namespace tombolo::runtime;

namespace {

/// Each way and connection; more waits in the sockets.
constexpr std::size_t kBufferBytes = std::size_t(128) << 10;
/// For a server to be reached, and to shake hands.
constexpr auto kReach = std::chrono::seconds(20);
/// More connections than that wait, as with no descriptors left.
constexpr std::size_t kMostRelays = 4096;
constexpr int kPauseMilliseconds = 100;

/// What has come from one side and has not gone to the other.
struct Pipe {
  std::array<std::byte, kBufferBytes> data;
  std::size_t begin = 0, end = 0;
  bool isOver = false; ///< nothing more will come

  bool isEmpty() const { return begin == end; }
  std::span<std::byte> room() { return data; }
  std::span<const std::byte> content() const {
    return std::span(data).subspan(begin, end - begin);
  }
};

sockaddr_un pathAddress(const std::string &path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    throw Error("'", path, "': expected a path for a socket with at most ",
                sizeof address.sun_path - 1, " bytes");
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

int listenAt(const std::string &path) {
  sockaddr_un address = pathAddress(path);
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0 &&
      ::bind(fd, reinterpret_cast<sockaddr *>(&address), sizeof address) == 0 &&
      ::listen(fd, 1024) == 0)
    return fd;
  int error = errno;
  if (fd >= 0)
    ::close(fd);
  throw Error(Status::Failed, "'", path,
              "': cannot listen there: ", std::strerror(error));
}

/// Of this user: what the folder's mode says already.
bool isOwn(int fd) {
  ucred peer{};
  socklen_t length = sizeof peer;
  return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
         peer.uid == ::geteuid();
}

/// The addresses of a host, or one of a path.
struct Found {
  addrinfo *list = nullptr;
  ~Found() {
    if (list)
      ::freeaddrinfo(list);
  }
};

/// Both ways, until one side has ended or is lost.
void pass(int rank, TlsStream &line) {
  auto out = std::make_unique<Pipe>(), in = std::make_unique<Pipe>();
  short toWrite = POLLOUT, toRead = POLLIN; // what the line waits for
  for (;;) {
    bool hasMoved = false;
    if (out->isEmpty() && !out->isOver) {
      ssize_t got = ::recv(rank, out->data.data(), kBufferBytes, MSG_DONTWAIT);
      if (got < 0 && errno != EAGAIN && errno != EINTR)
        return;
      out->isOver = got == 0;
      out->begin = 0;
      out->end = got > 0 ? static_cast<std::size_t>(got) : 0;
      hasMoved |= got > 0;
    }
    if (!out->isEmpty()) {
      TlsStream::Progress put = line.write(out->content());
      if (put.state == TlsStream::State::Moved)
        out->begin += put.bytes, hasMoved = true;
      else if (put.state == TlsStream::State::Waits)
        toWrite = put.events;
      else
        return;
    }
    if (in->isEmpty() && !in->isOver) {
      TlsStream::Progress got = line.read(in->room());
      in->begin = in->end = 0;
      if (got.state == TlsStream::State::Moved)
        in->end = got.bytes, hasMoved = true;
      else if (got.state == TlsStream::State::Waits)
        toRead = got.events;
      else if (got.state == TlsStream::State::Ended)
        in->isOver = true;
      else
        throw PeerError(got.why); // which may be what the server says of us
    }
    if (!in->isEmpty()) {
      auto data = in->content();
      ssize_t put =
          ::send(rank, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (put < 0 && errno != EAGAIN && errno != EINTR)
        return;
      in->begin += put > 0 ? static_cast<std::size_t>(put) : 0;
      hasMoved |= put > 0;
    }
    // HTTP/2 is over when one side has ended.
    if ((in->isOver && in->isEmpty()) || (out->isOver && out->isEmpty()))
      return line.finish();
    if (hasMoved)
      continue;
    // Who is not waited for is left out, else its end would be told on and on.
    short ofRank =
        static_cast<short>((out->isEmpty() && !out->isOver ? POLLIN : 0) |
                           (!in->isEmpty() ? POLLOUT : 0));
    short ofLine =
        static_cast<short>((!out->isEmpty() ? toWrite : 0) |
                           (in->isEmpty() && !in->isOver ? toRead : 0));
    pollfd polled[] = {{ofRank ? rank : -1, ofRank, 0},
                       {ofLine ? line.descriptor() : -1, ofLine, 0}};
    if (::poll(polled, 2, -1) < 0 && errno != EINTR)
      return;
  }
}

} // namespace

Gateway::Gateway(TlsIdentity tls, std::vector<std::string> given,
                 const std::string &folder,
                 std::function<void(const std::string &)> failed)
    : identity(std::move(tls)), servers(std::move(given)),
      failed(std::move(failed)) {
  auto close = [&] {
    for (int listener : listeners)
      ::close(listener);
  };
  try {
    for (std::size_t server = 0; server < servers.size(); ++server) {
      std::string path = folder + "/" + std::to_string(server);
      listeners.push_back(listenAt(path));
      own.push_back("unix:" + path);
    }
    wake = ::eventfd(0, EFD_CLOEXEC);
    if (wake < 0)
      throw Error(Status::Failed,
                  "cannot wait for ranks: ", std::strerror(errno));
  } catch (...) {
    close();
    throw;
  }
  thread = std::thread([this] { serve(); });
}

Gateway::~Gateway() {
  stopping = true;
  std::uint64_t one = 1;
  (void)!::write(wake, &one, sizeof one);
  thread.join();
  for (int listener : listeners)
    ::close(listener);
  for (const std::string &address : own)
    ::unlink(address.c_str() + std::strlen("unix:"));
  ::close(wake);
  for (Relay &relay : relays) {
    std::lock_guard lock(relay.mutex);
    if (relay.rank >= 0)
      ::shutdown(relay.rank, SHUT_RDWR);
    if (relay.line)
      relay.line->cut();
  }
  for (Relay &relay : relays)
    relay.thread.join();
}

void Gateway::serve() {
  while (!stopping) {
    for (auto relay = relays.begin(); relay != relays.end();) {
      if (relay->isOver) {
        relay->thread.join();
        relay = relays.erase(relay);
      } else {
        ++relay;
      }
    }
    const bool isFull = relays.size() >= kMostRelays;
    std::vector<pollfd> polled{{wake, POLLIN, 0}};
    for (int listener : listeners)
      polled.push_back({isFull ? -1 : listener, POLLIN, 0});
    if (::poll(polled.data(), polled.size(), isFull ? kPauseMilliseconds : -1) <
            0 &&
        errno != EINTR)
      return;
    for (std::size_t server = 0; server < servers.size(); ++server)
      if (polled[server + 1].revents)
        admit(server);
  }
}

void Gateway::admit(std::size_t server) {
  int fd = ::accept4(listeners[server], nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) { // it has gone; or no descriptors left, and must wait
    std::this_thread::sleep_for(std::chrono::milliseconds(kPauseMilliseconds));
    return;
  }
  if (!isOwn(fd)) {
    ::close(fd);
    return;
  }
  Relay &relay = relays.emplace_back();
  relay.server = server;
  relay.rank = fd;
  try {
    relay.thread = std::thread([this, &relay] { run(relay); });
  } catch (const std::system_error &) { // no more to be had
    ::close(fd);
    relays.pop_back();
  }
}

void Gateway::run(Relay &relay) {
  const std::string &server = servers[relay.server];
  try {
    TlsStream line(identity, dial(server), TlsStream::Role::Dials);
    auto reachable = [&](TlsStream *stream) {
      std::lock_guard lock(relay.mutex);
      relay.line = stream;
    };
    struct Leave {
      std::function<void(TlsStream *)> tell;
      ~Leave() { tell(nullptr); }
    } leave{reachable};
    reachable(&line);
    if (!stopping) {
      shakeHands(line, std::chrono::steady_clock::now() + kReach);
      pass(relay.rank, line);
    }
  } catch (const std::exception &error) {
    if (!stopping && failed)
      failed("the server at " + server + ": " + error.what());
  }
  std::lock_guard lock(relay.mutex);
  ::close(std::exchange(relay.rank, -1));
  relay.isOver = true;
}

/// Connected, within a time, or PeerError.
int Gateway::dial(const std::string &address) {
  const Deadline deadline = std::chrono::steady_clock::now() + kReach;
  auto connectTo = [&](int family, const sockaddr *to, socklen_t length) {
    int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
      throw PeerError("cannot open a socket: ", std::strerror(errno));
    int error = ::connect(fd, to, length) == 0 ? 0 : errno;
    while (error == EINPROGRESS) {
      pollfd polled{fd, POLLOUT, 0};
      if (::poll(&polled, 1, kPauseMilliseconds) > 0) {
        socklen_t size = sizeof error;
        ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
      } else if (stopping || std::chrono::steady_clock::now() >= deadline) {
        error = ETIMEDOUT;
      }
    }
    if (error == 0)
      return fd;
    ::close(fd);
    throw PeerError("cannot connect: ", std::strerror(error));
  };
  if (address.starts_with("unix:")) {
    sockaddr_un path = pathAddress(address.substr(5));
    return connectTo(AF_UNIX, reinterpret_cast<sockaddr *>(&path), sizeof path);
  }
  std::size_t colon = address.rfind(':');
  if (colon == std::string::npos)
    throw PeerError("expected HOST:PORT or unix:PATH");
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  Found found;
  if (int error = ::getaddrinfo(host.c_str(), address.c_str() + colon + 1,
                                &hints, &found.list))
    throw PeerError("no address: ", ::gai_strerror(error));
  for (const addrinfo *one = found.list;; one = one->ai_next)
    try {
      return connectTo(one->ai_family, one->ai_addr, one->ai_addrlen);
    } catch (const PeerError &) {
      if (!one->ai_next || stopping)
        throw;
    }
}
