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

/// One communicator over the island, one over the replicas of the rank's stage
/// (when its program reduces over them), one with each rank it exchanges
/// activations with.
class Links {
public:
  /// Connects; all ranks of the island do so at the same time.
  Links(Transport &transport, const IslandLayout &layout, std::uint64_t rank,
        const plan::v1::Program &program);

  void send(std::uint64_t peer, plan::v1::Lane lane,
            std::span<const std::byte> data);
  void receive(std::uint64_t peer, plan::v1::Lane lane,
               std::span<std::byte> data);
  void allReduceSum(plan::v1::Collective::Group group, std::span<float> data);
  /// Over the island.
  void barrier();

private:
  struct Pair {
    std::unique_ptr<Communicator> communicator;
    int other;
  };
  std::unique_ptr<Communicator> island;
  std::unique_ptr<Communicator> replicas; // null: the stage has one replica
  std::map<std::uint64_t, Pair> pairs;
};

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_EXEC_LINKS_H
