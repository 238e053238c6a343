//===- Timeline.cpp - what each class of ranks does when in a step --------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Timeline.h"

#include "StepTrace.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/File.h"

#include <cmath>
#include <cstdio>

namespace tombolo::report {

using namespace runtime;
using namespace tombolo::plan::v1;

static constexpr std::size_t kMostBars = 300'000;
static constexpr double kTicks = 1 << 21; // of a step
static constexpr std::uint64_t kMostTraceBytes = std::uint64_t{1} << 30;

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

static std::string poolOf(const runtime::Plan &plan, std::size_t island,
                          std::uint64_t rank) {
  const Island &of = plan.islands(static_cast<int>(island));
  RankCoordinates at = IslandLayout(of).coordinates(rank);
  const ReplicaGroup &group =
      of.stages(static_cast<int>(at.stage)).groups(static_cast<int>(at.group));
  return group.site() + "/" + group.pool();
}

static Json barsJson(const runtime::Plan &plan, StepTrace &trace,
                     bool fromTrace) {
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
      const ClassBars &one = trace.bars[i][c];
      if (one.ranks == 0)
        continue;
      if (told > kMostBars) {
        ++leftOut;
        continue;
      }
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
                         {"stage", one.stage},
                         {"rank", one.rank},
                         {"ranks", one.ranks},
                         {"pool", poolOf(plan, i, one.rank)},
                         {"calls", std::move(calls)},
                         {"lanes", std::move(lanes)}});
    }
  return {{"seconds", trace.seconds()},  {"tick_seconds", tick},
          {"names", std::move(names)},   {"classes", std::move(classes)},
          {"classes_left_out", leftOut}, {"from_trace", fromTrace}};
}

Json timelineJson(const runtime::Plan &plan) {
  StepTrace trace(plan);
  sim::SimOptions options;
  options.steps = 1;
  options.trace = &trace;
  trace.finish(sim::simulate(plan, options));
  return barsJson(plan, trace, /*fromTrace=*/false);
}

//===----------------------------------------------------------------------===//
// From a file
//===----------------------------------------------------------------------===//

namespace {

/// Hands the events of a Chrome trace on to a StepTrace, one by one.
class TraceReader {
public:
  TraceReader(const runtime::Plan &plan, StepTrace &to) : to(to) {
    for (const Island &island : plan.islands())
      ranks.push_back(IslandLayout(island).rankCount());
  }

  void event(const Json &event) {
    std::string phase = event.value("ph", "");
    bool isName = phase == "M" && event.value("name", "") == "thread_name";
    if (!isName && phase != "X")
      return;
    auto process = event.at("pid").get<std::uint64_t>();
    auto thread = event.at("tid").get<std::uint64_t>();
    if (process == 0) // lines and the server
      return;
    if (process > ranks.size())
      throw Error("the plan has no island ", process - 1);
    // Eight for each class, of which there are at most as many as ranks.
    if (thread / 8 >= ranks[process - 1] || thread % 8 == 0)
      throw Error("thread ", thread, " is none of tombolo-sim's");
    auto p = static_cast<std::uint32_t>(process);
    auto t = static_cast<std::uint32_t>(thread);
    if (isName) {
      name(p, t, event.at("args").at("name").get<std::string>());
      return;
    }
    ++slices;
    double start = event.at("ts").get<double>() * 1e-6;
    double seconds = event.at("dur").get<double>() * 1e-6;
    if (!(start >= 0 && seconds >= 0 && start + seconds < 1e15))
      throw Error("a slice has a time that is none");
    std::string text = event.at("name").get<std::string>();
    if (thread % 8 == LANE_COMPUTE)
      to.namedCall(p, t, text, start, start + seconds);
    else
      to.slice(p, t, text, start, start + seconds);
  }
  std::size_t slices = 0;

private:
  /// `stage 1, rank 16 and 15 like it, compute`.
  void name(std::uint32_t process, std::uint32_t thread,
            const std::string &text) {
    unsigned stage = 0;
    unsigned long long rank = 0, others = 0;
    if (std::sscanf(text.c_str(), "stage %u, rank %llu and %llu like it",
                    &stage, &rank, &others) < 2)
      throw Error("expected 'stage S, rank R...' as a thread's name, got '",
                  text, "'");
    to.nameClass(process, thread, stage, rank, others + 1);
  }

  std::vector<std::uint64_t> ranks; // by island
  StepTrace &to;
};

} // namespace

Json readTrace(const std::string &path, const runtime::Plan &plan) {
  std::string text = readFile(path, kMostTraceBytes);
  StepTrace trace(plan);
  TraceReader reader(plan, trace);
  try {
    // Events are dropped as they come: a trace may have millions.
    Json rest = Json::parse(
        text, [&](int depth, Json::parse_event_t what, Json &parsed) {
          if (depth != 2 || what != Json::parse_event_t::object_end)
            return true;
          reader.event(parsed);
          return false;
        });
    if (!rest.contains("traceEvents"))
      throw Error("'traceEvents' is missing");
  } catch (const Json::exception &error) {
    throw Error("'", path,
                "': expected a trace of tombolo-sim: ", error.what());
  } catch (const Error &error) {
    throw Error("'", path, "' is no trace of this plan: ", error.what());
  }
  if (reader.slices == 0)
    throw Error("'", path,
                "': expected a trace of tombolo-sim, found nothing "
                "that takes time in it");
  trace.finish();
  return barsJson(plan, trace, /*fromTrace=*/true);
}

} // namespace tombolo::report
