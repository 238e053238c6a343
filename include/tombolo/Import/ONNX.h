//===- ONNX.h - from an ONNX file to the graph dialect ----------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_IMPORT_ONNX_H
#define TOMBOLO_IMPORT_ONNX_H

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

#include <string>
#include <vector>

namespace tombolo {

struct OnnxImportOptions {
  /// The name of the dimension that is the batch; empty: the symbolic first
  /// dimension of the inputs.
  std::string batchDim;
  /// Sizes of the other symbolic dimensions, as "NAME=SIZE".
  std::vector<std::string> bindings;
  /// Parameters whose whole name or a part of it matches one of these regular
  /// expressions are not trained.
  std::vector<std::string> freeze;
  /// The model has no batch: all dimensions of its inputs are constant. For
  /// looking at single operators; such a model cannot be planned.
  bool noBatch = false;
};

/// Reads the model at `path` into a module with one function `@main`
/// (docs/Architecture.md, "After import"; docs/Import.md). Needs the graph and
/// func dialects loaded or registered in `context`. No weight is read. Any
/// fault of the file or the options is an error diagnostic and a null result.
mlir::OwningOpRef<mlir::ModuleOp> importOnnx(llvm::StringRef path,
                                             const OnnxImportOptions &options,
                                             mlir::MLIRContext *context);

/// Registers `--import-onnx` and `--list-onnx-operators` with mlir-translate's
/// main.
void registerOnnxImport();

} // namespace tombolo

#endif // TOMBOLO_IMPORT_ONNX_H
