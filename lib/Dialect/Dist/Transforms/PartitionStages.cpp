//===- PartitionStages.cpp - gives every stage its blocks ------------ ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
//
// A stage is told as runs, so that everything behind costs as much as there are
// runs and not as there are layers.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/IR/Dist.h"
#include "tombolo/Dialect/Dist/Transforms/Passes.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "tombolo/Planning/StageSchedule.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace tombolo::dist {
#define GEN_PASS_DEF_DISTPARTITIONSTAGES
#include "tombolo/Dialect/Dist/Transforms/Passes.h.inc"

namespace {

/// One call of a block function in @main.
struct Block {
  func::CallOp call;
  FlatSymbolRefAttr callee;
  SmallVector<int64_t> sources;
  SmallVector<Attribute> parameters;
  bool tied = false; // reads a parameter that another block reads, too
};

/// Reads the chain of blocks out of @main.
class ChainReader {
public:
  explicit ChainReader(ModuleOp module) : module(module), symbols(module) {}

  FailureOr<std::vector<Block>> read() {
    auto main = symbols.lookup<func::FuncOp>("main");
    if (!main)
      return module.emitError("expected a function @main of block calls, as "
                              "graph-find-blocks leaves it");
    for (Operation &op : main.getBody().front()) {
      if (isa<graph::GetParameterOp>(op))
        continue;
      if (auto call = dyn_cast<func::CallOp>(op)) {
        if (failed(readCall(call)))
          return failure();
        continue;
      }
      if (auto result = dyn_cast<func::ReturnOp>(op)) {
        if (failed(checkReturn(result)))
          return failure();
        continue;
      }
      return op.emitError() << "expected nothing but calls of blocks in @main";
    }
    markTied();
    return std::move(blocks);
  }

  /// The blocks that read each tied parameter, by number.
  llvm::MapVector<Attribute, SmallVector<size_t>> users;

private:
  LogicalResult readCall(func::CallOp call) {
    auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
    if (!callee || !callee->hasAttr("graph.block"))
      return call.emitError() << "expected a call of a block";
    Block block;
    block.call = call;
    block.callee = call.getCalleeAttr();
    for (auto [i, operand] : llvm::enumerate(call.getOperands())) {
      if (callee.getArgAttr(i, "graph.parameter")) {
        auto parameter = operand.getDefiningOp<graph::GetParameterOp>();
        if (!parameter)
          return call.emitError()
                 << "argument " << i << " of block @" << call.getCallee()
                 << ": expected a parameter";
        block.parameters.push_back(parameter.getParameterAttr());
      } else if (isa<BlockArgument>(operand)) {
        if (!callee.getArgAttr(i, "graph.input") &&
            !callee.getArgAttr(i, "graph.label") &&
            !callee.getArgAttr(i, graph::kStampAttr))
          return call.emitError()
                 << "argument " << i << " of block @" << call.getCallee()
                 << ": reads an input of the model and does not name it";
        block.sources.push_back(-1);
      } else {
        auto result = cast<OpResult>(operand);
        if (blocks.empty() || result.getOwner() != blocks.back().call)
          return call.emitError()
                 << "block " << blocks.size() << " (@" << call.getCallee()
                 << ") reads a tensor of an earlier block than the one before "
                    "it, which is not there yet";
        block.sources.push_back(result.getResultNumber());
      }
    }
    SmallVector<int64_t> sorted(block.sources);
    llvm::sort(sorted);
    for (auto [a, b] : llvm::zip(sorted, llvm::drop_begin(sorted)))
      if (a == b && a >= 0)
        return call.emitError()
               << "block " << blocks.size() << " (@" << call.getCallee()
               << ") takes one tensor twice";
    blocks.push_back(std::move(block));
    return success();
  }

  LogicalResult checkReturn(func::ReturnOp result) {
    bool plain = !blocks.empty() && result.getNumOperands() == 2;
    for (auto [i, operand] : llvm::enumerate(result.getOperands()))
      plain = plain &&
              operand == Value(blocks.empty() ||
                                       i >= blocks.back().call.getNumResults()
                                   ? Value()
                                   : blocks.back().call.getResult(i));
    if (!plain || blocks.back().call.getNumResults() != 2)
      return result.emitError() << "expected @main to return the loss and the "
                                   "weight of the last block";
    return success();
  }

  void markTied() {
    llvm::MapVector<Attribute, SmallVector<size_t>> all;
    for (auto [number, block] : llvm::enumerate(blocks))
      for (Attribute parameter : block.parameters)
        all[parameter].push_back(number);
    for (auto &[parameter, numbers] : all)
      if (numbers.size() > 1) {
        for (size_t number : numbers)
          blocks[number].tied = true;
        users[parameter] = numbers;
      }
  }

  ModuleOp module;
  SymbolTable symbols;
  std::vector<Block> blocks;
};

class PartitionStages : public impl::DistPartitionStagesBase<PartitionStages> {
public:
  void runOnOperation() override {
    auto strategies = getOperation().getOps<StrategyOp>();
    if (!llvm::hasSingleElement(strategies)) {
      getOperation().emitError()
          << "expected one dist.strategy, got "
          << std::distance(strategies.begin(), strategies.end());
      return signalPassFailure();
    }
    StrategyOp strategy = *strategies.begin();
    if (failed(checkSupported(strategy)))
      return signalPassFailure();
    ChainReader reader(getOperation());
    FailureOr<std::vector<Block>> blocks = reader.read();
    if (failed(blocks))
      return signalPassFailure();
    for (auto [i, island] :
         llvm::enumerate(strategy.getBody().getOps<IslandOp>()))
      if (failed(partition(island, i, *blocks, reader)))
        return signalPassFailure();
  }

private:
  LogicalResult checkSupported(StrategyOp op) {
    planning::Strategy strategy = toStrategy(op);
    planning::Faults faults = planning::supportedBySlice(strategy);
    for (const planning::Fault &fault : faults)
      emitError(locate(op, fault.path)) << fault.path << ": " << fault.message;
    return success(faults.empty());
  }

  LogicalResult partition(IslandOp island, size_t number,
                          ArrayRef<Block> blocks, const ChainReader &reader) {
    uint64_t sum = 0;
    for (StageOp stage : island.getBody().getOps<StageOp>())
      sum += stage.getBlocks();
    if (sum != blocks.size())
      return island.emitError()
             << "islands[" << number << "].stages: the stages have " << sum
             << " blocks, the model has " << blocks.size();
    uint64_t chunks = island.getChunks();
    for (StageOp stage : island.getBody().getOps<StageOp>()) {
      if (stage.getBlocks() < chunks)
        return stage.emitError()
               << "expected a block for each of " << chunks << " chunks, got "
               << static_cast<int64_t>(stage.getBlocks());
      for (RunOp old :
           llvm::make_early_inc_range(stage.getBody().getOps<RunOp>()))
        old.erase();
    }
    size_t first = 0;
    for (uint64_t chunk = 0; chunk < chunks; ++chunk)
      for (StageOp stage : island.getBody().getOps<StageOp>()) {
        uint64_t count =
            planning::blocksOfChunk(stage.getBlocks(), chunks, chunk);
        writeRuns(stage, chunk, blocks.slice(first, count));
        first += count;
      }
    return success();
  }

  void writeRuns(StageOp stage, uint64_t chunk, ArrayRef<Block> blocks) {
    OpBuilder builder = OpBuilder::atBlockEnd(&stage.getBody().front());
    auto equal = [](const Block &a, const Block &b) {
      return !a.tied && !b.tied && a.callee == b.callee &&
             a.sources == b.sources;
    };
    for (size_t begin = 0; begin < blocks.size();) {
      SmallVector<Attribute> parameters;
      size_t end = begin;
      do
        parameters.push_back(builder.getArrayAttr(blocks[end++].parameters));
      while (end < blocks.size() && equal(blocks[begin], blocks[end]));
      builder.create<RunOp>(stage.getLoc(), blocks[begin].callee,
                            builder.getDenseI64ArrayAttr(blocks[begin].sources),
                            builder.getArrayAttr(parameters),
                            FlatSymbolRefAttr(), FlatSymbolRefAttr(),
                            FlatSymbolRefAttr(),
                            builder.getI64IntegerAttr(chunk));
      begin = end;
    }
  }
};

} // namespace
} // namespace tombolo::dist
