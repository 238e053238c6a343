//===- ContractTest.cpp - what the sites of a run agree on ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/plan/Contract.h"

#include "Expect.h"
#include "PlanBuilder.h"

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

/// Two islands of one layout, with a server.
Plan planOf(TinyModel model) {
  Plan plan = tinyPlan(model);
  *plan.add_islands() = plan.islands(0);
  for (int i = 0; i < 2; ++i) {
    plan.mutable_islands(i)->clear_sites();
    plan.mutable_islands(i)->add_sites(i ? "south" : "north");
  }
  addServer(plan, 3, "north");
  return plan;
}

std::string differenceOf(void (*change)(Plan &plan)) {
  Plan plan = planOf({}), other = planOf({});
  change(other);
  Contract here = contractOf(plan), there = contractOf(other);
  EXPECT_NE(here.digest(), there.digest());
  return here.difference(there.text());
}

// How an island is laid out on its chips is its own business.
TEST(Contract, IsTheSameForAllStrategiesOfAnIsland) {
  Contract contract = contractOf(planOf({}));
  for (TinyModel model :
       {TinyModel{.replicas = 2}, TinyModel{.tensorParallel = 2},
        TinyModel{.microbatch = 2, .replicas = 2},
        TinyModel{.replicas = 2, .shardedOptimizer = true}}) {
    Contract other = contractOf(planOf(model));
    EXPECT_EQ(contract.difference(other.text()), "");
    EXPECT_EQ(contract.digest(), other.digest());
  }
}

// What the server's arithmetic and rights rest on is not, and is named.
TEST(Contract, NamesWhatDiffers) {
  EXPECT_EQ(
      differenceOf([](Plan &plan) { plan.mutable_server()->set_quorum(1); }),
      "quorum: expected '2', got '1'");
  EXPECT_EQ(differenceOf([](Plan &plan) {
              plan.mutable_server()->mutable_outer()->set_momentum(0.8);
            }),
            "outer optimizer: expected 'nesterov, lr 0.7, momentum 0.9', got "
            "'nesterov, lr 0.7, momentum 0.8'");
  EXPECT_EQ(differenceOf([](Plan &plan) {
              plan.mutable_islands(1)->set_sites(0, "east");
            }),
            "island 1: expected 'at south, batch 4, inner steps 3', got 'at "
            "east, batch 4, inner steps 3'");
  EXPECT_EQ(differenceOf([](Plan &plan) {
              plan.mutable_islands(1)->set_inner_steps(6);
            }),
            "island 1: expected 'at south, batch 4, inner steps 3', got 'at "
            "south, batch 4, inner steps 6'");
  EXPECT_EQ(differenceOf([](Plan &plan) {
              plan.mutable_training()->set_learning_rate(0.25);
            }),
            "learning rate: expected '0.5', got '0.25'");
  EXPECT_EQ(
      differenceOf([](Plan &plan) { plan.mutable_islands()->RemoveLast(); }),
      "islands: expected '2', got '1'; island 1: expected 'at south, "
      "batch 4, inner steps 3', got none");
  std::string many = differenceOf([](Plan &plan) {
    plan = planOf({.vocabulary = 16});
    plan.mutable_server()->set_quorum(1);
    plan.mutable_server()->set_deadline_seconds(1.5);
    plan.mutable_server()->set_witness("east");
  });
  EXPECT_TRUE(
      many.starts_with("parameters: expected '1 tensors, 64 elements, "))
      << many;
  EXPECT_TRUE(many.ends_with("; and 1 more")) << many;
}

// A fragment's tensors are part of it.
TEST(Contract, KnowsWhichFragmentATensorIsIn) {
  std::string difference = differenceOf([](Plan &plan) {
    for (Program &program : *plan.mutable_programs())
      for (ParameterFamily &family : *program.mutable_parameters()) {
        FragmentMembers *members = family.add_fragments();
        members->set_fragment(1);
        members->set_count(family.count());
      }
  });
  EXPECT_TRUE(difference.starts_with("parameters: expected")) << difference;
}

// What another says may be anything.
TEST(Contract, LooksAtAnyText) {
  Contract contract("a: 1\nb: 2\n");
  EXPECT_EQ(contract.difference("a: 1\nb: 2\n"), "");
  EXPECT_EQ(contract.difference("b: 2\na: 1\n"),
            "the same lines in another order");
  EXPECT_EQ(contract.difference(""),
            "a: expected '1', got none; b: expected '2', got none");
  EXPECT_EQ(contract.difference(std::string("a: \x01\xff\n") + "b: 2"),
            "a: expected '1', got '?\?'");
  std::string longText =
      contract.difference("a: 1\nb: 2\n" + std::string(1000, 'c') + ": 7\n");
  EXPECT_EQ(longText, std::string(80, 'c') + "...: expected none, got '7'");
}

// Islands that hold different parameters cannot exchange them.
TEST(Contract, IslandsHoldTheSameParameters) {
  Plan plan = planOf({});
  *plan.add_programs() = plan.programs(0);
  plan.mutable_programs()
      ->rbegin()
      ->mutable_parameters(0)
      ->mutable_names()
      ->set_listed(0, "another");
  plan.mutable_islands(1)->mutable_stages(0)->mutable_groups(0)->set_program(
      static_cast<unsigned>(plan.programs_size() - 1));
  expectError([&] { contractOf(plan); },
              "parameter 'another' of island 1 is not the same in island 0");
}

} // namespace
