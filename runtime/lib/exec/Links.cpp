//===- Links.cpp - a rank's communicators ---------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Links.h"

#include "tombolo/runtime/plan/Instructions.h"

#include <set>

namespace tombolo::runtime::detail {

using namespace plan::v1;

namespace {

/// A send and the receive it meets have one tag.
std::uint32_t tagOf(Lane lane) {
  return lane == LANE_SEND_FORWARD || lane == LANE_RECEIVE_FORWARD ? 0 : 1;
}

struct Needs {
  std::set<std::uint32_t> stages; // exchanged with
  bool replicas = false;
};

void collect(const google::protobuf::RepeatedPtrField<Instruction> &body,
             Needs &needs) {
  forEachInstruction(body, [&](const Instruction &instruction) {
    if (instruction.has_send())
      needs.stages.insert(instruction.send().stage());
    else if (instruction.has_receive())
      needs.stages.insert(instruction.receive().stage());
    else if (instruction.has_collective())
      needs.replicas |=
          instruction.collective().group() == Collective::GROUP_REPLICAS;
  });
}

} // namespace

// One common order over all communicators, so that ranks that connect several
// never wait for each other in a circle: the island, the replicas of each stage
// (disjoint sets), then pairs by their smaller and larger rank.
Links::Links(Transport &transport, const IslandLayout &layout,
             std::uint64_t rank, const Program &program) {
  RankCoordinates self = layout.coordinates(rank);
  Needs needs;
  collect(program.step(), needs);
  collect(program.finish(), needs);
  if (layout.rankCount() > 1)
    island = transport.connect("island",
                               layout.group(self, Collective::GROUP_ISLAND));
  std::vector<std::uint64_t> like =
      layout.group(self, Collective::GROUP_REPLICAS);
  if (needs.replicas && like.size() > 1)
    replicas = transport.connect("replicas-" + std::to_string(self.stage) +
                                     "-" + std::to_string(self.tensorIndex),
                                 like);
  std::set<std::pair<std::uint64_t, std::uint64_t>> couples;
  for (std::uint32_t stage : needs.stages)
    for (std::uint64_t peer : layout.peers(self, stage))
      couples.insert(std::minmax(rank, peer));
  for (auto [low, high] : couples) {
    std::uint64_t both[] = {low, high};
    std::uint64_t peer = low == rank ? high : low;
    pairs[peer] = {transport.connect("pair-" + std::to_string(low) + "-" +
                                         std::to_string(high),
                                     both),
                   low == rank ? 1 : 0};
  }
}

void Links::send(std::uint64_t peer, Lane lane,
                 std::span<const std::byte> data) {
  const Pair &pair = pairs.at(peer);
  pair.communicator->send(pair.other, tagOf(lane), data);
}

void Links::receive(std::uint64_t peer, Lane lane, std::span<std::byte> data) {
  const Pair &pair = pairs.at(peer);
  pair.communicator->receive(pair.other, tagOf(lane), data);
}

void Links::allReduceSum(Collective::Group group, std::span<float> data) {
  Communicator *over =
      group == Collective::GROUP_ISLAND ? island.get() : replicas.get();
  if (over)
    over->allReduceSum(data);
}

void Links::barrier() {
  if (island)
    island->barrier();
}

} // namespace tombolo::runtime::detail
