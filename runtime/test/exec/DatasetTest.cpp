//===- DatasetTest.cpp - token files --------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Dataset.h"

#include "Expect.h"
#include "Temporary.h"

#include <set>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

class Dataset : public testing::Test {
protected:
  DatasetOptions write(std::uint64_t count, unsigned size = 2) {
    std::string bytes;
    for (std::uint64_t i = 0; i < count; ++i)
      for (unsigned b = 0; b < size; ++b)
        bytes += static_cast<char>(i >> (8 * b));
    DatasetOptions options;
    options.path = folder / "tokens";
    options.tokenBytes = size;
    writeFile(options.path, bytes);
    return options;
  }
  std::vector<std::int64_t> sample(const TokenFile &file, std::uint64_t k,
                                   std::size_t t) {
    std::vector<std::int64_t> out(t + 1);
    file.sample(k, out);
    return out;
  }
  TemporaryFolder folder;
};

TEST_F(Dataset, SamplesOverlapByOneTokenAndWrap) {
  TokenFile file(write(10), 4, 10);
  EXPECT_EQ(sample(file, 0, 4), (std::vector<std::int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(sample(file, 1, 4), (std::vector<std::int64_t>{4, 5, 6, 7, 8}));
  EXPECT_EQ(sample(file, 2, 4), (std::vector<std::int64_t>{8, 9, 0, 1, 2}));
  EXPECT_EQ(sample(file, 1ull << 62, 4),
            (std::vector<std::int64_t>{6, 7, 8, 9, 0}))
      << "4 x 2^62 mod 10 is 6";
}

TEST_F(Dataset, ReadsFourByteTokens) {
  TokenFile file(write(70000, 4), 3, 100000);
  EXPECT_EQ(sample(file, 22000, 3),
            (std::vector<std::int64_t>{66000, 66001, 66002, 66003}));
}

TEST_F(Dataset, RefusesBadFiles) {
  expectError([&] { TokenFile(write(4), 4, 10); }, "expected at least 5");
  expectError([&] { TokenFile(write(500000), 4, 65000); },
              "token 65000 at position 65000 is not below");
  DatasetOptions odd = write(10);
  writeFile(odd.path, "123");
  expectError([&] { TokenFile(odd, 1, 10); }, "is --token-bytes right");
  odd.tokenBytes = 3;
  expectError([&] { TokenFile(odd, 1, 10); }, "expected 2 or 4");
}

// A shuffled pass has every sample once; passes and seeds differ.
TEST_F(Dataset, ShufflesEachPass) {
  for (std::uint64_t count : {9, 64, 65, 1000}) {
    DatasetOptions options = write(count);
    options.shuffle = 3;
    TokenFile file(options, 1, 0);
    std::set<std::uint64_t> seen;
    bool moved = false;
    for (std::uint64_t i = 0; i < count; ++i) {
      seen.insert(file.permuted(i));
      moved |= file.permuted(i) != i;
      EXPECT_LT(file.permuted(i), count);
    }
    EXPECT_EQ(seen.size(), count);
    EXPECT_TRUE(moved);
    bool differs = false;
    for (std::uint64_t i = 0; i < count; ++i)
      differs |= file.permuted(count + i) != count + file.permuted(i);
    EXPECT_TRUE(differs) << "the second pass is another order";
  }
}

} // namespace
