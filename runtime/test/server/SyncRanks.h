//===- SyncRanks.h - islands that exchange, and their reference -*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Ranks of two islands of different layouts whose training is a formula, and a
// second implementation of both sides, tensor by tensor on the whole model.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_SERVER_SYNCRANKS_H
#define TOMBOLO_TEST_SERVER_SYNCRANKS_H

#include "Outer.h"

#include "tombolo/runtime/server/ExchangeClient.h"
#include "tombolo/runtime/server/ParameterServer.h"

#include <future>

namespace tombolo::runtime::test {

struct Setting {
  Compression compression;
  std::uint64_t innerSteps;
  std::uint32_t fragments;
  std::uint64_t overlapSteps;
  OuterOptimizer optimizer = OuterOptimizer::Nesterov;
  /// Island 1 takes a step where island 0, and the clock, take so many.
  std::uint64_t stride = 1;

  std::uint64_t strideOf(std::uint32_t island) const {
    return island == 1 ? stride : 1;
  }
  std::uint64_t innerStepsOf(std::uint32_t island) const {
    return innerSteps / strideOf(island);
  }
};

constexpr std::uint64_t kRows = 12, kColumns = 700;

inline OuterConfig modelConfig(const Setting &setting) {
  OuterConfig config;
  config.islands = 2;
  config.fragments = setting.fragments;
  config.compression = setting.compression;
  config.outer.optimizer = setting.optimizer;
  for (std::uint32_t f = 0; f < setting.fragments; ++f) {
    std::string name = "layer" + std::to_string(f);
    config.tensors.push_back({name + ".w", kRows * kColumns, f});
    config.tensors.push_back({name + ".b", 5 + f, f});
  }
  return config;
}

/// What the step after `step` does to a parameter.
inline float changeOf(std::uint32_t island, std::uint64_t step,
                      std::uint64_t element, std::size_t tensor) {
  return 1e-3f *
         static_cast<float>(
             static_cast<int>(
                 (element * 31 + island * 17 + step * 7 + tensor * 3) % 203) -
             101);
}

inline std::uint64_t offsetOf(const Setting &s, std::uint32_t fragment,
                              std::uint32_t island = 0) {
  return fragment * s.innerStepsOf(island) / s.fragments;
}

/// One island of the algorithm in docs/Server.md, on whole tensors.
struct PlainIsland {
  Tensors local, base, error, atPush, onTheWay;
  std::map<std::uint32_t, std::uint64_t> pushedAt; // under way
};

/// Elements of the push of one tensor, encoded the way the layout cuts it:
/// columns of `w` in two halves on island 0.
inline std::vector<float> sentBy(std::uint32_t island, const std::string &name,
                                 const std::vector<float> &x,
                                 Compression compression) {
  if (island != 0 || name.back() != 'w')
    return plainRoundTrip(compression, x);
  std::vector<float> result(x.size());
  for (std::uint64_t half : {0, 1}) {
    std::vector<float> part;
    auto each = [&](auto visit) {
      for (std::uint64_t r = 0; r < kRows; ++r)
        for (std::uint64_t c = 0; c < kColumns / 2; ++c)
          visit(r * kColumns + half * kColumns / 2 + c);
    };
    each([&](std::uint64_t e) { part.push_back(x[e]); });
    part = plainRoundTrip(compression, part);
    std::size_t at = 0;
    each([&](std::uint64_t e) { result[e] = part[at++]; });
  }
  return result;
}

class PlainRun {
public:
  PlainRun(const Setting &setting, const OuterConfig &config,
           const Tensors &first)
      : s(setting), config(config) {
    for (PlainIsland &island : islands) {
      island.local = island.base = first;
      for (const auto &[name, values] : first)
        island.error[name].resize(values.size());
    }
    for (std::uint32_t f = 0; f < s.fragments; ++f) {
      servers.emplace_back(config);
      Tensors part, zero;
      for (const OuterTensor &tensor : config.tensors)
        if (tensor.fragment == f) {
          part[tensor.name] = first.at(tensor.name);
          zero[tensor.name].resize(tensor.elements);
        }
      servers.back().start(part, zero);
    }
  }

  /// What happens with step `n` of island 0.
  void step(std::uint64_t n) {
    for (std::uint32_t i = 0; i < 2; ++i)
      for (std::size_t t = 0; t < config.tensors.size(); ++t) {
        std::vector<float> &values = islands[i].local[config.tensors[t].name];
        if ((n + 1) % s.strideOf(i) == 0)
          for (std::size_t e = 0; e < values.size(); ++e)
            values[e] += changeOf(i, (n + 1) / s.strideOf(i) - 1, e, t);
      }
    for (std::uint32_t f = 0; f < s.fragments; ++f) {
      if ((n + 1) % s.innerSteps == offsetOf(s, f))
        push(f, n + 1);
      for (std::uint32_t i = 0; i < 2; ++i) {
        auto at = islands[i].pushedAt.find(f);
        if (at != islands[i].pushedAt.end() &&
            at->second + s.overlapSteps * s.strideOf(i) == n + 1)
          apply(i, f, s.overlapSteps > 0);
      }
    }
  }

  void finish(std::uint64_t steps) {
    for (std::uint32_t f = 0; f < s.fragments; ++f) {
      for (std::uint32_t i = 0; i < 2; ++i)
        if (islands[i].pushedAt.count(f))
          apply(i, f, true);
      if (lastPush[f] != steps) {
        push(f, steps);
        for (std::uint32_t i = 0; i < 2; ++i)
          apply(i, f, false);
      }
      for (PlainIsland &island : islands) // the end: local is global
        for (const OuterTensor &tensor : config.tensors)
          if (tensor.fragment == f)
            island.local[tensor.name] = island.base[tensor.name];
    }
  }

  PlainIsland islands[2];

private:
  void push(std::uint32_t f, std::uint64_t steps) {
    std::vector<IslandPush> pushes(2);
    for (std::uint32_t i = 0; i < 2; ++i) {
      PlainIsland &island = islands[i];
      pushes[i].innerSteps = (steps - lastPush[f]) / s.strideOf(i);
      pushes[i].tokens = pushes[i].innerSteps * 100 * (i + 1);
      for (const OuterTensor &tensor : config.tensors) {
        if (tensor.fragment != f)
          continue;
        const std::string &name = tensor.name;
        std::vector<float> sum(tensor.elements);
        for (std::size_t e = 0; e < sum.size(); ++e) {
          volatile float d = island.base[name][e] - island.local[name][e];
          sum[e] = d + island.error[name][e];
        }
        std::vector<float> sent = sentBy(i, name, sum, s.compression);
        for (std::size_t e = 0; e < sum.size(); ++e)
          island.error[name][e] = sum[e] - sent[e];
        pushes[i].delta[name] = sent;
        island.atPush[name] = island.local[name];
      }
    }
    servers[f].round(pushes);
    lastPush[f] = steps;
    for (PlainIsland &island : islands)
      island.pushedAt[f] = steps;
  }

  void apply(std::uint32_t i, std::uint32_t f, bool moved) {
    PlainIsland &island = islands[i];
    island.pushedAt.erase(f);
    for (const auto &[name, g] : servers[f].g) {
      for (std::size_t e = 0; e < g.size(); ++e) {
        volatile float since = island.local[name][e] - island.atPush[name][e];
        island.local[name][e] = moved ? g[e] + since : g[e];
      }
      island.base[name] = g;
    }
  }

  const Setting &s;
  const OuterConfig &config;
  std::vector<Reference> servers;
  std::map<std::uint32_t, std::uint64_t> lastPush;
};

/// A rank's arena and what it holds.
struct SyncRank {
  std::uint32_t island = 0, number = 0;
  std::uint64_t tokensPerStep = 0; ///< 0: that of `optionsOf`
  std::function<void(ExchangeOptions &)> adjust; ///< what else is different
  std::vector<ExchangeTensor> tensors;
  std::vector<float> arena;
  std::unique_ptr<Exchange> exchange;

  template <typename Visit> void each(const OuterConfig &config, Visit visit) {
    for (const ExchangeTensor &held : tensors) {
      std::size_t tensor = 0;
      while (config.tensors[tensor].name != held.name)
        ++tensor;
      float *at = arena.data() + held.address / sizeof(float);
      for (const ElementRange &range : held.ranges)
        for (std::uint64_t r = 0; r < range.count; ++r)
          for (std::uint64_t e = 0; e < range.length; ++e)
            visit(tensor, range.begin + r * range.stride + e, *at++);
    }
  }
};

inline ExchangeOptions optionsOf(const Setting &setting,
                                 const std::string &server,
                                 std::uint32_t island, std::uint32_t rank) {
  ExchangeOptions options;
  options.server = server;
  options.runId = "run";
  options.contract = Contract("plan");
  options.island = island;
  options.rank = rank;
  options.fragments = setting.fragments;
  options.innerSteps = setting.innerStepsOf(island);
  options.overlapSteps = setting.overlapSteps;
  options.compression = setting.compression;
  options.tokensPerStep = 100 * (island + 1);
  return options;
}

/// Gives a rank an exchange, in the place of one that it may have.
inline void connect(const Setting &setting, const std::string &server,
                    std::uint64_t incarnation, SyncRank &rank) {
  auto *floats = rank.arena.data();
  ExchangeOptions options =
      optionsOf(setting, server, rank.island, rank.number);
  options.incarnation = incarnation;
  if (rank.tokensPerStep)
    options.tokensPerStep = rank.tokensPerStep;
  if (rank.adjust)
    rank.adjust(options);
  rank.exchange = connectExchange(
      options, rank.tensors,
      {[floats](std::uint64_t from, std::span<std::byte> to) {
         std::memcpy(to.data(), reinterpret_cast<std::byte *>(floats) + from,
                     to.size());
       },
       [floats](std::uint64_t to, std::span<const std::byte> from) {
         std::memcpy(reinterpret_cast<std::byte *>(floats) + to, from.data(),
                     from.size());
       }});
}

/// What a rank saves of itself between two steps.
struct Snapshot {
  std::vector<float> arena;
  std::vector<FragmentPoint> points;
  std::map<std::pair<Kept, std::size_t>, std::vector<float>> kept;
};

inline Snapshot save(const Setting &setting, const SyncRank &rank) {
  Snapshot snapshot;
  snapshot.arena = rank.arena;
  snapshot.points = rank.exchange->points();
  for (std::size_t t = 0; t < rank.tensors.size(); ++t) {
    const ExchangeTensor &tensor = rank.tensors[t];
    std::uint64_t elements = 0;
    for (const ElementRange &range : tensor.ranges)
      elements += range.length * range.count;
    auto keep = [&](Kept what) {
      std::vector<float> &to = snapshot.kept[{what, t}];
      to.resize(elements);
      // In two pieces, as who writes files may.
      std::span all(to);
      rank.exchange->kept(what, t, 0, all.first(1));
      rank.exchange->kept(what, t, 1, all.subspan(1));
    };
    keep(Kept::Base);
    if (tensor.owner && setting.compression != Compression::None)
      keep(Kept::Error);
    if (snapshot.points[tensor.fragment].pushedStep)
      keep(Kept::Pushed);
  }
  return snapshot;
}

/// As a new process of the rank.
inline void load(const Setting &setting, const std::string &server,
                 std::uint64_t incarnation, const Snapshot &snapshot,
                 SyncRank &rank) {
  std::copy(snapshot.arena.begin(), snapshot.arena.end(), rank.arena.begin());
  connect(setting, server, incarnation, rank);
  rank.exchange->setPoints(snapshot.points);
  for (const auto &[key, values] : snapshot.kept) {
    std::span all(values);
    rank.exchange->setKept(key.first, key.second, 1, all.subspan(1));
    rank.exchange->setKept(key.first, key.second, 0, all.first(1));
  }
}

/// Island 0: two ranks that split each `w` by columns and a replica of both
/// that owns nothing. Island 1: one rank.
inline std::vector<std::unique_ptr<SyncRank>>
makeRanks(const Setting &setting, const OuterConfig &config,
          const std::string &server) {
  std::vector<std::unique_ptr<SyncRank>> ranks;
  for (std::uint32_t number : {0, 1, 2, 3}) {
    auto rank = std::make_unique<SyncRank>();
    rank->island = number == 3;
    std::uint64_t address = 0;
    for (const OuterTensor &tensor : config.tensors) {
      bool matrix = tensor.name.back() == 'w';
      ElementRange whole{0, tensor.elements, 1, tensor.elements};
      ElementRange half{number * kColumns / 2, kColumns / 2, kRows, kColumns};
      if (!matrix && number == 1)
        continue;
      ElementRange range = matrix && number < 2 ? half : whole;
      rank->tensors.push_back({tensor.name,
                               tensor.elements,
                               tensor.fragment,
                               {range},
                               address,
                               number != 2});
      address += range.length * range.count * sizeof(float);
    }
    rank->arena.resize(address / sizeof(float));
    rank->number = number == 3 ? 0 : number;
    connect(setting, server, /*incarnation=*/0, *rank);
    ranks.push_back(std::move(rank));
  }
  return ranks;
}

inline void onAll(std::vector<std::unique_ptr<SyncRank>> &ranks,
                  const std::function<void(SyncRank &)> &call) {
  std::vector<std::future<void>> running;
  for (auto &rank : ranks)
    running.push_back(
        std::async(std::launch::async, [&call, &rank] { call(*rank); }));
  for (auto &one : running)
    one.get();
}

/// What a rank's program does around its step after `n`: first what is due to
/// be applied, then what is due to be pushed, or both at once without overlap.
inline void exchangeAfter(const Setting &s, SyncRank &rank, std::uint64_t n) {
  for (std::uint32_t f = 0; f < s.fragments; ++f) {
    const std::uint64_t inRound = s.innerStepsOf(rank.island);
    if ((n + 1) % inRound == offsetOf(s, f, rank.island))
      rank.exchange->beginPush(f, n + 1);
    if (n + 1 >= s.overlapSteps &&
        (n + 1 - s.overlapSteps) % inRound == offsetOf(s, f, rank.island))
      rank.exchange->apply(f, n + 1);
  }
}

/// Elements in which a rank differs, in any bit, from the reference.
inline std::size_t countWrong(SyncRank &rank, PlainRun &plain,
                              const OuterConfig &config) {
  std::size_t wrong = 0;
  rank.each(config, [&](std::size_t t, std::uint64_t e, float &value) {
    const float &expected =
        plain.islands[rank.island].local.at(config.tensors[t].name)[e];
    wrong += std::memcmp(&expected, &value, 4) != 0;
  });
  return wrong;
}

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_SERVER_SYNCRANKS_H
