//===- main.cpp - a page about plans and runs -----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Inputs.h"
#include "Page.h"
#include "Round.h"
#include "Timeline.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/sim/Json.h"
#include "tombolo/runtime/sim/Simulate.h"

#include <CLI/CLI.hpp>

#include <filesystem>
#include <iostream>

using namespace tombolo;
using namespace tombolo::report;
using runtime::Error;
using runtime::Status;

namespace {

struct Files {
  std::vector<std::string> plans, planFigures, simFigures, metrics;
};

/// The file that was given for plan `i`; empty: none.
std::string fileOf(const std::vector<std::string> &files, std::size_t i) {
  return i < files.size() ? files[i] : "";
}

Json readEntry(const Files &files, std::size_t i) {
  const std::string &path = files.plans[i];
  runtime::Plan plan = runtime::readPlan(path);
  Json entry = {{"name", std::filesystem::path(path).filename().string()},
                {"plan", planJson(plan)}};

  // What the page says about what is not there.
  Json missing = Json::object();
  entry["timeline"] = entry["round"] = entry["simulation"] = nullptr;
  std::string sim = fileOf(files.simFigures, i);
  if (!plan.has_topology()) {
    missing["timeline"] = missing["round"] = missing["simulation"] =
        "the plan has no topology, so it cannot be simulated; plans that "
        "tombolo-plan writes have one";
  } else {
    try {
      entry["timeline"] = timelineJson(plan);
      entry["round"] = roundJson(plan);
      if (sim.empty())
        entry["simulation"] =
            runtime::sim::toJson(plan, runtime::sim::simulate(plan, {}));
    } catch (const Error &error) {
      missing["timeline"] = missing["round"] = missing["simulation"] =
          std::string("it cannot be simulated: ") + error.what();
    }
    if (entry["round"].is_null() && !missing.contains("round"))
      missing["round"] = plan.has_server()
                             ? "there is no line between sites"
                             : "one island trains alone: nothing is exchanged";
  }
  if (!sim.empty()) {
    entry["simulation"] = readSimFigures(sim, plan);
    missing.erase("simulation");
  }

  std::string figures = fileOf(files.planFigures, i);
  if (figures.empty())
    missing["search"] = "give the file that tombolo-plan --json wrote: "
                        "tombolo-report p.plan --json plan.json";
  entry["search"] =
      figures.empty() ? Json(nullptr) : readPlanFigures(figures, plan);

  std::string metrics = fileOf(files.metrics, i);
  if (metrics.empty())
    missing["run"] = "give the file that tombolo-run --metrics wrote: "
                     "tombolo-report p.plan --metrics metrics.jsonl";
  entry["run"] = metrics.empty() ? Json(nullptr) : readMetrics(metrics, plan);
  entry["missing"] = std::move(missing);
  return entry;
}

int run(int argc, char **argv) {
  CLI::App app("Writes one page about plans, simulations and runs, which a "
               "browser opens from disk.",
               "tombolo-report");
  app.footer("example:\n"
             "  tombolo-report p.plan --json plan.json --metrics m.jsonl "
             "-o report.html");
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
  perPlan("--metrics", files.metrics, "what tombolo-run --metrics wrote");
  app.add_option("--title", title, "the page's title");
  app.add_option("-o,--output", output, "the page")->required();
  try {
    app.parse(argc, argv);
    for (auto [name, given] : {std::pair("--json", &files.planFigures),
                               {"--sim", &files.simFigures},
                               {"--metrics", &files.metrics}})
      if (given->size() > files.plans.size())
        throw CLI::ValidationError(
            name, "expected at most one for each of " +
                      std::to_string(files.plans.size()) + " plans");
  } catch (const CLI::ParseError &error) {
    bool help = error.get_exit_code() == 0;
    app.exit(error);
    return help ? 0 : static_cast<int>(Status::Usage);
  }
  Json plans = Json::array();
  for (std::size_t i = 0; i < files.plans.size(); ++i)
    plans.push_back(readEntry(files, i));
  Json data = {{"format", 1}, {"title", title}, {"plans", std::move(plans)}};
  runtime::writeFile(output, makePage(data));
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
