//===- ParameterServer.cpp - the server's sockets -------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/ParameterServer.h"

#include "Peers.h"
#include "RankService.h"
#include "ServerCredentials.h"

#include "tombolo/runtime/Error.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <optional>

using namespace tombolo::runtime;

class tombolo::runtime::ParameterServer::Impl {
public:
  explicit Impl(const ParameterServerOptions &given)
      : address(given.address), core(given), service(core), peers(core) {
    prepareGrpc();
    auto credentials = grpc::InsecureServerCredentials();
    if (given.tls.any()) {
      credentials = serverCredentials(given.tls);
      failures.emplace(given.onStranger);
    } else if (!isLocalAddress(address)) {
      throw Error("server address '", address,
                  "': expected a loopback address with a port or unix:PATH; "
                  "connections between machines need certificates (--cert, "
                  "--key, --ca)");
    }
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(address, credentials, &port);
    builder.RegisterService(&service);
    if (given.group.isReplicated())
      builder.RegisterService(&peers);
    builder.SetMaxReceiveMessageSize(kMostMessageBytes);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, measuresWay(address));
    // Who connects and says nothing does not hold a descriptor for long.
    builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                               static_cast<int>(given.handshakeSeconds * 1000));
    // Two servers on one port would each get some of the ranks.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    // A rank's machine that vanishes without a word is noticed.
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 20000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
    builder.AddChannelArgument(
        GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
    server = builder.BuildAndStart();
    if (!server || (port == 0 && !address.starts_with("unix:")))
      throw Error("server address '", address,
                  "': cannot listen there; port 0 takes any free one");
    if (!address.starts_with("unix:"))
      address =
          address.substr(0, address.rfind(':') + 1) + std::to_string(port);
  }

  ~Impl() {
    core.stop();
    server->Shutdown(std::chrono::system_clock::now() +
                     std::chrono::milliseconds(500));
    server->Wait();
  }

  std::string address;

private:
  std::optional<HandshakeFailures> failures;
  ServerCore core;
  RankService service;
  Peers peers;
  std::unique_ptr<grpc::Server> server;
};

tombolo::runtime::ParameterServer::ParameterServer(
    ParameterServerOptions options)
    : impl(std::make_unique<Impl>(options)) {}

tombolo::runtime::ParameterServer::~ParameterServer() = default;

const std::string &tombolo::runtime::ParameterServer::address() const {
  return impl->address;
}
