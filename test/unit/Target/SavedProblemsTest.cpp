//===- SavedProblemsTest.cpp - problems with known best answers -----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Import/Problem.h"
#include "tombolo/Planning/Search.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"

#include <gtest/gtest.h>

using namespace tombolo;

namespace {

/// Every file of test/Planning begins with `# best step_seconds: X`.
TEST(SavedProblemsTest, TheSearchFindsTheBestAnswer) {
  std::error_code error;
  unsigned count = 0;
  for (llvm::sys::fs::directory_iterator entry(TOMBOLO_PROBLEMS, error), end;
       !error && entry != end; entry.increment(error)) {
    llvm::StringRef path = entry->path();
    if (!path.ends_with(".yaml"))
      continue;
    SCOPED_TRACE(path.str());
    ++count;
    auto file = readProblemFile(path, llvm::errs());
    ASSERT_TRUE(file.has_value());
    llvm::StringRef line = file->file.getText().split('\n').first;
    double best = 0;
    ASSERT_TRUE(line.consume_front("# best step_seconds: "));
    ASSERT_TRUE(llvm::to_float(line.trim(), best));
    planning::SearchResult found =
        planning::search(file->problem, planning::StrategyPins());
    ASSERT_FALSE(found.strategies.empty());
    const planning::Candidate &first = found.strategies.front();
    EXPECT_NEAR(first.prediction.stepSeconds, best, 1e-4 * best);
    EXPECT_TRUE(file->problem.verify(first.strategy).empty());
    EXPECT_LE(found.lowerBound, first.prediction.stepSeconds * (1 + 1e-9));
  }
  EXPECT_FALSE(error) << error.message();
  EXPECT_GE(count, 3u);
}

} // namespace
