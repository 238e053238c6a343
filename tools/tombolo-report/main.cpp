//===- main.cpp - a page about plans and runs -----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Inputs.h"
#include "Page.h"
#include "Round.h"
#include "Timeline.h"

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/sim/Json.h"
#include "tombolo/runtime/sim/Simulate.h"

#include <filesystem>
#include <iostream>

using namespace tombolo;
using namespace tombolo::report;
using runtime::Error;
using runtime::Status;

namespace {

/// Rounds of more steps are not simulated here: some seconds.
constexpr std::uint64_t kMostSteps = 100'000;

struct Files {
  std::vector<std::string> plans, planFigures, simFigures, traces, metrics;
};

/// The file that was given for plan `i`; empty: none.
std::string fileOf(const std::vector<std::string> &files, std::size_t i) {
  return i < files.size() ? files[i] : "";
}

/// One step, one round, and their figures, as far as they are not `given` by a
/// file; or why there are none.
void simulate(const runtime::Plan &plan, bool stepGiven, bool figuresGiven,
              Json &entry, Json &missing) {
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
  } catch (const Error &error) {
    missing["timeline"] = missing["round"] = missing["simulation"] =
        std::string("it cannot be simulated: ") + error.what();
    return;
  }
  if (entry["round"].is_null())
    missing["round"] = plan.has_server()
                           ? "there is no line between sites"
                           : "one island trains alone: nothing is exchanged";
}

/// What the page shows of plan `i`, and what it says about what is not there.
Json readEntry(const Files &files, std::size_t i) {
  const std::string &path = files.plans[i];
  runtime::Plan plan = runtime::readPlan(path);
  Json entry = {{"name", std::filesystem::path(path).filename().string()},
                {"plan", planJson(plan)}};
  for (const char *part : {"timeline", "round", "simulation", "search", "run"})
    entry[part] = nullptr;
  Json missing = Json::object();

  std::string sim = fileOf(files.simFigures, i);
  std::string trace = fileOf(files.traces, i);
  simulate(plan, !trace.empty(), !sim.empty(), entry, missing);
  if (!sim.empty())
    entry["simulation"] = readSimFigures(sim, plan);
  if (!trace.empty())
    entry["timeline"] = readTrace(trace, plan);
  if (std::string file = fileOf(files.planFigures, i); !file.empty())
    entry["search"] = readPlanFigures(file, plan);
  else
    missing["search"] = "give the file that tombolo-plan --json wrote: "
                        "tombolo-report p.plan --json plan.json";
  if (std::string file = fileOf(files.metrics, i); !file.empty())
    entry["run"] = readMetrics(file, plan);
  else
    missing["run"] = "give the file that tombolo-run --metrics wrote: "
                     "tombolo-report p.plan --metrics metrics.jsonl";
  entry["missing"] = std::move(missing);
  return entry;
}

int run(int argc, char **argv) {
  runtime::CommandLine app(
      "writes one page about plans, simulations and runs, which a browser "
      "opens from disk",
      "tombolo-report",
      {"tombolo-report p.plan --json plan.json --metrics metrics.jsonl "
       "-o report.html"});
  Files files;
  std::string output, title;
  app.add_option("plan", files.plans,
                 "plans, from tombolo-plan; several stand side by side")
      ->required();
  auto perPlan = [&](const char *name, std::vector<std::string> &to,
                     const char *what) {
    return app
        .add_option(name, to,
                    std::string(what) + "; given several times, the n-th is "
                                        "of the n-th plan ('' for none)")
        ->take_all()
        ->allow_extra_args(false);
  };
  perPlan("--json", files.planFigures,
          "what tombolo-plan --json wrote: the strategy and the alternatives");
  perPlan("--sim", files.simFigures,
          "what tombolo-sim --json wrote, instead of a round without failures");
  perPlan("--trace", files.traces,
          "what tombolo-sim --trace wrote, instead of one step");
  perPlan("--metrics", files.metrics, "what tombolo-run --metrics wrote");
  app.add_option("--title", title, "the page's title");
  app.add_option("-o,--output", output, "the page")->required();
  app.callback([&] {
    for (auto [name, given] : {std::pair("--json", &files.planFigures),
                               {"--sim", &files.simFigures},
                               {"--trace", &files.traces},
                               {"--metrics", &files.metrics}})
      if (given->size() > files.plans.size())
        throw CLI::ValidationError(
            name, "expected at most one for each of " +
                      std::to_string(files.plans.size()) + " plans");
  });
  int status = 0;
  if (!app.parseArguments(argc, argv, status))
    return status;
  Json plans = Json::array();
  for (std::size_t i = 0; i < files.plans.size(); ++i)
    plans.push_back(readEntry(files, i));
  Json data = {{"format", 1}, {"title", title}, {"plans", std::move(plans)}};
  runtime::writeFile(output, makePage(std::move(data)));
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  try {
    return run(argc, argv);
  } catch (const Error &error) {
    std::cerr << "tombolo-report: error: " << error.what() << "\n";
    return error.exitStatus();
  } catch (const std::exception &error) {
    std::cerr << "tombolo-report: error: " << error.what() << "\n";
    return static_cast<int>(Status::BadInput);
  }
}
