//===- Register.cpp - topologies in tombolo-translate ---------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Topo/IR/Topo.h"
#include "tombolo/Import/Topology.h"
#include "tombolo/Import/YamlPlaces.h"

#include "mlir/Tools/mlir-translate/Translation.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"

using namespace mlir;
using namespace tombolo;

/// The main file of a translation.
static YamlFile fileOf(llvm::SourceMgr &sources) {
  const llvm::MemoryBuffer *buffer =
      sources.getMemoryBuffer(sources.getMainFileID());
  return YamlFile(buffer->getBufferIdentifier(), buffer->getBuffer());
}

void tombolo::registerImportTopology() {
  static TranslateToMLIRRegistration registration(
      "import-topology", "sites.yaml to the topo dialect",
      [](llvm::SourceMgr &sources,
         MLIRContext *context) -> OwningOpRef<Operation *> {
        context->loadDialect<topo::TopoDialect>();
        auto file = readTopology(fileOf(sources), llvm::errs());
        if (!file)
          return {};
        Location place =
            FileLineColLoc::get(context, file->file.getName(), 1, 1);
        OwningOpRef<ModuleOp> module(ModuleOp::create(place));
        OpBuilder builder = OpBuilder::atBlockEnd(module->getBody());
        topo::buildTopology(
            builder,
            [&](const std::string &path) {
              return placeIn(file->file, path, context);
            },
            file->topology);
        return OwningOpRef<Operation *>(module.release());
      },
      [](DialectRegistry &registry) { registry.insert<topo::TopoDialect>(); });
}
