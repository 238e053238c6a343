//===- Administration.cpp - who takes part in a run -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An operator takes the islands of a site out of a running job, or lets them in
// again: the server's side of tombolo-run admin.
//
//===----------------------------------------------------------------------===//

#include "RankService.h"

#include <algorithm>
#include <utility>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

Outcome RankService::changeMembers(const wire::AdminRequest &request,
                                   std::vector<std::uint32_t> &changed,
                                   std::string &message) {
  const bool removes = request.action() == wire::AdminRequest::REMOVE;
  if (!removes && request.action() != wire::AdminRequest::ADD)
    return Outcome::Malformed;
  Membership wanted = state().membership();
  bool isKnown = false;
  for (std::uint32_t island = 0; island < options.sites.size(); ++island) {
    const std::vector<std::string> &sites = options.sites[island];
    if (std::find(sites.begin(), sites.end(), request.site()) == sites.end())
      continue;
    isKnown = true;
    if (wanted.removed[island] == removes)
      continue;
    wanted.removed[island] = removes;
    changed.push_back(island);
  }
  if (!isKnown) {
    message = "the run's plan has no island at site '" +
              request.site().substr(0, 64) +
              "'; to train at another site end the run with SIGTERM, plan "
              "anew, and start it with --resume under the new plan, with "
              "another --run-id and --state-dir";
    return Outcome::Impossible;
  }
  if (request.quorum() > 0)
    wanted.quorum = request.quorum();
  if (wanted == state().membership())
    return Outcome::Repeated;
  if (state().stopRound() > 0)
    message = "the run is ending";
  else
    message = state().objection(wanted);
  if (!message.empty()) {
    changed.clear();
    return Outcome::Impossible;
  }
  durable().setMembership(wanted);
  return Outcome::Accepted;
}

void RankService::describe(wire::AdminReply &reply) const {
  const Membership &members = state().membership();
  reply.set_quorum(members.quorum);
  for (std::uint32_t island = 0; island < options.sites.size(); ++island) {
    wire::AdminReply::Member &member = *reply.add_islands();
    for (const std::string &site : options.sites[island])
      member.add_sites(site);
    member.set_removed(members.removed[island]);
    member.set_live(state().isLive(island, nowSeconds()));
    member.set_done(state().hasLeft(island));
  }
}

grpc::Status RankService::administer(grpc::ServerContext &context,
                                     const wire::AdminRequest &request,
                                     wire::AdminReply &reply) {
  std::string who;
  Stranger stranger;
  Outcome outcome = checkOperator(options, context, request, who, stranger);
  if (outcome != Outcome::Accepted && options.onStranger)
    options.onStranger(withAddress(context, stranger));
  std::string message = stranger.message;
  std::vector<std::uint32_t> changed;
  std::unique_lock lock(mutex);
  auto answer = [&](Outcome what) {
    reply.set_outcome(toWire(what));
    reply.set_message(message);
    return grpc::Status::OK;
  };
  auto refuse = [&] {
    reply.Clear();
    message = notPrimary();
    return answer(Outcome::NotPrimary);
  };
  reply.set_epoch(replica.epoch());
  if (outcome != Outcome::Accepted)
    return answer(outcome);
  if (!core.failure.empty())
    return {grpc::StatusCode::INTERNAL, core.failure};
  if (!servesNow(request.sender()))
    return refuse();
  if (request.action() != wire::AdminRequest::LIST) {
    noteTerm(); // what this brings about is of the term that is now
    outcome = changeMembers(request, changed, message);
  }
  describe(reply);
  // Told when it is durable, as all else.
  Replica::Mark mark = replica.mark();
  lock.unlock();
  if (!core.waitUntilTold(mark))
    return refuse();
  lock.lock();
  if (mark.term == replica.term())
    for (std::uint32_t island : changed) {
      OuterEvent event;
      event.kind = request.action() == wire::AdminRequest::REMOVE
                       ? OuterEvent::Kind::Removed
                       : OuterEvent::Kind::Added;
      event.members = {island};
      event.message =
          "asked for " + (who.empty() ? "on this machine" : "by site " + who);
      toTell.push_back(std::move(event));
    }
  this->changed.notify_all();
  return answer(outcome);
}
