//===- Links.cpp - a rank's communicators ---------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Links.h"

#include "tombolo/runtime/plan/Instructions.h"
#include "tombolo/runtime/plan/Validate.h"

#include <algorithm>
#include <set>

namespace tombolo::runtime::detail {

using namespace plan::v1;

namespace {

/// A send and the receive it meets have one tag.
std::uint32_t tagOf(Lane lane) {
  return lane == LANE_SEND_FORWARD || lane == LANE_RECEIVE_FORWARD ? 0 : 1;
}

/// The communicators a program needs besides the island's.
struct Needs {
  /// By key: the groups of its collectives, those of one rank left out.
  std::map<GroupKey, std::vector<std::uint64_t>> groups;
  std::set<std::uint64_t> peers; // of its transfers
};

Needs needsOf(const Program &program, const IslandLayout &layout,
              const RankCoordinates &self) {
  Needs needs;
  // Most transfers of a program lead to the same few ranks.
  std::set<std::pair<std::uint32_t, std::int64_t>> looked;
  auto collect = [&](const Instruction &instruction) {
    if (instruction.has_collective()) {
      const Collective &collective = instruction.collective();
      if (collective.group() == Collective::GROUP_ISLAND)
        return;
      auto [entry, fresh] =
          needs.groups.try_emplace(groupKey(self, collective));
      if (fresh)
        entry->second = layout.group(self, collective);
    } else if (instruction.has_send() || instruction.has_receive()) {
      const Transfer &transfer =
          instruction.has_send() ? instruction.send() : instruction.receive();
      std::int64_t index = transfer.has_tensor_index()
                               ? evaluate(transfer.tensor_index(), {}, self)
                               : -1;
      if (looked.insert({transfer.stage(), index}).second)
        for (std::uint64_t peer : layout.peers(self, transfer))
          needs.peers.insert(peer);
    }
  };
  forEachInstruction(program.step(), collect);
  forEachInstruction(program.finish(), collect);
  forEachInstruction(program.evaluate(), collect);
  std::erase_if(needs.groups,
                [](const auto &entry) { return entry.second.size() < 2; });
  return needs;
}

std::string nameOf(const GroupKey &key) {
  std::string name = "group";
  for (std::uint64_t part : key)
    name += "-" + std::to_string(part);
  return name;
}

} // namespace

// One common order over all communicators, so that ranks that connect several
// never wait for each other in a circle: the island, groups by key, then pairs
// by their smaller and larger rank.
Links::Links(Transport &transport, const IslandLayout &layout,
             std::uint64_t rank, const Program &program)
    : layout(layout), self(layout.coordinates(rank)) {
  Needs needs = needsOf(program, layout, self);
  Collective whole;
  whole.set_group(Collective::GROUP_ISLAND);
  if (layout.rankCount() > 1)
    groups[groupKey(self, whole)] =
        transport.connect("island", layout.group(self, whole));
  for (const auto &[key, ranks] : needs.groups)
    groups[key] = transport.connect(nameOf(key), ranks);
  std::set<std::pair<std::uint64_t, std::uint64_t>> couples;
  for (std::uint64_t peer : needs.peers)
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

const Links::Pair &
Links::pairOf(const Transfer &transfer,
              std::span<const std::int64_t> variables) const {
  auto local =
      static_cast<std::uint64_t>(evaluate(transfer.microbatch(), variables));
  return pairs.at(layout.peer(self, transfer, local));
}

bool Links::carry(const Instruction &instruction,
                  std::span<const std::int64_t> variables, std::byte *arena) {
  auto at = [&](const auto &action) {
    return arena + evaluate(action.address(), variables, self);
  };
  switch (instruction.action_case()) {
  case Instruction::kSend: {
    const Transfer &transfer = instruction.send();
    const Pair &pair = pairOf(transfer, variables);
    pair.communicator->send(pair.other, tagOf(instruction.lane()),
                            {at(transfer), transfer.bytes()});
    return true;
  }
  case Instruction::kReceive: {
    const Transfer &transfer = instruction.receive();
    const Pair &pair = pairOf(transfer, variables);
    pair.communicator->receive(pair.other, tagOf(instruction.lane()),
                               {at(transfer), transfer.bytes()});
    return true;
  }
  case Instruction::kCollective:
    collective(instruction.collective(), at(instruction.collective()));
    return true;
  default:
    return false;
  }
}

/// Null: alone.
Communicator *Links::groupOf(const Collective &collective) const {
  auto found = groups.find(groupKey(self, collective));
  return found == groups.end() ? nullptr : found->second.get();
}

std::size_t Links::members(const Collective &collective) const {
  Communicator *over = groupOf(collective);
  return over ? static_cast<std::size_t>(over->size()) : 1;
}

void Links::largest(const Collective &collective, std::span<double> numbers) {
  Communicator *over = groupOf(collective);
  if (!over || numbers.empty())
    return;
  auto count = static_cast<std::size_t>(over->size());
  std::vector<double> all(count * numbers.size());
  std::copy(numbers.begin(), numbers.end(),
            all.begin() +
                static_cast<std::ptrdiff_t>(
                    static_cast<std::size_t>(over->rank()) * numbers.size()));
  over->allGather(std::as_writable_bytes(std::span(all)));
  for (std::size_t i = 0; i < all.size(); ++i)
    numbers[i % numbers.size()] = std::max(numbers[i % numbers.size()], all[i]);
}

void Links::collective(const Collective &collective, std::byte *data) {
  Communicator *group = groupOf(collective);
  if (!group)
    return; // alone
  Communicator &over = *group;
  std::span<std::byte> bytes(data, collective.elements() *
                                       elementBytes(collective.dtype()));
  SumType type =
      collective.dtype() == DTYPE_BF16 ? SumType::BF16 : SumType::F32;
  switch (collective.kind()) {
  case Collective::KIND_REDUCE_SCATTER_SUM:
    return over.reduceScatterSum(bytes, type);
  case Collective::KIND_ALL_GATHER:
    return over.allGather(bytes);
  case Collective::KIND_ALL_TO_ALL:
    return over.allToAll(bytes);
  default:
    return over.allReduceSum(bytes, type);
  }
}

Communicator *Links::wholeIsland() const {
  Collective whole;
  whole.set_group(Collective::GROUP_ISLAND);
  return groupOf(whole);
}

void Links::barrier() {
  if (Communicator *island = wholeIsland())
    island->barrier();
}

/// Down a binary tree.
bool Links::fromFirst(bool mine) {
  Communicator *island = wholeIsland();
  if (!island)
    return mine;
  std::byte answer{mine};
  int self = island->rank();
  if (self > 0)
    island->receive((self - 1) / 2, 0, {&answer, 1});
  for (int child : {2 * self + 1, 2 * self + 2})
    if (child < island->size())
      island->send(child, 0, {&answer, 1});
  return answer != std::byte{0};
}

/// Up a binary tree and down again.
void Links::largest(std::span<std::uint64_t> numbers) {
  Communicator *island = wholeIsland();
  if (!island)
    return;
  constexpr std::uint32_t kTag = 1; // nothing else of the island's has it
  const int self = island->rank();
  auto forEachChild = [&](auto visit) {
    for (int child : {2 * self + 1, 2 * self + 2})
      if (child < island->size())
        visit(child);
  };
  std::vector<std::uint64_t> theirs(numbers.size());
  forEachChild([&](int child) {
    island->receive(child, kTag, std::as_writable_bytes(std::span(theirs)));
    for (std::size_t i = 0; i < theirs.size(); ++i)
      numbers[i] = std::max(numbers[i], theirs[i]);
  });
  if (self > 0) {
    island->send((self - 1) / 2, kTag, std::as_bytes(numbers));
    island->receive((self - 1) / 2, kTag, std::as_writable_bytes(numbers));
  }
  forEachChild(
      [&](int child) { island->send(child, kTag, std::as_bytes(numbers)); });
}

bool Links::agree(std::uint64_t number) {
  Communicator *island = wholeIsland();
  if (!island)
    return true;
  std::vector<std::uint64_t> all(static_cast<std::size_t>(island->size()));
  all[static_cast<std::size_t>(island->rank())] = number;
  island->allGather(std::as_writable_bytes(std::span(all)));
  return std::all_of(all.begin(), all.end(),
                     [&](std::uint64_t each) { return each == number; });
}

} // namespace tombolo::runtime::detail
