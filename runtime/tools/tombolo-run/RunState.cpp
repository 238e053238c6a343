//===- RunState.cpp - what is known of a run, from its events -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RunState.h"

#include "Events.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

using namespace tombolo::runtime;
using nlohmann::json;

namespace {

/// Of the newest events, to be looked at.
constexpr std::size_t kMostEvents = 20;
/// Kinds of events that are counted; there are fewer.
constexpr std::size_t kMostKinds = 64;
/// Of a figure that moves: how much the newest one weighs.
constexpr double kFresh = 0.2;

} // namespace

RunState::RunState(const Plan &plan, std::uint64_t steps, std::string site)
    : steps(steps), site(std::move(site)) {
  for (const auto &given : plan.islands()) {
    auto number = static_cast<std::uint32_t>(islands.size());
    Island &island = islands.emplace_back();
    island.count = IslandSteps(plan, number);
    island.sites.assign(given.sites().begin(), given.sites().end());
  }
  if (plan.has_server())
    primary = plan.server().placements(0).primary();
}

bool RunState::isAt(const Island &island, const std::string &where) const {
  return std::find(island.sites.begin(), island.sites.end(), where) !=
         island.sites.end();
}

void RunState::noteStep(const json &event) {
  auto number = field<std::size_t>(event, "island", ~std::size_t(0));
  if (number >= islands.size())
    return;
  Island &island = islands[number];
  auto seconds = field<double>(event, "seconds", 0);
  auto tokens = field<std::uint64_t>(event, "tokens", 0);
  double rate = seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  island.tokensPerSecond =
      island.anyStep ? (1 - kFresh) * island.tokensPerSecond + kFresh * rate
                     : rate;
  island.anyStep = true;
  island.stepsDone = field<std::uint64_t>(event, "step", 0) + 1;
  island.tokens += tokens;
  island.loss.reset();
  if (auto loss = event.find("loss"); loss->is_number())
    island.loss = loss->get<double>();
  island.state =
      island.stepsDone >= island.count.ofJob(steps) ? "done" : "training";
}

void RunState::noteVersion(const json &event, double now) {
  auto fragment = field<std::uint32_t>(event, "fragment", 0);
  auto version = field<std::uint64_t>(event, "version", 0);
  bool isStart = field<std::string>(event, "event", "") == "start";
  outerSteps += !isStart;
  std::uint64_t &known = versions[fragment];
  known = std::max(known, version);
  auto members = field<std::vector<std::uint32_t>>(event, "islands", {});
  for (std::uint32_t number = 0; number < islands.size(); ++number) {
    Island &island = islands[number];
    // All begin with the first version.
    if (!isStart &&
        std::find(members.begin(), members.end(), number) == members.end())
      continue;
    island.versions[fragment] = version;
    island.syncSeconds = now;
  }
  auto from = field<std::vector<std::uint64_t>>(event, "pushed_bytes", {});
  auto to = field<std::vector<std::uint64_t>>(event, "pulled_bytes", {});
  if (from.size() != islands.size() || to.size() != islands.size())
    return;
  double seconds = bytesSeconds ? now - *bytesSeconds : 0;
  for (std::size_t i = 0; i < islands.size(); ++i) {
    Island &island = islands[i];
    // A server that was started again counts from 0.
    bool grew = from[i] >= island.fromIsland && to[i] >= island.toIsland;
    auto more = static_cast<double>(from[i] - island.fromIsland + to[i] -
                                    island.toIsland);
    if (grew && seconds > 0)
      island.lineBytesPerSecond =
          (1 - kFresh) * island.lineBytesPerSecond + kFresh * more / seconds;
    island.fromIsland = from[i];
    island.toIsland = to[i];
  }
  bytesSeconds = now;
}

void RunState::note(const json &event, double now) {
  auto kind = field<std::string>(event, "event", "");
  if (kind.empty()) {
    if (event.contains("loss"))
      noteStep(event);
    return;
  }
  if (counts.contains(kind) || counts.size() < kMostKinds)
    ++counts[kind];
  newest.push_back(event);
  if (newest.size() > kMostEvents)
    newest.pop_front();
  auto number = field<std::size_t>(event, "island", ~std::size_t(0));
  Island *island = number < islands.size() ? &islands[number] : nullptr;
  auto part = field<std::string>(event, "part", "");
  auto where = field<std::string>(event, "site", "");
  if (kind == "start" || kind == "outer_step") {
    noteVersion(event, now);
  } else if (kind == "epoch") {
    epoch = field<std::uint64_t>(event, "epoch", 0);
    primary = where;
    backup = field<std::string>(event, "backup", "");
  } else if (kind == "restart" && island) {
    island->state = "restarting";
    island->incarnation = field<std::uint64_t>(event, "incarnation", 0);
    island->stepsDone =
        island->count.ofJob(field<std::uint64_t>(event, "step", 0));
  } else if (kind.starts_with("checkpoint") && island) {
    island->stalledSeconds += field<double>(event, "stalled_seconds", 0);
  } else if (kind == "begin" && island) {
    island->incarnation = field<std::uint64_t>(event, "incarnation", 0);
    island->stepsDone =
        island->count.ofJob(field<std::uint64_t>(event, "step", 0));
  } else if (kind == "rank_failed" && island) {
    island->state = "lost";
  } else if (kind == "stopped" && island) {
    island->state = "stopped";
  } else if ((kind == "island_removed" || kind == kIslandLeft) && island) {
    island->state = "removed";
  } else if (kind == "island_added" && island) {
    island->state = "lost";     // until it comes
  } else if (part == "agent") { // restart, part_lost
    for (Island &each : islands)
      if (isAt(each, where) && each.state != "done") {
        each.state = kind == "restart" ? "restarting" : "lost";
        each.incarnation = field(event, "incarnation", each.incarnation);
      }
  }
}

/// Versions that the island has no part in.
std::uint64_t RunState::behind(const Island &island) const {
  std::uint64_t most = 0;
  for (const auto &[fragment, version] : versions) {
    auto own = island.versions.find(fragment);
    most = std::max(most, version - (own == island.versions.end()
                                         ? 0
                                         : std::min(own->second, version)));
  }
  return most;
}

json RunState::toJson(double now) const {
  json status = {{"steps", steps},           {"outer_steps", outerSteps},
                 {"islands", json::array()}, {"events", newest},
                 {"event_counts", counts},   {"versions", json::array()}};
  if (!site.empty())
    status["site"] = site;
  for (std::size_t i = 0; i < islands.size(); ++i) {
    const Island &island = islands[i];
    json &line = status["islands"].emplace_back();
    line = {{"island", i},
            {"sites", island.sites},
            {"here", site.empty() || isAt(island, site)},
            {"state", island.state},
            {"step", island.stepsDone},
            {"steps", island.count.ofJob(steps)},
            {"tokens", island.tokens},
            {"tokens_per_second", island.tokensPerSecond},
            {"incarnation", island.incarnation},
            {"checkpoint_stalled_seconds", island.stalledSeconds},
            {"pushed_bytes", island.fromIsland},
            {"pulled_bytes", island.toIsland},
            {"line_bytes_per_second", island.lineBytesPerSecond},
            {"behind_rounds", behind(island)},
            {"loss", nullptr},
            {"last_sync_seconds", nullptr}};
    if (island.loss)
      line["loss"] = *island.loss;
    if (island.syncSeconds)
      line["last_sync_seconds"] = now - *island.syncSeconds;
  }
  for (const auto &[fragment, version] : versions)
    status["versions"].push_back(
        {{"fragment", fragment}, {"version", version}});
  if (!primary.empty())
    status["server"] = {
        {"primary", primary}, {"backup", backup}, {"epoch", epoch}};
  return status;
}

// ------------------------------------------------------------------ Prometheus

namespace {

class Exposition {
public:
  void family(const char *name, const char *type, const char *help) {
    text += std::string("# HELP tombolo_") + name + " " + help +
            "\n# TYPE tombolo_" + name + " " + type + "\n";
    current = name;
  }
  void sample(const std::vector<std::pair<const char *, std::string>> &labels,
              double value) {
    text += std::string("tombolo_") + current;
    for (std::size_t i = 0; i < labels.size(); ++i)
      text += std::string(i ? "," : "{") + labels[i].first + "=\"" +
              escaped(labels[i].second) + "\"";
    char digits[40];
    std::snprintf(digits, sizeof digits, "%.17g", value);
    text += (labels.empty() ? " " : "} ") +
            (std::isfinite(value) ? std::string(digits) : "NaN") + "\n";
  }

  std::string text;

private:
  static std::string escaped(const std::string &value) {
    std::string result;
    for (char c : value) {
      if (c == '\\' || c == '"')
        result += '\\';
      result += c == '\n' ? std::string("\\n") : std::string(1, c);
    }
    return result;
  }

  const char *current = "";
};

std::string sitesOf(const json &island) {
  std::string sites;
  for (const auto &site : field<std::vector<std::string>>(island, "sites", {}))
    sites += (sites.empty() ? "" : "+") + site;
  return sites;
}

} // namespace

std::string tombolo::runtime::prometheusText(const json &status) {
  Exposition out;
  const json islands = field(status, "islands", json::array());
  // A site's agent knows its own islands' steps, and a primary server's the
  // versions.
  const bool hasVersions = !field(status, "versions", json::array()).empty();
  auto isHere = [](const json &island) { return field(island, "here", false); };
  auto perIsland = [&](const char *name, const char *type, const char *help,
                       const char *key, bool ofServer = false) {
    out.family(name, type, help);
    for (const json &island : islands) {
      auto value = island.find(key);
      if (value == island.end() || !value->is_number() ||
          !(ofServer ? hasVersions : isHere(island)))
        continue;
      out.sample({{"island", std::to_string(field(island, "island", 0u))},
                  {"sites", sitesOf(island)}},
                 value->get<double>());
    }
  };
  out.family("steps", "gauge", "Inner steps that the run is to do.");
  out.sample({}, field<double>(status, "steps", 0));
  perIsland("step", "gauge", "Inner steps done.", "step");
  perIsland("loss", "gauge", "Loss of the last inner step.", "loss");
  perIsland("tokens_total", "counter", "Tokens trained on.", "tokens");
  perIsland("tokens_per_second", "gauge", "Of the last steps.",
            "tokens_per_second");
  perIsland("incarnation", "gauge", "How often the island was restarted.",
            "incarnation");
  perIsland("checkpoint_stalled_seconds_total", "counter",
            "That training stood still for checkpoints.",
            "checkpoint_stalled_seconds");
  perIsland("pushed_bytes_total", "counter",
            "What the server has received of the island.", "pushed_bytes",
            /*ofServer=*/true);
  perIsland("pulled_bytes_total", "counter",
            "What the server has sent to the island.", "pulled_bytes",
            /*ofServer=*/true);
  perIsland("line_bytes_per_second", "gauge", "Both, of the last rounds.",
            "line_bytes_per_second", /*ofServer=*/true);
  perIsland("last_sync_seconds", "gauge",
            "Since a version was made that the island has a part in.",
            "last_sync_seconds", /*ofServer=*/true);
  perIsland("behind_rounds", "gauge",
            "Versions since then that it has no part in.", "behind_rounds",
            /*ofServer=*/true);
  out.family("island_state", "gauge", "1 for the state that it is in.");
  for (const json &island : islands)
    if (isHere(island))
      out.sample({{"island", std::to_string(field(island, "island", 0u))},
                  {"sites", sitesOf(island)},
                  {"state", field<std::string>(island, "state", "")}},
                 1);
  out.family("outer_steps_total", "counter", "Versions made.");
  if (hasVersions)
    out.sample({}, field<double>(status, "outer_steps", 0));
  out.family("version", "gauge", "The newest one of a fragment.");
  for (const json &version : field(status, "versions", json::array()))
    out.sample({{"fragment", std::to_string(field(version, "fragment", 0u))}},
               field<double>(version, "version", 0));
  if (status.contains("server")) {
    const json &server = status["server"];
    out.family("epoch", "gauge", "Of the primary server.");
    out.sample({{"primary", field<std::string>(server, "primary", "")},
                {"backup", field<std::string>(server, "backup", "")}},
               field<double>(server, "epoch", 0));
  }
  out.family("events_total", "counter", "Lines of events, by kind.");
  for (const auto &[kind, count] :
       field(status, "event_counts", std::map<std::string, std::uint64_t>()))
    out.sample({{"event", kind}}, static_cast<double>(count));
  return out.text;
}
