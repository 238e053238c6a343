//===- Passes.td - passes on the dist dialect ---------*- tablegen -*- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_DIST_TRANSFORMS_PASSES_TD
#define TOMBOLO_DIALECT_DIST_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

def DistPartitionStages : Pass<"dist-partition-stages", "::mlir::ModuleOp"> {
  let summary = "gives every stage its blocks and their parameters";
  let description = [{
    Walks the chain of block calls in `@main` and writes into each `dist.stage`
    one `dist.run` for each maximal sequence of calls of one block function in one
    chunk.
    A parameter is *tied* if several calls read it; a call that reads a tied
    parameter is a run of its own. The stages of these calls each have a copy.

    Precondition: one `dist.strategy`, and `@main` as `graph-find-blocks` leaves
    it. Postcondition: every stage has runs. Fails when the
    strategy's blocks do not add up to the model's, or when it asks for what
    cannot be lowered yet.
  }];
  let dependentDialects = ["::tombolo::dist::DistDialect"];
}

def DistSpecializeBlocks : Pass<"dist-specialize-blocks", "::mlir::ModuleOp"> {
  let summary = "static block functions, once for each microbatch, precision and degree";
  let description = [{
    Clones the three functions of each block that a stage runs, binds their
    batch dimension to the island's microbatch and lowers their precision; equal
    combinations of these and of the stage's tensor-parallel degree, with which
    the strategy's seeds go, share the clones.

    Precondition: `dist-partition-stages` and `graph-differentiate` have run.
    Postcondition: every `dist.run` names its three functions.
  }];
  let options = [
    Option<"precision", "precision", "std::string", "\"f32\"", "f32 or bf16">];
  let dependentDialects = ["::tombolo::dist::DistDialect", "::mlir::func::FuncDialect"];
}

def DistPropagateShardings : Pass<"dist-propagate-shardings", "::mlir::ModuleOp"> {
  let summary = "decides what every op of a block splits over a replica's chips";
  let description = [{
    A *seed* says how a data argument, parameter or result of a block lies on
    the chips, or what one op splits; the strategy's `dist.sharding` has them.
    From these the choice of every other op of the block's three functions
    follows: an op takes what agrees with the states of its operands and with
    those its results will be wanted in, and is then changed to whatever makes
    the block cheaper: parameters stay where they are, then the fewest bytes
    are sent per microbatch, in the fewest collectives, then the fewest per
    step, then the least is computed. Saved
    and carried values keep the state they are made in; gradients of boundary
    values are in the states of these, gradients of parameters in those of the
    parameters, or partial sums where the parameter is whole.

    Precondition: `dist-specialize-blocks` has run, and `@main` is the chain of
    calls. Seeds are for the functions with their batch symbolic: the batch is
    never split. Postcondition: in stages of several chips per replica, ops that
    split something have `graph.choice`, arguments and results of the forward
    function `graph.split`, functions `graph.choices_over`; nothing else has
    changed. Fails, at the place in the strategy's file, for an unknown block or
    parameter, a dimension that is not there or that the degree does not divide,
    blocks that disagree about the tensor between them, and a parameter of
    several blocks that they split differently.
  }];
  let dependentDialects = ["::tombolo::dist::DistDialect", "::tombolo::graph::GraphDialect",
                           "::mlir::func::FuncDialect"];
}

def DistInsertCollectives : Pass<"dist-insert-collectives", "::mlir::ModuleOp"> {
  let summary = "rewrites block functions to what one chip of a replica computes";
  let description = [{
    Makes types local and converts a value where a user wants another state than
    it is made in: each state once, where it is first read; to whole first when
    whole is wanted, or when that costs no more. Partial sums are added before
    they are summed over the chips. Collectives of a kind that can stand in one
    place, of up to 1 MiB each, are one.

    Precondition: `dist-propagate-shardings` has run. Postcondition: functions
    of stages of several chips per replica have `graph.tensor_parallel` and local
    types; split arguments and results have `graph.split`; a result of the
    backward function by weight that is still to be summed over the chips, once
    per step, has `graph.partial`.
  }];
  let dependentDialects = ["::tombolo::dist::DistDialect", "::tombolo::graph::GraphDialect",
                           "::mlir::func::FuncDialect"];
}

def DistInstantiateOptimizer : Pass<"dist-instantiate-optimizer", "::mlir::ModuleOp"> {
  let summary = "writes the optimizer of each stage as a function";
  let description = [{
    Lays a stage's trainable parameters out in one region and adds one
    `dist.update` for each range of it: a function that runs the optimizer once
    over the whole range, or over a replica's part of it where the stage has
    `optimizer_sharding`; the first also advances the number of updates. A range
    holds the parameters that are reduced and updated alike: those that the same
    stages share, those that decay or do not (which get the attribute
    `graph.undecayed`). Ranges of equal size share the function. Frozen
    parameters lie elsewhere and have no update.

    Precondition: `dist-partition-stages` has run.
  }];
  let options = [
    Option<"optimizer", "optimizer", "std::string", "\"adamw\"", "sgd or adamw">,
    Option<"learningRate", "lr", "double", "1e-3", "learning rate">,
    Option<"beta1", "beta1", "double", "0.9", "adamw: decay of the first moment">,
    Option<"beta2", "beta2", "double", "0.999", "adamw: decay of the second moment">,
    Option<"epsilon", "eps", "double", "1e-8", "adamw: added to the root">,
    Option<"weightDecay", "weight-decay", "double", "0.01", "decay of all parameters">,
    ListOption<"weightDecayExclude", "weight-decay-exclude", "std::string",
               "'vectors' (parameters of one dimension or none), or regular "
               "expressions of names: parameters that do not decay">,
    Option<"momentum", "momentum", "double", "0.0", "sgd: momentum">,
    Option<"schedule", "schedule", "std::string", "\"constant\"",
           "of the learning rate: constant, cosine or linear">,
    Option<"warmupSteps", "warmup-steps", "int64_t", "0",
           "updates until the learning rate is reached, of an island with the server's inner_steps">,
    Option<"decaySteps", "decay-steps", "int64_t", "0",
           "cosine, linear: the update at which the learning rate is 0, likewise">,
    Option<"clipGradientNorm", "clip-grad-norm", "double", "0.0",
           "bound of the norm of all gradients together; 0: none">];
  let dependentDialects = ["::tombolo::dist::DistDialect", "::tombolo::graph::GraphDialect",
                           "::mlir::func::FuncDialect"];
}

def DistPlaceServers : Pass<"dist-place-servers", "::mlir::ModuleOp"> {
  let summary = "decides the site of each fragment of the parameter server";
  let description = [{
    A fragment without a `dist.fragment` gets one. When another one has a backup,
    its sites are theirs. Else its primary is the first site of the islands that
    has hosts in the topology, or the first site when none has. Where nothing is
    placed by hand, it gets a backup at a site with hosts of at least as much
    memory, over the fastest line, if three sites or more can vote then: those of
    the islands and servers, and a further one as the witness where these are
    even (docs/Server.md, Primary and backup).
  }];
  let dependentDialects = ["::tombolo::dist::DistDialect"];
}

def DistSearchStrategy : Pass<"dist-search-strategy", "::mlir::ModuleOp"> {
  let summary = "finds the strategies that train fastest";
  let description = [{
    Loads the topology and the costs of the blocks into a planning problem,
    solves it, and writes the best strategies at the end of the module, best
    first (docs/Planning.md says what is searched). A strategy is a *candidate*
    if it fits into memory, can be routed and dealt out.

    `strategy` names a `strategy.yaml` whose parts are kept as they are; a whole
    one is only verified.

    Precondition: one `topo.topology`, and blocks as `graph-differentiate`
    leaves them. Postcondition: one `dist.strategy` or more, each accepted by
    `dist-verify` and with the figures `predicted` and `search`; a failure says
    what does not fit. Faults and ops of a given strategy have their places in
    its file.
  }];
  let options = [
    Option<"globalBatch", "global-batch", "uint64_t", "1",
           "samples per inner step over all islands">,
    Option<"precision", "precision", "std::string", "\"f32\"", "f32 or bf16">,
    Option<"stateBytes", "state-bytes", "uint64_t", "8",
           "optimizer state of a parameter in bytes (AdamW 8)">,
    Option<"solver", "solver", "std::string", "\"search\"",
           "what finds strategies: Tombolo's own search, or the name of a "
           "plugin's">,
    Option<"objective", "objective", "std::string", "\"throughput\"",
           "throughput, or cost: seconds x price per hour of the chips used">,
    Option<"maxInnerSteps", "max-inner-steps", "uint64_t", "0",
           "inner steps between two synchronisations at most (0: 16)">,
    Option<"maxOverlap", "max-overlap", "int64_t", "-1",
           "inner steps a fragment's exchange may take at most (-1: 5)">,
    Option<"maxCompression", "max-compression", "std::string", "\"\"",
           "coarsest compression between sites (none given: int8)">,
    Option<"maxWanGbits", "max-wan-gbits", "double", "0",
           "mean rate between sites at most (0: as the lines carry)">,
    Option<"schedule", "schedule", "std::string", "\"\"",
           "1f1b or gpipe (none given: searched)">,
    Option<"candidates", "candidates", "uint64_t", "1",
           "how many strategies to leave">,
    Option<"simulate", "simulate", "uint64_t", "0",
           "of the best, how many are lowered and run on a virtual clock, whose "
           "order decides (where the pipeline has a clock)">,
    Option<"searchNodes", "search-nodes", "uint64_t", "0",
           "nodes to open at most for each island (0: the default)">,
    Option<"searchSeconds", "search-seconds", "double", "0",
           "seconds after which the best found is taken (0: no limit)">,
    Option<"strategy", "strategy", "std::string", "\"\"",
           "a strategy.yaml whose parts are kept">,
    Option<"baseline", "baseline", "bool", "false",
           "equivalent compute also for a wholly given strategy">,
    Option<"dumpProblem", "dump-problem", "std::string", "\"\"",
           "write the planning problem to this file">,
    Option<"explain", "explain", "bool", "false",
           "write why the best strategy is as it is to the module's attribute "
           "dist.explanation; of an infeasible problem, what would help">];
  let dependentDialects = ["::tombolo::dist::DistDialect"];
}

def DistSelectStrategy : Pass<"dist-select-strategy", "::mlir::ModuleOp"> {
  let summary = "keeps one strategy and erases the others";
  let description = [{
    Precondition: one `dist.strategy` or more. Postcondition: exactly one, the
    one with the given index in the order of the module.
  }];
  let options = [Option<"index", "index", "uint64_t", "0", "which to keep">];
}

def DistVerify : Pass<"dist-verify", "::mlir::ModuleOp"> {
  let summary = "proves that strategies can be carried out";
  let description = [{
    Read-only. For each `dist.strategy`: blocks and batches add up, pools exist
    and have the chips, every transfer has a route, every stage fits into memory
    (with what it needs and what there is), the schedule does not wait for
    itself.

    Precondition: one `topo.topology`, and blocks as `graph-differentiate`
    leaves them (run it before `dist-specialize-blocks`).
  }];
  let options = [
    Option<"precision", "precision", "std::string", "\"f32\"", "f32 or bf16">,
    Option<"stateBytes", "state-bytes", "uint64_t", "8",
           "optimizer state of a parameter in bytes (AdamW 8)">];
}

#endif // TOMBOLO_DIALECT_DIST_TRANSFORMS_PASSES_TD
