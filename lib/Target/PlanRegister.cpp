//===- PlanRegister.cpp - plans from and for tombolo-translate ------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/Dialect/Topo/IR/Topo.h"
#include "tombolo/Target/PlanExport.h"
#include "tombolo/schema/plan.pb.h"

#include "mlir/Tools/mlir-translate/Translation.h"
#include "llvm/Support/SourceMgr.h"

#include <google/protobuf/text_format.h>

using namespace mlir;

namespace tombolo {

void registerPlanTranslations() {
  static TranslateFromMLIRRegistration exporting(
      "export-plan", "write a module with allocated buffers as a plan file",
      [](ModuleOp module, llvm::raw_ostream &out) -> LogicalResult {
        FailureOr<ExportedPlan> plan = exportPlan(module);
        if (failed(plan) || failed(checkPlan(**plan, module.getLoc())))
          return failure();
        FailureOr<std::string> bytes = serializePlan(**plan, module.getLoc());
        if (failed(bytes))
          return failure();
        out << *bytes;
        return success();
      },
      [](DialectRegistry &registry) {
        // Parameters and the topology stand beside the plan.
        registry.insert<graph::GraphDialect, plan::PlanDialect,
                        topo::TopoDialect>();
      });
  static TranslateFromMLIRRegistration printingSegment(
      "print-segment", "print the segment @main in protobuf's text format",
      [](ModuleOp module, llvm::raw_ostream &out) -> LogicalResult {
        auto segment = module.lookupSymbol<plan::SegmentOp>("main");
        if (!segment)
          return module.emitError("has no segment @main, run "
                                  "graph-convert-segments first");
        plan::v1::Segment message;
        if (failed(exportSegment(segment, message)))
          return failure();
        std::string text;
        if (!google::protobuf::TextFormat::PrintToString(message, &text))
          return module.emitError("cannot print the segment @main");
        out << text;
        return success();
      },
      [](DialectRegistry &registry) {
        registry.insert<graph::GraphDialect, plan::PlanDialect>();
      });
  static TranslateRegistration printing(
      "print-plan", "print a plan file in protobuf's text format",
      [](const std::shared_ptr<llvm::SourceMgr> &sources,
         llvm::raw_ostream &out, MLIRContext *context) -> LogicalResult {
        const llvm::MemoryBuffer *buffer =
            sources->getMemoryBuffer(sources->getMainFileID());
        FailureOr<std::string> text = printPlan(
            buffer->getBuffer(),
            FileLineColLoc::get(context, buffer->getBufferIdentifier(), 0, 0));
        if (failed(text))
          return failure();
        out << *text;
        return success();
      });
}

} // namespace tombolo
