//===- PlanSummaryTest.cpp - what tombolo-plan tells about a plan ---------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Target/PlanSummary.h"
#include "../Planning/Fixtures.h"
#include "tombolo/Import/Strategy.h"
#include "tombolo/Planning/Explain.h"

#include "llvm/Support/JSON.h"

#include <gtest/gtest.h>

using namespace tombolo;
using namespace tombolo::planning;
using namespace tombolo::planning::test;

namespace {

/// Every key of strategy.yaml, with names that need quotes.
Strategy fullStrategy() {
  Strategy strategy;
  strategy.islands = {island(8, 2, {3, 5}, 2), island(16, 2, {8})};
  strategy.islands[0].sites = {"null", "a b\"c"};
  strategy.islands[0].innerSteps = 4;
  strategy.islands[0].stages[0].recompute = {Recompute::Blocks, 2};
  strategy.islands[0].stages[1].recompute.kind = Recompute::Full;
  strategy.islands[0].stages[1].optimizerSharding = true;
  strategy.islands[0].stages[1].replicas.push_back({"1/2", 1, 4, 3});
  strategy.islands[1].schedule = Schedule::ZeroBubble;
  strategy.server.emplace();
  strategy.server->compression = Compression::Int4;
  strategy.server->outerLearningRate = 0.1 + 0.2;
  strategy.server->placement = {{0, {"s", "t"}}, {3, {"t", ""}}};
  strategy.server->fragments = 4;
  strategy.server->witness = "s";
  Sharding &sharding = strategy.shardings.emplace_back();
  sharding.block = 1;
  sharding.tensorParallel = 4;
  sharding.parameters = {{"h.0.attn.qkv.weight", {1, 3}},
                         {"null", {0, 1}},
                         {"h.0.ln.weight", {}}};
  sharding.inputs = {{}, {1, 1}};
  sharding.outputs = {{1, 2}};
  sharding.ops = {{OpSeed::Forward, 3, 2, 3},
                  {OpSeed::BackwardInput, 0, -1, 1},
                  {OpSeed::BackwardWeight, 7, -3, 1}};
  return strategy;
}

TEST(StrategyYamlTest, ReadsBackTheSame) {
  std::string text, errors;
  llvm::raw_string_ostream os(text), stream(errors);
  Strategy strategy = fullStrategy();
  writeStrategyYaml(os, strategy);
  auto file = readStrategy(YamlFile("s.yaml", os.str()), stream);
  ASSERT_TRUE(file.has_value()) << stream.str() << os.str();
  EXPECT_TRUE(file->pins.isWhole());
  std::string again;
  llvm::raw_string_ostream second(again);
  Strategy back;
  for (const IslandPins &from : *file->pins.islands) {
    Island island;
    island.sites = from.sites;
    island.batch = *from.batch;
    island.microbatch = *from.microbatch;
    island.schedule = *from.schedule;
    island.chunks = *from.chunks;
    island.innerSteps = from.innerSteps;
    for (const StagePins &stage : *from.stages)
      island.stages.push_back({*stage.blocks, *stage.recompute,
                               *stage.optimizerSharding, stage.replicas});
    back.islands.push_back(island);
  }
  EXPECT_EQ(back.islands, strategy.islands);
  const ServerPins &server = *file->pins.server;
  EXPECT_EQ(server.outerLearningRate, strategy.server->outerLearningRate);
  EXPECT_EQ(*server.placement, strategy.server->placement);
  EXPECT_EQ(server.compression, Compression::Int4);
  EXPECT_EQ(server.witness, "s");
  EXPECT_EQ(file->pins.shardings, strategy.shardings);
}

TEST(StrategyYamlTest, ReadsBackTheSameAdamW) {
  Strategy strategy = fullStrategy();
  strategy.server = Server::with(OuterOptimizer::AdamW);
  strategy.server->outerEpsilon = 0.1 + 0.2;
  strategy.server->outerBeta2 = 0.75;
  std::string text, errors;
  llvm::raw_string_ostream os(text), stream(errors);
  writeStrategyYaml(os, strategy);
  auto file = readStrategy(YamlFile("s.yaml", os.str()), stream);
  ASSERT_TRUE(file.has_value()) << stream.str() << os.str();
  EXPECT_EQ(file->pins.server->outer, OuterOptimizer::AdamW);
  EXPECT_EQ(file->pins.server->outerMomentum, 0.9);
  EXPECT_EQ(file->pins.server->outerBeta2, 0.75);
  EXPECT_EQ(file->pins.server->outerEpsilon, 0.1 + 0.2);
  EXPECT_EQ(file->pins.server->outerWeightDecay, 0.01);
}

TEST(StrategyYamlTest, FaultsOfShardingsNameTheirPlace) {
  for (auto [text, fault] :
       {std::pair("sharding:\n  - {block: 0}\n", "2:5: error: missing required "
                                                 "key 'tensor_parallel'"),
        {"sharding:\n  - {block: 0, tensor_parallel: 1}\n",
         "2:33: error: 'tensor_parallel' must be at least 2, got 1"},
        {"sharding:\n  - block: 0\n    tensor_parallel: 2\n    parameters:\n"
         "      a.b.c: {outer: 3}\n",
         "5:22: error: 'outer' needs 'dim'"},
        {"sharding:\n  - {block: 0, tensor_parallel: 2, ops: [{function: up, "
         "op: 0}]}\n",
         "expected forward, backward_input or backward_weight"},
        {"sharding:\n  - {block: 0, tensor_parallel: 2}\n"
         "  - {block: 0, tensor_parallel: 2}\n",
         "3:5: error: block 0 has a second sharding for tensor_parallel 2"}}) {
    std::string errors;
    llvm::raw_string_ostream stream(errors);
    EXPECT_FALSE(readStrategy(YamlFile("s.yaml", text), stream).has_value());
    EXPECT_NE(stream.str().find(fault), std::string::npos) << stream.str();
  }
}

TEST(SummaryTest, JsonHasTheNamesOfTheDesign) {
  Problem problem = equalBlocks(4, 8);
  SearchResult result = search(problem, StrategyPins());
  ASSERT_FALSE(result.strategies.empty());
  result.alternatives = alternatives(result);
  std::string text;
  llvm::raw_string_ostream os(text);
  writeSummaryJson(os, result, result.strategies[0]);
  auto parsed = llvm::json::parse(os.str());
  ASSERT_TRUE(bool(parsed)) << os.str();
  const llvm::json::Object &root = *parsed->getAsObject();
  const llvm::json::Object *predicted = root.getObject("predicted");
  ASSERT_TRUE(predicted);
  EXPECT_GT(*predicted->getNumber("step_seconds"), 0);
  EXPECT_GT(*predicted->getNumber("tokens_per_second"), 0);
  EXPECT_TRUE(predicted->get("equivalent_compute")->getAsNull());
  EXPECT_EQ(*predicted->getNumber("wan_bytes_per_round"), 0);
  EXPECT_TRUE(predicted->getNumber("bubble_fraction"));
  const Island &best = result.strategies[0].strategy.islands[0];
  EXPECT_EQ(
      predicted->getArray("peak_memory_bytes")->front().getAsArray()->size(),
      best.stages.size());
  EXPECT_EQ(*root.getObject("search")->getInteger("candidates"),
            static_cast<int64_t>(result.candidates));
  EXPECT_TRUE(root.getObject("search")->getBoolean("optimal"));
  EXPECT_EQ(root.getObject("strategy")->getArray("islands")->size(), 1u);
  // What was kept, the strategy itself first.
  const llvm::json::Array &alternatives =
      *root.getObject("search")->getArray("alternatives");
  ASSERT_EQ(alternatives.size(), result.strategies.size());
  const llvm::json::Object &first = *alternatives[0].getAsObject();
  EXPECT_EQ(*first.getNumber("step_seconds"),
            *predicted->getNumber("step_seconds"));
  EXPECT_GT(*first.getNumber("memory_fraction"), 0);
  EXPECT_LE(*first.getNumber("memory_fraction"), 1);
  EXPECT_NE(first.getString("strategy")->find("blocks"), llvm::StringRef::npos);
}

TEST(SummaryTest, TableShowsEveryStage) {
  Problem problem = equalBlocks(4, 8);
  Strategy strategy;
  strategy.islands = {island(8, 2, {3, 5}, 2)};
  Candidate candidate{strategy, evaluate(problem, strategy)};
  candidate.prediction.equivalentCompute = 0.95;
  std::string text;
  llvm::raw_string_ostream os(text);
  printPlanTable(os, candidate);
  os.flush();
  for (const char *part :
       {"memory per chip", "     0      0  s/p          2   1       3  none",
        "     0      1  s/p          2   1       5  none",
        "island 0 (s): batch 8, microbatch 2, 1f1b, 4 chips, step", "tokens/s",
        "equivalent compute: 0.950"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

TEST(SummaryTest, TableJoinsLikeStages) {
  Problem problem = equalBlocks(4, 8);
  Strategy strategy;
  strategy.islands = {island(8, 2, {2, 2, 2, 2})};
  Candidate candidate{strategy, evaluate(problem, strategy)};
  std::string text;
  llvm::raw_string_ostream os(text);
  printPlanTable(os, candidate);
  EXPECT_NE(os.str().find("     0    0-3  s/p          1   1       2  none"),
            std::string::npos)
      << text;
}

} // namespace
