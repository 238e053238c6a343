//===- ShardingSeeds.cpp - a strategy's seeds for its block functions -----===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "ShardingSeeds.h"

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;

namespace tombolo::dist {

//===----------------------------------------------------------------------===//
// Runs
//===----------------------------------------------------------------------===//

static FailureOr<ShardedRun> readRun(RunOp op, SymbolTable &symbols) {
  ShardedRun run;
  run.run = op;
  run.count = op->getParentOfType<StageOp>().getTensorParallel();
  run.microbatch = op->getParentOfType<IslandOp>().getMicrobatch();
  run.block = symbols.lookup<func::FuncOp>(op.getBlock());
  if (!run.block)
    return op.emitOpError() << "unknown block " << op.getBlockAttr();
  auto original = graph::BlockFunctions::get(run.block);
  if (failed(original))
    return failure();
  run.functions = *original;
  for (auto [name, function] :
       {std::pair(op.getForwardAttr(), &run.functions.forward),
        {op.getBackwardInputAttr(), &run.functions.backwardInput},
        {op.getBackwardWeightAttr(), &run.functions.backwardWeight}}) {
    if (!name)
      return op.emitOpError("has no functions yet, run dist-specialize-blocks");
    *function = symbols.lookup<func::FuncOp>(name.getAttr());
    if (!*function)
      return op.emitOpError() << "unknown function " << name;
  }
  return run;
}

FailureOr<std::vector<ShardedRun>> readRuns(IslandOp island,
                                            SymbolTable &symbols) {
  std::vector<ShardedRun> runs;
  for (ArrayRef<RunOp> place : getPlaces(island))
    for (RunOp op : place) {
      auto run = readRun(op, symbols);
      if (failed(run))
        return failure();
      runs.push_back(std::move(*run));
    }
  for (size_t i = 0; i + 1 < runs.size(); ++i) {
    ArrayRef<int64_t> sources = runs[i + 1].run.getSources();
    unsigned outputs = runs[i].functions.getOutputCount();
    for (unsigned output = 0; output < outputs; ++output) {
      auto type = cast<RankedTensorType>(
          runs[i].functions.forward.getResultTypes()[output]);
      if (isa<FloatType>(type.getElementType()) &&
          llvm::is_contained(sources, static_cast<int64_t>(output)))
        runs[i].gradientOutputs.push_back(output);
    }
  }
  return runs;
}

//===----------------------------------------------------------------------===//
// Seeds
//===----------------------------------------------------------------------===//

LogicalResult SeedTable::readMain(func::FuncOp main) {
  llvm::StringMap<size_t> first;
  SymbolTable symbols(main->getParentOp());
  for (auto call : main.getOps<func::CallOp>()) {
    auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
    if (!callee)
      return call.emitError() << "unknown block @" << call.getCallee();
    Block block{callee, {}, blocks.size()};
    block.first =
        first.try_emplace(call.getCallee(), blocks.size()).first->second;
    for (Value operand : call.getOperands())
      if (auto read = operand.getDefiningOp<graph::GetParameterOp>())
        block.parameters.push_back(read.getParameter());
    blocks.push_back(std::move(block));
  }
  return success();
}

/// Why a tensor cannot be in this state, for a person.
static std::string explain(RankedTensorType type,
                           const planning::ShardingState &state,
                           int64_t count) {
  std::string text;
  llvm::raw_string_ostream os(text);
  graph::Dims dims = graph::getDims(type);
  if (*state.dim >= dims.size()) {
    os << "has no dimension " << *state.dim << ", it is " << type;
    return text;
  }
  graph::Dim dim = dims[*state.dim];
  os << "cannot be split at dimension " << *state.dim;
  if (dim.batch)
    os << ", which the batch is in";
  else if (state.outer > 1 && dim.size % state.outer != 0)
    os << " with outer " << state.outer << ": it does not divide " << dim.size;
  else
    os << ": tensor_parallel " << count << " does not divide "
       << dim.size / std::max<int64_t>(state.outer, 1);
  os << "; tried dimension " << *state.dim << " of " << type;
  if (state.outer > 1)
    os << " as [" << state.outer << ", " << count << ", rest]";
  return text;
}

LogicalResult SeedTable::add(ShardingOp op) {
  planning::Sharding sharding = toSharding(op);
  auto fail = [&](StringRef key) { return emitError(locate(op, key)); };
  if (sharding.block >= blocks.size())
    return fail("block") << "sharding: the model has " << blocks.size()
                         << " blocks, got block " << sharding.block;
  const Block &block = blocks[sharding.block];
  if (block.first != sharding.block)
    return fail("block") << "sharding: block " << sharding.block
                         << " is of the kind of block " << block.first
                         << "; name a kind by its first block";
  int64_t count = sharding.tensorParallel;
  Entry entry{op, {}};
  auto states = [&](const char *key, TypeRange types,
                    const std::vector<planning::ShardingState> &from,
                    SmallVectorImpl<graph::ShardingState> &to,
                    function_ref<StringRef(size_t)> nameOf) -> LogicalResult {
    if (from.size() > types.size())
      return fail(key) << "sharding: block " << sharding.block << " has "
                       << types.size() << " " << key << ", got " << from.size();
    to.resize(types.size());
    for (auto [i, state] : llvm::enumerate(from)) {
      if (!state.dim)
        continue;
      auto type = cast<RankedTensorType>(types[i]);
      to[i] = graph::ShardingState::split(*state.dim, state.outer);
      if (graph::canBeInState(type, to[i], count) &&
          !graph::getDims(type)[*state.dim].batch)
        continue;
      StringRef name = nameOf(i);
      std::string path =
          name.empty() ? planning::at(key, i) : planning::in(key, name.str());
      return fail(path) << "sharding: " << path << " of block "
                        << sharding.block << " " << explain(type, state, count);
    }
    return success();
  };
  auto unnamed = [](size_t) { return StringRef(); };

  SmallVector<Type> data, parameters;
  func::FuncOp function = block.function;
  for (auto [i, type] : llvm::enumerate(function.getArgumentTypes())) {
    bool isParameter = function.getArgAttr(i, graph::kParameterAttr) != nullptr;
    bool isInput = function.getArgAttr(i, graph::kInputAttr) ||
                   function.getArgAttr(i, graph::kLabelAttr);
    if (isInput && data.size() < sharding.inputs.size() &&
        sharding.inputs[data.size()].dim)
      return fail(planning::at("inputs", data.size()))
             << "sharding: " << planning::at("inputs", data.size())
             << " of block " << sharding.block
             << " is an input of the model, which every chip has whole";
    (isParameter ? parameters : data).push_back(type);
  }
  std::vector<planning::ShardingState> ofParameters(parameters.size());
  for (const auto &[name, state] : sharding.parameters) {
    auto found = llvm::find(block.parameters, name);
    if (found == block.parameters.end())
      return fail(planning::in("parameters", name))
             << "sharding: block " << sharding.block << " has no parameter '"
             << name << "'; it has " << llvm::join(block.parameters, ", ");
    ofParameters[found - block.parameters.begin()] = state;
  }
  if (failed(states("parameters", parameters, ofParameters,
                    entry.seeds.parameters,
                    [&](size_t i) { return block.parameters[i]; })) ||
      failed(
          states("inputs", data, sharding.inputs, entry.seeds.data, unnamed)) ||
      failed(states("outputs", function.getResultTypes(), sharding.outputs,
                    entry.seeds.outputs, unnamed)))
    return failure();
  for (const planning::OpSeed &seed : sharding.ops)
    entry.seeds.ops.push_back(
        {static_cast<graph::BlockFunction>(seed.function),
         static_cast<unsigned>(seed.op),
         graph::OpSharding::fromCode(seed.choice, seed.outer)});
  entries[function.getSymName()][count] = std::move(entry);
  return success();
}

FailureOr<SeedTable> SeedTable::read(StrategyOp strategy,
                                     SymbolTable &symbols) {
  SeedTable table;
  auto main = symbols.lookup<func::FuncOp>("main");
  if (!main)
    return strategy.emitError("expected a function @main of block calls, as "
                              "graph-find-blocks leaves it");
  if (failed(table.readMain(main)))
    return failure();
  for (ShardingOp op : strategy.getBody().getOps<ShardingOp>())
    if (failed(table.add(op)))
      return failure();
  return table;
}

SeedTable::Entry SeedTable::get(StringRef block, int64_t count) const {
  auto found = entries.find(block);
  if (found != entries.end())
    if (auto entry = found->second.find(count); entry != found->second.end())
      return entry->second;
  return {};
}

} // namespace tombolo::dist
