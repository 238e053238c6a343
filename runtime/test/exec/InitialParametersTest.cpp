//===- InitialParametersTest.cpp - drawing parameters ---------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/InitialParameters.h"

#include "Expect.h"
#include "Temporary.h"
#include "tombolo/runtime/File.h"
#include "tombolo/schema/onnx_subset.pb.h"

#include <cmath>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

TEST(InitialParameters, AreNormalAndDependOnNameAndElement) {
  std::vector<float> all(100000), part(100), other(100), seed(100);
  drawElements(Filling::Normal, 1, "w", 0, all);
  drawElements(Filling::Normal, 1, "w", 500, part);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + 500));
  drawElements(Filling::Normal, 1, "v", 500, other);
  drawElements(Filling::Normal, 2, "w", 500, seed);
  EXPECT_NE(part, other);
  EXPECT_NE(part, seed);
  double mean = 0, square = 0, fourth = 0;
  for (float x : all) {
    mean += x;
    square += double(x) * x;
    fourth += double(x) * x * x * x;
  }
  auto n = static_cast<double>(all.size());
  EXPECT_NEAR(mean / n, 0, 4 * 0.02 / std::sqrt(n));
  EXPECT_NEAR(std::sqrt(square / n), 0.02, 0.0004);
  EXPECT_NEAR(fourth / n / (square / n * square / n), 3, 0.15) << "kurtosis";
}

TEST(InitialParameters, TellNormsAndBiases) {
  TemporaryFolder folder;
  tombolo::onnx_subset::ModelProto proto;
  auto node = [&](const char *op, std::initializer_list<const char *> inputs) {
    auto *node = proto.mutable_graph()->add_node();
    node->set_op_type(op);
    for (const char *input : inputs)
      node->add_input(input);
  };
  node("MatMul", {"x", "onnx::MatMul_1"});
  node("Add", {"y", "onnx::Add_2"});
  node("Mul", {"y", "onnx::Mul_3"});
  node("LayerNormalization", {"y", "p4", "p5"});
  node("Gemm", {"y", "p6", "p7"});
  writeFile(folder / "m.onnx", proto.SerializeAsString());
  OnnxModel model(folder / "m.onnx");
  auto filling = [&](const char *name, std::vector<std::uint64_t> dims = {4}) {
    LocalParameter parameter;
    parameter.name = parameter.initializer = name;
    parameter.dims = dims;
    return fillingOf(model, parameter);
  };
  EXPECT_EQ(filling("h.0.ln_1.weight"), Filling::Ones);
  EXPECT_EQ(filling("h.0.ln1.weight"), Filling::Ones);
  EXPECT_EQ(filling("model.norm.weight"), Filling::Ones);
  EXPECT_EQ(filling("h.0.ln_1.bias"), Filling::Zeros);
  EXPECT_EQ(filling("h.0.attn.c_attn.bias"), Filling::Zeros);
  EXPECT_EQ(filling("h.0.attn.c_attn.weight", {4, 4}), Filling::Normal);
  EXPECT_EQ(filling("wte.weight", {4, 4}), Filling::Normal);
  EXPECT_EQ(filling("lnd.weight", {4, 4}), Filling::Normal);
  EXPECT_EQ(filling("onnx::MatMul_1", {4, 4}), Filling::Normal);
  EXPECT_EQ(filling("onnx::Add_2"), Filling::Zeros);
  EXPECT_EQ(filling("onnx::Mul_3"), Filling::Ones);
  EXPECT_EQ(filling("p4"), Filling::Ones);
  EXPECT_EQ(filling("p5"), Filling::Zeros);
  EXPECT_EQ(filling("p6", {4, 4}), Filling::Normal);
  EXPECT_EQ(filling("p7"), Filling::Zeros);
}

} // namespace
