//===- Gateway.h - a site's way to the servers ------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The ranks of a site need no key and no way outside when somebody at the site
// speaks TLS for them: a gateway passes on bytes, and knows nothing of what
// they mean. Each connection of a rank has one of its own to the server, so
// there are as many as the rank has asked for; what a server does not take is
// not read from the rank.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_GATEWAY_H
#define TOMBOLO_RUNTIME_GATEWAY_H

#include "tombolo/runtime/Tls.h"

#include <atomic>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace tombolo::runtime {

class Gateway {
public:
  /// To `servers` (HOST:PORT or unix:PATH), which have the DNS name that `tls`
  /// asks for. It listens at sockets in `folder`, which is its user's alone:
  /// who can connect is who may. `failed` is told of each connection that does
  /// not come about, from any thread. Throws Error.
  Gateway(TlsIdentity tls, std::vector<std::string> servers,
          const std::string &folder,
          std::function<void(const std::string &)> failed);
  /// Ends all connections.
  ~Gateway();
  Gateway(const Gateway &) = delete;
  Gateway &operator=(const Gateway &) = delete;

  /// unix:PATH for each of the servers, in their order.
  const std::vector<std::string> &addresses() const { return own; }

private:
  /// One connection, with a thread of its own.
  struct Relay {
    std::size_t server = 0;
    std::mutex mutex;          ///< guards the next two
    int rank = -1;             ///< socket
    TlsStream *line = nullptr; ///< to the server, once there is one
    std::atomic<bool> isOver = false;
    std::thread thread;
  };

  void serve();
  void admit(std::size_t server);
  void run(Relay &relay);
  int dial(const std::string &address);

  const TlsIdentity identity;
  const std::vector<std::string> servers;
  const std::function<void(const std::string &)> failed;
  std::vector<std::string> own;
  std::vector<int> listeners; ///< by server
  int wake = -1;
  std::atomic<bool> stopping = false;
  std::list<Relay> relays; ///< of the thread below
  std::thread thread;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_GATEWAY_H
