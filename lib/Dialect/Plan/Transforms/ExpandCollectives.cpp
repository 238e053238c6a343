//===- ExpandCollectives.cpp - calls of parts and collectives -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "FunctionParts.h"

#include "tombolo/Dialect/Plan/Transforms/Passes.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;

namespace tombolo::plan {
#define GEN_PASS_DEF_PLANEXPANDCOLLECTIVES
#include "tombolo/Dialect/Plan/Transforms/Passes.h.inc"

namespace {

class ExpandCollectives
    : public impl::PlanExpandCollectivesBase<ExpandCollectives> {
public:
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable table(module);
    symbols = &table;
    split.clear();
    for (IslandOp island : module.getOps<IslandOp>())
      for (StageOp stage : island.getBody().getOps<StageOp>())
        for (ReplicasOp group : stage.getBody().getOps<ReplicasOp>())
          degrees[group.getProgramAttr().getAttr()] = group.getTensorParallel();
    for (ProgramOp program : module.getOps<ProgramOp>())
      if (failed(expand(program)))
        return signalPassFailure();
    for (auto &[function, parts] : split) {
      table.remove(function);
      function->erase();
    }
  }

private:
  LogicalResult expand(ProgramOp program) {
    SmallVector<CallOp> calls;
    program.walk([&](CallOp call) { calls.push_back(call); });
    int64_t crossingBytes = 0;
    bool readsTensorIndex = false;
    for (CallOp call : calls) {
      auto function = symbols->lookup<func::FuncOp>(call.getSegment());
      if (!function)
        continue;
      auto known = split.find(function);
      if (known == split.end()) {
        if (!needsSplitting(function))
          continue;
        FailureOr<FunctionParts> parts = splitAtCollectives(function, *symbols);
        if (failed(parts))
          return failure();
        known = split.insert({function, std::move(*parts)}).first;
      }
      if (call.getAddresses().size() !=
          function.getNumArguments() + function.getNumResults())
        return call.emitOpError()
               << "expected "
               << function.getNumArguments() + function.getNumResults()
               << " addresses for " << call.getSegmentAttr() << ", got "
               << call.getAddresses().size();
      const FunctionParts &parts = known->second;
      if (failed(checkCounts(program, parts)))
        return failure();
      crossingBytes = std::max(crossingBytes, parts.crossingBytes);
      readsTensorIndex |= parts.readsTensorIndex;
      replace(call, parts);
    }
    OpBuilder builder(&program.getBody().front(),
                      program.getBody().front().begin());
    auto define = [&](StringRef name, StringRef region, int64_t bytes) {
      builder.create<BufferOp>(program.getLoc(), builder.getStringAttr(name),
                               builder.getStringAttr(region),
                               builder.getI64IntegerAttr(1),
                               builder.getI64IntegerAttr(bytes));
    };
    if (crossingBytes > 0)
      define(kCrossing, "workspace", crossingBytes);
    if (readsTensorIndex) {
      define(kTensorIndex, kTensorIndex, alignment);
      program.setTensorIndexAttr(at(kTensorIndex, 0));
    }
    return success();
  }

  /// Each chip of a replica is one member.
  LogicalResult checkCounts(ProgramOp program, const FunctionParts &parts) {
    auto degree = degrees.find(program.getSymNameAttr());
    if (degree == degrees.end())
      return program.emitOpError("is run by no replicas");
    for (const PartStep &step : parts.steps)
      if (auto *collective = std::get_if<PartCollective>(&step)) {
        int64_t count = collective->count;
        if (degree->second == 1 || (count != 0 && count != degree->second))
          return collective->source->emitOpError()
                 << "is over " << (count ? std::to_string(count) : "several")
                 << " chips, a replica of " << program.getSymNameAttr()
                 << " has " << degree->second;
      }
    return success();
  }

  AddressAttr at(StringRef buffer, int64_t offset) {
    MLIRContext *context = &getContext();
    return AddressAttr::get(context, FlatSymbolRefAttr::get(context, buffer),
                            ExprAttr::get(context),
                            ExprAttr::get(context, offset));
  }

  /// Memory in one call of the function.
  AddressAttr resolve(CallOp call, const PartMemory &memory) {
    MLIRContext *context = &getContext();
    AddressAttr address;
    switch (memory.kind) {
    case PartMemory::Kind::Address:
      address = cast<AddressAttr>(call.getAddresses()[memory.number]);
      break;
    case PartMemory::Kind::Crossing:
      address = at(kCrossing, memory.offset);
      break;
    case PartMemory::Kind::TensorIndex:
      return at(kTensorIndex, 0);
    }
    if (memory.perTensorIndex == 0)
      return address;
    ExprAttr own = ExprAttr::get(
        context, 0,
        {Term{0, memory.perTensorIndex, 0, 0, Coordinate::TensorIndex}});
    return AddressAttr::get(context, address.getBuffer(), address.getSlot(),
                            address.getOffset().plus(own));
  }

  void replace(CallOp call, const FunctionParts &parts) {
    OpBuilder builder(call);
    MLIRContext *context = &getContext();
    auto pass = call->getAttr(kPassAttr);
    for (const PartStep &step : parts.steps) {
      Operation *made;
      if (auto *part = std::get_if<PartCall>(&step)) {
        SmallVector<Attribute> addresses;
        for (const PartMemory &memory : part->operands)
          addresses.push_back(resolve(call, memory));
        func::FuncOp function = part->function;
        made = builder.create<CallOp>(
            call.getLoc(), FlatSymbolRefAttr::get(function.getSymNameAttr()),
            builder.getArrayAttr(addresses), AddressAttr(), call.getLaneAttr(),
            ArrayAttr(), ArrayAttr(), GuardAttr());
      } else {
        auto &collective = std::get<PartCollective>(step);
        made = builder.create<CollectiveOp>(
            call.getLoc(), builder.getStringAttr(collective.kind),
            GroupAttr::get(context, Group::Tensor),
            resolve(call, collective.memory),
            builder.getI64IntegerAttr(collective.elements),
            TypeAttr::get(collective.type), DenseI64ArrayAttr(),
            LaneAttr::get(context, Lane::Collective), ArrayAttr(), ArrayAttr(),
            GuardAttr());
      }
      if (pass)
        made->setAttr(kPassAttr, pass);
    }
    call.erase();
  }

  static constexpr StringLiteral kCrossing = "crossing";
  static constexpr StringLiteral kTensorIndex = "tensor_index";
  SymbolTable *symbols = nullptr;
  llvm::DenseMap<StringAttr, int64_t> degrees; // by program
  llvm::MapVector<func::FuncOp, FunctionParts> split;
};

} // namespace
} // namespace tombolo::plan
