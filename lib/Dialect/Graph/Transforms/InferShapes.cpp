//===- InferShapes.cpp - types follow from the arguments ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace tombolo::graph {
#define GEN_PASS_DEF_GRAPHINFERSHAPES
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

namespace {

RankedTensorType getType(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// What a reshape to `type` becomes for an operand of `from` dimensions: the
/// same while the number of elements is; else its batch dimension, or one that
/// becomes it, takes the difference.
std::optional<Dims> inferReshape(ArrayRef<Dim> from, ArrayRef<Dim> to) {
  Dim all = getNumElements(from);
  if (getNumElements(to) == all)
    return Dims(to);
  // The dimension that stood for the batch, else the first.
  Dims dims(to);
  if (dims.empty())
    return std::nullopt;
  auto *open = llvm::find_if(dims, [](Dim dim) { return dim.batch; });
  if (open == dims.end())
    open = dims.begin();
  *open = Dim();
  Dim rest = getNumElements(dims);
  if (rest.batch || rest.size == 0 || all.size % rest.size)
    return std::nullopt;
  *open = {all.size / rest.size, all.batch};
  return dims;
}

/// The result dimensions of an op whose type is written out, not inferred.
std::optional<Dims> inferWritten(Operation *op) {
  Dims to = getDims(op->getResult(0));
  return llvm::TypeSwitch<Operation *, std::optional<Dims>>(op)
      .Case<ReshapeOp>([&](ReshapeOp reshape) {
        return inferReshape(getDims(reshape.getInput()), to);
      })
      .Case<BroadcastOp>([&](BroadcastOp broadcast) -> std::optional<Dims> {
        // Dimensions that the operand has are the operand's.
        Dims from = getDims(broadcast.getInput());
        if (from.size() > to.size())
          return std::nullopt;
        for (auto [in, out] :
             llvm::zip(from, MutableArrayRef<Dim>(to).take_back(from.size())))
          if (!in.isOne())
            out = in;
        return to;
      })
      .Case<CastOp>([&](CastOp cast) { return getDims(cast.getInput()); })
      .Case<MatmulOp>([&](MatmulOp matmul) -> std::optional<Dims> {
        Dims a = getDims(matmul.getLhs()), b = getDims(matmul.getRhs());
        if (a.size() < 2 || b.size() < 2)
          return std::nullopt;
        std::optional<Dims> dims = broadcastDims(ArrayRef<Dim>(a).drop_back(2),
                                                 ArrayRef<Dim>(b).drop_back(2));
        if (!dims)
          return std::nullopt;
        dims->push_back(a.end()[matmul.getTransposeA() ? -1 : -2]);
        dims->push_back(b.end()[matmul.getTransposeB() ? -2 : -1]);
        return dims;
      })
      .Default([&](Operation *) { return to; });
}

LogicalResult inferOp(Operation *op) {
  if (auto inferred = dyn_cast<InferTypeOpInterface>(op)) {
    SmallVector<Type> types;
    if (failed(inferred.inferReturnTypes(
            op->getContext(), op->getLoc(), op->getOperands(),
            op->getDiscardableAttrDictionary(), op->getPropertiesStorage(),
            op->getRegions(), types)))
      return failure();
    if (types.size() != op->getNumResults())
      return op->emitOpError() << "has " << op->getNumResults()
                               << " results, expected " << types.size();
    for (auto [result, type] : llvm::zip(op->getResults(), types))
      result.setType(type);
    return success();
  }
  if (op->getNumResults() != 1 ||
      !isa<RankedTensorType>(op->getResult(0).getType()))
    return success();
  std::optional<Dims> dims = inferWritten(op);
  Value result = op->getResult(0);
  RankedTensorType type =
      dims ? getTensorType(*dims, getType(result).getElementType())
           : RankedTensorType();
  if (!type) {
    InFlightDiagnostic error = op->emitOpError()
                               << "of type " << result.getType()
                               << " does not follow from its operands";
    for (Value operand : op->getOperands())
      error << (operand == op->getOperand(0) ? " " : ", ") << operand.getType();
    return error;
  }
  result.setType(type);
  return success();
}

struct InferShapes : impl::GraphInferShapesBase<InferShapes> {
  using GraphInferShapesBase::GraphInferShapesBase;

  /// Infers a function once, those that it calls first.
  LogicalResult infer(func::FuncOp function);

  /// Gives an input of @main the shape of one option.
  LogicalResult setInput(StringRef option);

  void runOnOperation() override {
    for (const std::string &option : inputs)
      if (failed(setInput(option)))
        return signalPassFailure();
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (failed(infer(function)))
        return signalPassFailure();
  }

private:
  enum class State { Running, Done };
  llvm::DenseMap<Operation *, State> states;
};

LogicalResult InferShapes::setInput(StringRef option) {
  auto [name, text] = option.split('=');
  Dims dims;
  SmallVector<StringRef> sizes;
  text.split(sizes, 'x');
  for (StringRef size : sizes) {
    Dim dim{1, size == "?"};
    if (name.empty() ||
        (!dim.batch && (size.getAsInteger(10, dim.size) || dim.size < 1)))
      return getOperation().emitError()
             << "inputs: '" << option
             << "', expected NAME=SIZExSIZE... with ? for the batch";
    dims.push_back(dim);
  }
  auto main = getOperation().lookupSymbol<func::FuncOp>("main");
  for (unsigned i = 0; main && i < main.getNumArguments(); ++i) {
    auto input = main.getArgAttrOfType<StringAttr>(i, kInputAttr);
    if (!input || input.getValue() != name)
      continue;
    RankedTensorType type =
        getTensorType(dims, getType(main.getArgument(i)).getElementType());
    if (!type)
      return main.emitOpError()
             << "input '" << name << "' has two batch dimensions";
    main.getArgument(i).setType(type);
    main.setType(FunctionType::get(&getContext(),
                                   main.getBody().getArgumentTypes(),
                                   main.getResultTypes()));
    return success();
  }
  return getOperation().emitError()
         << "inputs: @main has no input named '" << name << "'";
}

LogicalResult InferShapes::infer(func::FuncOp function) {
  auto [at, isNew] = states.try_emplace(function, State::Running);
  if (!isNew) {
    if (at->second == State::Running)
      return function.emitOpError("calls itself");
    return success();
  }
  if (function.isExternal()) {
    states[function] = State::Done;
    return success();
  }
  for (Block &block : function.getBody())
    for (Operation &op : block) {
      if (auto call = dyn_cast<func::CallOp>(op)) {
        auto callee =
            getOperation().lookupSymbol<func::FuncOp>(call.getCallee());
        if (!callee)
          return call.emitOpError()
                 << "calls '" << call.getCallee() << "', which does not exist";
        if (failed(infer(callee)))
          return failure();
        if (call.getNumResults() != callee.getNumResults())
          return call.emitOpError(
              "number of results differs from the callee's");
        for (auto [result, type] :
             llvm::zip(call.getResults(), callee.getResultTypes()))
          result.setType(type);
      } else if (isa<GraphDialect>(op.getDialect())) {
        if (failed(inferOp(&op)))
          return failure();
      }
    }
  auto ret = dyn_cast<func::ReturnOp>(function.getBody().back().back());
  if (ret)
    function.setType(FunctionType::get(
        &getContext(), function.getArgumentTypes(), ret.getOperandTypes()));
  states[function] = State::Done;
  return success();
}

} // namespace
} // namespace tombolo::graph
