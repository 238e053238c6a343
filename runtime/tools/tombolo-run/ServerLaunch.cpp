//===- ServerLaunch.cpp - starting a parameter server ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ServerLaunch.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>

using namespace tombolo::runtime;

ProcessSpec ServerLaunch::process() const {
  ProcessSpec spec;
  spec.program = thisProgram();
  spec.ownGroup = true;
  spec.arguments = {"server", plan, "--run-id", runId};
  for (std::string &word : tlsArguments(tls))
    spec.arguments.push_back(std::move(word));
  auto add = [&](const char *option, const std::string &value) {
    if (!value.empty())
      spec.arguments.insert(spec.arguments.end(), {option, value});
  };
  add("--address", address);
  add("--site", site);
  for (const std::string &peer : peers)
    add("--peer", peer);
  add("--state-dir", stateDir);
  for (std::string &word : detectionArguments(detectionSeconds))
    spec.arguments.push_back(std::move(word));
  for (std::string &word :
       lineArguments({.connections = {}, .limitGbits = lineLimitGbits}))
    spec.arguments.push_back(std::move(word));
  if (untilFinished)
    spec.arguments.push_back("--until-finished");
  return spec;
}

std::vector<std::string> tombolo::runtime::serverAddresses(
    const ServerGroup &group, const std::string &site,
    const std::string &address, const std::vector<std::string> &peers,
    std::uint32_t &self) {
  const std::vector<std::string> &sites = group.sites;
  std::string list;
  for (const std::string &each : sites)
    list += (list.empty() ? "" : ", ") + each;
  auto find = [&](const char *option, const std::string &which) {
    auto found = std::find(sites.begin(), sites.end(), which);
    if (found == sites.end())
      throw Error(Status::Usage, option, ": expected a site with a server, ",
                  list, ", got '", which, "'");
    return static_cast<std::uint32_t>(found - sites.begin());
  };
  std::vector<std::string> addresses(sites.size());
  self = find("--site", site);
  addresses[self] = address;
  for (const std::string &peer : peers) {
    std::size_t equals = std::min(peer.find('='), peer.size());
    std::uint32_t number = find("--peer", peer.substr(0, equals));
    addresses[number] = peer.substr(std::min(equals + 1, peer.size()));
  }
  for (std::size_t i = 0; i < sites.size(); ++i)
    if (addresses[i].empty())
      throw Error(Status::Usage, "--peer: expected ", sites[i],
                  "=ADDRESS too; the plan has servers in ", list);
  return addresses;
}
