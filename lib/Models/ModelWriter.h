//===- ModelWriter.h - build an ONNX model and write it ---------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_MODELS_MODELWRITER_H
#define TOMBOLO_LIB_MODELS_MODELWRITER_H

#include "tombolo/Models/Weights.h"

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace tombolo::models {

/// How a parameter starts.
enum class Init { Normal, Zeros, Ones };

/// Collects nodes and parameters of a model, then writes both. Node names are
/// those of their results.
class ModelWriter {
public:
  ModelWriter();

  /// An int64 input whose first dimension is the batch.
  std::string input(const std::string &name, const std::vector<int64_t> &dims);
  /// A float output whose first dimension is the batch.
  void output(const std::string &name, const std::vector<int64_t> &dims);
  /// A trained tensor of floats.
  std::string parameter(const std::string &name,
                        const std::vector<uint64_t> &dims, Init init);
  std::string constant(const std::string &name, float value);
  std::string constant(const std::string &name,
                       const std::vector<int64_t> &values);
  std::string constant(const std::string &name,
                       std::initializer_list<int64_t> values) {
    return constant(name, std::vector<int64_t>(values));
  }
  std::string constant(const std::string &name,
                       const std::vector<float> &values);
  /// Adds a node; its results are `results`, or one of the node's name. The
  /// reference holds until the next node is added.
  onnx::NodeProto &node(const std::string &type, const std::string &name,
                        const std::vector<std::string> &operands,
                        const std::vector<std::string> &results = {});

  /// See writeGpt.
  std::string write(uint64_t seed, Weights weights, const std::string &path);

private:
  struct Parameter {
    int initializer; ///< index into the graph's initializers
    uint64_t elements;
    Init init;
  };

  uint64_t weightBytes() const;
  void placeExternally(const std::string &location);

  onnx::ModelProto model;
  std::vector<Parameter> parameters;
};

/// A size that was given on the command line.
struct Size {
  const char *flag;
  uint64_t value, most;
};

/// The first size that is 0 or above its bound, in words; or the empty string.
/// The bounds keep every product below 2^63 bytes, and a mistyped figure from
/// filling the disk with node names.
std::string checkSizes(const std::vector<Size> &sizes);

/// Attributes of a node.
void addInt(onnx::NodeProto &node, const std::string &name, int64_t value);
void addFloat(onnx::NodeProto &node, const std::string &name, float value);
void addInts(onnx::NodeProto &node, const std::string &name,
             const std::vector<int64_t> &values);

} // namespace tombolo::models

#endif // TOMBOLO_LIB_MODELS_MODELWRITER_H
