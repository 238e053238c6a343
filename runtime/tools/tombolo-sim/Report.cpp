//===- Report.cpp - what tombolo-sim tells------------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Report.h"

#include <algorithm>
#include <cstdio>
#include <ostream>

namespace tombolo::runtime::sim {

namespace {

using Row = std::vector<std::string>;

template <typename... Parts>
std::string format(const char *pattern, Parts... parts) {
  char text[128];
  std::snprintf(text, sizeof text, pattern, parts...);
  return text;
}

std::string secondsText(double seconds) {
  if (seconds == 0)
    return "0";
  if (seconds < 1e-3)
    return format("%.1f us", seconds * 1e6);
  if (seconds < 1)
    return format("%.2f ms", seconds * 1e3);
  return format("%.3f s", seconds);
}

std::string bytesText(double bytes) {
  static constexpr const char *units[] = {"B",   "KiB", "MiB",
                                          "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < std::size(units); ++unit)
    bytes /= 1024;
  return format(unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

std::string percent(double part) { return format("%.1f %%", 100 * part); }

/// Columns in `left` are flush left.
void printRows(std::ostream &os, const std::vector<Row> &rows,
               std::initializer_list<std::size_t> left) {
  std::vector<std::size_t> widths(rows[0].size());
  for (const Row &row : rows)
    for (std::size_t c = 0; c < row.size(); ++c)
      widths[c] = std::max(widths[c], row[c].size());
  for (const Row &row : rows) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      std::string space(widths[c] - row[c].size(), ' ');
      bool isLeft = std::find(left.begin(), left.end(), c) != left.end();
      line += (c ? "  " : "") + (isLeft ? row[c] + space : space + row[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    os << line << "\n";
  }
  os << "\n";
}

/// Of the time of one rank.
struct Parts {
  double busy = 0;
  std::array<double, kExposures> exposed{};

  void add(const ClassResult &of, double times) {
    busy += times * of.busySeconds;
    for (std::size_t e = 0; e < kExposures; ++e)
      exposed[e] += times * of.exposedSeconds[e];
  }
  double total() const {
    double sum = busy;
    for (double seconds : exposed)
      sum += seconds;
    return sum > 0 ? sum : 1;
  }
};

} // namespace

void printTable(std::ostream &os, const Plan &, const SimResult &result) {
  std::vector<Row> rows = {{"island", "stage", "pool", "ranks", "compute"}};
  // Only what there is.
  std::array<bool, kExposures> shown{true};
  for (const IslandResult &island : result.islands)
    for (const ClassResult &one : island.classes)
      for (std::size_t e = 0; e < kExposures; ++e)
        shown[e] |= one.exposedSeconds[e] > 0;
  for (std::size_t e = 0; e < kExposures; ++e)
    if (shown[e])
      rows[0].push_back(name(static_cast<Exposure>(e)));
  rows[0].push_back("memory");
  for (std::size_t i = 0; i < result.islands.size(); ++i) {
    // The classes of a stage on one pool, together.
    const std::vector<ClassResult> &classes = result.islands[i].classes;
    for (std::size_t c = 0; c < classes.size(); ++c) {
      auto isSame = [&](const ClassResult &other) {
        return other.stage == classes[c].stage && other.pool == classes[c].pool;
      };
      if (std::any_of(classes.begin(),
                      classes.begin() + static_cast<std::ptrdiff_t>(c), isSame))
        continue;
      Parts parts;
      std::uint64_t ranks = 0, memory = 0;
      for (const ClassResult &other : classes)
        if (isSame(other)) {
          ranks += other.ranks;
          memory = std::max(memory, other.memoryBytes);
          parts.add(other, static_cast<double>(other.ranks));
        }
      Row row{std::to_string(i), std::to_string(classes[c].stage),
              classes[c].pool, std::to_string(ranks),
              percent(parts.busy / parts.total())};
      for (std::size_t e = 0; e < kExposures; ++e)
        if (shown[e])
          row.push_back(percent(parts.exposed[e] / parts.total()));
      row.push_back(bytesText(static_cast<double>(memory)));
      rows.push_back(std::move(row));
    }
  }
  printRows(os, rows, {2});

  rows = {{"pool", "chips", "used", "computing"}};
  for (const PoolResult &pool : result.pools)
    rows.push_back({pool.name, std::to_string(pool.chips),
                    std::to_string(pool.used),
                    pool.used ? percent(pool.utilisation) : "-"});
  printRows(os, rows, {0});
  if (!result.lines.empty()) {
    rows = {{"line", "bytes", "used"}};
    for (const LineResult &line : result.lines)
      rows.push_back({line.first + " to " + line.second, bytesText(line.bytes),
                      percent(line.utilisation)});
    printRows(os, rows, {0});
  }
  for (const std::string &line : result.log)
    os << line << "\n";
  if (!result.log.empty())
    os << "\n";
  for (std::size_t i = 0; i < result.islands.size(); ++i) {
    const IslandResult &island = result.islands[i];
    os << "island " << i << ": " << island.steps << " steps";
    if (island.stepsLost > 0)
      os << ", " << island.stepsLost << " of them lost";
    if (island.rounds > 0)
      os << ", " << island.rounds << " rounds committed";
    if (island.downSeconds > 0)
      os << ", down for " << secondsText(island.downSeconds);
    os << ", " << secondsText(island.stepSeconds) << " each\n";
  }
  if (result.exchangeSeconds > 0)
    os << "exchange: " << secondsText(result.exchangeSeconds)
       << " of each round not overlapped, "
       << bytesText(result.wanBytesPerRound) << " between sites\n";
  os << "step: " << secondsText(result.stepSeconds) << ", "
     << format("%.1f", result.tokensPerSecond) << " tokens/s, bubble "
     << percent(result.bubbleFraction) << "\n";
  if (result.equivalentCompute) {
    os << "equivalent compute: " << format("%.3f", *result.equivalentCompute);
    if (result.equivalentComputeOfUsedChips)
      os << " (of the chips used: "
         << format("%.3f", *result.equivalentComputeOfUsedChips) << ")";
    os << "\n";
  }
  if (!result.log.empty())
    os << "goodput: " << percent(result.goodput)
       << " of the same run without failures\n";
  os << "simulated " << secondsText(result.seconds) << ", " << result.steps
     << " steps (" << result.stepsSimulated
     << " calculated, the others like one before), " << result.events
     << " events\n";
}

} // namespace tombolo::runtime::sim
