//===- RunState.h - what is known of a run, from its events ----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Events are the lines of metrics.jsonl (docs/Operations.md). They are the one
// source of what anybody sees of a run: the table on a terminal, /status and
// /metrics over HTTP, and whatever else comes to look.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TOOLS_TOMBOLORUN_RUNSTATE_H
#define TOMBOLO_TOOLS_TOMBOLORUN_RUNSTATE_H

#include "tombolo/runtime/plan/Layout.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tombolo::runtime {

class RunState {
public:
  /// Of a run of so many steps. `site`: whose agent looks; empty: all are here.
  RunState(const Plan &plan, std::uint64_t steps, std::string site = "");

  /// `now` is in seconds on the caller's clock.
  void note(const nlohmann::json &event, double now);

  /// All there is, as /status gives it.
  nlohmann::json toJson(double now) const;

private:
  struct Island {
    std::vector<std::string> sites;
    std::string state =
        "starting"; ///< training, restarting, stopped, lost, removed, done
    IslandSteps count;
    std::uint64_t stepsDone = 0; ///< of its own
    std::uint64_t tokens = 0;
    std::uint64_t incarnation = 0;
    std::optional<double> loss;
    double tokensPerSecond = 0;
    double stalledSeconds = 0; // for checkpoints
    bool anyStep = false;
    std::optional<double> syncSeconds; ///< when it was last in a version
    std::map<std::uint32_t, std::uint64_t> versions; ///< last, by fragment
    std::uint64_t fromIsland = 0, toIsland = 0;      ///< bytes
    double lineBytesPerSecond = 0;
  };

  void noteStep(const nlohmann::json &event);
  void noteVersion(const nlohmann::json &event, double now);
  bool isAt(const Island &island, const std::string &site) const;
  std::uint64_t behind(const Island &island) const;

  const std::uint64_t steps;
  const std::string site;
  std::vector<Island> islands;
  std::map<std::uint32_t, std::uint64_t> versions; ///< newest, by fragment
  std::optional<double> bytesSeconds;              ///< when bytes were told
  std::uint64_t outerSteps = 0;
  std::uint64_t epoch = 0;
  std::string primary, backup;                 ///< sites
  std::map<std::string, std::uint64_t> counts; ///< of events, by kind
  std::deque<nlohmann::json> newest;           ///< events
};

/// In the text format that Prometheus reads, from what `toJson` gave.
std::string prometheusText(const nlohmann::json &status);

} // namespace tombolo::runtime

#endif // TOMBOLO_TOOLS_TOMBOLORUN_RUNSTATE_H
