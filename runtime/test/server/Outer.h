//===- Outer.h - a plain reference of the outer step ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The algorithm of docs/Server.md once more, tensor by tensor and without any
// of the server's own code, and random pushes to try both with.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TEST_SERVER_OUTER_H
#define TOMBOLO_TEST_SERVER_OUTER_H

#include "tombolo/runtime/server/OuterState.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace tombolo::runtime::test {

using Tensors = std::map<std::string, std::vector<float>>;

struct IslandPush {
  std::uint32_t island = 0;
  std::uint64_t round = 0;
  std::uint64_t tokens = 0;
  std::uint64_t innerSteps = 0;
  Tensors delta;
};

/// Element by element, each operation stored before the next.
class Reference {
public:
  explicit Reference(const OuterConfig &config) : config(config) {}

  void start(Tensors parameters, Tensors momentum) {
    g = std::move(parameters);
    v = std::move(momentum);
  }

  void round(const std::vector<IslandPush> &pushes) {
    double tokens = 0, steps = 0, members = 0;
    for (const IslandPush &push : pushes) {
      if (push.innerSteps == 0)
        continue;
      tokens += static_cast<double>(push.tokens);
      steps += static_cast<double>(push.innerSteps);
      members += 1;
    }
    if (members == 0)
      return;
    float lr = static_cast<float>(config.learningRate);
    float m = static_cast<float>(config.momentum);
    for (auto &[name, values] : g)
      for (std::size_t k = 0; k < values.size(); ++k) {
        volatile float d = 0, t = 0;
        bool first = true;
        for (const IslandPush &push : pushes) {
          if (push.innerSteps == 0)
            continue;
          float factor = static_cast<float>(
              (static_cast<double>(push.tokens) / tokens) *
              ((steps / members) / static_cast<double>(push.innerSteps)));
          t = factor * push.delta.at(name)[k];
          d = first ? static_cast<float>(t) : d + t;
          first = false;
        }
        volatile float momentum = m * v[name][k];
        momentum = momentum + d;
        v[name][k] = momentum;
        volatile float u = momentum;
        if (config.optimizer == OuterOptimizer::Nesterov) {
          t = m * momentum;
          u = d + t;
        }
        u = lr * u;
        values[k] = values[k] - u;
      }
  }

  Tensors g, v;

private:
  OuterConfig config;
};

inline OuterConfig randomConfig(std::mt19937 &random) {
  OuterConfig config;
  config.islands = 1 + random() % 5;
  config.optimizer =
      random() % 4 == 0 ? OuterOptimizer::Sgd : OuterOptimizer::Nesterov;
  config.learningRate = 0.1 * static_cast<double>(1 + random() % 10);
  config.momentum = random() % 4 == 0 ? 0 : 0.9;
  std::size_t tensors = 1 + random() % 6;
  for (std::size_t t = 0; t < tensors; ++t) {
    // A few larger than one block of the server's loops.
    std::uint64_t elements =
        random() % 5 == 0 ? 4000 + random() % 5000 : 1 + random() % 300;
    config.tensors.push_back(
        {"layer." + std::to_string(random() % 1000) + "." + std::to_string(t),
         elements, 0});
  }
  return config;
}

inline Tensors randomTensors(const OuterConfig &config, std::mt19937 &random,
                             float scale) {
  std::normal_distribution<float> normal;
  Tensors tensors;
  for (const OuterTensor &tensor : config.tensors) {
    std::vector<float> &values = tensors[tensor.name];
    for (std::uint64_t k = 0; k < tensor.elements; ++k)
      values.push_back(scale * normal(random));
  }
  return tensors;
}

inline IslandPush randomPush(const OuterConfig &config, std::uint32_t island,
                             std::uint64_t round, std::mt19937 &random) {
  IslandPush push;
  push.island = island;
  push.round = round;
  if (random() % 10 != 0) { // else an island without a step
    push.innerSteps = 1 + random() % 20;
    push.tokens = push.innerSteps * (1 + random() % 100000);
  }
  push.delta = randomTensors(config, random, push.innerSteps ? 0.1f : 0);
  return push;
}

struct RankPart {
  PushPart part;
  std::vector<float> data;
};

/// Cuts tensors into random slices of both forms (plain runs, strided runs),
/// gives each to one of `ranks` ranks and copies its values.
inline std::vector<RankPart> cutTensors(const Tensors &tensors,
                                        const OuterConfig &config,
                                        std::uint32_t ranks,
                                        std::mt19937 &random) {
  std::vector<RankPart> parts(ranks);
  for (const OuterTensor &tensor : config.tensors) {
    const std::vector<float> &values = tensors.at(tensor.name);
    std::vector<ElementRange> ranges;
    std::uint64_t columns = 2 + random() % 4;
    if (random() % 2 && tensor.elements % columns == 0) {
      // Column slices of a matrix.
      for (std::uint64_t c = 0; c < columns; ++c)
        ranges.push_back({c, 1, tensor.elements / columns, columns});
    } else {
      for (std::uint64_t at = 0; at < tensor.elements;) {
        std::uint64_t length = std::min<std::uint64_t>(
            1 + random() % (tensor.elements), tensor.elements - at);
        ranges.push_back({at, length, 1, length});
        at += length;
      }
    }
    std::shuffle(ranges.begin(), ranges.end(), random);
    for (const ElementRange &range : ranges) {
      RankPart &part = parts[random() % ranks];
      part.part.slices.push_back({tensor.name, {range}});
      for (std::uint64_t r = 0; r < range.count; ++r)
        for (std::uint64_t e = 0; e < range.length; ++e)
          part.data.push_back(values[range.begin + r * range.stride + e]);
    }
  }
  for (std::uint32_t rank = 0; rank < ranks; ++rank)
    parts[rank].part.rank = rank;
  std::erase_if(parts, [](const RankPart &p) { return p.data.empty(); });
  return parts;
}

inline std::vector<RankPart> cut(const IslandPush &push,
                                 const OuterConfig &config, std::uint32_t ranks,
                                 std::mt19937 &random) {
  std::vector<RankPart> parts = cutTensors(push.delta, config, ranks, random);
  for (RankPart &part : parts) {
    part.part.island = push.island;
    part.part.round = part.part.baseVersion = push.round;
    part.part.tokens = push.tokens;
    part.part.innerSteps = push.innerSteps;
  }
  return parts;
}

/// What a push came to, with the version that it closed published at once.
struct Pushed : PushResult {
  std::optional<OuterEvent> event;
};

inline Pushed pushNow(OuterState &state, const PushPart &part,
                      std::span<const float> data, double now) {
  Pushed result{state.push(part, data, now), {}};
  if (result.closing) {
    result.closing->compute();
    result.event = result.closing->event();
    state.publish(*result.closing);
  }
  return result;
}

inline void pushStart(OuterState &state, const OuterConfig &config,
                      const Tensors &first, const Tensors *momentum,
                      std::uint64_t round, std::mt19937 &random) {
  std::vector<RankPart> parts = cutTensors(first, config, 3, random);
  for (RankPart &part : parts)
    part.part.content = PushContent::StartParameters;
  if (momentum)
    for (RankPart &part : cutTensors(*momentum, config, 2, random)) {
      part.part.content = PushContent::StartMomentum;
      parts.push_back(std::move(part));
    }
  std::shuffle(parts.begin(), parts.end(), random);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts[i].part.round = round;
    parts[i].part.withMomentum = momentum != nullptr;
    Pushed result = pushNow(state, parts[i].part, parts[i].data, 0);
    ASSERT_EQ(result.outcome, Outcome::Accepted) << result.message;
    ASSERT_EQ(result.event.has_value(), i + 1 == parts.size());
  }
}

inline void expectBitEqual(const Version &version, const OuterConfig &config,
                           const Reference &reference) {
  std::vector<std::string> names;
  for (const OuterTensor &tensor : config.tensors)
    names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  std::vector<float> g, v;
  for (const std::string &name : names) {
    const auto &values = reference.g.at(name);
    const auto &momentum = reference.v.at(name);
    g.insert(g.end(), values.begin(), values.end());
    v.insert(v.end(), momentum.begin(), momentum.end());
  }
  ASSERT_EQ(version.parameters.size(), g.size());
  ASSERT_EQ(std::memcmp(version.parameters.data(), g.data(), 4 * g.size()), 0);
  if (!version.momentum.empty()) {
    ASSERT_EQ(version.momentum, v);
  } else {
    for (float x : v)
      ASSERT_EQ(x, 0);
  }
}

} // namespace tombolo::runtime::test

#endif // TOMBOLO_TEST_SERVER_OUTER_H
