//===- ModelWriter.cpp - build an ONNX model and write it -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ModelWriter.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <numbers>
#include <optional>
#include <sys/stat.h>
#include <unistd.h>

namespace tombolo::models {
namespace {

/// Where external tensors start: a page, so that a reader may map them.
constexpr uint64_t externalAlignment = 4096;

uint64_t alignExternal(uint64_t offset) {
  return (offset + externalAlignment - 1) / externalAlignment *
         externalAlignment;
}

/// Sebastiano Vigna's splitmix64: any two seeds give unrelated streams, so
/// every parameter has its own and none depends on the size of another.
class Random {
public:
  Random(uint64_t seed, uint64_t stream)
      : state(mix(seed) ^ mix(stream + 0x632be59bd9b4e019)) {}

  uint64_t next() { return mix(state += 0x9e3779b97f4a7c15); }
  /// In (0, 1].
  double uniform() { return ((next() >> 11) + 1) * 0x1p-53; }

private:
  static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  uint64_t state;
};

/// Gives a parameter's values in pieces.
class Values {
public:
  Values(Init init, uint64_t seed, uint64_t stream)
      : init(init), random(seed, stream) {}

  /// `count` is even except in the last call.
  void fill(float *to, size_t count) {
    if (init != Init::Normal) {
      std::fill(to, to + count, init == Init::Ones ? 1.0f : 0.0f);
      return;
    }
    // Box and Muller.
    for (size_t i = 0; i < count; i += 2) {
      double radius = 0.02 * std::sqrt(-2.0 * std::log(random.uniform()));
      double angle = 2.0 * std::numbers::pi * random.uniform();
      to[i] = static_cast<float>(radius * std::cos(angle));
      if (i + 1 < count)
        to[i + 1] = static_cast<float>(radius * std::sin(angle));
    }
  }

private:
  Init init;
  Random random;
};

/// A file that gets its name when it is complete, and vanishes otherwise.
class AsideFile {
public:
  explicit AsideFile(std::string path)
      : path(std::move(path)),
        aside(this->path + ".tmp." + std::to_string(getpid())) {
    // A device or a pipe would be replaced by the rename.
    struct stat status;
    if (stat(this->path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
      error = "cannot write '" + this->path + "': not a regular file";
      return;
    }
    descriptor =
        open(aside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor < 0)
      fail("open");
    else
      created = true;
  }
  AsideFile(const AsideFile &) = delete;
  AsideFile &operator=(const AsideFile &) = delete;
  ~AsideFile() {
    if (descriptor >= 0)
      close(descriptor);
    if (created)
      unlink(aside.c_str());
  }

  int getDescriptor() const { return descriptor; }
  const std::string &getError() const { return error; }

  void write(const char *data, size_t size) {
    while (size && error.empty()) {
      ssize_t written = ::write(descriptor, data, size);
      if (written < 0 && errno == EINTR)
        continue;
      if (written < 0)
        return fail("write");
      data += written;
      size -= static_cast<size_t>(written);
    }
  }

  void fail(const char *what, int code = errno) {
    if (error.empty())
      error = "cannot " + std::string(what) + " '" + path +
              "': " + std::strerror(code);
  }

  /// The bytes are on the disk after this, still under the aside name.
  bool finish() {
    if (error.empty() && fsync(descriptor) != 0 && errno != EINVAL)
      fail("write");
    if (descriptor >= 0 && close(descriptor) != 0)
      fail("write");
    descriptor = -1;
    return error.empty();
  }

  bool rename() {
    if (error.empty() && std::rename(aside.c_str(), path.c_str()) != 0)
      fail("rename");
    if (error.empty())
      created = false;
    return error.empty();
  }

private:
  std::string path, aside, error;
  int descriptor = -1;
  bool created = false;
};

std::string baseName(const std::string &path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

void addEntry(onnx::TensorProto &tensor, const char *key,
              const std::string &value) {
  onnx::StringStringEntryProto &entry = *tensor.add_external_data();
  entry.set_key(key);
  entry.set_value(value);
}

void setType(onnx::ValueInfoProto &value, const std::string &name, int type,
             const std::vector<int64_t> &dims) {
  value.set_name(name);
  onnx::TypeProto_Tensor &tensor = *value.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  tensor.mutable_shape()->add_dim()->set_dim_param("batch");
  for (int64_t dim : dims)
    tensor.mutable_shape()->add_dim()->set_dim_value(dim);
}

} // namespace

std::string checkSizes(const std::vector<Size> &sizes) {
  for (const Size &size : sizes)
    if (size.value == 0 || size.value > size.most)
      return std::string(size.flag) + " is " + std::to_string(size.value) +
             ", expected 1 to " + std::to_string(size.most);
  return "";
}

void addInt(onnx::NodeProto &node, const std::string &name, int64_t value) {
  onnx::AttributeProto &attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::INT);
  attribute.set_i(value);
}

void addFloat(onnx::NodeProto &node, const std::string &name, float value) {
  onnx::AttributeProto &attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::FLOAT);
  attribute.set_f(value);
}

void addInts(onnx::NodeProto &node, const std::string &name,
             const std::vector<int64_t> &values) {
  onnx::AttributeProto &attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::INTS);
  for (int64_t value : values)
    attribute.add_ints(value);
}

ModelWriter::ModelWriter() {
  model.set_ir_version(8);
  model.set_producer_name("tombolo-model");
  onnx::OperatorSetIdProto &opset = *model.add_opset_import();
  opset.set_domain("");
  opset.set_version(17);
  model.mutable_graph()->set_name("main");
}

std::string ModelWriter::input(const std::string &name,
                               const std::vector<int64_t> &dims) {
  setType(*model.mutable_graph()->add_input(), name, onnx::TensorProto::INT64,
          dims);
  return name;
}

void ModelWriter::output(const std::string &name,
                         const std::vector<int64_t> &dims) {
  setType(*model.mutable_graph()->add_output(), name, onnx::TensorProto::FLOAT,
          dims);
}

std::string ModelWriter::parameter(const std::string &name,
                                   const std::vector<uint64_t> &dims,
                                   Init init) {
  onnx::GraphProto &graph = *model.mutable_graph();
  onnx::TensorProto &tensor = *graph.add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  uint64_t elements = 1;
  for (uint64_t dim : dims) {
    tensor.add_dims(static_cast<int64_t>(dim));
    elements *= dim;
  }
  parameters.push_back({graph.initializer_size() - 1, elements, init});
  return name;
}

onnx::NodeProto &ModelWriter::node(const std::string &type,
                                   const std::string &name,
                                   const std::vector<std::string> &operands,
                                   const std::vector<std::string> &results) {
  onnx::NodeProto &node = *model.mutable_graph()->add_node();
  node.set_op_type(type);
  node.set_name(name);
  for (const std::string &operand : operands)
    node.add_input(operand);
  if (results.empty())
    node.add_output(name);
  for (const std::string &result : results)
    node.add_output(result);
  return node;
}

std::string ModelWriter::constant(const std::string &name, float value) {
  onnx::AttributeProto &attribute = *node("Constant", name, {}).add_attribute();
  attribute.set_name("value");
  attribute.set_type(onnx::AttributeProto::TENSOR);
  attribute.mutable_t()->set_data_type(onnx::TensorProto::FLOAT);
  attribute.mutable_t()->add_float_data(value);
  return name;
}

std::string ModelWriter::constant(const std::string &name,
                                  const std::vector<int64_t> &values) {
  onnx::AttributeProto &attribute = *node("Constant", name, {}).add_attribute();
  attribute.set_name("value");
  attribute.set_type(onnx::AttributeProto::TENSOR);
  onnx::TensorProto &tensor = *attribute.mutable_t();
  tensor.set_data_type(onnx::TensorProto::INT64);
  tensor.add_dims(static_cast<int64_t>(values.size()));
  for (int64_t value : values)
    tensor.add_int64_data(value);
  return name;
}

std::string ModelWriter::constant(const std::string &name,
                                  const std::vector<float> &values) {
  onnx::AttributeProto &attribute = *node("Constant", name, {}).add_attribute();
  attribute.set_name("value");
  attribute.set_type(onnx::AttributeProto::TENSOR);
  onnx::TensorProto &tensor = *attribute.mutable_t();
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  tensor.add_dims(static_cast<int64_t>(values.size()));
  for (float value : values)
    tensor.add_float_data(value);
  return name;
}

uint64_t ModelWriter::weightBytes() const {
  uint64_t bytes = 0;
  for (const Parameter &parameter : parameters)
    bytes += parameter.elements * sizeof(float);
  return bytes;
}

void ModelWriter::placeExternally(const std::string &location) {
  uint64_t offset = 0;
  for (const Parameter &parameter : parameters) {
    onnx::TensorProto &tensor =
        *model.mutable_graph()->mutable_initializer(parameter.initializer);
    uint64_t bytes = parameter.elements * sizeof(float);
    tensor.set_data_location(onnx::TensorProto::EXTERNAL);
    addEntry(tensor, "location", location);
    addEntry(tensor, "offset", std::to_string(offset));
    addEntry(tensor, "length", std::to_string(bytes));
    offset = alignExternal(offset + bytes);
  }
}

std::string ModelWriter::write(uint64_t seed, Weights weights,
                               const std::string &path) {
  if (weights == Weights::Auto && weightBytes() > maxInlineBytes)
    weights = Weights::External;

  std::optional<AsideFile> data;
  if (weights == Weights::External) {
    data.emplace(path + ".data");
    std::vector<float> piece(1 << 18);
    uint64_t written = 0;
    for (size_t p = 0; p < parameters.size() && data->getError().empty(); ++p) {
      static constexpr char zeros[externalAlignment] = {};
      data->write(zeros, alignExternal(written) - written);
      written = alignExternal(written);
      Values values(parameters[p].init, seed, p);
      for (uint64_t left = parameters[p].elements;
           left && data->getError().empty();) {
        size_t count = std::min<uint64_t>(left, piece.size());
        values.fill(piece.data(), count);
        data->write(reinterpret_cast<const char *>(piece.data()),
                    count * sizeof(float));
        written += count * sizeof(float);
        left -= count;
      }
    }
    if (!data->finish())
      return data->getError();
    placeExternally(baseName(path) + ".data");
  } else if (weights == Weights::None) {
    // Not the name that a model with weights would use: a file left by one
    // must not pass for this model's weights.
    placeExternally(baseName(path) + ".no-weights");
  } else {
    for (size_t p = 0; p < parameters.size(); ++p) {
      std::string &bytes = *model.mutable_graph()
                                ->mutable_initializer(parameters[p].initializer)
                                ->mutable_raw_data();
      std::vector<float> piece(1 << 18);
      bytes.reserve(parameters[p].elements * sizeof(float));
      Values values(parameters[p].init, seed, p);
      for (uint64_t left = parameters[p].elements; left;) {
        size_t count = std::min<uint64_t>(left, piece.size());
        values.fill(piece.data(), count);
        bytes.append(reinterpret_cast<const char *>(piece.data()),
                     count * sizeof(float));
        left -= count;
      }
    }
  }

  AsideFile file(path);
  if (file.getError().empty()) {
    google::protobuf::io::FileOutputStream stream(file.getDescriptor());
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    bool good = model.SerializeToCodedStream(&coded);
    coded.Trim();
    if (!stream.Flush() || !good || coded.HadError())
      file.fail("write", stream.GetErrno() ? stream.GetErrno() : EIO);
  }
  if (!file.finish() || (data && !data->rename()))
    return data && file.getError().empty() ? data->getError() : file.getError();
  file.rename();
  return file.getError();
}

} // namespace tombolo::models
