//===- Server.cpp - tombolo-run server ------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Commands.h"
#include "Events.h"
#include "ServerLaunch.h"

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/launch/Supervisor.h"
#include "tombolo/runtime/plan/PlanFile.h"
#include "tombolo/runtime/server/ParameterServer.h"
#include "tombolo/runtime/server/Seldom.h"

#include <csignal>
#include <iostream>
#include <mutex>

#include <unistd.h>

using namespace tombolo::runtime;
using nlohmann::json;

static json describeEvent(const OuterEvent &event) {
  if (event.kind == OuterEvent::Kind::Discarded)
    return {{"event", "push_discarded"}, {"fragment", event.fragment},
            {"round", event.round},      {"island", event.members.at(0)},
            {"tokens", event.tokens},    {"message", event.message}};
  if (event.kind == OuterEvent::Kind::Removed ||
      event.kind == OuterEvent::Kind::Added)
    return {{"event", event.kind == OuterEvent::Kind::Removed ? "island_removed"
                                                              : "island_added"},
            {"island", event.members.at(0)},
            {"message", event.message}};
  bool start = event.kind == OuterEvent::Kind::Start;
  return {{"event", start ? "start" : "outer_step"},
          {"fragment", event.fragment},
          {"round", event.round},
          {"version", event.version},
          {"islands", event.members},
          {"tokens", event.tokens},
          {"seconds", event.openSeconds},
          {"hash", toHex(event.hash)},
          {"pushed_bytes", event.pushedBytes},
          {"pulled_bytes", event.pulledBytes}};
}

namespace {

struct Options {
  std::string plan;
  std::string address = "127.0.0.1:0";
  std::string runId;
  std::string stateDir;
  std::string site;
  std::vector<std::string> peers; // SITE=ADDRESS
  TlsOptions tls;
  bool untilFinished = false;
  double detectionSeconds = kDetectionSeconds;
  LineOptions line;
  int eventsFd = -1;
};

/// Which of the plan's servers this one is, and where the others are.
void findPlace(const Options &given, ParameterServerOptions &options) {
  const std::vector<std::string> &sites = options.group.sites;
  if (!options.group.isReplicated()) {
    if (!given.peers.empty())
      throw Error(Status::Usage, "--peer: the plan has one server, in ",
                  sites[0], ", without a backup");
    return;
  }
  options.addresses = serverAddresses(options.group, given.site, given.address,
                                      given.peers, options.self);
  if (given.stateDir.empty())
    throw Error(Status::Usage, "--state-dir: a server with a backup needs a "
                               "folder, for its vote too");
}

} // namespace

static void serve(const Options &given, EventWriter &events, bool toPerson) {
  // Before any thread, so that all of them leave these to sigwait.
  sigset_t mask;
  sigemptyset(&mask);
  for (int signal : {SIGINT, SIGTERM, SIGHUP})
    sigaddset(&mask, signal);
  sigprocmask(SIG_BLOCK, &mask, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  Plan plan = readPlan(given.plan);
  checkTlsFiles(given.tls);
  ParameterServerOptions options = serverOptions(plan, given.runId);
  options.address = given.address;
  options.stateDir = given.stateDir;
  options.tls = given.tls.files;
  options.detectionSeconds = given.detectionSeconds;
  options.mostBytesPerSecond = given.line.limitBytesPerSecond();
  findPlace(given, options);
  options.onEpoch = [&](const EpochEvent &event) {
    json line = {{"event", "epoch"},
                 {"epoch", event.epoch},
                 {"site", event.primary},
                 {"backup", nullptr}};
    if (!event.backup.empty())
      line["backup"] = event.backup;
    events.write(toLine(line));
  };
  // Somebody who tries again and again shall not fill the log.
  std::mutex strangersMutex;
  Seldom strangers;
  options.onStranger = [&](const Stranger &stranger) {
    std::lock_guard lock(strangersMutex);
    if (auto line = strangers.say(stranger.message))
      events.write(toLine({{"event", "stranger_refused"},
                           {"reason", std::string(name(stranger.reason))},
                           {"message", *line}}));
  };
  options.onEvent = [&](const OuterEvent &event) {
    events.write(toLine(describeEvent(event)));
  };
  options.onDamage = [&](const std::string &message) {
    if (toPerson)
      std::cerr << "tombolo-run server: " << message << "\n";
    else
      events.write(toLine({{"event", "state_damaged"}, {"message", message}}));
  };
  if (given.untilFinished)
    options.onOver = [] { kill(getpid(), SIGTERM); }; // wakes the thread below
  std::mutex mutex;
  std::string failure;
  options.onFailure = [&](const std::string &message) {
    std::lock_guard lock(mutex);
    failure = message;
    kill(getpid(), SIGTERM); // likewise
  };
  if (toPerson)
    for (const std::string &advice :
         lineAdvice(plan, options.group.sites[options.self], given.address,
                    readTcpSettings()))
      std::cerr << "tombolo-run server: " << advice << "\n";
  ParameterServer server(std::move(options));
  if (toPerson)
    std::cout << "serving at " << server.address() << std::endl;
  else
    events.write(
        toLine({{"event", "listening"}, {"address", server.address()}}));
  int signal = 0;
  sigwait(&mask, &signal);
  std::lock_guard lock(mutex);
  if (!failure.empty())
    throw Error(Status::Failed, failure);
}

int tombolo::runtime::runServer(int argc, char **argv) {
  CommandLine app(
      "serves the parameters of a plan until it is told to end",
      "tombolo-run server",
      {"tombolo-run server p.plan --site east --address 10.3.0.1:7000 "
       "--peer north=10.1.0.1:7000 --peer south=10.2.0.1:7000 --cert "
       "certs/server.crt --key certs/server.key --ca certs/ca.crt --run-id R "
       "--state-dir saved --until-finished"});
  Options options;
  app.add_option("plan", options.plan, "the plan, from tombolo-plan")
      ->required();
  app.add_option("--address", options.address,
                 "HOST:PORT (port 0: any free one) or unix:PATH");
  app.add_option("--run-id", options.runId,
                 "must be the same on all parts of a run");
  app.add_option("--state-dir", options.stateDir,
                 "keep the state in this folder and go on from what it holds "
                 "(default: in memory only)");
  app.add_option("--site", options.site,
                 "the server's site, where the plan has a backup");
  app.add_option("--peer", options.peers,
                 "SITE=ADDRESS of another server of the plan; once for each");
  app.add_flag("--until-finished", options.untilFinished,
               "end when the islands have done all their steps and need "
               "nothing more");
  addDetectionOption(app, options.detectionSeconds);
  addLineLimit(app, options.line.limitGbits);
  addTlsOptions(app, options.tls);
  app.add_option("--events-fd", options.eventsFd,
                 "write events as JSON lines to this file descriptor");
  int status = 0;
  if (!app.parseArguments(argc, argv, status))
    return status;

  checkTls(options.tls);
  EventWriter events(options.eventsFd < 0 ? 1 : options.eventsFd);
  if (options.eventsFd < 0) {
    serve(options, events, /*toPerson=*/true);
    return 0;
  }
  try {
    serve(options, events, /*toPerson=*/false);
  } catch (const Error &error) {
    events.write(toLine({{"event", "error"},
                         {"status", error.exitStatus()},
                         {"message", error.what()}}));
    return error.exitStatus();
  }
  return 0;
}
