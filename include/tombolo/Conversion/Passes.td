//===- Passes.td - passes between dialects -----------------*- tablegen -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_CONVERSION_PASSES_TD
#define TOMBOLO_CONVERSION_PASSES_TD

include "mlir/Pass/PassBase.td"

def GraphConvertSegments : Pass<"graph-convert-segments", "::mlir::ModuleOp"> {
  let summary = "turn functions of graph ops into plan segments";
  let description = [{
    A segment computes on memory: each value gets a *place*, a strided view of
    an argument or of the workspace. Views cost nothing, results are computed
    in the memory of their arguments, elementwise ops overwrite operands that
    die, and workspace is shared by values that are not alive together.

    A function's result may carry `plan.accumulate` (it is added to what the
    memory holds) or `plan.in_place = N` (it takes the memory of argument N).
    `plan-lower-segments` does the same to the functions that calls name; this
    pass, for looking and testing, does it to all functions.

    Precondition: types are static, ops are those of docs/PlanFormat.md, views,
    constants and masks.
    Postcondition: every function is a `plan.segment` of the same name.
  }];
  let options = [
    Option<"dropCallers", "drop-callers", "bool", /*default=*/"false",
           "erase functions that call others instead of refusing them">,
  ];
  let dependentDialects = ["::tombolo::plan::PlanDialect"];
}

#endif // TOMBOLO_CONVERSION_PASSES_TD
