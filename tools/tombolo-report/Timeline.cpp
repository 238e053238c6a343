//===- Timeline.cpp - what each class of ranks does when in a step --------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Timeline.h"

#include "StepTrace.h"

#include <cmath>

namespace tombolo::report {

using namespace runtime;
using namespace tombolo::plan::v1;

static constexpr std::size_t kMostBars = 300'000;
static constexpr double kTicks = 1 << 21; // of a step

static const char *laneName(Lane lane) {
  static constexpr const char *names[] = {"",
                                          "compute",
                                          "send_forward",
                                          "receive_forward",
                                          "send_backward",
                                          "receive_backward",
                                          "collective",
                                          "exchange"};
  return names[lane];
}

Json timelineJson(const runtime::Plan &plan) {
  StepTrace trace(plan);
  sim::SimOptions options;
  options.steps = 1;
  options.trace = &trace;
  sim::SimResult result = sim::simulate(plan, options);
  trace.finish(result);
  trace.coarsen(kMostBars);

  double tick = trace.seconds() > 0 ? trace.seconds() / kTicks : 1;
  auto ticks = [&](double time) { return std::llround(time / tick); };
  Json names = Json::array();
  auto nameOf = [&, known = std::unordered_map<std::string, std::size_t>()](
                    const std::string &name) mutable {
    auto [entry, fresh] = known.try_emplace(name, names.size());
    if (fresh)
      names.push_back(name);
    return entry->second;
  };
  Json classes = Json::array();
  std::size_t told = 0, leftOut = 0;
  for (std::size_t i = 0; i < trace.bars.size(); ++i)
    for (std::size_t c = 0; c < trace.bars[i].size(); ++c) {
      if (told > kMostBars) {
        ++leftOut;
        continue;
      }
      const ClassBars &one = trace.bars[i][c];
      const sim::ClassResult &of = result.islands[i].classes[c];
      Json calls = Json::array(), lanes = Json::object();
      long long before = 0;
      for (const CallBar &call : one.calls) {
        long long start = ticks(call.start), end = ticks(call.end);
        for (long long value :
             {start - before, end - start, static_cast<long long>(call.kind),
              static_cast<long long>(call.microbatch)})
          calls.push_back(value);
        calls.push_back(nameOf(trace.segmentName(call)));
        before = end;
      }
      told += one.calls.size();
      for (Lane lane : kLanes) {
        Json flows = Json::array();
        before = 0;
        for (const FlowBar &flow : one.lanes[lane]) {
          long long start = ticks(flow.start), end = ticks(flow.end);
          flows.push_back(start - before);
          flows.push_back(end - start);
          flows.push_back(nameOf(trace.flowName(flow)));
          before = end;
        }
        told += one.lanes[lane].size();
        if (!flows.empty())
          lanes[laneName(lane)] = std::move(flows);
      }
      classes.push_back({{"island", i},
                         {"stage", of.stage},
                         {"rank", of.rank},
                         {"ranks", of.ranks},
                         {"pool", of.pool},
                         {"calls", std::move(calls)},
                         {"lanes", std::move(lanes)}});
    }
  return {{"seconds", trace.seconds()},
          {"tick_seconds", tick},
          {"names", std::move(names)},
          {"classes", std::move(classes)},
          {"classes_left_out", leftOut}};
}

} // namespace tombolo::report
