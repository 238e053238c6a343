//===- Layout.h - who is who in an island -----------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Pure functions of a plan that has passed `validatePlan`.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_PLAN_LAYOUT_H
#define TOMBOLO_RUNTIME_PLAN_LAYOUT_H

#include "tombolo/runtime/plan/PlanFile.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tombolo::runtime {

/// Where a rank stands in its island.
struct RankCoordinates {
  std::uint32_t stage = 0;
  std::uint32_t group = 0;        ///< replica group of the stage
  std::uint64_t replica = 0;      ///< in the stage, over all its groups
  std::uint64_t groupReplica = 0; ///< in the group
  std::uint64_t tensorIndex = 0;
  std::uint32_t program = 0;
  bool operator==(const RankCoordinates &) const = default;
};

/// Which replica of a stage computes which microbatch: in one turn each
/// replica, in order, takes its share of consecutive microbatches.
class Deal {
public:
  explicit Deal(const plan::v1::Stage &stage);

  std::uint64_t replicas() const { return starts.size() - 1; }
  /// Microbatches of one turn.
  std::uint64_t turn() const { return starts.back(); }
  std::uint64_t share(std::uint64_t replica) const {
    return starts[replica + 1] - starts[replica];
  }

  /// The island's number of the replica's own `local`-th microbatch.
  std::uint64_t microbatch(std::uint64_t replica, std::uint64_t local) const;

  struct Place {
    std::uint64_t replica;
    std::uint64_t local;
    bool operator==(const Place &) const = default;
  };
  /// The inverse: which replica computes the island's microbatch `j`, and as
  /// which of its own.
  Place place(std::uint64_t j) const;

  /// How many of the island's microbatches 0 ... total-1 the replica computes.
  std::uint64_t count(std::uint64_t replica, std::uint64_t total) const;

private:
  std::vector<std::uint64_t> starts; // by replica, and the turn at the end
};

/// Whether the chips of a pool are cores of their hosts, or shares of them,
/// which also move the messages and do what else there is.
bool onHostCores(const plan::v1::Topology::Pool &pool);

/// Rank numbers of one island: by stage, group, replica, tensor-parallel index.
class IslandLayout {
public:
  /// Keeps a reference to `island`.
  explicit IslandLayout(const plan::v1::Island &island);

  std::uint64_t rankCount() const { return stageStarts.back(); }
  std::uint32_t stageCount() const {
    return static_cast<std::uint32_t>(deals.size());
  }
  std::uint64_t microbatches() const; ///< of one inner step

  RankCoordinates coordinates(std::uint64_t rank) const;
  std::uint64_t rankOf(std::uint32_t stage, std::uint64_t replica,
                       std::uint64_t tensorIndex) const;
  const std::string &site(std::uint64_t rank) const;
  const Deal &deal(std::uint32_t stage) const { return deals[stage]; }

  /// The other side of a transfer of `self`'s own `local`-th microbatch.
  std::uint64_t peer(const RankCoordinates &self,
                     const plan::v1::Transfer &transfer,
                     std::uint64_t local) const;

  /// The other sides of a transfer for all microbatches of `self`, ascending,
  /// without repeats.
  std::vector<std::uint64_t> peers(const RankCoordinates &self,
                                   const plan::v1::Transfer &transfer) const;

  /// The members of a collective of `self`, ascending.
  std::vector<std::uint64_t>
  group(const RankCoordinates &self,
        const plan::v1::Collective &collective) const;

private:
  struct GroupStart {
    std::uint64_t rank;
    std::uint64_t replica;
    const plan::v1::ReplicaGroup *group;
  };
  const plan::v1::Island &island;
  std::vector<Deal> deals;
  std::vector<std::uint64_t> stageStarts; // first rank; the end behind
  std::vector<std::vector<GroupStart>> groups;
};

/// The site of each rank of an island.
std::vector<std::string> sitesOfRanks(const plan::v1::Island &island);
/// Whether an island has ranks at several sites.
bool spansSites(const plan::v1::Island &island);
/// The site that keeps the store where the ranks of such islands meet: that of
/// the first one's first rank. Empty where the plan has no such island.
std::string meetingSite(const Plan &plan);

/// What tells the groups of a collective's kind apart: two ranks of an island
/// are in one group when their keys are equal. Keys order the communicators of
/// an island alike on all its ranks.
using GroupKey = std::vector<std::uint64_t>;
GroupKey groupKey(const RankCoordinates &self,
                  const plan::v1::Collective &collective);

/// The value of an expression of a validated plan for the rank at `self`.
/// Variables not in `variables` count as 0.
std::int64_t evaluate(const plan::v1::Expr &expr,
                      std::span<const std::int64_t> variables,
                      const RankCoordinates &self = {});

/// The i-th name of a family.
std::string nameAt(const plan::v1::Names &names, std::uint64_t i);

/// How an island's inner steps lie in the job's, which are those of an island
/// with the server's H. Rounds are the same for all; without `inner_steps` of
/// its own, or a server, an island's steps are the job's.
class IslandSteps {
public:
  IslandSteps() = default; ///< the job's
  IslandSteps(const Plan &plan, std::uint32_t island);

  /// Inner steps of a round, H of the island; 1 without a server.
  std::uint64_t inRound() const { return own; }
  /// The island's steps when the job has done so many: as many whole rounds,
  /// and as many steps behind them.
  std::uint64_t ofJob(std::uint64_t steps) const;
  /// The inverse, where what lies behind whole rounds is less than either H.
  std::uint64_t toJob(std::uint64_t steps) const;
  /// How far the job is, in its steps, when the island has done so many:
  /// rounded down.
  std::uint64_t progress(std::uint64_t steps) const;

private:
  std::uint64_t own = 1, job = 1;
};

/// Whether an island has other inner steps than the server says.
bool hasOwnInnerSteps(const Plan &plan);

/// Throws Error where islands with inner steps of their own would not end
/// together after so many steps of the job: these are whole rounds.
void checkSteps(const Plan &plan, std::uint64_t steps);

/// The number of the first sample of inner step `step` of `island`: rounds of
/// `inner_steps` x batch samples are leased to the islands in order; without
/// a server a run is one endless round of one island.
std::uint64_t firstSample(const Plan &plan, std::uint32_t island,
                          std::uint64_t step);

/// How many samples all islands together have been leased when `steps` of the
/// job are done, those of the round under way included.
std::uint64_t leasedSamples(const Plan &plan, std::uint64_t steps);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_PLAN_LAYOUT_H
