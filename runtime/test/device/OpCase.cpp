//===- OpCase.cpp - one op on a device, with values as doubles ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OpCase.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

std::int64_t test::product(const Dims &dims) {
  std::int64_t result = 1;
  for (std::int64_t dim : dims)
    result *= dim;
  return result;
}

Host test::random(const Dims &dims, unsigned seed, double scale) {
  Host host{DTYPE_F32, dims, {}};
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0.0, scale);
  for (std::int64_t i = 0; i < host.size(); ++i)
    host.data.push_back(static_cast<float>(normal(generator)));
  return host;
}

Host test::filled(DType dtype, const Dims &dims, double value) {
  return {dtype, dims,
          std::vector<double>(static_cast<std::size_t>(product(dims)), value)};
}

Host test::of(DType dtype, const Dims &dims, std::vector<double> data) {
  EXPECT_EQ(static_cast<std::int64_t>(data.size()), product(dims));
  return {dtype, dims, std::move(data)};
}

Host test::plus(Host x, const Host &y) {
  for (std::size_t i = 0; i < x.data.size(); ++i)
    x.data[i] += y.data[i];
  return x;
}

Host test::randomIntegers(DType dtype, const Dims &dims, unsigned seed,
                          std::int64_t low, std::int64_t high) {
  Host host{dtype, dims, {}};
  std::mt19937 generator(seed);
  std::uniform_int_distribution<std::int64_t> uniform(low, high - 1);
  for (std::int64_t i = 0; i < host.size(); ++i)
    host.data.push_back(static_cast<double>(uniform(generator)));
  return host;
}

static std::size_t bytesOf(DType dtype) {
  switch (dtype) {
  case DTYPE_I64:
    return 8;
  case DTYPE_BOOL:
    return 1;
  case DTYPE_BF16:
    return 2;
  default:
    return 4;
  }
}

template <typename T> static void put(std::byte *to, double value) {
  T typed = static_cast<T>(value);
  std::memcpy(to, &typed, sizeof(T));
}

template <typename T> static double get(const std::byte *from) {
  T typed;
  std::memcpy(&typed, from, sizeof(T));
  return static_cast<double>(typed);
}

static void writeElement(DType dtype, std::byte *to, double value) {
  switch (dtype) {
  case DTYPE_F32:
    return put<float>(to, value);
  case DTYPE_I32:
    return put<std::int32_t>(to, value);
  case DTYPE_I64:
    return put<std::int64_t>(to, value);
  case DTYPE_BOOL:
    return put<std::uint8_t>(to, value);
  default:
    return;
  }
}

static double readElement(DType dtype, const std::byte *from) {
  switch (dtype) {
  case DTYPE_F32:
    return get<float>(from);
  case DTYPE_I32:
    return get<std::int32_t>(from);
  case DTYPE_I64:
    return get<std::int64_t>(from);
  default:
    return get<std::uint8_t>(from);
  }
}

OpCase::OpCase(Opcode opcode) {
  segment.set_name("case");
  segment.add_ops()->set_opcode(opcode);
}

OpCase::Slot OpCase::place(Host value, Placement placement, Access access) {
  Slot slot;
  const Dims &dims = value.dims;
  std::vector<std::size_t> order = placement.order;
  if (order.empty())
    for (std::size_t i = 0; i < dims.size(); ++i)
      order.push_back(i);
  slot.strides.assign(dims.size(), 0);
  std::int64_t stride = 1;
  for (std::size_t i = order.size(); i-- > 0;) {
    std::size_t dim = order[i];
    if (std::count(placement.repeated.begin(), placement.repeated.end(), dim))
      continue;
    slot.strides[dim] = stride;
    stride *= dims[dim];
    if (i + 1 == order.size())
      stride += placement.pad;
  }
  slot.elements = stride + placement.lead;

  Argument *argument = segment.add_arguments();
  argument->set_bytes(slot.elements * bytesOf(value.dtype));
  argument->set_access(access);
  slot.argument = segment.arguments_size() - 1;
  Value *typed = segment.add_values();
  typed->set_dtype(value.dtype);
  for (std::int64_t dim : dims)
    typed->add_dims(dim);
  if (!placement.dense())
    for (std::int64_t s : slot.strides)
      typed->add_strides(s);
  typed->set_argument(slot.argument);
  typed->set_byte_offset(placement.lead * bytesOf(value.dtype));
  slot.value = std::move(value);
  slot.placement = std::move(placement);
  return slot;
}

OpCase &OpCase::input(Host value, Placement placement) {
  slots.push_back(place(std::move(value), std::move(placement), ACCESS_READ));
  op().add_inputs(slots.size() - 1);
  return *this;
}

OpCase &OpCase::output(DType dtype, Dims dims, Placement placement) {
  slots.push_back(
      place({dtype, std::move(dims), {}}, std::move(placement), ACCESS_WRITE));
  slots.back().initial = false;
  outputs.push_back(slots.size() - 1);
  op().add_outputs(slots.size() - 1);
  return *this;
}

OpCase &OpCase::output(Host initial, Placement placement) {
  slots.push_back(
      place(std::move(initial), std::move(placement), ACCESS_READ_WRITE));
  outputs.push_back(slots.size() - 1);
  op().add_outputs(slots.size() - 1);
  return *this;
}

OpCase &OpCase::inPlace(std::size_t index) {
  std::uint32_t value = op().inputs(index);
  segment.mutable_arguments(slots[value].argument)
      ->set_access(ACCESS_READ_WRITE);
  outputs.push_back(value);
  op().add_outputs(value);
  return *this;
}

static Attribute &attribute(Op &op, const char *name) {
  Attribute &result = *op.add_attributes();
  result.set_name(name);
  return result;
}

OpCase &OpCase::real(const char *name, double value) {
  attribute(op(), name).set_real(value);
  return *this;
}
OpCase &OpCase::integer(const char *name, std::int64_t value) {
  attribute(op(), name).set_integer(value);
  return *this;
}
OpCase &OpCase::flag(const char *name, bool value) {
  attribute(op(), name).set_flag(value);
  return *this;
}
OpCase &OpCase::text(const char *name, const char *value) {
  attribute(op(), name).set_text(value);
  return *this;
}
OpCase &OpCase::integers(const char *name, Dims values) {
  Integers &list = *attribute(op(), name).mutable_integers();
  for (std::int64_t value : values)
    list.add_values(value);
  return *this;
}
OpCase &OpCase::accumulate() {
  op().set_accumulate(true);
  return *this;
}

/// f(row-major index, memory offset in elements).
template <typename Function>
static void forElements(const Dims &dims,
                        const std::vector<std::int64_t> &strides, Function f) {
  std::vector<std::int64_t> index(dims.size(), 0);
  for (std::int64_t i = 0, n = product(dims); i < n; ++i) {
    std::int64_t offset = 0;
    for (std::size_t d = 0; d < dims.size(); ++d)
      offset += index[d] * strides[d];
    f(i, offset);
    for (std::size_t d = dims.size(); d-- > 0;) {
      if (++index[d] < dims[d])
        break;
      index[d] = 0;
    }
  }
}

std::vector<Host> OpCase::run(Device &device) const {
  constexpr std::size_t guard = 64;
  std::unique_ptr<Executable> executable = device.prepare(segment);
  // Every argument between guards in one arena.
  std::vector<std::size_t> offsets(segment.arguments_size());
  std::size_t bytes = guard;
  for (int i = 0; i < segment.arguments_size(); ++i) {
    offsets[i] = bytes;
    bytes += (segment.arguments(i).bytes() + 63) / 64 * 64 + guard;
  }
  std::unique_ptr<Arena> arena = device.allocateArena(bytes);
  // 0xff: NaN as a float, a wild index as an integer.
  std::vector<std::byte> image(bytes, std::byte{0xff});
  for (const Slot &slot : slots) {
    if (!slot.initial)
      continue;
    std::byte *start = image.data() + offsets[slot.argument];
    std::size_t size = bytesOf(slot.value.dtype);
    forElements(slot.value.dims, slot.strides,
                [&](std::int64_t i, std::int64_t offset) {
                  writeElement(slot.value.dtype,
                               start + (offset + slot.placement.lead) * size,
                               slot.value.data[i]);
                });
  }
  device.copyToDevice(arena->base(), image);
  std::vector<std::byte *> addresses;
  for (std::size_t offset : offsets)
    addresses.push_back(arena->base() + offset);
  executable->run(addresses, nullptr);
  std::vector<std::byte> after(bytes);
  device.copyToHost(after, arena->base());

  std::vector<Host> results;
  for (std::size_t output : outputs) {
    const Slot &slot = slots[output];
    Host result{slot.value.dtype, slot.value.dims,
                std::vector<double>(product(slot.value.dims))};
    std::size_t size = bytesOf(slot.value.dtype);
    std::size_t start = offsets[slot.argument];
    forElements(
        result.dims, slot.strides, [&](std::int64_t i, std::int64_t offset) {
          std::size_t at = start + (offset + slot.placement.lead) * size;
          result.data[i] = readElement(result.dtype, after.data() + at);
          // What is left must be as it was.
          std::memcpy(image.data() + at, after.data() + at, size);
        });
    results.push_back(std::move(result));
  }
  EXPECT_TRUE(image == after) << "memory outside the outputs was written";
  return results;
}

void OpCase::expectError(Device &device, const std::string &message,
                         bool atRun) const {
  std::string got;
  try {
    if (atRun) {
      run(device);
    } else {
      device.prepare(segment);
    }
  } catch (const Error &error) {
    got = error.what();
  }
  EXPECT_NE(got.find(message), std::string::npos)
      << "expected an error with '" << message << "', got '" << got << "'";
}

void test::expectClose(const Host &got, const Host &want, double relative,
                       bool byScale) {
  ASSERT_EQ(got.dims, want.dims);
  ASSERT_EQ(got.data.size(), want.data.size());
  double scale = 0;
  if (byScale)
    for (double value : want.data)
      if (std::isfinite(value))
        scale = std::max(scale, std::fabs(value));
  int shown = 0;
  for (std::size_t i = 0; i < want.data.size() && shown < 5; ++i) {
    double a = got.data[i], b = want.data[i];
    bool same = std::isfinite(b) ? std::fabs(a - b) <=
                                       relative * (std::fabs(b) + scale) + 1e-37
                                 : (std::isnan(b) ? std::isnan(a) : a == b);
    if (!same) {
      ADD_FAILURE() << "element " << i << ": expected " << b << ", got " << a;
      ++shown;
    }
  }
}

void DeviceConformance::SetUp() {
  if (!GetParam().isa.empty()) {
    setenv("TOMBOLO_CPU_ISA", GetParam().isa.c_str(), 1);
  }
  try {
    subject = createDevice(GetParam().device, {.threads = GetParam().threads});
  } catch (const Error &error) {
    if (GetParam().isa.empty())
      throw;
    GTEST_SKIP() << error.what();
  }
}

void DeviceConformance::TearDown() { unsetenv("TOMBOLO_CPU_ISA"); }

INSTANTIATE_TEST_SUITE_P(
    Devices, DeviceConformance,
    testing::Values(Subject{"cpu", "", 1}, Subject{"cpu", "", 3},
                    Subject{"cpu", "avx2", 1}, Subject{"cpu", "baseline", 1}),
    [](const testing::TestParamInfo<Subject> &info) {
      return info.param.device +
             (info.param.isa.empty() ? "" : "_" + info.param.isa) + "_threads" +
             std::to_string(info.param.threads);
    });
