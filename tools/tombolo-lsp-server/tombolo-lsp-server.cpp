//===- tombolo-lsp-server.cpp - editor support for IR ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "../LlvmHelp.h"

#include "tombolo/InitAll.h"

#include "mlir/Tools/mlir-lsp-server/MlirLspServerMain.h"

int main(int argc, char **argv) {
  tombolo::LlvmHelp help(
      "tombolo-lsp-server",
      "tells an editor, which starts it, about IR: the language server "
      "protocol on standard input and output",
      {"tombolo-lsp-server --log=error"});
  mlir::DialectRegistry registry;
  tombolo::registerAllDialects(registry);
  if (help.describes(argc, argv)) {
    help.describe([](llvm::StringRef) { return std::string(); });
    return 0;
  }
  help.open(argc, argv);
  return failed(mlir::MlirLspServerMain(argc, argv, registry)) ? 1 : 0;
}
