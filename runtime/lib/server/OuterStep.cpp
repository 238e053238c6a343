//===- OuterStep.cpp - the outer optimizer's arithmetic -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every site must come to the same bits. So this library is compiled with
// -ffp-contract=off, and the order of all sums is fixed.
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/server/OuterState.h"

#include "simd/Loops.h"

#include <algorithm>
#include <cmath>

using namespace tombolo::runtime;

std::vector<float>
tombolo::runtime::outerFactors(std::span<const OuterMember> members) {
  std::uint64_t tokens = 0, steps = 0, count = 0;
  for (const OuterMember &member : members) {
    if (member.innerSteps == 0)
      continue;
    tokens += member.tokens;
    steps += member.innerSteps;
    ++count;
  }
  std::vector<float> factors;
  for (const OuterMember &member : members) {
    if (member.innerSteps == 0) {
      factors.push_back(0);
      continue;
    }
    double weight =
        static_cast<double>(member.tokens) / static_cast<double>(tokens);
    double mean = static_cast<double>(steps) / static_cast<double>(count);
    double scale = mean / static_cast<double>(member.innerSteps);
    factors.push_back(static_cast<float>(weight * scale));
  }
  return factors;
}

void tombolo::runtime::outerStep(const OuterSettings &settings,
                                 std::uint64_t step,
                                 std::span<const OuterMember> members,
                                 std::span<const float> g,
                                 std::span<float> momentum,
                                 std::span<float> secondMoment,
                                 std::span<float> update) {
  std::vector<float> factors = outerFactors(members);
  std::vector<std::size_t> active;
  for (std::size_t i = 0; i < members.size(); ++i)
    if (members[i].innerSteps != 0)
      active.push_back(i);

  const float lr = static_cast<float>(settings.learningRate);
  const float m = static_cast<float>(settings.momentum);
  outer::AdamWConstants adamw{};
  if (settings.optimizer == OuterOptimizer::AdamW) {
    double b1 = settings.momentum, b2 = settings.beta2;
    double t = static_cast<double>(step);
    adamw = {m,
             static_cast<float>(1 - b1),
             static_cast<float>(b2),
             static_cast<float>(1 - b2),
             static_cast<float>(settings.learningRate / (1 - std::pow(b1, t))),
             static_cast<float>(std::sqrt(1 - std::pow(b2, t))),
             static_cast<float>(settings.epsilon),
             static_cast<float>(settings.learningRate * settings.weightDecay)};
  }
  const outer::Loops &loops = outer::selectLoops();
  // Blocks that stay in the cache between the passes.
  constexpr std::size_t kBlock = 4096;
  float sum[kBlock];
  for (std::size_t begin = 0; begin < update.size(); begin += kBlock) {
    std::size_t count = std::min(kBlock, update.size() - begin);
    loops.scale(members[active[0]].delta.data() + begin, factors[active[0]],
                count, sum);
    for (std::size_t i = 1; i < active.size(); ++i)
      loops.addScaled(members[active[i]].delta.data() + begin,
                      factors[active[i]], count, sum);
    float *v = momentum.data() + begin, *u = update.data() + begin;
    switch (settings.optimizer) {
    case OuterOptimizer::Nesterov:
      loops.nesterov(sum, v, count, lr, m, u);
      break;
    case OuterOptimizer::Sgd:
      loops.sgd(sum, v, count, lr, m, u);
      break;
    case OuterOptimizer::AdamW:
      loops.adamw(sum, g.data() + begin, v, secondMoment.data() + begin, count,
                  adamw, u);
      break;
    }
  }
}
