//===- DeviceTimes.cpp - what a device reaches, whatever the model --------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/profile/DeviceTimes.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/plan/Validate.h"
#include "tombolo/schema/plan.pb.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace tombolo::runtime::profile {

using namespace plan::v1;

namespace {

/// z = x op y, all of one shape and type.
Segment binary(Opcode opcode, DType dtype, std::vector<std::uint64_t> dims) {
  Segment segment;
  segment.set_name("profile");
  std::uint64_t bytes = elementBytes(dtype);
  for (std::uint64_t size : dims)
    bytes *= size;
  for (std::uint32_t i = 0; i < 3; ++i) {
    Argument &argument = *segment.add_arguments();
    argument.set_name(i == 0 ? "x" : i == 1 ? "y" : "z");
    argument.set_bytes(bytes);
    argument.set_access(i == 2 ? ACCESS_WRITE : ACCESS_READ);
    Value &value = *segment.add_values();
    value.set_dtype(dtype);
    for (std::uint64_t size : dims)
      value.add_dims(size);
    value.set_argument(i);
  }
  Op &op = *segment.add_ops();
  op.set_opcode(opcode);
  op.add_inputs(0);
  op.add_inputs(1);
  op.add_outputs(2);
  return segment;
}

class Bench {
public:
  Bench(Device &device, double seconds)
      : device(device), seconds(seconds),
        arena(device.allocateArena(3 * kVectorBytes)) {
    std::vector<float> values(kVectorBytes / 4);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = 0.01f * static_cast<float>(1 + i % 7);
    device.copyToDevice(arena->base(), std::as_bytes(std::span(values)));
    device.copyToDevice(arena->base() + kVectorBytes,
                        std::as_bytes(std::span(values)));
  }

  static constexpr std::uint64_t kVectorBytes = std::uint64_t(64) << 20;

  /// The median of a call's seconds.
  double timeOf(Opcode opcode, DType dtype, std::vector<std::uint64_t> dims) {
    auto run = device.prepare(binary(opcode, dtype, std::move(dims)));
    std::byte *addresses[] = {arena->base(), arena->base() + kVectorBytes,
                              arena->base() + 2 * kVectorBytes};
    using Clock = std::chrono::steady_clock;
    run->run(addresses, nullptr);
    std::vector<double> times;
    auto begin = Clock::now();
    do {
      auto start = Clock::now();
      run->run(addresses, nullptr);
      times.push_back(
          std::chrono::duration<double>(Clock::now() - start).count());
    } while (times.size() < 5 ||
             std::chrono::duration<double>(Clock::now() - begin).count() <
                 seconds);
    std::nth_element(times.begin(), times.begin() + times.size() / 2,
                     times.end());
    return times[times.size() / 2];
  }

private:
  Device &device;
  double seconds; // for each
  std::unique_ptr<Arena> arena;
};

} // namespace

DeviceTimes measureDevice(Device &device, double seconds) {
  if (device.name() == "null")
    throw Error("device 'null' computes nothing that could be measured");
  Bench bench(device, seconds / 8);
  DeviceTimes times;
  const std::uint64_t sizes[] = {256, 512, 1024};
  double sum = 0;
  auto rateOf = [&](DType dtype, std::uint64_t n) {
    double flops = 2.0 * static_cast<double>(n * n * n);
    return flops * 1e-12 / bench.timeOf(OPCODE_MATMUL, dtype, {n, n});
  };
  for (std::uint64_t n : sizes) {
    double rate = rateOf(DTYPE_F32, n);
    times.tflopsF32 = std::max(times.tflopsF32, rate);
    sum += rate;
  }
  try {
    for (std::uint64_t n : sizes)
      times.tflopsBF16 = std::max(times.tflopsBF16, rateOf(DTYPE_BF16, n));
  } catch (const Error &) { // not every device computes in bf16
    times.tflopsBF16 = 0;
  }
  times.matmul = sum / std::size(sizes) / times.tflopsF32;
  // Two are read, one is written. Half of it tells a cache from memory.
  sum = 0;
  for (std::uint64_t part : {2, 1}) {
    std::uint64_t bytes = Bench::kVectorBytes / part;
    double rate = 3e-9 * static_cast<double>(bytes) /
                  bench.timeOf(OPCODE_ADD, DTYPE_F32, {bytes / 4});
    times.memoryGbytesPerSecond = std::max(times.memoryGbytesPerSecond, rate);
    sum += rate;
  }
  times.memory = sum / 2 / times.memoryGbytesPerSecond;
  times.kernelUs = 1e6 * bench.timeOf(OPCODE_ADD, DTYPE_F32, {16});
  return times;
}

} // namespace tombolo::runtime::profile
