//===- NumericsTest.cpp - who is to blame for what is not finite ----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpCase.h"

#include <limits>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

std::unique_ptr<Device> watching() {
  DeviceOptions options;
  options.checkNumerics = true;
  return createDevice("cpu", options);
}

/// What the device says of one op.
std::string blame(const OpCase &op) {
  std::unique_ptr<Device> device = watching();
  op.run(*device);
  return device->takeNonFinite().value_or("");
}

TEST(Numerics, NamesOpOutputAndElement) {
  EXPECT_EQ(blame(OpCase(OPCODE_EXP)
                      .input(of(DTYPE_F32, {2, 2}, {1, 2, 99, 3}))
                      .output(DTYPE_F32, {2, 2})),
            "segment 'case', op 0 (exp): output 0 (value 1 in argument "
            "1, f32[2, 2]) is inf at element 2");
  EXPECT_NE(blame(OpCase(OPCODE_LOG)
                      .input(of(DTYPE_F32, {2}, {-1, 2}))
                      .output(DTYPE_F32, {2}))
                .find("is nan at element 0"),
            std::string::npos);
  // Of an infinity a new kind of fault: a row that is masked throughout.
  EXPECT_NE(blame(OpCase(OPCODE_SOFTMAX)
                      .input(of(DTYPE_F32, {1, 2}, {-kInf, -kInf}))
                      .output(DTYPE_F32, {1, 2}))
                .find("(softmax)"),
            std::string::npos);
  // The elements of a view count as they stand in it.
  EXPECT_NE(
      blame(OpCase(OPCODE_SQRT)
                .input(of(DTYPE_F32, {2, 2}, {1, -1, 1, 1}), {.order = {1, 0}})
                .output(DTYPE_F32, {2, 2}))
          .find("is nan at element 1"),
      std::string::npos);
}

// What was given, masks and stated values are nobody's fault.
TEST(Numerics, BlamesNobodyForWhatWasGiven) {
  EXPECT_EQ(blame(OpCase(OPCODE_EXP)
                      .input(of(DTYPE_F32, {2}, {kInf, 1}))
                      .output(DTYPE_F32, {2})),
            "");
  EXPECT_EQ(
      blame(OpCase(OPCODE_FILL).output(DTYPE_F32, {2}).real("value", -kInf)),
      "");
  EXPECT_EQ(blame(OpCase(OPCODE_WHERE)
                      .input(of(DTYPE_BOOL, {2}, {1, 0}))
                      .input(of(DTYPE_F32, {2}, {1, 2}))
                      .input(of(DTYPE_F32, {1}, {-kInf}))
                      .output(DTYPE_F32, {2})),
            "");
  EXPECT_EQ(blame(OpCase(OPCODE_COPY)
                      .input(of(DTYPE_F32, {2}, {1, 2}))
                      .output(of(DTYPE_F32, {2}, {kInf, 2}))
                      .accumulate()),
            "")
      << "it was there before";
}

// The first is kept until it is taken; without the option nobody looks.
TEST(Numerics, KeepsTheFirst) {
  std::unique_ptr<Device> device = watching();
  auto run = [](Device &on, Opcode opcode) {
    OpCase(opcode)
        .input(of(DTYPE_F32, {1}, {0}))
        .output(DTYPE_F32, {1})
        .run(on);
  };
  run(*device, OPCODE_LOG);
  run(*device, OPCODE_RECIPROCAL);
  EXPECT_NE(device->takeNonFinite().value_or("").find("(log)"),
            std::string::npos);
  EXPECT_FALSE(device->takeNonFinite());
  std::unique_ptr<Device> other = createDevice("cpu");
  run(*other, OPCODE_LOG);
  EXPECT_FALSE(other->takeNonFinite());
}

} // namespace
