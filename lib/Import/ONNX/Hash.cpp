//===- Hash.cpp - the model's hash, by the runtime ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OnnxModel.h"

#include "tombolo/runtime/Onnx.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;

FailureOr<std::string> tombolo::importer::hashModel(StringRef path,
                                                    Location loc) {
  try {
    return llvm::toHex(runtime::modelHash(path.str()), /*LowerCase=*/true);
  } catch (const std::exception &error) {
    return emitError(loc) << error.what();
  }
}
