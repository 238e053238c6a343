//===- OverlapTransfers.cpp - orders lanes against each other -------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
//
// Compute and each kind of transfer run on lanes of their own. Microbatch m of
// a buffer with n slots lies in slot m mod n, so, for a receive,
//
//   receive m   waits until compute has read microbatch m - n for the last time
//   first read  waits until microbatch m has been received
//
// and for a send
//
//   first write waits until microbatch m - n has been sent
//   send m      waits until compute has written microbatch m
//
// Each is a semaphore that counts microbatches: waiting for microbatch m is
// waiting for m + 1. Behind the loops compute, collectives and exchange follow
// one another; each hands over when all it has to do is done.
//
//===----------------------------------------------------------------------===//

#include "StepOrder.h"

#include "tombolo/Dialect/Plan/IR/AttributeNames.h"
#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/Dialect/Plan/Transforms/Passes.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace tombolo::plan {
#define GEN_PASS_DEF_PLANOVERLAPTRANSFERS
#include "tombolo/Dialect/Plan/Transforms/Passes.h.inc"

namespace {

class ProgramOverlap {
public:
  explicit ProgramOverlap(ProgramOp program)
      : program(program), context(program.getContext()), builder(context) {}

  LogicalResult run() {
    auto count = program->getAttrOfType<IntegerAttr>(kMicrobatchesAttr);
    if (!count || count.getInt() <= 0)
      return program.emitOpError("expected a positive attribute microbatches, "
                                 "as plan-schedule-microbatches leaves it");
    if (!program.getOps<SemaphoreOp>().empty())
      return program.emitOpError("has semaphores already");
    microbatches = count.getInt();
    if (failed(checkAddresses()))
      return failure();
    // In front of the step, behind everything else.
    builder.setInsertionPoint(program.getStep());
    collect(program.getStep().getBody().front());
    for (auto &[buffer, transfers] : transfersOf)
      if (failed(orderTransfers(buffer, transfers)))
        return failure();
    handOver(program.getStep().getBody().front());
    return success();
  }

private:
  /// Slots are told apart by buffers: all must still be there.
  LogicalResult checkAddresses() {
    WalkResult result = program.getStep().walk([&](Operation *op) {
      SmallVector<AddressAttr> addresses;
      if (auto call = dyn_cast<CallOp>(op))
        llvm::append_range(addresses,
                           call.getAddresses().getAsRange<AddressAttr>());
      else if (isa<SendOp, ReceiveOp>(op))
        addresses.push_back(op->getAttrOfType<AddressAttr>("address"));
      if (llvm::all_of(addresses, [](AddressAttr address) {
            return static_cast<bool>(address.getBuffer());
          }))
        return WalkResult::advance();
      op->emitOpError("has an address in no buffer, run plan-overlap-transfers "
                      "before plan-allocate-buffers");
      return WalkResult::interrupt();
    });
    return failure(result.wasInterrupted());
  }

  /// Transfers by buffer, compute by the buffer and the block it stands in.
  void collect(Block &body) {
    for (Operation &op : body) {
      if (auto loop = dyn_cast<LoopOp>(op)) {
        collect(loop.getBody().front());
      } else if (auto send = dyn_cast<SendOp>(op)) {
        transfersOf[send.getAddress().getBuffer().getAttr()].push_back(&op);
      } else if (auto receive = dyn_cast<ReceiveOp>(op)) {
        transfersOf[receive.getAddress().getBuffer().getAttr()].push_back(&op);
      } else if (auto call = dyn_cast<CallOp>(op)) {
        llvm::SmallDenseSet<Attribute> seen;
        for (auto address : call.getAddresses().getAsRange<AddressAttr>())
          if (seen.insert(address).second)
            usesOf[{address.getBuffer().getAttr(), address.getSlot()}]
                .push_back(call);
      }
    }
  }

  SemaphoreOp semaphore(StringRef buffer, StringRef what) {
    return builder.create<SemaphoreOp>(
        program.getLoc(),
        builder.getStringAttr(buffer + (what.empty() ? "" : ".") + what));
  }

  void wait(Operation *op, SemaphoreOp semaphore, ExprAttr value) {
    // A value that is never positive always holds.
    if (value.isConstant() && value.getConstant() <= 0)
      return;
    auto instruction = cast<InstructionOpInterface>(op);
    SmallVector<Attribute> waits;
    if (auto old = instruction.getWaits())
      llvm::append_range(waits, *old);
    waits.push_back(WaitAttr::get(
        context, FlatSymbolRefAttr::get(semaphore.getSymNameAttr()), value));
    instruction.setWaitsAttr(builder.getArrayAttr(waits));
  }

  void signal(Operation *op, SemaphoreOp semaphore) {
    auto instruction = cast<InstructionOpInterface>(op);
    SmallVector<Attribute> signals;
    if (auto old = instruction.getSignals())
      llvm::append_range(signals, *old);
    signals.push_back(FlatSymbolRefAttr::get(semaphore.getSymNameAttr()));
    instruction.setSignalsAttr(builder.getArrayAttr(signals));
  }

  LogicalResult orderTransfers(StringAttr name,
                               ArrayRef<Operation *> transfers) {
    BufferOp buffer;
    for (BufferOp op : program.getOps<BufferOp>())
      if (op.getSymNameAttr() == name)
        buffer = op;
    int64_t slots = std::min(buffer.getSlots() + 1, microbatches);
    buffer.setSlots(slots);
    bool receives = isa<ReceiveOp>(transfers.front());
    StringRef text = name.getValue();
    SemaphoreOp filled = semaphore(text, receives ? "filled" : "ready");
    // With a slot for every microbatch nothing is ever reused.
    SemaphoreOp emptied;
    if (slots < microbatches)
      emptied = semaphore(text, receives ? "free" : "sent");

    for (Operation *transfer : transfers) {
      if (isa<ReceiveOp>(transfer) != receives)
        return transfer->emitOpError() << "moves buffer " << name
                                       << ", which is both sent and received";
      auto address = transfer->getAttrOfType<AddressAttr>("address");
      ExprAttr microbatch = address.getSlot();
      auto uses = usesOf.find({name, microbatch});
      if (uses == usesOf.end())
        return transfer->emitOpError("moves a buffer that no call uses");
      // A microbatch of its own loop variable: these are the calls of the same
      // loop body, in program order.
      Operation *first = uses->second.front(), *last = uses->second.back();
      if (receives) {
        signal(transfer, filled);
        wait(first, filled, microbatch.plus(1));
        if (emptied)
          wait(transfer, emptied, microbatch.plus(1 - slots));
      } else {
        signal(last, filled);
        wait(transfer, filled, microbatch.plus(1));
        if (emptied) {
          signal(transfer, emptied);
          wait(first, emptied, microbatch.plus(1 - slots));
        }
      }
    }
    if (receives && emptied)
      release(name, emptied);
    return success();
  }

  /// A received microbatch is done with when the last call that reads it in the
  /// backward pass is complete; where nothing is trained there is no such pass.
  void release(StringAttr name, SemaphoreOp emptied) {
    auto isBackward = [](CallOp call) {
      auto pass = call->getAttrOfType<StringAttr>(kPassAttr);
      return pass && pass.getValue() == kBackwardPass;
    };
    bool hasBackward = false;
    for (auto &[key, calls] : usesOf)
      hasBackward |= key.first == name && llvm::any_of(calls, isBackward);
    for (auto &[key, calls] : usesOf) {
      if (key.first != name)
        continue;
      CallOp last;
      for (CallOp call : calls)
        if (!hasBackward || isBackward(call))
          last = call;
      if (last)
        signal(last, emptied);
    }
  }

  /// The last instruction of the compute lane in a block.
  static Operation *lastCompute(Operation *op) {
    if (auto loop = dyn_cast<LoopOp>(op)) {
      for (Operation &inner : llvm::reverse(loop.getBody().front()))
        if (Operation *found = lastCompute(&inner))
          return found;
      return nullptr;
    }
    auto instruction = cast<InstructionOpInterface>(op);
    return instruction.getLane() == Lane::Compute ? op : nullptr;
  }

  /// Orders what stands in the step itself, where lanes take turns.
  void handOver(Block &body) {
    Operation *before = nullptr; // the last instruction that counts
    std::optional<Lane> lane;
    unsigned number = 0;
    for (Operation &op : body) {
      Operation *compute = lastCompute(&op);
      auto instruction = dyn_cast<InstructionOpInterface>(op);
      if (isa<LoopOp>(op)) {
        before = compute ? compute : before;
        lane = Lane::Compute;
        continue;
      }
      if (before && *lane != instruction.getLane()) {
        SemaphoreOp turn = semaphore("turn", std::to_string(number++));
        signal(before, turn);
        wait(&op, turn, ExprAttr::get(context, countExecutions(before)));
      }
      before = &op;
      lane = instruction.getLane();
    }
  }

  ProgramOp program;
  MLIRContext *context;
  OpBuilder builder;
  int64_t microbatches = 0;
  // By buffer; by buffer and slot.
  llvm::MapVector<StringAttr, SmallVector<Operation *>> transfersOf;
  llvm::MapVector<std::pair<StringAttr, Attribute>, SmallVector<CallOp>> usesOf;
};

class OverlapTransfers
    : public impl::PlanOverlapTransfersBase<OverlapTransfers> {
public:
  void runOnOperation() override {
    for (ProgramOp program : getOperation().getOps<ProgramOp>())
      if (failed(ProgramOverlap(program).run()))
        return signalPassFailure();
  }
};

} // namespace
} // namespace tombolo::plan
