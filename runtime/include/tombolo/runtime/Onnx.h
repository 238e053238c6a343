//===- Onnx.h - the weights of an ONNX file ---------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reads an ONNX file without taking its weights into memory: the file is walked
// field by field, weight bytes are only located.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_ONNX_H
#define TOMBOLO_RUNTIME_ONNX_H

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tombolo::onnx_subset {
class ModelProto;
class TensorProto;
} // namespace tombolo::onnx_subset

namespace tombolo::runtime {

class InputFile;

/// One initializer of the graph and where its data lies.
struct OnnxInitializer {
  std::string name;
  std::vector<std::uint64_t> dims;
  std::uint64_t elements = 1;
  std::int32_t dataType = 0; ///< as TensorProto.DataType: 1 = float
  bool external = false;
  std::string location; ///< external: path, resolved against the model's folder
  /// External, and the file does not exist: a skeleton.
  bool absent = false;
  /// The bytes of the data, in order, in the model or external file.
  struct Extent {
    std::uint64_t offset;
    std::uint64_t bytes;
  };
  std::vector<Extent> extents;
};

class OnnxModel {
public:
  /// Throws Error for a file that is no ONNX model, is truncated, or states
  /// sizes its data does not have.
  explicit OnnxModel(const std::string &path);
  ~OnnxModel();
  OnnxModel(const OnnxModel &) = delete;
  OnnxModel &operator=(const OnnxModel &) = delete;

  const std::string &path() const { return file; }
  const std::map<std::string, OnnxInitializer> &initializers() const {
    return table;
  }
  /// Null when there is none of that name.
  const OnnxInitializer *find(const std::string &name) const;

  /// Elements [begin, begin + out.size()) as f32 (from float, float16,
  /// bfloat16 or double). Throws Error when absent or of another type.
  void read(const OnnxInitializer &initializer, std::uint64_t begin,
            std::span<float> out) const;

  /// SHA-256 of graph, names and shapes: the graph and its opset versions,
  /// canonically serialised, without documentation and without the real-valued
  /// data of initializers (whether inline, external or absent).
  std::string hash() const;

  /// The model without the data of its initializers.
  const onnx_subset::ModelProto &stripped() const { return *proto; }

  /// The raw little-endian bytes of an initializer.
  std::string rawData(const OnnxInitializer &initializer) const;

private:
  const InputFile &open(const OnnxInitializer &initializer) const;
  void readBytes(const OnnxInitializer &initializer, std::uint64_t begin,
                 std::span<std::byte> out) const;
  std::string smallIntegers(const onnx_subset::TensorProto &tensor) const;

  std::string file;
  std::unique_ptr<InputFile> input;
  std::unique_ptr<onnx_subset::ModelProto> proto;
  std::map<std::string, OnnxInitializer> table;
  mutable std::map<std::string, std::unique_ptr<InputFile>> opened;
};

/// `OnnxModel(path).hash()`.
std::string modelHash(const std::string &path);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_ONNX_H
