//===- OuterSync.cpp - what a synchronisation of islands takes ------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// A fragment's exchange is a sequence: the islands' ranks encode what changed,
// push it over the lines, the server sums and updates, the islands pull and
// apply. Each part goes at the pace of the slowest thing that all of it passes.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Transfers.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

namespace tombolo::planning {

double bytesPerElement(Compression compression) {
  switch (compression) {
  case Compression::None:
    return 4;
  case Compression::BF16:
    return 2;
  case Compression::Int8:
    return 1 + 4.0 / 256; // a scale for each 256 elements
  case Compression::Int4:
    return 0.5 + 4.0 / 256;
  }
  return 4;
}

namespace {

/// One island's part in all exchanges.
struct Member {
  std::map<std::string, double> shares; // of the parameters, by site
  double largestRank = 0;               // the most elements a rank answers for
  /// Elements that the ranks on it push and pull, of cores of hosts; who pulls
  /// without pushing counts as if it pushed.
  std::map<HostCore, double> onCores;
};

/// Which site holds which share of an island's parameters, and the most that
/// one rank pushes: every element has one owner, the replicas of a stage share
/// them only with `optimizer_sharding`.
Member memberOf(const Problem &problem, const Island &island,
                const std::vector<std::vector<ChipRange>> &places) {
  Member member;
  double total = 0;
  uint64_t first = 0;
  for (const Stage &stage : island.stages) {
    double elements = 0;
    for (const BlockRun &run : slice(problem.model.runs, first, stage.blocks))
      elements +=
          static_cast<double>(run.count) *
          static_cast<double>(problem.model.kinds[run.kind].trainableCount);
    first += stage.blocks;
    double owners =
        stage.optimizerSharding ? static_cast<double>(stage.replicaCount()) : 1;
    const ReplicaGroup &group = stage.replicas.front();
    member.shares[splitPool(group.pool).first] += elements;
    double ofRank = elements / static_cast<double>(group.tensorParallel);
    const auto &ranges = places[&stage - island.stages.data()];
    bool onCores = false;
    for (const ChipRange &range : ranges)
      for (const HostCore &core : hostCores(problem.topology, range)) {
        member.onCores[core] += ofRank;
        onCores = true;
      }
    if (!onCores) // else in coreSeconds
      member.largestRank = std::max(member.largestRank, ofRank / owners);
    total += elements;
  }
  for (auto &[site, share] : member.shares)
    share = total > 0 ? share / total : 1;
  if (member.shares.empty() && !island.sites.empty())
    member.shares[island.sites[0]] = 1;
  return member;
}

class Sync {
public:
  Sync(const Problem &problem, const Strategy &strategy)
      : problem(problem), topology(problem.topology), strategy(strategy),
        server(*strategy.server) {
    auto places = placeRanks(strategy);
    for (size_t i = 0; i < strategy.islands.size(); ++i)
      members.push_back(memberOf(problem, strategy.islands[i], places[i]));
    fragments = static_cast<double>(server.fragments);
    elements = problem.model.trainableCount() / fragments;
    bytes = elements * bytesPerElement(server.compression);
  }

  Synchronisation run() {
    Synchronisation result;
    // Fragments at one place cost alike.
    Places places;
    for (const auto &[index, place] : server.placement)
      ++places[{place.primary, place.backup}];
    double unplaced = fragments - static_cast<double>(server.placement.size());
    if (unplaced > 0)
      places[{strategy.islands[0].sites[0], ""}] += unplaced;
    for (const auto &[place, count] : places) {
      FragmentExchange one = exchange(place.first, place.second);
      one.fragments = count;
      result.seconds += count * one.seconds;
      result.wanBytes += count * one.wanBytes;
      result.exchanges.push_back(one);
    }
    for (const Member &member : members)
      result.coreSeconds.push_back(coreSeconds(member, places));
    for (size_t link : used)
      result.connections = std::max(
          result.connections,
          static_cast<double>(topology.links[link].connectionsNeeded()));
    return result;
  }

private:
  const Problem &problem;
  const Topology &topology;
  const Strategy &strategy;
  const Server &server;
  std::vector<Member> members;
  double fragments = 1, elements = 0, bytes = 0;
  std::set<size_t> used; // lines
  /// Fragments by site of primary and backup.
  using Places = std::map<std::pair<std::string, std::string>, double>;

  /// What one fragment's exchange takes of cores where its server is.
  double serverCoreSeconds(bool isPrimary, bool hasBackup) const {
    double count = static_cast<double>(members.size());
    // A pass over each push, the outer step, and one to encode and hash; a
    // backup makes every version again.
    double passes =
        (count + 2) * 4 * elements / problem.bounds.serverBytesPerSecond;
    double moved = (isPrimary ? 2 * count * bytes : 0) +
                   (hasBackup ? (count + 1) * bytes : 0);
    return passes + moved * kWireSecondsPerByte;
  }

  /// What a round takes of the cores of hosts at a site for servers there;
  /// those with machines of their own (`hosts`) take nothing.
  double serverCoreSeconds(const std::string &site,
                           const Places &places) const {
    double seconds = 0;
    if (topology.findSite(site)->hosts)
      return 0;
    for (const auto &[place, count] : places) {
      bool hasBackup = !place.second.empty() && place.second != place.first;
      if (place.first == site)
        seconds += count * serverCoreSeconds(true, hasBackup);
      else if (hasBackup && place.second == site)
        seconds += count * serverCoreSeconds(false, true);
    }
    return seconds;
  }

  /// What a round takes of the core that an island trains on and that has most
  /// to do: for the pushes and pulls of its ranks, and its part of the servers'
  /// work at its site, which all cores of a node there share.
  double coreSeconds(const Member &member, const Places &places) const {
    double perElement =
        2 * 4 / problem.bounds.codecBytesPerSecond +
        2 * bytesPerElement(server.compression) * kWireSecondsPerByte;
    std::map<const Pool *, double> servers;
    double most = 0;
    for (const auto &[core, moved] : member.onCores) {
      const Pool *pool = std::get<0>(core);
      auto [found, fresh] = servers.try_emplace(pool);
      if (fresh)
        found->second = serverCoreSeconds(siteOf(pool), places) /
                        static_cast<double>(*pool->coresPerNode);
      most = std::max(most, moved * perElement + found->second);
    }
    return most;
  }

  std::string siteOf(const Pool *pool) const {
    for (const Site &site : topology.sites)
      for (const Pool &one : site.pools)
        if (&one == pool)
          return site.name;
    return "";
  }

  /// What the servers of a site sum up: its hosts share the fragments. Without
  /// `hosts` it is no limit.
  double serverBytesPerSecond(const std::string &site) const {
    const Site *found = topology.findSite(site);
    if (!found || !found->hosts)
      return std::numeric_limits<double>::infinity();
    return static_cast<double>(found->hosts->count) *
           problem.bounds.serverBytesPerSecond;
  }

  /// What a site's gateway encrypts; without `hosts` it is no limit.
  double gatewayBytesPerSecond(const std::string &site) const {
    const Site *found = topology.findSite(site);
    if (!found || !found->hosts)
      return std::numeric_limits<double>::infinity();
    return static_cast<double>(found->hosts->count) * problem.bounds.hostCores /
           kWireSecondsPerByte;
  }

  double diskSeconds(const std::string &site, double written) const {
    const Site *found = topology.findSite(site);
    if (!found || !found->hosts || !found->hosts->diskGbytesPerSecond)
      return 0;
    return written / (*found->hosts->diskGbytesPerSecond * 1e9 *
                      static_cast<double>(found->hosts->count));
  }

  /// Flows of given bytes from sites to one site, all at once: a line and a
  /// gateway carry all that pass them. Adds what crosses lines.
  double flowSeconds(const std::map<std::string, double> &from,
                     const std::string &to, FragmentExchange &cost) {
    std::map<size_t, double> load;
    double latency = 0, slowest = 0, crossing = 0;
    for (const auto &[site, sent] : from) {
      if (site == to)
        continue;
      crossing += sent;
      slowest = std::max(slowest, sent / gatewayBytesPerSecond(site));
      double delay = 0;
      for (size_t link :
           topology.route(site, to).value_or(std::vector<size_t>())) {
        load[link] += sent;
        used.insert(link);
        delay += topology.links[link].rttMs * 0.5e-3;
      }
      latency = std::max(latency, delay);
    }
    slowest = std::max(slowest, crossing / gatewayBytesPerSecond(to));
    for (const auto &[link, carried] : load)
      slowest = std::max(slowest,
                         carried / topology.links[link].usableBytesPerSecond());
    cost.wanBytes += crossing;
    cost.lineSeconds += slowest;
    cost.latencySeconds += latency;
    return slowest;
  }

  FragmentExchange exchange(const std::string &primary,
                            const std::string &backup) {
    FragmentExchange cost;
    double rate = serverBytesPerSecond(primary);
    double pushed = bytes * static_cast<double>(members.size());
    std::map<std::string, double> from;
    double largest = 0;
    for (const Member &member : members) {
      for (const auto &[site, share] : member.shares)
        from[site] += share * bytes;
      largest = std::max(largest, member.largestRank / fragments);
    }
    // Encode and apply: a pass over the rank's own elements each.
    cost.rankSeconds = 2 * 4 * largest / problem.bounds.codecBytesPerSecond;
    // Push, as fast as lines, gateways, the server and its log take it in.
    double line = flowSeconds(from, primary, cost);
    double intake =
        std::max({line, pushed / rate, diskSeconds(primary, pushed)});
    // One pass over the fragment, and the update is written down.
    cost.serverSeconds = 4 * elements / rate + diskSeconds(primary, bytes);
    if (!backup.empty() && backup != primary) {
      // Pushes and the update count only when they are there too, which the
      // primary hears.
      double before = cost.latencySeconds;
      double copied = flowSeconds({{primary, pushed + bytes}}, backup, cost);
      cost.latencySeconds += cost.latencySeconds - before;
      cost.serverSeconds +=
          std::max(copied, diskSeconds(backup, pushed + bytes));
    }
    // Pull: the same the other way; lines are full duplex.
    double back = flowSeconds(from, primary, cost);
    double outgo = std::max(back, pushed / rate);
    cost.seconds = cost.rankSeconds + intake + cost.serverSeconds + outgo +
                   cost.latencySeconds;
    cost.busySeconds = std::max({intake, outgo, cost.serverSeconds});
    return cost;
  }
};

} // namespace

Synchronisation synchronisation(const Problem &problem,
                                const Strategy &strategy) {
  if (!strategy.server || strategy.islands.empty())
    return {};
  return Sync(problem, strategy).run();
}

double exposedSeconds(const Server &server, const Synchronisation &sync,
                      double stepSeconds) {
  double fragments = static_cast<double>(server.fragments);
  double window = static_cast<double>(server.overlapSteps) * stepSeconds;
  // Between the beginnings of two exchanges.
  double apart =
      static_cast<double>(server.innerSteps) * stepSeconds / fragments;
  double exposed = 0;
  for (const FragmentExchange &one : sync.exchanges) {
    double waits = std::max(0.0, one.seconds - window);
    if (server.overlapSteps > 0)
      waits = std::max(waits, one.busySeconds - apart);
    exposed += one.fragments * waits;
  }
  return exposed;
}

double serverHostBytes(const Problem &problem, const Strategy &strategy,
                       const std::string &site) {
  if (!strategy.server)
    return 0;
  const Server &server = *strategy.server;
  double fragment = server.bytesPerParameter() *
                    problem.model.trainableCount() /
                    static_cast<double>(server.fragments);
  double held = 0;
  for (const auto &[index, place] : server.placement)
    held += (place.primary == site) + (place.backup == site);
  if (!strategy.islands.empty() && strategy.islands[0].sites[0] == site)
    held += static_cast<double>(server.fragments) -
            static_cast<double>(server.placement.size());
  return held * fragment;
}

} // namespace tombolo::planning
