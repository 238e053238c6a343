//===- ExportOnnx.cpp - the trained model as an ONNX file -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/ExportOnnx.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/Onnx.h"
#include "tombolo/runtime/plan/Parameters.h"
#include "tombolo/schema/onnx_subset.pb.h"

#include <filesystem>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <map>
#include <memory>
#include <set>

namespace tombolo::runtime {

namespace {

using onnx_subset::GraphProto;
using onnx_subset::ModelProto;
using onnx_subset::TensorProto;

constexpr std::int32_t kFloat = 1, kDouble = 11;

class Exporter {
public:
  Exporter(const std::string &modelPath, const std::string &folder,
           const Plan &plan, const std::string &out,
           const ExportOptions &options)
      : model(modelPath), checkpoint(folder), out(out), options(options),
        proto(model.stripped()) {
    if (model.hash() != plan.model_hash())
      throw Error("'", modelPath, "': is not the model the plan was made for");
    if (checkpoint.info().modelHash != plan.model_hash())
      throw Error("'", folder, "': was written for another model");
    for (const plan::v1::Program &program : plan.programs())
      for (LocalParameter &parameter : expandParameters(program)) {
        plan::v1::Slice whole;
        whole.set_length(parameter.elements);
        whole.set_count(1);
        whole.set_stride(parameter.elements);
        parameter.ranges = {whole};
        parameter.localElements = parameter.elements;
        std::string name = parameter.name;
        parameters.emplace(name, std::move(parameter));
      }
  }

  void run() {
    splitIdentities();
    std::uint64_t bytes = 0;
    for (const TensorProto &tensor : proto.graph().initializer())
      bytes += dataBytes(tensor);
    if (bytes > options.maxInline)
      data = std::make_unique<OutputFile>(out + ".data");
    for (TensorProto &tensor : *proto.mutable_graph()->mutable_initializer())
      fill(tensor);
    std::string dataName;
    bool fresh = false;
    if (data) {
      dataName = std::filesystem::path(out).filename().string() + "." +
                 toHex(dataHash.finish()).substr(0, kHashDigits) + ".data";
      std::filesystem::path path = beside(dataName);
      fresh = !std::filesystem::exists(path);
      data->retarget(path.string());
      data->commit();
    }
    try {
      writeModel(dataName);
    } catch (...) {
      std::error_code ignored;
      if (fresh) // else the old model may be using it
        std::filesystem::remove(beside(dataName), ignored);
      throw;
    }
    removeOtherData(dataName);
  }

private:
  static constexpr std::size_t kHashDigits = 16;

  std::filesystem::path beside(const std::string &name) const {
    return std::filesystem::path(out).parent_path() / name;
  }

  void writeModel(const std::string &dataName) {
    for (TensorProto &tensor : *proto.mutable_graph()->mutable_initializer())
      if (tensor.data_location() == 1)
        for (auto &pair : *tensor.mutable_external_data())
          if (pair.key() == "location" && written.count(tensor.name()))
            pair.set_value(dataName);
    options.poll();
    // Deterministic: the same run writes the same file.
    std::string text;
    {
      google::protobuf::io::StringOutputStream stream(&text);
      google::protobuf::io::CodedOutputStream coded(&stream);
      coded.SetSerializationDeterministic(true);
      if (!proto.SerializeToCodedStream(&coded))
        throw Error("'", out, "': the model cannot be serialised");
    }
    writeFile(out, text);
  }

  /// The data of what stood at `out` before.
  void removeOtherData(const std::string &dataName) const {
    std::string head = std::filesystem::path(out).filename().string() + ".";
    std::error_code error;
    std::filesystem::path folder = beside("x").parent_path();
    for (std::filesystem::directory_iterator
             at(folder.empty() ? "." : folder, error),
         end;
         !error && at != end; at.increment(error)) {
      std::string name = at->path().filename().string();
      if (name == dataName || name.size() != head.size() + kHashDigits + 5 ||
          name.rfind(head, 0) != 0 || name.substr(name.size() - 5) != ".data" ||
          name.find_first_not_of("0123456789abcdef", head.size()) !=
              head.size() + kHashDigits)
        continue;
      std::error_code ignored;
      std::filesystem::remove(at->path(), ignored);
    }
  }

  /// A parameter that stands behind an Identity becomes an initializer of the
  /// Identity's output name; sources nobody uses any more go.
  void splitIdentities() {
    GraphProto &graph = *proto.mutable_graph();
    std::set<std::string> sources;
    for (int i = graph.node_size(); i-- > 0;) {
      const auto &node = graph.node(i);
      if (node.op_type() != "Identity" || node.output_size() != 1 ||
          node.input_size() != 1)
        continue;
      auto found = parameters.find(node.output(0));
      if (found == parameters.end())
        continue;
      sources.insert(node.input(0));
      TensorProto *tensor = graph.add_initializer();
      tensor->set_name(found->first);
      tensor->set_data_type(kFloat);
      for (std::uint64_t dim : found->second.dims)
        tensor->add_dims(static_cast<std::int64_t>(dim));
      graph.mutable_node()->DeleteSubrange(i, 1);
    }
    std::set<std::string> used;
    for (const auto &node : graph.node())
      used.insert(node.input().begin(), node.input().end());
    for (int i = graph.initializer_size(); i-- > 0;) {
      const std::string &name = graph.initializer(i).name();
      if (sources.count(name) && !used.count(name) && !parameters.count(name))
        graph.mutable_initializer()->DeleteSubrange(i, 1);
    }
    std::set<std::string> present;
    for (const TensorProto &tensor : graph.initializer())
      present.insert(tensor.name());
    for (const auto &[name, parameter] : parameters)
      if (!present.count(name))
        throw Error("'", model.path(), "': holds no initializer or Identity '",
                    name, "' to write the trained parameter to");
  }

  const LocalParameter *trained(const TensorProto &tensor) const {
    auto found = parameters.find(tensor.name());
    return found != parameters.end() && checkpoint.has(tensor.name())
               ? &found->second
               : nullptr;
  }

  std::uint64_t dataBytes(const TensorProto &tensor) const {
    if (const LocalParameter *parameter = trained(tensor))
      return parameter->elements * (tensor.data_type() == kDouble ? 8 : 4);
    const OnnxInitializer *source = model.find(tensor.name());
    std::uint64_t bytes = 0;
    if (source && !source->absent)
      for (const OnnxInitializer::Extent &extent : source->extents)
        bytes += extent.bytes;
    return bytes;
  }

  void writeData(std::string_view bytes) {
    data->write(bytes);
    dataHash.update(bytes);
  }

  void fill(TensorProto &tensor) {
    options.poll();
    std::string bytes;
    if (const LocalParameter *parameter = trained(tensor)) {
      bytes = trainedBytes(tensor, *parameter);
    } else {
      const OnnxInitializer *source = model.find(tensor.name());
      if (!source || source->absent || source->extents.empty())
        return; // small integers are in the graph; what is absent stays so
      bytes = model.rawData(*source);
    }
    tensor.clear_external_data();
    tensor.clear_data_location();
    if (!data) {
      tensor.set_raw_data(std::move(bytes));
      return;
    }
    // Aligned, so that a reader may map it.
    static const std::string padding(63, '\0');
    std::uint64_t gap = (64 - data->written() % 64) % 64;
    writeData(std::string_view(padding).substr(0, gap));
    auto entry = [&](const char *key, const std::string &value) {
      auto *pair = tensor.add_external_data();
      pair->set_key(key);
      pair->set_value(value);
    };
    entry("location", ""); // known when all is written
    written.insert(tensor.name());
    entry("offset", std::to_string(data->written()));
    entry("length", std::to_string(bytes.size()));
    tensor.set_data_location(1);
    writeData(bytes);
  }

  std::string trainedBytes(const TensorProto &tensor,
                           const LocalParameter &parameter) {
    bool wide = tensor.data_type() == kDouble;
    if (!wide && tensor.data_type() != kFloat)
      throw Error("'", model.path(), "': initializer '", tensor.name(),
                  "': only float and double can be written, it has ONNX data "
                  "type ",
                  tensor.data_type());
    std::string bytes(parameter.elements * (wide ? 8 : 4), '\0');
    checkpoint.read(tensor.name(), parameter,
                    [&](std::uint64_t element, std::span<const float> values) {
                      options.poll();
                      if (!wide) {
                        std::copy_n(
                            reinterpret_cast<const char *>(values.data()),
                            values.size() * 4, bytes.data() + element * 4);
                        return;
                      }
                      for (std::size_t i = 0; i < values.size(); ++i) {
                        double value = values[i];
                        std::copy_n(reinterpret_cast<const char *>(&value), 8,
                                    bytes.data() + (element + i) * 8);
                      }
                    });
    return bytes;
  }

  OnnxModel model;
  Checkpoint checkpoint;
  std::string out;
  const ExportOptions &options;
  ModelProto proto;
  std::map<std::string, LocalParameter> parameters;
  std::unique_ptr<OutputFile> data;
  Sha256 dataHash;
  std::set<std::string> written; // initializers in `data`
};

} // namespace

void exportOnnx(const std::string &model, const std::string &checkpoint,
                const Plan &plan, const std::string &out,
                const ExportOptions &options) {
  Exporter(model, checkpoint, plan, out, options).run();
}

} // namespace tombolo::runtime
