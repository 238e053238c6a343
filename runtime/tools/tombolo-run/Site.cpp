//===- Site.cpp - tombolo-run site: the site agent ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Starts the ranks of one site, forwards their events, and when one of them
// fails reports which and ends the others.
//
//===----------------------------------------------------------------------===//

#include "Commands.h"
#include "Events.h"
#include "Failures.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/StoreServer.h"
#include "tombolo/runtime/engine/Progress.h"
#include "tombolo/runtime/launch/Supervisor.h"
#include "tombolo/runtime/plan/Layout.h"

#include <CLI/CLI.hpp>

#include <chrono>
#include <iostream>
#include <memory>
#include <set>

using namespace tombolo::runtime;
using nlohmann::json;

namespace {

/// After the first failure, how long others may still report theirs: the first
/// to be noticed need not be the first to have failed.
constexpr double kGraceSeconds = 0.7;

struct SiteOptions {
  RankOptions rank;
  std::string site;
  std::string rendezvous;
  std::string server;
  std::string runId;
  std::uint64_t incarnation = 0;
  std::string rankProgram; // for tests
  int eventsFd = -1;
};

struct RankProcess {
  std::uint32_t island = 0;
  std::uint64_t rank = 0;
  // What it said of its own failure.
  int status = 0;
  bool peer = false;
  std::string message;
};

std::vector<RankProcess> ranksOf(const Plan &plan, const std::string &site,
                                 bool &wholeIslands) {
  std::vector<RankProcess> ranks;
  std::set<std::string> sites;
  wholeIslands = true;
  for (int island = 0; island < plan.islands_size(); ++island) {
    IslandLayout layout(plan.islands(island));
    std::uint64_t here = 0;
    for (std::uint64_t rank = 0; rank < layout.rankCount(); ++rank) {
      sites.insert(layout.site(rank));
      if (layout.site(rank) != site)
        continue;
      ++here;
      RankProcess process;
      process.island = static_cast<std::uint32_t>(island);
      process.rank = rank;
      ranks.push_back(process);
    }
    wholeIslands &= here == 0 || here == layout.rankCount();
  }
  if (ranks.empty()) {
    std::string list;
    for (const std::string &name : sites)
      list += (list.empty() ? "" : ", ") + name;
    throw Error("plan: it has no rank at site '", site, "'; its sites are ",
                list);
  }
  return ranks;
}

class Agent {
public:
  Agent(const SiteOptions &options, Supervisor &supervisor)
      : options(options), supervisor(supervisor),
        events(options.eventsFd < 0 ? 1 : options.eventsFd) {}

  int run(std::vector<RankProcess> list, std::vector<std::string> common);

private:
  void line(const SupervisorEvent &event);
  void ended(const SupervisorEvent &event);
  void emit(const json &event) {
    // Whoever started this agent has gone: there is nothing to run for.
    if (!events.write(toLine(event)))
      lost = true;
  }

  const SiteOptions &options;
  Supervisor &supervisor;
  EventWriter events;
  std::vector<RankProcess> ranks; // numbered as the supervisor does
  std::vector<Failure> failures;
  bool lost = false;
};

void Agent::line(const SupervisorEvent &event) {
  json message = parseEvent(event.line);
  if (message.is_null())
    return;
  RankProcess &rank = ranks[event.process];
  if (field<std::string>(message, "event", "") == "error") {
    rank.status = field(message, "status", 3);
    rank.peer = field(message, "peer", false);
    rank.message = field<std::string>(message, "message", "");
    return; // told with the end of the process
  }
  if (!events.write(event.line))
    lost = true;
}

void Agent::ended(const SupervisorEvent &event) {
  if (!event.end.signalled && event.end.code == 0)
    return;
  RankProcess &rank = ranks[event.process];
  json message = {{"event", "rank_failed"},
                  {"site", options.site},
                  {"island", rank.island},
                  {"rank", rank.rank},
                  {"pid", supervisor.pid(event.process)}};
  if (event.end.signalled)
    message["signal"] = event.end.code;
  else
    message["status"] = event.end.code;
  if (!rank.message.empty())
    message["message"] = rank.message;
  if (rank.peer)
    message["peer"] = true;
  emit(message);
  failures.push_back(rankFailure(message));
}

int Agent::run(std::vector<RankProcess> list, std::vector<std::string> common) {
  ranks = std::move(list);
  for (const RankProcess &rank : ranks) {
    ProcessSpec spec;
    spec.program =
        options.rankProgram.empty() ? thisProgram() : options.rankProgram;
    spec.arguments = {"rank"};
    spec.arguments.insert(spec.arguments.end(), common.begin(), common.end());
    spec.arguments.insert(spec.arguments.end(),
                          {"--island", std::to_string(rank.island), "--rank",
                           std::to_string(rank.rank)});
    supervisor.start(spec);
  }
  using Clock = std::chrono::steady_clock;
  std::optional<Clock::time_point> end;
  while (supervisor.anyRunning() && !lost) {
    std::optional<double> seconds;
    if (end)
      seconds = std::max(
          0.0, std::chrono::duration<double>(*end - Clock::now()).count());
    SupervisorEvent event = supervisor.next(seconds);
    switch (event.kind) {
    case SupervisorEvent::Kind::Line:
      line(event);
      break;
    case SupervisorEvent::Kind::Ended:
      ended(event);
      break;
    case SupervisorEvent::Kind::Signal:
      supervisor.killAll();
      return 128 + event.signal;
    case SupervisorEvent::Kind::Timeout:
      supervisor.killAll();
      break;
    }
    if (!failures.empty() && !end)
      end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                               std::chrono::duration<double>(kGraceSeconds));
  }
  // What came in together with the last end.
  while (!lost) {
    SupervisorEvent event = supervisor.next(0);
    if (event.kind == SupervisorEvent::Kind::Line)
      line(event);
    else if (event.kind == SupervisorEvent::Kind::Ended)
      ended(event);
    else
      break;
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

int run(SiteOptions &options) {
  Plan plan = readPlan(options.rank.plan);
  bool wholeIslands = false;
  std::vector<RankProcess> ranks = ranksOf(plan, options.site, wholeIslands);
  // Else whoever started this agent has looked.
  if (options.eventsFd < 0)
    checkProgress(plan);
  if (options.rank.threads == 0)
    options.rank.threads = threadsPerRank(ranks.size());
  if (plan.has_server() && options.server.empty())
    throw Error(Status::Usage, "--server: the plan has a parameter server, so "
                               "its address is needed");

  Supervisor supervisor;
  std::unique_ptr<StoreServer> store;
  if (options.rendezvous.empty()) {
    if (!wholeIslands)
      throw Error(Status::Usage, "--rendezvous: an island of site '",
                  options.site,
                  "' has ranks at other sites too, so they need one place to "
                  "meet");
    store = std::make_unique<StoreServer>();
    options.rendezvous = store->address();
  }
  std::vector<std::string> common = rankArguments(options.rank);
  common.insert(common.end(), {"--rendezvous", options.rendezvous});
  if (plan.has_server())
    common.insert(common.end(), {"--server", options.server, "--incarnation",
                                 std::to_string(options.incarnation)});
  if (!options.runId.empty())
    common.insert(common.end(), {"--run-id", options.runId});
  // No rank saves before all of its island have started, nor after it has lost
  // one, so whatever is unfinished now, or when a run has failed, stays so.
  std::set<std::uint32_t> islands;
  for (const RankProcess &rank : ranks)
    islands.insert(rank.island);
  auto clean = [&] {
    if (!options.rank.checkpointDir.empty())
      for (std::uint32_t island : islands)
        discardUnfinished(options.rank.checkpointDir, island);
  };
  clean();
  Agent agent(options, supervisor);
  int status = agent.run(std::move(ranks), std::move(common));
  if (status != 0)
    clean();
  return status;
}

} // namespace

int tombolo::runtime::runSite(int argc, char **argv) {
  CLI::App app("starts and watches the ranks of one site of a plan",
               "tombolo-run site");
  SiteOptions options;
  addRankOptions(app, options.rank);
  app.add_option("--site", options.site, "the site's name in the topology")
      ->required();
  app.add_option("--rendezvous", options.rendezvous,
                 "where the ranks of an island meet (default: at this agent)");
  app.add_option("--server", options.server, "the parameter server's address");
  app.add_option("--run-id", options.runId,
                 "must be the same on all parts of a run");
  app.add_option("--incarnation", options.incarnation,
                 "how often the site's islands have been started before");
  app.add_option("--events-fd", options.eventsFd,
                 "write events as JSON lines to this file descriptor");
  app.add_option("--rank-program", options.rankProgram)->group("");
  int status = 0;
  if (!parseArguments(app, argc, argv, status))
    return status;
  if (options.eventsFd < 0)
    return run(options);
  try {
    return run(options);
  } catch (const Error &error) {
    EventWriter(options.eventsFd)
        .write(toLine({{"event", "error"},
                       {"status", error.exitStatus()},
                       {"message", error.what()}}));
    return error.exitStatus();
  }
}
