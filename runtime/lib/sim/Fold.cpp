//===- Fold.cpp - ranks that behave alike are simulated once------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Fold.h"

#include "tombolo/runtime/plan/Instructions.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

namespace tombolo::runtime::sim {

using namespace plan::v1;

namespace {

std::uint64_t mix(std::uint64_t x) { // splitmix64
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}
std::uint64_t join(std::uint64_t a, std::uint64_t b) {
  return mix(a * 3 + mix(b));
}

/// Two collectives with equal keys have the same groups.
std::vector<std::uint64_t> signatureOf(const Collective &collective) {
  std::vector<std::uint64_t> key{
      static_cast<std::uint64_t>(collective.group())};
  key.insert(key.end(), collective.stages().begin(), collective.stages().end());
  return key;
}

} // namespace

Fold::Fold(const Plan &plan, std::uint32_t island, const Places &places,
           const FoldOptions &options)
    : plan(plan), island(island), places(places),
      ranks(plan.islands(static_cast<int>(island))) {
  for (std::uint64_t rank = 0; rank < ranks.rankCount(); ++rank) {
    coordinates.push_back(ranks.coordinates(rank));
    const Place &place = places.of(island, rank);
    cards[place.card].push_back(rank);
    if (place.core != Place::kOwnCore)
      cores[place.core].push_back(rank);
    std::uint32_t number = coordinates.back().program;
    if (transfers.contains(number))
      continue;
    auto &distinct = transfers[number];
    auto &groupings = collectives[number];
    std::set<std::string> seen;
    std::set<std::vector<std::uint64_t>> signatures;
    auto look = [&](const Instruction &i) {
      if (i.has_collective()) {
        if (signatures.insert(signatureOf(i.collective())).second)
          groupings.push_back(&i.collective());
        return;
      }
      if (!i.has_send() && !i.has_receive())
        return;
      const Transfer &transfer = i.has_send() ? i.send() : i.receive();
      std::string key = std::to_string(i.has_send()) + " " +
                        std::to_string(transfer.stage()) + " " +
                        (transfer.has_tensor_index()
                             ? transfer.tensor_index().SerializeAsString()
                             : "own");
      if (seen.insert(key).second)
        distinct.push_back({&transfer, i.has_send()});
    };
    const Program &program = plan.programs(static_cast<int>(number));
    forEachInstruction(program.step(), look);
    forEachInstruction(program.finish(), look);
  }
  refine(options);
  makeResources();
}

/// The replica's own microbatches that tell it apart: those of one period of all
/// stages' turns, and those behind the last whole one.
std::vector<std::uint64_t> Fold::localsToTell(std::uint32_t stage,
                                              std::uint64_t replica) const {
  std::uint64_t total = ranks.microbatches(), period = 1;
  for (std::uint32_t s = 0; s < ranks.stageCount() && period < total; ++s) {
    std::uint64_t turn = ranks.deal(s).turn();
    if (__builtin_mul_overflow(period, turn / std::gcd(period, turn), &period))
      period = total;
  }
  period = std::min(period, total);
  const Deal &deal = ranks.deal(stage);
  std::uint64_t own = deal.count(replica, total);
  std::uint64_t first = deal.count(replica, period);
  std::uint64_t tail = deal.count(replica, total / period * period);
  std::vector<std::uint64_t> locals(first);
  std::iota(locals.begin(), locals.end(), 0);
  for (std::uint64_t i = std::max(first, tail); i < own; ++i)
    locals.push_back(i);
  return locals;
}

/// Which of several transfers of a rank, one after the other, is the one from
/// or to `partner`: where degrees of stages differ, ranks that are alike
/// otherwise take their turns at one of the other side.
std::uint64_t Fold::turnAt(std::uint64_t rank, std::uint64_t local,
                           std::uint64_t partner, bool partnerSends) const {
  const RankCoordinates &at = coordinates[rank];
  const RankCoordinates &from = coordinates[partner];
  std::uint64_t turn = 0;
  for (const Moved &moved : transfers.at(at.program)) {
    if (moved.sends == partnerSends || moved.transfer->stage() != from.stage)
      continue;
    if (ranks.peer(at, *moved.transfer, local) == partner)
      break;
    ++turn;
  }
  return turn;
}

Fold::Colours Fold::refined(const Colours &colours) {
  std::uint64_t count = ranks.rankCount();
  Colours next(count);
  // Who shares a card or a core, in any order.
  std::unordered_map<std::uint64_t, std::uint64_t> cardColours, coreColours;
  for (const auto &[card, on] : cards)
    for (std::uint64_t rank : on)
      cardColours[card] += mix(colours[rank]);
  for (const auto &[core, on] : cores)
    for (std::uint64_t rank : on)
      coreColours[core] += mix(colours[rank]);
  // By kind of group and group: the members in any order, and how they lie on
  // nodes.
  std::map<std::vector<std::uint64_t>,
           std::map<GroupKey, std::pair<std::uint64_t, std::uint64_t>>>
      groupColours;
  std::unordered_map<std::uint64_t, std::uint64_t> nodeColours;
  for (std::uint64_t rank = 0; rank < count; ++rank)
    for (const Collective *collective :
         collectives.at(coordinates[rank].program)) {
      auto &[sum, lastNode] = groupColours[signatureOf(*collective)][groupKey(
          coordinates[rank], *collective)];
      sum += mix(colours[rank]);
      std::uint64_t node = places.of(island, rank).node + 1;
      if (lastNode != node)
        sum += mix(colours[rank] ^ 0x6e6f6465); // the first on its node
      lastNode = node;
    }
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::vector<std::uint64_t>>
      locals;
  for (std::uint64_t rank = 0; rank < count; ++rank) {
    const RankCoordinates &at = coordinates[rank];
    const Place &place = places.of(island, rank);
    std::uint64_t colour = join(colours[rank], cardColours[place.card]);
    if (auto core = coreColours.find(place.core); core != coreColours.end())
      colour = join(colour, core->second);
    auto [tell, fresh] = locals.try_emplace({at.stage, at.replica});
    if (fresh) {
      tell->second = localsToTell(at.stage, at.replica);
      if (locals.size() > 4) // ranks come by replica
        locals.erase(locals.begin()->first == tell->first
                         ? std::prev(locals.end())
                         : locals.begin());
    }
    for (const Moved &moved : transfers.at(at.program))
      for (std::uint64_t local : tell->second) {
        const Transfer &transfer = *moved.transfer;
        std::uint64_t other = ranks.peer(at, transfer, local);
        std::uint64_t j = ranks.deal(at.stage).microbatch(at.replica, local);
        std::uint64_t otherLocal = ranks.deal(transfer.stage()).place(j).local;
        const Place &there = places.of(island, other);
        colour = join(colour, colours[other]);
        colour = join(colour, otherLocal);
        colour = join(colour, turnAt(other, otherLocal, rank, moved.sends));
        colour = join(colour, there.node == place.node ? ~there.pool
                                                       : there.pool);
      }
    for (const Collective *collective : collectives.at(at.program))
      colour = join(colour, groupColours.at(signatureOf(*collective))
                                .at(groupKey(at, *collective))
                                .first);
    next[rank] = colour;
  }
  return next;
}

void Fold::refine(const FoldOptions &options) {
  std::uint64_t count = ranks.rankCount();
  Colours colours(count);
  for (std::uint64_t rank = 0; rank < count; ++rank) {
    const RankCoordinates &at = coordinates[rank];
    std::uint64_t colour =
        join(join(at.stage, at.group), places.of(island, rank).pool);
    if (!options.fold)
      colour = join(colour, rank);
    else if (options.keepReplicas)
      colour = join(colour, at.replica);
    if (!options.slowdowns.empty())
      colour = join(colour, static_cast<std::uint64_t>(
                                options.slowdowns[island][rank] * 1e6));
    colours[rank] = colour;
  }
  auto number = [](const Colours &colours) {
    return std::set<std::uint64_t>(colours.begin(), colours.end()).size();
  };
  // Each round tells at least as many apart; when it tells no more the
  // partition is equitable.
  for (std::size_t known = number(colours); known < count;) {
    Colours next = refined(colours);
    std::size_t now = number(next);
    if (now == known)
      break;
    colours = std::move(next);
    known = now;
  }
  makeClasses(colours, options);
}

void Fold::makeClasses(const Colours &colours, const FoldOptions &options) {
  std::unordered_map<std::uint64_t, std::uint32_t> numbers;
  for (std::uint64_t rank = 0; rank < ranks.rankCount(); ++rank) {
    auto [entry, fresh] = numbers.try_emplace(
        colours[rank], static_cast<std::uint32_t>(classList.size()));
    if (fresh) {
      RankClass one;
      one.rank = rank;
      one.at = coordinates[rank];
      if (!options.slowdowns.empty())
        one.slowdown = options.slowdowns[island][rank];
      classList.push_back(one);
    }
    classIndex.push_back(entry->second);
    ++classList[entry->second].count;
  }
}

std::unordered_map<std::uint64_t, std::uint32_t>
Fold::makeShared(const RanksOn &shared, std::uint32_t width) {
  // Those with the same numbers of ranks of each class are one.
  std::map<std::vector<std::uint32_t>, std::uint32_t> known;
  std::vector<std::uint64_t> order;
  for (const auto &[number, on] : shared)
    order.push_back(number);
  std::sort(order.begin(), order.end());
  std::unordered_map<std::uint64_t, std::uint32_t> resourceOf;
  for (std::uint64_t number : order) {
    std::vector<std::uint32_t> on;
    for (std::uint64_t rank : shared.at(number))
      on.push_back(classIndex[rank]);
    std::sort(on.begin(), on.end());
    auto [entry, fresh] = known.try_emplace(std::move(on), resources);
    if (fresh)
      resources += width;
    resourceOf[number] = entry->second;
  }
  return resourceOf;
}

void Fold::makeResources() {
  for (RankClass &one : classList) {
    one.intraSend = resources++;
    one.intraReceive = resources++;
  }
  cardResource = makeShared(cards, 2);
  coreResource = makeShared(cores, 1);
  for (std::uint32_t c = 0; c < classList.size(); ++c) {
    RankClass &one = classList[c];
    addCore(one.rank, one.core);
    one.coreRate = places.coreRate(places.of(island, one.rank).pool);
  }
  lineResource = resources;
  resources +=
      2 * static_cast<std::uint32_t>(places.topology().lines_size());
  paths.resize(classList.size());
  groups.resize(classList.size());
  const Place &first = places.of(island, 0);
  for (std::uint64_t rank = 0; rank < ranks.rankCount(); ++rank)
    crossesLines |= places.of(island, rank).site != first.site;
}

std::uint64_t Fold::countOf(std::uint32_t ofClass,
                            const std::vector<std::uint64_t> &on) const {
  std::uint64_t count = 0;
  for (std::uint64_t rank : on)
    count += classIndex[rank] == ofClass;
  return count;
}

/// What one byte per second from one rank to another uses.
void Fold::addEdge(std::uint64_t from, std::uint64_t to, Path &path) {
  const Place &a = places.of(island, from), &b = places.of(island, to);
  Way way = places.way(a, b);
  if (way.kind == Way::IntraNode) {
    path.push_back({classList[classIndex[from]].intraSend, 1 / way.sendRate});
    path.push_back({classList[classIndex[to]].intraReceive, 1 / way.sendRate});
    return;
  }
  if (way.sendRate > 0)
    path.push_back({cardResource.at(a.card),
                    1 / (way.sendRate * places.cardsOfChip(a.pool))});
  if (way.receiveRate > 0)
    path.push_back({cardResource.at(b.card) + 1,
                    1 / (way.receiveRate * places.cardsOfChip(b.pool))});
  for (std::uint32_t direction : way.lines)
    path.push_back({lineResource + direction, 1});
}

/// What one byte per second takes of the core of a rank, if it is one of the
/// host: all of the class there send or receive at once.
void Fold::addCore(std::uint64_t rank, Path &path) const {
  const Place &at = places.of(island, rank);
  auto on = cores.find(at.core);
  if (on == cores.end())
    return;
  std::uint32_t resource = coreResource.at(at.core);
  double perByte = static_cast<double>(countOf(classIndex[rank], on->second)) /
                   places.coreRate(at.pool);
  for (Usage &usage : path)
    if (usage.resource == resource) { // both ends on one core, or on like ones
      usage.perByte += perByte;
      return;
    }
  path.push_back({resource, perByte});
}

const TransferPath &Fold::path(std::uint32_t from, std::uint64_t to) {
  auto [entry, fresh] = paths[from].try_emplace(to);
  TransferPath &path = entry->second;
  if (!fresh)
    return path;
  const RankClass &self = classList[from];
  const Place &a = places.of(island, self.rank), &b = places.of(island, to);
  Way way = places.way(a, b);
  path.latency = way.latency;
  path.onLines = way.kind == Way::Lines;
  if (way.kind == Way::Same)
    return path;
  if (way.kind == Way::IntraNode && !self.core.empty() &&
      places.messagesTakeCores())
    path.latencyBytes = way.latency * way.sendRate;
  addEdge(self.rank, to, path.path);
  // All of the class send at once.
  for (Usage &usage : path.path) {
    if (usage.resource >= lineResource)
      usage.perByte *= static_cast<double>(self.count);
    else if (usage.resource == cardResource.at(a.card))
      usage.perByte *= static_cast<double>(countOf(from, cards.at(a.card)));
    else if (usage.resource == cardResource.at(b.card) + 1)
      usage.perByte *=
          static_cast<double>(countOf(classIndex[to], cards.at(b.card)));
  }
  if (places.messagesTakeCores()) {
    addCore(self.rank, path.path);
    addCore(to, path.path);
  }
  return path;
}

double Fold::stepSeconds(std::uint32_t of) const {
  const Place &at = places.of(island, classList[of].rank);
  auto chip = static_cast<int>(places.pool(at.pool).chip());
  return places.topology().chips(chip).step_seconds();
}

GroupClass
Fold::makeGroup(const std::vector<std::vector<std::uint64_t>> &alike) {
  GroupClass result;
  result.number = madeGroups++;
  // Of wires inside nodes the least counts.
  double ringPart = 1e30, wireRate = 1e30;
  bool latencyIsWork = false;
  const std::vector<std::uint64_t> &first = alike.front();
  result.ranks = first.size();
  std::set<std::uint32_t> members;
  for (std::uint64_t rank : first)
    members.insert(classIndex[rank]);
  result.members.assign(members.begin(), members.end());
  if (first.size() < 2)
    return result;

  // A resource that stands for several is used by what is on one of them: of
  // all groups of the class, which do the same at once. Resources are told apart
  // by what they are of: a card, or the chip of a rank.
  using Instance = std::pair<std::uint32_t, std::uint64_t>;
  std::map<Instance, double> used[2]; // inside nodes, between them
  auto addRing = [&](int level, std::uint64_t from, std::uint64_t to,
                     std::vector<std::pair<Instance, Usage>> *own) {
    Path path;
    addEdge(from, to, path);
    for (const Usage &usage : path) {
      const Place &a = places.of(island, from), &b = places.of(island, to);
      std::uint64_t of = 0;
      if (usage.resource < lineResource) {
        bool receives = usage.resource == classList[classIndex[to]].intraReceive ||
                        usage.resource == cardResource.at(b.card) + 1;
        of = level == 0 ? (receives ? to : from)
                        : (receives ? b.card : a.card);
      }
      Instance instance{usage.resource, of};
      used[level][instance] += usage.perByte;
      if (own)
        own->push_back({instance, usage});
    }
    // A step of a ring is what its wire was measured with: the core sends,
    // receives and adds.
    const Place &sender = places.of(island, from);
    if (auto core = coreResource.find(sender.core);
        core != coreResource.end() && places.messagesTakeCores()) {
      Usage usage{core->second, 1 / places.coreRate(sender.pool)};
      Instance instance{usage.resource, sender.core};
      used[level][instance] += usage.perByte;
      if (own)
        own->push_back({instance, usage});
    }
  };
  std::vector<std::pair<Instance, Usage>> own[2];
  for (const std::vector<std::uint64_t> &group : alike) {
    std::vector<std::vector<std::uint64_t>> nodes;
    std::map<std::uint64_t, std::size_t> numbers;
    for (std::uint64_t rank : group) {
      auto [entry, fresh] = numbers.try_emplace(places.of(island, rank).node,
                                                nodes.size());
      if (fresh)
        nodes.emplace_back();
      nodes[entry->second].push_back(rank);
    }
    bool isFirst = &group == &alike.front();
    std::size_t fewest = nodes[0].size(), most = fewest;
    for (const auto &node : nodes) {
      fewest = std::min(fewest, node.size());
      most = std::max(most, node.size());
      for (std::size_t i = 0; node.size() > 1 && i < node.size(); ++i)
        addRing(0, node[i], node[(i + 1) % node.size()],
                isFirst ? &own[0] : nullptr);
    }
    for (std::size_t n = 0; nodes.size() > 1 && n < nodes.size(); ++n)
      for (std::size_t i = 0; i < fewest; ++i)
        addRing(1, nodes[n][i], nodes[(n + 1) % nodes.size()][i],
                isFirst ? &own[1] : nullptr);
    if (!isFirst)
      continue;
    result.nodes = nodes.size();
    result.perNode = fewest;
    result.mostPerNode = most;
    for (const auto &node : nodes)
      if (node.size() > 1) {
        Way way =
            places.way(places.of(island, node[0]), places.of(island, node[1]));
        ringPart = std::min(ringPart, way.ringPart);
        result.intraLatency = std::max(result.intraLatency, way.ringLatency);
        wireRate = std::min(wireRate, way.sendRate);
        latencyIsWork |= places.messagesTakeCores() &&
                         !classList[classIndex[node[0]]].core.empty();
      }
    for (std::size_t n = 0; nodes.size() > 1 && n < nodes.size(); ++n)
      result.interLatency = std::max(
          result.interLatency,
          places
              .way(places.of(island, nodes[n][0]),
                   places.of(island, nodes[(n + 1) % nodes.size()][0]))
              .latency);
  }
  for (int level : {0, 1}) {
    std::map<std::uint32_t, double> worst;
    for (const auto &[instance, usage] : own[level])
      worst[usage.resource] =
          std::max(worst[usage.resource], used[level][instance]);
    Path &path = level == 0 ? result.intra : result.inter;
    for (const auto &[resource, perByte] : worst)
      path.push_back({resource, perByte});
  }
  if (!result.intra.empty())
    result.ringPart = ringPart;
  if (latencyIsWork)
    result.latencyBytes = result.intraLatency * wireRate;
  return result;
}

const GroupClass &Fold::group(std::uint32_t of, const Collective &collective) {
  std::shared_ptr<const GroupClass> &known = groups[of][&collective];
  if (known)
    return *known;
  std::vector<std::uint64_t> signature = signatureOf(collective);
  // An equal one of another instruction.
  for (const auto &[other, made] : groups[of])
    if (made && signatureOf(*other) == signature)
      return *(known = made);
  // All groups of this kind, those alike in their classes together.
  std::map<GroupKey, std::vector<std::uint64_t>> instances;
  for (std::uint64_t rank = 0; rank < ranks.rankCount(); ++rank)
    for (const Collective *other : collectives.at(coordinates[rank].program))
      if (signatureOf(*other) == signature) {
        instances[groupKey(coordinates[rank], *other)].push_back(rank);
        break;
      }
  std::map<std::vector<std::uint32_t>, std::vector<std::vector<std::uint64_t>>>
      alike;
  for (auto &[key, members] : instances) {
    std::vector<std::uint32_t> shape;
    for (std::uint64_t rank : members)
      shape.push_back(classIndex[rank]);
    std::sort(shape.begin(), shape.end());
    alike[std::move(shape)].push_back(std::move(members));
  }
  for (const auto &[shape, all] : alike) {
    auto made = std::make_shared<const GroupClass>(makeGroup(all));
    for (std::uint32_t member : made->members)
      for (const Collective *other :
           collectives.at(classList[member].at.program))
        if (signatureOf(*other) == signature)
          groups[member][other] = made;
  }
  return *(groups[of][&collective] = groups[of].at([&] {
    for (const Collective *other : collectives.at(classList[of].at.program))
      if (signatureOf(*other) == signature)
        return other;
    return &collective;
  }()));
}

} // namespace tombolo::runtime::sim
