//===- SiteGateway.cpp - the agent speaks TLS for its ranks ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SiteGateway.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/server/Certificates.h"
#include "tombolo/runtime/server/ExchangeClient.h"

#include <filesystem>

using namespace tombolo::runtime;

SiteGateway::SiteGateway()
    : folder(std::filesystem::temp_directory_path() / "tombolo-gateway.tmp-") {}

void SiteGateway::open(const std::string &servers, const TlsOptions &tls) {
  if (tls.plaintext)
    throw Error(Status::Usage, kNoKeyToKeep);
  gateway = std::make_unique<Gateway>(
      TlsIdentity(tls.files, kServerName, "h2"), splitAddresses(servers),
      folder.path(),
      [this](const std::string &message) { failures.note(message); });
}

std::vector<std::string> SiteGateway::rankArguments() const {
  if (!gateway)
    return {};
  std::string addresses;
  for (const std::string &address : gateway->addresses())
    addresses += (addresses.empty() ? "" : ",") + address;
  return {"--gateway", addresses};
}
