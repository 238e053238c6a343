//===- DeviceConformance.cpp - memory, bounds and programs of several ops -===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpCase.h"

#include "tombolo/runtime/Error.h"

#include <cmath>
#include <cstring>
#include <fstream>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

TEST_P(DeviceConformance, ArenaIsZeroedAlignedAndCopied) {
  std::unique_ptr<Arena> arena = device().allocateArena(100000);
  ASSERT_EQ(arena->size(), 100000u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena->base()) % 64, 0u);
  std::vector<std::byte> host(100000, std::byte{1}), zero(100000);
  device().copyToHost(host, arena->base());
  EXPECT_EQ(host, zero);
  for (std::size_t i = 0; i < host.size(); ++i)
    host[i] = static_cast<std::byte>(i * 7);
  device().copyToDevice(arena->base(), std::span(host).first(1000));
  device().copyOnDevice(arena->base() + 2000, arena->base(), 1000);
  device().zero(arena->base() + 2500, 100);
  std::vector<std::byte> back(1000);
  device().copyToHost(back, arena->base() + 2000);
  std::memset(host.data() + 500, 0, 100);
  EXPECT_TRUE(std::equal(back.begin(), back.end(), host.begin()));
}

TEST_P(DeviceConformance, EmptyArena) {
  EXPECT_EQ(device().allocateArena(0)->size(), 0u);
}

TEST_P(DeviceConformance, ArenaTooLargeIsAnError) {
  try {
    device().allocateArena(std::uint64_t(1) << 62);
    FAIL() << "expected an error";
  } catch (const Error &error) {
    EXPECT_EQ(error.status(), Status::Failed);
    EXPECT_NE(std::string(error.what()).find("4611686018427387904"),
              std::string::npos);
  }
}

/// Resident bytes of this process.
std::uint64_t residentBytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * 4096;
}

// A plan's peak is an upper bound; memory never touched is never taken.
TEST_P(DeviceConformance, ArenaTakesMemoryWhenTouched) {
  if (!device().hostAccessible())
    GTEST_SKIP() << "not host memory";
  std::uint64_t before = residentBytes();
  std::unique_ptr<Arena> arena =
      device().allocateArena(std::uint64_t(512) << 20);
  arena->base()[1000] = std::byte{1};
  EXPECT_LT(residentBytes(), before + (std::uint64_t(64) << 20));
}

/// An exp of 4 elements, to be made wrong.
OpCase valid() {
  OpCase op(OPCODE_EXP);
  op.input(random({4}, 1)).output(DTYPE_F32, {4});
  return op;
}

TEST_P(DeviceConformance, RefusesValuesOutsideTheirStorage) {
  auto broken = [&](auto change, const char *message) {
    OpCase op = valid();
    change(op.message());
    op.expectError(device(), message);
  };
  broken([](Segment &s) { s.mutable_arguments(0)->set_bytes(15); },
         "needs 16 bytes at offset 0, but its storage has 15");
  broken([](Segment &s) { s.mutable_values(0)->set_byte_offset(4); },
         "needs 16 bytes at offset 4");
  broken(
      [](Segment &s) {
        s.mutable_values(0)->set_byte_offset(~std::uint64_t(3));
      },
      "at offset");
  broken([](Segment &s) { s.mutable_values(0)->set_byte_offset(2); },
         "not a multiple of 4");
  broken([](Segment &s) { s.mutable_values(0)->set_argument(2); },
         "expected an argument below 2");
  broken([](Segment &s) { s.mutable_values(0)->set_workspace(true); },
         "but its storage has 0");
  broken([](Segment &s) { s.mutable_values(0)->set_constant("123"); },
         "expected a constant of 16 bytes, got 3");
  broken([](Segment &s) { s.mutable_values(0)->clear_storage(); },
         "has no storage");
  broken([](Segment &s) { s.mutable_values(0)->add_strides(2); },
         "needs 28 bytes");
  broken(
      [](Segment &s) {
        s.mutable_values(0)->add_strides(std::uint64_t(1) << 63);
      },
      "overflows");
  broken(
      [](Segment &s) {
        s.mutable_values(0)->set_dims(0, std::uint64_t(1) << 62);
      },
      "overflows");
  broken(
      [](Segment &s) {
        s.mutable_values(0)->add_dims(std::uint64_t(1) << 32);
        s.mutable_values(0)->add_dims(std::uint64_t(1) << 32);
      },
      "overflows");
  broken([](Segment &s) { s.mutable_values(0)->clear_dtype(); },
         "expected a dtype");
  broken([](Segment &s) { s.mutable_ops(0)->set_inputs(0, 9); },
         "expected a value below 2, got 9");
  broken([](Segment &s) { s.mutable_ops(0)->set_opcode(Opcode(79)); },
         "opcode 79");
  broken([](Segment &s) { s.mutable_values(1)->add_strides(0); },
         "share memory");
}

TEST_P(DeviceConformance, RefusesAWrongNumberOfArguments) {
  std::unique_ptr<Executable> executable = device().prepare(valid().message());
  EXPECT_THROW(executable->run({}, nullptr), Error);
}

Value &addValue(Segment &segment, Dims dims) {
  Value &value = *segment.add_values();
  value.set_dtype(DTYPE_F32);
  for (std::int64_t dim : dims)
    value.add_dims(dim);
  return value;
}

// Workspace, constants, views of one argument, several runs at other addresses.
TEST_P(DeviceConformance, RunsASegmentOfSeveralOps) {
  Segment segment;
  segment.set_name("affine");
  for (int i = 0; i < 2; ++i)
    segment.add_arguments()->set_bytes(6 * 4);
  segment.set_workspace_bytes(128);
  addValue(segment, {2, 3}).set_argument(0);
  const float factors[3] = {1, 10, 100};
  addValue(segment, {3}).set_constant(factors, sizeof(factors));
  Value &product = addValue(segment, {2, 3});
  product.set_workspace(true);
  product.set_byte_offset(64);
  Value &turned = addValue(segment, {3, 2});
  turned.set_workspace(true);
  turned.set_byte_offset(64);
  turned.add_strides(1);
  turned.add_strides(3);
  addValue(segment, {3, 2}).set_argument(1);
  Op &multiply = *segment.add_ops();
  multiply.set_opcode(OPCODE_MUL);
  multiply.add_inputs(0);
  multiply.add_inputs(1);
  multiply.add_outputs(2);
  Op &transpose = *segment.add_ops();
  transpose.set_opcode(OPCODE_COPY);
  transpose.add_inputs(3);
  transpose.add_outputs(4);
  std::unique_ptr<Executable> executable = device().prepare(segment);
  std::unique_ptr<Arena> arena = device().allocateArena(4096);
  for (int round = 0; round < 3; ++round) {
    std::byte *in = arena->base() + 256 * round;
    std::byte *out = arena->base() + 2048 + 256 * round;
    float x[6];
    for (int i = 0; i < 6; ++i)
      x[i] = static_cast<float>(i + round);
    device().copyToDevice(in, std::as_bytes(std::span(x)));
    std::byte *arguments[] = {in, out};
    executable->run(arguments, arena->base() + 1024);
    float y[6];
    device().copyToHost(std::as_writable_bytes(std::span(y)), out);
    for (int r = 0; r < 2; ++r)
      for (int c = 0; c < 3; ++c)
        EXPECT_EQ(y[c * 2 + r], x[r * 3 + c] * factors[c]);
  }
}

// Executables share scratch that grows when a later one needs more.
TEST_P(DeviceConformance, ScratchSurvivesLaterPreparations) {
  auto reduce = [&](std::int64_t rows) {
    Host x = filled(DTYPE_F32, {rows, 8}, 2);
    OpCase op(OPCODE_SOFTMAX); // a permuted input goes through scratch
    op.input(x, {.order = {1, 0}}).output(DTYPE_F32, x.dims);
    return op;
  };
  std::unique_ptr<Executable> small = device().prepare(reduce(2).message());
  expectClose(reduce(5000).run(device())[0],
              filled(DTYPE_F32, {5000, 8}, 0.125), 1e-6);
  std::unique_ptr<Arena> arena = device().allocateArena(256);
  std::byte *arguments[] = {arena->base(), arena->base() + 128};
  small->run(arguments, nullptr);
  float y[16];
  device().copyToHost(std::as_writable_bytes(std::span(y)), arguments[1]);
  for (float value : y)
    EXPECT_FLOAT_EQ(value, 0.125f);
}

TEST(Devices, UnknownNameIsAnError) {
  EXPECT_THROW(createDevice("abacus"), Error);
}

TEST(NullDevice, ChecksAndComputesNothing) {
  std::unique_ptr<Device> device = createDevice("null");
  EXPECT_EQ(device->name(), "null");
  OpCase op = valid();
  std::unique_ptr<Executable> executable = device->prepare(op.message());
  std::unique_ptr<Arena> arena = device->allocateArena(128);
  std::byte *arguments[] = {arena->base(), arena->base() + 64};
  executable->run(arguments, nullptr);
  for (int i = 0; i < 128; ++i)
    EXPECT_EQ(arena->base()[i], std::byte{0});
  EXPECT_THROW(executable->run({}, nullptr), Error);
  op.message().mutable_ops(0)->set_inputs(0, 9);
  EXPECT_THROW(device->prepare(op.message()), Error);
  OpCase wrong(OPCODE_ADD);
  wrong.input(random({3}, 1)).input(random({4}, 2)).output(DTYPE_F32, {4});
  EXPECT_THROW(device->prepare(wrong.message()), Error);
}

} // namespace
