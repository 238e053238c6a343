//===- LinkTimes.cpp - what transfers between ranks take ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/profile/LinkTimes.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace tombolo::runtime::profile {

namespace {

constexpr std::uint64_t kWarmUp = 3, kFewest = 8, kMost = 400;

/// Runs `once`, which gives its seconds, as often as the budget allows; member
/// 0 says how often.
template <typename Once>
LinkTime measure(Communicator &over, std::uint64_t bytes, double budgetSeconds,
                 Once once) {
  double longest = 0;
  for (std::uint64_t i = 0; i < kWarmUp; ++i)
    longest = std::max(longest, once());
  // Sums and parts need as many elements as members at least.
  std::vector<float> common(static_cast<std::size_t>(over.size()), 0);
  if (over.rank() == 0)
    common[0] = static_cast<float>(std::clamp<double>(
        budgetSeconds / std::max(longest, 1e-7), kFewest, kMost));
  over.allReduceSum(common);
  auto runs = static_cast<std::uint64_t>(common[0]);
  std::vector<double> seconds;
  for (std::uint64_t i = 0; i < runs; ++i)
    seconds.push_back(once());
  std::sort(seconds.begin(), seconds.end());
  auto quantile = [&](std::size_t quarter) {
    return static_cast<float>(seconds[quarter * (seconds.size() - 1) / 4]);
  };
  // What member 0 saw.
  std::vector<float> seen(std::max<std::size_t>(3, common.size()), 0);
  if (over.rank() == 0)
    seen[0] = quantile(2), seen[1] = quantile(1), seen[2] = quantile(3);
  over.allReduceSum(seen);
  return {bytes, seen[0], seen[1], seen[2], runs};
}

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

} // namespace

LinkTime measureMessage(Communicator &over, std::uint64_t bytes,
                        double budgetSeconds) {
  std::vector<std::byte> buffer(bytes);
  return measure(over, bytes, budgetSeconds, [&] {
    auto start = Clock::now();
    if (over.rank() == 0) {
      over.send(1, 0, buffer);
      over.receive(1, 0, buffer);
    } else if (over.rank() == 1) {
      over.receive(0, 0, buffer);
      over.send(0, 0, buffer);
    }
    return since(start) / 2;
  });
}

LinkTime measureAllReduce(Communicator &over, std::uint64_t bytes,
                          double budgetSeconds) {
  std::vector<float> buffer(std::max<std::uint64_t>(1, bytes / 4));
  return measure(over, bytes, budgetSeconds, [&] {
    // All come at once: what one waits for another is no part of a sum.
    over.barrier();
    auto start = Clock::now();
    over.allReduceSum(buffer);
    return since(start);
  });
}

WireFit fitWire(const std::vector<WireTime> &times) {
  // Minimises the sum of w ((a messages + b bytes) / t - 1)^2 over a, b.
  double aa = 0, ab = 0, bb = 0, a1 = 0, b1 = 0;
  for (const WireTime &time : times) {
    double u = time.messages / time.seconds, v = time.bytes / time.seconds;
    aa += time.weight * u * u, ab += time.weight * u * v;
    bb += time.weight * v * v;
    a1 += time.weight * u, b1 += time.weight * v;
  }
  double determinant = aa * bb - ab * ab;
  double a = determinant > 0 ? (a1 * bb - b1 * ab) / determinant : 0;
  double b = determinant > 0 ? (b1 * aa - a1 * ab) / determinant : 0;
  // Nothing but the rate, also where a busy machine took longer for fewer
  // bytes.
  if (!(a >= 0 && b > 0))
    a = 0, b = b1 / bb;
  return {a, 1 / b};
}

} // namespace tombolo::runtime::profile
