//===- GraphToPlanning.cpp - what a model's blocks cost -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Conversion/GraphToPlanning.h"
#include "BlockFigures.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/IR/GraphTypes.h"
#include "tombolo/Dialect/Graph/Transforms/Specialize.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace tombolo;
using planning::Affine;

static Affine bytesOf(Type type) {
  if (!isa<RankedTensorType>(type))
    return {};
  return lineThrough(static_cast<double>(graph::getNumBytes(type, 1)),
                     static_cast<double>(graph::getNumBytes(type, 2)));
}

static planning::Work workOf(func::FuncOp function) {
  graph::WorkCost one, two; // on so many samples
  function.walk([&](graph::CostOpInterface op) {
    one.add(op, op.getCost(1));
    two.add(op, op.getCost(2));
  });
  return lineThrough(one, two);
}

static double workspaceBytes(func::FuncOp function, int64_t batch) {
  return getWorkspaceBytes(function, [&](Value value) {
    return static_cast<double>(graph::getNumBytes(value.getType(), batch));
  });
}

//===----------------------------------------------------------------------===//
// Blocks
//===----------------------------------------------------------------------===//

static FailureOr<planning::BlockKind> profileBlock(func::FuncOp block,
                                                   bool isLast) {
  auto functions = graph::BlockFunctions::get(block);
  if (failed(functions))
    return failure();
  planning::BlockKind kind;
  kind.name = block.getSymName().str();
  kind.forward = workOf(functions->forward);
  kind.backwardInput = workOf(functions->backwardInput);
  kind.backwardWeight = workOf(functions->backwardWeight);

  // Arguments: data from earlier blocks, from the outside, and parameters.
  func::FuncOp forward = functions->forward;
  for (unsigned i = 0; i < block.getNumArguments(); ++i) {
    Type type = forward.getArgumentTypes()[i];
    auto role = block.getArgAttrOfType<StringAttr>(i, graph::kParameterAttr);
    if (role) {
      uint64_t elements = graph::getNumElements(type, 1);
      kind.parameterCount += elements;
      kind.parameterBytes += 4 * elements; // the f32 master copy
      if (role == "trainable")
        kind.trainableCount += elements;
    } else if (block.getArgAttr(i, graph::kInputAttr) ||
               block.getArgAttr(i, graph::kLabelAttr) ||
               block.getArgAttr(i, graph::kStampAttr)) {
      kind.feedBytes += bytesOf(type);
    } else {
      kind.inputBytes += bytesOf(type);
    }
  }
  unsigned outputs = functions->getOutputCount();
  for (unsigned i = 0; i < forward.getNumResults(); ++i) {
    Affine bytes = bytesOf(forward.getResultTypes()[i]);
    if (i >= outputs)
      kind.savedBytes += bytes;
    else if (!isLast) // the loss goes nowhere
      kind.outputBytes += bytes;
  }
  TypeRange backward = functions->backwardInput.getResultTypes();
  for (Type type : backward.take_back(functions->carriedCount))
    kind.carriedBytes += bytesOf(type);

  double one = 0, two = 0;
  for (func::FuncOp function :
       {forward, functions->backwardInput, functions->backwardWeight}) {
    one = std::max(one, workspaceBytes(function, 1));
    two = std::max(two, workspaceBytes(function, 2));
  }
  kind.workspaceBytes = lineThrough(one, two);
  return kind;
}

FailureOr<planning::ModelProfile>
tombolo::profileModel(ModuleOp module, planning::Precision precision) {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main || main.isExternal())
    return module.emitError("expected a function @main of block calls");

  // Precision changes the blocks' types: look at a copy.
  OwningOpRef<ModuleOp> copy;
  if (precision == planning::Precision::BF16) {
    copy = module.clone();
    module = *copy;
    main = module.lookupSymbol<func::FuncOp>("main");
  }
  SymbolTable symbols(module);
  planning::ModelProfile profile;
  profile.precision = precision;
  for (unsigned i = 0; i < main.getNumArguments(); ++i)
    if (main.getArgAttr(i, graph::kLabelAttr) &&
        getElementTypeOrSelf(main.getArgumentTypes()[i]).isInteger())
      profile.tokensPerSample = std::max<int64_t>(
          1, graph::getNumElements(main.getArgumentTypes()[i], 1));

  SmallVector<func::CallOp> calls(main.getOps<func::CallOp>());
  if (calls.empty())
    return main.emitError("expected calls of blocks in @main");
  llvm::DenseMap<Operation *, size_t> kinds;
  llvm::MapVector<StringAttr, std::vector<uint64_t>> users;
  for (auto [number, call] : llvm::enumerate(calls)) {
    auto block = symbols.lookup<func::FuncOp>(call.getCallee());
    if (!block)
      return call.emitError("expected a call of a block");
    auto [known, isNew] = kinds.try_emplace(block, profile.kinds.size());
    if (isNew) {
      if (precision == planning::Precision::BF16) {
        auto functions = graph::BlockFunctions::get(block);
        if (failed(functions))
          return failure();
        graph::lowerPrecision(*functions);
      }
      auto kind = profileBlock(block, number + 1 == calls.size());
      if (failed(kind))
        return failure();
      profile.kinds.push_back(std::move(*kind));
    }
    if (!profile.runs.empty() && profile.runs.back().kind == known->second)
      ++profile.runs.back().count;
    else
      profile.runs.push_back({known->second, 1});
    for (Value operand : call.getOperands())
      if (auto get = operand.getDefiningOp<graph::GetParameterOp>()) {
        auto &blocks = users[get.getParameterAttr().getAttr()];
        if (blocks.empty() || blocks.back() != number)
          blocks.push_back(number);
      }
  }
  for (auto &[name, blocks] : users)
    if (blocks.size() > 1) {
      auto parameter = symbols.lookup<graph::ParameterOp>(name);
      if (!parameter)
        return main.emitError("no parameter named '") << name << "'";
      profile.ties.push_back(
          {name.str(),
           static_cast<uint64_t>(graph::getNumElements(parameter.getType(), 1)),
           std::move(blocks)});
    }
  return profile;
}
