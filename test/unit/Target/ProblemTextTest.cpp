//===- ProblemTextTest.cpp - problems written and read back ---------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Target/ProblemText.h"
#include "../Planning/Fixtures.h"
#include "tombolo/Import/Problem.h"

#include <gtest/gtest.h>

#include <random>

using namespace tombolo;
using namespace tombolo::planning;

namespace {

std::string textOf(const Problem &problem) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  writeProblem(stream, problem);
  return stream.str();
}

std::string errorsOf(const std::string &text) {
  std::string errors;
  llvm::raw_string_ostream stream(errors);
  auto file = readProblem(YamlFile("p.yaml", text), stream);
  EXPECT_EQ(file.has_value(), stream.str().empty());
  return stream.str();
}

/// Something of everything, with numbers that no short decimal has.
Problem everything() {
  Problem problem = test::equalBlocks(4, 6);
  Topology &topology = problem.topology;
  topology.chips[0].pricePerHour = 1.0 / 3;
  topology.chips[0].matmulEfficiency = 0.1 + 0.2;
  topology.chips.push_back(test::chip("1 odd: name", 2, 1e-3));
  topology.chips[1].tflopsBF16.reset();
  Site other = topology.sites[0];
  other.name = "t";
  other.hosts = Hosts{3, 512.5, 1.0 / 7, "10.1.0.1:7000"};
  other.pools.push_back(test::pool("q", "1 odd: name", 2, 2));
  other.pools.back().coresPerNode = 1;
  other.fabric = Wire{100, 0.1};
  other.fabrics = {{"p", "q", {50, 1.0 / 9}}};
  topology.sites.push_back(other);
  topology.links = {{"s", "t", 10, 30, 1e-4}};
  BlockKind &kind = problem.model.kinds[0];
  kind.forward.bytes = {1.0 / 3, 1e21 / 7};
  kind.savedBytes.constant = 12345678.9;
  kind.measured = {
      {"c", {{1, 2, {1.0 / 3, 0, 3e-06}}, {4, 1, {1, 2, 3}}}, {1.0 / 3, 1, 2}}};
  BlockKind half = test::kind("half", 1e11, 7, 8, 9);
  half.tensorParallel = 2;
  half.partialGradientBytes = 12;
  half.backwardInput.of(Collective::ReduceScatter) = {2, {0.5, 1.0 / 3}};
  kind.sharded = {half};
  problem.model.kinds.push_back(test::kind("head", 1, 2, 3, 4));
  problem.model.runs = {{0, 5}, {1, 1}};
  problem.model.ties = {{"wte.weight", 77, {0, 5}}};
  problem.bounds.innerSteps = 8;
  problem.bounds.overlapSteps = 0;
  problem.bounds.compression = Compression::BF16;
  problem.bounds.wanGbits = 0.3;
  problem.bounds.schedule = Schedule::GPipe;
  problem.bounds.objective = Objective::Cost;
  problem.bounds.memoryMargin = 1.0 / 30;
  problem.bounds.tiesAcrossStages = true;
  problem.bounds.candidates = 4;
  problem.bounds.searchNodes = 17;
  EXPECT_TRUE(problem.check().empty());
  return problem;
}

TEST(ProblemTextTest, ReadsBackTheSameProblem) {
  for (const Problem &problem : {everything(), test::equalBlocks(2, 3)}) {
    std::string errors, text = textOf(problem);
    llvm::raw_string_ostream stream(errors);
    auto read = readProblem(YamlFile("p.yaml", text), stream);
    ASSERT_TRUE(read.has_value()) << stream.str() << text;
    EXPECT_EQ(read->problem.topology, problem.topology);
    EXPECT_EQ(read->problem.model, problem.model);
    EXPECT_EQ(read->problem.training.globalBatch, problem.training.globalBatch);
    EXPECT_EQ(read->problem.training.optimizerStateBytesPerParameter,
              problem.training.optimizerStateBytesPerParameter);
    // All else that is in a problem is in its text.
    EXPECT_EQ(textOf(read->problem), text);
  }
}

TEST(ProblemTextTest, NamesThePlaceOfAFault) {
  std::string text = textOf(test::equalBlocks(2, 3));
  auto replaced = [&](const std::string &from, const std::string &to) {
    size_t place = text.find(from);
    EXPECT_NE(place, std::string::npos) << from;
    return std::string(text).replace(place, from.size(), to);
  };
  const std::tuple<const char *, const char *, const char *> cases[] = {
      {"version: 1", "version: 2",
       "p.yaml:1:10: error: expected version 1, got 2"},
      {"chip: c", "chip: d", "chip 'd' is not defined under 'chips'"},
      {"precision: f32", "precision: f16",
       "error: expected f32 or bf16, got 'f16'"},
      {"- [0, 3]", "- [0, 3, 1]", "error: expected 2 numbers, got 3"},
      {"- [0, 3]", "- [7, 3]", "refers to block kind 7 of 1"},
      {"flops: [0, 1e+12]", "flops: [0, -1]",
       "a cost that is negative or absurdly large"},
      {"global_batch: 8", "global_batch: 0", "the global batch must be"},
      {"candidates:", "candidate:", "candidate"}};
  for (const auto &[from, to, expected] : cases)
    EXPECT_NE(errorsOf(replaced(from, to)).find(expected), std::string::npos)
        << errorsOf(replaced(from, to));
}

TEST(ProblemTextTest, SurvivesDamage) {
  std::string whole = textOf(everything());
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    std::string damaged = whole;
    for (int i = 0; i < 2; ++i) {
      size_t place = random() % damaged.size();
      if (random() % 2)
        damaged[place] = static_cast<char>(32 + random() % 95);
      else
        damaged.erase(place, random() % 12);
    }
    errorsOf(damaged);
  }
}

} // namespace
