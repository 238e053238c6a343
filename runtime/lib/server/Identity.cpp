//===- Identity.cpp - who may speak to a server ---------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Identity.h"

#include <algorithm>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

/// On the certificate.
static std::string nameOf(const grpc::ServerContext &context) {
  auto names = context.auth_context()->FindPropertyValues("x509_common_name");
  return names.empty() ? "" : std::string(names[0].data(), names[0].size());
}

Outcome tombolo::runtime::checkIdentity(const ParameterServerOptions &options,
                                        const grpc::ServerContext &context,
                                        const wire::Sender &sender,
                                        std::string &message) {
  if (sender.run_id() != options.runId ||
      sender.plan_checksum() != options.planChecksum) {
    message = "this server serves another run or plan";
    return Outcome::WrongRun;
  }
  if (sender.island() >= options.ranks.size()) {
    message = "the plan has " + std::to_string(options.ranks.size()) +
              " islands, got island " + std::to_string(sender.island());
    return Outcome::UnknownSender;
  }
  std::uint32_t ranks = options.ranks[sender.island()];
  if (sender.rank() >= ranks) {
    message = "island " + std::to_string(sender.island()) + " has " +
              std::to_string(ranks) + " ranks, got rank " +
              std::to_string(sender.rank());
    return Outcome::UnknownSender;
  }
  if (!options.tls.any())
    return Outcome::Accepted;
  std::string site = nameOf(context);
  const std::vector<std::string> &own = options.sites.at(sender.island());
  if (std::find(own.begin(), own.end(), site) == own.end()) {
    message = "the certificate is that of site '" + site +
              "', which is not "
              "one of island " +
              std::to_string(sender.island());
    return Outcome::UnknownSender;
  }
  return Outcome::Accepted;
}

bool tombolo::runtime::checkPeer(const ParameterServerOptions &options,
                                 const grpc::ServerContext &context,
                                 const wire::PeerMessage &message,
                                 std::string &why) {
  if (message.run_id() != options.runId ||
      message.plan_checksum() != options.planChecksum) {
    why = "a server of another run or plan";
    return false;
  }
  if (message.from() >= options.group.votes.size() ||
      message.from() == options.self) {
    why = "expected another server of the run, got server " +
          std::to_string(message.from());
    return false;
  }
  if (!options.tls.any())
    return true;
  std::string name = nameOf(context);
  if (name == kServerName)
    return true;
  why = "the certificate is that of '" + name + "', which is no server";
  return false;
}
