//===- CostModel.cpp - what a strategy would cost -------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/CostModel.h"
#include "Infinity.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace tombolo::planning {

//===----------------------------------------------------------------------===//
// The whole
//===----------------------------------------------------------------------===//

/// Seconds of a boundary tensor from replicas of `from` chips to replicas of
/// `to`. What every chip has whole goes over once, in pieces, and is put
/// together there; parts go as they are.
double boundarySeconds(const Transfer &transfer, double wholeBytes,
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
    auto stageOf = [&](uint64_t block) -> size_t {
      for (uint64_t c = 0; c < island.chunks; ++c)
        for (size_t s = 0; s < island.stages.size(); ++s) {
          uint64_t blocks =
              blocksOfChunk(island.stages[s].blocks, island.chunks, c);
          if (block < blocks)
            return s;
          block -= blocks;
        }
      return island.stages.size() - 1;
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

namespace {

/// Foretells one island.
class IslandModel {
public:
  IslandModel(const Problem &problem, const Strategy &strategy, size_t index)
      : problem(problem), topology(problem.topology),
        island(strategy.islands[index]), places(placeRanks(strategy)[index]),
        microbatch(static_cast<double>(island.microbatch)) {}

  IslandPrediction run() {
    IslandPrediction result;
    std::vector<std::vector<StageTimes>> times(island.stages.size());
    double busy = 0, ranks = 0;
    for (size_t s = 0; s < island.stages.size(); ++s) {
      const Stage &stage = island.stages[s];
      auto chunks = chunkRuns(problem.model, island, s);
      auto &groups = result.stages.emplace_back();
      for (size_t g = 0; g < stage.replicas.size(); ++g) {
        GroupPrediction p;
        times[s].push_back(foretell(s, g, chunks, p));
        double chips = static_cast<double>(stage.replicas[g].count *
                                           stage.replicas[g].tensorParallel);
        busy += chips * static_cast<double>(microbatchesOf(island, s, g)) *
                (p.forwardSeconds + p.backwardSeconds);
        ranks += chips;
        groups.push_back(std::move(p));
      }
      result.wanBytesPerStep += crossingBytes(s, chunks);
    }
    PipelineTime time = pipelineTime(island, times);
    result.stepSeconds = time.deadlock
                             ? kInfinity
                             : std::max(time.seconds, busiestCore(result)) +
                                   stepOverhead() +
                                   tieSeconds(problem, island, places);
    result.bubbleFraction =
        time.computeEnd > 0 && ranks > 0
            ? std::max(0.0, 1 - busy / (ranks * time.computeEnd))
            : 0;
    return result;
  }

private:
  using Chunks = std::vector<std::vector<BlockRun>>;

  const Problem &problem;
  const Topology &topology;
  const Island &island;
  std::vector<std::vector<ChipRange>> places; // by stage and group
  double microbatch;

  ReplicaChips chipsOf(size_t s, size_t g) const {
    uint64_t chips = island.stages[s].replicas[g].tensorParallel;
    return ReplicaChips{chips, insideReplicas(topology, places[s][g], chips)};
  }
  /// What the slowest host needs once a step.
  double stepOverhead() const {
    double most = 0;
    for (const Stage &stage : island.stages)
      for (const ReplicaGroup &group : stage.replicas)
        most = std::max(
            most,
            topology.chipOf(*topology.findPool(group.pool)).overheads.stepMs *
                1e-3);
    return most;
  }
  /// What the core that has most to do takes for the ranks on it, one after the
  /// other: their calls, and their messages and sums, which the host's cores
  /// move themselves.
  double busiestCore(const IslandPrediction &foretold) const {
    std::map<HostCore, double> seconds;
    double most = 0;
    for (size_t s = 0; s < places.size(); ++s)
      for (size_t g = 0; g < places[s].size(); ++g) {
        std::vector<HostCore> cores = hostCores(topology, places[s][g]);
        if (cores.empty())
          continue;
        double one = coreSeconds(s, g, foretold.stages[s][g]);
        for (const HostCore &core : cores)
          most = std::max(most, seconds[core] += one);
      }
    return most;
  }
  /// Of a rank's core, in a step.
  double coreSeconds(size_t s, size_t g, const GroupPrediction &p) const {
    double calls =
        std::max(0.0, p.forwardSeconds + p.backwardSeconds - p.exchangeSeconds);
    const Pool &pool = *topology.findPool(places[s][g].pool);
    double moves =
        busyPart(topology, pool) * p.exchangeSeconds + messageSeconds(s, g);
    return static_cast<double>(microbatchesOf(island, s, g)) * (calls + moves) +
           sumSeconds(s, g, p) + p.updateSeconds;
  }
  /// Of a rank's core, for a microbatch: what goes to both neighbours and comes
  /// from them, of all chunks.
  double messageSeconds(size_t s, size_t g) const {
    const ChipRange &own = places[s][g];
    uint64_t chips = island.stages[s].replicas[g].tensorParallel;
    auto both = [&](size_t other, size_t kind, Affine BlockKind::*tensor) {
      double bytes = (figuresOf(problem, kind, chips).*tensor).at(microbatch);
      return 2 * coreMoveSeconds(topology, own, places[other].front(), bytes);
    };
    double seconds = 0;
    auto chunks = chunkRuns(problem.model, island, s);
    for (size_t c = 0; c < chunks.size(); ++c) {
      if (!isLast(s, c, chunks))
        seconds +=
            both(behind(s), chunks[c].back().kind, &BlockKind::outputBytes);
      if (!isFirst(s, c))
        seconds +=
            both(before(s), chunks[c].front().kind, &BlockKind::inputBytes);
    }
    return seconds;
  }
  /// Of a rank's core, for the sum of its gradients.
  double sumSeconds(size_t s, size_t g, const GroupPrediction &p) const {
    std::set<std::pair<const Pool *, uint64_t>> nodes;
    for (const ChipRange &range : places[s])
      for (const auto &[pool, node, core] : hostCores(topology, range))
        nodes.insert({pool, node});
    const Pool &pool = *topology.findPool(places[s][g].pool);
    if (nodes.size() == 1)
      return busyPart(topology, pool) * p.allReduceSeconds;
    // Between nodes it waits for cards and lines; its core moves the bytes.
    double n = static_cast<double>(island.stages[s].replicaCount());
    return 2 * (n - 1) / n * p.memory.gradients /
           (coreBytesPerSecond(topology, pool) *
            topology.chipOf(pool).overheads.ringRate);
  }
  size_t behind(size_t s) const { return (s + 1) % island.stages.size(); }
  size_t before(size_t s) const {
    return (s + island.stages.size() - 1) % island.stages.size();
  }
  bool isFirst(size_t s, size_t c) const { return s == 0 && c == 0; }
  bool isLast(size_t s, size_t c, const Chunks &chunks) const {
    return s + 1 == island.stages.size() && c + 1 == chunks.size();
  }

  struct Sent {
    double seconds = 0;
    double asked = 0; // as ChunkTimes::askForward
  };
  /// A boundary tensor of a kind of block to the slowest of a neighbour's
  /// groups.
  Sent send(size_t s, size_t g, size_t other, size_t kind,
            Affine BlockKind::*tensor) const {
    uint64_t chips = island.stages[s].replicas[g].tensorParallel;
    double whole = (problem.model.kinds[kind].*tensor).at(microbatch);
    double local = (figuresOf(problem, kind, chips).*tensor).at(microbatch);
    // Stages that deal microbatches out alike send from group to group.
    bool isDealtAlike =
        dealAlike(island.stages[s].replicas, island.stages[other].replicas);
    Sent slowest;
    for (size_t h = 0; h < places[other].size(); ++h) {
      if (h != g && isDealtAlike)
        continue;
      Transfer transfer =
          transferBetween(topology, places[s][g], places[other][h]);
      ReplicaChips to = chipsOf(other, h);
      Sent here{boundarySeconds(transfer, whole, local, chips, to)};
      if (transfer.crossesSites) // what is put together there is there
        here.asked = transfer.latency + boundarySeconds(transfer, whole, local,
                                                        chips, {to.count, {}});
      if (here.seconds >= slowest.seconds)
        slowest = here;
    }
    return slowest;
  }

  /// What crosses lines behind a stage: activations one way, gradients the
  /// other; parts add up to the whole.
  double crossingBytes(size_t s, const Chunks &chunks) const {
    double bytes = 0;
    for (size_t c = 0; c < chunks.size(); ++c) {
      if (isLast(s, c, chunks))
        continue;
      bool crosses = false;
      for (const ChipRange &other : places[behind(s)])
        crosses |= transferBetween(topology, places[s][0], other).crossesSites;
      if (crosses)
        bytes += 2 *
                 problem.model.kinds[chunks[c].back().kind].outputBytes.at(
                     microbatch) *
                 static_cast<double>(microbatchesPerStep(island));
    }
    return bytes;
  }

  /// Gradients that a replica's chips have partial sums of.
  double partialSumSeconds(const Chunks &chunks,
                           const ReplicaChips &replica) const {
    Work partial;
    Exchange &sum = partial.of(Collective::AllReduce);
    for (const auto &runs : chunks)
      for (const BlockRun &run : runs) {
        uint64_t bytes =
            figuresOf(problem, run.kind, replica.count).partialGradientBytes;
        sum.bytes.constant += static_cast<double>(bytes * run.count);
        if (bytes > 0)
          sum.count = 1;
      }
    return exchangeSeconds(partial, replica.count, replica.wire, 0);
  }

  /// Times of one group; its figures go to `p`.
  StageTimes foretell(size_t s, size_t g, const Chunks &chunks,
                      GroupPrediction &p) const {
    const Stage &stage = island.stages[s];
    const ReplicaGroup &group = stage.replicas[g];
    const Chip &chip = topology.chipOf(*topology.findPool(group.pool));
    ReplicaChips replica = chipsOf(s, g);
    uint64_t parts = stage.optimizerSharding ? stage.replicaCount() : 1;
    StageSchedule order =
        scheduleStage(island.schedule, island.stages.size(), s,
                      microbatchesOf(island, s, g), chunks.size());

    StageTimes all;
    std::vector<ChunkUse> uses;
    uint64_t again = stage.recompute.of(stage.blocks);
    for (size_t c = 0; c < chunks.size(); ++c) {
      uint64_t blocks = 0;
      for (const BlockRun &run : chunks[c])
        blocks += run.count;
      uint64_t here = std::min(again, blocks); // the stage's first blocks
      again -= here;
      StageTimes one = blockSeconds(problem, chunks[c], chip, microbatch,
                                    {Recompute::Blocks, here}, replica);
      bool first = isFirst(s, c), last = isLast(s, c, chunks);
      if (!last) {
        Sent sent = send(s, g, behind(s), chunks[c].back().kind,
                         &BlockKind::outputBytes);
        one.sendForward = sent.seconds;
        one.askForward = sent.asked;
      }
      if (!first) {
        Sent sent = send(s, g, before(s), chunks[c].front().kind,
                         &BlockKind::inputBytes);
        one.sendBackward = sent.seconds;
        one.askBackward = sent.asked;
      }
      // A chip is held up by what it sends for as long as that takes to start.
      one.forward += last ? 0 : chip.overheads.transferUs * 1e-6;
      one.backward += first ? 0 : chip.overheads.transferUs * 1e-6;
      all.forward += one.forward;
      all.backward += one.backward;
      all.backwardWeight += one.backwardWeight;
      all.exchanges += one.exchanges;
      all.update += one.update;
      all.source = std::max(all.source, one.source);
      all.sendForward = std::max(all.sendForward, one.sendForward);
      all.sendBackward = std::max(all.sendBackward, one.sendBackward);
      all.chunks.push_back(one.whole());
      uses.push_back({chunks[c], order.chunks[c].inFlight,
                      order.chunks[c].handedOn, first, last});
    }

    p.forwardSeconds = all.forward;
    p.backwardSeconds = all.backward;
    p.exchangeSeconds = all.exchanges;
    p.source = all.source;
    p.sendForwardSeconds = all.sendForward;
    p.sendBackwardSeconds = all.sendBackward;
    p.microbatchesInFlight = order.inFlight;
    p.memory =
        memoryUse(problem, uses, microbatch, stage.recompute,
                  {group.tensorParallel, parts,
                   repeatedElements(problem.model, chunkRanges(island, s))});
    p.availableBytes = availableBytes(problem, chip);
    p.allReduceSeconds =
        chip.overheads.exposedReduction *
        allReduceSeconds(topology, places[s], p.memory.gradients,
                         group.tensorParallel);
    p.allReduceSeconds += partialSumSeconds(chunks, replica);
    // What an update takes goes by its size: that of the stage, not of a block.
    double updated = p.memory.gradients / 4 / static_cast<double>(parts);
    p.updateSeconds =
        measuredUpdate(chip, problem.training.optimizerStateBytesPerParameter,
                       updated)
            .value_or(all.update / static_cast<double>(parts));
    all.tail = p.allReduceSeconds + p.updateSeconds;
    return all;
  }
};

} // namespace

IslandPrediction evaluateIsland(const Problem &problem,
                                const Strategy &strategy, size_t island) {
  return IslandModel(problem, strategy, island).run();
}

std::vector<BlockRange> chunkRanges(const Island &island, size_t stage) {
  std::vector<BlockRange> result;
  uint64_t first = 0;
  for (uint64_t c = 0; c < island.chunks; ++c)
    for (size_t s = 0; s < island.stages.size(); ++s) {
      uint64_t blocks =
          blocksOfChunk(island.stages[s].blocks, island.chunks, c);
      if (s == stage)
        result.push_back({first, blocks});
      first += blocks;
    }
  return result;
}

std::vector<std::vector<BlockRun>>
chunkRuns(const ModelProfile &model, const Island &island, size_t stage) {
  std::vector<std::vector<BlockRun>> result;
  for (BlockRange blocks : chunkRanges(island, stage))
    result.push_back(slice(model.runs, blocks.first, blocks.count));
  return result;
}

/// What ranks keep on their hosts to talk to the server, which is chosen when
/// the islands are foretold already: as plan-allocate-buffers has it.
static void addHostBytes(const Problem &problem, const Strategy &strategy,
                         size_t index, IslandPrediction &prediction) {
  const Server &server = *strategy.server;
  const Island &island = strategy.islands[index];
  bool trainsOn =
      server.overlapSteps > 0 || server.quorum < strategy.islands.size();
  bool isCompressed = server.compression != Compression::None;
  std::vector<bool> isOwned(problem.model.ties.size()); // by a stage before
  for (size_t s = 0; s < island.stages.size(); ++s) {
    std::vector<BlockRange> blocks = chunkRanges(island, s);
    double borrowed = 0;
    for (size_t t = 0; t < isOwned.size(); ++t) {
      const TiedParameter &tie = problem.model.ties[t];
      if (usersIn(tie, blocks) == 0)
        continue;
      if (isOwned[t])
        borrowed += static_cast<double>(tie.count);
      isOwned[t] = true;
    }
    for (size_t g = 0; g < island.stages[s].replicas.size(); ++g) {
      MemoryUse &memory = prediction.stages[s][g].memory;
      double chips =
          static_cast<double>(island.stages[s].replicas[g].tensorParallel);
      double elements = memory.gradients / 4; // f32, as all of these
      memory.host = elements * (trainsOn ? 12 : 8);
      if (isCompressed)
        memory.host += 8 * (elements - borrowed / chips);
    }
  }
}

Prediction evaluate(const Problem &problem, const Strategy &strategy) {
  std::vector<IslandPrediction> islands;
  for (size_t i = 0; i < strategy.islands.size(); ++i)
    islands.push_back(evaluateIsland(problem, strategy, i));
  return evaluate(problem, strategy, islands);
}

Prediction evaluate(const Problem &problem, const Strategy &strategy,
                    const std::vector<IslandPrediction> &islands) {
  Prediction result;
  Synchronisation sync;
  if (strategy.server)
    sync = synchronisation(problem, strategy);
  double round = 0, samples = 0, chipSeconds = 0, idle = 0, crossed = 0;
  double steps =
      strategy.server ? static_cast<double>(strategy.server->innerSteps) : 1;
  std::map<uint64_t, double> slowest; // seconds of a round, by inner steps
  for (size_t i = 0; i < strategy.islands.size(); ++i) {
    const Island &island = strategy.islands[i];
    result.islands.push_back(islands[i]);
    if (strategy.server)
      addHostBytes(problem, strategy, i, result.islands.back());
    const IslandPrediction &prediction = result.islands.back();
    uint64_t innerSteps = innerStepsOf(strategy, island);
    double own = static_cast<double>(innerSteps);
    double seconds = own * prediction.stepSeconds;
    if (strategy.server)
      seconds += sync.coreSeconds[i];
    round = std::max(round, seconds);
    double &ofThese = slowest[innerSteps];
    ofThese = std::max(ofThese, seconds);
    samples += own * static_cast<double>(island.batch);
    crossed += own * prediction.wanBytesPerStep;
    double weight =
        static_cast<double>(island.ranks()) * prediction.stepSeconds;
    chipSeconds += weight;
    idle += weight * prediction.bubbleFraction;
  }
  if (strategy.server) {
    // What an island's own overlapping steps do not hide, beyond the time in
    // which it waits for the slowest one anyway.
    for (auto [innerSteps, seconds] : slowest) {
      Server its = *strategy.server;
      its.innerSteps = innerSteps;
      double exposed =
          exposedSeconds(its, sync, seconds / static_cast<double>(innerSteps));
      result.synchronisationSeconds =
          std::max(result.synchronisationSeconds, exposed - (round - seconds));
    }
    result.connections = sync.connections;
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
