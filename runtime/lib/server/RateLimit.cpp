//===- RateLimit.cpp - no more than so many bytes a second ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RateLimit.h"

#include <algorithm>
#include <thread>

using namespace tombolo::runtime;

std::size_t RateLimit::piece(std::size_t most) const {
  constexpr double kSeconds = 0.02;
  constexpr std::size_t kLeast = 4096;
  if (rate <= 0)
    return most;
  return static_cast<std::size_t>(
      std::clamp(rate * kSeconds, static_cast<double>(std::min(kLeast, most)),
                 static_cast<double>(most)));
}

RateLimit::Clock::time_point RateLimit::reserve(std::size_t bytes) {
  if (rate <= 0)
    return {};
  std::lock_guard lock(mutex);
  free = std::max(free, Clock::now()) +
         std::chrono::duration_cast<Clock::duration>(
             std::chrono::duration<double>(static_cast<double>(bytes) / rate));
  return free;
}

bool RateLimit::take(std::size_t bytes, const std::function<bool()> &isGone) {
  constexpr std::chrono::milliseconds kLook(100);
  const Clock::time_point end = reserve(bytes);
  for (auto now = Clock::now(); now < end; now = Clock::now()) {
    if (isGone())
      return false;
    std::this_thread::sleep_until(std::min(end, now + kLook));
  }
  return true;
}
