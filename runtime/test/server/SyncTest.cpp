//===- SyncTest.cpp - islands and server together, to the bit -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Ranks of islands of different layouts train (some change of the parameters)
// and exchange fragments over a socket while they go on, with every
// compression. A second implementation of both sides, tensor by tensor on the
// whole model, must come to the same bits.
//
//===----------------------------------------------------------------------===//

#include "SyncRanks.h"

#include <mutex>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

class Sync : public testing::TestWithParam<Setting> {};

TEST_P(Sync, AgreesWithTheReferenceToTheBit) {
  const Setting &setting = GetParam();
  OuterConfig config = modelConfig(setting);
  ParameterServerOptions options;
  options.outer = config;
  options.runId = "run";
  options.contract = Contract("plan");
  std::mutex mutex;
  std::vector<std::size_t> versions(setting.fragments);
  options.onEvent = [&](const OuterEvent &event) {
    std::lock_guard lock(mutex);
    ++versions[event.fragment];
  };
  ParameterServer server(options);
  auto ranks = makeRanks(setting, config, server.address());
  std::mt19937 random(1);
  Tensors first = randomTensors(config, random, 1);
  for (auto &rank : ranks)
    rank->each(config, [&](std::size_t t, std::uint64_t e, float &value) {
      value = rank->island ? 9 : first.at(config.tensors[t].name)[e];
    });
  onAll(ranks, [](SyncRank &rank) { rank.exchange->begin(0); });
  PlainRun plain(setting, config, first);
  auto expectAgreement = [&](std::uint64_t n) {
    for (auto &rank : ranks) {
      ASSERT_EQ(countWrong(*rank, plain, config), 0u)
          << "island " << rank->island << " after step " << n;
    }
  };
  std::uint64_t steps = 4 * setting.innerSteps + (setting.stride > 1 ? 0 : 3);
  for (std::uint64_t n = 0; n < steps; ++n) {
    onAll(ranks, [&](SyncRank &rank) {
      std::uint64_t stride = setting.strideOf(rank.island);
      if ((n + 1) % stride != 0)
        return;
      std::uint64_t own = (n + 1) / stride - 1;
      rank.each(config, [&](std::size_t t, std::uint64_t e, float &value) {
        value += changeOf(rank.island, own, e, t);
      });
      exchangeAfter(setting, rank, own);
    });
    plain.step(n);
    ASSERT_NO_FATAL_FAILURE(expectAgreement(n));
  }
  onAll(ranks, [&](SyncRank &rank) {
    std::uint64_t own = steps / setting.strideOf(rank.island);
    for (std::uint32_t f = 0; f < setting.fragments; ++f) {
      rank.exchange->beginPush(f, own);
      rank.exchange->apply(f, own);
    }
    rank.exchange->end(own);
  });
  plain.finish(steps);
  ASSERT_NO_FATAL_FAILURE(expectAgreement(steps));
  for (const auto &[name, values] : plain.islands[0].local)
    EXPECT_EQ(values, plain.islands[1].local[name]);
  std::lock_guard lock(mutex);
  for (std::size_t count : versions)
    EXPECT_GE(count, 5u);
}

INSTANTIATE_TEST_SUITE_P(
    All, Sync,
    testing::Values(Setting{Compression::None, 3, 1, 0},
                    Setting{Compression::None, 4, 2, 1},
                    Setting{Compression::Int8, 3, 1, 0},
                    Setting{Compression::Int8, 4, 4, 2},
                    Setting{Compression::Int4, 5, 3, 4},
                    Setting{Compression::Bf16, 6, 2, 5},
                    Setting{Compression::Int8, 4, 2, 1, OuterOptimizer::AdamW},
                    Setting{Compression::None, 8, 4, 1,
                            OuterOptimizer::Nesterov, /*stride=*/2},
                    Setting{Compression::Int8, 6, 2, 0,
                            OuterOptimizer::Nesterov, /*stride=*/3}),
    [](const testing::TestParamInfo<Setting> &info) {
      const Setting &s = info.param;
      return std::string(name(s.compression)) + "H" +
             std::to_string(s.innerSteps) + "F" + std::to_string(s.fragments) +
             "Overlap" + std::to_string(s.overlapSteps) +
             (s.optimizer == OuterOptimizer::AdamW ? "AdamW" : "") +
             (s.stride > 1 ? "Own" + std::to_string(s.innerStepsOf(1)) : "");
    });

} // namespace
