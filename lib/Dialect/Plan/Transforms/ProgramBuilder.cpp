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
void ProgramBuilder::dataAndSaved(const RunBlocks &run, BlockNumber block,
                                  ExprAttr microbatch, bool withSaved,
                                  SmallVectorImpl<Attribute> &addresses) {
  for (const DataArgument &data : run.data)
    addresses.push_back(data.isStamp ? at(stamp)
                        : data.source < 0
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

/// In front of the calls of a block that draws masks.
void ProgramBuilder::writeStamp(const RunBlocks &run, BlockNumber block,
                                ExprAttr microbatch) {
  if (llvm::none_of(run.data,
                    [](const DataArgument &data) { return data.isStamp; }))
    return;
  int64_t before = 0; // blocks of the stages before
  for (const std::vector<RunBlocks> &stage : task.stages.take_front(task.stage))
    before += stage.back().first + stage.back().count;
  builder.create<StampOp>(loc, at(stamp), microbatch,
                          affine(block, 0, 1, before),
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
      addresses.push_back(statistic(4 * k));
    else
      addresses.push_back(activation(block, 1, k, microbatch));
  }
  addresses.append(withSaved.begin() + dataCount, withSaved.end());
  dist::RunOp op = run.op;
  writeStamp(run, block, microbatch);
  call(op.getForwardAttr(), addresses, isAgain ? kBackwardPass : kForwardPass);
}

void ProgramBuilder::backwardBlock(const RunBlocks &run, BlockNumber block,
                                   ExprAttr microbatch) {
  dist::RunOp op = run.op;
  if (recomputes())
    forwardBlock(run, block, microbatch, /*isAgain=*/true);
  else
    writeStamp(run, block, microbatch);
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
    call(op.getBackwardInputAttr(), addresses, kBackwardPass);

  addresses = common;
  addresses.append(kept);
  for (int64_t number : run.trainable)
    addresses.push_back(parameter(run, block, number, /*ofGradient=*/true));
  if (!run.trainable.empty())
    call(op.getBackwardWeightAttr(), addresses, kBackwardPass);
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
  zeroStats(statCount());
  bool trains = trainsBefore(task.stage + 1);
  for (const planning::Phase &phase : schedule.phases)
    for (const planning::ScheduleRun &run : phase.runs) {
      bool forward = run.calls.front().pass == planning::Pass::Forward;
      if (!forward && !trains)
        continue;
      loop(run.count, [&](int64_t variable) {
        for (const planning::ChunkCall &call : run.calls) {
          ExprAttr microbatch = microbatchExpr(call.microbatch, variable);
          call.pass == planning::Pass::Forward ? forwardMicrobatch(microbatch)
                                               : backwardMicrobatch(microbatch);
        }
      });
    }
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
  loop(task.microbatches, [&](int64_t variable) {
    forwardMicrobatch(microbatchExpr(0, variable));
  });
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
  schedule = planning::scheduleStage(task.schedule, task.stages.size(),
                                     task.stage, task.microbatches);
  blockCount = runs.back().first + runs.back().count;

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
  definePieces();
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
