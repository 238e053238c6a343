//===- LowerSegments.cpp - functions become segments ----------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Conversion/GraphToPlan.h"
#include "tombolo/Dialect/Graph/IR/GraphInterfaces.h"
#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/Dialect/Plan/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

using namespace mlir;

namespace tombolo::plan {
#define GEN_PASS_DEF_PLANLOWERSEGMENTS
#include "tombolo/Dialect/Plan/Transforms/Passes.h.inc"

namespace {

class LowerSegments : public impl::PlanLowerSegmentsBase<LowerSegments> {
public:
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable table(module);
    symbols = &table;
    for (ProgramOp program : module.getOps<ProgramOp>())
      if (failed(lower(program)))
        return signalPassFailure();
    for (auto function :
         llvm::make_early_inc_range(module.getOps<func::FuncOp>()))
      function.erase();
  }

private:
  LogicalResult lower(ProgramOp program) {
    int64_t workspaceBytes = 0;
    SmallVector<CallOp> needy;
    WalkResult result = program.walk([&](CallOp call) {
      FailureOr<SegmentOp> segment = segmentOf(call);
      if (failed(segment))
        return WalkResult::interrupt();
      if (segment->getBody().getNumArguments() != call.getAddresses().size()) {
        call.emitOpError() << "expected "
                           << segment->getBody().getNumArguments()
                           << " addresses for " << call.getSegmentAttr()
                           << ", got " << call.getAddresses().size();
        return WalkResult::interrupt();
      }
      call.setSegmentAttr(FlatSymbolRefAttr::get(segment->getSymNameAttr()));
      if (segment->getWorkspaceBytes() > 0) {
        workspaceBytes = std::max(workspaceBytes, segment->getWorkspaceBytes());
        needy.push_back(call);
      }
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      return failure();
    if (needy.empty())
      return success();
    OpBuilder builder(&program.getBody().front(),
                      program.getBody().front().begin());
    auto buffer = builder.create<BufferOp>(
        program.getLoc(), builder.getStringAttr("workspace"),
        builder.getStringAttr("workspace"), builder.getI64IntegerAttr(1),
        builder.getI64IntegerAttr(alignUp(workspaceBytes)));
    ExprAttr zero = ExprAttr::get(&getContext());
    auto address = AddressAttr::get(
        &getContext(), FlatSymbolRefAttr::get(buffer.getSymNameAttr()), zero,
        zero);
    for (CallOp call : needy)
      call.setWorkspaceAttr(address);
    return success();
  }

  /// The segment that a call runs, lowered when it is first asked for.
  FailureOr<SegmentOp> segmentOf(CallOp call) {
    StringAttr name = call.getSegmentAttr().getAttr();
    auto [entry, fresh] = made.try_emplace(name);
    if (!fresh)
      return entry->second;
    Operation *target = symbols->lookup(name);
    if (auto segment = dyn_cast_or_null<SegmentOp>(target))
      return entry->second = segment;
    auto function = dyn_cast_or_null<func::FuncOp>(target);
    if (!function)
      return FailureOr<SegmentOp>(call.emitOpError() << "unknown segment "
                                                     << call.getSegmentAttr());
    OpBuilder builder(function);
    WorkAttr work = workOf(function);
    FailureOr<SegmentOp> segment =
        convertToSegment(function, builder, name.getValue());
    if (failed(segment))
      return failure();
    segment->setWorkAttr(work);
    symbols->remove(function);
    function.erase();
    segment->setSymNameAttr(name);
    symbols->insert(*segment);
    return entry->second = *segment;
  }

  /// Counted as for the search, on the ops that it saw.
  static WorkAttr workOf(func::FuncOp function) {
    graph::WorkCost work;
    function.walk([&](graph::CostOpInterface op) {
      work.add(op, op.getCost(1)); // shapes are static, there is no batch left
    });
    return WorkAttr::get(function.getContext(),
                         {work.flops, work.contractedBytes, work.streamedBytes,
                          work.scores, work.ops});
  }

  SymbolTable *symbols = nullptr;
  llvm::DenseMap<StringAttr, SegmentOp> made;
};

} // namespace
} // namespace tombolo::plan
