//===- Explain.cpp - why a plan is as it is -------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/Explain.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <functional>
#include <map>
#include <set>
#include <tuple>

namespace tombolo::planning {

/// A stage in short: `a x2 tp4 20 blocks`.
static std::string text(const Stage &stage) {
  std::string text;
  for (const ReplicaGroup &group : stage.replicas) {
    text += (text.empty() ? "" : " + ") + group.pool;
    text += " x" + std::to_string(group.count);
    if (group.tensorParallel > 1)
      text += " tp" + std::to_string(group.tensorParallel);
  }
  text += " " + std::to_string(stage.blocks) + " blocks";
  if (stage.recompute.kind != Recompute::None)
    text += " recompute " + stage.recompute.text();
  return text;
}

static std::string text(const std::vector<Stage> &stages) {
  std::string all;
  for (size_t s = 0, end; s < stages.size(); s = end) {
    for (end = s + 1; end < stages.size() && stages[end] == stages[s];)
      ++end;
    all += (all.empty() ? "" : ", ") +
           (end > s + 1 ? std::to_string(end - s) + " stages of " : "") +
           text(stages[s]);
  }
  return all;
}

static std::string text(const Server &server) {
  return "H " + std::to_string(server.innerSteps) + ", " +
         std::to_string(server.fragments) + " fragments, overlap " +
         std::to_string(server.overlapSteps) + ", " + name(server.compression);
}

static std::string sitesOf(const Island &island) {
  std::string all;
  for (const std::string &site : island.sites)
    all += (all.empty() ? "" : "+") + site;
  return all;
}

std::string shortText(const Strategy &strategy) {
  std::string all;
  for (const Island &island : strategy.islands) {
    all += (all.empty() ? "" : " | ") + sitesOf(island) + ": batch " +
           std::to_string(island.batch) + ", microbatch " +
           std::to_string(island.microbatch) + ", " + name(island.schedule);
    if (island.chunks > 1)
      all += ", " + std::to_string(island.chunks) + " chunks";
    all += ", " + text(island.stages);
  }
  if (strategy.server)
    all += " | server: " + text(*strategy.server);
  return all;
}

std::vector<Alternative> alternatives(const SearchResult &result) {
  std::vector<Alternative> all;
  for (const auto &[strategy, prediction] : result.strategies) {
    Alternative &one = all.emplace_back();
    one.strategy = shortText(strategy);
    one.stepSeconds = prediction.stepSeconds;
    one.tokensPerSecond = prediction.tokensPerSecond;
    for (const IslandPrediction &island : prediction.islands)
      for (const auto &groups : island.stages)
        for (const GroupPrediction &group : groups) {
          double bytes = group.memory.total();
          one.memoryBytes = std::max(one.memoryBytes, bytes);
          if (group.availableBytes > 0)
            one.memoryFraction =
                std::max(one.memoryFraction, bytes / group.availableBytes);
        }
    double steps =
        strategy.server ? static_cast<double>(strategy.server->innerSteps) : 1;
    one.wanBytesPerRound = prediction.wanBytesPerRound;
    one.wanBytesPerSecond =
        prediction.wanBytesPerRound / steps / prediction.stepSeconds;
  }
  return all;
}

namespace {

constexpr double kGib = 1073741824.0;

std::string format(const char *pattern, ...) {
  char buffer[512];
  va_list arguments;
  va_start(arguments, pattern);
  std::vsnprintf(buffer, sizeof(buffer), pattern, arguments);
  va_end(arguments);
  return buffer;
}

std::string secondsText(double seconds) {
  if (seconds < 1e-3)
    return format("%.1f us", seconds * 1e6);
  if (seconds < 1)
    return format("%.2f ms", seconds * 1e3);
  return format("%.3f s", seconds);
}

std::string gibText(double bytes) {
  return bytes < kGib / 10 ? format("%.1f MiB", bytes / (kGib / 1024))
                           : format("%.2f GiB", bytes / kGib);
}

double percent(double part, double whole) {
  return whole > 0 ? 100 * part / whole : 0;
}

/// A problem and what was found, and the text about it.
class Explanation {
public:
  Explanation(const Problem &problem, const StrategyPins &pins,
              const SearchResult &result)
      : problem(problem), pins(pins), result(result),
        strategy(result.strategies.front().strategy),
        prediction(result.strategies.front().prediction) {}

  std::string run() {
    for (size_t i = 0; i < strategy.islands.size(); ++i)
      island(i);
    server();
    mixing();
    gains();
    alternatives();
    unused();
    guesses();
    return std::move(out);
  }

private:
  const Problem &problem;
  const StrategyPins &pins;
  const SearchResult &result;
  const Strategy &strategy;
  const Prediction &prediction;
  std::string out;

  void line(const std::string &text) { out += text + "\n"; }

  //===--------------------------------------------------------------------===//
  // What limits it
  //===--------------------------------------------------------------------===//

  void island(size_t index) {
    const Island &island = strategy.islands[index];
    const IslandPrediction &foretold = prediction.islands[index];
    struct Place {
      size_t stage = 0, group = 0;
      double value = 0;
    };
    Place slowest, fullest;
    double secondBusy = 0;
    for (size_t s = 0; s < island.stages.size(); ++s)
      for (size_t g = 0; g < foretold.stages[s].size(); ++g) {
        const GroupPrediction &group = foretold.stages[s][g];
        double busy = static_cast<double>(microbatchesOf(island, s, g)) *
                      (group.forwardSeconds + group.backwardSeconds);
        if (busy > slowest.value) {
          secondBusy = slowest.value;
          slowest = {s, g, busy};
        } else {
          secondBusy = std::max(secondBusy, busy);
        }
        double full = group.memory.total() / group.availableBytes;
        if (full > fullest.value)
          fullest = {s, g, full};
      }
    auto poolOf = [&](const Place &place) {
      return island.stages[place.stage].replicas[place.group].pool;
    };
    const GroupPrediction &slow = foretold.stages[slowest.stage][slowest.group];
    std::string steps;
    if (hasOwnInnerSteps(strategy))
      steps = format(
          ", %llu of them in a round of the server's %llu",
          static_cast<unsigned long long>(innerStepsOf(strategy, island)),
          static_cast<unsigned long long>(strategy.server->innerSteps));
    line(format("island %zu: step %s", index,
                secondsText(foretold.stepSeconds).c_str()) +
         steps);
    line(format("  slowest stage: %zu on %s (%llu blocks), computes %s of each "
                "step, %.1f %% of it",
                slowest.stage, poolOf(slowest).c_str(),
                static_cast<unsigned long long>(
                    island.stages[slowest.stage].blocks),
                secondsText(slowest.value).c_str(),
                percent(slowest.value, foretold.stepSeconds)) +
         (secondBusy > 0 ? format("; the next slowest computes %s",
                                  secondsText(secondBusy).c_str())
                         : ""));
    line(format("  beside that: reduction of its gradients %s, update %s; "
                "chips idle %.1f %% of the time until the last backward ends",
                secondsText(slow.allReduceSeconds).c_str(),
                secondsText(slow.updateSeconds).c_str(),
                100 * foretold.bubbleFraction));
    const GroupPrediction &full = foretold.stages[fullest.stage][fullest.group];
    const MemoryUse &use = full.memory;
    line(format("  fullest chip: stage %zu on %s, %s of %s (%.1f %%): "
                "parameters %s, gradients %s, optimizer %s, saved for backward "
                "%s, all else %s",
                fullest.stage, poolOf(fullest).c_str(),
                gibText(use.total()).c_str(),
                gibText(full.availableBytes).c_str(), 100 * fullest.value,
                gibText(use.parameters).c_str(), gibText(use.gradients).c_str(),
                gibText(use.optimizerState).c_str(), gibText(use.saved).c_str(),
                gibText(use.recomputed + use.boundary + use.feeds + use.scratch)
                    .c_str()));
  }

  void server() {
    if (!strategy.server)
      return;
    const Server &server = *strategy.server;
    Synchronisation sync = synchronisation(problem, strategy);
    double lines = 0, latency = 0, work = 0, ranks = 0;
    for (const FragmentExchange &one : sync.exchanges) {
      lines += one.fragments * one.lineSeconds;
      latency += one.fragments * one.latencySeconds;
      work += one.fragments * one.serverSeconds;
      ranks += one.fragments * one.rankSeconds;
    }
    double round =
        static_cast<double>(server.innerSteps) * prediction.stepSeconds;
    line(format("between islands: every %llu steps; training waits %s in a "
                "round of %s (%.1f %%)",
                static_cast<unsigned long long>(server.innerSteps),
                secondsText(prediction.synchronisationSeconds).c_str(),
                secondsText(round).c_str(),
                percent(prediction.synchronisationSeconds, round)));
    line(format("  an exchange of all %llu fragments takes %s when nothing "
                "hides it: lines %s, their latency %s, server %s, ranks %s; "
                "the worst line needs %.0f connections",
                static_cast<unsigned long long>(server.fragments),
                secondsText(sync.seconds).c_str(), secondsText(lines).c_str(),
                secondsText(latency).c_str(), secondsText(work).c_str(),
                secondsText(ranks).c_str(), sync.connections));
    double cores =
        *std::max_element(sync.coreSeconds.begin(), sync.coreSeconds.end());
    if (cores > 0)
      line(format("  encoding, encryption and the server take %s of a round "
                  "from the cores that train ('cores_per_node')",
                  secondsText(cores).c_str()));
  }

  /// Of all blocks of all islands, those that run again, in percent.
  static double runAgain(const Strategy &strategy) {
    double again = 0, blocks = 0;
    for (const Island &island : strategy.islands)
      for (const Stage &stage : island.stages) {
        blocks += static_cast<double>(stage.blocks);
        again += static_cast<double>(stage.recompute.of(stage.blocks));
      }
    return percent(again, blocks);
  }

  /// What the types of chip reach alone, which equivalent compute compares
  /// with, and what they lose there.
  void mixing() {
    if (!prediction.equivalentCompute)
      return;
    auto losses = [](const Strategy &strategy, const Prediction &predicted) {
      return format("%.1f %% of the blocks run again, chips idle %.1f %%",
                    runAgain(strategy), percent(predicted.bubbleFraction, 1));
    };
    line(format("equivalent compute %.3f: %.1f tokens/s (%s), of the best plan "
                "of each type of chip in one site by itself:",
                *prediction.equivalentCompute, prediction.tokensPerSecond,
                losses(strategy, prediction).c_str()));
    std::vector<UniformCluster> clusters =
        uniformClusters(problem, chipsListed(problem.topology));
    const UniformCluster *poorest = nullptr;
    double most = 0;
    for (const UniformCluster &cluster : clusters) {
      if (!cluster.plan) {
        line("  " + cluster.chip + ": none");
        continue;
      }
      line(format(
          "  %s: %.1f tokens/s (%s%s)", cluster.chip.c_str(),
          cluster.tokensPerSecond,
          losses(cluster.plan->strategy, cluster.plan->prediction).c_str(),
          cluster.memorySuffices
              ? ""
              : "; its memory is too small, and counts as enough"));
      double lost = runAgain(cluster.plan->strategy);
      if (lost > most) {
        most = lost;
        poorest = &cluster;
      }
    }
    if (*prediction.equivalentCompute <= 1)
      return;
    if (poorest && most > runAgain(strategy) + 1)
      line(format("  above 1, because %s by itself is short of memory and runs "
                  "%.1f %% of the blocks again, where here other chips take "
                  "blocks off it: %.1f %%",
                  poorest->chip.c_str(), most, runAgain(strategy)));
    else
      line("  above 1, because the model divides better over all chips "
           "together than over those of one type: compare what they lose");
  }

  //===--------------------------------------------------------------------===//
  // What more would buy
  //===--------------------------------------------------------------------===//

  double bestTokens(const Problem &changed) const {
    Problem alone = changed;
    alone.bounds.candidates = 1;
    SearchResult found = search(alone, pins);
    return found.strategies.empty()
               ? 0
               : found.strategies[0].prediction.tokensPerSecond;
  }

  /// The best strategy of a problem that differs in one figure.
  void gain(const std::string &what, const Problem &changed) {
    double tokens = bestTokens(changed), now = prediction.tokensPerSecond;
    line(format("  %s: %+.2f %% (%.1f tokens/s)", what.c_str(),
                percent(tokens - now, now), tokens));
  }

  void gains() {
    line("what more would buy (the best plan then, tokens/s):");
    for (size_t c = 0; c < problem.topology.chips.size(); ++c) {
      Problem changed = problem;
      changed.topology.chips[c].memoryGib += 1;
      gain("1 GiB more on every " + problem.topology.chips[c].name, changed);
    }
    for (size_t l = 0; l < problem.topology.links.size(); ++l) {
      Problem changed = problem;
      Link &link = changed.topology.links[l];
      link.gbitsPerSecond += 1;
      gain("1 Gbit/s more between " + link.first + " and " + link.second,
           changed);
    }
    for (size_t s = 0; s < problem.topology.sites.size(); ++s) {
      const Site &site = problem.topology.sites[s];
      for (size_t p = 0; p < site.pools.size(); ++p) {
        std::string pool = site.name + "/" + site.pools[p].name;
        if (!site.pools[p].interNode)
          continue;
        Problem changed = problem;
        changed.topology.sites[s].pools[p].interNode->gbitsPerSecond += 1;
        gain("1 Gbit/s more on each network card of " + pool, changed);
      }
      if (!site.fabric)
        continue;
      Problem changed = problem;
      changed.topology.sites[s].fabric->gbitsPerSecond += 1;
      gain("1 Gbit/s more in the fabric of " + site.name, changed);
    }
  }

  //===--------------------------------------------------------------------===//
  // Other strategies
  //===--------------------------------------------------------------------===//

  /// In what an island differs from that of the best strategy.
  static std::string differences(const Island &best, const Island &other) {
    std::vector<std::string> parts;
    auto number = [&](const char *what, uint64_t from, uint64_t to) {
      if (from != to)
        parts.push_back(std::string(what) + " " + std::to_string(to) +
                        " instead of " + std::to_string(from));
    };
    number("batch", best.batch, other.batch);
    number("microbatch", best.microbatch, other.microbatch);
    if (best.schedule != other.schedule)
      parts.push_back(std::string(name(other.schedule)) + " instead of " +
                      name(best.schedule));
    number("chunks", best.chunks, other.chunks);
    if (best.stages != other.stages)
      parts.push_back(text(other.stages));
    std::string all;
    for (const std::string &part : parts)
      all += (all.empty() ? "" : "; ") + part;
    return all;
  }

  void alternatives() {
    size_t count = std::min(result.strategies.size() - 1, kAlternatives);
    line(count == 0 ? "no other strategy was kept"
                    : format("the %zu next best:", count));
    for (size_t k = 1; k <= count; ++k) {
      const Candidate &other = result.strategies[k];
      std::string what;
      for (const Island &island : other.strategy.islands) {
        auto same = std::find_if(
            strategy.islands.begin(), strategy.islands.end(),
            [&](const Island &best) { return best.sites == island.sites; });
        std::string differs = same == strategy.islands.end()
                                  ? "is an island; " + text(island.stages)
                                  : differences(*same, island);
        if (!differs.empty())
          what +=
              (what.empty() ? "" : " | ") + sitesOf(island) + ": " + differs;
      }
      for (const Island &island : strategy.islands)
        if (std::none_of(
                other.strategy.islands.begin(), other.strategy.islands.end(),
                [&](const Island &one) { return one.sites == island.sites; }))
          what += (what.empty() ? "" : " | ") + sitesOf(island) + ": not used";
      if (strategy.server && other.strategy.server &&
          *strategy.server != *other.strategy.server)
        what += (what.empty() ? "" : " | ") + std::string("server: ") +
                text(*other.strategy.server);
      line(format("  %+.2f %% time, %.1f tokens/s: ",
                  percent(other.prediction.stepSeconds - prediction.stepSeconds,
                          prediction.stepSeconds),
                  other.prediction.tokensPerSecond) +
           (what.empty() ? "differs in sharding alone" : what));
    }
  }

  //===--------------------------------------------------------------------===//
  // What is not used, and what is not known
  //===--------------------------------------------------------------------===//

  static std::map<std::string, uint64_t> chipsOf(const Strategy &strategy) {
    std::map<std::string, uint64_t> used;
    for (const Island &island : strategy.islands)
      for (const Stage &stage : island.stages)
        for (const ReplicaGroup &group : stage.replicas)
          used[group.pool] += group.count * group.tensorParallel;
    return used;
  }

  void unused() {
    auto used = chipsOf(strategy);
    for (const Site &site : problem.topology.sites)
      for (const Pool &pool : site.pools) {
        std::string name = site.name + "/" + pool.name;
        uint64_t idle = pool.chips() - std::min(pool.chips(), used[name]);
        if (idle == 0)
          continue;
        std::string text =
            format("%llu of %llu chips of %s are not used: ",
                   static_cast<unsigned long long>(idle),
                   static_cast<unsigned long long>(pool.chips()), name.c_str());
        // The best of the others that uses more of them.
        auto more =
            std::find_if(result.strategies.begin() + 1, result.strategies.end(),
                         [&](const Candidate &other) {
                           return chipsOf(other.strategy)[name] > used[name];
                         });
        if (more != result.strategies.end())
          text += format(
              "with %llu of them a step takes %s, %+.2f %%",
              static_cast<unsigned long long>(chipsOf(more->strategy)[name]),
              secondsText(more->prediction.stepSeconds).c_str(),
              percent(more->prediction.stepSeconds - prediction.stepSeconds,
                      prediction.stepSeconds));
        else
          text += format("none of the %zu best strategies uses more of them",
                         result.strategies.size());
        line(text);
      }
  }

  /// Times that the plan rests on and that nobody measured.
  void guesses() {
    std::set<std::string> told;
    for (const Island &island : strategy.islands) {
      for (size_t s = 0; s < island.stages.size(); ++s)
        for (const ReplicaGroup &group : island.stages[s].replicas)
          for (const auto &runs : chunkRuns(problem.model, island, s))
            for (const BlockRun &run : runs)
              guess(island, group, run, told);
    }
    if (!told.empty())
      line("times that were not measured:");
    for (const std::string &text : told)
      line("  " + text);
  }

  void guess(const Island &island, const ReplicaGroup &group,
             const BlockRun &run, std::set<std::string> &told) const {
    const Topology &topology = problem.topology;
    const Chip &chip = topology.chipOf(*topology.findPool(group.pool));
    BlockTimes times = blockTimes(problem, run.kind, chip,
                                  static_cast<double>(island.microbatch),
                                  {group.tensorParallel, Transfer()});
    if (times.source <= TimeSource::Measured)
      return;
    told.insert(format(
        "%s: block '%s' at microbatch %llu, tensor_parallel %llu: %s (forward "
        "%s, backward %s)",
        chip.name.c_str(), problem.model.kinds[run.kind].name.c_str(),
        static_cast<unsigned long long>(island.microbatch),
        static_cast<unsigned long long>(group.tensorParallel),
        name(times.source), secondsText(times.forward).c_str(),
        secondsText(times.backward()).c_str()));
  }
};

bool feasible(const Problem &problem, const StrategyPins &pins) {
  Problem quick = problem;
  quick.bounds.candidates = 1;
  return quick.check().empty() && !search(quick, pins).strategies.empty();
}

/// The least number above 1 (to one part in a hundred) by which `scale` makes a
/// problem feasible; 0 where not even 64 does.
double leastFactor(const Problem &problem, const StrategyPins &pins,
                   const std::function<void(Problem &, double)> &scale) {
  auto fits = [&](double factor) {
    Problem changed = problem;
    scale(changed, factor);
    return feasible(changed, pins);
  };
  double low = 1, high = 2;
  while (!fits(high)) {
    low = high;
    high *= 2;
    if (high > 64)
      return 0;
  }
  while (high / low > 1.01) {
    double middle = std::sqrt(low * high);
    (fits(middle) ? high : low) = middle;
  }
  return high;
}

} // namespace

std::string explain(const Problem &problem, const StrategyPins &pins,
                    const SearchResult &result) {
  if (result.strategies.empty())
    return "";
  return Explanation(problem, pins, result).run();
}

std::vector<std::string> smallestChanges(const Problem &problem,
                                         const StrategyPins &pins) {
  std::vector<std::pair<double, std::string>> changes; // by factor
  for (size_t c = 0; c < problem.topology.chips.size(); ++c) {
    const Chip &chip = problem.topology.chips[c];
    double factor =
        leastFactor(problem, pins, [&](Problem &changed, double by) {
          changed.topology.chips[c].memoryGib *= by;
        });
    if (factor > 0)
      changes.emplace_back(factor,
                           format("with %.2f GiB on every %s (now %.2f GiB)",
                                  factor * chip.memoryGib, chip.name.c_str(),
                                  chip.memoryGib));
  }
  for (size_t s = 0; s < problem.topology.sites.size(); ++s)
    for (size_t p = 0; p < problem.topology.sites[s].pools.size(); ++p) {
      const Site &site = problem.topology.sites[s];
      const Pool &pool = site.pools[p];
      // What wire there would be between more nodes is not known.
      if (!pool.interNode)
        continue;
      auto nodes = [&](double by) {
        return static_cast<uint64_t>(
            std::ceil(by * static_cast<double>(pool.nodes)));
      };
      double factor =
          leastFactor(problem, pins, [&](Problem &changed, double by) {
            changed.topology.sites[s].pools[p].nodes = nodes(by);
          });
      if (factor > 0)
        changes.emplace_back(
            factor, format("with %llu nodes in %s/%s (now %llu)",
                           static_cast<unsigned long long>(nodes(factor)),
                           site.name.c_str(), pool.name.c_str(),
                           static_cast<unsigned long long>(pool.nodes)));
    }
  if (pins.islands && feasible(problem, StrategyPins()))
    changes.emplace_back(1, "with nothing pinned");
  std::stable_sort(
      changes.begin(), changes.end(),
      [](const auto &a, const auto &b) { return a.first < b.first; });
  std::vector<std::string> lines;
  for (auto &[factor, text] : changes)
    lines.push_back(std::move(text));
  return lines;
}

} // namespace tombolo::planning
