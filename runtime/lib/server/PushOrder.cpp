//===- PushOrder.cpp - in which order an island pushes fragments ----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Rounds of all fragments have one order, that of the plan: by the step after
// which they are pushed, then by fragment. An island in the course of the plan
// waits for a round only when it has pushed all rounds that have their turn
// before it. One that was late or restarted is elsewhere with one fragment than
// with another, and keeps to the same rule: before it waits for a round it
// pushes what is missing of the earlier ones, and where it cannot, since a push
// of an earlier round is still under way, it does not wait yet.
//
// So islands cannot wait for each other in a cycle: of all rounds that somebody
// waits for, take the one that has its turn first. Every island that waits for
// this or a later one has pushed it, and every other one trains on and comes to
// it.
//
// What is decided here follows from versions and pushes under way alone, which
// are the same on all ranks of an island.
//
//===----------------------------------------------------------------------===//

#include "RankExchange.h"

using namespace tombolo::runtime;

std::uint64_t tombolo::runtime::firstVersion(const ExchangeOptions &options,
                                             std::uint32_t fragment,
                                             std::uint64_t stepsDone) {
  std::uint64_t offset =
      pushOffset(fragment, options.fragments, options.innerSteps);
  return (stepsDone + (options.innerSteps - offset) % options.innerSteps) /
         options.innerSteps;
}

std::uint64_t tombolo::runtime::stepsBefore(const ExchangeOptions &options,
                                            std::uint32_t fragment,
                                            std::uint64_t version) {
  std::uint64_t offset =
      pushOffset(fragment, options.fragments, options.innerSteps);
  if (version == 0 || offset == 0)
    return version * options.innerSteps;
  return (version - 1) * options.innerSteps + offset;
}

RankExchange::Turn RankExchange::turnOf(std::uint32_t fragment,
                                        std::uint64_t round) const {
  return {stepsBefore(options, fragment, round + 1), fragment};
}

bool RankExchange::pushEarlierOnes(std::uint32_t number,
                                   std::uint64_t stepsDone) {
  const Turn turn = turnOf(number, fragments[number].flight->base);
  bool all = true;
  for (std::uint32_t f = 0; f < fragments.size(); ++f) {
    Fragment &fragment = fragments[f];
    if (!fragment.flight && turnOf(f, fragment.version) < turn)
      startPush(f, stepsDone, {});
    if (fragment.flight)
      all &= turnOf(f, fragment.flight->base + 1) > turn;
  }
  return all;
}

void RankExchange::pushPassedOver(std::uint64_t stepsDone) {
  for (std::uint32_t f = 0; f < fragments.size(); ++f)
    if (!fragments[f].flight &&
        turnOf(f, fragments[f].version).first <= stepsDone)
      startPush(f, stepsDone, {});
}

void RankExchange::settle(std::uint64_t stepsDone) {
  while (!isRemoved()) {
    std::optional<Turn> first;
    for (std::uint32_t f = 0; f < fragments.size(); ++f) {
      Fragment &fragment = fragments[f];
      if (!fragment.flight && fragment.stepsDone < stepsDone)
        startPush(f, stepsDone, {.trainsOn = false, .asksAtOnce = true});
      if (!fragment.flight)
        continue;
      Turn turn = turnOf(f, fragment.flight->base);
      if (!first || turn < *first)
        first = turn;
    }
    if (!first)
      return;
    // Or pushes what comes still earlier.
    if (pushEarlierOnes(first->second, stepsDone))
      land(first->second, stepsDone);
  }
}
