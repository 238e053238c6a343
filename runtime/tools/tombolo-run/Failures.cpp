//===- Failures.cpp - which failure explains the others -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Failures.h"

#include "Events.h"

#include "tombolo/runtime/launch/Supervisor.h"

#include <algorithm>
#include <sstream>

using namespace tombolo::runtime;

Failure tombolo::runtime::rankFailure(const nlohmann::json &event) {
  std::string message = field<std::string>(event, "message", "");
  std::string who =
      "rank " + std::to_string(field<std::uint64_t>(event, "rank", 0)) +
      " of island " + std::to_string(field<std::uint64_t>(event, "island", 0)) +
      " at site " + field<std::string>(event, "site", "?") + " (pid " +
      std::to_string(field<std::int64_t>(event, "pid", 0)) + ") ";
  int signal = field(event, "signal", 0);
  if (double stalled = field(event, "stalled_seconds", 0.0); stalled > 0) {
    std::ostringstream message;
    message << who << "has not said for " << stalled
            << " s that it lives, and was killed";
    return {Cause::Killed, 3, message.str()};
  }
  if (signal)
    return {Cause::Killed, 3, who + describe({true, signal})};
  int status = field(event, "status", 3);
  // What is wrong with the input is wrong whichever rank says so.
  if (status == 1 && !message.empty())
    return {Cause::BadInput, 1, message};
  return {field(event, "peer", false) ? Cause::Echo : Cause::Own, 3,
          who + describe({false, status}) +
              (message.empty() ? "" : ": " + message)};
}

const Failure &tombolo::runtime::culprit(const std::vector<Failure> &failures) {
  return *std::min_element(
      failures.begin(), failures.end(),
      [](const Failure &a, const Failure &b) { return a.cause < b.cause; });
}
