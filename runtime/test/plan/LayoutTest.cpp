//===- LayoutTest.cpp - who computes what ---------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/plan/Parameters.h"

#include "Expect.h"
#include "PlanBuilder.h"

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
  EXPECT_EQ(layout.peer(first, 1, 0), 10u);
  EXPECT_EQ(layout.peer(first, 1, 2), 14u);
  EXPECT_EQ(layout.peer(first, 1, 3), 10u) << "microbatch 7 of 7 replicas";
  EXPECT_EQ(layout.peers(first, 1), (std::vector<std::uint64_t>{10, 12, 14}));
}

TEST(Layout, EvaluatesExpressions) {
  std::vector<std::int64_t> variables{5, 7};
  EXPECT_EQ(evaluate(linear(3, 1, 10), variables), 73);
  EXPECT_EQ(evaluate(linear(3, 0, 10, 2, 4), variables), 33);
  EXPECT_EQ(evaluate(linear(0, 1, -2), variables), -14);
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
}

} // namespace
