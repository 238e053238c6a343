//===- Relay.h - a line that counts and can be cut --------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_SERVER_RELAY_H
#define TOMBOLO_TEST_SERVER_RELAY_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace tombolo::runtime::test {

/// Passes connections on to a server on 127.0.0.1.
class Relay {
public:
  enum Direction { ToServer, ToClient };

  explicit Relay(const std::string &server)
      : serverPort(std::stoi(server.substr(server.rfind(':') + 1))) {
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in where = loopback(0);
    socklen_t size = sizeof where;
    if (bind(listener, reinterpret_cast<sockaddr *>(&where), size) != 0 ||
        listen(listener, 64) != 0 ||
        getsockname(listener, reinterpret_cast<sockaddr *>(&where), &size) != 0)
      throw std::runtime_error("relay: cannot listen");
    port = ntohs(where.sin_port);
    acceptor = std::thread([this] { acceptAll(); });
  }
  ~Relay() {
    stopping = true;
    acceptor.join();
    for (std::thread &line : lines)
      line.join();
    close(listener);
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(port); }
  /// Since the begin, also of those that are gone.
  int connections() const { return accepted; }
  std::uint64_t bytes(Direction direction) const { return passed[direction]; }
  int cuts() const { return made; }

  /// The first connection that has passed on so many bytes in a direction is
  /// closed on both sides: once, when what it has passed on has been taken.
  void cutAfter(Direction direction, std::uint64_t bytes) {
    limit[direction] = bytes;
  }

  /// While the line is cut connections break, and new ones too.
  void cut(bool value) { isCut = value; }

private:
  static sockaddr_in loopback(int port) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(static_cast<std::uint16_t>(port));
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return where;
  }

  void acceptAll() {
    while (!stopping) {
      pollfd ready{listener, POLLIN, 0};
      if (poll(&ready, 1, 50) != 1)
        continue;
      int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0)
        continue;
      ++accepted;
      lines.emplace_back([this, client] { pass(client); });
    }
  }

  void pass(int client) {
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in where = loopback(serverPort);
    int ends[] = {client, server}; // [direction]: where that comes from
    std::uint64_t count[] = {0, 0};
    std::vector<char> buffer(1 << 16);
    bool open = connect(server, reinterpret_cast<sockaddr *>(&where),
                        sizeof where) == 0;
    while (open && !stopping && !isCut) {
      pollfd ready[] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
      poll(ready, 2, 50);
      for (int d : {ToServer, ToClient}) {
        if (!open || !(ready[d].revents & (POLLIN | POLLHUP | POLLERR)))
          continue;
        ssize_t got = recv(ends[d], buffer.data(), buffer.size(), 0);
        open = got > 0;
        for (ssize_t at = 0; open && at < got;) {
          ssize_t put = send(ends[1 - d], buffer.data() + at,
                             static_cast<std::size_t>(got - at), MSG_NOSIGNAL);
          open = put > 0;
          at += put;
        }
        if (!open)
          continue;
        count[d] += static_cast<std::uint64_t>(got);
        passed[d] += static_cast<std::uint64_t>(got);
        std::uint64_t most = limit[d];
        if (count[d] >= most &&
            limit[d].compare_exchange_strong(most, kNever)) {
          ++made;
          std::this_thread::sleep_for(std::chrono::milliseconds(300));
          open = false;
        }
      }
    }
    close(server);
    close(client);
  }

  const int serverPort;
  int listener = -1, port = 0;
  std::atomic<bool> stopping = false, isCut = false;
  std::atomic<int> accepted = 0, made = 0;
  std::atomic<std::uint64_t> passed[2] = {0, 0};
  static constexpr std::uint64_t kNever = ~std::uint64_t(0);
  std::atomic<std::uint64_t> limit[2] = {kNever, kNever};
  std::thread acceptor;
  std::vector<std::thread> lines; // of the acceptor, until it has ended
};

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_SERVER_RELAY_H
