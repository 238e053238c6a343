//===- AloneTest.cpp - islands that can reach no server -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Lines to a server are cut for several rounds. Islands train on, all ranks of
// one alike, and nothing that they do counts twice or is lost.
//
//===----------------------------------------------------------------------===//

#include "Relay.h"
#include "SyncRanks.h"

#include <condition_variable>
#include <mutex>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

using Ranks = std::vector<std::unique_ptr<SyncRank>>;
using Clock = std::chrono::steady_clock;

/// The largest of what so many threads bring, who all wait for each other.
class Largest {
public:
  explicit Largest(std::size_t count) : count(count) {}

  void operator()(std::span<std::uint64_t> numbers) {
    std::unique_lock lock(mutex);
    if (arrived == 0)
      coming.assign(numbers.size(), 0);
    for (std::size_t i = 0; i < numbers.size(); ++i)
      coming[i] = std::max(coming[i], numbers[i]);
    const std::uint64_t mine = meeting;
    if (++arrived == count) {
      arrived = 0;
      largest = coming;
      ++meeting;
      changed.notify_all();
    } else if (!changed.wait_for(lock, std::chrono::seconds(60),
                                 [&] { return meeting != mine; })) {
      throw std::runtime_error("a rank has not asked the others");
    }
    // The next one does not end before all have come to it.
    std::copy(largest.begin(), largest.end(), numbers.begin());
  }

private:
  const std::size_t count;
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t arrived = 0;
  std::uint64_t meeting = 0;
  std::vector<std::uint64_t> coming, largest; ///< of this and the last one
};

/// Both islands add 1 to everything in each step, and the outer step takes over
/// the mean change: so each round moves all by the mean of its members' steps,
/// unless some step is pushed twice or forgotten.
class Alone : public testing::TestWithParam<Setting> {
protected:
  Alone() : setting(GetParam()), config(modelConfig(setting)) {
    config.outer.optimizer = OuterOptimizer::Sgd;
    config.outer.learningRate = 1;
    config.outer.momentum = 0;
    config.quorum = 1;
    config.deadlineSeconds = 600;
    moved.resize(setting.fragments);
    pushed.resize(setting.fragments);
    ParameterServerOptions options;
    options.outer = config;
    options.runId = "run";
    options.contract = Contract("plan");
    options.detectionSeconds = 1;
    options.onEvent = [this](const OuterEvent &event) {
      std::lock_guard lock(mutex);
      if (event.kind != OuterEvent::Kind::OuterStep)
        return;
      auto steps = static_cast<double>(event.tokens) / 100;
      pushed[event.fragment] += steps;
      roundsOf1 += event.members == std::vector<std::uint32_t>{1};
      moved[event.fragment] +=
          steps / static_cast<double>(event.members.size());
    };
    server = std::make_unique<ParameterServer>(options);
    for (auto &line : lines)
      line = std::make_unique<Relay>(server->address());
    for (auto &rank : makeRanks(setting, config, server->address())) {
      rank->tokensPerStep = 100;
      rank->adjust = [this, island = rank->island](ExchangeOptions &options) {
        options.onUnreachable = [](const std::string &, double) {};
        options.mostStepsAlone = mostStepsAlone;
        options.largest = [this, island](std::span<std::uint64_t> numbers) {
          (*largest[island])(numbers);
        };
      };
      islands[rank->island].push_back(std::move(rank));
    }
    for (std::uint32_t i : {0, 1})
      largest[i] = std::make_unique<Largest>(islands[i].size());
  }

  void begin(std::uint32_t island) {
    onAll(islands[island], [&](SyncRank &rank) {
      connect(setting, lines[island]->address(), 0, rank);
      rank.exchange->begin(0);
    });
  }

  /// The step after `n`, as the executor does it.
  void step(std::uint32_t island, std::uint64_t n) {
    onAll(islands[island], [&](SyncRank &rank) {
      for (float &value : rank.arena)
        value += 1;
      const std::uint64_t inRound = setting.innerSteps;
      for (std::uint32_t f = 0; f < setting.fragments; ++f)
        if ((n + 1) % inRound == offsetOf(setting, f))
          rank.exchange->beginPush(f, n + 1);
      for (std::uint32_t f = 0; f < setting.fragments; ++f)
        if (n + 1 >= setting.overlapSteps &&
            (n + 1 - setting.overlapSteps) % inRound == offsetOf(setting, f))
          rank.exchange->apply(f, n + 1);
      for (std::uint32_t f : rank.exchange->putOff())
        rank.exchange->applyLate(f, n + 1);
    });
    // Others run meanwhile.
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }

  /// The same for all ranks of the island.
  std::size_t putOff(std::uint32_t island) {
    std::vector<std::uint32_t> first = islands[island][0]->exchange->putOff();
    for (auto &rank : islands[island])
      EXPECT_EQ(rank->exchange->putOff(), first);
    return first.size();
  }

  void end(std::uint32_t island, std::uint64_t steps) {
    onAll(islands[island], [&](SyncRank &rank) {
      for (std::uint32_t f = 0; f < setting.fragments; ++f) {
        rank.exchange->beginPush(f, steps);
        rank.exchange->apply(f, steps);
      }
      rank.exchange->end(steps);
    });
  }

  /// From step `n` on; gives the steps done.
  std::uint64_t untilAlone(std::uint32_t island, std::uint64_t n) {
    lines[island]->cut(true);
    for (std::uint64_t most = n + 3 * setting.innerSteps; putOff(island) == 0;)
      if (step(island, n++); n > most) {
        ADD_FAILURE() << "it does not go on alone";
        break;
      }
    return n;
  }
  std::uint64_t untilCaughtUp(std::uint32_t island, std::uint64_t n) {
    lines[island]->cut(false);
    Clock::time_point most = Clock::now() + std::chrono::seconds(60);
    while (putOff(island) > 0) {
      step(island, n++);
      if (Clock::now() > most) {
        ADD_FAILURE() << "it does not catch up";
        break;
      }
    }
    return n;
  }

  /// An island that is cut off for some rounds, and until there were so many of
  /// island 1 alone; gives the steps done.
  std::uint64_t liveThroughACut(std::uint32_t island, std::size_t rounds = 0) {
    begin(island);
    std::uint64_t n = 0;
    while (n < setting.innerSteps + 2)
      step(island, n++);
    n = untilAlone(island, n);
    Clock::time_point most = Clock::now() + std::chrono::seconds(60);
    for (std::uint64_t last = n + 3 * setting.innerSteps;
         n < last || (roundsOf1 < rounds && Clock::now() < most);)
      step(island, n++);
    EXPECT_GE(roundsOf1, rounds);
    n = untilCaughtUp(island, n);
    for (std::uint64_t last = n + 2 * setting.innerSteps + 1; n < last;)
      step(island, n++);
    return n;
  }

  /// Runs what both islands do; what one throws ends the other too.
  void runBoth(const std::function<void()> &first,
               const std::function<void()> &second) {
    auto guarded = [this](const std::function<void()> &life) {
      try {
        life();
        if (!HasFatalFailure())
          return;
      } catch (const std::exception &error) {
        ADD_FAILURE() << error.what();
      }
      isEnding = true;
      for (Ranks &all : islands)
        for (auto &rank : all)
          rank->exchange->abort();
    };
    auto other = std::async(std::launch::async, guarded, std::ref(second));
    guarded(first);
    other.get();
  }

  /// An island with a good line, until the other one says so.
  std::uint64_t live(std::uint32_t island) {
    begin(island);
    std::uint64_t n = 0;
    while (!isEnding)
      step(island, n++);
    return n;
  }

  /// All have come to the same, which each step has moved once. (With several
  /// fragments there are pushes without a step, which clear the way for others;
  /// what those rounds have moved is not told.)
  void expectEachStepOnce() {
    std::lock_guard lock(mutex);
    std::map<std::uint32_t, float> values;
    for (Ranks &ranks : islands)
      for (auto &rank : ranks)
        rank->each(config, [&](std::size_t t, std::uint64_t, float &value) {
          values.try_emplace(config.tensors[t].fragment, value);
        });
    if (setting.fragments == 1) {
      EXPECT_EQ(values[0], moved[0]);
    }
    for (Ranks &ranks : islands)
      for (auto &rank : ranks) {
        std::size_t wrong = 0;
        rank->each(config, [&](std::size_t t, std::uint64_t, float &value) {
          wrong += value != values[config.tensors[t].fragment];
        });
        EXPECT_EQ(wrong, 0u)
            << "rank " << rank->number << " of island " << rank->island;
      }
  }

  const Setting setting;
  OuterConfig config;
  std::uint64_t mostStepsAlone = ~std::uint64_t(0);
  std::atomic<bool> isEnding = false;
  std::mutex mutex;
  std::vector<double> moved, pushed; ///< steps by fragment: means, all
  std::atomic<std::size_t> roundsOf1 = 0;
  std::unique_ptr<Largest> largest[2];
  std::unique_ptr<ParameterServer> server;
  std::unique_ptr<Relay> lines[2];
  Ranks islands[2];
};

/// Three ranks agree on what they go on without, and catch up together.
TEST_P(Alone, AnIslandTrainsOnWhileTheOtherOnesGoOn) {
  std::uint64_t steps[2] = {};
  runBoth(
      [&] {
        steps[0] = liveThroughACut(0, /*rounds=*/3);
        isEnding = true;
        end(0, steps[0]);
      },
      [&] {
        steps[1] = live(1);
        end(1, steps[1]);
      });
  expectEachStepOnce();
  for (double each : pushed) // also those that were done alone
    EXPECT_EQ(each, static_cast<double>(steps[0] + steps[1]));
}

/// The server can be reached by nobody, and then by all: pushes that were under
/// way count as they were.
TEST_P(Alone, AllTrainOnWithoutTheServer) {
  std::uint64_t steps[2] = {};
  std::atomic<int> caughtUp = 0;
  auto life = [&](std::uint32_t island) {
    return [&, island] {
      std::uint64_t n = liveThroughACut(island);
      // None may be at its end while another one is not heard of.
      for (++caughtUp; caughtUp < 2 && !isEnding;)
        step(island, n++);
      end(island, steps[island] = n);
    };
  };
  runBoth(life(0), life(1));
  expectEachStepOnce();
  for (double each : pushed)
    EXPECT_EQ(each, static_cast<double>(steps[0] + steps[1]));
}

/// A snapshot has what an island has gone on without.
TEST_P(Alone, AnIslandGoesOnFromASnapshotOfThen) {
  runBoth(
      [&] {
        begin(0);
        std::uint64_t n = 0;
        while (n < setting.innerSteps + 2)
          step(0, n++);
        n = untilAlone(0, n);
        for (std::uint64_t last = n + setting.innerSteps + 1; n < last;)
          step(0, n++);
        ASSERT_GT(putOff(0), 0u);
        std::map<const SyncRank *, Snapshot> saved;
        for (auto &rank : islands[0])
          saved[rank.get()] = save(setting, *rank);
        lines[0]->cut(false);
        std::mutex agreed;
        std::set<std::uint64_t> answers;
        onAll(islands[0], [&](SyncRank &rank) {
          load(setting, lines[0]->address(), 1, saved.at(&rank), rank);
          std::uint64_t answer = rank.exchange->begin(n);
          std::lock_guard lock(agreed);
          answers.insert(answer);
        });
        ASSERT_EQ(answers.size(), 1u);
        n = *answers.begin();
        for (std::uint64_t last = n + 2 * setting.innerSteps + 1; n < last;)
          step(0, n++);
        isEnding = true;
        end(0, n);
      },
      [&] { end(1, live(1)); });
  isEnding = true;
  expectEachStepOnce();
}

/// Beyond the steps that it may do alone it waits.
TEST_P(Alone, AnIslandWaitsAfterSoManySteps) {
  mostStepsAlone = setting.innerSteps - 1;
  runBoth(
      [&] {
        begin(0);
        std::uint64_t n = 0;
        while (n < setting.innerSteps + 2)
          step(0, n++);
        n = untilAlone(0, n);
        const std::uint64_t first = n;
        std::atomic<std::uint64_t> done = n;
        auto later = std::async(std::launch::async, [&] {
          std::this_thread::sleep_for(std::chrono::milliseconds(2500));
          EXPECT_LE(done, first + setting.innerSteps);
          lines[0]->cut(false);
        });
        for (; n < first + 4 * setting.innerSteps; done = ++n)
          step(0, n);
        later.get();
        n = untilCaughtUp(0, n);
        isEnding = true;
        end(0, n);
      },
      [&] { end(1, live(1)); });
  expectEachStepOnce();
}

/// All others end meanwhile. All ranks of the island learn of it after the same
/// step.
TEST_P(Alone, AnIslandThatIsBeyondTheEndEnds) {
  std::promise<std::uint64_t> stops;
  std::future<std::uint64_t> stopsAfter = stops.get_future();
  runBoth(
      [&] {
        begin(0);
        std::uint64_t n = 0;
        while (n < setting.innerSteps + 2)
          step(0, n++);
        n = untilAlone(0, n);
        isEnding = true; // island 1 asks that all end
        ASSERT_EQ(stopsAfter.wait_for(std::chrono::seconds(60)),
                  std::future_status::ready);
        for (std::uint64_t stop = stopsAfter.get(); n < stop + 2;)
          step(0, n++);
        lines[0]->cut(false);
        std::optional<std::uint64_t> told;
        Clock::time_point most = Clock::now() + std::chrono::seconds(60);
        while (!told && Clock::now() < most) {
          step(0, n++);
          told = islands[0][0]->exchange->stopStep();
          for (auto &rank : islands[0])
            ASSERT_EQ(rank->exchange->stopStep(), told);
        }
        ASSERT_TRUE(told);
        EXPECT_LT(*told, n);
        end(0, n);
      },
      [&] {
        begin(1);
        std::uint64_t n = 0;
        std::optional<std::uint64_t> stop;
        for (; !stop || n < *stop; step(1, n++)) {
          if (isEnding)
            islands[1][0]->exchange->requestStop();
          if (!stop && (stop = islands[1][0]->exchange->stopStep()))
            stops.set_value(*stop);
        }
        end(1, n);
      });
}

INSTANTIATE_TEST_SUITE_P(All, Alone,
                         testing::Values(Setting{Compression::None, 4, 1, 0},
                                         Setting{Compression::None, 4, 2, 1},
                                         Setting{Compression::None, 5, 4, 3}),
                         [](const testing::TestParamInfo<Setting> &info) {
                           const Setting &s = info.param;
                           return "H" + std::to_string(s.innerSteps) + "F" +
                                  std::to_string(s.fragments) + "Overlap" +
                                  std::to_string(s.overlapSteps);
                         });

} // namespace
