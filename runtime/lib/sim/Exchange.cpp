//===- Exchange.cpp - pushes, rounds and versions-----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Exchange.h"

#include "HostWork.h"

#include <algorithm>
#include <map>
#include <utility>

namespace tombolo::runtime::sim {

using namespace plan::v1;

namespace {

/// What a site's servers together take in and give out.
double serverRate(const Topology::Site &site) {
  constexpr double kNoLimit = 1e30;
  return site.has_server_bytes_per_second() ? site.server_bytes_per_second()
                                            : kNoLimit;
}

/// What a server keeps of an element: the global state, the outer optimizer's
/// moments and the error feedback, in f32.
double bytesKept(const Server &server) {
  return server.outer().kind() == Server::Outer::KIND_ADAMW ? 16 : 12;
}

} // namespace

Exchange::Exchange(const Plan &plan, const Places &places,
                   const std::vector<Fold *> &folds, Hooks given)
    : plan(plan), places(places), hooks(std::move(given)),
      network([this](const Network::Timer &timer) {
        hooks.at(timer.time, [this, timer] {
          if (!network.wake(timer.flow, timer.version, hooks.now()))
            return;
          std::unique_ptr<Moving> done = std::move(moving[timer.flow]);
          for (std::uint32_t direction : done->move.directions)
            hooks.traceLine(direction);
          hooks.traceMove(done->move, true);
          done->done();
        });
      }) {
  const Topology &topology = plan.topology();
  for (const Topology::Line &line : topology.lines())
    for (int direction = 0; direction < 2; ++direction)
      network.addResource(line.bytes_per_second());
  firstServer = static_cast<std::uint32_t>(2 * topology.lines_size());
  for (const Topology::Site &site : topology.sites())
    for (int side = 0; side < 2; ++side)
      network.addResource(serverRate(site));
  downLines.resize(static_cast<std::size_t>(topology.lines_size()));
  lineFaults.resize(downLines.size());
  downServers.resize(static_cast<std::size_t>(topology.sites_size()));
  outages.resize(downServers.size());

  const Server &server = plan.server();
  double perElement = bytesPerElement(server.compression());
  std::size_t count = server.fragments();
  for (std::uint32_t f = 0; f < count; ++f) {
    Fragment &fragment = fragments.emplace_back();
    const Server::Placement &place = server.placements(static_cast<int>(f));
    fragment.primary = places.site(place.primary());
    if (!place.backup().empty())
      fragment.backup = places.site(place.backup());
    fragment.committed.resize(folds.size());
  }
  for (std::uint32_t i = 0; i < folds.size(); ++i) {
    Fold &fold = *folds[i];
    Member &member = members.emplace_back();
    member.classes.resize(count);
    member.flows.resize(count);
    member.awaits.resize(count);
    classSites.emplace_back();
    for (const RankClass &one : fold.classes())
      classSites[i].push_back(places.of(i, one.rank).site);
    auto &out = pushed.emplace_back(fold.classes().size(),
                                    std::vector<double>(count));
    std::map<std::uint32_t, std::vector<double>> bySite;
    forEachOwner(plan, fold,
                 [&](std::uint64_t rank, const std::vector<double> &elements) {
                   auto &here = bySite[places.of(i, rank).site];
                   here.resize(count);
                   for (std::size_t f = 0; f < count; ++f) {
                     double bytes = elements[f] * perElement;
                     out[fold.classOf(rank)][f] += bytes;
                     here[f] += bytes;
                     if (i == 0)
                       fragments[f].bytes += bytes;
                   }
                 });
    auto &in = pulled.emplace_back();
    for (auto &[site, bytes] : bySite) {
      member.sites.push_back(site);
      in.push_back(std::move(bytes));
    }
  }
}

void Exchange::flow(Move move, double bytes, bool in, bool out,
                    std::function<void()> done) {
  auto what = std::make_unique<Moving>();
  // Where every way is down it waits on the one it would take.
  auto route = places.route(move.from, move.to, downLines);
  if (!route)
    route = places.route(move.from, move.to);
  if (route)
    move.directions = *route;
  move.begun = hooks.now();
  for (std::uint32_t direction : move.directions)
    what->path.push_back({direction, 1});
  if (in)
    what->path.push_back({firstServer + 2 * move.to, 1});
  if (out)
    what->path.push_back({firstServer + 2 * move.from + 1, 1});
  what->move = std::move(move);
  what->done = std::move(done);
  const std::vector<std::uint32_t> &directions = what->move.directions;
  double latency = places.latencyOf(directions);
  hooks.crossed(directions, bytes);
  std::uint32_t number =
      network.start(hooks.now(), what->path, bytes, latency);
  if (number >= moving.size())
    moving.resize(number + 1);
  moving[number] = std::move(what);
  for (std::uint32_t direction : directions)
    hooks.traceLine(direction);
}

void Exchange::push(std::uint32_t island, std::uint32_t f,
                    std::uint32_t ofClass) {
  members[island].classes[f].push_back(ofClass);
  pushClass(island, f, ofClass);
  arrived(island, f);
}

void Exchange::pushClass(std::uint32_t island, std::uint32_t f,
                         std::uint32_t ofClass) {
  Member &member = members[island];
  double bytes = pushed[island][ofClass][f];
  if (bytes == 0)
    return;
  ++member.flows[f];
  flow({.kind = Kind::Push,
        .fragment = f,
        .from = classSites[island][ofClass],
        .to = fragments[f].primary,
        .island = island,
        .ofClass = ofClass},
       bytes, true, false, [this, island, f, incarnation = member.incarnation] {
         if (members[island].incarnation != incarnation)
           return;
         --members[island].flows[f];
         arrived(island, f);
       });
}

void Exchange::arrived(std::uint32_t island, std::uint32_t f) {
  Member &member = members[island];
  if (member.flows[f] > 0 || member.classes[f].size() < pushed[island].size())
    return;
  const Fragment &fragment = fragments[f];
  if (!fragment.copies()) {
    committed(island, f);
    return;
  }
  copy(f, [this, island, f, incarnation = member.incarnation] {
    if (members[island].incarnation == incarnation)
      committed(island, f);
  });
}

/// What the backup is to have, too: as much as a version.
void Exchange::copy(std::uint32_t f, std::function<void()> done) {
  const Fragment &fragment = fragments[f];
  flow({.kind = Kind::Copy,
        .fragment = f,
        .from = fragment.primary,
        .to = *fragment.backup},
       fragment.bytes, true, true, std::move(done));
}

void Exchange::committed(std::uint32_t island, std::uint32_t f) {
  Fragment &fragment = fragments[f];
  members[island].classes[f].clear();
  bool isFirst = std::none_of(fragment.committed.begin(),
                              fragment.committed.end(), [](bool c) { return c; });
  fragment.committed[island] = true;
  hooks.commit(island, f);
  if (isFirst && plan.server().deadline_seconds() > 0) {
    fragment.due = hooks.now() + plan.server().deadline_seconds();
    hooks.at(fragment.due, [this, f] { tryClose(f); });
  }
  tryClose(f);
}

/// A round closes when every live island has committed, or `deadline_seconds`
/// after the first has if a quorum has.
void Exchange::tryClose(std::uint32_t f) {
  Fragment &fragment = fragments[f];
  if (fragment.closing || downServers[fragment.primary] > 0)
    return;
  std::vector<std::uint32_t> in;
  bool all = true;
  for (std::uint32_t i = 0; i < members.size(); ++i) {
    if (fragment.committed[i])
      in.push_back(i);
    else
      all &= !members[i].live;
  }
  bool overdue = hooks.now() >= fragment.due;
  if (in.empty() || (!all && !(overdue && in.size() >= plan.server().quorum())))
    return;
  fragment.closing = true;
  fragment.in = std::move(in);
  std::fill(fragment.committed.begin(), fragment.committed.end(), false);
  double pass =
      fragment.bytes /
      serverRate(plan.topology().sites(static_cast<int>(fragment.primary)));
  hooks.at(hooks.now() + pass, [this, f, term = fragment.term] {
    Fragment &fragment = fragments[f];
    if (fragment.term != term)
      return;
    if (fragment.copies())
      copy(f, [this, f] { publish(f); });
    else
      publish(f);
  });
}

void Exchange::publish(std::uint32_t f) {
  Fragment &fragment = fragments[f];
  fragment.closing = false;
  ++fragment.round;
  hooks.traceRound("version " + std::to_string(fragment.round) +
                   " of fragment " + std::to_string(f));
  for (std::uint32_t island : fragment.in)
    if (members[island].there)
      send(f, island);
  tryClose(f);
}

/// The version to each site of an island, once.
void Exchange::send(std::uint32_t f, std::uint32_t island) {
  Member &member = members[island];
  member.awaits[f] = true;
  auto left = std::make_shared<std::size_t>(member.sites.size());
  for (std::size_t s = 0; s < member.sites.size(); ++s)
    flow({.kind = Kind::Version,
          .fragment = f,
          .from = fragments[f].primary,
          .to = member.sites[s],
          .island = island},
         pulled[island][s][f], false, true,
         [this, f, island, left, incarnation = member.incarnation] {
           if (--*left > 0 || members[island].incarnation != incarnation)
             return;
           members[island].awaits[f] = false;
           hooks.receive(island, f);
         });
}

void Exchange::leave(std::uint32_t island) {
  Member &member = members[island];
  member.there = false;
  ++member.incarnation;
  for (std::vector<std::uint32_t> &classes : member.classes)
    classes.clear();
  std::fill(member.flows.begin(), member.flows.end(), 0);
  std::fill(member.awaits.begin(), member.awaits.end(), false);
  member.joined = nullptr;
}

void Exchange::forget(std::uint32_t island) {
  if (members[island].there)
    return; // it is back before its lease has run out
  members[island].live = false;
  for (std::uint32_t f = 0; f < fragments.size(); ++f)
    tryClose(f);
}

void Exchange::finish(std::uint32_t island) {
  members[island].there = false;
  forget(island);
}

void Exchange::join(std::uint32_t island, std::function<void()> joined) {
  Member &member = members[island];
  member.live = member.there = true;
  ++member.incarnation;
  member.joined = std::move(joined);
  std::fill(member.awaits.begin(), member.awaits.end(), false);
  auto left =
      std::make_shared<std::size_t>(member.sites.size() * fragments.size());
  for (std::uint32_t f = 0; f < fragments.size(); ++f)
    for (std::size_t s = 0; s < member.sites.size(); ++s)
      // The whole state, not an update: 4 bytes for each element.
      flow({.kind = Kind::State,
            .fragment = f,
            .from = fragments[f].primary,
            .to = member.sites[s],
            .island = island},
           pulled[island][s][f] * 4 /
               bytesPerElement(plan.server().compression()),
           false, true, [this, island, left, incarnation = member.incarnation] {
             if (--*left == 0 && members[island].incarnation == incarnation)
               std::exchange(members[island].joined, nullptr)();
           });
}

void Exchange::setServer(std::uint32_t site) {
  double rate = downServers[site] > 0
                    ? 0
                    : serverRate(plan.topology().sites(static_cast<int>(site)));
  for (std::uint32_t side : {0, 1})
    network.setCapacity(firstServer + 2 * site + side, rate, hooks.now());
}

void Exchange::serverFails(std::uint32_t site) {
  if (++downServers[site] > 1)
    return;
  setServer(site);
  for (std::uint32_t f = 0; f < fragments.size(); ++f)
    if (fragments[f].primary == site || fragments[f].backup == site)
      cancel(f, Kind::Recovery);
  // The epoch: two round trips to who votes, as long as to the other one.
  double latency = 0;
  for (const Fragment &fragment : fragments)
    if (fragment.backup)
      if (auto route = places.route(fragment.primary, *fragment.backup))
        latency = std::max(latency, places.latencyOf(*route));
  ++outages[site];
  willMiss(site, kMissedSeconds + 4 * latency);
}

void Exchange::serverIsBack(std::uint32_t site) {
  if (--downServers[site] > 0)
    return;
  setServer(site);
  for (std::uint32_t f = 0; f < fragments.size(); ++f) {
    Fragment &one = fragments[f];
    // What one has made alone the other gets when both are there.
    if (one.alone && downServers[one.primary] == 0 &&
        downServers[*one.backup] == 0)
      recover(f);
    tryClose(f);
  }
  // Who is back misses one that is still away.
  for (std::uint32_t other = 0; other < downServers.size(); ++other)
    if (downServers[other] > 0)
      willMiss(other, kMissedSeconds);
}

void Exchange::willMiss(std::uint32_t site, double after) {
  hooks.at(hooks.now() + after, [this, site, outage = outages[site]] {
    if (downServers[site] > 0 && outages[site] == outage)
      isMissed(site);
  });
}

void Exchange::isMissed(std::uint32_t site) {
  bool any = false;
  for (std::uint32_t f = 0; f < fragments.size(); ++f) {
    Fragment &fragment = fragments[f];
    if (!fragment.copies())
      continue;
    if (*fragment.backup == site && downServers[fragment.primary] == 0) {
      goOnAlone(f);
    } else if (fragment.primary == site && downServers[*fragment.backup] == 0) {
      takeOver(f);
      any = true;
    }
  }
  if (!any)
    return;
  // Who pulls everything begins again.
  for (std::uint32_t f = 0; f < fragments.size(); ++f)
    cancel(f, Kind::State);
  for (std::uint32_t i = 0; i < members.size(); ++i)
    if (members[i].joined)
      join(i, std::move(members[i].joined));
  hooks.say("the backup of the server at " +
            plan.topology().sites(static_cast<int>(site)).name() +
            " takes over");
}

std::vector<std::function<void()>> Exchange::cancel(std::uint32_t f,
                                                    std::optional<Kind> kind) {
  std::vector<std::function<void()>> undone;
  for (std::uint32_t number = 0; number < moving.size(); ++number) {
    if (!moving[number] || moving[number]->move.fragment != f ||
        (kind && moving[number]->move.kind != *kind))
      continue;
    network.cancel(number, hooks.now());
    std::unique_ptr<Moving> cut = std::move(moving[number]);
    for (std::uint32_t direction : cut->move.directions)
      hooks.traceLine(direction);
    hooks.traceMove(cut->move, false);
    undone.push_back(std::move(cut->done));
  }
  return undone;
}

/// What waits to be copied counts.
void Exchange::goOnAlone(std::uint32_t f) {
  fragments[f].alone = true;
  for (const std::function<void()> &done : cancel(f, Kind::Copy))
    done();
}

/// A backup that was away has forgotten what it had (docs/Server.md), and takes
/// part when it has all.
void Exchange::recover(std::uint32_t f) {
  cancel(f, Kind::Recovery);
  const Fragment &fragment = fragments[f];
  flow({.kind = Kind::Recovery,
        .fragment = f,
        .from = fragment.primary,
        .to = *fragment.backup},
       fragment.bytes * bytesKept(plan.server()) /
           bytesPerElement(plan.server().compression()),
       true, true, [this, f] { fragments[f].alone = false; });
}

/// What is committed is there; what was on its way begins again.
void Exchange::takeOver(std::uint32_t f) {
  Fragment &fragment = fragments[f];
  std::swap(fragment.primary, *fragment.backup);
  fragment.alone = true;
  ++fragment.term;
  cancel(f);
  if (std::exchange(fragment.closing, false))
    for (std::uint32_t island : fragment.in)
      fragment.committed[island] = true;
  for (std::uint32_t i = 0; i < members.size(); ++i) {
    Member &member = members[i];
    if (member.joined)
      continue;
    if (member.awaits[f])
      send(f, i);
    member.flows[f] = 0;
    for (std::uint32_t ofClass : member.classes[f])
      pushClass(i, f, ofClass);
    if (!member.classes[f].empty())
      arrived(i, f);
  }
  tryClose(f);
}

void Exchange::lineCapacity(std::uint32_t direction, double bytesPerSecond) {
  network.setCapacity(direction, bytesPerSecond, hooks.now());
  hooks.traceLine(direction);
}

void Exchange::setLine(std::uint32_t line, int more) {
  lineFaults[line] += more;
  downLines[line] = lineFaults[line] > 0;
}

} // namespace tombolo::runtime::sim
