//===- Admin.cpp - tombolo-run admin --------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Commands.h"
#include "Events.h"

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/server/Administer.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <iomanip>
#include <iostream>

using namespace tombolo::runtime;
using nlohmann::json;

namespace {

struct Options {
  AdminOptions run;
  std::string action;
  std::string site;
  std::uint32_t quorum = 0;
  TlsOptions tls;
  bool asJson = false;
};

std::string sitesOf(const Members::Island &island) {
  std::string all;
  for (const std::string &site : island.sites)
    all += (all.empty() ? "" : "+") + site;
  return all;
}

const char *stateOf(const Members::Island &island) {
  return island.removed ? "removed"
         : island.done  ? "done"
         : island.live  ? "live"
                        : "lost";
}

void print(const Members &members) {
  std::size_t width = 5;
  for (const Members::Island &island : members.islands)
    width = std::max(width, sitesOf(island).size());
  auto line = [&](const std::string &number, const std::string &sites,
                  const std::string &state) {
    std::cout << std::left << std::setw(8) << number
              << std::setw(static_cast<int>(width) + 2) << sites << state
              << "\n";
  };
  line("island", "sites", "state");
  for (std::size_t i = 0; i < members.islands.size(); ++i)
    line(std::to_string(i), sitesOf(members.islands[i]),
         stateOf(members.islands[i]));
  std::cout << "a round needs " << members.quorum
            << (members.quorum == 1 ? " island" : " islands") << "\n";
}

void printJson(const Members &members) {
  json all = {{"quorum", members.quorum}, {"islands", json::array()}};
  for (std::size_t i = 0; i < members.islands.size(); ++i)
    all["islands"].push_back({{"island", i},
                              {"sites", members.islands[i].sites},
                              {"state", stateOf(members.islands[i])}});
  std::cout << toLine(all) << "\n";
}

int run(Options &options) {
  bool isList = options.action == "list";
  if (isList != options.site.empty())
    throw Error(Status::Usage, options.action,
                isList ? ": expected no site, got '" + options.site + "'"
                       : ": expected the name of a site behind it");
  if (isList && options.quorum > 0)
    throw Error(Status::Usage,
                "--quorum: it goes with add and remove, not with list");
  checkTls(options.tls);
  checkTlsFiles(options.tls);
  options.run.tls = options.tls.files;
  AdminAction action = isList                       ? AdminAction::List
                       : options.action == "remove" ? AdminAction::Remove
                                                    : AdminAction::Add;
  Members members =
      administer(options.run, action, options.site, options.quorum);
  if (members.wasSo)
    std::cerr << "tombolo-run admin: it was so already\n";
  if (options.asJson)
    printJson(members);
  else
    print(members);
  return 0;
}

} // namespace

int tombolo::runtime::runAdmin(int argc, char **argv) {
  CommandLine app(
      "takes the islands of a site out of a running job, lets them in again, "
      "or lists who takes part",
      "tombolo-run admin",
      {"tombolo-run admin 10.1.0.1:7000,10.2.0.1:7000 remove south --run-id R "
       "--cert certs/north.crt --key certs/north.key --ca certs/ca.crt"});
  Options options;
  app.add_option("servers", options.run.servers,
                 "HOST:PORT of the run's parameter server; with a backup those "
                 "of both, with a comma between")
      ->required();
  app.add_option("action", options.action, "list, remove or add")
      ->required()
      ->check(CLI::IsMember({"list", "remove", "add"}));
  app.add_option("site", options.site,
                 "whose islands; an island at several sites goes as a whole");
  app.add_option("--quorum", options.quorum,
                 "from now on a round needs so many islands (default: as it "
                 "is, at first as planned)")
      ->check(positiveNumber());
  app.add_option("--run-id", options.run.runId,
                 "the run, as its parts have it");
  app.add_option("--wait-seconds", options.run.retrySeconds,
                 "how long a server that answers as the primary is looked for")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  addTlsOptions(app, options.tls);
  app.add_flag("--json", options.asJson, "print JSON");
  int status = 0;
  if (!app.parseArguments(argc, argv, status))
    return status;
  return run(options);
}
