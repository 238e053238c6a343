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
                              const std::string &contract,
                              const std::string &contractText,
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
  if (contract == options.contract.digest())
    return "";
  std::string difference =
      contractText.empty() ? "" : options.contract.difference(contractText);
  return "the plan is not one of this run (" +
         (difference.empty()
              ? of("the contract",
                   toHex(options.contract.digest()).substr(0, 16),
                   toHex(contract.substr(0, 32)).substr(0, 16))
              : difference) +
         ")";
}

Outcome tombolo::runtime::checkIdentity(const ParameterServerOptions &options,
                                        const grpc::ServerContext &context,
                                        const wire::Sender &sender,
                                        Stranger &stranger,
                                        const std::string &contract) {
  using Reason = Stranger::Reason;
  std::string why = difference(options, sender.run_id(), sender.contract(),
                               contract, sender.protocol());
  if (!why.empty()) {
    stranger = {Reason::WrongRun, why};
    return Outcome::WrongRun;
  }
  const std::string island = "island " + std::to_string(sender.island());
  if (sender.island() >= options.outer.islands) {
    stranger = {Reason::UnknownSender,
                "the plan has " + std::to_string(options.outer.islands) +
                    " islands, got " + island};
    return Outcome::UnknownSender;
  }
  if (sender.rank() >= kMostRanks) {
    stranger = {Reason::UnknownSender,
                "an island has at most " + std::to_string(kMostRanks) +
                    " ranks, got rank " + std::to_string(sender.rank())};
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

Outcome tombolo::runtime::checkOperator(const ParameterServerOptions &options,
                                        const grpc::ServerContext &context,
                                        const wire::AdminRequest &request,
                                        std::string &who, Stranger &stranger) {
  using Reason = Stranger::Reason;
  std::string why =
      difference(options, request.sender().run_id(), options.contract.digest(),
                 "", request.sender().protocol());
  if (!why.empty()) {
    stranger = {Reason::WrongRun, why};
    return Outcome::WrongRun;
  }
  if (!options.tls.any())
    return Outcome::Accepted;
  who = nameOf(context);
  const std::vector<std::string> &servers = options.group.sites;
  auto keepers =
      servers.begin() + std::min<std::ptrdiff_t>(2, std::ssize(servers));
  bool isKeeper = std::find(servers.begin(), keepers, who) != keepers;
  bool isOfRun = std::any_of(
      options.sites.begin(), options.sites.end(), [&](const auto &sites) {
        return std::find(sites.begin(), sites.end(), who) != sites.end();
      });
  bool isOwn = request.action() == wire::AdminRequest::LIST ||
               (request.action() == wire::AdminRequest::REMOVE &&
                request.site() == who && request.quorum() == 0);
  if (isKeeper || (isOfRun && isOwn))
    return Outcome::Accepted;
  why = "the certificate is that of '" + printable(who) +
        "', which may not ask for this; the primary's site may";
  if (keepers - servers.begin() > 1)
    why += ", and the backup's";
  stranger = {Reason::AnotherSite, why};
  return Outcome::UnknownSender;
}

bool tombolo::runtime::checkPeer(const ParameterServerOptions &options,
                                 const grpc::ServerContext &context,
                                 const wire::PeerMessage &message,
                                 Stranger &stranger) {
  using Reason = Stranger::Reason;
  std::string why =
      difference(options, message.run_id(), message.contract(),
                 message.contract_text(), message.protocol());
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
