//===- Local.cpp - tombolo-run local --------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Runs a whole plan on this machine: the parameter server and one agent per
// site, which start the ranks. Whatever happens to any of them, or to this
// process, nothing stays behind.
//
//===----------------------------------------------------------------------===//

#include "Commands.h"
#include "Events.h"
#include "Executor.h"
#include "Failures.h"
#include "LocalFiles.h"
#include "Metrics.h"
#include "RunWatch.h"
#include "ServerLaunch.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Dataset.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/ExportOnnx.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/Onnx.h"
#include "tombolo/runtime/engine/Progress.h"
#include "tombolo/runtime/launch/Supervisor.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>
#include <set>

#include <unistd.h>

using namespace tombolo::runtime;
using nlohmann::json;

namespace {

/// After the first failure that is heard of, how long to listen for others
/// before the culprit is named. Longer than an agent's own grace.
constexpr double kGraceSeconds = 1.2;

struct LocalOptions {
  RankOptions rank;
  SiteExecutors executors;
  std::string metrics;
  std::string exportOnnx;
  WatchOptions watch;
  bool plaintext = false;
  std::uint64_t restarts = 0;
  double detectionSeconds = kDetectionSeconds;
  LineOptions line;
  bool gateway = false;
  std::string rankProgram; // for tests
};

/// A signal that ends the run; what is half-written goes on the way out.
struct Interrupted {
  int signal;
};

class LocalRun {
public:
  /// `stateDir`: of servers; empty: the one keeps its state in memory alone.
  LocalRun(const LocalOptions &options, const Plan &plan,
           Supervisor &supervisor, MetricsFile &metrics, std::string stateDir,
           LocalMeeting &meeting)
      : options(options), plan(plan), supervisor(supervisor), metrics(metrics),
        watch({plan, options.rank.plan, options.rank.steps, ""}, options.watch,
              "tombolo-run local", /*mayDraw=*/true),
        stateDir(std::move(stateDir)), meeting(meeting) {
    if (plan.has_server())
      group = serverGroup(plan);
    executors = executorsOf(options.executors, plan);
    for (const auto &island : plan.islands())
      if (spansSites(island))
        checkCanSpan(executors.at(sitesOfRanks(island)[0]), options.plaintext);
  }

  /// Throws Error or Interrupted when the run does not come to its end. `news`
  /// are events from before it.
  void run(const RankOptions &ranks, std::vector<json> news);

  /// Of a run that was told to end and has saved what it had.
  std::optional<std::uint64_t> stoppedAt() const { return stopped; }
  /// Beside what is shown of the run.
  void say(const std::string &text) { watch.say(text); }

private:
  /// What is started again when it is killed: the server, or an agent.
  struct Service {
    std::string name; // for messages
    std::string site;
    TlsOptions tls;
    std::uint64_t restartsLeft = 0;
    std::uint64_t incarnation = 0; // of an agent's islands, the largest so far
    // A server:
    std::optional<std::size_t> server; // number; else an agent
    std::string address;
    bool listens = false;
    bool lost = false; // for good
  };
  struct Part {
    Service *service;
    bool reported = false; // it has told of a failure itself
    std::string message;   // of a failure that others may make good
  };

  void startServers();
  void startServer(Service &server);
  void startAgent(Service &agent);
  void startAgents();
  bool startAgain(Service &service, const std::string &what);
  bool goOnWithout(Service &service, const std::string &what);
  bool serversListen() const;
  void line(const SupervisorEvent &event);
  void ended(const SupervisorEvent &event);
  void fail(Cause cause, int status, std::string message);
  void rankFailed(const json &event, std::size_t part);
  void warn(const json &event);
  void publish(json event);
  bool endGently();

  const LocalOptions &options;
  const Plan &plan;
  Supervisor &supervisor;
  MetricsFile &metrics;
  RunWatch watch;

  RankOptions rank; // of every agent
  std::map<std::string, ExecutorOptions> executors; // by site
  const std::string stateDir;
  LocalMeeting &meeting;
  ServerGroup group;
  std::vector<std::unique_ptr<Service>> servers, agents;
  std::vector<Part> parts; // numbered as the supervisor does
  std::map<std::uint32_t, std::uint64_t> newestVersion; // of each fragment
  std::map<std::uint32_t, std::uint64_t> nextStep; // of each island
  std::size_t agentsRunning = 0;
  bool ending = false; // servers are told to end: all is done
  bool told = false;   // this run is
  std::optional<std::uint64_t> stopped;
  std::string runId;
  std::vector<Failure> failures;
};

void LocalRun::fail(Cause cause, int status, std::string message) {
  failures.push_back({cause, status, std::move(message)});
}

void LocalRun::rankFailed(const json &event, std::size_t part) {
  parts[part].reported = true;
  failures.push_back(rankFailure(event));
}

void LocalRun::line(const SupervisorEvent &received) {
  json event = parseEvent(received.line);
  if (event.is_null())
    return;
  std::string kind = field<std::string>(event, "event", "");
  if (kind == "rank_failed") {
    rankFailed(event, received.process);
  } else if (kind == "error" && group.isReplicated() &&
             parts[received.process].service->server &&
             field(event, "status", 3) != 1) {
    parts[received.process].message =
        field<std::string>(event, "message", "unknown error");
    return; // told with the end of the process
  } else if (kind == "error") {
    parts[received.process].reported = true;
    int status = field(event, "status", 3);
    fail(status == 1 ? Cause::BadInput : Cause::Part, status == 1 ? 1 : 3,
         field<std::string>(event, "message", "unknown error"));
  } else if (kind == "listening") {
    Service &server = *parts[received.process].service;
    server.address = field<std::string>(event, "address", "");
    server.listens = true;
    return;
  } else if (kind == "stopped") {
    stopped = field<std::uint64_t>(event, "step", 0);
  } else if (kind == "ready") {
    return;
  } else if (kind == "restart" || kind == "state_damaged" ||
             (kind.starts_with("checkpoint_") && event.contains("message"))) {
    Service &service = *parts[received.process].service;
    service.incarnation = std::max(
        service.incarnation, field<std::uint64_t>(event, "incarnation", 0));
    warn(event);
  } else if (kind == "start" || kind == "outer_step") {
    // A server that was started again tells of its newest version once more.
    auto [newest, fresh] = newestVersion.try_emplace(
        field<std::uint32_t>(event, "fragment", 0), 0);
    auto version = field<std::uint64_t>(event, "version", 0);
    if (!fresh && version <= newest->second)
      return;
    newest->second = version;
  } else if (kind == "checkpoint" && options.rank.checkpointDir.empty()) {
    return; // in a folder that goes with the run
  }
  auto island = field<std::uint32_t>(event, "island", 0);
  auto step = field<std::uint64_t>(event, "step", 0);
  if (kind.empty()) {
    // A restarted island does again what it had done since its snapshot.
    std::uint64_t &next = nextStep[island];
    if (step < next)
      metrics.forgetSteps(island, step);
    next = step + 1;
  }
  publish(std::move(event));
}

/// Shows it and writes it down.
void LocalRun::publish(json event) {
  watch.note(event);
  metrics.write(toLine(event), /*isStep=*/!event.contains("event"));
}

/// What a person should know, though the run goes on.
void LocalRun::warn(const json &event) {
  std::string text = field<std::string>(event, "message", "");
  std::string kind = field<std::string>(event, "event", "");
  std::string island =
      "island " + std::to_string(field<std::uint64_t>(event, "island", 0));
  auto left = field<std::uint64_t>(event, "restarts_left", 0);
  if (kind == "restart" && event.contains("part"))
    text += "; it is started again, " + std::to_string(left) +
            (left == 1 ? " restart" : " restarts") + " left";
  else if (kind == "restart")
    text += "; " + island + " is started again from step " +
            std::to_string(field<std::uint64_t>(event, "step", 0)) + ", " +
            std::to_string(left) + (left == 1 ? " restart" : " restarts") +
            " left";
  else if (kind == "checkpoint_damaged")
    text += "; " + island + " takes another checkpoint";
  else if (kind == "checkpoint_failed")
    text += "; " + island + " trains on";
  watch.say(text);
}

/// SIGTERM, the first time: the ranks finish their step, or with a server all
/// the same round, and save.
bool LocalRun::endGently() {
  if (told || options.rank.checkpointDir.empty())
    return false;
  told = true;
  for (std::size_t part = 0; part < parts.size(); ++part)
    if (!parts[part].service->server) // whose work ends with the agents'
      supervisor.kill(part, SIGTERM);
  return true;
}

void LocalRun::ended(const SupervisorEvent &event) {
  const Part &part = parts[event.process];
  Service &service = *part.service;
  bool fine = !event.end.signalled && event.end.code == 0;
  if (!service.server) {
    --agentsRunning;
    if (fine)
      return;
  } else if (ending && fine) {
    return;
  }
  if (part.reported)
    return;
  std::string what = service.name + " (pid " +
                     std::to_string(supervisor.pid(event.process)) + ") " +
                     describe(event.end);
  bool isKilled = event.end.signalled;
  if (!part.message.empty())
    what += ": " + part.message;
  if ((isKilled && startAgain(service, what)) ||
      ((isKilled || !part.message.empty()) && goOnWithout(service, what)))
    return;
  fail(Cause::Part, 3, what);
}

/// With a backup no site is needed: the run goes on while servers with more
/// than half of the votes are there, with one that keeps the state, and some
/// agent.
bool LocalRun::goOnWithout(Service &service, const std::string &what) {
  if (!group.isReplicated() || !failures.empty() || ending || told)
    return false;
  service.lost = true;
  std::uint64_t votes = 0, all = 0;
  bool isKept = false;
  for (const auto &server : servers) {
    std::uint32_t own = group.votes[*server->server];
    all += own;
    votes += server->lost ? 0 : own;
    isKept |= *server->server < 2 && !server->lost;
  }
  if (2 * votes <= all || !isKept || agentsRunning == 0)
    return false;
  json event = {{"event", "part_lost"},
                {"part", service.server ? "server" : "agent"},
                {"site", service.site},
                {"message", what}};
  warn(event);
  publish(std::move(event));
  return true;
}

/// A server goes on from its state, an agent's islands from their checkpoints
/// or the server's state.
bool LocalRun::startAgain(Service &service, const std::string &what) {
  if (service.restartsLeft == 0 || !failures.empty() || ending || told)
    return false;
  --service.restartsLeft;
  bool isServer = service.server.has_value();
  json event = {{"event", "restart"},
                {"part", isServer ? "server" : "agent"},
                {"restarts_left", service.restartsLeft},
                {"message", what}};
  if (!isServer || group.isReplicated())
    event["site"] = service.site;
  if (!isServer) {
    event["incarnation"] = ++service.incarnation;
  }
  warn(event);
  publish(std::move(event));
  if (isServer)
    startServer(service);
  else
    startAgent(service);
  return true;
}

void LocalRun::startServers() {
  runId = randomHex();
  for (std::size_t i = 0; i < group.sites.size(); ++i) {
    Service server;
    server.name = "the parameter server";
    server.site = group.sites[i];
    server.server = i;
    server.tls = meeting.ofServer();
    server.restartsLeft = stateDir.empty() ? 0 : options.restarts;
    if (group.isReplicated()) {
      server.name += " of site " + server.site;
      // Known to the others before it is there.
      server.address =
          "unix:" + meeting.folder() + "/server-" + std::to_string(i) + ".sock";
    }
    servers.push_back(std::make_unique<Service>(std::move(server)));
  }
  for (const auto &server : servers)
    startServer(*server);
}

bool LocalRun::serversListen() const {
  return std::all_of(servers.begin(), servers.end(),
                     [](const auto &server) { return server->listens; });
}

void LocalRun::startServer(Service &server) {
  ServerLaunch launch;
  launch.plan = options.rank.plan;
  launch.runId = runId;
  launch.tls = server.tls;
  launch.address = server.address; // where everybody looks for it
  launch.stateDir = stateDir;
  launch.detectionSeconds = options.detectionSeconds;
  launch.lineLimitGbits = options.line.limitGbits;
  if (group.isReplicated()) {
    launch.site = server.site;
    for (const auto &peer : servers)
      if (peer.get() != &server)
        launch.peers.push_back(peer->site + "=" + peer->address);
    launch.stateDir += "/server-" + std::to_string(*server.server);
  }
  supervisor.start(launch.process());
  parts.push_back({&server, false, ""});
}

void LocalRun::startAgents() {
  std::uint64_t ranks = 0;
  for (const std::string &site : sitesOf(plan, ranks)) {
    TlsOptions tls;
    if (plan.has_server() || meeting.spansSites())
      tls = meeting.ofSite(agents.size());
    agents.push_back(std::make_unique<Service>());
    Service &agent = *agents.back();
    agent.name = "the agent of site " + site;
    agent.site = site;
    agent.tls = tls;
    agent.restartsLeft = options.restarts;
    startAgent(*agents.back());
  }
}

void LocalRun::startAgent(Service &agent) {
  ProcessSpec spec;
  spec.program = thisProgram();
  spec.ownGroup = true;
  spec.arguments = {"site"};
  for (std::string &word : rankArguments(rank))
    spec.arguments.push_back(std::move(word));
  spec.arguments.insert(
      spec.arguments.end(),
      {"--site", agent.site, "--rendezvous", meeting.store()});
  if (plan.has_server()) {
    std::string addresses = servers[0]->address;
    if (group.isReplicated())
      addresses += "," + servers[1]->address;
    spec.arguments.insert(spec.arguments.end(),
                          {"--server", addresses, "--run-id", runId});
  }
  if (plan.has_server() || meeting.spansSites())
    for (std::string &word : tlsArguments(agent.tls))
      spec.arguments.push_back(std::move(word));
  if (plan.has_server())
    for (std::string &word : lineArguments(options.line))
      spec.arguments.push_back(std::move(word));
  if (options.gateway)
    spec.arguments.push_back("--gateway");
  if (agent.restartsLeft > 0)
    spec.arguments.insert(spec.arguments.end(),
                          {"--restarts", std::to_string(agent.restartsLeft)});
  if (agent.incarnation > 0)
    spec.arguments.insert(spec.arguments.end(),
                          {"--incarnation", std::to_string(agent.incarnation)});
  for (std::string &word : executorArguments(executors.at(agent.site)))
    spec.arguments.push_back(std::move(word));
  if (!options.rankProgram.empty())
    spec.arguments.insert(spec.arguments.end(),
                          {"--rank-program", options.rankProgram});
  supervisor.start(spec);
  parts.push_back({&agent, false, ""});
  ++agentsRunning;
}

void LocalRun::run(const RankOptions &ranks, std::vector<json> news) {
  using Clock = std::chrono::steady_clock;
  rank = ranks;
  for (json &event : news)
    publish(std::move(event));
  if (plan.has_server())
    startServers();
  else
    startAgents();
  std::optional<Clock::time_point> end;
  while (true) {
    bool agentsStarted = !agents.empty();
    if (failures.empty()) {
      if (!agentsStarted && serversListen()) {
        startAgents();
        continue;
      }
      if (agentsStarted && agentsRunning == 0 && !ending) {
        ending = true;
        for (std::size_t part = 0; part < parts.size(); ++part)
          if (parts[part].service->server)
            supervisor.kill(part, SIGTERM);
      }
      if (ending && !supervisor.anyRunning())
        break;
    } else if (!end) {
      end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                               std::chrono::duration<double>(kGraceSeconds));
    }
    // Failed: until the agents have told what they know, or time is up. A
    // moment more even when all are gone, for the other ends to be noticed.
    std::optional<double> seconds;
    if (end) {
      seconds = std::chrono::duration<double>(*end - Clock::now()).count();
      if (agentsRunning == 0)
        seconds = std::min(*seconds, 0.2);
      if (*seconds <= 0)
        break;
    }
    SupervisorEvent event = supervisor.next(seconds);
    for (const std::string &message : meeting.takeStrangers())
      publish({{"event", "stranger_refused"}, {"message", message}});
    if (event.kind == SupervisorEvent::Kind::Line) {
      line(event);
    } else if (event.kind == SupervisorEvent::Kind::Ended) {
      ended(event);
    } else if (event.kind == SupervisorEvent::Kind::Signal) {
      if (event.signal == SIGTERM && endGently())
        continue;
      supervisor.killAll();
      throw Interrupted{event.signal};
    } else {
      break; // timeout
    }
  }
  supervisor.killAll();
  if (failures.empty())
    return;
  const Failure &first = culprit(failures);
  publish({{"event", "run_failed"}, {"message", first.message}});
  throw Error(static_cast<Status>(first.status), first.message);
}

int train(LocalOptions &options) {
  Plan plan = readPlan(options.rank.plan);
  checkInputs(options.rank, plan);
  std::vector<json> news;
  std::optional<ResumePoint> resumed = checkResume(options.rank, plan, news);
  std::uint64_t ranks = 0;
  sitesOf(plan, ranks);
  RankOptions rank = options.rank;
  if (resumed)
    rank.resumeStep = resumed->step;
  if (rank.threads == 0)
    rank.threads = threadsPerRank(ranks);

  Supervisor supervisor;
  std::unique_ptr<TemporaryFolder> weights;
  if (!options.exportOnnx.empty()) {
    std::filesystem::path target(options.exportOnnx);
    checkFolder(target.parent_path(), "folder of --export-onnx");
    if (std::filesystem::is_directory(target))
      throw Error("--export-onnx '", options.exportOnnx, "': it is a folder");
    // What is exported is what a last checkpoint would hold.
    if (rank.checkpointDir.empty()) {
      weights = std::make_unique<TemporaryFolder>(options.exportOnnx + ".tmp-");
      rank.checkpointDir = weights->path();
    }
  }
  CheckpointFolder checkpoints(options.rank.checkpointDir, plan),
      copies(options.rank.checkpointCopy, plan);
  if (resumed) // what these islands have is of no use any more
    for (std::uint32_t island : resumed->without)
      for (const std::string &folder : checkpointFolders(rank))
        setAsideBeyond(folder, island, 0);
  ServerFolder server(
      options.rank.checkpointDir,
      options.restarts > 0 ||
          (plan.has_server() && serverGroup(plan).isReplicated()),
      plan);
  LocalMeeting meeting(plan, options.plaintext);
  MetricsFile metrics(options.metrics, options.rank.resume,
                      [&](std::uint32_t island) {
                        IslandSteps count;
                        if (island < std::uint32_t(plan.islands_size()))
                          count = IslandSteps(plan, island);
                        return count.ofJob(rank.resumeStep.value_or(0));
                      });
  LocalRun local(options, plan, supervisor, metrics, server.path(), meeting);
  local.run(rank, std::move(news));
  if (auto step = local.stoppedAt()) {
    local.say("told to end: the checkpoint of step " + std::to_string(*step) +
              " is in '" + rank.checkpointDir + "'; go on with --resume");
    return 0;
  }
  if (!options.exportOnnx.empty()) {
    exportOnnx(rank.model, trainedCheckpoint(rank, plan), plan,
               options.exportOnnx, {.poll = [&] {
                 for (;;) {
                   SupervisorEvent event = supervisor.next(0);
                   if (event.kind == SupervisorEvent::Kind::Timeout)
                     return;
                   if (event.kind == SupervisorEvent::Kind::Signal)
                     throw Interrupted{event.signal};
                 }
               }});
  }
  return 0;
}

int run(LocalOptions &options) {
  try {
    return train(options);
  } catch (const Interrupted &end) {
    std::cerr << "tombolo-run: told to end by signal " << end.signal << " ("
              << strsignal(end.signal) << ")\n";
    return 128 + end.signal;
  }
}

} // namespace

int tombolo::runtime::runLocal(int argc, char **argv) {
  CommandLine app(
      "trains a plan on this machine: server, site agents and ranks",
      "tombolo-run local",
      {"tombolo-run local p.plan --model m.onnx --data tokens.bin --steps 100 "
       "--metrics metrics.jsonl --export-onnx trained.onnx"});
  LocalOptions options;
  addRankOptions(app, options.rank);
  addSiteExecutors(app, options.executors);
  app.add_option("--metrics", options.metrics,
                 "write one JSON line per step and island to this file");
  addWatchOptions(app, options.watch);
  app.add_option("--export-onnx", options.exportOnnx,
                 "write the model with the trained weights to this file");
  app.add_option("--restarts", options.restarts,
                 "how often each island is started again when it fails, from "
                 "its newest checkpoint, and each site's agent and the server "
                 "when they are killed")
      ->capture_default_str()
      ->check(positiveNumber(/*zero=*/true));
  app.add_flag("--plaintext", options.plaintext,
               "sites neither encrypt nor ask who it is");
  addDetectionOption(app, options.detectionSeconds);
  addLineOptions(app, options.line);
  addGatewayOption(app, options.gateway);
  app.add_option("--rank-program", options.rankProgram)->group("");
  int status = 0;
  if (!app.parseArguments(argc, argv, status))
    return status;
  if (options.rank.resume && options.rank.checkpointDir.empty())
    throw Error(Status::Usage,
                "--resume: --checkpoint-dir is needed to resume from");
  checkCheckpoints(options.rank);
  if (options.rank.checkpointEvery && options.rank.checkpointDir.empty())
    throw Error(Status::Usage,
                "--checkpoint-every: --checkpoint-dir is needed to write to");
  return run(options);
}
