//===- Administer.h - who takes part in a running job -----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_ADMINISTER_H
#define TOMBOLO_RUNTIME_SERVER_ADMINISTER_H

#include "tombolo/runtime/server/Certificates.h"

#include <cstdint>
#include <string>
#include <vector>

namespace tombolo::runtime {

struct AdminOptions {
  /// As ExchangeOptions::server.
  std::string servers;
  TlsFiles tls; ///< of a site; none: the server is on this machine
  std::string runId;
  /// How long a primary is looked for.
  double retrySeconds = 10;
};

enum class AdminAction { List, Remove, Add };

/// Who takes part.
struct Members {
  struct Island {
    std::vector<std::string> sites;
    bool removed = false;
    bool live = false; ///< is waited for
    bool done = false; ///< has done all of its steps
  };
  std::vector<Island> islands;
  std::uint32_t quorum = 0;
  bool wasSo = false; ///< what was asked for was so already
};

/// Takes the islands of a site out of a running job, lets them in again, or
/// only looks; durable when it returns. `quorum`: of rounds from now on, 0: as
/// it is. Throws Error, status 1 when it is refused or cannot be, 3 when no
/// primary answers.
Members administer(const AdminOptions &options, AdminAction action,
                   const std::string &site, std::uint32_t quorum);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_ADMINISTER_H
