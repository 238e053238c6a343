//===- RankCheckpoint.cpp - what a worker saves and loads -----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "RankImpl.h"

#include <chrono>
#include <utility>

namespace tombolo::runtime {

static constexpr const char *kOuterMomentum = "outer_momentum";
static constexpr const char *kOuterBase = "outer_base";

void Rank::Impl::loadCheckpoint(const std::string &folder) {
  resumed = std::make_unique<Checkpoint>(folder);
  const Checkpoint &checkpoint = *resumed;
  const CheckpointInfo &info = checkpoint.info();
  if (info.modelHash != plan.model_hash())
    throw Error("'", folder, "': was written for another model");
  // Another island's, as this one's is lost: the version that it was on, and
  // fresh optimizer state, as whoever joins without a snapshot has.
  bool isLent =
      options.island != info.island && options.island < info.batches.size();
  for (const LocalParameter &parameter : parameters) {
    auto install = [&](const std::string &name, const LocalParameter &what,
                       std::uint64_t address) {
      checkpoint.read(
          name, what,
          [&](std::uint64_t element, std::span<const float> values) {
            putFloats(address + element * 4, values);
          });
    };
    std::string base = parameter.name + "/" + kOuterBase;
    install(isLent && checkpoint.has(base) ? base : parameter.name, parameter,
            parameter.address);
    if (!parameter.trainable || isLent)
      continue;
    for (const StateRegion &state : program.states()) {
      ParameterPart part = statePart(program, state, parameter, self.replica);
      if (part.parameter.localElements > 0)
        install(parameter.name + "/" + state.name(), part.parameter,
                part.address);
    }
  }
  // Where samples are dealt as before each island goes on where it was. Else
  // all go on behind what has been dealt, so that nothing is used twice.
  CheckpointInfo here = dealing();
  bool dealsAlike = here.innerSteps == info.innerSteps &&
                    here.batches == info.batches &&
                    here.ownInnerSteps == info.ownInnerSteps;
  // Of islands with other inner steps than before whole rounds alone are at one
  // place for all.
  std::uint64_t step = info.step;
  if (!dealsAlike && !here.ownInnerSteps.empty())
    step -= step % here.innerSteps;
  if (step > steps.toJob(options.steps))
    throw Error("'", folder, "': is of step ", step, ", beyond --steps ",
                steps.toJob(options.steps), "; give at least as many steps");
  firstStep = loadedStep = dealsAlike && options.island == info.island
                               ? info.islandStep
                               : steps.ofJob(step);
  samplesBefore =
      dealsAlike && info.island < info.batches.size()
          ? info.nextSample - firstSample(plan, info.island, info.islandStep)
          : info.freeSample -
                firstSample(plan, 0, IslandSteps(plan, 0).ofJob(step));
  std::int64_t updates = isLent ? 0 : info.updates;
  if (firstStep != info.islandStep) // of an island with another H
    updates = static_cast<std::int64_t>(
        static_cast<double>(updates) * static_cast<double>(firstStep) /
        static_cast<double>(std::max<std::uint64_t>(1, info.islandStep)));
  device.copyToDevice(arena->base() + program.updates_address(),
                      std::as_bytes(std::span(&updates, 1)));
}

/// What a checkpoint says of how this plan deals samples.
CheckpointInfo Rank::Impl::dealing() const {
  CheckpointInfo info;
  info.innerSteps = plan.has_server() ? plan.server().inner_steps() : 0;
  for (const Island &each : plan.islands())
    info.batches.push_back(each.batch());
  for (int i = 0; hasOwnInnerSteps(plan) && i < plan.islands_size(); ++i)
    info.ownInnerSteps.push_back(
        IslandSteps(plan, static_cast<std::uint32_t>(i)).inRound());
  return info;
}

/// What of a trainable parameter is saved beside it. Where nothing has been
/// done since the last version the base is the parameter.
std::vector<std::pair<const char *, Kept>>
Rank::Impl::keptOf(const FragmentPoint &point, std::uint64_t stepsDone) const {
  std::vector<std::pair<const char *, Kept>> kept;
  if (point.stepsDone != stepsDone || point.pushedStep)
    kept.push_back({kOuterBase, Kept::Base});
  if (plan.server().compression() != Server::COMPRESSION_NONE)
    kept.push_back({"outer_error", Kept::Error});
  if (point.pushedStep)
    kept.push_back({"outer_pushed", Kept::Pushed});
  return kept;
}

/// Hands the exchange what a checkpoint of this island under a plan with this
/// contract holds of it, whatever its layout; else the island begins with its
/// parameters alone.
void Rank::Impl::resumeExchange(const Checkpoint &checkpoint) {
  const CheckpointInfo &info = checkpoint.info();
  if (keepsOuterMomentum())
    for (std::size_t i = 0; i < exchanged.size(); ++i) {
      std::string outer = exchanged[i]->name + "/" + kOuterMomentum;
      if (!owns(*exchanged[i]) || !checkpoint.has(outer))
        continue;
      checkpoint.read(outer, *exchanged[i],
                      [&](std::uint64_t element, std::span<const float> part) {
                        exchange->setOuterMomentum(i, element, part);
                      });
    }
  if (info.island != options.island || info.contract != contract ||
      info.points.size() != plan.server().fragments())
    return;
  exchange->setPoints(info.points);
  for (std::size_t i = 0; i < exchanged.size(); ++i) {
    const LocalParameter &parameter = *exchanged[i];
    const FragmentPoint &point = info.points[parameter.fragment];
    auto read = [&](const std::string &name, Kept what) {
      checkpoint.read(name, parameter,
                      [&](std::uint64_t element, std::span<const float> part) {
                        exchange->setKept(what, i, element, part);
                      });
    };
    for (const auto &[name, what] : keptOf(point, info.islandStep))
      if (what != Kept::Error || owns(parameter))
        read(parameter.name + "/" + name, what);
  }
}

/// Whether a push is under way after so many inner steps, of a run without late
/// islands (docs/Server.md, A rank).
static bool isPushing(const Server &server, std::uint64_t stepsDone) {
  for (std::uint32_t f = 0; f < server.fragments(); ++f) {
    std::uint64_t offset =
        pushOffset(f, server.fragments(), server.inner_steps());
    std::uint64_t since =
        (stepsDone + server.inner_steps() - offset) % server.inner_steps();
    if (since < server.overlap_steps() && since < stepsDone)
      return true;
  }
  return false;
}

/// How many steps behind whole rounds islands with inner steps of their own
/// save, all after the same rounds: when the push at the end of a round has
/// ended, or at that end where the next one would be under way by then.
static std::uint64_t savedBehind(const Plan &plan) {
  const Server &server = plan.server();
  for (int i = 0; i < plan.islands_size(); ++i)
    if (server.fragments() > 1 &&
        pushOffset(
            1, server.fragments(),
            IslandSteps(plan, static_cast<std::uint32_t>(i)).inRound()) <=
            server.overlap_steps())
      return 0;
  return server.overlap_steps();
}

/// With a server not while a push is under way, where the plan has steps
/// without: the next of these takes its place. Then the server's momentum is
/// that of the base.
bool Rank::Impl::isCheckpointStep(std::uint64_t stepsDone) const {
  if (options.checkpointDir.empty())
    return false;
  if (stepsDone == options.steps)
    return true;
  std::uint64_t every = options.checkpointEvery;
  if (every == 0 || every >= steps.toJob(options.steps))
    return false;
  if (!plan.has_server())
    return stepsDone % every == 0;
  if (hasOwnInnerSteps(plan)) {
    std::uint64_t inRound = steps.inRound();
    std::uint64_t round = stepsDone / inRound * inRound;
    return stepsDone - round == savedBehind(plan) && round > 0 &&
           steps.progress(round) / every !=
               steps.progress(round - inRound) / every;
  }
  const Server &server = plan.server();
  std::uint64_t round = server.inner_steps();
  bool hasQuiet = false; // behind the first round, when all is in its course
  for (std::uint64_t step = 2 * round; step < 3 * round && !hasQuiet; ++step)
    hasQuiet = !isPushing(server, step);
  if (!hasQuiet)
    return stepsDone % every == 0;
  if (isPushing(server, stepsDone))
    return false;
  std::uint64_t due = stepsDone;
  while (due % every != 0 && due > 1 && isPushing(server, due - 1))
    --due;
  return due % every == 0;
}

/// What this rank saves, and what rank 0 says of it. Its tensors are read from
/// where they lie: nothing may change meanwhile.
Snapshot Rank::Impl::snapshotOf(std::uint64_t stepsDone) {
  Snapshot snapshot;
  std::vector<SavedTensor> &saved = snapshot.tensors;
  std::vector<FragmentPoint> points;
  if (exchange)
    points = exchange->points();
  for (FragmentPoint &point : points) // of an island that ends further on
    point.stepsDone = std::min(point.stepsDone, stepsDone);
  auto save = [&](const std::string &name, const LocalParameter &parameter,
                  std::uint64_t address) {
    saved.push_back({name, &parameter,
                     [this, address](std::uint64_t begin, std::span<float> to) {
                       getFloats(address + begin * 4, to);
                     }});
  };
  for (const LocalParameter &parameter : parameters) {
    bool owner = owns(parameter);
    if (owner)
      save(parameter.name, parameter, parameter.address);
    if (!parameter.trainable)
      continue;
    for (const StateRegion &state : program.states()) {
      if (state.part_bytes() ? !ownsState(parameter) : !owner)
        continue;
      ParameterPart part = statePart(program, state, parameter, self.replica);
      if (part.parameter.localElements == 0)
        continue;
      snapshot.parts.push_back(std::move(part.parameter));
      save(parameter.name + "/" + state.name(), snapshot.parts.back(),
           part.address);
    }
  }
  if (keepsOuterMomentum())
    for (std::size_t i = 0; i < exchanged.size(); ++i) {
      const LocalParameter &parameter = *exchanged[i];
      if (owns(parameter))
        saved.push_back({parameter.name + "/" + kOuterMomentum, &parameter,
                         [this, i](std::uint64_t begin, std::span<float> to) {
                           exchange->outerMomentum(i, begin, to);
                         }});
    }
  for (std::size_t i = 0; exchange && i < exchanged.size(); ++i) {
    const LocalParameter &parameter = *exchanged[i];
    const FragmentPoint &point = points[parameter.fragment];
    for (const auto &[name, what] : keptOf(point, stepsDone))
      if (owns(parameter))
        saved.push_back(
            {parameter.name + "/" + name, &parameter,
             [this, i, what = what](std::uint64_t begin, std::span<float> to) {
               exchange->kept(what, i, begin, to);
             }});
  }
  CheckpointInfo &info = snapshot.info;
  info = dealing();
  info.modelHash = plan.model_hash();
  info.contract = contract;
  info.points = std::move(points);
  info.island = options.island;
  info.step = steps.toJob(stepsDone);
  info.islandStep = stepsDone;
  device.copyToHost(std::as_writable_bytes(std::span(&info.updates, 1)),
                    arena->base() + program.updates_address());
  info.nextSample = firstSampleOf(stepsDone);
  info.freeSample = samplesBefore + leasedSamples(plan, info.step);
  return snapshot;
}

namespace {
/// Adds the seconds that pass while it lives.
class Stopwatch {
public:
  explicit Stopwatch(double &seconds) : seconds(seconds) {}
  ~Stopwatch() {
    seconds += std::chrono::duration<double>(Clock::now() - start).count();
  }

private:
  using Clock = std::chrono::steady_clock;
  double &seconds;
  Clock::time_point start = Clock::now();
};
} // namespace

void Rank::Impl::saveCheckpoint(std::uint64_t stepsDone, bool trainsOn) {
  // One that is not whole yet is waited for: where islands left out
  // generations, each by itself, a run would find no step that all have.
  settleCheckpoint();
  {
    Stopwatch stopwatch(stalledSeconds);
    // All have settled: nobody writes.
    if (options.rank == 0)
      writer->clear(options.island, steps.toJob(stepsDone));
    links->barrier();
    Snapshot snapshot = snapshotOf(stepsDone);
    if (!trainsOn || !writer->begin(snapshot)) {
      if (trainsOn && !std::exchange(hasBlocked, true) && events.checkpoint) {
        CheckpointNews news;
        news.kind = CheckpointNews::Kind::Blocking;
        news.step = snapshot.info.step;
        news.message = "host memory has no room for a copy of what is saved: "
                       "training waits while checkpoints are written";
        events.checkpoint(news);
      }
      writer->beginInPlace(snapshot);
    }
  }
  if (trainsOn)
    return;
  if (std::exception_ptr failure = settleCheckpoint())
    std::rethrow_exception(failure);
}

std::exception_ptr Rank::Impl::settleCheckpoint() {
  if (!writer || !writer->isOpen())
    return nullptr;
  std::exception_ptr failure;
  {
    Stopwatch stopwatch(stalledSeconds);
    for (std::size_t folder = 0; folder < writer->count(); ++folder) {
      bool isWritten = writer->awaitShard(folder);
      bool all = links->agree(isWritten) && isWritten;
      if (options.rank == 0)
        writer->awaitManifest(folder, all);
    }
    failure = writer->finish();
  }
  tellOfCheckpoints();
  return failure;
}

void Rank::Impl::tellOfCheckpoints() {
  if (!writer)
    return;
  for (CheckpointNews &news : writer->takeNews()) {
    news.stalledSeconds = std::exchange(stalledSeconds, 0);
    if (events.checkpoint)
      events.checkpoint(news);
  }
}

} // namespace tombolo::runtime
