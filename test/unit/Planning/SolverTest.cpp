//===- SolverTest.cpp - solvers by name -----------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Solver.h"

#include "Fixtures.h"

#include <gtest/gtest.h>

using namespace tombolo::planning;

namespace {

TEST(SolverTest, TheDefaultIsTheSearch) {
  Problem problem = test::equalBlocks(4, 8);
  SearchResult direct = search(problem, {});
  SearchResult named = solve(kDefaultSolver, problem, {}, {});
  ASSERT_FALSE(named.strategies.empty());
  EXPECT_EQ(named.strategies[0].strategy, direct.strategies[0].strategy);
}

TEST(SolverTest, NamesThoseThereAre) {
  SearchResult none = solve("nobody", test::equalBlocks(4, 8), {}, {});
  ASSERT_EQ(none.faults.size(), 1u);
  EXPECT_TRUE(none.faults[0].message.starts_with(
      "there is no solver 'nobody'; there are: "))
      << none.faults[0].message;
}

TEST(SolverTest, TakesNoStrategyThatIsNotProved) {
  Problem problem = test::equalBlocks(4, 8);
  Strategy best = search(problem, {}).strategies.at(0).strategy;
  Strategy wrong = best;
  wrong.islands[0].batch += 1;
  registerSolver("careless", [&](const Problem &, const StrategyPins &,
                                 const SearchHooks &) {
    SearchResult result;
    result.strategies = {{best, {}}, {wrong, {}}};
    return result;
  });
  SearchResult result = solve("careless", problem, {}, {});
  EXPECT_TRUE(result.strategies.empty());
  ASSERT_FALSE(result.faults.empty());
  EXPECT_TRUE(result.faults[0].message.starts_with(
      "solver 'careless' gave a strategy that does not hold: "))
      << result.faults[0].message;
}

} // namespace
