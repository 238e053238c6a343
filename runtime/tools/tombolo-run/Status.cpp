//===- Status.cpp - tombolo-run status: how a run is doing ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Commands.h"
#include "Events.h"
#include "StatusTable.h"

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"

#include <httplib.h>

#include <iostream>

using namespace tombolo::runtime;
using nlohmann::json;

namespace {

constexpr int kSeconds = 5;
constexpr std::size_t kMostBytes = 64 << 20;

json ask(const std::string &address) {
  std::size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size())
    throw Error(Status::Usage, "'", address,
                "': expected HOST:PORT of a run's --metrics-port");
  httplib::Client client("http://" + address);
  if (!client.is_valid())
    throw Error(Status::Usage, "'", address,
                "': expected HOST:PORT of a run's --metrics-port");
  client.set_connection_timeout(kSeconds);
  client.set_read_timeout(kSeconds);
  std::string body;
  httplib::Result result =
      client.Get("/status", [&](const char *data, std::size_t size) {
        body.append(data, size);
        return body.size() <= kMostBytes;
      });
  if (!result)
    throw Error(Status::Failed, "'", address, "': no run answers there (",
                httplib::to_string(result.error()),
                "); it serves its status with --metrics-port");
  json status = parseEvent(body);
  if (result->status != 200 || !status.is_object() ||
      !status.contains("islands"))
    throw Error(Status::Failed, "'", address,
                "': expected the status of a run, got something else");
  return status;
}

} // namespace

int tombolo::runtime::runStatus(int argc, char **argv) {
  CommandLine app(
      "shows how a run is doing that was started with --metrics-port",
      "tombolo-run status", {"tombolo-run status 127.0.0.1:9090"});
  std::vector<std::string> addresses;
  bool asJson = false;
  app.add_option("address", addresses,
                 "HOST:PORT of the run, or of several of its sites")
      ->required();
  app.add_flag("--json", asJson, "as JSON, one line for each address");
  int status = 0;
  if (!app.parseArguments(argc, argv, status))
    return status;
  std::vector<json> answers;
  for (const std::string &address : addresses)
    answers.push_back(ask(address));
  if (asJson) {
    for (const json &answer : answers)
      std::cout << toLine(answer) << "\n";
    return 0;
  }
  Terminal terminal(stdout);
  for (const std::string &line :
       statusTable(answers, terminal.isTerminal ? terminal.columns : 200,
                   terminal.colour))
    std::cout << line << "\n";
  return 0;
}
