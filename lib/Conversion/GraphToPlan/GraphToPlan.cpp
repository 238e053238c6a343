//===- GraphToPlan.cpp - functions of graph ops to plan segments ----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Conversion/GraphToPlan.h"

#include "SegmentMemory.h"
#include "tombolo/Conversion/Passes.h"
#include "tombolo/Dialect/Graph/IR/GraphDialect.h"

#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/CSE.h"

using namespace mlir;

namespace tombolo {
#define GEN_PASS_DEF_GRAPHCONVERTSEGMENTS
#include "tombolo/Conversion/Passes.h.inc"

namespace {

/// Writes the steps as ops.
class SegmentWriter {
public:
  SegmentWriter(SegmentMemory &memory, plan::SegmentOp segment)
      : memory(memory), segment(segment), builder(segment.getContext()) {
    builder.setInsertionPointToStart(&segment.getBody().front());
  }

  void write() {
    for (const SegmentStep &step : memory.steps)
      writeStep(step);
  }

private:
  void writeStep(const SegmentStep &step);
  Value getValue(const Place &place, Location location);

  SegmentMemory &memory;
  plan::SegmentOp segment;
  OpBuilder builder;
  llvm::DenseMap<std::tuple<int, int64_t, Type>, Value> values;
};

MemRefType getMemoryType(const Place &place) {
  if (isRowMajor(place.view))
    return MemRefType::get(place.view.shape, place.elementType);
  return plan::getMemoryType(place.view.shape, place.elementType,
                             place.view.strides);
}

Value SegmentWriter::getValue(const Place &place, Location location) {
  MemRefType type = getMemoryType(place);
  Value &value = values[{place.buffer, place.view.offset, type}];
  if (value)
    return value;
  const SegmentBuffer &buffer = memory.buffers[place.buffer];
  int64_t offset = place.view.offset * plan::elementBytes(place.elementType);
  switch (buffer.kind) {
  case SegmentBuffer::Kind::Argument: {
    Value argument = segment.getBody().getArgument(buffer.argument);
    if (argument.getType() == type && offset == 0)
      return value = argument;
    return value =
               builder.create<plan::ViewOp>(location, type, argument, offset);
  }
  case SegmentBuffer::Kind::Workspace:
    return value = builder.create<plan::WorkspaceOp>(location, type,
                                                     buffer.offset + offset);
  case SegmentBuffer::Kind::Constant:
    return value = builder.create<plan::ConstantOp>(location, type,
                                                    buffer.constant);
  }
  llvm_unreachable("unknown kind of buffer");
}

void SegmentWriter::writeStep(const SegmentStep &step) {
  auto getValues = [&](ArrayRef<Place> places) {
    return llvm::map_to_vector(places, [&](const Place &place) {
      return getValue(place, step.location);
    });
  };
  SmallVector<Value> inputs = getValues(step.inputs);
  SmallVector<Value> outputs = getValues(step.outputs);
  DictionaryAttr settings = step.settings;
  if (settings && settings.empty())
    settings = {};
  builder.create<plan::ComputeOp>(
      step.location, builder.getStringAttr(step.opcode), inputs, outputs,
      step.accumulate ? builder.getUnitAttr() : UnitAttr(), settings);
}

/// What the caller sees an argument as: the model's name for it, or its kind
/// and number.
std::string getArgumentName(func::FuncOp function, unsigned argument) {
  for (StringRef attribute : {graph::kInputAttr, graph::kLabelAttr})
    if (argument < function.getNumArguments())
      if (auto name =
              function.getArgAttrOfType<StringAttr>(argument, attribute))
        return name.getValue().str();
  unsigned count = function.getNumArguments();
  return argument < count ? "a" + std::to_string(argument)
                          : "r" + std::to_string(argument - count);
}

} // namespace

FailureOr<plan::SegmentOp>
convertToSegment(func::FuncOp function, OpBuilder &builder, StringRef name) {
  if (function.isDeclaration())
    return function.emitError("has no body to convert to a segment");
  IRRewriter rewriter(function.getContext());
  DominanceInfo dominance(function);
  eliminateCommonSubExpressions(rewriter, dominance, function);
  FailureOr<SegmentMemory> memory = placeValues(function);
  if (failed(memory))
    return failure();
  packWorkspace(*memory);

  SmallVector<std::string> names;
  SmallVector<MemRefType> types;
  SmallVector<plan::Access> access;
  for (auto [index, type] : llvm::enumerate(memory->argumentTypes)) {
    names.push_back(getArgumentName(function, index));
    types.push_back(MemRefType::get(type.getShape(), type.getElementType()));
    bool read = memory->argumentRead[index];
    access.push_back(!memory->argumentWritten[index] ? plan::Access::Read
                     : read                          ? plan::Access::ReadWrite
                                                     : plan::Access::Write);
  }
  SmallVector<StringRef> nameRefs(names.begin(), names.end());
  auto segment = builder.create<plan::SegmentOp>(
      function.getLoc(), name, nameRefs, types, access, memory->workspaceBytes);
  SegmentWriter(*memory, segment).write();
  return segment;
}

namespace {

struct ConvertSegments : impl::GraphConvertSegmentsBase<ConvertSegments> {
  using GraphConvertSegmentsBase::GraphConvertSegmentsBase;

  void runOnOperation() override {
    auto functions = llvm::to_vector(getOperation().getOps<func::FuncOp>());
    for (func::FuncOp function : functions) {
      if (dropCallers && !function.getOps<func::CallOp>().empty()) {
        function.erase();
        continue;
      }
      OpBuilder builder(function);
      std::string name = function.getSymName().str();
      FailureOr<plan::SegmentOp> segment =
          convertToSegment(function, builder, name);
      if (failed(segment))
        return signalPassFailure();
      function.erase();
    }
  }
};

} // namespace
} // namespace tombolo
