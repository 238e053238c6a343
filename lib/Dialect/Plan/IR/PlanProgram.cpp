//===- PlanProgram.cpp - programs and the plan's other messages ---------
//---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Plan/IR/Plan.h"

#include "llvm/ADT/SmallBitVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace tombolo::plan;

#include "tombolo/Dialect/Plan/IR/PlanDialect.cpp.inc"
#include "tombolo/Dialect/Plan/IR/PlanInterfaces.cpp.inc"

#define GET_OP_CLASSES
#include "tombolo/Dialect/Plan/IR/PlanOps.cpp.inc"

void PlanDialect::initialize() {
  registerAttributes();
  addOperations<
#define GET_OP_LIST
#include "tombolo/Dialect/Plan/IR/PlanOps.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// ProgramOp
//===----------------------------------------------------------------------===//

template <typename OpT> static OpT only(ProgramOp program) {
  auto ops = program.getOps<OpT>();
  return ops.empty() ? OpT() : *ops.begin();
}

StepOp ProgramOp::getStep() { return only<StepOp>(*this); }
FinishOp ProgramOp::getFinish() { return only<FinishOp>(*this); }
EvaluateOp ProgramOp::getEvaluate() { return only<EvaluateOp>(*this); }

namespace {
/// Checks everything inside a program that names something else of it.
class ProgramVerifier {
public:
  explicit ProgramVerifier(ProgramOp program) : program(program) {
    for (auto buffer : program.getOps<BufferOp>())
      buffers.insert({buffer.getSymName(), buffer});
    for (auto semaphore : program.getOps<SemaphoreOp>())
      semaphores.insert({semaphore.getSymName(), true});
  }

  LogicalResult verify() {
    if (failed(verifyAddress(program, program.getStats())) ||
        failed(verifyAddress(program, program.getUpdates())) ||
        (program.getTensorIndex() &&
         failed(verifyAddress(program, *program.getTensorIndex()))))
      return failure();
    if (auto squares = program.getGradientSquares())
      if (failed(verifyAddress(program, *squares)))
        return failure();
    for (Operation &op : program.getBody().front()) {
      if (auto parameters = dyn_cast<ParametersOp>(op)) {
        if (failed(verifyAddress(&op, parameters.getAddress())))
          return failure();
      } else if (auto state = dyn_cast<StateOp>(op)) {
        if (failed(verifyAddress(&op, state.getAddress())))
          return failure();
      } else if (isa<StepOp, FinishOp, EvaluateOp>(op)) {
        if (failed(verifyBody(op.getRegion(0))))
          return failure();
      } else if (!isa<BufferOp, RegionOp, SemaphoreOp>(op)) {
        return op.emitOpError("is not expected directly in a program");
      }
    }
    return success();
  }

private:
  LogicalResult verifyBody(Region &region) {
    for (Operation &op : region.front()) {
      if (auto loop = dyn_cast<LoopOp>(op)) {
        int64_t variable = loop.getVariable();
        if (!everSeen.insert(variable).second)
          return op.emitOpError()
                 << "variable " << variable << " belongs to another loop";
        if (auto first = loop.getFirst())
          if (failed(verifyExpr(loop, *first)))
            return failure();
        visible.insert(variable);
        if (failed(verifyBody(loop.getBody())))
          return failure();
        visible.erase(variable);
        continue;
      }
      auto instruction = dyn_cast<InstructionOpInterface>(op);
      if (!instruction)
        return op.emitOpError("is not an instruction");
      if (failed(verifyInstruction(instruction)))
        return failure();
    }
    return success();
  }

  LogicalResult verifyInstruction(InstructionOpInterface instruction) {
    Operation *op = instruction;
    if (auto waits = instruction.getWaits())
      for (auto wait : waits->getAsRange<WaitAttr>())
        if (failed(verifySemaphore(op, wait.getSemaphore())) ||
            failed(verifyExpr(op, wait.getValue())))
          return failure();
    if (auto signals = instruction.getSignals())
      for (auto signal : signals->getAsRange<FlatSymbolRefAttr>())
        if (failed(verifySemaphore(op, signal)))
          return failure();
    for (NamedAttribute entry : op->getAttrs()) {
      if (auto address = dyn_cast<AddressAttr>(entry.getValue())) {
        if (failed(verifyAddress(op, address)))
          return failure();
      } else if (auto expr = dyn_cast<ExprAttr>(entry.getValue())) {
        if (failed(verifyExpr(op, expr)))
          return failure();
      }
    }
    if (auto call = dyn_cast<CallOp>(op))
      for (auto address : call.getAddresses().getAsRange<AddressAttr>())
        if (failed(verifyAddress(op, address)))
          return failure();
    return success();
  }

  LogicalResult verifySemaphore(Operation *op, FlatSymbolRefAttr name) {
    if (semaphores.contains(name.getValue()))
      return success();
    return op->emitOpError() << "unknown semaphore " << name;
  }

  LogicalResult verifyAddress(Operation *op, AddressAttr address) {
    if (address.getBuffer() &&
        !buffers.contains(address.getBuffer().getValue()))
      return op->emitOpError() << "unknown buffer " << address.getBuffer();
    if (address.getSlot() && failed(verifyExpr(op, address.getSlot())))
      return failure();
    return verifyExpr(op, address.getOffset());
  }

  LogicalResult verifyExpr(Operation *op, ExprAttr expr) {
    for (const Term &term : expr.getTerms())
      if (term.coordinate == Coordinate::None &&
          !visible.contains(term.variable))
        return op->emitOpError()
               << "v" << term.variable << " is no variable of a loop around it";
    return success();
  }

  ProgramOp program;
  llvm::StringMap<BufferOp> buffers;
  llvm::StringMap<bool> semaphores;
  llvm::DenseSet<int64_t> everSeen, visible;
};
} // namespace

LogicalResult ProgramOp::verifyRegions() {
  auto count = [&](auto ops) { return std::distance(ops.begin(), ops.end()); };
  if (count(getOps<StepOp>()) != 1 || count(getOps<FinishOp>()) != 1)
    return emitOpError("expected one plan.step and one plan.finish");
  if (count(getOps<EvaluateOp>()) > 1)
    return emitOpError("expected at most one plan.evaluate");
  return ProgramVerifier(*this).verify();
}

//===----------------------------------------------------------------------===//
// Parts of a program
//===----------------------------------------------------------------------===//

LogicalResult BufferOp::verify() {
  if (getSlots() <= 0 || getSlotBytes() < 0 || getSlotBytes() % alignment != 0)
    return emitOpError() << "expected slots of a multiple of " << alignment
                         << " bytes, got " << getSlots() << " x "
                         << getSlotBytes();
  return success();
}

LogicalResult RegionOp::verify() {
  if (getOffset() < 0 || getBytes() < 0 || getOffset() % alignment != 0)
    return emitOpError() << "expected an offset that is a multiple of "
                         << alignment << ", got " << getOffset();
  return success();
}

LogicalResult ParametersOp::verify() {
  if (getCount() <= 0)
    return emitOpError("expected a positive count");
  for (Attribute names : {getNames(), getInitializers()})
    if (auto listed = dyn_cast<ArrayAttr>(names))
      if (static_cast<int64_t>(listed.size()) != getCount())
        return emitOpError()
               << "expected " << getCount() << " names, got " << listed.size();
  auto type = cast<RankedTensorType>(getType());
  if (!type.hasStaticShape())
    return emitOpError() << "expected a static type, got " << type;
  if (auto slices = getSlices())
    for (auto slice : slices->getAsRange<SliceAttr>()) {
      int64_t reach;
      if (llvm::MulOverflow(slice.getCount() - 1, slice.getStride(), reach) ||
          llvm::AddOverflow(reach, slice.getBegin(), reach) ||
          llvm::AddOverflow(reach, slice.getLength(), reach) ||
          reach > type.getNumElements())
        return emitOpError() << slice << " is no part of " << type;
    }
  int64_t bytes = getLocalElements() * elementBytes(type.getElementType());
  if (getCount() > 1 && getStride() < bytes)
    return emitOpError() << "expected a stride of at least " << bytes
                         << " bytes, got " << getStride();
  if (auto fragments = getFragments()) {
    int64_t members = 0;
    bool wrong = getFrozen() || fragments->size() % 2 != 0;
    for (size_t i = 0; !wrong && i < fragments->size(); i += 2) {
      wrong = (*fragments)[i] < 0 || (*fragments)[i + 1] <= 0 ||
              llvm::AddOverflow(members, (*fragments)[i + 1], members);
    }
    if (wrong || members != getCount())
      return emitOpError() << "expected pairs of a fragment and a number of its "
                              "parameters, "
                           << getCount() << " trainable ones together";
  }
  return success();
}

int64_t ParametersOp::getLocalElements() {
  if (!getSlices())
    return cast<RankedTensorType>(getType()).getNumElements();
  int64_t sum = 0;
  for (auto slice : getSlices()->getAsRange<SliceAttr>())
    sum += slice.getLength() * slice.getCount();
  return sum;
}

LogicalResult StateOp::verify() {
  if (getPartBytes() < 0 || getPartBytes() % alignment != 0)
    return emitOpError() << "expected parts of a multiple of " << alignment
                         << " bytes, got " << getPartBytes();
  if (getBegin() < 0 || getBegin() % alignment != 0 || getBytes() < 0 ||
      getBytes() % alignment != 0 || (getBytes() == 0 && getBegin() != 0))
    return emitOpError() << "expected a range of multiples of " << alignment
                         << " bytes, got " << getBytes() << " from "
                         << getBegin();
  return success();
}

LogicalResult LoopOp::verify() {
  if (getCount() < 0 || getVariable() < 0)
    return emitOpError("expected a variable and count that are not negative");
  return success();
}

LogicalResult CollectiveOp::verify() {
  std::optional<ArrayRef<int64_t>> stages = getStages();
  if (stages.has_value() != (getGroup() == Group::Stages))
    return emitOpError("expected stages for the group 'stages', and only there");
  if (stages) {
    if (getKind() != "all_reduce_sum")
      return emitOpError() << "expected all_reduce_sum over stages, got '"
                           << getKind() << "'";
    if (stages->size() < 2 || stages->front() < 0 ||
        !llvm::is_sorted(*stages, std::less_equal<int64_t>()))
      return emitOpError("expected two or more stages in ascending order");
  }
  static const StringRef sums[] = {"all_reduce_sum", "reduce_scatter_sum"};
  if (llvm::is_contained(sums, getKind())) {
    if (!isa<FloatType>(getType()))
      return emitOpError() << "expected f32 or bf16 to add, got " << getType();
    return success();
  }
  if (getKind() != "all_gather" && getKind() != "all_to_all")
    return emitOpError() << "expected all_reduce_sum, reduce_scatter_sum, "
                            "all_gather or all_to_all, got '"
                         << getKind() << "'";
  return success();
}

LogicalResult TrainingOp::verify() {
  ArrayRef<StringRef> expected;
  static const StringRef sgd[] = {"momentum", "weight_decay"};
  static const StringRef adamw[] = {"beta1", "beta2", "epsilon",
                                    "weight_decay"};
  if (getOptimizer() == "sgd")
    expected = sgd;
  else if (getOptimizer() == "adamw")
    expected = adamw;
  else
    return emitOpError() << "expected sgd or adamw, got '" << getOptimizer()
                         << "'";
  for (StringRef name : expected)
    if (!getSettings().getAs<FloatAttr>(name))
      return emitOpError() << "expected a real setting '" << name << "'";
  if (getPrecision() != "f32" && getPrecision() != "bf16")
    return emitOpError() << "expected f32 or bf16, got '" << getPrecision()
                         << "'";
  return success();
}
