//===- TopologyTest.cpp - what a simulator relies on is checked---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Expect.h"
#include "PlanBuilder.h"

#include "tombolo/runtime/plan/Validate.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

using namespace tombolo::runtime;
using namespace tombolo::runtime::test;

namespace {

/// Two stages on a pool of 4 chips, with a server; another site on a line.
Plan placedPlan() {
  TinyModel model;
  model.stages = 2;
  model.replicas = 2;
  Plan plan = tinyPlan(model);
  const ReplicaGroup &group = plan.islands(0).stages(0).groups(0);
  addServer(plan, 2, group.site());
  for (Program &program : *plan.mutable_programs())
    for (int s = 0; s < plan.segments_size(); ++s) {
      SegmentSeconds &entry = *program.add_segment_seconds();
      entry.set_segment(static_cast<std::uint32_t>(s));
      entry.set_seconds(1e-3);
    }
  Topology &topology = *plan.mutable_topology();
  topology.add_chips()->set_name("chip");
  topology.add_chips()->set_name("other chip");
  Topology::Site &site = *topology.add_sites();
  site.set_name(group.site());
  Topology::Pool &pool = *site.add_pools();
  pool.set_name(group.pool());
  pool.set_nodes(2);
  pool.set_chips_per_node(2);
  pool.set_cards_per_node(1);
  pool.mutable_intra_node()->set_bytes_per_second(1e9);
  pool.mutable_inter_node()->set_bytes_per_second(1e8);
  *site.add_pools() = pool;
  site.mutable_pools(1)->set_name("another");
  site.mutable_fabric()->set_bytes_per_second(1e7);
  Topology::Fabric &fabric = *site.add_fabrics();
  fabric.set_second(1);
  *fabric.mutable_wire() = site.fabric();
  topology.add_sites()->set_name("elsewhere");
  Topology::Line &line = *topology.add_lines();
  line.set_second(1);
  line.set_bytes_per_second(1e6);
  return plan;
}

struct Damage {
  std::function<void(Plan &, Topology &)> damage;
  const char *message;
};

TEST(Topology, AcceptsGoodPlans) { EXPECT_NO_THROW(validatePlan(placedPlan())); }

TEST(Topology, FindsWhatIsWrong) {
  double nan = std::numeric_limits<double>::quiet_NaN();
  const Damage damages[] = {
      {[](Plan &, Topology &t) {
         t.mutable_sites(0)->set_server_bytes_per_second(0);
       },
       "expected a positive server_bytes_per_second, got 0"},
      {[](Plan &, Topology &t) {
         t.mutable_host_work()->set_seconds_per_byte(-1);
       },
       "topology: expected seconds in [0, 1] in host_work, got -1"},
      {[](Plan &, Topology &t) {
         t.mutable_host_work();
         t.mutable_sites(0)->mutable_pools(0)->set_cores_per_node(1);
         t.mutable_sites(0)->mutable_pools(0)->set_message_part(1000);
       },
       "expected a message_part in [0.001, 100], got 1000"},
      {[](Plan &, Topology &t) {
         t.mutable_host_work();
         t.mutable_sites(0)->mutable_pools(0)->set_cores_per_node(1);
       },
       "expected a message_part in [0.001, 100], got 0"},
      {[=](Plan &, Topology &t) {
         t.mutable_host_work()->set_server_seconds_per_element(nan);
       },
       "topology: expected seconds in [0, 1] in host_work, got nan"},
      {[](Plan &, Topology &t) { t.mutable_chips(1)->set_name("chip"); },
       "chip 1: 'chip' stands twice"},
      {[](Plan &, Topology &t) {
         t.mutable_sites(1)->set_name(t.sites(0).name());
       },
       "site 1: "},
      {[](Plan &, Topology &t) {
         t.mutable_sites(0)->mutable_pools(0)->set_chip(2);
       },
       "chip 2 does not exist, there are 2"},
      {[](Plan &, Topology &t) {
         t.mutable_sites(0)->mutable_pools(0)->set_nodes(0);
       },
       "nodes, chips and cards, got 0"},
      {[](Plan &, Topology &t) {
         t.mutable_sites(0)->mutable_pools(0)->set_cores_per_node(3);
       },
       "expected at most 2 cores in a node, as many as chips, got 3"},
      {[](Plan &, Topology &t) {
         t.mutable_sites(0)->mutable_pools(0)->set_nodes(1);
       },
       "has 2 chips, its ranks need at least 4"},
      {[](Plan &, Topology &t) {
         t.mutable_sites(0)
             ->mutable_pools(0)
             ->mutable_intra_node()
             ->set_bytes_per_second(-1);
       },
       "intra_node: expected a positive rate"},
      {[&](Plan &, Topology &t) {
         t.mutable_sites(0)->mutable_fabric()->set_latency_seconds(nan);
       },
       "fabric: expected a latency of at least 0"},
      {[](Plan &, Topology &t) {
         t.mutable_sites(0)->mutable_fabrics(0)->set_second(2);
       },
       "fabric: pool 2 does not exist"},
      {[](Plan &, Topology &t) { t.mutable_lines(0)->set_second(2); },
       "line 0: site 2 does not exist"},
      {[](Plan &, Topology &t) { t.mutable_lines(0)->set_second(0); },
       "leads from a site to itself"},
      {[](Plan &, Topology &t) { t.mutable_lines(0)->set_bytes_per_second(0); },
       "line 0: expected a positive rate"},
      {[](Plan &, Topology &t) { t.mutable_lines(0)->set_loss(1); },
       "expected a loss in [0, 1)"},
      {[](Plan &p, Topology &) {
         p.mutable_islands(0)->mutable_stages(1)->mutable_groups(0)->set_pool(
             "x");
       },
       "is not in the topology"},
      {[](Plan &p, Topology &) {
         p.mutable_server()->mutable_placements(0)->set_backup("x");
       },
       "server: placement: site 'x' is not in the topology"},
      {[](Plan &p, Topology &) {
         p.mutable_programs(0)->mutable_segment_seconds(1)->set_segment(0);
       },
       "expected ascending segments, got 0 after 0"},
      {[](Plan &p, Topology &) {
         p.mutable_programs(0)
             ->mutable_segment_seconds()
             ->rbegin()
             ->set_segment(99);
       },
       "segment_seconds: segment 99 does not exist"},
      {[&](Plan &p, Topology &) {
         p.mutable_programs(0)->mutable_segment_seconds(0)->set_seconds(nan);
       },
       "expected finite seconds of at least 0"},
      {[](Plan &p, Topology &) {
         p.mutable_programs(0)->clear_segment_seconds();
       },
       "is called and has none"},
  };
  for (const Damage &damage : damages) {
    Plan plan = placedPlan();
    damage.damage(plan, *plan.mutable_topology());
    expectError([&] { validatePlan(plan); }, damage.message);
  }
  // One program on two types of chip.
  Plan plan = placedPlan();
  plan.mutable_topology()->mutable_sites(0)->mutable_pools(1)->set_chip(1);
  Stage &stage = *plan.mutable_islands(0)->mutable_stages(1);
  ReplicaGroup &first = *stage.mutable_groups(0);
  first.set_count(1);
  ReplicaGroup second = first;
  second.set_pool("another");
  *stage.add_groups() = second;
  expectError([&] { validatePlan(plan); },
              "expected one type of chip, it runs on 'chip' and 'other chip'");
}

} // namespace
