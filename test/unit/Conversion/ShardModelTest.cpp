//===- ShardModelTest.cpp - the cheapest sharding of small models ---------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Conversion/GraphToPlanning.h"
#include "tombolo/Conversion/ShardModel.h"
#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

#include <gtest/gtest.h>

using namespace tombolo;
using planning::Collective;
using planning::ShardingState;

namespace {

/// Two residual layers of two matrices each, and a head.
const char *kShardedModel = R"(
graph.parameter @a0 : tensor<1024x4096xf32> from "a0"
graph.parameter @b0 : tensor<4096x1024xf32> from "b0"
graph.parameter @a1 : tensor<1024x4096xf32> from "a1"
graph.parameter @b1 : tensor<4096x1024xf32> from "b1"
graph.parameter @h : tensor<1024x50000xf32> from "h"
func.func private @layer(%x: tensor<?x512x1024xf32>, %a: tensor<1024x4096xf32> {graph.parameter = "trainable"}, %b: tensor<4096x1024xf32> {graph.parameter = "trainable"}) -> tensor<?x512x1024xf32> attributes {graph.block} {
  %0 = graph.matmul %x, %a : tensor<?x512x1024xf32>, tensor<1024x4096xf32> to tensor<?x512x4096xf32>
  %1 = graph.gelu %0 : tensor<?x512x4096xf32>
  %2 = graph.matmul %1, %b : tensor<?x512x4096xf32>, tensor<4096x1024xf32> to tensor<?x512x1024xf32>
  %3 = graph.add %x, %2 : tensor<?x512x1024xf32>, tensor<?x512x1024xf32> to tensor<?x512x1024xf32>
  return %3 : tensor<?x512x1024xf32>
}
func.func private @head(%x: tensor<?x512x1024xf32>, %l: tensor<?x512xi64> {graph.label = "labels"}, %w: tensor<1024x50000xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %0 = graph.matmul %x, %w : tensor<?x512x1024xf32>, tensor<1024x50000xf32> to tensor<?x512x50000xf32>
  %loss, %weights, %lse = graph.cross_entropy %0, %l : tensor<?x512x50000xf32>, tensor<?x512xi64> to tensor<f32>, tensor<f32>, tensor<?x512xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%x: tensor<?x512x1024xf32> {graph.input = "x"}, %l: tensor<?x512xi64> {graph.label = "labels"}) -> (tensor<f32>, tensor<f32>) {
  %a0 = graph.get_parameter @a0 : tensor<1024x4096xf32>
  %b0 = graph.get_parameter @b0 : tensor<4096x1024xf32>
  %a1 = graph.get_parameter @a1 : tensor<1024x4096xf32>
  %b1 = graph.get_parameter @b1 : tensor<4096x1024xf32>
  %h = graph.get_parameter @h : tensor<1024x50000xf32>
  %0 = func.call @layer(%x, %a0, %b0) : (tensor<?x512x1024xf32>, tensor<1024x4096xf32>, tensor<4096x1024xf32>) -> tensor<?x512x1024xf32>
  %1 = func.call @layer(%0, %a1, %b1) : (tensor<?x512x1024xf32>, tensor<1024x4096xf32>, tensor<4096x1024xf32>) -> tensor<?x512x1024xf32>
  %2:2 = func.call @head(%1, %l, %h) : (tensor<?x512x1024xf32>, tensor<?x512xi64>, tensor<1024x50000xf32>) -> (tensor<f32>, tensor<f32>)
  return %2#0, %2#1 : tensor<f32>, tensor<f32>
}
)";

/// An embedding whose table is the head's matrix as well.
const char *kTied = R"(
graph.parameter @t : tensor<50000x1024xf32> from "t"
func.func private @embed(%i: tensor<?x512xi64> {graph.input = "i"}, %t: tensor<50000x1024xf32> {graph.parameter = "trainable"}) -> tensor<?x512x1024xf32> attributes {graph.block} {
  %0 = graph.gather %t, %i {axis = 0} : tensor<50000x1024xf32>, tensor<?x512xi64> to tensor<?x512x1024xf32>
  return %0 : tensor<?x512x1024xf32>
}
func.func private @head(%x: tensor<?x512x1024xf32>, %l: tensor<?x512xi64> {graph.label = "labels"}, %t: tensor<50000x1024xf32> {graph.parameter = "trainable"}) -> (tensor<f32>, tensor<f32>) attributes {graph.block} {
  %w = graph.transpose %t, [1, 0] : tensor<50000x1024xf32> to tensor<1024x50000xf32>
  %0 = graph.matmul %x, %w : tensor<?x512x1024xf32>, tensor<1024x50000xf32> to tensor<?x512x50000xf32>
  %loss, %weights, %lse = graph.cross_entropy %0, %l : tensor<?x512x50000xf32>, tensor<?x512xi64> to tensor<f32>, tensor<f32>, tensor<?x512xf32>
  return %loss, %weights : tensor<f32>, tensor<f32>
}
func.func @main(%i: tensor<?x512xi64> {graph.input = "i"}, %l: tensor<?x512xi64> {graph.label = "labels"}) -> (tensor<f32>, tensor<f32>) {
  %t = graph.get_parameter @t : tensor<50000x1024xf32>
  %0 = func.call @embed(%i, %t) : (tensor<?x512xi64>, tensor<50000x1024xf32>) -> tensor<?x512x1024xf32>
  %1:2 = func.call @head(%0, %l, %t) : (tensor<?x512x1024xf32>, tensor<?x512xi64>, tensor<50000x1024xf32>) -> (tensor<f32>, tensor<f32>)
  return %1#0, %1#1 : tensor<f32>, tensor<f32>
}
)";

planning::ShardingDemand demandOf(uint64_t chips) {
  planning::ShardingDemand demand;
  demand.tensorParallel = chips;
  demand.flopsPerSecond = 2e14;
  demand.bytesPerSecond = 2e12;
  demand.wire = {3e11, 3e-6, false};
  demand.microbatch = 2;
  demand.microbatches = 8;
  demand.path = "degree";
  return demand;
}

class ShardModelTest : public testing::Test {
protected:
  void SetUp() override {
    context.loadDialect<mlir::func::FuncDialect, graph::GraphDialect>();
    graph::registerGraphPasses();
    load(kShardedModel);
  }
  void load(const char *text) {
    module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    ASSERT_TRUE(module);
    mlir::PassManager manager(&context);
    ASSERT_TRUE(mlir::succeeded(
        mlir::parsePassPipeline("graph-differentiate", manager)));
    ASSERT_TRUE(mlir::succeeded(manager.run(*module)));
    auto made = profileModel(*module, planning::Precision::F32);
    ASSERT_TRUE(mlir::succeeded(made));
    profile = std::move(*made);
  }
  planning::Faults shard(std::vector<planning::ShardingDemand> demands,
                         std::vector<planning::Sharding> pins = {}) {
    auto faults = shardModel(*module, profile, demands, pins,
                             ShardingSource::Search, &reports);
    EXPECT_TRUE(mlir::succeeded(faults));
    return mlir::succeeded(faults) ? *faults : planning::Faults();
  }
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  planning::ModelProfile profile;
  std::vector<ShardingReport> reports;
};

TEST_F(ShardModelTest, FindsColumnsThenRowsAndTheVocabulary) {
  EXPECT_TRUE(shard({demandOf(4)}).empty());
  ASSERT_EQ(profile.shardings.size(), 2u);
  const planning::Sharding &layer = profile.shardings[0];
  EXPECT_EQ(layer.block, 0u);
  EXPECT_EQ(layer.tensorParallel, 4u);
  EXPECT_EQ(layer.parameters, (std::map<std::string, ShardingState>{
                                  {"a0", {1, 1}}, {"b0", {0, 1}}}));
  EXPECT_EQ(layer.inputs, std::vector<ShardingState>(1));
  EXPECT_EQ(layer.outputs, std::vector<ShardingState>(1));
  const planning::Sharding &head = profile.shardings[1];
  EXPECT_EQ(head.block, 2u);
  EXPECT_EQ(head.parameters,
            (std::map<std::string, ShardingState>{{"h", {1, 1}}}));
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_TRUE(reports[0].proven);
  EXPECT_TRUE(reports[0].reproduced);
}

TEST_F(ShardModelTest, CollectivesEqualTheClosedForms) {
  EXPECT_TRUE(shard({demandOf(4)}).empty());
  const planning::BlockKind *layer = profile.kinds[0].on(4);
  ASSERT_TRUE(layer);
  // One sum of the activation each way, 2 (k - 1) / k of its bytes from each
  // chip, be it in one or as parts that are added to the residual and gathered.
  double activation = 512.0 * 1024 * 4;
  for (const planning::Work *work : {&layer->forward, &layer->backwardInput}) {
    EXPECT_EQ(work->sentBytes(4, 2), 2 * 0.75 * activation * 2);
    EXPECT_EQ(work->of(Collective::AllToAll), planning::Exchange());
    EXPECT_EQ(work->of(Collective::AllReduce).count +
                  work->of(Collective::ReduceScatter).count,
              1);
  }
  EXPECT_EQ(layer->backwardWeight.exchanges,
            (std::array<planning::Exchange, planning::kCollectives>()));
  // A quarter of matrices and of what is computed with them.
  EXPECT_EQ(layer->parameterCount, 2u * 1024 * 1024);
  EXPECT_EQ(layer->partialGradientBytes, 0u);
  EXPECT_NEAR(layer->forward.flops.perSample,
              profile.kinds[0].forward.flops.perSample / 4,
              0.01 * layer->forward.flops.perSample);
  EXPECT_EQ(layer->inputBytes, profile.kinds[0].inputBytes);
  // The head gathers a figure or two for each token, never the logits.
  const planning::BlockKind *head = profile.kinds[1].on(4);
  ASSERT_TRUE(head);
  EXPECT_LT(head->forward.sentBytes(4, 1), 100.0 * 512);
}

TEST_F(ShardModelTest, SplitsATiedEmbeddingByVocabulary) {
  load(kTied);
  EXPECT_TRUE(shard({demandOf(4)}).empty());
  ASSERT_EQ(profile.shardings.size(), 2u);
  for (const planning::Sharding &sharding : profile.shardings)
    EXPECT_EQ(sharding.parameters,
              (std::map<std::string, ShardingState>{{"t", {0, 1}}}));
  EXPECT_TRUE(reports[0].reproduced);
  // One sum of what was looked up; the logits stay where they are.
  double looked = 512.0 * 1024 * 4;
  EXPECT_LE(profile.kinds[0].on(4)->forward.sentBytes(4, 1),
            2 * 0.75 * looked);
  EXPECT_LT(profile.kinds[1].on(4)->forward.sentBytes(4, 1), looked);
}

TEST_F(ShardModelTest, FiguresAreThereForEachDegree) {
  EXPECT_TRUE(shard({demandOf(2), demandOf(8)}).empty());
  EXPECT_TRUE(profile.check().empty());
  EXPECT_EQ(profile.shardings.size(), 4u);
  EXPECT_TRUE(profile.kinds[0].on(2));
  EXPECT_TRUE(profile.kinds[0].on(8));
  EXPECT_FALSE(profile.kinds[0].on(4));
}

TEST_F(ShardModelTest, KeepsWhatIsPinned) {
  planning::Sharding pin;
  pin.block = 0;
  pin.tensorParallel = 4;
  pin.inputs = {{1, 1}};
  EXPECT_TRUE(shard({demandOf(4)}, {pin}).empty());
  // One tensor from layer to layer and to the head: all of them are split.
  EXPECT_EQ(profile.shardings[0].inputs, pin.inputs);
  EXPECT_EQ(profile.shardings[0].outputs, pin.inputs);
  ASSERT_EQ(profile.shardings[1].inputs.size(), 2u);
  EXPECT_EQ(profile.shardings[1].inputs[0], pin.inputs[0]);
  // Gathered before the first product, scattered after the second.
  const planning::BlockKind *layer = profile.kinds[0].on(4);
  ASSERT_TRUE(layer);
  EXPECT_EQ(layer->forward.of(Collective::AllReduce), planning::Exchange());
  EXPECT_EQ(layer->inputBytes.perSample,
            profile.kinds[0].inputBytes.perSample / 4);
  // The same again from what was found.
  auto seeds = profile.shardings;
  profile.shardings.clear();
  profile.kinds[0].sharded.clear();
  profile.kinds[1].sharded.clear();
  EXPECT_TRUE(shard({demandOf(4)}, seeds).empty());
  EXPECT_EQ(profile.shardings[0].parameters, seeds[0].parameters);
  EXPECT_TRUE(reports.back().reproduced);
}

TEST_F(ShardModelTest, SaysWhichDimensionsWereTried) {
  auto faults = shard({demandOf(7)});
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].path, "degree");
  EXPECT_EQ(faults[0].message.rfind("tensor_parallel 7 divides no dimension of "
                                    "the model that can be split; tried ",
                                    0),
            0u)
      << faults[0].message;
  for (const char *size : {"512 (", "1024 (", "4096 (", "50000 ("})
    EXPECT_NE(faults[0].message.find(size), std::string::npos) << size;
}

TEST_F(ShardModelTest, SaysWhichPinDoesNotFit) {
  planning::Sharding pin;
  pin.block = 0;
  pin.tensorParallel = 4;
  pin.parameters["a0"] = {2, 1};
  auto faults = shard({demandOf(4)}, {pin});
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults[0].path, "sharding[0].parameters.a0");
  EXPECT_EQ(faults[0].message, "parameter 'a0' of type tensor<1024x4096xf32> "
                               "cannot be 'split 2' over 4 chips");
}

} // namespace
