//===- Search.cpp - finding strategies ------------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Which sites are islands. Who gets how much of the batch is BatchShares's,
// what an island does with its sites and its batch IslandSearch's; the server's
// settings are ServerChoice's.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Search.h"
#include "BatchShares.h"
#include "Infinity.h"
#include "IslandSearch.h"
#include "SearchPins.h"
#include "ServerChoice.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <tuple>

namespace tombolo::planning {

/// Sites of which every subset is tried, and every way to join them.
static constexpr size_t kMaxSubsetSites = 6;
static constexpr size_t kMaxJoinedSites = 3;
/// Pools of a site of which every division into islands is tried.
static constexpr size_t kMaxDividedPools = 4;
/// Each further island of a site must make the whole so much faster: it costs
/// in loss, of which no cost model knows.
static constexpr double kDivisionGain = 1.05;

namespace {

/// Why a strategy must not leave the search: it is no solution, or cannot be
/// lowered. The only such place, for what was found and for what was given.
Faults refuse(const Problem &problem, const Strategy &strategy) {
  Faults faults = problem.verify(strategy);
  if (faults.empty() && !problem.bounds.unsupported)
    return supportedBySlice(strategy);
  return faults;
}

/// Writes to a strategy how the blocks it splits are split.
void addShardings(const Problem &problem, Strategy &strategy) {
  std::set<uint64_t> degrees;
  for (const Island &island : strategy.islands)
    for (const Stage &stage : island.stages)
      for (const ReplicaGroup &group : stage.replicas)
        degrees.insert(group.tensorParallel);
  for (const Sharding &sharding : problem.model.shardings)
    if (degrees.count(sharding.tensorParallel))
      strategy.shardings.push_back(sharding);
}

/// Of the chips used, per hour; one without a price costs 1.
double pricePerHour(const Problem &problem, const Strategy &strategy) {
  double price = 0;
  for (const Island &island : strategy.islands)
    for (const Stage &stage : island.stages)
      for (const ReplicaGroup &group : stage.replicas)
        price += static_cast<double>(group.count * group.tensorParallel) *
                 problem.topology.chipOf(*problem.topology.findPool(group.pool))
                     .pricePerHour.value_or(1);
  return price;
}

bool hasOwnInnerSteps(const StrategyPins &pins) {
  return pins.islands && std::any_of(pins.islands->begin(), pins.islands->end(),
                                     [](const IslandPins &island) {
                                       return island.innerSteps.has_value();
                                     });
}

/// `lowerBound` for the samples of a step, which with inner steps of islands'
/// own, whose batches are given then, are others than the global batch.
double boundOf(const Problem &problem, const StrategyPins &pins) {
  double bound = lowerBound(problem);
  if (!hasOwnInnerSteps(pins))
    return bound;
  double steps = static_cast<double>(*pins.server->innerSteps), samples = 0;
  for (const IslandPins &island : *pins.islands)
    samples += static_cast<double>(*island.batch) *
               static_cast<double>(
                   island.innerSteps.value_or(*pins.server->innerSteps));
  return bound * samples /
         (steps * static_cast<double>(problem.training.globalBatch));
}

/// Islands beyond the first of their site.
size_t divisions(const Strategy &strategy) {
  std::set<std::string> sites;
  size_t count = 0;
  for (const Island &island : strategy.islands)
    if (island.sites.size() == 1)
      count += !sites.insert(island.sites[0]).second;
  return count;
}

/// What is made least.
double scoreOf(const Problem &problem, const Candidate &candidate) {
  double seconds = candidate.prediction.stepSeconds *
                   std::pow(kDivisionGain,
                            static_cast<double>(divisions(candidate.strategy)));
  return problem.bounds.objective == Objective::Cost
             ? seconds * pricePerHour(problem, candidate.strategy)
             : seconds;
}

/// Islands with the sites that they use, and the search of each.
class Searcher {
public:
  Searcher(const Problem &problem, const StrategyPins &pins,
           const SearchHooks &hooks)
      : problem(problem), pins(pins), limits(problem.bounds, hooks, 1),
        hooks(hooks), shares(problem, pins, limits) {}

  SearchResult run() {
    SearchResult result;
    if (pins.islands) {
      assemble(*pins.islands);
    } else {
      everySubset();
      divideSites();
    }
    for (const auto &search : searches)
      result.candidates += search.second->candidates();
    std::stable_sort(
        found.begin(), found.end(),
        [](const Scored &a, const Scored &b) { return a.score < b.score; });
    size_t wanted = mostCandidates();
    for (Scored &one : found) {
      if (result.strategies.size() == wanted)
        break;
      finish(one.candidate);
      bool isNew =
          std::none_of(result.strategies.begin(), result.strategies.end(),
                       [&](const Candidate &other) {
                         return other.strategy == one.candidate.strategy;
                       });
      if (isNew && refuse(problem, one.candidate.strategy).empty())
        result.strategies.push_back(std::move(one.candidate));
    }
    // The server's settings may have changed the order within their 1 %.
    std::stable_sort(result.strategies.begin(), result.strategies.end(),
                     [&](const Candidate &a, const Candidate &b) {
                       return scoreOf(problem, a) < scoreOf(problem, b);
                     });
    double least = result.strategies.empty()
                       ? kInfinity
                       : result.strategies[0].prediction.stepSeconds;
    simulateBest(result);
    result.lowerBound = boundOf(problem, pins);
    result.timeEnded = limits.hasEnded();
    // Every island was tried in every way, and no set of them was left out.
    bool isExact = triedAll && shares.triedAll() && !result.timeEnded &&
                   !result.strategies.empty();
    for (const auto &search : searches)
      isExact &= search.second->isExact() && search.second->complete();
    if (isExact)
      result.lowerBound = least;
    if (!result.strategies.empty())
      // The clock may have taken another one than the fastest by the model.
      result.optimal = result.strategies[0].prediction.stepSeconds <=
                       result.lowerBound * (1 + 1e-9);
    else if (!faults.empty())
      result.faults = std::move(faults);
    else if (std::isfinite(leastWanGbits))
      result.faults = {tooMuchBetweenSites(problem, leastWanGbits)};
    else
      result.faults = whyNothingFits(problem);
    return result;
  }

private:
  struct Scored {
    Candidate candidate;
    double score;
    std::vector<IslandPins> islands; // that it was found for
  };

  const Problem &problem;
  const StrategyPins &pins;
  SearchLimits limits;
  const SearchHooks &hooks;
  BatchShares shares;
  /// By sites, pools and, where islands are pinned, number: an island on the
  /// same pools is searched once.
  std::map<
      std::tuple<std::vector<std::string>, std::vector<std::string>, size_t>,
      std::unique_ptr<IslandSearch>>
      searches;
  std::vector<Scored> found;
  double best = kInfinity; // score
  /// Whether every set of islands was tried.
  bool triedAll = true;
  Faults faults;
  double leastWanGbits = kInfinity; // of what is above the bound

  IslandSearch *add(const IslandPins &island) {
    // Pinned islands are all their own.
    auto &search = searches[{island.sites, island.pools,
                             pins.islands ? searches.size() : 0}];
    if (!search)
      search = makeIslandSearch(problem, island, hooks);
    return search.get();
  }

  static IslandPins over(const std::vector<std::string> &sites) {
    IslandPins island;
    island.sites = sites;
    return island;
  }

  //===--------------------------------------------------------------------===//
  // Islands
  //===--------------------------------------------------------------------===//

  void everySubset() {
    std::vector<std::string> sites;
    for (const Site &site : problem.topology.sites)
      sites.push_back(site.name);
    size_t count = sites.size();
    if (count <= kMaxSubsetSites) {
      for (size_t subset = (size_t(1) << count) - 1; subset > 0; --subset) {
        std::vector<std::string> members;
        for (size_t i = 0; i < count; ++i)
          if (subset >> i & 1)
            members.push_back(sites[i]);
        everyPartition(members);
      }
      return;
    }
    // All of them, each alone, and all but one.
    triedAll = false;
    everyPartition(sites);
    for (size_t i = 0; i < count; ++i) {
      everyPartition({sites[i]});
      std::vector<std::string> rest = sites;
      rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(i));
      everyPartition(rest);
    }
  }

  /// Far above the best so far there is nothing for anybody.
  double ceiling() const {
    constexpr double kFar = 1.1;
    // An island with fewer inner steps of its own may take longer for each.
    return problem.bounds.objective == Objective::Throughput &&
                   !hasOwnInnerSteps(pins)
               ? best * kFar
               : kInfinity;
  }

  void everyPartition(const std::vector<std::string> &sites) {
    if (limits.hasEnded() && !found.empty())
      return;
    IslandPins all = over(sites);
    if (busySeconds(problem, poolsOf(problem, all),
                    problem.training.globalBatch) *
            shares.hope() >
        ceiling())
      return;
    if (sites.size() <= kMaxJoinedSites) {
      std::vector<IslandPins> islands;
      partition(unitsOf(sites), 0, 0, 1, islands);
      return;
    }
    std::vector<std::vector<std::string>> islands;
    for (const std::string &site : sites)
      islands.push_back({site});
    triedAll = false;
    joinSmallSites(islands);
    std::vector<IslandPins> members;
    for (const auto &island : islands)
      members.push_back(over(island));
    assemble(members);
  }

  /// The pools of a site, each for an island of its own.
  static std::vector<IslandPins> poolsAsUnits(const Site &site) {
    std::vector<IslandPins> units;
    for (const Pool &pool : site.pools) {
      units.push_back(over({site.name}));
      units.back().pools = {site.name + "/" + pool.name};
    }
    return units;
  }

  /// What is dealt to islands: sites, or their pools where all is small.
  std::vector<IslandPins> unitsOf(const std::vector<std::string> &sites) {
    std::vector<IslandPins> whole, parts;
    for (const std::string &site : sites) {
      whole.push_back(over({site}));
      for (IslandPins &pool : poolsAsUnits(*problem.topology.findSite(site)))
        parts.push_back(std::move(pool));
    }
    if (parts.size() <= kMaxDividedPools &&
        isSmall(problem, problem.topology.totalChips()))
      return parts;
    triedAll &= parts.size() == whole.size();
    return whole;
  }

  /// All ways to put units from `next` on together into at least `fewest`
  /// islands, behind the first `others`, which stay; each alone comes first.
  void partition(const std::vector<IslandPins> &units, size_t next,
                 size_t others, size_t fewest,
                 std::vector<IslandPins> &islands) {
    if (limits.hasEnded() && !found.empty())
      return;
    if (next == units.size()) {
      if (islands.size() >= others + fewest)
        assemble(islands);
      return;
    }
    islands.push_back(units[next]);
    partition(units, next + 1, others, fewest, islands);
    islands.pop_back();
    for (size_t i = others; i < islands.size(); ++i) {
      IslandPins before = islands[i];
      if (before.sites.back() != units[next].sites[0])
        islands[i].sites.push_back(units[next].sites[0]);
      islands[i].pools.insert(islands[i].pools.end(), units[next].pools.begin(),
                              units[next].pools.end());
      partition(units, next + 1, others, fewest, islands);
      islands[i] = std::move(before);
    }
  }

  /// Joins sites that cannot hold the model alone with the site that the widest
  /// line leads to.
  void joinSmallSites(std::vector<std::vector<std::string>> &islands) {
    auto holds = [&](const std::vector<std::string> &island) {
      return !add(over(island))->best(problem.training.globalBatch).empty();
    };
    for (size_t i = 0; i < islands.size();) {
      if (islands.size() == 1 || holds(islands[i])) {
        ++i;
        continue;
      }
      size_t partner = islands.size();
      double widest = 0;
      for (size_t other = 0; other < islands.size(); ++other)
        for (const std::string &from : islands[i])
          for (const std::string &to : islands[other])
            for (const Link &link : problem.topology.links)
              if (other != i && link.gbitsPerSecond > widest &&
                  ((link.first == from && link.second == to) ||
                   (link.first == to && link.second == from))) {
                widest = link.gbitsPerSecond;
                partner = other;
              }
      if (partner == islands.size()) {
        ++i;
        continue;
      }
      std::vector<std::string> joined = islands[std::min(i, partner)];
      const auto &rest = islands[std::max(i, partner)];
      joined.insert(joined.end(), rest.begin(), rest.end());
      islands.erase(islands.begin() +
                    static_cast<std::ptrdiff_t>(std::max(i, partner)));
      islands[std::min(i, partner)] = std::move(joined);
      i = 0;
    }
  }

  /// Sites that are an island each in the best strategy, one after the other,
  /// as several islands: where pools that can train alone hardly reach each
  /// other, or no pipeline suits them all.
  void divideSites() {
    for (const Site &site : problem.topology.sites) {
      auto least = std::min_element(
          found.begin(), found.end(),
          [](const Scored &a, const Scored &b) { return a.score < b.score; });
      if (least == found.end() || site.pools.size() < 2 ||
          site.pools.size() > kMaxDividedPools)
        continue;
      std::vector<IslandPins> islands = least->islands;
      if (std::erase_if(islands, [&](const IslandPins &island) {
            return island.sites == std::vector<std::string>{site.name} &&
                   island.pools.empty();
          }) > 0)
        partition(poolsAsUnits(site), 0, islands.size(), 2, islands);
    }
  }

  //===--------------------------------------------------------------------===//
  // Strategies
  //===--------------------------------------------------------------------===//

  void assemble(const std::vector<IslandPins> &members) {
    if (problem.training.globalBatch < members.size())
      return;
    std::vector<IslandSearch *> islands;
    for (const IslandPins &island : members)
      islands.push_back(add(island));
    std::vector<uint64_t> batches = shares.share(islands, ceiling());
    if (batches.empty())
      return;
    // Each island's finalists by their exact time.
    struct Finalist {
      Island island;
      IslandPrediction prediction;
      double score;
    };
    std::vector<std::vector<Finalist>> finalists;
    for (size_t i = 0; i < islands.size(); ++i) {
      auto &list = finalists.emplace_back();
      IslandPins own;
      if (pins.islands)
        own = (*pins.islands)[i];
      for (const FoundIsland &one : islands[i]->best(batches[i], ceiling())) {
        // Where everything was tried, that is it.
        std::vector<Order> orders;
        if (!islands[i]->isExact())
          orders = ordersOf(problem.bounds, own);
        if (orders.empty())
          orders = {{one.island.schedule, one.island.chunks}};
        for (auto [schedule, chunks] : orders) {
          Island island = one.island;
          island.schedule = schedule;
          island.chunks = chunks;
          bool hasChunks =
              chunks == 1 ||
              (island.stages.size() > 1 &&
               std::all_of(island.stages.begin(), island.stages.end(),
                           [c = chunks](const Stage &stage) {
                             return stage.blocks >= c;
                           }));
          if (!hasChunks)
            continue;
          Strategy alone;
          alone.islands = {island};
          IslandPrediction prediction = evaluateIsland(problem, alone, 0);
          if (!fitsMemory(prediction) && orders.size() > 1)
            continue;
          double score = prediction.stepSeconds;
          if (problem.bounds.objective == Objective::Cost)
            score *= pricePerHour(problem, alone);
          list.push_back({std::move(island), std::move(prediction), score});
        }
      }
      if (list.empty())
        return;
      std::stable_sort(list.begin(), list.end(),
                       [](const Finalist &a, const Finalist &b) {
                         return a.score < b.score;
                       });
    }
    Strategy strategy;
    std::vector<IslandPrediction> predictions;
    for (const auto &list : finalists) {
      strategy.islands.push_back(list[0].island);
      predictions.push_back(list[0].prediction);
    }
    keep(members, strategy, predictions);
    // The runners-up, one island at a time.
    if (mostCandidates() > 1)
      for (size_t i = 0; i < finalists.size(); ++i)
        for (size_t k = 1; k < finalists[i].size(); ++k) {
          Strategy other = strategy;
          std::vector<IslandPrediction> its = predictions;
          other.islands[i] = finalists[i][k].island;
          its[i] = finalists[i][k].prediction;
          keep(members, other, its);
        }
  }

  /// With the server where it is fastest; its own settings come last.
  void keep(const std::vector<IslandPins> &members, Strategy strategy,
            const std::vector<IslandPrediction> &predictions) {
    strategy.server = fastestServer(problem, pins, strategy, predictions);
    Faults wrong = refuse(problem, strategy);
    if (!wrong.empty()) {
      if (faults.empty() && pins.islands)
        faults = std::move(wrong);
      return;
    }
    Scored scored;
    scored.candidate = {strategy, evaluate(problem, strategy, predictions)};
    double gbits = wanGbits(strategy, scored.candidate.prediction);
    if (gbits > problem.bounds.wanGbits.value_or(kInfinity)) {
      leastWanGbits = std::min(leastWanGbits, gbits);
      return;
    }
    scored.score = scoreOf(problem, scored.candidate);
    scored.islands = members;
    best = std::min(best, scored.score);
    found.push_back(std::move(scored));
  }

  /// As many as are returned, or may have to be simulated.
  uint64_t mostCandidates() const {
    constexpr uint64_t kSpare = 8; // for those that cannot be run
    uint64_t simulated = hooks.simulate ? problem.bounds.simulated : 0;
    return std::max<uint64_t>({problem.bounds.candidates,
                               simulated > 0 ? simulated + kSpare : 0, 1});
  }

  /// Of the best the virtual clock decides: it sees waits that formulas and
  /// averages do not. What it cannot run goes behind all others, and the next
  /// best takes its turn.
  void simulateBest(SearchResult &result) {
    if (!hooks.simulate)
      return;
    struct Run {
      Candidate candidate;
      double seconds;
      double score;
    };
    std::vector<Run> runs;
    std::vector<Candidate> others, failed;
    for (Candidate &one : result.strategies) {
      if (runs.size() == problem.bounds.simulated || limits.hasEnded()) {
        others.push_back(std::move(one));
        continue;
      }
      std::optional<double> seconds = hooks.simulate(one);
      if (!seconds) {
        failed.push_back(std::move(one));
        continue;
      }
      double score = scoreOf(problem, one) * *seconds /
                     std::max(1e-300, one.prediction.stepSeconds);
      runs.push_back({std::move(one), *seconds, score});
    }
    std::stable_sort(
        runs.begin(), runs.end(),
        [](const Run &a, const Run &b) { return a.score < b.score; });
    result.strategies.clear();
    for (Run &run : runs) {
      result.simulated.push_back(
          {run.candidate.prediction.stepSeconds, run.seconds});
      result.strategies.push_back(std::move(run.candidate));
    }
    for (std::vector<Candidate> *rest : {&others, &failed})
      std::move(rest->begin(), rest->end(),
                std::back_inserter(result.strategies));
  }

  void finish(Candidate &candidate) {
    candidate.strategy.server = mildestServer(problem, pins, candidate.strategy,
                                              candidate.prediction.islands);
    candidate.prediction =
        evaluate(problem, candidate.strategy, candidate.prediction.islands);
    addShardings(problem, candidate.strategy);
  }
};

/// The strategy of pins that leave nothing open.
Strategy strategyOf(const Problem &problem, const StrategyPins &pins) {
  Strategy strategy;
  for (const IslandPins &plain : *pins.islands) {
    Island island;
    island.sites = plain.sites;
    island.batch = *plain.batch;
    island.microbatch = *plain.microbatch;
    island.schedule = plain.schedule.value_or(
        problem.bounds.schedule.value_or(Schedule::OneFOneB));
    island.chunks = plain.chunks.value_or(1);
    island.innerSteps = plain.innerSteps;
    for (const StagePins &stage : *plain.stages) {
      Stage &whole = island.stages.emplace_back(
          Stage{*stage.blocks, *stage.recompute, false, stage.replicas});
      whole.optimizerSharding = stage.optimizerSharding.value_or(
          shardsOptimizer(problem, whole.replicaCount()));
    }
    strategy.islands.push_back(std::move(island));
  }
  return strategy;
}

/// Nothing inside the islands is open: verified, and given a server.
SearchResult whole(const Problem &problem, const StrategyPins &pins) {
  SearchResult result;
  Strategy strategy = strategyOf(problem, pins);
  result.candidates = 1;
  result.lowerBound = boundOf(problem, pins);
  // Islands first: a server is chosen for what they take.
  Problem islands = problem;
  Strategy without = strategy;
  if (strategy.islands.size() > 1)
    without.server.emplace();
  result.faults = islands.verify(without);
  if (!result.faults.empty())
    return result;
  std::vector<IslandPrediction> predictions;
  for (size_t i = 0; i < strategy.islands.size(); ++i)
    predictions.push_back(evaluateIsland(problem, strategy, i));
  strategy.server = mildestServer(problem, pins, strategy, predictions);
  result.faults = refuse(problem, strategy);
  if (!result.faults.empty())
    return result;
  Prediction prediction = evaluate(problem, strategy, predictions);
  double gbits = wanGbits(strategy, prediction);
  if (gbits > problem.bounds.wanGbits.value_or(kInfinity)) {
    result.faults = {tooMuchBetweenSites(problem, gbits)};
    return result;
  }
  addShardings(problem, strategy);
  result.strategies.push_back({std::move(strategy), std::move(prediction)});
  return result;
}

} // namespace

SearchResult search(const Problem &problem, const StrategyPins &pins,
                    const SearchHooks &hooks) {
  SearchResult result;
  result.faults = checkPins(problem, pins);
  if (!result.faults.empty())
    return result;
  if (pins.isWhole())
    return whole(problem, pins);
  SearchHooks limited = hooks;
  if (problem.bounds.searchSeconds && !hooks.deadline)
    limited.deadline =
        std::chrono::steady_clock::now() +
        std::chrono::duration_cast<std::chrono::nanoseconds>(
            std::chrono::duration<double>(*problem.bounds.searchSeconds));
  return Searcher(problem, pins, limited).run();
}

} // namespace tombolo::planning
