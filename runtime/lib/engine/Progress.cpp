//===- Progress.cpp - can an island's programs run to their end -----------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/engine/Progress.h"

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/engine/Engine.h"
#include "tombolo/runtime/plan/Instructions.h"
#include "tombolo/runtime/plan/Layout.h"
#include "tombolo/runtime/plan/Validate.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <set>

namespace tombolo::runtime {

using namespace plan::v1;

namespace {

/// Instructions that are run at most, over all islands and steps: seconds.
constexpr std::uint64_t kMaxProgressWork = std::uint64_t{1} << 26;

const char *laneName(Lane lane) {
  static constexpr const char *names[] = {"?",
                                          "compute",
                                          "send-forward",
                                          "receive-forward",
                                          "send-backward",
                                          "receive-backward",
                                          "collective",
                                          "exchange"};
  return names[lane];
}

const char *groupName(Collective::Group group) {
  switch (group) {
  case Collective::GROUP_ISLAND:
    return "island";
  case Collective::GROUP_TENSOR:
    return "ranks of a replica";
  case Collective::GROUP_STAGES:
    return "replicas of several stages";
  default:
    return "replicas";
  }
}

/// "reduce_scatter_sum of 64 elements of f32"
std::string describe(const Collective &collective) {
  static constexpr const char *names[] = {
      "?", "all_reduce_sum", "reduce_scatter_sum", "all_gather", "all_to_all"};
  return std::string(names[collective.kind()]) + " of " +
         std::to_string(collective.elements()) + " elements of " +
         dtypeName(collective.dtype());
}

/// The stages whose replicas exchange with each other, from the programs.
std::set<std::pair<int, int>> linkedStages(const Plan &plan,
                                           const Island &island) {
  std::set<std::pair<int, int>> links;
  for (int s = 0; s < island.stages_size(); ++s) {
    auto collect = [&](const Instruction &i) {
      if (i.has_send())
        links.insert(std::minmax(s, static_cast<int>(i.send().stage())));
      else if (i.has_receive())
        links.insert(std::minmax(s, static_cast<int>(i.receive().stage())));
    };
    for (const ReplicaGroup &group : island.stages(s).groups()) {
      const Program &program = plan.programs(static_cast<int>(group.program()));
      forEachInstruction(program.step(), collect);
      forEachInstruction(program.finish(), collect);
      forEachInstruction(program.evaluate(), collect);
    }
  }
  return links;
}

/// Microbatches [first, second).
using Span = std::pair<std::uint64_t, std::uint64_t>;

/// Enough microbatches to tell replicas apart: the deal of all stages repeats
/// after the least common multiple of their turns, so one period and what is
/// left behind the last whole one stand for all.
std::vector<Span> dealtOnce(const IslandLayout &layout) {
  std::uint64_t total = layout.microbatches(), period = 1;
  for (std::uint32_t s = 0; s < layout.stageCount() && period < total; ++s) {
    std::uint64_t turn = layout.deal(s).turn();
    std::uint64_t factor = turn / std::gcd(period, turn);
    if (__builtin_mul_overflow(period, factor, &period))
      period = total;
  }
  if (period >= total)
    return {{0, total}};
  return {{0, period}, {total / period * period, total}};
}

/// Whether a transfer leads from one tensor-parallel index to another.
bool crossesIndices(const Plan &plan, const Island &island) {
  bool crosses = false;
  auto look = [&](const Instruction &i) {
    crosses |= (i.has_send() && i.send().has_tensor_index()) ||
               (i.has_receive() && i.receive().has_tensor_index());
  };
  for (const Stage &stage : island.stages())
    for (const ReplicaGroup &group : stage.groups()) {
      const Program &program = plan.programs(static_cast<int>(group.program()));
      forEachInstruction(program.step(), look);
      forEachInstruction(program.finish(), look);
      forEachInstruction(program.evaluate(), look);
    }
  return crosses;
}

/// The ranks to run: of each kind of connected set of replicas one. Where all
/// transfers keep the tensor-parallel index the indices of a replica behave
/// alike, whatever they do together, and index 0 stands for all; else all are
/// run.
std::vector<std::uint64_t> representatives(const Plan &plan,
                                           const Island &island,
                                           const IslandLayout &layout) {
  std::vector<std::size_t> start{0}; // replica numbers over all stages
  for (std::uint32_t s = 0; s < layout.stageCount(); ++s)
    start.push_back(start.back() + layout.deal(s).replicas());
  std::vector<std::size_t> parent(start.back());
  std::iota(parent.begin(), parent.end(), 0);
  auto root = [&](std::size_t node) {
    while (parent[node] != node)
      node = parent[node] = parent[parent[node]];
    return node;
  };
  std::set<std::pair<int, int>> links = linkedStages(plan, island);
  std::vector<Span> spans = dealtOnce(layout);
  auto nodeOf = [&](std::uint32_t s, std::uint64_t j) {
    return start[s] + layout.deal(s).place(j).replica;
  };
  for (auto [begin, end] : spans)
    for (std::uint64_t j = begin; j < end; ++j)
      for (auto [a, b] : links) {
        if (b >= static_cast<int>(layout.stageCount()))
          continue; // the validator names it
        std::size_t x = root(nodeOf(static_cast<std::uint32_t>(a), j));
        std::size_t y = root(nodeOf(static_cast<std::uint32_t>(b), j));
        parent[std::max(x, y)] = std::min(x, y);
      }
  // What a set looks like from inside: for each of its microbatches, in order,
  // which of its replicas compute it, numbered by first appearance.
  struct Shape {
    std::vector<std::uint64_t> signature;
    std::map<std::size_t, std::uint64_t> numbers;
    std::vector<std::uint64_t> ranks;
  };
  std::map<std::size_t, Shape> shapes;
  for (auto [begin, end] : spans)
    for (std::uint64_t j = begin; j < end; ++j) {
      std::set<std::size_t> touched;
      for (std::uint32_t s = 0; s < layout.stageCount(); ++s) {
        std::size_t node = nodeOf(s, j);
        Shape &shape = shapes[root(node)];
        if (touched.insert(root(node)).second)
          shape.signature.push_back(~std::uint64_t{0}); // the next microbatch
        std::uint64_t replica = node - start[s];
        auto [entry, fresh] =
            shape.numbers.try_emplace(node, shape.numbers.size());
        shape.signature.push_back(s);
        shape.signature.push_back(entry->second);
        if (fresh) {
          std::uint64_t rank = layout.rankOf(s, replica, 0);
          shape.signature.push_back(layout.coordinates(rank).group);
          shape.ranks.push_back(rank);
        }
      }
    }
  std::set<std::vector<std::uint64_t>> seen;
  std::vector<std::uint64_t> ranks;
  bool all = crossesIndices(plan, island);
  for (auto &[node, shape] : shapes)
    if (seen.insert(shape.signature).second)
      for (std::uint64_t rank : shape.ranks) {
        RankCoordinates at = layout.coordinates(rank);
        std::uint64_t degree = all ? island.stages(static_cast<int>(at.stage))
                                         .groups(static_cast<int>(at.group))
                                         .tensor_parallel()
                                   : 1;
        for (std::uint64_t i = 0; i < degree; ++i)
          ranks.push_back(rank + i);
      }
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

/// Runs one phase of an island's ranks against each other.
class Simulation {
public:
  /// `work`: instructions that may still be run.
  Simulation(const Plan &plan, std::uint32_t islandIndex, std::uint64_t &work)
      : islandIndex(islandIndex), work(work),
        island(plan.islands(static_cast<int>(islandIndex))), layout(island) {
    ranks = representatives(plan, island, layout);
    for (std::uint64_t rank : ranks) {
      RankCoordinates at = layout.coordinates(rank);
      auto &program = compiled[at.program];
      if (!program)
        program = std::make_unique<CompiledProgram>(
            plan.programs(static_cast<int>(at.program)));
      indices[rank] = workers.size();
      workers.push_back({rank, at, std::make_unique<Engine>(*program), {}});
    }
  }

  void run(Phase phase, std::uint64_t step) {
    what = phase == Phase::Finish     ? "finish"
           : phase == Phase::Evaluate ? "evaluate"
                                      : "step " + std::to_string(step);
    queue.clear();
    for (std::size_t w = 0; w < workers.size(); ++w) {
      Worker &worker = workers[w];
      worker.engine->begin(phase, step);
      worker.groups.assign(
          compiled.at(worker.at.program)->code(phase, LANE_COLLECTIVE).size(),
          nullptr);
      push(w);
    }
    while (!queue.empty()) {
      std::size_t w = queue.front();
      queue.pop_front();
      workers[w].queued = false;
      while (advance(w)) {
      }
    }
    for (std::size_t w = 0; w < workers.size(); ++w)
      if (!workers[w].engine->done())
        report(w);
  }

  /// The steps that differ in which guards hold.
  std::vector<std::uint64_t> steps() const {
    std::set<std::pair<std::uint64_t, std::uint64_t>> guards;
    for (const auto &[index, program] : compiled)
      forEachInstruction(program->program().step(), [&](const Instruction &i) {
        if (i.has_guard())
          guards.insert({i.guard().modulus(), i.guard().remainder()});
      });
    constexpr std::size_t kMaxGuards = 256;
    if (guards.size() > kMaxGuards)
      throw Error("island ", islandIndex, ": expected at most ", kMaxGuards,
                  " different guards, got ", guards.size());
    // All combinations occur within the least common multiple; where that is
    // long, each guard by itself and the first steps.
    std::uint64_t period = 1;
    constexpr std::uint64_t kLong = 4096;
    for (auto [modulus, remainder] : guards)
      period = std::min(kLong, std::lcm(period, std::min(modulus, kLong)));
    std::set<std::uint64_t> candidates;
    for (std::uint64_t n = 0; n < period; ++n)
      candidates.insert(n);
    for (auto [modulus, remainder] : guards)
      candidates.insert(remainder ? remainder - 1 : modulus - 1);
    std::set<std::vector<bool>> seen;
    std::vector<std::uint64_t> steps;
    for (std::uint64_t n : candidates) {
      std::vector<bool> active;
      for (auto [modulus, remainder] : guards)
        active.push_back((n + 1) % modulus == remainder);
      if (seen.insert(active).second)
        steps.push_back(n);
    }
    return steps;
  }

private:
  struct Worker {
    std::uint64_t rank;
    RankCoordinates at;
    std::unique_ptr<Engine> engine;
    /// By position of the phase's collectives, among the ranks that are run;
    /// null: not asked for yet.
    std::vector<const std::vector<std::size_t> *> groups;
    bool queued = false;
  };

  void push(std::size_t w) {
    if (!workers[w].queued) {
      workers[w].queued = true;
      queue.push_back(w);
    }
  }

  std::string place(std::size_t w, Lane lane) const {
    return "rank " + std::to_string(workers[w].rank) + " (stage " +
           std::to_string(workers[w].at.stage) + ") lane " + laneName(lane);
  }

  template <typename... Parts>
  [[noreturn]] void fail(const Parts &...parts) const {
    throw Error("island ", islandIndex, ": ", what, ": ", parts...);
  }

  struct Meeting {
    std::size_t worker;
    Lane lane;
    std::uint64_t microbatch;
  };
  /// The other side of a transfer that is ready on `lane`.
  Meeting meet(std::size_t w, Lane lane, const Engine::Next &next) const {
    const Transfer &transfer = next.instruction->has_send()
                                   ? next.instruction->send()
                                   : next.instruction->receive();
    const Worker &self = workers[w];
    auto local = static_cast<std::uint64_t>(
        evaluate(transfer.microbatch(), next.variables));
    std::uint64_t j =
        layout.deal(self.at.stage).microbatch(self.at.replica, local);
    if (j >= layout.microbatches())
      fail(place(w, lane), ": microbatch ", j, " does not exist");
    std::uint64_t rank = layout.peer(self.at, transfer, local);
    auto other = indices.find(rank);
    if (other == indices.end())
      fail(place(w, lane), ": rank ", rank, " does not exchange with it");
    return {other->second, counterpart(lane), j};
  }

  /// Completes whatever `w` can complete; false when all its lanes wait.
  bool advance(std::size_t w) {
    bool moved = false;
    // Transfers are asked for when nothing else goes on: they have to look at
    // another rank each time.
    for (bool alone = true; alone; moved |= alone) {
      alone = advance(w, LANE_COMPUTE);
      alone |= advance(w, LANE_COLLECTIVE);
    }
    for (Lane lane : kLanes)
      moved |= advance(w, lane);
    return moved;
  }

  /// Completes what `w` can complete on a lane; false when it waits.
  bool advance(std::size_t w, Lane lane) {
    Engine &engine = *workers[w].engine;
    bool moved = false;
    while (engine.ready(lane)) {
      Engine::Next next = engine.next(lane);
      if (work == 0)
        fail("more than ", kMaxProgressWork,
             " instructions until it is known whether the plan can run");
      --work;
      const Instruction &instruction = *next.instruction;
      if (instruction.has_send() || instruction.has_receive()) {
        if (!transfer(w, lane, next))
          break;
      } else if (instruction.has_collective()) {
        if (!collective(w, next))
          break;
      } else {
        engine.complete(lane);
      }
      moved = true;
    }
    return moved;
  }

  bool transfer(std::size_t w, Lane lane, const Engine::Next &next) {
    Meeting other = meet(w, lane, next);
    Engine &engine = *workers[other.worker].engine;
    if (!engine.ready(other.lane))
      return false;
    Engine::Next reply = engine.next(other.lane);
    Meeting back = meet(other.worker, other.lane, reply);
    if (back.worker != w)
      return false; // it deals with another rank first
    const Instruction &a = *next.instruction, &b = *reply.instruction;
    std::uint64_t bytesA =
        a.has_send() ? a.send().bytes() : a.receive().bytes();
    std::uint64_t bytesB =
        b.has_send() ? b.send().bytes() : b.receive().bytes();
    if (back.microbatch != other.microbatch)
      fail(place(w, lane), " is at microbatch ", other.microbatch, " while ",
           place(other.worker, other.lane), " is at ", back.microbatch);
    if (bytesA != bytesB)
      fail(place(w, lane), " transfers ", bytesA, " bytes while ",
           place(other.worker, other.lane), " expects ", bytesB);
    workers[w].engine->complete(lane);
    engine.complete(other.lane);
    push(other.worker);
    return true;
  }

  /// The members of the collective among the ranks that are run; of equal
  /// groups the same list.
  const std::vector<std::size_t> &members(std::size_t w,
                                          const Engine::Next &next) {
    const std::vector<std::size_t> *&list = workers[w].groups[next.position];
    if (list)
      return *list;
    const Collective &collective = next.instruction->collective();
    GroupKey key = groupKey(workers[w].at, collective);
    auto [entry, fresh] = groups.try_emplace(key);
    if (fresh)
      for (std::size_t i = 0; i < workers.size(); ++i)
        if (groupKey(workers[i].at, collective) == key)
          entry->second.push_back(i);
    list = &entry->second;
    return *list;
  }

  /// Whether worker `i` is about to enter a collective of these members.
  bool enters(std::size_t i, const std::vector<std::size_t> &all) {
    const Engine &engine = *workers[i].engine;
    return engine.ready(LANE_COLLECTIVE) &&
           &members(i, engine.next(LANE_COLLECTIVE)) == &all;
  }

  bool collective(std::size_t w, const Engine::Next &next) {
    const Collective &own = next.instruction->collective();
    const std::vector<std::size_t> &all = members(w, next);
    for (std::size_t i : all)
      if (!enters(i, all))
        return false;
    for (std::size_t i : all) {
      const Collective &other =
          workers[i].engine->next(LANE_COLLECTIVE).instruction->collective();
      if (other.kind() != own.kind() || other.elements() != own.elements() ||
          other.dtype() != own.dtype())
        fail(place(w, LANE_COLLECTIVE), " is in ", describe(own), " while ",
             place(i, LANE_COLLECTIVE), " is in ", describe(other));
    }
    for (std::size_t i : all) {
      workers[i].engine->complete(LANE_COLLECTIVE);
      push(i);
    }
    return true;
  }

  // ---- Who waits for whom.

  using Node = std::pair<std::size_t, Lane>;

  /// Describes what a lane waits for and names the lane it waits on; an empty
  /// second means that nobody is left who could help.
  std::pair<std::string, std::vector<Node>> waitsFor(Node node) {
    auto [w, lane] = node;
    Engine::Next next = workers[w].engine->next(lane);
    std::string text = place(w, lane);
    if (next.state == Engine::Next::Blocked) {
      text += " waits for semaphore " + std::to_string(next.semaphore) +
              " to reach " + std::to_string(next.needed) + " (it is " +
              std::to_string(workers[w].engine->semaphore(next.semaphore)) +
              ")";
      std::vector<Node> on;
      for (Lane other : kLanes)
        if (other != lane &&
            workers[w].engine->next(other).state != Engine::Next::Done &&
            signals(w, other, next.semaphore))
          on.push_back({w, other});
      return {text, on};
    }
    const Instruction &instruction = *next.instruction;
    if (instruction.has_collective()) {
      text += " waits in a collective over the ";
      text += groupName(instruction.collective().group());
      std::vector<Node> on;
      const std::vector<std::size_t> &all = members(w, next);
      for (std::size_t i : all) {
        Engine::Next other = workers[i].engine->next(LANE_COLLECTIVE);
        if (other.state == Engine::Next::Done) {
          text += ", which rank " + std::to_string(workers[i].rank) +
                  " never enters";
          return {text, {}};
        }
        if (i != w && !enters(i, all))
          on.push_back({i, LANE_COLLECTIVE});
      }
      return {text, on};
    }
    Meeting other = meet(w, lane, next);
    text += instruction.has_send() ? " waits to send microbatch "
                                   : " waits to receive microbatch ";
    text += std::to_string(other.microbatch) +
            (instruction.has_send() ? " to rank " : " from rank ") +
            std::to_string(workers[other.worker].rank);
    if (workers[other.worker].engine->next(other.lane).state ==
        Engine::Next::Done) {
      text += ", which is at its end";
      return {text, {}};
    }
    return {text, {{other.worker, other.lane}}};
  }

  bool signals(std::size_t w, Lane lane, std::uint32_t semaphore) const {
    const Worker &worker = workers[w];
    const CompiledProgram &program = *compiled.at(worker.at.program);
    for (Phase phase : {Phase::Step, Phase::Finish, Phase::Evaluate})
      for (const CompiledProgram::Code &code : program.code(phase, lane))
        if (code.kind == CompiledProgram::Code::Run)
          for (std::uint32_t signal : code.instruction->signals())
            if (signal == semaphore)
              return true;
    return false;
  }

  [[noreturn]] void report(std::size_t w) {
    Node node{w, LANE_COMPUTE};
    for (Lane lane : kLanes)
      if (workers[w].engine->next(lane).state != Engine::Next::Done) {
        node.second = lane;
        break;
      }
    std::vector<Node> path;
    std::vector<std::string> texts;
    for (;;) {
      auto seen = std::find(path.begin(), path.end(), node);
      if (seen != path.end()) {
        std::string cycle;
        for (auto i = static_cast<std::size_t>(seen - path.begin());
             i < path.size(); ++i)
          cycle += texts[i] + "; ";
        fail("deadlock: ", cycle, "and so round");
      }
      auto [text, on] = waitsFor(node);
      path.push_back(node);
      texts.push_back(text);
      if (on.empty()) {
        std::string chain;
        for (const std::string &part : texts)
          chain += (chain.empty() ? "" : "; ") + part;
        fail("deadlock: ", chain, ": nothing is left that would end the wait");
      }
      node = on.front();
    }
  }

  std::uint32_t islandIndex;
  std::uint64_t &work;
  const Island &island;
  IslandLayout layout;
  std::vector<std::uint64_t> ranks;
  std::map<std::uint64_t, std::size_t> indices;
  std::map<std::uint32_t, std::unique_ptr<CompiledProgram>> compiled;
  std::vector<Worker> workers;
  std::deque<std::size_t> queue;
  std::map<GroupKey, std::vector<std::size_t>> groups;
  std::string what;
};

} // namespace

void checkProgress(const Plan &plan) {
  std::uint64_t work = kMaxProgressWork;
  for (int i = 0; i < plan.islands_size(); ++i) {
    Simulation simulation(plan, static_cast<std::uint32_t>(i), work);
    for (std::uint64_t step : simulation.steps())
      simulation.run(Phase::Step, step);
    simulation.run(Phase::Finish, 0);
    simulation.run(Phase::Evaluate, 0);
  }
}

} // namespace tombolo::runtime
