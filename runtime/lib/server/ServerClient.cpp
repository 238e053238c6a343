//===- ServerClient.cpp - requests to the parameter server ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ServerClient.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/Transport.h"

#include <grpcpp/create_channel.h>

#include <chrono>
#include <thread>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;
using Clock = std::chrono::steady_clock;

namespace {

/// The connection failed, not the request: worth another try.
bool isTransient(grpc::StatusCode code) {
  return code == grpc::StatusCode::UNAVAILABLE ||
         code == grpc::StatusCode::DEADLINE_EXCEEDED ||
         code == grpc::StatusCode::CANCELLED; // by a watchdog, of either side
}

std::chrono::system_clock::time_point inSeconds(int seconds) {
  return std::chrono::system_clock::now() + std::chrono::seconds(seconds);
}

} // namespace

ServerClient::Call::Call(ServerClient &client)
    : client(client), watch(client.watchdog, [this] { context.TryCancel(); }) {
  std::lock_guard lock(client.mutex);
  client.running.insert(&context);
  if (client.aborted)
    context.TryCancel();
}

ServerClient::Call::~Call() {
  std::lock_guard lock(client.mutex);
  client.running.erase(&context);
}

ServerClient::ServerClient(const ExchangeOptions &given)
    : options(given), watchdog(given.idleSeconds) {
  if (!options.tls.any() && !isLocalAddress(options.server))
    throw Error("server address '", options.server,
                "': expected a loopback address with a port or unix:PATH, or "
                "certificates");
  prepareGrpc();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMostMessageBytes);
  // A server's machine that vanishes without a word is noticed.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // Proxies named in the environment are for the way out, not for loopback.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Several ranks in one process (tests) do not share a connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  auto credentials = grpc::InsecureChannelCredentials();
  if (options.tls.any()) {
    TlsTexts tls = readTls(options.tls);
    credentials = grpc::SslCredentials(
        {tls.authority, tls.key, tls.certificate});
    // Servers are known by this name, wherever they are.
    arguments.SetSslTargetNameOverride(kServerName);
  }
  stub = wire::ParameterServer::NewStub(
      grpc::CreateCustomChannel(options.server, credentials, arguments));
}

void ServerClient::abort() noexcept {
  std::lock_guard lock(mutex);
  aborted = true;
  for (grpc::ClientContext *context : running)
    context->TryCancel();
}

void ServerClient::fail(const char *what, const std::string &why) const {
  throw Error(Status::Failed, "parameter server at ", options.server, ": ",
              what, " of rank ", options.rank, " of island ", options.island,
              " failed: ", why);
}

void ServerClient::refused(const char *what, wire::Outcome outcome,
                           const std::string &message) const {
  throw Error(Status::Failed, "parameter server at ", options.server,
              " refused the ", what, " of rank ", options.rank, " of island ",
              options.island, " (", name(fromWire(outcome)), "): ", message);
}

void ServerClient::fill(wire::Sender &sender) const {
  sender.set_run_id(options.runId);
  sender.set_plan_checksum(options.planChecksum);
  sender.set_island(options.island);
  sender.set_incarnation(options.incarnation);
  sender.set_rank(options.rank);
}

template <typename Attempt>
void ServerClient::retry(const char *what, Attempt attempt) {
  // From the first failure on: an attempt may take long and be well.
  std::optional<Clock::time_point> end;
  auto pause = std::chrono::milliseconds(50);
  while (true) {
    grpc::Status status = attempt();
    if (status.ok())
      return;
    {
      std::lock_guard lock(mutex);
      if (aborted) // what made somebody abort explains more
        throw PeerError("the exchange with the parameter server was aborted");
    }
    if (!end)
      end = Clock::now() +
            std::chrono::duration_cast<Clock::duration>(
                std::chrono::duration<double>(options.retrySeconds));
    if (!isTransient(status.error_code()) || Clock::now() >= *end)
      fail(what, status.error_message());
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, std::chrono::milliseconds(1000));
  }
}

wire::PushReply ServerClient::push(wire::PushHeader header,
                                   std::span<const std::byte> data) {
  fill(*header.mutable_sender());
  wire::PushReply reply;
  retry("push", [&] {
    reply.Clear();
    Call call(*this);
    auto writer = stub->Push(&call.context, &reply);
    wire::PushRequest request;
    *request.mutable_header() = header;
    // False: the server has answered already; Finish tells what.
    bool open = writer->Write(request);
    for (std::size_t at = 0; open && at < data.size(); at += kChunkBytes) {
      std::span chunk =
          data.subspan(at, std::min(kChunkBytes, data.size() - at));
      request.set_data(chunk.data(), chunk.size());
      open = writer->Write(request);
      call.touch();
    }
    writer->WritesDone();
    grpc::Status status = writer->Finish();
    // The first try may still be on its way when its connection has broken.
    if (status.ok() && reply.outcome() == wire::OUTCOME_BUSY)
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, reply.message());
    return status;
  });
  return reply;
}

wire::WaitReply ServerClient::wait(wire::WaitRequest request) {
  fill(*request.mutable_sender());
  wire::WaitReply reply;
  retry("wait", [&] {
    reply.Clear();
    Call call(*this);
    call.context.set_deadline(inSeconds(20));
    return stub->Wait(&call.context, request, &reply);
  });
  if (reply.outcome() != wire::OUTCOME_ACCEPTED)
    refused("wait", reply.outcome(), reply.message());
  return reply;
}

wire::HeartbeatReply ServerClient::heartbeat(bool done) {
  wire::HeartbeatRequest request;
  fill(*request.mutable_sender());
  request.set_done(done);
  wire::HeartbeatReply reply;
  retry("heartbeat", [&] {
    reply.Clear();
    Call call(*this);
    call.context.set_deadline(inSeconds(20));
    return stub->Heartbeat(&call.context, request, &reply);
  });
  if (reply.outcome() != wire::OUTCOME_ACCEPTED)
    refused("heartbeat", reply.outcome(), reply.message());
  return reply;
}

void ServerClient::tryHeartbeat() {
  wire::HeartbeatRequest request;
  fill(*request.mutable_sender());
  wire::HeartbeatReply reply;
  Call call(*this);
  call.context.set_deadline(inSeconds(2));
  stub->Heartbeat(&call.context, request, &reply);
}

grpc::Status
ServerClient::pullOnce(const wire::PullRequest &request,
                       const std::function<void(std::string_view)> &sink,
                       bool &kept) {
  Call call(*this);
  auto reader = stub->Pull(&call.context, request);
  auto broken = [&](const char *why) {
    call.context.TryCancel();
    reader->Finish();
    fail("pull", std::string("malformed answer: ") + why);
  };
  wire::PullReply reply;
  if (!reader->Read(&reply))
    return reader->Finish();
  if (!reply.has_header())
    broken("expected a header first");
  if (reply.header().outcome() != wire::OUTCOME_ACCEPTED) {
    wire::PullHeader header = reply.header();
    reader->Finish();
    if (header.outcome() != wire::OUTCOME_UNKNOWN_VERSION)
      refused("pull", header.outcome(), header.message());
    kept = false;
    return grpc::Status::OK;
  }
  Sha256 digest;
  bool whole = false;
  while (reader->Read(&reply)) {
    call.touch();
    if (reply.has_trailer()) {
      if (reply.trailer().sha256() != digest.finish())
        broken("the data does not have its SHA-256");
      whole = true;
      break;
    }
    if (!reply.has_data())
      broken("expected data");
    digest.update(reply.data());
    sink(reply.data());
  }
  grpc::Status status = reader->Finish();
  if (status.ok() && !whole)
    broken("no trailer");
  return status;
}

bool ServerClient::pull(wire::PullRequest request,
                        const std::function<void()> &restart,
                        const std::function<void(std::string_view)> &sink) {
  fill(*request.mutable_sender());
  bool kept = true;
  retry("pull", [&] {
    restart();
    return pullOnce(request, sink, kept);
  });
  return kept;
}
