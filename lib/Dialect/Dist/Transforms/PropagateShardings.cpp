//===- PropagateShardings.cpp - what block functions split ----------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
//
// Decides on functions with a symbolic batch, for which seeds are, and writes
// it on those of the island's microbatch: the factors of a rule have other
// numbers there.
//
//===----------------------------------------------------------------------===//

#include "ShardingSeeds.h"

#include "tombolo/Dialect/Dist/Transforms/Passes.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace tombolo::dist {
#define GEN_PASS_DEF_DISTPROPAGATESHARDINGS
#include "tombolo/Dialect/Dist/Transforms/Passes.h.inc"

namespace {

using graph::OpSharding;
using graph::ShardingState;

/// The same choice by the numbers of another rule of the op: the one under
/// which every operand and result is in the same state.
FailureOr<OpSharding> translate(const graph::ShardingRule &from,
                                OpSharding does, const graph::ShardingRule &to,
                                int64_t count) {
  if (does.choice.factor < 0)
    return does;
  unsigned operands = from.operands.size(), results = from.results.size();
  auto isSame = [&](graph::ShardingChoice choice) {
    for (unsigned i = 0; i < operands; ++i)
      if (graph::getOperandState(to, choice, i) !=
          graph::getOperandState(from, does.choice, i))
        return false;
    for (unsigned i = 0; i < results; ++i)
      if (graph::getResultState(to, choice, i) !=
          graph::getResultState(from, does.choice, i))
        return false;
    return true;
  };
  auto find = [&]() -> std::optional<graph::ShardingChoice> {
    for (unsigned i = 0; i < operands; ++i)
      if (auto found = graph::getChoiceForOperand(
              to, i, graph::getOperandState(from, does.choice, i), count);
          found && isSame(*found))
        return found;
    for (unsigned i = 0; i < results; ++i)
      if (auto found = graph::getChoiceForResult(
              to, i, graph::getResultState(from, does.choice, i), count);
          found && isSame(*found))
        return found;
    return std::nullopt;
  };
  auto choice = find();
  if (!choice)
    return failure();
  return OpSharding{*choice, -1};
}

class PropagateShardings
    : public impl::DistPropagateShardingsBase<PropagateShardings> {
public:
  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    for (auto strategy : getOperation().getOps<StrategyOp>())
      if (failed(run(strategy, symbols)))
        return signalPassFailure();
  }

private:
  LogicalResult run(StrategyOp strategy, SymbolTable &symbols) {
    bool isParallel = false;
    strategy.walk(
        [&](StageOp stage) { isParallel |= stage.getTensorParallel() > 1; });
    if (!isParallel)
      return success();
    auto seeds = SeedTable::read(strategy, symbols);
    if (failed(seeds))
      return failure();
    for (auto island : strategy.getBody().getOps<IslandOp>()) {
      auto runs = readRuns(island, symbols);
      if (failed(runs))
        return failure();
      for (ShardedRun &run : *runs)
        if (run.count > 1 && failed(annotate(run, *seeds)))
          return failure();
      if (failed(checkBoundaries(*runs, *seeds)) ||
          failed(checkTies(*runs, *seeds)))
        return failure();
    }
    return success();
  }

  LogicalResult annotate(ShardedRun &run, const SeedTable &table) {
    func::FuncOp forward = run.functions.forward;
    if (forward->hasAttr(graph::kChoicesOverAttr) ||
        forward->hasAttr(graph::kTensorParallelAttr))
      return success();
    SeedTable::Entry entry = table.get(run.block.getSymName(), run.count);
    auto original = graph::BlockFunctions::get(run.block);
    if (failed(original))
      return failure();
    // Clones that are in no module: nothing of them stays.
    std::array<OwningOpRef<func::FuncOp>, 3> owned;
    graph::BlockFunctions symbolic = *original;
    std::array<func::FuncOp *, 3> functions = {
        &symbolic.forward, &symbolic.backwardInput, &symbolic.backwardWeight};
    for (auto [owner, function] : llvm::zip(owned, functions)) {
      *function = function->clone();
      owner = *function;
    }
    auto precision = getOperation()->getAttrOfType<StringAttr>(kPrecisionAttr);
    if (precision && precision.getValue() == "bf16")
      graph::lowerPrecision(symbolic);
    auto graph = graph::BlockGraph::get(symbolic, run.count, run.microbatch,
                                        run.gradientOutputs);
    if (failed(graph))
      return failure();
    auto sharding = graph::propagateShardings(*graph, entry.seeds);
    if (failed(sharding)) {
      mlir::emitError(entry.op ? locate(entry.op, "ops") : run.run.getLoc())
          << "sharding: block @" << run.block.getSymName()
          << " cannot be sharded so over " << run.count << " chips";
      return failure();
    }
    return write(run, *graph, *sharding);
  }

  LogicalResult write(ShardedRun &run, const graph::BlockGraph &symbolic,
                      const graph::BlockSharding &sharding) {
    auto fixed = graph::BlockGraph::get(run.functions, run.count, 1,
                                        run.gradientOutputs);
    if (failed(fixed))
      return failure();
    Builder builder(&getContext());
    for (unsigned f = 0; f < graph::kBlockFunctions; ++f) {
      const auto &from = symbolic.getFunctions()[f].nodes;
      const auto &to = fixed->getFunctions()[f].nodes;
      func::FuncOp function = fixed->getFunctions()[f].function;
      if (from.size() != to.size())
        return function.emitError()
               << "expected the ops of block @" << run.block.getSymName();
      for (auto [was, is, does] : llvm::zip(from, to, sharding.ops[f])) {
        if (does == OpSharding())
          continue;
        auto choice = translate(*was.rule, does, *is.rule, run.count);
        if (failed(choice))
          return is.op->emitError()
                 << "has no factor for what its rule splits when the batch is "
                    "symbolic";
        is.op->setAttr(graph::kChoiceAttr,
                       builder.getDenseI64ArrayAttr(
                           {choice->getCode(), choice->choice.outer}));
      }
      function->setAttr(graph::kChoicesOverAttr,
                        builder.getI64IntegerAttr(run.count));
    }
    func::FuncOp forward = run.functions.forward;
    auto attribute = [&](ShardingState state) {
      return builder.getDenseI64ArrayAttr(
          {state.dimension, state.outer, run.count});
    };
    unsigned argument = 0;
    for (auto *states : {&sharding.data, &sharding.parameters})
      for (ShardingState state : *states) {
        if (state.isSplit())
          forward.setArgAttr(argument, graph::kSplitAttr, attribute(state));
        ++argument;
      }
    for (auto [i, state] : llvm::enumerate(sharding.outputs))
      if (state.isSplit())
        forward.setResultAttr(i, graph::kSplitAttr, attribute(state));
    return success();
  }

  /// That a tensor between blocks on equally many chips is in one state.
  LogicalResult checkBoundaries(ArrayRef<ShardedRun> runs,
                                const SeedTable &table) {
    auto check = [&](ShardedRun before, ShardedRun after) -> LogicalResult {
      if (before.count != after.count || after.count == 1)
        return success();
      for (auto [i, source] : llvm::enumerate(after.run.getSources())) {
        if (source < 0)
          continue;
        Attribute made =
            before.functions.forward.getResultAttr(source, graph::kSplitAttr);
        Attribute read =
            after.functions.forward.getArgAttr(i, graph::kSplitAttr);
        if (made == read)
          continue;
        ShardingOp at = table.get(after.block.getSymName(), after.count).op;
        InFlightDiagnostic error = mlir::emitError(
            at ? locate(at, planning::at("inputs", i)) : after.run.getLoc());
        error << "sharding: block @" << after.block.getSymName()
              << " takes input " << i << " as " << describe(read) << ", block @"
              << before.block.getSymName() << " leaves it as "
              << describe(made);
        if (ShardingOp other =
                table.get(before.block.getSymName(), before.count).op)
          error.attachNote(locate(other, planning::at("outputs", source)))
              << "of the block before";
        return error;
      }
      return success();
    };
    for (size_t i = 0; i < runs.size(); ++i) {
      ShardedRun run = runs[i];
      if (run.run.getParameters().size() > 1 && failed(check(run, run)))
        return failure();
      if (i > 0 && failed(check(runs[i - 1], run)))
        return failure();
    }
    return success();
  }

  /// That a parameter of several blocks is in one state.
  LogicalResult checkTies(ArrayRef<ShardedRun> runs, const SeedTable &table) {
    llvm::DenseMap<Attribute, std::pair<Attribute, const ShardedRun *>> seen;
    for (const ShardedRun &run : runs) {
      if (run.count == 1)
        continue;
      RunOp op = run.run;
      graph::BlockFunctions functions = run.functions;
      unsigned first = functions.getDataCount();
      for (auto [i, parameter] : llvm::enumerate(op.getParametersOf(0))) {
        Attribute split =
            functions.forward.getArgAttr(first + i, graph::kSplitAttr);
        auto [entry, fresh] = seen.try_emplace(parameter, split, &run);
        if (fresh || entry->second.first == split)
          continue;
        func::FuncOp block = run.block, other = entry->second.second->block;
        ShardingOp at = table.get(block.getSymName(), run.count).op;
        return mlir::emitError(at ? locate(at, "parameters") : op.getLoc())
               << "sharding: parameter " << parameter << " is "
               << describe(split) << " in block @" << block.getSymName()
               << " and " << describe(entry->second.first) << " in block @"
               << other.getSymName();
      }
    }
    return success();
  }

  static std::string describe(Attribute split) {
    auto values = dyn_cast_or_null<DenseI64ArrayAttr>(split);
    return values ? graph::toString(ShardingState::split(values[0], values[1]))
                  : "whole";
  }
};

} // namespace
} // namespace tombolo::dist
