//===- Parse.cpp - failures, slow chips and lines from text-------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"
#include "tombolo/runtime/sim/Simulate.h"

#include <charconv>
#include <cmath>

namespace tombolo::runtime::sim {

namespace {

/// A whole text as a finite number of at least `low`.
std::optional<double> number(std::string_view text, double low) {
  double value = 0;
  auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() ||
      !std::isfinite(value) || value < low)
    return std::nullopt;
  return value;
}

} // namespace

Fault parseFault(const std::string &text) {
  auto fail = [&]() -> Error {
    return Error(Status::Usage,
                 "--fail: expected SITE@SECONDS[+DURATION], where SITE may also "
                 "be SITE/POOL (a chip there), server:SITE or line:SITE,SITE; "
                 "got '",
                 text, "'");
  };
  Fault fault;
  std::size_t at = text.rfind('@');
  if (at == std::string::npos || at == 0)
    throw fail();
  std::string what = text.substr(0, at);
  std::string when = text.substr(at + 1);
  // Not the plus of an exponent.
  std::size_t plus = when.find('+');
  while (plus != std::string::npos && plus > 0 &&
         (when[plus - 1] == 'e' || when[plus - 1] == 'E'))
    plus = when.find('+', plus + 1);
  if (plus != std::string::npos) {
    auto duration = number(std::string_view(when).substr(plus + 1), 0);
    if (!duration || *duration == 0)
      throw fail();
    fault.duration = *duration;
    when.resize(plus);
  }
  auto seconds = number(when, 0);
  if (!seconds)
    throw fail();
  fault.seconds = *seconds;
  auto split = [&](char by) {
    std::size_t place = what.find(by);
    if (place == std::string::npos)
      return false;
    fault.other = what.substr(place + 1);
    what.resize(place);
    if (fault.other.empty())
      throw fail();
    return true;
  };
  if (what.starts_with("server:")) {
    fault.kind = Fault::Server;
    what.erase(0, 7);
  } else if (what.starts_with("line:")) {
    fault.kind = Fault::Line;
    what.erase(0, 5);
    if (!split(','))
      throw fail();
  } else if (split('/')) {
    fault.kind = Fault::Chip;
  }
  if (what.empty())
    throw fail();
  fault.site = what;
  return fault;
}

Straggler parseStraggler(const std::string &text) {
  auto fail = [&]() -> Error {
    return Error(Status::Usage,
                 "--slow: expected SITE/POOL=FACTOR or SITE/POOL:CHIP=FACTOR "
                 "with a positive factor, got '",
                 text, "'");
  };
  Straggler slow;
  std::size_t equals = text.rfind('='), slash = text.find('/');
  if (equals == std::string::npos || slash == std::string::npos ||
      slash > equals || slash == 0)
    throw fail();
  auto factor = number(std::string_view(text).substr(equals + 1), 0);
  if (!factor || *factor == 0)
    throw fail();
  slow.factor = *factor;
  slow.site = text.substr(0, slash);
  slow.pool = text.substr(slash + 1, equals - slash - 1);
  std::size_t colon = slow.pool.find(':');
  if (colon != std::string::npos) {
    std::uint64_t chip = 0;
    const char *end = slow.pool.data() + slow.pool.size();
    auto parsed = std::from_chars(slow.pool.data() + colon + 1, end, chip);
    if (parsed.ec != std::errc() || parsed.ptr != end)
      throw fail();
    slow.chip = chip;
    slow.pool.resize(colon);
  }
  if (slow.pool.empty())
    throw fail();
  return slow;
}

std::vector<LineChange> readLineTrace(const std::string &path) {
  constexpr std::uint64_t kLimit = std::uint64_t{1} << 26;
  std::string text = readFile(path, kLimit);
  std::vector<LineChange> changes;
  std::size_t lineNumber = 0;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    ++lineNumber;
    if (!line.empty() && line.back() == '\r')
      line.pop_back();
    auto fail = [&](const std::string &what) {
      return Error(path, ":", lineNumber, ": ", what, ", got '", line, "'");
    };
    if (lineNumber == 1) {
      if (line != "seconds,first,second,gbits_per_second")
        throw fail("expected the header seconds,first,second,gbits_per_second");
      continue;
    }
    if (line.empty())
      continue;
    std::vector<std::string> cells{""};
    for (char c : line)
      if (c == ',')
        cells.emplace_back();
      else
        cells.back() += c;
    if (cells.size() != 4)
      throw fail("expected four cells");
    LineChange change;
    auto seconds = number(cells[0], 0), rate = number(cells[3], 0);
    if (!seconds)
      throw fail("expected seconds of at least 0");
    if (!rate)
      throw fail("expected a rate of at least 0 Gbit/s");
    if (!changes.empty() && *seconds < changes.back().seconds)
      throw fail("expected seconds that do not descend");
    changes.push_back({*seconds, cells[1], cells[2], *rate * 1e9 / 8});
  }
  if (lineNumber == 0)
    throw Error(path, ": expected the header "
                      "seconds,first,second,gbits_per_second, got nothing");
  return changes;
}

} // namespace tombolo::runtime::sim
