//===- ParseTest.cpp - failures, slow chips and lines from text---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Expect.h"
#include "Temporary.h"

#include "tombolo/runtime/File.h"
#include "tombolo/runtime/sim/Simulate.h"

#include <gtest/gtest.h>

#include <cmath>

using namespace tombolo::runtime;
using namespace tombolo::runtime::sim;
using namespace tombolo::runtime::test;

namespace {

TEST(Parse, Faults) {
  Fault fault = parseFault("jinan@600+120.5");
  EXPECT_EQ(fault.kind, Fault::Site);
  EXPECT_EQ(fault.site, "jinan");
  EXPECT_EQ(fault.seconds, 600);
  EXPECT_EQ(fault.duration, 120.5);
  EXPECT_TRUE(std::isinf(parseFault("a@1e+3").duration));
  EXPECT_EQ(parseFault("a@1e+3").seconds, 1000);
  EXPECT_EQ(parseFault("a/b@1").kind, Fault::Chip);
  EXPECT_EQ(parseFault("a/b@1").other, "b");
  EXPECT_EQ(parseFault("server:a@1").kind, Fault::Server);
  EXPECT_EQ(parseFault("line:a,b-c@1").other, "b-c");
  for (const char *wrong :
       {"", "a", "@1", "a@", "a@x", "a@-1", "a@1+", "a@1+0", "a@1+x", "a@nan",
        "line:a@1", "line:a,@1", "server:@1", "a/@1", "a@1 "})
    expectError([&] { parseFault(wrong); }, "--fail: expected SITE@SECONDS");
}

TEST(Parse, Stragglers) {
  Straggler slow = parseStraggler("a/b:12=1.5");
  EXPECT_EQ(slow.site, "a");
  EXPECT_EQ(slow.pool, "b");
  EXPECT_EQ(slow.chip, 12u);
  EXPECT_EQ(slow.factor, 1.5);
  EXPECT_FALSE(parseStraggler("a/b=2").chip);
  for (const char *wrong : {"", "a/b", "a=2", "/b=2", "a/=2", "a/b=0",
                            "a/b:x=2", "a/b=x", "a/b:=2"})
    expectError([&] { parseStraggler(wrong); }, "--slow: expected SITE/POOL");
}

TEST(Parse, LineTraces) {
  TemporaryFolder folder;
  std::string path = folder / "lines.csv";
  auto read = [&](const std::string &text) {
    writeFile(path, text);
    return readLineTrace(path);
  };
  std::string header = "seconds,first,second,gbits_per_second\n";
  auto changes = read(header + "0,a,b,8\n60,a,b,0\n");
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0].bytesPerSecond, 1e9);
  EXPECT_EQ(changes[1].seconds, 60);
  auto wrong = [&](const std::string &text, const std::string &message) {
    expectError([&] { read(text); }, path + message);
  };
  wrong("", ": expected the header");
  wrong("a,b\n", ":1: expected the header");
  wrong(header + "1,a,b\n", ":2: expected four cells");
  wrong(header + "x,a,b,1\n", ":2: expected seconds of at least 0");
  wrong(header + "1,a,b,-1\n", ":2: expected a rate of at least 0 Gbit/s");
  wrong(header + "1,a,b,1\n0,a,b,1\n", ":3: expected seconds that do not");
  expectError([] { readLineTrace("/nowhere/x.csv"); }, "/nowhere/x.csv");
}

} // namespace
