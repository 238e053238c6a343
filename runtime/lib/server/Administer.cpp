//===- Administer.cpp - who takes part in a running job -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/Administer.h"

#include "ServerClient.h"

#include "tombolo/runtime/Error.h"

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

Members tombolo::runtime::administer(const AdminOptions &options,
                                     AdminAction action,
                                     const std::string &site,
                                     std::uint32_t quorum) {
  ExchangeOptions client;
  client.server = options.servers;
  client.tls = options.tls;
  client.runId = options.runId;
  client.retrySeconds = options.retrySeconds;
  wire::AdminRequest request;
  request.set_action(action == AdminAction::Remove ? wire::AdminRequest::REMOVE
                     : action == AdminAction::Add  ? wire::AdminRequest::ADD
                                                   : wire::AdminRequest::LIST);
  request.set_site(site);
  request.set_quorum(quorum);
  wire::AdminReply reply = ServerClient(client).administer(request);
  if (reply.outcome() != wire::OUTCOME_ACCEPTED &&
      reply.outcome() != wire::OUTCOME_REPEATED)
    throw Error("parameter server at ", options.servers, ": ",
                name(fromWire(reply.outcome())), ": ", reply.message());
  Members members;
  members.quorum = reply.quorum();
  members.wasSo = reply.outcome() == wire::OUTCOME_REPEATED;
  for (const wire::AdminReply::Member &member : reply.islands())
    members.islands.push_back({{member.sites().begin(), member.sites().end()},
                               member.removed(),
                               member.live(),
                               member.done()});
  return members;
}
