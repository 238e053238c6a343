//===- StageBlocks.cpp - what a stage's blocks read and write -------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "StageBlocks.h"

#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Graph/Transforms/Specialize.h"

using namespace mlir;

namespace tombolo::plan {

void Packing::add(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  types.push_back(tensor);
  offsets.push_back(bytes);
  bytes += alignUp(storageBytes(tensor));
}

static bool isFloat(Type type) {
  return isa<FloatType>(cast<RankedTensorType>(type).getElementType());
}

/// The chips of a replica that runs this.
static int64_t degreeOf(const RunBlocks &run) {
  dist::RunOp op = run.op;
  auto stage = cast<dist::StageOp>(op->getParentOp());
  return (*stage.getBody().getOps<dist::ReplicasOp>().begin())
      .getTensorParallel();
}

/// Splits the functions of one run. `next` is the run of the next block, whose
/// sources tell which results a later block reads; null for the last.
static LogicalResult readRun(RunBlocks &run, dist::RunOp next,
                             SymbolTable &symbols) {
  dist::RunOp op = run.op;
  auto block = symbols.lookup<func::FuncOp>(op.getBlock());
  auto find = [&](std::optional<StringRef> name) {
    return name ? symbols.lookup<func::FuncOp>(*name) : func::FuncOp();
  };
  run.forward = find(op.getForward());
  run.backwardInput = find(op.getBackwardInput());
  run.backwardWeight = find(op.getBackwardWeight());
  if (!block || !run.forward || !run.backwardInput || !run.backwardWeight)
    return op.emitOpError("has no functions, run dist-specialize-blocks first");
  for (func::FuncOp function :
       {run.forward, run.backwardInput, run.backwardWeight})
    for (ArrayRef<Type> types :
         {function.getArgumentTypes(), function.getResultTypes()})
      for (Type type : types)
        if (!isa<RankedTensorType>(type) ||
            !cast<RankedTensorType>(type).hasStaticShape())
          return function.emitOpError()
                 << "expected static tensors, got " << type;
  int64_t degree = degreeOf(run);
  for (func::FuncOp function :
       {run.forward, run.backwardInput, run.backwardWeight}) {
    auto made =
        function->getAttrOfType<IntegerAttr>(graph::kTensorParallelAttr);
    int64_t chips = made ? made.getInt() : 1;
    if (chips != degree)
      return function.emitOpError()
             << "is what one of " << chips << " chips computes, the stage has "
             << degree << " to a replica; run dist-insert-collectives first";
  }
  FailureOr<graph::BlockFunctions> parts = graph::BlockFunctions::get(block);
  if (failed(parts))
    return failure();

  size_t savedCount = parts->savedCount, carriedCount = parts->carriedCount;
  size_t dataCount = op.getSources().size();
  size_t parameterCount = op.getParametersOf(0).size();
  size_t common = dataCount + savedCount + parameterCount;
  auto mismatch = [&](func::FuncOp function, StringRef what, size_t expected,
                      size_t found) {
    return function.emitOpError()
           << "expected " << expected << " " << what << ", got " << found;
  };
  if (run.forward.getNumArguments() != dataCount + parameterCount)
    return mismatch(run.forward, "arguments", dataCount + parameterCount,
                    run.forward.getNumArguments());
  if (run.forward.getNumResults() < savedCount)
    return mismatch(run.forward, "saved results", savedCount,
                    run.forward.getNumResults());

  unsigned parameter = 0;
  SmallVector<unsigned> dataArguments;
  for (unsigned i = 0; i < block.getNumArguments(); ++i) {
    if (auto kind =
            block.getArgAttrOfType<StringAttr>(i, graph::kParameterAttr)) {
      if (kind.getValue() == graph::kTrainable)
        run.trainable.push_back(parameter);
      ++parameter;
      continue;
    }
    dataArguments.push_back(i);
  }
  if (dataArguments.size() != dataCount)
    return mismatch(block, "data arguments", dataCount, dataArguments.size());
  for (auto [i, argument] : llvm::enumerate(dataArguments)) {
    DataArgument &data = run.data.emplace_back();
    data.type = cast<RankedTensorType>(run.forward.getArgumentTypes()[i]);
    data.source = op.getSources()[i];
    data.split = run.forward.getArgAttr(i, graph::kSplitAttr);
    if (data.source >= 0) {
      if (isFloat(data.type))
        run.gradientArguments.push_back(i);
      continue;
    }
    data.isStamp = block.getArgAttr(argument, graph::kStampAttr) != nullptr;
    if (data.isStamp)
      continue;
    data.input =
        block.getArgAttrOfType<StringAttr>(argument, graph::kInputAttr);
    if (!data.input)
      data.input =
          block.getArgAttrOfType<StringAttr>(argument, graph::kLabelAttr);
    if (!data.input)
      return block.emitOpError()
             << "argument " << argument << " names no input of the model";
    // Samples are loaded as they are, on every chip of a replica.
    if (data.split)
      return run.forward.emitOpError()
             << "takes a part of input " << data.input
             << " of the model, which is loaded whole";
    Type original = cast<RankedTensorType>(block.getArgumentTypes()[argument])
                        .getElementType();
    if (data.type.getElementType() != original)
      return op.emitError()
             << "input " << data.input << " of the model is " << original
             << ", the block takes it as " << data.type.getElementType()
             << ", which is not there yet";
  }
  size_t outputCount = run.forward.getNumResults() - savedCount;
  for (auto [i, type] : llvm::enumerate(run.forward.getResultTypes()))
    (i < outputCount ? run.outputs : run.saved).add(type);
  for (size_t i = 0; i < outputCount; ++i)
    run.splits.push_back(run.forward.getResultAttr(i, graph::kSplitAttr));

  // dO: floating results that the next block reads.
  if (next)
    for (size_t j = 0; j < outputCount; ++j)
      if (isFloat(run.outputs.types[j]) &&
          llvm::is_contained(next.getSources(), static_cast<int64_t>(j)))
        run.gradientResults.push_back(j);
  if (run.backwardInput.getNumArguments() !=
      common + run.gradientResults.size())
    return mismatch(run.backwardInput, "arguments",
                    common + run.gradientResults.size(),
                    run.backwardInput.getNumArguments());
  for (Type type : run.backwardInput.getArgumentTypes().drop_front(common))
    run.outputGradients.add(type);
  size_t expected = run.gradientArguments.size() + carriedCount;
  if (run.backwardInput.getNumResults() != expected)
    return mismatch(run.backwardInput, "results", expected,
                    run.backwardInput.getNumResults());
  for (auto [i, type] : llvm::enumerate(run.backwardInput.getResultTypes())) {
    if (i < run.gradientArguments.size())
      run.inputGradients.push_back(cast<RankedTensorType>(type));
    else
      run.carried.add(type);
  }
  expected = common + run.gradientResults.size() + carriedCount;
  if (run.backwardWeight.getNumArguments() != expected)
    return mismatch(run.backwardWeight, "arguments", expected,
                    run.backwardWeight.getNumArguments());
  if (run.backwardWeight.getNumResults() != run.trainable.size())
    return mismatch(run.backwardWeight, "results", run.trainable.size(),
                    run.backwardWeight.getNumResults());
  return success();
}

/// That what one block writes is what the next one reads.
static LogicalResult checkFit(const RunBlocks &before, const RunBlocks &next) {
  for (const DataArgument &data : next.data) {
    if (data.source < 0)
      continue;
    if (data.source >= static_cast<int64_t>(before.outputs.types.size()) ||
        before.outputs.types[data.source] != data.type)
      return dist::RunOp(next.op).emitOpError()
             << "reads result " << data.source << " of the block before as "
             << data.type;
    if (before.splits[data.source] != data.split)
      return dist::RunOp(next.op).emitOpError()
             << "takes result " << data.source
             << " of the block before split otherwise than it is left";
    if (data.split && degreeOf(before) != degreeOf(next))
      return dist::RunOp(next.op).emitOpError()
             << "takes result " << data.source
             << " of the block before split over " << degreeOf(next)
             << " chips, it is left on " << degreeOf(before)
             << "; split values between stages of unequal tensor_parallel are "
                "not there yet";
  }
  for (auto [k, argument] : llvm::enumerate(next.gradientArguments)) {
    const auto *at =
        llvm::find(before.gradientResults, next.data[argument].source);
    if (at == before.gradientResults.end() ||
        before.outputGradients.types[at - before.gradientResults.begin()] !=
            next.inputGradients[k])
      return dist::RunOp(next.op).emitOpError()
             << "computes the gradient " << next.inputGradients[k]
             << " that the block before does not take";
  }
  if (next.gradientArguments.size() != before.gradientResults.size())
    return dist::RunOp(next.op).emitOpError()
           << "leaves a result of the block before without a gradient";
  return success();
}

FailureOr<std::vector<std::vector<RunBlocks>>>
readIsland(dist::IslandOp island, SymbolTable &symbols) {
  std::vector<std::vector<RunBlocks>> places;
  SmallVector<dist::RunOp> flat;
  for (ArrayRef<dist::RunOp> place : dist::getPlaces(island)) {
    std::vector<RunBlocks> &runs = places.emplace_back();
    int64_t first = 0;
    for (dist::RunOp op : place) {
      RunBlocks &run = runs.emplace_back();
      run.op = op;
      run.first = first;
      run.count = op.getCount();
      first += run.count;
      flat.push_back(op);
    }
    if (runs.empty())
      return FailureOr<std::vector<std::vector<RunBlocks>>>(
          island.emitOpError("has a stage without runs in each of its chunks, "
                             "run dist-partition-stages first"));
  }
  size_t number = 0;
  const RunBlocks *before = nullptr;
  for (std::vector<RunBlocks> &runs : places)
    for (RunBlocks &run : runs) {
      dist::RunOp next = ++number < flat.size() ? flat[number] : dist::RunOp();
      if (failed(readRun(run, next, symbols)))
        return failure();
      if ((before && failed(checkFit(*before, run))) ||
          (run.count > 1 && failed(checkFit(run, run))))
        return failure();
      before = &run;
    }
  return places;
}

} // namespace tombolo::plan
