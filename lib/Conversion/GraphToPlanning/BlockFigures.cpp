//===- BlockFigures.cpp - what a block costs on each chip -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "BlockFigures.h"
#include "PartsMemory.h"

#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Graph/IR/GraphInterfaces.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/IR/GraphTypes.h"

using namespace mlir;
using namespace tombolo;
using graph::BlockGraph;
using graph::ShardingState;
using planning::Affine;
using planning::Collective;
using Role = graph::BlockGraph::Role;

Affine tombolo::lineThrough(double one, double two) {
  double slope = std::max(two - one, 0.0);
  return {std::max(one - slope, 0.0), slope};
}

planning::Work tombolo::lineThrough(const graph::WorkCost &one,
                                    const graph::WorkCost &two) {
  auto line = [&](double graph::WorkCost::*figure) {
    return lineThrough(one.*figure, two.*figure);
  };
  planning::Work work;
  work.flops = line(&graph::WorkCost::flops);
  work.bytes = line(&graph::WorkCost::contractedBytes);
  work.streamed = line(&graph::WorkCost::streamedBytes);
  work.scores = line(&graph::WorkCost::scores);
  work.ops = one.ops;
  return work;
}

//===----------------------------------------------------------------------===//
// Workspace
//===----------------------------------------------------------------------===//

/// What a value is a view of, through all views.
static Value storageOf(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (!isa<graph::ViewOpInterface>(op) || op->getNumOperands() == 0)
      break;
    value = op->getOperand(0);
  }
  return value;
}

double tombolo::getWorkspaceBytes(func::FuncOp function,
                                  function_ref<double(Value)> bytesOf) {
  Block &body = function.getBody().front();
  DenseMap<Value, Operation *> lastUse;
  DenseSet<Value> outside;
  for (Operation &op : body) {
    bool isReturn = op.hasTrait<OpTrait::IsTerminator>();
    for (Value operand : op.getOperands()) {
      Value storage = storageOf(operand);
      lastUse[storage] = &op;
      if (isReturn)
        outside.insert(storage);
    }
  }
  double live = 0, most = 0;
  for (Operation &op : body) {
    auto isInner = [&](Value value) {
      Operation *source = value.getDefiningOp();
      return source && storageOf(value) == value && !outside.contains(value) &&
             !source->hasTrait<OpTrait::ConstantLike>() &&
             isa<RankedTensorType>(value.getType());
    };
    for (Value result : op.getResults())
      if (isInner(result) && lastUse.contains(result))
        live += bytesOf(result);
    most = std::max(most, live);
    DenseSet<Value> ended;
    for (Value operand : op.getOperands()) {
      Value storage = storageOf(operand);
      if (lastUse[storage] == &op && ended.insert(storage).second &&
          isInner(storage))
        live -= bytesOf(storage);
    }
  }
  return most;
}

//===----------------------------------------------------------------------===//
// On each chip
//===----------------------------------------------------------------------===//

namespace {

class Figures {
public:
  Figures(const BlockGraph &graph, const graph::BlockSharding &sharding)
      : graph(graph), states(graph, sharding),
        chips(static_cast<double>(graph.getCount())) {}

  planning::Work work(unsigned function) const;

  double local(Type type, ShardingState state, int64_t batch) const {
    double bytes = static_cast<double>(graph::getNumBytes(type, batch));
    return state.isSplit() ? bytes / chips : bytes;
  }
  Affine local(Type type, ShardingState state) const {
    return lineThrough(local(type, state, 1), local(type, state, 2));
  }

  const BlockGraph &graph;
  graph::BlockStates states;
  double chips;

private:
  void exchange(planning::Work &work, Collective collective, Type type,
                double times) const;
};

} // namespace

void Figures::exchange(planning::Work &work, Collective collective, Type type,
                       double times) const {
  planning::Exchange &to = work.of(collective);
  to.count += 1;
  to.bytes += lineThrough(
      times * static_cast<double>(graph::getNumBytes(type, 1)),
      times * static_cast<double>(graph::getNumBytes(type, 2)));
}

planning::Work Figures::work(unsigned f) const {
  const BlockGraph::Function &function = graph.getFunctions()[f];
  planning::Work work;
  graph::WorkCost one, two; // on so many samples
  auto convert = [&](unsigned value) {
    graph::Conversions plan = states.getConversions(value);
    if (plan.wanted.empty())
      return;
    ShardingState from = states.getState(value);
    Type type = graph.getType(value);
    if (plan.throughWhole) {
      if (auto collective = getCollective(from, ShardingState::whole()))
        exchange(work, *collective, type, 1);
      return;
    }
    for (ShardingState to : plan.wanted)
      if (auto collective = getCollective(from, to))
        exchange(work, *collective, type, 1);
  };
  for (unsigned value : function.arguments)
    convert(value);
  for (auto [i, node] : llvm::enumerate(function.nodes)) {
    graph::OpSharding does = states.getSharding(f, i);
    if (auto priced = dyn_cast<graph::CostOpInterface>(node.op)) {
      one.add(priced, getLocalCost(node, does, graph.getCount(), 1));
      two.add(priced, getLocalCost(node, does, graph.getCount(), 2));
    }
    if (does.choice.factor >= 0) {
      const graph::ShardingFactor &factor =
          node.rule->factors[does.choice.factor];
      for (RankedTensorType type : factor.allReduced)
        exchange(work, Collective::AllReduce, type, 1);
      for (RankedTensorType type : factor.allGathered)
        exchange(work, Collective::AllGather, type, chips);
    }
    for (unsigned value : node.results)
      convert(value);
  }
  planning::Work all = lineThrough(one, two);
  all.exchanges = work.exchanges;
  return all;
}

planning::BlockKind tombolo::shardFigures(const planning::BlockKind &whole,
                                          const ChainKind &chain,
                                          const BlockGraph &graph,
                                          const graph::BlockSharding &sharding) {
  Figures figures(graph, sharding);
  planning::BlockKind kind = whole;
  kind.sharded.clear();
  kind.tensorParallel = static_cast<uint64_t>(graph.getCount());
  kind.forward = figures.work(graph::kForward);
  kind.backwardInput = figures.work(graph::kBackwardInput);
  kind.backwardWeight = figures.work(graph::kBackwardWeight);
  kind.parameterCount = kind.trainableCount = kind.parameterBytes = 0;
  kind.savedBytes = kind.inputBytes = kind.outputBytes = kind.carriedBytes = {};

  const BlockGraph::Function &forward = graph.getFunctions()[graph::kForward];
  func::FuncOp block = chain.block;
  for (auto [i, value] : llvm::enumerate(forward.arguments)) {
    const BlockGraph::Port &port = graph.getArguments(graph::kForward)[i];
    RankedTensorType type = graph.getType(value);
    if (port.role == Role::Data) {
      if (chain.inputTensors[port.index] >= 0)
        kind.inputBytes += figures.local(type, sharding.data[port.index]);
      continue;
    }
    uint64_t elements = static_cast<uint64_t>(graph::getNumElements(type, 1));
    if (sharding.parameters[port.index].isSplit())
      elements /= kind.tensorParallel;
    kind.parameterCount += elements;
    kind.parameterBytes += 4 * elements; // the f32 master copy
    auto role = block.getArgAttrOfType<StringAttr>(i, graph::kParameterAttr);
    if (role == graph::kTrainable)
      kind.trainableCount += elements;
  }
  for (auto [r, port] : llvm::enumerate(graph.getResults(graph::kForward))) {
    Affine bytes = figures.local(
        graph.getType(forward.returned[r]),
        figures.states.getReturned(graph::kForward, static_cast<unsigned>(r)));
    if (port.role == Role::Saved)
      kind.savedBytes += bytes;
    else if (!chain.isLast)
      kind.outputBytes += bytes;
  }
  for (unsigned f : {graph::kBackwardInput, graph::kBackwardWeight}) {
    const BlockGraph::Function &function = graph.getFunctions()[f];
    for (auto [r, port] : llvm::enumerate(graph.getResults(f))) {
      ShardingState state =
          figures.states.getReturned(f, static_cast<unsigned>(r));
      Type type = graph.getType(function.returned[r]);
      if (port.role == Role::Carried)
        kind.carriedBytes += figures.local(type, state);
      else if (port.role == Role::Parameter && state.isPartial())
        kind.partialGradientBytes +=
            static_cast<uint64_t>(graph::getNumBytes(type, 1));
    }
  }
  // Of the function that needs most of it.
  PartsMemory most[2];
  for (int64_t batch : {1, 2})
    for (unsigned f = 0; f < graph::kBlockFunctions; ++f) {
      PartsMemory one = getPartsMemory(graph, figures.states, f, batch);
      PartsMemory &all = most[batch - 1];
      all.inner = std::max(all.inner, one.inner);
      all.crossing = std::max(all.crossing, one.crossing);
    }
  kind.workspaceBytes = lineThrough(most[0].inner, most[1].inner);
  kind.crossingBytes = lineThrough(most[0].crossing, most[1].crossing);
  return kind;
}
