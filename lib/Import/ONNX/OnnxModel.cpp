//===- OnnxModel.cpp - reading and checking an ONNX file ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OnnxModel.h"
#include "WireFormat.h"

#include "llvm/ADT/BitVector.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/Path.h"

#include <deque>
#include <limits>

using namespace mlir;

namespace tombolo::importer {
namespace {

// Field numbers of onnx.proto.
enum : uint32_t { modelGraph = 7, graphInitializer = 5 };

/// Whether onnx.proto's ModelProto has this field: what tells a model from any
/// other file.
bool isModelField(const WireField &field) {
  switch (field.number) {
  case 1: // ir_version
  case 5: // model_version
    return field.wireType == 0;
  case 2: // producer_name, producer_version, domain, doc_string
  case 3:
  case 4:
  case 6:
  case modelGraph:
  case 8:  // opset_import
  case 14: // metadata_props
  case 20: // training_info
  case 25: // functions
  case 26: // configuration
    return field.wireType == 2;
  default:
    return false;
  }
}

/// Whether a field of TensorProto holds values.
bool isTensorData(uint32_t number) {
  return (number >= 4 && number <= 7) || (number >= 9 && number <= 11);
}

} // namespace

std::string describe(const onnx::NodeProto &node) {
  std::string text = "node ";
  if (!node.name().empty())
    text += "'" + node.name() + "'";
  else if (node.output_size())
    text += "producing '" + node.output(0) + "'";
  else
    text += "without a name";
  std::string type = node.op_type();
  if (!node.domain().empty() && node.domain() != "ai.onnx")
    type = node.domain() + "." + type;
  return text + " (" + type + ")";
}

std::optional<uint64_t>
countElements(const google::protobuf::RepeatedField<int64_t> &dims) {
  uint64_t elements = 1;
  bool empty = false;
  for (int64_t dim : dims) {
    if (dim < 0)
      return std::nullopt;
    if (dim == 0) {
      empty = true;
      continue;
    }
    // 2^56 elements: bytes of any type still fit into 63 bits.
    elements = llvm::SaturatingMultiply(elements, static_cast<uint64_t>(dim));
    if (elements > uint64_t{1} << 56)
      return std::nullopt;
  }
  return empty ? 0 : elements;
}

unsigned getElementBytes(int onnxType) {
  switch (onnxType) {
  case onnx::TensorProto::UINT8:
  case onnx::TensorProto::INT8:
  case onnx::TensorProto::BOOL:
    return 1;
  case onnx::TensorProto::UINT16:
  case onnx::TensorProto::INT16:
  case onnx::TensorProto::FLOAT16:
  case onnx::TensorProto::BFLOAT16:
    return 2;
  case onnx::TensorProto::FLOAT:
  case onnx::TensorProto::INT32:
  case onnx::TensorProto::UINT32:
    return 4;
  case onnx::TensorProto::DOUBLE:
  case onnx::TensorProto::INT64:
  case onnx::TensorProto::UINT64:
    return 8;
  default:
    return 0;
  }
}

InFlightDiagnostic OnnxModel::emitError() const { return mlir::emitError(loc); }

std::unique_ptr<OnnxModel> OnnxModel::read(StringRef path, Location loc) {
  std::unique_ptr<OnnxModel> model(new OnnxModel(loc));
  model->path = path.str();
  llvm::sys::fs::file_status status;
  std::error_code code = llvm::sys::fs::status(path, status);
  if (!code && !llvm::sys::fs::is_regular_file(status)) {
    model->emitError() << "is not a regular file, expected an ONNX model";
    return nullptr;
  }
  if (!code) {
    auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                              /*RequiresNullTerminator=*/false);
    code = buffer.getError();
    if (!code)
      model->file = std::move(*buffer);
  }
  if (code) {
    model->emitError() << "cannot read the file: " << code.message();
    return nullptr;
  }
  if (failed(model->parse()) || failed(model->checkVersions()) ||
      failed(model->checkNames()) || failed(model->sortNodes()))
    return nullptr;
  return model;
}

LogicalResult OnnxModel::parse() {
  StringRef bytes = file->getBuffer();
  if (bytes.empty())
    return emitError() << "is empty, expected an ONNX model";

  auto fail = [&](WireReader::Status status) -> LogicalResult {
    if (status == WireReader::Status::Truncated)
      return emitError() << "is truncated: a field is longer than the rest of "
                            "the file of "
                         << bytes.size() << " bytes";
    return emitError() << "is no ONNX model, or is damaged";
  };
  // The message without the initializers' values.
  std::string slim;
  bool hasGraph = false;
  WireField field;
  WireReader::Status status;
  WireReader model(bytes);
  while ((status = model.next(field)) == WireReader::Status::Field) {
    if (!isModelField(field))
      return fail(WireReader::Status::Malformed);
    if (field.number != modelGraph) {
      slim.append(field.whole.data(), field.whole.size());
      continue;
    }
    if (std::exchange(hasGraph, true))
      return emitError() << "is damaged: it holds more than one graph";
    std::string slimGraph;
    WireReader graph(field.payload);
    WireField part;
    while ((status = graph.next(part)) == WireReader::Status::Field) {
      if (part.number != graphInitializer || part.wireType != 2) {
        slimGraph.append(part.whole.data(), part.whole.size());
        continue;
      }
      std::string slimTensor;
      WireReader tensor(part.payload);
      WireField piece;
      while ((status = tensor.next(piece)) == WireReader::Status::Field)
        if (!isTensorData(piece.number))
          slimTensor.append(piece.whole.data(), piece.whole.size());
      if (status != WireReader::Status::End)
        return fail(WireReader::Status::Malformed);
      appendField(slimGraph, graphInitializer, slimTensor);
      initializerWires.push_back(part.payload);
    }
    if (status != WireReader::Status::End)
      return fail(WireReader::Status::Malformed);
    appendField(slim, modelGraph, slimGraph);
  }
  if (status != WireReader::Status::End)
    return fail(status);
  if (!hasGraph)
    return emitError() << "holds no graph: it is truncated or no ONNX model";
  if (slim.size() > std::numeric_limits<int>::max())
    return emitError() << "holds " << slim.size()
                       << " bytes besides its initializers, expected less than "
                          "2 GiB";
  // Refuses messages nested deeper than 100 as well.
  if (!proto.ParseFromArray(slim.data(), static_cast<int>(slim.size())))
    return emitError() << "is no ONNX model, or is damaged";
  return success();
}

LogicalResult OnnxModel::checkVersions() {
  if (proto.ir_version() < 3 || proto.ir_version() > 10)
    return emitError() << "has IR version " << proto.ir_version()
                       << ", expected 3 to 10";
  for (const onnx::OperatorSetIdProto &set : proto.opset_import())
    if (set.domain().empty() || set.domain() == "ai.onnx")
      opset = set.version();
  if (opset == 0)
    return emitError() << "names no version of the ONNX operators "
                          "(opset_import): it is truncated or damaged";
  if (opset < 11 || opset > 21)
    return emitError() << "has opset " << opset
                       << ", expected 11 to 21: export with opset_version=17";
  if (getGraph().sparse_initializer_size())
    return emitError() << "has sparse initializers, which are not supported";
  return success();
}

LogicalResult OnnxModel::checkInitializer(Initializer &initializer) {
  const onnx::TensorProto &tensor = *initializer.proto;
  auto fail = [&]() {
    return emitError() << "initializer '" << tensor.name() << "' ";
  };
  unsigned elementBytes = getElementBytes(tensor.data_type());
  if (elementBytes == 0)
    return fail() << "has the unsupported element type number "
                  << tensor.data_type();
  std::optional<uint64_t> elements = countElements(tensor.dims());
  if (!elements)
    return fail() << "has a negative or absurdly large size";
  initializer.elements = *elements;
  uint64_t bytes = *elements * elementBytes;

  if (tensor.data_location() == onnx::TensorProto::EXTERNAL) {
    std::string location;
    uint64_t offset = 0, length = bytes;
    for (const onnx::StringStringEntryProto &entry : tensor.external_data()) {
      bool good = true;
      if (entry.key() == "location")
        location = entry.value();
      else if (entry.key() == "offset")
        good = !StringRef(entry.value()).getAsInteger(10, offset);
      else if (entry.key() == "length")
        good = !StringRef(entry.value()).getAsInteger(10, length);
      if (!good)
        return fail() << "has the external " << entry.key() << " '"
                      << entry.value() << "', expected a number";
    }
    if (location.empty())
      return fail() << "is external without a location";
    if (length != bytes)
      return fail() << "has " << length << " bytes of external data, expected "
                    << bytes;
    if (llvm::sys::path::is_absolute(location) ||
        llvm::is_contained(llvm::make_range(llvm::sys::path::begin(location),
                                            llvm::sys::path::end(location)),
                           ".."))
      return fail() << "lies in '" << location
                    << "', expected a file beside the model";
    return success();
  }
  uint64_t rawBytes = 0, otherBytes = 0;
  WireReader reader(initializer.wire);
  WireField field;
  while (reader.next(field) == WireReader::Status::Field) {
    if (field.number == 9)
      rawBytes += field.payload.size();
    else if (isTensorData(field.number))
      otherBytes += field.whole.size();
  }
  if (rawBytes && rawBytes != bytes)
    return fail() << "has " << rawBytes << " bytes of values, expected "
                  << bytes;
  if (!rawBytes && !otherBytes && bytes)
    return fail() << "has no values";
  return success();
}

LogicalResult OnnxModel::checkNames() {
  const onnx::GraphProto &graph = getGraph();
  if (static_cast<size_t>(graph.initializer_size()) != initializerWires.size())
    return emitError() << "is damaged: its initializers cannot be told apart";
  for (auto [tensor, wire] : llvm::zip(graph.initializer(), initializerWires)) {
    if (tensor.name().empty())
      return emitError() << "has an initializer without a name";
    Initializer initializer{&tensor, wire, 0};
    if (failed(checkInitializer(initializer)))
      return failure();
    if (!initializers.try_emplace(tensor.name(), initializer).second)
      return emitError() << "has two initializers named '" << tensor.name()
                         << "'";
  }
  llvm::StringSet<> inputs;
  for (const onnx::ValueInfoProto &input : graph.input())
    if (input.name().empty() || !inputs.insert(input.name()).second)
      return emitError() << "has two inputs named '" << input.name() << "'";
  if (graph.output().empty())
    return emitError() << "has no output";
  return success();
}

LogicalResult OnnxModel::sortNodes() {
  const onnx::GraphProto &graph = getGraph();
  llvm::StringMap<int> producers; // -1: input or initializer
  for (const auto &entry : initializers)
    producers[entry.getKey()] = -1;
  for (const onnx::ValueInfoProto &input : graph.input())
    producers[input.name()] = -1;
  for (int n = 0; n < graph.node_size(); ++n)
    for (const std::string &result : graph.node(n).output()) {
      if (result.empty())
        continue;
      auto [at, fresh] = producers.try_emplace(result, n);
      if (fresh)
        continue;
      InFlightDiagnostic error = emitError();
      error << "value '" << result << "' is defined twice: by "
            << describe(graph.node(n)) << " and ";
      if (at->second < 0)
        return error << "as an input or initializer";
      return error << "by " << describe(graph.node(at->second));
    }

  // Kahn's algorithm; the queue keeps the file's order where it can.
  std::vector<int> waiting(graph.node_size());
  std::vector<SmallVector<int, 2>> readers(graph.node_size());
  for (int n = 0; n < graph.node_size(); ++n)
    for (const std::string &operand : graph.node(n).input()) {
      if (operand.empty())
        continue;
      auto at = producers.find(operand);
      if (at == producers.end())
        return emitError() << describe(graph.node(n)) << " reads '" << operand
                           << "', which is no input, no initializer and no "
                              "node's result";
      if (at->second < 0)
        continue;
      ++waiting[n];
      readers[at->second].push_back(n);
    }
  for (const onnx::ValueInfoProto &output : graph.output())
    if (!producers.contains(output.name()))
      return emitError() << "output '" << output.name()
                         << "' is no input, no initializer and no node's "
                            "result";
  bool inOrder = true;
  {
    llvm::BitVector seen(graph.node_size());
    for (int n = 0; n < graph.node_size() && inOrder; ++n) {
      for (const std::string &operand : graph.node(n).input())
        if (!operand.empty())
          if (int from = producers.lookup(operand); from >= 0 && !seen[from])
            inOrder = false;
      seen.set(n);
    }
  }
  if (inOrder) {
    for (const onnx::NodeProto &node : graph.node())
      nodes.push_back(&node);
    return success();
  }
  std::deque<int> ready;
  for (int n = 0; n < graph.node_size(); ++n)
    if (waiting[n] == 0)
      ready.push_back(n);
  while (!ready.empty()) {
    int n = ready.front();
    ready.pop_front();
    nodes.push_back(&graph.node(n));
    for (int reader : readers[n])
      if (--waiting[reader] == 0)
        ready.push_back(reader);
  }
  if (nodes.size() == static_cast<size_t>(graph.node_size()))
    return success();

  // Walk backwards among the nodes left: each has an operand from one of them.
  int at = 0;
  while (waiting[at] == 0)
    ++at;
  llvm::DenseMap<int, size_t> steps;
  std::vector<int> walk;
  while (steps.try_emplace(at, walk.size()).second) {
    walk.push_back(at);
    for (const std::string &operand : graph.node(at).input())
      if (int from = operand.empty() ? -1 : producers.lookup(operand);
          from >= 0 && waiting[from] > 0) {
        at = from;
        break;
      }
  }
  InFlightDiagnostic error = emitError();
  error << "has a cycle: ";
  for (size_t i = walk.size(), shown = 0; i > steps[at]; --i) {
    if (++shown > 8) {
      error << "... -> ";
      break;
    }
    error << describe(graph.node(walk[i - 1])) << " -> ";
  }
  return error << describe(graph.node(walk.back()));
}

std::vector<const onnx::ValueInfoProto *> OnnxModel::getInputs() const {
  std::vector<const onnx::ValueInfoProto *> inputs;
  for (const onnx::ValueInfoProto &input : getGraph().input())
    if (!initializers.contains(input.name()))
      inputs.push_back(&input);
  return inputs;
}

const Initializer *OnnxModel::findInitializer(StringRef name) const {
  auto at = initializers.find(name);
  return at == initializers.end() ? nullptr : &at->second;
}

FailureOr<onnx::TensorProto>
OnnxModel::readInitializer(const Initializer &initializer) const {
  const std::string &name = initializer.proto->name();
  onnx::TensorProto tensor;
  if (initializer.wire.size() > std::numeric_limits<int>::max() ||
      !tensor.ParseFromArray(initializer.wire.data(),
                             static_cast<int>(initializer.wire.size())))
    return emitError() << "initializer '" << name << "' is damaged";
  if (tensor.data_location() != onnx::TensorProto::EXTERNAL)
    return tensor;

  std::string location;
  uint64_t offset = 0;
  for (const onnx::StringStringEntryProto &entry : tensor.external_data()) {
    if (entry.key() == "location")
      location = entry.value();
    else if (entry.key() == "offset")
      StringRef(entry.value()).getAsInteger(10, offset);
  }
  uint64_t bytes = initializer.elements * getElementBytes(tensor.data_type());
  SmallString<128> beside(llvm::sys::path::parent_path(path));
  llvm::sys::path::append(beside, location);
  auto fail = [&]() {
    return emitError() << "initializer '" << name
                       << "' is no weight, so its values are needed, but '"
                       << beside << "' cannot be read: ";
  };
  // A slice beyond the end would be zeros, or a fault of the processor where
  // the file is mapped.
  llvm::sys::fs::file_status status;
  if (std::error_code error = llvm::sys::fs::status(beside, status))
    return fail() << error.message();
  if (status.type() != llvm::sys::fs::file_type::regular_file)
    return fail() << "expected a plain file";
  if (offset > status.getSize() || bytes > status.getSize() - offset)
    return fail() << "expected " << bytes << " bytes from byte " << offset
                  << ", the file has " << status.getSize();
  auto buffer = llvm::MemoryBuffer::getFileSlice(beside, bytes, offset,
                                                 /*IsVolatile=*/true);
  if (!buffer || (*buffer)->getBufferSize() != bytes)
    return fail() << (buffer ? "too short" : buffer.getError().message());
  tensor.set_data_location(onnx::TensorProto::DEFAULT);
  tensor.clear_external_data();
  tensor.set_raw_data((*buffer)->getBuffer().str());
  return tensor;
}

} // namespace tombolo::importer
