//===- MemoryTest.cpp - a rank keeps within its planned memory ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Resident.h"
#include "TinyRun.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

// A process of its own that trains a model of some size, checkpoints and all:
// its peak is the planned arena and less than the stated constant.
TEST(Memory, StaysWithinThePlannedPeakAndTheConstant) {
  TinyModel model;
  model.vocabulary = 4096; // 64 MiB of parameters, 64 of gradients
  model.tokens = 64;
  model.batch = 4;
  TinyRun run(model);
  std::uint64_t planned = run.plan.programs(0).arena_bytes();
  ASSERT_GT(planned, std::uint64_t{128} << 20);
  int result[2];
  ASSERT_EQ(::pipe(result), 0);
  pid_t child = ::fork();
  if (child == 0) {
    // What the test's own process held does not count: forget its peak.
    std::ofstream("/proc/self/clear_refs") << "5";
    std::uint64_t before = peakResident();
    try {
      run.train(2, run.folder / "c");
    } catch (...) {
      ::_exit(1);
    }
    std::uint64_t peaks[2] = {before, peakResident()};
    (void)!::write(result[1], peaks, sizeof peaks);
    ::_exit(0);
  }
  std::uint64_t peaks[2] = {};
  ::close(result[1]);
  EXPECT_EQ(::read(result[0], peaks, sizeof peaks),
            static_cast<ssize_t>(sizeof peaks));
  ::close(result[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_EQ(status, 0);
  // The test itself holds the model's weights and the file it wrote.
  std::uint64_t own = peaks[1] - peaks[0];
  RecordProperty("beyond_arena_bytes",
                 std::to_string(static_cast<std::int64_t>(own - planned)));
  std::cout << "planned " << (planned >> 20) << " MiB, resident " << (own >> 20)
            << " MiB more than before\n";
  EXPECT_LE(own, planned + kMemoryBeyondArena);
}

} // namespace
