//===- Peers.cpp - the talk between the servers of a run ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Peers.h"

#include "Identity.h"
#include "Wire.h"

#include <grpcpp/channel.h>

#include <chrono>
#include <tuple>
#include <utility>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

namespace {

/// How often the clock is looked at.
constexpr std::chrono::milliseconds kClockTick(50);
/// Before a lost connection is tried again.
constexpr std::chrono::milliseconds kPause(100);
/// A message that a peer has not taken for so long is given up, with its
/// connection.
constexpr double kStuckSeconds = 5;

} // namespace

Peers::Peers(ServerCore &core) : core(core), watchdog(kStuckSeconds) {
  const std::size_t servers = core.options.group.votes.size();
  if (servers == 1)
    return;
  for (std::uint32_t peer = 0; peer < servers; ++peer)
    if (peer != core.options.self)
      threads.emplace_back([this, peer] { send(peer); });
  threads.emplace_back([this] { watchClock(); });
}

Peers::~Peers() {
  core.stop();
  {
    std::lock_guard lock(core.mutex);
    for (grpc::ClientContext *context : running)
      context->TryCancel();
  }
  for (std::thread &thread : threads)
    thread.join();
}

void Peers::watchClock() {
  std::unique_lock lock(core.mutex);
  std::uint64_t toldEpoch = 0;
  std::tuple<std::uint64_t, std::uint64_t, bool> known;
  while (!core.stopping && core.failure.empty()) {
    try {
      // Whoever waits wants to know of another role, or of a missed backup.
      auto now = [&] {
        return std::tuple(core.replica.term(), core.replica.epoch(),
                          core.replica.serves(nowSeconds()));
      };
      core.replica.tick(nowSeconds());
      if (now() != known)
        core.changed.notify_all();
      known = now();
      const wire::Grant &grant = core.replica.newest();
      bool isFresh = core.replica.isPrimary() && grant.epoch() != toldEpoch;
      if (isFresh && core.options.onEpoch) {
        toldEpoch = grant.epoch();
        const auto &sites = core.options.group.sites;
        EpochEvent event{grant.epoch(), sites[grant.primary()],
                         grant.backup() ? sites[1 - grant.primary()] : ""};
        lock.unlock();
        core.options.onEpoch(event);
        lock.lock();
      }
      core.changed.wait_for(lock, kClockTick, [&] { return core.stopping; });
    } catch (const std::exception &error) {
      lock.unlock();
      core.fail(error.what());
      return;
    }
  }
}

void Peers::send(std::uint32_t peer) {
  const ParameterServerOptions &options = core.options;
  auto stub = wire::Peers::NewStub(
      connectTo(options.addresses[peer], options.tls, /*impatient=*/true));
  std::unique_lock lock(core.mutex);
  while (!core.stopping) {
    grpc::ClientContext context;
    wire::PeerReply reply;
    running.insert(&context);
    lock.unlock();
    auto stream = stub->Deliver(&context, &reply);
    lock.lock();
    bool open = true, isFirst = true;
    while (open && !core.stopping) {
      std::optional<wire::PeerMessage> message =
          core.replica.next(peer, nowSeconds());
      if (!message) {
        core.outgoing.wait_for(lock, kClockTick);
        continue;
      }
      message->set_run_id(options.runId);
      if (std::exchange(isFirst, false))
        message->set_contract_text(options.contract.text());
      message->set_contract(options.contract.digest());
      message->set_protocol(kServerProtocol);
      lock.unlock();
      {
        Watchdog::Watch watch(watchdog, [&] { context.TryCancel(); });
        open = stream->Write(*message);
        // Does not wait itself: who is late with it is taken for lost.
        core.limit.charge(message->ByteSizeLong());
      }
      lock.lock();
    }
    lock.unlock();
    context.TryCancel();
    stream->Finish();
    lock.lock();
    running.erase(&context);
    core.outgoing.wait_for(lock, kPause, [&] { return core.stopping; });
  }
}

grpc::Status Peers::Deliver(grpc::ServerContext *context,
                            grpc::ServerReader<wire::PeerMessage> *reader,
                            wire::PeerReply *) {
  wire::PeerMessage message;
  while (reader->Read(&message)) {
    Stranger stranger;
    if (!checkPeer(core.options, *context, message, stranger)) {
      if (core.options.onStranger)
        core.options.onStranger(withAddress(*context, stranger));
      return {grpc::StatusCode::PERMISSION_DENIED, stranger.message};
    }
    try {
      std::lock_guard lock(core.mutex);
      if (core.stopping || !core.failure.empty())
        break;
      core.replica.receive(message, nowSeconds());
      core.changed.notify_all();
      core.outgoing.notify_all();
    } catch (const std::exception &error) {
      core.fail(error.what());
      break;
    }
  }
  return grpc::Status::OK;
}
