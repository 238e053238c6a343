//===- RollCallTest.cpp - who may begin together --------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/RollCall.h"
#include "tombolo/runtime/Transport.h"

#include "Expect.h"

#include <thread>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

struct Caller {
  std::uint64_t number;
  std::string shared = "plan a";
};

/// What each of them is told; "" for one that may begin.
std::vector<std::string> callAll(const std::vector<Caller> &callers,
                                 std::uint64_t count) {
  StoreServer store;
  std::vector<std::string> told(callers.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < callers.size(); ++i)
    threads.emplace_back([&, i] {
      try {
        RollCall roll(store.address(), "x/", std::chrono::seconds(30));
        roll.call("rank", callers[i].number, count, callers[i].shared);
      } catch (const Error &error) {
        told[i] = error.what();
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  return told;
}

TEST(RollCall, AllBeginWhenAllAreTheSame) {
  for (std::uint64_t count : {1u, 2u, 5u}) {
    std::vector<Caller> callers;
    for (std::uint64_t n = 0; n < count; ++n)
      callers.push_back({n});
    for (const std::string &each : callAll(callers, count))
      EXPECT_EQ(each, "");
  }
}

// Whoever differs, all are told what was expected and found.
TEST(RollCall, NobodyBeginsWhereOneDiffers) {
  for (std::size_t other : {0u, 1u, 2u}) {
    std::vector<Caller> callers{{0}, {1}, {2}};
    callers[other].shared = "plan b";
    for (const std::string &each : callAll(callers, 3)) {
      EXPECT_NE(each.find("rank 0 has plan "), std::string::npos) << each;
      EXPECT_NE(each.find("plan a"), std::string::npos) << each;
      EXPECT_NE(each.find("plan b"), std::string::npos) << each;
    }
  }
}

// Two are rank 1, and nobody is rank 0 or 2.
TEST(RollCall, NobodyBeginsWhereOneCameTwice) {
  for (std::uint64_t twice : {0u, 1u})
    for (const std::string &each : callAll({{twice}, {twice}, {2}}, 3))
      EXPECT_EQ(each, "rank " + std::to_string(twice) +
                          " was started twice: two processes claim to be it");
}

// Who cannot even read its plan says so, before or after the others come.
TEST(RollCall, ARefusalReachesAll) {
  StoreServer store;
  RollCall first(store.address(), "x/", std::chrono::seconds(30));
  first.refuse("'p.plan': no such file");
  RollCall second(store.address(), "x/", std::chrono::seconds(30));
  expectError([&] { second.call("rank", 0, 2, "plan"); },
              "'p.plan': no such file");
  // Others meet in the same store.
  RollCall other(store.address(), "y/", std::chrono::seconds(30));
  other.call("rank", 0, 1, "plan");
}

} // namespace
