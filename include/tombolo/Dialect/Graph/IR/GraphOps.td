//===- GraphOps.td - ops of the graph dialect --------------*- tablegen -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// docs/PlanFormat.md gives the formulas; here stand types and attributes.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_IR_GRAPHOPS_TD
#define TOMBOLO_DIALECT_GRAPH_IR_GRAPHOPS_TD

include "tombolo/Dialect/Graph/IR/GraphDialect.td"
include "tombolo/Dialect/Graph/IR/GraphInterfaces.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Graph_Float : AnyTypeOf<[F32, BF16]>;
// A tensor of at most one dynamic dimension, the batch.
class Graph_TensorOf<list<Type> elements, string elementSummary>
    : Type<And<[RankedTensorOf<elements>.predicate,
                CPred<"::tombolo::graph::hasValidBatch("
                      "::llvm::cast<::mlir::RankedTensorType>($_self))">]>,
           "tensor of " # elementSummary # " with at most one dynamic dimension",
           "::mlir::RankedTensorType">;
def Graph_Tensor : Graph_TensorOf<[F32, BF16, I1, I32, I64], "f32, bf16, i1, i32 or i64">;
def Graph_FloatTensor : Graph_TensorOf<[F32, BF16], "f32 or bf16">;
def Graph_F32Tensor : Graph_TensorOf<[F32], "f32">;
def Graph_BoolTensor : Graph_TensorOf<[I1], "i1">;
def Graph_IndexTensor : Graph_TensorOf<[I32, I64], "i32 or i64">;

// Every op that computes or moves data, and which methods of the sharding
// interface it has: a rule, unless it says otherwise.
class Graph_Op<string mnemonic, list<Trait> traits = [],
               list<string> sharding = ["getShardingRule"]>
    : Op<Graph_Dialect, mnemonic, !listconcat(traits, [Pure,
        DeclareOpInterfaceMethods<Graph_ShardingRuleOpInterface, sharding>])>;

// An op whose result types follow from operands and attributes; the inference
// is the verifier.
class Graph_InferredOp<string mnemonic, list<Trait> traits = [],
                       list<string> sharding = ["getShardingRule"]>
    : Graph_Op<mnemonic, !listconcat(traits, [InferTypeOpAdaptor]), sharding>;

// A rule, and a local op that is not the op itself.
defvar Graph_OwnShard = ["getShardingRule", "buildShard"];

def Graph_Differentiable : DeclareOpInterfaceMethods<Graph_GradientOpInterface>;
// Some operands stay f32 under mixed precision.
def Graph_KeepsFloat32
    : DeclareOpInterfaceMethods<Graph_PrecisionOpInterface, ["keepsFloat32"]>;
// What ops of plan segments may do with memory.
class Graph_Segment<list<string> own = []>
    : DeclareOpInterfaceMethods<Graph_SegmentOpInterface, own>;
// The default cost.
def Graph_PlainCost : DeclareOpInterfaceMethods<Graph_CostOpInterface>;
def Graph_OwnCost : DeclareOpInterfaceMethods<Graph_CostOpInterface, ["getCost"]>;
def Graph_ContractionCost
    : DeclareOpInterfaceMethods<Graph_CostOpInterface, ["getCost", "isContraction"]>;

//===----------------------------------------------------------------------===//
// Parameters and constants
//===----------------------------------------------------------------------===//

def Graph_ParameterOp : Op<Graph_Dialect, "parameter", [Symbol]> {
  let summary = "a tensor of the model that is kept from step to step";
  let description = [{
    Names a parameter; its values stay in the model file, under `initializer`.
    A `frozen` one is not trained. The symbol is the name in checkpoints.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttrOf<Graph_FloatTensor>:$type,
                       StrAttr:$initializer, UnitAttr:$frozen);
  let assemblyFormat = "$sym_name `:` $type `from` $initializer (`frozen` $frozen^)? attr-dict";
  let hasVerifier = 1;
}

def Graph_GetParameterOp : Op<Graph_Dialect, "get_parameter",
    [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "the value of a parameter";
  let arguments = (ins FlatSymbolRefAttr:$parameter);
  let results = (outs Graph_FloatTensor:$result);
  let assemblyFormat = "$parameter `:` type($result) attr-dict";
}

def Graph_ConstantOp : Op<Graph_Dialect, "constant", [Pure, ConstantLike,
    InferTypeOpAdaptor]> {
  let summary = "a tensor known at compile time";
  let arguments = (ins ElementsAttr:$value);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$value attr-dict";
  let hasFolder = 1;
}

def Graph_CausalMaskOp : Op<Graph_Dialect, "causal_mask", [Pure]> {
  let summary = "true at [i, j] where j <= i + offset";
  let description = [{
    The last two dimensions of the result are i and j, others are 1. Kept as an
    op so that a mask of a long sequence costs nothing until something that is
    not an attention pattern really needs its elements.
  }];
  let arguments = (ins DefaultValuedAttr<I64Attr, "0">:$offset);
  let results = (outs Graph_BoolTensor:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Views and data movement
//===----------------------------------------------------------------------===//

class Graph_ViewOp<string mnemonic, list<Trait> traits = [],
                   list<string> sharding = ["getShardingRule"]>
    : Graph_Op<mnemonic, !listconcat(traits, [Graph_Differentiable, Graph_OwnCost,
        DeclareOpInterfaceMethods<Graph_ViewOpInterface>]), sharding>;

def Graph_ReshapeOp : Graph_ViewOp<"reshape"> {
  let summary = "the same elements in row-major order under another shape";
  let arguments = (ins Graph_Tensor:$input);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_TransposeOp : Graph_ViewOp<"transpose", [InferTypeOpAdaptor]> {
  let summary = "result dimension i is operand dimension permutation[i]";
  let arguments = (ins Graph_Tensor:$input, DenseI64ArrayAttr:$permutation);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$input `,` $permutation attr-dict `:` type($input) `to` type($result)";
  let hasFolder = 1;
}

def Graph_BroadcastOp : Graph_ViewOp<"broadcast"> {
  let summary = "NumPy broadcasting to the result's shape";
  let arguments = (ins Graph_Tensor:$input);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_SliceOp : Graph_ViewOp<"slice", [InferTypeOpAdaptor], Graph_OwnShard> {
  let summary = "elements offset, offset + step, ... (size of them) along one axis";
  let arguments = (ins Graph_Tensor:$input, I64Attr:$axis, I64Attr:$offset,
                       I64Attr:$size, DefaultValuedAttr<I64Attr, "1">:$step);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($result)";
  let hasFolder = 1;
}

def Graph_SplitOp : Graph_ViewOp<"split", [InferTypeOpAdaptor], Graph_OwnShard> {
  let summary = "consecutive parts of the given sizes along one axis";
  let arguments = (ins Graph_Tensor:$input, I64Attr:$axis, DenseI64ArrayAttr:$sizes);
  let results = (outs Variadic<Graph_Tensor>:$results);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($results)";
}

def Graph_ConcatOp : Graph_InferredOp<"concat", [Graph_Segment<["canAccumulate"]>, Graph_Differentiable, Graph_PlainCost]> {
  let summary = "operands one after the other along one axis";
  let arguments = (ins Variadic<Graph_Tensor>:$inputs, I64Attr:$axis);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$inputs attr-dict `:` type($inputs) `to` type($result)";
}

def Graph_PadOp : Graph_Op<"pad", [Graph_Segment<["canAccumulate"]>, Graph_Differentiable, Graph_PlainCost], Graph_OwnShard> {
  let summary = "the operand at offsets `low` in a tensor of zeros";
  let arguments = (ins Graph_Tensor:$input, DenseI64ArrayAttr:$low);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($result)";
  let hasVerifier = 1;
}

// With `index`, the chip's number, the table is part `index` of `count` equal
// ones along `axis`: what lies outside of it gives zeros, or adds nothing.
def Graph_GatherOp : Graph_InferredOp<"gather", [Graph_Segment<>, Graph_Differentiable, Graph_OwnCost, Graph_KeepsFloat32], Graph_OwnShard> {
  let summary = "slices of a table along one axis, by index";
  let arguments = (ins Graph_Tensor:$table, Graph_IndexTensor:$indices,
                       Optional<0DTensorOf<[I64]>>:$index,
                       DefaultValuedAttr<I64Attr, "0">:$axis, OptionalAttr<I64Attr>:$count);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$table `,` $indices (`part` $index^)? attr-dict `:` type($table) `,` type($indices) (`,` type($index)^)? `to` type($result)";
}

def Graph_GatherBackwardOp : Graph_Op<"gather_backward", [Graph_Segment<["canAccumulate"]>, Graph_OwnCost], Graph_OwnShard> {
  let summary = "adds slices into a zero table, by index";
  let arguments = (ins Graph_FloatTensor:$gradient, Graph_IndexTensor:$indices,
                       Optional<0DTensorOf<[I64]>>:$index,
                       DefaultValuedAttr<I64Attr, "0">:$axis, OptionalAttr<I64Attr>:$count);
  let results = (outs Graph_F32Tensor:$result);
  let assemblyFormat = "$gradient `,` $indices (`part` $index^)? attr-dict `:` type($gradient) `,` type($indices) (`,` type($index)^)? `to` type($result)";
  let hasVerifier = 1;
}

def Graph_CastOp : Graph_Op<"cast", [Graph_Segment<>, Graph_Differentiable, Graph_PlainCost]> {
  let summary = "the same values in another element type";
  let arguments = (ins Graph_Tensor:$input);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

// Elementwise ops come in families, whose methods stand here once: a new op is
// one line, its gradient, and a kernel (docs/AddingAnOp.md). `linear` are the
// sets of operands in which an op is linear together (ShardingRule::linear).
class Graph_Elementwise<string inference, string linear> {
  string definition = [{
    ::llvm::LogicalResult $cppClass::inferReturnTypes(
        ::mlir::MLIRContext *, ::std::optional<::mlir::Location> location,
        Adaptor adaptor, ::llvm::SmallVectorImpl<::mlir::Type> &types) {
      return }] # inference # [{;
    }
    ::mlir::FailureOr<::tombolo::graph::ShardingRule> $cppClass::getShardingRule() {
      return ::tombolo::graph::getElementwiseRule(*this, }] # linear # [{);
    }
  }];
  string inPlace = [{
    bool $cppClass::canWriteInPlace(unsigned, unsigned) { return true; }
  }];
}

class Graph_BinaryOp<string mnemonic, string linear, list<Trait> traits = [],
                     string accumulates = "true">
    : Graph_InferredOp<mnemonic, !listconcat(traits, [Graph_Differentiable, Graph_PlainCost,
        Graph_Segment<["canAccumulate", "canWriteInPlace"]>])> {
  let summary = "elementwise " # mnemonic # " with NumPy broadcasting";
  let arguments = (ins Graph_Tensor:$lhs, Graph_Tensor:$rhs);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `to` type($result)";
  defvar family = Graph_Elementwise<
      "inferBroadcast(location, adaptor.getLhs(), adaptor.getRhs(), {}, types)", linear>;
  let extraClassDefinition = family.definition # family.inPlace # [{
    bool $cppClass::canAccumulate(unsigned) { return }] # accumulates # [{; }
  }];
}
def Graph_AddOp : Graph_BinaryOp<"add", "{{0, 1}}", [Commutative]> { let hasFolder = 1; }
def Graph_SubOp : Graph_BinaryOp<"sub", "{{0, 1}}">;
def Graph_MulOp : Graph_BinaryOp<"mul", "{{0}, {1}}", [Commutative]> { let hasFolder = 1; }
def Graph_DivOp : Graph_BinaryOp<"div", "{{0}}">;
def Graph_PowOp : Graph_BinaryOp<"pow", "{}", [], "false">;

class Graph_UnaryOp<string mnemonic, string linear = "{}">
    : Graph_InferredOp<mnemonic, [Graph_Differentiable, Graph_PlainCost,
        Graph_Segment<["canWriteInPlace"]>]> {
  let summary = "elementwise " # mnemonic;
  let arguments = (ins Graph_FloatTensor:$input);
  let results = (outs Graph_FloatTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input)";
  defvar family = Graph_Elementwise<"inferLike(location, adaptor.getInput(), {}, types)", linear>;
  let extraClassDefinition = family.definition # family.inPlace;
}
def Graph_NegOp : Graph_UnaryOp<"neg", "{{0}}">;
def Graph_ExpOp : Graph_UnaryOp<"exp">;
def Graph_LogOp : Graph_UnaryOp<"log">;
def Graph_SqrtOp : Graph_UnaryOp<"sqrt">;
def Graph_ReciprocalOp : Graph_UnaryOp<"reciprocal">;
def Graph_TanhOp : Graph_UnaryOp<"tanh">;
def Graph_ErfOp : Graph_UnaryOp<"erf">;
def Graph_SigmoidOp : Graph_UnaryOp<"sigmoid">;
def Graph_ReluOp : Graph_UnaryOp<"relu">;
def Graph_SoftplusOp : Graph_UnaryOp<"softplus">;
def Graph_HardSwishOp : Graph_UnaryOp<"hard_swish">;

class Graph_UnaryBackwardOp<string mnemonic>
    : Graph_InferredOp<mnemonic, [Graph_PlainCost, Graph_Segment<>]> {
  let summary = mnemonic # ": gradient with respect to the input";
  let arguments = (ins Graph_FloatTensor:$gradient, Graph_FloatTensor:$input);
  let results = (outs Graph_FloatTensor:$result);
  let assemblyFormat = "$gradient `,` $input attr-dict `:` type($gradient) `,` type($input)";
  let extraClassDefinition = Graph_Elementwise<
      "inferLike(location, adaptor.getGradient(), adaptor.getInput(), types)", "{{0}}">.definition;
}
def Graph_ReluBackwardOp : Graph_UnaryBackwardOp<"relu_backward">;
def Graph_HardSwishBackwardOp : Graph_UnaryBackwardOp<"hard_swish_backward">;

def Graph_GeluOp : Graph_InferredOp<"gelu", [Graph_Differentiable, Graph_PlainCost, Graph_Segment<>]> {
  let summary = "Gaussian error linear unit, exact or by tanh";
  let arguments = (ins Graph_FloatTensor:$input,
                       DefaultValuedStrAttr<StrAttr, "none">:$approximate);
  let results = (outs Graph_FloatTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input)";
  let hasVerifier = 1;
}
def Graph_GeluBackwardOp : Graph_InferredOp<"gelu_backward", [Graph_PlainCost, Graph_Segment<>]> {
  let summary = "gradient of gelu with respect to its input";
  let arguments = (ins Graph_FloatTensor:$gradient, Graph_FloatTensor:$input,
                       DefaultValuedStrAttr<StrAttr, "none">:$approximate);
  let results = (outs Graph_FloatTensor:$result);
  let assemblyFormat = "$gradient `,` $input attr-dict `:` type($gradient) `,` type($input)";
  let hasVerifier = 1;
}

def Graph_WhereOp : Graph_InferredOp<"where", [Graph_Differentiable, Graph_PlainCost, Graph_Segment<>]> {
  let summary = "condition ? lhs : rhs, with broadcasting";
  let arguments = (ins Graph_BoolTensor:$condition, Graph_Tensor:$lhs, Graph_Tensor:$rhs);
  let results = (outs Graph_Tensor:$result);
  let assemblyFormat = "$condition `,` $lhs `,` $rhs attr-dict `:` type($condition) `,` type($lhs) `,` type($rhs) `to` type($result)";
}

class Graph_CompareOp<string mnemonic> : Graph_InferredOp<mnemonic, [Graph_PlainCost, Graph_Segment<>]> {
  let summary = "elementwise comparison with broadcasting";
  let arguments = (ins Graph_Tensor:$lhs, Graph_Tensor:$rhs);
  let results = (outs Graph_BoolTensor:$result);
  let assemblyFormat = "$lhs `,` $rhs attr-dict `:` type($lhs) `,` type($rhs) `to` type($result)";
  let extraClassDefinition = Graph_Elementwise<
      "inferBroadcast(location, adaptor.getLhs(), adaptor.getRhs(), getBool(adaptor.getLhs()), types)",
      "{}">.definition;
}
def Graph_EqualOp : Graph_CompareOp<"equal">;
def Graph_LessOp : Graph_CompareOp<"less">;

//===----------------------------------------------------------------------===//
// Reductions and norms
//===----------------------------------------------------------------------===//

class Graph_ReduceOp<string mnemonic, list<Trait> traits = [Graph_Differentiable],
                     list<string> sharding = ["getShardingRule"]>
    : Graph_InferredOp<mnemonic, !listconcat(traits, [Graph_OwnCost, Graph_Segment<["canAccumulate"]>]), sharding> {
  let summary = mnemonic # " over the given axes";
  let arguments = (ins Graph_FloatTensor:$input, DenseI64ArrayAttr:$axes,
                       DefaultValuedAttr<BoolAttr, "false">:$keep_dims);
  let results = (outs Graph_FloatTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `to` type($result)";
}
def Graph_ReduceSumOp : Graph_ReduceOp<"reduce_sum">;
def Graph_ReduceMeanOp : Graph_ReduceOp<"reduce_mean", [Graph_Differentiable], Graph_OwnShard>;
def Graph_ReduceMaxOp : Graph_ReduceOp<"reduce_max", []>;

def Graph_SoftmaxOp : Graph_InferredOp<"softmax", [Graph_Differentiable, Graph_OwnCost, Graph_Segment<>]> {
  let summary = "softmax over the last axis";
  let arguments = (ins Graph_FloatTensor:$input);
  let results = (outs Graph_FloatTensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input)";
}
def Graph_SoftmaxBackwardOp : Graph_InferredOp<"softmax_backward", [Graph_OwnCost, Graph_Segment<>]> {
  let summary = "gradient of softmax, from its result";
  let arguments = (ins Graph_FloatTensor:$gradient, Graph_FloatTensor:$output);
  let results = (outs Graph_FloatTensor:$result);
  let assemblyFormat = "$gradient `,` $output attr-dict `:` type($gradient) `,` type($output)";
}

def Graph_LayerNormOp : Graph_InferredOp<"layer_norm", [Graph_Differentiable, Graph_OwnCost, Graph_KeepsFloat32, Graph_Segment<>]> {
  let summary = "normalisation over the last axis, with scale and shift";
  let arguments = (ins Graph_FloatTensor:$input, Graph_FloatTensor:$gamma,
                       Graph_FloatTensor:$beta, F64Attr:$epsilon);
  let results = (outs Graph_FloatTensor:$result, Graph_F32Tensor:$mean, Graph_F32Tensor:$rstd);
  let assemblyFormat = "$input `,` $gamma `,` $beta attr-dict `:` type($input) `,` type($gamma) `,` type($beta) `to` type($result) `,` type($mean) `,` type($rstd)";
}
def Graph_LayerNormBackwardInputOp : Graph_InferredOp<"layer_norm_backward_input", [Graph_OwnCost, Graph_KeepsFloat32, Graph_Segment<>]> {
  let summary = "gradient of layer_norm with respect to its input";
  let arguments = (ins Graph_FloatTensor:$gradient, Graph_FloatTensor:$input,
                       Graph_FloatTensor:$gamma, Graph_F32Tensor:$mean, Graph_F32Tensor:$rstd);
  let results = (outs Graph_FloatTensor:$result);
  let assemblyFormat = "$gradient `,` $input `,` $gamma `,` $mean `,` $rstd attr-dict `:` type($gradient) `,` type($input) `,` type($gamma) `,` type($mean) `,` type($rstd)";
}
def Graph_LayerNormBackwardWeightOp : Graph_InferredOp<"layer_norm_backward_weight", [Graph_OwnCost, Graph_KeepsFloat32, Graph_Segment<["canAccumulate"]>]> {
  let summary = "gradients of layer_norm with respect to scale and shift";
  let arguments = (ins Graph_FloatTensor:$gradient, Graph_FloatTensor:$input,
                       Graph_F32Tensor:$mean, Graph_F32Tensor:$rstd);
  let results = (outs Graph_F32Tensor:$gamma_gradient, Graph_F32Tensor:$beta_gradient);
  let assemblyFormat = "$gradient `,` $input `,` $mean `,` $rstd attr-dict `:` type($gradient) `,` type($input) `,` type($mean) `,` type($rstd) `to` type($gamma_gradient) `,` type($beta_gradient)";
}

def Graph_CrossEntropyOp : Graph_InferredOp<"cross_entropy", [Graph_Differentiable, Graph_OwnCost, Graph_KeepsFloat32, Graph_Segment<["canAccumulate"]>], Graph_OwnShard> {
  let summary = "sum of weighted token losses and sum of weights";
  let description = [{
    A token's weight is 1, or that of `token_weights`; 0 where the label is
    `ignore_index`.
  }];
  let arguments = (ins Graph_FloatTensor:$logits, Graph_IndexTensor:$labels,
                       Optional<Graph_F32Tensor>:$token_weights,
                       DefaultValuedAttr<I64Attr, "-100">:$ignore_index);
  let results = (outs Graph_F32Tensor:$loss, Graph_F32Tensor:$weights, Graph_F32Tensor:$lse);
  let assemblyFormat = [{
    $logits `,` $labels (`weights` $token_weights^ `:` type($token_weights))? attr-dict
    `:` type($logits) `,` type($labels) `to` type($loss) `,` type($weights) `,` type($lse)
  }];
}
// With `index`, logits are part `index` of `count` equal ones of the vocabulary,
// and lse is that of all.
def Graph_CrossEntropyBackwardOp : Graph_InferredOp<"cross_entropy_backward", [AttrSizedOperandSegments, Graph_OwnCost, Graph_KeepsFloat32, Graph_Segment<["canWriteInPlace"]>], Graph_OwnShard> {
  let summary = "gradient of the loss sum with respect to the logits";
  let arguments = (ins Graph_FloatTensor:$logits, Graph_IndexTensor:$labels, Graph_F32Tensor:$lse,
                       Optional<Graph_F32Tensor>:$token_weights, Optional<0DTensorOf<[I64]>>:$index,
                       DefaultValuedAttr<I64Attr, "-100">:$ignore_index, OptionalAttr<I64Attr>:$count);
  let results = (outs Graph_FloatTensor:$result);
  let assemblyFormat = "$logits `,` $labels `,` $lse (`weights` $token_weights^ `:` type($token_weights))? (`part` $index^)? attr-dict `:` type($logits) `,` type($labels) `,` type($lse) (`,` type($index)^)? `to` type($result)";
}

// The loss of a vocabulary in parts: each chip's part, then what becomes of all
// parts' log-sum-exps, gathered, and of the picked logits, summed.
def Graph_CrossEntropyShardOp : Graph_InferredOp<"cross_entropy_shard", [Graph_OwnCost, Graph_KeepsFloat32, Graph_Segment<>], []> {
  let summary = "log-sum-exp and label's logit of part `index` of the vocabulary";
  let arguments = (ins Graph_FloatTensor:$logits, Graph_IndexTensor:$labels, 0DTensorOf<[I64]>:$index,
                       DefaultValuedAttr<I64Attr, "-100">:$ignore_index, I64Attr:$count);
  let results = (outs Graph_F32Tensor:$lse, Graph_F32Tensor:$picked);
  let assemblyFormat = "$logits `,` $labels `part` $index attr-dict `:` type($logits) `,` type($labels) `,` type($index) `to` type($lse) `,` type($picked)";
}
def Graph_CrossEntropyMergeOp : Graph_InferredOp<"cross_entropy_merge", [Graph_OwnCost, Graph_KeepsFloat32, Graph_Segment<["canAccumulate"]>], []> {
  let summary = "the loss, from the parts [count, B...] of the vocabulary";
  let arguments = (ins Graph_F32Tensor:$parts, Graph_F32Tensor:$picked, Graph_IndexTensor:$labels,
                       Optional<Graph_F32Tensor>:$token_weights,
                       DefaultValuedAttr<I64Attr, "-100">:$ignore_index);
  let results = (outs Graph_F32Tensor:$loss, Graph_F32Tensor:$weights, Graph_F32Tensor:$lse);
  let assemblyFormat = "$parts `,` $picked `,` $labels (`weights` $token_weights^ `:` type($token_weights))? attr-dict `:` type($parts) `,` type($picked) `,` type($labels) `to` type($loss) `,` type($weights) `,` type($lse)";
}

//===----------------------------------------------------------------------===//
// Contractions
//===----------------------------------------------------------------------===//

def Graph_MatmulOp : Graph_Op<"matmul", [Graph_Differentiable, Graph_ContractionCost, Graph_KeepsFloat32, Graph_Segment<["canAccumulate", "canWriteView"]>], Graph_OwnShard> {
  let summary = "batched matrix product with optional bias";
  let description = [{
    The result's element type is f32 or that of the operands (a bf16 product
    whose gradient is accumulated in f32 says so in its result type).
  }];
  let arguments = (ins Graph_FloatTensor:$lhs, Graph_FloatTensor:$rhs,
                       Optional<Graph_FloatTensor>:$bias,
                       DefaultValuedAttr<BoolAttr, "false">:$transpose_a,
                       DefaultValuedAttr<BoolAttr, "false">:$transpose_b);
  let results = (outs Graph_FloatTensor:$result);
  let assemblyFormat = "$lhs `,` $rhs (`bias` $bias^ `:` type($bias))? attr-dict `:` type($lhs) `,` type($rhs) `to` type($result)";
  let hasVerifier = 1;
}

def Graph_AttentionOp : Graph_InferredOp<"attention", [Graph_Differentiable, Graph_ContractionCost, Graph_Segment<["canWriteView"]>]> {
  let summary = "softmax(scale q k^T) v, optionally causal";
  let arguments = (ins Graph_FloatTensor:$query, Graph_FloatTensor:$key, Graph_FloatTensor:$value,
                       BoolAttr:$causal, F64Attr:$scale);
  let results = (outs Graph_FloatTensor:$result, Graph_F32Tensor:$lse);
  let assemblyFormat = "$query `,` $key `,` $value attr-dict `:` type($query) `,` type($key) `,` type($value) `to` type($result) `,` type($lse)";
}
def Graph_AttentionBackwardOp : Graph_InferredOp<"attention_backward", [Graph_ContractionCost, Graph_KeepsFloat32, Graph_Segment<["canWriteView"]>]> {
  let summary = "gradients of attention";
  let arguments = (ins Graph_FloatTensor:$gradient, Graph_FloatTensor:$query, Graph_FloatTensor:$key,
                       Graph_FloatTensor:$value, Graph_FloatTensor:$output, Graph_F32Tensor:$lse,
                       BoolAttr:$causal, F64Attr:$scale);
  let results = (outs Graph_FloatTensor:$query_gradient, Graph_FloatTensor:$key_gradient,
                      Graph_FloatTensor:$value_gradient);
  let assemblyFormat = "operands attr-dict `:` type(operands) `to` type(results)";
}

//===----------------------------------------------------------------------===//
// Optimizer, on flat slices of parameters: no sharding rules
//===----------------------------------------------------------------------===//

class Graph_OptimizerOp<string mnemonic> : Graph_InferredOp<mnemonic, [Graph_PlainCost, Graph_KeepsFloat32,
        Graph_Segment<["canWriteInPlace"]>], []> {
  let assemblyFormat = "operands attr-dict `:` type(operands) `to` type(results)";
}
def Graph_OptimizerAdvanceOp : Graph_OptimizerOp<"optimizer_advance"> {
  let summary = "updates + 1 when the step's weight is positive";
  let arguments = (ins Graph_F32Tensor:$weight, Graph_IndexTensor:$updates);
  let results = (outs Graph_IndexTensor:$result);
}
// Without `schedule` the learning rate is constant; docs/PlanFormat.md has the
// meaning of the three attributes.
def Graph_SgdOp : Graph_OptimizerOp<"sgd"> {
  let summary = "torch.optim.SGD on a flat slice";
  let arguments = (ins Graph_F32Tensor:$parameter, Graph_F32Tensor:$gradient,
                       Graph_F32Tensor:$weight, Graph_IndexTensor:$updates,
                       Optional<Graph_F32Tensor>:$momentum_buffer,
                       F64Attr:$learning_rate, F64Attr:$momentum, F64Attr:$weight_decay,
                       OptionalAttr<StrAttr>:$schedule, OptionalAttr<I64Attr>:$warmup_steps,
                       OptionalAttr<I64Attr>:$decay_steps);
  let results = (outs Graph_F32Tensor:$result, Optional<Graph_F32Tensor>:$new_momentum_buffer);
}
def Graph_AdamwOp : Graph_OptimizerOp<"adamw"> {
  let summary = "torch.optim.AdamW on a flat slice";
  let arguments = (ins Graph_F32Tensor:$parameter, Graph_F32Tensor:$gradient,
                       Graph_F32Tensor:$weight, Graph_IndexTensor:$updates,
                       Graph_F32Tensor:$exp_avg, Graph_F32Tensor:$exp_avg_sq,
                       F64Attr:$learning_rate, F64Attr:$beta1, F64Attr:$beta2,
                       F64Attr:$epsilon, F64Attr:$weight_decay,
                       OptionalAttr<StrAttr>:$schedule, OptionalAttr<I64Attr>:$warmup_steps,
                       OptionalAttr<I64Attr>:$decay_steps);
  let results = (outs Graph_F32Tensor:$result, Graph_F32Tensor:$new_exp_avg,
                      Graph_F32Tensor:$new_exp_avg_sq);
}

include "tombolo/Dialect/Graph/IR/GraphCollectiveOps.td"
include "tombolo/Dialect/Graph/IR/GraphTrainingOps.td"
include "tombolo/Dialect/Graph/IR/GraphConvOps.td"

#endif // TOMBOLO_DIALECT_GRAPH_IR_GRAPHOPS_TD
