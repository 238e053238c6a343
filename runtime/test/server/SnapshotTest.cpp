//===- SnapshotTest.cpp - islands that go on from a snapshot --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "SyncRanks.h"

#include <mutex>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

ParameterServerOptions serverOf(const OuterConfig &config) {
  ParameterServerOptions options;
  options.outer = config;
  options.runId = "run";
  options.contract = Contract("plan");
  return options;
}

std::string nameOf(const Setting &s) {
  return std::string(name(s.compression)) + "H" + std::to_string(s.innerSteps) +
         "F" + std::to_string(s.fragments) + "Overlap" +
         std::to_string(s.overlapSteps);
}

class Restarted : public testing::TestWithParam<Setting> {};

// An island that dies right behind a snapshot, with pushes under way or not,
// goes on as if nothing had been, to the bit.
TEST_P(Restarted, AgreesWithTheReferenceToTheBit) {
  const Setting &setting = GetParam();
  OuterConfig config = modelConfig(setting);
  ParameterServer server(serverOf(config));
  auto ranks = makeRanks(setting, config, server.address());
  std::mt19937 random(2);
  Tensors first = randomTensors(config, random, 1);
  for (auto &rank : ranks)
    rank->each(config, [&](std::size_t t, std::uint64_t e, float &value) {
      value = first.at(config.tensors[t].name)[e];
    });
  onAll(ranks, [](SyncRank &rank) { rank.exchange->begin(0); });
  PlainRun plain(setting, config, first);
  std::uint64_t steps = 4 * setting.innerSteps + 3;
  std::uint64_t incarnations[2] = {};
  for (std::uint64_t n = 0; n < steps; ++n) {
    onAll(ranks, [&](SyncRank &rank) {
      rank.each(config, [&](std::size_t t, std::uint64_t e, float &value) {
        value += changeOf(rank.island, n, e, t);
      });
      exchangeAfter(setting, rank, n);
    });
    plain.step(n);
    std::uint32_t dying = n % 2;
    std::uint64_t incarnation = ++incarnations[dying];
    onAll(ranks, [&](SyncRank &rank) {
      if (rank.island != dying)
        return;
      Snapshot snapshot = save(setting, rank);
      load(setting, server.address(), incarnation, snapshot, rank);
      EXPECT_EQ(rank.exchange->begin(n + 1), n + 1);
    });
    for (auto &rank : ranks) {
      ASSERT_EQ(countWrong(*rank, plain, config), 0u)
          << "island " << rank->island << " after step " << n;
    }
  }
}

/// Both islands add 1 to everything in each step, and the outer step takes over
/// the mean change: so each round moves all by the mean of its members' steps,
/// unless some step is pushed twice or forgotten.
class CountedOnce : public testing::TestWithParam<Setting> {};

TEST_P(CountedOnce, EachStepIsPushedOnce) {
  const Setting &setting = GetParam();
  OuterConfig config = modelConfig(setting);
  config.outer.optimizer = OuterOptimizer::Sgd;
  config.outer.learningRate = 1;
  config.outer.momentum = 0;
  ParameterServerOptions options = serverOf(config);
  std::mutex mutex;
  std::vector<double> moved(setting.fragments);
  options.onEvent = [&](const OuterEvent &event) {
    std::lock_guard lock(mutex);
    if (event.kind == OuterEvent::Kind::OuterStep)
      moved[event.fragment] += static_cast<double>(event.tokens) /
                               static_cast<double>(event.members.size()) / 100;
  };
  ParameterServer server(options);
  auto all = makeRanks(setting, config, server.address());
  std::vector<std::unique_ptr<SyncRank>> islands[2];
  for (auto &rank : all) {
    rank->tokensPerStep = 100;
    connect(setting, server.address(), 0, *rank);
    islands[rank->island].push_back(std::move(rank));
  }
  std::uint64_t steps = 9 * setting.innerSteps + 2;
  auto live = [&](std::uint32_t number) {
    auto &ranks = islands[number];
    std::mt19937 random(setting.innerSteps + number);
    std::vector<Snapshot> snapshots(ranks.size());
    std::uint64_t incarnation = 0, begun = 0;
    onAll(ranks, [&](SyncRank &rank) { rank.exchange->begin(0); });
    auto saveAll = [&] {
      for (std::size_t r = 0; r < ranks.size(); ++r)
        snapshots[r] = save(setting, *ranks[r]);
    };
    saveAll();
    std::uint64_t savedStep = 0;
    for (std::uint64_t n = 0; n < steps; ++n) {
      onAll(ranks, [&](SyncRank &rank) {
        for (float &value : rank.arena)
          value += 1;
        exchangeAfter(setting, rank, n);
      });
      if (random() % 3 == 0) {
        saveAll();
        savedStep = n + 1;
      }
      if (incarnation < 6 && random() % 4 == 0) {
        ++incarnation;
        std::mutex agreed;
        std::set<std::uint64_t> answers;
        std::size_t r = 0;
        std::map<const SyncRank *, const Snapshot *> of;
        for (auto &rank : ranks)
          of[rank.get()] = &snapshots[r++];
        onAll(ranks, [&](SyncRank &rank) {
          load(setting, server.address(), incarnation, *of.at(&rank), rank);
          std::uint64_t answer = rank.exchange->begin(savedStep);
          std::lock_guard lock(agreed);
          answers.insert(answer);
        });
        ASSERT_EQ(answers.size(), 1u);
        begun = *answers.begin();
        ASSERT_GE(begun, savedStep);
        saveAll();
        savedStep = begun;
        n = begun - 1;
      }
    }
    onAll(ranks, [&](SyncRank &rank) {
      for (std::uint32_t f = 0; f < setting.fragments; ++f) {
        rank.exchange->beginPush(f, steps);
        rank.exchange->apply(f, steps);
      }
      rank.exchange->end(steps);
    });
  };
  auto other = std::async(std::launch::async, live, 1);
  live(0);
  other.get();
  std::lock_guard lock(mutex);
  for (auto &ranks : islands)
    for (auto &rank : ranks)
      rank->each(config, [&](std::size_t t, std::uint64_t, float &value) {
        ASSERT_EQ(value, moved[config.tensors[t].fragment])
            << config.tensors[t].name << " of island " << rank->island;
      });
}

INSTANTIATE_TEST_SUITE_P(All, Restarted,
                         testing::Values(Setting{Compression::None, 3, 1, 0},
                                         Setting{Compression::None, 4, 2, 1},
                                         Setting{Compression::Int8, 4, 4, 2},
                                         Setting{Compression::Int4, 5, 3, 4},
                                         Setting{Compression::Bf16, 6, 2, 5}),
                         [](const testing::TestParamInfo<Setting> &info) {
                           return nameOf(info.param);
                         });
INSTANTIATE_TEST_SUITE_P(All, CountedOnce,
                         testing::Values(Setting{Compression::None, 3, 1, 0},
                                         Setting{Compression::None, 4, 2, 1},
                                         Setting{Compression::None, 4, 4, 2},
                                         Setting{Compression::None, 5, 3, 4},
                                         Setting{Compression::None, 6, 2, 5}),
                         [](const testing::TestParamInfo<Setting> &info) {
                           return nameOf(info.param);
                         });

} // namespace
