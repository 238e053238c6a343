//===- StageUpdate.cpp - from gradients to parameters ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The end of a stage's step, range by range of its parameters
// (`dist::ParameterRange`): gradients are summed over the ranks that have the
// same parameters, their squares are added up, statistics are summed over the
// island, parameters are updated, and parts that replicas updated are gathered.
//
// A parameter that several stages use lies in each of them. Their gradients are
// summed over all replicas of all these stages at once, which works for any
// numbers of replicas, and each updates its copy alike. Sending the updated
// parameter from an owner would move as many bytes later, when everybody waits.
//
//===----------------------------------------------------------------------===//

#include "StageProgram.h"

using namespace mlir;

namespace tombolo::plan {

void ProgramBuilder::collective(StringRef kind, Group group,
                                FlatSymbolRefAttr buffer, int64_t offset,
                                int64_t elements, ArrayRef<int64_t> stages) {
  builder.create<CollectiveOp>(
      loc, builder.getStringAttr(kind), GroupAttr::get(context, group),
      at(buffer, offset), builder.getI64IntegerAttr(elements),
      TypeAttr::get(builder.getF32Type()),
      stages.empty() ? DenseI64ArrayAttr()
                     : builder.getDenseI64ArrayAttr(stages),
      LaneAttr::get(context, Lane::Collective), ArrayAttr(), ArrayAttr(),
      GuardAttr());
}

/// How many ranks have the same gradients of a range when they are summed.
int64_t ProgramBuilder::copiesOf(const dist::ParameterRange &range) const {
  int64_t copies = range.parts > 1 ? 1 : task.replicas;
  if (!range.kind.stages.empty()) {
    copies = 0;
    for (int64_t stage : range.kind.stages)
      copies += task.replicasOf[stage];
  }
  bool isSplit = range.kind.section == dist::ParameterClass::Split;
  return isSplit ? copies : copies * task.tensorParallel;
}

/// Bytes from the range's start to what this replica updates.
ExprAttr ProgramBuilder::ownPart(const dist::ParameterRange &range) {
  if (range.parts == 1)
    return constant(range.begin);
  return ExprAttr::get(context, range.begin,
                       {Term{0, range.partBytes(), 0, 0, Coordinate::Replica}});
}

void ProgramBuilder::sumGradients() {
  // Over the chips of a replica: these ranges are the first.
  int64_t partial = 0;
  for (const dist::ParameterRange &range : layout.ranges)
    if (range.kind.section == dist::ParameterClass::Partial)
      partial = range.begin + range.bytes;
  if (partial > 0)
    collective("all_reduce_sum", Group::Tensor, gradients, 0, partial / 4);
  // Ranges of this stage alone first, neighbours that all replicas update at
  // once; then those of several stages, in an order that all of these have.
  for (size_t i = 0; i < layout.ranges.size();) {
    const dist::ParameterRange &first = layout.ranges[i];
    int64_t bytes = first.bytes;
    ++i;
    if (!first.kind.stages.empty() || task.replicas == 1)
      continue;
    while (first.parts == 1 && i < layout.ranges.size() &&
           layout.ranges[i].kind.stages.empty())
      bytes += layout.ranges[i++].bytes;
    collective(first.parts > 1 ? "reduce_scatter_sum" : "all_reduce_sum",
               Group::Replicas, gradients, first.begin, bytes / 4);
  }
  for (const dist::ParameterRange &range : layout.ranges)
    if (!range.kind.stages.empty())
      collective("all_reduce_sum", Group::Stages, gradients, range.begin,
                 range.bytes / 4, range.kind.stages);
}

/// Adds the squares of gradients that `copies` ranks have alike: each adds that
/// part of them.
void ProgramBuilder::addSquares(ExprAttr offset, int64_t elements,
                                int64_t copies) {
  std::string name =
      "square_sum." + std::to_string(elements) + "." + std::to_string(copies);
  if (!symbols.lookup(name)) {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPoint(program);
    auto vector = MemRefType::get({elements}, builder.getF32Type());
    auto single = MemRefType::get({}, builder.getF32Type());
    auto segment = builder.create<SegmentOp>(
        loc, name, ArrayRef<StringRef>{"gradients", "squares"},
        ArrayRef<MemRefType>{vector, single},
        ArrayRef<Access>{Access::Read, Access::ReadWrite});
    Block &body = segment.getBody().front();
    builder.setInsertionPointToStart(&body);
    builder.create<ComputeOp>(
        loc, builder.getStringAttr("square_sum"),
        ValueRange(body.getArgument(0)), ValueRange(body.getArgument(1)),
        builder.getUnitAttr(),
        builder.getDictionaryAttr(builder.getNamedAttr(
            "scale", builder.getF64FloatAttr(1.0 / copies))));
    symbols.insert(segment);
  }
  call(FlatSymbolRefAttr::get(context, name),
       {at(gradients, constant(0), offset), at(stats, kSquaresOffset)}, "");
}

void ProgramBuilder::update() {
  for (auto [number, op] : llvm::enumerate(updateOps)) {
    SmallVector<Attribute> addresses{at(stats, 4), at(updates)};
    if (!layout.ranges.empty()) {
      const dist::ParameterRange &range = layout.ranges[number];
      ExprAttr own = ownPart(range);
      if (task.clipsGradients)
        addresses.push_back(at(stats, kSquaresOffset));
      addresses.push_back(at(parameters, constant(0), own));
      addresses.push_back(at(gradients, constant(0), own));
      for (size_t state = 0; state < op.getStates().size(); ++state)
        addresses.push_back(stateAddress(state, number));
    }
    call(op.getFunctionAttr(), addresses, kUpdatePass);
  }
}

void ProgramBuilder::reduceAndUpdate() {
  sumGradients();
  if (task.clipsGradients)
    for (const dist::ParameterRange &range : layout.ranges)
      addSquares(ownPart(range), range.partBytes() / 4, copiesOf(range));
  if (task.ranks > 1)
    collective("all_reduce_sum", Group::Island, stats, 0, statCount());
  update();
  for (const dist::ParameterRange &range : layout.ranges)
    if (range.parts > 1)
      collective("all_gather", Group::Replicas, parameters, range.begin,
                 range.bytes / 4);
}

} // namespace tombolo::plan
