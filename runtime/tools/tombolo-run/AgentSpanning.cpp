//===- AgentSpanning.cpp - islands with ranks at other sites --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Such an island lives as long as all agents agree (IslandTalk.h): its ranks
// start together, end together, and start again together.
//
//===----------------------------------------------------------------------===//

#include "Agent.h"

#include "Events.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <utility>

using namespace tombolo::runtime;
using nlohmann::json;

namespace {

/// Among the failures of a site: its agent has fallen, and another has come.
constexpr const char *kReplaced = "agent_replaced";
/// A rank that fails may take hundreds along, which say the same.
constexpr std::size_t kMostFailures = 32;
/// Behind the end, how long the store stays for other sites to see it.
constexpr auto kStay = std::chrono::seconds(10);

bool isReplaced(const json &failure) {
  return field<std::string>(failure, "event", "") == kReplaced;
}

Failure failureOf(const json &event) {
  if (isReplaced(event))
    return {Cause::Part, static_cast<int>(Status::Failed),
            "the agent of site " + field<std::string>(event, "site", "?") +
                " was started again"};
  return rankFailure(event);
}

} // namespace

void Agent::tendShared() {
  try {
    for (auto &[number, island] : islands)
      if (island.isShared && !island.isSettled && failures.empty())
        tend(number);
    sharedLives = hasShared();
  } catch (const std::exception &error) {
    sharedLives = false;
    fail(Cause::Part, static_cast<int>(Status::Failed), error.what());
  }
}

/// A wait that is not for ranks which train; it ends some time.
void Agent::waitFor(Island &island, const std::string &what) {
  if (!island.waitsSince)
    island.waitsSince = Clock::now();
  auto waited = Clock::now() - *island.waitsSince;
  if (waited >= kPatience)
    fail(Cause::Part, static_cast<int>(Status::Failed), what);
  else if (waited >= kWarning && !std::exchange(island.hasWarned, true))
    emit({{"event", "waiting"},
          {"site", options.site},
          {"message", what + " yet"}});
}

void Agent::tend(std::uint32_t number) {
  Island &island = islands.at(number);
  if (!island.talk) {
    island.talk = options.talk(number);
    if (!island.talk)
      return waitFor(island, "island " + std::to_string(number) +
                                 ": nobody keeps the store where its sites "
                                 "meet");
    while (island.talk->start(island.life + 1))
      ++island.life; // that this agent has not seen
  }
  if (!island.hasBegun && !beginLife(number))
    return;
  if (!isRunning(number))
    return endLife(number);
  if (!island.end && island.talk->hasFailed(island.life))
    island.end = Clock::now() + kGrace;
  else if (island.end && !std::exchange(island.hasToldFailed, true))
    island.talk->tellFailed(island.life);
}

/// The leader's first word. False: it is not known yet.
bool Agent::leadFirst(std::uint32_t number) {
  Island &island = islands.at(number);
  IslandStart start{options.incarnation, std::nullopt, ""};
  if (options.ask) {
    std::optional<std::uint64_t> incarnation = options.ask(number, noAnswer);
    if (!incarnation)
      return false;
    start.incarnation = *incarnation;
  }
  std::optional<RankOptions> rank =
      start.incarnation > 0 ? fromSnapshot(number) : options.rank;
  if (!rank)
    throw Error("island ", number, ": no checkpoint of it in '",
                options.rank.checkpointDir,
                "' is whole, and it is not begun anew; remove them to begin");
  start.resumeStep = rank->resumeStep;
  if (options.ask)
    emit({{"event", "begin"},
          {"site", options.site},
          {"island", number},
          {"incarnation", start.incarnation},
          {"step", rank->resumeStep.value_or(0)}});
  island.talk->tellStart(island.life, start);
  return true;
}

/// Starts the ranks here once the leader has said how. False: not yet, or not
/// any more.
bool Agent::beginLife(std::uint32_t number) {
  Island &island = islands.at(number);
  IslandTalk &talk = *island.talk;
  std::optional<IslandStart> word = talk.start(island.life);
  if (!word && talk.leads() && leadFirst(number))
    word = talk.start(island.life);
  if (!word) {
    waitFor(island, talk.leads()
                        ? noPrimary()
                        : "island " + std::to_string(number) +
                              ": the agent of its first rank has not begun it");
    return false;
  }
  if (!word->givenUp.empty()) {
    giveUpShared(number, word->givenUp);
    return false;
  }
  island.hasBegun = true;
  island.hasSaid = island.hasToldFailed = false;
  island.failures.clear();
  island.waitsSince.reset();
  island.hasWarned = false;
  island.incarnation = word->incarnation;
  if (!talk.join(island.life)) { // whose ranks have gone with it
    island.failures.push_back(
        {{"event", kReplaced}, {"site", options.site}, {"island", number}});
    talk.tellFailed(island.life);
    return true;
  }
  RankOptions rank = options.rank;
  rank.resume = word->resumeStep.has_value();
  rank.resumeStep = word->resumeStep;
  start(number, rank);
  return true;
}

/// The ranks here have ended.
void Agent::endLife(std::uint32_t number) {
  Island &island = islands.at(number);
  IslandTalk &talk = *island.talk;
  if (!std::exchange(island.hasSaid, true)) {
    std::vector<json> worst = island.failures;
    std::stable_sort(worst.begin(), worst.end(),
                     [](const json &a, const json &b) {
                       return failureOf(a).cause < failureOf(b).cause;
                     });
    worst.resize(std::min(worst.size(), kMostFailures));
    talk.tellEnded(island.life, worst);
    if (!worst.empty() && !std::exchange(island.hasToldFailed, true))
      talk.tellFailed(island.life);
    island.end.reset();
    island.killed = false;
  }
  std::optional<std::vector<json>> all = talk.ended(island.life);
  if (!all) {
    if (talk.hasFailed(island.life))
      waitFor(island, "island " + std::to_string(number) +
                          " has failed, and a site of it has not told of its "
                          "ranks' end");
    return;
  }
  if (all->empty()) {
    island.isSettled = true;
    talk.tellLeft();
    island.waitsSince = Clock::now();
    return;
  }
  std::optional<IslandStart> next = talk.start(island.life + 1);
  if (!next && talk.leads()) {
    next = goOn(number, *all);
    talk.tellStart(island.life + 1, *next);
  }
  if (!next)
    return waitFor(island, "island " + std::to_string(number) +
                               " has failed, and the agent of its first rank "
                               "has not started it again");
  ++island.life;
  island.hasBegun = false;
  island.waitsSince.reset();
}

/// What the leader decides when some rank has failed.
IslandStart Agent::goOn(std::uint32_t number, const std::vector<json> &all) {
  Island &island = islands.at(number);
  std::vector<Failure> causes;
  for (const json &failure : all)
    causes.push_back(failureOf(failure));
  const Failure &cause = culprit(causes);
  // Whoever has started the agent again has counted that.
  bool isFree = std::any_of(all.begin(), all.end(), isReplaced);
  IslandStart next{island.incarnation + 1, std::nullopt, ""};
  std::optional<RankOptions> rank;
  if (cause.cause != Cause::BadInput && (isFree || island.restartsLeft > 0))
    rank = fromSnapshot(number);
  if (!rank) {
    next.givenUp = cause.message;
    return next;
  }
  if (!isFree)
    --island.restartsLeft;
  next.resumeStep = rank->resumeStep;
  emit({{"event", "restart"},
        {"site", options.site},
        {"island", number},
        {"incarnation", next.incarnation},
        {"step", rank->resumeStep.value_or(0)},
        {"restarts_left", island.restartsLeft},
        {"message", cause.message}});
  return next;
}

/// Each site tells of its own ranks' failures; where none has failed by itself,
/// that they went with the others.
void Agent::giveUpShared(std::uint32_t number, const std::string &why) {
  Island &island = islands.at(number);
  std::erase_if(island.failures, isReplaced);
  if (island.failures.empty())
    island.failures.push_back({{"event", "rank_failed"},
                               {"site", options.site},
                               {"island", number},
                               {"rank", island.ranks.front()},
                               {"pid", 0},
                               {"status", static_cast<int>(Status::Failed)},
                               {"peer", true},
                               {"message", "its island was given up: " + why}});
  giveUp(island);
}

/// Whether this agent still has to do with other sites: as long as an island
/// lives, and a moment more where it keeps the store.
bool Agent::hasShared() {
  if (!failures.empty())
    return false;
  for (auto &[number, island] : islands) {
    if (!island.isShared)
      continue;
    if (!island.isSettled)
      return true;
    if (options.keepsMeeting && Clock::now() - *island.waitsSince < kStay &&
        !island.talk->haveAllLeft())
      return true;
  }
  return false;
}
