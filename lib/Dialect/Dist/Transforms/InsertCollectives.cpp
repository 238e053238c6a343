//===- InsertCollectives.cpp - block functions of one chip ----------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "ShardingSeeds.h"

#include "tombolo/Dialect/Dist/Transforms/Passes.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <set>

using namespace mlir;

namespace tombolo::dist {
#define GEN_PASS_DEF_DISTINSERTCOLLECTIVES
#include "tombolo/Dialect/Dist/Transforms/Passes.h.inc"

namespace {

using graph::BlockGraph;
using graph::BlockSharding;
using graph::ShardingState;

/// The three functions of a run that are still to be rewritten.
struct Pending {
  BlockGraph graph;
  BlockSharding sharding;
  /// Of whole parameters, by number: gradients that are partial sums, those
  /// that every chip has whole, and those of them that become partial.
  std::set<unsigned> partial, whole, madePartial;
};

class InsertCollectives
    : public impl::DistInsertCollectivesBase<InsertCollectives> {
public:
  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    for (auto strategy : getOperation().getOps<StrategyOp>())
      for (auto island : strategy.getBody().getOps<IslandOp>()) {
        auto runs = readRuns(island, symbols);
        if (failed(runs) || failed(collect(*runs)))
          return signalPassFailure();
        agree(*runs);
      }
    for (auto &[function, pending] : all) {
      SmallVector<unsigned> made(pending.madePartial.begin(),
                                 pending.madePartial.end());
      if (failed(graph::shardFunctions(pending.graph, pending.sharding, made)))
        return signalPassFailure();
      for (const BlockGraph::Function &each : pending.graph.getFunctions())
        finish(each.function, pending.graph.getCount());
    }
    all.clear();
  }

private:
  static ShardingState readState(Attribute attribute) {
    auto split = dyn_cast_or_null<DenseI64ArrayAttr>(attribute);
    return split ? ShardingState::split(split[0], split[1]) : ShardingState();
  }

  /// What the propagation wrote.
  FailureOr<BlockSharding> readSharding(const BlockGraph &graph) {
    BlockSharding sharding;
    func::FuncOp forward = graph.getFunctions()[graph::kForward].function;
    auto checked = [&](Value value, Attribute attribute,
                       SmallVectorImpl<ShardingState> &to) -> LogicalResult {
      auto split = dyn_cast_or_null<DenseI64ArrayAttr>(attribute);
      ShardingState state;
      if (attribute) {
        if (!split || split.size() != 3 || split[2] != graph.getCount())
          return forward.emitError()
                 << "expected '" << graph::kSplitAttr
                 << "' to be [dimension, outer, " << graph.getCount()
                 << "], got " << attribute;
        state = ShardingState::split(split[0], split[1]);
      }
      auto type = cast<RankedTensorType>(value.getType());
      if (!graph::canBeInState(type, state, graph.getCount()))
        return forward.emitError()
               << type << " cannot be '" << graph::toString(state) << "' on "
               << graph.getCount() << " chips";
      to.push_back(state);
      return success();
    };
    for (unsigned i = 0, end = forward.getNumArguments(); i < end; ++i)
      if (failed(checked(
              forward.getArgument(i), forward.getArgAttr(i, graph::kSplitAttr),
              i < graph.getDataCount() ? sharding.data : sharding.parameters)))
        return failure();
    Operation *end = forward.getBody().front().getTerminator();
    for (unsigned i = 0; i < graph.getOutputCount(); ++i)
      if (failed(checked(end->getOperand(i),
                         forward.getResultAttr(i, graph::kSplitAttr),
                         sharding.outputs)))
        return failure();
    for (auto [f, function] : llvm::enumerate(graph.getFunctions()))
      for (const BlockGraph::Node &node : function.nodes) {
        graph::OpSharding &does = sharding.ops[f].emplace_back();
        Attribute attribute = node.op->getAttr(graph::kChoiceAttr);
        if (!attribute)
          continue;
        auto choice = dyn_cast<DenseI64ArrayAttr>(attribute);
        if (choice && choice.size() == 2)
          does = graph::OpSharding::fromCode(choice[0], choice[1]);
        bool fits = choice && choice.size() == 2 && node.rule;
        if (fits && does.linear >= 0)
          fits = does.linear < static_cast<int>(node.rule->linear.size());
        else if (fits && does.choice.factor >= 0)
          fits = graph::canSplit(*node.rule, does.choice, graph.getCount());
        if (!fits)
          return node.op->emitError()
                 << "its rule does not allow '" << graph::kChoiceAttr << "' "
                 << attribute << " on " << graph.getCount() << " chips";
      }
    return sharding;
  }

  LogicalResult collect(ArrayRef<ShardedRun> runs) {
    for (ShardedRun run : runs) {
      func::FuncOp forward = run.functions.forward;
      if (run.count == 1 || all.count(forward) ||
          forward->hasAttr(graph::kTensorParallelAttr))
        continue;
      auto over = forward->getAttrOfType<IntegerAttr>(graph::kChoicesOverAttr);
      if (!over || over.getInt() != run.count)
        return forward.emitError()
               << "expected '" << graph::kChoicesOverAttr << " = " << run.count
               << "', run dist-propagate-shardings first";
      auto graph =
          BlockGraph::get(run.functions, run.count, 1, run.gradientOutputs);
      if (failed(graph))
        return failure();
      auto sharding = readSharding(*graph);
      if (failed(sharding))
        return failure();
      Pending pending{std::move(*graph), std::move(*sharding), {}, {}, {}};
      graph::BlockStates states(pending.graph, pending.sharding);
      for (auto [i, port] :
           llvm::enumerate(pending.graph.getResults(graph::kBackwardWeight))) {
        ShardingState state = states.getReturned(graph::kBackwardWeight, i);
        if (state.isPartial())
          pending.partial.insert(port.index);
        else if (state.isWhole())
          pending.whole.insert(port.index);
      }
      all.insert({forward, std::move(pending)});
    }
    return success();
  }

  /// The gradients of a parameter of several blocks are added, so either all of
  /// them are partial sums or none: whole ones become partial, on one chip
  /// what they are and zero on the others. A function serves several runs, so
  /// one change can ask for another.
  void agree(ArrayRef<ShardedRun> runs) {
    for (bool changed = true; changed;) {
      changed = false;
      std::set<const void *> partial;
      auto forEach = [&](auto visit) {
        for (ShardedRun run : runs) {
          auto found = all.find(run.functions.forward);
          if (found == all.end())
            continue;
          for (unsigned i = 0, end = found->second.graph.getParameterCount();
               i < end; ++i)
            for (Attribute block : run.run.getParameters())
              visit(found->second, i,
                    cast<ArrayAttr>(block)[i].getAsOpaquePointer());
        }
      };
      forEach([&](Pending &pending, unsigned i, const void *symbol) {
        if (pending.partial.count(i) || pending.madePartial.count(i))
          partial.insert(symbol);
      });
      forEach([&](Pending &pending, unsigned i, const void *symbol) {
        if (pending.whole.count(i) && partial.count(symbol))
          changed |= pending.madePartial.insert(i).second;
      });
    }
  }

  void finish(func::FuncOp function, int64_t count) {
    function.walk([](Operation *op) { op->removeAttr(graph::kChoiceAttr); });
    function->removeAttr(graph::kChoicesOverAttr);
    function->setAttr(graph::kTensorParallelAttr,
                      Builder(&getContext()).getI64IntegerAttr(count));
  }

  llvm::MapVector<Operation *, Pending> all;
};

} // namespace
} // namespace tombolo::dist
