//===- DurableState.cpp - the server's state behind a log -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/DurableState.h"

#include "FragmentImage.h"
#include "FragmentState.h"
#include "Recovery.h"
#include "Wire.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <utility>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

DurableState::DurableState(OuterConfig given, DurableOptions givenOptions,
                           std::shared_ptr<Storage> where, double now)
    : config(std::move(given)), options(std::move(givenOptions)),
      storage(std::move(where)), replay(std::make_unique<Replay>(config)),
      outer(replay->state) {
  // Parameters, momentum, second moment, error; updates that are kept.
  for (const OuterTensor &tensor : config.tensors)
    stateBytes += tensor.elements * sizeof(float) * 4;
  if (storage)
    recover(now);
}

DurableState::~DurableState() = default;

void DurableState::append(RecordType type,
                          const google::protobuf::MessageLite &head,
                          std::span<const std::byte> body) {
  if (!log)
    return;
  log->append(type, &head, body);
  if (copy)
    copy(type, head.SerializeAsString(), body, nullptr);
}

// ------------------------------------------------------------------- changes

PushResult DurableState::push(const PushPart &part,
                              std::span<const std::byte> data, double now) {
  PushResult result = outer->push(part, data, now);
  // Its sender does not send it again, though the island may be let in at any
  // moment: so all of its ranks are told the same of it from here on.
  if (result.outcome == Outcome::Removed &&
      receipt(part.fragment, part.island, part.round, part.step).kind !=
          Receipt::Kind::Removed) {
    result.outcome = Outcome::Busy;
    result.message = "a version is being made";
  }
  if (!log)
    return result;
  if (result.discarded) {
    wire::LogRefused refused;
    refused.set_fragment(part.fragment);
    refused.set_island(part.island);
    refused.set_incarnation(part.incarnation);
    refused.set_round(part.round);
    refused.set_step(part.step);
    append(RecordType::Refused, refused);
  } else if (result.outcome == Outcome::Accepted) {
    wire::LogPush push;
    toWire(part, *push.mutable_header());
    append(RecordType::Push, push, data);
  }
  return result;
}

Receipt DurableState::receipt(std::uint32_t fragment, std::uint32_t island,
                              std::uint64_t round, std::uint64_t step) {
  wire::LogTold told;
  told.set_round(round);
  told.set_step(step);
  return logTold(outer->receipt(fragment, island, round, step), fragment,
                 island, std::move(told));
}

Receipt DurableState::join(std::uint32_t fragment, std::uint32_t island,
                           std::uint64_t incarnation) {
  wire::LogTold told;
  told.set_incarnation(incarnation);
  told.set_join(true);
  return logTold(outer->join(fragment, island, incarnation), fragment, island,
                 std::move(told));
}

/// `asked`: what has been asked. What has been told before stands in the log.
Receipt DurableState::logTold(const Receipt &receipt, std::uint32_t fragment,
                              std::uint32_t island, wire::LogTold asked) {
  if (receipt.fresh) {
    asked.set_fragment(fragment);
    asked.set_island(island);
    asked.set_receipt(static_cast<wire::Receipt>(receipt.kind));
    asked.set_version(receipt.version);
    asked.set_counted(receipt.counted);
    asked.set_counted_steps(receipt.countedSteps);
    append(RecordType::Told, asked);
  }
  return receipt;
}

void DurableState::logVersion(const RoundClosing &closing) {
  const OuterEvent &event = closing.event();
  wire::LogVersion version;
  version.set_fragment(event.fragment);
  version.set_version(event.version);
  version.set_start(event.kind == OuterEvent::Kind::Start);
  for (std::uint32_t island : event.members)
    version.add_members(island);
  version.set_tokens(event.tokens);
  version.set_hash(event.hash);
  append(RecordType::Version, version, closing.update());
  ++unpublished;
}

void DurableState::stop() {
  if (outer->stopRound() > 0)
    return;
  if (std::optional<std::uint64_t> round = outer->stop()) {
    wire::LogStop stop;
    stop.set_round(*round);
    append(RecordType::Stop, stop);
  }
}

void DurableState::setMembership(const Membership &wanted) {
  outer->setMembership(wanted);
  wire::LogMembers members;
  toWire(wanted, members);
  append(RecordType::Members, members);
}

void DurableState::logBarrier() {
  append(RecordType::Barrier, wire::LogBarrier());
}

DurableState::Mark DurableState::mark() const {
  return {log, log ? log->size() : 0};
}

void DurableState::sync(const Mark &mark) {
  if (mark.log)
    mark.log->sync(mark.bytes);
}

std::vector<OuterEvent> DurableState::newestEvents() const {
  std::vector<OuterEvent> events;
  for (const auto &fragment : outer->fragments)
    if (const OuterEvent *event = fragment->lastEvent())
      events.push_back(*event);
  return events;
}

std::vector<std::shared_ptr<RoundClosing>> DurableState::takeUnfinished() {
  std::vector<std::shared_ptr<RoundClosing>> unfinished;
  for (auto &[fragment, closing] : std::exchange(replay->starts, {}))
    unfinished.push_back(std::move(closing));
  return unfinished;
}

// --------------------------------------------------------------------- files

void DurableState::beginLog(std::unique_ptr<Storage::Writer> file,
                            std::uint64_t number, std::uint64_t previousBytes) {
  auto next = std::make_shared<RecordWriter>(std::move(file));
  wire::LogHeader header;
  header.set_format(kStateFormat);
  header.set_number(number);
  header.set_contract(options.contract.text());
  header.set_run_id(options.runId);
  header.set_previous_bytes(previousBytes);
  next->append(RecordType::LogHeader, &header, {});
  next->sync(next->size());
  storage->syncNames();
  log = std::move(next);
  logNumber = number;
}

void DurableState::recover(double now) {
  Recovery recovery(*storage, config, options, now);
  recovery.run();
  replay = std::move(recovery.replay);
  outer = replay->state;
  earlierBytes = recovery.bytesSinceSnapshot;
  beginLog(storage->create(logName(recovery.nextLog)), recovery.nextLog,
           recovery.lastLogBytes);
}

bool DurableState::wantsSnapshot() const {
  if (!log)
    return false;
  std::uint64_t grown = earlierBytes + log->size();
  std::uint64_t enough =
      options.snapshotBytes ? std::max(options.snapshotBytes, 2 * stateBytes)
                            : 1;
  if (grown < enough)
    return false;
  for (std::uint32_t f = 0; f < config.fragments; ++f)
    if (!outer->current(f))
      return false;
  return true;
}

DurableState::Snapshot::Snapshot() = default;
DurableState::Snapshot::Snapshot(Snapshot &&) noexcept = default;
DurableState::Snapshot::~Snapshot() = default;

DurableState::Snapshot DurableState::beginSnapshot() {
  // Whoever waits for what stands in the old log shall not wait in vain.
  std::uint64_t bytes = log->size();
  log->sync(bytes);
  Snapshot snapshot;
  snapshot.number = logNumber + 1;
  std::unique_ptr<Storage::Writer> nextLog;
  try {
    snapshot.file = std::make_shared<RecordWriter>(
        storage->create(snapshotName(snapshot.number) + kAside));
    nextLog = storage->create(logName(snapshot.number));
  } catch (const StorageError &error) {
    // Nothing has changed: the old log is whole and goes on. Told once.
    if (!std::exchange(putsOff, true) && options.onDamage)
      options.onDamage(std::string(error.what()) +
                       "; the snapshot is put off, and tried again with each "
                       "version");
    return {};
  }
  putsOff = false;
  beginLog(std::move(nextLog), snapshot.number, bytes);
  earlierBytes = 0;
  snapshot.stopRound = outer->stopRound();
  snapshot.members = outer->membership();
  for (const auto &fragment : outer->fragments)
    snapshot.fragments.push_back(fragment->capture());
  return snapshot;
}

wire::SnapshotHeader
DurableState::snapshotHeader(std::uint64_t number, std::uint64_t stopRound,
                             const Membership &members) const {
  wire::SnapshotHeader header;
  header.set_format(kStateFormat);
  header.set_number(number);
  header.set_contract(options.contract.text());
  header.set_run_id(options.runId);
  header.set_fragments(config.fragments);
  header.set_stop_round(stopRound);
  toWire(members, *header.mutable_members());
  return header;
}

void DurableState::writeSnapshot(const Snapshot &snapshot) {
  if (!snapshot.file)
    return;
  std::string name = snapshotName(snapshot.number);
  RecordWriter &file = *snapshot.file;
  wire::SnapshotHeader header =
      snapshotHeader(snapshot.number, snapshot.stopRound, snapshot.members);
  file.append(RecordType::SnapshotHeader, &header, {});
  RecordSink sink =
      [&](RecordType type, const google::protobuf::MessageLite *head,
          std::span<const std::byte> body) { file.append(type, head, body); };
  for (const FragmentImage &image : snapshot.fragments)
    write(image, sink);
  file.append(RecordType::End, &header, {});
  file.sync(file.size());
  storage->rename(name + kAside, name);
  storage->syncNames();
  removeOldGenerations(*storage);
}

// --------------------------------------------------------------- a copy of it

bool DurableState::canCapture() const {
  return unpublished == 0 &&
         std::all_of(
             outer->fragments.begin(), outer->fragments.end(),
             [](const auto &fragment) { return fragment->canCapture(); });
}

void DurableState::capture(const Copy &to) const {
  std::string header =
      snapshotHeader(0, outer->stopRound(), outer->membership())
          .SerializeAsString();
  to(RecordType::SnapshotHeader, header, {}, nullptr);
  for (const auto &fragment : outer->fragments) {
    auto image = std::make_shared<FragmentImage>(fragment->capture());
    write(*image,
          [&](RecordType type, const google::protobuf::MessageLite *head,
              std::span<const std::byte> body) {
            to(type, head ? head->SerializeAsString() : "", body, image);
          });
  }
  to(RecordType::End, header, {}, nullptr);
}

void DurableState::forget() {
  log.reset();
  arriving.reset();
  replay = std::make_unique<Replay>(config);
  outer = replay->state;
  unpublished = 0;
  removeState(*storage);
}

void DurableState::store(const Record &record, double now) {
  std::string aside = snapshotName(logNumber + 1) + kAside;
  switch (record.type) {
  case RecordType::SnapshotHeader: {
    arriving = std::make_unique<RecordWriter>(storage->create(aside));
    auto theirs = parse<wire::SnapshotHeader>(record, "the primary's state");
    wire::SnapshotHeader header = snapshotHeader(
        logNumber + 1, theirs.stop_round(),
        fromWire(theirs.members(), config.islands, "the primary's state"));
    arriving->append(RecordType::SnapshotHeader, &header, {});
    return;
  }
  case RecordType::Fragment:
  case RecordType::Data:
  case RecordType::End:
    break;
  default:
    if (!log)
      throw Error("server state: a record of type ",
                  static_cast<std::uint64_t>(record.type),
                  " has come before the state that it changes");
    log->append(record.type, record.head, record.body);
    return;
  }
  if (!arriving)
    throw Error("server state: part of a snapshot has come without its begin");
  arriving->append(record.type, record.head, record.body);
  if (record.type != RecordType::End)
    return;
  arriving->sync(arriving->size());
  arriving.reset();
  storage->rename(aside, snapshotName(logNumber + 1));
  storage->syncNames();
  recover(now);
}

void DurableState::apply(const Record &record, double now) {
  if (!isOfSnapshot(record.type))
    replay->apply(record, now, "a record of the primary");
}
