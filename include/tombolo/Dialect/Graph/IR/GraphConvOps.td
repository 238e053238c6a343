//===- GraphConvOps.td - convolutions, pooling, batch norm --*- tablegen -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Tensors are [samples, channels, space...] with one to three dimensions of
// space. `low` and `high` are the padding before and behind each of them.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_IR_GRAPHCONVOPS_TD
#define TOMBOLO_DIALECT_GRAPH_IR_GRAPHCONVOPS_TD

class Graph_WindowOp<string mnemonic, list<Trait> traits> : Graph_Op<mnemonic, traits> {
  let assemblyFormat = "operands attr-dict `:` type(operands) `to` type(results)";
  let hasVerifier = 1;
}

class Graph_ConvBase<string mnemonic, list<Trait> traits>
    : Graph_WindowOp<mnemonic, !listconcat(traits, [Graph_ContractionCost])> {
  dag window = (ins DenseI64ArrayAttr:$strides, DenseI64ArrayAttr:$dilations,
                    DenseI64ArrayAttr:$low, DenseI64ArrayAttr:$high, I64Attr:$groups);
}
def Graph_ConvOp : Graph_ConvBase<"conv", [Graph_Segment<>, Graph_Differentiable]> {
  let summary = "cross-correlation with a weight [outputs, inputs / groups, window...]";
  let arguments = !con((ins Graph_F32Tensor:$input, Graph_F32Tensor:$weight), window);
  let results = (outs Graph_F32Tensor:$result);
}
def Graph_ConvBackwardInputOp : Graph_ConvBase<"conv_backward_input", [Graph_Segment<>]> {
  let summary = "gradient of conv with respect to its input";
  let arguments = !con((ins Graph_F32Tensor:$gradient, Graph_F32Tensor:$weight), window);
  let results = (outs Graph_F32Tensor:$result);
}
def Graph_ConvBackwardWeightOp : Graph_ConvBase<"conv_backward_weight", [Graph_Segment<["canAccumulate"]>]> {
  let summary = "gradient of conv with respect to its weight";
  let arguments = !con((ins Graph_F32Tensor:$gradient, Graph_F32Tensor:$input), window);
  let results = (outs Graph_F32Tensor:$result);
}

// `average`: the mean of a window, of what lies inside the input alone unless
// `count_padding`; else its maximum.
class Graph_PoolBase<string mnemonic, list<Trait> traits>
    : Graph_WindowOp<mnemonic, !listconcat(traits, [Graph_OwnCost])> {
  dag window = (ins DenseI64ArrayAttr:$kernel, DenseI64ArrayAttr:$strides,
                    DenseI64ArrayAttr:$dilations, DenseI64ArrayAttr:$low,
                    DenseI64ArrayAttr:$high, DefaultValuedAttr<BoolAttr, "false">:$average,
                    DefaultValuedAttr<BoolAttr, "false">:$count_padding);
}
def Graph_PoolOp : Graph_PoolBase<"pool", [Graph_Segment<>, Graph_Differentiable]> {
  let summary = "maximum or mean over a sliding window";
  let arguments = !con((ins Graph_F32Tensor:$input), window);
  let results = (outs Graph_F32Tensor:$result);
}
def Graph_PoolBackwardOp : Graph_PoolBase<"pool_backward", [Graph_Segment<>]> {
  let summary = "gradient of pool; of equal maxima the first has it";
  let arguments = !con((ins Graph_F32Tensor:$gradient, Graph_F32Tensor:$input), window);
  let results = (outs Graph_F32Tensor:$result);
}

def Graph_BatchNormOp : Graph_InferredOp<"batch_norm", [Graph_Differentiable, Graph_OwnCost, Graph_Segment<>]> {
  let summary = "normalisation of each channel over samples and space";
  let description = [{
    Statistics are those of the microbatch; the variance is that of the
    population (divided by the count).
  }];
  let arguments = (ins Graph_F32Tensor:$input, Graph_F32Tensor:$gamma,
                       Graph_F32Tensor:$beta, F64Attr:$epsilon);
  let results = (outs Graph_F32Tensor:$result, Graph_F32Tensor:$mean, Graph_F32Tensor:$variance);
  let assemblyFormat = "operands attr-dict `:` type(operands) `to` type(results)";
}
def Graph_BatchNormBackwardOp : Graph_InferredOp<"batch_norm_backward", [Graph_OwnCost, Graph_Segment<>]> {
  let summary = "gradients of batch_norm, through its statistics";
  let arguments = (ins Graph_F32Tensor:$gradient, Graph_F32Tensor:$input, Graph_F32Tensor:$gamma,
                       Graph_F32Tensor:$mean, Graph_F32Tensor:$variance, F64Attr:$epsilon);
  let results = (outs Graph_F32Tensor:$result, Graph_F32Tensor:$gamma_gradient,
                      Graph_F32Tensor:$beta_gradient);
  let assemblyFormat = "operands attr-dict `:` type(operands) `to` type(results)";
}

def Graph_LogSoftmaxOp : Graph_InferredOp<"log_softmax", [Graph_Differentiable, Graph_OwnCost, Graph_Segment<>]> {
  let summary = "logarithm of softmax over the last axis";
  let arguments = (ins Graph_F32Tensor:$input);
  let results = (outs Graph_F32Tensor:$result);
  let assemblyFormat = "$input attr-dict `:` type($input)";
}

#endif // TOMBOLO_DIALECT_GRAPH_IR_GRAPHCONVOPS_TD
