//===- HttpServer.h - lets people and Prometheus look at a run --*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Whoever connects is a stranger, and nothing that one does may hold up the
// run: there is one thread for all of them, so many connections and no more, so
// much memory for a request, and a client that does not read what is sent to it
// is cut off. That is why this is not cpp-httplib's server, which gives a
// thread to each and waits for it at the end.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_HTTPSERVER_H
#define TOMBOLO_TOOLS_TOMBOLORUN_HTTPSERVER_H

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

struct MHD_Connection;
struct MHD_Daemon;

namespace tombolo::runtime {

/// An answer that goes on: what is sent arrives bit by bit.
class HttpStream {
public:
  /// Never waits. False: the client is gone, or so far behind that it is cut
  /// off here and may come again.
  bool send(std::string_view text);
  /// Behind what has been sent.
  void end();
  /// Whether the client has got the end, or is gone.
  bool isOver();
  /// The same, but waits for it.
  bool isOverBy(std::chrono::steady_clock::time_point time);

private:
  friend class HttpServer;

  std::int64_t read(char *to, std::size_t most);
  void wake(); // with the mutex

  std::mutex mutex;
  std::condition_variable changed; ///< `over`
  std::string pending;
  std::size_t taken = 0; ///< bytes of `pending` that are on their way
  bool ended = false, over = false;
  MHD_Connection *connection = nullptr;
  bool sleeps = false; ///< until there is more
};

/// GET is all there is.
struct HttpRequest {
  std::string path;
  std::string host;  ///< the header; empty: none
  std::string token; ///< of ?token=
};

struct HttpAnswer {
  unsigned status = 200;
  std::string type = "text/plain";
  std::string body = "";
  std::shared_ptr<HttpStream> stream = nullptr; ///< instead of a body
};

class HttpServer {
public:
  /// Called on the server's thread.
  using Handler = std::function<HttpAnswer(const HttpRequest &)>;

  /// `option` names who wants it, in messages. Port 0: any free one. Throws
  /// Error when it cannot listen.
  HttpServer(const std::string &option, const std::string &host,
             std::uint16_t port, Handler handler);
  /// Cuts off whoever is still connected.
  ~HttpServer();
  HttpServer(const HttpServer &) = delete;
  HttpServer &operator=(const HttpServer &) = delete;

  /// http://HOST:PORT
  std::string url() const;
  /// Whether only this machine can reach it.
  bool isLoopback() const { return loopback; }

private:
  struct Callbacks; ///< of libmicrohttpd

  int answer(MHD_Connection *connection, const char *url, const char *method);
  int queue(MHD_Connection *connection, HttpAnswer answer);

  const std::string host;
  std::uint16_t port = 0;
  bool loopback = false;
  const Handler handler;
  std::mutex mutex;
  std::vector<std::weak_ptr<HttpStream>> streams;
  bool stopping = false;
  MHD_Daemon *daemon = nullptr;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_HTTPSERVER_H
