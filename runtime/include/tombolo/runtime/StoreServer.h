//===- StoreServer.h - where ranks find each other ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// A small key-value service over TCP, kept in memory by whoever starts an
// island. Ranks put their addresses there and fetch their peers'. Nothing is
// written to disk, so nothing stays behind when everything is killed.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_STORESERVER_H
#define TOMBOLO_RUNTIME_STORESERVER_H

#include "tombolo/runtime/Tls.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// Of a store where several sites meet.
struct StoreDoor {
  TlsFiles files;
  std::set<std::string> sites; ///< whose certificates open it
  /// Who was turned away, and why; from the store's thread.
  std::function<void(const std::string &message)> refused;
};

/// How such a store is known.
struct StoreKeeper {
  TlsFiles files;   ///< of the caller
  std::string site; ///< whose certificate the store has
};

class StoreServer {
public:
  /// Listens on `host` at `port`, 0: a free one; serves from a thread of its
  /// own. Without a door in plain text.
  explicit StoreServer(const std::string &host = "127.0.0.1",
                       std::uint16_t port = 0,
                       std::optional<StoreDoor> door = std::nullopt);
  ~StoreServer();
  StoreServer(const StoreServer &) = delete;
  StoreServer &operator=(const StoreServer &) = delete;

  /// "127.0.0.1:PORT"
  const std::string &address() const;

private:
  struct State;
  std::unique_ptr<State> state;
};

/// One connection to a StoreServer. Calls from several threads take turns.
class StoreClient {
public:
  StoreClient(const std::string &address, std::chrono::milliseconds timeout,
              const std::optional<StoreKeeper> &keeper = std::nullopt);
  ~StoreClient();
  StoreClient(const StoreClient &) = delete;
  StoreClient &operator=(const StoreClient &) = delete;

  void set(const std::string &key, const std::vector<char> &value);
  /// Sets what nobody has set before; false when somebody has.
  bool claim(const std::string &key, const std::vector<char> &value);
  /// Nothing when nobody has set it.
  std::optional<std::vector<char>> look(const std::string &key);
  /// Waits until the key is there. Throws PeerError after `timeout`.
  std::vector<char> get(const std::string &key,
                        std::chrono::milliseconds timeout);

private:
  bool ask(char operation, const std::string &key, std::vector<char> &value);
  void transfer(bool sending, char *data, std::size_t bytes);
  std::mutex mutex;
  std::string address;
  std::chrono::milliseconds timeout;
  int fd = -1; // of plain text
  std::unique_ptr<TlsStream> tls;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_STORESERVER_H
