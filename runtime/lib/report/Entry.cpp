//===- Entry.cpp - all that the page shows of a plan ----------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Inputs.h"
#include "PlanJson.h"
#include "Round.h"
#include "Timeline.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/sim/Json.h"
#include "tombolo/runtime/sim/Simulate.h"

namespace tombolo::report {

/// Rounds of more steps are not simulated here: some seconds.
static constexpr std::uint64_t kMostSteps = 100'000;

/// One step, one round, and their figures, as far as they are not `given` by a
/// file; or why there are none.
static void simulate(const runtime::Plan &plan, bool stepGiven,
                     bool figuresGiven, Json &entry, Json &missing) {
  if (!plan.has_topology()) {
    missing["timeline"] = missing["round"] = missing["simulation"] =
        "the plan has no topology, so it cannot be simulated; plans that "
        "tombolo-plan writes have one";
    return;
  }
  std::uint64_t steps = plan.has_server() ? plan.server().inner_steps() : 1;
  try {
    if (!stepGiven)
      entry["timeline"] = timelineJson(plan);
    if (steps > kMostSteps) {
      missing["round"] = missing["simulation"] =
          "a round has " + std::to_string(steps) +
          " inner steps, which would take long; give figures of tombolo-sim "
          "--json with --sim";
      return;
    }
    entry["round"] = roundJson(plan);
    if (!figuresGiven)
      entry["simulation"] =
          runtime::sim::toJson(plan, runtime::sim::simulate(plan, {}));
  } catch (const runtime::Error &error) {
    missing["timeline"] = missing["round"] = missing["simulation"] =
        std::string("it cannot be simulated: ") + error.what();
    return;
  }
  if (entry["round"].is_null())
    missing["round"] = plan.has_server()
                           ? "there is no line between sites"
                           : "one island trains alone: nothing is exchanged";
}

Json makeEntry(const std::string &name, const runtime::Plan &plan,
               const Files &files) {
  Json entry = {{"name", name}, {"plan", planJson(plan)}};
  for (const char *part : {"timeline", "round", "simulation", "search", "run"})
    entry[part] = nullptr;
  Json missing = Json::object();
  simulate(plan, !files.trace.empty(), !files.simFigures.empty(), entry,
           missing);
  if (!files.simFigures.empty())
    entry["simulation"] = readSimFigures(files.simFigures, plan);
  if (!files.trace.empty())
    entry["timeline"] = readTrace(files.trace, plan);
  if (!files.planFigures.empty())
    entry["search"] = readPlanFigures(files.planFigures, plan);
  else
    missing["search"] = "give the file that tombolo-plan --json wrote: "
                        "tombolo-report p.plan --json plan.json";
  if (!files.metrics.empty())
    entry["run"] = readMetrics(files.metrics, plan);
  else
    missing["run"] = "give the file that tombolo-run --metrics wrote: "
                     "tombolo-report p.plan --metrics metrics.jsonl";
  entry["missing"] = std::move(missing);
  return entry;
}

} // namespace tombolo::report
