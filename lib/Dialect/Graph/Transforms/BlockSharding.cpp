//===- BlockSharding.cpp - states and conversions of a sharded block ------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Analysis alone: decides and changes nothing.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/Transforms/BlockSharding.h"
#include "tombolo/Dialect/Graph/IR/GraphDialect.h"

using namespace mlir;

namespace tombolo::graph {

//===----------------------------------------------------------------------===//
// Conversions
//===----------------------------------------------------------------------===//

/// What a ring moves: an all-gather or reduce-scatter of B bytes sends
/// B (count - 1) / count per chip, an all-reduce twice that, an all-to-all of
/// B / count local bytes the count-th part. Nothing when there is no direct
/// way.
static std::optional<int64_t> getDirectCost(int64_t bytes, ShardingState from,
                                            ShardingState to, int64_t count) {
  int64_t part = bytes * (count - 1);
  if (from == to || (from.isWhole() && to.isSplit()))
    return 0;
  if (from.isPartial())
    return to.isWhole() ? 2 * part * count : part * count;
  if (from.isSplit() && to.isWhole())
    return part * count;
  if (from.isSplit() && to.isSplit() && from.dimension != to.dimension)
    return part;
  return std::nullopt;
}

Conversions planConversions(int64_t bytes, ShardingState from,
                            ArrayRef<ShardingState> wanted, int64_t count) {
  Conversions plan;
  bool whole = false;
  std::optional<int64_t> direct = 0;
  for (ShardingState state : wanted) {
    if (state == from || llvm::is_contained(plan.wanted, state))
      continue;
    plan.wanted.push_back(state);
    whole |= state.isWhole();
    auto cost = getDirectCost(bytes, from, state, count);
    direct = direct && cost ? std::optional(*direct + *cost) : std::nullopt;
    plan.starts += cost.value_or(0) > 0;
  }
  if (plan.wanted.empty())
    return plan;
  int64_t throughWhole =
      *getDirectCost(bytes, from, ShardingState::whole(), count);
  plan.throughWhole = whole || !direct || throughWhole <= *direct;
  plan.cost = plan.throughWhole ? throughWhole : *direct;
  if (plan.throughWhole)
    plan.starts = throughWhole > 0;
  return plan;
}

//===----------------------------------------------------------------------===//
// BlockGraph
//===----------------------------------------------------------------------===//

static bool isFloat(Type type) {
  return isa<FloatType>(cast<RankedTensorType>(type).getElementType());
}

/// The results of the block that have a gradient: one for each of the last
/// arguments of the backward function by input.
static FailureOr<SmallVector<unsigned>>
findGradientOutputs(BlockFunctions functions) {
  SmallVector<unsigned> found;
  unsigned wanted = functions.getGradientCount();
  TypeRange gradients =
      TypeRange(functions.backwardInput.getArgumentTypes()).take_back(wanted);
  for (unsigned i = 0, end = functions.getOutputCount();
       i < end && found.size() < wanted; ++i) {
    Type type = functions.forward.getResultTypes()[i];
    if (isFloat(type) && type == gradients[found.size()])
      found.push_back(i);
  }
  if (found.size() != wanted)
    return functions.backwardInput.emitError()
           << "expected the last " << wanted
           << " arguments to be gradients of results of the forward function";
  return found;
}

FailureOr<BlockGraph>
BlockGraph::get(BlockFunctions block, int64_t count, int64_t batch,
                std::optional<SmallVector<unsigned>> gradientOutputs) {
  BlockGraph graph;
  graph.count = count;
  graph.batch = batch;
  if (!gradientOutputs) {
    auto found = findGradientOutputs(block);
    if (failed(found))
      return failure();
    gradientOutputs = std::move(*found);
  }
  for (func::FuncOp function :
       {block.forward, block.backwardInput, block.backwardWeight}) {
    Function &mine = graph.functions.emplace_back();
    mine.function = function;
    llvm::DenseMap<Value, unsigned> numbers;
    auto add = [&](Value value) {
      numbers[value] = graph.values.size();
      graph.values.push_back(value);
      graph.bytes.push_back(getNumBytes(value.getType(), batch));
      return numbers[value];
    };
    auto find = [&](ValueRange values) {
      return llvm::map_to_vector(values,
                                 [&](Value value) { return numbers[value]; });
    };
    Block &body = function.getBody().front();
    for (BlockArgument argument : body.getArguments())
      mine.arguments.push_back(add(argument));
    for (Operation &op : body.without_terminator()) {
      Node &node = mine.nodes.emplace_back();
      node.op = &op;
      node.operands = find(op.getOperands());
      for (Value result : op.getResults())
        node.results.push_back(add(result));
      if (auto sharded = dyn_cast<ShardingRuleOpInterface>(op))
        if (FailureOr<ShardingRule> rule = sharded.getShardingRule();
            succeeded(rule))
          node.rule = std::move(*rule);
      for (Type type : op.getResultTypes())
        node.work += getNumElements(type, batch);
      if (auto priced = dyn_cast<CostOpInterface>(op))
        node.work += static_cast<int64_t>(priced.getCost(batch).flops);
    }
    mine.returned = find(body.getTerminator()->getOperands());
  }
  if (failed(graph.addPorts(block, *gradientOutputs)))
    return failure();
  graph.addUses();
  return graph;
}

void BlockGraph::addUses() {
  readers.resize(values.size());
  returns.resize(values.size());
  for (auto [f, function] : llvm::enumerate(functions)) {
    for (auto [n, node] : llvm::enumerate(function.nodes))
      for (unsigned operand : node.operands)
        if (readers[operand].empty() || readers[operand].back() != n)
          readers[operand].push_back(n);
    for (auto [r, value] : llvm::enumerate(function.returned))
      returns[value].push_back(r);
    passed[f].resize(function.returned.size());
    for (auto [r, port] : llvm::enumerate(results[f])) {
      if (port.role != Role::Carried && port.role != Role::Saved)
        continue;
      for (unsigned later = f + 1; later < kBlockFunctions; ++later)
        for (auto [value, argument] :
             llvm::zip(functions[later].arguments, arguments[later]))
          if (argument.role == port.role && argument.index == port.index)
            passed[f][r].push_back({later, value});
    }
  }
}

LogicalResult BlockGraph::addPorts(BlockFunctions block,
                                   ArrayRef<unsigned> gradientOutputs) {
  dataCount = block.getDataCount();
  parameterCount = block.getParameterCount();
  outputCount = block.getOutputCount();
  carriedCount = block.carriedCount;
  auto list = [](SmallVectorImpl<Port> &ports, Role role, unsigned size) {
    for (unsigned i = 0; i < size; ++i)
      ports.push_back({role, i});
  };
  SmallVector<Port> inputGradients, outputGradients, parameterGradients;
  for (unsigned i = 0; i < dataCount; ++i)
    if (!block.forward.getArgAttr(i, kInputAttr) &&
        !block.forward.getArgAttr(i, kLabelAttr) &&
        isFloat(block.forward.getArgumentTypes()[i]))
      inputGradients.push_back({Role::Data, i, true});
  for (unsigned i : gradientOutputs)
    outputGradients.push_back({Role::Output, i, true});
  for (unsigned i = 0; i < parameterCount; ++i) {
    auto kind = block.forward.getArgAttrOfType<StringAttr>(dataCount + i,
                                                           kParameterAttr);
    if (kind && kind.getValue() == kTrainable)
      parameterGradients.push_back({Role::Parameter, i, true});
  }
  list(arguments[kForward], Role::Data, dataCount);
  list(arguments[kForward], Role::Parameter, parameterCount);
  list(results[kForward], Role::Output, outputCount);
  list(results[kForward], Role::Saved, block.savedCount);
  for (unsigned backward : {kBackwardInput, kBackwardWeight}) {
    list(arguments[backward], Role::Data, dataCount);
    list(arguments[backward], Role::Saved, block.savedCount);
    list(arguments[backward], Role::Parameter, parameterCount);
    llvm::append_range(arguments[backward], outputGradients);
  }
  list(arguments[kBackwardWeight], Role::Carried, block.carriedCount);
  results[kBackwardInput] = inputGradients;
  list(results[kBackwardInput], Role::Carried, block.carriedCount);
  results[kBackwardWeight] = parameterGradients;

  for (auto [number, function] : llvm::enumerate(functions)) {
    auto check = [&](StringRef what, size_t got, size_t expected) {
      if (got == expected)
        return success();
      return LogicalResult(function.function.emitError()
                           << "expected " << expected << " " << what
                           << " by the lists that a block's functions share, "
                              "got "
                           << got);
    };
    if (failed(check("arguments", function.arguments.size(),
                     arguments[number].size())) ||
        failed(
            check("results", function.returned.size(), results[number].size())))
      return failure();
  }
  parameterLike.resize(values.size());
  for (unsigned f = 0; f < kBlockFunctions; ++f)
    for (auto [value, port] : llvm::zip(functions[f].arguments, arguments[f]))
      parameterLike[value] = port.role == Role::Parameter;
  for (auto [value, port] :
       llvm::zip(functions[kBackwardWeight].returned, results[kBackwardWeight]))
    parameterLike[value] = true;
  // What is made of parameters alone counts as one (a cast, a transpose), and
  // so does what a gradient is one of.
  for (const Function &function : functions) {
    for (const Node &node : function.nodes)
      if (!node.operands.empty() &&
          llvm::all_of(node.operands,
                       [&](unsigned v) { return parameterLike[v]; }))
        for (unsigned result : node.results)
          parameterLike[result] = true;
    for (const Node &node : llvm::reverse(function.nodes))
      if (node.operands.size() == 1 && values[node.operands[0]].hasOneUse() &&
          llvm::all_of(node.results,
                       [&](unsigned v) { return parameterLike[v]; }))
        parameterLike[node.operands[0]] = true;
  }
  return success();
}

//===----------------------------------------------------------------------===//
// BlockStates
//===----------------------------------------------------------------------===//

BlockStates::BlockStates(const BlockGraph &graph, const BlockSharding &sharding)
    : graph(graph), sharding(sharding) {
  using Role = BlockGraph::Role;
  states.resize(graph.getNumValues());
  wanted.resize(graph.getNumValues());
  paid.resize(graph.getNumValues());
  for (auto [f, function] : llvm::enumerate(graph.getFunctions())) {
    effective[f].resize(function.nodes.size());
    returned[f].resize(function.returned.size());
    openNodes[f].resize(function.nodes.size());
    openValues[f].resize(graph.getNumValues());
    for (auto [value, port] :
         llvm::zip(function.arguments, graph.getArguments(f))) {
      if (port.role == Role::Data)
        states[value] = sharding.data[port.index];
      else if (port.role == Role::Parameter)
        states[value] = sharding.parameters[port.index];
      else if (port.role == Role::Output)
        states[value] = sharding.outputs[port.index];
      openValues[f].set(value);
    }
    for (auto [n, node] : llvm::enumerate(function.nodes)) {
      openNodes[f].set(n);
      for (unsigned result : node.results)
        openValues[f].set(result);
    }
  }
  follow();
  isFirst = false;
}

void BlockStates::update(unsigned function, unsigned node) {
  openNodes[function].set(node);
  follow();
}

/// Functions in the order they run; in each first the ops, then what is wanted
/// of values and what becomes of them at the end.
void BlockStates::follow() {
  auto forEach = [](llvm::BitVector &open, auto visit) {
    for (int next = open.find_first(); next >= 0; next = open.find_first()) {
      open.reset(next);
      visit(next);
    }
  };
  for (unsigned f = 0; f < kBlockFunctions; ++f) {
    forEach(openNodes[f], [&](unsigned node) { followNode(f, node); });
    forEach(openValues[f], [&](unsigned value) { followValue(f, value); });
  }
}

void BlockStates::followNode(unsigned f, unsigned n) {
  const BlockGraph::Node &node = graph.getFunctions()[f].nodes[n];
  OpSharding does = sharding.ops[f][n];
  if (does.linear >= 0 &&
      !llvm::all_of(node.rule->linear[does.linear], [&](int operand) {
        return states[node.operands[operand]].isPartial();
      }))
    does = {};
  if (does == effective[f][n] && !isFirst)
    return;
  if (!isFirst)
    cost -= costOfNode(f, n);
  effective[f][n] = does;
  cost += costOfNode(f, n);
  for (unsigned operand : node.operands)
    openValues[f].set(operand);
  for (auto [i, value] : llvm::enumerate(node.results)) {
    if (does.linear >= 0)
      setState(f, value, ShardingState::partial());
    else if (node.rule)
      setState(f, value, getResultState(*node.rule, does.choice, i));
  }
}

/// Of the readers only those that add partial sums do what their operands
/// allow.
void BlockStates::setState(unsigned f, unsigned value, ShardingState state) {
  if (states[value] == state)
    return;
  states[value] = state;
  openValues[f].set(value);
  for (unsigned reader : graph.getReaders(value))
    if (sharding.ops[f][reader].linear >= 0)
      openNodes[f].set(reader);
}

ShardingCost BlockStates::costOfNode(unsigned f, unsigned n) const {
  const BlockGraph::Node &node = graph.getFunctions()[f].nodes[n];
  const ShardingChoice &choice = effective[f][n].choice;
  int64_t count = graph.getCount();
  ShardingCost cost;
  if (choice.factor < 0) {
    cost.work = node.work * count;
    return cost;
  }
  cost.work = node.work;
  const ShardingFactor &factor = node.rule->factors[choice.factor];
  for (auto [types, times] : {std::pair(&factor.allReduced, int64_t(2)),
                              {&factor.allGathered, count}})
    for (RankedTensorType type : *types) {
      ++cost.starts;
      cost.activations +=
          times * count * (count - 1) * getNumBytes(type, graph.getBatch());
    }
  return cost;
}

/// What is wanted of a value by ops, in order, and at the end of its function;
/// what conversions cost; what later functions get of it.
void BlockStates::followValue(unsigned f, unsigned value) {
  using Role = BlockGraph::Role;
  SmallVector<ShardingState, 2> &states = wanted[value];
  states.clear();
  auto want = [&](ShardingState state) {
    if (!llvm::is_contained(states, state))
      states.push_back(state);
  };
  const BlockGraph::Function &function = graph.getFunctions()[f];
  for (unsigned reader : graph.getReaders(value))
    for (auto [i, operand] : llvm::enumerate(function.nodes[reader].operands))
      if (operand == value)
        want(getOperandState(f, reader, i));
  for (unsigned result : graph.getReturns(value)) {
    Role role = graph.getResults(f)[result].role;
    if (role != Role::Saved && role != Role::Carried)
      want(stateOfReturned(f, result));
  }
  cost -= paid[value];
  paid[value] = costOfValue(f, value);
  cost += paid[value];
  for (unsigned result : graph.getReturns(value)) {
    returned[f][result] = stateOfReturned(f, result);
    for (BlockGraph::Argument argument : graph.getPassed(f, result))
      setState(argument.function, argument.value, returned[f][result]);
  }
}

ShardingCost BlockStates::costOfValue(unsigned f, unsigned value) const {
  ShardingCost cost;
  Conversions made = getConversions(value);
  (graph.isParameter(value) ? cost.parameters : cost.activations) = made.cost;
  cost.starts = made.starts;
  for (unsigned result : graph.getReturns(value)) {
    const BlockGraph::Port &port = graph.getResults(f)[result];
    if (port.role == BlockGraph::Role::Parameter &&
        sharding.parameters[port.index].isWhole() && states[value].isPartial())
      cost.step +=
          2 * (graph.getCount() - 1) * graph.getCount() * graph.getBytes(value);
  }
  return cost;
}

/// What is passed on as it was made depends on what is wanted of it.
ShardingState BlockStates::stateOfReturned(unsigned f, unsigned result) const {
  using Role = BlockGraph::Role;
  const BlockGraph::Port &port = graph.getResults(f)[result];
  unsigned value = graph.getFunctions()[f].returned[result];
  ShardingState state = states[value];
  switch (port.role) {
  case Role::Output:
    return sharding.outputs[port.index];
  case Role::Data:
    return sharding.data[port.index];
  case Role::Parameter: {
    ShardingState own = sharding.parameters[port.index];
    return own.isWhole() && state.isPartial() ? state : own;
  }
  case Role::Saved:
  case Role::Carried:
    break;
  }
  if (!state.isPartial())
    return state;
  std::optional<ShardingState> best;
  for (ShardingState other : wanted[value])
    if (!other.isPartial() &&
        (!best ||
         std::tuple(!other.isWhole(), other.dimension, other.outer) <
             std::tuple(!best->isWhole(), best->dimension, best->outer)))
      best = other;
  return best.value_or(state);
}

Conversions BlockStates::getConversions(unsigned value) const {
  return planConversions(graph.getBytes(value), states[value], wanted[value],
                         graph.getCount());
}

ShardingState BlockStates::getOperandState(unsigned function, unsigned node,
                                           unsigned index) const {
  const BlockGraph::Node &at = graph.getFunctions()[function].nodes[node];
  const OpSharding &does = effective[function][node];
  if (!at.rule)
    return ShardingState::whole();
  if (does.linear >= 0)
    return llvm::is_contained(at.rule->linear[does.linear],
                              static_cast<int>(index))
               ? ShardingState::partial()
               : ShardingState::whole();
  return graph::getOperandState(*at.rule, does.choice, index);
}

} // namespace tombolo::graph
