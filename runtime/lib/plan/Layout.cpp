//===- Layout.cpp - who is who in an island -------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/plan/Layout.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>

namespace tombolo::runtime {

using namespace plan::v1;

Deal::Deal(const Stage &stage) {
  std::uint64_t start = 0;
  for (const ReplicaGroup &group : stage.groups())
    for (std::uint64_t i = 0; i < group.count(); ++i) {
      starts.push_back(start);
      start += group.share();
    }
  starts.push_back(start);
}

std::uint64_t Deal::microbatch(std::uint64_t replica,
                               std::uint64_t local) const {
  std::uint64_t own = share(replica);
  return (local / own) * turn() + starts[replica] + local % own;
}

Deal::Place Deal::place(std::uint64_t j) const {
  std::uint64_t inTurn = j % turn();
  auto after = std::upper_bound(starts.begin(), starts.end(), inTurn);
  std::uint64_t replica =
      static_cast<std::uint64_t>(after - starts.begin()) - 1;
  return {replica, (j / turn()) * share(replica) + (inTurn - starts[replica])};
}

std::uint64_t Deal::count(std::uint64_t replica, std::uint64_t total) const {
  std::uint64_t rest = total % turn();
  std::uint64_t begin = starts[replica];
  std::uint64_t last =
      rest <= begin ? 0 : std::min(rest - begin, share(replica));
  return (total / turn()) * share(replica) + last;
}

bool onHostCores(const Topology::Pool &pool) {
  return pool.cores_per_node() > 0;
}

IslandLayout::IslandLayout(const Island &island) : island(island) {
  std::uint64_t rank = 0;
  for (const Stage &stage : island.stages()) {
    stageStarts.push_back(rank);
    deals.emplace_back(stage);
    std::vector<GroupStart> starts;
    std::uint64_t replica = 0;
    for (const ReplicaGroup &group : stage.groups()) {
      starts.push_back({rank, replica, &group});
      rank += group.count() * group.tensor_parallel();
      replica += group.count();
    }
    groups.push_back(std::move(starts));
  }
  stageStarts.push_back(rank);
}

std::uint64_t IslandLayout::microbatches() const {
  return island.batch() / island.microbatch();
}

RankCoordinates IslandLayout::coordinates(std::uint64_t rank) const {
  if (rank >= rankCount())
    throw Error("rank ", rank, " does not exist: the island has ", rankCount(),
                " ranks, counted from 0");
  RankCoordinates at;
  at.stage = static_cast<std::uint32_t>(
      std::upper_bound(stageStarts.begin(), stageStarts.end(), rank) -
      stageStarts.begin() - 1);
  const std::vector<GroupStart> &starts = groups[at.stage];
  auto after = std::upper_bound(
      starts.begin(), starts.end(), rank,
      [](std::uint64_t value, const GroupStart &g) { return value < g.rank; });
  at.group = static_cast<std::uint32_t>(after - starts.begin() - 1);
  const GroupStart &start = starts[at.group];
  std::uint64_t inGroup = rank - start.rank;
  at.groupReplica = inGroup / start.group->tensor_parallel();
  at.replica = start.replica + at.groupReplica;
  at.tensorIndex = inGroup % start.group->tensor_parallel();
  at.program = start.group->program();
  return at;
}

std::uint64_t IslandLayout::rankOf(std::uint32_t stage, std::uint64_t replica,
                                   std::uint64_t tensorIndex) const {
  const std::vector<GroupStart> &starts = groups.at(stage);
  auto after = std::upper_bound(starts.begin(), starts.end(), replica,
                                [](std::uint64_t value, const GroupStart &g) {
                                  return value < g.replica;
                                });
  const GroupStart &start = *std::prev(after);
  return start.rank +
         (replica - start.replica) * start.group->tensor_parallel() +
         tensorIndex;
}

const std::string &IslandLayout::site(std::uint64_t rank) const {
  RankCoordinates at = coordinates(rank);
  return island.stages(static_cast<int>(at.stage))
      .groups(static_cast<int>(at.group))
      .site();
}

std::vector<std::string> sitesOfRanks(const plan::v1::Island &island) {
  IslandLayout layout(island);
  std::vector<std::string> sites;
  for (std::uint64_t rank = 0; rank < layout.rankCount(); ++rank)
    sites.push_back(layout.site(rank));
  return sites;
}

bool spansSites(const plan::v1::Island &island) {
  std::vector<std::string> sites = sitesOfRanks(island);
  return std::any_of(sites.begin(), sites.end(), [&](const std::string &site) {
    return site != sites.front();
  });
}

std::string meetingSite(const Plan &plan) {
  for (const auto &island : plan.islands())
    if (spansSites(island))
      return IslandLayout(island).site(0);
  return "";
}

std::uint64_t IslandLayout::peer(const RankCoordinates &self,
                                 const Transfer &transfer,
                                 std::uint64_t local) const {
  std::uint64_t j = deals[self.stage].microbatch(self.replica, local);
  std::uint64_t index = self.tensorIndex;
  if (transfer.has_tensor_index())
    index =
        static_cast<std::uint64_t>(evaluate(transfer.tensor_index(), {}, self));
  return rankOf(transfer.stage(), deals.at(transfer.stage()).place(j).replica,
                index);
}

std::vector<std::uint64_t> IslandLayout::peers(const RankCoordinates &self,
                                               const Transfer &transfer) const {
  std::vector<std::uint64_t> ranks;
  std::uint64_t own = deals[self.stage].count(self.replica, microbatches());
  for (std::uint64_t i = 0; i < own; ++i)
    ranks.push_back(peer(self, transfer, i));
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

std::vector<std::uint64_t>
IslandLayout::group(const RankCoordinates &self,
                    const Collective &collective) const {
  std::vector<std::uint64_t> ranks;
  switch (collective.group()) {
  case Collective::GROUP_ISLAND:
    for (std::uint64_t rank = 0; rank < rankCount(); ++rank)
      ranks.push_back(rank);
    break;
  case Collective::GROUP_TENSOR: {
    std::uint64_t degree =
        groups[self.stage][self.group].group->tensor_parallel();
    for (std::uint64_t i = 0; i < degree; ++i)
      ranks.push_back(rankOf(self.stage, self.replica, i));
    break;
  }
  case Collective::GROUP_STAGES:
    for (std::uint32_t stage : collective.stages())
      for (std::uint64_t r = 0; r < deals.at(stage).replicas(); ++r)
        ranks.push_back(rankOf(stage, r, self.tensorIndex));
    break;
  default:
    for (std::uint64_t r = 0; r < deals[self.stage].replicas(); ++r)
      ranks.push_back(rankOf(self.stage, r, self.tensorIndex));
  }
  return ranks;
}

GroupKey groupKey(const RankCoordinates &self, const Collective &collective) {
  auto kind = static_cast<std::uint64_t>(collective.group());
  switch (collective.group()) {
  case Collective::GROUP_ISLAND:
    return {kind};
  case Collective::GROUP_TENSOR:
    return {kind, self.stage, self.replica};
  case Collective::GROUP_STAGES: {
    GroupKey key{kind, self.tensorIndex};
    key.insert(key.end(), collective.stages().begin(),
               collective.stages().end());
    // A rank of another stage is in none of these groups.
    if (std::find(key.begin() + 2, key.end(), self.stage) == key.end())
      return {kind};
    return key;
  }
  default:
    return {kind, self.stage, self.tensorIndex};
  }
}

std::int64_t evaluate(const Expr &expr, std::span<const std::int64_t> variables,
                      const RankCoordinates &self) {
  // Unsigned, so that hostile numbers wrap as docs/PlanFormat.md says instead
  // of being undefined; a validated plan never wraps.
  auto valueOf = [&](const Term &term) -> std::uint64_t {
    switch (term.coordinate()) {
    case COORDINATE_TENSOR_INDEX:
      return self.tensorIndex;
    case COORDINATE_REPLICA:
      return self.replica;
    default:
      return term.variable() < variables.size()
                 ? static_cast<std::uint64_t>(variables[term.variable()])
                 : 0;
    }
  };
  std::uint64_t sum = static_cast<std::uint64_t>(expr.constant());
  for (const Term &term : expr.terms()) {
    std::uint64_t value =
        valueOf(term) + static_cast<std::uint64_t>(term.offset());
    if (term.modulus())
      value %= term.modulus();
    sum += static_cast<std::uint64_t>(term.factor()) * value;
  }
  auto value = static_cast<std::int64_t>(sum);
  // A divisor above 2^63 would be the same to every sum.
  auto divisor = static_cast<std::int64_t>(
      std::min<std::uint64_t>(expr.divisor(), INT64_MAX));
  if (divisor < 2)
    return value;
  return value / divisor - (value % divisor < 0);
}

std::string nameAt(const Names &names, std::uint64_t i) {
  if (names.listed_size() > 0)
    return names.listed(static_cast<int>(i));
  return names.prefix() + std::to_string(names.first() + i * names.step()) +
         names.suffix();
}

IslandSteps::IslandSteps(const Plan &plan, std::uint32_t island) {
  if (!plan.has_server())
    return;
  own = job = plan.server().inner_steps();
  if (std::uint64_t given =
          plan.islands(static_cast<int>(island)).inner_steps())
    own = given;
}

std::uint64_t IslandSteps::ofJob(std::uint64_t steps) const {
  return steps / job * own + steps % job;
}

std::uint64_t IslandSteps::toJob(std::uint64_t steps) const {
  // Behind a round the island may have done more than the job's round has.
  return steps / own * job + std::min(steps % own, job - 1);
}

std::uint64_t IslandSteps::progress(std::uint64_t steps) const {
  // Either H may be so large that their product does not fit.
  auto behind = static_cast<unsigned __int128>(steps % own) * job / own;
  return steps / own * job + static_cast<std::uint64_t>(behind);
}

bool hasOwnInnerSteps(const Plan &plan) {
  return std::any_of(
      plan.islands().begin(), plan.islands().end(), [&](const Island &island) {
        return island.inner_steps() != 0 &&
               island.inner_steps() != plan.server().inner_steps();
      });
}

void checkSteps(const Plan &plan, std::uint64_t steps) {
  if (!hasOwnInnerSteps(plan))
    return;
  std::uint64_t round = plan.server().inner_steps();
  if (steps % round != 0)
    throw Error("--steps ", steps,
                ": expected whole rounds, a multiple of the server's "
                "inner_steps ",
                round, ", since an island has inner_steps of its own; give ",
                (steps / round + 1) * round);
  for (const Island &island : plan.islands())
    if (std::uint64_t own = island.inner_steps();
        own != 0 && steps / round > UINT64_MAX / own)
      throw Error("--steps ", steps, ": ", steps / round, " rounds of ", own,
                  " inner steps are too many");
}

/// What all islands together are leased at once.
static std::uint64_t samplesPerRound(const Plan &plan) {
  std::uint64_t sum = 0;
  for (int i = 0; i < plan.islands_size(); ++i)
    sum += IslandSteps(plan, static_cast<std::uint32_t>(i)).inRound() *
           plan.islands(i).batch();
  return sum;
}

std::uint64_t firstSample(const Plan &plan, std::uint32_t island,
                          std::uint64_t step) {
  std::uint64_t batch = plan.islands(static_cast<int>(island)).batch();
  if (!plan.has_server())
    return step * batch;
  std::uint64_t inRound = IslandSteps(plan, island).inRound();
  std::uint64_t before = 0;
  for (std::uint32_t i = 0; i < island; ++i)
    before += IslandSteps(plan, i).inRound() *
              plan.islands(static_cast<int>(i)).batch();
  return step / inRound * samplesPerRound(plan) + before +
         step % inRound * batch;
}

std::uint64_t leasedSamples(const Plan &plan, std::uint64_t steps) {
  std::uint64_t inRound = plan.has_server() ? plan.server().inner_steps() : 1;
  return (steps / inRound + (steps % inRound != 0)) * samplesPerRound(plan);
}

} // namespace tombolo::runtime
