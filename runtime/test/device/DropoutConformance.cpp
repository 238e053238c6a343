//===- DropoutConformance.cpp - masks are functions of places -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpCase.h"

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

Host stampOf(double seed, double step, double sample, double block) {
  return of(DTYPE_I64, {4}, {seed, step, sample, block});
}

OpCase dropout(const Host &x, const Host &stamp, double ratio,
               std::int64_t site = 0, bool shared = false) {
  OpCase op(OPCODE_DROPOUT);
  op.input(x).input(stamp).output(DTYPE_F32, x.dims);
  return op.real("ratio", ratio).integer("site", site).flag("shared", shared);
}

// The first words of Philox 4x32-10 with counter and key 0 are 6627e8d5,
// e169c58d, bc57ac4c, 9b00dbd8 (the authors' own test vector).
TEST_P(DeviceConformance, DropoutDrawsByPhilox) {
  auto got = dropout(filled(DTYPE_F32, {1, 4}, 3), stampOf(0, 0, 0, 0), 0.5)
                 .run(device())[0];
  expectClose(got, of(DTYPE_F32, {1, 4}, {0, 6, 6, 6}), 0);
  // 0xbc57ac4c / 2^32 = 0.7357, 0xe169c58d / 2^32 = 0.8805.
  got = dropout(filled(DTYPE_F32, {1, 4}, 1), stampOf(0, 0, 0, 0), 0.75)
            .run(device())[0];
  expectClose(got, of(DTYPE_F32, {1, 4}, {0, 4, 0, 0}), 0);
}

// Each of seed, step, sample, block and site gives another mask, and the share
// of what is kept is right.
TEST_P(DeviceConformance, DropoutDependsOnItsPlace) {
  Host x = filled(DTYPE_F32, {2, 5000}, 1);
  auto draw = [&](const Host &stamp, std::int64_t site = 0) {
    return dropout(x, stamp, 0.2, site).run(device())[0];
  };
  Host base = draw(stampOf(7, 3, 10, 2));
  double kept = 0;
  for (double value : base.data)
    kept += value != 0;
  EXPECT_NEAR(kept / 10000, 0.8, 0.02);
  EXPECT_EQ(base.data, draw(stampOf(7, 3, 10, 2)).data);
  for (const Host &other :
       {draw(stampOf(8, 3, 10, 2)), draw(stampOf(7, 4, 10, 2)),
        draw(stampOf(7, 3, 20, 2)), draw(stampOf(7, 3, 10, 3)),
        draw(stampOf(7, 3, 10, 2), 1),
        draw(stampOf(7 + 4294967296.0, 3, 10, 2))})
    EXPECT_NE(base.data, other.data);
  // Sample 11 is the second one here and the first one there.
  Host next = draw(stampOf(7, 3, 11, 2));
  for (std::int64_t i = 0; i < 5000; ++i)
    ASSERT_EQ(base[5000 + i], next[i]);
}

TEST_P(DeviceConformance, DropoutSharedBySamplesOrSwitchedOff) {
  Host x = filled(DTYPE_F32, {2, 100}, 1);
  Host got = dropout(x, stampOf(1, 1, 5, 0), 0.5, 0, true).run(device())[0];
  Host same = dropout(x, stampOf(1, 1, 9, 0), 0.5, 0, true).run(device())[0];
  EXPECT_EQ(got.data, same.data);
  for (std::int64_t i = 0; i < 100; ++i)
    ASSERT_EQ(got[i], got[100 + i]);
  EXPECT_EQ(dropout(x, stampOf(1, -1, 5, 0), 0.5).run(device())[0].data,
            x.data);
}

// Chips that have parts of a tensor draw the mask of the whole.
TEST_P(DeviceConformance, DropoutOfPartsIsThatOfTheWhole) {
  const std::int64_t samples = 2, rows = 3, columns = 12, inner = 5;
  Host x = random({samples, rows, columns, inner}, 4);
  Host stamp = stampOf(11, 2, 30, 1);
  Host whole = dropout(x, stamp, 0.3).run(device())[0];
  for (std::int64_t outer : {1, 2}) {
    const std::int64_t count = 3, run = columns / outer / count;
    for (std::int64_t index = 0; index < count; ++index) {
      Host part = filled(DTYPE_F32, {samples, rows, outer * run, inner}, 0);
      Host want = part;
      std::int64_t at = 0;
      for (std::int64_t row = 0; row < samples * rows; ++row)
        for (std::int64_t o = 0; o < outer; ++o)
          for (std::int64_t i = 0; i < run * inner; ++i, ++at) {
            std::int64_t from =
                (row * columns + (o * count + index) * run) * inner + i;
            part[at] = x[from];
            want[at] = whole[from];
          }
      OpCase op(OPCODE_DROPOUT);
      op.input(part)
          .input(stamp)
          .input(of(DTYPE_I64, {1}, {double(index)}))
          .inPlace(0);
      expectClose(op.real("ratio", 0.3)
                      .integer("site", 0)
                      .flag("shared", false)
                      .integers("part", {2, outer, count})
                      .run(device())[0],
                  want, 0);
    }
  }
}

} // namespace
