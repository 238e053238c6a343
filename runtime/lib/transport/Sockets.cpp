//===- Sockets.cpp - what stores and transports share ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Sockets.h"

#include "tombolo/runtime/Transport.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

using namespace tombolo::runtime;

namespace {

/// Waits for one of `events`; false at the deadline.
bool await(int fd, short events, Deadline deadline) {
  for (;;) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd polled{fd, events, 0};
    int ready = ::poll(
        &polled, 1,
        static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 60000)));
    if (ready > 0 || (ready < 0 && errno != EINTR))
      return true;
    if (left.count() <= 0)
      return false;
  }
}

/// Goes on until `step` has moved something.
template <typename Step>
std::size_t moved(TlsStream &stream, Deadline deadline, Step step) {
  for (;;) {
    TlsStream::Progress progress = step();
    if (progress.state == TlsStream::State::Moved)
      return progress.bytes;
    if (progress.state == TlsStream::State::Ended)
      throw PeerError("the other side has closed the connection");
    if (progress.state == TlsStream::State::Refused)
      throw PeerError(progress.why);
    if (!await(stream.descriptor(), progress.events, deadline))
      throw PeerError("the other side is silent for too long");
  }
}

} // namespace

sockaddr_in tombolo::runtime::parseAddress(const std::string &address) {
  std::size_t colon = address.rfind(':');
  sockaddr_in result{};
  result.sin_family = AF_INET;
  unsigned port = 0;
  const char *end = address.data() + address.size();
  bool good =
      colon != std::string::npos &&
      std::from_chars(address.data() + colon + 1, end, port).ptr == end &&
      port > 0 && port < 65536 &&
      ::inet_pton(AF_INET, address.substr(0, colon).c_str(),
                  &result.sin_addr) == 1;
  if (!good)
    throw Error("expected an address like 127.0.0.1:7000, got '", address, "'");
  result.sin_port = htons(static_cast<std::uint16_t>(port));
  return result;
}

int tombolo::runtime::listenOn(const char *who, const std::string &host,
                               std::uint16_t port, std::string &address) {
  sockaddr_in bound = parseAddress(host + ":1");
  bound.sin_port = htons(port);
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int one = 1; // connections of the run before may linger at a fixed port
  socklen_t length = sizeof bound;
  auto *where = reinterpret_cast<sockaddr *>(&bound);
  if (fd >= 0 &&
      ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
      ::bind(fd, where, length) == 0 && ::listen(fd, 1024) == 0 &&
      ::getsockname(fd, where, &length) == 0) {
    address = host + ":" + std::to_string(ntohs(bound.sin_port));
    return fd;
  }
  int error = errno;
  if (fd >= 0)
    ::close(fd);
  throw Error(Status::Failed, who, " on '", host, "': cannot listen",
              port ? " at port " + std::to_string(port) : "", ": ",
              std::strerror(error));
}

int tombolo::runtime::dial(const std::string &address, Deadline deadline,
                           bool isPatient) {
  sockaddr_in to = parseAddress(address);
  for (;;) {
    int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
      throw Error(Status::Failed,
                  "cannot open a socket: ", std::strerror(errno));
    if (::connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to) == 0)
      return fd;
    int error = errno;
    ::close(fd);
    if (!isPatient || std::chrono::steady_clock::now() >= deadline)
      throw PeerError("cannot connect: ", std::strerror(error));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

void tombolo::runtime::shakeHands(TlsStream &stream, Deadline deadline) {
  moved(stream, deadline, [&] { return stream.shakeHands(); });
}

void tombolo::runtime::readAll(TlsStream &stream, std::span<std::byte> data,
                               Deadline deadline) {
  while (!data.empty())
    data = data.subspan(
        moved(stream, deadline, [&] { return stream.read(data); }));
}

void tombolo::runtime::writeAll(TlsStream &stream,
                                std::span<const std::byte> data,
                                Deadline deadline) {
  while (!data.empty())
    data = data.subspan(
        moved(stream, deadline, [&] { return stream.write(data); }));
}
