//===- tombolo-translate.cpp - between files and IR -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Import/ONNX.h"
#include "tombolo/Import/Topology.h"
#include "tombolo/Target/PlanExport.h"

#include "mlir/Tools/mlir-translate/MlirTranslateMain.h"

int main(int argc, char **argv) {
  tombolo::registerOnnxImport();
  tombolo::registerImportTopology();
  tombolo::registerPlanTranslations();
  return mlir::failed(mlir::mlirTranslateMain(
      argc, argv, "Tombolo: read and write one level at a time\n"));
}
