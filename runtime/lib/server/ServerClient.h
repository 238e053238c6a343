//===- ServerClient.h - requests to the parameter server --------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_SERVERCLIENT_H
#define TOMBOLO_LIB_SERVER_SERVERCLIENT_H

#include "Outage.h"
#include "RateLimit.h"
#include "Watchdog.h"
#include "Wire.h"

#include "Buffers.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/server/ExchangeClient.h"

#include "tombolo/schema/server.grpc.pb.h"

#include <grpcpp/client_context.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <mutex>
#include <set>

namespace tombolo::runtime {

/// Whoever did not want to wait for a server has found none.
class ServerSilent : public Error {
  using Error::Error;
};

/// One rank's requests. Every one may be repeated safely, so a connection that
/// is lost is tried again for `retrySeconds`, then Error (status 3), or without
/// end with `onUnreachable`; likewise a server that is not primary, and of
/// several one after the other. Safe from several threads.
class ServerClient {
public:
  explicit ServerClient(const ExchangeOptions &options);

  /// Outcomes other than `OUTCOME_BUSY`, which is tried again, are the
  /// caller's to look at.
  server::v1::PushReply push(const server::v1::PushHeader &header,
                             std::span<const std::byte> data);
  /// `givesUp`: it throws ServerSilent when the server is.
  server::v1::WaitReply wait(server::v1::WaitRequest request,
                             bool givesUp = false);
  /// False: the server does not keep that version any more. The data comes in
  /// order, and each byte once. `ended`, for a request that asks how a push has
  /// ended: that; false then also where there is no update to have.
  bool pull(server::v1::PullRequest request,
            const std::function<void(std::string_view)> &sink,
            server::v1::WaitReply *ended = nullptr,
            std::uint32_t connection = 0, bool givesUp = false);
  /// The same of so many bytes, over all connections at once. Asks until it is
  /// known how the push has ended, or `isLost`.
  Buffer pullAll(const server::v1::PullRequest &request, std::uint64_t bytes,
                 Buffers &from, bool &kept,
                 server::v1::WaitReply *ended = nullptr,
                 const std::atomic<bool> *isLost = nullptr);
  server::v1::HeartbeatReply heartbeat(bool done);
  std::size_t serverCount() const { return servers.size(); }
  /// One try at one of the servers, whatever comes of it: all of them hear who
  /// is there. Who answers as primary is asked first from then on. `stop`: asks
  /// that the run ends.
  void tryHeartbeat(std::size_t server, bool stop);
  /// One try to say that nothing more is needed.
  void tryFarewell();
  /// How often: as the server has said last.
  double beatSeconds() const { return beat; }
  server::v1::AdminReply administer(server::v1::AdminRequest request);
  /// No server has answered for twice as long as islands are given to be heard
  /// of, in which a lost one is replaced. Heartbeats notice it, of rank 0; of
  /// other ranks whatever else they ask for.
  bool isSilent() const;
  /// Asks each server once; nothing when none is there as primary, and `why`.
  std::optional<std::uint64_t> tryGreet(std::string *why);

  /// Makes the calls that block in other threads, and all later ones, throw.
  void abort() noexcept;

  [[noreturn]] void refused(const char *what, server::v1::Outcome outcome,
                            const std::string &message) const;

private:
  /// A call that `abort` and silence cancel, for as long as it lives.
  class Call {
  public:
    explicit Call(ServerClient &client);
    ~Call();
    grpc::ClientContext context;

    /// Something has moved.
    void touch() { watch.touch(); }

  private:
    ServerClient &client;
    Watchdog::Watch watch;
  };

  using Stub = server::v1::ParameterServer::Stub;
  using Clock = std::chrono::steady_clock;

  /// A pull over one connection at a time.
  struct Pulling {
    server::v1::PullRequest request;
    const std::function<void(std::string_view)> &sink;
    server::v1::WaitReply *ended;
    bool kept = true;
    std::uint64_t received = 0; ///< bytes
    std::uint64_t version = 0;  ///< that they are of, where a push is asked for
    Sha256 digest = {};
  };

  bool isAborted();
  void noteAnswer() { silentSince = Clock::rep(0); }
  void noteFailure();
  void fill(server::v1::Sender &sender) const;
  /// Runs `attempt` (Stub, RateLimit -> grpc::Status) until it succeeds, is
  /// refused for good, or `retrySeconds` have passed in which `moved`, how far
  /// it has come, has not grown, and no server is waited for without end.
  /// `what` names it in errors.
  template <typename Attempt>
  void retry(const char *what, Attempt attempt, std::uint32_t connection = 0,
             const std::uint64_t *moved = nullptr, bool givesUp = false);
  /// With time for as long as two beats.
  grpc::Status heartbeatOnce(Stub &stub,
                             const server::v1::HeartbeatRequest &request);
  /// One attempt, with the server that answered last; after a failure the next
  /// one is asked.
  template <typename Attempt>
  grpc::Status attemptOnce(Attempt attempt, std::uint32_t connection = 0);
  void turnFrom(std::size_t server);
  /// In how many stripes so many bytes go.
  std::uint32_t stripesOf(std::uint64_t bytes) const;
  server::v1::PushReply pushStripe(server::v1::PushHeader header,
                                   std::span<const std::byte> data,
                                   bool wasThere);
  /// What a reply of any kind comes to: one that another server may give, or
  /// the same one later, is no success.
  template <typename Reply>
  grpc::Status settle(const grpc::Status &status, const Reply &reply);
  std::string failure(const char *what, const std::string &why) const;
  [[noreturn]] void fail(const char *what, const std::string &why) const;
  grpc::Status pullOnce(Stub &stub, Pulling &pulling);

  const ExchangeOptions options;
  struct Server {
    explicit Server(double mostBytesPerSecond) : limit(mostBytesPerSecond) {}
    /// Each a socket of its own. What is no data goes over the first.
    std::vector<std::unique_ptr<Stub>> connections;
    RateLimit limit;
  };
  std::deque<Server> servers;
  std::atomic<std::size_t> current = 0;
  std::atomic<std::uint64_t> epoch = 0; // the newest that a server told of
  std::atomic<double> beat = 1;
  std::atomic<Clock::rep> silentSince = 0; // the first failure; 0: answered
  Watchdog watchdog;
  Outage outage;
  std::mutex mutex; // guards the two below
  std::set<grpc::ClientContext *> running;
  bool aborted = false;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_SERVERCLIENT_H
