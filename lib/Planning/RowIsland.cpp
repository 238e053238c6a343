//===- RowIsland.cpp - the best layouts of a large island ----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// A mix is a set of pools with, for each, replicas and chips per replica, and a
// microbatch and schedule for all. What its stages can reach at best follows
// from rates and memory alone; mixes are taken by that bound until no later one
// can be among the best. For each, `RowSolver` finds the best stages for the
// pools in every order.
//
//===----------------------------------------------------------------------===//

#include "Infinity.h"
#include "IslandSearch.h"
#include "RowSolver.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tombolo::planning {

namespace {

class OpenIsland : public IslandSearch {
public:
  OpenIsland(const Problem &problem, const IslandPins &pins,
             const SearchLimits &limits);

  double bound(uint64_t batch) override;

private:
  /// Mixes of one set of pools beyond these have the same replicas everywhere,
  /// and where that leaves more the same degree.
  static constexpr double kMostMixes = 5000;
  /// Stages of a pool for each microbatch of a replica, or each that memory
  /// asks for.
  static constexpr uint64_t kMostPerStage = 4;
  /// Cuts of a row; it takes time with their third power.
  static constexpr uint64_t kMostCuts = 128;
  /// Of a mix's solutions, those that may be among the best.
  static constexpr size_t kOfOneMix = 3;
  /// Solutions are looked for up to so much above the best.
  static constexpr double kNear = 1.03;

  /// What a number of replicas and of chips does to a pool.
  struct Option {
    uint64_t replicas = 1;
    uint64_t degree = 1;
    uint64_t stages = 1;                // at most
    Transfer wire;                      // between the chips of a replica
    const std::vector<double> *seconds; // of a microbatch, by kind
    uint64_t most = 0;      // blocks of the main kind in a chip's memory
    double tailLatency = 0; // reduction: seconds
    double tailPerByte = 0; //   and seconds per byte of gradients
  };
  struct Mix {
    std::vector<std::pair<uint32_t, Option>> parts; // pool, option
    uint64_t microbatch = 1;
    double bound = 0; // no stages of it are better
    bool isTight = false;
  };
  struct Found {
    double score = 0; // what is made least
    double seconds = 0;
    Mix mix; // in order
    Schedule schedule;
    RowSolution solution;
  };

  const Problem &problem;
  IslandPins pins;
  Choices choices;
  std::vector<Schedule> schedules;
  std::vector<IslandPool> pools;
  std::vector<double> counts; // blocks of each kind
  size_t mainKind = 0;        // the one with most work
  /// By microbatch: tables, and seconds by pool and degree.
  std::map<uint64_t, std::unique_ptr<SplitTable>> tables;
  std::map<std::tuple<uint64_t, size_t, uint64_t>, std::vector<double>>
      kindSeconds;
  std::optional<Mix> last; // the best of the batch before: where to begin

  std::vector<FoundIsland> find(uint64_t batch, double ceiling) override;

  std::vector<std::vector<uint32_t>> poolSets() const;
  const std::vector<double> &secondsOf(uint64_t microbatch, size_t pool,
                                       uint64_t degree);
  std::vector<Option> optionsOf(uint64_t microbatch,
                                const std::vector<uint64_t> &replicas,
                                size_t pool);
  void addMixes(uint64_t batch, uint64_t microbatch, double below,
                std::vector<Mix> &mixes);
  double boundOf(const Mix &mix, uint64_t batch, bool tight) const;
  double leastOfMainKind(const Mix &mix, double microbatches) const;
  double priceOf(const Mix &mix, const RowSolution *solution) const;
  std::vector<std::vector<size_t>> ordersOf(const Mix &mix) const;
  double tailOf(const Mix &mix, const SplitTable &table,
                const RowSolution &solution) const;
  void solve(const Mix &mix, uint64_t batch, double below, bool isFirst,
             std::vector<Found> &found);
  static bool flows(const Mix &mix, const RowSolution &solution,
                    uint64_t microbatches);
  const SplitTable &tableOf(uint64_t microbatch);
  Island islandOf(const Found &found, uint64_t batch);
  bool joined(const std::string &from, const std::string &to) const;
};

OpenIsland::OpenIsland(const Problem &problem, const IslandPins &given,
                       const SearchLimits &limits)
    : IslandSearch(limits), problem(problem), pins(given),
      choices(problem.bounds), schedules(choices.schedules),
      pools(poolsOf(problem, given)) {
  // Orders with other places for microbatches are tried on what 1F1B finds.
  if (auto pinned = pins.schedule ? pins.schedule : problem.bounds.schedule)
    schedules = {*pinned == Schedule::GPipe ? Schedule::GPipe
                                            : Schedule::OneFOneB};
  counts.assign(problem.model.kinds.size(), 0);
  for (const BlockRun &run : problem.model.runs)
    counts[run.kind] += static_cast<double>(run.count);
  if (pools.empty())
    return;
  const std::vector<double> &seconds = secondsOf(1, 0, 1);
  for (size_t k = 0; k < counts.size(); ++k)
    if (counts[k] * seconds[k] > counts[mainKind] * seconds[mainKind])
      mainKind = k;
}

const std::vector<double> &OpenIsland::secondsOf(uint64_t microbatch,
                                                 size_t pool, uint64_t degree) {
  auto [entry, isNew] = kindSeconds.try_emplace({microbatch, pool, degree});
  if (!isNew)
    return entry->second;
  Transfer wire =
      insideReplicas(problem.topology, {pools[pool].name, 0, degree}, degree);
  for (size_t kind = 0; kind < problem.model.kinds.size(); ++kind) {
    StageTimes one = blockSeconds(problem, {{kind, 1}}, *pools[pool].chip,
                                  static_cast<double>(microbatch), Recompute(),
                                  {degree, wire});
    entry->second.push_back(one.forward + one.backward);
  }
  return entry->second;
}

double OpenIsland::bound(uint64_t batch) {
  double least = 0;
  for (size_t kind = 0; kind < counts.size(); ++kind) {
    double rate = 0;
    for (const IslandPool &pool : pools)
      rate +=
          static_cast<double>(pool.pool->chips()) /
          std::max(1e-300, leastSecondsPerSample(problem, kind, *pool.chip));
    least = std::max(least, counts[kind] * static_cast<double>(batch) / rate);
  }
  return least;
}

const SplitTable &OpenIsland::tableOf(uint64_t microbatch) {
  auto &table = tables[microbatch];
  if (!table)
    table = std::make_unique<SplitTable>(problem, microbatch, kMostCuts);
  return *table;
}

/// Which pools to use: every set of up to five; of more all, all but one, each
/// alone. An island uses every site that it is given.
std::vector<std::vector<uint32_t>> OpenIsland::poolSets() const {
  constexpr size_t kEverySet = 5;
  size_t count = pools.size();
  std::vector<std::vector<uint32_t>> sets;
  auto add = [&](auto isIn) {
    std::vector<uint32_t> set;
    size_t sites = 0;
    for (const std::string &site : pins.sites) {
      bool used = false;
      for (uint32_t i = 0; i < count; ++i)
        if (isIn(i) && splitPool(pools[i].name).first == site) {
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

std::vector<OpenIsland::Option>
OpenIsland::optionsOf(uint64_t microbatch,
                      const std::vector<uint64_t> &replicaCounts, size_t pool) {
  uint64_t own = replicaCounts.back(); // microbatches of the island
  std::vector<Option> options;
  const IslandPool &choice = pools[pool];
  double available = availableBytes(problem, *choice.chip);
  for (uint64_t degree : choice.degrees) {
    const std::vector<double> &seconds = secondsOf(microbatch, pool, degree);
    for (uint64_t replicas : replicaCounts) {
      uint64_t stages = choice.pool->chips() / degree / replicas;
      if (stages == 0)
        break;
      Option option;
      option.replicas = replicas;
      option.degree = degree;
      option.stages = std::min(stages, problem.model.blocks());
      option.seconds = &seconds;
      option.wire = insideReplicas(problem.topology,
                                   {choice.name, 0, replicas * degree}, degree);
      uint64_t parts = shardsOptimizer(problem, replicas) ? replicas : 1;
      MemoryUse use =
          memoryUse(problem, {{mainKind, 1}}, static_cast<double>(microbatch),
                    0, {Recompute::Full, 0}, true, true, {degree, parts});
      double least = use.parameters + use.gradients + use.optimizerState;
      option.most = static_cast<uint64_t>(
          std::min(1e6, available / std::max(1.0, least)));
      if (option.most == 0)
        continue;
      // Far more stages than microbatches are of use for memory alone.
      uint64_t needed = problem.model.blocks() / option.most + 1;
      option.stages = std::min(
          option.stages, kMostPerStage * std::max(needed, own / replicas));
      auto reduction = [&](double bytes) {
        return allReduceSeconds(problem.topology,
                                {{choice.name, 0, replicas * degree}}, bytes,
                                degree);
      };
      option.tailLatency = reduction(0);
      option.tailPerByte = (reduction(1e9) - option.tailLatency) / 1e9;
      options.push_back(option);
      // Fewer chips are slower and cheaper.
      if (problem.bounds.objective == Objective::Cost)
        for (uint64_t fewer = option.stages / 2; fewer > 0; fewer /= 2) {
          option.stages = fewer;
          options.push_back(option);
        }
    }
  }
  return options;
}

/// Mixes whose bound is below `below`.
void OpenIsland::addMixes(uint64_t batch, uint64_t microbatch, double below,
                          std::vector<Mix> &mixes) {
  std::vector<uint64_t> counts = divisorsOf(batch / microbatch);
  std::vector<std::vector<Option>> options;
  for (size_t pool = 0; pool < pools.size(); ++pool)
    options.push_back(optionsOf(microbatch, counts, pool));
  for (const std::vector<uint32_t> &set : poolSets()) {
    double all = 1;
    for (uint32_t pool : set)
      all *= static_cast<double>(options[pool].size());
    bool alike = all > kMostMixes, sameDegree = false;
    if (alike) {
      double left = 0;
      for (const Option &first : options[set[0]]) {
        double with = 1;
        for (size_t n = 1; n < set.size(); ++n)
          with *= static_cast<double>(std::ranges::count(
              options[set[n]], first.replicas, &Option::replicas));
        left += with;
      }
      sameDegree = left > kMostMixes;
    }
    Mix mix;
    mix.microbatch = microbatch;
    auto choose = [&](auto &self, size_t n, uint64_t stages) -> void {
      if (n == set.size()) {
        mix.bound = boundOf(mix, batch, false);
        ++scored;
        if (mix.bound < below)
          mixes.push_back(mix);
        return;
      }
      for (const Option &option : options[set[n]]) {
        if (alike && n > 0 && option.replicas != mix.parts[0].second.replicas)
          continue;
        if (sameDegree && n > 0 && option.degree != mix.parts[0].second.degree)
          continue;
        mix.parts.emplace_back(set[n], option);
        self(self, n + 1, stages + 1);
        mix.parts.pop_back();
      }
    };
    if (set.size() <= problem.model.blocks())
      choose(choose, 0, 0);
  }
}

/// The least sum + peak of the blocks of the main kind, parts of blocks
/// allowed: under a peak every pool takes what memory and the peak let it, the
/// one on which a microbatch is fastest first. The sum falls with the peak, and
/// their total is convex.
double OpenIsland::leastOfMainKind(const Mix &mix, double microbatches) const {
  struct Share {
    double seconds; // of a microbatch in a block
    double most;    // blocks in memory
    double perPeak; // blocks for each second of the peak
  };
  std::vector<Share> shares;
  double high = 0;
  for (const auto &[pool, option] : mix.parts) {
    double seconds = (*option.seconds)[mainKind];
    double n = static_cast<double>(option.stages);
    double unit = (microbatches / static_cast<double>(option.replicas) - 1) *
                  std::max(seconds, 1e-300);
    shares.push_back({seconds, n * static_cast<double>(option.most),
                      unit > 0 ? n / unit : kInfinity});
    high = std::max(high, unit * counts[mainKind] / n);
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

/// No stages of a mix are better. Tight: with whole blocks of the main kind.
double OpenIsland::boundOf(const Mix &mix, uint64_t batch, bool tight) const {
  double all = static_cast<double>(batch / mix.microbatch);
  double sum = 0, others = 0, dearest = 0;
  for (size_t kind = 0; kind < counts.size(); ++kind) {
    double fastest = kInfinity, cheapest = kInfinity;
    for (const auto &[pool, option] : mix.parts) {
      double seconds = (*option.seconds)[kind];
      fastest = std::min(fastest, seconds);
      cheapest =
          std::min(cheapest, seconds * static_cast<double>(option.degree) *
                                 pools[pool].chip->pricePerHour.value_or(1));
    }
    sum += counts[kind] * fastest;
    others += kind == mainKind ? 0 : counts[kind] * fastest;
    dearest += counts[kind] * cheapest * all;
  }
  double blocks = counts[mainKind], rate = 0, held = 0, stages = 0,
         fewest = all;
  double tail = kInfinity;
  for (const auto &[pool, option] : mix.parts) {
    double own = all / static_cast<double>(option.replicas);
    double n = static_cast<double>(option.stages);
    double unit = (own - 1) * (*option.seconds)[mainKind];
    rate += n / std::max(1e-300, unit);
    held += n * static_cast<double>(option.most);
    stages += n;
    fewest = std::min(fewest, own);
  }
  stages = std::min(stages, static_cast<double>(problem.model.blocks()));
  if (held < blocks)
    return kInfinity;
  double bytes = 4 * problem.model.trainableCount() / stages;
  for (const auto &[pool, option] : mix.parts)
    tail = std::min(tail, option.tailLatency +
                              option.tailPerByte * bytes /
                                  static_cast<double>(option.degree));
  double peak = blocks / rate;
  if (tight) {
    // The least peak under which stages of whole blocks hold all.
    auto holds = [&](double most) {
      double total = 0;
      for (const auto &[pool, option] : mix.parts) {
        double own = all / static_cast<double>(option.replicas);
        double unit = (own - 1) * (*option.seconds)[mainKind];
        double each = static_cast<double>(option.most);
        if (unit > 0)
          each = std::min(each, std::floor(most / unit * (1 + 1e-9)));
        total += static_cast<double>(option.stages) * each;
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
  if (schedules.front() != Schedule::GPipe && schedules.size() == 1)
    peak = std::max(peak, (fewest - 1) * sum / stages);
  double seconds = sum + peak + tail;
  if (tight)
    seconds = std::max(seconds, others + leastOfMainKind(mix, all) + tail);
  if (problem.bounds.objective == Objective::Throughput)
    return seconds;
  return std::max(dearest, seconds * priceOf(mix, nullptr));
}

/// Per hour: of the chips of a solution's stages; without one, of a stage on
/// each pool. A chip without a price costs 1.
double OpenIsland::priceOf(const Mix &mix, const RowSolution *solution) const {
  double price = 0;
  auto add = [&](size_t part) {
    const auto &[pool, option] = mix.parts[part];
    price += pools[pool].chip->pricePerHour.value_or(1) *
             static_cast<double>(option.replicas * option.degree);
  };
  if (solution)
    for (const RowStage &stage : solution->stages)
      add(stage.segment);
  else
    for (size_t part = 0; part < mix.parts.size(); ++part)
      add(part);
  return price;
}

bool OpenIsland::joined(const std::string &from, const std::string &to) const {
  std::string fromSite = splitPool(from).first, toSite = splitPool(to).first;
  return fromSite == toSite
             ? problem.topology.wireBetween(from, to).has_value()
             : problem.topology.route(fromSite, toSite).has_value();
}

/// Orders of a mix's pools in which neighbours are joined. All of up to four;
/// of more as declared, the other way round, and by memory for the work.
std::vector<std::vector<size_t>> OpenIsland::ordersOf(const Mix &mix) const {
  constexpr size_t kEveryOrder = 4;
  std::vector<std::vector<size_t>> orders;
  std::vector<size_t> order(mix.parts.size());
  std::iota(order.begin(), order.end(), size_t(0));
  auto add = [&] {
    for (size_t i = 0; i + 1 < order.size(); ++i)
      if (!joined(pools[mix.parts[order[i]].first].name,
                  pools[mix.parts[order[i + 1]].first].name))
        return;
    // Of like pools the first comes first.
    for (size_t i = 0; i < order.size(); ++i)
      for (size_t j = i + 1; j < order.size(); ++j) {
        const auto &[a, one] = mix.parts[order[i]];
        const auto &[b, other] = mix.parts[order[j]];
        Pool renamed = *pools[b].pool;
        renamed.name = pools[a].pool->name;
        if (a > b && renamed == *pools[a].pool &&
            splitPool(pools[a].name).first == splitPool(pools[b].name).first &&
            one.replicas == other.replicas && one.degree == other.degree &&
            one.stages == other.stages)
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
  auto room = [&](size_t part) {
    const auto &[pool, option] = mix.parts[part];
    return static_cast<double>(pools[pool].chip->memoryBytes()) *
           (*option.seconds)[mainKind];
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return room(a) > room(b); });
  add();
  std::reverse(order.begin(), order.end());
  add();
  return orders;
}

/// Reduction and update of the stage that takes longest.
double OpenIsland::tailOf(const Mix &mix, const SplitTable &table,
                          const RowSolution &solution) const {
  double slowest = 0;
  for (const RowStage &stage : solution.stages) {
    const auto &[pool, option] = mix.parts[stage.segment];
    double trained = 0;
    for (const BlockRun &run :
         slice(problem.model.runs, table.cuts()[stage.begin],
               table.cuts()[stage.end] - table.cuts()[stage.begin]))
      trained +=
          static_cast<double>(run.count) *
          static_cast<double>(
              figuresOf(problem, run.kind, option.degree).trainableCount);
    const SplitTable::Times &times =
        table.timesOf(*pools[pool].chip, {option.degree, option.wire});
    double update = times.update[stage.end] - times.update[stage.begin];
    if (shardsOptimizer(problem, option.replicas))
      update /= static_cast<double>(option.replicas);
    slowest = std::max(slowest, option.tailLatency +
                                    option.tailPerByte * 4 * trained + update);
  }
  return slowest;
}

/// Whether what stages of 1F1B send ahead has a place behind them. A stage that
/// has more replicas than the next one, and many stages behind it, would send
/// more before its first backward than the next one takes before its own, and
/// both would wait for ever. Cautious: buffers hold a little more.
bool OpenIsland::flows(const Mix &mix, const RowSolution &solution,
                       uint64_t microbatches) {
  size_t count = solution.stages.size();
  auto turnOf = [&](size_t s) {
    return mix.parts[solution.stages[s].segment].second.replicas;
  };
  auto aheadOf = [&](size_t s) {
    return std::min<uint64_t>(microbatches / turnOf(s), count - 1 - s);
  };
  for (size_t s = 0; s + 1 < count; ++s)
    if (aheadOf(s) > 1 &&
        (aheadOf(s) - 1) * turnOf(s) > (aheadOf(s + 1) + 1) * turnOf(s + 1))
      return false;
  return true;
}

/// Solutions of less than `below`, as far as they can be among the best. What
/// ends a search does not end its first mix, so that there is an answer.
void OpenIsland::solve(const Mix &mix, uint64_t batch, double below,
                       bool isFirst, std::vector<Found> &found) {
  const SplitTable &table = tableOf(mix.microbatch);
  for (const std::vector<size_t> &order : ordersOf(mix)) {
    double ceiling = below;
    if (!found.empty()) {
      ceiling = std::min(ceiling, found.front().score * kNear);
      if (found.size() == kFinalists)
        ceiling = std::min(ceiling, found.back().score);
    }
    if (problem.bounds.objective == Objective::Cost)
      ceiling = ceiling / priceOf(mix, nullptr);
    Mix ordered = mix;
    RowRequest request;
    for (size_t i = 0; i < order.size(); ++i) {
      ordered.parts[i] = mix.parts[order[i]];
      const auto &[pool, option] = ordered.parts[i];
      Segment segment;
      segment.pool = pools[pool].name;
      segment.chip = pools[pool].chip;
      segment.replicas = option.replicas;
      segment.tensorParallel = option.degree;
      segment.optimizerParts =
          shardsOptimizer(problem, option.replicas) ? option.replicas : 1;
      segment.mostStages = option.stages;
      segment.insideReplica = option.wire;
      request.segments.push_back(std::move(segment));
    }
    request.microbatches = batch / mix.microbatch;
    request.someBlocksAgain = choices.someBlocksAgain;
    request.limits = isFirst ? nullptr : &limits;
    for (Schedule schedule : schedules) {
      request.schedule = schedule;
      std::vector<RowSolution> solutions =
          RowSolver(problem, table, request).solve(ceiling);
      size_t kept = 0;
      bool waits = false; // for what 1F1B keeps in flight
      for (RowSolution &solution : solutions) {
        waits |= solution.seconds > (solution.sum + solution.peak) * (1 + 1e-9);
        if (schedule == Schedule::OneFOneB &&
            !flows(ordered, solution, request.microbatches))
          continue;
        if (kept++ == kOfOneMix)
          break;
        double seconds = solution.seconds + tailOf(ordered, table, solution);
        double score = seconds;
        if (problem.bounds.objective == Objective::Cost)
          score *= priceOf(ordered, &solution);
        auto place = std::upper_bound(found.begin(), found.end(), score,
                                      [](double value, const Found &other) {
                                        return value < other.score;
                                      });
        found.insert(place,
                     {score, seconds, ordered, schedule, std::move(solution)});
        if (found.size() > kFinalists)
          found.pop_back();
      }
      // GPipe takes more memory, and is faster only where 1F1B waits.
      if (schedule == Schedule::OneFOneB && !waits)
        break;
    }
  }
}

std::vector<FoundIsland> OpenIsland::find(uint64_t batch, double ceiling) {
  if (pools.empty() || (pins.batch && *pins.batch != batch))
    return {};
  std::vector<Mix> mixes;
  for (uint64_t microbatch : divisorsOf(batch))
    if ((!pins.microbatch || *pins.microbatch == microbatch) &&
        (mixes.empty() || !limits.hasEnded()))
      addMixes(batch, microbatch, ceiling, mixes);
  std::vector<size_t> heap(mixes.size());
  std::iota(heap.begin(), heap.end(), size_t(0));
  auto later = [&](size_t a, size_t b) {
    return mixes[a].bound != mixes[b].bound ? mixes[a].bound > mixes[b].bound
                                            : a > b;
  };
  std::make_heap(heap.begin(), heap.end(), later);
  std::vector<Found> found;
  // What was best for another batch is a good start.
  if (last)
    for (const Mix &mix : mixes) {
      bool same = mix.microbatch == last->microbatch &&
                  mix.parts.size() == last->parts.size();
      for (const auto &[pool, option] : mix.parts)
        same =
            same && std::any_of(last->parts.begin(), last->parts.end(),
                                [&, p = pool, &o = option](const auto &part) {
                                  return part.first == p &&
                                         part.second.replicas == o.replicas &&
                                         part.second.degree == o.degree;
                                });
      if (same) {
        solve(mix, batch, ceiling, true, found);
        break;
      }
    }
  size_t tried = 0;
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    Mix &mix = mixes[heap.back()];
    if (mix.bound >= ceiling)
      break;
    if (!found.empty() && mix.bound >= found.front().score * kNear)
      break;
    if (found.size() == kFinalists && mix.bound >= found.back().score)
      break;
    if (!mix.isTight) {
      mix.isTight = true;
      mix.bound = std::max(mix.bound, boundOf(mix, batch, true));
      if (mix.bound < kInfinity)
        std::push_heap(heap.begin(), heap.end(), later);
      else
        heap.pop_back();
      continue;
    }
    heap.pop_back();
    if (!limits.spend() && tried > 0) {
      isComplete = false;
      break;
    }
    solve(mix, batch, ceiling, tried++ == 0, found);
  }
  std::vector<FoundIsland> result;
  for (const Found &one : found)
    result.push_back({one.seconds, islandOf(one, batch)});
  if (!found.empty())
    last = found.front().mix;
  return result;
}

Island OpenIsland::islandOf(const Found &found, uint64_t batch) {
  const std::vector<uint64_t> &cuts = tableOf(found.mix.microbatch).cuts();
  Island island;
  island.sites = pins.sites;
  island.batch = batch;
  island.microbatch = found.mix.microbatch;
  island.schedule = found.schedule;
  island.chunks = pins.chunks.value_or(1);
  island.innerSteps = pins.innerSteps;
  for (const RowStage &from : found.solution.stages) {
    const auto &[pool, option] = found.mix.parts[from.segment];
    Stage stage;
    stage.blocks = cuts[from.end] - cuts[from.begin];
    if (from.again == from.end)
      stage.recompute = {Recompute::Full, 0};
    else if (from.again > from.begin)
      stage.recompute = {Recompute::Blocks,
                         cuts[from.again] - cuts[from.begin]};
    stage.replicas = {{pools[pool].name, option.replicas, option.degree, 1}};
    stage.optimizerSharding = shardsOptimizer(problem, option.replicas);
    island.stages.push_back(std::move(stage));
  }
  return island;
}

} // namespace

std::unique_ptr<IslandSearch> makeRowIsland(const Problem &problem,
                                            const IslandPins &pins,
                                            const SearchLimits &limits) {
  return std::make_unique<OpenIsland>(problem, pins, limits);
}

} // namespace tombolo::planning
