//===- Differentiate.cpp - gradients of each distinct block ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Differentiation.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"

#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace tombolo::graph {
#define GEN_PASS_DEF_GRAPHDIFFERENTIATE
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

static bool isFloat(Value value) {
  return isa<FloatType>(getElementTypeOrSelf(value));
}

/// Whether data argument `index` is computed by an earlier block.
static bool isComputed(func::FuncOp block, unsigned index) {
  return !block.getArgAttr(index, kInputAttr) &&
         !block.getArgAttr(index, kLabelAttr) &&
         isFloat(block.getArgument(index));
}

namespace {

/// Reverse accumulation over the ops of one block.
class GradientBuilder {
public:
  GradientBuilder(func::FuncOp work)
      : builder(work.getBody().front().getTerminator()) {}

  void accumulate(Value value, Value gradient) {
    Value &sum = gradients[value];
    sum = sum ? builder.create<AddOp>(gradient.getLoc(), sum, gradient)
              : gradient;
  }
  Value get(Value value) { return gradients.lookup(value); }
  LogicalResult visit(Operation *op, const llvm::DenseSet<Value> &active);
  OpBuilder builder;

private:
  llvm::DenseMap<Value, Value> gradients;
};

LogicalResult GradientBuilder::visit(Operation *op,
                                     const llvm::DenseSet<Value> &active) {
  SmallVector<Value> resultGradients;
  for (Value result : op->getResults())
    resultGradients.push_back(get(result));
  SmallVector<bool> needed;
  for (Value operand : op->getOperands())
    needed.push_back(active.contains(operand));
  if (llvm::none_of(resultGradients, [](Value v) { return bool(v); }) ||
      !llvm::is_contained(needed, true))
    return success();
  auto differentiable = dyn_cast<GradientOpInterface>(op);
  if (!differentiable)
    return op->emitOpError("has no gradient but lies between a trained "
                           "parameter and the loss");
  FailureOr<SmallVector<Value>> operandGradients =
      differentiable.buildGradient(builder, resultGradients, needed);
  if (failed(operandGradients))
    return failure();
  for (auto [index, gradient] : llvm::enumerate(*operandGradients)) {
    if (!gradient || !needed[index])
      continue;
    Value operand = op->getOperand(index);
    assert(gradient.getType() == operand.getType() &&
           "a gradient has the type of its operand");
    accumulate(operand, gradient);
  }
  return success();
}

} // namespace

FailureOr<GradientGraph> buildGradientGraph(func::FuncOp block,
                                            ArrayRef<ResultUse> resultUses) {
  GradientGraph graph;
  OpBuilder atBlock(block);
  graph.work = cast<func::FuncOp>(atBlock.clone(*block));
  Block &body = graph.work.getBody().front();
  Operation *ret = body.getTerminator();
  SmallVector<Operation *> ops;
  for (Operation &op : body.without_terminator())
    ops.push_back(&op);
  graph.forwardOps.insert(ops.begin(), ops.end());
  graph.results = llvm::to_vector(ret->getOperands());

  // What a gradient can reach: a path of floats from a trainable parameter or
  // from an earlier block.
  llvm::DenseSet<Value> active;
  SmallVector<unsigned> trainable;
  for (BlockArgument argument : body.getArguments()) {
    unsigned index = argument.getArgNumber();
    auto kind = block.getArgAttrOfType<StringAttr>(index, kParameterAttr);
    (kind ? graph.parameters : graph.data).push_back(argument);
    bool isTrainable = kind && kind.getValue() == kTrainable;
    if (isTrainable)
      trainable.push_back(index);
    if (isTrainable || (!kind && isComputed(block, index)))
      active.insert(argument);
  }
  for (Operation *op : ops)
    if (llvm::any_of(op->getOperands(),
                     [&](Value v) { return active.contains(v); }))
      for (Value result : op->getResults())
        if (isFloat(result))
          active.insert(result);

  GradientBuilder gradients(graph.work);
  for (auto [result, use] : llvm::zip(graph.results, resultUses)) {
    if (use.readLater && isFloat(result)) {
      Value gradient = body.addArgument(result.getType(), result.getLoc());
      graph.resultGradients.push_back(gradient);
      gradients.accumulate(result, gradient);
    } else if (use.isLoss) {
      gradients.accumulate(result,
                           buildScalar(gradients.builder, result.getLoc(), 1.0,
                                       getElementTypeOrSelf(result)));
    }
  }
  for (Operation *op : llvm::reverse(ops))
    if (failed(gradients.visit(op, active))) {
      graph.work.erase();
      return failure();
    }

  for (Value value : graph.data) {
    if (!isComputed(block, cast<BlockArgument>(value).getArgNumber()))
      continue;
    Value gradient = gradients.get(value);
    if (!gradient)
      gradient = buildZeros(gradients.builder, block.getLoc(),
                            cast<RankedTensorType>(value.getType()));
    graph.dataGradients.push_back(gradient);
  }
  for (unsigned index : trainable) {
    Value gradient = gradients.get(body.getArgument(index));
    if (!gradient)
      graph.unreached.push_back(index);
    else
      graph.parameterGradients.push_back(
          buildCast(gradients.builder, gradient.getLoc(), gradient,
                    gradients.builder.getF32Type()));
  }
  return graph;
}

namespace {

struct Differentiate : impl::GraphDifferentiateBase<Differentiate> {
  void runOnOperation() override;
  LogicalResult differentiate(func::FuncOp block,
                              ArrayRef<ResultUse> resultUses);
  void freezeUnreached(ArrayRef<func::CallOp> calls, SymbolTable &symbols);
};

LogicalResult Differentiate::differentiate(func::FuncOp block,
                                           ArrayRef<ResultUse> resultUses) {
  FailureOr<GradientGraph> graph = buildGradientGraph(block, resultUses);
  if (failed(graph))
    return failure();
  auto frozen = StringAttr::get(&getContext(), kFrozen);
  for (unsigned index : graph->unreached) {
    block.setArgAttr(index, kParameterAttr, frozen);
    graph->work.setArgAttr(index, kParameterAttr, frozen);
  }
  SplitFunctions functions = splitGradientGraph(*graph, block.getSymName());
  graph->work.erase();
  block->setAttr(kForwardAttr, FlatSymbolRefAttr::get(functions.forward));
  block->setAttr(kBackwardInputAttr,
                 FlatSymbolRefAttr::get(functions.backwardInput));
  block->setAttr(kBackwardWeightAttr,
                 FlatSymbolRefAttr::get(functions.backwardWeight));
  Builder builder(&getContext());
  block->setAttr(kSavedCountAttr,
                 builder.getI64IntegerAttr(functions.savedCount));
  block->setAttr(kCarriedCountAttr,
                 builder.getI64IntegerAttr(functions.carriedCount));
  return success();
}

/// A parameter trains when it does in at least one block.
void Differentiate::freezeUnreached(ArrayRef<func::CallOp> calls,
                                    SymbolTable &symbols) {
  llvm::DenseSet<StringRef> reached;
  for (func::CallOp call : calls) {
    auto block = symbols.lookup<func::FuncOp>(call.getCallee());
    for (auto [index, operand] : llvm::enumerate(call.getOperands()))
      if (auto read = operand.getDefiningOp<GetParameterOp>()) {
        auto kind = block.getArgAttrOfType<StringAttr>(index, kParameterAttr);
        if (kind && kind.getValue() == kTrainable)
          reached.insert(read.getParameter());
      }
  }
  for (auto parameter : getOperation().getOps<ParameterOp>())
    if (!parameter.getFrozen() && !reached.contains(parameter.getSymName())) {
      parameter.setFrozen(true);
      parameter.emitRemark() << "no gradient reaches parameter '"
                             << parameter.getSymName() << "'; it is frozen";
    }
}

void Differentiate::runOnOperation() {
  SymbolTable symbols(getOperation());
  auto fail = [&](Operation *op, const Twine &message) {
    op->emitError(message);
    signalPassFailure();
  };
  auto main = symbols.lookup<func::FuncOp>("main");
  if (!main || main.isDeclaration())
    return fail(getOperation(), "the model has no function @main");
  Operation *ret = main.getBody().front().getTerminator();
  auto lossType = RankedTensorType::get({}, Float32Type::get(&getContext()));
  if (ret->getNumOperands() == 0 || ret->getOperand(0).getType() != lossType ||
      !ret->getOperand(0).getDefiningOp<func::CallOp>())
    return fail(main, "the first result of @main is not a loss computed by a "
                      "block; run graph-append-loss and graph-find-blocks "
                      "first");

  SmallVector<func::CallOp> calls;
  llvm::MapVector<func::FuncOp, SmallVector<ResultUse>> blocks;
  for (Operation &op : main.getBody().front().without_terminator()) {
    if (isa<GetParameterOp>(op))
      continue;
    auto call = dyn_cast<func::CallOp>(op);
    auto block =
        call ? symbols.lookup<func::FuncOp>(call.getCallee()) : func::FuncOp();
    if (!block || block.isDeclaration() || !block->hasAttr(kBlockAttr))
      return fail(&op, "@main must be a chain of calls of blocks; run "
                       "graph-find-blocks first");
    if (block->hasAttr(kForwardAttr))
      return fail(block, "block is already differentiated");
    calls.push_back(call);
    SmallVector<ResultUse> &uses = blocks[block];
    uses.resize(call.getNumResults());
    for (auto [use, result] : llvm::zip(uses, call.getResults())) {
      use.isLoss |= result == ret->getOperand(0);
      use.readLater |= llvm::any_of(result.getUsers(), [](Operation *user) {
        return isa<func::CallOp>(user);
      });
    }
  }
  for (auto &[block, uses] : blocks)
    if (failed(differentiate(block, uses)))
      return signalPassFailure();
  freezeUnreached(calls, symbols);
  auto parameters = getOperation().getOps<ParameterOp>();
  if (!parameters.empty() &&
      llvm::all_of(parameters, [](ParameterOp p) { return p.getFrozen(); }))
    return fail(main, "nothing is left to train: all " +
                          Twine(llvm::range_size(parameters)) +
                          " parameters are frozen or out of the loss's reach; "
                          "freeze fewer");
}

} // namespace
} // namespace tombolo::graph
