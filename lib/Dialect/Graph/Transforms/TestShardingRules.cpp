//===- TestShardingRules.cpp - local ops of all choices -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;

namespace tombolo::graph {
#define GEN_PASS_DEF_GRAPHTESTSHARDINGRULES
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

namespace {

/// The functions of one op under test; an error where a rule contradicts
/// itself.
class ShardWriter {
public:
  ShardWriter(func::FuncOp function, ShardingRuleOpInterface op,
              const ShardingRule &rule)
      : function(function), op(op), rule(rule), builder(function) {
    builder.setInsertionPointAfter(function);
  }

  LogicalResult write() {
    SmallVector<Attribute> sets;
    for (ArrayRef<int> set : rule.linear)
      sets.push_back(builder.getDenseI64ArrayAttr(SmallVector<int64_t>(set)));
    function->setAttr("test.linear", builder.getArrayAttr(sets));
    for (int64_t count : {2, 3, 4})
      for (int factor = 0, end = rule.factors.size(); factor < end; ++factor)
        for (int64_t outer : {1, 2, 3})
          if (canSplit(rule, {factor, outer}, count) &&
              failed(writeShard({factor, outer}, count)))
            return failure();
    return success();
  }

private:
  LogicalResult writeShard(ShardingChoice choice, int64_t count);
  ArrayAttr getStates(unsigned size,
                      llvm::function_ref<ShardingState(unsigned)> getState) {
    SmallVector<Attribute> states;
    for (unsigned i = 0; i < size; ++i)
      states.push_back(builder.getStringAttr(toString(getState(i))));
    return builder.getArrayAttr(states);
  }

  func::FuncOp function;
  ShardingRuleOpInterface op;
  const ShardingRule &rule;
  OpBuilder builder;
};

LogicalResult ShardWriter::writeShard(ShardingChoice choice, int64_t count) {
  auto getInput = [&](unsigned i) { return getOperandState(rule, choice, i); };
  auto getOutput = [&](unsigned i) { return getResultState(rule, choice, i); };
  std::string name = (function.getSymName() + "_f" + Twine(choice.factor) +
                      "o" + Twine(choice.outer) + "k" + Twine(count))
                         .str();
  // The states of a choice lead back to it.
  for (unsigned i = 0; i < op->getNumOperands(); ++i)
    if (getInput(i).isSplit() &&
        getChoiceForOperand(rule, i, getInput(i), count) != choice)
      return op.emitOpError("operand ")
             << i << " in state '" << toString(getInput(i))
             << "' has another choice";
  for (unsigned i = 0; i < op->getNumResults(); ++i)
    if (getOutput(i).isSplit() &&
        getChoiceForResult(rule, i, getOutput(i), count) != choice)
      return op.emitOpError("result ")
             << i << " in state '" << toString(getOutput(i))
             << "' has another choice";
  OpBuilder::InsertionGuard guard(builder);
  auto shard = builder.create<func::FuncOp>(function.getLoc(), name,
                                            builder.getFunctionType({}, {}));
  shard->setAttr("test.of", function.getSymNameAttr());
  shard->setAttr("test.count", builder.getI64IntegerAttr(count));
  shard->setAttr("test.operands", getStates(op->getNumOperands(), getInput));
  shard->setAttr("test.results", getStates(op->getNumResults(), getOutput));
  Block &block = *shard.addEntryBlock();
  builder.setInsertionPointToStart(&block);
  SmallVector<Value> operands;
  for (auto [index, operand] : llvm::enumerate(op->getOperands())) {
    auto type = cast<RankedTensorType>(operand.getType());
    if (Operation *constant = operand.getDefiningOp())
      operands.push_back(builder.clone(*constant)->getResult(0));
    else
      operands.push_back(block.addArgument(
          getLocalType(type, getInput(index), count), op.getLoc()));
  }
  auto getTensorIndex = [&]() -> Value {
    return builder.create<TensorIndexOp>(
        op.getLoc(), RankedTensorType::get({}, builder.getI64Type()));
  };
  ShardContext context{count, getTensorIndex};
  FailureOr<SmallVector<Value>> results =
      buildShard(op, builder, operands, rule, choice, context);
  if (failed(results))
    return op.emitOpError("has a rule but no local op");
  for (auto [index, result] : llvm::enumerate(*results)) {
    auto type = cast<RankedTensorType>(op->getResult(index).getType());
    if (result.getType() != getLocalType(type, getOutput(index), count))
      return op.emitOpError("has a local result of type ") << result.getType();
  }
  builder.create<func::ReturnOp>(op.getLoc(), *results);
  shard.setType(builder.getFunctionType(block.getArgumentTypes(),
                                        ValueRange(*results).getTypes()));
  return success();
}

struct TestShardingRules : impl::GraphTestShardingRulesBase<TestShardingRules> {
  void runOnOperation() override {
    llvm::StringSet<> seen;
    auto functions = llvm::to_vector(getOperation().getOps<func::FuncOp>());
    for (func::FuncOp function : functions) {
      auto op = dyn_cast_or_null<ShardingRuleOpInterface>(
          function.front().getTerminator()->getPrevNode());
      if (!op)
        continue;
      seen.insert(op->getName().getStringRef());
      FailureOr<ShardingRule> rule = op.getShardingRule();
      if (succeeded(rule) && failed(ShardWriter(function, op, *rule).write()))
        return signalPassFailure();
    }
    SmallVector<StringRef> untested;
    for (RegisteredOperationName name : getContext().getRegisteredOperations())
      if (name.hasInterface<ShardingRuleOpInterface>() &&
          !seen.contains(name.getStringRef()))
        untested.push_back(name.getStringRef());
    llvm::sort(untested);
    getOperation()->setAttr("test.untested",
                            Builder(&getContext()).getStrArrayAttr(untested));
  }
};

} // namespace
} // namespace tombolo::graph
