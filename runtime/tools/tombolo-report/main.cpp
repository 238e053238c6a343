//===- main.cpp - a page about plans and runs -----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/report/Report.h"

#include <filesystem>
#include <iostream>

using namespace tombolo;
using namespace tombolo::report;
using runtime::Error;
using runtime::Status;

namespace {

/// By plan.
struct FileLists {
  std::vector<std::string> plans, planFigures, simFigures, traces, metrics;
};

/// The file that was given for plan `i`; empty: none.
std::string fileOf(const std::vector<std::string> &files, std::size_t i) {
  return i < files.size() ? files[i] : "";
}

Json readEntry(const FileLists &files, std::size_t i) {
  const std::string &path = files.plans[i];
  return makeEntry(std::filesystem::path(path).filename().string(),
                   runtime::readPlan(path),
                   {.planFigures = fileOf(files.planFigures, i),
                    .simFigures = fileOf(files.simFigures, i),
                    .trace = fileOf(files.traces, i),
                    .metrics = fileOf(files.metrics, i)});
}

int run(int argc, char **argv) {
  runtime::CommandLine app(
      "writes one page about plans, simulations and runs, which a browser "
      "opens from disk",
      "tombolo-report",
      {"tombolo-report p.plan --json plan.json --metrics metrics.jsonl "
       "-o report.html"});
  FileLists files;
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
