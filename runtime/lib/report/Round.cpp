//===- Round.cpp - lines between islands over one round -------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Round.h"

#include "tombolo/runtime/sim/Simulate.h"
#include "tombolo/runtime/sim/Trace.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

namespace tombolo::report {

using namespace runtime;
using namespace tombolo::plan::v1;

namespace {

/// What the exchange loads lines with, and when versions come.
class LineTrace : public sim::Trace {
public:
  explicit LineTrace(const Topology &topology) {
    for (const Topology::Line &line : topology.lines())
      for (auto [from, to] : {std::pair(line.first(), line.second()),
                              std::pair(line.second(), line.first())}) {
        auto site = [&](std::uint32_t s) {
          return topology.sites(static_cast<int>(s)).name();
        };
        directions.try_emplace(site(from) + " to " + site(to) + ", exchange",
                               loads.size());
        loads.emplace_back();
      }
  }
  void counter(std::uint32_t, const std::string &name, double time,
               double value) override {
    if (auto known = directions.find(name); known != directions.end())
      loads[known->second].push_back({time, value});
  }
  void instant(std::uint32_t, const std::string &text, double time) override {
    marks.push_back({time, text});
  }

  struct Load {
    double time, part; ///< of what the line carries
  };
  std::vector<std::vector<Load>> loads; // by direction
  std::vector<std::pair<double, std::string>> marks;

private:
  std::unordered_map<std::string, std::size_t> directions;
};

} // namespace

Json roundJson(const runtime::Plan &plan) {
  if (!plan.has_server() || plan.topology().lines_size() == 0)
    return nullptr;
  // From the middle of the second round to the middle of the third: what goes
  // on around a round's end is seen whole, and the first round, which nothing
  // is left over from, is not in it.
  LineTrace trace(plan.topology());
  sim::SimOptions options;
  options.steps = 3 * plan.server().inner_steps();
  options.trace = &trace;
  options.traceSteps = false;
  sim::SimResult result = sim::simulate(plan, options);
  double round =
      result.stepSeconds * static_cast<double>(plan.server().inner_steps());
  double begin = std::max(0.0, result.seconds - 1.5 * round);

  Json directions = Json::array();
  for (std::size_t d = 0; d < trace.loads.size(); ++d) {
    const sim::LineResult &line = result.lines[d];
    double capacity =
        plan.topology().lines(static_cast<int>(d / 2)).bytes_per_second();
    Json loads = Json::array();
    double exchanged = 0, now = 0, load = 0;
    Json atBegin = 0.0;
    // Of several loads at one moment the last counts.
    std::vector<LineTrace::Load> steps;
    for (const LineTrace::Load &one : trace.loads[d]) {
      if (!steps.empty() && steps.back().time == one.time)
        steps.back() = one;
      else
        steps.push_back(one);
    }
    for (const LineTrace::Load &one : steps) {
      exchanged += load * (one.time - now);
      now = one.time;
      load = one.part * capacity;
      if (one.time < begin)
        atBegin = load;
      else if (one.time <= begin + round)
        loads.push_back({one.time - begin, load});
    }
    loads.insert(loads.begin(), Json{0.0, atBegin});
    directions.push_back(
        {{"from", line.first},
         {"to", line.second},
         {"bytes_per_second",
          plan.topology().lines(static_cast<int>(d / 2)).bytes_per_second()},
         {"pipeline_bytes_per_second",
          result.seconds > 0
              ? std::max(0.0, line.bytes - exchanged) / result.seconds
              : 0.0},
         {"exchange", std::move(loads)}});
  }
  Json marks = Json::array();
  for (const auto &[time, text] : trace.marks)
    if (time >= begin && time <= begin + round)
      marks.push_back({{"seconds", time - begin}, {"text", text}});
  return {{"seconds", round},
          {"inner_steps", plan.server().inner_steps()},
          {"directions", std::move(directions)},
          {"marks", std::move(marks)}};
}

} // namespace tombolo::report
