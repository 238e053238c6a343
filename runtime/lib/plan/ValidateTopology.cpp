//===- ValidateTopology.cpp - what a simulator relies on ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "ValidateParts.h"

#include "tombolo/runtime/plan/Instructions.h"

#include <cmath>
#include <set>

namespace tombolo::runtime::detail {

using namespace plan::v1;

namespace {

void positive(double value, const std::string &place, const char *what) {
  if (!std::isfinite(value) || value <= 0)
    throw Error(place, ": expected a positive ", what, ", got ", value);
}

void checkWire(const Topology::Wire &wire, const std::string &place) {
  positive(wire.bytes_per_second(), place, "rate");
  if (!std::isfinite(wire.latency_seconds()) || wire.latency_seconds() < 0)
    throw Error(place, ": expected a latency of at least 0, got ",
                wire.latency_seconds());
}

void checkIndex(std::uint32_t index, int size, const std::string &place,
                const char *what) {
  if (index >= static_cast<unsigned>(size))
    throw Error(place, ": ", what, " ", index, " does not exist, there are ",
                size);
}

void checkPool(const Topology &topology, const Topology::Pool &pool,
               const std::string &place) {
  checkName(pool.name(), place);
  checkIndex(pool.chip(), topology.chips_size(), place, "chip");
  for (std::uint64_t count :
       {pool.nodes(), pool.chips_per_node(), pool.cards_per_node()})
    if (count == 0 || count > kMaxRanks)
      throw Error(place, ": expected 1 to ", kMaxRanks,
                  " nodes, chips and cards, got ", count);
  if (pool.cores_per_node() > pool.chips_per_node())
    throw Error(place, ": expected at most ", pool.chips_per_node(),
                " cores in a node, as many as chips, got ",
                pool.cores_per_node());
  bool isShared = pool.cores_per_node() > 0 && topology.has_host_work();
  if (isShared && !(pool.message_part() >= 1e-3 && pool.message_part() <= 100))
    throw Error(place, ": expected a message_part in [0.001, 100], got ",
                pool.message_part());
  if (pool.has_intra_node())
    checkWire(pool.intra_node(), place + ": intra_node");
  if (pool.has_inter_node())
    checkWire(pool.inter_node(), place + ": inter_node");
  if (pool.has_intra_node_ring())
    checkWire(pool.intra_node_ring(), place + ": intra_node_ring");
}

using Pools = std::map<std::pair<std::string, std::string>,
                       std::pair<const Topology::Pool *, std::uint64_t>>;

/// Every group has a pool with a chip for each of its ranks.
void checkPlaces(const Plan &plan, const Pools &known) {
  Pools pools = known;
  std::map<std::uint32_t, std::uint32_t> chipOf; // by program
  for (int i = 0; i < plan.islands_size(); ++i)
    for (const Stage &stage : plan.islands(i).stages())
      for (const ReplicaGroup &group : stage.groups()) {
        std::string name = group.site() + "/" + group.pool();
        auto pool = pools.find({group.site(), group.pool()});
        if (pool == pools.end())
          throw Error("island ", i, ": pool '", name,
                      "' is not in the topology");
        auto &[message, used] = pool->second;
        used += group.count() * group.tensor_parallel();
        std::uint64_t chips = message->nodes() * message->chips_per_node();
        if (used > chips)
          throw Error("island ", i, ": pool '", name, "' has ", chips,
                      " chips, its ranks need at least ", used);
        auto [entry, fresh] = chipOf.try_emplace(group.program(), message->chip());
        if (!fresh && entry->second != message->chip())
          throw Error("program ", group.program(),
                      ": expected one type of chip, it runs on '",
                      plan.topology().chips(static_cast<int>(entry->second)).name(),
                      "' and '",
                      plan.topology().chips(static_cast<int>(message->chip())).name(),
                      "'");
      }
}

} // namespace

void validateTopology(const Plan &plan) {
  const Topology &topology = plan.topology();
  std::set<std::string> names;
  for (int c = 0; c < topology.chips_size(); ++c) {
    std::string place = "topology: chip " + std::to_string(c);
    checkName(topology.chips(c).name(), place);
    if (!names.insert(topology.chips(c).name()).second)
      throw Error(place, ": '", topology.chips(c).name(), "' stands twice");
    double seconds = topology.chips(c).step_seconds();
    if (!(seconds >= 0 && std::isfinite(seconds)))
      throw Error(place, ": expected step_seconds of at least 0, got ",
                  seconds);
  }
  const Topology::HostWork &work = topology.host_work();
  for (double seconds :
       {work.seconds_per_byte(), work.rank_seconds_per_element(),
        work.server_seconds_per_element()})
    if (!(seconds >= 0 && seconds <= 1))
      throw Error("topology: expected seconds in [0, 1] in host_work, got ",
                  seconds);
  names.clear();
  Pools pools;
  for (int s = 0; s < topology.sites_size(); ++s) {
    const Topology::Site &site = topology.sites(s);
    std::string place = "topology: site " + std::to_string(s);
    checkName(site.name(), place);
    if (!names.insert(site.name()).second)
      throw Error(place, ": '", site.name(), "' stands twice");
    for (const Topology::Pool &pool : site.pools()) {
      checkPool(topology, pool, place + ": pool '" + pool.name() + "'");
      if (!pools.insert({{site.name(), pool.name()}, {&pool, 0}}).second)
        throw Error(place, ": pool '", pool.name(), "' stands twice");
    }
    if (site.has_server_bytes_per_second())
      positive(site.server_bytes_per_second(), place,
               "server_bytes_per_second");
    if (site.has_fabric())
      checkWire(site.fabric(), place + ": fabric");
    for (const Topology::Fabric &fabric : site.fabrics()) {
      checkIndex(fabric.first(), site.pools_size(), place + ": fabric", "pool");
      checkIndex(fabric.second(), site.pools_size(), place + ": fabric", "pool");
      checkWire(fabric.wire(), place + ": fabric");
    }
  }
  for (int l = 0; l < topology.lines_size(); ++l) {
    const Topology::Line &line = topology.lines(l);
    std::string place = "topology: line " + std::to_string(l);
    checkIndex(line.first(), topology.sites_size(), place, "site");
    checkIndex(line.second(), topology.sites_size(), place, "site");
    if (line.first() == line.second())
      throw Error(place, ": leads from a site to itself");
    positive(line.bytes_per_second(), place, "rate");
    if (!std::isfinite(line.rtt_seconds()) || line.rtt_seconds() < 0)
      throw Error(place, ": expected an rtt of at least 0, got ",
                  line.rtt_seconds());
    if (!(line.loss() >= 0 && line.loss() < 1))
      throw Error(place, ": expected a loss in [0, 1), got ", line.loss());
  }
  checkPlaces(plan, pools);
  for (const Server::Placement &placement : plan.server().placements())
    for (const std::string &site : {placement.primary(), placement.backup()})
      if (!site.empty() && !names.contains(site))
        throw Error("server: placement: site '", site,
                    "' is not in the topology");
}

void validateSegmentSeconds(const Plan &plan, const Program &program,
                            const std::string &place) {
  std::set<std::uint32_t> known;
  for (const SegmentSeconds &entry : program.segment_seconds()) {
    checkIndex(entry.segment(), plan.segments_size(),
               place + ": segment_seconds", "segment");
    if (!known.empty() && entry.segment() <= *known.rbegin())
      throw Error(place, ": segment_seconds: expected ascending segments, got ",
                  entry.segment(), " after ", *known.rbegin());
    known.insert(entry.segment());
    if (!std::isfinite(entry.seconds()) || entry.seconds() < 0)
      throw Error(place, ": segment_seconds: expected finite seconds of at "
                         "least 0, got ",
                  entry.seconds());
  }
  if (!plan.has_topology())
    return;
  auto look = [&](const Instruction &instruction) {
    if (instruction.has_call() &&
        !known.contains(instruction.call().segment()))
      throw Error(place, ": segment_seconds: segment ",
                  instruction.call().segment(), " is called and has none");
  };
  forEachInstruction(program.step(), look);
  forEachInstruction(program.finish(), look);
  forEachInstruction(program.evaluate(), look);
}

} // namespace tombolo::runtime::detail
