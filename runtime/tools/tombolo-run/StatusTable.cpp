//===- StatusTable.cpp - the table of a run for people --------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "StatusTable.h"

#include "Events.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

using namespace tombolo::runtime;
using nlohmann::json;

namespace {

constexpr std::size_t kColumns = 7;
constexpr const char *kHeads[kColumns] = {
    "site", "step", "loss", "tokens/s", "line", "last sync", "behind"};
/// Names of sites are cut to this.
constexpr std::size_t kMostName = 24;

using Row = std::vector<std::string>; // of kColumns cells

/// Columns on a terminal; a character of UTF-8 counts as one.
std::size_t widthOf(const std::string &text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

/// At most so many columns. What would move the cursor is not for a terminal.
std::string cut(const std::string &text, std::size_t width) {
  std::string result;
  std::size_t used = 0;
  for (char c : text) {
    if ((c & 0xc0) != 0x80 && ++used > width)
      break;
    result += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return result;
}

std::string padded(const std::string &text, std::size_t width, bool left) {
  std::string space(width - std::min(width, widthOf(text)), ' ');
  return left ? text + space : space + text;
}

std::string format(const char *how, double value) {
  char text[48];
  std::snprintf(text, sizeof text, how, value);
  return text;
}

/// With a unit of 1000s: 1.23 M.
std::string scaled(double value, const char *unit) {
  const char *const prefixes[] = {"", "k", "M", "G", "T"};
  std::size_t prefix = 0;
  while (value >= 999.5 && prefix < 4) {
    value /= 1000;
    ++prefix;
  }
  std::string space = prefix == 0 && !*unit ? "" : " ";
  return format(value < 9.995 && prefix > 0 ? "%.2f" : "%.0f", value) + space +
         prefixes[prefix] + unit;
}

std::string ago(double seconds) {
  if (seconds < 120)
    return format("%.0f s", std::floor(std::max(0.0, seconds)));
  if (seconds < 7200)
    return format("%.0f min", std::floor(seconds / 60));
  return format("%.0f h", std::floor(seconds / 3600));
}

std::string number(const json &island, const char *key) {
  return std::to_string(field<std::uint64_t>(island, key, 0));
}

Row rowOf(const json &island, std::uint64_t steps) {
  Row row;
  std::string name;
  for (const auto &site : field<std::vector<std::string>>(island, "sites", {}))
    name += (name.empty() ? "" : "+") + site;
  row.push_back(cut(name, kMostName));
  auto state = field<std::string>(island, "state", "");
  std::string step =
      number(island, "step") + "/" +
      std::to_string(field<std::uint64_t>(island, "steps", steps));
  auto value = [&](const char *key) { return field<double>(island, key, -1); };
  // Else it is another site's agent that does.
  bool knows = field(island, "here", false) || state == "lost";
  row.push_back(!knows                                   ? ""
                : state == "training" || state == "done" ? step
                                                         : state + " " + step);
  auto loss = island.find("loss");
  row.push_back(loss != island.end() && loss->is_number()
                    ? format("%.4f", loss->get<double>())
                    : "");
  row.push_back(knows && state != "starting"
                    ? scaled(std::max(0.0, value("tokens_per_second")), "")
                    : "");
  double line = value("line_bytes_per_second");
  row.push_back(line > 0 ? scaled(line, "B/s") : "");
  double sync = value("last_sync_seconds");
  row.push_back(sync < 0 ? "" : ago(sync));
  auto behind = field<std::uint64_t>(island, "behind_rounds", 0);
  row.push_back(behind == 0 ? "" : number(island, "behind_rounds"));
  return row;
}

/// Of each island what the site says that has it.
std::map<std::uint64_t, json> newestOf(const std::vector<json> &all) {
  std::map<std::uint64_t, json> islands;
  for (const json &status : all)
    for (const json &island : field(status, "islands", json::array())) {
      if (!island.is_object())
        continue;
      auto [place, fresh] = islands.try_emplace(
          field<std::uint64_t>(island, "island", 0), island);
      if (fresh)
        continue;
      json &known = place->second;
      json other = island;
      if (field(other, "here", false) && !field(known, "here", false))
        std::swap(known, other);
      // Who has the server knows of versions and of the line.
      for (const char *key :
           {"last_sync_seconds", "behind_rounds", "line_bytes_per_second"})
        if (field<double>(known, key, 0) <= 0 && other.contains(key))
          known[key] = other[key];
    }
  return islands;
}

std::string serverLine(const std::vector<json> &all) {
  json server;
  std::uint64_t outerSteps = 0;
  for (const json &status : all) {
    outerSteps =
        std::max(outerSteps, field<std::uint64_t>(status, "outer_steps", 0));
    json one = field(status, "server", json());
    if (one.is_object() &&
        (!server.is_object() || field<std::uint64_t>(one, "epoch", 0) >
                                    field<std::uint64_t>(server, "epoch", 0)))
      server = one;
  }
  if (!server.is_object())
    return "";
  std::string text = "server " + field<std::string>(server, "primary", "");
  auto backup = field<std::string>(server, "backup", "");
  auto epoch = field<std::uint64_t>(server, "epoch", 0);
  if (epoch > 0)
    text += (backup.empty() ? ", no backup" : ", backup " + backup) +
            ", epoch " + std::to_string(epoch);
  if (outerSteps > 0)
    text += ", " + std::to_string(outerSteps) +
            (outerSteps == 1 ? " outer step" : " outer steps");
  return text;
}

} // namespace

std::vector<std::string>
tombolo::runtime::statusTable(const std::vector<json> &all, std::size_t width,
                              bool colour) {
  std::uint64_t steps = 0;
  for (const json &status : all)
    steps = std::max(steps, field<std::uint64_t>(status, "steps", 0));
  std::vector<Row> rows = {Row(kHeads, kHeads + kColumns)};
  std::vector<std::string> codes = {"2"}; // faint
  for (const auto &[number, island] : newestOf(all)) {
    rows.push_back(rowOf(island, steps));
    auto state = field<std::string>(island, "state", "");
    codes.push_back(state == "lost"                                    ? "31"
                    : state == "restarting" || !rows.back()[6].empty() ? "33"
                    : state == "done"                                  ? "32"
                                                                       : "");
  }
  std::size_t widths[kColumns] = {};
  for (const Row &row : rows)
    for (std::size_t i = 0; i < kColumns; ++i)
      widths[i] = std::max(widths[i], widthOf(row[i]));
  std::size_t columns = 0;
  for (std::size_t used = 0; columns < kColumns; ++columns) {
    used += widths[columns] + (columns ? 2 : 0);
    if (columns > 0 && used > width)
      break;
  }
  std::vector<std::string> lines;
  for (std::size_t n = 0; n < rows.size(); ++n) {
    std::string line;
    for (std::size_t i = 0; i < columns; ++i)
      line += (i ? "  " : "") + padded(rows[n][i], widths[i], /*left=*/i == 0);
    line.erase(line.find_last_not_of(' ') + 1);
    line = cut(line, width);
    if (colour && !codes[n].empty())
      line = "\033[" + codes[n] + "m" + line + "\033[0m";
    lines.push_back(std::move(line));
  }
  std::string server = cut(serverLine(all), width);
  if (!server.empty())
    lines.push_back(server);
  return lines;
}
