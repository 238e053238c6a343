//===- RankService.h - what ranks ask the server ----------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Threads and sockets around a Replica. One mutex guards the state; data is
// received before it is taken and sent after it is released. A thread of its
// own computes new versions, without the mutex, so that no request waits for
// an outer step but those that wait for its version.
//
// What a reply or a version rests on is made durable in between: appended to
// the log with the mutex, synced without it - here and, where there is one, by
// the backup - then told. A server that is not primary answers nothing else.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_RANKSERVICE_H
#define TOMBOLO_LIB_SERVER_RANKSERVICE_H

#include "Identity.h"
#include "IncomingPush.h"
#include "ServerCore.h"
#include "Watchdog.h"
#include "Wire.h"

#include "tombolo/schema/server.grpc.pb.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

namespace tombolo::runtime {

class RankService final : public server::v1::ParameterServer::Service {
public:
  explicit RankService(ServerCore &core)
      : core(core), options(core.options), mutex(core.mutex),
        changed(core.changed), replica(core.replica),
        pushes(mostStagedBytes(options.outer), options.idleSeconds),
        watchdog(options.idleSeconds) {
    pushedBytes.resize(options.outer.islands);
    pulledBytes.resize(options.outer.islands);
    closer = std::thread([this] { closeRounds(); });
  }
  ~RankService() override {
    core.stop();
    closer.join();
  }

  grpc::Status Push(grpc::ServerContext *context,
                    grpc::ServerReader<server::v1::PushRequest> *reader,
                    server::v1::PushReply *reply) override {
    return guarded([&] { return push(*context, *reader, *reply); });
  }
  grpc::Status Wait(grpc::ServerContext *context,
                    const server::v1::WaitRequest *request,
                    server::v1::WaitReply *reply) override {
    return guarded([&] { return wait(*context, *request, *reply); });
  }
  grpc::Status Heartbeat(grpc::ServerContext *context,
                         const server::v1::HeartbeatRequest *request,
                         server::v1::HeartbeatReply *reply) override {
    return guarded([&] { return heartbeat(*context, *request, *reply); });
  }
  grpc::Status Greet(grpc::ServerContext *context,
                     const server::v1::GreetRequest *request,
                     server::v1::GreetReply *reply) override {
    return guarded([&] { return greet(*context, *request, *reply); });
  }
  grpc::Status Administer(grpc::ServerContext *context,
                          const server::v1::AdminRequest *request,
                          server::v1::AdminReply *reply) override {
    return guarded([&] { return administer(*context, *request, *reply); });
  }
  grpc::Status
  Pull(grpc::ServerContext *context, const server::v1::PullRequest *request,
       grpc::ServerWriter<server::v1::PullReply> *writer) override {
    return guarded([&] { return pull(*context, *request, *writer); });
  }

private:
  static std::uint64_t mostStagedBytes(const OuterConfig &outer) {
    std::uint64_t bytes = 0;
    for (const OuterTensor &tensor : outer.tensors)
      bytes += 2 * sizeof(float) * tensor.elements;
    return bytes * outer.islands;
  }

  /// No request may take the service down.
  template <typename Body> grpc::Status guarded(Body body) {
    try {
      return body();
    } catch (const std::bad_alloc &) {
      return {grpc::StatusCode::RESOURCE_EXHAUSTED, "out of memory"};
    } catch (const StorageError &error) {
      core.fail(error.what());
      return {grpc::StatusCode::INTERNAL, error.what()};
    } catch (const std::exception &error) {
      return {grpc::StatusCode::INTERNAL, error.what()};
    }
  }

  /// The state, of a server that is primary.
  DurableState &durable() { return replica.state(); }
  const OuterState &state() const { return replica.state().state(); }

  /// Who has heard of a newer epoch knows better than this server. With the
  /// mutex.
  bool servesNow(const server::v1::Sender &sender) const {
    return replica.serves(nowSeconds()) && sender.epoch() <= replica.epoch();
  }
  static std::string notPrimary() {
    return "this server is not primary, or cannot reach its backup";
  }

  Outcome checkSender(const grpc::ServerContext &context,
                      const server::v1::Sender &sender, std::string &message,
                      const std::string &contract = "") const {
    Stranger stranger;
    Outcome outcome =
        checkIdentity(options, context, sender, stranger, contract);
    if (outcome != Outcome::Accepted && options.onStranger)
      options.onStranger(withAddress(context, stranger));
    message = stranger.message;
    return outcome;
  }

  /// Tells of a push that no rank of this run makes, unless it is damaged or
  /// somebody else has its certificate. Most refusals are the course of things.
  void noteRefused(const grpc::ServerContext &context,
                   const server::v1::Sender &sender,
                   const PushResult &result) const;

  /// An island has ranks at another site than this server's.
  bool crossesLine(std::uint32_t island) const {
    const auto &servers = options.group.sites;
    if (options.self >= servers.size() || island >= options.sites.size())
      return true;
    return std::any_of(
        options.sites[island].begin(), options.sites[island].end(),
        [&](const std::string &site) { return site != servers[options.self]; });
  }

  bool knownFragment(std::uint32_t fragment, std::string &message) const {
    if (fragment < options.outer.fragments)
      return true;
    message = "the plan has " + std::to_string(options.outer.fragments) +
              " fragments, got fragment " + std::to_string(fragment);
    return false;
  }

  /// What else a reply to a push says. With the mutex.
  void describe(std::uint32_t fragment, server::v1::PushReply &reply) const {
    reply.set_epoch(replica.epoch());
    if (fragment >= options.outer.fragments || !replica.isPrimary())
      return;
    if (auto version = state().current(fragment)) {
      reply.set_started(true);
      reply.set_version(version->number);
    }
  }

  grpc::Status push(grpc::ServerContext &context,
                    grpc::ServerReader<server::v1::PushRequest> &reader,
                    server::v1::PushReply &reply);
  /// What comes of one stripe of a push on a stream.
  PushResult receive(grpc::ServerContext &context,
                     grpc::ServerReader<server::v1::PushRequest> &reader,
                     Watchdog::Watch &watch, IncomingPush &push,
                     std::uint32_t stripe, server::v1::PushReply &reply);
  /// A push whose data is here.
  PushResult take(const IncomingPush &push);
  /// The closer's life: of a primary, computes what `toClose` names, announces
  /// and publishes; of a backup, keeps up.
  void closeRounds();
  void noteTerm();
  void closeRound(std::unique_lock<std::mutex> &lock);
  void takeSnapshotIfDue(std::unique_lock<std::mutex> &lock);
  void noteEnd(std::unique_lock<std::mutex> &lock);
  grpc::Status wait(grpc::ServerContext &context,
                    const server::v1::WaitRequest &request,
                    server::v1::WaitReply &reply);
  grpc::Status pull(grpc::ServerContext &context,
                    const server::v1::PullRequest &request,
                    grpc::ServerWriter<server::v1::PullReply> &writer);
  /// What is there now.
  grpc::Status send(grpc::ServerContext &context,
                    const server::v1::PullRequest &request,
                    grpc::ServerWriter<server::v1::PullReply> &writer);
  grpc::Status heartbeat(grpc::ServerContext &context,
                         const server::v1::HeartbeatRequest &request,
                         server::v1::HeartbeatReply &reply);
  grpc::Status greet(grpc::ServerContext &context,
                     const server::v1::GreetRequest &request,
                     server::v1::GreetReply &reply);
  // Administration.cpp:
  grpc::Status administer(grpc::ServerContext &context,
                          const server::v1::AdminRequest &request,
                          server::v1::AdminReply &reply);
  /// What a wish comes to. `changed`: the islands that it is about. With the
  /// mutex.
  Outcome changeMembers(const server::v1::AdminRequest &request,
                        std::vector<std::uint32_t> &changed,
                        std::string &message);
  void describe(server::v1::AdminReply &reply) const;

  ServerCore &core;
  const ParameterServerOptions &options;
  // The core's: the mutex guards all below but the threads.
  std::mutex &mutex;
  std::condition_variable &changed;
  Replica &replica;
  std::uint64_t term = ~std::uint64_t(0); ///< of what is to close and to tell
  IncomingPushes pushes;
  std::vector<std::uint64_t> pushedBytes, pulledBytes; ///< by island
  std::deque<std::shared_ptr<RoundClosing>> toClose;
  std::deque<OuterEvent> toTell;             // that need no computing
  std::optional<std::uint64_t> finishedTerm; ///< in which islands were told
  std::optional<double> overSeconds;
  bool toldOver = false;
  Watchdog watchdog;
  std::thread closer;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_RANKSERVICE_H
