//===- RankService.cpp - what ranks ask the server ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RankService.h"

#include "Pull.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

static PushResult refusal(Outcome outcome, std::string message) {
  PushResult result;
  result.outcome = outcome;
  result.message = std::move(message);
  return result;
}

void RankService::noteRefused(const grpc::ServerContext &context,
                              const wire::Sender &sender,
                              const PushResult &result) const {
  switch (result.outcome) {
  case Outcome::Malformed:
  case Outcome::UnknownFragment:
  case Outcome::UnknownTensor:
  case Outcome::BadRange:
  case Outcome::Overlap:
  case Outcome::BadSize:
  case Outcome::Inconsistent:
  case Outcome::BadWeight:
    break;
  default:
    return;
  }
  if (!options.onStranger || context.IsCancelled())
    return;
  options.onStranger(withAddress(
      context,
      {Stranger::Reason::BadPush,
       "the push of rank " + std::to_string(sender.rank()) + " of island " +
           std::to_string(sender.island()) + " was refused (" +
           std::string(name(result.outcome)) + "): " + result.message}));
}

PushResult RankService::receive(grpc::ServerContext &context,
                                grpc::ServerReader<wire::PushRequest> &reader,
                                Watchdog::Watch &watch, IncomingPush &push,
                                std::uint32_t stripe, wire::PushReply &reply) {
  const PushPart &part = push.part;
  wire::PushRequest request;
  Sha256 digest;
  push.addTo(digest, stripe);
  bool isChecked = false;
  while (reader.Read(&request)) {
    watch.touch();
    if (request.has_trailer() && !isChecked) {
      if (request.trailer().sha256() != digest.finish()) {
        push.forget(&context, stripe);
        return refusal(Outcome::Busy,
                       "the data of a push is not what its SHA-256 says");
      }
      isChecked = true;
      continue;
    }
    if (!request.has_data() || isChecked)
      return refusal(Outcome::Malformed,
                     "expected data after the header, and a trailer behind it");
    digest.update(request.data());
    switch (push.add(&context, stripe, request.data(), nowSeconds())) {
    case IncomingPush::Added::Yes:
      break;
    case IncomingPush::Added::TooMuch:
      pushes.drop(push);
      return refusal(Outcome::BadSize, "expected " +
                                           std::to_string(push.data().size()) +
                                           " bytes of data, got more");
    case IncomingPush::Added::NoRoom:
      return refusal(Outcome::Busy, "too many pushes are coming in");
    case IncomingPush::Added::Replaced:
      return refusal(Outcome::Busy, "this comes on another connection now");
    }
    std::lock_guard lock(mutex);
    pushedBytes[part.island] += request.data().size();
    // Its island is there as long as something comes.
    if (replica.isPrimary())
      durable().heard(part.island, part.incarnation, /*left=*/false,
                      nowSeconds());
  }
  if (context.IsCancelled())
    return refusal(Outcome::BadSize, "the sender has gone");
  if (!isChecked)
    return refusal(Outcome::Malformed, "expected a trailer behind the data");
  switch (push.end(stripe)) {
  case IncomingPush::Ended::Waits: {
    PushResult there;
    there.outcome = Outcome::Accepted;
    return there;
  }
  case IncomingPush::Ended::Taken:
    return refusal(Outcome::Busy, "this push is being taken");
  case IncomingPush::Ended::Short:
    pushes.drop(push);
    return refusal(Outcome::BadSize, "expected " +
                                         std::to_string(push.data().size()) +
                                         " bytes of data, got less");
  case IncomingPush::Ended::Whole:
    break;
  }
  reply.set_whole(true);
  struct Drop {
    IncomingPushes &pushes;
    const IncomingPush &push;
    ~Drop() { pushes.drop(push); }
  } drop{pushes, push};
  return take(push);
}

PushResult RankService::take(const IncomingPush &push) {
  const PushPart &part = push.part;
  std::unique_lock lock(mutex);
  if (!core.failure.empty())
    return refusal(Outcome::Busy, core.failure);
  if (!replica.serves(nowSeconds()))
    return refusal(Outcome::NotPrimary, notPrimary());
  noteTerm(); // what this brings about is of the term that is now
  PushResult result = durable().push(part, push.data(), nowSeconds());
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

/// An agent without a memory of its own asks.
grpc::Status RankService::greet(grpc::ServerContext &context,
                                const wire::GreetRequest &request,
                                wire::GreetReply &reply) {
  std::string message;
  Outcome outcome =
      checkSender(context, request.sender(), message, request.contract());
  std::lock_guard lock(mutex);
  if (outcome == Outcome::Accepted && !servesNow(request.sender())) {
    outcome = Outcome::NotPrimary;
    message = notPrimary();
  }
  if (outcome == Outcome::Accepted &&
      state().isRemoved(request.sender().island())) {
    outcome = Outcome::Removed;
    message = removedMessage(request.sender().island());
  }
  reply.set_outcome(toWire(outcome));
  reply.set_message(message);
  reply.set_epoch(replica.epoch());
  if (outcome == Outcome::Accepted)
    reply.set_incarnation(state().nextIncarnation(request.sender().island()));
  return grpc::Status::OK;
}

grpc::Status RankService::heartbeat(grpc::ServerContext &context,
                                    const wire::HeartbeatRequest &request,
                                    wire::HeartbeatReply &reply) {
  std::string message;
  Outcome outcome = checkSender(context, request.sender(), message);
  reply.set_outcome(toWire(outcome));
  reply.set_message(message);
  if (outcome != Outcome::Accepted)
    return grpc::Status::OK;
  reply.set_beat_milliseconds(
      static_cast<std::uint32_t>(core.options.detectionSeconds * 1000 / 4));
  auto refuse = [&] {
    reply.set_outcome(wire::OUTCOME_NOT_PRIMARY);
    reply.set_message(notPrimary());
    return grpc::Status::OK;
  };
  std::unique_lock lock(mutex);
  reply.set_epoch(replica.epoch());
  replica.overhear(request.sender().island(), nowSeconds());
  if (!servesNow(request.sender()))
    return refuse();
  durable().heard(request.sender().island(), request.sender().incarnation(),
                  request.done(), nowSeconds());
  // Whoever ends an island that takes part no more does not end the others.
  if (request.stop() && !state().isRemoved(request.sender().island()))
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

grpc::Status RankService::push(grpc::ServerContext &context,
                               grpc::ServerReader<wire::PushRequest> &reader,
                               wire::PushReply &reply) {
  wire::PushRequest first;
  wire::Sender sender; // as it says, until it is known
  auto answer = [&](const PushResult &result, std::uint32_t fragment) {
    noteRefused(context, sender, result);
    reply.set_outcome(toWire(result.outcome));
    reply.set_message(result.message);
    reply.set_committed(result.committed);
    std::lock_guard lock(mutex);
    describe(fragment, reply);
    return grpc::Status::OK;
  };

  // Before any more: who opens a push and sends nothing holds a thread.
  Watchdog::Watch watch(watchdog, [&] { context.TryCancel(); });
  if (!reader.Read(&first) || !first.has_header())
    return answer(refusal(Outcome::Malformed, "expected a header first"), ~0u);
  std::string message;
  sender = first.header().sender();
  Outcome known = checkSender(context, sender, message);
  if (known != Outcome::Accepted)
    return answer(refusal(known, message), ~0u);
  std::optional<PushPart> part = fromWire(first.header());
  if (!part)
    return answer(refusal(Outcome::Malformed, "unknown content of a push"),
                  ~0u);
  const std::uint32_t stripes = std::max(1u, first.header().stripes());
  const std::uint32_t stripe = first.header().stripe();
  if (stripes > kMostStripes || stripe >= stripes)
    return answer(refusal(Outcome::Malformed,
                          "expected a stripe of " +
                              std::to_string(kMostStripes) + " at most, got " +
                              std::to_string(stripe) + " of " +
                              std::to_string(stripes)),
                  ~0u);
  const std::uint64_t before = first.header().sent_before();
  first.Clear();

  std::uint64_t expected = 0;
  {
    std::unique_lock lock(mutex);
    PushResult result;
    if (!servesNow(sender))
      result = refusal(Outcome::NotPrimary, notPrimary());
    else
      result = state().admit(*part, &expected);
    // Which is remembered.
    if (result.outcome == Outcome::Removed)
      result = durable().push(*part, {}, nowSeconds());
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
      noteRefused(context, sender, result);
      if (!core.waitUntilTold(mark))
        reply.set_outcome(wire::OUTCOME_NOT_PRIMARY);
      return grpc::Status::OK;
    }
  }
  std::shared_ptr<IncomingPush> push =
      pushes.find(*part, stripes, expected, nowSeconds());
  struct Leave {
    IncomingPush &push;
    const void *stream;
    std::uint32_t stripe;
    ~Leave() { push.leave(stream, stripe); }
  } leave{*push, &context, stripe};
  bool goesOn = push->enter(&context, stripe, before,
                            [&context] { context.TryCancel(); });
  PushResult result =
      goesOn ? receive(context, reader, watch, *push, stripe, reply)
             : refusal(Outcome::Busy, "not so much of it has come");
  reply.set_received(push->received(stripe));
  return answer(result, part->fragment);
}

grpc::Status RankService::wait(grpc::ServerContext &context,
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
    reply.set_counted_steps(receipt.countedSteps);
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

grpc::Status RankService::pull(grpc::ServerContext &context,
                               const wire::PullRequest &request,
                               grpc::ServerWriter<wire::PullReply> &writer) {
  if (!request.has_push())
    return send(context, request, writer);
  wire::PullReply ended;
  grpc::Status status = wait(context, request.push(), *ended.mutable_push());
  if (!status.ok() || !writer.Write(ended) ||
      ended.push().outcome() != wire::OUTCOME_ACCEPTED ||
      ended.push().receipt() != wire::RECEIPT_MEMBER)
    return status;
  wire::PullRequest update = request;
  update.set_version(ended.push().go_on_from());
  update.set_what(wire::PullRequest::UPDATE);
  return send(context, update, writer);
}

grpc::Status RankService::send(grpc::ServerContext &context,
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
    RateLimit none(0);
    std::uint64_t sent =
        sendPulled(pulled, writer,
                   crossesLine(request.sender().island()) ? core.limit : none,
                   [&] { return context.IsCancelled() || core.isStopping(); });
    std::lock_guard lock(mutex);
    pulledBytes[request.sender().island()] += sent;
  }
  return grpc::Status::OK;
}
