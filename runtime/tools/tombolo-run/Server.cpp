//===- Server.cpp - tombolo-run server ------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Commands.h"
#include "Events.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/launch/Supervisor.h"
#include "tombolo/runtime/plan/PlanFile.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include <CLI/CLI.hpp>

#include <csignal>
#include <iostream>

using namespace tombolo::runtime;
using nlohmann::json;

static json describeEvent(const OuterEvent &event) {
  if (event.kind == OuterEvent::Kind::Discarded)
    return {{"event", "push_discarded"}, {"fragment", event.fragment},
            {"round", event.round},      {"island", event.members.at(0)},
            {"tokens", event.tokens},    {"message", event.message}};
  bool start = event.kind == OuterEvent::Kind::Start;
  return {{"event", start ? "start" : "outer_step"},
          {"fragment", event.fragment},
          {"round", event.round},
          {"version", event.version},
          {"islands", event.members},
          {"tokens", event.tokens},
          {"seconds", event.openSeconds},
          {"hash", toHex(event.hash)}};
}

static void serve(const std::string &planFile, const std::string &address,
                  const std::string &runId, EventWriter &events,
                  bool toPerson) {
  // Before any thread, so that all of them leave these to sigwait.
  sigset_t mask;
  sigemptyset(&mask);
  for (int signal : {SIGINT, SIGTERM, SIGHUP})
    sigaddset(&mask, signal);
  sigprocmask(SIG_BLOCK, &mask, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  Plan plan = readPlan(planFile);
  ParameterServerOptions options = serverOptions(plan, runId);
  options.address = address;
  options.onEvent = [&](const OuterEvent &event) {
    events.write(toLine(describeEvent(event)));
  };
  ParameterServer server(std::move(options));
  if (toPerson)
    std::cout << "serving at " << server.address() << std::endl;
  else
    events.write(
        toLine({{"event", "listening"}, {"address", server.address()}}));
  int signal = 0;
  sigwait(&mask, &signal);
}

int tombolo::runtime::runServer(int argc, char **argv) {
  CLI::App app("serves the parameters of a plan until it is told to end",
               "tombolo-run server");
  std::string plan, address = "127.0.0.1:0", runId;
  int eventsFd = -1;
  app.add_option("plan", plan, "the plan, from tombolo-plan")->required();
  app.add_option("--address", address,
                 "loopback HOST:PORT (port 0: any free one) or unix:PATH");
  app.add_option("--run-id", runId, "must be the same on all parts of a run");
  app.add_option("--events-fd", eventsFd,
                 "write events as JSON lines to this file descriptor");
  int status = 0;
  if (!parseArguments(app, argc, argv, status))
    return status;

  EventWriter events(eventsFd < 0 ? 1 : eventsFd);
  if (eventsFd < 0) {
    serve(plan, address, runId, events, /*toPerson=*/true);
    return 0;
  }
  try {
    serve(plan, address, runId, events, /*toPerson=*/false);
  } catch (const Error &error) {
    events.write(toLine({{"event", "error"},
                         {"status", error.exitStatus()},
                         {"message", error.what()}}));
    return error.exitStatus();
  }
  return 0;
}
