//===- RunHistoryTest.cpp - runs as charts show them ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/report/RunHistory.h"

#include "tombolo/runtime/Error.h"

#include <gtest/gtest.h>

#include <random>

using namespace tombolo;
using namespace tombolo::report;

namespace {

Json step(std::uint64_t island, std::uint64_t step, double loss = 1) {
  return {{"step", step},
          {"island", island},
          {"loss", loss},
          {"seconds", 0.5},
          {"tokens", 10}};
}

Json event(const char *kind) { return {{"event", kind}}; }

/// What the page does with a change (web/src/live.ts).
void apply(Json &run, const Change &change, const RunHistory &history) {
  if (!change.kind) {
    run = history.toJson();
  } else if (std::string(change.kind) == "note") {
    run["events"].push_back(change.data);
  } else {
    ASSERT_STREQ(change.kind, "point");
    Json &island = run["islands"][change.data["island"].get<std::size_t>()];
    for (const char *name : {"step", "clock", "loss", "seconds", "tokens"}) {
      auto &column = island[name].get_ref<Json::array_t &>();
      column.resize(change.data["at"].get<std::size_t>());
      column.push_back(change.data[name]);
    }
  }
}

TEST(RunHistory, KeepsLongRunsInFewPoints) {
  RunHistory history(1, /*mostPoints=*/8, /*mostEvents=*/8);
  for (std::uint64_t i = 0; i < 37; ++i)
    history.note(step(0, i, static_cast<double>(i)), "a line");
  Json island = history.toJson()["islands"][0];
  EXPECT_EQ(island["steps_per_point"], 8);
  ASSERT_EQ(island["step"].size(), 5u);
  EXPECT_EQ(island["step"], Json({7, 15, 23, 31, 36}));
  EXPECT_EQ(island["loss"][0], 3.5); // 0 to 7
  EXPECT_EQ(island["loss"][4], 34);  // 32 to 36
  EXPECT_EQ(island["clock"][4], 18.5);
  EXPECT_EQ(island["tokens"][3], 80);
}

TEST(RunHistory, StepsThatAreDoneAgainReplaceTheFirst) {
  RunHistory history(2, 100, 100);
  for (std::uint64_t i = 0; i < 10; ++i)
    for (std::uint64_t island : {0u, 1u})
      history.note(step(island, i), "a line");
  Json restart = event("restart");
  restart["island"] = 1;
  EXPECT_STREQ(history.note(restart, "a line").kind, "note");
  EXPECT_EQ(history.toJson()["events"][0]["clock"], 5.0);
  EXPECT_EQ(history.note(step(1, 6, 7.5), "a line").kind, nullptr);
  Json run = history.toJson();
  EXPECT_EQ(run["islands"][0]["step"].size(), 10u);
  EXPECT_EQ(run["islands"][1]["step"], Json({0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(run["islands"][1]["loss"][6], 7.5);
  EXPECT_EQ(run["islands"][1]["clock"][6], 3.5);
  // Where it stands in metrics.jsonl, between steps 5 and 6.
  EXPECT_EQ(run["events"][0]["clock"], 3.0);
}

TEST(RunHistory, TheNewestEventsStay) {
  RunHistory history(1, 8, /*mostEvents=*/3);
  for (std::uint64_t i = 0; i < 10; ++i) {
    Json one = event("outer_step");
    one["version"] = i;
    history.note(one, "a line");
  }
  Json run = history.toJson();
  ASSERT_EQ(run["events"].size(), 3u);
  EXPECT_EQ(run["events"][0]["version"], 7);
  EXPECT_EQ(run["events_left_out"], 7);
}

/// Whoever applies all changes has what whoever comes late is given.
TEST(RunHistory, ChangesAddUpToTheWhole) {
  std::mt19937 random(7);
  RunHistory history(3, 32, 10'000);
  Json run = history.toJson();
  std::vector<std::uint64_t> next(3, 0);
  for (int i = 0; i < 3000; ++i) {
    auto island = random() % 3;
    if (random() % 50 == 0) {
      Json one = event("restart");
      one["island"] = island;
      apply(run, history.note(one, "a line"), history);
      next[island] -= std::min<std::uint64_t>(next[island], random() % 20);
    }
    double loss = random() % 40 == 0 ? NAN : static_cast<double>(random() % 9);
    Json line = step(island, next[island]++, 0);
    line["loss"] = std::isnan(loss) ? Json(nullptr) : Json(loss);
    apply(run, history.note(line, "a line"), history);
  }
  EXPECT_EQ(run, history.toJson());
  EXPECT_GT(run["islands"][0]["steps_per_point"], 8);
}

TEST(RunHistory, RefusesWhatIsNoLineAndChangesNothing) {
  RunHistory history(2, 8, 8);
  history.note(step(0, 0), "a line");
  Json before = history.toJson();
  Json far = step(2, 1), text = step(0, 1), never = step(0, 1),
       back = event("outer_step");
  text["loss"] = "low";
  never["seconds"] = 1e300;
  back["islands"] = Json({"north"});
  for (const Json &line : {Json(), Json::array(), far, text, never, back})
    EXPECT_THROW(history.note(line, "a line"), runtime::Error) << line;
  EXPECT_EQ(history.toJson(), before);
}

} // namespace
