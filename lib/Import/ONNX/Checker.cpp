//===- Checker.cpp - ONNX's own checker, its exceptions caught ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OnnxModel.h"

#include "llvm/ADT/StringSet.h"

#include <onnx/checker.h>
#include <onnx/defs/schema.h>

using namespace mlir;

LogicalResult tombolo::importer::runOnnxChecker(const OnnxModel &model,
                                                Location loc) {
  const auto &versions =
      onnx::OpSchemaRegistry::DomainToVersionRange::Instance().Map();
  auto range = versions.find("");
  if (range == versions.end() || model.getOpset() < range->second.first ||
      model.getOpset() > range->second.second ||
      model.getProto().ir_version() > onnx::Version::IR_VERSION)
    return success();

  const onnx::GraphProto &graph = model.getGraph();
  onnx::ModelProto checked;
  checked.set_ir_version(model.getProto().ir_version());
  *checked.mutable_opset_import() = model.getProto().opset_import();
  onnx::GraphProto &copy = *checked.mutable_graph();
  copy.set_name(graph.name().empty() ? "main" : graph.name());
  *copy.mutable_input() = graph.input();
  *copy.mutable_output() = graph.output();
  llvm::StringSet<> inputs;
  for (const onnx::ValueInfoProto &input : graph.input())
    inputs.insert(input.name());
  for (const onnx::TensorProto &tensor : graph.initializer()) {
    if (inputs.contains(tensor.name()))
      continue;
    onnx::ValueInfoProto &input = *copy.add_input();
    input.set_name(tensor.name());
    onnx::TypeProto_Tensor &type = *input.mutable_type()->mutable_tensor_type();
    type.set_elem_type(tensor.data_type());
    type.mutable_shape();
    for (int64_t dim : tensor.dims())
      type.mutable_shape()->add_dim()->set_dim_value(dim);
  }
  for (const onnx::NodeProto *node : model.getNodes())
    *copy.add_node() = *node;

  try {
    onnx::checker::check_model(checked);
  } catch (const std::exception &error) {
    std::string text = error.what();
    while (!text.empty() && isspace(static_cast<unsigned char>(text.back())))
      text.pop_back();
    std::replace(text.begin(), text.end(), '\n', ' ');
    return emitError(loc) << "fails ONNX's checker: " << text;
  }
  return success();
}
