//===- Rank.cpp - tombolo-run rank ----------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Beat.h"
#include "Commands.h"
#include "Events.h"
#include "Executor.h"
#include "Meeting.h"
#include "Spanning.h"

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/Rank.h"
#include "tombolo/runtime/engine/Progress.h"
#include "tombolo/runtime/launch/Cores.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/server/ExchangeClient.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <iostream>
#include <unistd.h>
#include <utility>

using namespace tombolo::runtime;
using nlohmann::json;

namespace {

struct Options {
  RankOptions common;
  std::optional<std::uint32_t> island;
  std::optional<std::uint64_t> rank;
  std::string site;
  std::string launcher = "auto";
  std::optional<std::uint64_t> localRank;
  std::string rendezvous;
  std::string host;
  ExecutorOptions executor;
  std::string sigterm = kEndRun;
  std::string server;
  std::string gateway;
  std::string runId;
  TlsOptions tls;
  LineOptions line;
  std::uint64_t incarnation = 0;
  bool awaitsServer = false;
  std::optional<std::uint64_t> stepsAlone;
  std::optional<std::uint64_t> pauseAt; // for tests
  int eventsFd = -1;
};

/// Writes events as lines to the descriptor given, or for a person to stdout.
class Output {
public:
  explicit Output(int fd) : fd(fd) {}

  bool toPerson() const { return fd < 0; }

  void write(const json &event) {
    std::string line = toLine(event) + "\n";
    const char *data = line.data();
    std::size_t left = line.size();
    while (left > 0) {
      ssize_t put = ::write(toPerson() ? 1 : fd, data, left);
      if (put < 0 && errno == EINTR)
        continue;
      if (put <= 0)
        return; // whoever listened has gone; the agent's end ends this rank
      data += put;
      left -= static_cast<std::size_t>(put);
    }
  }

private:
  int fd;
};

/// A line stays below a pipe's atomic size.
constexpr std::size_t kMostMessage = 3000;

/// So many may be late before a rank is taken for stopped.
constexpr double kBeatsInStall = 10;

volatile std::sig_atomic_t told = 0;

const char *nameOf(CheckpointNews::Kind kind) {
  switch (kind) {
  case CheckpointNews::Kind::Whole:
    return "checkpoint";
  case CheckpointNews::Kind::Copied:
    return "checkpoint_copied";
  case CheckpointNews::Kind::Failed:
    return "checkpoint_failed";
  case CheckpointNews::Kind::Blocking:
    return "checkpoint_blocking";
  }
  return "checkpoint";
}

int statusOf(const std::exception &error) {
  auto *own = dynamic_cast<const Error *>(&error);
  return own ? own->exitStatus() : static_cast<int>(Status::Failed);
}

json failureOf(const std::exception &error) {
  std::string message = error.what();
  if (dynamic_cast<const std::bad_alloc *>(&error))
    message = "out of memory";
  return {{"event", "error"},
          {"status", statusOf(error)},
          {"message", message.substr(0, kMostMessage)},
          {"peer", dynamic_cast<const PeerError *>(&error) != nullptr}};
}

/// Seconds to the thousandth.
double rounded(double seconds) { return std::round(seconds * 1e3) / 1e3; }

/// What stands before an island's names in the store.
std::string scopeOf(const Options &options) {
  return "island-" + std::to_string(options.island.value_or(0)) + "." +
         std::to_string(options.incarnation) + "/";
}

std::vector<LineUse> linesOf(const Plan &plan, const Options &options) {
  IslandLayout layout(plan.islands(static_cast<int>(*options.island)));
  return lineUses(plan, layout.site(*options.rank), options.server,
                  options.line, readTcpSettings());
}

/// For the torch executor, which has the same ones, but one connection to each
/// server.
std::vector<std::string> argumentsOf(const Plan &plan, const Options &options) {
  std::vector<std::string> words = rankArguments(options.common);
  auto add = [&](const char *name, const std::string &value) {
    if (!value.empty())
      words.insert(words.end(), {name, value});
  };
  add("--island", std::to_string(*options.island));
  add("--rank", std::to_string(*options.rank));
  if (options.localRank)
    add("--local-rank", std::to_string(*options.localRank));
  add("--rendezvous", options.rendezvous);
  add("--host", options.host);
  add("--sigterm", options.sigterm);
  add("--device", options.executor.device);
  add("--backend", options.executor.backend);
  const bool hasGateway = !options.gateway.empty();
  add("--server", hasGateway ? options.gateway : options.server);
  if (hasGateway)
    words.push_back("--plaintext");
  else if (!options.server.empty() || options.tls.plaintext)
    for (std::string &word : tlsArguments(options.tls))
      words.push_back(std::move(word));
  if (!options.server.empty() && options.line.limitGbits > 0)
    for (const LineUse &line : linesOf(plan, options))
      add("--line-limit", json(line.mostBytesPerSecond).dump());
  add("--run-id", options.runId);
  add("--incarnation", std::to_string(options.incarnation));
  if (options.awaitsServer)
    words.push_back("--await-server");
  if (options.pauseAt)
    add("--pause-at", std::to_string(*options.pauseAt));
  if (options.eventsFd >= 0)
    add("--events-fd", std::to_string(options.eventsFd));
  return words;
}

/// Which rank this process is, where it is not told: that of its number among
/// the processes that were launched together.
void takeSeat(const Plan &plan, const Launch &launch, Options &options) {
  std::vector<Seat> seats = seatsOf(plan, options.island, options.site);
  if (launch.count != seats.size()) {
    std::string which = "the plan";
    if (options.island)
      which = "island " + std::to_string(*options.island);
    if (!options.site.empty())
      which += (options.island ? " at site " : "'s site ") + options.site;
    throw Error("expected ", seats.size(), " processes, one for each rank of ",
                which, ", got ", launch.count, " (", launch.launcher, ")");
  }
  options.island = seats[launch.number].island;
  options.rank = seats[launch.number].rank;
  if (!options.localRank)
    options.localRank = launch.localNumber;
}

bool isSpanning(const Plan &plan, const Options &options) {
  return *options.island < static_cast<unsigned>(plan.islands_size()) &&
         spansSites(plan.islands(static_cast<int>(*options.island)));
}

/// Of an island at several sites: what its ranks need to talk to one another.
void checkSpanning(const Options &options, const Launch *launch) {
  checkSpanning(options.executor, options.tls, options.rendezvous,
                options.host);
  if (launch && launch->count > 1 && !options.tls.plaintext)
    throw Error(Status::Usage, "island ", *options.island,
                " has ranks at several sites, and each site's are started "
                "apart, with its certificate, by tombolo-run site; expected "
                "that, or --plaintext where everything is on this machine");
  if (options.executor.isMpi() && launch && !launch->isOneMachine)
    throw Error(Status::Usage, "--transport mpi: island ", *options.island,
                " has ranks at several sites; expected all of them on this "
                "machine");
}

/// Finds out which rank this is and meets the others, who are then known to run
/// the same. `meeting` must stay until the rank ends.
Plan meet(Options &options, std::unique_ptr<Meeting> &meeting) {
  options.executor.check();
  std::optional<Launch> launch;
  if (!options.rank) {
    launch = findLaunch(options.launcher);
    if (!launch)
      throw Error(Status::Usage,
                  "--rank: expected it, or to be started by torchrun, mpirun, "
                  "srun or as a pod of an Indexed Job; the environment has "
                  "none of their variables");
    if (launch->count > 1) {
      meeting =
          std::make_unique<Meeting>(*launch, options.rendezvous, options.host);
      options.rendezvous = meeting->store();
      options.host = meeting->host();
    }
  }
  if (options.host.empty())
    options.host = "127.0.0.1";
  std::unique_ptr<RollCall> own;
  auto refuse = [&](const char *why) {
    if (meeting)
      return meeting->refuse(why);
    if (own)
      own->refuse(why);
  };
  try {
    Plan plan = readPlan(options.common.plan);
    if (launch)
      takeSeat(plan, *launch, options);
    if (!options.island && plan.islands_size() > 1)
      throw Error(Status::Usage, "--island: expected it, the plan has ",
                  plan.islands_size(), " islands");
    options.island = options.island.value_or(0);
    std::uint64_t ranks = seatsOf(plan, options.island, "").size();
    std::optional<StoreKeeper> keeper;
    if (isSpanning(plan, options)) {
      checkSpanning(options, launch ? &*launch : nullptr);
      keeper = keeperOf(plan, options.tls);
    }
    if (meeting)
      meeting->roll().call(
          "process", launch->number, launch->count,
          sameness(plan, launch->count, options.executor.transport));
    else if (ranks > 1 && !options.rendezvous.empty() &&
             !options.executor.isTorch()) { // which does the same later
      own =
          std::make_unique<RollCall>(options.rendezvous, scopeOf(options),
                                     TransportOptions().connectTimeout, keeper);
      own->call("rank", *options.rank, ranks,
                sameness(plan, ranks, options.executor.transport));
    }
    return plan;
  } catch (const std::exception &error) {
    refuse(error.what());
    throw;
  }
}

void train(Options &options, Output &output) {
  std::unique_ptr<Meeting> meeting;
  checkCheckpoints(options.common);
  Plan plan = meet(options, meeting);
  if (output.toPerson()) // else whoever started this rank has looked
    checkProgress(plan);
  if (!options.server.empty()) {
    if (options.gateway.empty())
      checkTls(options.tls);
    checkTlsFiles(options.tls);
    IslandLayout layout(plan.islands(static_cast<int>(*options.island)));
    // Whoever starts all ranks of a site says it itself.
    if (output.toPerson() && *options.rank == 0)
      for (const std::string &advice :
           lineAdvice(plan, layout.site(0), options.server, readTcpSettings()))
        std::cerr << "tombolo-run rank: " << advice << "\n";
  }
  std::uint32_t threads = options.common.threads ? options.common.threads : 1;
  if (options.executor.isTorch())
    becomeTorchRank(plan, threads, argumentsOf(plan, options));
  RankConfig config;
  config.island = *options.island;
  config.rank = *options.rank;
  config.steps = options.common.steps;
  config.model = options.common.model;
  config.data.path = options.common.data;
  config.data.tokenBytes = options.common.tokenBytes;
  config.data.shuffle = options.common.shuffle;
  config.seed = options.common.init;
  config.maskSeed = options.common.seed;
  config.evaluationData = options.common.evaluationData;
  config.evaluateEvery = options.common.evaluateEvery;
  config.checkpointDir = options.common.checkpointDir;
  config.checkpointCopy = options.common.checkpointCopy;
  config.checkpointEvery = options.common.checkpointEvery;
  config.resume = options.common.resume;
  config.resumeStep = options.common.resumeStep;
  config.checkNumerics = options.common.checkNumerics;
  if (!config.checkpointDir.empty() && options.sigterm == kEndRun) {
    config.endRequested = [] { return told != 0; };
    // Every rank: whoever ends a run tells whole groups of processes.
    std::signal(SIGTERM, [](int) { told = 1; });
  }

  if (options.common.pin) {
    std::uint64_t before = 0; // ranks of earlier islands
    int islands =
        std::min(static_cast<int>(*options.island), plan.islands_size());
    for (int i = 0; i < islands; ++i)
      before += IslandLayout(plan.islands(i)).rankCount();
    pinRank(options.localRank.value_or(before + *options.rank), threads);
  }
  std::optional<Beat> beat;
  if (!output.toPerson())
    beat.emplace(
        [&] {
          output.write({{"event", "alive"}});
        },
        std::chrono::duration<double>(options.common.stallSeconds /
                                      kBeatsInStall));
  DeviceOptions deviceOptions;
  deviceOptions.checkNumerics = options.common.checkNumerics;
  deviceOptions.threads = threads;
  std::unique_ptr<Device> device =
      createDevice(options.executor.device, deviceOptions);

  TransportOptions transportOptions;
  transportOptions.timeout = std::chrono::milliseconds(
      static_cast<std::int64_t>(options.common.timeoutSeconds * 1000));
  transportOptions.scope = scopeOf(options);
  std::unique_ptr<Transport> transport;
  Strangers strangers; // of several threads
  if (options.executor.isMpi()) {
    transport = createMpiTransport(*options.rank, transportOptions);
  } else if (!options.rendezvous.empty() && isSpanning(plan, options) &&
             !options.tls.plaintext) {
    transportOptions.keeper = keeperOf(plan, options.tls);
    SiteLinks links{
        options.tls.files,
        sitesOfRanks(plan.islands(static_cast<int>(*options.island))),
        [&](const std::string &message) {
          strangers.note(message);
          for (const std::string &fresh : strangers.take())
            output.write({{"event", "stranger_refused"}, {"message", fresh}});
        }};
    transport =
        createSiteTransport(*options.rank, options.rendezvous, options.host,
                            std::move(links), transportOptions);
  } else if (!options.rendezvous.empty()) {
    transport = createGlooTransport(*options.rank, options.rendezvous,
                                    options.host, transportOptions);
  }
  // Alone it needs nobody; with peers and no store, connecting says so.
  InprocHub alone(*options.rank + 1);
  if (!transport)
    transport = alone.transport(*options.rank);

  RankEvents events;
  events.ready = [&] {
    output.write({{"event", "ready"},
                  {"island", *options.island},
                  {"rank", *options.rank}});
  };
  events.begin = [&, trains = false](std::uint64_t step) mutable {
    if (!output.toPerson() && !std::exchange(trains, true))
      output.write({{"event", kTraining}});
    if (step == options.pauseAt)
      std::raise(SIGSTOP);
  };
  events.step = [&](const StepMetrics &metrics) {
    json line = {{"step", metrics.step},
                 {"island", metrics.island},
                 {"loss", nullptr},
                 {"seconds", metrics.seconds},
                 {"tokens", metrics.tokens}};
    if (std::isfinite(metrics.loss))
      line["loss"] = metrics.loss;
    if (metrics.gradientNorm)
      line["grad_norm"] = std::isfinite(*metrics.gradientNorm)
                              ? json(*metrics.gradientNorm)
                              : json(nullptr);
    output.write(line);
  };
  events.evaluation = [&](const EvaluationMetrics &metrics) {
    json line = {{"event", "eval"},
                 {"step", metrics.stepsDone},
                 {"island", metrics.island},
                 {"loss", nullptr},
                 {"samples", metrics.samples},
                 {"tokens", metrics.tokens}};
    if (std::isfinite(metrics.loss))
      line["loss"] = metrics.loss;
    if (metrics.leftOut)
      line["samples_left_out"] = metrics.leftOut;
    output.write(line);
  };
  events.checkpoint = [&](const CheckpointNews &news) {
    using Kind = CheckpointNews::Kind;
    json event = {{"event", nameOf(news.kind)},
                  {"step", news.step},
                  {"island", *options.island}};
    if (news.kind == Kind::Failed || news.kind == Kind::Blocking) {
      event["rank"] = *options.rank;
      event["message"] = news.message.substr(0, kMostMessage);
    } else {
      event["path"] = news.folder;
      event["seconds"] = rounded(news.seconds);
      event["stalled_seconds"] = rounded(news.stalledSeconds);
    }
    output.write(event);
  };
  events.failed = [&](const std::exception &error) {
    if (!output.toPerson())
      output.write(failureOf(error));
  };
  events.stopped = [&](std::uint64_t step) {
    output.write(
        {{"event", "stopped"}, {"island", *options.island}, {"step", step}});
  };
  events.removed = [&](std::uint64_t step) {
    output.write(
        {{"event", kIslandLeft}, {"island", *options.island}, {"step", step}});
  };
  events.alone = [&](std::uint32_t fragment, std::uint64_t step, bool isAlone) {
    output.write({{"event", isAlone ? "trains_on" : "caught_up"},
                  {"island", *options.island},
                  {"fragment", fragment},
                  {"step", step}});
  };
  ExchangeFactory exchange;
  if (!options.server.empty()) {
    exchange = [&](std::vector<ExchangeTensor> tensors, ArenaAccess access,
                   IslandLargest largest) {
      ExchangeOptions client = exchangeOptions(
          plan, *options.island, static_cast<std::uint32_t>(*options.rank));
      client.server = options.server;
      client.runId = options.runId;
      client.gateway = options.gateway;
      if (options.gateway.empty())
        client.tls = options.tls.files;
      client.lines = linesOf(plan, options);
      client.incarnation = options.incarnation;
      client.largest = std::move(largest);
      client.mostStepsAlone =
          std::min(client.mostStepsAlone,
                   options.stepsAlone.value_or(~std::uint64_t(0)));
      if (options.awaitsServer)
        client.onUnreachable = [&](const std::string &why, double seconds) {
          json event = {{"event", why.empty() ? kServerBack : kServerGone},
                        {"island", *options.island},
                        {"rank", *options.rank},
                        {"seconds", std::round(seconds)}};
          if (!why.empty())
            event["message"] = why.substr(0, kMostMessage);
          output.write(event);
        };
      return connectExchange(std::move(client), std::move(tensors),
                             std::move(access));
    };
  }
  if (options.rendezvous.empty() && !options.executor.isMpi() &&
      *options.island < static_cast<unsigned>(plan.islands_size())) {
    std::uint64_t ranks =
        IslandLayout(plan.islands(static_cast<int>(*options.island)))
            .rankCount();
    if (ranks > 1)
      throw Error(Status::Usage, "island ", *options.island, " has ", ranks,
                  " ranks; give --rendezvous ADDRESS so that they meet");
  }
  Rank rank(plan, config, *device, *transport, std::move(events),
            std::move(exchange));
  rank.run();
}

} // namespace

int tombolo::runtime::runRank(int argc, char **argv) {
  Options options;
  CommandLine app("runs one rank of an island", "tombolo-run rank",
                  {"tombolo-run rank p.plan --model m.onnx --data tokens.bin "
                   "--steps 100 --island 0 --rank 1 --rendezvous "
                   "10.1.0.1:40123 --host 10.1.0.2"});
  addRankOptions(app, options.common);
  addResumeStep(app, options.common);
  app.add_option("--island", options.island,
                 "the island's number (default: as the launcher has it)");
  CLI::Option *rank = app.add_option(
      "--rank", options.rank,
      "the rank's number in its island (default: as the launcher has it, "
      "counted over the plan's islands in order, or over --island or --site)");
  app.add_option("--site", options.site,
                 "the launcher has started the ranks at this site alone")
      ->excludes(rank);
  addLauncherOption(app, options.launcher);
  app.add_option("--local-rank", options.localRank,
                 "the rank's number among those of this machine");
  app.add_option("--rendezvous", options.rendezvous,
                 "address of the store where the island's ranks meet; process "
                 "0 of a launcher keeps it there");
  app.add_option("--host", options.host,
                 "address peers reach this rank at (default: this machine's "
                 "on the way to where a launcher's processes meet, else "
                 "loopback)");
  addExecutorOptions(app, options.executor);
  addSigtermOption(app, options.sigterm);
  app.add_option("--server", options.server, "address of the parameter server");
  addTlsOptions(app, options.tls);
  addLineOptions(app, options.line);
  app.add_option("--run-id", options.runId, "the run, as the server knows it");
  app.add_option("--incarnation", options.incarnation,
                 "how often the island has been restarted");
  // Else an Error ends the rank after a while: of an agent that is told how
  // it stands with the servers, as `local` is, or of nobody who looks.
  app.add_flag("--await-server", options.awaitsServer)->group("");
  app.add_option("--gateway", options.gateway)->group(""); // of an agent
  app.add_option("--steps-alone", options.stepsAlone)->group("");
  app.add_option("--pause-at", options.pauseAt)->group("");
  app.add_option("--events-fd", options.eventsFd,
                 "write events as lines of JSON to this descriptor");
  int status = 0;
  if (!app.parseArguments(argc, argv, status))
    return status;
  std::signal(SIGPIPE, SIG_IGN);
  Output output(options.eventsFd);
  try {
    train(options, output);
    return 0;
  } catch (const std::exception &error) {
    if (output.toPerson())
      throw;
    output.write(failureOf(error));
    return statusOf(error);
  }
}
