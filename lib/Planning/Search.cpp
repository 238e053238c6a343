//===- Search.cpp - finding strategies ------------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Search.h"
#include "IslandSearch.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <set>

namespace tombolo::planning {

static constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Layouts of an island that are looked at with the exact time.
static constexpr size_t kFinalists = 8;
/// Units into which the batch is cut when islands share it.
static constexpr uint64_t kMaxUnits = 128;
/// Sites of which every subset is tried.
static constexpr size_t kMaxSubsetSites = 6;

namespace {

/// The server with what is pinned; the fragments where it is fastest.
std::optional<Server> completeServer(const Problem &problem,
                                     const StrategyPins &pins,
                                     const Strategy &strategy) {
  if (strategy.islands.size() < 2 && !pins.server)
    return std::nullopt;
  Server result;
  result.innerSteps = problem.bounds.innerSteps;
  ServerPins given = pins.server.value_or(ServerPins());
  result.innerSteps = given.innerSteps.value_or(result.innerSteps);
  result.fragments = given.fragments.value_or(result.fragments);
  result.overlapSteps = given.overlapSteps.value_or(result.overlapSteps);
  result.compression = given.compression.value_or(result.compression);
  result.outer = given.outer.value_or(result.outer);
  result.outerLearningRate =
      given.outerLearningRate.value_or(result.outerLearningRate);
  result.outerMomentum = given.outerMomentum.value_or(result.outerMomentum);
  result.quorum = given.quorum.value_or(result.quorum);
  result.deadlineSeconds =
      given.deadlineSeconds.value_or(result.deadlineSeconds);
  result.witness = given.witness.value_or("");
  if (given.placement)
    result.placement = *given.placement;
  double fastest = kInfinity;
  std::string home;
  for (const Island &island : strategy.islands)
    for (const std::string &site : island.sites) {
      Strategy placed = strategy;
      placed.server = Server();
      placed.server->placement[0] = {site, ""};
      bool reached = std::all_of(
          strategy.islands.begin(), strategy.islands.end(),
          [&](const Island &other) {
            return problem.topology.route(other.sites[0], site).has_value();
          });
      double seconds = synchronisation(problem, placed).seconds;
      if (reached && seconds < fastest) {
        fastest = seconds;
        home = site;
      }
    }
  if (!home.empty())
    for (uint64_t f = 0; f < std::min<uint64_t>(result.fragments, 65536); ++f)
      result.placement.try_emplace(f, Placement{home, ""});
  return result;
}

/// Why a strategy must not leave the search: it is no solution, or cannot be
/// lowered. The only such place, for what was found and for what was given.
Faults refuse(const Problem &problem, const Strategy &strategy) {
  Faults faults = problem.verify(strategy);
  return faults.empty() ? supportedBySlice(strategy) : faults;
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

/// Islands with the sites that they use, and the search of each.
class Searcher {
public:
  Searcher(const Problem &problem, const StrategyPins &pins)
      : problem(problem), pins(pins) {}

  SearchResult run() {
    SearchResult result;
    if (pins.islands) {
      std::vector<IslandSearch *> islands;
      for (const IslandPins &island : *pins.islands)
        islands.push_back(add(island));
      assemble(islands);
    } else {
      everySubset();
    }
    for (const auto &search : searches)
      result.candidates += search->candidates();
    std::stable_sort(
        found.begin(), found.end(), [](const Candidate &a, const Candidate &b) {
          return a.prediction.stepSeconds < b.prediction.stepSeconds;
        });
    size_t wanted = std::max<uint64_t>(problem.bounds.candidates, 1);
    if (found.size() > wanted)
      found.resize(wanted);
    for (Candidate &candidate : found)
      addShardings(problem, candidate.strategy);
    result.strategies = std::move(found);
    result.lowerBound = lowerBound(problem);
    if (result.strategies.empty())
      result.faults = faults.empty() ? whyNot() : std::move(faults);
    else
      result.optimal = result.strategies[0].prediction.stepSeconds <=
                       result.lowerBound * (1 + 1e-9);
    return result;
  }

private:
  const Problem &problem;
  const StrategyPins &pins;
  std::vector<std::unique_ptr<IslandSearch>> searches;
  std::vector<Candidate> found;
  Faults faults;

  IslandSearch *add(const IslandPins &island) {
    searches.push_back(std::make_unique<IslandSearch>(problem, island));
    return searches.back().get();
  }

  /// Every site is an island of its own or not used.
  void everySubset() {
    std::vector<IslandSearch *> sites;
    for (const Site &site : problem.topology.sites) {
      IslandPins island;
      island.sites = {site.name};
      sites.push_back(add(island));
    }
    size_t count = sites.size();
    if (count > kMaxSubsetSites) {
      // All of them, each alone, and all but one.
      std::vector<IslandSearch *> rest;
      assemble(sites);
      for (size_t i = 0; i < count; ++i) {
        assemble({sites[i]});
        rest = sites;
        rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(i));
        assemble(rest);
      }
      return;
    }
    for (size_t subset = (size_t(1) << count) - 1; subset > 0; --subset) {
      std::vector<IslandSearch *> islands;
      for (size_t i = 0; i < count; ++i)
        if (subset >> i & 1)
          islands.push_back(sites[i]);
      assemble(islands);
    }
  }

  /// The smallest unit of the batch that cuts it into few enough parts; into
  /// more where that would leave hardly any choice.
  uint64_t unitOf(uint64_t batch) const {
    for (uint64_t most : {kMaxUnits, kMaxUnits * 32})
      for (uint64_t parts = std::min(batch, most); parts > 0; --parts)
        if (batch % parts == 0) {
          if (parts * 4 >= std::min(batch, kMaxUnits) || most > kMaxUnits)
            return batch / parts;
          break;
        }
    return batch;
  }

  /// Shares the batch between islands; empty when they cannot.
  std::vector<uint64_t> share(const std::vector<IslandSearch *> &islands) {
    uint64_t batch = problem.training.globalBatch;
    if (islands.size() == 1)
      return {batch};
    // What is pinned is pinned.
    std::vector<uint64_t> given;
    uint64_t rest = batch;
    if (pins.islands)
      for (const IslandPins &island : *pins.islands)
        if (island.batch && *island.batch <= rest) {
          given.push_back(*island.batch);
          rest -= *island.batch;
        }
    if (given.size() == islands.size())
      return given;
    uint64_t unit = unitOf(rest);
    std::vector<std::vector<double>> times;
    std::vector<size_t> open;
    for (size_t i = 0; i < islands.size(); ++i) {
      if (pins.islands && (*pins.islands)[i].batch)
        continue;
      open.push_back(i);
      auto &seconds = times.emplace_back(rest / unit + 1, kInfinity);
      for (uint64_t n = 1; n <= rest / unit; ++n) {
        auto fastest = islands[i]->best(n * unit, 1);
        if (!fastest.empty())
          seconds[n] = fastest[0].first;
      }
    }
    std::vector<uint64_t> units = shareBatch(times, rest / unit);
    if (units.empty())
      return {};
    std::vector<uint64_t> shares(islands.size());
    for (size_t i = 0; i < islands.size(); ++i)
      if (pins.islands && (*pins.islands)[i].batch)
        shares[i] = *(*pins.islands)[i].batch;
    for (size_t i = 0; i < open.size(); ++i)
      shares[open[i]] = units[i] * unit;
    return shares;
  }

  void assemble(const std::vector<IslandSearch *> &islands) {
    if (problem.training.globalBatch < islands.size())
      return;
    std::vector<uint64_t> shares = share(islands);
    if (shares.empty())
      return;
    // Each island's finalists by their exact time.
    std::vector<std::vector<Island>> finalists;
    for (size_t i = 0; i < islands.size(); ++i) {
      std::vector<std::pair<double, Island>> timed;
      for (auto &[ignored, island] : islands[i]->best(shares[i], kFinalists)) {
        Strategy alone;
        alone.islands = {island};
        timed.emplace_back(evaluateIsland(problem, alone, 0).stepSeconds,
                           std::move(island));
      }
      if (timed.empty())
        return;
      std::stable_sort(
          timed.begin(), timed.end(),
          [](const auto &a, const auto &b) { return a.first < b.first; });
      auto &list = finalists.emplace_back();
      for (auto &[seconds, island] : timed)
        list.push_back(std::move(island));
    }
    Strategy strategy;
    for (const auto &list : finalists)
      strategy.islands.push_back(list[0]);
    strategy.server = completeServer(problem, pins, strategy);
    keep(strategy);
    // The runners-up, one island at a time.
    if (problem.bounds.candidates > 1)
      for (size_t i = 0; i < finalists.size(); ++i)
        for (size_t k = 1; k < finalists[i].size(); ++k) {
          Strategy other = strategy;
          other.islands[i] = finalists[i][k];
          keep(other);
        }
  }

  void keep(const Strategy &strategy) {
    Faults wrong = refuse(problem, strategy);
    if (wrong.empty())
      found.push_back({strategy, evaluate(problem, strategy)});
    else if (faults.empty() && pins.islands)
      faults = std::move(wrong);
  }

  /// What to tell somebody when nothing fits.
  Faults whyNot() const {
    double bytes = 0;
    for (const BlockRun &run : problem.model.runs) {
      const BlockKind &kind = problem.model.kinds[run.kind];
      bytes +=
          static_cast<double>(run.count) *
          (static_cast<double>(kind.parameterBytes) +
           static_cast<double>(kind.trainableCount) *
               (4 + static_cast<double>(
                        problem.training.optimizerStateBytesPerParameter)));
    }
    std::string text =
        "no strategy fits: parameters, gradients and optimizer state alone "
        "need " +
        std::to_string(static_cast<uint64_t>(std::min(bytes, 1e18))) +
        " bytes in each island, in at most " +
        std::to_string(problem.model.blocks()) + " stages";
    for (const Site &site : problem.topology.sites) {
      double has = 0;
      for (const Pool &pool : site.pools)
        has += static_cast<double>(pool.chips()) *
               availableBytes(problem, problem.topology.chipOf(pool));
      text += "; site '" + site.name + "' has " +
              std::to_string(static_cast<uint64_t>(std::min(has, 1e18))) +
              " bytes";
    }
    text += "; use more or larger chips, or pin smaller microbatches";
    return {{"islands", text}};
  }
};

/// Faults in the pins that would otherwise only show as "nothing found".
Faults checkPins(const Problem &problem, const StrategyPins &pins) {
  Faults faults;
  if (!pins.islands)
    return faults;
  if (pins.islands->empty())
    faults.push_back({"islands", "a strategy needs at least one island"});
  uint64_t sum = 0;
  bool allGiven = true;
  for (size_t i = 0; i < pins.islands->size(); ++i) {
    const IslandPins &island = (*pins.islands)[i];
    std::string path = at("islands", i);
    if (island.sites.empty())
      faults.push_back(
          {in(path, "sites"), "an island needs at least one site"});
    for (size_t k = 0; k < island.sites.size(); ++k)
      if (!problem.topology.findSite(island.sites[k]))
        faults.push_back({at(in(path, "sites"), k),
                          "unknown site '" + island.sites[k] + "'"});
    allGiven &= island.batch.has_value();
    if (island.batch &&
        (*island.batch == 0 || *island.batch > problem.training.globalBatch))
      faults.push_back(
          {in(path, "batch"), "batch must be from 1 to the global batch " +
                                  std::to_string(problem.training.globalBatch) +
                                  ", got " + std::to_string(*island.batch)});
    else
      sum += island.batch.value_or(1);
    if (island.batch && island.microbatch &&
        (*island.microbatch == 0 || *island.batch % *island.microbatch != 0))
      faults.push_back(
          {in(path, "microbatch"), "batch " + std::to_string(*island.batch) +
                                       " is not a multiple of the microbatch " +
                                       std::to_string(*island.microbatch)});
    if (island.stages && island.stages->empty())
      faults.push_back(
          {in(path, "stages"), "an island needs at least one stage"});
    for (size_t s = 0; island.stages && s < island.stages->size(); ++s) {
      const StagePins &stage = (*island.stages)[s];
      std::string place = at(in(path, "stages"), s);
      if (stage.replicas.empty())
        faults.push_back({place, "a stage needs a pool"});
      for (size_t g = 0; g < stage.replicas.size(); ++g) {
        const ReplicaGroup &group = stage.replicas[g];
        std::string where = at(in(place, "replicas"), g);
        if (!problem.topology.findPool(group.pool))
          faults.push_back(
              {in(where, "pool"), "unknown pool '" + group.pool +
                                      "', expected SITE/POOL of the topology"});
        // Beyond this the sums below could overflow.
        for (uint64_t value : {group.count, group.tensorParallel, group.share})
          if (value > (uint64_t(1) << 20))
            faults.push_back(
                {where, "absurdly large number " + std::to_string(value)});
        if (group.tensorParallel == 0 || group.share == 0)
          faults.push_back(
              {where, "tensor_parallel and share must be positive"});
      }
    }
  }
  if (faults.empty() && (allGiven ? sum != problem.training.globalBatch
                                  : sum > problem.training.globalBatch))
    faults.push_back(
        {"islands", "the islands' batches add up to " + std::to_string(sum) +
                        ", expected the global batch " +
                        std::to_string(problem.training.globalBatch)});
  return faults;
}

/// The strategy of pins that leave nothing open.
Strategy strategyOf(const Problem &problem, const StrategyPins &pins) {
  Strategy strategy;
  for (const IslandPins &plain : *pins.islands) {
    Island island;
    island.sites = plain.sites;
    island.batch = *plain.batch;
    island.microbatch = *plain.microbatch;
    island.schedule = plain.schedule.value_or(Schedule::OneFOneB);
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
  strategy.server = completeServer(problem, pins, strategy);
  return strategy;
}

} // namespace

SearchResult search(const Problem &problem, const StrategyPins &pins) {
  SearchResult result;
  result.faults = checkPins(problem, pins);
  if (!result.faults.empty())
    return result;
  if (pins.isWhole()) {
    Strategy strategy = strategyOf(problem, pins);
    result.candidates = 1;
    result.lowerBound = lowerBound(problem);
    result.faults = refuse(problem, strategy);
    if (result.faults.empty()) {
      Prediction prediction = evaluate(problem, strategy);
      addShardings(problem, strategy);
      result.strategies.push_back({std::move(strategy), std::move(prediction)});
    }
    return result;
  }
  return Searcher(problem, pins).run();
}

//===----------------------------------------------------------------------===//
// Equivalent compute
//===----------------------------------------------------------------------===//

std::vector<uint64_t> roundBatches(uint64_t exact, uint64_t reach,
                                   size_t most) {
  std::vector<uint64_t> result;
  for (uint64_t twos = std::bit_floor(exact + reach); twos > 0; twos /= 2) {
    // The odd multiples, from the nearest on: the `offset`-th below and above.
    uint64_t odd = (exact / twos - 1) | 1; // the last one up to `exact`
    if (exact < twos)
      odd = static_cast<uint64_t>(-1); // none: the first one is above
    uint64_t below = odd, above = odd + 2;
    while (result.size() < most) {
      bool hasBelow =
          below != static_cast<uint64_t>(-1) && exact - below * twos <= reach;
      bool hasAbove = above * twos - exact <= reach;
      if (!hasBelow && !hasAbove)
        break;
      bool takeBelow = hasBelow && (!hasAbove || exact - below * twos <=
                                                     above * twos - exact);
      uint64_t &next = takeBelow ? below : above;
      result.push_back(next * twos);
      next = takeBelow ? below - 2 : above + 2;
    }
  }
  return result;
}

/// Tokens per second of the best plan on `chips` chips of one type in one
/// site. The batch is the one in proportion, or the best of those next to it
/// that divide well: within a sixteenth, as a plan would round it.
static double uniformTokens(const Problem &problem, const Chip &chip,
                            uint64_t chips, double proportion) {
  // The wires and nodes of the largest pool of that type.
  const Pool *model = nullptr;
  for (const Site &site : problem.topology.sites)
    for (const Pool &pool : site.pools)
      if (pool.chip == chip.name && (!model || pool.chips() > model->chips()))
        model = &pool;
  Problem uniform = problem;
  Pool pool = *model;
  while (chips % pool.chipsPerNode != 0)
    --pool.chipsPerNode;
  pool.nodes = chips / pool.chipsPerNode;
  if (!pool.interNode)
    pool.interNode = pool.intraNode;
  if (!pool.interNode)
    for (const Site &site : problem.topology.sites)
      if (site.fabric && !pool.interNode)
        pool.interNode = site.fabric;
  if (!pool.interNode) // single chips that nothing but a line ever joined
    pool.interNode = Wire{1e6, 0};
  Site site;
  site.name = "uniform";
  site.pools = {pool};
  uniform.topology.sites = {site};
  uniform.topology.links.clear();
  uniform.bounds.candidates = 1;

  double batch = static_cast<double>(problem.training.globalBatch) * proportion;
  uint64_t exact = std::max<uint64_t>(1, std::llround(batch));
  uint64_t reach = exact == problem.training.globalBatch ? 0 : exact / 16;
  constexpr size_t kTried = 4;
  std::vector<uint64_t> batches = roundBatches(exact, reach, kTried);
  if (std::find(batches.begin(), batches.end(), exact) == batches.end())
    batches.push_back(exact);

  double best = 0;
  for (bool enough : {false, true}) {
    if (enough)
      for (Chip &other : uniform.topology.chips)
        other.memoryGib = 1e9; // as if the memory sufficed
    for (uint64_t b : batches) {
      uniform.training.globalBatch = b;
      SearchResult result = search(uniform, StrategyPins());
      if (!result.strategies.empty())
        best = std::max(best, result.strategies[0].prediction.tokensPerSecond);
    }
    if (best > 0)
      break;
  }
  return best;
}

void equivalentCompute(const Problem &problem, const Strategy &strategy,
                       Prediction &prediction) {
  // Chips by type: all that are listed, and those that the strategy uses.
  std::map<std::string, uint64_t> listed, used;
  for (const Site &site : problem.topology.sites)
    for (const Pool &pool : site.pools)
      listed[pool.chip] += pool.chips();
  for (const Island &island : strategy.islands)
    for (const Stage &stage : island.stages)
      for (const ReplicaGroup &group : stage.replicas)
        used[problem.topology.findPool(group.pool)->chip] +=
            group.count * group.tensorParallel;
  auto figure = [&](const std::map<std::string, uint64_t> &counts)
      -> std::optional<double> {
    double peak = 0, tokens = 0;
    for (const auto &[name, chips] : counts)
      peak += static_cast<double>(chips) *
              problem.topology.findChip(name)->peakFlops(problem.precision());
    for (const auto &[name, chips] : counts) {
      const Chip &chip = *problem.topology.findChip(name);
      double part = static_cast<double>(chips) *
                    chip.peakFlops(problem.precision()) / peak;
      tokens += uniformTokens(problem, chip, chips, part);
    }
    if (tokens <= 0)
      return std::nullopt;
    return prediction.tokensPerSecond / tokens;
  };
  prediction.equivalentCompute = figure(listed);
  prediction.equivalentComputeOfUsedChips =
      used == listed ? prediction.equivalentCompute : figure(used);
}

} // namespace tombolo::planning
