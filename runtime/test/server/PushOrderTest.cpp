//===- PushOrderTest.cpp - islands that are elsewhere with each fragment --===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Islands whose fragments are not where the plan has them: one was lost in the
// middle of a push, or has missed a round. Nobody may wait for anybody until a
// deadline because of that.
//
//===----------------------------------------------------------------------===//

#include "SyncRanks.h"

#include <condition_variable>
#include <mutex>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

const Setting kSetting{Compression::None, /*innerSteps=*/4, /*fragments=*/4,
                       /*overlapSteps=*/1};
constexpr std::uint64_t kSteps = 26;

using Ranks = std::vector<std::unique_ptr<SyncRank>>;

class PushOrder : public testing::Test {
protected:
  void start(double deadlineSeconds, double startSeconds = 600) {
    config = modelConfig(setting);
    config.deadlineSeconds = deadlineSeconds;
    config.startSeconds = startSeconds;
    ParameterServerOptions options;
    options.outer = config;
    options.runId = "run";
    options.contract = Contract("plan");
    options.onEvent = [this](const OuterEvent &event) {
      std::lock_guard lock(mutex);
      if (event.kind != OuterEvent::Kind::OuterStep)
        return;
      versions[event.fragment] = event.version;
      waited += event.openSeconds >= config.deadlineSeconds;
      changed.notify_all();
    };
    server = std::make_unique<ParameterServer>(options);
    for (auto &rank : makeRanks(setting, config, server->address()))
      islands[rank->island].push_back(std::move(rank));
  }

  void waitFor(std::uint32_t fragment, std::uint64_t version) {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(60), [&] {
      return versions[fragment] >= version;
    }));
  }

  static void train(SyncRank &rank, std::uint64_t n) {
    for (float &value : rank.arena)
      value += 1e-3f * static_cast<float>((n + 1) * (rank.island + 1));
  }

  /// The plan's order: an apply may wait for long, so pushes come first.
  void pushDue(SyncRank &rank, std::uint64_t stepsDone) const {
    for (std::uint32_t f = 0; f < setting.fragments; ++f)
      if (stepsDone % setting.innerStepsOf(rank.island) ==
          offsetOf(setting, f, rank.island))
        rank.exchange->beginPush(f, stepsDone);
  }
  void applyDue(SyncRank &rank, std::uint64_t stepsDone) const {
    for (std::uint32_t f = 0; f < setting.fragments; ++f)
      if (stepsDone >= setting.overlapSteps &&
          (stepsDone - setting.overlapSteps) %
                  setting.innerStepsOf(rank.island) ==
              offsetOf(setting, f, rank.island))
        rank.exchange->apply(f, stepsDone);
  }

  void live(Ranks &ranks, std::uint64_t from, std::uint64_t to) const {
    for (std::uint64_t n = from; n < to; ++n)
      onAll(ranks, [&](SyncRank &rank) {
        train(rank, n);
        pushDue(rank, n + 1);
        applyDue(rank, n + 1);
      });
  }

  /// Both islands to the end: `live` of each, from a step on.
  void runBoth(std::function<std::uint64_t()> begin0,
               std::function<std::uint64_t()> begin1) {
    auto run = [this](Ranks &ranks,
                      const std::function<std::uint64_t()> &begin) {
      try {
        std::uint64_t steps = kSteps / setting.strideOf(ranks[0]->island);
        live(ranks, begin(), steps);
        onAll(ranks, [=](SyncRank &rank) { rank.exchange->end(steps); });
      } catch (const std::exception &error) {
        ADD_FAILURE() << error.what();
        for (Ranks &all : islands) // nobody is to wait for this one
          for (auto &rank : all)
            rank->exchange->abort();
      }
    };
    auto other =
        std::async(std::launch::async, run, std::ref(islands[1]), begin1);
    run(islands[0], begin0);
    other.get();
  }

  void beginAll(Ranks &ranks) {
    onAll(ranks, [](SyncRank &rank) { rank.exchange->begin(0); });
  }

  void expectEqual() {
    std::map<std::pair<std::size_t, std::uint64_t>, float> values;
    for (Ranks &ranks : islands)
      for (auto &rank : ranks)
        rank->each(config, [&](std::size_t t, std::uint64_t e, float &value) {
          auto [known, fresh] = values.try_emplace({t, e}, value);
          ASSERT_EQ(known->second, value) << config.tensors[t].name;
        });
  }

  Setting setting = kSetting;
  OuterConfig config;
  std::unique_ptr<ParameterServer> server;
  Ranks islands[2];
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::uint32_t, std::uint64_t> versions; ///< by fragment
  std::size_t waited = 0; ///< rounds that only the deadline has closed
};

/// A push is lost with a rank of its island, a later one of another fragment
/// counts, and so the island goes on behind both: it pushes the lost one at
/// once. Otherwise this island would wait for the other one with fragment 2
/// while that waits for this one with fragment 0.
TEST_F(PushOrder, AnIslandThatPassesOverAPushMakesIt) {
  start(/*deadlineSeconds=*/30);
  Ranks &ranks = islands[0];
  auto restarted = [&]() -> std::uint64_t {
    beginAll(ranks);
    live(ranks, 0, 3);
    onAll(ranks, [this](SyncRank &rank) {
      train(rank, 3);
      if (rank.number != 1)
        pushDue(rank, 4); // fragment 0, in part
      applyDue(rank, 4);
      train(rank, 4);
      pushDue(rank, 5); // fragment 1
    });
    waitFor(/*fragment=*/1, /*version=*/2);
    onAll(ranks, [this](SyncRank &rank) {
      connect(kSetting, server->address(), /*incarnation=*/1, rank);
      EXPECT_EQ(rank.exchange->begin(0), 5u);
    });
    return 5;
  };
  runBoth(restarted, [this]() -> std::uint64_t {
    beginAll(islands[1]);
    return 0;
  });
  EXPECT_EQ(waited, 0u);
  expectEqual();
}

/// An island that comes when a round of fragment 1 has closed is one round
/// further with it than with the others.
TEST_F(PushOrder, AnIslandThatIsAheadWithOneFragmentPushesTheOthersFirst) {
  start(/*deadlineSeconds=*/30, /*startSeconds=*/3);
  beginAll(islands[0]);
  live(islands[0], 0, 1);
  waitFor(/*fragment=*/1, /*version=*/1);
  beginAll(islands[1]);
  runBoth([] { return 1; }, [] { return 0; });
  EXPECT_EQ(waited, 0u);
  expectEqual();
}

/// A round of fragment 1 closes without an island, which then pushes at once,
/// for the next one: that stands for the push that the plan has there, and so
/// it is where the other one is.
TEST_F(PushOrder, AnIslandThatWasLateDoesNotWaitForARoundTooMuch) {
  start(/*deadlineSeconds=*/6);
  for (Ranks &ranks : islands)
    beginAll(ranks);
  live(islands[0], 0, 1);
  waitFor(/*fragment=*/1, /*version=*/1);
  runBoth([] { return 1; }, [] { return 0; });
  EXPECT_EQ(waited, 1u); // the one that had closed before
  EXPECT_EQ(versions[1], 2 + kSteps / kSetting.innerSteps); // one is the end's
  expectEqual();
}

/// Islands of 4 and of 2 inner steps push at other times, in one order; what an
/// island has done is counted in its own steps.
TEST_F(PushOrder, IslandsWithInnerStepsOfTheirOwn) {
  setting.fragments = 2;
  setting.stride = 2;
  start(/*deadlineSeconds=*/30);
  Ranks &ranks = islands[1];
  auto restarted = [&]() -> std::uint64_t {
    beginAll(ranks);
    live(ranks, 0, 2);
    onAll(ranks, [this](SyncRank &rank) {
      train(rank, 2);
      pushDue(rank, 3); // fragment 1
    });
    waitFor(/*fragment=*/1, /*version=*/2);
    onAll(ranks, [this](SyncRank &rank) {
      connect(setting, server->address(), /*incarnation=*/1, rank);
      EXPECT_EQ(rank.exchange->begin(0), 3u);
    });
    return 3;
  };
  runBoth(
      [this]() -> std::uint64_t {
        beginAll(islands[0]);
        return 0;
      },
      restarted);
  EXPECT_EQ(waited, 0u);
  expectEqual();
}

} // namespace
