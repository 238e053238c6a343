//===- Links.h - a rank's communicators -----------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_EXEC_LINKS_H
#define TOMBOLO_RUNTIME_LIB_EXEC_LINKS_H

#include "tombolo/runtime/Transport.h"
#include "tombolo/runtime/plan/Layout.h"

#include <map>
#include <memory>

namespace tombolo::runtime::detail {

/// One communicator over the island, one over each group of the collectives of
/// the rank's program, one with each rank it exchanges activations with.
class Links {
public:
  /// Connects; all ranks of the island do so at the same time. The layout
  /// outlives this.
  Links(Transport &transport, const IslandLayout &layout, std::uint64_t rank,
        const plan::v1::Program &program);

  /// Does a send, a receive or a collective, in place in the rank's arena.
  /// False: the instruction is something else.
  bool carry(const plan::v1::Instruction &instruction,
             std::span<const std::int64_t> variables, std::byte *arena);
  /// Ranks that a collective is over.
  std::size_t members(const plan::v1::Collective &collective) const;
  /// Of each number the largest that a member of the collective's group has,
  /// which all call it together with as many.
  void largest(const plan::v1::Collective &collective,
               std::span<double> numbers);
  /// Over the island.
  void barrier();
  /// What rank 0 of the island says; all call it together.
  bool fromFirst(bool mine);
  /// Of each number the largest that a rank of the island has; all call it
  /// together with as many, each from one thread at a time, whatever its other
  /// threads send.
  void largest(std::span<std::uint64_t> numbers);
  /// Whether all ranks of the island, which call it together, have the same
  /// number.
  bool agree(std::uint64_t number);

private:
  struct Pair {
    std::unique_ptr<Communicator> communicator;
    int other;
  };

  Communicator *groupOf(const plan::v1::Collective &collective) const;
  Communicator *wholeIsland() const; // null: alone
  const Pair &pairOf(const plan::v1::Transfer &transfer,
                     std::span<const std::int64_t> variables) const;
  void collective(const plan::v1::Collective &collective, std::byte *data);

  const IslandLayout &layout;
  RankCoordinates self;
  std::map<GroupKey, std::unique_ptr<Communicator>> groups;
  std::map<std::uint64_t, Pair> pairs;
};

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_EXEC_LINKS_H
