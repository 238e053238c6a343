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

namespace tombolo::runtime::sim {

using namespace plan::v1;

namespace {

/// What a site's servers together take in and give out.
double serverRate(const Topology::Site &site) {
  constexpr double kNoLimit = 1e30;
  return site.has_server_bytes_per_second() ? site.server_bytes_per_second()
                                            : kNoLimit;
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
          for (std::uint32_t direction : done->directions)
            hooks.traceLine(direction);
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
  downServers.resize(static_cast<std::size_t>(topology.sites_size()));

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

/// Bytes from site to site; `in` and `out`: through the server that is there.
void Exchange::flow(std::uint32_t from, std::uint32_t to, double bytes, bool in,
                    bool out, std::function<void()> done) {
  auto what = std::make_unique<Moving>();
  // Where every way is down it waits on the one it would take.
  auto route = places.route(from, to, downLines);
  if (!route)
    route = places.route(from, to);
  if (route)
    what->directions = *route;
  for (std::uint32_t direction : what->directions)
    what->path.push_back({direction, 1});
  if (in)
    what->path.push_back({firstServer + 2 * to, 1});
  if (out)
    what->path.push_back({firstServer + 2 * from + 1, 1});
  what->done = std::move(done);
  double latency = places.latencyOf(what->directions);
  hooks.crossed(what->directions, bytes);
  std::uint32_t number =
      network.start(hooks.now(), what->path, bytes, latency);
  if (number >= moving.size())
    moving.resize(number + 1);
  moving[number] = std::move(what);
  for (std::uint32_t direction : moving[number]->directions)
    hooks.traceLine(direction);
}

void Exchange::push(std::uint32_t island, std::uint32_t f,
                    std::uint32_t ofClass) {
  Member &member = members[island];
  ++member.classes[f];
  double bytes = pushed[island][ofClass][f];
  if (bytes > 0) {
    ++member.flows[f];
    flow(classSites[island][ofClass], fragments[f].primary, bytes, true, false,
         [this, island, f, incarnation = member.incarnation] {
           if (members[island].incarnation != incarnation)
             return;
           --members[island].flows[f];
           arrived(island, f);
         });
  }
  arrived(island, f);
}

void Exchange::arrived(std::uint32_t island, std::uint32_t f) {
  Member &member = members[island];
  if (member.flows[f] > 0 || member.classes[f] < pushed[island].size())
    return;
  member.classes[f] = 0;
  const Fragment &fragment = fragments[f];
  if (!fragment.backup || *fragment.backup == fragment.primary) {
    committed(island, f);
    return;
  }
  flow(fragment.primary, *fragment.backup, fragment.bytes, true, true,
       [this, island, f, incarnation = member.incarnation] {
         if (members[island].incarnation == incarnation)
           committed(island, f);
       });
}

void Exchange::committed(std::uint32_t island, std::uint32_t f) {
  Fragment &fragment = fragments[f];
  bool isFirst = std::none_of(fragment.committed.begin(),
                              fragment.committed.end(), [](bool c) { return c; });
  fragment.committed[island] = true;
  hooks.commit(island, f);
  if (isFirst && plan.server().deadline_seconds() > 0)
    hooks.at(hooks.now() + plan.server().deadline_seconds(),
             [this, f, round = fragment.round] {
               if (fragments[f].round == round && !fragments[f].closing)
                 tryClose(f, true);
             });
  tryClose(f);
}

/// A round closes when every live island has committed, or `deadline_seconds`
/// after the first has if a quorum has.
void Exchange::tryClose(std::uint32_t f, bool overdue) {
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
  if (in.empty() || (!all && !(overdue && in.size() >= plan.server().quorum())))
    return;
  fragment.closing = true;
  std::fill(fragment.committed.begin(), fragment.committed.end(), false);
  double pass =
      fragment.bytes /
      serverRate(plan.topology().sites(static_cast<int>(fragment.primary)));
  auto published = [this, f, in] { publish(f, in); };
  hooks.at(hooks.now() + pass, [this, f, published] {
    Fragment &fragment = fragments[f];
    if (fragment.backup && *fragment.backup != fragment.primary)
      flow(fragment.primary, *fragment.backup, fragment.bytes, true, true,
           published);
    else
      published();
  });
}

void Exchange::publish(std::uint32_t f, std::vector<std::uint32_t> in) {
  Fragment &fragment = fragments[f];
  fragment.closing = false;
  ++fragment.round;
  hooks.traceRound("version " + std::to_string(fragment.round) +
                   " of fragment " + std::to_string(f));
  for (std::uint32_t island : in)
    if (members[island].there)
      send(f, island);
  tryClose(f);
}

/// The version to each site of an island, once.
void Exchange::send(std::uint32_t f, std::uint32_t island) {
  Member &member = members[island];
  auto left = std::make_shared<std::size_t>(member.sites.size());
  for (std::size_t s = 0; s < member.sites.size(); ++s)
    flow(fragments[f].primary, member.sites[s], pulled[island][s][f], false,
         true, [this, f, island, left, incarnation = member.incarnation] {
           if (--*left == 0 && members[island].incarnation == incarnation)
             hooks.receive(island, f);
         });
}

void Exchange::leave(std::uint32_t island) {
  Member &member = members[island];
  member.there = false;
  ++member.incarnation;
  std::fill(member.classes.begin(), member.classes.end(), 0);
  std::fill(member.flows.begin(), member.flows.end(), 0);
}

void Exchange::forget(std::uint32_t island) {
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
  auto left =
      std::make_shared<std::size_t>(member.sites.size() * fragments.size());
  for (std::uint32_t f = 0; f < fragments.size(); ++f)
    for (std::size_t s = 0; s < member.sites.size(); ++s)
      // The whole state, not an update: 4 bytes for each element.
      flow(fragments[f].primary, member.sites[s],
           pulled[island][s][f] * 4 /
               bytesPerElement(plan.server().compression()),
           false, true, [this, island, left, joined,
                         incarnation = member.incarnation] {
             if (--*left == 0 && members[island].incarnation == incarnation)
               joined();
           });
}

void Exchange::serverDown(std::uint32_t site, bool down) {
  downServers[site] += down ? 1 : -1u;
  double rate = downServers[site] > 0
                    ? 0
                    : serverRate(plan.topology().sites(static_cast<int>(site)));
  for (std::uint32_t side : {0, 1})
    network.setCapacity(firstServer + 2 * site + side, rate, hooks.now());
  if (!down)
    for (std::uint32_t f = 0; f < fragments.size(); ++f)
      tryClose(f);
}

void Exchange::lineCapacity(std::uint32_t direction, double bytesPerSecond) {
  network.setCapacity(direction, bytesPerSecond, hooks.now());
  hooks.traceLine(direction);
}

void Exchange::lineDown(std::uint32_t line, bool down) {
  downLines[line] = down;
}

} // namespace tombolo::runtime::sim
