//===- PlanRegister.cpp - plans from and for tombolo-translate ------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/Dialect/Topo/IR/Topo.h"
#include "tombolo/Target/PlanExport.h"
#include "tombolo/Target/PlanToEngines.h"
#include "tombolo/schema/plan.pb.h"

#include "mlir/Tools/mlir-translate/Translation.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/SourceMgr.h"

#include <google/protobuf/text_format.h>

using namespace mlir;

namespace tombolo {

static StringRef bytesOf(const llvm::SourceMgr &sources) {
  return sources.getMemoryBuffer(sources.getMainFileID())->getBuffer();
}

static Location placeOf(const llvm::SourceMgr &sources, MLIRContext *context) {
  return FileLineColLoc::get(
      context,
      sources.getMemoryBuffer(sources.getMainFileID())->getBufferIdentifier(),
      0, 0);
}

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
        FailureOr<std::string> text =
            printPlan(bytesOf(*sources), placeOf(*sources, context));
        if (failed(text))
          return failure();
        out << *text;
        return success();
      });
  static llvm::cl::opt<unsigned> island(
      "island", llvm::cl::desc("of the plan, for --plan-to-megatron and "
                               "--plan-to-torchtitan (default: all)"));
  auto exportTo = [](auto write) {
    return [write](const std::shared_ptr<llvm::SourceMgr> &sources,
                   llvm::raw_ostream &out,
                   MLIRContext *context) -> LogicalResult {
      Location place = placeOf(*sources, context);
      std::unique_ptr<plan::v1::Plan> plan = readPlan(bytesOf(*sources), place);
      std::optional<unsigned> chosen;
      if (island.getNumOccurrences() > 0)
        chosen = island;
      return success(plan && succeeded(write(*plan, chosen, place, out)));
    };
  };
  static TranslateRegistration megatron(
      "plan-to-megatron", "write a plan file as arguments of Megatron-LM",
      exportTo(writeMegatron));
  static TranslateRegistration torchTitan(
      "plan-to-torchtitan",
      "write an island of a plan file as a configuration of TorchTitan",
      exportTo(writeTorchTitan));
}

} // namespace tombolo
