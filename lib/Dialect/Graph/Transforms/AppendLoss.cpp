//===- AppendLoss.cpp - add the loss and its labels to the model ----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace tombolo::graph {
#define GEN_PASS_DEF_GRAPHAPPENDLOSS
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

namespace {

/// The number of the result named `logits`, or 0.
unsigned findLogits(func::FuncOp main) {
  for (unsigned i = 0, e = main.getNumResults(); i < e; ++i)
    if (auto name = main.getResultAttrOfType<StringAttr>(i, kOutputAttr))
      if (name.getValue() == "logits")
        return i;
  return 0;
}

struct AppendLoss : impl::GraphAppendLossBase<AppendLoss> {
  using GraphAppendLossBase::GraphAppendLossBase;

  LogicalResult append(func::FuncOp main);
  void runOnOperation() override {
    auto main = getOperation().lookupSymbol<func::FuncOp>("main");
    if (!main) {
      getOperation().emitError("the model has no function @main");
      return signalPassFailure();
    }
    if (failed(append(main)))
      signalPassFailure();
  }
};

LogicalResult AppendLoss::append(func::FuncOp main) {
  if (kind != "cross-entropy")
    return main.emitError()
           << "unknown loss '" << kind << "', expected cross-entropy";
  for (unsigned i = 0, e = main.getNumArguments(); i < e; ++i) {
    auto name = main.getArgAttrOfType<StringAttr>(i, kInputAttr);
    if (main.getArgAttr(i, kLabelAttr) || (name && name.getValue() == label))
      return main.emitError()
             << "the model already has an input for labels '" << label << "'";
  }
  if (main.getNumResults() == 0)
    return main.emitError("the model has no output to take a loss of");
  unsigned index = findLogits(main);
  auto ret = cast<func::ReturnOp>(main.getBody().front().getTerminator());
  Value logits = ret.getOperand(index);
  auto type = dyn_cast<RankedTensorType>(logits.getType());
  if (!type || type.getRank() < 2 || !isa<FloatType>(type.getElementType()) ||
      type.isDynamicDim(type.getRank() - 1))
    return main.emitError()
           << "output " << index
           << " must be a float tensor [batch..., classes] to take a "
              "cross-entropy of, got "
           << logits.getType();

  OpBuilder builder(ret);
  RankedTensorType labelType = getTensorType(
      ArrayRef<Dim>(getDims(type)).drop_back(), builder.getI64Type());
  unsigned argument = main.getNumArguments();
  main.insertArgument(argument, labelType,
                      builder.getDictionaryAttr(builder.getNamedAttr(
                          kLabelAttr, builder.getStringAttr(label))),
                      logits.getLoc());
  auto loss = builder.create<CrossEntropyOp>(
      logits.getLoc(), logits, main.getArgument(argument), ignoreIndex);
  ret->setOperands({loss.getLoss(), loss.getWeights()});
  main.setFunctionType(
      builder.getFunctionType(main.getArgumentTypes(), ret->getOperandTypes()));
  main.setAllResultAttrs(
      ArrayRef<DictionaryAttr>{DictionaryAttr(), DictionaryAttr()});
  return success();
}

} // namespace
} // namespace tombolo::graph
