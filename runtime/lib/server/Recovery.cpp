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

template <typename Message>
Message parse(const Record &record, const std::string &place) {
  Message message;
  if (!message.ParseFromString(record.head))
    throw Error(place, ": not a record of this format");
  return message;
}

} // namespace

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

Recovery::Recovery(Storage &storage, const OuterConfig &config,
                   const DurableOptions &options, double now)
    : state(std::make_unique<OuterState>(config)), storage(storage),
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
    if (!last.next() && !last.wasDurable()) {
      remove(logName(*logs.rbegin()));
      logs.erase(*logs.rbegin());
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
    replay(next++, bytes);
  }
  if (!logs.empty() && *logs.rbegin() >= next)
    throw Error("server state '", storage.path(logName(next)),
                "': the file is missing, though later ones are there");
  // A server that was killed may have left more than was synced, and what has
  // been replayed is now as good as told.
  if (next > first)
    storage.sync(logName(next - 1));
  nextLog = next;
  enterRun(options.runId);
  for (auto &[fragment, closing] : starts)
    unfinished.push_back(std::move(closing));
}

/// Islands of another run know nothing of what theirs were in this one.
void Recovery::enterRun(const std::string &id) {
  if (!runId.empty() && runId != id)
    for (const auto &fragment : state->fragments)
      fragment->forgetIncarnations();
  runId = id;
}

bool Recovery::load(std::uint64_t number) {
  std::string name = snapshotName(number);
  try {
    RecordReader file(storage, name);
    std::optional<Record> record = file.next();
    if (!record || record->type != RecordType::SnapshotHeader)
      throw Error("'", file.path(), "': damaged: it does not begin as one");
    auto header = parse<wire::SnapshotHeader>(*record, file.path());
    if (header.format() != kStateFormat || header.number() != number ||
        header.fragments() != config.fragments ||
        header.plan_checksum() != options.planChecksum)
      throw Error("'", file.path(),
                  "': is of another plan or version of this program");
    std::vector<FragmentImage> images;
    for (std::uint32_t f = 0; f < config.fragments; ++f) {
      record = file.next();
      if (!record || record->type != RecordType::Fragment)
        throw Error("'", file.path(), "': damaged at byte ", file.position());
      auto fields = parse<wire::SavedFragment>(*record, file.path());
      images.push_back(readImage(std::move(fields), file,
                                 state->fragments[f]->elements(),
                                 state->fragments[f]->updateBytes()));
    }
    record = file.next();
    if (!record || record->type != RecordType::End)
      throw Error("'", file.path(), "': damaged: its end is missing");
    for (std::uint32_t f = 0; f < config.fragments; ++f)
      state->fragments[f]->restore(std::move(images[f]), now);
    enterRun(header.run_id());
    return true;
  } catch (const Error &error) {
    if (options.onDamage)
      options.onDamage(std::string("server state ") + error.what() +
                       "; the generation before is used");
    // Out of the way of the two that are kept.
    storage.rename(name, "damaged-" + name);
    storage.syncNames();
    state = std::make_unique<OuterState>(config);
    return false;
  }
}

void Recovery::replay(std::uint64_t number,
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
  if (header.plan_checksum() != options.planChecksum)
    throw Error("server state '", file.path(),
                "': is of another plan; give another folder");
  if (header.format() != kStateFormat || header.number() != number)
    throw Error("server state '", file.path(), "': expected format ",
                kStateFormat, " and number ", number, ", got ",
                header.format(), " and ", header.number());
  enterRun(header.run_id());
  while ((!bytes || file.position() < *bytes) && (record = file.next()))
    apply(*record, "server state '" + file.path() + "' before byte " +
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

void Recovery::apply(const Record &record, const std::string &place) {
  switch (record.type) {
  case RecordType::Push:
    return applyPush(record, place);
  case RecordType::Refused: {
    auto refused = parse<wire::LogRefused>(record, place);
    if (refused.fragment() >= config.fragments ||
        refused.island() >= config.islands)
      throw Error(place, ": of no island or fragment of the plan");
    state->fragments[refused.fragment()]->refuseAgain(
        refused.island(),
        {refused.incarnation(), refused.round(), refused.step()});
    return;
  }
  case RecordType::Told:
    return applyTold(record, place);
  case RecordType::Version:
    return applyVersion(record, place);
  default:
    throw Error(place, ": a record of unknown type ",
                static_cast<std::uint64_t>(record.type));
  }
}

void Recovery::applyPush(const Record &record, const std::string &place) {
  auto push = parse<wire::LogPush>(record, place);
  std::optional<PushPart> part = fromWire(push.header());
  if (!part || part->fragment >= config.fragments ||
      part->island >= config.islands)
    throw Error(place, ": not a push of this plan");
  // Not through OuterState, which would decide rounds: that stands in the log.
  PushResult result =
      state->fragments[part->fragment]->push(*part, record.body, now);
  if (result.outcome != Outcome::Accepted)
    throw Error(place, ": a push that was accepted is ", name(result.outcome),
                " now: ", result.message);
  if (result.closing)
    starts[part->fragment] = std::move(result.closing);
}

void Recovery::applyTold(const Record &record, const std::string &place) {
  auto told = parse<wire::LogTold>(record, place);
  if (told.fragment() >= config.fragments || told.island() >= config.islands)
    throw Error(place, ": of no island or fragment of the plan");
  FragmentState &fragment = *state->fragments[told.fragment()];
  Receipt receipt =
      told.join()
          ? fragment.join(told.island(), told.incarnation())
          : fragment.receipt(told.island(), told.round(), told.step());
  if (static_cast<int>(receipt.kind) != told.receipt() ||
      receipt.version != told.version() || receipt.counted != told.counted())
    throw Error(place, ": island ", told.island(), " was told of version ",
                told.version(), ", and would be told of ", receipt.version,
                " now");
}

void Recovery::applyVersion(const Record &record, const std::string &place) {
  auto made = parse<wire::LogVersion>(record, place);
  if (made.fragment() >= config.fragments)
    throw Error(place, ": of no fragment of the plan");
  FragmentState &fragment = *state->fragments[made.fragment()];
  std::shared_ptr<RoundClosing> closing;
  if (made.start()) {
    auto start = starts.find(made.fragment());
    if (start == starts.end())
      throw Error(place, ": a first version whose parameters are missing");
    closing = std::move(start->second);
    starts.erase(start);
  } else {
    try {
      closing = fragment.closeAgain(
          {made.members().begin(), made.members().end()}, now);
    } catch (const Error &error) {
      throw Error(place, ": ", error.what());
    }
  }
  closing->compute();
  // The state of all sites rests on these bits.
  if (closing->event().version != made.version() ||
      closing->event().hash != made.hash() ||
      !std::ranges::equal(closing->update(), record.body))
    throw Error(Status::Failed, place, ": version ", made.version(),
                " of fragment ", made.fragment(),
                " does not come out as it was published");
  fragment.publish(*closing);
  auto known = std::find_if(newestEvents.begin(), newestEvents.end(),
                            [&](const OuterEvent &event) {
                              return event.fragment == made.fragment();
                            });
  if (known == newestEvents.end())
    newestEvents.push_back(closing->event());
  else
    *known = closing->event();
}
