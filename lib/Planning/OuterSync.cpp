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

/// A CPU core encrypts or decrypts a gigabyte in 1.25 s.
constexpr double kTlsSecondsPerByte = 1.25e-9;

/// One island's part in all exchanges.
struct Member {
  std::map<std::string, double> shares; // of the parameters, by site
  double largestRank = 0;               // the most elements a rank answers for
};

/// Which site holds which share of an island's parameters, and the most that
/// one rank pushes: every element has one owner, the replicas of a stage share
/// them only with `optimizer_sharding`.
Member memberOf(const Problem &problem, const Island &island) {
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
    member.largestRank =
        std::max(member.largestRank,
                 elements / owners / static_cast<double>(group.tensorParallel));
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
    for (const Island &island : strategy.islands)
      members.push_back(memberOf(problem, island));
    fragments = static_cast<double>(server.fragments);
    elements = problem.model.trainableCount() / fragments;
    bytes = elements * bytesPerElement(server.compression);
  }

  Synchronisation run() {
    Synchronisation result;
    // Fragments at one place cost alike.
    std::map<std::pair<std::string, std::string>, double> places;
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
           kTlsSecondsPerByte;
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
