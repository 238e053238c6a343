//===- CostModel.cpp - what a strategy would cost -------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/CostModel.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace tombolo::planning {

static constexpr double kInfinity = std::numeric_limits<double>::infinity();

//===----------------------------------------------------------------------===//
// The whole
//===----------------------------------------------------------------------===//

/// Seconds of a boundary tensor from replicas of `from` chips to replicas of
/// `to`. What every chip has whole goes over once, in pieces, and is put
/// together there; parts go as they are.
static double boundarySeconds(const Transfer &transfer, double wholeBytes,
                              double localBytes, uint64_t from,
                              const ReplicaChips &to) {
  bool isWhole = localBytes >= wholeBytes;
  double pieces = static_cast<double>(
      isWhole ? std::max<uint64_t>(1, std::min(from, to.count)) : 1);
  double seconds = transfer.seconds(localBytes / pieces);
  if (!isWhole || to.count <= 1)
    return seconds;
  double k = static_cast<double>(to.count);
  return seconds + (k - 1) * to.wire.seconds(wholeBytes / k);
}

/// Seconds for the gradients of tied parameters to meet at their owners, once
/// a step.
static double tieSeconds(const Problem &problem, const Island &island,
                         const std::vector<std::vector<ChipRange>> &places) {
  double seconds = 0;
  for (const TiedParameter &tie : problem.model.ties) {
    auto stageOf = [&](uint64_t block) {
      size_t s = 0;
      while (s + 1 < island.stages.size() && block >= island.stages[s].blocks)
        block -= island.stages[s++].blocks;
      return s;
    };
    size_t from = stageOf(tie.blockNumbers.front());
    size_t to = stageOf(tie.blockNumbers.back());
    if (from != to)
      seconds +=
          2 * transferBetween(problem.topology, places[from][0], places[to][0])
                  .seconds(4.0 * static_cast<double>(tie.count));
  }
  return seconds;
}

IslandPrediction evaluateIsland(const Problem &problem,
                                const Strategy &strategy, size_t index) {
  const Island &island = strategy.islands[index];
  const Topology &topology = problem.topology;
  auto places = placeRanks(strategy)[index];
  double microbatch = static_cast<double>(island.microbatch);
  uint64_t microbatches = microbatchesPerStep(island);
  size_t count = island.stages.size();

  IslandPrediction result;
  std::vector<std::vector<StageTimes>> times(count);
  auto chipsOf = [&](size_t s, size_t g) {
    uint64_t chips = island.stages[s].replicas[g].tensorParallel;
    return ReplicaChips{chips, insideReplicas(topology, places[s][g], chips)};
  };
  uint64_t firstBlock = 0;
  double busy = 0, ranks = 0, stepOverhead = 0;
  for (size_t s = 0; s < count; ++s) {
    const Stage &stage = island.stages[s];
    auto runs = slice(problem.model.runs, firstBlock, stage.blocks);
    firstBlock += stage.blocks;
    auto &groups = result.stages.emplace_back();
    const BlockKind &front = problem.model.kinds[runs.front().kind];
    const BlockKind &back = problem.model.kinds[runs.back().kind];
    uint64_t parts = stage.optimizerSharding ? stage.replicaCount() : 1;
    for (size_t g = 0; g < stage.replicas.size(); ++g) {
      const ReplicaGroup &group = stage.replicas[g];
      const Chip &chip = topology.chipOf(*topology.findPool(group.pool));
      ReplicaChips replica = chipsOf(s, g);
      StageTimes one = blockSeconds(problem, runs, chip, microbatch,
                                    stage.recompute, replica);
      GroupPrediction p;
      // A chip is held up by what it sends for as long as that takes to start.
      double start = chip.overheads.transferUs * 1e-6;
      one.forward += s + 1 < count ? start : 0;
      one.backward += s > 0 ? start : 0;
      p.forwardSeconds = one.forward;
      p.backwardSeconds = one.backward;
      p.exchangeSeconds = one.exchanges;
      p.source = one.source;
      uint64_t own = microbatchesOf(island, s, g);
      p.microbatchesInFlight =
          scheduleStage(island.schedule, count, s, own).inFlight;
      p.memory = memoryUse(problem, runs, microbatch, p.microbatchesInFlight,
                           stage.recompute, s == 0, s + 1 == count,
                           {group.tensorParallel, parts});
      if (strategy.server) // f32, as the gradients
        p.memory.host = p.memory.gradients;
      p.availableBytes = availableBytes(problem, chip);
      // To the slowest of the neighbour's groups.
      auto send = [&](size_t other, const Affine &whole, const Affine &local,
                      bool &crosses) {
        double slowest = 0;
        for (size_t h = 0; h < places[other].size(); ++h) {
          Transfer transfer =
              transferBetween(topology, places[s][g], places[other][h]);
          crosses |= transfer.crossesSites;
          slowest =
              std::max(slowest, boundarySeconds(transfer, whole.at(microbatch),
                                                local.at(microbatch),
                                                group.tensorParallel,
                                                chipsOf(other, h)));
        }
        return slowest;
      };
      const Affine &sent =
          figuresOf(problem, runs.back().kind, group.tensorParallel)
              .outputBytes;
      bool crosses = false, ignored = false;
      if (s + 1 < count)
        p.sendForwardSeconds = send(s + 1, back.outputBytes, sent, crosses);
      // Activations one way, gradients the other; parts add up to the whole.
      if (crosses && g == 0)
        result.wanBytesPerStep += 2 * back.outputBytes.at(microbatch) *
                                  static_cast<double>(microbatches);
      if (s > 0)
        p.sendBackwardSeconds =
            send(s - 1, front.inputBytes,
                 figuresOf(problem, runs.front().kind, group.tensorParallel)
                     .inputBytes,
                 ignored);
      stepOverhead = std::max(stepOverhead, chip.overheads.stepMs * 1e-3);
      p.allReduceSeconds =
          chip.overheads.exposedReduction *
          allReduceSeconds(topology, places[s], p.memory.gradients,
                           group.tensorParallel);
      // What a replica's chips have partial sums of, before.
      Work partial;
      for (const BlockRun &run : runs) {
        uint64_t bytes = figuresOf(problem, run.kind, group.tensorParallel)
                             .partialGradientBytes;
        partial.of(Collective::AllReduce).bytes.constant +=
            static_cast<double>(bytes * run.count);
        if (bytes > 0)
          partial.of(Collective::AllReduce).count = 1;
      }
      p.allReduceSeconds +=
          exchangeSeconds(partial, replica.count, replica.wire, 0);
      p.updateSeconds = one.update / static_cast<double>(parts);
      StageTimes &lane = times[s].emplace_back(one);
      lane.sendForward = p.sendForwardSeconds;
      lane.sendBackward = p.sendBackwardSeconds;
      lane.tail = p.allReduceSeconds + p.updateSeconds;
      double chips = static_cast<double>(group.count * group.tensorParallel);
      busy += chips * static_cast<double>(own) *
              (p.forwardSeconds + p.backwardSeconds);
      ranks += chips;
      groups.push_back(std::move(p));
    }
  }
  PipelineTime time = pipelineTime(island, times);
  result.stepSeconds = time.deadlock
                           ? kInfinity
                           : time.seconds + stepOverhead +
                                 tieSeconds(problem, island, places);
  result.bubbleFraction =
      time.computeEnd > 0 && ranks > 0
          ? std::max(0.0, 1 - busy / (ranks * time.computeEnd))
          : 0;
  return result;
}

Prediction evaluate(const Problem &problem, const Strategy &strategy) {
  Prediction result;
  double round = 0, samples = 0, chipSeconds = 0, idle = 0, crossed = 0;
  double steps =
      strategy.server ? static_cast<double>(strategy.server->innerSteps) : 1;
  for (size_t i = 0; i < strategy.islands.size(); ++i) {
    const Island &island = strategy.islands[i];
    result.islands.push_back(evaluateIsland(problem, strategy, i));
    const IslandPrediction &prediction = result.islands.back();
    double own = strategy.server && island.innerSteps
                     ? static_cast<double>(*island.innerSteps)
                     : steps;
    round = std::max(round, own * prediction.stepSeconds);
    samples += own * static_cast<double>(island.batch);
    crossed += own * prediction.wanBytesPerStep;
    double weight =
        static_cast<double>(island.ranks()) * prediction.stepSeconds;
    chipSeconds += weight;
    idle += weight * prediction.bubbleFraction;
  }
  if (strategy.server) {
    Synchronisation sync = synchronisation(problem, strategy);
    double fragments = static_cast<double>(strategy.server->fragments);
    double hidden =
        static_cast<double>(strategy.server->overlapSteps) * round / steps;
    result.synchronisationSeconds =
        fragments * std::max(0.0, sync.seconds / fragments - hidden);
    round += result.synchronisationSeconds;
    crossed += sync.wanBytes;
  }
  result.stepSeconds = round / steps;
  result.wanBytesPerRound = crossed;
  result.tokensPerSecond =
      samples * static_cast<double>(problem.model.tokensPerSample) / round;
  result.bubbleFraction = chipSeconds > 0 ? idle / chipSeconds : 0;
  return result;
}

double lowerBound(const Problem &problem) {
  const ModelProfile &model = problem.model;
  std::map<std::string, double> counts;
  for (const Site &site : problem.topology.sites)
    for (const Pool &pool : site.pools)
      counts[pool.chip] += static_cast<double>(pool.chips());
  // In the unit "seconds of the reference chip" the work is fixed, and no chip
  // does more of it per second than on the block that suits it best.
  double best = 0;
  for (const auto &[reference, ignored] : counts) {
    const Chip &unit = *problem.topology.findChip(reference);
    double work = 0, rate = 0;
    for (const BlockRun &run : model.runs)
      work += static_cast<double>(run.count) *
              leastSecondsPerSample(problem, run.kind, unit);
    for (const auto &[name, chips] : counts) {
      const Chip &chip = *problem.topology.findChip(name);
      double fastest = 0;
      for (const BlockRun &run : model.runs) {
        double here = leastSecondsPerSample(problem, run.kind, chip);
        double there = leastSecondsPerSample(problem, run.kind, unit);
        if (there > 0)
          fastest = std::max(fastest, here > 0 ? there / here : kInfinity);
      }
      rate += chips * fastest;
    }
    double bound =
        work * static_cast<double>(problem.training.globalBatch) / rate;
    if (std::isfinite(bound))
      best = std::max(best, bound);
  }
  return best;
}

} // namespace tombolo::planning
