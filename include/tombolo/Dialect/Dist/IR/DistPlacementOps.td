//===- DistPlacementOps.td - what passes add to a strategy ------------ ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_DIST_IR_DISTPLACEMENTOPS_TD
#define TOMBOLO_DIALECT_DIST_IR_DISTPLACEMENTOPS_TD

include "tombolo/Dialect/Dist/IR/DistDialect.td"
include "mlir/IR/BuiltinAttributes.td"

def Dist_SymbolRefLists : TypedArrayAttrBase<FlatSymbolRefArrayAttr,
    "lists of symbol references">;

def Dist_RunOp : Dist_Op<"run", [HasParent<"StageOp">]> {
  let summary = "consecutive blocks of a stage that are calls of one function";
  let description = [{
    `parameters` has one list for each of the run's blocks, in the order of the
    block function's parameter arguments. `sources` has, for each of its data
    arguments, the number of the result of the block before that it reads, or
    -1 for an input of the model. A run of several blocks shares no parameter
    with anything. With several chunks per stage `chunk` is the run's; runs stand
    in the order of chunks. Written by `dist-partition-stages`; `dist-specialize-blocks`
    adds the functions for the island's microbatch and precision.

    ```mlir
    dist.run @layer sources [0] parameters [[@w0, @b0], [@w1, @b1]]
        functions @layer.forward.m4, @layer.backward_input.m4, @layer.backward_weight.m4
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$block, DenseI64ArrayAttr:$sources,
                       Dist_SymbolRefLists:$parameters,
                       OptionalAttr<FlatSymbolRefAttr>:$forward,
                       OptionalAttr<FlatSymbolRefAttr>:$backward_input,
                       OptionalAttr<FlatSymbolRefAttr>:$backward_weight,
                       DefaultValuedAttr<I64Attr, "0">:$chunk);
  let assemblyFormat = [{
    $block (`chunk` $chunk^)? `sources` $sources `parameters` $parameters
    (`functions` $forward^ `,` $backward_input `,` $backward_weight)? attr-dict
  }];
  let extraClassDeclaration = [{
    int64_t getCount() { return getParameters().size(); }
    /// The parameters of one of the run's blocks.
    ::mlir::ArrayAttr getParametersOf(int64_t block) {
      return ::llvm::cast<::mlir::ArrayAttr>(getParameters()[block]);
    }
  }];
  let hasVerifier = 1;
}

def Dist_OptimizerOp : Dist_Op<"optimizer"> {
  let summary = "how parameters are updated";
  let description = [{
    At module level, written by `dist-instantiate-optimizer`. `kind` is sgd or
    adamw; `settings` has its other real numbers: momentum and weight_decay, or
    beta1, beta2, epsilon and weight_decay. A learning rate that depends on the
    number of updates adds schedule, warmup_steps and decay_steps as
    docs/PlanFormat.md defines them; `learning_rate` is then its peak.
    `clip_gradient_norm` bounds the norm of the gradients.
  }];
  let arguments = (ins StrAttr:$kind, F64Attr:$learning_rate, DictionaryAttr:$settings);
  let assemblyFormat = "$kind `learning_rate` $learning_rate $settings attr-dict";
  let hasVerifier = 1;
}

def Dist_UpdateOp : Dist_Op<"update", [HasParent<"StageOp">]> {
  let summary = "the optimizer of one range of a stage's parameters";
  let description = [{
    One for each range of the stage's layout (trainable parameters that are
    reduced and updated alike: `StageLayout.h`), in its order; one without
    elements when there is none. `function` takes the range's parameters as one
    vector of `elements` f32, their gradients, the sum of weights, the number of
    updates and one vector for each of `states`; it updates parameters and states
    in place, the first one the number of updates, too. Parameters lie one after
    the other, each rounded up to 64 bytes, in the order of the stage's runs. In
    a stage with `optimizer_sharding` the vectors are the part of one replica.

    With gradient clipping the function's third argument is the sum of the
    squares of all gradients of the island's step.
  }];
  let arguments = (ins FlatSymbolRefAttr:$function, I64Attr:$elements, StrArrayAttr:$states);
  let assemblyFormat = "$function `elements` $elements `states` $states attr-dict";
}

#endif // TOMBOLO_DIALECT_DIST_IR_DISTPLACEMENTOPS_TD
