//===- Identity.cpp - who may speak to a server ---------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Identity.h"

#include "tombolo/runtime/File.h"

#include <algorithm>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

/// On the certificate.
static std::string nameOf(const grpc::ServerContext &context) {
  auto names = context.auth_context()->FindPropertyValues("x509_common_name");
  return names.empty() ? "" : std::string(names[0].data(), names[0].size());
}

Stranger tombolo::runtime::withAddress(const grpc::ServerContext &context,
                                       Stranger stranger) {
  std::string peer = context.peer();
  if (peer.starts_with("ipv"))
    peer.resize(peer.rfind(':'));
  stranger.message = peer + ": " + stranger.message;
  return stranger;
}

/// What tells somebody from those this server serves; empty when nothing does.
static std::string difference(const ParameterServerOptions &options,
                              const std::string &runId,
                              const std::string &checksum,
                              std::uint32_t protocol) {
  auto of = [](const char *what, const std::string &expected,
               const std::string &found) {
    return std::string("expected ") + what + " '" + expected + "', got '" +
           printable(found) + "'";
  };
  if (protocol != kServerProtocol)
    return of("a runtime with protocol", std::to_string(kServerProtocol),
              std::to_string(protocol));
  if (runId != options.runId)
    return of("the run", options.runId, runId);
  if (checksum != options.planChecksum)
    return of("the plan", toHex(options.planChecksum).substr(0, 16),
              toHex(checksum.substr(0, 32)).substr(0, 16));
  return "";
}

Outcome tombolo::runtime::checkIdentity(const ParameterServerOptions &options,
                                        const grpc::ServerContext &context,
                                        const wire::Sender &sender,
                                        Stranger &stranger) {
  using Reason = Stranger::Reason;
  std::string why = difference(options, sender.run_id(), sender.plan_checksum(),
                               sender.protocol());
  if (!why.empty()) {
    stranger = {Reason::WrongRun, why};
    return Outcome::WrongRun;
  }
  const std::string island = "island " + std::to_string(sender.island());
  const std::string rank = "rank " + std::to_string(sender.rank());
  if (sender.island() >= options.ranks.size()) {
    stranger = {Reason::UnknownSender,
                "the plan has " + std::to_string(options.ranks.size()) +
                    " islands, got " + island};
    return Outcome::UnknownSender;
  }
  const std::uint32_t ranks = options.ranks[sender.island()];
  if (sender.rank() >= ranks) {
    stranger = {Reason::UnknownSender, island + " has " +
                                           std::to_string(ranks) +
                                           " ranks, got " + rank};
    return Outcome::UnknownSender;
  }
  if (!options.tls.any())
    return Outcome::Accepted;
  const std::string site = nameOf(context);
  const std::vector<std::string> &own = options.sites.at(sender.island());
  if (std::find(own.begin(), own.end(), site) != own.end())
    return Outcome::Accepted;
  stranger = {Reason::AnotherSite, "the certificate is that of site '" +
                                       printable(site) +
                                       "', which is not one of " + island};
  return Outcome::UnknownSender;
}

bool tombolo::runtime::checkPeer(const ParameterServerOptions &options,
                                 const grpc::ServerContext &context,
                                 const wire::PeerMessage &message,
                                 Stranger &stranger) {
  using Reason = Stranger::Reason;
  std::string why = difference(options, message.run_id(),
                               message.plan_checksum(), message.protocol());
  if (!why.empty()) {
    stranger = {Reason::WrongRun, why};
    return false;
  }
  if (message.from() >= options.group.votes.size() ||
      message.from() == options.self) {
    stranger = {Reason::UnknownSender,
                "expected another server of the run, got server " +
                    std::to_string(message.from())};
    return false;
  }
  if (!options.tls.any())
    return true;
  std::string name = nameOf(context);
  if (name == kServerName)
    return true;
  stranger = {Reason::NoServer, "the certificate is that of '" +
                                    printable(name) + "', which is no server"};
  return false;
}
