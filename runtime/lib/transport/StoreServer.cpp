//===- StoreServer.cpp - where ranks find each other ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/StoreServer.h"

#include "tombolo/runtime/Transport.h"

#include <arpa/inet.h>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

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

sockaddr_in parseAddress(const std::string &address) {
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

} // namespace

struct StoreServer::State {
  int listener = -1;
  int wake = -1;
  std::string address;
  std::thread thread;

  struct Connection {
    std::string in;
    std::string out;
  };
  std::map<int, Connection> connections;
  std::map<std::string, std::string> values;

  ~State() {
    for (auto &[fd, connection] : connections)
      ::close(fd);
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

  bool serve(int fd, short events) {
    Connection &connection = connections[fd];
    if (events & (POLLIN | POLLHUP | POLLERR) &&
        connection.out.size() < kMaxPending) {
      char data[65536];
      ssize_t got = ::recv(fd, data, sizeof data, MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        return false;
      if (got > 0)
        connection.in.append(data, static_cast<std::size_t>(got));
    }
    if (!answer(connection))
      return false;
    if (!connection.out.empty()) {
      ssize_t put = ::send(fd, connection.out.data(), connection.out.size(),
                           MSG_DONTWAIT | MSG_NOSIGNAL);
      if (put < 0 && errno != EAGAIN && errno != EINTR)
        return false;
      if (put > 0)
        connection.out.erase(0, static_cast<std::size_t>(put));
      return answer(connection); // what had to wait for room
    }
    return true;
  }

  void run() {
    bool full = false; // no descriptors left: who waits must wait
    for (;;) {
      std::vector<pollfd> polled{
          {wake, POLLIN, 0},
          {listener, static_cast<short>(full ? 0 : POLLIN), 0}};
      for (auto &[fd, connection] : connections)
        polled.push_back(
            {fd,
             static_cast<short>(
                 (connection.out.size() < kMaxPending ? POLLIN : 0) |
                 (connection.out.empty() ? 0 : POLLOUT)),
             0});
      if (::poll(polled.data(), polled.size(),
                 full ? kBackOffMilliseconds : -1) < 0) {
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
          connections[fd];
        else if (fd >= 0)
          ::close(fd);
        else
          full = errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
                 errno == ENOMEM;
      }
      for (std::size_t i = 2; i < polled.size(); ++i)
        if (polled[i].revents && !serve(polled[i].fd, polled[i].revents)) {
          ::close(polled[i].fd);
          connections.erase(polled[i].fd);
        }
    }
  }
};

StoreServer::StoreServer(const std::string &host, std::uint16_t port)
    : state(std::make_unique<State>()) {
  auto fail = [&](const char *what) {
    throw Error(Status::Failed, "store on '", host, "': cannot ", what,
                port ? " at port " + std::to_string(port) : "", ": ",
                std::strerror(errno));
  };
  sockaddr_in bound = parseAddress(host + ":1");
  bound.sin_port = htons(port);
  state->wake = ::eventfd(0, EFD_CLOEXEC);
  state->listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (state->wake < 0 || state->listener < 0)
    fail("open a socket");
  int one = 1; // connections of the run before may linger at a fixed port
  ::setsockopt(state->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (::bind(state->listener, reinterpret_cast<sockaddr *>(&bound),
             sizeof bound) != 0 ||
      ::listen(state->listener, 1024) != 0)
    fail("listen");
  socklen_t length = sizeof bound;
  ::getsockname(state->listener, reinterpret_cast<sockaddr *>(&bound), &length);
  state->address = host + ":" + std::to_string(ntohs(bound.sin_port));
  state->thread = std::thread([this] { state->run(); });
}

StoreServer::~StoreServer() {
  std::uint64_t wake = 1;
  (void)!::write(state->wake, &wake, sizeof wake);
  state->thread.join();
}

const std::string &StoreServer::address() const { return state->address; }

StoreClient::StoreClient(const std::string &address,
                         std::chrono::milliseconds timeout)
    : address(address) {
  sockaddr_in to = parseAddress(address);
  auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
      throw Error(Status::Failed,
                  "cannot open a socket: ", std::strerror(errno));
    if (::connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to) == 0)
      break;
    int error = errno;
    ::close(fd);
    fd = -1;
    if (std::chrono::steady_clock::now() >= deadline)
      throw PeerError("store at ", address,
                      ": cannot connect: ", std::strerror(error));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
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
