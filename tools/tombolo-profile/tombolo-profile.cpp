//===- tombolo-profile.cpp - a chip's profile, measured or fitted ---------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Fitting.h"
#include "Measuring.h"

#include "tombolo/runtime/CommandLine.h"
#include "tombolo/runtime/Error.h"

#include <iostream>
#include <sstream>

using namespace tombolo;

int main(int argc, char **argv) {
  // One of the processes that this program starts.
  if (argc > 1 && std::string(argv[1]) == "worker")
    return runWorker(argc - 1, argv + 1);
  FitOptions fitting;
  MeasureOptions measuring;
  runtime::CommandLine app(
      "measures what a plan uses of this machine, or fits constants to "
      "measured iterations, and writes a chip profile, which a chip of "
      "sites.yaml names: profile: {file: core.yaml} (docs/Profiles.md)",
      "tombolo-profile",
      {"tombolo-profile --for p.plan --chip core -o core.yaml",
       "tombolo-profile --for m.onnx --ranks 2 --chip core -o core.yaml",
       "tombolo-profile -o core.yaml",
       "tombolo-profile --fit runs.csv --topology sites.yaml -o a100.yaml"});
  CLI::Option *table =
      app.add_option("--fit", fitting.table,
                     "table of measured iterations, CSV, to fit constants to");
  CLI::Option *plans =
      app.add_option("--for", measuring.plans,
                     "measure what the ranks of this plan call, side by side "
                     "as they would be on this machine, or what those of any "
                     "layout of a model (.onnx) would; may be given several "
                     "times; default: rates of no model in particular")
          ->take_all();
  plans->excludes(table);
  auto onlyFit = [&](CLI::Option *option) { option->needs(table); };
  auto onlyMeasure = [&](CLI::Option *option) { option->excludes(table); };
  onlyMeasure(
      app.add_option("--device", measuring.device, "what runs the kernels here")
          ->check(CLI::IsMember({"cpu"}))
          ->capture_default_str());
  onlyMeasure(app.add_option("--ranks", measuring.ranks,
                             "ranks that share this machine; default: all of "
                             "the plan on the chip (ranks of several threads "
                             "whose pool has cores_per_node: those that have "
                             "cores)")
                  ->check(runtime::positiveNumber()));
  onlyMeasure(app.add_option("--threads", measuring.threads,
                             "threads per rank; default: cores divided by "
                             "ranks")
                  ->check(runtime::positiveNumber()));
  onlyMeasure(app.add_option("--microbatches", measuring.microbatches,
                             "of the layouts of a model")
                  ->delimiter(',')
                  ->check(runtime::positiveNumber())
                  ->capture_default_str());
  std::string planOptions;
  onlyMeasure(app.add_option("--plan-options", planOptions,
                             "what tombolo-plan is told of a model, e.g. "
                             "'--precision f32 --bind T=128'"));
  onlyMeasure(app.add_option("--seconds", measuring.seconds,
                             "to measure each plan for, e.g. 10")
                  ->check(runtime::positiveNumber())
                  ->capture_default_str());
  CLI::Option *topology =
      app.add_option("--topology", fitting.topology,
                     "sites.yaml; its constants are where the fit begins");
  onlyFit(topology);
  app.add_option("--chip", fitting.chip, "the chip; default: the only one");
  onlyFit(app.add_option("--precision", fitting.precision, "of the runs")
              ->check(CLI::IsMember({"f32", "bf16"}))
              ->capture_default_str());
  onlyFit(app.add_option("--folds", fitting.folds,
                         "parts of the shapes to hold out in turn, where the "
                         "table does not say which; 1: none")
              ->capture_default_str());
  onlyFit(app.add_flag("--no-corrections", fitting.noCorrections,
                       "constants only, no corrections of single blocks"));
  onlyFit(app.add_flag("--whole-backward", fitting.wholeBackward,
                       "the runs' framework starts a stage's backward, what "
                       "it computes again included, when the gradient has "
                       "come, and sends on when all of it is done, as "
                       "Megatron-LM does; ranks of Tombolo do not"));
  onlyFit(app.add_option("--predictions", fitting.predictions,
                         "write measured and held-out predicted times, CSV"));
  app.add_option("-o,--output", fitting.output, "the chip profile to write")
      ->required();
  app.callback([&] {
    if (table->count() && !topology->count())
      throw CLI::RequiredError("--topology");
  });
  int status = 0;
  if (!app.parseArguments(argc, argv, status))
    return status;
  if (table->count())
    return fit(fitting);
  measuring.chip = fitting.chip;
  measuring.output = fitting.output;
  std::istringstream words(planOptions);
  for (std::string word; words >> word;)
    measuring.planOptions.push_back(word);
  try {
    measure(measuring);
    return 0;
  } catch (const runtime::Error &error) {
    std::cerr << "tombolo-profile: error: " << error.what() << "\n";
    return error.exitStatus();
  } catch (const std::exception &error) {
    std::cerr << "tombolo-profile: error: " << error.what() << "\n";
    return 3;
  }
}
