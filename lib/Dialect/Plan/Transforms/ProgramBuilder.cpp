//===- ProgramBuilder.cpp - writes the program of one stage ---------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The memory of a stage with B blocks is told by *positions*: at position p
// lies what crosses from block p-1 to block p; position 0 comes from the stage
// before, position B goes to the stage behind. Blocks of a run are called in a
// loop wherever their addresses are affine in the block's number; blocks at a
// boundary, or whose neighbour packs its results differently, are called on
// their own.
//
//===----------------------------------------------------------------------===//

#include "ProgramBuilder.h"

#include "FamilyNames.h"

#include "tombolo/Dialect/Dist/Transforms/StageLayout.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace tombolo::plan {
namespace {

/// The number of a block in a stage: base, or base + sign * loop variable.
struct BlockNumber {
  int64_t base = 0;
  int64_t sign = 0;
  int64_t variable = -1;
};

/// Consecutive blocks of one run that one loop can call.
struct Piece {
  const RunBlocks *run;
  int64_t first;
  int64_t count;
};

class ProgramBuilder {
public:
  ProgramBuilder(OpBuilder &builder, const StageTask &task,
                 SymbolTable &symbols)
      : builder(builder), context(builder.getContext()), task(task),
        symbols(symbols), runs(task.stages[task.stage]),
        loc(dist::StageOp(task.op).getLoc()) {}

  FailureOr<ProgramOp> build();

private:
  // Memory.
  void defineBuffers();
  void definePositions();
  FlatSymbolRefAttr define(const Twine &name, StringRef region, int64_t slots,
                           int64_t slotBytes);
  void defineParameters();
  AddressAttr at(FlatSymbolRefAttr buffer, ExprAttr slot, ExprAttr offset);
  AddressAttr at(FlatSymbolRefAttr buffer, int64_t offset = 0);
  ExprAttr constant(int64_t value) { return ExprAttr::get(context, value); }
  ExprAttr affine(BlockNumber block, int64_t from, int64_t stride,
                  int64_t offset);

  AddressAttr activation(BlockNumber block, int64_t ahead, int64_t result,
                         ExprAttr microbatch);
  AddressAttr gradient(BlockNumber block, int64_t ahead, int64_t result,
                       ExprAttr microbatch);
  AddressAttr parameter(const RunBlocks &run, BlockNumber block, size_t number,
                        bool ofGradient);

  // Instructions.
  void definePieces();
  void loop(int64_t count, llvm::function_ref<void(int64_t variable)> body);
  void forEachBlock(const Piece &piece, bool reversed,
                    llvm::function_ref<void(BlockNumber)> body);
  void call(FlatSymbolRefAttr function, ArrayRef<Attribute> addresses,
            StringRef pass);
  void zero(FlatSymbolRefAttr buffer, int64_t elements);
  void step();
  void finish();
  void forwardMicrobatch(ExprAttr microbatch);
  void backwardMicrobatch(ExprAttr microbatch);
  void forwardBlock(const RunBlocks &run, BlockNumber block,
                    ExprAttr microbatch, bool again);
  void backwardBlock(const RunBlocks &run, BlockNumber block,
                     ExprAttr microbatch);
  void dataAndSaved(const RunBlocks &run, BlockNumber block,
                    ExprAttr microbatch, bool withSaved,
                    SmallVectorImpl<Attribute> &addresses);
  void transfer(bool send, bool forward, ExprAttr microbatch);
  void exchange(bool guarded);

  ExprAttr microbatchExpr(int64_t first, int64_t variable) {
    return ExprAttr::get(context, first, {Term{variable, 1, 0, 0}});
  }
  size_t runIndex(const RunBlocks &run) const { return &run - runs.data(); }
  bool isFirst() const { return task.stage == 0; }
  bool isLast() const {
    return task.stage + 1 == static_cast<int64_t>(task.stages.size());
  }
  const RunBlocks &producerOf(int64_t position) const;
  /// Whether a parameter of the stages before `stage` is trained, so that
  /// gradients go to them.
  bool trainsBefore(int64_t stage) const {
    for (const std::vector<RunBlocks> &before : task.stages.take_front(stage))
      for (const RunBlocks &run : before)
        if (!run.trainable.empty())
          return true;
    return false;
  }
  bool recomputes() const {
    return dist::StageOp(task.op).getRecompute() == "full";
  }

  OpBuilder &builder;
  MLIRContext *context;
  const StageTask &task;
  SymbolTable &symbols;
  ArrayRef<RunBlocks> runs;
  Location loc;
  ProgramOp program;
  planning::StageSchedule schedule;
  dist::StageLayout layout;
  dist::UpdateOp update;
  int64_t blockCount = 0;
  int64_t variables = 0;

  SmallVector<Piece> pieces;
  llvm::MapVector<StringAttr, FlatSymbolRefAttr> inputs;
  SmallVector<FlatSymbolRefAttr> stateBuffers;
  FlatSymbolRefAttr parameters, frozen, gradients, stats, updates;
  FlatSymbolRefAttr activations, saved, carried, innerGradients, again;
  // Boundary buffers, by number of the result that crosses.
  llvm::MapVector<int64_t, FlatSymbolRefAttr> receiveForward, sendForward,
      receiveBackward, sendBackward;
  SmallVector<int64_t> positionOffsets; // of inner positions, in a slot
  SmallVector<int64_t> savedOffsets;    // of each run's first block, in a slot
  int64_t gradientBytes = 0;            // of one of the two inner gradients
};

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

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

  auto boundary = [&](auto &buffers, StringRef name, int64_t result,
                      RankedTensorType type, int64_t slots) {
    buffers[result] = define(name + "." + Twine(result), "boundary", slots,
                             alignUp(storageBytes(type)));
  };
  if (!isFirst()) {
    const RunBlocks &run = runs.front();
    for (const DataArgument &data : run.data)
      if (data.source >= 0)
        boundary(receiveForward, "receive_forward", data.source, data.type,
                 schedule.inFlight);
    for (auto [k, argument] : llvm::enumerate(run.gradientArguments))
      boundary(sendBackward, "send_backward", run.data[argument].source,
               run.inputGradients[k], 1);
  }
  if (!isLast()) {
    const RunBlocks &run = runs.back();
    for (auto [result, type] : llvm::enumerate(run.outputs.types))
      boundary(sendForward, "send_forward", result, type, 1);
    for (auto [k, result] : llvm::enumerate(run.gradientResults))
      boundary(receiveBackward, "receive_backward", result,
               run.outputGradients.types[k], 1);
  }
}

void ProgramBuilder::defineBuffers() {
  parameters = define("parameters", "parameters", 1, layout.trainableBytes);
  frozen = define("frozen", "frozen", 1, layout.frozenBytes);
  gradients = define("gradients", "gradients", 1, layout.trainableBytes);
  for (Attribute state : update.getStates()) {
    StringRef name = cast<StringAttr>(state).getValue();
    stateBuffers.push_back(define(name, name, 1, layout.trainableBytes));
  }
  for (const RunBlocks &run : runs)
    for (const DataArgument &data : run.data)
      if (data.source < 0 && !inputs.count(data.input))
        inputs[data.input] =
            define("input." + data.input.getValue(), "inputs",
                   schedule.inFlight, alignUp(storageBytes(data.type)));
  definePositions();
  stats = define("stats", "stats", 1, alignment);
  updates = define("updates", "updates", 1, alignment);
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
        family.frozen ? builder.getUnitAttr() : UnitAttr(),
        builder.getI64IntegerAttr(0), builder.getUnitAttr());
  }
  for (auto [name, buffer] : llvm::zip(update.getStates(), stateBuffers))
    builder.create<StateOp>(loc, cast<StringAttr>(name), at(buffer));
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
  return at(buffer, constant(0),
            affine(block, run.first, places.strideOf(number),
                   places.offsets[number]));
}

//===----------------------------------------------------------------------===//
// Instructions
//===----------------------------------------------------------------------===//

void ProgramBuilder::definePieces() {
  for (const RunBlocks &run : runs) {
    int64_t first = run.first, end = run.first + run.count;
    // Inside a run results are packed alike; the first block reads what another
    // run wrote.
    bool ownFirst = first == 0 || !(producerOf(first).outputs == run.outputs) ||
                    !(producerOf(first).outputGradients == run.outputGradients);
    bool ownLast = end == blockCount;
    if (ownFirst)
      pieces.push_back({&run, first++, 1});
    int64_t inner = end - first - (ownLast && end > first ? 1 : 0);
    if (inner > 0)
      pieces.push_back({&run, first, inner});
    first += inner;
    if (first < end)
      pieces.push_back({&run, first, 1});
  }
}

void ProgramBuilder::loop(int64_t count,
                          llvm::function_ref<void(int64_t)> body) {
  int64_t variable = variables++;
  auto op = builder.create<LoopOp>(loc, variable, count);
  OpBuilder::InsertionGuard guard(builder);
  builder.createBlock(&op.getBody());
  body(variable);
}

void ProgramBuilder::forEachBlock(const Piece &piece, bool reversed,
                                  llvm::function_ref<void(BlockNumber)> body) {
  if (piece.count == 1)
    return body({piece.first, 0, -1});
  loop(piece.count, [&](int64_t variable) {
    if (reversed)
      body({piece.first + piece.count - 1, -1, variable});
    else
      body({piece.first, 1, variable});
  });
}

void ProgramBuilder::call(FlatSymbolRefAttr function,
                          ArrayRef<Attribute> addresses, StringRef pass) {
  auto op = builder.create<CallOp>(
      loc, function, builder.getArrayAttr(addresses), AddressAttr(),
      LaneAttr::get(context, Lane::Compute), ArrayAttr(), ArrayAttr(),
      GuardAttr());
  if (!pass.empty())
    op->setAttr("pass", builder.getStringAttr(pass));
}

/// Calls the segment that fills so many f32 with zeros.
void ProgramBuilder::zero(FlatSymbolRefAttr buffer, int64_t elements) {
  if (elements == 0)
    return;
  std::string name = "zero." + std::to_string(elements);
  if (!symbols.lookup(name)) {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPoint(program);
    auto type = MemRefType::get({elements}, builder.getF32Type());
    auto segment = builder.create<SegmentOp>(
        loc, name, ArrayRef<StringRef>{"memory"}, ArrayRef<MemRefType>{type},
        ArrayRef<Access>{Access::Write});
    builder.setInsertionPointToStart(&segment.getBody().front());
    builder.create<ComputeOp>(loc, builder.getStringAttr("fill"), ValueRange(),
                              ValueRange(segment.getBody().getArgument(0)),
                              UnitAttr(),
                              builder.getDictionaryAttr(builder.getNamedAttr(
                                  "value", builder.getF64FloatAttr(0))));
    symbols.insert(segment);
  }
  call(FlatSymbolRefAttr::get(context, name), {at(buffer)}, "");
}

/// Addresses of D and, behind it, S: the head of all three functions' lists.
void ProgramBuilder::dataAndSaved(const RunBlocks &run, BlockNumber block,
                                  ExprAttr microbatch, bool withSaved,
                                  SmallVectorImpl<Attribute> &addresses) {
  for (const DataArgument &data : run.data)
    addresses.push_back(data.source < 0
                            ? at(inputs[data.input], microbatch, constant(0))
                            : activation(block, 0, data.source, microbatch));
  if (!withSaved)
    return;
  for (int64_t offset : run.saved.offsets)
    addresses.push_back(recomputes()
                            ? at(saved, offset)
                            : at(saved, microbatch,
                                 affine(block, run.first, run.saved.bytes,
                                        savedOffsets[runIndex(run)] + offset)));
}

void ProgramBuilder::forwardBlock(const RunBlocks &run, BlockNumber block,
                                  ExprAttr microbatch, bool isAgain) {
  SmallVector<Attribute> addresses, withSaved;
  dataAndSaved(run, block, microbatch, /*withSaved=*/false, addresses);
  dataAndSaved(run, block, microbatch, /*withSaved=*/true, withSaved);
  size_t dataCount = addresses.size();
  for (size_t k = 0; k < layout.runs[runIndex(run)].offsets.size(); ++k)
    addresses.push_back(parameter(run, block, k, /*ofGradient=*/false));
  bool isLoss = isLast() && block.variable < 0 && block.base + 1 == blockCount;
  for (size_t k = 0; k < run.outputs.types.size(); ++k) {
    if (isAgain)
      addresses.push_back(at(again, run.outputs.offsets[k]));
    else if (isLoss)
      addresses.push_back(at(stats, 4 * k));
    else
      addresses.push_back(activation(block, 1, k, microbatch));
  }
  addresses.append(withSaved.begin() + dataCount, withSaved.end());
  dist::RunOp op = run.op;
  call(op.getForwardAttr(), addresses, isAgain ? "backward" : "forward");
}

void ProgramBuilder::backwardBlock(const RunBlocks &run, BlockNumber block,
                                   ExprAttr microbatch) {
  dist::RunOp op = run.op;
  if (recomputes())
    forwardBlock(run, block, microbatch, /*isAgain=*/true);
  SmallVector<Attribute> common;
  dataAndSaved(run, block, microbatch, /*withSaved=*/true, common);
  for (size_t k = 0; k < layout.runs[runIndex(run)].offsets.size(); ++k)
    common.push_back(parameter(run, block, k, /*ofGradient=*/false));
  for (int64_t result : run.gradientResults)
    common.push_back(gradient(block, 1, result, microbatch));
  SmallVector<Attribute> kept;
  for (int64_t offset : run.carried.offsets)
    kept.push_back(at(carried, offset));

  SmallVector<Attribute> addresses(common);
  for (int64_t argument : run.gradientArguments)
    addresses.push_back(
        gradient(block, 0, run.data[argument].source, microbatch));
  addresses.append(kept);
  if (addresses.size() > common.size())
    call(op.getBackwardInputAttr(), addresses, "backward");

  addresses = common;
  addresses.append(kept);
  for (int64_t number : run.trainable)
    addresses.push_back(parameter(run, block, number, /*ofGradient=*/true));
  if (!run.trainable.empty())
    call(op.getBackwardWeightAttr(), addresses, "backward");
}

/// Sends or receives what crosses one of the stage's boundaries.
void ProgramBuilder::transfer(bool send, bool forward, ExprAttr microbatch) {
  auto &buffers = forward ? (send ? sendForward : receiveForward)
                          : (send ? sendBackward : receiveBackward);
  // Forward goes to the next stage, backward comes from there.
  int64_t other = task.stage + (send == forward ? 1 : -1);
  for (auto &[result, buffer] : buffers) {
    RankedTensorType type;
    if (send == forward) {
      // The boundary behind this stage; not every result crosses it.
      const RunBlocks &run = runs.back();
      const RunBlocks &next = task.stages[task.stage + 1].front();
      bool read = llvm::any_of(next.data, [&](const DataArgument &data) {
        return data.source == result;
      });
      if (!read)
        continue;
      type = run.outputs.types[result];
      if (!forward)
        type =
            run.outputGradients.types[llvm::find(run.gradientResults, result) -
                                      run.gradientResults.begin()];
    } else {
      const RunBlocks &run = task.stages[task.stage - 1].back();
      type = run.outputs.types[result];
      if (!forward)
        type =
            run.outputGradients.types[llvm::find(run.gradientResults, result) -
                                      run.gradientResults.begin()];
    }
    AddressAttr address = at(buffer, microbatch, constant(0));
    int64_t bytes = storageBytes(type);
    Lane lane = forward ? (send ? Lane::SendForward : Lane::ReceiveForward)
                        : (send ? Lane::SendBackward : Lane::ReceiveBackward);
    LaneAttr laneAttr = LaneAttr::get(context, lane);
    if (send)
      builder.create<SendOp>(loc, builder.getI64IntegerAttr(other), address,
                             builder.getI64IntegerAttr(bytes), microbatch,
                             laneAttr, ArrayAttr(), ArrayAttr(), GuardAttr());
    else
      builder.create<ReceiveOp>(loc, builder.getI64IntegerAttr(other), address,
                                builder.getI64IntegerAttr(bytes), microbatch,
                                laneAttr, ArrayAttr(), ArrayAttr(),
                                GuardAttr());
  }
}

void ProgramBuilder::forwardMicrobatch(ExprAttr microbatch) {
  for (auto &[name, buffer] : inputs)
    builder.create<LoadOp>(loc, name, at(buffer, microbatch, constant(0)),
                           microbatch, LaneAttr::get(context, Lane::Compute),
                           ArrayAttr(), ArrayAttr(), GuardAttr());
  transfer(/*send=*/false, /*forward=*/true, microbatch);
  for (const Piece &piece : pieces)
    forEachBlock(piece, /*reversed=*/false, [&](BlockNumber block) {
      forwardBlock(*piece.run, block, microbatch, /*isAgain=*/false);
    });
  transfer(/*send=*/true, /*forward=*/true, microbatch);
}

void ProgramBuilder::backwardMicrobatch(ExprAttr microbatch) {
  // Nothing here or before is trained: the stage behind sends no gradients.
  if (!trainsBefore(task.stage + 1))
    return;
  transfer(/*send=*/false, /*forward=*/false, microbatch);
  for (const Piece &piece : llvm::reverse(pieces))
    forEachBlock(piece, /*reversed=*/true, [&](BlockNumber block) {
      backwardBlock(*piece.run, block, microbatch);
    });
  if (trainsBefore(task.stage))
    transfer(/*send=*/true, /*forward=*/false, microbatch);
}

void ProgramBuilder::exchange(bool guarded) {
  if (!task.innerSteps)
    return;
  // Fragment 0 of 1: (n + 1) mod H = 0.
  GuardAttr guard =
      guarded ? GuardAttr::get(context, *task.innerSteps, 0) : GuardAttr();
  LaneAttr lane = LaneAttr::get(context, Lane::Exchange);
  IntegerAttr fragment = builder.getI64IntegerAttr(0);
  builder.create<PushOp>(loc, fragment, lane, ArrayAttr(), ArrayAttr(), guard);
  builder.create<ApplyOp>(loc, fragment, lane, ArrayAttr(), ArrayAttr(), guard);
}

void ProgramBuilder::step() {
  auto op = builder.create<StepOp>(loc);
  OpBuilder::InsertionGuard guard(builder);
  builder.createBlock(&op.getBody());
  zero(gradients, layout.trainableBytes / 4);
  zero(stats, 2);
  bool trains = trainsBefore(task.stage + 1);
  for (const planning::Phase &phase : schedule.phases) {
    if (!phase.forward && !trains)
      continue;
    loop(phase.count, [&](int64_t variable) {
      if (phase.forward)
        forwardMicrobatch(microbatchExpr(*phase.forward, variable));
      if (phase.backward)
        backwardMicrobatch(microbatchExpr(*phase.backward, variable));
    });
  }
  auto reduce = [&](Group group, FlatSymbolRefAttr buffer, int64_t elements) {
    builder.create<CollectiveOp>(loc, builder.getStringAttr("all_reduce_sum"),
                                 GroupAttr::get(context, group), at(buffer),
                                 builder.getI64IntegerAttr(elements),
                                 TypeAttr::get(builder.getF32Type()),
                                 LaneAttr::get(context, Lane::Collective),
                                 ArrayAttr(), ArrayAttr(), GuardAttr());
  };
  if (task.replicas > 1 && layout.trainableBytes > 0)
    reduce(Group::Replicas, gradients, layout.trainableBytes / 4);
  if (task.ranks > 1)
    reduce(Group::Island, stats, 2);
  SmallVector<Attribute> addresses{at(stats, 4), at(updates)};
  if (layout.trainableBytes > 0) {
    addresses.append({at(parameters), at(gradients)});
    for (FlatSymbolRefAttr state : stateBuffers)
      addresses.push_back(at(state));
  }
  call(update.getFunctionAttr(), addresses, "update");
  exchange(/*guarded=*/true);
}

void ProgramBuilder::finish() {
  auto op = builder.create<FinishOp>(loc);
  OpBuilder::InsertionGuard guard(builder);
  builder.createBlock(&op.getBody());
  exchange(/*guarded=*/false);
}

FailureOr<ProgramOp> ProgramBuilder::build() {
  dist::StageOp stage = task.op;
  auto updateOps = stage.getBody().getOps<dist::UpdateOp>();
  if (updateOps.empty())
    return FailureOr<ProgramOp>(stage.emitOpError(
        "has no update, run dist-instantiate-optimizer first"));
  update = *updateOps.begin();
  FailureOr<dist::StageLayout> laidOut = dist::layOut(stage, symbols);
  if (failed(laidOut))
    return failure();
  layout = std::move(*laidOut);
  schedule = planning::scheduleStage(task.schedule, task.stages.size(),
                                     task.stage, task.microbatches);
  blockCount = runs.back().first + runs.back().count;

  auto placeholder = [&](StringRef name, int64_t offset) {
    return at(FlatSymbolRefAttr::get(context, name), offset);
  };
  program = builder.create<ProgramOp>(loc, builder.getStringAttr(task.name),
                                      placeholder("stats", 0),
                                      placeholder("updates", 0), IntegerAttr());
  program->setAttr("microbatches",
                   builder.getI64IntegerAttr(task.microbatches));
  OpBuilder::InsertionGuard guard(builder);
  builder.createBlock(&program.getBody());
  defineBuffers();
  defineParameters();
  definePieces();
  step();
  finish();
  return program;
}

} // namespace

FailureOr<ProgramOp> buildProgram(OpBuilder &builder, const StageTask &task,
                                  SymbolTable &symbols) {
  return ProgramBuilder(builder, task, symbols).build();
}

} // namespace tombolo::plan
