//===- GraphDialect.td - the graph dialect ------------------*- tablegen -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_IR_GRAPHDIALECT_TD
#define TOMBOLO_DIALECT_GRAPH_IR_GRAPHDIALECT_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"

def Graph_Dialect : Dialect {
  let name = "graph";
  let cppNamespace = "::tombolo::graph";
  let summary = "what to compute: typed tensor ops";
  let description = [{
    A model as tensor ops on builtin ranked tensors. A dynamic dimension stands
    for the batch size times the `#graph.batch` multiple in the type's encoding
    (1 when absent); a type has at most one. All other dimensions are constants.
    Ops are pure. The names of ops that compute are those of the plan's segment
    ops (docs/PlanFormat.md), with the same operands, attributes and meaning.
  }];
  let useDefaultAttributePrinterParser = 1;
  let hasConstantMaterializer = 1;
}

class Graph_Attr<string name, string attrMnemonic> : AttrDef<Graph_Dialect, name> {
  let mnemonic = attrMnemonic;
}

def Graph_BatchAttr : Graph_Attr<"Batch", "batch"> {
  let summary = "the dynamic dimension is the batch size times `multiple`";
  let description = [{
    Encoding of a ranked tensor type with one dynamic dimension, e.g.
    `tensor<?x256xf32, #graph.batch<128>>` for 128 B rows. Never used with
    multiple 1: a type is written in one way only.
  }];
  let parameters = (ins "int64_t":$multiple);
  let assemblyFormat = "`<` $multiple `>`";
  let genVerifyDecl = 1;
}

#endif // TOMBOLO_DIALECT_GRAPH_IR_GRAPHDIALECT_TD
