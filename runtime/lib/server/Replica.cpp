//===- Replica.cpp - one server of a primary and its backup ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Replica.h"

#include "Recovery.h"
#include "Wire.h"

#include <algorithm>
#include <numeric>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

namespace {

/// Of the stream that are on their way at a time: a line of 10 Gbit/s with a
/// round trip of 50 ms is full.
constexpr std::uint64_t kWindowBytes = std::uint64_t(64) << 20;
/// A backup that lacks no more than this is asked to be a member.
constexpr std::uint64_t kNearBytes = std::uint64_t(1) << 20;
/// Answers that nobody has fetched yet.
constexpr std::size_t kMostReplies = 16;

} // namespace

Replica::Replica(const OuterConfig &config, DurableOptions durableOptions,
                 ReplicaOptions given, std::shared_ptr<Storage> where,
                 double now)
    : options(std::move(given)), storage(std::move(where)), tickSeconds(now),
      heardSeconds(now), arriving(0) {
  if (isAlone()) {
    durable = std::make_unique<DurableState>(config, std::move(durableOptions),
                                             storage, now);
    role = Role::Primary;
    return;
  }
  if (options.self >= options.votes.size() || !storage)
    throw Error("server: one of several needs its number and a folder for its "
                "state");
  voter = std::make_unique<Voter>(*storage, durableOptions.contract);
  if (!keepsState())
    return;
  if (voter->incomplete())
    removeState(*storage);
  durable = std::make_unique<DurableState>(config, std::move(durableOptions),
                                           storage, now);
  mostHeld = std::max(options.heldBytes, 2 * durable->bytes());
  arriving = Arriving(mostHeld + durable->bytes());
}

Replica::~Replica() = default;

// ---------------------------------------------------------------- who decides

bool Replica::serves(double now) const {
  return role == Role::Primary && !(needsBackup() && isMissed(now));
}

bool Replica::isMissed(double now) const {
  return now - link.answerSeconds > options.suspectSeconds;
}

bool Replica::names(const wire::Grant &who) const {
  return who.primary() == options.self || who.backup();
}

const wire::Grant &Replica::newestGrant() const {
  return voter->accepted().epoch() > grant.epoch() ? voter->accepted() : grant;
}

/// Of a backup: to ask for an epoch.
bool Replica::isDue(double now) const {
  const wire::Grant &newest = newestGrant();
  if (newest.epoch() == 0 || voter->incomplete())
    return false;
  // Nobody else can be primary then.
  if (newest.primary() == options.self && !newest.backup())
    return true;
  // Also where no grant that is known here names this server: the last one may
  // have been lost with the primary on its way here, and others know it.
  return now - heardSeconds > options.suspectSeconds;
}

void Replica::tick(double now) {
  if (isAlone() || !keepsState())
    return;
  // As in OuterState::tick: it was not the islands that slept.
  double passed = now - std::exchange(tickSeconds, now);
  if (passed > std::min(1.0, options.suspectSeconds / 3))
    for (auto &[island, when] : overheard)
      when = std::min(now, when + passed);
  if (role == Role::Backup && grant.epoch() > 0 &&
      grant.primary() == options.self && !working)
    become(Role::Primary, now);
  if (asking && now >= asking->end)
    giveUp(now);
  if (link.stream) {
    bool away = link.stream->heldBytes() > mostHeld && !needsBackup();
    bool stuck = link.stream->begin() < link.stream->end() &&
                 now - link.progressSeconds > 2 * options.resendSeconds &&
                 !isMissed(now);
    if (away || stuck)
      dropStream();
  }
  if (asking || now < nextTry)
    return;
  if (role == Role::Primary) {
    if (needsBackup() && (isMissed(now) || !link.stream))
      campaign(/*withBackup=*/false, /*first=*/false, now);
    else if (link.joins && link.stream->storedSequence() >= link.joinSequence)
      campaign(/*withBackup=*/true, /*first=*/false, now);
    return;
  }
  bool founds = options.self == 0 && !voter->founded() && !lostVote &&
                grant.epoch() == 0 &&
                (voter->accepted().epoch() == 0 || voter->accepted().first());
  if (founds)
    campaign(/*withBackup=*/false, /*first=*/true, now);
  else if (isDue(now))
    campaign(/*withBackup=*/false, /*first=*/false, now);
}

// ------------------------------------------------------------------ an epoch

void Replica::campaign(bool withBackup, bool first, double now) {
  const std::uint64_t servers = options.votes.size();
  newestSeen = std::max({newestSeen, voter->promised(), grant.epoch()});
  std::uint64_t epoch = newestSeen + 1;
  epoch += (options.self + servers - epoch % servers) % servers;
  newestSeen = epoch;
  asking = Campaign();
  asking->wanted.set_epoch(epoch);
  asking->wanted.set_primary(options.self);
  asking->wanted.set_backup(withBackup);
  asking->wanted.set_first(first);
  asking->end = now + options.campaignSeconds;
  if (voter->prepare(epoch, first)) {
    asking->answered.insert(options.self);
    asking->newest = voter->accepted();
  }
  advance(now);
}

/// Two that ask at the same time do not do so again and again.
void Replica::giveUp(double now) {
  asking.reset();
  nextTry = now + options.askSeconds * (1 + options.self);
}

bool Replica::isEnough() const {
  std::uint64_t yes = 0;
  for (std::uint32_t server : asking->answered)
    yes += options.votes[server];
  std::uint64_t all =
      std::accumulate(options.votes.begin(), options.votes.end(), 0ull);
  return asking->wanted.first() ? yes == all : 2 * yes > all;
}

void Replica::advance(double now) {
  if (!isEnough())
    return;
  if (asking->accepting)
    return won(now);
  const wire::Grant newest = asking->newest;
  if (newest.epoch() > 0) {
    bool isOthers = !names(newest) ||
                    (role == Role::Primary && newest.primary() != options.self);
    if (isOthers) {
      giveUp(now);
      // Each time a vote on all disks, and it may be for long.
      constexpr double kMostTimes = 20;
      refusedSeconds = std::clamp(2 * refusedSeconds, options.suspectSeconds,
                                  kMostTimes * options.suspectSeconds);
      nextTry = now + refusedSeconds;
      return learn(newest, now);
    }
    if (asking->wanted.first() && !newest.first())
      return giveUp(now);
  }
  asking->accepting = true;
  asking->answered.clear();
  asking->asked.clear();
  if (voter->accept(asking->wanted))
    asking->answered.insert(options.self);
  if (isEnough())
    won(now);
}

void Replica::won(double now) {
  grant = asking->wanted;
  asking.reset();
  if (grant.first())
    voter->setFounded();
  link.joins = false;
  // From here on nothing of an earlier epoch comes in.
  arriving.waiting.clear();
  arriving.broken = true;
  if (role == Role::Backup && !working)
    become(Role::Primary, now);
}

/// A grant that a majority may have accepted.
void Replica::learn(const wire::Grant &newer, double now) {
  newestSeen = std::max(newestSeen, newer.epoch());
  if (newer.epoch() <= grant.epoch() || newer.primary() == options.self)
    return;
  grant = newer;
  heardSeconds = now; // it shall have time to say something
  if (role == Role::Primary)
    become(Role::Backup, now);
}

void Replica::become(Role newRole, double now) {
  role = newRole;
  ++terms;
  link = {};
  sequence = 0;
  if (role == Role::Backup) {
    durable->copyLogTo(nullptr);
    return;
  }
  link.answerSeconds = now;
  durable->takeOver(now, overheard);
  durable->copyLogTo([this](RecordType type, std::string head,
                            std::span<const std::byte> body,
                            std::shared_ptr<const void> owner) {
    ++sequence;
    if (link.stream)
      link.stream->append(type, std::move(head), body, std::move(owner),
                          sequence);
  });
}

// --------------------------------------------------------------- what is told

Replica::Mark Replica::mark() const {
  return {durable->mark(), terms, sequence};
}

Replica::Told Replica::mayTell(const Mark &mark) const {
  if (role != Role::Primary || mark.term != terms)
    return Told::Never;
  if (!needsBackup())
    return Told::Yes;
  return link.stream && link.stream->storedSequence() >= mark.sequence
             ? Told::Yes
             : Told::NotYet;
}

// ------------------------------------------------------------------ the backup

void Replica::attach(double now) {
  if (!durable->canCapture())
    return;
  lastStream = std::max(lastStream + 1, grant.epoch() << 20);
  link.stream = std::make_unique<RecordStream>(lastStream);
  durable->capture([this](RecordType type, std::string head,
                          std::span<const std::byte> body,
                          std::shared_ptr<const void> owner) {
    link.stream->append(type, std::move(head), body, std::move(owner),
                        type == RecordType::End ? sequence : 0);
  });
  link.snapshotBytes = link.stream->end();
  link.sent = link.received = 0;
  link.progressSeconds = now;
}

void Replica::dropStream() {
  link.stream.reset();
  link.sent = link.received = 0;
  if (asking && asking->wanted.backup() && !asking->accepting)
    asking.reset();
}

bool Replica::work(std::unique_lock<std::mutex> &lock, double now) {
  if (!hasWork())
    return false;
  working = true;
  bool begins = std::exchange(arriving.begins, false);
  std::deque<Arriving::Waiting> batch = std::exchange(arriving.waiting, {});
  const std::uint64_t stream = arriving.stream;
  struct Done {
    std::unique_lock<std::mutex> &lock;
    bool &working;
    ~Done() {
      if (!lock.owns_lock())
        lock.lock();
      working = false;
    }
  } done{lock, working};
  if (begins)
    voter->setIncomplete(true);
  lock.unlock();
  if (begins)
    durable->forget();
  bool whole = false;
  for (const Arriving::Waiting &one : batch) {
    durable->store(one.record, now);
    whole |= one.record.type == RecordType::End;
  }
  DurableState::sync(durable->mark());
  lock.lock();
  if (whole)
    voter->setIncomplete(false);
  if (stream == arriving.stream && !batch.empty()) {
    arriving.stored = batch.back().end;
    owesAck = true;
    if (options.onStored)
      options.onStored();
  }
  lock.unlock();
  for (const Arriving::Waiting &one : batch)
    durable->apply(one.record, now);
  if (durable->wantsSnapshot())
    durable->writeSnapshot(durable->beginSnapshot());
  lock.lock();
  return true;
}

// -------------------------------------------------------------------- messages

wire::PeerMessage Replica::messageOf(std::uint64_t epoch) const {
  wire::PeerMessage message;
  message.set_from(options.self);
  message.set_epoch(epoch);
  return message;
}

void Replica::reply(std::uint32_t peer, wire::PeerMessage message) {
  auto &queue = replies[peer];
  queue.push_back(std::move(message));
  if (queue.size() > kMostReplies)
    queue.pop_front();
}

void Replica::receive(const wire::PeerMessage &message, double now) {
  if (isAlone() || message.from() >= options.votes.size() ||
      message.from() == options.self)
    return;
  switch (message.kind_case()) {
  case wire::PeerMessage::kPrepare:
    return onPrepare(message);
  case wire::PeerMessage::kPromise:
    return onPromise(message, now);
  case wire::PeerMessage::kAccept:
    return onAccept(message);
  case wire::PeerMessage::kAccepted:
    return onAccepted(message, now);
  case wire::PeerMessage::kAppend:
    return onAppend(message, now);
  case wire::PeerMessage::kAck:
    return onAck(message, now);
  case wire::PeerMessage::kOver:
    over |= message.from() < 2 && message.epoch() >= grant.epoch();
    return;
  case wire::PeerMessage::KIND_NOT_SET:
    return;
  }
}

void Replica::onPrepare(const wire::PeerMessage &message) {
  wire::PeerMessage answer = messageOf(message.epoch());
  auto &promise = *answer.mutable_promise();
  promise.set_granted(
      message.epoch() % options.votes.size() == message.from() &&
      voter->prepare(message.epoch(), message.prepare().first()));
  promise.set_promised(voter->promised());
  *promise.mutable_accepted() = voter->accepted();
  newestSeen = std::max(newestSeen, message.epoch());
  reply(message.from(), std::move(answer));
}

void Replica::onAccept(const wire::PeerMessage &message) {
  wire::PeerMessage answer = messageOf(message.epoch());
  auto &accepted = *answer.mutable_accepted();
  const wire::Grant &wanted = message.accept();
  accepted.set_granted(
      message.from() < 2 &&
      wanted.epoch() % options.votes.size() == message.from() &&
      wanted.primary() == message.from() && wanted.epoch() == message.epoch() &&
      voter->accept(wanted));
  accepted.set_promised(voter->promised());
  reply(message.from(), std::move(answer));
}

void Replica::onPromise(const wire::PeerMessage &message, double now) {
  const auto &promise = message.promise();
  newestSeen = std::max(newestSeen, promise.promised());
  if (!asking || asking->accepting || message.epoch() != asking->wanted.epoch())
    return;
  if (promise.granted()) {
    if (promise.accepted().epoch() > asking->newest.epoch())
      asking->newest = promise.accepted();
    asking->answered.insert(message.from());
    return advance(now);
  }
  // There was a run before that this server knows nothing of.
  if (asking->wanted.first() && promise.accepted().epoch() > 0 &&
      !promise.accepted().first())
    lostVote = true;
  if (lostVote || promise.promised() > asking->wanted.epoch())
    giveUp(now);
}

void Replica::onAccepted(const wire::PeerMessage &message, double now) {
  const auto &accepted = message.accepted();
  newestSeen = std::max(newestSeen, accepted.promised());
  if (!asking || !asking->accepting ||
      message.epoch() != asking->wanted.epoch())
    return;
  if (accepted.granted()) {
    asking->answered.insert(message.from());
    return advance(now);
  }
  if (accepted.promised() > asking->wanted.epoch())
    giveUp(now);
}

void Replica::onAppend(const wire::PeerMessage &message, double now) {
  const auto &append = message.append();
  const wire::Grant &by = append.grant();
  if (!keepsState() || by.primary() != message.from() ||
      by.primary() != other() || by.epoch() == 0)
    return;
  owesAck = true; // also for who does not know that it is primary no more
  if (by.epoch() < grant.epoch())
    return;
  learn(by, now);
  heardSeconds = now;
  refusedSeconds = 0;
  if (asking && !asking->accepting)
    asking.reset();
  const std::string &data = append.data();
  if (append.starts() != voter->starts() || append.stream() == 0 ||
      data.empty())
    return;
  if (append.stream() > arriving.stream) {
    // Only who is no member is given another state.
    if (append.offset() != 0 || by.backup())
      return;
    arriving = Arriving(mostHeld + durable->bytes());
    arriving.stream = append.stream();
    arriving.begins = true;
  }
  if (append.stream() != arriving.stream || arriving.broken ||
      append.offset() > arriving.received ||
      append.offset() + data.size() <= arriving.received)
    return;
  std::string_view fresh = data;
  fresh.remove_prefix(arriving.received - append.offset());
  arriving.assembler.add(fresh);
  arriving.received += fresh.size();
  try {
    while (std::optional<Record> record = arriving.assembler.next()) {
      arriving.assembled +=
          kFrameBytes + record->head.size() + paddingOf(record->head.size()) +
          record->body.size() + paddingOf(record->body.size());
      arriving.waiting.push_back({std::move(*record), arriving.assembled});
    }
  } catch (const Error &) {
    arriving.broken = true; // the primary notices, and begins again
  }
}

void Replica::onAck(const wire::PeerMessage &message, double now) {
  const auto &ack = message.ack();
  if (!keepsState() || message.from() != other() || ack.grant().primary() > 1)
    return;
  learn(ack.grant(), now);
  if (role != Role::Primary || ack.starts() < link.starts)
    return;
  link.answerSeconds = now;
  if (ack.starts() > link.starts) {
    link.starts = ack.starts();
    dropStream(); // it was meant for who was there before
  }
  if (link.stream && ack.stream() == link.stream->id &&
      ack.received() <= link.stream->end() && ack.stored() <= ack.received()) {
    if (ack.received() > link.received || ack.stored() > link.stream->begin())
      link.progressSeconds = now;
    link.received = std::max(link.received, ack.received());
    link.sent = std::max(link.sent, link.received);
    link.stream->stored(ack.stored());
  }
  if (needsBackup())
    return;
  if (!link.stream) {
    if (!asking)
      attach(now);
  } else if (link.stream->begin() >= link.snapshotBytes &&
             link.stream->end() - link.stream->begin() <= kNearBytes) {
    link.joins = true;
    link.joinSequence = sequence;
  }
}

wire::PeerMessage Replica::ackMessage() {
  owesAck = false;
  wire::PeerMessage message = messageOf(grant.epoch());
  auto &ack = *message.mutable_ack();
  *ack.mutable_grant() = grant;
  ack.set_starts(voter->starts());
  if (!arriving.broken) {
    ack.set_stream(arriving.stream);
    ack.set_received(arriving.received);
    ack.set_stored(arriving.stored);
  }
  return message;
}

std::optional<wire::PeerMessage> Replica::question(std::uint32_t peer,
                                                   double now) {
  if (!asking || asking->answered.contains(peer))
    return std::nullopt;
  auto [last, fresh] = asking->asked.try_emplace(peer, now);
  if (!fresh && now - last->second < options.askSeconds)
    return std::nullopt;
  last->second = now;
  wire::PeerMessage message = messageOf(asking->wanted.epoch());
  if (asking->accepting)
    *message.mutable_accept() = asking->wanted;
  else
    message.mutable_prepare()->set_first(asking->wanted.first());
  return message;
}

std::optional<wire::PeerMessage> Replica::appendMessage(double now) {
  wire::PeerMessage message = messageOf(grant.epoch());
  auto &append = *message.mutable_append();
  if (link.stream) {
    if (link.sent > link.received &&
        now - link.progressSeconds > options.resendSeconds) {
      link.sent = link.received;
      link.progressSeconds = now;
    }
    if (link.sent < link.stream->end() &&
        link.sent - link.received < kWindowBytes) {
      if (link.sent == link.received)
        link.progressSeconds = now;
      append.set_stream(link.stream->id);
      append.set_starts(link.starts);
      append.set_offset(link.sent);
      append.set_data(link.stream->read(link.sent, kChunkBytes));
      link.sent += append.data().size();
    }
  }
  if (append.data().empty() && now - link.sendSeconds < options.beatSeconds)
    return std::nullopt;
  link.sendSeconds = now;
  *append.mutable_grant() = grant;
  return message;
}

std::optional<wire::PeerMessage> Replica::next(std::uint32_t peer, double now) {
  if (auto queue = replies.find(peer);
      queue != replies.end() && !queue->second.empty()) {
    wire::PeerMessage message = std::move(queue->second.front());
    queue->second.pop_front();
    return message;
  }
  if (auto message = question(peer, now))
    return message;
  if (over && role == Role::Primary &&
      (!toldOver.contains(peer) ||
       now - toldOver[peer] >= options.beatSeconds)) {
    toldOver[peer] = now;
    wire::PeerMessage message = messageOf(grant.epoch());
    message.mutable_over();
    return message;
  }
  if (!keepsState() || peer != other())
    return std::nullopt;
  if (owesAck)
    return ackMessage();
  if (role == Role::Primary)
    return appendMessage(now);
  return std::nullopt;
}
