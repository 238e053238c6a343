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

std::string tombolo::runtime::addressOf(const grpc::ServerContext &context) {
  std::string peer = context.peer();
  return peer.starts_with("ipv") ? peer.substr(0, peer.rfind(':')) : peer;
}

/// What tells somebody from those this server serves; empty when nothing does.
static std::string difference(const ParameterServerOptions &options,
                              const std::string &runId,
                              const std::string &contract,
                              const std::string &contractText,
                              std::uint32_t protocol) {
  auto of = [](const char *what, const std::string &expected,
               const std::string &found) {
    std::string shown = found.substr(0, 64);
    std::replace_if(
        shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; },
        '?');
    return std::string("expected ") + what + " '" + expected + "', got '" +
           shown + "'";
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
                                        std::string &message,
                                        const std::string &contract) {
  message = difference(options, sender.run_id(), sender.contract(), contract,
                       sender.protocol());
  if (!message.empty())
    return Outcome::WrongRun;
  if (sender.island() >= options.outer.islands) {
    message = "the plan has " + std::to_string(options.outer.islands) +
              " islands, got island " + std::to_string(sender.island());
    return Outcome::UnknownSender;
  }
  if (sender.rank() >= kMostRanks) {
    message = "an island has at most " + std::to_string(kMostRanks) +
              " ranks, got rank " + std::to_string(sender.rank());
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
  why = difference(options, message.run_id(), message.contract(),
                   message.contract_text(), message.protocol());
  if (!why.empty())
    return false;
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
