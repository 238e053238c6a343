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
#include "llvm/ADT/StringSwitch.h"

using namespace mlir;

namespace tombolo::graph {
#define GEN_PASS_DEF_GRAPHAPPENDLOSS
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

namespace {

/// A loss as a sum, and the sum of weights to divide it by.
struct Loss {
  Value sum, weight;
};

struct AppendLoss : impl::GraphAppendLossBase<AppendLoss> {
  using GraphAppendLossBase::GraphAppendLossBase;

  LogicalResult append(func::FuncOp main);
  FailureOr<Value> findOutput(func::FuncOp main);
  FailureOr<Value> addLabels(func::FuncOp main, RankedTensorType type);
  FailureOr<Value> addMask(func::FuncOp main, RankedTensorType type,
                           OpBuilder &builder);
  FailureOr<Loss> crossEntropy(func::FuncOp main, Value output,
                               OpBuilder &builder);
  FailureOr<Loss> elementwise(func::FuncOp main, Value output,
                              OpBuilder &builder);
  FailureOr<Loss> ownLoss(func::FuncOp main, Value output, OpBuilder &builder);
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

/// The result named `logits`, of the model's own loss `loss`, else the first.
FailureOr<Value> AppendLoss::findOutput(func::FuncOp main) {
  if (main.getNumResults() == 0)
    return main.emitError("the model has no output to take a loss of");
  StringRef preferred = kind == "output" ? "loss" : "logits";
  unsigned index = 0;
  for (unsigned i = 0, e = main.getNumResults(); i < e; ++i)
    if (auto name = main.getResultAttrOfType<StringAttr>(i, kOutputAttr))
      if (name.getValue() == preferred)
        index = i;
  Value output = main.getBody().front().getTerminator()->getOperand(index);
  auto type = dyn_cast<RankedTensorType>(output.getType());
  if (!type || !isa<FloatType>(type.getElementType()))
    return main.emitError() << "output " << index
                            << " must be a float tensor to take a loss of, got "
                            << output.getType();
  return output;
}

FailureOr<Value> AppendLoss::addLabels(func::FuncOp main,
                                       RankedTensorType type) {
  for (unsigned i = 0, e = main.getNumArguments(); i < e; ++i) {
    auto name = main.getArgAttrOfType<StringAttr>(i, kInputAttr);
    if (main.getArgAttr(i, kLabelAttr) || (name && name.getValue() == label))
      return main.emitError()
             << "the model already has an input for labels '" << label << "'";
  }
  Builder builder(&getContext());
  unsigned argument = main.getNumArguments();
  main.insertArgument(argument, type,
                      builder.getDictionaryAttr(builder.getNamedAttr(
                          kLabelAttr, builder.getStringAttr(label))),
                      main.getLoc());
  return Value(main.getArgument(argument));
}

/// The weights of what the losses are of, f32 of the shape of `type`: an input
/// of the model that has them, or a new one; null without a mask.
FailureOr<Value> AppendLoss::addMask(func::FuncOp main, RankedTensorType type,
                                     OpBuilder &builder) {
  if (mask.empty())
    return Value();
  type = getTensorType(getDims(type), builder.getF32Type());
  if (mask == label)
    return main.emitError()
           << "the loss mask and the labels have one name, '" << mask << "'";
  for (unsigned i = 0, e = main.getNumArguments(); i < e; ++i) {
    auto name = main.getArgAttrOfType<StringAttr>(i, kInputAttr);
    if (!name || name.getValue() != mask)
      continue;
    Value input = main.getArgument(i);
    if (getDims(input) != getDims(type))
      return main.emitError()
             << "the loss mask '" << mask << "' is " << input.getType()
             << ", expected the shape of " << type;
    return buildCast(builder, main.getLoc(), input, builder.getF32Type());
  }
  unsigned argument = main.getNumArguments();
  main.insertArgument(argument, type,
                      builder.getDictionaryAttr(builder.getNamedAttr(
                          kInputAttr, builder.getStringAttr(mask))),
                      main.getLoc());
  return Value(main.getArgument(argument));
}

/// The sum of all elements.
Value sumAll(OpBuilder &builder, Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  auto axes = llvm::to_vector(llvm::seq<int64_t>(0, type.getRank()));
  return builder.create<ReduceSumOp>(value.getLoc(), value, axes, false);
}

/// How many elements `like` has, as f32; its batch is not known yet.
Value countAll(OpBuilder &builder, Value like, RankedTensorType type) {
  Value one = buildScalar(builder, like.getLoc(), 1, type.getElementType());
  return sumAll(builder, builder.create<BroadcastOp>(like.getLoc(), type, one));
}

FailureOr<Loss> AppendLoss::crossEntropy(func::FuncOp main, Value output,
                                         OpBuilder &builder) {
  auto type = cast<RankedTensorType>(output.getType());
  if (type.getRank() < 2 || type.isDynamicDim(type.getRank() - 1))
    return main.emitError()
           << "the output must be a float tensor [batch..., classes] to take a "
              "cross-entropy of, got "
           << type;
  RankedTensorType labelType = getTensorType(
      ArrayRef<Dim>(getDims(type)).drop_back(), builder.getI64Type());
  FailureOr<Value> weights = addMask(main, labelType, builder);
  FailureOr<Value> labels = addLabels(main, labelType);
  if (failed(weights) || failed(labels))
    return failure();
  auto loss = builder.create<CrossEntropyOp>(output.getLoc(), output, *labels,
                                             *weights, ignoreIndex);
  return Loss{loss.getLoss(), loss.getWeights()};
}

/// Squared errors, or binary cross-entropies of logits: both are means over
/// all elements, as torch.nn has them.
FailureOr<Loss> AppendLoss::elementwise(func::FuncOp main, Value output,
                                        OpBuilder &builder) {
  auto type = cast<RankedTensorType>(output.getType());
  if (type.getRank() == 0 || !getDims(type)[0].batch)
    return main.emitError() << "the output must be a float tensor [batch...] "
                               "to compare with labels, got "
                            << type;
  FailureOr<Value> weights = addMask(main, type, builder);
  FailureOr<Value> labels = addLabels(main, type);
  if (failed(weights) || failed(labels))
    return failure();
  Location loc = output.getLoc();
  Value losses;
  if (kind == "mse") {
    Value error = builder.create<SubOp>(loc, output, *labels);
    losses = builder.create<MulOp>(loc, error, error);
  } else {
    // -y log s(x) - (1 - y) log (1 - s(x)) = log(1 + exp(x)) - x y
    losses = builder.create<SubOp>(loc, builder.create<SoftplusOp>(loc, output),
                                   builder.create<MulOp>(loc, output, *labels));
  }
  if (Value each = *weights)
    return Loss{sumAll(builder, builder.create<MulOp>(loc, losses, each)),
                sumAll(builder, each)};
  return Loss{sumAll(builder, losses), countAll(builder, output, type)};
}

/// A scalar is a mean over the samples of a microbatch and counts as many
/// times; a loss for each sample counts once.
FailureOr<Loss> AppendLoss::ownLoss(func::FuncOp main, Value output,
                                    OpBuilder &builder) {
  if (!mask.empty())
    return main.emitError("a loss mask needs labels; the model's own loss may "
                          "take its mask as an input");
  auto type = cast<RankedTensorType>(output.getType());
  Dims dims = getDims(type);
  RankedTensorType batch = getTensorType({Dim{1, true}}, type.getElementType());
  if (llvm::all_of(dims, [](Dim dim) { return dim.isOne(); })) {
    Value scalar =
        buildReshape(builder, output.getLoc(), output,
                     RankedTensorType::get({}, type.getElementType()));
    output = builder.create<BroadcastOp>(output.getLoc(), batch, scalar);
  } else if (type != batch) {
    return main.emitError() << "the output must be one number, or one for "
                               "each sample, to be the loss, got "
                            << type;
  }
  return Loss{sumAll(builder, output), countAll(builder, output, batch)};
}

LogicalResult AppendLoss::append(func::FuncOp main) {
  using Builder =
      FailureOr<Loss> (AppendLoss::*)(func::FuncOp, Value, OpBuilder &);
  auto build = llvm::StringSwitch<Builder>(kind)
                   .Case("cross-entropy", &AppendLoss::crossEntropy)
                   .Cases("mse", "bce", &AppendLoss::elementwise)
                   .Case("output", &AppendLoss::ownLoss)
                   .Default(nullptr);
  if (!build)
    return main.emitError() << "unknown loss '" << kind
                            << "', expected cross-entropy, mse, bce or output";
  FailureOr<Value> output = findOutput(main);
  if (failed(output))
    return failure();
  auto ret = cast<func::ReturnOp>(main.getBody().front().getTerminator());
  OpBuilder builder(ret);
  FailureOr<Loss> loss = (this->*build)(main, *output, builder);
  if (failed(loss))
    return failure();
  ret->setOperands({loss->sum, loss->weight});
  main.setFunctionType(
      builder.getFunctionType(main.getArgumentTypes(), ret->getOperandTypes()));
  main.setAllResultAttrs(
      ArrayRef<DictionaryAttr>{DictionaryAttr(), DictionaryAttr()});
  return success();
}

} // namespace
} // namespace tombolo::graph
