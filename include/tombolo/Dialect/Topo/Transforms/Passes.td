//===- Passes.td - passes on the topo dialect -----------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_TOPO_TRANSFORMS_PASSES_TD
#define TOMBOLO_DIALECT_TOPO_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

def TopoVerify : Pass<"topo-verify", "::mlir::ModuleOp"> {
  let summary = "proves that a topology makes sense";
  let description = [{
    Read-only. Checks what a verifier of one op cannot see: every chip, pool and
    site that is named exists, nothing is defined or joined twice, pools of
    several chips or nodes have the wires they need, figures are not absurd.

    A site *is reached* from another if a way over links leads there. Sites that
    the first site does not reach get a warning: no strategy can use both.

    Precondition: one `topo.topology`. Postcondition: the planner accepts it.
  }];
}

#endif // TOMBOLO_DIALECT_TOPO_TRANSFORMS_PASSES_TD
