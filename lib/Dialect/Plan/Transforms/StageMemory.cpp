//===- StageMemory.cpp - buffers of one stage and addresses in them -------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The memory of a stage with B blocks is told by *positions*: at position p
// lies what crosses from block p-1 to block p; position 0 comes from the stage
// before, position B goes to the stage behind. Blocks of a run are called in a
// loop wherever their addresses are affine in the block's number; blocks at a
// boundary, or whose neighbour packs its results differently, are called on
// their own.
//
//===----------------------------------------------------------------------===//

#include "FamilyNames.h"
#include "StageProgram.h"

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

using namespace mlir;

namespace tombolo::plan {

/// The run whose results lie at a position; position 0 is the stage before.
const RunBlocks &ProgramBuilder::producerOf(int64_t position) const {
  if (position == 0)
    return task.stages[task.stage - 1].back();
  const RunBlocks *found = &runs.front();
  for (const RunBlocks &run : runs)
    if (run.first < position)
      found = &run;
  return *found;
}

FlatSymbolRefAttr ProgramBuilder::define(const Twine &name, StringRef region,
                                         int64_t slots, int64_t slotBytes) {
  auto buffer = builder.create<BufferOp>(
      loc, builder.getStringAttr(name), builder.getStringAttr(region),
      builder.getI64IntegerAttr(slots), builder.getI64IntegerAttr(slotBytes));
  return FlatSymbolRefAttr::get(buffer.getSymNameAttr());
}

void ProgramBuilder::definePositions() {
  // Inner positions: activations of every microbatch in flight, packed, and two
  // gradients that the blocks use in turn.
  int64_t bytes = 0;
  positionOffsets.assign(blockCount + 1, 0);
  for (int64_t p = 1; p < blockCount; ++p) {
    const RunBlocks &producer = producerOf(p);
    positionOffsets[p] = bytes;
    bytes += producer.outputs.bytes;
    gradientBytes = std::max(gradientBytes, producer.outputGradients.bytes);
  }
  activations = define("activations", "saved", schedule.inFlight, bytes);
  innerGradients =
      define("activation_gradients", "workspace", 1, 2 * gradientBytes);

  int64_t savedBytes = 0, mostSaved = 0, mostCarried = 0, mostOutput = 0;
  for (const RunBlocks &run : runs) {
    savedOffsets.push_back(recomputes() ? 0 : savedBytes);
    savedBytes += run.saved.bytes * run.count;
    mostSaved = std::max(mostSaved, run.saved.bytes);
    mostCarried = std::max(mostCarried, run.carried.bytes);
    mostOutput = std::max(mostOutput, run.outputs.bytes);
  }
  if (recomputes()) {
    saved = define("saved", "saved", 1, mostSaved);
    again = define("recomputed_outputs", "workspace", 1, mostOutput);
  } else {
    saved = define("saved", "saved", schedule.inFlight, savedBytes);
  }
  carried = define("carried", "workspace", 1, mostCarried);

  auto boundary = [&](auto &buffers, StringRef name, int64_t other,
                      bool forward, int64_t slots) {
    for (const BoundaryValue &value :
         valuesBehind(std::min(task.stage, other), forward))
      buffers[value.result] = define(
          name + "." + Twine(value.result), "boundary", slots,
          alignUp(getCrossing(value, task.tensorParallel, degreeOf(other))
                      .bytes));
  };
  if (!isFirst()) {
    boundary(receiveForward, "receive_forward", task.stage - 1, true,
             schedule.inFlight);
    boundary(sendBackward, "send_backward", task.stage - 1, false, 1);
  }
  if (!isLast()) {
    // Of results that nobody reads, too.
    const RunBlocks &run = runs.back();
    boundary(sendForward, "send_forward", task.stage + 1, true, 1);
    for (auto [result, type] : llvm::enumerate(run.outputs.types))
      if (!sendForward.count(result))
        sendForward[result] =
            define("send_forward." + Twine(result), "boundary", 1,
                   alignUp(storageBytes(type)));
    boundary(receiveBackward, "receive_backward", task.stage + 1, false, 1);
  }
}

void ProgramBuilder::defineBuffers() {
  parameters = define("parameters", "parameters", 1, layout.trainableBytes);
  frozen = define("frozen", "frozen", 1, layout.frozenBytes);
  gradients = define("gradients", "gradients", 1, layout.trainableBytes);
  for (Attribute state : updateOps.front().getStates()) {
    StringRef name = cast<StringAttr>(state).getValue();
    auto &buffers = stateBuffers.emplace_back();
    if (!shardsOptimizer()) {
      buffers.push_back(define(name, name, 1, layout.trainableBytes));
      continue;
    }
    for (auto [i, range] : llvm::enumerate(layout.ranges))
      buffers.push_back(
          define(i == 0 ? name.str() : (name + "." + Twine(i)).str(), name, 1,
                 range.partBytes()));
  }
  for (const RunBlocks &run : runs)
    for (const DataArgument &data : run.data)
      if (data.isStamp)
        stamp = stamp ? stamp : define("stamp", "inputs", 1, alignment);
      else if (data.source < 0 && !inputs.count(data.input))
        inputs[data.input] =
            define("input." + data.input.getValue(), "inputs",
                   schedule.inFlight, alignUp(storageBytes(data.type)));
  definePositions();
  stats = define("stats", "stats", 1, statsBytes());
  updates = define("updates", "updates", 1, alignment);
}

/// What a chip has of each parameter of the family. All runs are equally far
/// apart, also those of different rows, because a row is `outer` of them.
ArrayAttr ProgramBuilder::slicesOf(const dist::ParameterFamily &family) {
  if (!family.split)
    return {};
  auto [dim, outer, count] = *family.split;
  ArrayRef<int64_t> shape = family.type.getShape();
  auto product = [](ArrayRef<int64_t> sizes) {
    int64_t all = 1;
    for (int64_t size : sizes)
      all *= size;
    return all;
  };
  int64_t rows = product(shape.take_front(dim));
  int64_t stride = shape[dim] / outer * product(shape.drop_front(dim + 1));
  int64_t length = stride / count;
  return builder.getArrayAttr(
      {SliceAttr::get(context, 0, length, rows * outer, stride, length)});
}

void ProgramBuilder::defineParameters() {
  for (const dist::ParameterFamily &family : layout.families) {
    SmallVector<StringRef> names, initializers;
    for (FlatSymbolRefAttr symbol : family.parameters) {
      auto op = symbols.lookup<graph::ParameterOp>(symbol.getAttr());
      names.push_back(symbol.getValue());
      initializers.push_back(op.getInitializer());
    }
    builder.create<ParametersOp>(
        loc, familyNames(context, names), familyNames(context, initializers),
        builder.getI64IntegerAttr(family.parameters.size()),
        at(family.frozen ? frozen : parameters, family.offset),
        builder.getI64IntegerAttr(family.stride), TypeAttr::get(family.type),
        slicesOf(family), family.frozen ? builder.getUnitAttr() : UnitAttr(),
        builder.getI64IntegerAttr(0),
        family.owner ? builder.getUnitAttr() : UnitAttr());
  }
  // Where ranges are not told apart, their states are not either.
  bool apart = shardsOptimizer() && layout.ranges.size() > 1;
  auto bytes = [&](int64_t value) { return builder.getI64IntegerAttr(value); };
  for (auto [name, buffers] :
       llvm::zip(updateOps.front().getStates(), stateBuffers))
    for (auto [i, buffer] : llvm::enumerate(buffers)) {
      const dist::ParameterRange &range = layout.ranges[i];
      builder.create<StateOp>(loc, cast<StringAttr>(name), at(buffer),
                              bytes(range.parts > 1 ? range.partBytes() : 0),
                              bytes(apart ? range.begin : 0),
                              bytes(apart ? range.bytes : 0));
    }
}

AddressAttr ProgramBuilder::stateAddress(size_t state, size_t range) {
  if (shardsOptimizer())
    return at(stateBuffers[state][range]);
  return at(stateBuffers[state].front(), layout.ranges[range].begin);
}

AddressAttr ProgramBuilder::at(FlatSymbolRefAttr buffer, ExprAttr slot,
                               ExprAttr offset) {
  return AddressAttr::get(context, buffer, slot, offset);
}

AddressAttr ProgramBuilder::at(FlatSymbolRefAttr buffer, int64_t offset) {
  return at(buffer, constant(0), constant(offset));
}

/// offset + (block - from) * stride.
ExprAttr ProgramBuilder::affine(BlockNumber block, int64_t from, int64_t stride,
                                int64_t offset) {
  int64_t fixed = offset + (block.base - from) * stride;
  if (block.variable < 0 || stride == 0)
    return constant(fixed);
  return ExprAttr::get(context, fixed,
                       {Term{block.variable, block.sign * stride, 0, 0}});
}

/// Result number `result` of the block before position block + ahead.
AddressAttr ProgramBuilder::activation(BlockNumber block, int64_t ahead,
                                       int64_t result, ExprAttr microbatch) {
  int64_t position = block.base + ahead;
  if (block.variable < 0) {
    if (position == 0)
      return at(receiveForward[result], microbatch, constant(0));
    if (position == blockCount)
      return at(sendForward[result], microbatch, constant(0));
  }
  const RunBlocks &producer = producerOf(position);
  return at(
      activations, microbatch,
      affine(block, block.base, producer.outputs.bytes,
             positionOffsets[position] + producer.outputs.offsets[result]));
}

/// The gradient of `activation`.
AddressAttr ProgramBuilder::gradient(BlockNumber block, int64_t ahead,
                                     int64_t result, ExprAttr microbatch) {
  int64_t position = block.base + ahead;
  if (block.variable < 0) {
    if (position == 0)
      return at(sendBackward[result], microbatch, constant(0));
    if (position == blockCount)
      return at(receiveBackward[result], microbatch, constant(0));
  }
  const RunBlocks &producer = producerOf(position);
  const auto *number = llvm::find(producer.gradientResults, result);
  int64_t offset = producer.outputGradients
                       .offsets[number - producer.gradientResults.begin()];
  // Even positions use the first of the two places, odd ones the second; a step
  // down changes parity as a step up does.
  if (block.variable < 0)
    return at(innerGradients, position % 2 * gradientBytes + offset);
  return at(
      innerGradients, constant(0),
      ExprAttr::get(context, offset,
                    {Term{block.variable, gradientBytes, position % 2, 2}}));
}

AddressAttr ProgramBuilder::parameter(const RunBlocks &run, BlockNumber block,
                                      size_t number, bool ofGradient) {
  const dist::RunLayout &places = layout.runs[runIndex(run)];
  FlatSymbolRefAttr buffer = ofGradient              ? gradients
                             : places.frozen[number] ? frozen
                                                     : parameters;
  return at(
      buffer, constant(0),
      affine(block, run.first, places.strides[number], places.offsets[number]));
}

} // namespace tombolo::plan
