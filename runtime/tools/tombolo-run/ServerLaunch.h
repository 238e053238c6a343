//===- ServerLaunch.h - starting a parameter server ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_SERVERLAUNCH_H
#define TOMBOLO_TOOLS_TOMBOLORUN_SERVERLAUNCH_H

#include "Commands.h"

#include "tombolo/runtime/launch/Supervisor.h"
#include "tombolo/runtime/server/ParameterServer.h"

namespace tombolo::runtime {

/// What `tombolo-run server` is told by whoever starts one: `local` for all
/// sites, a site's agent for its own.
struct ServerLaunch {
  std::string plan;
  std::string runId;
  TlsOptions tls;
  std::string address;            ///< empty: any free port of loopback
  std::string site;               ///< empty: the plan has one server
  std::vector<std::string> peers; ///< SITE=ADDRESS of the others
  std::string stateDir;           ///< empty: in memory only
  bool untilFinished = false;
  double detectionSeconds = kDetectionSeconds;
  double lineLimitGbits = 0;

  ProcessSpec process() const;
};

/// Where the servers of a plan with a backup are, by number: that of `site` at
/// `address`, whose number becomes `self`, and the others at `peers`
/// (SITE=ADDRESS). Throws Error (status 2) when they are not just those.
std::vector<std::string> serverAddresses(const ServerGroup &group,
                                         const std::string &site,
                                         const std::string &address,
                                         const std::vector<std::string> &peers,
                                         std::uint32_t &self);

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_SERVERLAUNCH_H
