//===- OuterState.cpp - the parameter server's algorithm ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/OuterState.h"

#include "FragmentState.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <cmath>
#include <set>

using namespace tombolo::runtime;

std::string_view tombolo::runtime::name(Outcome outcome) {
  switch (outcome) {
  case Outcome::Accepted:
    return "accepted";
  case Outcome::Repeated:
    return "repeated";
  case Outcome::Malformed:
    return "malformed";
  case Outcome::WrongRun:
    return "wrong run";
  case Outcome::UnknownSender:
    return "unknown sender";
  case Outcome::OldIncarnation:
    return "old incarnation";
  case Outcome::UnknownFragment:
    return "unknown fragment";
  case Outcome::UnknownTensor:
    return "unknown tensor";
  case Outcome::BadRange:
    return "bad range";
  case Outcome::Overlap:
    return "overlap";
  case Outcome::BadSize:
    return "bad size";
  case Outcome::Inconsistent:
    return "inconsistent";
  case Outcome::NotStarted:
    return "not started";
  case Outcome::AlreadyStarted:
    return "already started";
  case Outcome::WrongBase:
    return "wrong base";
  case Outcome::ClosedRound:
    return "closed round";
  case Outcome::FutureRound:
    return "future round";
  case Outcome::BadWeight:
    return "bad weight";
  case Outcome::NotFinite:
    return "not finite";
  case Outcome::UnknownVersion:
    return "unknown version";
  case Outcome::Busy:
    return "busy";
  case Outcome::Overdue:
    return "overdue";
  case Outcome::NotPrimary:
    return "not primary";
  case Outcome::Removed:
    return "removed";
  case Outcome::Impossible:
    return "impossible";
  }
  return "unknown";
}

std::string tombolo::runtime::removedMessage(std::uint32_t island) {
  return "island " + std::to_string(island) +
         " has been removed from the run; 'tombolo-run admin' with 'add' lets "
         "it in again";
}

OuterState::OuterState(OuterConfig config) : settings(std::move(config)) {
  if (settings.islands == 0 || settings.fragments == 0)
    throw Error("server: expected at least one island and one fragment");
  const OuterSettings &outer = settings.outer;
  if (!std::isfinite(outer.learningRate) || outer.learningRate < 0 ||
      !(outer.momentum >= 0 && outer.momentum < 1))
    throw Error("server: expected an outer learning rate of at least 0 and a "
                "momentum in [0, 1), got ",
                outer.learningRate, " and ", outer.momentum);
  if (outer.optimizer == OuterOptimizer::AdamW &&
      (!(outer.beta2 >= 0 && outer.beta2 < 1) || !(outer.epsilon > 0) ||
       !(outer.weightDecay >= 0) || !std::isfinite(outer.weightDecay)))
    throw Error(
        "server: expected outer beta2 in [0, 1), eps above 0 and weight "
        "decay of at least 0, got ",
        outer.beta2, ", ", outer.epsilon, " and ", outer.weightDecay);
  std::set<std::string_view> names;
  std::uint64_t total = 0;
  for (const OuterTensor &tensor : settings.tensors) {
    if (tensor.elements == 0 || tensor.fragment >= settings.fragments)
      throw Error("server: tensor '", tensor.name,
                  "' has no elements or is in a fragment that is not there");
    if (!names.insert(tensor.name).second)
      throw Error("server: tensor '", tensor.name, "' stands twice");
    if (tensor.elements > (std::uint64_t(1) << 60) - total)
      throw Error("server: the tensors have too many elements");
    total += tensor.elements;
  }
  for (std::uint32_t f = 0; f < settings.fragments; ++f) {
    fragments.push_back(std::make_unique<FragmentState>(settings, f));
    if (fragments.back()->elements() == 0)
      throw Error("server: fragment ", f, " has no tensor");
  }
  islands.resize(settings.islands);
  members = {std::vector<bool>(settings.islands), settings.quorum};
}

OuterState::~OuterState() = default;

PushResult OuterState::admit(const PushPart &part, std::uint64_t *bytes) const {
  PushResult result;
  if (part.island >= settings.islands) {
    result.outcome = Outcome::UnknownSender;
    result.message = "the plan has " + std::to_string(settings.islands) +
                     " islands, got island " + std::to_string(part.island);
    return result;
  }
  if (part.fragment >= settings.fragments) {
    result.outcome = Outcome::UnknownFragment;
    result.message = "the plan has " + std::to_string(settings.fragments) +
                     " fragments, got fragment " +
                     std::to_string(part.fragment);
    return result;
  }
  result = fragments[part.fragment]->admit(part, bytes);
  if (result.outcome == Outcome::Accepted && isRemoved(part.island)) {
    result.outcome = Outcome::Removed;
    result.message = removedMessage(part.island);
  }
  return result;
}

PushResult OuterState::push(const PushPart &part,
                            std::span<const std::byte> data, double now) {
  if (part.island >= settings.islands || part.fragment >= settings.fragments ||
      isRemoved(part.island))
    if (PushResult refused = admit(part); refused.outcome != Outcome::Accepted)
      return refused;
  heard(part.island, part.incarnation, /*left=*/false, now);
  FragmentState &fragment = *fragments[part.fragment];
  PushResult result = fragment.push(part, data, now);
  // What was refused for good may have been what a round has waited for.
  if ((result.committed && !result.closing) || result.discarded)
    result.closing = fragment.closeIfDue(liveIslands(now), quorum(), now);
  return result;
}

void OuterState::heard(std::uint32_t island, std::uint64_t incarnation,
                       bool left, double now) {
  if (island >= islands.size())
    return;
  if (!firstSeconds)
    firstSeconds = now;
  Presence &presence = islands[island];
  if (incarnation < presence.incarnation)
    return;
  if (incarnation > presence.incarnation || left)
    presence.left = left;
  if (incarnation > presence.incarnation)
    presence.gone = false;
  presence.incarnation = incarnation;
  presence.heardSeconds = now;
}

bool OuterState::isLive(std::uint32_t island, double now) const {
  const Presence &presence = islands.at(island);
  if (presence.left || isRemoved(island))
    return false;
  if (presence.heardSeconds)
    return now - *presence.heardSeconds <= settings.livenessSeconds;
  return !firstSeconds || now - *firstSeconds <= settings.startSeconds;
}

void OuterState::gone(std::uint32_t island, std::uint64_t incarnation) {
  Presence &presence = islands.at(island);
  presence.gone |= incarnation == presence.incarnation;
}

bool OuterState::isDeserted(double now) const {
  return std::all_of(
      islands.begin(), islands.end(), [&](const Presence &presence) {
        return presence.gone || now - presence.heardSeconds.value_or(-1e9) >
                                    settings.livenessSeconds;
      });
}

std::uint64_t OuterState::nextIncarnation(std::uint32_t island) const {
  const Presence &presence = islands.at(island);
  std::uint64_t next = presence.heardSeconds ? presence.incarnation + 1 : 0;
  for (const auto &fragment : fragments)
    if (auto incarnation = fragment->incarnationOf(island))
      next = std::max(next, *incarnation + 1);
  return next;
}

void OuterState::takeOver(double now,
                          const std::map<std::uint32_t, double> &overheard) {
  firstSeconds = lastTickSeconds = now;
  for (std::uint32_t island = 0; island < islands.size(); ++island) {
    islands[island] = {};
    bool isKnown = std::any_of(
        fragments.begin(), fragments.end(),
        [&](const auto &fragment) { return fragment->knows(island); });
    if (!isKnown)
      continue;
    auto found = overheard.find(island);
    bool isRecent = found != overheard.end() &&
                    now - found->second <= 2 * settings.livenessSeconds;
    islands[island].heardSeconds = isRecent ? found->second : now;
  }
}

std::string OuterState::objection(const Membership &wanted) const {
  // Island 0 brings the first version, and all begin with it.
  for (std::uint32_t f = 0; f < settings.fragments; ++f)
    if (!current(f))
      return "the run has no first version yet";
  auto left = static_cast<std::size_t>(
      std::count(wanted.removed.begin(), wanted.removed.end(), false));
  if (left == 0)
    return "no island would be left; end the run with SIGTERM instead";
  if (wanted.quorum == 0 || wanted.quorum > left)
    return "a round needs " + std::to_string(wanted.quorum) +
           (wanted.quorum == 1 ? " island" : " islands") +
           " (the quorum), and there would be " + std::to_string(left) +
           "; set another with --quorum";
  return "";
}

void OuterState::setMembership(Membership wanted) {
  // Whoever is let in is waited for when it is there.
  for (std::uint32_t island = 0; island < islands.size(); ++island)
    if (members.removed[island] && !wanted.removed[island] &&
        islands[island].heardSeconds)
      islands[island].heardSeconds = -1e9;
  members = std::move(wanted);
}

/// Those that have done all their steps bring nothing any more, nor do those
/// that have been removed.
std::size_t OuterState::quorum() const {
  std::size_t present = 0;
  for (std::uint32_t island = 0; island < islands.size(); ++island)
    present += !islands[island].left && !isRemoved(island);
  return std::clamp<std::size_t>(members.quorum, 1,
                                 std::max<std::size_t>(1, present));
}

std::vector<bool> OuterState::liveIslands(double now) const {
  std::vector<bool> live;
  for (std::uint32_t island = 0; island < islands.size(); ++island)
    live.push_back(isLive(island, now));
  return live;
}

std::vector<std::shared_ptr<RoundClosing>> OuterState::tick(double now) {
  // When nobody has looked for a while, it was not the islands that slept.
  double asleep = std::min(1.0, settings.livenessSeconds / 4);
  if (lastTickSeconds && now - *lastTickSeconds > asleep)
    for (Presence &presence : islands)
      if (presence.heardSeconds)
        presence.heardSeconds =
            std::min(now, *presence.heardSeconds + (now - *lastTickSeconds));
  lastTickSeconds = now;
  std::vector<std::shared_ptr<RoundClosing>> due;
  std::vector<bool> live = liveIslands(now);
  for (const auto &fragment : fragments)
    if (auto closing = fragment->closeIfDue(live, quorum(), now))
      due.push_back(std::move(closing));
  return due;
}

bool OuterState::isFinished(double now) const {
  for (std::uint32_t island = 0; island < islands.size(); ++island)
    if (isLive(island, now))
      return false;
  for (const auto &fragment : fragments)
    if (fragment->isPending(quorum()))
      return false;
  return true;
}

/// Who has pushed for the open round r trains on until it is told how that has
/// ended, which is before its push of round r + 1: so all hear in time of the
/// end after the steps before round r + 2. Fragments may be some rounds apart
/// when rounds of one were closed without an island: the furthest counts, since
/// whoever joins passes over all steps that do.
std::optional<std::uint64_t> OuterState::stop() {
  if (endRound == 0 && current(0)) {
    for (std::uint32_t f = 0; f < settings.fragments; ++f)
      if (auto version = current(f))
        endRound = std::max(endRound, version->number);
    endRound += 2;
  }
  return endRound ? std::optional(endRound) : std::nullopt;
}

Receipt OuterState::receipt(std::uint32_t fragment, std::uint32_t island,
                            std::uint64_t round, std::uint64_t step) {
  return fragments.at(fragment)->receipt(island, round, step,
                                         isRemoved(island));
}

Receipt OuterState::join(std::uint32_t fragment, std::uint32_t island,
                         std::uint64_t incarnation) {
  if (isRemoved(island))
    return {Receipt::Kind::Removed};
  return fragments.at(fragment)->join(island, incarnation);
}

void OuterState::publish(const RoundClosing &closing) {
  fragments.at(closing.event().fragment)->publish(closing);
}

std::optional<std::string> OuterState::overdue(std::uint32_t fragment,
                                               double now) {
  return fragments.at(fragment)->overdue(now);
}

std::shared_ptr<const Version>
OuterState::current(std::uint32_t fragment) const {
  return fragments.at(fragment)->current();
}

std::shared_ptr<const Version> OuterState::version(std::uint32_t fragment,
                                                   std::uint64_t number) const {
  return fragments.at(fragment)->version(number);
}

std::shared_ptr<const Update> OuterState::update(std::uint32_t fragment,
                                                 std::uint64_t version) const {
  return fragments.at(fragment)->update(version);
}

Outcome OuterState::locateBlocks(std::uint32_t fragment,
                                 std::span<const TensorSlice> slices,
                                 std::vector<FragmentRun> &runs,
                                 std::string &message) const {
  return fragments.at(fragment)->locateBlocks(slices, runs, message);
}

Outcome OuterState::locate(std::uint32_t fragment,
                           std::span<const TensorSlice> slices,
                           std::vector<FragmentRun> &runs,
                           std::string &message) const {
  return fragments.at(fragment)->locate(slices, runs, message);
}

std::uint64_t OuterState::elements(std::uint32_t fragment) const {
  return fragments.at(fragment)->elements();
}

std::uint64_t OuterState::firstVersion(std::uint32_t fragment) const {
  return fragments.at(fragment)->firstVersion();
}
