//===- Inputs.cpp - figures and metrics that others wrote -----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Inputs.h"

#include "Value.h"

#include "tombolo/runtime/File.h"
#include "tombolo/runtime/report/RunHistory.h"

#include <string_view>
#include <vector>

namespace tombolo::report {

static constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 30;
static constexpr std::size_t kMostPoints = 20'000; // of an island
static constexpr std::size_t kMostEvents = 20'000;

static Json parseFile(const std::string &path) {
  std::string text = runtime::readFile(path, kMostBytes);
  try {
    return Json::parse(text);
  } catch (const Json::parse_error &error) {
    throw Error("'", path, "': expected JSON: ", error.what());
  }
}

/// The figures by island and stage show whether the file is of this plan.
static void checkPlan(const Value &peakMemory, const std::string &path,
                      const runtime::Plan &plan) {
  auto differ = [&](const std::string &found, const std::string &expected) {
    throw Error("'", path, "' is of another plan: it has ", found,
                ", the plan has ", expected);
  };
  std::vector<Value> islands = peakMemory.elements();
  if (islands.size() != static_cast<std::size_t>(plan.islands_size()))
    differ(std::to_string(islands.size()) + " islands",
           std::to_string(plan.islands_size()));
  for (std::size_t i = 0; i < islands.size(); ++i) {
    std::size_t found = islands[i].elements().size();
    auto expected = static_cast<std::size_t>(
        plan.islands(static_cast<int>(i)).stages_size());
    if (found != expected)
      differ(std::to_string(found) + " stages in island " + std::to_string(i),
             std::to_string(expected));
  }
}

static Json strategyIslands(const Value &strategy, const runtime::Plan &plan,
                            const std::string &path) {
  Json islands = Json::array();
  for (const Value &island : strategy["islands"].elements()) {
    Json stages = Json::array();
    for (const Value &stage : island["stages"].elements()) {
      Json one = {{"blocks", stage["blocks"].index()}};
      if (stage.has("recompute"))
        one["recompute"] = stage["recompute"].amountOrText();
      if (stage.has("optimizer_sharding"))
        one["optimizer_sharding"] = stage["optimizer_sharding"].flag();
      stages.push_back(std::move(one));
    }
    auto at = static_cast<int>(islands.size());
    if (at >= plan.islands_size() ||
        stages.size() !=
            static_cast<std::size_t>(plan.islands(at).stages_size()))
      throw Error("'", path,
                  "' is of another plan: its strategy has other "
                  "islands or stages");
    islands.push_back({{"schedule", island["schedule"].text()},
                       {"chunks", island["chunks"].index()},
                       {"stages", std::move(stages)}});
  }
  return islands;
}

Json readPlanFigures(const std::string &path, const runtime::Plan &plan) {
  Json json = parseFile(path);
  Value root(json, path);
  if (!root.has("search") && root.has("simulated"))
    throw Error("'", path,
                "': expected the figures of tombolo-plan --json, "
                "these are of tombolo-sim: give them with --sim");
  Value search = root["search"];
  checkPlan(root["predicted"]["peak_memory_bytes"], path, plan);
  Json alternatives = Json::array();
  if (search.has("alternatives"))
    for (const Value &one : search["alternatives"].elements())
      alternatives.push_back(
          {{"strategy", one["strategy"].text()},
           {"step_seconds", one["step_seconds"].amountOrNull()},
           {"simulated_step_seconds",
            one["simulated_step_seconds"].amountOrNull()},
           {"memory_fraction", one["memory_fraction"].amountOrNull()},
           {"peak_memory_bytes", one["peak_memory_bytes"].amountOrNull()},
           {"wan_bytes_per_round", one["wan_bytes_per_round"].amountOrNull()},
           {"wan_bytes_per_second",
            one["wan_bytes_per_second"].amountOrNull()}});
  return {{"candidates", search["candidates"].amount()},
          {"lower_bound", search["lower_bound"].amountOrNull()},
          {"optimal", search["optimal"].flag()},
          {"alternatives", std::move(alternatives)},
          {"islands", strategyIslands(root["strategy"], plan, path)}};
}

static Json simIsland(const Value &island, const runtime::Plan &plan,
                      int number) {
  Json classes = Json::array();
  for (const Value &one : island["classes"].elements()) {
    Json exposed = Json::object();
    for (const char *kind : {"waiting", "pipeline", "tensor_parallel",
                             "data_parallel", "island", "exchange"})
      exposed[kind] = one["exposed_seconds"][kind].amount();
    std::uint64_t stage = one["stage"].index();
    if (stage >= static_cast<std::uint64_t>(plan.islands(number).stages_size()))
      one["stage"].fail("a stage of the plan");
    classes.push_back({{"stage", stage},
                       {"rank", one["rank"].index()},
                       {"ranks", one["ranks"].index()},
                       {"pool", one["pool"].text()},
                       {"compute_seconds", one["compute_seconds"].amount()},
                       {"exposed_seconds", std::move(exposed)}});
  }
  return {{"step_seconds", island["step_seconds"].amount()},
          {"steps", island["steps"].index()},
          {"steps_lost", island["steps_lost"].index()},
          {"rounds", island["rounds"].index()},
          {"down_seconds", island["down_seconds"].amount()},
          {"classes", std::move(classes)}};
}

Json readSimFigures(const std::string &path, const runtime::Plan &plan) {
  Json json = parseFile(path);
  Value root(json, path);
  if (!root.has("simulated") && root.has("search"))
    throw Error("'", path,
                "': expected the figures of tombolo-sim --json, "
                "these are of tombolo-plan: give them with --json");
  Value predicted = root["predicted"], simulated = root["simulated"];
  checkPlan(predicted["peak_memory_bytes"], path, plan);
  Json figures;
  for (const char *name :
       {"step_seconds", "tokens_per_second", "equivalent_compute",
        "equivalent_compute_of_used_chips", "wan_bytes_per_round",
        "bubble_fraction", "exchange_seconds", "goodput"})
    figures[name] = predicted[name].amountOrNull();
  Json islands = Json::array(), pools = Json::array(), lines = Json::array(),
       log = Json::array();
  std::vector<Value> found = simulated["islands"].elements();
  if (found.size() != static_cast<std::size_t>(plan.islands_size()))
    simulated["islands"].fail("an entry for each island");
  for (int i = 0; i < plan.islands_size(); ++i)
    islands.push_back(simIsland(found[static_cast<std::size_t>(i)], plan, i));
  for (const Value &pool : simulated["pools"].elements())
    pools.push_back({{"pool", pool["pool"].text()},
                     {"chips", pool["chips"].index()},
                     {"used", pool["used"].index()},
                     {"utilisation", pool["utilisation"].amount()}});
  for (const Value &line : simulated["lines"].elements())
    lines.push_back({{"from", line["from"].text()},
                     {"to", line["to"].text()},
                     {"bytes", line["bytes"].amount()},
                     {"utilisation", line["utilisation"].amount()}});
  for (const Value &text : simulated["log"].elements())
    log.push_back(text.text());
  return {{"predicted", std::move(figures)},
          {"simulated",
           {{"seconds", simulated["seconds"].amount()},
            {"steps", simulated["steps"].index()},
            {"islands", std::move(islands)},
            {"pools", std::move(pools)},
            {"lines", std::move(lines)},
            {"log", std::move(log)}}}};
}

Json readMetrics(const std::string &path, const runtime::Plan &plan) {
  std::string text = runtime::readFile(path, kMostBytes);
  RunHistory run(static_cast<std::size_t>(plan.islands_size()), kMostPoints,
                 kMostEvents);
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = text.find('\n', begin);
    if (end == std::string::npos)
      break;
    std::string_view line(text.data() + begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos)
      continue;
    run.note(Json::parse(line, nullptr, /*allow_exceptions=*/false),
             path + ":" + std::to_string(number));
  }
  if (run.isEmpty())
    throw Error("'", path,
                "': expected the metrics of tombolo-run, found no "
                "step and no event");
  return run.toJson();
}

} // namespace tombolo::report
