//===- CorruptionTest.cpp - damaged plan files ----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/File.h"
#include "tombolo/runtime/plan/PlanFile.h"
#include "tombolo/runtime/plan/Validate.h"

#include "Expect.h"
#include "PlanBuilder.h"
#include "Temporary.h"

#include <csignal>
#include <filesystem>
#include <random>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

Plan samplePlan() {
  TinyModel model;
  model.stages = 2;
  return tinyPlan(model);
}

TEST(PlanFile, RoundTripsAndIsDeterministic) {
  Plan plan = samplePlan();
  std::string bytes = serializePlan(plan);
  EXPECT_EQ(bytes, serializePlan(plan));
  Plan back = parsePlan(bytes, "sample");
  EXPECT_EQ(back.checksum().size(), 32u);
  EXPECT_EQ(serializePlan(back), bytes);
}

TEST(PlanFile, EndsInThirtyFiveBytesOfChecksum) {
  std::string bytes = serializePlan(samplePlan());
  EXPECT_EQ(bytes.substr(bytes.size() - 35, 3), "\xc2\x3e\x20");
  EXPECT_EQ(bytes.substr(bytes.size() - 32),
            sha256(std::string_view(bytes).substr(0, bytes.size() - 35)));
}

// Every flipped bit and every cut is refused by the checksum.
TEST(PlanFile, RefusesEveryFlipAndCut) {
  std::string bytes = serializePlan(samplePlan());
  std::mt19937_64 random(1);
  for (int i = 0; i < 400; ++i) {
    std::string damaged = bytes;
    damaged[random() % damaged.size()] ^=
        static_cast<char>(1u << (random() % 8));
    expectError([&] { parsePlan(damaged, "p"); }, "");
    expectError(
        [&] {
          parsePlan(std::string_view(bytes).substr(0, random() % bytes.size()),
                    "p");
        },
        "");
  }
  expectError([&] { parsePlan("", "p"); }, "not a plan");
}

// With the checksum put right a damaged message is refused or harmless; the
// validator never crashes (run under the sanitizers this means more).
TEST(PlanFile, SurvivesDamageBehindAGoodChecksum) {
  std::string bytes = serializePlan(samplePlan());
  std::string_view body(bytes.data(), bytes.size() - 35);
  std::mt19937_64 random(2);
  int refused = 0;
  constexpr int kRounds = 3000;
  for (int i = 0; i < kRounds; ++i) {
    std::string damaged(body);
    for (int k = static_cast<int>(random() % 3); k >= 0; --k)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    std::string digest = sha256(damaged);
    damaged += std::string("\xc2\x3e\x20", 3) + digest;
    try {
      parsePlan(damaged, "p");
    } catch (const Error &) {
      ++refused;
    }
  }
  EXPECT_GT(refused, kRounds / 2);
}

TEST(PlanFile, NamesVersionAndFile) {
  Plan plan = samplePlan();
  plan.set_format_version(9);
  expectError([&] { parsePlan(serializePlan(plan), "old.plan"); },
              "'old.plan': expected plan format version 1, got 9");
  expectError([] { readPlan("/nowhere/x.plan"); }, "'/nowhere/x.plan'");
}

TEST(PlanFile, LeavesNothingHalfWritten) {
  TemporaryFolder folder;
  writePlan(samplePlan(), folder / "a.plan");
  EXPECT_NO_THROW(readPlan(folder / "a.plan"));
  expectError([&] { writePlan(samplePlan(), folder / "no/b.plan"); },
              "cannot create");
  // A folder stands where the plan should go.
  std::filesystem::create_directory(folder / "c.plan");
  expectError([&] { writePlan(samplePlan(), folder / "c.plan"); },
              "expected a regular file");
  int files = 0;
  for (const auto &entry : std::filesystem::directory_iterator(folder.path)) {
    (void)entry;
    ++files;
  }
  EXPECT_EQ(files, 2) << "a.plan and the folder c.plan";
}

// A disk that is full (here: a limit on the size of files) is told, and neither
// the plan nor a part of it is left. The old plan stays.
TEST(PlanFile, LeavesTheOldPlanWhenTheDiskIsFull) {
  TemporaryFolder folder;
  writeFile(folder / "a.plan", "old");
  pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      writePlan(samplePlan(), folder / "a.plan");
    } catch (const Error &error) {
      bool told = std::string(error.what()).find("a.plan': cannot write") !=
                  std::string::npos;
      ::_exit(told ? 42 : 1);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_EQ(readFile(folder / "a.plan", 100), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path), {}),
            1);
}

} // namespace
