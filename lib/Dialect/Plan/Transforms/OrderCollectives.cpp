//===- OrderCollectives.cpp - collectives inside the loops of a step ------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Both lanes are in order, so two semaphores do: *ready* counts what compute
// has left behind for collectives, *done* what they have finished. What stands
// in one block without compute between is a *round* and counts as one. How many
// rounds have gone before an instruction is an expression of the variables of
// the loops around it, because a loop has the same number in every iteration.
//
//===----------------------------------------------------------------------===//

#include "LaneOrder.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;

namespace tombolo::plan {

namespace {

/// Memory that an instruction reads or writes.
struct Touched {
  AddressAttr address;
  int64_t bytes;
};

/// Whether both may be in the same place. Terms of loop variables that both
/// have cancel out; those with a small modulus are tried out.
bool mayOverlap(const Touched &a, const Touched &b) {
  if (a.address.getBuffer() != b.address.getBuffer())
    return false;
  if (a.address.getSlot() != b.address.getSlot())
    return true;
  ExprAttr from = b.address.getOffset();
  if (from.getDivisor() != 1 || a.address.getOffset().getDivisor() != 1)
    return true;
  ExprAttr distance = a.address.getOffset().plus(from.scaledBy(-1));
  constexpr uint64_t kMostTried = 16;
  SmallVector<std::pair<const Term *, const Term *>> pairs;
  ArrayRef<Term> terms = distance.getTerms();
  auto apart = [&](int64_t value) {
    return value >= b.bytes || -value >= a.bytes;
  };
  if (terms.empty())
    return !apart(distance.getConstant());
  for (const Term &term : terms)
    if (term.modulus == 0 || term.modulus > kMostTried ||
        term.modulus != terms.front().modulus || term.offset < 0 ||
        term.variable != terms.front().variable ||
        term.coordinate != Coordinate::None)
      return true;
  int64_t modulus = terms.front().modulus;
  for (int64_t v = 0; v < modulus; ++v) {
    int64_t value = distance.getConstant();
    for (const Term &term : terms)
      value += term.factor * ((v + term.offset) % modulus);
    if (!apart(value))
      return true;
  }
  return false;
}

/// Rounds: of collectives, and those of them that wait for compute.
struct Rounds {
  int64_t all = 0, behindCompute = 0;
};

class CollectiveOrder {
public:
  CollectiveOrder(Block &body, const SymbolTable &symbols,
                  const llvm::DenseSet<StringAttr> &received, LaneOrder &order)
      : body(body), symbols(symbols), received(received), order(order),
        zero(ExprAttr::get(body.getParentOp()->getContext())) {}

  void run() {
    if (count(body).all == 0)
      return;
    ready = order.addSemaphore("collectives.ready");
    done = order.addSemaphore("collectives.done");
    visit(body, zero, zero);
  }

private:
  static bool isCompute(Operation &op) {
    auto instruction = dyn_cast<InstructionOpInterface>(op);
    return instruction && instruction.getLane() == Lane::Compute;
  }
  /// One of a round; those that stand in the step itself take turns with the
  /// other lanes there.
  static bool isOrdered(Operation &op) {
    return isa<CollectiveOp>(op) && isa<LoopOp>(op.getParentOp());
  }

  /// The round that begins with this collective.
  static SmallVector<CollectiveOp> roundFrom(Operation &first) {
    SmallVector<CollectiveOp> round;
    for (Operation *op = &first; op && !isCompute(*op) && !isa<LoopOp>(op);
         op = op->getNextNode())
      if (isOrdered(*op))
        round.push_back(cast<CollectiveOp>(op));
    return round;
  }

  /// Whether compute leaves what a collective of the round works on.
  bool readsComputed(Operation &first) const {
    return llvm::any_of(roundFrom(first), [&](CollectiveOp op) {
      auto buffer = op.getAddress().getBuffer();
      return !buffer || !received.contains(buffer.getAttr());
    });
  }

  /// Of one execution of the block.
  Rounds count(Block &body) {
    auto [entry, fresh] = counts.try_emplace(&body);
    if (!fresh)
      return entry->second;
    Rounds rounds;
    bool open = false, computed = false;
    for (Operation &op : body) {
      if (auto loop = dyn_cast<LoopOp>(op)) {
        Rounds inner = count(loop.getBody().front());
        rounds.all += inner.all * loop.getCount();
        rounds.behindCompute += inner.behindCompute * loop.getCount();
        open = computed = false;
      } else if (isCompute(op)) {
        open = false;
        computed = true;
      } else if (isOrdered(op) && !open) {
        open = true;
        ++rounds.all;
        rounds.behindCompute += computed && readsComputed(op);
      }
    }
    return counts[&body] = rounds;
  }

  /// base + each * (iterations of the loop that have gone before).
  ExprAttr plus(ExprAttr base, int64_t each, LoopOp loop) {
    if (each == 0)
      return base;
    ExprAttr sum = base.plus(
        ExprAttr::get(zero.getContext(), 0, {Term{loop.getVariable(), each}}));
    auto first = loop.getFirst();
    return first ? sum.plus(first->scaledBy(-each)) : sum;
  }

  /// `before`, `readyBefore`: rounds that have gone before.
  void visit(Block &body, ExprAttr before, ExprAttr readyBefore) {
    Operation *computed = nullptr; // since the block or a loop began
    for (Operation &op : body) {
      if (auto loop = dyn_cast<LoopOp>(op)) {
        Rounds inner = count(loop.getBody().front());
        // Something may be under way from what came before the loop, or from
        // the iteration before.
        unknown |= !underWay.empty() || inner.all > 0;
        bool known = !unknown;
        visit(loop.getBody().front(), plus(before, inner.all, loop),
              plus(readyBefore, inner.behindCompute, loop));
        before = before.plus(inner.all * loop.getCount());
        readyBefore = readyBefore.plus(inner.behindCompute * loop.getCount());
        unknown = !known;
        underWay.clear();
        computed = nullptr;
      } else if (isOrdered(op)) {
        bool last = roundFrom(op).size() == 1;
        if (!inRound && computed && readsComputed(op)) {
          order.signal(computed, ready);
          readyBefore = readyBefore.plus(1);
          order.wait(&op, ready, readyBefore);
        }
        inRound = !last;
        auto collective = cast<CollectiveOp>(op);
        underWay.push_back(
            {collective.getAddress(),
             collective.getElements() * elementBytes(collective.getType())});
        if (last) {
          order.signal(&op, done);
          before = before.plus(1);
        }
      } else if (isCompute(op)) {
        if (touchesUnderWay(op)) {
          order.wait(&op, done, before);
          underWay.clear();
          unknown = false;
        }
        computed = &op;
      }
    }
  }

  bool touchesUnderWay(Operation &op) const {
    auto call = dyn_cast<CallOp>(op);
    if (!call)
      return false; // samples are loaded where no collective works
    if (unknown)
      return true;
    if (underWay.empty())
      return false;
    return llvm::any_of(touchedBy(call), [&](const Touched &mine) {
      return llvm::any_of(underWay, [&](const Touched &other) {
        return mayOverlap(mine, other);
      });
    });
  }

  SmallVector<Touched> touchedBy(CallOp call) const {
    SmallVector<int64_t> bytes;
    Operation *target = symbols.lookup(call.getSegment());
    if (auto function = dyn_cast_or_null<func::FuncOp>(target)) {
      for (Type type : function.getArgumentTypes())
        bytes.push_back(storageBytes(cast<ShapedType>(type)));
      for (auto [i, type] : llvm::enumerate(function.getResultTypes()))
        if (!function.getResultAttr(i, kInPlaceAttr))
          bytes.push_back(storageBytes(cast<ShapedType>(type)));
    } else if (auto segment = dyn_cast_or_null<SegmentOp>(target)) {
      for (Type type : segment.getBody().getArgumentTypes())
        bytes.push_back(storageBytes(cast<ShapedType>(type)));
    }
    SmallVector<Touched> touched;
    for (auto [i, address] :
         llvm::enumerate(call.getAddresses().getAsRange<AddressAttr>()))
      touched.push_back({address, i < bytes.size() ? bytes[i] : INT64_MAX});
    return touched;
  }

  Block &body;
  const SymbolTable &symbols;
  const llvm::DenseSet<StringAttr> &received;
  LaneOrder &order;
  ExprAttr zero;
  SemaphoreOp ready, done;
  llvm::DenseMap<Block *, Rounds> counts;
  /// What collectives work on since compute last waited for all of them;
  /// `unknown`: perhaps something else.
  SmallVector<Touched> underWay;
  bool unknown = false;
  bool inRound = false;
};

} // namespace

void orderCollectives(Block &body, const SymbolTable &symbols,
                      const llvm::DenseSet<StringAttr> &received,
                      LaneOrder &order) {
  CollectiveOrder(body, symbols, received, order).run();
}

} // namespace tombolo::plan
