//===- GraphToPlanningTest.cpp - what a model's blocks cost ---------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Conversion/GraphToPlanning.h"
#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

#include <gtest/gtest.h>

using namespace tombolo;
using planning::Affine;

namespace {

/// Two equal layers and a head; the head and the first layer share a matrix.
const char *kModel = R"(
graph.parameter @w0 : tensor<64x64xf32> from "w0"
graph.parameter @w1 : tensor<64x64xf32> from "w1"
func.func private @layer(%x: tensor<?x3x64xf32>, %w: tensor<64x64xf32> {graph.parameter = "trainable"}) -> tensor<?x3x64xf32> attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x3x64xf32>, tensor<64x64xf32> to tensor<?x3x64xf32>
  %1 = graph.gelu %0 : tensor<?x3x64xf32>
  return %1 : tensor<?x3x64xf32>
}
func.func private @head(%x: tensor<?x3x64xf32>, %l: tensor<?x3xi64> {graph.label = "labels"}, %w: tensor<64x64xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x3x64xf32>, tensor<64x64xf32> to tensor<?x3x64xf32>
  %loss, %weights, %lse = graph.cross_entropy %0, %l : tensor<?x3x64xf32>, tensor<?x3xi64> to tensor<f32>, tensor<f32>, tensor<?x3xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%x: tensor<?x3x64xf32> {graph.input = "x"}, %l: tensor<?x3xi64> {graph.label = "labels"}) -> (tensor<f32>, tensor<f32>) {
  %w0 = graph.get_parameter @w0 : tensor<64x64xf32>
  %w1 = graph.get_parameter @w1 : tensor<64x64xf32>
  %0 = func.call @layer(%x, %w0) : (tensor<?x3x64xf32>, tensor<64x64xf32>) -> tensor<?x3x64xf32>
  %1 = func.call @layer(%0, %w1) : (tensor<?x3x64xf32>, tensor<64x64xf32>) -> tensor<?x3x64xf32>
  %2:2 = func.call @head(%1, %l, %w0) : (tensor<?x3x64xf32>, tensor<?x3xi64>, tensor<64x64xf32>) -> (tensor<f32>, tensor<f32>)
  return %2#0, %2#1 : tensor<f32>, tensor<f32>
}
)";

class GraphToPlanningTest : public testing::Test {
protected:
  void SetUp() override {
    context.loadDialect<mlir::func::FuncDialect, graph::GraphDialect>();
    graph::registerGraphPasses();
    module = mlir::parseSourceString<mlir::ModuleOp>(kModel, &context);
    ASSERT_TRUE(module);
    mlir::PassManager manager(&context);
    ASSERT_TRUE(mlir::succeeded(
        mlir::parsePassPipeline("graph-differentiate", manager)));
    ASSERT_TRUE(mlir::succeeded(manager.run(*module)));
  }
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

TEST_F(GraphToPlanningTest, CountsEachKindOnce) {
  auto profile = profileModel(*module, planning::Precision::F32);
  ASSERT_TRUE(mlir::succeeded(profile));
  EXPECT_TRUE(profile->check().empty());
  ASSERT_EQ(profile->kinds.size(), 2u);
  EXPECT_EQ(profile->runs, (std::vector<planning::BlockRun>{{0, 2}, {1, 1}}));
  EXPECT_EQ(profile->tokensPerSample, 3u);

  const planning::BlockKind &layer = profile->kinds[0];
  EXPECT_EQ(layer.trainableCount, 4096u);
  EXPECT_EQ(layer.parameterBytes, 16384u);
  double activation = 3 * 64 * 4;
  EXPECT_EQ(layer.inputBytes, (Affine{0, activation}));
  EXPECT_EQ(layer.outputBytes, (Affine{0, activation}));
  EXPECT_EQ(layer.savedBytes, (Affine{0, activation})); // before GELU
  EXPECT_EQ(layer.feedBytes, Affine());
  // The product takes 2 x 3 x 64 x 64 operations per sample each way.
  double product = 2.0 * 3 * 64 * 64;
  EXPECT_GE(layer.forward.flops.perSample, product);
  EXPECT_LT(layer.forward.flops.perSample, 1.2 * product);
  EXPECT_GE(layer.backwardInput.flops.perSample, product);
  EXPECT_GE(layer.backwardWeight.flops.perSample, product);
  // Reading the matrix costs the same for any batch.
  EXPECT_GE(layer.forward.bytes.constant, 16384);

  const planning::BlockKind &head = profile->kinds[1];
  EXPECT_EQ(head.outputBytes, Affine());
  EXPECT_EQ(head.feedBytes, (Affine{0, 3 * 8}));
}

TEST_F(GraphToPlanningTest, FindsTiedParameters) {
  auto profile = profileModel(*module, planning::Precision::F32);
  ASSERT_TRUE(mlir::succeeded(profile));
  ASSERT_EQ(profile->ties.size(), 1u);
  EXPECT_EQ(profile->ties[0], (planning::TiedParameter{"w0", 4096, {0, 2}}));
  EXPECT_EQ(profile->parameterCount(), 2 * 4096);
}

TEST_F(GraphToPlanningTest, Bf16HalvesActivationsAndLeavesTheModuleAlone) {
  std::string before, after;
  llvm::raw_string_ostream first(before), second(after);
  module->print(first);
  auto profile = profileModel(*module, planning::Precision::BF16);
  ASSERT_TRUE(mlir::succeeded(profile));
  EXPECT_EQ(profile->kinds[0].inputBytes, (Affine{0, 3 * 64 * 2}));
  EXPECT_EQ(profile->kinds[0].parameterBytes, 16384u);
  module->print(second);
  EXPECT_EQ(first.str(), second.str());
}

TEST_F(GraphToPlanningTest, SaysWhatIsMissing) {
  auto empty = mlir::parseSourceString<mlir::ModuleOp>("module {}", &context);
  std::string message;
  mlir::ScopedDiagnosticHandler handler(&context,
                                        [&](mlir::Diagnostic &diagnostic) {
                                          message = diagnostic.str();
                                          return mlir::success();
                                        });
  EXPECT_TRUE(mlir::failed(profileModel(*empty, planning::Precision::F32)));
  EXPECT_EQ(message, "expected a function @main of block calls");
}

} // namespace
