//===- Seldom.h - who repeats himself is heard now and then -----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_SERVER_SELDOM_H
#define TOMBOLO_RUNTIME_SERVER_SELDOM_H

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace tombolo::runtime {

/// For a log that strangers can write to: the same message once a minute, 100
/// messages in a minute, and what is left out is counted. Not of several
/// threads.
class Seldom {
public:
  /// What to write now, if anything. `now` in seconds.
  std::optional<std::string> say(const std::string &message, double now) {
    std::erase_if(said, [&](const auto &entry) {
      const Said &one = entry.second;
      // One of which some were left out waits for the next to be told of.
      bool isOver = now - one.at >= (one.leftOut ? 10 : 1) * kSeconds;
      if (isOver)
        others += one.leftOut;
      return isOver;
    });
    auto found = said.find(message);
    auto ofLate = [&](const auto &entry) {
      return now - entry.second.at < kSeconds;
    };
    if (found == said.end() &&
        (std::count_if(said.begin(), said.end(), ofLate) >= kMost ||
         said.size() >= 10 * kMost)) {
      ++others;
      return std::nullopt;
    }
    if (found != said.end() && now - found->second.at < kSeconds) {
      ++found->second.leftOut;
      return std::nullopt;
    }
    std::uint64_t same = std::exchange(said[message], Said{now}).leftOut;
    std::string line = message;
    if (same)
      line +=
          " (and " + std::to_string(same) + " times more since it was told)";
    if (std::uint64_t left = std::exchange(others, 0))
      line += " (" + std::to_string(left) + " other refusals were left out)";
    return line;
  }

  /// Now.
  std::optional<std::string> say(const std::string &message) {
    using Seconds = std::chrono::duration<double>;
    const Seconds now = std::chrono::steady_clock::now().time_since_epoch();
    return say(message, now.count());
  }

private:
  static constexpr double kSeconds = 60;
  static constexpr int kMost = 100;

  struct Said {
    double at = 0;
    std::uint64_t leftOut = 0;
  };
  std::map<std::string, Said> said;
  std::uint64_t others = 0;
};

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_SERVER_SELDOM_H
