//===- RowIsland.cpp - the best layouts of a large island ----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// Mixes (`RowMixes`) are taken by what their stages can reach at best until no
// later one can be among the best. For each, `RowSolver` finds the best stages
// for its parts in every order.
//
//===----------------------------------------------------------------------===//

#include "Infinity.h"
#include "RowMixes.h"
#include "RowSolver.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tombolo::planning {

namespace {

class RowIsland : public IslandSearch {
public:
  RowIsland(const Problem &problem, const IslandPins &pins,
            const SearchLimits &limits);

  double bound(uint64_t batch) override {
    return busySeconds(problem, mixTable.pools(), batch);
  }

private:
  /// Cuts of a row; it takes time with their third power.
  static constexpr uint64_t kMostCuts = 128;
  /// Of a mix's solutions, those that may be among the best.
  static constexpr size_t kOfOneMix = 3;
  /// Solutions are looked for up to so much above the best.
  static constexpr double kNear = 1.03;

  struct Found {
    double score = 0; // what is made least
    double seconds = 0;
    Mix mix; // in order
    Schedule schedule;
    RowSolution solution;
  };

  const Problem &problem;
  IslandPins pins;
  std::vector<Schedule> schedules;
  RowMixes mixTable;
  std::map<uint64_t, std::unique_ptr<SplitTable>> tables; // by microbatch
  std::optional<Mix> last; // the best of the batch before: where to begin

  std::vector<FoundIsland> find(uint64_t batch, double ceiling) override;

  double priceOf(const Mix &mix, const RowSolution &solution) const;
  double tailOf(const Mix &mix, const SplitTable &table,
                const RowSolution &solution) const;
  RowRequest requestFor(const Mix &mix, bool isFirst) const;
  void solve(const Mix &mix, uint64_t batch, double below, bool isFirst,
             std::vector<Found> &found);
  static bool flows(const Mix &mix, const RowSolution &solution);
  const SplitTable &tableOf(uint64_t microbatch);
  Island islandOf(const Found &found, uint64_t batch);
};

RowIsland::RowIsland(const Problem &problem, const IslandPins &given,
                     const SearchLimits &limits)
    : IslandSearch(limits), problem(problem), pins(given),
      schedules({Schedule::OneFOneB, Schedule::GPipe}),
      mixTable(problem, given) {
  // Orders with other places for microbatches are tried on what 1F1B finds.
  if (auto pinned = pins.schedule ? pins.schedule : problem.bounds.schedule)
    schedules = {*pinned == Schedule::GPipe ? Schedule::GPipe
                                            : Schedule::OneFOneB};
}

const SplitTable &RowIsland::tableOf(uint64_t microbatch) {
  auto &table = tables[microbatch];
  if (!table)
    table = std::make_unique<SplitTable>(problem, microbatch, kMostCuts);
  return *table;
}

/// Per hour: of the chips of a solution's stages.
double RowIsland::priceOf(const Mix &mix, const RowSolution &solution) const {
  double price = 0;
  for (const RowStage &stage : solution.stages)
    price += mixTable.priceOf(*mix.parts[stage.segment]);
  return price;
}

/// Reduction and update of the stage that takes longest.
double RowIsland::tailOf(const Mix &mix, const SplitTable &table,
                         const RowSolution &solution) const {
  double slowest = 0;
  for (const RowStage &stage : solution.stages) {
    const MixPart &part = *mix.parts[stage.segment];
    double trained = 0;
    for (const BlockRun &run :
         slice(problem.model.runs, table.cuts()[stage.begin],
               table.cuts()[stage.end] - table.cuts()[stage.begin]))
      trained += static_cast<double>(run.count) *
                 static_cast<double>(
                     figuresOf(problem, run.kind, part.degree).trainableCount);
    double update = 0;
    for (const MixPart::Group &group : part.groups) {
      const SplitTable::Times &times = table.timesOf(
          *mixTable.pools()[group.pool].chip, {part.degree, group.wire});
      update =
          std::max(update, times.update[stage.end] - times.update[stage.begin]);
    }
    if (shardsOptimizer(problem, part.replicas()))
      update /= static_cast<double>(part.replicas());
    slowest = std::max(slowest, part.tailLatency +
                                    part.tailPerByte * 4 * trained + update);
  }
  return slowest;
}

/// Whether what stages of 1F1B send ahead has a place behind them. A stage that
/// has more replicas than the next one, and many stages behind it, would send
/// more before its first backward than the next one takes before its own, and
/// both would wait for ever. Cautious: buffers hold a little more.
bool RowIsland::flows(const Mix &mix, const RowSolution &solution) {
  size_t count = solution.stages.size();
  auto partOf = [&](size_t s) -> const MixPart & {
    return *mix.parts[solution.stages[s].segment];
  };
  // Of each replica.
  auto aheadOf = [&](size_t s) {
    return std::min<uint64_t>(partOf(s).groups.front().own, count - 1 - s);
  };
  for (size_t s = 0; s + 1 < count; ++s)
    if (aheadOf(s) > 1 && (aheadOf(s) - 1) * partOf(s).replicas() >
                              (aheadOf(s + 1) + 1) * partOf(s + 1).replicas())
      return false;
  return true;
}

/// The row of a mix's parts as they stand. What ends a search does not end its
/// first mix, so that there is an answer.
RowRequest RowIsland::requestFor(const Mix &mix, bool isFirst) const {
  RowRequest request;
  request.limits = isFirst ? nullptr : &limits;
  for (const MixPart *part : mix.parts) {
    Segment &segment = request.segments.emplace_back();
    segment.tensorParallel = part->degree;
    segment.optimizerParts =
        shardsOptimizer(problem, part->replicas()) ? part->replicas() : 1;
    segment.mostStages = part->stages;
    for (const MixPart::Group &group : part->groups) {
      const IslandPool &pool = mixTable.pools()[group.pool];
      segment.groups.push_back(
          {pool.name, pool.chip, group.replicas, group.own, group.wire});
    }
  }
  return request;
}

/// Solutions of less than `below`, as far as they can be among the best.
void RowIsland::solve(const Mix &mix, uint64_t batch, double below,
                      bool isFirst, std::vector<Found> &found) {
  const SplitTable &table = tableOf(mix.microbatch);
  for (const std::vector<size_t> &order : mixTable.ordersOf(mix)) {
    double ceiling = below;
    if (!found.empty()) {
      ceiling = std::min(ceiling, found.front().score * kNear);
      if (found.size() == kFinalists)
        ceiling = std::min(ceiling, found.back().score);
    }
    if (problem.bounds.objective == Objective::Cost)
      ceiling = ceiling / mixTable.priceOf(mix);
    Mix ordered = mix;
    for (size_t i = 0; i < order.size(); ++i)
      ordered.parts[i] = mix.parts[order[i]];
    RowRequest request = requestFor(ordered, isFirst);
    for (Schedule schedule : schedules) {
      request.schedule = schedule;
      RowSolver solver(problem, table, request);
      std::vector<RowSolution> solutions = solver.solve(ceiling);
      size_t kept = 0;
      // Whether GPipe may be faster: it sends all ahead, and never waits.
      bool waits = solver.paceDecides();
      for (RowSolution &solution : solutions) {
        if (schedule == Schedule::OneFOneB && !flows(ordered, solution)) {
          waits = true;
          continue;
        }
        if (batch / mix.microbatch >
            kMostStageMicrobatches / solution.stages.size())
          continue;
        if (kept++ == kOfOneMix)
          break;
        double seconds = solution.seconds + tailOf(ordered, table, solution);
        double score = seconds;
        if (problem.bounds.objective == Objective::Cost)
          score *= priceOf(ordered, solution);
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

std::vector<FoundIsland> RowIsland::find(uint64_t batch, double ceiling) {
  if (mixTable.pools().empty() || (pins.batch && *pins.batch != batch))
    return {};
  std::vector<Mix> mixes;
  for (uint64_t microbatch : divisorsOf(batch))
    if ((!pins.microbatch || *pins.microbatch == microbatch) &&
        batch / microbatch <= kMostStageMicrobatches &&
        (mixes.empty() || !limits.hasEnded()))
      scored += mixTable.add(batch, microbatch, ceiling, mixes);
  std::vector<size_t> heap(mixes.size());
  std::iota(heap.begin(), heap.end(), size_t(0));
  auto later = [&](size_t a, size_t b) {
    return mixes[a].bound != mixes[b].bound ? mixes[a].bound > mixes[b].bound
                                            : a > b;
  };
  std::make_heap(heap.begin(), heap.end(), later);
  std::vector<Found> found;
  // What was best for another batch is a good start.
  size_t done = mixes.size();
  if (last)
    for (const Mix &mix : mixes) {
      bool same = mix.microbatch == last->microbatch &&
                  mix.parts.size() == last->parts.size();
      for (const MixPart *part : mix.parts)
        same = same && std::ranges::any_of(last->parts, [&](const auto *other) {
                 return part->liesLike(*other);
               });
      if (same) {
        solve(mix, batch, ceiling, true, found);
        done = static_cast<size_t>(&mix - mixes.data());
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
      mix.bound = std::max(mix.bound, mixTable.boundOf(mix, batch, true));
      if (mix.bound < kInfinity)
        std::push_heap(heap.begin(), heap.end(), later);
      else
        heap.pop_back();
      continue;
    }
    bool isDone = heap.back() == done;
    heap.pop_back();
    if (isDone)
      continue;
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

Island RowIsland::islandOf(const Found &found, uint64_t batch) {
  const std::vector<uint64_t> &cuts = tableOf(found.mix.microbatch).cuts();
  Island island;
  island.sites = pins.sites;
  island.batch = batch;
  island.microbatch = found.mix.microbatch;
  island.schedule = found.schedule;
  island.chunks = pins.chunks.value_or(1);
  island.innerSteps = pins.innerSteps;
  for (const RowStage &from : found.solution.stages) {
    const MixPart &part = *found.mix.parts[from.segment];
    Stage stage;
    stage.blocks = cuts[from.end] - cuts[from.begin];
    if (from.again == from.end)
      stage.recompute = {Recompute::Full, 0};
    else if (from.again > from.begin)
      stage.recompute = {Recompute::Blocks,
                         cuts[from.again] - cuts[from.begin]};
    for (const MixPart::Group &group : part.groups)
      stage.replicas.push_back({mixTable.pools()[group.pool].name,
                                group.replicas, part.degree, group.share});
    stage.optimizerSharding = shardsOptimizer(problem, part.replicas());
    island.stages.push_back(std::move(stage));
  }
  return island;
}

} // namespace

std::unique_ptr<IslandSearch> makeRowIsland(const Problem &problem,
                                            const IslandPins &pins,
                                            const SearchLimits &limits) {
  return std::make_unique<RowIsland>(problem, pins, limits);
}

} // namespace tombolo::planning
