//===- HttpServer.cpp - lets people and Prometheus look at a run ----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "HttpServer.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace tombolo::runtime;

namespace {

/// Connections that wait in the kernel beyond these are cut off there.
constexpr unsigned kMostConnections = 64;
/// Who neither asks nor reads for so long is cut off.
constexpr unsigned kIdleSeconds = 10;
/// Of one request, headers included.
constexpr std::size_t kRequestBytes = 16 << 10;
/// What one client may leave unread.
constexpr std::size_t kMostPending = 8 << 20;

struct AddressList {
  ~AddressList() { freeaddrinfo(first); }
  addrinfo *first = nullptr;
};

bool isLoopbackAddress(const sockaddr *address) {
  if (address->sa_family == AF_INET)
    return ntohl(reinterpret_cast<const sockaddr_in *>(address)
                     ->sin_addr.s_addr) >>
               24 ==
           127;
  return address->sa_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(
             &reinterpret_cast<const sockaddr_in6 *>(address)->sin6_addr);
}

std::uint16_t portOf(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  getsockname(socket, reinterpret_cast<sockaddr *>(&address), &size);
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<sockaddr_in6 &>(address).sin6_port
                   : reinterpret_cast<sockaddr_in &>(address).sin_port);
}

/// A socket that listens, or -1.
int listenAt(const std::string &host, std::uint16_t port, bool &loopback) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  AddressList list;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints,
                  &list.first) != 0)
    return -1;
  for (const addrinfo *each = list.first; each; each = each->ai_next) {
    int fd = socket(each->ai_family, each->ai_socktype | SOCK_CLOEXEC,
                    each->ai_protocol);
    if (fd < 0)
      continue;
    // Not SO_REUSEPORT: two runs on one port would each get some of the
    // questions.
    int yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, each->ai_addr, each->ai_addrlen) == 0 &&
        listen(fd, kMostConnections) == 0) {
      loopback = isLoopbackAddress(each->ai_addr);
      return fd;
    }
    close(fd);
  }
  return -1;
}

void addHeaders(MHD_Response *response, const std::string &type) {
  for (auto [name, value] : {std::pair("Content-Type", type.c_str()),
                             {"Cache-Control", "no-store"},
                             {"X-Content-Type-Options", "nosniff"},
                             {"X-Frame-Options", "DENY"},
                             {"Referrer-Policy", "no-referrer"}})
    MHD_add_response_header(response, name, value);
}

} // namespace

// -------------------------------------------------------------------- a stream

void HttpStream::wake() {
  if (std::exchange(sleeps, false))
    MHD_resume_connection(connection);
}

bool HttpStream::send(std::string_view text) {
  std::lock_guard lock(mutex);
  if (over || ended)
    return false;
  if (pending.size() - taken > kMostPending) {
    pending.clear();
    taken = 0;
    ended = true;
  } else {
    pending.append(text);
  }
  wake();
  return !ended;
}

void HttpStream::end() {
  std::lock_guard lock(mutex);
  ended = true;
  wake();
}

bool HttpStream::isOver() {
  std::lock_guard lock(mutex);
  return over;
}

bool HttpStream::isOverBy(std::chrono::steady_clock::time_point time) {
  std::unique_lock lock(mutex);
  return changed.wait_until(lock, time, [&] { return over; });
}

std::int64_t HttpStream::read(char *to, std::size_t most) {
  std::lock_guard lock(mutex);
  std::size_t size = std::min(most, pending.size() - taken);
  if (size > 0) {
    std::memcpy(to, pending.data() + taken, size);
    taken += size;
    if (taken == pending.size()) {
      pending.clear();
      taken = 0;
    }
    return static_cast<std::int64_t>(size);
  }
  if (ended)
    return MHD_CONTENT_READER_END_OF_STREAM;
  sleeps = true;
  MHD_suspend_connection(connection);
  return 0;
}

// ------------------------------------------------------------------ the server

struct HttpServer::Callbacks {
  static MHD_Result answer(void *server, MHD_Connection *connection,
                           const char *url, const char *method, const char *,
                           const char *, size_t *, void **) {
    return static_cast<MHD_Result>(
        static_cast<HttpServer *>(server)->answer(connection, url, method));
  }
  static ssize_t read(void *stream, uint64_t, char *to, size_t most) {
    return (*static_cast<std::shared_ptr<HttpStream> *>(stream))
        ->read(to, most);
  }
  static void release(void *stream) {
    auto *held = static_cast<std::shared_ptr<HttpStream> *>(stream);
    {
      std::lock_guard lock((*held)->mutex);
      (*held)->over = true;
      (*held)->changed.notify_all();
    }
    delete held;
  }
};

HttpServer::HttpServer(const std::string &option, const std::string &host,
                       std::uint16_t wanted, Handler handler)
    : host(host), handler(std::move(handler)) {
  int listener = listenAt(host, wanted, loopback);
  if (listener < 0)
    throw Error(option, " ", wanted, ": cannot listen at ", host,
                "; expected an address of this machine and a free port (0 "
                "takes any)");
  port = portOf(listener);
  daemon = MHD_start_daemon(
      MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL | MHD_USE_ITC |
          MHD_ALLOW_SUSPEND_RESUME,
      port, nullptr, nullptr, &Callbacks::answer, this,
      MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_CONNECTION_LIMIT,
      kMostConnections, MHD_OPTION_CONNECTION_TIMEOUT, kIdleSeconds,
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, kRequestBytes, MHD_OPTION_END);
  if (!daemon) {
    close(listener);
    throw Error(Status::Failed, option, " ", wanted,
                ": the HTTP server does not start: ", std::strerror(errno));
  }
}

HttpServer::~HttpServer() {
  {
    // A sleeping connection cannot be closed, so none sleeps from here on.
    std::lock_guard lock(mutex);
    stopping = true;
    for (const auto &each : streams)
      if (auto stream = each.lock())
        stream->end();
  }
  MHD_stop_daemon(daemon); // closes the listener as well
}

std::string HttpServer::url() const {
  bool isV6 = host.find(':') != std::string::npos;
  return "http://" + (isV6 ? "[" + host + "]" : host) + ":" +
         std::to_string(port);
}

int HttpServer::queue(MHD_Connection *connection, HttpAnswer answer) {
  MHD_Response *response = nullptr;
  if (answer.stream) {
    {
      std::lock_guard lock(mutex);
      std::erase_if(streams, [](const auto &each) { return each.expired(); });
      streams.push_back(answer.stream);
      answer.stream->connection = connection;
      if (stopping)
        answer.stream->end();
    }
    constexpr std::size_t blockBytes = 32 << 10;
    response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, blockBytes, &Callbacks::read,
        new std::shared_ptr<HttpStream>(answer.stream), &Callbacks::release);
  } else {
    response = MHD_create_response_from_buffer(
        answer.body.size(), answer.body.data(), MHD_RESPMEM_MUST_COPY);
  }
  if (!response)
    return MHD_NO;
  addHeaders(response, answer.type);
  if (answer.status == MHD_HTTP_METHOD_NOT_ALLOWED)
    MHD_add_response_header(response, "Allow", "GET");
  int queued = MHD_queue_response(connection, answer.status, response);
  MHD_destroy_response(response);
  return queued;
}

int HttpServer::answer(MHD_Connection *connection, const char *url,
                       const char *method) {
  try {
    if (std::strcmp(method, MHD_HTTP_METHOD_GET) != 0)
      return queue(connection, {.status = MHD_HTTP_METHOD_NOT_ALLOWED,
                                .body = "only GET: a run is looked at here, "
                                        "not changed\n"});
    auto value = [&](MHD_ValueKind kind, const char *key) {
      const char *found = MHD_lookup_connection_value(connection, kind, key);
      return std::string(found ? found : "");
    };
    return queue(connection,
                 handler({.path = url,
                          .host = value(MHD_HEADER_KIND, "Host"),
                          .token = value(MHD_GET_ARGUMENT_KIND, "token")}));
  } catch (const std::exception &error) {
    return queue(connection, {.status = MHD_HTTP_INTERNAL_SERVER_ERROR,
                              .body = std::string(error.what()) + "\n"});
  }
}
