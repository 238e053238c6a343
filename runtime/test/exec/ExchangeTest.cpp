//===- ExchangeTest.cpp - when ranks push and apply -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "TinyRun.h"

#include "Expect.h"

#include "tombolo/runtime/Checkpoint.h"

#include <cstring>
#include <filesystem>
#include <mutex>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

using Steps = std::vector<std::uint64_t>;

/// What a rank asks of its exchange, in order. `apply` doubles the first
/// element of the first tensor, so that one sees that it lands in the arena.
struct Calls {
  std::vector<std::string> list;
  std::vector<std::uint64_t> checkpoints; ///< that became whole, at some time
  std::vector<ExchangeTensor> tensors;
  std::vector<float> momentum, base;
  std::vector<FragmentPoint> points;
  std::optional<std::uint64_t> stop; ///< after so many steps, once asked
  std::uint64_t others = 0;          ///< steps that count already
  std::uint64_t removedAfter = ~0ull;
  /// No server is reached after so many steps, until after so many.
  std::optional<std::pair<std::uint64_t, std::uint64_t>> cut;
  std::optional<std::uint64_t> stopHeard; ///< with the first late receipt
};

class RecordingExchange : public tombolo::runtime::Exchange {
public:
  RecordingExchange(Calls &calls, std::vector<ExchangeTensor> tensors,
                    ArenaAccess arena)
      : calls(calls), arena(std::move(arena)) {
    calls.tensors = std::move(tensors);
  }
  std::uint64_t begin(std::uint64_t stepsDone) override {
    calls.list.push_back("begin " + std::to_string(stepsDone));
    return std::max(stepsDone, calls.others);
  }
  void beginPush(std::uint32_t fragment, std::uint64_t stepsDone) override {
    calls.list.push_back("push " + std::to_string(fragment) + " after " +
                         std::to_string(stepsDone));
    ++pushes;
    pushedSteps = stepsDone;
  }
  Applied apply(std::uint32_t fragment, std::uint64_t stepsDone) override {
    removed |= stepsDone >= calls.removedAfter;
    isOff = calls.cut && stepsDone >= calls.cut->first &&
            stepsDone < calls.cut->second;
    if (isOff)
      return Applied::Nothing;
    calls.list.push_back("apply " + std::to_string(fragment));
    float value;
    auto bytes = std::as_writable_bytes(std::span(&value, 1));
    arena.read(calls.tensors[0].address, bytes);
    value *= 2;
    arena.write(calls.tensors[0].address, bytes);
    return Applied::Version;
  }
  std::vector<std::uint32_t> putOff() const override {
    return isOff ? std::vector<std::uint32_t>{0} : std::vector<std::uint32_t>();
  }
  Applied applyLate(std::uint32_t, std::uint64_t stepsDone) override {
    if (stepsDone < calls.cut->second)
      return Applied::Nothing;
    isOff = false;
    calls.stop = calls.stopHeard;
    calls.list.push_back("late apply after " + std::to_string(stepsDone));
    return Applied::Version;
  }
  void requestStop() override {
    if (!calls.stop)
      calls.list.push_back("asked to stop");
    calls.stop = 6;
  }
  std::optional<std::uint64_t> stopStep() const override {
    return removed ? calls.removedAfter : calls.stop;
  }
  bool isRemoved() const override { return removed; }
  void end(std::uint64_t stepsDone) override {
    calls.list.push_back("end after " + std::to_string(stepsDone));
  }
  void outerMomentum(std::size_t tensor, std::uint64_t first,
                     std::span<float> to) override {
    for (std::size_t i = 0; i < to.size(); ++i)
      to[i] = static_cast<float>(first + i + tensor);
  }
  void setOuterMomentum(std::size_t, std::uint64_t first,
                        std::span<const float> from) override {
    ASSERT_EQ(first, calls.momentum.size());
    calls.momentum.insert(calls.momentum.end(), from.begin(), from.end());
  }
  std::vector<FragmentPoint> points() const override {
    return {{pushes, pushedSteps, std::nullopt}};
  }
  void kept(Kept, std::size_t, std::uint64_t first,
            std::span<float> to) const override {
    for (std::size_t i = 0; i < to.size(); ++i)
      to[i] = static_cast<float>(2 * (first + i));
  }
  void setPoints(const std::vector<FragmentPoint> &points) override {
    calls.points = points;
  }
  void setKept(Kept what, std::size_t, std::uint64_t first,
               std::span<const float> from) override {
    ASSERT_EQ(what, Kept::Base);
    ASSERT_EQ(first, calls.base.size());
    calls.base.insert(calls.base.end(), from.begin(), from.end());
  }
  void abort() noexcept override {}

private:
  Calls &calls;
  ArenaAccess arena;
  std::uint64_t pushes = 0, pushedSteps = 0;
  bool removed = false;
  bool isOff = false;
};

/// The tiny model with rounds of three steps, on one rank.
class ExchangeTest : public testing::Test {
protected:
  ExchangeTest() : run({}) {
    addServer(run.plan, 3);
    run.plan.set_checksum(std::string(32, 'c'));
  }

  Calls train(std::uint64_t steps, bool resume,
              std::function<bool()> endRequested = nullptr, Calls calls = {}) {
    RankConfig config = run.config;
    config.endRequested = std::move(endRequested);
    config.steps = steps;
    config.checkpointDir = run.folder / "c";
    config.checkpointEvery = 2;
    config.resume = resume;
    InprocHub hub(1);
    std::unique_ptr<Device> device = createDevice("cpu");
    std::unique_ptr<Transport> transport = hub.transport(0);
    RankEvents events;
    events.checkpoint = [&](const CheckpointNews &news) {
      EXPECT_EQ(news.kind, CheckpointNews::Kind::Whole) << news.message;
      calls.checkpoints.push_back(news.step);
    };
    events.stopped = [&](std::uint64_t step) {
      calls.list.push_back("stopped " + std::to_string(step));
    };
    events.removed = [&](std::uint64_t step) {
      calls.list.push_back("removed " + std::to_string(step));
    };
    events.alone = [&](std::uint32_t fragment, std::uint64_t step, bool alone) {
      calls.list.push_back((alone ? "without " : "again with ") +
                           std::to_string(fragment) + " after " +
                           std::to_string(step));
    };
    Rank(run.plan, config, *device, *transport, events,
         [&](std::vector<ExchangeTensor> tensors, ArenaAccess arena,
             IslandLargest) {
           return std::make_unique<RecordingExchange>(calls, std::move(tensors),
                                                      std::move(arena));
         })
        .run();
    return calls;
  }
  TinyRun run;
};

// Whoever is told to end asks the server, and ends where all do, as if no more
// steps had been asked for.
TEST_F(ExchangeTest, EndsWhereTheServerSays) {
  Calls calls = train(100, false, [] { return true; });
  auto has = [&](const std::string &what) {
    return std::count(calls.list.begin(), calls.list.end(), what);
  };
  EXPECT_EQ(has("asked to stop"), 1);
  EXPECT_EQ(has("end after 6"), 1);
  EXPECT_EQ(std::count(calls.checkpoints.begin(), calls.checkpoints.end(), 6),
            1);
  EXPECT_EQ(calls.list.back(), "stopped 6");
}

// An island that is removed from the run saves where it has learned so, and
// ends.
TEST_F(ExchangeTest, EndsWhereItsIslandIsRemoved) {
  Calls calls;
  calls.removedAfter = 6;
  calls = train(100, false, nullptr, calls);
  EXPECT_EQ(calls.list,
            (std::vector<std::string>{
                "begin 0", "push 0 after 3", "apply 0", "push 0 after 6",
                "apply 0", "push 0 after 6", "apply 0", "end after 6",
                "removed 6"}));
  EXPECT_EQ(calls.checkpoints, (Steps{2, 4, 6}));
}

// An island that comes back when the others have ended early, and made one more
// version at their end, has no step to do.
TEST_F(ExchangeTest, ComesBackToAnEarlyEnd) {
  Calls calls;
  calls.stop = 6;
  calls.others = 8;
  calls = train(100, false, nullptr, calls);
  EXPECT_EQ(calls.list,
            (std::vector<std::string>{"begin 0", "end after 6", "stopped 6"}));
  EXPECT_EQ(calls.checkpoints, Steps{6});
}

// What an island goes on without is looked for after each step, and taken as
// soon as it is there.
TEST_F(ExchangeTest, TakesLateWhatItWentOnWithout) {
  Calls calls;
  calls.cut = {3, 5};
  calls = train(6, false, nullptr, calls);
  EXPECT_EQ(calls.list,
            (std::vector<std::string>{
                "begin 0", "push 0 after 3", "without 0 after 3",
                "late apply after 5", "again with 0 after 5", "push 0 after 6",
                "apply 0", "push 0 after 6", "apply 0", "end after 6"}));
  EXPECT_EQ(calls.checkpoints, (Steps{2, 4, 6}));
}

// One that learns late that all have ended, ends with what all have: what it
// has saved since is older.
TEST_F(ExchangeTest, EndsAtOnceWhenItIsBeyondTheEnd) {
  Calls calls;
  calls.cut = {3, 5};
  calls.stopHeard = 3;
  calls = train(100, false, nullptr, calls);
  EXPECT_EQ(std::count(calls.list.begin(), calls.list.end(), "end after 5"), 1);
  EXPECT_EQ(calls.list.back(), "stopped 3");
  Checkpoint last(latestCheckpoint(run.folder / "c", 0));
  EXPECT_EQ(last.info().step, 3u);
  ASSERT_EQ(last.info().points.size(), 1u);
  EXPECT_LE(last.info().points[0].stepsDone, 3u);
}

// A push and its apply end every round, and the run.
TEST_F(ExchangeTest, FollowsTheRounds) {
  Calls calls = train(7, false);
  EXPECT_EQ(calls.list, (std::vector<std::string>{"begin 0", "push 0 after 3",
                                                  "apply 0", "push 0 after 6",
                                                  "apply 0", "push 0 after 7",
                                                  "apply 0", "end after 7"}));
  EXPECT_EQ(calls.checkpoints, (Steps{2, 4, 6, 7}));
  ASSERT_EQ(calls.tensors.size(), 1u);
  EXPECT_EQ(calls.tensors[0].name, "table");
  EXPECT_EQ(calls.tensors[0].elements, 64u);
  EXPECT_TRUE(calls.tensors[0].owner);
  EXPECT_EQ(calls.tensors[0].ranges,
            (std::vector<ElementRange>{{0, 64, 1, 64}}));
}

// The outer momentum is saved and handed back before the first version.
TEST_F(ExchangeTest, KeepsTheOuterMomentum) {
  train(3, false);
  Calls calls = train(5, true);
  ASSERT_EQ(calls.momentum.size(), 64u);
  EXPECT_EQ(calls.momentum[63], 63.0f);
  EXPECT_EQ(calls.list[0], "begin 3");
  EXPECT_EQ(calls.list[1], "push 0 after 5");
  EXPECT_EQ(calls.checkpoints, (Steps{4, 5}));
}

// What is kept beside the parameters is saved and handed back; where nothing
// was done since the last version the parameters are the base.
TEST_F(ExchangeTest, KeepsWhereFragmentsStand) {
  train(4, false);
  std::filesystem::remove_all(checkpointFolder(run.folder / "c", 0, 4));
  Calls calls = train(5, true);
  ASSERT_EQ(calls.points.size(), 1u);
  EXPECT_EQ(calls.points[0].version, 0u);
  ASSERT_EQ(calls.base.size(), 64u);
  EXPECT_EQ(calls.base[63], 126.0f);

  std::filesystem::remove_all(run.folder / "c");
  train(3, false);
  calls = train(5, true);
  ASSERT_EQ(calls.points.size(), 1u);
  EXPECT_EQ(calls.points[0].version, 2u);
  EXPECT_EQ(calls.points[0].stepsDone, 3u);
  EXPECT_TRUE(calls.base.empty());
}

// Under another strategy of the island they are the same. Under a plan with
// another contract they mean something else, and are left out.
TEST_F(ExchangeTest, KeepsWhereFragmentsStandUnderAnotherStrategy) {
  auto trainTwo = [&] {
    train(4, false);
    std::filesystem::remove_all(checkpointFolder(run.folder / "c", 0, 4));
  };
  trainTwo();
  TinyRun other({.microbatch = 2});
  addServer(other.plan, 3);
  run.plan.Swap(&other.plan);
  run.plan.set_model_hash(other.plan.model_hash());
  Calls calls = train(5, true);
  ASSERT_EQ(calls.points.size(), 1u);
  EXPECT_EQ(calls.points[0].version, 0u);
  EXPECT_EQ(calls.base.size(), 64u);

  std::filesystem::remove_all(run.folder / "c");
  trainTwo();
  run.plan.mutable_server()->set_deadline_seconds(61);
  calls = train(5, true);
  EXPECT_TRUE(calls.points.empty());
  EXPECT_TRUE(calls.base.empty());
}

// Where the plan has steps without a push under way, checkpoints wait for one.
TEST_F(ExchangeTest, SavesWhileNoPushIsUnderWay) {
  run.plan.mutable_server()->set_overlap_steps(1);
  EXPECT_EQ(train(7, false).checkpoints, (Steps{2, 4, 7}));
}

// An island with inner steps of its own does as many rounds, saves behind whole
// ones, in folders named by the job's steps, and goes on from there.
TEST_F(ExchangeTest, CountsInnerStepsOfItsOwn) {
  TinyRun other({});
  addServer(other.plan, 6);
  run.plan = other.plan;
  run.plan.set_checksum(std::string(32, 'c'));
  run.plan.mutable_server()->set_inner_steps(3);
  run.plan.mutable_islands(0)->set_inner_steps(6);
  const std::vector<std::string> whole = {"begin 0", "push 0 after 6",
                                          "push 0 after 12", "push 0 after 18"};
  auto without = [](const std::vector<std::string> &list, const char *what) {
    std::vector<std::string> rest;
    for (const std::string &call : list)
      if (!call.starts_with(what))
        rest.push_back(call);
    return rest;
  };
  Calls calls = train(9, false);
  std::vector<std::string> told = without(calls.list, "apply");
  ASSERT_GE(told.size(), whole.size());
  EXPECT_EQ(std::vector<std::string>(told.begin(), told.begin() + 4), whole);
  EXPECT_EQ(calls.checkpoints, (Steps{3, 6, 9}));
  std::filesystem::remove_all(checkpointFolder(run.folder / "c", 0, 9));
  EXPECT_EQ(Checkpoint(latestCheckpoint(run.folder / "c", 0)).info().islandStep,
            12u);
  told = without(train(9, true).list, "apply");
  EXPECT_EQ(told[0], "begin 12");
  EXPECT_EQ(told[1], "push 0 after 18");
  EXPECT_THROW(train(10, false), Error);
}

// What `apply` writes is what training goes on from.
TEST_F(ExchangeTest, GoesOnFromWhatWasApplied) {
  train(3, false);
  Weights first =
      readCheckpoint(run.plan, latestCheckpoint(run.folder / "c", 0));
  TinyRun plain({});
  plain.train(3, plain.folder / "c");
  Weights second =
      readCheckpoint(plain.plan, latestCheckpoint(plain.folder / "c", 0));
  // Once after step 3, once in finish.
  EXPECT_EQ(first["table"][0], 4 * second["table"][0]);
  EXPECT_EQ(first["table"][1], second["table"][1]);
}

TEST_F(ExchangeTest, NeedsAServer) {
  expectError([&] { run.train(3); }, "give --server");
}

} // namespace
