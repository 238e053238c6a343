//===- GraphTrainingOps.td - what only training needs -----*- tablegen -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Included by GraphOps.td, whose op classes it uses.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_GRAPH_IR_GRAPHTRAININGOPS_TD
#define TOMBOLO_DIALECT_GRAPH_IR_GRAPHTRAININGOPS_TD

//===----------------------------------------------------------------------===//
// Gradient clipping
//===----------------------------------------------------------------------===//

def Graph_ClipWeightOp : Graph_InferredOp<"clip_weight", [Graph_PlainCost, Graph_KeepsFloat32, Graph_Segment<>], []> {
  let summary = "what to divide summed gradients by so that their norm is bounded";
  let description = [{
    `squares` is the sum of the squares of the gradients as they are summed over
    samples, `weight` the sum of weights. Dividing by the result is dividing by
    the weight and then clipping to `max_norm` as
    torch.nn.utils.clip_grad_norm_ does.
  }];
  let arguments = (ins Graph_F32Tensor:$squares, Graph_F32Tensor:$weight, F64Attr:$max_norm);
  let results = (outs Graph_F32Tensor:$result);
  let assemblyFormat = "operands attr-dict `:` type(operands) `to` type(results)";
}

//===----------------------------------------------------------------------===//
// Dropout
//===----------------------------------------------------------------------===//

def Graph_DropoutOp : Graph_InferredOp<"dropout", [Graph_Differentiable, Graph_OwnCost, Graph_Segment<["canWriteInPlace"]>], Graph_OwnShard> {
  let summary = "sets elements to zero with probability `ratio`, scales the others";
  let description = [{
    The first dimension is the samples. `stamp` says what is computed: seed,
    step, number of the first sample in the step, number of the block
    (docs/PlanFormat.md has the generator); `site` is the number of the op in
    its block. All samples have one mask when it is `shared`. Its gradient is
    the same op on the result's gradient.

    Where the input is one chip's part, `part` says of which whole: dimension d
    is seen as [outer, count, local size / outer] and the chip has [:, index, :].
  }];
  let arguments = (ins Graph_FloatTensor:$input, Graph_IndexTensor:$stamp,
                       Optional<Graph_IndexTensor>:$index, F64Attr:$ratio,
                       DefaultValuedAttr<I64Attr, "0">:$site, UnitAttr:$shared,
                       OptionalAttr<DenseI64ArrayAttr>:$part);
  let results = (outs Graph_FloatTensor:$result);
  let assemblyFormat = [{
    $input `,` $stamp (`index` $index^ `:` type($index))? attr-dict
    `:` type($input) `,` type($stamp) `to` type($result)
  }];
}

#endif // TOMBOLO_DIALECT_GRAPH_IR_GRAPHTRAININGOPS_TD
