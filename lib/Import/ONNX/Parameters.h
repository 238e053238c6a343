//===- Parameters.h - which initializers are trained ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A float initializer that a gradient reaches is a parameter. One behind
// Identity is a parameter of its own, named by the Identity's result: PyTorch
// writes tensors that happen to be equal once, and the others as Identity.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_ONNX_PARAMETERS_H
#define TOMBOLO_LIB_IMPORT_ONNX_PARAMETERS_H

#include "OnnxModel.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

#include <vector>

namespace tombolo::importer {

struct Parameter {
  std::string name;        ///< in the model and in checkpoints
  std::string initializer; ///< that holds its values
  bool frozen = false;
};

struct ParameterSet {
  /// In the order of the file: initializers, then results of Identity.
  std::vector<Parameter> parameters;
  /// The nodes that the outputs depend on, in order, without the Identities
  /// that are parameters.
  std::vector<const onnx::NodeProto *> liveNodes;
};

/// Finds the nodes that count. Reports all unsupported operators among them in
/// one error.
mlir::FailureOr<std::vector<const onnx::NodeProto *>>
findLiveNodes(const OnnxModel &model, mlir::Location loc);

/// Finds the parameters; those that match one of the regular expressions are
/// frozen. An expression that matches none gives a warning.
mlir::FailureOr<ParameterSet>
findParameters(const OnnxModel &model,
               std::vector<const onnx::NodeProto *> liveNodes,
               llvm::ArrayRef<std::string> freeze, mlir::Location loc);

} // namespace tombolo::importer

#endif // TOMBOLO_LIB_IMPORT_ONNX_PARAMETERS_H
