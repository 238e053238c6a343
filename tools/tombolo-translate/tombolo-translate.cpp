//===- tombolo-translate.cpp - between files and IR -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../LlvmHelp.h"

#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Graph/IR/GraphInterfaces.h"
#include "tombolo/Import/ONNX.h"
#include "tombolo/Import/Topology.h"
#include "tombolo/Target/PlanExport.h"

#include "mlir/Tools/mlir-translate/MlirTranslateMain.h"
#include "mlir/Tools/mlir-translate/Translation.h"

using namespace mlir;

/// What a test of gradients has to cover.
static void registerListing() {
  static TranslateRegistration listing(
      "list-differentiable-ops",
      "list the ops of the graph dialect that have a gradient (of an empty "
      "input)",
      [](const std::shared_ptr<llvm::SourceMgr> &, llvm::raw_ostream &out,
         MLIRContext *context) -> LogicalResult {
        context->getOrLoadDialect<tombolo::graph::GraphDialect>();
        for (RegisteredOperationName op : context->getRegisteredOperations())
          if (op.hasInterface<tombolo::graph::GradientOpInterface>())
            out << op.stripDialect() << '\n';
        return success();
      });
}

int main(int argc, char **argv) {
  tombolo::LlvmHelp help("tombolo-translate",
                         "reads and writes one level of IR at a time",
                         {"tombolo-translate --import-onnx m.onnx -o m.mlir",
                          "tombolo-translate --print-plan p.plan",
                          "tombolo-translate --plan-to-megatron p.plan -o "
                          "megatron.sh"});
  tombolo::registerOnnxImport();
  tombolo::registerImportTopology();
  tombolo::registerPlanTranslations();
  registerListing();
  if (help.describes(argc, argv)) {
    // The registry is read by the parser of such an option alone.
    llvm::cl::opt<const Translation *, false, TranslationParser> translation(
        "", llvm::cl::desc("translation to perform"));
    llvm::StringMap<std::string> texts;
    for (unsigned i = 0; i < translation.getParser().getNumOptions(); ++i)
      texts[translation.getParser().getOption(i)] =
          translation.getParser().getDescription(i).str();
    help.describe([&](llvm::StringRef name) { return texts.lookup(name); });
    return 0;
  }
  help.open(argc, argv);
  return failed(mlirTranslateMain(
      argc, argv, "Tombolo: read and write one level at a time\n"));
}
