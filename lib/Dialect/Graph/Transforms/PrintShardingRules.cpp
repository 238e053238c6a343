//===- PrintShardingRules.cpp - remarks with the rules of ops -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"

using namespace mlir;

namespace tombolo::graph {
#define GEN_PASS_DEF_GRAPHPRINTSHARDINGRULES
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

namespace {

struct PrintShardingRules
    : impl::GraphPrintShardingRulesBase<PrintShardingRules> {
  void runOnOperation() override {
    getOperation()->walk([](ShardingRuleOpInterface op) {
      FailureOr<ShardingRule> rule = op.getShardingRule();
      if (failed(rule))
        op.emitRemark("no sharding rule");
      else
        op.emitRemark("sharding rule ") << toString(*rule);
    });
    markAllAnalysesPreserved();
  }
};

} // namespace
} // namespace tombolo::graph
