//===- ParameterServer.cpp - the server's gRPC service --------------------===//
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

#include "tombolo/runtime/server/ParameterServer.h"

#include "Identity.h"
#include "Peers.h"
#include "Pull.h"
#include "ServerCore.h"
#include "Watchdog.h"
#include "Wire.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <tuple>
#include <utility>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

namespace {

/// How often time is looked at when nothing comes.
constexpr std::chrono::milliseconds kTick(100);
/// How long a primary stays after the end, to tell the other servers.
constexpr double kFarewellSeconds = 1;

class Service final : public wire::ParameterServer::Service {
public:
  explicit Service(ServerCore &core)
      : core(core), options(core.options), mutex(core.mutex),
        changed(core.changed), replica(core.replica),
        watchdog(options.idleSeconds) {
    for (const OuterTensor &tensor : options.outer.tensors)
      mostStagedBytes += 2 * sizeof(float) * tensor.elements;
    mostStagedBytes *= options.outer.islands;
    pushedBytes.resize(options.outer.islands);
    pulledBytes.resize(options.outer.islands);
    closer = std::thread([this] { closeRounds(); });
  }
  ~Service() override {
    core.stop();
    closer.join();
  }

  grpc::Status Push(grpc::ServerContext *context,
                    grpc::ServerReader<wire::PushRequest> *reader,
                    wire::PushReply *reply) override {
    return guarded([&] { return push(*context, *reader, *reply); });
  }
  grpc::Status Wait(grpc::ServerContext *context,
                    const wire::WaitRequest *request,
                    wire::WaitReply *reply) override {
    return guarded([&] { return wait(*context, *request, *reply); });
  }
  grpc::Status Heartbeat(grpc::ServerContext *context,
                         const wire::HeartbeatRequest *request,
                         wire::HeartbeatReply *reply) override {
    return guarded([&] { return heartbeat(*context, *request, *reply); });
  }
  grpc::Status Greet(grpc::ServerContext *context,
                     const wire::GreetRequest *request,
                     wire::GreetReply *reply) override {
    return guarded([&] { return greet(*context, *request, *reply); });
  }
  grpc::Status Pull(grpc::ServerContext *context,
                    const wire::PullRequest *request,
                    grpc::ServerWriter<wire::PullReply> *writer) override {
    return guarded([&] { return pull(*context, *request, *writer); });
  }

private:
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
  bool servesNow(const wire::Sender &sender) const {
    return replica.serves(nowSeconds()) && sender.epoch() <= replica.epoch();
  }
  static std::string notPrimary() {
    return "this server is not primary, or cannot reach its backup";
  }

  Outcome checkSender(const grpc::ServerContext &context,
                      const wire::Sender &sender, std::string &message) const {
    Outcome outcome = checkIdentity(options, context, sender, message);
    if (outcome != Outcome::Accepted && options.onStranger)
      options.onStranger(context.peer() + ": " + message);
    return outcome;
  }

  bool knownFragment(std::uint32_t fragment, std::string &message) const {
    if (fragment < options.outer.fragments)
      return true;
    message = "the plan has " + std::to_string(options.outer.fragments) +
              " fragments, got fragment " + std::to_string(fragment);
    return false;
  }

  /// What else a reply to a push says. With the mutex.
  void describe(std::uint32_t fragment, wire::PushReply &reply) const {
    reply.set_epoch(replica.epoch());
    if (fragment >= options.outer.fragments || !replica.isPrimary())
      return;
    if (auto version = state().current(fragment)) {
      reply.set_started(true);
      reply.set_version(version->number);
    }
  }

  grpc::Status push(grpc::ServerContext &context,
                    grpc::ServerReader<wire::PushRequest> &reader,
                    wire::PushReply &reply);
  PushResult receive(grpc::ServerContext &context,
                     grpc::ServerReader<wire::PushRequest> &reader,
                     Watchdog::Watch &watch, const PushPart &part,
                     std::uint64_t expected, std::uint64_t &bytes);
  /// The closer's life: of a primary, computes what `toClose` names, announces
  /// and publishes; of a backup, keeps up.
  void closeRounds();
  void noteTerm();
  void closeRound(std::unique_lock<std::mutex> &lock);
  void takeSnapshotIfDue(std::unique_lock<std::mutex> &lock);
  void noteEnd(std::unique_lock<std::mutex> &lock);
  grpc::Status wait(grpc::ServerContext &context,
                    const wire::WaitRequest &request, wire::WaitReply &reply);
  grpc::Status pull(grpc::ServerContext &context,
                    const wire::PullRequest &request,
                    grpc::ServerWriter<wire::PullReply> &writer);
  grpc::Status heartbeat(grpc::ServerContext &context,
                         const wire::HeartbeatRequest &request,
                         wire::HeartbeatReply &reply);
  grpc::Status greet(grpc::ServerContext &context,
                     const wire::GreetRequest &request,
                     wire::GreetReply &reply);

  ServerCore &core;
  const ParameterServerOptions &options;
  // The core's: the mutex guards all below but the threads.
  std::mutex &mutex;
  std::condition_variable &changed;
  Replica &replica;
  std::uint64_t term = ~std::uint64_t(0); ///< of what is to close and to tell
  /// Pushes whose data is coming in: one per rank, fragment and content.
  std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, int>>
      incoming;
  std::uint64_t stagedBytes = 0; // have come in and are not taken yet
  std::uint64_t mostStagedBytes = 0;
  std::vector<std::uint64_t> pushedBytes, pulledBytes; ///< by island
  std::deque<std::shared_ptr<RoundClosing>> toClose;
  std::deque<OuterEvent> toTell; // that need no computing
  std::optional<std::uint64_t> finishedTerm; ///< in which islands were told
  std::optional<double> overSeconds;
  bool toldOver = false;
  Watchdog watchdog;
  std::thread closer;
};

PushResult refusal(Outcome outcome, std::string message) {
  PushResult result;
  result.outcome = outcome;
  result.message = std::move(message);
  return result;
}

PushResult Service::receive(grpc::ServerContext &context,
                            grpc::ServerReader<wire::PushRequest> &reader,
                            Watchdog::Watch &watch, const PushPart &part,
                            std::uint64_t expected, std::uint64_t &bytes) {
  // Grows with what really comes, not with what the header promises.
  std::vector<std::byte> data;
  wire::PushRequest request;
  while (reader.Read(&request)) {
    watch.touch();
    if (!request.has_data())
      return refusal(Outcome::Malformed, "expected data after the header");
    std::size_t more = request.data().size();
    if (more > expected - data.size())
      return refusal(Outcome::BadSize, "expected " + std::to_string(expected) +
                                           " bytes of data, got more");
    {
      std::lock_guard lock(mutex);
      if (more > mostStagedBytes - stagedBytes)
        return refusal(Outcome::Busy, "too many pushes are coming in");
      stagedBytes += more;
      bytes += more;
      pushedBytes[part.island] += more;
      // Its island is there as long as something comes.
      if (replica.isPrimary())
        durable().heard(part.island, part.incarnation, /*left=*/false,
                        nowSeconds());
    }
    std::size_t old = data.size();
    if (data.capacity() < old + more)
      data.reserve(std::min<std::uint64_t>(expected, 2 * (old + more)));
    data.resize(old + more);
    std::memcpy(data.data() + old, request.data().data(), more);
  }
  if (context.IsCancelled())
    return refusal(Outcome::BadSize, "the sender has gone");
  std::unique_lock lock(mutex);
  if (!core.failure.empty())
    return refusal(Outcome::Busy, core.failure);
  if (!replica.serves(nowSeconds()))
    return refusal(Outcome::NotPrimary, notPrimary());
  noteTerm(); // what this brings about is of the term that is now
  PushResult result = durable().push(part, data, nowSeconds());
  if (result.discarded) {
    OuterEvent event;
    event.kind = OuterEvent::Kind::Discarded;
    event.fragment = part.fragment;
    event.round = part.round;
    event.version = part.baseVersion;
    event.members = {part.island};
    event.tokens = part.tokens;
    event.message = result.message;
    toTell.push_back(std::move(event));
  }
  if (result.closing)
    toClose.push_back(std::move(result.closing));
  changed.notify_all();
  Replica::Mark mark = replica.mark();
  lock.unlock();
  if (!core.waitUntilTold(mark))
    return refusal(Outcome::NotPrimary, notPrimary());
  return result;
}

/// With the mutex. What was decided before this server was primary, or while it
/// was, has no meaning now that it is no more, or is again.
void Service::noteTerm() {
  if (term == replica.term())
    return;
  term = replica.term();
  toClose.clear();
  toTell.clear();
  if (!replica.isPrimary())
    return;
  // Whoever listens may have missed them.
  for (OuterEvent &event : durable().newestEvents())
    toTell.push_back(std::move(event));
  for (auto &start : durable().takeUnfinished())
    toClose.push_back(std::move(start));
}

void Service::closeRounds() {
  std::unique_lock lock(mutex);
  try {
    while (true) {
      changed.wait_for(lock, kTick, [&] {
        return core.stopping || term != replica.term() || replica.hasWork() ||
               !toClose.empty() || !toTell.empty();
      });
      if (core.stopping)
        return;
      replica.work(lock, nowSeconds());
      noteTerm();
      if (replica.isPrimary())
        closeRound(lock);
      noteEnd(lock);
    }
  } catch (const std::exception &error) {
    if (lock.owns_lock())
      lock.unlock();
    core.fail(std::string("the next version cannot be made: ") + error.what());
  }
}

void Service::closeRound(std::unique_lock<std::mutex> &lock) {
  for (auto &due : durable().tick(nowSeconds()))
    toClose.push_back(std::move(due));
  std::deque<OuterEvent> events = std::exchange(toTell, {});
  std::shared_ptr<RoundClosing> closing;
  if (!toClose.empty()) {
    closing = std::move(toClose.front());
    toClose.pop_front();
  }
  if (!closing && events.empty())
    return;
  // Should another server become primary meanwhile.
  const std::uint64_t then = term;
  const std::shared_ptr<const OuterState> alive = durable().sharedState();
  lock.unlock();
  if (closing) {
    closing->compute();
    lock.lock();
    if (replica.term() != then)
      return;
    durable().logVersion(*closing);
    Replica::Mark mark = replica.mark();
    lock.unlock();
    if (!core.waitUntilTold(mark, /*forLong=*/true)) {
      lock.lock();
      return;
    }
    events.push_back(closing->event());
  }
  lock.lock();
  for (OuterEvent &event : events) {
    event.pushedBytes = pushedBytes;
    event.pulledBytes = pulledBytes;
  }
  lock.unlock();
  for (const OuterEvent &event : events)
    if (options.onEvent)
      options.onEvent(event);
  lock.lock();
  if (!closing || replica.term() != then)
    return;
  durable().publish(*closing);
  changed.notify_all();
  takeSnapshotIfDue(lock);
}

void Service::takeSnapshotIfDue(std::unique_lock<std::mutex> &lock) {
  if (!durable().wantsSnapshot())
    return;
  DurableState::Snapshot snapshot = durable().beginSnapshot();
  lock.unlock();
  durable().writeSnapshot(snapshot);
  lock.lock();
}

void Service::noteEnd(std::unique_lock<std::mutex> &lock) {
  const double now = nowSeconds();
  bool isPrimary = replica.isPrimary();
  if (isPrimary && finishedTerm == replica.term() && replica.serves(now) &&
      state().isDeserted(now))
    replica.setOver();
  if (!replica.isOver() || toldOver)
    return;
  if (!overSeconds)
    overSeconds = now;
  if (isPrimary && options.group.isReplicated() &&
      now - *overSeconds < kFarewellSeconds)
    return;
  toldOver = true;
  lock.unlock();
  if (options.onOver)
    options.onOver();
  lock.lock();
}

/// An agent without a memory of its own asks.
grpc::Status Service::greet(grpc::ServerContext &context,
                            const wire::GreetRequest &request,
                            wire::GreetReply &reply) {
  std::string message;
  Outcome outcome = checkSender(context, request.sender(), message);
  std::lock_guard lock(mutex);
  if (outcome == Outcome::Accepted && !servesNow(request.sender())) {
    outcome = Outcome::NotPrimary;
    message = notPrimary();
  }
  reply.set_outcome(toWire(outcome));
  reply.set_message(message);
  reply.set_epoch(replica.epoch());
  if (outcome == Outcome::Accepted)
    reply.set_incarnation(state().nextIncarnation(request.sender().island()));
  return grpc::Status::OK;
}

grpc::Status Service::heartbeat(grpc::ServerContext &context,
                                const wire::HeartbeatRequest &request,
                                wire::HeartbeatReply &reply) {
  std::string message;
  Outcome outcome = checkSender(context, request.sender(), message);
  reply.set_outcome(toWire(outcome));
  reply.set_message(message);
  if (outcome != Outcome::Accepted)
    return grpc::Status::OK;
  auto refuse = [&] {
    reply.set_outcome(wire::OUTCOME_NOT_PRIMARY);
    reply.set_message(notPrimary());
    return grpc::Status::OK;
  };
  std::unique_lock lock(mutex);
  reply.set_epoch(replica.epoch());
  if (!servesNow(request.sender()))
    return refuse();
  durable().heard(request.sender().island(), request.sender().incarnation(),
                  request.done(), nowSeconds());
  if (request.stop())
    durable().stop();
  if (request.gone())
    durable().gone(request.sender().island(), request.sender().incarnation());
  if (!state().isFinished(nowSeconds()))
    return grpc::Status::OK;
  // An old primary that hears of nobody any more would think so, too.
  durable().logBarrier();
  Replica::Mark mark = replica.mark();
  lock.unlock();
  if (!core.waitUntilTold(mark))
    return refuse();
  lock.lock();
  finishedTerm = mark.term;
  reply.set_finished(true);
  return grpc::Status::OK;
}

grpc::Status Service::push(grpc::ServerContext &context,
                           grpc::ServerReader<wire::PushRequest> &reader,
                           wire::PushReply &reply) {
  auto answer = [&](const PushResult &result, std::uint32_t fragment) {
    reply.set_outcome(toWire(result.outcome));
    reply.set_message(result.message);
    reply.set_committed(result.committed);
    std::lock_guard lock(mutex);
    describe(fragment, reply);
    return grpc::Status::OK;
  };

  // Before any more: who opens a push and sends nothing holds a thread.
  Watchdog::Watch watch(watchdog, [&] { context.TryCancel(); });
  wire::PushRequest first;
  if (!reader.Read(&first) || !first.has_header())
    return answer(refusal(Outcome::Malformed, "expected a header first"), ~0u);
  std::string message;
  const wire::Sender sender = first.header().sender();
  Outcome known = checkSender(context, sender, message);
  if (known != Outcome::Accepted)
    return answer(refusal(known, message), ~0u);
  std::optional<PushPart> part = fromWire(first.header());
  if (!part)
    return answer(refusal(Outcome::Malformed, "unknown content of a push"),
                  ~0u);
  first.Clear();

  auto key = std::make_tuple(part->island, part->rank, part->fragment,
                             static_cast<int>(part->content));
  std::uint64_t expected = 0, bytes = 0;
  {
    std::unique_lock lock(mutex);
    PushResult result;
    if (!servesNow(sender))
      result = refusal(Outcome::NotPrimary, notPrimary());
    else
      result = state().admit(*part, &expected);
    if (result.outcome == Outcome::Accepted && incoming.contains(key))
      result = refusal(Outcome::Busy, "this rank's push is coming in already");
    if (result.outcome != Outcome::Accepted) {
      // Not through `answer`, which takes the mutex.
      reply.set_outcome(toWire(result.outcome));
      reply.set_message(result.message);
      reply.set_committed(result.committed);
      describe(part->fragment, reply);
      if (result.outcome == Outcome::NotPrimary)
        return grpc::Status::OK;
      // The first copy may not be durable yet.
      Replica::Mark mark = replica.mark();
      lock.unlock();
      if (!core.waitUntilTold(mark))
        reply.set_outcome(wire::OUTCOME_NOT_PRIMARY);
      return grpc::Status::OK;
    }
    incoming.insert(key);
  }
  struct Release {
    Service &service;
    decltype(key) &which;
    std::uint64_t &bytes; // what has been added to stagedBytes
    ~Release() {
      std::lock_guard lock(service.mutex);
      service.incoming.erase(which);
      service.stagedBytes -= bytes;
    }
  } release{*this, key, bytes};
  return answer(receive(context, reader, watch, *part, expected, bytes),
                part->fragment);
}

grpc::Status Service::wait(grpc::ServerContext &context,
                           const wire::WaitRequest &request,
                           wire::WaitReply &reply) {
  std::string message;
  Outcome outcome = checkSender(context, request.sender(), message);
  if (outcome == Outcome::Accepted &&
      !knownFragment(request.fragment(), message))
    outcome = Outcome::UnknownFragment;
  reply.set_outcome(toWire(outcome));
  reply.set_message(message);
  if (outcome != Outcome::Accepted)
    return grpc::Status::OK;

  const wire::Sender &sender = request.sender();
  const std::uint32_t fragment = request.fragment();
  auto end = std::chrono::steady_clock::now() +
             std::chrono::milliseconds(
                 std::min(request.milliseconds(), kMostWaitMilliseconds));
  std::unique_lock lock(mutex);
  auto decided = [&] {
    Receipt receipt;
    if (!request.join())
      receipt = durable().receipt(fragment, sender.island(), request.round(),
                                  request.step());
    else
      receipt = durable().join(fragment, sender.island(), sender.incarnation());
    reply.set_receipt(static_cast<wire::Receipt>(receipt.kind));
    reply.set_go_on_from(receipt.version);
    reply.set_counted_rounds(receipt.counted);
    return receipt.kind != Receipt::Kind::Open;
  };
  auto refuse = [&] {
    reply.Clear();
    reply.set_outcome(wire::OUTCOME_NOT_PRIMARY);
    reply.set_message(notPrimary());
    return grpc::Status::OK;
  };
  while (!core.stopping && !context.IsCancelled()) {
    if (!core.failure.empty())
      return {grpc::StatusCode::INTERNAL, core.failure};
    if (!servesNow(sender))
      return refuse();
    durable().heard(sender.island(), sender.incarnation(), /*left=*/false,
                    nowSeconds());
    if (decided())
      break;
    if (auto late = durable().overdue(fragment, nowSeconds())) {
      reply.set_outcome(toWire(Outcome::Overdue));
      reply.set_message(*late);
      break;
    }
    auto now = std::chrono::steady_clock::now();
    if (now >= end)
      break;
    // In pieces, so that a caller that has gone frees its thread soon.
    changed.wait_until(lock,
                       std::min(end, now + std::chrono::milliseconds(500)));
  }
  if (!servesNow(sender))
    return refuse();
  reply.set_epoch(replica.epoch());
  reply.set_stop_round(state().stopRound());
  if (auto version = state().current(fragment)) {
    reply.set_started(true);
    reply.set_version(version->number);
    reply.set_first_version(state().firstVersion(fragment));
  }
  Replica::Mark mark = replica.mark();
  lock.unlock();
  return core.waitUntilTold(mark) ? grpc::Status::OK : refuse();
}

grpc::Status Service::pull(grpc::ServerContext &context,
                           const wire::PullRequest &request,
                           grpc::ServerWriter<wire::PullReply> &writer) {
  wire::PullReply reply;
  std::string message;
  Pulled pulled;
  Outcome outcome = checkSender(context, request.sender(), message);
  if (outcome == Outcome::Accepted &&
      !knownFragment(request.fragment(), message))
    outcome = Outcome::UnknownFragment;
  std::shared_ptr<const OuterState> shared;
  std::uint64_t epoch = 0;
  if (outcome == Outcome::Accepted) {
    std::lock_guard lock(mutex);
    epoch = replica.epoch();
    if (!servesNow(request.sender())) {
      outcome = Outcome::NotPrimary;
      message = notPrimary();
    } else {
      shared = durable().sharedState();
      outcome = findPulled(*shared, request, pulled, message);
    }
  }
  if (outcome == Outcome::Accepted) // needs no lock
    outcome = locatePulled(*shared, request, pulled, message);
  wire::PullHeader *header = reply.mutable_header();
  header->set_outcome(toWire(outcome));
  header->set_message(message);
  header->set_epoch(epoch);
  if (outcome == Outcome::Accepted) {
    header->set_version(request.version());
    if (pulled.version)
      header->set_version_hash(pulled.version->hash);
  }
  if (writer.Write(reply) && outcome == Outcome::Accepted) {
    std::uint64_t sent = sendPulled(pulled, writer);
    std::lock_guard lock(mutex);
    pulledBytes[request.sender().island()] += sent;
  }
  return grpc::Status::OK;
}

} // namespace

class tombolo::runtime::ParameterServer::Impl {
public:
  explicit Impl(const ParameterServerOptions &given)
      : address(given.address), core(given), service(core), peers(core) {
    auto credentials = grpc::InsecureServerCredentials();
    if (given.tls.any()) {
      TlsTexts tls = readTls(given.tls);
      grpc::SslServerCredentialsOptions ssl(
          GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
      ssl.pem_root_certs = tls.authority;
      ssl.pem_key_cert_pairs.push_back({tls.key, tls.certificate});
      credentials = grpc::SslServerCredentials(ssl);
      failures.emplace([tell = given.onStranger](const std::string &message) {
        if (tell)
          tell(message);
      });
    } else if (!isLocalAddress(address)) {
      throw Error("server address '", address,
                  "': expected a loopback address with a port or unix:PATH; "
                  "connections between machines need certificates (--cert, "
                  "--key, --ca)");
    }
    prepareGrpc();
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(address, credentials, &port);
    builder.RegisterService(&service);
    if (given.group.isReplicated())
      builder.RegisterService(&peers);
    builder.SetMaxReceiveMessageSize(kMostMessageBytes);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES,
                               kStreamWindowBytes);
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
  Service service;
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
