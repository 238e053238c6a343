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
static std::optional<int64_t> getDirectCost(RankedTensorType type,
                                            ShardingState from,
                                            ShardingState to, int64_t count,
                                            int64_t batch) {
  int64_t part = getNumBytes(type, batch) * (count - 1);
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

Conversions planConversions(RankedTensorType type, ShardingState from,
                            ArrayRef<ShardingState> wanted, int64_t count,
                            int64_t batch) {
  Conversions plan;
  bool whole = false;
  std::optional<int64_t> direct = 0;
  for (ShardingState state : wanted) {
    if (state == from || llvm::is_contained(plan.wanted, state))
      continue;
    plan.wanted.push_back(state);
    whole |= state.isWhole();
    auto cost = getDirectCost(type, from, state, count, batch);
    direct = direct && cost ? std::optional(*direct + *cost) : std::nullopt;
    plan.starts += cost.value_or(0) > 0;
  }
  if (plan.wanted.empty())
    return plan;
  int64_t throughWhole =
      *getDirectCost(type, from, ShardingState::whole(), count, batch);
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
  return graph;
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
  states.resize(graph.getNumValues());
  wanted.resize(graph.getNumValues());
  for (unsigned function = 0; function < kBlockFunctions; ++function)
    runFunction(function);
}

void BlockStates::want(unsigned value, ShardingState state) {
  if (!llvm::is_contained(wanted[value], state))
    wanted[value].push_back(state);
}

Conversions BlockStates::getConversions(unsigned value) const {
  return planConversions(graph.getType(value), states[value], wanted[value],
                         graph.getCount(), graph.getBatch());
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

void BlockStates::runFunction(unsigned number) {
  const BlockGraph::Function &function = graph.getFunctions()[number];
  using Role = BlockGraph::Role;
  for (auto [value, port] :
       llvm::zip(function.arguments, graph.getArguments(number))) {
    switch (port.role) {
    case Role::Data:
      states[value] = sharding.data[port.index];
      break;
    case Role::Parameter:
      states[value] = sharding.parameters[port.index];
      break;
    case Role::Output:
      states[value] = sharding.outputs[port.index];
      break;
    case Role::Saved:
      states[value] = returned[kForward][graph.getOutputCount() + port.index];
      break;
    case Role::Carried:
      states[value] = ArrayRef(returned[kBackwardInput])
                          .take_back(graph.getCarriedCount())[port.index];
      break;
    }
  }
  int64_t count = graph.getCount();
  effective[number].reserve(function.nodes.size());
  for (auto [index, node] : llvm::enumerate(function.nodes)) {
    OpSharding does = sharding.ops[number][index];
    if (does.linear >= 0 &&
        !llvm::all_of(node.rule->linear[does.linear], [&](int operand) {
          return states[node.operands[operand]].isPartial();
        }))
      does = {};
    effective[number].push_back(does);
    for (unsigned i = 0, end = node.operands.size(); i < end; ++i)
      want(node.operands[i], getOperandState(number, index, i));
    for (auto [i, value] : llvm::enumerate(node.results)) {
      if (does.linear >= 0)
        states[value] = ShardingState::partial();
      else if (node.rule)
        states[value] = getResultState(*node.rule, does.choice, i);
    }
    bool split = does.choice.factor >= 0;
    cost.work += split ? node.work : node.work * count;
    if (!split)
      continue;
    const ShardingFactor &factor = node.rule->factors[does.choice.factor];
    for (auto [types, times] : {std::pair(&factor.allReduced, int64_t(2)),
                                {&factor.allGathered, count}})
      for (RankedTensorType type : *types) {
        ++cost.starts;
        cost.activations +=
            times * count * (count - 1) * getNumBytes(type, graph.getBatch());
      }
  }
  returnValues(number);
}

void BlockStates::returnValues(unsigned number) {
  const BlockGraph::Function &function = graph.getFunctions()[number];
  using Role = BlockGraph::Role;
  SmallVector<ShardingState> &out = returned[number];
  // What is passed on as it is made depends on what is wanted of it: last.
  for (auto [value, port] :
       llvm::zip(function.returned, graph.getResults(number))) {
    ShardingState state = states[value];
    if (port.role == Role::Output)
      state = sharding.outputs[port.index];
    else if (port.role == Role::Data)
      state = sharding.data[port.index];
    else if (port.role == Role::Parameter) {
      ShardingState own = sharding.parameters[port.index];
      if (!(own.isWhole() && state.isPartial()))
        state = own;
      else
        cost.step += 2 * (graph.getCount() - 1) * graph.getCount() *
                     getNumBytes(graph.getType(value), graph.getBatch());
    }
    out.push_back(state);
    if (port.role != Role::Saved && port.role != Role::Carried)
      want(value, state);
  }
  for (auto [i, port] : llvm::enumerate(graph.getResults(number))) {
    unsigned value = function.returned[i];
    if ((port.role != Role::Saved && port.role != Role::Carried) ||
        !states[value].isPartial())
      continue;
    std::optional<ShardingState> best;
    for (ShardingState state : wanted[value])
      if (!state.isPartial() &&
          (!best ||
           std::tuple(!state.isWhole(), state.dimension, state.outer) <
               std::tuple(!best->isWhole(), best->dimension, best->outer)))
        best = state;
    if (best)
      out[i] = *best;
  }
  // Every value of the function has all its users now.
  auto pay = [&](unsigned value) {
    Conversions made = getConversions(value);
    (graph.isParameter(value) ? cost.parameters : cost.activations) +=
        made.cost;
    cost.starts += made.starts;
  };
  for (unsigned value : function.arguments)
    pay(value);
  for (const BlockGraph::Node &node : function.nodes)
    for (unsigned value : node.results)
      pay(value);
}

} // namespace tombolo::graph
