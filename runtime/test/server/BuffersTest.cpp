//===- BuffersTest.cpp - memory that is used again ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Buffers.h"

#include <gtest/gtest.h>

using namespace tombolo::runtime;

namespace {

/// What was given back is given again, the smallest that is large enough.
TEST(Buffers, AreUsedAgain) {
  Buffers buffers;
  const std::byte *small = nullptr, *large = nullptr;
  {
    Buffer one = buffers.take(1000), other = buffers.take(100);
    large = one.bytes().data();
    small = other.bytes().data();
    EXPECT_EQ(one.bytes().size(), 1000u);
  }
  Buffer one = buffers.take(90);
  EXPECT_EQ(one.bytes().data(), small);
  EXPECT_EQ(one.bytes().size(), 90u);
  Buffer other = buffers.take(90);
  EXPECT_EQ(other.bytes().data(), large);
  EXPECT_NE(buffers.take(90).bytes().data(), small);
}

/// One that is too small goes when a larger one is needed: as many stay as were
/// ever in use at once.
TEST(Buffers, GrowInsteadOfMultiplying) {
  Buffers buffers;
  for (std::size_t size = 1; size < 100000; size *= 3) {
    Buffer one = buffers.take(size);
    EXPECT_EQ(one.bytes().size(), size);
  }
  Buffer one = buffers.take(1);
  EXPECT_GE(one.bytes().size(), 1u);
  // There is no other that could be given.
  const std::byte *place = one.bytes().data();
  one.giveBack();
  EXPECT_TRUE(one.empty());
  EXPECT_EQ(buffers.take(50000).bytes().data(), place);
}

/// Who moves one away is left with none, which gives nothing back.
TEST(Buffers, MoveWithTheirContent) {
  Buffers buffers;
  Buffer one = buffers.take(8);
  one.bytes()[3] = std::byte(7);
  Buffer other = std::move(one);
  EXPECT_TRUE(one.empty());
  EXPECT_EQ(other.bytes()[3], std::byte(7));
  one = std::move(other);
  EXPECT_TRUE(other.empty());
  EXPECT_EQ(one.bytes()[3], std::byte(7));
}

} // namespace
