//===- LayoutTest.cpp - who computes what ---------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/plan/Parameters.h"
#include "tombolo/runtime/plan/SegmentName.h"

#include "Expect.h"
#include "PlanBuilder.h"

#include <array>
#include <vector>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

Island unevenIsland() {
  Island island;
  island.set_batch(14);
  island.set_microbatch(1);
  Stage *stage = island.add_stages();
  auto add = [](Stage *stage, std::uint64_t count, std::uint64_t degree,
                std::uint64_t share, const char *site) {
    ReplicaGroup *group = stage->add_groups();
    group->set_count(count);
    group->set_tensor_parallel(degree);
    group->set_share(share);
    group->set_site(site);
  };
  add(stage, 1, 2, 3, "a");
  add(stage, 2, 4, 2, "b");
  add(island.add_stages(), 7, 2, 1, "c");
  return island;
}

// In one turn replica 0 takes three microbatches and the two others two each.
TEST(Layout, DealsMicrobatchesByShare) {
  Island island = unevenIsland();
  Deal deal(island.stages(0));
  std::vector<std::uint64_t> owners;
  for (std::uint64_t j = 0; j < 14; ++j)
    owners.push_back(deal.place(j).replica);
  EXPECT_EQ(owners, (std::vector<std::uint64_t>{0, 0, 0, 1, 1, 2, 2, 0, 0, 0, 1,
                                                1, 2, 2}));
  for (std::uint64_t j = 0; j < 100; ++j) {
    Deal::Place place = deal.place(j);
    EXPECT_EQ(deal.microbatch(place.replica, place.local), j);
  }
}

// The counts of all replicas are those one gets by dealing one by one.
TEST(Layout, CountsMicrobatchesOfAPartialTurn) {
  Island island = unevenIsland();
  Deal deal(island.stages(0));
  for (std::uint64_t total = 0; total < 30; ++total) {
    std::vector<std::uint64_t> expected(3);
    for (std::uint64_t j = 0; j < total; ++j)
      ++expected[deal.place(j).replica];
    for (std::uint64_t r = 0; r < 3; ++r)
      EXPECT_EQ(deal.count(r, total), expected[r]) << total << " " << r;
  }
}

// Ranks are numbered by stage, group, replica, tensor-parallel index.
TEST(Layout, NumbersRanks) {
  Island island = unevenIsland();
  IslandLayout layout(island);
  EXPECT_EQ(layout.rankCount(), 2u + 8 + 14);
  RankCoordinates at = layout.coordinates(7);
  EXPECT_EQ(at.stage, 0u);
  EXPECT_EQ(at.group, 1u);
  EXPECT_EQ(at.replica, 2u);
  EXPECT_EQ(at.groupReplica, 1u);
  EXPECT_EQ(at.tensorIndex, 1u);
  EXPECT_EQ(layout.site(7), "b");
  EXPECT_EQ(layout.site(10), "c");
  for (std::uint64_t rank = 0; rank < layout.rankCount(); ++rank) {
    RankCoordinates c = layout.coordinates(rank);
    EXPECT_EQ(layout.rankOf(c.stage, c.replica, c.tensorIndex), rank);
  }
  expectError([&] { layout.coordinates(24); }, "rank 24 does not exist");
}

// The peer of a transfer computes the same microbatch of the island.
TEST(Layout, FindsPeersThroughTheMicrobatch) {
  Island island = unevenIsland();
  IslandLayout layout(island);
  RankCoordinates first = layout.coordinates(0);
  Transfer next;
  next.set_stage(1);
  EXPECT_EQ(layout.peer(first, next, 0), 10u);
  EXPECT_EQ(layout.peer(first, next, 2), 14u);
  EXPECT_EQ(layout.peer(first, next, 3), 10u) << "microbatch 7 of 7 replicas";
  EXPECT_EQ(layout.peers(first, next),
            (std::vector<std::uint64_t>{10, 12, 14}));
  *next.mutable_tensor_index() = plus(constant(1), COORDINATE_TENSOR_INDEX, -1);
  EXPECT_EQ(layout.peer(first, next, 0), 11u) << "index 0 meets index 1";
  EXPECT_EQ(layout.peer(layout.coordinates(1), next, 0), 10u);
}

// Groups of one kind are disjoint and cover the island.
TEST(Layout, FindsTheMembersOfCollectives) {
  Island island = unevenIsland();
  IslandLayout layout(island);
  for (auto kind : {Collective::GROUP_ISLAND, Collective::GROUP_REPLICAS,
                    Collective::GROUP_TENSOR}) {
    Collective collective;
    collective.set_group(kind);
    for (std::uint64_t rank = 0; rank < layout.rankCount(); ++rank) {
      RankCoordinates at = layout.coordinates(rank);
      // Replicas of unlike degrees are no group.
      if (kind == Collective::GROUP_REPLICAS && at.stage == 0)
        continue;
      std::vector<std::uint64_t> expected;
      for (std::uint64_t other = 0; other < layout.rankCount(); ++other)
        if (groupKey(layout.coordinates(other), collective) ==
            groupKey(at, collective))
          expected.push_back(other);
      EXPECT_EQ(layout.group(at, collective), expected) << kind << " " << rank;
    }
  }
}

TEST(Layout, EvaluatesExpressions) {
  std::vector<std::int64_t> variables{5, 7};
  EXPECT_EQ(evaluate(linear(3, 1, 10), variables), 73);
  EXPECT_EQ(evaluate(linear(3, 0, 10, 2, 4), variables), 33);
  EXPECT_EQ(evaluate(linear(0, 1, -2), variables), -14);
  RankCoordinates at;
  at.tensorIndex = 3;
  at.replica = 4;
  Expr expr = plus(plus(linear(1, 0, 10), COORDINATE_TENSOR_INDEX, 100),
                   COORDINATE_REPLICA, 1000);
  EXPECT_EQ(evaluate(expr, variables, at), 4351);
  expr.set_divisor(100);
  EXPECT_EQ(evaluate(expr, variables, at), 43);
  Expr negative = linear(0, 1, -2);
  negative.set_divisor(4);
  EXPECT_EQ(evaluate(negative, variables), -4) << "rounded down";
}

// What a cut of a parameter's memory is of the whole, element by element.
TEST(Layout, CutsRanges) {
  LocalParameter parameter;
  for (auto [begin, length, count, stride] :
       {std::array<std::uint64_t, 4>{2, 3, 4, 10},
        {50, 5, 1, 5},
        {60, 1, 3, 2}}) {
    Slice &slice = parameter.ranges.emplace_back();
    slice.set_begin(begin);
    slice.set_length(length);
    slice.set_count(count);
    slice.set_stride(stride);
    parameter.localElements += length * count;
  }
  std::vector<std::uint64_t> elements;
  forEachRun(parameter,
             [&](std::uint64_t begin, std::uint64_t length, std::uint64_t) {
               for (std::uint64_t i = 0; i < length; ++i)
                 elements.push_back(begin + i);
             });
  ASSERT_EQ(elements.size(), 20u);
  for (std::uint64_t begin = 0; begin <= 20; ++begin)
    for (std::uint64_t end = begin; end <= 20; ++end) {
      LocalParameter cut = parameter;
      cut.ranges = cutRanges(parameter, begin, end - begin);
      std::vector<std::uint64_t> found;
      forEachRun(cut,
                 [&](std::uint64_t first, std::uint64_t length, std::uint64_t) {
                   for (std::uint64_t i = 0; i < length; ++i)
                     found.push_back(first + i);
                 });
      EXPECT_EQ(found, std::vector<std::uint64_t>(
                           elements.begin() + static_cast<long>(begin),
                           elements.begin() + static_cast<long>(end)));
    }
}

// Of a state in parts each replica has another run of the parameters' bytes.
TEST(Layout, FindsTheStateOfAReplica) {
  TinyModel model;
  model.replicas = 3;
  model.batch = 3;
  model.momentum = 0.9;
  model.shardedOptimizer = true;
  Plan plan = tinyPlan(model);
  const Program &program = plan.programs(0);
  LocalParameter table = expandParameters(program)[0];
  std::uint64_t next = 0;
  for (std::uint64_t replica = 0; replica < 3; ++replica) {
    ParameterPart part = statePart(program, program.states(0), table, replica);
    EXPECT_EQ(part.address, program.states(0).offset());
    std::uint64_t elements = replica < 2 ? 32u : 0u; // 64, parts of 32
    ASSERT_EQ(part.parameter.localElements, elements);
    if (elements) {
      EXPECT_EQ(part.parameter.ranges[0].begin(), next);
    }
    next += elements;
  }
  EXPECT_EQ(next, table.elements);
}

TEST(Layout, ExpandsFamilies) {
  Program program;
  ParameterFamily *family = program.add_parameters();
  family->mutable_names()->set_prefix("h.");
  family->mutable_names()->set_suffix(".w");
  family->mutable_names()->set_first(3);
  family->mutable_names()->set_step(2);
  family->mutable_initializers()->add_listed("x");
  family->mutable_initializers()->add_listed("y");
  family->set_count(2);
  family->set_address(64);
  family->set_stride(128);
  family->add_dims(4);
  family->add_dims(6);
  Slice *slice = family->add_slices();
  slice->set_begin(2);
  slice->set_length(2);
  slice->set_count(4);
  slice->set_stride(6);
  std::vector<LocalParameter> all = expandParameters(program);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[1].name, "h.5.w");
  EXPECT_EQ(all[1].initializer, "y");
  EXPECT_EQ(all[1].address, 192u);
  EXPECT_EQ(all[1].elements, 24u);
  EXPECT_EQ(all[1].localElements, 8u);
  std::vector<std::uint64_t> begins;
  forEachRun(all[0], [&](std::uint64_t begin, std::uint64_t, std::uint64_t) {
    begins.push_back(begin);
  });
  EXPECT_EQ(begins, (std::vector<std::uint64_t>{2, 8, 14, 20}));
  EXPECT_FALSE(all[0].split);
  slice->set_tensor_stride(2);
  all = expandParameters(program, 1);
  EXPECT_TRUE(all[0].split);
  EXPECT_EQ(all[0].ranges[0].begin(), 4u);
  EXPECT_TRUE(!ownsParameter(all[0], 0, 1)) << "not an owner's";
  family->set_owner(true);
  EXPECT_TRUE(ownsParameter(expandParameters(program, 1)[0], 0, 1));
  EXPECT_FALSE(ownsParameter(expandParameters(program, 1)[0], 1, 1));
  slice->clear_tensor_stride();
  EXPECT_FALSE(ownsParameter(expandParameters(program, 1)[0], 0, 1));
  EXPECT_TRUE(ownsParameter(expandParameters(program, 0)[0], 0, 0));
}

// Islands lease consecutive ranges round by round, in order.
TEST(Layout, LeasesSamplesByRound) {
  Plan plan;
  plan.add_islands()->set_batch(3);
  plan.add_islands()->set_batch(5);
  plan.mutable_server()->set_inner_steps(2);
  EXPECT_EQ(firstSample(plan, 0, 0), 0u);
  EXPECT_EQ(firstSample(plan, 0, 1), 3u);
  EXPECT_EQ(firstSample(plan, 1, 0), 6u);
  EXPECT_EQ(firstSample(plan, 1, 1), 11u);
  EXPECT_EQ(firstSample(plan, 0, 2), 16u);
  EXPECT_EQ(firstSample(plan, 1, 3), 27u);
  EXPECT_EQ(leasedSamples(plan, 2), 16u);
  EXPECT_EQ(leasedSamples(plan, 3), 32u);
}

// With inner steps of its own an island leases as many as these take.
TEST(Layout, LeasesSamplesOfUnequalInnerSteps) {
  Plan plan;
  plan.add_islands()->set_batch(3);
  plan.add_islands()->set_batch(5);
  plan.mutable_islands(1)->set_inner_steps(3);
  plan.mutable_server()->set_inner_steps(2);
  EXPECT_EQ(firstSample(plan, 0, 1), 3u);
  EXPECT_EQ(firstSample(plan, 1, 0), 6u);
  EXPECT_EQ(firstSample(plan, 1, 2), 16u);
  EXPECT_EQ(firstSample(plan, 0, 2), 21u);
  EXPECT_EQ(firstSample(plan, 1, 3), 27u);
  EXPECT_EQ(leasedSamples(plan, 4), 42u);
}

// Of the job's steps whole rounds are as many of the island's.
TEST(Layout, CountsAnIslandsOwnSteps) {
  Plan plan;
  plan.add_islands();
  plan.add_islands()->set_inner_steps(4);
  plan.mutable_server()->set_inner_steps(8);
  EXPECT_TRUE(hasOwnInnerSteps(plan));
  IslandSteps first(plan, 0), second(plan, 1);
  EXPECT_EQ(first.ofJob(19), 19u);
  EXPECT_EQ(second.ofJob(16), 8u);
  EXPECT_EQ(second.ofJob(17), 9u);
  EXPECT_EQ(second.toJob(9), 17u);
  EXPECT_EQ(IslandSteps(plan, 0).toJob(15), 15u);
  EXPECT_EQ(second.progress(9), 18u);
  EXPECT_NO_THROW(checkSteps(plan, 16));
  EXPECT_THROW(checkSteps(plan, 17), Error);
  plan.mutable_islands(1)->set_inner_steps(16);
  EXPECT_THROW(checkSteps(plan, ~std::uint64_t{7}), Error); // overflows
  plan.mutable_islands(1)->set_inner_steps(8);
  EXPECT_FALSE(hasOwnInnerSteps(plan));
  EXPECT_NO_THROW(checkSteps(plan, 17));
}

TEST(SegmentName, SaysWhichFunctionItIs) {
  auto name = parseSegmentName("block.1.backward_input.m4.f32.t2.part13");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->block, "block.1");
  EXPECT_EQ(name->function, "backward_input");
  EXPECT_EQ(name->microbatch, 4u);
  EXPECT_EQ(name->precision, "f32");
  EXPECT_EQ(name->tensorParallel, 2u);
  EXPECT_EQ(name->part, 13u);
  name = parseSegmentName("b.forward.m1.bf16");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->tensorParallel, 1u);
  EXPECT_EQ(name->part, 0u);
  for (const char *other :
       {"", "adamw.100", "b.forward", "b.sideward.m1.f32", "forward.m1.f32",
        "b.forward.mx.f32", "b.forward.m99999999999999999999.f32"})
    EXPECT_FALSE(parseSegmentName(other)) << other;
}

} // namespace
