//===- ExportTest.cpp - the trained model as ONNX -------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/ExportOnnx.h"

#include "Expect.h"
#include "TinyRun.h"

#include "tombolo/runtime/Checkpoint.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/Onnx.h"
#include "tombolo/schema/onnx_subset.pb.h"

#include <algorithm>
#include <filesystem>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;
using namespace tombolo::onnx_subset;

namespace {

TinyModel twoStages() {
  TinyModel model;
  model.stages = 2;
  return model;
}

std::vector<float> weights(const std::string &path, const std::string &name) {
  OnnxModel model(path);
  const OnnxInitializer *found = model.find(name);
  if (!found)
    return {};
  std::vector<float> values(found->elements);
  model.read(*found, 0, values);
  return values;
}

// Only weights differ: graph, names and shapes are the model's, by its hash.
TEST(ExportOnnx, WritesTheSameGraphWithTrainedWeights) {
  TinyRun run(twoStages());
  run.train(9, run.folder / "c");
  std::string newest = latestCheckpoint(run.folder / "c", 0);
  exportOnnx(run.onnx, newest, run.plan, run.folder / "out.onnx");
  EXPECT_EQ(modelHash(run.folder / "out.onnx"), run.plan.model_hash());
  Weights saved = readCheckpoint(run.plan, newest);
  for (const auto &[name, values] : saved) {
    EXPECT_EQ(weights(run.folder / "out.onnx", name), values) << name;
    EXPECT_NE(values, run.initial[name]) << name;
  }
  exportOnnx(run.onnx, newest, run.plan, run.folder / "again.onnx");
  EXPECT_EQ(readFile(run.folder / "out.onnx", 1 << 20),
            readFile(run.folder / "again.onnx", 1 << 20));
}

// Two parameters that the exporter merged into one initializer, one of them
// behind an Identity, keep their own trained values.
TEST(ExportOnnx, SplitsMergedParameters) {
  TinyRun run(twoStages());
  ModelProto model;
  ASSERT_TRUE(model.ParseFromString(readFile(run.onnx, 1 << 20)));
  GraphProto &graph = *model.mutable_graph();
  // norm.weight becomes Identity(shared).
  TensorProto &shared = *graph.mutable_initializer(1);
  shared.set_name("shared");
  auto *identity = graph.add_node();
  identity->set_op_type("Identity");
  identity->add_input("shared");
  identity->add_output("norm.weight");
  graph.mutable_node()->SwapElements(0, 2);
  writeFile(run.onnx, model.SerializeAsString());
  run.plan.set_model_hash(modelHash(run.onnx));
  run.plan.mutable_programs(1)
      ->mutable_parameters(0)
      ->mutable_initializers()
      ->set_listed(0, "shared");
  run.train(9, run.folder / "c");
  std::string newest = latestCheckpoint(run.folder / "c", 0);
  exportOnnx(run.onnx, newest, run.plan, run.folder / "out.onnx");
  Weights saved = readCheckpoint(run.plan, newest);
  EXPECT_EQ(weights(run.folder / "out.onnx", "norm.weight"),
            saved["norm.weight"]);
  EXPECT_EQ(weights(run.folder / "out.onnx", "table"), saved["table"]);
  ModelProto out;
  ASSERT_TRUE(out.ParseFromString(readFile(run.folder / "out.onnx", 1 << 20)));
  for (const auto &node : out.graph().node())
    EXPECT_NE(node.op_type(), "Identity");
  EXPECT_TRUE(weights(run.folder / "out.onnx", "shared").empty())
      << "nobody uses the merged tensor any more";
}

// Weights beside the model: a new export that fails or is ended leaves the old
// model with its own data, one that succeeds takes its place.
TEST(ExportOnnx, KeepsModelAndDataTogether) {
  TinyRun run(twoStages());
  run.train(4, run.folder / "c");
  std::string first = latestCheckpoint(run.folder / "c", 0);
  run.train(8, run.folder / "c", true);
  std::string second = latestCheckpoint(run.folder / "c", 0);
  std::filesystem::create_directory(run.folder / "o");
  std::string out = run.folder / "o/out.onnx";
  auto files = [&] {
    std::vector<std::string> names;
    for (const auto &entry :
         std::filesystem::directory_iterator(run.folder / "o"))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  };
  ExportOptions beside;
  beside.maxInline = 0;
  exportOnnx(run.onnx, first, run.plan, out, beside);
  std::vector<std::string> before = files();
  ASSERT_EQ(before.size(), 2u);
  Weights saved = readCheckpoint(run.plan, first);
  EXPECT_EQ(weights(out, "table"), saved["table"]);
  int most = 0;
  beside.poll = [&] { ++most; };
  exportOnnx(run.onnx, first, run.plan, out, beside);
  EXPECT_EQ(files(), before) << "the same content has the same name";
  for (int calls = 0; calls < most; ++calls) {
    int left = calls;
    beside.poll = [&] {
      if (left-- == 0)
        throw Error("ended");
    };
    expectError([&] { exportOnnx(run.onnx, second, run.plan, out, beside); },
                "ended");
    ASSERT_EQ(files(), before) << "ended at call " << calls;
    EXPECT_EQ(weights(out, "table"), saved["table"]);
  }
  beside.poll = [] {};
  exportOnnx(run.onnx, second, run.plan, out, beside);
  EXPECT_EQ(files().size(), 2u);
  EXPECT_NE(files(), before);
  EXPECT_EQ(weights(out, "table"), readCheckpoint(run.plan, second)["table"]);
}

TEST(ExportOnnx, RefusesAnotherModelAndLeavesNothing) {
  TinyRun run(twoStages());
  run.train(1, run.folder / "c");
  std::string newest = latestCheckpoint(run.folder / "c", 0);
  expectError(
      [&] { exportOnnx(run.onnx, newest, run.plan, run.folder / "no/o.onnx"); },
      "cannot create");
  Plan other = run.plan;
  other.set_model_hash(std::string(32, 'x'));
  expectError(
      [&] { exportOnnx(run.onnx, newest, other, run.folder / "o.onnx"); },
      "is not the model");
  EXPECT_FALSE(std::filesystem::exists(run.folder / "o.onnx"));
}

} // namespace
