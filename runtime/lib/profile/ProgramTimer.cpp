//===- ProgramTimer.cpp - what a plan's segments take on a device ---------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/profile/ProgramTimer.h"

#include "../exec/LaneRunner.h"
#include "../exec/Links.h"

#include "tombolo/runtime/engine/Engine.h"
#include "tombolo/runtime/plan/Instructions.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/plan/Parameters.h"
#include "tombolo/runtime/plan/Validate.h"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <numeric>
#include <random>

namespace tombolo::runtime::profile {

using namespace plan::v1;

namespace {

double secondsOf(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) +
         1e-9 * static_cast<double>(time.tv_nsec);
}

/// Of the clock that calls are timed with.
double secondsOf(CallClock clock) {
  return secondsOf(clock == CallClock::Processor ? CLOCK_THREAD_CPUTIME_ID
                                                 : CLOCK_MONOTONIC);
}

/// What the processor has worked for all threads here.
double processSeconds() { return secondsOf(CLOCK_PROCESS_CPUTIME_ID); }

/// A collective of a step, from when this rank came.
struct Carried {
  const Collective *collective;
  double begin, end;
};

/// A step's seconds by segment, its collectives in the order of each group, and
/// what is the whole of it.
struct StepTimes {
  std::vector<double> seconds;
  std::vector<Carried> carried;
  double whole = 0;
  CarryTime moved; // without times
  double carrySeconds = 0;
};

/// `secondsOf` gives what a step took for something it did `calls` times.
template <typename SecondsOf>
Spread spreadOf(const std::vector<StepTimes> &steps, std::uint64_t calls,
                SecondsOf secondsOf) {
  std::vector<std::size_t> order(steps.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return steps[a].whole < steps[b].whole;
  });
  std::size_t first = steps.size() / 4;
  std::size_t last = std::max(steps.size() - first, first + 1);
  auto count = static_cast<double>(calls);
  double sum = 0;
  for (std::size_t i = first; i < last; ++i)
    sum += secondsOf(order[i]);
  std::vector<double> sorted;
  for (std::size_t i = 0; i < steps.size(); ++i)
    sorted.push_back(secondsOf(i) / count);
  std::sort(sorted.begin(), sorted.end());
  return {sum / count / static_cast<double>(last - first),
          sorted[(sorted.size() - 1) / 4], sorted[3 * (sorted.size() - 1) / 4],
          steps.size()};
}

/// What a ring over so many members does.
CollectiveTime ringOf(const Collective &collective, std::size_t members) {
  double hops = static_cast<double>(members - 1);
  if (collective.kind() == Collective::KIND_ALL_REDUCE_SUM)
    hops *= 2; // a reduce-scatter and an all-gather
  auto bytes = static_cast<double>(collective.elements() *
                                   elementBytes(collective.dtype()));
  return {hops, hops * bytes / static_cast<double>(members), 0, {}};
}

} // namespace

class ProgramTimer::Impl {
public:
  Impl(const Plan &plan, std::uint32_t number, std::uint64_t rank,
       Device &device, Transport *peers, CallClock clock)
      : plan(plan), device(device), clock(clock),
        island(plan.islands(static_cast<int>(number))), layout(island),
        self(layout.coordinates(rank)),
        program(plan.programs(static_cast<int>(self.program))),
        compiled(program), engine(compiled) {
    arena = device.allocateArena(program.arena_bytes());
    segments.resize(static_cast<std::size_t>(plan.segments_size()));
    calls.resize(segments.size());
    forEachInstruction(program.step(), [&](const Instruction &instruction) {
      if (!instruction.has_call())
        return;
      std::uint32_t index = instruction.call().segment();
      if (!segments[index])
        segments[index] =
            device.prepare(plan.segments(static_cast<int>(index)));
    });
    makeUp();
    if (peers) {
      links = std::make_unique<detail::Links>(*peers, layout, rank, program);
      lanes = std::make_unique<detail::LaneRunner>(
          compiled,
          [this](const Instruction &instruction,
                 std::span<const std::int64_t> variables) {
            carry(instruction, variables);
          },
          [peers](const std::string &why) { peers->abort(why); });
    }
  }

  void step();
  bool fromFirst(bool mine) { return links ? links->fromFirst(mine) : mine; }
  void count() { steps.push_back(now); }
  std::vector<SegmentTime> times() const;
  std::vector<CollectiveTime> collectives();
  CarryTime carrying() const;

private:
  void makeUp();
  void stepAlone();
  void carry(const Instruction &instruction,
             std::span<const std::int64_t> variables);
  void run(const Instruction &instruction,
           std::span<const std::int64_t> variables);
  void call(const Call &call, std::span<const std::int64_t> variables);
  void load(const Load &load, std::span<const std::int64_t> variables);
  /// As many bytes of what is made up to a place in the arena.
  void bring(std::byte *to, std::uint64_t bytes);
  std::byte *at(const Expr &expr,
                std::span<const std::int64_t> variables) const {
    return arena->base() + evaluate(expr, variables, self);
  }
  const Input &inputOf(const Load &load) const {
    const Model &model = plan.model();
    return load.input() == static_cast<unsigned>(model.inputs_size())
               ? model.label()
               : model.inputs(static_cast<int>(load.input()));
  }

  const Plan &plan;
  Device &device;
  CallClock clock;
  const Island &island;
  IslandLayout layout;
  RankCoordinates self;
  const Program &program;
  CompiledProgram compiled;
  Engine engine;
  std::unique_ptr<Arena> arena;
  std::vector<std::unique_ptr<Executable>> segments; // null: not called here
  std::vector<std::uint64_t> calls;                  // in a step, by segment
  std::vector<std::byte> madeUp, sample;
  std::vector<std::byte *> addresses;
  std::uint64_t number = 0;
  StepTimes now;
  std::mutex counting; // what lanes carry, in `now`
  std::vector<StepTimes> steps;
  std::unique_ptr<detail::Links> links; // null: peers are imagined
  std::unique_ptr<detail::LaneRunner> lanes;
};

/// Small normal parameters; where tensors come in, numbers of the same kind
/// whether they are read as f32 or as bf16: +-0.01, neither zeros, which some
/// processors multiply with less power, nor so small that they slow it down.
void ProgramTimer::Impl::makeUp() {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal(0, 0.02f);
  for (const LocalParameter &parameter :
       expandParameters(program, self.tensorIndex)) {
    std::vector<float> values(parameter.localElements);
    for (float &value : values)
      value = normal(random);
    device.copyToDevice(arena->base() + parameter.address,
                        std::as_bytes(std::span(values)));
  }
  if (program.has_tensor_index_address()) {
    auto index = static_cast<std::int64_t>(self.tensorIndex);
    device.copyToDevice(arena->base() + program.tensor_index_address(),
                        std::as_bytes(std::span(&index, 1)));
  }
  constexpr std::size_t kMadeUpBytes = std::size_t(1) << 20;
  madeUp.resize(kMadeUpBytes);
  for (std::size_t i = 0; i < kMadeUpBytes; i += 2) {
    std::uint16_t half =
        static_cast<std::uint16_t>(0x3c24 | (random() % 2 ? 0x8000 : 0));
    std::memcpy(madeUp.data() + i, &half, 2);
  }
}

void ProgramTimer::Impl::bring(std::byte *to, std::uint64_t bytes) {
  while (bytes > 0) {
    std::uint64_t part = std::min<std::uint64_t>(bytes, madeUp.size());
    device.copyToDevice(to, {madeUp.data(), part});
    to += part;
    bytes -= part;
  }
}

void ProgramTimer::Impl::load(const Load &load,
                              std::span<const std::int64_t> variables) {
  const Input &input = inputOf(load);
  std::uint64_t elements = island.microbatch();
  for (std::uint64_t size : input.dims())
    elements *= size;
  std::byte *to = at(load.address(), variables);
  if (input.dtype() != DTYPE_I64 && input.dtype() != DTYPE_I32 &&
      input.dtype() != DTYPE_BOOL)
    return bring(to, elements * elementBytes(input.dtype()));
  // Numbers that a table of the model surely has; of words, all of them.
  bool isWord =
      plan.model().inputs_size() == 1 || &input == &plan.model().label();
  std::uint64_t below =
      isWord ? std::max<std::uint64_t>(plan.model().vocabulary(), 2) : 2;
  sample.resize(elements * elementBytes(input.dtype()));
  for (std::uint64_t i = 0; i < elements; ++i) {
    std::int64_t value =
        static_cast<std::int64_t>((i * 7919 + number * 104729) % below);
    if (input.dtype() == DTYPE_I64)
      std::memcpy(sample.data() + 8 * i, &value, 8);
    else if (input.dtype() == DTYPE_BOOL)
      sample[i] = std::byte(value & 1);
    else
      std::memcpy(sample.data() + 4 * i, &value, 4);
  }
  device.copyToDevice(to, sample);
}

void ProgramTimer::Impl::call(const Call &call,
                              std::span<const std::int64_t> variables) {
  addresses.clear();
  for (const Expr &argument : call.arguments())
    addresses.push_back(at(argument, variables));
  const Segment &segment = plan.segments(static_cast<int>(call.segment()));
  std::byte *workspace =
      segment.workspace_bytes() > 0 ? at(call.workspace(), variables) : nullptr;
  double start = secondsOf(clock);
  segments[call.segment()]->run(addresses, workspace);
  double seconds = secondsOf(clock) - start;
  now.seconds[call.segment()] += seconds;
  ++calls[call.segment()];
}

/// With peers.
void ProgramTimer::Impl::carry(const Instruction &instruction,
                               std::span<const std::int64_t> variables) {
  double begin = secondsOf(CallClock::Wall);
  if (!links->carry(instruction, variables, arena->base()))
    return run(instruction, variables);
  double end = secondsOf(CallClock::Wall);
  std::lock_guard lock(counting);
  if (!instruction.has_collective()) {
    now.moved.messages += 1;
    now.moved.bytes += static_cast<double>(instruction.has_send()
                                               ? instruction.send().bytes()
                                               : instruction.receive().bytes());
    return;
  }
  const Collective &collective = instruction.collective();
  now.carried.push_back({&collective, begin, end});
  CollectiveTime ring = ringOf(collective, links->members(collective));
  now.moved.ringMessages += ring.messages;
  now.moved.ringBytes += ring.bytes;
}

void ProgramTimer::Impl::run(const Instruction &instruction,
                             std::span<const std::int64_t> variables) {
  switch (instruction.action_case()) {
  case Instruction::kCall:
    return call(instruction.call(), variables);
  case Instruction::kLoad:
    return load(instruction.load(), variables);
  case Instruction::kStamp: {
    std::int64_t words[] = {
        0, static_cast<std::int64_t>(number), 0,
        evaluate(instruction.stamp().block(), variables, self)};
    return device.copyToDevice(at(instruction.stamp().address(), variables),
                               std::as_bytes(std::span(words)));
  }
  case Instruction::kReceive:
    return bring(at(instruction.receive().address(), variables),
                 instruction.receive().bytes());
  case Instruction::kCollective: {
    // Only read: counts and gradients must not become others.
    const Collective &c = instruction.collective();
    const std::byte *from = at(c.address(), variables);
    std::uint64_t left = c.elements() * elementBytes(c.dtype());
    for (std::uint64_t part; left > 0; left -= part, from += part) {
      part = std::min<std::uint64_t>(left, madeUp.size());
      sample.resize(std::max<std::size_t>(sample.size(), part));
      device.copyToHost({sample.data(), part}, from);
    }
    return;
  }
  default: // nothing comes, nothing goes
    return;
  }
}

void ProgramTimer::Impl::step() {
  now = {};
  now.seconds.resize(segments.size());
  std::fill(calls.begin(), calls.end(), 0);
  double begin = secondsOf(CallClock::Wall), worked = processSeconds();
  if (lanes)
    lanes->run(Phase::Step, number++);
  else
    stepAlone();
  double called = std::accumulate(now.seconds.begin(), now.seconds.end(), 0.0);
  now.carrySeconds = std::max(0.0, processSeconds() - worked - called);
  // What a step takes that waits for others is also what they are held up by;
  // where cores are shared, or peers imagined, only calls tell.
  now.whole = lanes && clock == CallClock::Wall
                  ? secondsOf(CallClock::Wall) - begin
                  : called;
}

void ProgramTimer::Impl::stepAlone() {
  engine.begin(Phase::Step, number++);
  // Compute first: other lanes only do what it waits for.
  for (bool moved = true; moved;) {
    moved = false;
    for (Lane lane : kLanes) {
      for (Engine::Next next = engine.next(lane);
           next.state == Engine::Next::Ready; next = engine.next(lane)) {
        run(*next.instruction, next.variables);
        engine.complete(lane);
        moved = true;
      }
      if (moved && lane != LANE_COMPUTE)
        break;
    }
  }
  if (!engine.done())
    throw Error(Status::Failed, "program '", program.name(),
                "': its lanes wait for each other");
}

std::vector<SegmentTime> ProgramTimer::Impl::times() const {
  std::vector<SegmentTime> result;
  for (std::size_t i = 0; i < segments.size() && !steps.empty(); ++i)
    if (calls[i] > 0)
      result.push_back({static_cast<std::uint32_t>(i), calls[i],
                        spreadOf(steps, calls[i], [&](std::size_t step) {
                          return steps[step].seconds[i];
                        })});
  return result;
}

std::vector<CollectiveTime> ProgramTimer::Impl::collectives() {
  if (!links || clock != CallClock::Wall)
    return {};
  std::map<GroupKey, std::vector<Carried *>> groups;
  for (StepTimes &step : steps)
    for (Carried &carried : step.carried)
      if (links->members(*carried.collective) > 1)
        groups[groupKey(self, *carried.collective)].push_back(&carried);
  for (auto &[key, group] : groups) {
    std::vector<double> begins;
    for (const Carried *carried : group)
      begins.push_back(carried->begin);
    links->largest(*group.front()->collective, begins);
    for (std::size_t i = 0; i < group.size(); ++i)
      group[i]->begin = std::min(begins[i], group[i]->end);
  }
  // Of one kind is what takes the same of a ring.
  std::map<std::pair<double, double>, std::vector<double>> seconds; // by step
  std::map<std::pair<double, double>, std::uint64_t> counts;        // of all
  for (std::size_t i = 0; i < steps.size(); ++i)
    for (const Carried &carried : steps[i].carried) {
      std::size_t members = links->members(*carried.collective);
      if (members == 1)
        continue;
      CollectiveTime ring = ringOf(*carried.collective, members);
      std::pair key(ring.messages, ring.bytes);
      auto [entry, isNew] = seconds.try_emplace(key);
      if (isNew)
        entry->second.resize(steps.size());
      entry->second[i] += carried.end - carried.begin;
      ++counts[key];
    }
  std::vector<CollectiveTime> result;
  for (const auto &[key, bySteps] : seconds) {
    std::uint64_t perStep = counts.at(key) / steps.size();
    result.push_back({key.first, key.second, perStep,
                      spreadOf(steps, perStep, [&](std::size_t step) {
                        return bySteps[step];
                      })});
  }
  return result;
}

CarryTime ProgramTimer::Impl::carrying() const {
  if (!links || clock != CallClock::Processor || steps.empty())
    return {};
  CarryTime result = steps.front().moved; // all are alike
  result.spread = spreadOf(
      steps, 1, [&](std::size_t step) { return steps[step].carrySeconds; });
  return result;
}

ProgramTimer::ProgramTimer(const Plan &plan, std::uint32_t island,
                           std::uint64_t rank, Device &device, Transport *peers,
                           CallClock clock)
    : impl(std::make_unique<Impl>(plan, island, rank, device, peers, clock)) {}
ProgramTimer::~ProgramTimer() = default;
void ProgramTimer::step() { impl->step(); }
bool ProgramTimer::fromFirst(bool mine) { return impl->fromFirst(mine); }
void ProgramTimer::count() { impl->count(); }
std::vector<SegmentTime> ProgramTimer::times() const { return impl->times(); }
std::vector<CollectiveTime> ProgramTimer::collectives() {
  return impl->collectives();
}
CarryTime ProgramTimer::carrying() const { return impl->carrying(); }

} // namespace tombolo::runtime::profile
