//===- DistDialect.td - the dist dialect ----------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_DIST_IR_DISTDIALECT_TD
#define TOMBOLO_DIALECT_DIST_IR_DISTDIALECT_TD

include "mlir/IR/OpBase.td"

def Dist_Dialect : Dialect {
  let name = "dist";
  let cppNamespace = "::tombolo::dist";
  let summary = "who does what: islands, stages, replicas, the server";
  let description = [{
    A `dist.strategy` is the one decision that everything after it lowers. It
    mirrors `strategy.yaml` in its long form, one op for each level of the file.
  }];
}

class Dist_Op<string mnemonic, list<Trait> traits = []>
    : Op<Dist_Dialect, mnemonic, traits>;

class Dist_Container<string mnemonic, list<Trait> traits = []>
    : Dist_Op<mnemonic, !listconcat([IsolatedFromAbove, NoTerminator,
                         NoRegionArguments, SingleBlock], traits)>;

#endif // TOMBOLO_DIALECT_DIST_IR_DISTDIALECT_TD
