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

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

DurableState::DurableState(OuterConfig given, DurableOptions givenOptions,
                           std::unique_ptr<Storage> where, double now)
    : config(std::move(given)), options(std::move(givenOptions)),
      storage(std::move(where)), outer(std::make_unique<OuterState>(config)) {
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
  if (log)
    log->append(type, &head, body);
}

// ------------------------------------------------------------------- changes

PushResult DurableState::push(const PushPart &part,
                              std::span<const std::byte> data, double now) {
  PushResult result = outer->push(part, data, now);
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
  told.set_fragment(fragment);
  told.set_island(island);
  told.set_round(round);
  told.set_step(step);
  return tell(told, outer->receipt(fragment, island, round, step));
}

/// What a call has just decided stands in the log.
Receipt DurableState::tell(wire::LogTold &told, const Receipt &receipt) {
  if (receipt.fresh) {
    told.set_receipt(static_cast<wire::Receipt>(receipt.kind));
    told.set_version(receipt.version);
    told.set_counted(receipt.counted);
    append(RecordType::Told, told);
  }
  return receipt;
}

Receipt DurableState::join(std::uint32_t fragment, std::uint32_t island,
                           std::uint64_t incarnation) {
  wire::LogTold told;
  told.set_fragment(fragment);
  told.set_island(island);
  told.set_incarnation(incarnation);
  told.set_join(true);
  return tell(told, outer->join(fragment, island, incarnation));
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
}

DurableState::Mark DurableState::mark() const {
  return {log, log ? log->size() : 0};
}

void DurableState::sync(const Mark &mark) {
  if (mark.log)
    mark.log->sync(mark.bytes);
}

std::vector<std::shared_ptr<RoundClosing>> DurableState::takeUnfinished() {
  return std::exchange(unfinished, {});
}

// --------------------------------------------------------------------- files

void DurableState::beginLog(std::uint64_t number, std::uint64_t previousBytes) {
  auto next =
      std::make_shared<RecordWriter>(storage->create(logName(number)));
  wire::LogHeader header;
  header.set_format(kStateFormat);
  header.set_number(number);
  header.set_plan_checksum(options.planChecksum);
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
  outer = std::move(recovery.state);
  newestEvents = std::move(recovery.newestEvents);
  unfinished = std::move(recovery.unfinished);
  earlierBytes = recovery.bytesSinceSnapshot;
  beginLog(recovery.nextLog, recovery.lastLogBytes);
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
  beginLog(logNumber + 1, bytes);
  earlierBytes = 0;
  Snapshot snapshot;
  snapshot.number = logNumber;
  for (const auto &fragment : outer->fragments)
    snapshot.fragments.push_back(fragment->capture());
  return snapshot;
}

void DurableState::writeSnapshot(const Snapshot &snapshot) {
  std::string name = snapshotName(snapshot.number);
  std::string aside = name + kAside;
  RecordWriter file(storage->create(aside));
  wire::SnapshotHeader header;
  header.set_format(kStateFormat);
  header.set_number(snapshot.number);
  header.set_plan_checksum(options.planChecksum);
  header.set_run_id(options.runId);
  header.set_fragments(static_cast<std::uint32_t>(snapshot.fragments.size()));
  file.append(RecordType::SnapshotHeader, &header, {});
  for (const FragmentImage &image : snapshot.fragments)
    write(image, file);
  file.append(RecordType::End, &header, {});
  file.sync(file.size());
  storage->rename(aside, name);
  storage->syncNames();
  removeOldGenerations(*storage);
}
