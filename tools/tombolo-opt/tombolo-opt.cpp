//===- tombolo-opt.cpp - run passes on IR ---------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../LlvmHelp.h"

#include "tombolo/InitAll.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"

int main(int argc, char **argv) {
  tombolo::LlvmHelp help(
      "tombolo-opt", "runs passes on graph, topo, dist and plan IR",
      {"tombolo-opt m.mlir --graph-infer-shapes --graph-fold-constants "
       "-o folded.mlir"});
  mlir::DialectRegistry registry;
  tombolo::registerAllDialects(registry);
  tombolo::registerAllPasses();
  mlir::registerTransformsPasses();
  if (help.describes(argc, argv)) {
    mlir::registerAsmPrinterCLOptions();
    mlir::registerMLIRContextCLOptions();
    mlir::registerPassManagerCLOptions();
    mlir::MlirOptMainConfig::registerCLOptions(registry);
    help.describe([](llvm::StringRef name) -> std::string {
      if (const mlir::PassInfo *pass = mlir::PassInfo::lookup(name))
        return pass->getPassDescription().str();
      if (const auto *pipeline = mlir::PassPipelineInfo::lookup(name))
        return pipeline->getPassDescription().str();
      return "";
    });
    return 0;
  }
  help.open(argc, argv);
  return mlir::asMainReturnCode(mlir::MlirOptMain(
      argc, argv, "Tombolo: run passes on graph, topo, dist and plan IR\n",
      registry));
}
