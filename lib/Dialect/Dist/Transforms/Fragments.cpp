//===- Fragments.cpp - which parameters are synchronised together ---------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Dist/Transforms/Fragments.h"

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

using namespace mlir;

namespace tombolo::dist {

namespace {

/// Parameters that stay together.
struct Unit {
  int64_t elements = 0;
  SmallVector<Attribute> parameters;
};

/// How many parts greedy filling makes when none may have more than `most`.
int64_t countParts(ArrayRef<Unit> units, int64_t most) {
  int64_t parts = 1, filled = 0;
  for (const Unit &unit : units) {
    if (filled + unit.elements > most) {
      ++parts;
      filled = 0;
    }
    filled += unit.elements;
  }
  return parts;
}

/// The least size of the largest of `parts` consecutive parts.
int64_t leastLargest(ArrayRef<Unit> units, int64_t parts) {
  int64_t low = 0, high = 0;
  for (const Unit &unit : units) {
    low = std::max(low, unit.elements);
    high += unit.elements;
  }
  while (low < high) {
    int64_t middle = low + (high - low) / 2;
    if (countParts(units, middle) <= parts)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

} // namespace

FailureOr<FragmentOf> assignFragments(IslandOp island, int64_t fragments,
                                      SymbolTable &symbols) {
  std::vector<Unit> blocks, single;
  FragmentOf fragmentOf;
  for (ArrayRef<RunOp> place : getPlaces(island))
    for (RunOp run : place)
      for (Attribute list : run.getParameters()) {
        Unit block;
        for (auto symbol :
             cast<ArrayAttr>(list).getAsRange<FlatSymbolRefAttr>()) {
          auto parameter = symbols.lookup<graph::ParameterOp>(symbol.getAttr());
          if (!parameter)
            return FailureOr<FragmentOf>(run.emitOpError()
                                         << "unknown parameter " << symbol);
          if (parameter.getFrozen() ||
              !fragmentOf.try_emplace(symbol, 0).second)
            continue;
          int64_t elements =
              cast<RankedTensorType>(parameter.getType()).getNumElements();
          block.elements += elements;
          block.parameters.push_back(symbol);
          single.push_back({elements, {symbol}});
        }
        if (!block.parameters.empty())
          blocks.push_back(std::move(block));
      }
  auto count = [](ArrayRef<Unit> units) {
    return static_cast<int64_t>(units.size());
  };
  ArrayRef<Unit> units = count(blocks) >= fragments ? blocks : single;
  if (count(units) < fragments)
    return FailureOr<FragmentOf>(island.emitError()
                                 << "server.fragments: " << fragments
                                 << " fragments are more than the model's "
                                 << count(units)
                                 << " trainable parameters; use fewer");
  int64_t most = leastLargest(units, fragments), fragment = 0, filled = 0;
  for (auto [number, unit] : llvm::enumerate(units)) {
    int64_t left = count(units) - static_cast<int64_t>(number);
    // The next part begins where this one is full, or where each unit that is
    // left has to be a part of its own.
    if (filled > 0 &&
        (filled + unit.elements > most || left == fragments - 1 - fragment)) {
      ++fragment;
      filled = 0;
    }
    filled += unit.elements;
    for (Attribute symbol : unit.parameters)
      fragmentOf[symbol] = fragment;
  }
  return fragmentOf;
}

} // namespace tombolo::dist
