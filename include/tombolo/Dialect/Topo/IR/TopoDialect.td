//===- TopoDialect.td - the topo dialect ----------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_TOPO_IR_TOPODIALECT_TD
#define TOMBOLO_DIALECT_TOPO_IR_TOPODIALECT_TD

include "mlir/IR/OpBase.td"

def Topo_Dialect : Dialect {
  let name = "topo";
  let cppNamespace = "::tombolo::topo";
  let summary = "where a model can run: sites, pools of like chips, links";
  let description = [{
    One `topo.topology` mirrors one `sites.yaml`. Figures stand in the units of
    data sheets, and every attribute has its unit in its name. Nothing here
    depends on a model or on a strategy.
  }];
}

class Topo_Op<string mnemonic, list<Trait> traits = []>
    : Op<Topo_Dialect, mnemonic, traits>;

#endif // TOMBOLO_DIALECT_TOPO_IR_TOPODIALECT_TD
