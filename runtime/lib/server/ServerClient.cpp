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
#include "tombolo/runtime/server/ParameterServer.h"

#include <grpcpp/channel.h>

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

std::chrono::system_clock::time_point inSeconds(double seconds) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(
             std::chrono::duration<double>(seconds));
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
  std::vector<std::string> servers;
  std::string_view rest = options.server;
  while (!rest.empty()) {
    std::size_t end = std::min(rest.find(','), rest.size());
    servers.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (servers.empty())
    throw Error("server address: expected one, got none");
  for (const std::string &server : servers)
    stubs.push_back(wire::ParameterServer::NewStub(
        connectTo(server, options.tls, /*impatient=*/servers.size() > 1)));
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
  sender.set_epoch(epoch);
  sender.set_protocol(kServerProtocol);
}

template <typename Attempt>
grpc::Status ServerClient::attemptOnce(Attempt attempt) {
  std::size_t server = current;
  grpc::Status status = attempt(*stubs[server]);
  if (!status.ok()) // unless another thread has found a better one
    current.compare_exchange_strong(server, (server + 1) % stubs.size());
  return status;
}

template <typename Reply>
grpc::Status ServerClient::settle(const grpc::Status &status,
                                  const Reply &reply) {
  if (!status.ok())
    return status;
  for (std::uint64_t known = epoch; known < reply.epoch();)
    epoch.compare_exchange_weak(known, reply.epoch());
  // Busy: the first try may still be on its way when its connection has broken.
  if (reply.outcome() == wire::OUTCOME_BUSY ||
      reply.outcome() == wire::OUTCOME_NOT_PRIMARY)
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, reply.message());
  return status;
}

template <typename Attempt>
void ServerClient::retry(const char *what, Attempt attempt) {
  // From the first failure on: an attempt may take long and be well.
  std::optional<Clock::time_point> end;
  auto pause = std::chrono::milliseconds(50);
  // Of several servers one may become primary at any moment.
  const auto mostPause =
      std::chrono::milliseconds(stubs.size() > 1 ? 200 : 1000);
  while (true) {
    grpc::Status status = attemptOnce(attempt);
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
    pause = std::min(2 * pause, mostPause);
  }
}

wire::PushReply ServerClient::push(wire::PushHeader header,
                                   std::span<const std::byte> data) {
  wire::PushReply reply;
  retry("push", [&](Stub &stub) {
    reply.Clear();
    fill(*header.mutable_sender()); // with the newest epoch
    Call call(*this);
    auto writer = stub.Push(&call.context, &reply);
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
    return settle(writer->Finish(), reply);
  });
  return reply;
}

wire::WaitReply ServerClient::wait(wire::WaitRequest request) {
  wire::WaitReply reply;
  retry("wait", [&](Stub &stub) {
    reply.Clear();
    fill(*request.mutable_sender());
    Call call(*this);
    call.context.set_deadline(inSeconds(20));
    return settle(stub.Wait(&call.context, request, &reply), reply);
  });
  if (reply.outcome() != wire::OUTCOME_ACCEPTED)
    refused("wait", reply.outcome(), reply.message());
  return reply;
}

wire::HeartbeatReply ServerClient::heartbeat(bool done) {
  wire::HeartbeatRequest request;
  request.set_done(done);
  wire::HeartbeatReply reply;
  retry("heartbeat", [&](Stub &stub) {
    reply.Clear();
    fill(*request.mutable_sender());
    Call call(*this);
    call.context.set_deadline(inSeconds(20));
    return settle(stub.Heartbeat(&call.context, request, &reply), reply);
  });
  if (reply.outcome() != wire::OUTCOME_ACCEPTED)
    refused("heartbeat", reply.outcome(), reply.message());
  return reply;
}

void ServerClient::tryHeartbeat(bool stop, bool gone) {
  wire::HeartbeatRequest request;
  request.set_stop(stop);
  request.set_gone(gone);
  fill(*request.mutable_sender());
  wire::HeartbeatReply reply;
  attemptOnce([&](Stub &stub) {
    Call call(*this);
    call.context.set_deadline(inSeconds(2 * beat));
    return settle(stub.Heartbeat(&call.context, request, &reply), reply);
  });
  if (reply.beat_milliseconds() > 0)
    beat = std::clamp(reply.beat_milliseconds() / 1e3, 0.05, 60.0);
}

std::optional<std::uint64_t> ServerClient::tryGreet() {
  for (std::size_t n = 0; n < stubs.size(); ++n) {
    wire::GreetRequest request;
    fill(*request.mutable_sender());
    wire::GreetReply reply;
    grpc::Status status = attemptOnce([&](Stub &stub) {
      Call call(*this);
      call.context.set_deadline(inSeconds(1));
      return settle(stub.Greet(&call.context, request, &reply), reply);
    });
    if (!status.ok() && !isTransient(status.error_code()))
      fail("greeting", status.error_message());
    if (!status.ok())
      continue;
    if (reply.outcome() != wire::OUTCOME_ACCEPTED)
      refused("greeting", reply.outcome(), reply.message());
    return reply.incarnation();
  }
  return std::nullopt;
}

grpc::Status
ServerClient::pullOnce(Stub &stub, const wire::PullRequest &request,
                       const std::function<void(std::string_view)> &sink,
                       wire::WaitReply *ended, bool &kept) {
  Call call(*this);
  auto reader = stub.Pull(&call.context, request);
  auto broken = [&](const char *why) {
    call.context.TryCancel();
    reader->Finish();
    fail("pull", std::string("malformed answer: ") + why);
  };
  wire::PullReply reply;
  if (!reader->Read(&reply))
    return reader->Finish();
  if (ended) {
    if (!reply.has_push())
      broken("expected how the push has ended first");
    *ended = reply.push();
    grpc::Status status = settle(grpc::Status::OK, *ended);
    bool follows = status.ok() && ended->outcome() == wire::OUTCOME_ACCEPTED &&
                   ended->receipt() == wire::RECEIPT_MEMBER;
    call.touch();
    if (!follows || !reader->Read(&reply)) {
      grpc::Status end = reader->Finish();
      if (status.ok() && end.ok() && follows)
        broken("no update");
      if (status.ok() && end.ok() && ended->outcome() != wire::OUTCOME_ACCEPTED)
        refused("wait", ended->outcome(), ended->message());
      kept = false;
      return status.ok() ? end : status;
    }
  }
  if (!reply.has_header())
    broken("expected a header first");
  if (reply.header().outcome() != wire::OUTCOME_ACCEPTED) {
    wire::PullHeader header = reply.header();
    reader->Finish();
    grpc::Status status = settle(grpc::Status::OK, header);
    if (!status.ok())
      return status;
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
                        const std::function<void(std::string_view)> &sink,
                        wire::WaitReply *ended) {
  bool kept = true;
  retry("pull", [&](Stub &stub) {
    restart();
    kept = true;
    fill(*request.mutable_sender());
    if (ended)
      *request.mutable_push()->mutable_sender() = request.sender();
    return pullOnce(stub, request, sink, ended, kept);
  });
  return kept;
}
