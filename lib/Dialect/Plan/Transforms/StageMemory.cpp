//===- StageMemory.cpp - buffers of one stage and addresses in them -------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The memory of a chunk of B blocks is told by *positions*: at position p
// lies what crosses from block p-1 to block p; position 0 comes from the chunk
// before, position B goes to the chunk behind. Blocks of a run are called in a
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

/// The run whose results lie at a position; position 0 is the chunk before.
const RunBlocks &ProgramBuilder::producerOf(const Chunk &chunk,
                                            int64_t position) const {
  if (position == 0)
    return task.places[chunk.place - 1].back();
  const RunBlocks *found = &chunk.runs.front();
  for (const RunBlocks &run : chunk.runs)
    if (run.first < position)
      found = &run;
  return *found;
}

void ProgramBuilder::defineChunks() {
  int64_t before = 0; // blocks of the model
  int64_t run = 0, recomputed = dist::StageOp(task.op).getRecomputedBlocks();
  for (auto [place, runs] : llvm::enumerate(task.places)) {
    int64_t blocks = runs.back().first + runs.back().count;
    if (static_cast<int64_t>(place) % task.stages == task.stage) {
      Chunk &chunk = chunks.emplace_back();
      chunk.place = place;
      chunk.runs = runs;
      chunk.firstRun = run;
      run += runs.size();
      chunk.firstBlock = before;
      chunk.blockCount = blocks;
      chunk.recomputed = std::min(recomputed, blocks);
      recomputed -= chunk.recomputed;
      chunk.slots = schedule.chunks[chunks.size() - 1];
      definePieces(chunk);
    }
    before += blocks;
  }
}

std::string ProgramBuilder::nameIn(const Chunk &chunk,
                                   const Twine &name) const {
  int64_t number = chunk.place / task.stages;
  return number == 0 ? name.str()
                     : ("chunk" + Twine(number) + "." + name).str();
}

FlatSymbolRefAttr ProgramBuilder::define(const Twine &name, StringRef region,
                                         int64_t slots, int64_t slotBytes) {
  auto buffer = builder.create<BufferOp>(
      loc, builder.getStringAttr(name), builder.getStringAttr(region),
      builder.getI64IntegerAttr(slots), builder.getI64IntegerAttr(slotBytes));
  return FlatSymbolRefAttr::get(buffer.getSymNameAttr());
}

FlatSymbolRefAttr
ProgramBuilder::defineScratch(StringRef name, StringRef region, int64_t bytes) {
  BufferOp &buffer = scratch[name];
  if (buffer)
    buffer.setSlotBytes(std::max<int64_t>(buffer.getSlotBytes(), bytes));
  else
    buffer = builder.create<BufferOp>(
        loc, builder.getStringAttr(name), builder.getStringAttr(region),
        builder.getI64IntegerAttr(1), builder.getI64IntegerAttr(bytes));
  return FlatSymbolRefAttr::get(buffer.getSymNameAttr());
}

void ProgramBuilder::defineActivations(Chunk &chunk) {
  // Inner positions: activations of every microbatch in flight, packed, and
  // their gradients: two that the blocks use in turn, or where the halves of a
  // backward pass are apart, all of every microbatch between them.
  int64_t bytes = 0, allGradients = 0;
  chunk.positionOffsets.assign(chunk.blockCount + 1, 0);
  chunk.gradientOffsets.assign(chunk.blockCount + 1, 0);
  for (int64_t p = 1; p < chunk.blockCount; ++p) {
    const RunBlocks &producer = producerOf(chunk, p);
    chunk.positionOffsets[p] = bytes;
    bytes += producer.outputs.bytes;
    chunk.gradientOffsets[p] = allGradients;
    allGradients += producer.outputGradients.bytes;
    chunk.gradientBytes =
        std::max(chunk.gradientBytes, producer.outputGradients.bytes);
  }
  chunk.activations = define(nameIn(chunk, "activations"), "saved",
                             chunk.slots.inFlight, bytes);
  StringRef name = "activation_gradients";
  chunk.innerGradients =
      chunk.hasHalvesApart()
          ? define(nameIn(chunk, name), "saved", chunk.slots.handedOn,
                   allGradients)
          : defineScratch(name, "workspace", 2 * chunk.gradientBytes);
}

/// What forward saves and what backward by input hands to backward by weight.
void ProgramBuilder::defineSaved(Chunk &chunk) {
  int64_t savedBytes = 0, againBytes = 0, carriedBytes = 0;
  int64_t mostAgain = 0, mostCarried = 0, mostOutput = 0;
  for (const RunBlocks &run : chunk.runs) {
    int64_t again =
        std::clamp<int64_t>(chunk.recomputed - run.first, 0, run.count);
    chunk.savedOffsets.push_back(savedBytes);
    savedBytes += run.saved.bytes * (run.count - again);
    chunk.savedAgainOffsets.push_back(againBytes);
    againBytes += run.saved.bytes * again;
    chunk.carriedOffsets.push_back(carriedBytes);
    carriedBytes += run.carried.bytes * run.count;
    mostCarried = std::max(mostCarried, run.carried.bytes);
    if (again > 0) {
      mostAgain = std::max(mostAgain, run.saved.bytes);
      mostOutput = std::max(mostOutput, run.outputs.bytes);
    }
  }
  bool apart = chunk.hasHalvesApart();
  int64_t handedOn = chunk.slots.handedOn;
  if (chunk.recomputed < chunk.blockCount)
    chunk.saved = define(nameIn(chunk, "saved"), "saved", chunk.slots.inFlight,
                         savedBytes);
  if (chunk.recomputed > 0) {
    chunk.savedAgain = apart ? define(nameIn(chunk, "saved_again"), "saved",
                                      handedOn, againBytes)
                             : defineScratch("saved_again", "saved", mostAgain);
    chunk.outputsAgain =
        defineScratch("recomputed_outputs", "workspace", mostOutput);
    // Where saved_again waits for backward by weight, a forward in between
    // must not write there.
    chunk.unread = apart ? defineScratch("unread_saved", "workspace", mostAgain)
                         : chunk.savedAgain;
  }
  chunk.carried =
      apart ? define(nameIn(chunk, "carried"), "saved", handedOn, carriedBytes)
            : defineScratch("carried", "workspace", mostCarried);
}

void ProgramBuilder::defineBoundary(Chunk &chunk) {
  auto boundary = [&](Chunk::Boundary &buffers, StringRef name, int64_t other,
                      bool forward, int64_t slots) {
    for (const BoundaryValue &value :
         valuesBehind(std::min(chunk.place, other), forward))
      buffers[value.result] = define(
          nameIn(chunk, name + "." + Twine(value.result)), "boundary", slots,
          alignUp(
              getCrossing(value, task.tensorParallel, degreeOf(other)).bytes));
  };
  if (!isFirst(chunk)) {
    boundary(chunk.receiveForward, "receive_forward", chunk.place - 1, true,
             chunk.slots.inFlight);
    boundary(chunk.sendBackward, "send_backward", chunk.place - 1, false, 1);
  }
  if (!isLast(chunk)) {
    // Of results that nobody reads, too.
    const RunBlocks &run = chunk.runs.back();
    boundary(chunk.sendForward, "send_forward", chunk.place + 1, true, 1);
    for (auto [result, type] : llvm::enumerate(run.outputs.types))
      if (!chunk.sendForward.count(result))
        chunk.sendForward[result] =
            define(nameIn(chunk, "send_forward." + Twine(result)), "boundary",
                   1, alignUp(storageBytes(type)));
    boundary(chunk.receiveBackward, "receive_backward", chunk.place + 1, false,
             std::max<int64_t>(1, chunk.slots.handedOn));
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
  for (Chunk &chunk : chunks) {
    for (const RunBlocks &run : chunk.runs)
      for (const DataArgument &data : run.data)
        if (data.isStamp)
          stamp = stamp ? stamp : define("stamp", "inputs", 1, alignment);
        else if (data.source < 0 && !chunk.inputs.count(data.input))
          chunk.inputs[data.input] =
              define(nameIn(chunk, "input." + data.input.getValue()), "inputs",
                     chunk.slots.inFlight, alignUp(storageBytes(data.type)));
    defineActivations(chunk);
    defineSaved(chunk);
    defineBoundary(chunk);
  }
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

/// The fragments of a family's parameters; nothing where there is one for all.
DenseI64ArrayAttr
ProgramBuilder::fragmentsOf(const dist::ParameterFamily &family) {
  if (family.frozen || !task.synchronisation ||
      task.synchronisation->fragments == 1)
    return {};
  SmallVector<int64_t> fragments;
  for (FlatSymbolRefAttr symbol : family.parameters) {
    int64_t fragment = task.synchronisation->fragmentOf.lookup(symbol);
    if (fragments.empty() || fragments[fragments.size() - 2] != fragment)
      fragments.append({fragment, 0});
    ++fragments.back();
  }
  return builder.getDenseI64ArrayAttr(fragments);
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
        fragmentsOf(family), family.owner ? builder.getUnitAttr() : UnitAttr());
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
AddressAttr ProgramBuilder::activation(const Chunk &chunk, BlockNumber block,
                                       int64_t ahead, int64_t result,
                                       ExprAttr microbatch) {
  int64_t position = block.base + ahead;
  if (block.variable < 0) {
    if (position == 0)
      return at(chunk.receiveForward.lookup(result), microbatch, constant(0));
    if (position == chunk.blockCount)
      return at(chunk.sendForward.lookup(result), microbatch, constant(0));
  }
  const RunBlocks &producer = producerOf(chunk, position);
  return at(chunk.activations, microbatch,
            affine(block, block.base, producer.outputs.bytes,
                   chunk.positionOffsets[position] +
                       producer.outputs.offsets[result]));
}

/// The gradient of `activation`.
AddressAttr ProgramBuilder::gradient(const Chunk &chunk, BlockNumber block,
                                     int64_t ahead, int64_t result,
                                     ExprAttr microbatch) {
  int64_t position = block.base + ahead;
  if (block.variable < 0) {
    if (position == 0)
      return at(chunk.sendBackward.lookup(result), microbatch, constant(0));
    if (position == chunk.blockCount)
      return at(chunk.receiveBackward.lookup(result), microbatch, constant(0));
  }
  const RunBlocks &producer = producerOf(chunk, position);
  const auto *number = llvm::find(producer.gradientResults, result);
  int64_t offset = producer.outputGradients
                       .offsets[number - producer.gradientResults.begin()];
  if (chunk.hasHalvesApart())
    return at(chunk.innerGradients, microbatch,
              affine(block, block.base, producer.outputGradients.bytes,
                     chunk.gradientOffsets[position] + offset));
  // Even positions use the first of the two places, odd ones the second; a step
  // down changes parity as a step up does.
  int64_t bytes = chunk.gradientBytes;
  if (block.variable < 0)
    return at(chunk.innerGradients, position % 2 * bytes + offset);
  return at(chunk.innerGradients, constant(0),
            ExprAttr::get(context, offset,
                          {Term{block.variable, bytes, position % 2, 2}}));
}

/// What forward saves of a block, at `offset` of its own.
AddressAttr ProgramBuilder::savedValue(const Chunk &chunk, const RunBlocks &run,
                                       BlockNumber block, int64_t offset,
                                       ExprAttr microbatch) {
  size_t number = chunk.indexOf(run);
  if (block.base >= chunk.recomputed)
    return at(chunk.saved, microbatch,
              affine(block, std::max(run.first, chunk.recomputed),
                     run.saved.bytes, chunk.savedOffsets[number] + offset));
  if (!chunk.hasHalvesApart())
    return at(chunk.savedAgain, offset);
  return at(chunk.savedAgain, microbatch,
            affine(block, run.first, run.saved.bytes,
                   chunk.savedAgainOffsets[number] + offset));
}

/// What backward by input hands to backward by weight.
AddressAttr ProgramBuilder::carriedValue(const Chunk &chunk,
                                         const RunBlocks &run,
                                         BlockNumber block, int64_t offset,
                                         ExprAttr microbatch) {
  if (!chunk.hasHalvesApart())
    return at(chunk.carried, offset);
  return at(chunk.carried, microbatch,
            affine(block, run.first, run.carried.bytes,
                   chunk.carriedOffsets[chunk.indexOf(run)] + offset));
}

AddressAttr ProgramBuilder::parameter(const Chunk &chunk, const RunBlocks &run,
                                      BlockNumber block, size_t number,
                                      bool ofGradient) {
  const dist::RunLayout &places =
      layout.runs[chunk.firstRun + chunk.indexOf(run)];
  FlatSymbolRefAttr buffer = ofGradient              ? gradients
                             : places.frozen[number] ? frozen
                                                     : parameters;
  return at(
      buffer, constant(0),
      affine(block, run.first, places.strides[number], places.offsets[number]));
}

} // namespace tombolo::plan
