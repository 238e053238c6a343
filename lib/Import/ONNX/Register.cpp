//===- Register.cpp - tombolo-translate --import-onnx ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Import/ONNX.h"

#include "OpTable.h"

#include "tombolo/Dialect/Graph/IR/GraphDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Tools/mlir-translate/Translation.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;

void tombolo::registerOnnxImport() {
  static llvm::cl::OptionCategory category("--import-onnx");
  static llvm::cl::opt<std::string> batchDim(
      "batch-dim", llvm::cl::cat(category), llvm::cl::value_desc("NAME"),
      llvm::cl::desc("the dimension that is the batch"));
  static llvm::cl::list<std::string> bindings(
      "bind", llvm::cl::cat(category), llvm::cl::value_desc("NAME=SIZE"),
      llvm::cl::desc("size of another symbolic dimension"));
  static llvm::cl::list<std::string> freeze(
      "freeze", llvm::cl::cat(category), llvm::cl::value_desc("REGEX"),
      llvm::cl::desc("parameters that are not trained"));
  static llvm::cl::opt<bool> noBatch(
      "no-batch", llvm::cl::cat(category),
      llvm::cl::desc("the model has no batch, all its shapes are constant"));
  static TranslateToMLIRRegistration registration(
      "import-onnx", "read an ONNX model into the graph dialect",
      [](llvm::SourceMgr &source,
         MLIRContext *context) -> OwningOpRef<Operation *> {
        // The importer maps the file by itself, and looks for external data
        // beside it.
        StringRef path = source.getMemoryBuffer(source.getMainFileID())
                             ->getBufferIdentifier();
        if (path == "-" || path == "<stdin>") {
          emitError(UnknownLoc::get(context))
              << "an ONNX model is read from a file, not from a pipe";
          return nullptr;
        }
        OnnxImportOptions options{batchDim, bindings, freeze, noBatch};
        return importOnnx(path, options, context);
      },
      [](DialectRegistry &registry) {
        registry.insert<func::FuncDialect, graph::GraphDialect>();
      });
  static TranslateRegistration listing(
      "list-onnx-operators",
      "list the ONNX operators that --import-onnx reads (of an empty input)",
      [](const std::shared_ptr<llvm::SourceMgr> &, llvm::raw_ostream &out,
         MLIRContext *) -> LogicalResult {
        for (const importer::OpEntry &entry : importer::getOps())
          out << entry.type << '\n';
        return success();
      });
}
