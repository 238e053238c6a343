//===- GraphCollectiveOps.td - what chips do together ------*- tablegen -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Ops of the program of one chip, over the chips of its tensor-parallel
// replica, which all run it. `count` is their number; a leading dimension of
// that size holds one part per chip, in the order of their numbers. Splitting
// another dimension is a reshape and a transpose around these.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_IR_GRAPHCOLLECTIVEOPS_TD
#define TOMBOLO_DIALECT_GRAPH_IR_GRAPHCOLLECTIVEOPS_TD

include "tombolo/Dialect/Graph/IR/GraphDialect.td"
include "tombolo/Dialect/Graph/IR/GraphInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Graph_TensorIndexOp : Op<Graph_Dialect, "tensor_index", [Pure]> {
  let summary = "the chip's number in its tensor-parallel replica, from 0";
  let results = (outs 0DTensorOf<[I64]>:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
}

// Pure: every chip of a replica runs the same ops in the same order, so one
// that is not used is not used by any of them.
class Graph_CollectiveOp<string mnemonic>
    : Op<Graph_Dialect, mnemonic, [Pure, InferTypeOpAdaptor]> {
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($result)";
}

def Graph_AllReduceOp : Graph_CollectiveOp<"all_reduce"> {
  let summary = "the sum of the chips' operands";
  let arguments = (ins Graph_FloatTensor:$input);
}
def Graph_AllGatherOp : Graph_CollectiveOp<"all_gather"> {
  let summary = "[...] of each chip to [count, ...] on all";
  let arguments = (ins Graph_Tensor:$input, I64Attr:$count);
}
def Graph_ReduceScatterOp : Graph_CollectiveOp<"reduce_scatter"> {
  let summary = "[count, ...] to [...]: part i of the sum on chip i";
  let arguments = (ins Graph_FloatTensor:$input);
}
def Graph_AllToAllOp : Graph_CollectiveOp<"all_to_all"> {
  let summary = "[count, ...]: part j of chip i becomes part i of chip j";
  let arguments = (ins Graph_Tensor:$input);
}

// No communication: what a chip keeps of a tensor that all of them have.
def Graph_ShardOp : Graph_InferredOp<"shard", [Graph_Segment<>, Graph_PlainCost], []> {
  let summary = "[count, ...] to [...]: part `index`";
  let arguments = (ins Graph_Tensor:$input, 0DTensorOf<[I64]>:$index);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$input `[` $index `]` attr-dict `:` type($input) `,` type($index) `to` type($result)";
}

#endif // TOMBOLO_DIALECT_GRAPH_IR_GRAPHCOLLECTIVEOPS_TD
