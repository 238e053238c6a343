//===- Options.cpp - the command line of tombolo-plan ---------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Options.h"

#include "tombolo/runtime/CommandLine.h"

#include <cmath>
#include <iostream>

namespace tombolo {
std::optional<PlanOptions> parseOptions(int argc, char **argv, int &status) {
  PlanOptions options;
  std::string emit;
  runtime::CommandLine app(
      "plans the training of an ONNX model on the sites of a topology",
      "tombolo-plan",
      {"tombolo-plan m.onnx --topology sites.yaml --global-batch 24 --lr 1e-3 "
       "-o p.plan --json plan.json"});
  // Needed but with a saved problem; CLI11 says so itself.
  std::vector<CLI::Option *> needed = {
      app.add_option("model", options.model, "the ONNX file"),
      app.add_option("--topology", options.topology, "sites.yaml")};
  needed.push_back(app.add_option("--global-batch", options.search.globalBatch,
                                  "samples per inner step over all islands")
                       ->check(runtime::positiveNumber()));
  app.add_option("-o,--output", options.output, "the plan to write");
  app.add_option("--bind", options.import.bindings,
                 "NAME=SIZE of a symbolic dimension")
      ->take_all();
  app.add_option("--batch-dim", options.import.batchDim,
                 "name of the batch dimension");
  app.add_option("--freeze", options.import.freeze,
                 "regular expression of parameters that are not trained")
      ->take_all();
  app.add_option("--loss", options.graph.loss,
                 "cross-entropy, mse (mean squared error), bce (binary "
                 "cross-entropy of logits), or output: the model's own output")
      ->check(CLI::IsMember({"cross-entropy", "mse", "bce", "output"}))
      ->capture_default_str();
  app.add_option("--label", options.graph.label, "name of the labels")
      ->capture_default_str();
  app.add_option(
         "--dropout", options.graph.dropout,
         "ratio of all dropouts of the model, 0 for none; default: what "
         "the model says; tombolo-run --seed seeds the masks")
      ->check(CLI::Range(0.0, 0.999999));
  app.add_option("--loss-mask", options.graph.lossMask,
                 "input of the data with a weight for each label, e.g. "
                 "loss_mask, f32: the loss is the sum of weighted losses / the "
                 "sum of weights; default: all weigh 1");
  app.add_option("--ignore-index", options.graph.ignoreIndex,
                 "labels of this value do not count")
      ->capture_default_str();
  auto real = [&](const char *name, double &value, const char *text) {
    app.add_option(name, value, text)->capture_default_str();
  };
  app.add_option("--optimizer", options.lowering.optimizer, "sgd or adamw")
      ->check(CLI::IsMember({"sgd", "adamw"}))
      ->capture_default_str();
  real("--lr", options.lowering.learningRate, "learning rate");
  real("--beta1", options.lowering.beta1, "adamw");
  real("--beta2", options.lowering.beta2, "adamw");
  real("--eps", options.lowering.epsilon, "adamw");
  CLI::Option *decay =
      app.add_option("--weight-decay", options.lowering.weightDecay,
                     "default: 0.01 for adamw, 0 for sgd");
  app.add_option(
         "--weight-decay-exclude", options.lowering.weightDecayExclude,
         "'vectors' (biases, scales of norms: parameters of one "
         "dimension), or a regular expression of names: parameters that "
         "do not decay; may be given several times; default: all decay")
      ->take_all();
  real("--momentum", options.lowering.momentum, "sgd");
  app.add_option("--lr-schedule", options.lowering.schedule,
                 "constant, or decay to 0 as cosine or linear")
      ->check(CLI::IsMember({"constant", "cosine", "linear"}))
      ->capture_default_str();
  app.add_option("--warmup-steps", options.lowering.warmupSteps,
                 "updates in which the learning rate rises to --lr")
      ->check(runtime::positiveNumber(/*zero=*/true))
      ->capture_default_str();
  app.add_option("--decay-steps", options.lowering.decaySteps,
                 "cosine, linear: the update, counted from the first, at which "
                 "the learning rate is 0")
      ->check(runtime::positiveNumber(/*zero=*/true))
      ->capture_default_str();
  app.add_option(
         "--clip-grad-norm", options.lowering.clipGradientNorm,
         "scale the mean gradients of a step down to this norm over all "
         "parameters, e.g. 1.0; default: no bound")
      ->check(runtime::positiveNumber());
  app.add_option("--precision", options.lowering.precision, "f32 or bf16")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  app.add_option("--strategy", options.search.strategy,
                 "strategy.yaml, wholly or in part; default: search");
  app.add_flag("--baseline", options.search.baseline,
               "equivalent compute also for a wholly given strategy");
  app.add_option("--objective", options.search.objective,
                 "throughput, or cost: least seconds x price_per_hour of the "
                 "chips used")
      ->check(CLI::IsMember({"throughput", "cost"}))
      ->capture_default_str();
  app.add_option(
         "--max-inner-steps", options.search.maxInnerSteps,
         "inner steps between two synchronisations at most; default: 16")
      ->check(runtime::positiveNumber());
  app.add_option("--max-overlap", options.search.maxOverlap,
                 "inner steps that an exchange between sites may take while "
                 "training goes on, at most; 0: it waits for all at once, in "
                 "one fragment; default: 5")
      ->check(runtime::positiveNumber(/*zero=*/true));
  app.add_option("--max-compression", options.search.maxCompression,
                 "coarsest compression between sites; default: int8")
      ->check(CLI::IsMember({"none", "bf16", "int8", "int4"}));
  app.add_option(
         "--max-wan-gbits", options.search.maxWanGbits,
         "mean rate of all that goes between sites at most; default: as "
         "the lines carry")
      ->check(runtime::positiveNumber());
  app.add_option("--simulate", options.search.simulate,
                 "of the best strategies that the search finds, as many are "
                 "lowered and run on a virtual clock, whose order decides; 0: "
                 "the cost model alone")
      ->check(runtime::positiveNumber(/*zero=*/true))
      ->capture_default_str();
  app.add_option("--search-nodes", options.search.searchNodes,
                 "nodes that the search of an island opens at most, for each "
                 "batch; default: 400")
      ->check(runtime::positiveNumber());
  app.add_option(
         "--search-seconds", options.search.searchSeconds,
         "take the best found after so long, as after an interrupt; the "
         "plan is then not the same each time")
      ->check(runtime::positiveNumber());
  app.add_flag("--explain", options.search.explain,
               "say what limits the plan, what others there are, what more "
               "memory or faster wires would buy; searches several times");
  app.add_option("--dump-problem", options.search.dumpProblem,
                 "write the planning problem to this file");
  CLI::Option *saved = app.add_option(
      "--problem", options.problem,
      "plan a problem that --dump-problem wrote: the strategy alone, no plan");
  app.add_option("--json", options.json, "write the figures to this file");
  app.add_option("--emit", emit,
                 "stop there and print: graph, topo, dist, plan")
      ->check(CLI::IsMember({"graph", "topo", "dist", "plan"}));
  app.add_option("--dump-phases-to", options.dumpPhasesTo,
                 "folder for the IR after each pass");
  CLI::Option *schema =
      app.add_option("--print-schema", options.printSchema,
                     "print the JSON Schema of a file, for editors: sites "
                     "(sites.yaml) or strategy (strategy.yaml)")
          ->check(CLI::IsMember({"sites", "strategy"}));
  for (CLI::Option *option : needed) {
    saved->excludes(option);
    schema->excludes(option);
  }
  schema->excludes(saved);
  // They stand in it.
  for (const char *bound :
       {"--objective", "--max-inner-steps", "--max-overlap",
        "--max-compression", "--max-wan-gbits", "--simulate", "--search-nodes",
        "--search-seconds", "--precision", "--optimizer"})
    saved->excludes(app.get_option(bound));
  app.callback([&] {
    for (CLI::Option *option : needed)
      if (saved->count() + schema->count() + option->count() == 0)
        throw CLI::RequiredError(option->get_name());
  });
  if (!app.parseArguments(argc, argv, status))
    return std::nullopt;
  if (!options.printSchema.empty())
    return options;
  if (!options.problem.empty() && !(emit.empty() && options.output.empty())) {
    std::cerr << "tombolo-plan: error: a saved problem has no model to make a "
                 "plan of; leave out -o and --emit\n";
    status = 2;
    return std::nullopt;
  }
  if (options.problem.empty() && emit.empty() && options.output.empty()) {
    std::cerr << "tombolo-plan: error: expected -o FILE or --emit LEVEL\n";
    status = 2;
    return std::nullopt;
  }
  if (decay->count() == 0 && options.lowering.optimizer == "sgd")
    options.lowering.weightDecay = 0; // as torch.optim.SGD
  options.emit = emit == "graph"  ? Emit::Graph
                 : emit == "topo" ? Emit::Topo
                 : emit == "dist" ? Emit::Dist
                 : emit == "plan" ? Emit::Plan
                                  : Emit::File;
  return options;
}

} // namespace tombolo
