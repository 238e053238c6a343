//===- Recovery.cpp - from files to the server's state --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Recovery.h"

#include "FragmentImage.h"
#include "FragmentState.h"
#include "Wire.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <charconv>
#include <set>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

namespace {

constexpr std::string_view kLog = "log-", kSnapshot = "snapshot-",
                           kDamaged = "damaged-snapshot-";

std::optional<std::uint64_t> numberOf(std::string_view name,
                                      std::string_view prefix) {
  if (!name.starts_with(prefix))
    return std::nullopt;
  name.remove_prefix(prefix.size());
  std::uint64_t number = 0;
  auto [end, error] =
      std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size())
    return std::nullopt;
  return number;
}

std::set<std::uint64_t> numbers(const Storage &storage,
                                std::string_view prefix) {
  std::set<std::uint64_t> found;
  for (const std::string &name : storage.names())
    if (auto number = numberOf(name, prefix))
      found.insert(*number);
  return found;
}

} // namespace

void tombolo::runtime::checkState(const Contract &contract,
                                  std::uint32_t format,
                                  const std::string &contractText,
                                  const std::string &path) {
  if (format != kStateFormat)
    throw Error("server state '", path, "': expected format ", kStateFormat,
                ", got ", format,
                ": it is of another version of this program; give another "
                "folder");
  std::string difference = contract.difference(contractText);
  if (!difference.empty())
    throw Error("server state '", path, "': is of another plan; ", difference,
                "; give another folder, or this one's plan");
}

std::string tombolo::runtime::logName(std::uint64_t number) {
  return std::string(kLog) + std::to_string(number);
}

std::string tombolo::runtime::snapshotName(std::uint64_t number) {
  return std::string(kSnapshot) + std::to_string(number);
}

void tombolo::runtime::removeOldGenerations(Storage &storage) {
  std::set<std::uint64_t> snapshots = numbers(storage, kSnapshot);
  // With one snapshot alone the generation before it is the logs from 0 on.
  std::uint64_t oldest =
      snapshots.size() < 2 ? 0 : *std::next(snapshots.rbegin());
  for (std::uint64_t number : snapshots)
    if (number < oldest)
      storage.remove(snapshotName(number));
  for (std::uint64_t number : numbers(storage, kLog))
    if (number < oldest)
      storage.remove(logName(number));
  for (const std::string &name : storage.names())
    if (auto number = numberOf(name, kDamaged); number && *number < oldest)
      storage.remove(name);
  storage.syncNames();
}

void tombolo::runtime::removeState(Storage &storage) {
  for (const std::string &name : storage.names())
    if (name.ends_with(kAside) || numberOf(name, kSnapshot) ||
        numberOf(name, kLog) || numberOf(name, kDamaged))
      storage.remove(name);
  storage.syncNames();
}

Recovery::Recovery(Storage &storage, const OuterConfig &config,
                   const DurableOptions &options, double now)
    : replay(std::make_unique<Replay>(config)), storage(storage),
      config(config), options(options), now(now) {}

void Recovery::run() {
  bool anyRemoved = false;
  auto remove = [&](const std::string &name) {
    storage.remove(name);
    anyRemoved = true;
  };
  for (const std::string &name : storage.names())
    if (name.ends_with(kAside))
      remove(name);
  std::set<std::uint64_t> logs = numbers(storage, kLog);
  // A log without its header was begun, and nothing was told on its account.
  if (!logs.empty()) {
    RecordReader last(storage, logName(*logs.rbegin()));
    std::optional<Record> record = last.next();
    if (!record && !last.wasDurable()) {
      remove(logName(*logs.rbegin()));
      logs.erase(*logs.rbegin());
    } else if (record && record->type == RecordType::LogHeader) {
      // Before a snapshot of another plan is taken for a damaged one.
      auto header = parse<wire::LogHeader>(*record, last.path());
      checkState(options.contract, header.format(), header.contract(),
                 last.path());
    }
  }
  if (anyRemoved)
    storage.syncNames();

  std::set<std::uint64_t> snapshots = numbers(storage, kSnapshot);
  std::uint64_t first = 0;
  bool loaded = false;
  for (auto number = snapshots.rbegin(); number != snapshots.rend() && !loaded;
       ++number)
    if ((loaded = load(*number)))
      first = *number;
  if (!loaded && !snapshots.empty() && !logs.contains(0))
    throw Error("server state '", storage.path(""),
                "': no snapshot of it is whole; remove the folder to go on "
                "from the islands' checkpoints");

  // In sequence, without a gap; what is before `first` was kept as a second
  // way here.
  std::uint64_t next = first;
  while (logs.contains(next)) {
    std::optional<std::uint64_t> bytes;
    if (logs.contains(next + 1)) {
      RecordReader after(storage, logName(next + 1));
      std::optional<Record> record = after.next();
      if (record && record->type == RecordType::LogHeader)
        bytes = parse<wire::LogHeader>(*record, after.path()).previous_bytes();
    }
    replayLog(next++, bytes);
  }
  if (!logs.empty() && *logs.rbegin() >= next)
    throw Error("server state '", storage.path(logName(next)),
                "': the file is missing, though later ones are there");
  // A server that was killed may have left more than was synced, and what has
  // been replayed is now as good as told.
  if (next > first)
    storage.sync(logName(next - 1));
  nextLog = next;
  replay->enterRun(options.runId);
}

bool Recovery::load(std::uint64_t number) {
  std::string name = snapshotName(number);
  try {
    RecordReader file(storage, name);
    std::optional<Record> record = file.next();
    if (!record || record->type != RecordType::SnapshotHeader)
      throw Error("'", file.path(), "': damaged: it does not begin as one");
    auto header = parse<wire::SnapshotHeader>(*record, file.path());
    checkState(options.contract, header.format(), header.contract(),
               file.path());
    if (header.number() != number || header.fragments() != config.fragments)
      throw Error("'", file.path(), "': damaged: it is another snapshot");
    std::vector<FragmentImage> images;
    for (std::uint32_t f = 0; f < config.fragments; ++f) {
      record = file.next();
      if (!record || record->type != RecordType::Fragment)
        throw Error("'", file.path(), "': damaged at byte ", file.position());
      auto fields = parse<wire::SavedFragment>(*record, file.path());
      images.push_back(readImage(std::move(fields), file,
                                 replay->fragments()[f]->elements(),
                                 replay->fragments()[f]->updateBytes()));
    }
    record = file.next();
    if (!record || record->type != RecordType::End)
      throw Error("'", file.path(), "': damaged: its end is missing");
    for (std::uint32_t f = 0; f < config.fragments; ++f)
      replay->restore(f, std::move(images[f]), now);
    replay->state->endRound = header.stop_round();
    replay->state->setMembership(
        fromWire(header.members(), config.islands, file.path()));
    replay->enterRun(header.run_id());
    return true;
  } catch (const Error &error) {
    if (options.onDamage)
      options.onDamage(std::string("server state ") + error.what() +
                       "; the generation before is used");
    // Out of the way of the two that are kept.
    storage.rename(name, "damaged-" + name);
    storage.syncNames();
    replay = std::make_unique<Replay>(config);
    return false;
  }
}

void Recovery::replayLog(std::uint64_t number,
                         std::optional<std::uint64_t> bytes) {
  RecordReader file(storage, logName(number));
  auto damaged = [&] {
    throw Error("server state '", file.path(), "': damaged at byte ",
                file.position(),
                ", where it had been whole; remove the folder to go on from "
                "the islands' checkpoints");
  };
  std::optional<Record> record = file.next();
  if (!record || record->type != RecordType::LogHeader)
    damaged();
  auto header = parse<wire::LogHeader>(*record, file.path());
  checkState(options.contract, header.format(), header.contract(), file.path());
  if (header.number() != number)
    throw Error("server state '", file.path(), "': expected number ", number,
                ", got ", header.number());
  replay->enterRun(header.run_id());
  while ((!bytes || file.position() < *bytes) && (record = file.next()))
    replay->apply(*record, now,
                  "server state '" + file.path() + "' before byte " +
                      std::to_string(file.position()));
  if (bytes ? file.position() != *bytes : file.wasDurable())
    damaged();
  if (!bytes && !file.atEnd() && options.onDamage)
    options.onDamage("server state '" + file.path() + "': torn at byte " +
                     std::to_string(file.position()) +
                     "; what is behind was never acknowledged");
  bytesSinceSnapshot += file.position();
  lastLogBytes = file.position();
}
