//===- PipelineTime.cpp - how long a pipeline's step takes ----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// The time of a pipeline is the longest path through its calls. A call waits
// for the call before it on its replica and for its input; both are known once
// the calls they depend on have run, so sweeping over the replicas and running
// whatever can run finds all times, and finds a schedule that waits for itself.
//
// A backward is not one piece. As `ProgramBuilder` writes it, a last block that
// runs again does so before a gradient is looked at, and the gradient that goes
// on is there before the first block's gradients of weights are.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Planning/PipelineTime.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>

namespace tombolo::planning {

uint64_t microbatchesPerStep(const Island &island) {
  return island.microbatch ? island.batch / island.microbatch : 0;
}

uint64_t microbatchesOf(const Island &island, size_t stage, size_t group) {
  const Stage &here = island.stages[stage];
  uint64_t turn = here.turn();
  return turn ? microbatchesPerStep(island) / turn * here.replicas[group].share
              : 0;
}

std::optional<uint64_t> periodOf(const std::vector<uint64_t> &turns) {
  uint64_t period = 1;
  for (uint64_t turn : turns) {
    if (turn == 0 || turn > kMaxPeriod)
      return std::nullopt;
    period = std::lcm(period, turn); // at most kMaxPeriod squared
    if (period > kMaxPeriod)
      return std::nullopt;
  }
  return period;
}

namespace {

/// One replica.
struct Lane {
  std::vector<ChunkTimes> times; // by chunk
  double tail = 0;
  uint64_t share = 1;        // microbatches it takes in a turn
  uint64_t start = 0;        // its first place in the turn
  uint64_t microbatches = 0; // its own
  std::shared_ptr<const StageSchedule> schedule;
  std::optional<ScheduleCursor> next; // into `schedule`

  double free = 0; // when the last call ended
  double sendForwardFree = 0;
  double sendBackwardFree = 0;
  double receivedForward = 0; // when the last one had come
  double receivedBackward = 0;

  void take(const StageTimes &stage) {
    times = stage.chunks;
    if (times.empty())
      times = {stage.whole()};
    tail = stage.tail;
  }
  void follow(StageSchedule order) {
    schedule = std::make_shared<const StageSchedule>(std::move(order));
    next.emplace(*schedule);
  }
  bool done() const { return next->done(); }
};

struct StageLanes {
  uint64_t turn = 1;
  std::vector<Lane> lanes;
};

struct Arrival {
  double time = 0; // where it was asked for early enough
  /// From asking for it until it is there; 0: nobody has to ask.
  double asked = 0;

  /// At a lane that had the one before at `last`, which is moved on.
  double at(double &last) const {
    double came = asked > 0 ? std::max(time, last + asked) : time;
    last = std::max(last, came);
    return came;
  }
};

/// When the input of each microbatch of the island has come to each place, and
/// who waits for it: each is for one lane.
class Arrivals {
public:
  Arrivals(size_t places, uint64_t microbatches)
      : microbatches(microbatches), times(places * microbatches, kUnknown) {}

  /// Nullopt where it has not come: the lane is then told when it does.
  std::optional<Arrival> get(size_t place, uint64_t microbatch, size_t lane) {
    size_t index = place * microbatches + microbatch;
    double &time = times[index];
    if (time >= 0)
      return Arrival{time, asked.empty() ? 0 : asked[index]};
    time = kUnknown - 1 - static_cast<double>(lane);
    return std::nullopt;
  }
  /// Appends the lane that waits for it to `ready`.
  void set(size_t place, uint64_t microbatch, Arrival arrival,
           std::vector<size_t> &ready) {
    size_t index = place * microbatches + microbatch;
    double &time = times[index];
    if (time < kUnknown)
      ready.push_back(static_cast<size_t>(kUnknown - 1 - time));
    time = arrival.time;
    if (arrival.asked > 0) {
      asked.resize(times.size());
      asked[index] = arrival.asked;
    }
  }

private:
  static constexpr double kUnknown = -1; // and nobody waits
  uint64_t microbatches;
  std::vector<double> times;
  std::vector<double> asked; // empty where no line is crossed
};

/// Runs all calls of `microbatches` microbatches (of the island). Chunk c of
/// stage s is place c S + s of the model; a forward goes on to the place
/// behind, a backward by input to the place before. What each call waits for
/// decides its time, not the order in which lanes are looked at.
PipelineTime run(std::vector<StageLanes> stages, uint64_t microbatches,
                 uint64_t chunks) {
  size_t count = stages.size(), places = count * chunks;
  Arrivals forwards(places, microbatches), backwards(places, microbatches);
  struct Place {
    size_t stage;
    Lane *lane;
  };
  std::vector<Place> lanes;
  for (size_t stage = 0; stage < count; ++stage)
    for (Lane &lane : stages[stage].lanes)
      lanes.push_back({stage, &lane});
  std::vector<size_t> ready; // lanes that may go on
  for (uint64_t j = 0; j < microbatches; ++j)
    forwards.set(0, j, {}, ready);

  auto runWhatCan = [&](size_t number) {
    auto [stage, running] = lanes[number];
    Lane &lane = *running;
    for (; !lane.done(); ++*lane.next) {
      ChunkCall call = **lane.next;
      uint64_t own = call.microbatch;
      uint64_t j =
          own / lane.share * stages[stage].turn + lane.start + own % lane.share;
      size_t place = call.chunk * count + stage;
      const ChunkTimes &times =
          lane.times[std::min<size_t>(call.chunk, lane.times.size() - 1)];
      // Nothing comes for a backward by weight: all it needs is here.
      std::optional<Arrival> came = Arrival();
      if (call.pass == Pass::Forward)
        came = forwards.get(place, j, number);
      else if (call.pass != Pass::BackwardWeight)
        came = backwards.get(place, j, number);
      if (!came)
        return;
      switch (call.pass) {
      case Pass::Forward:
        lane.free =
            std::max(lane.free, came->at(lane.receivedForward)) + times.forward;
        if (place + 1 == places) {
          backwards.set(place, j, {lane.free}, ready); // the loss is here
          break;
        }
        lane.sendForwardFree =
            std::max(lane.sendForwardFree, lane.free) + times.sendForward;
        forwards.set(place + 1, j, {lane.sendForwardFree, times.askForward},
                     ready);
        break;
      case Pass::BackwardWeight:
        lane.free += times.backwardWeight;
        break;
      case Pass::Backward:
      case Pass::BackwardInput: {
        bool byWeight = call.pass == Pass::Backward;
        double all = times.backward - (byWeight ? 0 : times.backwardWeight);
        double late = byWeight ? times.late : 0;
        double sent =
            std::max(lane.free + times.early, came->at(lane.receivedBackward)) +
            (all - times.early - late);
        lane.free = sent + late;
        if (place == 0)
          break;
        lane.sendBackwardFree =
            std::max(lane.sendBackwardFree, sent) + times.sendBackward;
        backwards.set(place - 1, j, {lane.sendBackwardFree, times.askBackward},
                      ready);
        break;
      }
      }
    }
  };
  for (size_t number = 0; number < lanes.size(); ++number)
    ready.push_back(number);
  while (!ready.empty()) {
    size_t number = ready.back();
    ready.pop_back();
    runWhatCan(number);
  }

  PipelineTime result;
  for (const StageLanes &stage : stages) {
    // A reduction begins when the last replica of the stage is done.
    double end = 0, tail = 0;
    for (const Lane &lane : stage.lanes) {
      result.deadlock |= !lane.done();
      end = std::max(end, lane.free);
      tail = std::max(tail, lane.tail);
    }
    result.computeEnd = std::max(result.computeEnd, end);
    result.seconds = std::max(result.seconds, end + tail);
  }
  return result;
}

/// Runs `microbatches`, a multiple of `unit`; of more than about 2^16 calls
/// only the beginning and the end, with the pace of the middle for what lies
/// between.
template <typename Build>
PipelineTime runFolded(Build build, uint64_t stages, uint64_t chunks,
                       uint64_t microbatches, uint64_t unit) {
  uint64_t places = stages * chunks;
  uint64_t lag = unit * std::max<uint64_t>(2 * places / unit, 1);
  uint64_t enough = std::max<uint64_t>((uint64_t(1) << 16) / places, 4 * lag);
  enough = (enough + unit - 1) / unit * unit;
  if (microbatches <= enough + lag)
    return run(build(microbatches), microbatches, chunks);
  PipelineTime shorter = run(build(enough), enough, chunks);
  PipelineTime longer = run(build(enough + lag), enough + lag, chunks);
  double rest = static_cast<double>(microbatches - enough - lag) /
                static_cast<double>(lag);
  longer.seconds += rest * (longer.seconds - shorter.seconds);
  longer.computeEnd += rest * (longer.computeEnd - shorter.computeEnd);
  return longer;
}

} // namespace

PipelineTime pipelineTime(Schedule schedule,
                          const std::vector<StageTimes> &stages,
                          uint64_t microbatches, uint64_t chunks) {
  auto build = [&](uint64_t all) {
    std::vector<StageLanes> lanes(stages.size());
    for (size_t s = 0; s < stages.size(); ++s) {
      Lane lane;
      lane.take(stages[s]);
      lane.microbatches = all;
      lane.follow(scheduleStage(schedule, stages.size(), s, all, chunks));
      lanes[s].lanes.push_back(lane);
    }
    return lanes;
  };
  // Interleaved orders repeat with groups of microbatches.
  uint64_t unit = schedule == Schedule::Interleaved ? stages.size() : 1;
  return runFolded(build, stages.size(), chunks, microbatches, unit);
}

/// Whether every stage has the same number of like replicas, so that one
/// replica of each stands for all.
static bool replicasAreEqual(const Island &island) {
  for (const Stage &stage : island.stages)
    if (stage.replicas.size() != 1 || stage.replicas[0].share != 1 ||
        stage.replicas[0].count != island.stages[0].replicas[0].count)
      return false;
  return true;
}

PipelineTime pipelineTime(const Island &island,
                          const std::vector<std::vector<StageTimes>> &times) {
  uint64_t microbatches = microbatchesPerStep(island);
  if (replicasAreEqual(island)) {
    std::vector<StageTimes> stages;
    for (const auto &groups : times)
      stages.push_back(groups[0]);
    return pipelineTime(island.schedule, stages,
                        microbatches / island.stages[0].replicaCount(),
                        island.chunks);
  }
  // What repeats is a turn of every stage at once.
  std::vector<uint64_t> turns;
  for (const Stage &stage : island.stages)
    turns.push_back(stage.turn());
  uint64_t unit = periodOf(turns).value_or(kMaxPeriod);
  auto build = [&](uint64_t all) {
    std::vector<StageLanes> lanes(island.stages.size());
    for (size_t s = 0; s < island.stages.size(); ++s) {
      const Stage &stage = island.stages[s];
      lanes[s].turn = stage.turn();
      uint64_t start = 0;
      for (size_t g = 0; g < stage.replicas.size(); ++g)
        for (uint64_t r = 0; r < stage.replicas[g].count; ++r) {
          Lane lane;
          lane.take(times[s][g]);
          lane.share = stage.replicas[g].share;
          lane.start = start;
          lane.microbatches = all / lanes[s].turn * lane.share;
          lane.follow(scheduleStage(island.schedule, island.stages.size(), s,
                                    lane.microbatches, island.chunks));
          start += lane.share;
          lanes[s].lanes.push_back(lane);
        }
    }
    return lanes;
  };
  if (island.schedule == Schedule::Interleaved)
    unit *= island.stages.size();
  return runFolded(build, island.stages.size(), island.chunks, microbatches,
                   unit);
}

} // namespace tombolo::planning
