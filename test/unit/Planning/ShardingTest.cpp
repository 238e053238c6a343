//===- ShardingTest.cpp - the solver of shardings against trying all ------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Sharding.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

using namespace tombolo::planning;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr uint8_t kWhole = ShardingProblem::kWhole;
constexpr uint8_t kPartial = ShardingProblem::kPartial;

/// The best of all choices, by trying them.
std::optional<ShardingSolution> tryAll(const ShardingProblem &problem) {
  std::optional<ShardingSolution> best;
  std::vector<size_t> chosen(problem.ops.size(), 0);
  while (true) {
    auto cost = problem.evaluate(chosen);
    if (cost && (!best || *cost < best->cost)) {
      best.emplace();
      best->chosen = chosen;
      best->cost = *cost;
    }
    size_t i = 0;
    while (i < chosen.size() && ++chosen[i] == problem.ops[i].options.size())
      chosen[i++] = 0;
    if (i == chosen.size())
      return best;
  }
}

/// A random problem of few choices. Figures are often equal and often zero, so
/// that ties are common.
ShardingProblem randomProblem(unsigned seed) {
  std::mt19937 random(seed);
  auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  ShardingProblem problem;
  problem.secondsPerByte = below(2) ? 0.5 : 0;
  size_t ops = 2 + below(7);
  bool coarse = below(2);
  auto figure = [&] {
    return coarse ? double(below(4)) : double(below(1000000)) * 1e-6;
  };
  auto addValue = [&] {
    ShardingProblem::Value value;
    value.states = static_cast<uint8_t>(2 + below(4));
    value.readers = 1 + below(2);
    size_t n = value.states;
    value.conversions.assign(n * n, kInfinity);
    for (size_t from = 1; from < n; ++from)
      for (size_t to = 0; to < n; ++to)
        if (from != to && to != kPartial && below(8))
          value.conversions[from * n + to] = figure();
    if (below(2))
      for (size_t s = 0; s < n; ++s)
        value.bytes.push_back(below(4));
    problem.values.push_back(value);
    return problem.values.size() - 1;
  };
  double choices = 1;
  for (size_t o = 0; o < ops; ++o) {
    ShardingProblem::Op op;
    // What is read was given by an earlier op, so that there are no cycles but
    // many ways around.
    size_t known = problem.values.size();
    for (uint32_t i = known ? below(4) : 0; i > 0; --i) {
      size_t value = below(static_cast<uint32_t>(known));
      op.operands.push_back(
          {value, below(static_cast<uint32_t>(problem.values[value].readers)),
           below(5) == 0});
    }
    for (uint32_t r = below(3); r > 0; --r)
      op.results.push_back(addValue());
    uint32_t most = choices > 4000 ? 1 : choices > 300 ? 2 : 4;
    uint32_t options = 1 + below(most);
    choices *= options;
    for (uint32_t i = 0; i < options; ++i) {
      ShardingProblem::Option option;
      option.seconds = figure();
      option.bytes = below(3);
      option.splits = below(2);
      for (const auto &use : op.operands)
        option.wants.push_back(static_cast<uint8_t>(
            below(3) ? below(problem.values[use.value].states) : kWhole));
      for (size_t result : op.results)
        option.gives.push_back(
            static_cast<uint8_t>(below(problem.values[result].states)));
      op.options.push_back(option);
    }
    problem.ops.push_back(op);
  }
  return problem;
}

TEST(Sharding, EqualsTryingEverything) {
  size_t possible = 0;
  for (unsigned seed = 0; seed < 600; ++seed) {
    ShardingProblem problem = randomProblem(seed);
    ASSERT_TRUE(problem.check().empty()) << seed;
    auto expected = tryAll(problem);
    auto found = solveSharding(problem);
    ASSERT_EQ(found.has_value(), expected.has_value()) << seed;
    if (!found)
      continue;
    ++possible;
    EXPECT_TRUE(found->proven) << seed;
    EXPECT_EQ(found->cost, expected->cost) << seed;
    EXPECT_EQ(problem.evaluate(found->chosen), found->cost) << seed;
  }
  EXPECT_GT(possible, 300u);
}

TEST(Sharding, AGuessBoundsTheSearchAndChangesNoCost) {
  std::mt19937 random(5);
  size_t possible = 0;
  for (unsigned seed = 0; seed < 300; ++seed) {
    ShardingProblem problem = randomProblem(seed);
    auto expected = solveSharding(problem);
    std::vector<size_t> guess;
    for (const ShardingProblem::Op &op : problem.ops)
      guess.push_back(random() % op.options.size());
    possible += problem.evaluate(guess).has_value();
    auto found = solveSharding(problem, kMostShardingRows, &guess);
    ASSERT_EQ(found.has_value(), expected.has_value()) << seed;
    if (!found)
      continue;
    EXPECT_TRUE(found->proven) << seed;
    EXPECT_EQ(found->cost, expected->cost) << seed;
    // Even the best one is no harm.
    EXPECT_EQ(
        solveSharding(problem, kMostShardingRows, &expected->chosen)->cost,
        expected->cost)
        << seed;
  }
  EXPECT_GT(possible, 30u);
}

TEST(Sharding, IsTheSameEveryTime) {
  for (unsigned seed = 0; seed < 50; ++seed) {
    ShardingProblem problem = randomProblem(seed);
    auto once = solveSharding(problem), again = solveSharding(problem);
    if (once)
      EXPECT_EQ(once->chosen, again->chosen) << seed;
  }
}

/// A value given partial or whole and read by three ops, each of which wants
/// one of the splits 2, 3, 4.
ShardingProblem threeReaders(double whole, double split) {
  ShardingProblem problem;
  ShardingProblem::Value value;
  value.states = 5;
  value.conversions.assign(25, kInfinity);
  value.conversions[kPartial * 5 + kWhole] = whole;
  for (size_t to = 2; to < 5; ++to)
    value.conversions[kPartial * 5 + to] = split;
  problem.values = {value};
  ShardingProblem::Op giver;
  giver.results = {0};
  giver.options = {{0, 0, 0, {}, {kPartial}}};
  problem.ops = {giver};
  for (uint8_t state = 2; state < 5; ++state) {
    ShardingProblem::Op reader;
    reader.operands = {{0, 0}};
    reader.options = {{0, 0, 0, {state}, {}}};
    problem.ops.push_back(reader);
  }
  return problem;
}

TEST(Sharding, ConvertsToTheWholeOnceWhereThatIsCheaper) {
  // Three scatters cost 3, one sum over all costs 2 and its slices nothing.
  ShardingProblem problem = threeReaders(2, 1);
  auto cost = problem.evaluate({0, 0, 0, 0});
  ASSERT_TRUE(cost);
  EXPECT_NEAR(static_cast<double>(cost->time) * problem.unit(), 2, 1e-9);
  problem = threeReaders(4, 1);
  cost = problem.evaluate({0, 0, 0, 0});
  ASSERT_TRUE(cost);
  EXPECT_NEAR(static_cast<double>(cost->time) * problem.unit(), 3, 1e-9);
}

TEST(Sharding, PaysAConversionOnceForAllOpsOfAReader) {
  ShardingProblem problem = threeReaders(5, 1);
  for (size_t i = 1; i < 4; ++i)
    problem.ops[i].options[0].wants = {2};
  EXPECT_NEAR(static_cast<double>(problem.evaluate({0, 0, 0, 0})->time) *
                  problem.unit(),
              1, 1e-9);
  // Another function converts for itself.
  problem.values[0].readers = 2;
  problem.ops[3].operands[0].reader = 1;
  EXPECT_NEAR(static_cast<double>(problem.evaluate({0, 0, 0, 0})->time) *
                  problem.unit(),
              2, 1e-9);
}

TEST(Sharding, KeepsAValueAsItCameOut) {
  // A split value is kept split, though a reader has made it whole.
  ShardingProblem problem;
  ShardingProblem::Value value;
  value.states = 3;
  value.conversions.assign(9, 1);
  problem.values = {value};
  ShardingProblem::Op giver, reader, keeper;
  giver.results = {0};
  giver.options = {{0, 0, 0, {}, {2}}};
  reader.operands = {{0, 0}};
  reader.options = {{0, 0, 0, {kWhole}, {}}};
  keeper.operands = {{0, 0, true}};
  keeper.options = {{0, 0, 0, {kWhole}, {}}, {3, 0, 0, {2}, {}}};
  problem.ops = {giver, reader, keeper};
  EXPECT_EQ(solveSharding(problem)->chosen, std::vector<size_t>({0, 0, 1}));
  // Partial sums may be kept as what they became.
  problem.ops[0].options[0].gives = {kPartial};
  EXPECT_EQ(solveSharding(problem)->chosen, std::vector<size_t>({0, 0, 0}));
}

TEST(Sharding, PrefersLessMemoryThenFewerSplitsAmongEqualTimes) {
  ShardingProblem problem;
  ShardingProblem::Op op;
  op.options = {{1, 8, 0, {}, {}}, {1, 4, 2, {}, {}}, {1, 4, 1, {}, {}}};
  problem.ops = {op};
  EXPECT_EQ(solveSharding(problem)->chosen, std::vector<size_t>({2}));
  // With a price of memory time no longer decides alone.
  problem.ops[0].options = {{1, 8, 0, {}, {}}, {2, 4, 0, {}, {}}};
  EXPECT_EQ(solveSharding(problem)->chosen, std::vector<size_t>({0}));
  problem.secondsPerByte = 1;
  EXPECT_EQ(solveSharding(problem)->chosen, std::vector<size_t>({1}));
}

TEST(Sharding, SaysWhenThereIsNoChoice) {
  ShardingProblem problem = threeReaders(kInfinity, kInfinity);
  EXPECT_FALSE(problem.evaluate({0, 0, 0, 0}));
  EXPECT_FALSE(solveSharding(problem));
}

TEST(Sharding, SaysWhenItIsNotProven) {
  // Tables of two rows cannot hold what a chain needs.
  size_t unproven = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    ShardingProblem problem = randomProblem(seed);
    auto small = solveSharding(problem, 2), whole = solveSharding(problem);
    if (!small)
      continue;
    ASSERT_TRUE(whole) << seed;
    unproven += !small->proven;
    EXPECT_FALSE(small->cost < whole->cost) << seed;
    if (small->proven)
      EXPECT_EQ(small->cost, whole->cost) << seed;
  }
  EXPECT_GT(unproven, 0u);
}

TEST(Sharding, ChecksWhatItIsGiven) {
  ShardingProblem problem = threeReaders(2, 1);
  EXPECT_TRUE(problem.check().empty());
  ShardingProblem wrong = problem;
  wrong.ops[1].operands[0].reader = 1;
  ASSERT_EQ(wrong.check().size(), 1u);
  EXPECT_EQ(wrong.check()[0].message,
            "refers to a value or reader that does not exist");
  wrong = problem;
  wrong.ops[0].results.clear();
  wrong.ops[0].options[0].gives.clear();
  ASSERT_EQ(wrong.check().size(), 1u);
  EXPECT_EQ(wrong.check()[0].message,
            "expected one op that gives the value, found 0");
  wrong = problem;
  wrong.values[0].conversions[5] = -1;
  ASSERT_EQ(wrong.check().size(), 1u);
  EXPECT_EQ(wrong.check()[0].message,
            "a conversion has a cost that is negative");
  wrong = problem;
  wrong.ops[1].options[0].wants = {5};
  ASSERT_EQ(wrong.check().size(), 1u);
  EXPECT_EQ(wrong.check()[0].message,
            "an option needs a state for each operand and result");
}

} // namespace
