//===- RowMixes.cpp - which pools hold the stages of an island, and how ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "RowMixes.h"
#include "Infinity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tombolo::planning {

uint64_t MixPart::replicas() const {
  uint64_t all = 0;
  for (const Group &group : groups)
    all += group.replicas;
  return all;
}

uint64_t MixPart::turn() const {
  uint64_t all = 0;
  for (const Group &group : groups)
    all += group.replicas * group.share;
  return all;
}

RowMixes::RowMixes(const Problem &problem, const IslandPins &given)
    : problem(problem), pins(given), islandPools(poolsOf(problem, given)) {
  auto pinned = pins.schedule ? pins.schedule : problem.bounds.schedule;
  waitsForRounds = pinned && *pinned != Schedule::GPipe;
  counts.assign(problem.model.kinds.size(), 0);
  for (const BlockRun &run : problem.model.runs)
    counts[run.kind] += static_cast<double>(run.count);
  if (islandPools.empty())
    return;
  const std::vector<double> &seconds = secondsOf(1, 0, 1).all;
  for (size_t k = 0; k < counts.size(); ++k)
    if (counts[k] * seconds[k] > counts[mainKind] * seconds[mainKind])
      mainKind = k;
}

const KindSeconds &RowMixes::secondsOf(uint64_t microbatch, size_t pool,
                                       uint64_t degree) {
  auto [entry, isNew] = kindSeconds.try_emplace({microbatch, pool, degree});
  if (!isNew)
    return entry->second;
  const IslandPool &choice = islandPools[pool];
  Transfer wire =
      insideReplicas(problem.topology, {choice.name, 0, degree}, degree);
  for (size_t kind = 0; kind < problem.model.kinds.size(); ++kind) {
    StageTimes one = blockSeconds(problem, {{kind, 1}}, *choice.chip,
                                  static_cast<double>(microbatch), Recompute(),
                                  {degree, wire});
    double all = one.forward + one.backward;
    entry->second.all.push_back(all);
    entry->second.onTheWay.push_back(all - one.late);
  }
  return entry->second;
}

/// Which pools to use: every set of up to five; of more all, all but one, each
/// alone. An island uses every site that it is given.
std::vector<std::vector<uint32_t>> RowMixes::poolSets() const {
  constexpr size_t kEverySet = 5;
  size_t count = islandPools.size();
  std::vector<std::vector<uint32_t>> sets;
  auto add = [&](auto isIn) {
    std::vector<uint32_t> set;
    size_t sites = 0;
    for (const std::string &site : pins.sites) {
      bool used = false;
      for (uint32_t i = 0; i < count; ++i)
        if (isIn(i) && splitPool(islandPools[i].name).first == site) {
          set.push_back(i);
          used = true;
        }
      sites += used;
    }
    if (sites == pins.sites.size())
      sets.push_back(std::move(set));
  };
  if (count <= kEverySet) {
    for (size_t bits = (size_t(1) << count) - 1; bits > 0; --bits)
      add([&](size_t i) { return bits >> i & 1; });
    return sets;
  }
  add([](size_t) { return true; });
  for (size_t i = 0; i < count; ++i) {
    add([&](size_t other) { return other != i; });
    add([&](size_t other) { return other == i; });
  }
  return sets;
}

/// Each set with every pool for itself, and with any two of one site that are
/// joined side by side.
std::vector<std::vector<RowMixes::Lane>> RowMixes::laneSets() const {
  std::vector<std::vector<Lane>> sets;
  for (const std::vector<uint32_t> &set : poolSets()) {
    std::vector<Lane> &alone = sets.emplace_back();
    for (uint32_t pool : set)
      alone.push_back({pool});
    for (size_t a = 0; a < set.size(); ++a)
      for (size_t b = a + 1; b < set.size(); ++b) {
        const std::string &one = islandPools[set[a]].name;
        const std::string &other = islandPools[set[b]].name;
        if (splitPool(one).first != splitPool(other).first ||
            !problem.topology.wireBetween(one, other))
          continue;
        std::vector<Lane> &lanes = sets.emplace_back();
        for (uint32_t pool : set)
          if (pool == set[a])
            lanes.push_back({set[a], set[b]});
          else if (pool != set[b])
            lanes.push_back({pool});
      }
  }
  return sets;
}

void RowMixes::addParts(std::vector<MixPart::Group> groups, uint64_t degree,
                        uint64_t microbatch, uint64_t microbatches,
                        std::vector<MixPart> &parts) {
  MixPart part;
  part.degree = degree;
  part.stages = problem.model.blocks();
  part.groups = std::move(groups);
  uint64_t turn = part.turn(), replicas = part.replicas(), least = microbatches;
  for (MixPart::Group &group : part.groups) {
    const IslandPool &pool = islandPools[group.pool];
    part.stages =
        std::min(part.stages, pool.pool->chips() / degree / group.replicas);
    group.own = microbatches / turn * group.share;
    group.wire = insideReplicas(
        problem.topology, {pool.name, 0, group.replicas * degree}, degree);
    least = std::min(least, group.own);
  }
  if (part.stages == 0)
    return;
  auto unitOf = [&](const MixPart::Group &group) {
    return static_cast<double>(group.own - 1) *
           secondsOf(microbatch, group.pool, degree).all[mainKind];
  };
  std::ranges::stable_sort(part.groups, std::greater<>(), unitOf);
  part.seconds = &secondsOf(microbatch, part.groups.front().pool, degree);
  part.unit = unitOf(part.groups.front());

  MemoryUse use =
      memoryUse(problem, {{mainKind, 1}}, static_cast<double>(microbatch), 0,
                {Recompute::Full, 0}, true, true,
                {degree, shardsOptimizer(problem, replicas) ? replicas : 1});
  double kept = use.parameters + use.gradients + use.optimizerState;
  double most = 1e6;
  double exposed = 1; // part of the reduction, at least
  std::vector<ChipRange> ranges;
  for (const MixPart::Group &group : part.groups) {
    const IslandPool &pool = islandPools[group.pool];
    most = std::min(most,
                    availableBytes(problem, *pool.chip) / std::max(1.0, kept));
    ranges.push_back({pool.name, 0, group.replicas * degree});
    exposed = std::min(exposed, pool.chip->overheads.exposedReduction);
  }
  part.most = static_cast<uint64_t>(most);
  if (part.most == 0)
    return;
  // Far more stages than microbatches are of use for memory alone.
  uint64_t needed = problem.model.blocks() / part.most + 1;
  part.stages = std::min(part.stages, kMostPerStage * std::max(needed, least));
  auto reduction = [&](double bytes) {
    return exposed * allReduceSeconds(problem.topology, ranges, bytes, degree);
  };
  part.tailLatency = reduction(0);
  part.tailPerByte = (reduction(1e9) - part.tailLatency) / 1e9;
  parts.push_back(part);
  // Fewer chips are slower and cheaper.
  if (problem.bounds.objective == Objective::Cost)
    for (uint64_t fewer = part.stages / 2; fewer > 0; fewer /= 2) {
      part.stages = fewer;
      parts.push_back(part);
    }
}

/// Shares and replicas under which all replicas take nearly as long for a turn,
/// and neither pool has many chips left when the other one is full.
void RowMixes::addSideBySide(const Lane &lane, uint64_t degree,
                             uint64_t microbatch,
                             const std::vector<uint64_t> &turns,
                             std::vector<MixPart> &parts) {
  uint64_t firstMost = islandPools[lane[0]].pool->chips() / degree;
  uint64_t secondMost = islandPools[lane[1]].pool->chips() / degree;
  double first = secondsOf(microbatch, lane[0], degree).all[mainKind];
  double second = secondsOf(microbatch, lane[1], degree).all[mainKind];
  auto isUsed = [](uint64_t chips, uint64_t of) {
    return static_cast<double>(chips) >= kLeastUsed * static_cast<double>(of);
  };
  double chips =
      static_cast<double>(secondMost) / static_cast<double>(firstMost);
  struct Way {
    double rate; // microbatches per second through a block of a stage
    std::vector<MixPart::Group> groups;
  };
  std::map<uint64_t, std::vector<Way>> ways; // by stages, the fastest first
  for (uint64_t a = 1; a <= kMostShare; ++a)
    for (uint64_t b = 1; b <= kMostShare; ++b) {
      double one = static_cast<double>(a) * first;
      double other = static_cast<double>(b) * second;
      if (std::gcd(a, b) != 1 || one > kNearlyEqual * other ||
          other > kNearlyEqual * one)
        continue;
      for (uint64_t turn : turns) {
        if (turn > kMaxPeriod)
          break;
        // Around as many of each as the pools have chips; of solutions every
        // b-th number is one.
        auto even = static_cast<uint64_t>(
            static_cast<double>(turn) /
            (static_cast<double>(a) + static_cast<double>(b) * chips));
        uint64_t reach = kMostNearby * b;
        for (uint64_t n = even > reach ? even - reach : 1;
             n <= even + reach && n * a < turn && n <= firstMost; ++n) {
          uint64_t m = (turn - n * a) / b;
          if (turn != n * a + m * b || m > secondMost)
            continue;
          uint64_t stages =
              std::min({firstMost / n, secondMost / m, problem.model.blocks()});
          if (!isUsed(n * stages, firstMost) || !isUsed(m * stages, secondMost))
            continue;
          std::vector<Way> &alike = ways[stages];
          Way way{static_cast<double>(turn) / std::max(one, other),
                  {{lane[0], n, a, 1, {}}, {lane[1], m, b, 1, {}}}};
          alike.insert(std::ranges::upper_bound(alike, way.rate,
                                                std::greater<>(), &Way::rate),
                       std::move(way));
          if (alike.size() > kMostAlike)
            alike.pop_back();
        }
      }
    }
  for (auto &[stages, alike] : ways)
    for (Way &way : alike)
      addParts(std::move(way.groups), degree, microbatch, turns.back(), parts);
}

/// `turns`: the divisors of the island's microbatches. Of turns no longer than
/// a schedule may have.
const std::vector<MixPart> &
RowMixes::partsOn(const Lane &lane, uint64_t microbatch,
                  const std::vector<uint64_t> &turns) {
  auto [entry, isNew] =
      partsByLane.try_emplace({microbatch, turns.back(), lane});
  std::vector<MixPart> &parts = entry->second;
  if (!isNew)
    return parts;
  const IslandPool &first = islandPools[lane[0]];
  for (uint64_t degree : first.degrees) {
    if (lane.size() == 1) {
      for (uint64_t replicas : turns)
        if (replicas <= kMaxPeriod && replicas <= first.pool->chips() / degree)
          addParts({{lane[0], replicas, 1, 1, {}}}, degree, microbatch,
                   turns.back(), parts);
    } else if (std::ranges::count(islandPools[lane[1]].degrees, degree)) {
      addSideBySide(lane, degree, microbatch, turns, parts);
    }
  }
  return parts;
}

/// Whether the turns of all stages end together soon enough.
static bool hasPeriod(const Mix &mix) {
  std::vector<uint64_t> turns;
  for (const MixPart *part : mix.parts)
    turns.push_back(part->turn());
  return periodOf(turns).has_value();
}

uint64_t RowMixes::add(uint64_t batch, uint64_t microbatch, double below,
                       std::vector<Mix> &mixes) {
  std::vector<uint64_t> turns = divisorsOf(batch / microbatch);
  uint64_t scored = 0;
  for (const std::vector<Lane> &lanes : laneSets()) {
    if (lanes.size() > problem.model.blocks())
      continue;
    std::vector<const std::vector<MixPart> *> choices;
    double all = 1;
    for (const Lane &lane : lanes) {
      choices.push_back(&partsOn(lane, microbatch, turns));
      all *= static_cast<double>(choices.back()->size());
    }
    bool alike = all > kMostMixes, sameDegree = false;
    if (alike) {
      double left = 0;
      for (const MixPart &first : *choices[0]) {
        double with = 1;
        for (size_t n = 1; n < choices.size(); ++n)
          with *= static_cast<double>(
              std::ranges::count(*choices[n], first.turn(), &MixPart::turn));
        left += with;
      }
      sameDegree = left > kMostMixes;
    }
    Mix mix;
    mix.microbatch = microbatch;
    auto choose = [&](auto &self, size_t n) -> void {
      if (n == choices.size()) {
        if (!hasPeriod(mix))
          return;
        mix.bound = boundOf(mix, batch, false);
        ++scored;
        if (mix.bound < below)
          mixes.push_back(mix);
        return;
      }
      for (const MixPart &part : *choices[n]) {
        if (alike && n > 0 && part.turn() != mix.parts[0]->turn())
          continue;
        if (sameDegree && n > 0 && part.degree != mix.parts[0]->degree)
          continue;
        mix.parts.push_back(&part);
        self(self, n + 1);
        mix.parts.pop_back();
      }
    };
    choose(choose, 0);
  }
  return scored;
}

/// The least sum + peak of the blocks of the main kind, each of so many
/// `seconds` on its microbatch's way, parts of blocks allowed: under a peak
/// every part takes what memory and the peak let it, the one on which a
/// microbatch is fastest first. The sum falls with the peak, and their total is
/// convex.
double
RowMixes::leastOfMainKind(const Mix &mix,
                          std::vector<double> KindSeconds::*seconds) const {
  struct Share {
    double seconds; // of a microbatch in a block
    double most;    // blocks in memory
    double perPeak; // blocks for each second of the peak
  };
  std::vector<Share> shares;
  double high = 0;
  for (const MixPart *part : mix.parts) {
    double n = static_cast<double>(part->stages);
    shares.push_back({(part->seconds->*seconds)[mainKind],
                      n * static_cast<double>(part->most),
                      part->unit > 0 ? n / part->unit : kInfinity});
    high = std::max(high, part->unit * counts[mainKind] / n);
  }
  std::sort(shares.begin(), shares.end(), [](const Share &a, const Share &b) {
    return a.seconds < b.seconds;
  });
  auto sum = [&](double peak) {
    double left = counts[mainKind], total = 0;
    for (const Share &share : shares) {
      double room =
          std::isinf(share.perPeak) ? kInfinity : peak * share.perPeak;
      double taken = std::min({left, share.most, room});
      total += taken * share.seconds;
      left -= taken;
    }
    return left > counts[mainKind] * 1e-9 ? kInfinity : total;
  };
  double low = 0;
  for (int i = 0; i < 60 && high - low > 1e-4 * high; ++i) {
    double a = low + (high - low) / 3, b = high - (high - low) / 3;
    double atA = sum(a) + a, atB = sum(b) + b;
    if (atA <= atB && atA < kInfinity)
      high = b;
    else
      low = a;
  }
  return sum(high) + low;
}

double RowMixes::boundOf(const Mix &mix, uint64_t batch, bool tight) const {
  double all = static_cast<double>(batch / mix.microbatch);
  // Where every block is the first of a stage, and where none is.
  double begun = 0, othersBegun = 0, inside = 0, othersInside = 0;
  double late = 0; // the most that no stage before waits for
  double dearest = 0;
  for (size_t kind = 0; kind < counts.size(); ++kind) {
    double fastest = kInfinity, first = kInfinity, cheapest = kInfinity;
    for (const MixPart *part : mix.parts) {
      double seconds = part->seconds->all[kind];
      double onTheWay = part->seconds->onTheWay[kind];
      fastest = std::min(fastest, seconds);
      first = std::min(first, onTheWay);
      late = std::max(late, seconds - onTheWay);
      // Every replica of a stage runs, some for less than a turn's part->
      cheapest = std::min(cheapest,
                          seconds * priceOf(*part) /
                              static_cast<double>(part->turn()) *
                              static_cast<double>(part->groups.front().share));
    }
    begun += counts[kind] * first;
    inside += counts[kind] * fastest;
    othersBegun += kind == mainKind ? 0 : counts[kind] * first;
    othersInside += kind == mainKind ? 0 : counts[kind] * fastest;
    dearest += counts[kind] * cheapest * all;
  }
  double blocks = counts[mainKind], rate = 0, held = 0, stages = 0,
         fewest = all;
  for (const MixPart *part : mix.parts) {
    double n = static_cast<double>(part->stages);
    rate += n / std::max(1e-300, part->unit);
    held += n * static_cast<double>(part->most);
    stages += n;
    fewest = std::min(fewest, static_cast<double>(part->groups.front().own));
  }
  stages = std::min(stages, static_cast<double>(problem.model.blocks()));
  if (held < blocks)
    return kInfinity;
  late *= stages - 1; // the first stage sends no gradient
  double sum = std::max(begun, inside - late);
  double bytes = 4 * problem.model.trainableCount() / stages;
  double tail = kInfinity;
  for (const MixPart *part : mix.parts)
    tail = std::min(tail,
                    part->tailLatency + part->tailPerByte * bytes /
                                            static_cast<double>(part->degree));
  double peak = blocks / rate;
  if (tight) {
    // The least peak under which stages of whole blocks hold all.
    auto holds = [&](double most) {
      double total = 0;
      for (const MixPart *part : mix.parts) {
        double each = static_cast<double>(part->most);
        if (part->unit > 0)
          each = std::min(each, std::floor(most / part->unit * (1 + 1e-9)));
        total += static_cast<double>(part->stages) * each;
      }
      return total >= blocks;
    };
    double low = peak, high = peak;
    for (int i = 0; i < 60 && !holds(high); ++i)
      high = std::max(high * 2, 1e-12);
    for (int i = 0; i < 40 && low < high * (1 - 1e-6); ++i) {
      double middle = (low + high) / 2;
      (holds(middle) ? high : low) = middle;
    }
    peak = high == peak ? peak : low;
  }
  if (waitsForRounds)
    peak = std::max(peak, (fewest - 1) * sum / stages);
  double seconds = sum + peak + tail;
  if (tight)
    seconds = std::max(
        {seconds,
         othersBegun + leastOfMainKind(mix, &KindSeconds::onTheWay) + tail,
         othersInside + leastOfMainKind(mix, &KindSeconds::all) - late + tail});
  if (problem.bounds.objective == Objective::Throughput)
    return seconds;
  return std::max(dearest, seconds * priceOf(mix));
}

double RowMixes::priceOf(const MixPart &part) const {
  double price = 0;
  for (const MixPart::Group &group : part.groups)
    price += islandPools[group.pool].chip->pricePerHour.value_or(1) *
             static_cast<double>(group.replicas * part.degree);
  return price;
}

double RowMixes::priceOf(const Mix &mix) const {
  double price = 0;
  for (const MixPart *part : mix.parts)
    price += priceOf(*part);
  return price;
}

bool RowMixes::joined(const MixPart &from, const MixPart &to) const {
  for (const MixPart::Group &a : from.groups)
    for (const MixPart::Group &b : to.groups)
      if (!problem.topology.joined(islandPools[a.pool].name,
                                   islandPools[b.pool].name))
        return false;
  return true;
}

std::vector<std::vector<size_t>> RowMixes::ordersOf(const Mix &mix) const {
  constexpr size_t kEveryOrder = 4;
  std::vector<std::vector<size_t>> orders;
  std::vector<size_t> order(mix.parts.size());
  std::iota(order.begin(), order.end(), size_t(0));
  // Whether two parts on one pool each could change names.
  auto areAlike = [&](const MixPart &one, const MixPart &other) {
    if (one.groups.size() != 1 || other.groups.size() != 1)
      return false;
    const IslandPool &a = islandPools[one.groups[0].pool];
    const IslandPool &b = islandPools[other.groups[0].pool];
    Pool renamed = *b.pool;
    renamed.name = a.pool->name;
    return renamed == *a.pool &&
           splitPool(a.name).first == splitPool(b.name).first &&
           one.groups[0].replicas == other.groups[0].replicas &&
           one.degree == other.degree && one.stages == other.stages;
  };
  auto add = [&] {
    for (size_t i = 0; i + 1 < order.size(); ++i)
      if (!joined(*mix.parts[order[i]], *mix.parts[order[i + 1]]))
        return;
    // Of like pools the first comes first.
    for (size_t i = 0; i < order.size(); ++i)
      for (size_t j = i + 1; j < order.size(); ++j) {
        const MixPart &a = *mix.parts[order[i]], &b = *mix.parts[order[j]];
        if (a.groups[0].pool > b.groups[0].pool && areAlike(a, b))
          return;
      }
    if (std::find(orders.begin(), orders.end(), order) == orders.end())
      orders.push_back(order);
  };
  if (order.size() <= kEveryOrder) {
    do
      add();
    while (std::next_permutation(order.begin(), order.end()));
    return orders;
  }
  add();
  std::reverse(order.begin(), order.end());
  add();
  auto room = [&](size_t index) {
    const MixPart &part = *mix.parts[index];
    return static_cast<double>(
               islandPools[part.groups[0].pool].chip->memoryBytes()) *
           part.seconds->all[mainKind];
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return room(a) > room(b); });
  add();
  std::reverse(order.begin(), order.end());
  add();
  return orders;
}

} // namespace tombolo::planning
