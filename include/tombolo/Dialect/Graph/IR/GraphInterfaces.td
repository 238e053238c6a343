//===- GraphInterfaces.td - interfaces of graph ops --------*- tablegen -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_IR_GRAPHINTERFACES_TD
#define TOMBOLO_DIALECT_GRAPH_IR_GRAPHINTERFACES_TD

include "mlir/IR/OpBase.td"

def Graph_CostOpInterface : OpInterface<"CostOpInterface"> {
  let cppNamespace = "::tombolo::graph";
  let description = [{
    What an op costs when the batch dimension has a given size. The default is
    one floating-point operation per result element, every operand read once
    and every result written once.
  }];
  let methods = [InterfaceMethod<
    "FLOPs, bytes read and bytes written at this batch size",
    "::tombolo::graph::OpCost", "getCost", (ins "int64_t":$batch), "",
    "return ::tombolo::graph::getElementwiseCost($_op, batch);">,
    InterfaceMethod<
    [{whether it moves its operands while it computes, as products do; all
      other ops take the time of their bytes}],
    "bool", "isContraction", (ins), "", "return false;">];
}

def Graph_GradientOpInterface : OpInterface<"GradientOpInterface"> {
  let cppNamespace = "::tombolo::graph";
  let description = [{
    How to differentiate an op: builds, from the gradients of its results, the
    gradients of its operands out of other graph ops. Operands and results of
    the op itself may be used; whatever the backward functions use of them
    becomes a saved value.
  }];
  let methods = [InterfaceMethod<
    [{The gradient of each operand: null where `needed` is false or where none
      exists (indices). `resultGradients` has one value per result, null where
      no gradient reaches that result.}],
    "::mlir::FailureOr<::llvm::SmallVector<::mlir::Value>>", "buildGradient",
    (ins "::mlir::OpBuilder &":$builder,
         "::llvm::ArrayRef<::mlir::Value>":$resultGradients,
         "::llvm::ArrayRef<bool>":$needed)>];
}

def Graph_ShardingRuleOpInterface : OpInterface<"ShardingRuleOpInterface"> {
  let cppNamespace = "::tombolo::graph";
  let description = [{
    Which dimensions of operands and results go together when a tensor is
    split over chips (factors), and over which of them the op reduces. An op
    without a rule can only be computed whole on every chip.
  }];
  let methods = [
    InterfaceMethod<"the op's rule, or failure when it has none",
      "::mlir::FailureOr<::tombolo::graph::ShardingRule>", "getShardingRule",
      (ins), "", "return ::mlir::failure();">,
    InterfaceMethod<
      [{Builds what one chip computes when `factor` of the rule is split. The
        operands are local: split as the rule says. Returns local results, of
        `resultTypes`; those without the factor are partial sums when it is
        reduced. The default clones the op, which is right where shapes say
        everything. Called through `buildShard` of GraphSharding.h.}],
      "::mlir::FailureOr<::llvm::SmallVector<::mlir::Value>>", "buildShard",
      (ins "::mlir::OpBuilder &":$builder, "::mlir::ValueRange":$operands,
           "::mlir::TypeRange":$resultTypes, "int":$factor,
           "const ::tombolo::graph::ShardContext &":$context), "",
      [{return ::tombolo::graph::buildShardByClone(
            $_op.getOperation(), builder, operands, resultTypes);}]>];
}

def Graph_ViewOpInterface : OpInterface<"ViewOpInterface"> {
  let cppNamespace = "::tombolo::graph";
  let description = [{
    An op that only looks at its operand's elements in another order: its
    results are strided views of operand 0 and need no memory of their own.
  }];
  let methods = [InterfaceMethod<
    [{The strides (elements) and offset (elements) of result `index`, given
      those of operand 0; failure when the result is not a strided view of it
      (a reshape of a transposed tensor) and a copy is needed first. The size
      of the batch is that of `source`.}],
    "::mlir::FailureOr<::tombolo::graph::StridedView>", "getView",
    (ins "unsigned":$index, "const ::tombolo::graph::StridedView &":$source)>];
}

def Graph_PrecisionOpInterface : OpInterface<"PrecisionOpInterface"> {
  let cppNamespace = "::tombolo::graph";
  let description = [{
    Which operands stay f32 when activations are stored in a shorter type:
    statistics, scales of norms, what softmax and loss are taken of.
  }];
  let methods = [InterfaceMethod<
    "whether this operand stays f32 under mixed precision",
    "bool", "keepsFloat32", (ins "unsigned":$operand), "", "return false;">];
}

def Graph_SegmentOpInterface : OpInterface<"SegmentOpInterface"> {
  let cppNamespace = "::tombolo::graph";
  let description = [{
    An op of plan segments (docs/PlanFormat.md) and what it may do with memory.
  }];
  let methods = [
    InterfaceMethod<"whether it can add to this result instead of overwriting it",
      "bool", "canAccumulate", (ins "unsigned":$result), "", "return false;">,
    InterfaceMethod<"whether this result may have strides (the last one 1)",
      "bool", "canWriteView", (ins "unsigned":$result), "", "return false;">,
    InterfaceMethod<"whether this result may be the memory of this operand",
      "bool", "canWriteInPlace", (ins "unsigned":$result, "unsigned":$operand),
      "", "return false;">];
}

#endif // TOMBOLO_DIALECT_GRAPH_IR_GRAPHINTERFACES_TD
