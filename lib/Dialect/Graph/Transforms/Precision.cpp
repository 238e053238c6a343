//===- Precision.cpp - activations and matrix products in bf16 ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Types follow the ops: each op is rewritten in order with operands of the
// element type it wants, and its result types are inferred anew. What an op
// computes for readers that all want f32 (a loss, the gradient of a parameter)
// is computed in f32, and so is what it reads for that: the sum of a
// parameter's gradients is never a sum of rounded parts.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"
#include "tombolo/Dialect/Graph/Transforms/Specialize.h"

using namespace mlir;

namespace tombolo::graph {
#define GEN_PASS_DEF_GRAPHLOWERPRECISION
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

namespace {

bool isFloat32(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && tensor.getElementType().isF32();
}

class PrecisionLowering {
public:
  /// `arguments` are the new argument types; results from `firstGradient` on
  /// are gradients of parameters and stay f32.
  PrecisionLowering(func::FuncOp function, ArrayRef<Type> arguments,
                    unsigned firstGradient)
      : function(function), builder(function.getContext()),
        firstGradient(firstGradient) {
    for (auto [argument, type] : llvm::zip(function.getArguments(), arguments))
      argument.setType(type);
  }

  void run();

private:
  void findWideOps();
  bool wantsFloat32(Value value) const;
  void rewrite(Operation *op);
  void rewriteReturn(func::ReturnOp ret);
  void setElementType(Value value, Type element) {
    value.setType(
        withElementType(cast<RankedTensorType>(value.getType()), element));
  }
  Type f32() { return builder.getF32Type(); }
  Type bf16() { return builder.getBF16Type(); }

  func::FuncOp function;
  OpBuilder builder;
  unsigned firstGradient;
  /// Ops that compute in f32 since all readers of their results do.
  llvm::DenseSet<Operation *> wide;
};

/// Whether every reader needs the value in f32; its readers' own widths must be
/// known.
bool PrecisionLowering::wantsFloat32(Value value) const {
  if (value.use_empty())
    return false;
  return llvm::all_of(value.getUses(), [&](OpOperand &use) {
    Operation *user = use.getOwner();
    if (isa<func::ReturnOp>(user))
      return use.getOperandNumber() >= firstGradient ||
             cast<RankedTensorType>(value.getType()).getRank() == 0;
    if (auto precision = dyn_cast<PrecisionOpInterface>(user))
      return precision.keepsFloat32(use.getOperandNumber());
    return wide.contains(user);
  });
}

/// Readers stand behind what they read: one sweep from the end is enough.
void PrecisionLowering::findWideOps() {
  for (Operation &op :
       llvm::reverse(function.getBody().front().without_terminator())) {
    // A result that nobody reads has no say.
    bool anyRead = false, allWanted = true;
    for (Value result : op.getResults()) {
      if (!isFloat32(result.getType()) || result.use_empty())
        continue;
      anyRead = true;
      allWanted &= wantsFloat32(result);
    }
    if (anyRead && allWanted)
      wide.insert(&op);
  }
}

void PrecisionLowering::rewrite(Operation *op) {
  bool anyFloat = llvm::any_of(op->getResultTypes(), isFloat32);
  bool isWide = wide.contains(op);
  bool isView = isa<ViewOpInterface>(op);
  builder.setInsertionPoint(op);
  auto precision = dyn_cast<PrecisionOpInterface>(op);
  for (OpOperand &operand : op->getOpOperands()) {
    auto type = dyn_cast<RankedTensorType>(operand.get().getType());
    if (!type || !isa<FloatType>(type.getElementType()) || isView)
      continue;
    bool keep =
        precision ? precision.keepsFloat32(operand.getOperandNumber()) : isWide;
    operand.set(
        buildCast(builder, op->getLoc(), operand.get(), keep ? f32() : bf16()));
  }
  if (isa<ConstantOp, CausalMaskOp>(op) || !anyFloat)
    return; // constants are cast where they are read
  if (auto infer = dyn_cast<InferTypeOpInterface>(op)) {
    SmallVector<Type> types;
    LogicalResult inferred = infer.inferReturnTypes(
        op->getContext(), op->getLoc(), op->getOperands(),
        op->getAttrDictionary(), op->getPropertiesStorage(), op->getRegions(),
        types);
    assert(succeeded(inferred) && "element types change no shape");
    (void)inferred;
    for (auto [result, type] : llvm::zip(op->getResults(), types))
      result.setType(type);
    return;
  }
  if (isa<GatherBackwardOp>(op))
    return; // adds up in f32 whatever it reads
  Type element = isWide ? f32() : bf16();
  if (isView)
    element =
        cast<RankedTensorType>(op->getOperand(0).getType()).getElementType();
  for (Value result : op->getResults())
    if (isFloat32(result.getType()))
      setElementType(result, element);
}

void PrecisionLowering::rewriteReturn(func::ReturnOp ret) {
  builder.setInsertionPoint(ret);
  for (OpOperand &operand : ret->getOpOperands()) {
    Value value = operand.get();
    auto type = cast<RankedTensorType>(value.getType());
    if (operand.getOperandNumber() >= firstGradient &&
        isa<FloatType>(type.getElementType()))
      operand.set(buildCast(builder, ret.getLoc(), value, f32()));
  }
}

void PrecisionLowering::run() {
  findWideOps();
  Block &body = function.getBody().front();
  for (Operation &op : llvm::make_early_inc_range(body.without_terminator()))
    rewrite(&op);
  rewriteReturn(cast<func::ReturnOp>(body.getTerminator()));
  function.setFunctionType(builder.getFunctionType(
      body.getArgumentTypes(), body.getTerminator()->getOperandTypes()));
}

/// f32 tensors in bf16, other types as they are. Scalars (a loss, a weight)
/// stay f32.
Type getStoredType(Type type) {
  if (!isFloat32(type) || cast<RankedTensorType>(type).getRank() == 0)
    return type;
  return withElementType(cast<RankedTensorType>(type),
                         BFloat16Type::get(type.getContext()));
}

} // namespace

void lowerPrecision(BlockFunctions functions) {
  func::FuncOp forward = functions.forward;
  unsigned data = functions.getDataCount();
  unsigned parameters = functions.getParameterCount();
  unsigned outputs = functions.getOutputCount();

  auto append = [](SmallVector<Type> &to, auto range, auto convert) {
    for (Type type : range)
      to.push_back(convert(type));
  };
  auto same = [](Type type) { return type; };

  // Outputs are stored activations whoever reads them.
  {
    OpBuilder builder(forward.getBody().front().getTerminator());
    Operation *ret = forward.getBody().front().getTerminator();
    for (unsigned i = 0; i < outputs; ++i) {
      Value value = ret->getOperand(i);
      Type type = getStoredType(value.getType());
      if (type != value.getType())
        ret->setOperand(i, builder.create<CastOp>(value.getLoc(), type, value));
    }
  }
  SmallVector<Type> forwardTypes;
  // What the model reads is loaded as the model has it.
  for (unsigned i = 0; i < data; ++i) {
    bool loaded = forward.getArgAttr(i, kInputAttr) ||
                  forward.getArgAttr(i, kLabelAttr);
    Type type = forward.getArgumentTypes()[i];
    forwardTypes.push_back(loaded ? type : getStoredType(type));
  }
  append(forwardTypes, forward.getArgumentTypes().drop_front(data), same);
  PrecisionLowering(forward, forwardTypes, ~0u).run();

  SmallVector<Type> types;
  append(types, forward.getArgumentTypes().take_front(data), same);
  append(types, forward.getResultTypes().drop_front(outputs), same);
  append(types, forward.getArgumentTypes().take_back(parameters), same);
  append(types,
         functions.backwardInput.getArgumentTypes().take_back(
             functions.getGradientCount()),
         getStoredType);
  PrecisionLowering(functions.backwardInput, types, ~0u).run();

  append(types,
         functions.backwardInput.getResultTypes().take_back(
             functions.carriedCount),
         same);
  PrecisionLowering(functions.backwardWeight, types, 0).run();
}

namespace {
struct LowerPrecision : impl::GraphLowerPrecisionBase<LowerPrecision> {
  using GraphLowerPrecisionBase::GraphLowerPrecisionBase;

  void runOnOperation() override {
    for (auto block : getOperation().getOps<func::FuncOp>()) {
      if (!block->hasAttr(kBlockAttr))
        continue;
      FailureOr<BlockFunctions> functions = BlockFunctions::get(block);
      if (failed(functions))
        return signalPassFailure();
      lowerPrecision(*functions);
    }
  }
};
} // namespace
} // namespace tombolo::graph
