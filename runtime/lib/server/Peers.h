//===- Peers.h - the talk between the servers of a run ----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_PEERS_H
#define TOMBOLO_LIB_SERVER_PEERS_H

#include "ServerCore.h"
#include "Watchdog.h"

#include "tombolo/schema/server.grpc.pb.h"

#include <grpcpp/client_context.h>

#include <set>
#include <thread>

namespace tombolo::runtime {

/// Brings a Replica's messages to the other servers, each on a stream of its
/// own, takes theirs, and looks at the clock. Messages that are lost with a
/// connection are the Replica's to send again.
class Peers final : public server::v1::Peers::Service {
public:
  explicit Peers(ServerCore &core);
  ~Peers() override;

  grpc::Status Deliver(grpc::ServerContext *context,
                       grpc::ServerReader<server::v1::PeerMessage> *reader,
                       server::v1::PeerReply *reply) override;

private:
  void send(std::uint32_t peer);
  void watchClock();

  ServerCore &core;
  std::set<grpc::ClientContext *> running; // guarded by the core's mutex
  Watchdog watchdog;
  std::vector<std::thread> threads;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_PEERS_H
