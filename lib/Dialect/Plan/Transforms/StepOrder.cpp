//===- StepOrder.cpp - what is complete before an instruction -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StepOrder.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace tombolo::plan {

int64_t countExecutions(Operation *op) {
  int64_t product = 1;
  for (auto loop = dyn_cast<LoopOp>(op->getParentOp()); loop;
       loop = dyn_cast<LoopOp>(loop->getParentOp()))
    if (llvm::MulOverflow<int64_t>(product, loop.getCount(), product))
      return INT64_MAX;
  return product;
}

StepOrder::StepOrder(StepOp step) {
  step.walk<WalkOrder::PreOrder>(
      [&](InstructionOpInterface op) { instructions.push_back(op); });
  struct Signals {
    SmallVector<Operation *> ops;
    int64_t count = 0;
  };
  llvm::DenseMap<StringAttr, Signals> signalsOf;
  for (Operation *op : instructions)
    if (auto signals = cast<InstructionOpInterface>(op).getSignals())
      for (auto name : signals->getAsRange<FlatSymbolRefAttr>()) {
        Signals &entry = signalsOf[name.getAttr()];
        entry.ops.push_back(op);
        if (llvm::AddOverflow(entry.count, countExecutions(op), entry.count))
          entry.count = INT64_MAX;
      }

  auto merge = [](Known &into, const Known &from) {
    for (auto &[lane, number] : from) {
      auto [entry, fresh] = into.insert({lane, number});
      if (!fresh)
        entry->second = std::max(entry->second, number);
    }
  };
  llvm::SmallMapVector<Lane, Known, 4> lanes;
  for (auto [number, op] : llvm::enumerate(instructions)) {
    auto instruction = cast<InstructionOpInterface>(op);
    Known &ofLane = lanes[instruction.getLane()];
    Known known = ofLane;
    if (auto waits = instruction.getWaits())
      for (auto wait : waits->getAsRange<WaitAttr>()) {
        auto found = signalsOf.find(wait.getSemaphore().getAttr());
        if (found == signalsOf.end() || !wait.getValue().isConstant() ||
            wait.getValue().getConstant() < found->second.count)
          continue;
        for (Operation *signal : found->second.ops)
          if (auto place = places.find(signal); place != places.end())
            merge(known, place->second.after);
      }
    Place place{static_cast<int64_t>(number), known, {}};
    known[instruction.getLane()] = number;
    place.after = known;
    places.try_emplace(op, std::move(place));
    // In a step in which its guard holds it back it has waited for nothing.
    if (instruction.getGuard())
      ofLane[instruction.getLane()] = number;
    else
      ofLane = std::move(known);
  }
}

bool StepOrder::isCompleteBefore(Operation *earlier, Operation *later) const {
  const Place &place = places.find(earlier)->second;
  const Known &known = places.find(later)->second.before;
  auto entry = known.find(cast<InstructionOpInterface>(earlier).getLane());
  return entry != known.end() && entry->second >= place.number;
}

} // namespace tombolo::plan
