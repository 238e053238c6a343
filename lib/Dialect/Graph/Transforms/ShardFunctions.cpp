//===- ShardFunctions.cpp - the functions of one chip ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Rewrite alone: does what a BlockSharding says.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/Transforms/BlockSharding.h"

using namespace mlir;

namespace tombolo::graph {

namespace {

using Role = BlockGraph::Role;

/// Rewrites one function of a block.
class FunctionSharder {
public:
  FunctionSharder(const BlockGraph &graph, const BlockStates &states,
                  unsigned number)
      : graph(graph), states(states), number(number),
        function(graph.getFunctions()[number]), target(function.function),
        builder(target.getContext()) {}

  LogicalResult run(ArrayRef<unsigned> partialGradients);

private:
  Value getIndex();
  Value get(unsigned value, ShardingState state);
  Value convert(unsigned value, ShardingState from, ShardingState to);
  void set(unsigned value, Value local) {
    versions[value].emplace_back(states.getState(value), local);
  }
  LogicalResult build(unsigned index);
  Value buildPartial(Value whole);
  RankedTensorType getLocal(unsigned value, ShardingState state) const {
    return getLocalType(graph.getType(value), state, graph.getCount());
  }

  const BlockGraph &graph;
  const BlockStates &states;
  unsigned number;
  const BlockGraph::Function &function;
  func::FuncOp target;
  OpBuilder builder;
  Block *body = nullptr;
  Value index;
  /// What there is of each value, by state.
  llvm::DenseMap<unsigned, SmallVector<std::pair<ShardingState, Value>, 2>>
      versions;
};

/// At the function's beginning, where everything may read it.
Value FunctionSharder::getIndex() {
  if (!index) {
    OpBuilder start = OpBuilder::atBlockBegin(body);
    index = start.create<TensorIndexOp>(
        target.getLoc(), RankedTensorType::get({}, start.getI64Type()));
  }
  return index;
}

Value FunctionSharder::convert(unsigned value, ShardingState from,
                               ShardingState to) {
  auto getTensorIndex = [&] { return getIndex(); };
  ShardContext context{graph.getCount(), getTensorIndex};
  Value converted =
      buildConversion(builder, graph.getValue(value).getLoc(), get(value, from),
                      graph.getType(value), from, to, context);
  versions[value].emplace_back(to, converted);
  return converted;
}

/// The value in this state, converted where it is first wanted.
Value FunctionSharder::get(unsigned value, ShardingState state) {
  for (auto &[known, local] : versions[value])
    if (known == state)
      return local;
  ShardingState own = states.getState(value);
  if (!state.isWhole() && !own.isWhole() &&
      states.getConversions(value).throughWhole) {
    get(value, ShardingState::whole());
    own = ShardingState::whole();
  }
  return convert(value, own, state);
}

/// `where(index == 0, whole, 0)`.
Value FunctionSharder::buildPartial(Value whole) {
  Location loc = whole.getLoc();
  Value first = builder.create<ConstantOp>(
      loc, DenseElementsAttr::get(
               RankedTensorType::get({}, builder.getI64Type()), int64_t(0)));
  Value isFirst = builder.create<EqualOp>(loc, getIndex(), first);
  return builder.create<WhereOp>(
      loc, isFirst, whole,
      buildScalar(builder, loc, 0,
                  cast<RankedTensorType>(whole.getType()).getElementType()));
}

LogicalResult FunctionSharder::build(unsigned at) {
  const BlockGraph::Node &node = function.nodes[at];
  OpSharding does = states.getSharding(number, at);
  SmallVector<Value> operands;
  for (auto [i, value] : llvm::enumerate(node.operands))
    operands.push_back(get(value, states.getOperandState(number, at, i)));
  SmallVector<Value> results;
  if (does.choice.factor >= 0) {
    auto getTensorIndex = [&] { return getIndex(); };
    ShardContext context{graph.getCount(), getTensorIndex};
    FailureOr<SmallVector<Value>> built = buildShard(
        node.op, builder, operands, *node.rule, does.choice, context);
    if (failed(built))
      return node.op->emitError()
             << "cannot be split over " << graph.getCount() << " chips";
    results = std::move(*built);
  } else {
    Operation *clone = builder.clone(*node.op);
    clone->setOperands(operands);
    results = llvm::to_vector_of<Value>(clone->getResults());
  }
  for (auto [value, result] : llvm::zip(node.results, results))
    set(value, result);
  return success();
}

LogicalResult FunctionSharder::run(ArrayRef<unsigned> partialGradients) {
  Block *old = &target.getBody().front();
  body = new Block();
  target.getBody().push_back(body);
  builder.setInsertionPointToEnd(body);
  auto splitAttr = [&](ShardingState state) {
    return builder.getDenseI64ArrayAttr(
        {state.dimension, state.outer, graph.getCount()});
  };
  for (auto [i, value] : llvm::enumerate(function.arguments)) {
    ShardingState state = states.getState(value);
    set(value, body->addArgument(getLocal(value, state),
                                 old->getArgument(i).getLoc()));
    if (state.isSplit())
      target.setArgAttr(i, kSplitAttr, splitAttr(state));
    if (state.isPartial())
      target.setArgAttr(i, kPartialAttr, builder.getUnitAttr());
  }
  for (unsigned i = 0, end = function.nodes.size(); i < end; ++i)
    if (failed(build(i)))
      return failure();
  SmallVector<Value> returned;
  for (auto [i, value] : llvm::enumerate(function.returned)) {
    BlockGraph::Port port = graph.getResults(number)[i];
    ShardingState state = states.getReturned(number, i);
    Value local = get(value, state);
    if (port.role == Role::Parameter && state.isWhole() &&
        llvm::is_contained(partialGradients, port.index)) {
      local = buildPartial(local);
      state = ShardingState::partial();
    }
    returned.push_back(local);
    if (state.isSplit())
      target.setResultAttr(i, kSplitAttr, splitAttr(state));
    if (state.isPartial())
      target.setResultAttr(i, kPartialAttr, builder.getUnitAttr());
  }
  builder.create<func::ReturnOp>(old->getTerminator()->getLoc(), returned);
  old->dropAllReferences();
  old->dropAllDefinedValueUses();
  old->erase();
  target.setFunctionType(
      builder.getFunctionType(body->getArgumentTypes(), ValueRange(returned)));
  combineCollectives(target);
  return success();
}

} // namespace

LogicalResult shardFunctions(const BlockGraph &graph,
                             const BlockSharding &sharding,
                             ArrayRef<unsigned> partialGradients) {
  BlockStates states(graph, sharding);
  for (unsigned number = 0; number < kBlockFunctions; ++number)
    if (failed(FunctionSharder(graph, states, number).run(partialGradients)))
      return failure();
  return success();
}

} // namespace tombolo::graph
