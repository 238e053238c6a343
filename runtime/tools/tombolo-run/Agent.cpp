//===- Agent.cpp - watches and restarts the ranks of one site -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Agent.h"

#include "Events.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <iostream>
#include <utility>

using namespace tombolo::runtime;
using nlohmann::json;

namespace {

/// Before servers and other agents are asked again.
constexpr double kAskSeconds = 0.2;
/// Behind the last rank, how long the server stays for other sites: they end at
/// the same time, but for what they still fetch and save.
constexpr auto kFarewell = std::chrono::seconds(60);

} // namespace

void Agent::emit(json event) {
  if (options.watch)
    options.watch->note(event);
  // Whoever started this agent has gone: there is nothing to run for.
  if (!events.write(toLine(event)))
    lost = true;
}

void Agent::start(std::uint32_t number, const RankOptions &rank) {
  const Island &island = islands.at(number);
  std::uint64_t local = island.firstLocalRank;
  for (std::uint64_t which : island.ranks) {
    ProcessSpec spec;
    spec.program =
        options.rankProgram.empty() ? thisProgram() : options.rankProgram;
    spec.arguments = {"rank"};
    for (std::string &word : rankArguments(rank))
      spec.arguments.push_back(std::move(word));
    spec.arguments.insert(spec.arguments.end(), options.common.begin(),
                          options.common.end());
    const std::vector<std::string> &place = options.places.at(number);
    spec.arguments.insert(spec.arguments.end(), place.begin(), place.end());
    spec.arguments.insert(spec.arguments.end(),
                          {"--incarnation", std::to_string(island.incarnation),
                           "--island", std::to_string(number), "--rank",
                           std::to_string(which)});
    if (options.firstLocalRank)
      spec.arguments.insert(spec.arguments.end(),
                            {"--local-rank", std::to_string(local++)});
    supervisor.start(spec);
    Process process;
    process.island = number;
    process.rank = which;
    processes.push_back(std::move(process));
  }
}

void Agent::startServer() {
  supervisor.start(options.server->process());
  Process process;
  process.isServer = true;
  processes.push_back(std::move(process));
}

void Agent::fail(Cause cause, int status, std::string message) {
  emit({{"event", "error"},
        {"site", options.site},
        {"status", status},
        {"message", message}});
  failures.push_back({cause, status, std::move(message)});
  if (!end)
    end = Clock::now() + kGrace;
}

/// As the site's first agent has decided. False: it has not yet.
bool Agent::beginAsTold() {
  std::map<std::uint32_t, RankOptions> ranks;
  for (auto &[number, island] : islands) {
    std::optional<IslandStart> told = options.follow(number);
    if (!told)
      return false;
    island.incarnation = told->incarnation;
    RankOptions &rank = ranks[number] = options.rank;
    rank.resume = told->resumeStep.has_value();
    rank.resumeStep = told->resumeStep;
  }
  for (const auto &[number, rank] : ranks)
    start(number, rank);
  return true;
}

std::string Agent::noPrimary() const {
  std::string why = noAnswer.empty() ? "" : " (" + noAnswer + ")";
  return "no parameter server at " + options.where + " answers as the primary" +
         why;
}

/// Starts all islands. False: it is not known yet how often they have been.
bool Agent::begin() {
  if (options.follow)
    return beginAsTold();
  for (auto &[number, island] : islands) {
    if (!options.ask || island.isShared)
      continue;
    std::optional<std::uint64_t> incarnation = options.ask(number, noAnswer);
    if (incarnation) {
      island.incarnation = *incarnation;
      continue;
    }
    auto waited = Clock::now() - started;
    std::string message = noPrimary();
    if (waited >= kPatience)
      fail(Cause::Part, static_cast<int>(Status::Failed), message);
    else if (waited >= kWarning && !std::exchange(hasWarned, true))
      emit({{"event", "waiting"},
            {"site", options.site},
            {"message", message + " yet"}});
    return false;
  }
  for (auto &[number, island] : islands) {
    if (island.isShared)
      continue;
    std::optional<RankOptions> rank =
        island.incarnation > 0 ? fromSnapshot(number) : options.rank;
    if (!rank)
      throw Error("island ", number, ": no checkpoint of it in '",
                  options.rank.checkpointDir,
                  "' is whole, and it is not begun anew; remove them to begin");
    if (options.ask)
      emit({{"event", "begin"},
            {"site", options.site},
            {"island", number},
            {"incarnation", island.incarnation},
            {"step", rank->resumeStep.value_or(0)}});
    if (options.tell)
      options.tell(number, {island.incarnation, rank->resumeStep, ""});
    start(number, *rank);
  }
  return true;
}

/// How an island goes on after it has failed. Nothing when it cannot: what was
/// trained is not silently begun anew.
std::optional<RankOptions> Agent::fromSnapshot(std::uint32_t number) {
  RankOptions rank = options.rank;
  rank.resume = false;
  rank.resumeStep.reset();
  const std::string &folder = rank.checkpointDir;
  if (folder.empty())
    return rank;
  for (const std::string &each : checkpointFolders(rank))
    discardUnfinished(each, number);
  CheckpointCopies copies{rank.checkpointCopy, [&](auto, const auto &message) {
                            emit({{"event", "checkpoint_restored"},
                                  {"island", number},
                                  {"message", message}});
                          }};
  bool anyDamaged = false;
  rank.resumeStep = resumableStep(
      folder, {number},
      [&](auto, const std::string &message) {
        anyDamaged = true;
        emit({{"event", "checkpoint_damaged"},
              {"island", number},
              {"message", message}});
      },
      copies);
  rank.resume = rank.resumeStep.has_value();
  if (!rank.resume && anyDamaged && !options.hasServer)
    return std::nullopt;
  for (const std::string &each : checkpointFolders(rank))
    setAsideBeyond(each, number, rank.resumeStep.value_or(0));
  return rank;
}

/// The island's processes have all ended.
void Agent::restart(std::uint32_t number) {
  Island &island = islands.at(number);
  std::vector<Failure> causes;
  for (const json &failure : island.failures)
    causes.push_back(rankFailure(failure));
  const Failure &cause = culprit(causes);
  // No rank is at fault where one waited for a server longer than its peers
  // waited for it.
  bool isFree =
      std::exchange(island.wasCutOff, false) && cause.cause == Cause::Echo;
  if (cause.cause == Cause::BadInput || !failures.empty() ||
      (island.restartsLeft == 0 && !isFree))
    return giveUp(island);
  std::optional<RankOptions> rank = fromSnapshot(number);
  if (!rank)
    return giveUp(island);
  island.failures.clear();
  island.end.reset();
  island.killed = false;
  if (!isFree)
    --island.restartsLeft;
  ++island.incarnation;
  emit({{"event", "restart"},
        {"site", options.site},
        {"island", number},
        {"incarnation", island.incarnation},
        {"step", rank->resumeStep.value_or(0)},
        {"restarts_left", island.restartsLeft},
        {"message", cause.message}});
  start(number, *rank);
}

/// Nothing is restarted any more: what went wrong is told, and whoever else
/// knows of something has a moment to say so.
void Agent::giveUp(Island &island) {
  for (const json &failure : island.failures) {
    emit(failure);
    failures.push_back(rankFailure(failure));
  }
  island.failures.clear();
  island.end.reset();
  island.killed = false;
  island.restartsLeft = 0;
  if (!end)
    end = Clock::now() + kGrace;
}

bool Agent::isRunning(std::uint32_t number) const {
  for (std::size_t i = 0; i < processes.size(); ++i)
    if (!processes[i].isServer && processes[i].island == number &&
        !processes[i].hasEnded)
      return true;
  return false;
}

/// Whether a rank of the island has found no server for long.
bool Agent::isCutOff(std::uint32_t number) const {
  return std::any_of(
      processes.begin(), processes.end(), [&](const Process &rank) {
        return rank.isCutOff && !rank.hasEnded && rank.island == number;
      });
}

bool Agent::anyCutOff() const {
  return std::any_of(islands.begin(), islands.end(),
                     [&](const auto &each) { return isCutOff(each.first); });
}

/// Of all ranks of an island the first to wait tells for it, and the last to go
/// on.
void Agent::noteServer(Process &rank, json event) {
  bool isGone = field<std::string>(event, "event", "") == kServerGone;
  bool told = std::exchange(rank.isCutOff, false);
  bool others = isCutOff(rank.island);
  bool isTold = std::any_of(
      processes.begin(), processes.end(), [&](const Process &other) {
        return &other != &rank && other.tells && other.isCutOff &&
               !other.hasEnded && other.island == rank.island;
      });
  rank.isCutOff = isGone;
  rank.tells = isGone && !isTold;
  event["site"] = options.site;
  if (isGone ? rank.tells : told && !others)
    emit(std::move(event));
}

bool Agent::anyRank() const {
  for (const auto &[number, island] : islands)
    if (isRunning(number))
      return true;
  return false;
}

void Agent::killIsland(std::uint32_t number) {
  for (std::size_t i = 0; i < processes.size(); ++i)
    if (!processes[i].isServer && processes[i].island == number)
      supervisor.kill(i, SIGKILL);
}

void Agent::line(const SupervisorEvent &event) {
  json message = parseEvent(event.line);
  if (message.is_null())
    return;
  Process &rank = processes[event.process];
  std::string kind = field<std::string>(message, "event", "");
  if (rank.isServer && kind == "listening")
    return;
  if (kind == "alive") {
    rank.heard = Clock::now();
    return;
  }
  if (kind == kTraining) {
    rank.trains = true;
    return;
  }
  if (kind == kServerGone || kind == kServerBack)
    return noteServer(rank, std::move(message));
  if (kind == "error") {
    rank.status = field(message, "status", 3);
    rank.peer = field(message, "peer", false);
    rank.message = field<std::string>(message, "message", "");
    return; // told with the end of the process
  }
  hasLeft |= kind == kIslandLeft;
  emit(std::move(message));
}

void Agent::serverEnded(const SupervisorEvent &event) {
  const Process &server = processes[event.process];
  bool isKilled = event.end.signalled;
  if (!isKilled && event.end.code == 0) // it was told to, or all is done
    return;
  std::string what = "the parameter server of site " + options.site + " (pid " +
                     std::to_string(supervisor.pid(event.process)) + ") " +
                     describe(event.end);
  if (!server.message.empty())
    what += ": " + server.message;
  if (!failures.empty())
    return;
  if (isKilled && serverRestartsLeft > 0 && !told) {
    --serverRestartsLeft;
    emit({{"event", "restart"},
          {"part", "server"},
          {"site", options.site},
          {"restarts_left", serverRestartsLeft},
          {"message", what}});
    return startServer();
  }
  if (server.status == 1)
    return fail(Cause::BadInput, 1, server.message);
  if (!options.hasBackup)
    return fail(Cause::Part, static_cast<int>(Status::Failed), what);
  emit({{"event", "part_lost"},
        {"part", "server"},
        {"site", options.site},
        {"message", what}});
}

void Agent::ended(const SupervisorEvent &event) {
  Process &rank = processes[event.process];
  rank.hasEnded = true;
  if (rank.isServer)
    return serverEnded(event);
  Island &island = islands.at(rank.island);
  if (event.end.signalled || event.end.code != 0) {
    json message = {{"event", "rank_failed"},
                    {"site", options.site},
                    {"island", rank.island},
                    {"rank", rank.rank},
                    {"pid", supervisor.pid(event.process)}};
    // Who has said why it ends may have been killed while it still saved.
    bool hasSaid = !rank.message.empty() && !rank.peer;
    if (event.end.signalled && hasSaid)
      message["status"] = rank.status;
    else if (event.end.signalled)
      message["signal"] = event.end.code;
    else
      message["status"] = event.end.code;
    if (rank.hasStalled)
      message["stalled_seconds"] = options.rank.stallSeconds;
    if (!rank.message.empty())
      message["message"] = rank.message;
    if (rank.peer)
      message["peer"] = true;
    if (!island.killed || hasSaid) // what ends after that was killed here
      island.failures.push_back(std::move(message));
    if (!island.end)
      island.wasCutOff = isCutOff(rank.island);
    if (island.restartsLeft == 0 && !island.wasCutOff && !island.isShared)
      return giveUp(island);
    if (!island.end)
      island.end = Clock::now() + kGrace;
  }
  if (island.end && !island.isShared && !isRunning(rank.island))
    restart(rank.island);
}

void Agent::handle(const SupervisorEvent &event) {
  if (event.kind == SupervisorEvent::Kind::Line)
    line(event);
  else if (event.kind == SupervisorEvent::Kind::Ended)
    ended(event);
}

void Agent::tellOfConnections() {
  auto tell = [&](const char *kind, const std::vector<std::string> &messages) {
    for (const std::string &message : messages)
      emit({{"event", kind}, {"site", options.site}, {"message", message}});
  };
  if (options.strangers)
    tell("stranger_refused", options.strangers->take());
  if (options.gateway)
    tell("gateway_failed", options.gateway->takeFailures());
}

std::optional<double> Agent::untilNext() const {
  std::optional<Clock::time_point> next = end;
  if (!begun && !next)
    return kAskSeconds;
  if (farewell && !next)
    next = farewell;
  for (const auto &[number, island] : islands)
    if (island.end && !island.killed && (!next || *island.end < *next))
      next = island.end;
  bool anyWatched =
      std::any_of(processes.begin(), processes.end(),
                  [&](const Process &rank) { return watches(rank); });
  if (!next && !sharedLives && !anyWatched)
    return std::nullopt;
  double seconds = sharedLives ? kAskSeconds : 1e9;
  if (anyWatched)
    seconds = std::min(seconds, options.rank.stallSeconds / 10);
  if (next)
    seconds = std::min(
        seconds, std::chrono::duration<double>(*next - Clock::now()).count());
  return std::max(0.0, seconds);
}

void Agent::endGraces() {
  Clock::time_point now = Clock::now();
  if (end && *end <= now)
    supervisor.killAll();
  if (farewell && *farewell <= now) {
    farewell = now + kFarewell;
    for (std::size_t i = 0; i < processes.size(); ++i)
      if (processes[i].isServer)
        supervisor.kill(i, SIGTERM);
  }
  for (auto &[number, island] : islands)
    if (island.end && !island.killed && *island.end <= now) {
      island.killed = true;
      killIsland(number);
    }
}

/// Whether a rank that says nothing is killed: only where that mends something.
bool Agent::watches(const Process &rank) const {
  if (rank.isServer || rank.hasEnded || !rank.heard)
    return false;
  const Island &island = islands.at(rank.island);
  return !island.end &&
         (island.isShared ? options.restarts > 0 : island.restartsLeft > 0);
}

/// A rank that is stopped (SIGSTOP, a debugger, a machine that swaps) holds its
/// whole island up, and no peer knows it from one that computes.
void Agent::endStalled() {
  std::chrono::duration<double> limit(options.rank.stallSeconds);
  auto now = Clock::now();
  // Who was held up itself has not heard what was said meanwhile.
  bool wasHeldUp = now - std::exchange(lastLook, now) > limit / 3;
  for (std::size_t i = 0; i < processes.size(); ++i) {
    Process &rank = processes[i];
    if (!watches(rank))
      continue;
    if (wasHeldUp)
      rank.heard = now;
    if (now - *rank.heard < limit)
      continue;
    rank.hasStalled = true;
    rank.heard.reset();
    supervisor.kill(i, SIGKILL);
  }
}

/// The first time, where ranks can: they finish the step, save and end. Rank 0
/// decides for its island.
bool Agent::endGently() {
  if (told || !begun || options.leavesOnSigterm ||
      options.rank.checkpointDir.empty() || anyCutOff())
    return false;
  for (const auto &[number, island] : islands)
    if (island.isShared && !island.isSettled && !island.hasBegun)
      return false; // it waits for another site, and need not any more
  bool trains =
      std::any_of(processes.begin(), processes.end(), [](const Process &rank) {
        return rank.trains && !rank.hasEnded;
      });
  if (options.hasServer && options.eventsFd < 0 && !trains)
    return false; // ranks wait for what they are to begin with
  told = true;
  for (std::size_t i = 0; i < processes.size(); ++i)
    if (!processes[i].isServer && processes[i].rank == 0)
      supervisor.kill(i, SIGTERM);
  return true;
}

int Agent::run(
    const std::map<std::uint32_t, std::vector<std::uint64_t>> &ranks) {
  std::uint64_t local = options.firstLocalRank.value_or(0);
  for (const auto &[number, list] : ranks) {
    Island &island = islands[number];
    island.ranks = list;
    island.firstLocalRank = local;
    local += list.size();
    island.incarnation = options.incarnation;
    island.restartsLeft = options.restarts;
    island.isShared = options.shared.contains(number);
  }
  serverRestartsLeft = options.restarts;
  for (json &event : options.news)
    emit(std::move(event));
  if (options.server)
    startServer();
  while (!lost) {
    if (!begun && failures.empty())
      begun = begin();
    tendShared();
    // The last end, and what came in with it, may restart an island.
    bool running =
        supervisor.anyRunning() || sharedLives || (!begun && failures.empty());
    // Where an island has left the others still train, and the server stays.
    if (!begun || !options.server || anyRank() || sharedLives || hasLeft)
      farewell.reset();
    else if (!farewell)
      farewell = Clock::now() + kFarewell;
    SupervisorEvent event = supervisor.next(running ? untilNext() : 0.0);
    if (event.kind == SupervisorEvent::Kind::Timeout && !running)
      break;
    if (event.kind == SupervisorEvent::Kind::Signal) {
      // `local`, which may have been told too, tells its agents again.
      if (event.signal == SIGTERM &&
          (endGently() || (told && options.eventsFd >= 0)))
        continue;
      supervisor.killAll();
      return 128 + event.signal;
    }
    handle(event);
    if (told && options.eventsFd < 0 && anyCutOff()) {
      supervisor.killAll(); // with no server they come to no end
      return 128 + SIGTERM;
    }
    tellOfConnections();
    endStalled();
    endGraces();
  }
  supervisor.killAll();
  if (lost)
    return static_cast<int>(Status::Failed);
  if (failures.empty())
    return 0;
  const Failure &first = culprit(failures);
  if (options.eventsFd < 0)
    std::cerr << "tombolo-run site: error: " << first.message << "\n";
  return first.status;
}
