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

#include "PlainCodec.h"

#include "tombolo/runtime/server/OuterState.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
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

/// Element by element, each operation stored before the next. Of one fragment
/// (whose tensors it is given).
class Reference {
public:
  explicit Reference(const OuterConfig &config) : config(config) {}

  void start(Tensors parameters, Tensors momentum) {
    g = std::move(parameters);
    v = std::move(momentum);
    for (const auto &[name, values] : g)
      s[name].resize(values.size()), e[name].resize(values.size());
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
    if (members != 0)
      ++t;
    float lr = static_cast<float>(config.outer.learningRate);
    float m = static_cast<float>(config.outer.momentum);
    for (auto &[name, values] : g) {
      std::vector<float> update(values.size());
      for (std::size_t k = 0; members != 0 && k < values.size(); ++k) {
        volatile float d = 0, product = 0;
        bool first = true;
        for (const IslandPush &push : pushes) {
          if (push.innerSteps == 0)
            continue;
          float factor = static_cast<float>(
              (static_cast<double>(push.tokens) / tokens) *
              ((steps / members) / static_cast<double>(push.innerSteps)));
          product = factor * push.delta.at(name)[k];
          d = first ? static_cast<float>(product) : d + product;
          first = false;
        }
        update[k] = config.outer.optimizer == OuterOptimizer::AdamW
                        ? adamw(name, k, d)
                        : heavyBall(name, k, d, lr, m);
      }
      // What is published, and what that loses.
      if (config.compression != Compression::None) {
        for (std::size_t k = 0; k < update.size(); ++k)
          update[k] = update[k] + e[name][k];
        std::vector<float> sent = plainRoundTrip(config.compression, update);
        for (std::size_t k = 0; k < update.size(); ++k)
          e[name][k] = update[k] - sent[k];
        update = sent;
      }
      for (std::size_t k = 0; k < values.size(); ++k)
        values[k] = values[k] - update[k];
    }
  }

  Tensors g, v; // state and momentum
  Tensors s, e; // AdamW's second moment, the error of what is published
  std::size_t t = 0;

private:
  float heavyBall(const std::string &name, std::size_t k, float d, float lr,
                  float m) {
    volatile float momentum = m * v[name][k];
    momentum = momentum + d;
    v[name][k] = momentum;
    volatile float u = momentum, product;
    if (config.outer.optimizer == OuterOptimizer::Nesterov) {
      product = m * momentum;
      u = d + product;
    }
    u = lr * u;
    return u;
  }

  float adamw(const std::string &name, std::size_t k, float d) {
    double b1 = config.outer.momentum, b2 = config.outer.beta2;
    double steps = static_cast<double>(t);
    volatile float a, b, first, second;
    a = v[name][k] * static_cast<float>(b1);
    b = d * static_cast<float>(1 - b1);
    first = a + b;
    a = s[name][k] * static_cast<float>(b2);
    b = d * d;
    b = b * static_cast<float>(1 - b2);
    second = a + b;
    v[name][k] = first;
    s[name][k] = second;
    a = std::sqrt(static_cast<float>(second));
    a = a / static_cast<float>(std::sqrt(1 - std::pow(b2, steps)));
    a = a + static_cast<float>(config.outer.epsilon);
    a = first / a;
    a = static_cast<float>(config.outer.learningRate /
                           (1 - std::pow(b1, steps))) *
        a;
    b = static_cast<float>(config.outer.learningRate *
                           config.outer.weightDecay) *
        g[name][k];
    return a + b;
  }

  OuterConfig config;
};

inline OuterConfig randomConfig(std::mt19937 &random) {
  OuterConfig config;
  config.islands = 1 + random() % 5;
  config.outer.optimizer = random() % 4 == 0   ? OuterOptimizer::Sgd
                           : random() % 3 == 0 ? OuterOptimizer::AdamW
                                               : OuterOptimizer::Nesterov;
  config.outer.learningRate = 0.1 * static_cast<double>(1 + random() % 10);
  config.outer.momentum = random() % 4 == 0 ? 0 : 0.9;
  config.outer.weightDecay = random() % 2 == 0 ? 0 : 0.01;
  config.compression = static_cast<Compression>(random() % 4);
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

/// As the island's layout, `seed`, has it: in each round alike.
inline std::vector<RankPart> cut(const IslandPush &push,
                                 const OuterConfig &config, std::uint32_t ranks,
                                 unsigned seed) {
  std::mt19937 layout(seed);
  std::vector<RankPart> parts = cutTensors(push.delta, config, ranks, layout);
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

/// Slice by slice, as a rank sends it.
inline std::vector<std::byte> encoded(const PushPart &part,
                                      Compression compression,
                                      std::span<const float> data) {
  std::vector<std::byte> bytes;
  if (part.content != PushContent::Delta)
    compression = Compression::None;
  for (const TensorSlice &slice : part.slices) {
    std::uint64_t count = 0;
    for (const ElementRange &range : slice.ranges)
      count += range.length * range.count;
    count = std::min<std::uint64_t>(count, data.size());
    std::vector<std::byte> piece = plainEncode(
        compression, std::vector<float>(data.begin(), data.begin() + count));
    bytes.insert(bytes.end(), piece.begin(), piece.end());
    data = data.subspan(count);
  }
  auto rest = std::as_bytes(data);
  bytes.insert(bytes.end(), rest.begin(), rest.end()); // more than it says
  return bytes;
}

inline OuterEvent publishNow(OuterState &state, RoundClosing &closing) {
  closing.compute();
  state.publish(closing);
  return closing.event();
}

inline Pushed pushNow(OuterState &state, const PushPart &part,
                      std::span<const float> data, double now) {
  Pushed result{
      state.push(part, encoded(part, state.config().compression, data), now),
      {}};
  if (result.closing)
    result.event = publishNow(state, *result.closing);
  return result;
}

/// What the server understands of a push.
inline IslandPush asDecoded(IslandPush push, const std::vector<RankPart> &parts,
                            Compression compression) {
  for (const RankPart &part : parts) {
    std::size_t at = 0;
    for (const TensorSlice &slice : part.part.slices) {
      std::size_t count = 0;
      for (const ElementRange &range : slice.ranges)
        count += range.length * range.count;
      std::vector<float> values(part.data.begin() + at,
                                part.data.begin() + at + count);
      at += count;
      values = plainRoundTrip(compression, values);
      std::size_t k = 0;
      for (const ElementRange &range : slice.ranges)
        for (std::uint64_t r = 0; r < range.count; ++r)
          for (std::uint64_t i = 0; i < range.length; ++i)
            push.delta[slice.tensor][range.begin + r * range.stride + i] =
                values[k++];
    }
  }
  return push;
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
