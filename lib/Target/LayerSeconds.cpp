//===- LayerSeconds.cpp - measured layers as times of segments ------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A measured cell is of a block by its number in the model, and holds what the
// chips of a replica tell each other; a plan has segments by the block's name,
// and collectives of their own. So the blocks that the island's stages say they
// hold become a planning problem again, in which the cost model completes and
// interpolates the cells as it did for the search, and the time that it gives
// the collectives is taken off.
//
//===----------------------------------------------------------------------===//

#include "LayerSeconds.h"

#include "tombolo/Planning/CostModel.h"
#include "tombolo/Planning/LayerTimes.h"
#include "tombolo/runtime/plan/SegmentName.h"

#include "llvm/ADT/StringSwitch.h"

#include <set>

using namespace mlir;

namespace tombolo {
namespace {

using planning::BlockFunction;
using planning::BlockKind;

planning::Work &workOf(BlockKind &kind, BlockFunction function) {
  switch (function) {
  case BlockFunction::Forward:
    return kind.forward;
  case BlockFunction::BackwardInput:
    return kind.backwardInput;
  case BlockFunction::BackwardWeight:
    break;
  }
  return kind.backwardWeight;
}

struct Where {
  plan::IslandOp island;
  plan::StageOp stage;
  plan::ReplicasOp group;
};

/// Where a program runs first.
std::optional<Where> whereIs(plan::ProgramOp program) {
  std::optional<Where> found;
  program->getParentOfType<ModuleOp>().walk([&](plan::ReplicasOp group) {
    if (group.getProgramAttr().getAttr() != program.getSymNameAttr())
      return WalkResult::advance();
    auto stage = cast<plan::StageOp>(group->getParentOp());
    found = {cast<plan::IslandOp>(stage->getParentOp()), stage, group};
    return WalkResult::interrupt();
  });
  return found;
}

/// The blocks of a model as calls of functions, in order, and those of a stage.
struct Blocks {
  std::vector<std::pair<std::string, uint64_t>> runs; // of the model
  std::vector<planning::BlockRange> own;
};

std::optional<Blocks> blocksOf(Where where) {
  SmallVector<plan::StageOp> stages;
  size_t chunks = 0;
  for (auto stage : where.island.getBody().getOps<plan::StageOp>()) {
    if (!stage.getChunks())
      return std::nullopt;
    stages.push_back(stage);
    chunks = stage.getChunks()->size();
  }
  Blocks blocks;
  uint64_t first = 0;
  for (size_t c = 0; c < chunks; ++c)
    for (plan::StageOp stage : stages) {
      uint64_t begin = first;
      auto chunk = cast<ArrayAttr>((*stage.getChunks())[c]);
      for (auto run : chunk.getAsRange<plan::BlocksAttr>()) {
        uint64_t count = static_cast<uint64_t>(run.getCount());
        blocks.runs.emplace_back(run.getBlock().str(), count);
        first += count;
      }
      if (stage == where.stage)
        blocks.own.push_back({begin, first - begin});
    }
  return blocks;
}

/// Puts the collectives of each function that a program calls into the kinds:
/// a collective is of the function whose parts stand around it.
class Collectives {
public:
  Collectives(std::map<std::string, BlockKind> &kinds, uint64_t chips)
      : kinds(kinds), chips(static_cast<double>(chips)) {}

  void visit(Block &body) {
    for (Operation &op : body) {
      if (auto loop = dyn_cast<plan::LoopOp>(op)) {
        leave(std::nullopt);
        visit(loop.getBody().front());
        leave(std::nullopt);
      } else if (auto call = dyn_cast<plan::CallOp>(op)) {
        leave(runtime::parseSegmentName(call.getSegment()));
      } else if (auto collective = dyn_cast<plan::CollectiveOp>(op);
                 collective && collective.getGroup() == plan::Group::Tensor) {
        waiting.push_back(collective);
      }
    }
    leave(std::nullopt);
  }

private:
  std::map<std::string, BlockKind> &kinds;
  double chips;
  std::optional<runtime::SegmentName> last;
  SmallVector<plan::CollectiveOp> waiting;
  std::set<std::pair<std::string, std::string>> done;

  static std::pair<std::string, std::string>
  keyOf(const runtime::SegmentName &name) {
    return {name.block, name.function};
  }

  void leave(std::optional<runtime::SegmentName> next) {
    // Where a function begins with a collective its first call is a later part.
    const auto &owner =
        next && next->part > 0 && (!last || keyOf(*last) != keyOf(*next))
            ? next
            : last;
    if (owner && !done.count(keyOf(*owner)))
      for (plan::CollectiveOp collective : waiting)
        add(*owner, collective);
    waiting.clear();
    // The same function again is another call of it.
    if (last &&
        (!next || keyOf(*last) != keyOf(*next) || next->part <= last->part))
      done.insert(keyOf(*last));
    last = next;
  }

  void add(const runtime::SegmentName &name, plan::CollectiveOp collective) {
    auto kind = kinds.find(name.block);
    auto function = planning::parseBlockFunction(name.function);
    if (kind == kinds.end() || !function)
      return;
    auto what =
        llvm::StringSwitch<std::optional<planning::Collective>>(
            collective.getKind())
            .Case("all_reduce_sum", planning::Collective::AllReduce)
            .Case("reduce_scatter_sum", planning::Collective::ReduceScatter)
            .Case("all_gather", planning::Collective::AllGather)
            .Case("all_to_all", planning::Collective::AllToAll)
            .Default(std::nullopt);
    if (!what)
      return;
    planning::Exchange &to = workOf(kind->second, *function).of(*what);
    double bytes = static_cast<double>(collective.getElements()) *
                   collective.getType().getIntOrFloatBitWidth() / 8;
    to.count += 1;
    // Of the whole tensor; of an all-to-all each chip has a part.
    to.bytes.constant +=
        *what == planning::Collective::AllToAll ? chips * bytes : bytes;
  }
};

} // namespace

std::optional<LayerSeconds> layerSeconds(plan::ProgramOp program,
                                         const planning::Topology &topology,
                                         const planning::Chip &chip,
                                         planning::Precision precision,
                                         const SegmentWorks &segments) {
  std::optional<Where> where = whereIs(program);
  std::optional<Blocks> blocks = where ? blocksOf(*where) : std::nullopt;
  if (!blocks)
    return std::nullopt;
  uint64_t degree = static_cast<uint64_t>(where->group.getTensorParallel());
  uint64_t microbatch = static_cast<uint64_t>(where->island.getMicrobatch());

  // Kinds by what all chips of a replica do together for each sample.
  std::map<std::string, BlockKind> kinds;
  for (const auto &[block, count] : blocks->runs)
    kinds[block].name = block;
  std::map<std::string, std::string> variants; // which segments say so
  for (const auto &[segment, work] : segments) {
    auto name =
        runtime::parseSegmentName(plan::SegmentOp(segment).getSymName());
    if (!name || !kinds.count(name->block))
      continue;
    std::string variant = std::to_string(name->microbatch) + "." +
                          std::to_string(name->tensorParallel);
    if (variants.try_emplace(name->block, variant).first->second != variant)
      continue;
    double scale = static_cast<double>(name->tensorParallel) /
                   static_cast<double>(name->microbatch);
    planning::Work &to = workOf(kinds[name->block],
                                *planning::parseBlockFunction(name->function));
    to.flops.perSample += scale * work.flops.constant;
    to.bytes.perSample += scale * work.bytes.constant;
    to.streamed.perSample += scale * work.streamed.constant;
    to.scores.perSample += scale * work.scores.constant;
    to.ops += work.ops;
  }
  Collectives(kinds, degree).visit(program.getStep().getBody().front());

  double elements = 0, ownBlocks = 0;
  for (auto family : program.getOps<plan::ParametersOp>())
    if (!family.getFrozen())
      elements += static_cast<double>(family.getLocalElements()) *
                  static_cast<double>(family.getCount());
  for (planning::BlockRange range : blocks->own)
    ownBlocks += static_cast<double>(range.count);

  planning::Problem problem;
  problem.topology = topology;
  problem.model.precision = precision;
  std::map<std::string, size_t> numbers;
  for (auto &[name, kind] : kinds) {
    numbers[name] = problem.model.kinds.size();
    // Only matters to blocks whose update was not measured.
    kind.trainableCount = static_cast<uint64_t>(
        elements * static_cast<double>(degree) / std::max(1.0, ownBlocks));
    problem.model.kinds.push_back(kind);
  }
  for (const auto &[name, count] : blocks->runs)
    problem.model.runs.push_back({numbers[name], count});
  if (!planning::applyLayerTimes(problem).empty())
    return std::nullopt;

  std::string pool =
      (where->group.getSite() + "/" + where->group.getPool()).str();
  planning::ReplicaChips replica{
      degree,
      planning::insideReplicas(
          topology,
          {pool, 0, degree * static_cast<uint64_t>(where->group.getCount())},
          degree)};
  double samples = static_cast<double>(microbatch), update = 0;
  LayerSeconds result;
  std::map<std::string, double> counts;
  for (planning::BlockRange range : blocks->own)
    for (const planning::BlockRun &run :
         planning::slice(problem.model.runs, range.first, range.count)) {
      const BlockKind &kind = problem.model.kinds[run.kind];
      planning::BlockTimes times =
          planning::blockTimes(problem, run.kind, chip, samples, replica);
      double count = static_cast<double>(run.count);
      auto without = [&](double seconds, const planning::Work &work) {
        return std::max(0.0, seconds - planning::exchangeSeconds(work, degree,
                                                                 replica.wire,
                                                                 samples));
      };
      auto &sums = result.functions[kind.name];
      sums[0] += count * without(times.forward, kind.forward);
      sums[1] += count * without(times.backwardInput, kind.backwardInput);
      sums[2] += count * without(times.backwardWeight, kind.backwardWeight);
      counts[kind.name] += count;
      update += count * times.update;
    }
  for (auto &[name, sums] : result.functions)
    for (double &sum : sums)
      sum /= counts[name];
  result.updatePerElement = elements > 0 ? update / elements : 0;
  return result;
}

} // namespace tombolo
