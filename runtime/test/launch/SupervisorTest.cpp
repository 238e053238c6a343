//===- SupervisorTest.cpp - processes that never stay behind --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Processes.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/launch/Supervisor.h"

#include <gtest/gtest.h>

#include <sys/wait.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

using Kind = SupervisorEvent::Kind;

/// A shell script; $2 is the events file descriptor, after `--events-fd`.
ProcessSpec shell(const std::string &script, bool ownGroup = false) {
  return {"/bin/sh", {"-c", script, "sh"}, ownGroup};
}

/// A word that only processes of this test have in their command lines.
std::string mark(const char *test) {
  return std::string("tombolo-mark-") + test + "-" + std::to_string(getpid());
}

TEST(Supervisor, AllLinesComeBeforeTheEnd) {
  Supervisor supervisor;
  supervisor.start(shell("printf 'a\\nb b\\n' >&$2; exit 7"));
  supervisor.start(shell("for i in 1 2 3; do echo $i >&$2; done; kill -9 $$"));
  std::vector<std::string> lines[2];
  int ended = 0;
  while (ended < 2) {
    SupervisorEvent event = supervisor.next(std::nullopt);
    if (event.kind == Kind::Line) {
      lines[event.process].push_back(event.line);
      continue;
    }
    ASSERT_EQ(event.kind, Kind::Ended);
    ++ended;
    if (event.process == 0) {
      EXPECT_EQ(lines[0], (std::vector<std::string>{"a", "b b"}));
      EXPECT_EQ(describe(event.end), "ended with status 7");
    } else {
      EXPECT_EQ(lines[1], (std::vector<std::string>{"1", "2", "3"}));
      EXPECT_EQ(describe(event.end), "was killed by signal 9 (Killed)");
    }
  }
  EXPECT_FALSE(supervisor.anyRunning());
  EXPECT_EQ(supervisor.next(0).kind, Kind::Timeout);
}

TEST(Supervisor, AProgramThatCannotRunIsAnError) {
  Supervisor supervisor;
  try {
    supervisor.start({"/no/such/program", {}, false});
    FAIL() << "expected an error";
  } catch (const Error &error) {
    EXPECT_NE(std::string(error.what()).find("/no/such/program"),
              std::string::npos);
  }
}

TEST(Supervisor, AnEndlessLineIsDropped) {
  Supervisor supervisor;
  supervisor.start(shell("head -c 1000000 /dev/zero | tr '\\0' x >&$2; "
                         "printf '\\nafter\\n' >&$2"));
  SupervisorEvent event = supervisor.next(std::nullopt);
  ASSERT_EQ(event.kind, Kind::Line);
  EXPECT_EQ(event.line, "after");
}

/// The destructor ends everything, grandchildren in the group too.
TEST(Supervisor, TheDestructorLeavesNothingBehind) {
  std::string word = mark("destructor");
  {
    Supervisor supervisor;
    supervisor.start(shell("sh -c 'sleep 1000; : " + word +
                               "' & echo up >&$2; sleep 1000; : " + word,
                           /*ownGroup=*/true));
    ASSERT_EQ(supervisor.next(std::nullopt).line, "up");
    ASSERT_TRUE(eventually([&] { return processesWith(word).size() >= 2; }));
  }
  EXPECT_TRUE(eventually([&] { return processesWith(word).empty(); }));
}

/// When the leader of a group ends, what it has left behind ends with it.
TEST(Supervisor, AGroupEndsWithItsLeader) {
  std::string word = mark("leader");
  Supervisor supervisor;
  supervisor.start(shell("sh -c 'sleep 1000; : " + word + "' & exit 0", true));
  while (supervisor.next(std::nullopt).kind != Kind::Ended) {
  }
  EXPECT_TRUE(eventually([&] { return processesWith(word).empty(); }));
}

TEST(Supervisor, SignalsToThisProcessAreEvents) {
  Supervisor supervisor;
  supervisor.start(shell("sleep 1000", true));
  kill(getpid(), SIGTERM);
  SupervisorEvent event = supervisor.next(std::nullopt);
  EXPECT_EQ(event.kind, Kind::Signal);
  EXPECT_EQ(event.signal, SIGTERM);
}

/// A supervisor that is killed outright takes its children along, and its
/// temporary folder goes too.
TEST(Supervisor, SigkillLeavesNothingBehind) {
  std::string word = mark("sigkill");
  std::string folder = testing::TempDir() + word + "-";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  pid_t owner = fork();
  if (owner == 0) {
    TemporaryFolder temporary(folder);
    std::ofstream(temporary.path() + "/file") << "data";
    Supervisor supervisor;
    supervisor.start(
        shell("echo up >&$2; MARK=" + word + " exec sleep 1000", true));
    supervisor.next(std::nullopt);
    [[maybe_unused]] ssize_t n = write(ready[1], "x", 1);
    while (true)
      supervisor.next(std::nullopt);
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  close(ready[1]);
  auto folders = [&] {
    int count = 0;
    for (const auto &entry :
         std::filesystem::directory_iterator(testing::TempDir()))
      count += entry.path().string().starts_with(folder);
    return count;
  };
  EXPECT_EQ(folders(), 1);
  EXPECT_FALSE(processesWith(word).empty());
  kill(owner, SIGKILL);
  waitpid(owner, nullptr, 0);
  EXPECT_TRUE(eventually([&] { return processesWith(word).empty(); }));
  EXPECT_TRUE(eventually([&] { return folders() == 0; }));
}

TEST(TemporaryFolder, GoesWithItsObject) {
  std::string path;
  {
    TemporaryFolder folder(testing::TempDir() + "tombolo-");
    path = folder.path();
    std::ofstream(path + "/file") << "data";
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_THROW(TemporaryFolder("/no/such/folder/x"), Error);
}

} // namespace
