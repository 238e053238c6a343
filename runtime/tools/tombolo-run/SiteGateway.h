//===- SiteGateway.h - the agent speaks TLS for its ranks -------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_SITEGATEWAY_H
#define TOMBOLO_TOOLS_TOMBOLORUN_SITEGATEWAY_H

#include "Commands.h"
#include "Spanning.h"

#include "tombolo/runtime/Gateway.h"
#include "tombolo/runtime/launch/Supervisor.h"

#include <memory>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// With `--gateway` of `tombolo-run site`: ranks talk to the servers through
/// their agent, which alone has the site's key.
class SiteGateway {
public:
  /// Call before threads start. Throws Error.
  SiteGateway();

  /// To the servers, with commas between. Throws Error.
  void open(const std::string &servers, const TlsOptions &tls);

  /// What ranks are told, instead of certificates; nothing before `open`.
  std::vector<std::string> rankArguments() const;

  /// Connections that did not come about: why, each now and then.
  std::vector<std::string> takeFailures() { return failures.take(); }

private:
  TemporaryFolder folder;
  Strangers failures; // which are as tiresome when they come again and again
  std::unique_ptr<Gateway> gateway;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_SITEGATEWAY_H
