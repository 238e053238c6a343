//===- OnnxModel.h - an ONNX file, read without its weights -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_ONNX_ONNXMODEL_H
#define TOMBOLO_LIB_IMPORT_ONNX_ONNXMODEL_H

#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/MemoryBuffer.h"

#include <memory>
#include <onnx/onnx_pb.h>
#include <vector>

namespace tombolo::importer {

/// Where one initializer's values lie.
struct Initializer {
  const onnx::TensorProto *proto; ///< all but its values
  llvm::StringRef wire;           ///< the whole message, in the file
  uint64_t elements;
};

/// A model whose structure has been checked: names are defined once, every
/// name that is read is defined, nodes are in order, sizes make sense. The
/// file is mapped; values of initializers are looked at only by
/// `readInitializer`.
class OnnxModel {
public:
  /// Null after an error, which is emitted at `loc`.
  static std::unique_ptr<OnnxModel> read(llvm::StringRef path,
                                         mlir::Location loc);

  const onnx::ModelProto &getProto() const { return proto; }
  const onnx::GraphProto &getGraph() const { return proto.graph(); }
  /// The nodes, each after those whose results it reads.
  llvm::ArrayRef<const onnx::NodeProto *> getNodes() const { return nodes; }
  /// Version of the ONNX operators.
  int64_t getOpset() const { return opset; }
  /// The inputs that are no initializers.
  std::vector<const onnx::ValueInfoProto *> getInputs() const;
  /// Null when there is none.
  const Initializer *findInitializer(llvm::StringRef name) const;

  /// An initializer with its values in it. Fails, with an error, when they
  /// are absent.
  mlir::FailureOr<onnx::TensorProto>
  readInitializer(const Initializer &initializer) const;

private:
  explicit OnnxModel(mlir::Location loc) : loc(loc) {}

  mlir::LogicalResult parse();
  mlir::LogicalResult checkVersions();
  mlir::LogicalResult checkInitializer(Initializer &initializer);
  mlir::LogicalResult checkNames();
  mlir::LogicalResult sortNodes();

  mlir::InFlightDiagnostic emitError() const;

  mlir::Location loc;
  std::string path;
  std::unique_ptr<llvm::MemoryBuffer> file;
  onnx::ModelProto proto;
  std::vector<llvm::StringRef> initializerWires;
  llvm::StringMap<Initializer> initializers;
  std::vector<const onnx::NodeProto *> nodes;
  int64_t opset = 0;
};

/// Runs ONNX's own checker where it knows the model's versions. It sees the
/// initializers as inputs, so that it looks for no weights.
mlir::LogicalResult runOnnxChecker(const OnnxModel &model, mlir::Location loc);

/// The hash that the runtime compares with that of its plan, as 64 hex digits.
mlir::FailureOr<std::string> hashModel(llvm::StringRef path,
                                       mlir::Location loc);

/// "node 'NAME' (TYPE)", or without a name "node producing 'RESULT' (TYPE)".
std::string describe(const onnx::NodeProto &node);

/// Product of `dims`; nullopt when one is negative or the product of their
/// bytes could not be addressed.
std::optional<uint64_t>
countElements(const google::protobuf::RepeatedField<int64_t> &dims);

/// Bytes of one element of an ONNX type; 0 for those without a fixed size.
unsigned getElementBytes(int onnxType);

} // namespace tombolo::importer

#endif // TOMBOLO_LIB_IMPORT_ONNX_ONNXMODEL_H
