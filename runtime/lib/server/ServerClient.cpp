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

#include <algorithm>
#include <chrono>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

namespace {

/// Less is not worth a connection of its own.
constexpr std::uint64_t kLeastStripeBytes = std::uint64_t(256) << 10;
/// How often a push is begun again that a server has forgotten.
constexpr int kMostTurns = 10;

/// Runs `body(n)` for all n below `count` at once; throws what one has thrown.
template <typename Body> void atOnce(std::uint32_t count, Body body) {
  std::vector<std::exception_ptr> failures(count);
  auto run = [&](std::uint32_t n) {
    try {
      body(n);
    } catch (...) {
      failures[n] = std::current_exception();
    }
  };
  std::vector<std::thread> threads;
  for (std::uint32_t n = 1; n < count; ++n)
    try {
      threads.emplace_back(run, n);
    } catch (const std::system_error &) { // no more to be had
      run(n);
    }
  run(0);
  for (std::thread &thread : threads)
    thread.join();
  for (const std::exception_ptr &failure : failures)
    if (failure)
      std::rethrow_exception(failure);
}

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
    : options(given), watchdog(given.idleSeconds),
      outage(given.onUnreachable, given.retrySeconds) {
  std::vector<std::string> addresses = splitAddresses(options.server);
  if (addresses.empty())
    throw Error("server address: expected one, got none");
  const std::vector<std::string> gateways = splitAddresses(options.gateway);
  if (!gateways.empty() && gateways.size() != addresses.size())
    throw Error("gateway: expected an address for each of the ",
                addresses.size(), " servers, got ", gateways.size());
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    LineUse line = i < options.lines.size() ? options.lines[i] : LineUse();
    Server &server = servers.emplace_back(line.mostBytesPerSecond);
    for (std::uint32_t n = 0; n < std::max(1u, line.connections); ++n)
      server.connections.push_back(wire::ParameterServer::NewStub(connectTo(
          gateways.empty() ? addresses[i] : gateways[i], options.tls,
          /*impatient=*/addresses.size() > 1, measuresWay(addresses[i]))));
  }
}

void ServerClient::abort() noexcept {
  std::lock_guard lock(mutex);
  aborted = true;
  for (grpc::ClientContext *context : running)
    context->TryCancel();
}

bool ServerClient::isAborted() {
  std::lock_guard lock(mutex);
  return aborted;
}

std::string ServerClient::failure(const char *what,
                                  const std::string &why) const {
  return "parameter server at " + options.server + ": " + what + " of rank " +
         std::to_string(options.rank) + " of island " +
         std::to_string(options.island) + " failed: " + why;
}

void ServerClient::fail(const char *what, const std::string &why) const {
  throw Error(Status::Failed, failure(what, why));
}

void ServerClient::refused(const char *what, wire::Outcome outcome,
                           const std::string &message) const {
  // Of another run or plan, or removed: it is of no use to try again.
  Status status =
      outcome == wire::OUTCOME_WRONG_RUN || outcome == wire::OUTCOME_REMOVED
          ? Status::BadInput
          : Status::Failed;
  throw Error(status, "parameter server at ", options.server, " refused the ",
              what, " of rank ", options.rank, " of island ", options.island,
              " (", name(fromWire(outcome)), "): ", message);
}

void ServerClient::fill(wire::Sender &sender) const {
  sender.set_run_id(options.runId);
  sender.set_contract(options.contract.digest());
  sender.set_island(options.island);
  sender.set_incarnation(options.incarnation);
  sender.set_rank(options.rank);
  sender.set_epoch(epoch);
  sender.set_protocol(kServerProtocol);
}

std::uint32_t ServerClient::stripesOf(std::uint64_t bytes) const {
  std::uint64_t most = std::min<std::uint64_t>(
      servers[current].connections.size(), kMostStripes);
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(bytes / kLeastStripeBytes, 1, most));
}

void ServerClient::noteFailure() {
  Clock::rep known = 0;
  silentSince.compare_exchange_strong(known,
                                      Clock::now().time_since_epoch().count());
}

bool ServerClient::isSilent() const {
  Clock::rep since = silentSince;
  const double patience = 2 * 4 * beat; // four beats make the detection time
  return since != 0 &&
         Clock::now().time_since_epoch() - Clock::duration(since) >=
             std::chrono::duration<double>(patience);
}

template <typename Attempt>
grpc::Status ServerClient::attemptOnce(Attempt attempt,
                                       std::uint32_t connection) {
  std::size_t server = current;
  auto &connections = servers[server].connections;
  grpc::Status status = attempt(*connections[connection % connections.size()],
                                servers[server].limit);
  if (!status.ok()) {
    turnFrom(server);
    noteFailure();
  }
  return status;
}

/// To the next one, unless another thread has found a better one.
void ServerClient::turnFrom(std::size_t server) {
  current.compare_exchange_strong(server, (server + 1) % servers.size());
}

template <typename Reply>
grpc::Status ServerClient::settle(const grpc::Status &status,
                                  const Reply &reply) {
  if (!status.ok())
    return status;
  for (std::uint64_t known = epoch; known < reply.epoch();)
    epoch.compare_exchange_weak(known, reply.epoch());
  if (reply.outcome() != wire::OUTCOME_NOT_PRIMARY)
    noteAnswer();
  // Busy: the first try may still be on its way when its connection has broken.
  if (reply.outcome() == wire::OUTCOME_BUSY ||
      reply.outcome() == wire::OUTCOME_NOT_PRIMARY)
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, reply.message());
  return status;
}

template <typename Attempt>
void ServerClient::retry(const char *what, Attempt attempt,
                         std::uint32_t connection, const std::uint64_t *moved,
                         bool givesUp) {
  std::uint64_t known = 0;
  // From the first failure on: an attempt may take long and be well.
  std::optional<Clock::time_point> end;
  Outage::Call waits(outage);
  auto pause = std::chrono::milliseconds(50);
  // Of several servers one may become primary at any moment.
  const auto mostPause =
      std::chrono::milliseconds(servers.size() > 1 ? 200 : 1000);
  while (true) {
    grpc::Status status = attemptOnce(attempt, connection);
    if (status.ok())
      return waits.comesThrough();
    if (isAborted()) // what made somebody abort explains more
      throw PeerError("the exchange with the parameter server was aborted");
    if (moved && *moved > std::exchange(known, *moved)) {
      end.reset();
      waits.comesThrough();
    }
    if (!end)
      end = Clock::now() +
            std::chrono::duration_cast<Clock::duration>(
                std::chrono::duration<double>(options.retrySeconds));
    bool isLate = Clock::now() >= *end;
    if (!isTransient(status.error_code()) || (isLate && !outage.isAwaited()))
      fail(what, status.error_message());
    if (givesUp && isSilent())
      throw ServerSilent(Status::Failed, failure(what, status.error_message()));
    if (isLate)
      waits.stillFails(failure(what, status.error_message()));
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, mostPause);
  }
}

/// `wasThere`: the server has had it whole, and is asked what it has now. So it
/// is behind a break: only then is nothing sent that has come.
wire::PushReply ServerClient::pushStripe(wire::PushHeader header,
                                         std::span<const std::byte> data,
                                         bool wasThere) {
  wire::PushReply reply;
  std::uint64_t sent = wasThere ? data.size() : 0;
  std::uint64_t arrived = 0; // as the server has said
  auto send = [&](Stub &stub, RateLimit &limit) {
    reply.Clear();
    fill(*header.mutable_sender()); // with the newest epoch
    header.set_sent_before(sent);
    Call call(*this);
    auto writer = stub.Push(&call.context, &reply);
    wire::PushRequest request;
    *request.mutable_header() = header;
    // False: the server has answered already; Finish tells what.
    bool open = writer->Write(request);
    const std::size_t most = limit.piece(kChunkBytes);
    Sha256 digest;
    digest.update(data.first(sent));
    while (open && sent < data.size()) {
      std::span chunk = data.subspan(sent, std::min(most, data.size() - sent));
      if (!limit.take(chunk.size(), [&] { return isAborted(); })) {
        call.context.TryCancel(); // what has come is no whole push
        break;
      }
      request.set_data(chunk.data(), chunk.size());
      open = writer->Write(request);
      digest.update(chunk);
      sent += chunk.size();
      call.touch();
    }
    if (open && sent == data.size()) {
      request.mutable_trailer()->set_sha256(digest.finish());
      writer->Write(request);
    }
    writer->WritesDone();
    grpc::Status status = writer->Finish();
    if (status.ok())
      arrived = std::max<std::uint64_t>(arrived, reply.received());
    else
      sent = data.size();
    return status;
  };
  retry(
      "push",
      [&](Stub &stub, RateLimit &limit) {
        std::uint64_t before = sent;
        grpc::Status status = send(stub, limit);
        if (status.ok() && reply.outcome() == wire::OUTCOME_BUSY) {
          // Not all has come, or a server has been restarted.
          sent = std::min<std::uint64_t>(sent, reply.received());
          if (sent < before)
            status = send(stub, limit);
        }
        return settle(status, reply);
      },
      header.stripe(), &arrived);
  return reply;
}

wire::PushReply ServerClient::push(const wire::PushHeader &header,
                                   std::span<const std::byte> data) {
  const std::uint32_t stripes = stripesOf(data.size());
  std::vector<wire::PushReply> replies(stripes);
  for (int turn = 0; turn < kMostTurns; ++turn) {
    atOnce(stripes, [&](std::uint32_t n) {
      wire::PushHeader own = header;
      own.set_stripe(n);
      own.set_stripes(stripes);
      std::uint64_t begin = stripeBegin(data.size(), n, stripes);
      replies[n] = pushStripe(
          std::move(own),
          data.subspan(begin, stripeBegin(data.size(), n + 1, stripes) - begin),
          /*wasThere=*/turn > 0);
    });
    for (wire::PushReply &reply : replies)
      if (stripes == 1 || reply.whole() ||
          reply.outcome() != wire::OUTCOME_ACCEPTED)
        return std::move(reply);
    // Each is there and none was the last: a server has been lost in between,
    // with what it had of them.
  }
  fail("push", "the server forgets what has come of it again and again");
}

wire::WaitReply ServerClient::wait(wire::WaitRequest request, bool givesUp) {
  wire::WaitReply reply;
  auto ask = [&](Stub &stub, RateLimit &) {
    reply.Clear();
    fill(*request.mutable_sender());
    Call call(*this);
    call.context.set_deadline(inSeconds(20));
    return settle(stub.Wait(&call.context, request, &reply), reply);
  };
  retry("wait", ask, /*connection=*/0, /*moved=*/nullptr, givesUp);
  if (reply.outcome() != wire::OUTCOME_ACCEPTED)
    refused("wait", reply.outcome(), reply.message());
  return reply;
}

wire::HeartbeatReply ServerClient::heartbeat(bool done) {
  wire::HeartbeatRequest request;
  request.set_done(done);
  wire::HeartbeatReply reply;
  retry("heartbeat", [&](Stub &stub, RateLimit &) {
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

wire::AdminReply ServerClient::administer(wire::AdminRequest request) {
  wire::AdminReply reply;
  retry("request", [&](Stub &stub, RateLimit &) {
    reply.Clear();
    fill(*request.mutable_sender());
    Call call(*this);
    call.context.set_deadline(inSeconds(20));
    return settle(stub.Administer(&call.context, request, &reply), reply);
  });
  return reply;
}

grpc::Status
ServerClient::heartbeatOnce(Stub &stub, const wire::HeartbeatRequest &request) {
  wire::HeartbeatReply reply;
  Call call(*this);
  call.context.set_deadline(inSeconds(2 * beat));
  grpc::Status status =
      settle(stub.Heartbeat(&call.context, request, &reply), reply);
  if (reply.beat_milliseconds() > 0)
    beat = std::clamp(reply.beat_milliseconds() / 1e3, 0.05, 60.0);
  if (status.ok() && reply.outcome() != wire::OUTCOME_ACCEPTED)
    return {grpc::StatusCode::FAILED_PRECONDITION, reply.message()};
  return status;
}

void ServerClient::tryHeartbeat(std::size_t server, bool stop) {
  wire::HeartbeatRequest request;
  request.set_stop(stop);
  fill(*request.mutable_sender());
  grpc::Status status =
      heartbeatOnce(*servers[server].connections.front(), request);
  if (status.ok()) { // it is primary, of the newest epoch that is known here
    current = server;
  } else {
    turnFrom(server);
    noteFailure();
  }
}

void ServerClient::tryFarewell() {
  wire::HeartbeatRequest request;
  request.set_gone(true);
  fill(*request.mutable_sender());
  attemptOnce(
      [&](Stub &stub, RateLimit &) { return heartbeatOnce(stub, request); });
}

std::optional<std::uint64_t> ServerClient::tryGreet(std::string *why) {
  for (std::size_t n = 0; n < servers.size(); ++n) {
    wire::GreetRequest request;
    fill(*request.mutable_sender());
    request.set_contract(options.contract.text());
    wire::GreetReply reply;
    grpc::Status status = attemptOnce([&](Stub &stub, RateLimit &) {
      Call call(*this);
      call.context.set_deadline(inSeconds(1));
      return settle(stub.Greet(&call.context, request, &reply), reply);
    });
    if (!status.ok() && !isTransient(status.error_code()))
      fail("greeting", status.error_message());
    if (!status.ok()) {
      if (why)
        *why = status.error_message();
      continue;
    }
    if (reply.outcome() != wire::OUTCOME_ACCEPTED)
      refused("greeting", reply.outcome(), reply.message());
    return reply.incarnation();
  }
  return std::nullopt;
}

grpc::Status ServerClient::pullOnce(Stub &stub, Pulling &pulling) {
  Call call(*this);
  auto reader = stub.Pull(&call.context, pulling.request);
  auto broken = [&](const char *why) {
    call.context.TryCancel();
    reader->Finish();
    fail("pull", std::string("malformed answer: ") + why);
  };
  wire::PullReply reply;
  if (!reader->Read(&reply))
    return reader->Finish();
  if (wire::WaitReply *ended = pulling.ended) {
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
      pulling.kept = false;
      return status.ok() ? end : status;
    }
    if (pulling.received > 0 && ended->go_on_from() != pulling.version)
      broken("the push has ended in another version than before");
    pulling.version = ended->go_on_from();
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
    pulling.kept = false;
    return grpc::Status::OK;
  }
  while (reader->Read(&reply)) {
    call.touch();
    if (reply.has_trailer()) {
      if (reply.trailer().sha256() != pulling.digest.finish())
        broken("the data does not have its SHA-256");
      reader->Finish(); // all is here, whatever becomes of the connection
      return grpc::Status::OK;
    }
    if (!reply.has_data())
      broken("expected data");
    pulling.digest.update(reply.data());
    pulling.sink(reply.data());
    pulling.received += reply.data().size();
    noteAnswer();
  }
  grpc::Status status = reader->Finish();
  if (status.ok())
    broken("no trailer");
  return status;
}

bool ServerClient::pull(wire::PullRequest request,
                        const std::function<void(std::string_view)> &sink,
                        wire::WaitReply *ended, std::uint32_t connection,
                        bool givesUp) {
  Pulling pulling{.request = std::move(request), .sink = sink, .ended = ended};
  retry(
      "pull",
      [&](Stub &stub, RateLimit &) {
        pulling.kept = true;
        pulling.request.set_sent_before(pulling.received);
        fill(*pulling.request.mutable_sender());
        if (ended)
          *pulling.request.mutable_push()->mutable_sender() =
              pulling.request.sender();
        return pullOnce(stub, pulling);
      },
      connection, &pulling.received, givesUp);
  return pulling.kept;
}

Buffer ServerClient::pullAll(const wire::PullRequest &request,
                             std::uint64_t bytes, Buffers &from, bool &kept,
                             wire::WaitReply *ended,
                             const std::atomic<bool> *isLost) {
  const std::uint32_t stripes = stripesOf(bytes);
  struct Stripe {
    bool kept = false;
    wire::WaitReply ended;
  };
  std::vector<Stripe> parts(stripes);
  std::once_flag begins;
  Buffer data; // memory is taken when something comes
  atOnce(stripes, [&](std::uint32_t n) {
    const std::uint64_t begin = stripeBegin(bytes, n, stripes);
    const std::uint64_t end = stripeBegin(bytes, n + 1, stripes);
    wire::PullRequest own = request;
    own.set_first_byte(begin);
    own.set_bytes(stripes == 1 ? 0 : end - begin); // then more is noticed
    Stripe &part = parts[n];
    std::uint64_t at = begin;
    do {
      at = begin;
      part.kept = pull(
          own,
          [&](std::string_view chunk) {
            if (chunk.size() > end - at)
              fail("pull", "malformed answer: more data than asked for");
            std::call_once(begins, [&] { data = from.take(bytes); });
            std::memcpy(data.bytes().data() + at, chunk.data(), chunk.size());
            at += chunk.size();
          },
          ended ? &part.ended : nullptr, n);
    } while (ended && part.ended.receipt() == wire::RECEIPT_OPEN &&
             !(isLost && *isLost));
    if (part.kept && at != end)
      fail("pull", "malformed answer: less data than asked for");
  });
  if (ended)
    *ended = parts[0].ended;
  // All are told the same, as all ranks of an island are.
  kept = std::all_of(parts.begin(), parts.end(), [&](const Stripe &part) {
    return part.kept && part.ended.go_on_from() == parts[0].ended.go_on_from();
  });
  return data;
}
