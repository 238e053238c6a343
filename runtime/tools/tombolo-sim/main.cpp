//===- main.cpp - runs a plan on a virtual clock------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Report.h"

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/sim/Json.h"
#include "tombolo/runtime/sim/Trace.h"

#include <iostream>

using namespace tombolo::runtime;

namespace {

int run(int argc, char **argv) {
  CommandLine app(
      "runs a plan on a virtual clock and tells where its time goes",
      "tombolo-sim",
      {"tombolo-sim p.plan --rounds 100 --fail north@600+120 --json s.json"});
  std::string planFile, traceFile, jsonFile, lineTrace;
  std::uint64_t rounds = 0, steps = 0;
  std::vector<std::string> fails, slow;
  sim::SimOptions options;
  bool unfolded = false, noReplay = false;
  app.add_option("plan", planFile, "the plan, from tombolo-plan")->required();
  CLI::Option *byRounds =
      app.add_option("--rounds", rounds,
                     "rounds to simulate (without a server, inner steps); 3 "
                     "(1) where nothing is said. Figures are those behind the "
                     "first of several rounds")
          ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 32));
  app.add_option("--steps", steps, "inner steps to simulate instead")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40))
      ->excludes(byRounds);
  app.add_option("--fail", fails,
                 "SITE@SECONDS[+DURATION]: the site is gone from then on, for "
                 "so long; SITE/POOL: a chip there; server:SITE; "
                 "line:SITE,SITE. May be given several times")
      ->take_all();
  app.add_option("--restart-seconds", options.restartSeconds,
                 "from the return of chips to their first step")
      ->check(positiveNumber(/*zero=*/true))
      ->capture_default_str();
  app.add_option("--snapshot-steps", options.snapshotSteps,
                 "without a server: steps between the snapshots that an island "
                 "goes on from (0: none)")
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--slow", slow,
                 "SITE/POOL[:CHIP]=FACTOR: all chips of the pool, or one, take "
                 "so many times as long. May be given several times")
      ->take_all();
  app.add_option("--jitter", options.jitter,
                 "each call takes 1 + JITTER z times its seconds, z standard "
                 "normal")
      ->check(positiveNumber(/*zero=*/true))
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--seed", options.seed, "of what is random")
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 62))
      ->capture_default_str();
  app.add_option("--line-trace", lineTrace,
                 "CSV file seconds,first,second,gbits_per_second: what a line "
                 "carries each way from then on");
  app.add_option("--trace", traceFile,
                 "write what happens for Perfetto; every step is then simulated");
  app.add_option("--json", jsonFile, "write the figures (-: to stdout)");
  app.add_flag("--unfolded", unfolded,
               "simulate every rank, also where one stands for many (slow)");
  app.add_flag("--no-replay", noReplay,
               "simulate every step, also where one is like another (slow)");
  int status = 0;
  if (!app.parseArguments(argc, argv, status))
    return status;
  for (const std::string &text : fails)
    options.faults.push_back(sim::parseFault(text));
  for (const std::string &text : slow)
    options.stragglers.push_back(sim::parseStraggler(text));
  Plan plan = readPlan(planFile);
  if (!lineTrace.empty())
    options.lineChanges = sim::readLineTrace(lineTrace);
  options.fold = !unfolded;
  options.replay = !noReplay;
  options.steps = steps;
  if (rounds > 0)
    options.steps =
        rounds * (plan.has_server() ? plan.server().inner_steps() : 1);
  std::unique_ptr<sim::TraceFile> trace;
  if (!traceFile.empty())
    trace = sim::openTrace(traceFile);
  options.trace = trace.get();
  sim::SimResult result = sim::simulate(plan, options);
  for (const std::string &warning : result.warnings)
    std::cerr << "tombolo-sim: warning: " << warning << "\n";
  if (trace)
    trace->close();
  if (jsonFile == "-") {
    std::cout << sim::toJson(plan, result).dump(2) << "\n";
  } else {
    if (!jsonFile.empty())
      writeFile(jsonFile, sim::toJson(plan, result).dump(2) + "\n");
    sim::printTable(std::cout, plan, result);
  }
  if (!std::cout.flush())
    throw Error(Status::BadInput, "the output cannot be written");
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  try {
    return run(argc, argv);
  } catch (const Error &error) {
    std::cerr << "tombolo-sim: error: " << error.what() << "\n";
    return error.exitStatus();
  } catch (const std::exception &error) {
    std::cerr << "tombolo-sim: error: " << error.what() << "\n";
    return static_cast<int>(Status::BadInput);
  }
}
