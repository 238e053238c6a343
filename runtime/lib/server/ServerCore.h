//===- ServerCore.h - what the threads of a server share --------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_SERVERCORE_H
#define TOMBOLO_LIB_SERVER_SERVERCORE_H

#include "RateLimit.h"
#include "Replica.h"

#include "tombolo/runtime/server/ParameterServer.h"

#include <condition_variable>

namespace tombolo::runtime {

/// On a clock that only goes on.
double nowSeconds();

struct ServerCore {
  explicit ServerCore(const ParameterServerOptions &given);

  /// Returns when what a mark stands for is on all disks that it has to be on.
  /// False: it never will, another server decides, or this one ends; or, unless
  /// `forLong`, its backup is missed, and who asks had better ask again.
  /// Without the mutex. Throws StorageError.
  bool waitUntilTold(const Replica::Mark &mark, bool forLong = false);
  /// What has gone wrong is not in the request: from here on state and log may
  /// differ, so nothing is taken in any more. Without the mutex.
  void fail(const std::string &why);
  /// Lets everybody who waits return, for good.
  void stop();
  bool isStopping();

  const ParameterServerOptions options;
  RateLimit limit;  ///< of what crosses a line
  std::mutex mutex; // guards all below
  std::condition_variable changed;
  std::condition_variable outgoing; ///< there may be something for a peer
  Replica replica;
  bool stopping = false;
  std::string failure; // why nothing is taken in any more
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_SERVERCORE_H
