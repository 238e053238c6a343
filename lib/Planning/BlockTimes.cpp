//===- BlockTimes.cpp - seconds of blocks, computed or measured -----------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "Infinity.h"
#include "tombolo/Planning/CostModel.h"

#include <algorithm>
#include <cmath>

namespace tombolo::planning {

const char *name(TimeSource source) {
  switch (source) {
  case TimeSource::Computed:
    return "computed";
  case TimeSource::Measured:
    return "measured";
  case TimeSource::Interpolated:
    return "interpolated";
  case TimeSource::Estimated:
    return "estimated";
  }
  return "";
}

std::optional<TimeSource> parseTimeSource(const std::string &text) {
  for (TimeSource source : {TimeSource::Computed, TimeSource::Measured,
                            TimeSource::Interpolated, TimeSource::Estimated})
    if (text == name(source))
      return source;
  return std::nullopt;
}

const BlockKind &figuresOf(const Problem &problem, size_t kind,
                           uint64_t chips) {
  const BlockKind &whole = problem.model.kinds[kind];
  const BlockKind *sharded = whole.on(chips);
  return sharded ? *sharded : whole;
}

double updateSeconds(const Problem &problem, const Chip &chip,
                     const BlockKind &figures) {
  // Reads parameter, gradient and state; writes parameter and state.
  double state =
      static_cast<double>(problem.training.optimizerStateBytesPerParameter);
  return static_cast<double>(figures.trainableCount) * (3 * 4 + 2 * state) /
         chip.bytesPerSecond();
}

//===----------------------------------------------------------------------===//
// Measured
//===----------------------------------------------------------------------===//

namespace {

/// What was measured of one kind of block on one chip, completed.
class Measured {
public:
  Measured(const Problem &problem, size_t kind, const Chip &chip,
           const ChipTimes &times)
      : problem(problem), kind(kind), chip(chip), times(times) {}

  TimeSource source = TimeSource::Measured; // of all that was asked

  /// Whether the chips of a replica tell each other more than was measured.
  bool addsExchanges(Timed what, uint64_t chips) const {
    return nearestDegree(what, chips) < chips ||
           std::any_of(
               times.cells.begin(), times.cells.end(),
               [](const MeasuredTime &cell) { return !cell.withExchanges; });
  }

  /// Of the backward, what the gradients of parameters take, as at the nearest
  /// cell that tells; negative: none does.
  double weightPart(uint64_t chips, double microbatch) const {
    uint64_t degree = nearestDegree(Timed::Backward, chips);
    double part = -1, nearest = kInfinity;
    for (const MeasuredTime &cell : times.cells) {
      double distance = std::abs(
          std::log2(static_cast<double>(cell.microbatch) / microbatch));
      if (cell.tensorParallel == degree && cell.weightPart >= 0 &&
          distance < nearest) {
        part = cell.weightPart;
        nearest = distance;
      }
    }
    return part;
  }

  double seconds(Timed what, uint64_t chips, double microbatch) {
    uint64_t degree = nearestDegree(what, chips);
    if (degree == 0) { // nothing was measured
      note(what, TimeSource::Estimated);
      return computed(what, chips, microbatch) * times.scale[index(what)];
    }
    if (degree != chips)
      source = TimeSource::Estimated;
    // The neighbours of the microbatch among the cells of this degree.
    const MeasuredTime *below = nullptr, *above = nullptr;
    for (const MeasuredTime &cell : times.cells) {
      if (cell.tensorParallel != degree || cell.seconds[index(what)] <= 0)
        continue;
      if (static_cast<double>(cell.microbatch) <= microbatch)
        below = &cell;
      else if (!above)
        above = &cell;
    }
    double low = below ? at(what, *below, chips) : 0;
    double high = above ? at(what, *above, chips) : 0;
    if (below && static_cast<double>(below->microbatch) == microbatch)
      return low;
    if (below && above) {
      note(what, TimeSource::Interpolated);
      double from = static_cast<double>(below->microbatch);
      double to = static_cast<double>(above->microbatch);
      return low + (high - low) * (microbatch - from) / (to - from);
    }
    note(what, TimeSource::Estimated);
    const MeasuredTime &cell = below ? *below : *above;
    return (below ? low : high) *
           ratio(computed(what, chips, microbatch),
                 computed(what, chips, static_cast<double>(cell.microbatch)));
  }

  /// Chip-seconds of a sample on `chips`, whatever the microbatch: between
  /// cells the time per sample is between theirs, below the smallest it is
  /// more, and beyond the largest it falls to the computed slope.
  double leastPerSample(Timed what, uint64_t chips) {
    uint64_t degree = nearestDegree(what, chips);
    double k = static_cast<double>(chips);
    double slope = computed(what, chips, kVast) / kVast;
    if (degree == 0)
      return k * slope * times.scale[index(what)];
    double least = kInfinity;
    for (const MeasuredTime &cell : times.cells) {
      if (cell.tensorParallel != degree || cell.seconds[index(what)] <= 0)
        continue;
      double samples = static_cast<double>(cell.microbatch);
      double here = at(what, cell, chips);
      least = std::min(least, k * here / samples);
      double computedHere = computed(what, chips, samples);
      if (computedHere > 0)
        least = std::min(least, k * here * slope / computedHere);
    }
    return least;
  }

private:
  static constexpr double kVast = 1e12; // samples: constants do not matter

  const Problem &problem;
  size_t kind;
  const Chip &chip;
  const ChipTimes &times;

  static size_t index(Timed what) { return static_cast<size_t>(what); }
  static double ratio(double a, double b) {
    return b > 0 && std::isfinite(a) && std::isfinite(b) ? a / b : 1;
  }
  /// An update does not depend on the microbatch: that is no guess.
  void note(Timed what, TimeSource source) {
    if (what != Timed::Update)
      this->source = std::max(this->source, source);
  }

  /// By the roofline, without what the chips tell each other.
  double computed(Timed what, uint64_t chips, double samples) const {
    const BlockKind *figures = problem.model.kinds[kind].on(chips);
    double part = 1;
    if (!figures) { // nobody asked for them: cut evenly
      figures = &problem.model.kinds[kind];
      part = static_cast<double>(chips);
    }
    auto roofline = [&](const Work &work) {
      return planning::seconds(chip, problem.precision(), work, samples);
    };
    switch (what) {
    case Timed::Forward:
      return roofline(figures->forward) / part;
    case Timed::Backward:
      return (roofline(figures->backwardInput) +
              roofline(figures->backwardWeight)) /
             part;
    case Timed::Update:
      return updateSeconds(problem, chip, *figures) / part;
    }
    return 0;
  }

  /// A cell as it would be on so many chips.
  double at(Timed what, const MeasuredTime &cell, uint64_t chips) const {
    double seconds = cell.seconds[index(what)];
    if (cell.tensorParallel == chips)
      return seconds;
    double samples = static_cast<double>(cell.microbatch);
    return seconds * ratio(computed(what, chips, samples),
                           computed(what, cell.tensorParallel, samples));
  }

  /// The number of chips nearest to `chips`, by their ratio, of which there is
  /// a cell; 0: none.
  uint64_t nearestDegree(Timed what, uint64_t chips) const {
    uint64_t best = 0;
    double nearest = kInfinity;
    for (const MeasuredTime &cell : times.cells) {
      double distance =
          std::abs(std::log2(static_cast<double>(cell.tensorParallel) /
                             static_cast<double>(chips)));
      if (cell.seconds[index(what)] > 0 && distance < nearest) {
        nearest = distance;
        best = cell.tensorParallel;
      }
    }
    return best;
  }
};

} // namespace

BlockTimes blockTimes(const Problem &problem, size_t kind, const Chip &chip,
                      double microbatch, const ReplicaChips &replica) {
  const BlockKind &figures = figuresOf(problem, kind, replica.count);
  BlockTimes times;
  auto roofline = [&](const Work &work) {
    return seconds(chip, problem.precision(), work, microbatch);
  };
  auto exchange = [&](const Work &work) {
    return exchangeSeconds(work, replica.count, replica.wire, microbatch);
  };
  double sent[] = {exchange(figures.forward), exchange(figures.backwardInput),
                   exchange(figures.backwardWeight)};
  double input = roofline(figures.backwardInput);
  double weight = roofline(figures.backwardWeight);
  const ChipTimes *measured = problem.model.kinds[kind].measuredOn(chip.name);
  if (!measured) {
    double ratio = chip.overheads.correction(
        replica.count, figures.forward.flops.at(microbatch),
        figures.outputBytes.at(microbatch));
    auto function = [&](const Work &work, double exchanged) {
      return ratio * functionSeconds(chip, problem.precision(), work,
                                     microbatch, exchanged);
    };
    times.forward = function(figures.forward, sent[0]);
    times.backwardInput = function(figures.backwardInput, sent[1]);
    times.backwardWeight = function(figures.backwardWeight, sent[2]);
    times.exchanges = sent[0] + sent[1] + sent[2];
    times.update = updateSeconds(problem, chip, figures);
    return times;
  }
  Measured completed(problem, kind, chip, *measured);
  times.forward = completed.seconds(Timed::Forward, replica.count, microbatch);
  double backward =
      completed.seconds(Timed::Backward, replica.count, microbatch);
  times.update = completed.seconds(Timed::Update, replica.count, microbatch);
  times.source = completed.source;
  double share = completed.weightPart(replica.count, microbatch);
  if (share < 0)
    share = input + weight > 0 && std::isfinite(input + weight)
                ? weight / (input + weight)
                : 0;
  times.backwardWeight = share * backward;
  times.backwardInput = backward - times.backwardWeight;
  // Measured on fewer chips: what these many tell each other comes on top.
  if (completed.addsExchanges(Timed::Forward, replica.count)) {
    times.forward += sent[0];
    times.exchanges += sent[0];
  }
  if (completed.addsExchanges(Timed::Backward, replica.count)) {
    times.backwardInput += sent[1];
    times.backwardWeight += sent[2];
    times.exchanges += sent[1] + sent[2];
  }
  return times;
}

std::optional<CallSeconds> callSeconds(const Problem &problem,
                                       const Strategy &strategy, size_t island,
                                       size_t stage, size_t group) {
  const Island &its = strategy.islands[island];
  const ReplicaGroup &replicas = its.stages[stage].replicas[group];
  const Chip &chip =
      problem.topology.chipOf(*problem.topology.findPool(replicas.pool));
  bool isMeasured =
      std::any_of(problem.model.kinds.begin(), problem.model.kinds.end(),
                  [&](const BlockKind &kind) {
                    return kind.measuredOn(chip.name) != nullptr;
                  });
  if (!isMeasured && chip.overheads.corrections.empty())
    return std::nullopt;
  const uint64_t chips = replicas.tensorParallel;
  ReplicaChips replica{
      chips, insideReplicas(problem.topology,
                            placeRanks(strategy)[island][stage][group], chips)};
  double microbatch = static_cast<double>(its.microbatch);
  CallSeconds result;
  std::map<std::string, double> counts;
  for (const auto &runs : chunkRuns(problem.model, its, stage))
    for (const BlockRun &run : runs) {
      const BlockKind &kind = figuresOf(problem, run.kind, chips);
      BlockTimes times =
          blockTimes(problem, run.kind, chip, microbatch, replica);
      double count = static_cast<double>(run.count);
      auto &sums = result.functions[problem.model.kinds[run.kind].name];
      auto add = [&](BlockFunction function, double seconds, const Work &work) {
        double told = exchangeSeconds(work, chips, replica.wire, microbatch);
        sums[static_cast<size_t>(function)] +=
            count * std::max(0.0, seconds - told);
      };
      add(BlockFunction::Forward, times.forward, kind.forward);
      add(BlockFunction::BackwardInput, times.backwardInput,
          kind.backwardInput);
      add(BlockFunction::BackwardWeight, times.backwardWeight,
          kind.backwardWeight);
      counts[problem.model.kinds[run.kind].name] += count;
      result.update += count * times.update;
    }
  for (auto &[name, sums] : result.functions)
    for (double &sum : sums)
      sum /= counts[name];
  return result;
}

double leastSecondsPerSample(const Problem &problem, size_t kind,
                             const Chip &chip) {
  const BlockKind &whole = problem.model.kinds[kind];
  const ChipTimes *measured = whole.measuredOn(chip.name);
  if (!measured) {
    double total = 0;
    for (const Work *work :
         {&whole.forward, &whole.backwardInput, &whole.backwardWeight}) {
      total += seconds(chip, problem.precision(), work->perSample(), 1);
    }
    return total * chip.overheads.leastCorrection();
  }
  Measured completed(problem, kind, chip, *measured);
  double least = 0;
  for (Timed what : {Timed::Forward, Timed::Backward}) {
    double fewest = completed.leastPerSample(what, 1);
    for (const BlockKind &sharded : whole.sharded)
      fewest = std::min(fewest,
                        completed.leastPerSample(what, sharded.tensorParallel));
    least += fewest;
  }
  return least;
}

StageTimes blockSeconds(const Problem &problem,
                        const std::vector<BlockRun> &runs, const Chip &chip,
                        double microbatch, const Recompute &recompute,
                        const ReplicaChips &replica) {
  uint64_t blocks = 0;
  for (const BlockRun &run : runs)
    blocks += run.count;
  uint64_t again = recompute.of(blocks); // the stage's first blocks
  StageTimes times;
  for (const BlockRun &run : runs) {
    BlockTimes one = blockTimes(problem, run.kind, chip, microbatch, replica);
    double count = static_cast<double>(run.count);
    double repeated = static_cast<double>(std::min(again, run.count));
    again -= std::min(again, run.count);
    times.forward += count * one.forward;
    times.backward += count * one.backward() + repeated * one.forward;
    times.backwardWeight += count * one.backwardWeight;
    if (!problem.bounds.wholeBackward) {
      if (&run == &runs.front())
        times.late = one.backwardWeight;
      // The last block of all runs again.
      if (&run == &runs.back() && repeated == count)
        times.early = one.forward;
    }
    times.exchanges += count * one.exchanges;
    if (repeated > 0 && one.exchanges > 0)
      times.exchanges +=
          repeated *
          exchangeSeconds(figuresOf(problem, run.kind, replica.count).forward,
                          replica.count, replica.wire, microbatch);
    times.update += count * one.update;
    times.source = std::max(times.source, one.source);
  }
  return times;
}

} // namespace tombolo::planning
