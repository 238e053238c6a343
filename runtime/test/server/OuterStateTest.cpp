//===- OuterStateTest.cpp - the server's algorithm ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Outer.h"

#include "tombolo/runtime/Error.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

OuterConfig smallConfig(std::uint32_t islands = 2) {
  OuterConfig config;
  config.islands = islands;
  config.tensors = {{"w", 12, 0}, {"b", 4, 0}};
  return config;
}

PushPart startPart(std::vector<TensorSlice> slices, std::uint64_t round = 0) {
  PushPart part;
  part.content = PushContent::StartParameters;
  part.round = round;
  part.slices = std::move(slices);
  return part;
}

PushPart deltaPart(std::uint32_t island, std::uint64_t round,
                   std::vector<TensorSlice> slices) {
  PushPart part;
  part.island = island;
  part.round = part.baseVersion = round;
  part.tokens = 100;
  part.innerSteps = 5;
  part.slices = std::move(slices);
  return part;
}

const std::vector<TensorSlice> kAll = {{"w", {{0, 12, 1, 12}}},
                                       {"b", {{0, 4, 1, 4}}}};

void start(OuterState &state) {
  std::vector<float> zeros(16);
  Pushed result = pushNow(state, startPart(kAll), zeros, 0);
  ASSERT_EQ(result.outcome, Outcome::Accepted) << result.message;
  ASSERT_TRUE(result.event && result.event->kind == OuterEvent::Kind::Start);
}

/// A round of random pushes in random slices agrees to the bit with the plain
/// reference, version after version.
TEST(OuterState, AgreesWithThePlainReference) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    OuterConfig config = randomConfig(random);
    OuterState state(config);
    Reference reference(config);
    Tensors first = randomTensors(config, random, 1);
    bool withMomentum = seed % 3 == 0;
    if (config.outer.optimizer == OuterOptimizer::AdamW)
      withMomentum = false; // no second moment goes with it
    Tensors momentum = randomTensors(config, random, withMomentum ? 0.1f : 0);
    reference.start(first, momentum);
    std::uint64_t round = seed % 5;
    pushStart(state, config, first, withMomentum ? &momentum : nullptr, round,
              random);
    for (int n = 0; n < 4; ++n, ++round) {
      ASSERT_EQ(state.current(0)->number, round);
      std::vector<IslandPush> pushes;
      for (std::uint32_t i = 0; i < config.islands; ++i)
        pushes.push_back(randomPush(config, i, round, random));
      std::vector<RankPart> parts;
      for (IslandPush &push : pushes) {
        std::vector<RankPart> own =
            cut(push, config, 1 + (seed + push.island) % 4, seed + push.island);
        push = asDecoded(std::move(push), own, config.compression);
        std::move(own.begin(), own.end(), std::back_inserter(parts));
      }
      std::shuffle(parts.begin(), parts.end(), random);
      std::size_t closed = 0;
      for (const RankPart &part : parts) {
        Pushed result = pushNow(state, part.part, part.data, n);
        ASSERT_EQ(result.outcome, Outcome::Accepted) << result.message;
        closed += result.event.has_value();
      }
      ASSERT_EQ(closed, 1u);
      reference.round(pushes);
      expectBitEqual(*state.current(0), config, reference);
    }
  }
}

TEST(OuterState, ARoundWithoutInnerStepsChangesNothing) {
  OuterState state(smallConfig());
  start(state);
  std::vector<float> ones(16, 1.0f), zeros(16);
  pushNow(state, deltaPart(0, 0, kAll), ones, 1);
  pushNow(state, deltaPart(1, 0, kAll), ones, 2);
  auto before = state.current(0);
  ASSERT_NE(before->momentum[0], 0);
  for (std::uint32_t island : {0, 1}) {
    PushPart part = deltaPart(island, 1, kAll);
    part.tokens = part.innerSteps = 0;
    ASSERT_EQ(pushNow(state, part, zeros, 3).outcome, Outcome::Accepted);
  }
  EXPECT_EQ(state.current(0)->number, 2u);
  EXPECT_EQ(state.current(0)->hash, before->hash);
  EXPECT_EQ(state.current(0)->momentum, before->momentum);
}

TEST(OuterState, AVersionThatWasHandedOutNeverChanges) {
  OuterState state(smallConfig(1));
  start(state);
  auto old = state.current(0);
  std::vector<float> copy = old->parameters, ones(16, 1.0f);
  pushNow(state, deltaPart(0, 0, kAll), ones, 1);
  EXPECT_EQ(old->parameters, copy);
  EXPECT_NE(state.current(0)->parameters, copy);
  EXPECT_NE(state.current(0)->hash, old->hash);
}

/// Everything that is refused leaves no trace: afterwards the round closes with
/// the same hash as if nothing had been tried.
TEST(OuterState, RefusalsHaveNoEffect) {
  std::vector<float> delta(16);
  for (int k = 0; k < 16; ++k)
    delta[k] = 0.25f * static_cast<float>(k);
  auto finish = [&](OuterState &state) {
    pushNow(state, deltaPart(0, 0, kAll), delta, 1);
    pushNow(state, deltaPart(1, 0, kAll), delta, 2);
    return state.current(0);
  };
  OuterState plain(smallConfig());
  start(plain);
  auto expected = finish(plain);
  ASSERT_EQ(expected->number, 1u);

  OuterState state(smallConfig());
  std::vector<float> zeros(16);
  auto refused = [&](PushPart part, std::size_t size, Outcome outcome,
                     float value = 1) {
    std::vector<float> data(size, value);
    Pushed result = pushNow(state, part, data, 0);
    EXPECT_EQ(name(result.outcome), name(outcome)) << result.message;
    EXPECT_FALSE(result.message.empty());
    EXPECT_FALSE(result.event);
  };
  refused(deltaPart(0, 0, kAll), 16, Outcome::NotStarted);
  PushPart wrongIsland = startPart(kAll);
  wrongIsland.island = 1;
  refused(wrongIsland, 16, Outcome::UnknownSender);
  refused(startPart(kAll), 16, Outcome::NotFinite,
          std::numeric_limits<float>::infinity());
  PushPart weighty = startPart(kAll);
  weighty.tokens = 1;
  refused(weighty, 16, Outcome::BadWeight);
  start(state);
  PushPart late = startPart(kAll);
  late.rank = 1;
  refused(late, 16, Outcome::AlreadyStarted);

  refused(deltaPart(7, 0, kAll), 16, Outcome::UnknownSender);
  PushPart fragment = deltaPart(0, 0, kAll);
  fragment.fragment = 1;
  refused(fragment, 16, Outcome::UnknownFragment);
  refused(deltaPart(0, 1, kAll), 16, Outcome::FutureRound);
  PushPart base = deltaPart(0, 0, kAll);
  base.baseVersion = 3;
  refused(base, 16, Outcome::WrongBase);
  PushPart steps = deltaPart(0, 0, kAll);
  steps.innerSteps = 0;
  refused(steps, 16, Outcome::BadWeight);
  PushPart tokens = deltaPart(0, 0, kAll);
  tokens.tokens = ~std::uint64_t(0);
  refused(tokens, 16, Outcome::BadWeight);
  refused(deltaPart(0, 0, {{"nope", {{0, 1, 1, 1}}}}), 1,
          Outcome::UnknownTensor);
  refused(deltaPart(0, 0, {}), 0, Outcome::BadRange);
  refused(deltaPart(0, 0, kAll), 15, Outcome::BadSize);
  refused(deltaPart(0, 0, kAll), 17, Outcome::BadSize);
  std::uint64_t huge = ~std::uint64_t(0);
  for (ElementRange range :
       {ElementRange{0, 13, 1, 13}, ElementRange{12, 1, 1, 1},
        ElementRange{huge, 2, 1, 2}, ElementRange{2, huge, 1, huge},
        ElementRange{0, 2, huge, huge}, ElementRange{0, 2, huge / 2, 2},
        ElementRange{0, 2, 3, 1}, ElementRange{0, 0, 1, 1},
        ElementRange{0, 1, 0, 1}, ElementRange{0, 4, 3, 5}})
    refused(deltaPart(0, 0, {{"w", {range}}}), 4, Outcome::BadRange);
  // The same elements twice in one part, and more elements than there are.
  refused(deltaPart(0, 0, {{"b", {{0, 2, 1, 2}, {1, 2, 1, 2}}}}), 4,
          Outcome::Overlap);
  refused(deltaPart(0, 0, {{"w", {{0, 12, 1, 12}, {0, 12, 1, 12}}}}), 24,
          Outcome::BadSize);

  // Half of island 0, then parts that do not go with it.
  PushPart half = deltaPart(0, 0, {{"w", {{0, 12, 1, 12}}}});
  ASSERT_EQ(pushNow(state, half, std::span(delta).subspan(0, 12), 1).outcome,
            Outcome::Accepted);
  PushPart overlap =
      deltaPart(0, 0, {{"w", {{11, 1, 1, 1}}}, {"b", {{0, 4, 1, 4}}}});
  overlap.rank = 1;
  refused(overlap, 5, Outcome::Overlap);
  PushPart other = deltaPart(0, 0, {{"b", {{0, 4, 1, 4}}}});
  other.rank = 1;
  other.tokens = 99;
  refused(other, 4, Outcome::Inconsistent);
  refused(deltaPart(0, 0, {{"b", {{0, 4, 1, 4}}}}), 4, Outcome::Inconsistent);
  Pushed again = pushNow(state, half, std::span(delta).subspan(0, 12), 1);
  EXPECT_EQ(again.outcome, Outcome::Repeated);
  EXPECT_FALSE(again.committed);

  other.tokens = 100;
  ASSERT_EQ(pushNow(state, other, std::span(delta).subspan(12), 1).outcome,
            Outcome::Accepted);
  refused(deltaPart(1, 1, kAll), 16, Outcome::FutureRound);
  pushNow(state, deltaPart(1, 0, kAll), delta, 2);
  ASSERT_EQ(state.current(0)->number, 1u);
  EXPECT_EQ(state.current(0)->hash, expected->hash);
  EXPECT_EQ(state.current(0)->momentum, expected->momentum);
}

TEST(OuterState, RepeatsAreRecognisedAcrossRoundsAndIncarnations) {
  OuterState state(smallConfig());
  start(state);
  std::vector<float> ones(16, 1.0f);
  for (std::uint64_t round = 0; round < 3; ++round)
    for (std::uint32_t island : {0, 1})
      pushNow(state, deltaPart(island, round, kAll), ones, 0);
  auto before = state.current(0);
  ASSERT_EQ(before->number, 3u);
  for (std::uint64_t round = 0; round < 3; ++round)
    for (std::uint64_t incarnation : {0, 1}) {
      PushPart part = deltaPart(0, round, kAll);
      part.incarnation = incarnation;
      Pushed result = pushNow(state, part, ones, 0);
      EXPECT_EQ(result.outcome, Outcome::Repeated);
      EXPECT_TRUE(result.committed);
    }
  EXPECT_EQ(state.current(0), before);
}

/// Before the start's first round there is nothing that a push could repeat.
TEST(OuterState, ARoundBeforeTheStartIsClosed) {
  OuterState state(smallConfig());
  std::vector<float> zeros(16);
  pushNow(state, startPart(kAll, 4), zeros, 0);
  EXPECT_EQ(state.current(0)->number, 4u);
  EXPECT_EQ(pushNow(state, deltaPart(0, 3, kAll), zeros, 0).outcome,
            Outcome::ClosedRound);
}

/// A restarted island's push replaces what its old ranks had pushed of the
/// round, and what old ranks push afterwards is refused.
TEST(OuterState, ARestartReplacesAnUnfinishedPush) {
  OuterState state(smallConfig(1)), clean(smallConfig(1));
  start(state);
  start(clean);
  std::vector<float> old(12, 5.0f), fresh(16, 1.0f);
  PushPart half = deltaPart(0, 0, {{"w", {{0, 12, 1, 12}}}});
  ASSERT_EQ(pushNow(state, half, old, 0).outcome, Outcome::Accepted);
  PushPart restarted = deltaPart(0, 0, {{"w", {{0, 12, 1, 12}}}});
  restarted.incarnation = 1;
  restarted.rank = 1;
  // What is refused does not replace anything either.
  restarted.slices[0].ranges = {{0, 6, 1, 6}, {0, 6, 1, 6}};
  EXPECT_EQ(pushNow(state, restarted, old, 0).outcome, Outcome::Overlap);
  EXPECT_EQ(pushNow(state, half, old, 0).outcome, Outcome::Repeated);
  restarted.slices[0].ranges = {{0, 12, 1, 12}};
  ASSERT_EQ(
      pushNow(state, restarted, std::span(fresh).subspan(0, 12), 0).outcome,
      Outcome::Accepted);
  PushPart rest = deltaPart(0, 0, {{"b", {{0, 4, 1, 4}}}});
  EXPECT_EQ(pushNow(state, rest, std::span(fresh).subspan(12), 0).outcome,
            Outcome::OldIncarnation);
  rest.incarnation = 1;
  ASSERT_EQ(pushNow(state, rest, std::span(fresh).subspan(12), 0).outcome,
            Outcome::Accepted);
  pushNow(clean, deltaPart(0, 0, kAll), fresh, 0);
  EXPECT_EQ(state.current(0)->hash, clean.current(0)->hash);
}

TEST(OuterState, RefusesAConfigurationThatContradictsItself) {
  auto expectError = [](auto change) {
    OuterConfig config = smallConfig();
    change(config);
    EXPECT_THROW(OuterState state(config), Error);
  };
  expectError([](OuterConfig &c) { c.islands = 0; });
  expectError([](OuterConfig &c) { c.fragments = 2; }); // the second is empty
  expectError([](OuterConfig &c) { c.outer.momentum = 1; });
  expectError([](OuterConfig &c) { c.outer.learningRate = NAN; });
  expectError([](OuterConfig &c) { c.tensors[0].elements = 0; });
  expectError([](OuterConfig &c) { c.tensors[1].name = "w"; });
  expectError([](OuterConfig &c) { c.tensors[1].fragment = 1; });
}

/// While a version is computed, elsewhere, what comes in is answered and
/// changes nothing.
TEST(OuterState, TakesNothingInWhileARoundCloses) {
  OuterState state(smallConfig());
  const std::vector<float> ones(16, 1.0f);
  PushPart first = startPart(kAll);
  PushResult begun = state.push(first, std::as_bytes(std::span(ones)), 0);
  ASSERT_TRUE(begun.closing && begun.committed);
  EXPECT_EQ(state.current(0), nullptr);
  EXPECT_EQ(state.push(first, std::as_bytes(std::span(ones)), 0).outcome,
            Outcome::Repeated);
  PushPart restarted = first;
  restarted.incarnation = 1;
  EXPECT_EQ(state.push(restarted, std::as_bytes(std::span(ones)), 0).outcome,
            Outcome::Busy);
  begun.closing->compute();
  state.publish(*begun.closing);
  EXPECT_EQ(state.current(0)->parameters, ones);

  state.push(deltaPart(0, 0, kAll), std::as_bytes(std::span(ones)), 1);
  PushResult closed =
      state.push(deltaPart(1, 0, kAll), std::as_bytes(std::span(ones)), 2);
  ASSERT_TRUE(closed.closing);
  closed.closing->compute();
  EXPECT_EQ(closed.closing->event().version, 1u);
  EXPECT_EQ(state.current(0)->number, 0u);
  EXPECT_EQ(state.push(deltaPart(0, 0, kAll), std::as_bytes(std::span(ones)), 2)
                .outcome,
            Outcome::Repeated);
  PushPart again = deltaPart(1, 0, kAll);
  again.incarnation = 1;
  EXPECT_EQ(state.push(again, std::as_bytes(std::span(ones)), 2).outcome,
            Outcome::Repeated);
  EXPECT_EQ(state.push(deltaPart(0, 1, kAll), std::as_bytes(std::span(ones)), 2)
                .outcome,
            Outcome::FutureRound);
  state.publish(*closed.closing);
  EXPECT_EQ(state.current(0)->number, 1u);
  EXPECT_EQ(state.push(deltaPart(0, 1, kAll), std::as_bytes(std::span(ones)), 3)
                .outcome,
            Outcome::Accepted);
}

/// Without a first version those who wait are told what is missing, after a
/// while.
/// Rounds of one fragment may be closed without an island that another one has
/// to wait for. Whoever joins then is not beyond the end.
TEST(OuterState, EndsBehindTheFurthestFragment) {
  OuterConfig config;
  config.fragments = 2;
  config.tensors = {{"b", 4, 0}, {"w", 12, 1}};
  OuterState state(config);
  EXPECT_EQ(state.stop(), std::nullopt) << "nothing has begun";
  auto push = [&](PushPart part, std::uint32_t fragment) {
    part.fragment = fragment;
    std::vector<float> data(fragment ? 12 : 4);
    Pushed result = pushNow(state, part, data, 0);
    ASSERT_EQ(result.outcome, Outcome::Accepted) << result.message;
  };
  const TensorSlice b = {"b", {{0, 4, 1, 4}}}, w = {"w", {{0, 12, 1, 12}}};
  push(startPart({b}), 0);
  push(startPart({w}), 1);
  for (std::uint64_t round = 0; round < 3; ++round)
    push(deltaPart(0, round, {w}), 1);
  EXPECT_EQ(state.stop(), 5u);
  push(deltaPart(0, 0, {b}), 0);
  push(deltaPart(0, 3, {w}), 1);
  EXPECT_EQ(state.stop(), 5u) << "once told it stays";
}

TEST(OuterState, TellsWhenTheStartIsOverdue) {
  OuterConfig config = smallConfig(3);
  config.startSeconds = 100;
  OuterState state(config);
  EXPECT_FALSE(state.overdue(0, 1000));
  EXPECT_FALSE(state.overdue(0, 1099));
  EXPECT_NE(state.overdue(0, 1101).value_or("").find("island 0"),
            std::string::npos);
  start(state);
  EXPECT_FALSE(state.overdue(0, 5000));
}

/// The hash names tensors and sizes too: it is of the model's state, not of
/// its bytes.
TEST(OuterState, TheHashCoversNamesAndSizes) {
  auto hashOf = [](std::vector<OuterTensor> tensors) {
    OuterConfig config;
    config.tensors = tensors;
    OuterState state(config);
    PushPart part = startPart({});
    std::uint64_t total = 0;
    for (const OuterTensor &tensor : tensors) {
      part.slices.push_back(
          {tensor.name, {{0, tensor.elements, 1, tensor.elements}}});
      total += tensor.elements;
    }
    std::vector<float> data(total);
    EXPECT_EQ(pushNow(state, part, data, 0).outcome, Outcome::Accepted);
    return state.current(0)->hash;
  };
  auto hash = hashOf({{"a", 2, 0}, {"b", 3, 0}});
  EXPECT_EQ(hash, hashOf({{"b", 3, 0}, {"a", 2, 0}}));
  EXPECT_NE(hash, hashOf({{"a", 3, 0}, {"b", 2, 0}}));
  EXPECT_NE(hash, hashOf({{"a", 2, 0}, {"c", 3, 0}}));
}

/// The set against a plain one, with random ranges.
TEST(Coverage, AgreesWithAPlainSet) {
  std::mt19937 random(1);
  for (int n = 0; n < 300; ++n) {
    std::uint64_t size = 1 + random() % 400;
    Coverage coverage(size);
    std::vector<bool> plain(size);
    std::vector<ElementRange> added;
    for (int k = 0; k < 12; ++k) {
      ElementRange range;
      range.begin = random() % size;
      range.length = 1 + random() % 90;
      range.count = 1 + random() % 3;
      range.stride = range.length + random() % 70;
      std::uint64_t end =
          range.begin + (range.count - 1) * range.stride + range.length;
      auto count = checkedElements(range, size);
      ASSERT_EQ(count.has_value(), end <= size);
      if (!count)
        continue;
      ASSERT_EQ(*count, range.length * range.count);
      bool clash = false;
      auto each = [&](auto visit) {
        for (std::uint64_t r = 0; r < range.count; ++r)
          for (std::uint64_t e = 0; e < range.length; ++e)
            visit(range.begin + r * range.stride + e);
      };
      each([&](std::uint64_t e) { clash |= plain[e]; });
      ASSERT_EQ(coverage.add(range, 0), !clash);
      if (!clash) {
        each([&](std::uint64_t e) { plain[e] = true; });
        added.push_back(range);
      }
      ASSERT_EQ(coverage.covered(), static_cast<std::uint64_t>(std::count(
                                        plain.begin(), plain.end(), true)));
    }
    for (const ElementRange &range : added)
      coverage.remove(range, 0);
    ASSERT_EQ(coverage.covered(), 0u);
    ASSERT_TRUE(coverage.add(0, size));
    ASSERT_TRUE(coverage.complete());
  }
}

} // namespace
