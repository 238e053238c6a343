//===- Site.cpp - tombolo-run site: the site agent ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Starts the ranks of one site and forwards their events; what happens when one
// of them fails is the business of Agent.
//
//===----------------------------------------------------------------------===//

#include "Agent.h"
#include "Commands.h"
#include "Events.h"
#include "Executor.h"
#include "JobFiles.h"
#include "Meeting.h"
#include "Spanning.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/StoreServer.h"
#include "tombolo/runtime/engine/Progress.h"
#include "tombolo/runtime/launch/Launch.h"
#include "tombolo/runtime/launch/Supervisor.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/server/ExchangeClient.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include <CLI/CLI.hpp>

#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <set>

#include <unistd.h>

using namespace tombolo::runtime;
using nlohmann::json;

namespace {

struct SiteOptions {
  RankOptions rank;
  ExecutorOptions executor;
  std::string site;
  std::string launcher = "auto";
  std::string sigterm = kEndRun;
  std::string host;
  std::string rendezvous;
  std::string server;
  std::string address;
  std::vector<std::string> peers; // SITE=ADDRESS
  std::string stateDir;
  std::string runId;
  TlsOptions tls;
  LineOptions line;
  bool gateway = false;
  std::string certificates;
  WatchOptions watch;
  std::optional<std::uint64_t> incarnation;
  std::uint64_t restarts = 0;
  double detectionSeconds = kDetectionSeconds;
  std::optional<std::uint64_t> stepsAlone;
  JobFileOptions jobs;
  std::string rankProgram; // for tests
  int eventsFd = -1;
};

/// The name of another site's machine may come with it.
constexpr auto kNamePatience = std::chrono::minutes(2);

/// The ranks at a site by island.
using Ranks = std::map<std::uint32_t, std::vector<std::uint64_t>>;

Ranks ranksOf(const Plan &plan, const std::string &site, bool &wholeIslands) {
  Ranks ranks;
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
      ranks[static_cast<std::uint32_t>(island)].push_back(rank);
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

/// Of several processes of a site, each on its own machine or for each rank,
/// the ranks that are started by this one.
Ranks shareOf(const Ranks &all, const Launch &launch, const std::string &site) {
  std::uint64_t count = 0;
  for (const auto &[island, list] : all)
    count += list.size();
  if (count % launch.count != 0)
    throw Error("expected as many processes as the ", count, " ranks at site ",
                site, ", or a number by which these can be divided, got ",
                launch.count, " (", launch.launcher, ")");
  std::uint64_t share = count / launch.count, at = 0;
  Ranks own;
  for (const auto &[island, list] : all)
    for (std::uint64_t rank : list)
      if (at++ / share == launch.number)
        own[island].push_back(rank);
  return own;
}

/// What the first of several agents has decided, as text in the store.
void shareStarts(AgentOptions &agent, Meeting &meeting, bool isFirst) {
  auto key = [](std::uint32_t island) {
    return "start-of-island-" + std::to_string(island);
  };
  RollCall *roll = &meeting.roll();
  if (isFirst) {
    agent.tell = [=](std::uint32_t island, const IslandStart &start) {
      roll->set(key(island), toText(start));
    };
    return;
  }
  agent.follow = [=](std::uint32_t island) -> std::optional<IslandStart> {
    std::optional<std::string> text = roll->look(key(island));
    return text ? startFrom(*text) : std::nullopt;
  };
}

/// Of an agent that was started by hand: `local` chooses for all of its sites.
std::uint64_t findResumeStep(const SiteOptions &options,
                             const std::set<std::uint32_t> &islands,
                             std::vector<json> &news) {
  const std::string &folder = options.rank.checkpointDir;
  auto listener = [&](const char *event, const char *sequel) {
    return [=, &news](std::uint32_t island, const std::string &message) {
      std::cerr << "tombolo-run site: " << message << sequel << "\n";
      news.push_back(
          {{"event", event}, {"island", island}, {"message", message}});
    };
  };
  auto step = resumableStep(
      folder, islands,
      listener("checkpoint_damaged", "; another checkpoint is taken"),
      {options.rank.checkpointCopy, listener("checkpoint_restored", "")});
  if (!step)
    throw Error("checkpoint folder '", folder,
                "': holds no whole checkpoint "
                "of site '",
                options.site, "' to resume from",
                islands.contains(0) ? ""
                                    : "; without --resume it joins the "
                                      "other sites where they are");
  return *step;
}

/// Who this site is to others.
void findCertificates(SiteOptions &options) {
  if (!options.certificates.empty()) {
    if (options.tls.plaintext || options.tls.files.any())
      throw Error(Status::Usage, "--certs: the folder has the certificate, the "
                                 "key and the authority's; expected no --cert, "
                                 "--key, --ca or --plaintext");
    options.tls.files = namedFiles(options.certificates, options.site);
  }
  checkTls(options.tls);
  checkTlsFiles(options.tls);
}

/// Where ranks find the servers, and the one to be started here.
std::string findServers(SiteOptions &options, const Plan &plan,
                        AgentOptions &agent) {
  bool isHere = !options.address.empty();
  if (isHere == !options.server.empty())
    throw Error(Status::Usage,
                "the plan has a parameter server: expected --server with its "
                "address, or --address of the one that is to run here, got ",
                isHere ? "both" : "neither");
  if (!isHere) {
    if (!options.peers.empty() || !options.stateDir.empty())
      throw Error(Status::Usage, "--peer, --state-dir: they are of a server "
                                 "that runs here; --address is missing");
    return options.server;
  }
  if (options.address.ends_with(":0"))
    throw Error(Status::Usage,
                "--address: expected a port that the other "
                "sites know, got '",
                options.address, "'");
  if (!options.tls.plaintext && options.certificates.empty())
    throw Error(Status::Usage,
                "--address: the server's certificate is needed too; expected "
                "--certs DIR, with server.crt and ",
                options.site, ".crt in it (utils/make-certs)");
  ServerGroup group = serverGroup(plan);
  agent.hasBackup = group.isReplicated();
  agent.server.emplace();
  ServerLaunch &server = *agent.server;
  server.plan = options.rank.plan;
  server.runId = options.runId;
  server.address = options.address;
  server.untilFinished = true;
  server.detectionSeconds = options.detectionSeconds;
  server.lineLimitGbits = options.line.limitGbits;
  server.stateDir = options.stateDir;
  if (server.stateDir.empty() && !options.rank.checkpointDir.empty())
    server.stateDir = options.rank.checkpointDir + "/server";
  if (options.tls.plaintext)
    server.tls = options.tls;
  else
    server.tls.files = serverFiles(options.certificates);
  if (!group.isReplicated()) {
    if (group.sites[0] != options.site)
      throw Error(Status::Usage, "--address: the plan's one server is in ",
                  group.sites[0], ", not in ", options.site,
                  "; expected --server ADDRESS");
    return options.address;
  }
  std::uint32_t self = 0;
  std::vector<std::string> addresses = serverAddresses(
      group, options.site, options.address, options.peers, self);
  if (server.stateDir.empty())
    throw Error(Status::Usage, "--state-dir: a server with a backup needs a "
                               "folder, for its vote too");
  server.site = options.site;
  server.peers = options.peers;
  return addresses[0] + "," + addresses[1];
}

/// What is known of the site when all of its agents have met.
struct Site {
  Plan plan;
  Ranks ranks; ///< that are started here
  bool wholeIslands = false;
  AgentOptions agent;
  std::string servers;
};

/// MPI's launcher has to have started a process for each rank, which none can
/// do again.
void checkMpi(const SiteOptions &options, const Site &site,
              const Launch *launch) {
  std::uint64_t ranks = seatsOf(site.plan, {}, options.site).size();
  std::uint64_t count = launch ? launch->count : 1;
  if (count != ranks)
    throw Error(Status::Usage,
                "--transport mpi: expected a process for each of "
                "the ",
                ranks, " ranks at site ", options.site, " (mpirun -n ", ranks,
                " tombolo-run site ...), got ", count);
  if (!site.wholeIslands)
    throw Error(Status::Usage, "--transport mpi: an island of site ",
                options.site,
                " has ranks at other sites too, where MPI has not started "
                "them; expected gloo");
  if (options.restarts > 0)
    throw Error(Status::Usage, "--restarts ", options.restarts,
                ": MPI ends with the first process that ends; expected 0, and "
                "to be started again by whoever has started mpirun");
}

/// What the site's ranks need to talk to those of other sites.
void checkSpanningSite(SiteOptions &options, const Launch *launch) {
  if (launch && launch->count > 1)
    throw Error("site '", options.site, "' has ", launch->count,
                " processes, and an island of it has ranks at other sites too; "
                "expected one process");
  if (options.rendezvous.empty())
    throw Error(Status::Usage, "--rendezvous: an island of site '",
                options.site,
                "' has ranks at other sites too; expected the HOST:PORT at "
                "which they meet, the same at all of these sites");
  if (options.eventsFd < 0)
    options.rendezvous = resolveAddress(options.rendezvous, kNamePatience);
  checkSpanning(options.executor, options.tls, options.rendezvous,
                options.host);
  if (options.eventsFd < 0 && options.host.empty())
    options.host = addressTowards(options.rendezvous);
}

/// Where the ranks of this site's islands meet: those of an island that is
/// whole here at this site, others at the store that one of their sites keeps.
struct Places {
  std::unique_ptr<StoreServer> own, shared; ///< that this agent keeps
  std::map<std::uint32_t, std::vector<std::string>> ofIsland;
};

Places placesOf(const SiteOptions &options, const Site &site, bool isMeeting,
                Strangers &strangers) {
  Places places;
  std::string shared = meetingSite(site.plan);
  bool isShared = !shared.empty() && !isMeeting && !options.tls.plaintext;
  std::string own = isShared ? "" : options.rendezvous;
  // Else whoever started this agent keeps it.
  if (!site.wholeIslands && options.eventsFd < 0 && shared == options.site)
    places.shared =
        keepMeeting(options.rendezvous, site.plan, options.tls, strangers);
  for (const auto &[number, ranks] : site.ranks) {
    std::vector<std::string> &words = places.ofIsland[number];
    if (spansSites(site.plan.islands(static_cast<int>(number)))) {
      words = {"--rendezvous", options.rendezvous};
    } else {
      if (own.empty()) {
        places.own = std::make_unique<StoreServer>();
        own = places.own->address();
      }
      words = {"--rendezvous", own};
    }
    if (!options.host.empty())
      words.insert(words.end(), {"--host", options.host});
  }
  return places;
}

/// Where the agents of islands with ranks at other sites talk. Their store may
/// come later; islands that are whole here do not wait for it.
void shareIslands(AgentOptions &agent, const SiteOptions &options,
                  const Site &site) {
  for (const auto &[number, ranks] : site.ranks)
    if (spansSites(site.plan.islands(static_cast<int>(number))))
      agent.shared.insert(number);
  std::shared_future<std::shared_ptr<StoreClient>> store =
      meetAgents(options.rendezvous, keeperOf(site.plan, options.tls));
  agent.talk = [store, &site, name = options.site](
                   std::uint32_t island) -> std::shared_ptr<IslandTalk> {
    if (store.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
      return nullptr;
    return std::make_shared<IslandTalk>(store.get(), site.plan, island, name);
  };
}

Site look(SiteOptions &options, const Launch *launch, Meeting *meeting) {
  Site site;
  site.plan = readPlan(options.rank.plan);
  const Plan &plan = site.plan;
  site.ranks = ranksOf(plan, options.site, site.wholeIslands);
  // Else whoever started this agent has looked.
  if (options.eventsFd < 0) {
    checkSteps(plan, options.rank.steps);
    checkProgress(plan);
  }
  if (options.executor.isMpi())
    checkMpi(options, site, launch);
  if (launch)
    site.ranks = shareOf(site.ranks, *launch, options.site);
  if (meeting && options.restarts > 0)
    throw Error("--restarts ", options.restarts, ": site '", options.site,
                "' has several processes, which are started again together by "
                "their job; expected 0");
  if (plan.has_server() || !site.wholeIslands)
    findCertificates(options);
  if (!site.wholeIslands)
    checkSpanningSite(options, launch);
  if (plan.has_server())
    site.servers = findServers(options, plan, site.agent);
  if (launch && launch->number > 0)
    site.agent.server.reset(); // it runs beside the first
  if (meeting)
    meeting->roll().call(
        "process", launch->number, launch->count,
        sameness(plan, seatsOf(plan, {}, options.site).size(), "gloo") +
            ", site " + options.site);
  return site;
}

/// Instead of running it: what is given is said in job files.
void emit(const SiteOptions &options) {
  if (!options.server.empty() || !options.address.empty())
    throw Error(Status::Usage, "--server, --address: a job's are made of "
                               "--peer SITE=ADDRESS of each server");
  Plan plan = readPlan(options.rank.plan);
  checkSteps(plan, options.rank.steps);
  checkProgress(plan);
  if (!meetingSite(plan).empty())
    throw Error("--emit: an island of the plan has ranks at several sites, "
                "which no job file starts together; start each site by "
                "tombolo-run site");
  writeJobFiles({.plan = plan,
                 .rank = options.rank,
                 .executor = options.executor,
                 .watch = watchArguments(options.watch),
                 .servers = options.peers,
                 .site = options.site,
                 .rendezvous = options.rendezvous,
                 .runId = options.runId,
                 .certificates = options.certificates,
                 .plaintext = options.tls.plaintext,
                 .gateway = options.gateway,
                 .line = options.line,
                 .restarts = options.restarts,
                 .detectionSeconds = options.detectionSeconds,
                 .stepsAlone = options.stepsAlone},
                options.jobs);
}

int run(SiteOptions &options) {
  checkCheckpoints(options.rank);
  if (options.jobs.isAsked()) {
    emit(options);
    return 0;
  }
  if (options.site.empty())
    throw Error(Status::Usage, "--site: expected the site's name, or --emit");
  options.executor.check();
  if (options.executor.isTorch() && options.stepsAlone.value_or(0) > 0)
    throw Error(Status::Usage, "--steps-alone ", *options.stepsAlone,
                ": ranks that PyTorch runs wait for their servers; expected 0, "
                "or no such option");
  std::optional<SiteGateway> gateway;
  if (options.gateway)
    gateway.emplace();
  std::optional<Launch> launch;
  std::unique_ptr<Meeting> meeting;
  if (options.eventsFd < 0)
    launch = findLaunch(options.launcher);
  if (launch && launch->count > 1) {
    meeting =
        std::make_unique<Meeting>(*launch, options.rendezvous, options.host);
    options.rendezvous = meeting->store();
    options.host = meeting->host();
  }
  bool isFirst = !launch || launch->number == 0;
  Site site;
  try {
    site = look(options, launch ? &*launch : nullptr, meeting.get());
  } catch (const std::exception &error) {
    if (meeting)
      meeting->refuse(error.what());
    throw;
  }
  const Plan &plan = site.plan;
  const Ranks &ranks = site.ranks;
  bool wholeIslands = site.wholeIslands;
  AgentOptions &agentOptions = site.agent;
  const std::string &servers = site.servers;
  if (plan.has_server() && options.eventsFd < 0 && isFirst)
    for (const std::string &advice :
         lineAdvice(plan, options.site, servers, readTcpSettings()))
      std::cerr << "tombolo-run site: " << advice << "\n";
  std::uint64_t count = 0;
  std::set<std::uint32_t> islands;
  for (const auto &[island, list] : ranks) {
    count += list.size();
    islands.insert(island);
  }
  if (options.rank.threads == 0)
    options.rank.threads = threadsPerRank(count);

  Supervisor supervisor;
  Strangers strangers;
  Places places = placesOf(options, site, meeting != nullptr, strangers);
  std::vector<std::string> common = executorArguments(options.executor);
  common.insert(common.end(), {"--sigterm", options.sigterm});
  if (plan.has_server())
    common.insert(common.end(), {"--server", servers});
  // Else whoever started this agent runs the servers, and knows when they are
  // gone for good.
  if (plan.has_server() && options.eventsFd < 0)
    common.push_back("--await-server");
  if (gateway && plan.has_server()) {
    gateway->open(servers, options.tls);
    for (std::string &word : gateway->rankArguments())
      common.push_back(std::move(word));
    agentOptions.gateway = &*gateway;
  }
  if (plan.has_server() && options.stepsAlone)
    common.insert(common.end(),
                  {"--steps-alone", std::to_string(*options.stepsAlone)});
  // Ranks talk to those of other sites by themselves.
  if ((plan.has_server() && !gateway) || !wholeIslands)
    for (std::string &word : tlsArguments(options.tls))
      common.push_back(std::move(word));
  if (plan.has_server())
    for (std::string &word : lineArguments(options.line))
      common.push_back(std::move(word));
  if (!options.runId.empty())
    common.insert(common.end(), {"--run-id", options.runId});
  // No rank saves before all of its island have started, nor after it has lost
  // one, so whatever is unfinished now, or when a run has failed, stays so.
  auto clean = [&] {
    for (const std::string &folder : checkpointFolders(options.rank))
      for (std::uint32_t island : islands)
        if (isFirst)
          discardUnfinished(folder, island);
  };
  clean();
  // An agent in the place of one that fell takes what its ranks saved last.
  bool first = isFirst && options.incarnation.value_or(0) == 0;
  if (first && options.rank.resume && !options.rank.resumeStep)
    options.rank.resumeStep =
        findResumeStep(options, islands, agentOptions.news);
  if (first && options.rank.resumeStep)
    for (std::uint32_t island : islands)
      for (const std::string &folder : checkpointFolders(options.rank))
        if (ranks.at(island).front() == 0) // else another site does
          setAsideBeyond(folder, island, *options.rank.resumeStep);
  agentOptions.rank = options.rank;
  agentOptions.common = std::move(common);
  agentOptions.places = std::move(places.ofIsland);
  agentOptions.strangers = &strangers;
  agentOptions.site = options.site;
  agentOptions.rankProgram = options.rankProgram;
  agentOptions.eventsFd = options.eventsFd;
  agentOptions.hasServer = plan.has_server();
  agentOptions.incarnation = options.incarnation.value_or(0);
  if (!wholeIslands)
    shareIslands(agentOptions, options, site);
  agentOptions.keepsMeeting = places.shared != nullptr;
  // Else whoever started this agent keeps count.
  if (plan.has_server() && options.eventsFd < 0 && !options.incarnation &&
      isFirst) {
    agentOptions.where = servers;
    agentOptions.ask = [&](std::uint32_t island, std::string &why) {
      ExchangeOptions client = exchangeOptions(plan, island, /*rank=*/0);
      client.server = servers;
      client.runId = options.runId;
      client.tls = options.tls.files;
      return askIncarnation(client, &why);
    };
  }
  agentOptions.restarts = options.restarts;
  agentOptions.leavesOnSigterm = options.sigterm == kLeaveRun;
  if (meeting) {
    shareStarts(agentOptions, *meeting, isFirst);
    agentOptions.firstLocalRank = launch->localNumber * count;
  }
  std::unique_ptr<RunWatch> watch;
  // One of the processes of a machine listens at its port.
  bool watches = !launch || launch->localNumber == 0;
  if (options.eventsFd < 0 &&
      watches) { // events on a terminal leave no place for a table
    watch = std::make_unique<RunWatch>(
        WatchedRun{plan, options.rank.plan, options.rank.steps, options.site},
        options.watch, "tombolo-run site", /*mayDraw=*/isatty(1) == 0);
    agentOptions.watch = watch.get();
  }
  Agent agent(std::move(agentOptions), supervisor);
  int status = agent.run(ranks);
  if (status != 0)
    clean();
  return status;
}

} // namespace

int tombolo::runtime::runSite(int argc, char **argv) {
  CommandLine app(
      "starts and watches the ranks of one site of a plan", "tombolo-run site",
      {"tombolo-run site p.plan --site north --address 10.1.0.1:7000 "
       "--peer south=10.2.0.1:7000 --certs certs --run-id R --model m.onnx "
       "--data tokens.bin --steps 10000 --checkpoint-dir saved --restarts 3",
       "tombolo-run site p.plan --emit slurm --output jobs --peer "
       "north=10.1.0.1:7000 --certs certs --run-id R --model m.onnx --data "
       "tokens.bin --steps 10000 --checkpoint-dir saved --restarts 3"});
  SiteOptions options;
  addRankOptions(app, options.rank);
  addResumeStep(app, options.rank);
  addExecutorOptions(app, options.executor);
  app.add_option("--site", options.site, "the site's name in the topology");
  addLauncherOption(app, options.launcher);
  addSigtermOption(app, options.sigterm);
  app.add_option("--host", options.host,
                 "address peers reach the ranks here at (default: of several "
                 "processes, this machine's on the way to where they meet)");
  app.add_option("--rendezvous", options.rendezvous,
                 "where the ranks of an island meet (default: at this agent, "
                 "or where the launcher says); of islands with ranks at "
                 "several sites HOST:PORT at the one with the first rank, "
                 "whose agent keeps a store there");
  app.add_option("--server", options.server,
                 "the parameter server's address; with a backup those of both, "
                 "with a comma between");
  app.add_option("--address", options.address,
                 "instead: run the site's server here, at HOST:PORT");
  app.add_option("--peer", options.peers,
                 "then: SITE=ADDRESS of another server of the plan; once for "
                 "each");
  app.add_option("--state-dir", options.stateDir,
                 "then: the folder of its state (default: 'server' in "
                 "--checkpoint-dir)");
  addWatchOptions(app, options.watch);
  addTlsOptions(app, options.tls);
  addLineOptions(app, options.line);
  addGatewayOption(app, options.gateway);
  app.add_option("--certs", options.certificates,
                 "instead of these: a folder of utils/make-certs, with the "
                 "site's and the server's");
  app.add_option("--run-id", options.runId,
                 "must be the same on all parts of a run");
  app.add_option("--incarnation", options.incarnation,
                 "how often the site's islands have been started before "
                 "(default: as the servers know it); above 0 each goes on from "
                 "its newest checkpoint");
  app.add_option("--restarts", options.restarts,
                 "how often each island is started again when it fails")
      ->capture_default_str()
      ->check(positiveNumber(/*zero=*/true));
  addDetectionOption(app, options.detectionSeconds);
  app.add_option("--steps-alone", options.stepsAlone,
                 "inner steps that an island here trains at most when it can "
                 "reach no server, beyond the one at which it was to go on "
                 "from a version, before it waits (default: without end; 0: it "
                 "waits at once)")
      ->check(positiveNumber(/*zero=*/true));
  app.add_option("--events-fd", options.eventsFd,
                 "write events as JSON lines to this file descriptor");
  addJobFileOptions(app, options.jobs);
  app.add_option("--rank-program", options.rankProgram)->group("");
  int status = 0;
  if (!app.parseArguments(argc, argv, status))
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
