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

    Precondition: @main has a float result `[batch..., classes]`.
    Postcondition: @main returns two `tensor<f32>`, one argument carries
    `graph.label`; the other outputs of the model are dropped.
  }];
  let options = [
    Option<"kind", "kind", "std::string", /*default=*/"\"cross-entropy\"",
           "the loss; only cross-entropy so far">,
    Option<"label", "label", "std::string", /*default=*/"\"labels\"",
           "name of the labels among the model's inputs">,
    Option<"ignoreIndex", "ignore-index", "int64_t", /*default=*/"-100",
           "labels of this value do not count">,
  ];
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

#endif // TOMBOLO_DIALECT_GRAPH_TRANSFORMS_PASSES_TD
