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

#include "LaneOrder.h"
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
  ProgramOverlap(ProgramOp program, const SymbolTable &symbols)
      : program(program), symbols(symbols), context(program.getContext()),
        order(program) {}

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
    if (failed(orderLanes(program.getStep().getBody().front())))
      return failure();
    if (auto evaluate = program.getEvaluate()) {
      // Semaphores of its own, and the slots that there are.
      order.setPrefix("evaluate.");
      growsSlots = false;
      return orderLanes(evaluate.getBody().front());
    }
    return success();
  }

private:
  /// Slots are told apart by buffers: all must still be there.
  LogicalResult checkAddresses() {
    WalkResult result = program.walk([&](Operation *op) {
      SmallVector<AddressAttr> addresses;
      if (auto call = dyn_cast<CallOp>(op))
        llvm::append_range(addresses,
                           call.getAddresses().getAsRange<AddressAttr>());
      else if (isa<SendOp, ReceiveOp>(op) || isInLoop<CollectiveOp>(op))
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

  LogicalResult orderLanes(Block &body) {
    transfersOf.clear();
    usesOf.clear();
    collect(body);
    for (auto &[buffer, transfers] : transfersOf)
      if (failed(orderTransfers(buffer, transfers)))
        return failure();
    llvm::DenseSet<StringAttr> received;
    for (auto &[buffer, transfers] : transfersOf)
      if (isa<ReceiveOp>(transfers.front()))
        received.insert(buffer);
    orderCollectives(body, symbols, received, order);
    handOver(body);
    return success();
  }

  template <typename OpT> static bool isInLoop(Operation *op) {
    return isa<OpT>(op) && isa<LoopOp>(op->getParentOp());
  }

  /// Transfers by buffer, calls and collectives by the buffer and its slot.
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
      } else if (isInLoop<CollectiveOp>(&op)) {
        AddressAttr address = cast<CollectiveOp>(op).getAddress();
        usesOf[{address.getBuffer().getAttr(), address.getSlot()}].push_back(
            &op);
      }
    }
  }

  SemaphoreOp semaphore(StringRef buffer, StringRef what) {
    return order.addSemaphore(buffer + "." + what);
  }
  void wait(Operation *op, SemaphoreOp semaphore, ExprAttr value) {
    order.wait(op, semaphore, value);
  }
  void signal(Operation *op, SemaphoreOp semaphore) {
    order.signal(op, semaphore);
  }

  static ExprAttr slotOf(Operation *transfer) {
    return transfer->getAttrOfType<AddressAttr>("address").getSlot();
  }

  LogicalResult orderTransfers(StringAttr name,
                               ArrayRef<Operation *> transfers) {
    BufferOp buffer;
    for (BufferOp op : program.getOps<BufferOp>())
      if (op.getSymNameAttr() == name)
        buffer = op;
    int64_t slots = buffer.getSlots();
    if (growsSlots) {
      slots = std::min(slots + 1, microbatches);
      buffer.setSlots(slots);
    }
    bool receives = isa<ReceiveOp>(transfers.front());
    StringRef text = name.getValue();
    SemaphoreOp filled = semaphore(text, receives ? "filled" : "ready");
    // With a slot for every microbatch nothing is ever reused.
    SemaphoreOp emptied;
    if (slots < microbatches)
      emptied = semaphore(text, receives ? "free" : "sent");

    for (size_t i = 0; i < transfers.size();) {
      // The pieces of one tensor follow one another on one lane.
      Operation *head = transfers[i], *tail = head;
      ExprAttr microbatch = slotOf(head);
      for (; i < transfers.size() && slotOf(transfers[i]) == microbatch &&
             transfers[i]->getBlock() == head->getBlock();
           ++i) {
        tail = transfers[i];
        if (isa<ReceiveOp>(tail) != receives)
          return tail->emitOpError() << "moves buffer " << name
                                     << ", which is both sent and received";
      }
      auto uses = usesOf.find({name, microbatch});
      if (uses == usesOf.end())
        return head->emitOpError("moves a buffer that no call uses");
      // A microbatch of its own loop variable: these are the instructions of
      // the same loop body, in program order.
      Operation *first = uses->second.front(), *last = uses->second.back();
      if (receives) {
        signal(tail, filled);
        wait(first, filled, microbatch.plus(1));
        if (emptied)
          wait(head, emptied, microbatch.plus(1 - slots));
      } else {
        signal(last, filled);
        wait(head, filled, microbatch.plus(1));
        if (emptied) {
          signal(tail, emptied);
          wait(first, emptied, microbatch.plus(1 - slots));
        }
      }
    }
    if (receives && emptied)
      release(name, emptied);
    return success();
  }

  /// A received microbatch is done with when the last use of it in the last
  /// pass that uses the buffer is complete: that of weights, where they are
  /// apart, the backward one, or where nothing is trained the forward one.
  void release(StringAttr name, SemaphoreOp emptied) {
    auto passOf = [](Operation *op) {
      auto pass = op->getAttrOfType<StringAttr>(kPassAttr);
      return !pass                              ? 0
             : pass.getValue() == kWeightPass   ? 2
             : pass.getValue() == kBackwardPass ? 1
                                                : 0;
    };
    int lastPass = 0;
    for (auto &[key, uses] : usesOf)
      if (key.first == name)
        for (Operation *op : uses)
          lastPass = std::max(lastPass, passOf(op));
    for (auto &[key, uses] : usesOf) {
      if (key.first != name)
        continue;
      Operation *last = nullptr;
      for (Operation *op : uses)
        if (passOf(op) == lastPass)
          last = op;
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

  /// Orders what stands in the step itself, where lanes take turns. What has a
  /// guard may not run, so what follows it on its lane waits as well.
  void handOver(Block &body) {
    Operation *before = nullptr; // the last instruction that counts
    std::optional<Lane> lane;
    SemaphoreOp turn; // what the first without a guard waits for, too
    ExprAttr count;
    unsigned number = 0;
    for (Operation &op : body) {
      Operation *compute = lastCompute(&op);
      auto instruction = dyn_cast<InstructionOpInterface>(op);
      if (isa<LoopOp>(op)) {
        before = compute ? compute : before;
        lane = Lane::Compute;
        turn = {};
        continue;
      }
      if (before && *lane != instruction.getLane()) {
        turn = semaphore("turn", std::to_string(number++));
        signal(before, turn);
        count = ExprAttr::get(context, countExecutions(before));
      }
      if (turn)
        wait(&op, turn, count);
      if (!instruction.getGuard())
        turn = {};
      before = &op;
      lane = instruction.getLane();
    }
  }

  ProgramOp program;
  const SymbolTable &symbols;
  MLIRContext *context;
  LaneOrder order;
  int64_t microbatches = 0;
  bool growsSlots = true;
  // By buffer; by buffer and slot.
  llvm::MapVector<StringAttr, SmallVector<Operation *>> transfersOf;
  llvm::MapVector<std::pair<StringAttr, Attribute>, SmallVector<Operation *>>
      usesOf;
};

class OverlapTransfers
    : public impl::PlanOverlapTransfersBase<OverlapTransfers> {
public:
  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    for (ProgramOp program : getOperation().getOps<ProgramOp>())
      if (failed(ProgramOverlap(program, symbols).run()))
        return signalPassFailure();
  }
};

} // namespace
} // namespace tombolo::plan
