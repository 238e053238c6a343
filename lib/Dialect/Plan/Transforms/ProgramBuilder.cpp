//===- ProgramBuilder.cpp - writes the program of one stage ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StageProgram.h"

using namespace mlir;

namespace tombolo::plan {

void ProgramBuilder::definePieces(Chunk &chunk) {
  for (const RunBlocks &run : chunk.runs) {
    int64_t first = run.first, end = run.first + run.count;
    auto add = [&](int64_t to) {
      if (first < to)
        chunk.pieces.push_back({&run, first, to - first});
      first = std::max(first, to);
    };
    // Inside a run results are packed alike; the first block reads what another
    // run wrote.
    bool ownFirst =
        first == 0 || !(producerOf(chunk, first).outputs == run.outputs) ||
        !(producerOf(chunk, first).outputGradients == run.outputGradients);
    if (ownFirst)
      add(first + 1);
    // What blocks that run again save lies elsewhere. The last block of all
    // leaves its results to the next chunk.
    int64_t inner = end == chunk.blockCount ? end - 1 : end;
    add(std::min(chunk.recomputed, inner));
    add(inner);
    add(end);
  }
}

void ProgramBuilder::loop(int64_t count, llvm::function_ref<void(int64_t)> body,
                          ExprAttr first) {
  int64_t variable = variables++;
  auto op = builder.create<LoopOp>(loc, builder.getI64IntegerAttr(variable),
                                   builder.getI64IntegerAttr(count), first);
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
    op->setAttr(kPassAttr, builder.getStringAttr(pass));
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
void ProgramBuilder::dataAndSaved(const Chunk &chunk, const RunBlocks &run,
                                  BlockNumber block, ExprAttr microbatch,
                                  bool withSaved,
                                  SmallVectorImpl<Attribute> &addresses) {
  for (const DataArgument &data : run.data)
    addresses.push_back(
        data.isStamp ? at(stamp)
        : data.source < 0
            ? at(chunk.inputs.lookup(data.input), microbatch, constant(0))
            : activation(chunk, block, 0, data.source, microbatch));
  if (!withSaved)
    return;
  for (int64_t offset : run.saved.offsets)
    addresses.push_back(savedValue(chunk, run, block, offset, microbatch));
}

/// In front of the calls of a block that draws masks.
void ProgramBuilder::writeStamp(const Chunk &chunk, const RunBlocks &run,
                                BlockNumber block, ExprAttr microbatch) {
  if (llvm::none_of(run.data,
                    [](const DataArgument &data) { return data.isStamp; }))
    return;
  builder.create<StampOp>(loc, at(stamp), microbatch,
                          affine(block, 0, 1, chunk.firstBlock),
                          LaneAttr::get(context, Lane::Compute), ArrayAttr(),
                          ArrayAttr(), GuardAttr());
}

/// Where this chip adds up one of its own statistics.
AddressAttr ProgramBuilder::statistic(int64_t offset) {
  SmallVector<Term> terms;
  if (task.tensorParallel > 1)
    terms.push_back(Term{0, alignment, 0, 0, Coordinate::TensorIndex});
  return at(stats, constant(0), ExprAttr::get(context, offset, terms));
}

void ProgramBuilder::forwardBlock(const Chunk &chunk, const RunBlocks &run,
                                  BlockNumber block, ExprAttr microbatch,
                                  bool isAgain) {
  SmallVector<Attribute> addresses;
  dataAndSaved(chunk, run, block, microbatch, /*withSaved=*/false, addresses);
  size_t number = chunk.firstRun + chunk.indexOf(run);
  for (size_t k = 0; k < layout.runs[number].offsets.size(); ++k)
    addresses.push_back(parameter(chunk, run, block, k, /*ofGradient=*/false));
  bool isLoss =
      isLast(chunk) && block.variable < 0 && block.base + 1 == chunk.blockCount;
  for (size_t k = 0; k < run.outputs.types.size(); ++k) {
    if (isAgain)
      addresses.push_back(at(chunk.outputsAgain, run.outputs.offsets[k]));
    else if (isLoss)
      addresses.push_back(statistic(4 * k));
    else
      addresses.push_back(activation(chunk, block, 1, k, microbatch));
  }
  bool isUnread = !isAgain && block.base < chunk.recomputed;
  for (int64_t offset : run.saved.offsets)
    addresses.push_back(
        isUnread ? at(chunk.unread, offset)
                 : savedValue(chunk, run, block, offset, microbatch));
  dist::RunOp op = run.op;
  writeStamp(chunk, run, block, microbatch);
  call(op.getForwardAttr(), addresses, isAgain ? kBackwardPass : kForwardPass);
}

void ProgramBuilder::backwardBlock(const Chunk &chunk, const RunBlocks &run,
                                   BlockNumber block, ExprAttr microbatch,
                                   planning::Pass pass) {
  dist::RunOp op = run.op;
  bool byInput = pass != planning::Pass::BackwardWeight;
  bool byWeight = pass != planning::Pass::BackwardInput;
  if (byInput && block.base < chunk.recomputed)
    forwardBlock(chunk, run, block, microbatch, /*isAgain=*/true);
  else
    writeStamp(chunk, run, block, microbatch);
  SmallVector<Attribute> common;
  dataAndSaved(chunk, run, block, microbatch, /*withSaved=*/true, common);
  size_t number = chunk.firstRun + chunk.indexOf(run);
  for (size_t k = 0; k < layout.runs[number].offsets.size(); ++k)
    common.push_back(parameter(chunk, run, block, k, /*ofGradient=*/false));
  for (int64_t result : run.gradientResults)
    common.push_back(gradient(chunk, block, 1, result, microbatch));
  SmallVector<Attribute> kept;
  for (int64_t offset : run.carried.offsets)
    kept.push_back(carriedValue(chunk, run, block, offset, microbatch));

  if (byInput) {
    SmallVector<Attribute> addresses(common);
    for (int64_t argument : run.gradientArguments)
      addresses.push_back(
          gradient(chunk, block, 0, run.data[argument].source, microbatch));
    addresses.append(kept);
    if (addresses.size() > common.size())
      call(op.getBackwardInputAttr(), addresses, kBackwardPass);
  }
  if (byWeight && !run.trainable.empty()) {
    SmallVector<Attribute> addresses(common);
    addresses.append(kept);
    for (int64_t k : run.trainable)
      addresses.push_back(parameter(chunk, run, block, k, /*ofGradient=*/true));
    call(op.getBackwardWeightAttr(), addresses,
         byInput ? kBackwardPass : kWeightPass);
  }
}

/// Whether a call of a chunk does anything. Where nothing in it or before is
/// trained, the chunk behind sends no gradients.
bool ProgramBuilder::isNeeded(const planning::ChunkCall &call) const {
  const Chunk &chunk = chunks[call.chunk];
  if (call.pass == planning::Pass::Forward)
    return true;
  if (call.pass == planning::Pass::BackwardWeight)
    return llvm::any_of(chunk.runs, [](const RunBlocks &run) {
      return !run.trainable.empty();
    });
  return trainsBefore(chunk.place + 1);
}

void ProgramBuilder::runChunk(const planning::ChunkCall &call,
                              ExprAttr microbatch) {
  using planning::Pass;
  const Chunk &chunk = chunks[call.chunk];
  if (call.pass == Pass::Forward) {
    for (auto &[name, buffer] : chunk.inputs)
      builder.create<LoadOp>(loc, name, at(buffer, microbatch, constant(0)),
                             microbatch, LaneAttr::get(context, Lane::Compute),
                             ArrayAttr(), ArrayAttr(), GuardAttr());
    transfer(chunk, /*send=*/false, /*forward=*/true, microbatch);
    for (const Piece &piece : chunk.pieces)
      forEachBlock(piece, /*reversed=*/false, [&](BlockNumber block) {
        forwardBlock(chunk, *piece.run, block, microbatch, /*isAgain=*/false);
      });
    transfer(chunk, /*send=*/true, /*forward=*/true, microbatch);
    return;
  }
  bool byInput = call.pass != Pass::BackwardWeight;
  if (byInput)
    transfer(chunk, /*send=*/false, /*forward=*/false, microbatch);
  for (const Piece &piece : llvm::reverse(chunk.pieces))
    if (byInput || !piece.run->trainable.empty())
      forEachBlock(piece, /*reversed=*/true, [&](BlockNumber block) {
        backwardBlock(chunk, *piece.run, block, microbatch, call.pass);
      });
  if (byInput && trainsBefore(chunk.place))
    transfer(chunk, /*send=*/true, /*forward=*/false, microbatch);
}

void ProgramBuilder::run(ArrayRef<planning::Phase> phases) {
  for (const planning::Phase &phase : phases) {
    auto isIdle = [&](const planning::ScheduleRun &run) {
      return llvm::none_of(run.calls, [&](const planning::ChunkCall &call) {
        return isNeeded(call);
      });
    };
    auto runAll = [&](ExprAttr first) {
      for (const planning::ScheduleRun &run : phase.runs) {
        if (isIdle(run))
          continue;
        loop(
            run.count,
            [&](int64_t variable) {
              for (const planning::ChunkCall &call : run.calls)
                if (isNeeded(call))
                  runChunk(call, microbatchExpr(call.microbatch, variable));
            },
            first);
      }
    };
    if (llvm::all_of(phase.runs, isIdle))
      continue;
    if (phase.count == 1)
      runAll(ExprAttr());
    else
      loop(phase.count, [&](int64_t variable) {
        runAll(ExprAttr::get(
            context, 0, {Term{variable, static_cast<int64_t>(phase.step)}}));
      });
  }
}

/// Fragment f of F is pushed after inner step n with
/// (n + 1) mod H = floor(f H / F), and applied so many steps later. Pushes come
/// first: an apply may wait for long.
void ProgramBuilder::exchange(bool guarded) {
  if (!task.synchronisation)
    return;
  const Synchronisation &server = *task.synchronisation;
  LaneAttr lane = LaneAttr::get(context, Lane::Exchange);
  auto forEach = [&](int64_t after, auto create) {
    for (int64_t f = 0; f < server.fragments; ++f) {
      int64_t remainder = (f * server.innerSteps / server.fragments + after) %
                          server.innerSteps;
      create(builder.getI64IntegerAttr(f),
             guarded ? GuardAttr::get(context, server.innerSteps, remainder)
                     : GuardAttr());
    }
  };
  auto push = [&](IntegerAttr fragment, GuardAttr guard) {
    builder.create<PushOp>(loc, fragment, lane, ArrayAttr(), ArrayAttr(),
                           guard);
  };
  auto apply = [&](IntegerAttr fragment, GuardAttr guard) {
    builder.create<ApplyOp>(loc, fragment, lane, ArrayAttr(), ArrayAttr(),
                            guard);
  };
  if (!guarded && server.overlapSteps > 0)
    forEach(0, apply); // of pushes that are still under way
  forEach(0, push);
  forEach(server.overlapSteps, apply);
}

void ProgramBuilder::step() {
  auto op = builder.create<StepOp>(loc);
  OpBuilder::InsertionGuard guard(builder);
  builder.createBlock(&op.getBody());
  zero(gradients, layout.trainableBytes / 4);
  zeroStats(statCount());
  run(schedule.phases);
  reduceAndUpdate();
  exchange(/*guarded=*/true);
}

void ProgramBuilder::finish() {
  auto op = builder.create<FinishOp>(loc);
  OpBuilder::InsertionGuard guard(builder);
  builder.createBlock(&op.getBody());
  exchange(/*guarded=*/false);
}

/// The forward pass of a step's microbatches, and the sums of their losses.
void ProgramBuilder::evaluate() {
  auto op = builder.create<EvaluateOp>(loc);
  OpBuilder::InsertionGuard guard(builder);
  builder.createBlock(&op.getBody());
  zeroStats(2);
  run(planning::scheduleForwards(task.stages, task.microbatches,
                                 chunks.size()));
  if (task.ranks > 1)
    collective("all_reduce_sum", Group::Island, stats, 0, 2);
}

FailureOr<ProgramOp> ProgramBuilder::build() {
  dist::StageOp stage = task.op;
  FailureOr<dist::StageLayout> laidOut = dist::layOut(stage, symbols);
  if (failed(laidOut))
    return failure();
  layout = std::move(*laidOut);
  llvm::append_range(updateOps, stage.getBody().getOps<dist::UpdateOp>());
  if (updateOps.size() != std::max<size_t>(1, layout.ranges.size()))
    return FailureOr<ProgramOp>(stage.emitOpError(
        "has no update, run dist-instantiate-optimizer first"));
  schedule =
      planning::scheduleStage(task.schedule, task.stages, task.stage,
                              task.microbatches, placeCount() / task.stages);
  defineChunks();

  auto placeholder = [&](StringRef name, int64_t offset) {
    return at(FlatSymbolRefAttr::get(context, name), offset);
  };
  program = builder.create<ProgramOp>(
      loc, builder.getStringAttr(task.name), placeholder("stats", 0),
      placeholder("updates", 0), AddressAttr(),
      task.clipsGradients ? placeholder("stats", kSquaresOffset)
                          : AddressAttr(),
      IntegerAttr());
  program->setAttr(kMicrobatchesAttr,
                   builder.getI64IntegerAttr(task.microbatches));
  OpBuilder::InsertionGuard guard(builder);
  builder.createBlock(&program.getBody());
  defineBuffers();
  defineParameters();
  step();
  finish();
  evaluate();
  return program;
}

FailureOr<ProgramOp> buildProgram(OpBuilder &builder, const StageTask &task,
                                  SymbolTable &symbols) {
  return ProgramBuilder(builder, task, symbols).build();
}

} // namespace tombolo::plan
