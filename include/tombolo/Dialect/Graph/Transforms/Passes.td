//===- Passes.td - passes of the graph dialect -------------*- tablegen -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_TRANSFORMS_PASSES_TD
#define TOMBOLO_DIALECT_GRAPH_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

def GraphAppendLoss : Pass<"graph-append-loss", "::mlir::ModuleOp"> {
  let summary = "add the loss and its labels to the model";
  let description = [{
    The *loss* is a sum over samples and the *weight* the number of what was
    summed. The pass takes the result of @main named `logits`, or else the
    first one, adds an argument for the labels and makes @main return the sum
    of losses and the sum of weights.

    `cross-entropy` takes `[batch..., classes]` and i64 labels `[batch...]`;
    `mse` and `bce` (binary cross-entropy of logits) take labels like the
    result and count every element. `output` takes the result named `loss`, or
    the first, as the loss itself and adds no labels: one number for each
    sample, or one that is a mean over the samples of a microbatch and counts
    as many times.

    Precondition: @main has a float result of such a shape.
    Postcondition: @main returns two `tensor<f32>`, one argument carries
    `graph.label` (none for `output`); the other outputs of the model are
    dropped.
  }];
  let options = [
    Option<"kind", "kind", "std::string", /*default=*/"\"cross-entropy\"",
           "cross-entropy, mse, bce or output">,
    Option<"label", "label", "std::string", /*default=*/"\"labels\"",
           "name of the labels among the model's inputs">,
    Option<"mask", "mask", "std::string", /*default=*/"\"\"",
           "name of an input with the weights of labels; empty: all weigh 1">,
    Option<"ignoreIndex", "ignore-index", "int64_t", /*default=*/"-100",
           "labels of this value do not count">,
  ];
  let dependentDialects = ["::tombolo::graph::GraphDialect"];
}

def GraphAssignDropout : Pass<"graph-assign-dropout", "::mlir::ModuleOp"> {
  let summary = "give all dropouts one ratio";
  let description = [{
    Precondition: none. Postcondition: with a ratio of 0 or more every
    `graph.dropout` has it; with 0 there is none, and no argument for what masks
    depend on.
  }];
  let options = [Option<"ratio", "ratio", "double", /*default=*/"-1.0",
                        "the ratio, below 1; below 0: as the model says">];
  let dependentDialects = ["::tombolo::graph::GraphDialect"];
}

def GraphSpecializeBatch : Pass<"graph-specialize-batch", "::mlir::ModuleOp"> {
  let summary = "give the batch dimension a size";
  let description = [{
    Precondition: none. Postcondition: no type in any function has a dynamic
    dimension or a `#graph.batch`.
  }];
  let options = [
    Option<"batch", "batch", "int64_t", /*default=*/"1", "samples">,
  ];
}

def GraphLowerPrecision : Pass<"graph-lower-precision", "::mlir::ModuleOp"> {
  let summary = "store activations and feed matrix products in bf16";
  let description = [{
    Works on the three functions of each block. Matrix products take bf16
    operands; activations, saved and carried values are bf16, except those an
    op needs in f32 (statistics of norms and attention, what a loss is taken
    of). Parameters stay f32 and are cast where they are used; gradients of
    parameters are computed in f32.

    Precondition: blocks are differentiated and f32.
    Postcondition: the arguments of a block's functions agree with each other
    as docs/Architecture.md says.
  }];
  let dependentDialects = ["::tombolo::graph::GraphDialect"];
}

def GraphFindBlocks : Pass<"graph-find-blocks", "::mlir::ModuleOp"> {
  let summary = "outline the model's distinct blocks as functions";
  let description = [{
    A *cut* is a place in @main that exactly one float value computed before it
    crosses; parameters, constants, what is computed of them alone, and model
    inputs do not count. A *segment* is what lies between two cuts. A *block* is
    the smallest run of segments that repeats directly after itself; what
    remains before, between and after repeating runs is one block each. Where
    nothing repeats, each segment with parameters is a block, together with the
    segments without parameters that follow it.

    Two blocks are the same when ops, attributes, types and wiring agree;
    parameters agree by type and by being frozen or not. Same blocks become one
    function, with the cost of the pass linear in the ops of the model and
    quadratic only in its cuts.

    Precondition: one @main without calls.
    Postcondition: @main is a chain of calls of private functions that carry
    `graph.block` (docs/Architecture.md).
  }];
  let dependentDialects = ["::mlir::func::FuncDialect", "::tombolo::graph::GraphDialect"];
}

def GraphDifferentiate : Pass<"graph-differentiate", "::mlir::ModuleOp"> {
  let summary = "give each distinct block its forward and backward functions";
  let description = [{
    A value is *saved* when a backward function uses it, it is no argument of
    the block, and it is no view or constant that can be had again for nothing;
    it is *carried* when the backward by weight uses what the backward by input
    computes. The gradient of an argument is the sum over its uses. An op whose
    gradient is needed but not known is an error at the op. A parameter that no
    gradient reaches becomes frozen, with a remark.

    Precondition: @main is a chain of blocks whose first result is the loss.
    Postcondition: each block names its three functions, whose arguments and
    results are those of docs/Architecture.md.
  }];
  let dependentDialects = ["::mlir::func::FuncDialect", "::tombolo::graph::GraphDialect"];
}

def GraphInferShapes : Pass<"graph-infer-shapes", "::mlir::ModuleOp"> {
  let summary = "recompute the types of results from those of arguments";
  let description = [{
    For IR whose argument types were changed, by hand or by a pass: types of
    results, calls and functions follow. Where a type is written out, a reshape
    keeps all dimensions but the batch (else the first), a broadcast those that
    its operand has not.

    `inputs` changes inputs of @main first: another sequence length, say, or a
    batch that is constant.

    Precondition: functions do not call themselves.
    Postcondition: the module verifies, or an error stands at the op whose type
    cannot follow.
  }];
  let options = [
    ListOption<"inputs", "inputs", "std::string",
               "NAME=SIZExSIZE...: new shapes of inputs; ? is the batch">,
  ];
}

def GraphFoldConstants : Pass<"graph-fold-constants"> {
  let summary = "compute what is known at compile time";
  let description = [{
    A value is *known* when it is computed from constants alone. Elementwise
    ops, transposes and slices of known values become constants, a choice by a
    known condition its branch. Ops that are simpler because of a constant are
    replaced: a gather at known, equally spaced indices becomes a slice, slices
    that share out an axis one split, and elementwise ops read what is
    broadcast for them directly.

    Causal masks stay ops, so that they cost nothing until needed.

    Precondition: none. Postcondition: none of the above applies.
  }];
  let dependentDialects = ["::tombolo::graph::GraphDialect"];
}

def GraphFusePatterns : Pass<"graph-fuse-patterns"> {
  let summary = "one op for what exporters decompose";
  let description = [{
    A *pattern* is a group of ops that compute what one op of the dialect
    computes, with inner values that nothing else reads. Fused are layer norm,
    GELU (by erf and by tanh), the bias of a matrix product, transposes of its
    operands, and scaled attention with a causal mask or none. Attention with
    any other mask stays decomposed.

    Precondition: none; patterns whose constants are folded are found.
    Postcondition: no pattern is left.
  }];
  let dependentDialects = ["::tombolo::graph::GraphDialect"];
}

def GraphPrintShardingRules : Pass<"graph-print-sharding-rules"> {
  let summary = "a remark with its sharding rule on each op that can have one";
  let description = [{
    Factors have letters; a dimension is its factors from major to minor, 1 one
    without factors. `whole` factors cannot be split, `consecutive` ones only
    in consecutive parts, results without a `reduced` factor are partial sums,
    the op itself exchanges data for an `exchanged` one. Behind `linear` stand
    the sets of operands in which the op is linear together.

    Precondition: none. Postcondition: the IR is unchanged.
  }];
}

def GraphTestShardingRules : Pass<"graph-test-sharding-rules", "::mlir::ModuleOp"> {
  let summary = "write out the local ops of all choices, to be evaluated";
  let description = [{
    For each function whose last op before the return has a rule, one function
    for each choice of a factor, with outer 1, 2 and 3 where possible, on 2, 3
    and 4 chips: what a chip computes of that op. Attributes `test.*` tell the
    states of operands and results. Ops of the dialect that can have a rule and
    are in no function are listed on the module.

    Precondition: functions have arguments, constants, one op, and a return of
    all its results. Postcondition: the original functions are unchanged but for
    attributes.
  }];
  let dependentDialects = ["::mlir::func::FuncDialect", "::tombolo::graph::GraphDialect"];
}

#endif // TOMBOLO_DIALECT_GRAPH_TRANSFORMS_PASSES_TD
