//===- OnnxTest.cpp - ONNX files, good and hostile ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Onnx.h"
#include "tombolo/runtime/File.h"
#include "tombolo/schema/onnx_subset.pb.h"

#include "Expect.h"
#include "Temporary.h"

#include <fstream>
#include <random>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
using namespace tombolo::onnx_subset;

namespace {

std::string bytesOf(const std::vector<float> &values) {
  return {reinterpret_cast<const char *>(values.data()), values.size() * 4};
}

/// x -> Add(x, w), and an integer constant.
ModelProto sample() {
  ModelProto model;
  GraphProto *graph = model.mutable_graph();
  graph->set_name("g");
  NodeProto *node = graph->add_node();
  node->set_op_type("Add");
  node->add_input("x");
  node->add_input("w");
  node->add_output("y");
  TensorProto *w = graph->add_initializer();
  w->set_name("w");
  w->set_data_type(1);
  w->add_dims(2);
  w->add_dims(3);
  w->set_raw_data(bytesOf({1, 2, 3, 4, 5, 6}));
  TensorProto *shape = graph->add_initializer();
  shape->set_name("shape");
  shape->set_data_type(7);
  shape->add_dims(2);
  shape->add_int64_data(6);
  shape->add_int64_data(-1);
  return model;
}

class Onnx : public testing::Test {
protected:
  std::string write(const ModelProto &model, const char *name = "m.onnx") {
    std::string path = folder / name;
    writeFile(path, model.SerializeAsString());
    return path;
  }
  TensorProto &weight(ModelProto &model) {
    return *model.mutable_graph()->mutable_initializer(0);
  }
  void makeExternal(ModelProto &model, const char *location,
                    const char *offset = "0", const char *length = "24") {
    TensorProto &w = weight(model);
    w.clear_raw_data();
    w.set_data_location(1);
    for (auto [key, value] : {std::pair{"location", location},
                              {"offset", offset},
                              {"length", length}}) {
      StringStringEntry *entry = w.add_external_data();
      entry->set_key(key);
      entry->set_value(value);
    }
  }
  std::vector<float> readAll(const std::string &path) {
    OnnxModel model(path);
    std::vector<float> out(6);
    model.read(*model.find("w"), 0, out);
    return out;
  }
  TemporaryFolder folder;
  const std::vector<float> expected{1, 2, 3, 4, 5, 6};
};

TEST_F(Onnx, ReadsInlineTypedAndExternalWeights) {
  ModelProto model = sample();
  EXPECT_EQ(readAll(write(model)), expected);
  weight(model).clear_raw_data();
  for (float value : expected)
    weight(model).add_float_data(value);
  EXPECT_EQ(readAll(write(model)), expected);
  ModelProto external = sample();
  makeExternal(external, "w.bin", "8");
  writeFile(folder / "w.bin", "12345678" + bytesOf(expected));
  EXPECT_EQ(readAll(write(external)), expected);
  OnnxModel reader(write(external));
  std::vector<float> part(2);
  reader.read(*reader.find("w"), 3, part);
  EXPECT_EQ(part, (std::vector<float>{4, 5}));
}

TEST_F(Onnx, WidensHalfPrecision) {
  ModelProto model = sample();
  weight(model).set_data_type(10);
  std::uint16_t half[] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x0000, 0x3555};
  weight(model).set_raw_data(std::string(reinterpret_cast<char *>(half), 12));
  std::vector<float> out = readAll(write(model));
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -2.0f);
  EXPECT_EQ(out[2], 0x1p-24f);
  EXPECT_EQ(out[3], 65504.0f);
  EXPECT_EQ(out[5], 0.333251953125f);
}

// The hash is the same wherever the weights are and whatever they are.
TEST_F(Onnx, HashIgnoresWeights) {
  ModelProto inlined = sample(), other = sample(), external = sample(),
             skeleton = sample(), typed = sample();
  weight(other).set_raw_data(bytesOf({9, 9, 9, 9, 9, 9}));
  weight(other).set_doc_string("text");
  writeFile(folder / "w.bin", bytesOf(expected));
  makeExternal(external, "w.bin");
  makeExternal(skeleton, "absent.bin");
  weight(typed).clear_raw_data();
  for (float value : expected)
    weight(typed).add_float_data(value);
  std::string hash = modelHash(write(inlined));
  EXPECT_EQ(hash.size(), 32u);
  EXPECT_EQ(modelHash(write(other)), hash);
  EXPECT_EQ(modelHash(write(external)), hash);
  EXPECT_EQ(modelHash(write(skeleton)), hash);
  EXPECT_EQ(modelHash(write(typed)), hash);
}

TEST_F(Onnx, HashSeesGraphNamesShapesAndIntegers) {
  std::string hash = modelHash(write(sample()));
  ModelProto op = sample(), name = sample(), shape = sample(),
             integer = sample(), unknown = sample();
  op.mutable_graph()->mutable_node(0)->set_op_type("Sub");
  weight(name).set_name("v");
  weight(shape).set_dims(0, 3);
  weight(shape).set_dims(1, 2);
  integer.mutable_graph()->mutable_initializer(1)->set_int64_data(0, 3);
  // A node's attribute is a field this schema does not know.
  NodeProto *node = unknown.mutable_graph()->mutable_node(0);
  node->GetReflection()->MutableUnknownFields(node)->AddLengthDelimited(5, "a");
  for (const ModelProto &model : {op, name, shape, integer, unknown})
    EXPECT_NE(modelHash(write(model)), hash);
  // The same integers as raw data are the same graph.
  ModelProto raw = sample();
  std::int64_t values[] = {6, -1};
  TensorProto *constant = raw.mutable_graph()->mutable_initializer(1);
  constant->clear_int64_data();
  constant->set_raw_data(std::string(reinterpret_cast<char *>(values), 16));
  EXPECT_EQ(modelHash(write(raw)), hash);
}

TEST_F(Onnx, RefusesHostileFiles) {
  auto refuse = [&](const ModelProto &model, const char *message) {
    std::string path = write(model);
    expectError([&] { readAll(path); }, message);
  };
  ModelProto shortData = sample(), negative = sample(), huge = sample(),
             twice = sample(), climbing = sample(), absolute = sample(),
             past = sample(), wrongLength = sample(), noNumber = sample(),
             skeleton = sample();
  weight(shortData).set_raw_data("1234");
  refuse(shortData, "expected 24 bytes of data, got 4");
  weight(negative).set_dims(0, -2);
  refuse(negative, "negative dimension");
  weight(huge).set_dims(0, INT64_MAX);
  refuse(huge, "too large");
  *twice.mutable_graph()->add_initializer() = twice.graph().initializer(0);
  refuse(twice, "stands twice");
  makeExternal(climbing, "../w.bin");
  refuse(climbing, "inside the model's folder");
  makeExternal(absolute, "/etc/passwd");
  refuse(absolute, "inside the model's folder");
  writeFile(folder / "w.bin", bytesOf({1, 2, 3, 4, 5, 6}));
  makeExternal(past, "w.bin", "18446744073709551600");
  refuse(past, "the file has 24");
  makeExternal(wrongLength, "w.bin", "0", "20");
  refuse(wrongLength, "expected 24 bytes of external data, got 20");
  makeExternal(noNumber, "w.bin", "-1");
  refuse(noNumber, "expected a number");
  makeExternal(skeleton, "absent.bin");
  refuse(skeleton, "--init SEED");
  writeFile(folder / "text", "this is no model at all");
  expectError([&] { OnnxModel model(folder / "text"); }, "not an ONNX model");
  writeFile(folder / "empty", "");
  expectError([&] { OnnxModel model(folder / "empty"); }, "no graph");
}

// Cut anywhere or flipped anywhere: an Error or a model, never a crash.
TEST_F(Onnx, SurvivesDamage) {
  std::string bytes = sample().SerializeAsString();
  std::mt19937 random(3);
  for (std::size_t i = 0; i < bytes.size() + 600; ++i) {
    std::string damaged = bytes.substr(0, std::min(i, bytes.size()));
    if (i > bytes.size())
      damaged[random() % damaged.size()] = static_cast<char>(random());
    std::ofstream(folder / "d.onnx", std::ios::binary) << damaged;
    try {
      OnnxModel model(folder / "d.onnx");
      model.hash();
    } catch (const Error &) {
    }
  }
}

} // namespace
