//===- ParameterServer.h - the server's gRPC service ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_PARAMETERSERVER_H
#define TOMBOLO_RUNTIME_SERVER_PARAMETERSERVER_H

#include "tombolo/runtime/plan/Contract.h"
#include "tombolo/runtime/server/Certificates.h"
#include "tombolo/runtime/server/OuterState.h"
#include "tombolo/runtime/server/Stranger.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace tombolo::plan::v1 {
class Plan;
} // namespace tombolo::plan::v1

namespace tombolo::runtime {

/// The servers of a plan by number (docs/Server.md, Primary and backup): of
/// several the first two keep the state.
struct ServerGroup {
  std::vector<std::string> sites; ///< of each server
  std::vector<std::uint32_t> votes = {1};

  bool isReplicated() const { return votes.size() > 1; }
};

/// A server has been granted an epoch.
struct EpochEvent {
  std::uint64_t epoch = 0;
  std::string primary; ///< site
  std::string backup;  ///< empty: the primary is alone
};

/// Of the talk in server.proto: one that has another may mean something else by
/// the same messages, and is refused.
inline constexpr std::uint32_t kServerProtocol = 2;

/// Of an island. How many it has, and what each pushes, is its own business,
/// and may be another matter each time that it is started.
inline constexpr std::uint32_t kMostRanks = 1u << 20;

/// Who has not been heard of for so long is lost, unless told otherwise.
inline constexpr double kDetectionSeconds = 4;

struct ParameterServerOptions {
  OuterConfig outer;
  /// Requests must carry both; see server.proto.
  std::string runId;
  Contract contract;
  /// With TLS any HOST:PORT (port 0: any free one); without, loopback alone
  /// (127.0.0.0/8, [::1], localhost) or unix:PATH.
  std::string address = "127.0.0.1:0";
  /// With it every client needs a certificate of the same authority, and may
  /// speak for the islands that have its site alone.
  TlsFiles tls;
  /// The sites of each island.
  std::vector<std::vector<std::string>> sites;
  /// Told of who is turned away, or pushes what cannot be. From any thread.
  std::function<void(const Stranger &)> onStranger;
  ServerGroup group;
  std::uint32_t self = 0; ///< number in the group
  /// Of all servers of the group, of several.
  std::vector<std::string> addresses;
  /// This server has become primary, or it has got or lost its backup. From any
  /// thread.
  std::function<void(const EpochEvent &)> onEpoch;
  /// Of islands; of other servers, which have to have the same, three quarters.
  double detectionSeconds = kDetectionSeconds;
  /// A push in which nothing comes for so long is given up.
  double idleSeconds = 60;
  /// A connection whose handshake does not end for so long is closed. A rank on
  /// a busy machine that comes back to a server that was started again may need
  /// some seconds.
  double handshakeSeconds = 60;
  /// What is sent to islands that have ranks at other sites, and what goes to
  /// the backup counts too; 0: no limit.
  double mostBytesPerSecond = 0;
  /// Where the state is kept (docs/Server.md, Durability), and taken up from by
  /// a server that is started again; empty: in memory only. A server of
  /// several needs it.
  std::string stateDir;
  /// Called for every new version before anybody can see it, from one thread.
  /// A server that has been started again tells of its newest versions once
  /// more.
  std::function<void(const OuterEvent &)> onEvent;
  /// Told of damaged files that could be done without.
  std::function<void(const std::string &)> onDamage;
  /// Told once that the job is finished and no island needs a server any more.
  /// From any thread.
  std::function<void()> onOver;
  /// Told once that nothing can be kept or made any more: the server refuses
  /// all further pushes. From any thread.
  std::function<void(const std::string &)> onFailure;
};

/// Throws Error (status 1) when the plan asks for what this version's server
/// does not have, contradicts itself, or has no server at all.
void checkServerPlan(const plan::v1::Plan &plan);

/// The servers of a plan that `checkServerPlan` has accepted: one alone, or
/// those of primary and backup, of all islands' sites, and of the witness.
ServerGroup serverGroup(const plan::v1::Plan &plan);

/// Settings from a valid plan that `checkServerPlan` has accepted. Throws Error
/// when the islands' programs do not hold the same parameters.
ParameterServerOptions serverOptions(const plan::v1::Plan &plan,
                                     std::string runId);

/// Serves from construction to destruction. Throws Error when it cannot listen
/// at the address.
class ParameterServer {
public:
  explicit ParameterServer(ParameterServerOptions options);
  ~ParameterServer();
  ParameterServer(const ParameterServer &) = delete;
  ParameterServer &operator=(const ParameterServer &) = delete;

  /// Where clients find it: as in the options, with the real port.
  const std::string &address() const;

private:
  class Impl;
  std::unique_ptr<Impl> impl;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_PARAMETERSERVER_H
