//===- TraceTest.cpp - traces that Perfetto can show ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "PipelinePlan.h"

#include "tombolo/runtime/File.h"
#include "tombolo/runtime/sim/Simulate.h"
#include "tombolo/runtime/sim/Trace.h"

#include <nlohmann/json.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>

using namespace tombolo::runtime;
using namespace tombolo::runtime::sim;
using namespace tombolo::runtime::test;
using Json = nlohmann::json;

namespace {

/// Two islands with a server; rounds of 4 steps of 12 s, and 2 s to exchange.
PipelineModel islands() {
  PipelineModel model;
  model.islands = 2;
  model.stages = 2;
  model.innerSteps = 4;
  model.parameters = 125000;
  return model;
}

Plan withBackup(const PipelineModel &model) {
  Plan plan = pipelinePlan(model);
  plan.mutable_server()->mutable_placements(0)->set_backup("site1");
  return plan;
}

/// What `tombolo-sim --trace` writes.
std::vector<Json> traced(const Plan &plan, SimOptions options) {
  std::string path =
      testing::TempDir() + "tombolo-trace-" +
      testing::UnitTest::GetInstance()->current_test_info()->name() + ".json";
  auto file = openTrace(path);
  options.trace = file.get();
  simulate(plan, options);
  file->close();
  Json whole = Json::parse(readFile(path, 1 << 26));
  std::filesystem::remove(path);
  return whole.at("traceEvents");
}

struct Interval {
  double start, end; // microseconds
};
using Track = std::pair<std::uint64_t, std::uint64_t>; // process, thread

Track trackOf(const Json &event) {
  return {event.at("pid").get<std::uint64_t>(),
          event.at("tid").get<std::uint64_t>()};
}

/// Every arrow has one end behind its one begin, both in a slice of a track
/// that has a name, and slices of a track are one behind or in another.
void expectWhole(const std::vector<Json> &events) {
  constexpr double kRounding = 2e-3;
  std::map<Track, std::vector<Interval>> slices;
  std::map<Track, std::string> names;
  std::map<std::uint64_t, double> begins, ends;
  for (const Json &event : events) {
    std::string phase = event.at("ph");
    if (phase == "M" && event.at("name") == "thread_name") {
      EXPECT_TRUE(
          names.try_emplace(trackOf(event), event.at("args").at("name")).second)
          << event;
    } else if (phase == "X") {
      double start = event.at("ts"), seconds = event.at("dur");
      EXPECT_GE(seconds, 0) << event;
      slices[trackOf(event)].push_back({start, start + seconds});
    }
  }
  for (auto &[track, all] : slices) {
    EXPECT_TRUE(names.contains(track)) << track.first << " " << track.second;
    std::sort(all.begin(), all.end(), [](const Interval &a, const Interval &b) {
      return a.start != b.start ? a.start < b.start : a.end > b.end;
    });
    std::vector<Interval> open;
    for (const Interval &slice : all) {
      while (!open.empty() && open.back().end <= slice.start + kRounding)
        open.pop_back();
      if (!open.empty())
        EXPECT_LE(slice.end, open.back().end + kRounding) << names[track];
      open.push_back(slice);
    }
  }
  for (const Json &event : events) {
    std::string phase = event.at("ph");
    if (phase != "s" && phase != "f")
      continue;
    double time = event.at("ts");
    EXPECT_TRUE((phase == "s" ? begins : ends)
                    .try_emplace(event.at("id").get<std::uint64_t>(), time)
                    .second)
        << event;
    const std::vector<Interval> &around = slices[trackOf(event)];
    EXPECT_TRUE(std::any_of(around.begin(), around.end(), [&](Interval slice) {
      return slice.start <= time + kRounding && time <= slice.end + kRounding;
    })) << event;
  }
  EXPECT_GT(begins.size(), 0u);
  ASSERT_EQ(begins.size(), ends.size());
  for (auto [id, time] : begins) {
    ASSERT_TRUE(ends.contains(id));
    EXPECT_LE(time, ends[id]);
  }
}

std::size_t countOf(const std::vector<Json> &events, const std::string &phase,
                    const std::string &name) {
  return static_cast<std::size_t>(
      std::count_if(events.begin(), events.end(), [&](const Json &event) {
        return event.at("ph") == phase && event.at("name") == name;
      }));
}

// Pushes and versions are slices on the lines, with arrows from and to the
// lanes that make and apply them.
TEST(Trace, ShowsTheExchange) {
  SimOptions options;
  options.steps = 12;
  std::vector<Json> events = traced(withBackup(islands()), options);
  expectWhole(events);
  // Three rounds of two stages each: on the way, and on the lane.
  EXPECT_EQ(countOf(events, "X", "push of fragment 0 from island 1"), 6u);
  EXPECT_EQ(countOf(events, "X", "push of fragment 0 from island 0"), 6u);
  EXPECT_EQ(countOf(events, "X", "push of fragment 0"), 12u);
  // Of each push, and of each version; what comes when all is over is not.
  EXPECT_EQ(countOf(events, "X", "copy of fragment 0"), 9u);
  EXPECT_GE(countOf(events, "X", "version of fragment 0 to island 1"), 2u);
  bool isNamed = false;
  for (const Json &event : events)
    isNamed |= event.at("ph") == "M" &&
               event.at("args").value("name", "") == "site1 to site0";
  EXPECT_TRUE(isNamed);
}

// What a failure cuts off has no arrow without an end.
TEST(Trace, IsWholeWhenAServerFails) {
  for (double at = 45; at < 60; at += 1.5) {
    SimOptions options;
    options.steps = 16;
    options.faults.push_back(
        parseFault("server:site0@" + std::to_string(at) + "+60"));
    std::vector<Json> events = traced(withBackup(islands()), options);
    expectWhole(events);
  }
}

// What a pipeline takes of a line, integrated, is what it sends.
TEST(Trace, CountsWhatAPipelineTakesOfALine) {
  PipelineModel model;
  model.stages = 3;
  model.stagesOnSites = true;
  model.boundaryBytes = 400000;
  model.lineRate = 1e6;
  model.lineRtt = 0;
  SimOptions options;
  options.steps = 1;
  Plan plan = pipelinePlan(model);
  std::vector<Json> events = traced(plan, options);
  expectWhole(events);
  SimResult result = simulate(plan, options);
  for (std::size_t d = 0; d < 4; ++d) {
    std::string name =
        result.lines[d].first + " to " + result.lines[d].second + ", steps";
    double bytes = 0, since = 0, load = 0;
    for (const Json &event : events)
      if (event.at("ph") == "C" && event.at("name") == name) {
        double time = event.at("ts").get<double>() * 1e-6;
        bytes += load * model.lineRate * (time - since);
        since = time;
        load = event.at("args").at("value");
        EXPECT_LE(load, 1 + 1e-9);
      }
    EXPECT_EQ(load, 0) << name;
    EXPECT_GT(result.lines[d].bytes, 1e6);
    EXPECT_NEAR(bytes, result.lines[d].bytes, 0.01 * result.lines[d].bytes)
        << name;
  }
}

// Ranks that are alike are told once.
TEST(Trace, DoesNotGrowWithReplicas) {
  auto sizeOf = [](std::uint64_t replicas) {
    PipelineModel model = islands();
    model.replicas = replicas;
    model.microbatches = 4 * replicas;
    model.chipsPerNode = 2 * replicas;
    model.cardsPerNode = 2 * replicas;
    SimOptions options;
    options.steps = 8;
    return traced(pipelinePlan(model), options).size();
  };
  EXPECT_EQ(sizeOf(16), sizeOf(4));
}

} // namespace
