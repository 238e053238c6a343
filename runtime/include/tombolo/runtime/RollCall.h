//===- RollCall.h - all are there, and are the same -------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Processes that are about to work together say in a store who they are, and
// look at what the others say: the same plan, version and number of processes,
// and nobody twice. Whoever finds something wrong, with itself or with others,
// says so there, and then nobody starts. The torch executor does the same
// (tombolo_torch/store.py).
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_ROLLCALL_H
#define TOMBOLO_RUNTIME_ROLLCALL_H

#include "tombolo/runtime/StoreServer.h"

#include <optional>
#include <string>

namespace tombolo::runtime {

class RollCall {
public:
  /// `store`: its address. `scope` stands before all names in it.
  RollCall(const std::string &store, std::string scope,
           std::chrono::milliseconds timeout,
           const std::optional<StoreKeeper> &keeper = std::nullopt);

  /// Returns when all of `count` are there and say `shared`. `what` one of them
  /// is called in messages ("rank"). Throws Error for what is wrong with this
  /// process, PeerError for what is wrong with others.
  void call(const std::string &what, std::uint64_t number, std::uint64_t count,
            const std::string &shared);

  /// Ends everybody's roll call, also one that begins later.
  void refuse(const std::string &message) noexcept;

  /// Something that one says to all.
  void set(const std::string &key, const std::string &value);
  /// Waits for it. Throws PeerError when it does not come, or all is refused.
  std::string get(const std::string &key);
  /// Does not wait.
  std::optional<std::string> look(const std::string &key);

private:
  StoreClient client;
  std::string address, scope;
  std::chrono::milliseconds timeout;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_ROLLCALL_H
