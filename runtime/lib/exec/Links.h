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
  /// Connects; all ranks of the island do so at the same time.
  Links(Transport &transport, const IslandLayout &layout, std::uint64_t rank,
        const plan::v1::Program &program);

  void send(std::uint64_t peer, plan::v1::Lane lane,
            std::span<const std::byte> data);
  void receive(std::uint64_t peer, plan::v1::Lane lane,
               std::span<std::byte> data);
  /// In place, on the collective's elements at `data`.
  void collective(const plan::v1::Collective &collective, std::byte *data);
  /// Over the island.
  void barrier();
  /// What rank 0 of the island says; all call it together.
  bool fromFirst(bool mine);
  /// Whether all ranks of the island, which call it together, have the same
  /// number.
  bool agree(std::uint64_t number);

private:
  Communicator *wholeIsland() const; // null: alone

  struct Pair {
    std::unique_ptr<Communicator> communicator;
    int other;
  };
  RankCoordinates self;
  std::map<GroupKey, std::unique_ptr<Communicator>> groups;
  std::map<std::uint64_t, Pair> pairs;
};

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_EXEC_LINKS_H
