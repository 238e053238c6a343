//===- Replay.cpp - records into the server's state -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Replay.h"

#include "FragmentImage.h"
#include "Wire.h"

#include <algorithm>

using namespace tombolo::runtime;
namespace wire = tombolo::server::v1;

namespace {

void checkPlace(std::uint32_t fragment, std::uint32_t island,
                const OuterConfig &config, const std::string &place) {
  if (fragment >= config.fragments || island >= config.islands)
    throw Error(place, ": of no island or fragment of the plan");
}

} // namespace

void Replay::enterRun(const std::string &id) {
  if (!runId.empty() && runId != id) {
    state->endRound = 0;
    const OuterConfig &config = state->config();
    state->setMembership({std::vector<bool>(config.islands), config.quorum});
    for (const auto &fragment : fragments())
      fragment->forgetIncarnations();
  }
  runId = id;
}

void Replay::restore(std::uint32_t fragment, FragmentImage image, double now) {
  fragments()[fragment]->restore(std::move(image), now);
  if (auto start = fragments()[fragment]->startAgain(now))
    starts[fragment] = std::move(start);
}

void Replay::apply(const Record &record, double now, const std::string &place) {
  switch (record.type) {
  case RecordType::Push:
    return applyPush(record, now, place);
  case RecordType::Refused:
    return applyRefused(record, place);
  case RecordType::Told:
    return applyTold(record, place);
  case RecordType::Version:
    return applyVersion(record, now, place);
  case RecordType::Barrier:
    return;
  case RecordType::Members:
    state->setMembership(fromWire(parse<wire::LogMembers>(record, place),
                                  state->config().islands, place));
    return;
  case RecordType::Stop:
    state->endRound = parse<wire::LogStop>(record, place).round();
    return;
  default:
    throw Error(place, ": a record of unknown type ",
                static_cast<std::uint64_t>(record.type));
  }
}

void Replay::applyPush(const Record &record, double now,
                       const std::string &place) {
  auto push = parse<wire::LogPush>(record, place);
  std::optional<PushPart> part = fromWire(push.header());
  if (!part)
    throw Error(place, ": not a push of this plan");
  checkPlace(part->fragment, part->island, state->config(), place);
  // Not through OuterState, which would decide rounds: that stands in the log.
  PushResult result =
      fragments()[part->fragment]->push(*part, record.body, now);
  if (result.outcome != Outcome::Accepted)
    throw Error(place, ": a push that was accepted is ", name(result.outcome),
                " now: ", result.message);
  if (result.closing)
    starts[part->fragment] = std::move(result.closing);
}

void Replay::applyRefused(const Record &record, const std::string &place) {
  auto refused = parse<wire::LogRefused>(record, place);
  checkPlace(refused.fragment(), refused.island(), state->config(), place);
  fragments()[refused.fragment()]->refuseAgain(
      refused.island(),
      {refused.incarnation(), refused.round(), refused.step()});
}

void Replay::applyTold(const Record &record, const std::string &place) {
  auto told = parse<wire::LogTold>(record, place);
  checkPlace(told.fragment(), told.island(), state->config(), place);
  FragmentState &fragment = *fragments()[told.fragment()];
  Receipt receipt =
      told.join() ? fragment.join(told.island(), told.incarnation())
                  : fragment.receipt(told.island(), told.round(), told.step(),
                                     state->isRemoved(told.island()));
  if (static_cast<int>(receipt.kind) != told.receipt() ||
      receipt.version != told.version() || receipt.counted != told.counted() ||
      receipt.countedSteps != told.counted_steps())
    throw Error(place, ": island ", told.island(), " was told of version ",
                told.version(), ", and would be told of ", receipt.version,
                " now");
}

void Replay::applyVersion(const Record &record, double now,
                          const std::string &place) {
  auto made = parse<wire::LogVersion>(record, place);
  if (made.fragment() >= state->config().fragments)
    throw Error(place, ": of no fragment of the plan");
  FragmentState &fragment = *fragments()[made.fragment()];
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
}
