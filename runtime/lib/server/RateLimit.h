//===- RateLimit.h - no more than so many bytes a second --------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_SERVER_RATELIMIT_H
#define TOMBOLO_LIB_SERVER_RATELIMIT_H

#include <chrono>
#include <cstddef>
#include <functional>
#include <mutex>

namespace tombolo::runtime {

/// Lets bytes go one after the other, so many a second: no burst, so that n
/// bytes take n / rate at least from when the first of them was asked for. Safe
/// from several threads.
class RateLimit {
public:
  /// 0: no limit.
  explicit RateLimit(double bytesPerSecond) : rate(bytesPerSecond) {}

  /// How many bytes to ask for at a time, at most `most`: what takes so short
  /// that others who send do not wait for long.
  std::size_t piece(std::size_t most) const;
  /// Waits until `bytes` may have gone. False, early, when `isGone`, asked now
  /// and then, says that nobody wants them any more.
  bool take(std::size_t bytes, const std::function<bool()> &isGone);
  /// Of what went without asking, for it must not wait: others do.
  void charge(std::size_t bytes) { reserve(bytes); }

private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point reserve(std::size_t bytes);

  const double rate;
  std::mutex mutex;
  Clock::time_point free; ///< when all that was asked for has gone
};

} // namespace tombolo::runtime

#endif // TOMBOLO_LIB_SERVER_RATELIMIT_H
