//===- ShardModel.cpp - how a model's blocks are best split over chips ----===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Conversion/ShardModel.h"
#include "BlockFigures.h"
#include "ShardingBuilder.h"

#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/EquivalenceClasses.h"

#include <set>

using namespace mlir;
using namespace tombolo;
using graph::BlockGraph;
using graph::ShardingState;

//===----------------------------------------------------------------------===//
// The chain
//===----------------------------------------------------------------------===//

FailureOr<std::vector<ChainKind>> tombolo::readChain(ModuleOp module) {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main || main.isExternal())
    return module.emitError("expected a function @main of block calls");
  SymbolTable symbols(module);
  std::vector<ChainKind> kinds;
  DenseMap<Operation *, size_t> numbers;
  // Tensors and parameters by place: those that must be the same are joined.
  llvm::EquivalenceClasses<int> places;
  std::vector<SmallVector<int>> inputs, outputs, parameters;
  std::map<int, std::set<StringRef>> names;
  llvm::StringMap<int> parameterPlaces;
  DenseMap<Value, int> made; // results of calls
  int next = 0;
  auto add = [&] {
    places.insert(next);
    return next++;
  };
  std::vector<func::CallOp> calls(main.getOps<func::CallOp>().begin(),
                                  main.getOps<func::CallOp>().end());
  for (auto [position, call] : llvm::enumerate(calls)) {
    auto block = symbols.lookup<func::FuncOp>(call.getCallee());
    if (!block)
      return call.emitError("expected a call of a block");
    auto [known, isNew] = numbers.try_emplace(block, kinds.size());
    size_t k = known->second;
    if (isNew) {
      auto functions = graph::BlockFunctions::get(block);
      if (failed(functions))
        return failure();
      ChainKind &kind = kinds.emplace_back();
      kind.block = block;
      kind.functions = *functions;
      kind.first = position;
      auto &own = inputs.emplace_back();
      auto &mine = parameters.emplace_back();
      for (unsigned i = 0; i < block.getNumArguments(); ++i) {
        bool isParameter = block.getArgAttr(i, graph::kParameterAttr) != nullptr;
        bool isFeed = block.getArgAttr(i, graph::kInputAttr) ||
                      block.getArgAttr(i, graph::kLabelAttr);
        (isParameter ? mine : own).push_back(isFeed ? -1 : add());
      }
      outputs.emplace_back();
      for (unsigned i = 0; i < block.getNumResults(); ++i)
        outputs.back().push_back(-1);
    }
    ChainKind &kind = kinds[k];
    ++kind.count;
    kind.isLast = position + 1 == calls.size();
    unsigned data = 0, parameter = 0;
    for (auto [i, operand] : llvm::enumerate(call.getOperands())) {
      if (!block.getArgAttr(i, graph::kParameterAttr)) {
        int place = inputs[k][data++];
        if (auto from = made.find(operand); place >= 0 && from != made.end())
          places.unionSets(place, from->second);
        continue;
      }
      int place = parameters[k][parameter++];
      auto read = operand.getDefiningOp<graph::GetParameterOp>();
      if (!read)
        return call.emitError("expected parameters of the model");
      auto [first, fresh] =
          parameterPlaces.try_emplace(read.getParameter(), place);
      places.unionSets(place, first->second);
      names[place].insert(read.getParameter());
      if (isNew)
        kind.parameters.push_back(read.getParameter());
    }
    for (auto [i, result] : llvm::enumerate(call.getResults())) {
      bool isRead = llvm::any_of(result.getUsers(), [](Operation *user) {
        return isa<func::CallOp>(user);
      });
      if (!isRead)
        continue;
      int &place = outputs[k][i];
      if (place < 0)
        place = add();
      made[result] = place;
      auto type = cast<RankedTensorType>(result.getType());
      if (isa<FloatType>(type.getElementType()) &&
          !llvm::is_contained(kind.gradientOutputs, i))
        kind.gradientOutputs.push_back(i);
    }
  }
  std::set<StringRef> counted;
  for (size_t k = 0; k < kinds.size(); ++k) {
    auto leaders = [&](ArrayRef<int> from, SmallVectorImpl<int> &to) {
      for (int place : from)
        to.push_back(place < 0 ? -1 : places.getLeaderValue(place));
    };
    leaders(inputs[k], kinds[k].inputTensors);
    leaders(outputs[k], kinds[k].outputTensors);
    leaders(parameters[k], kinds[k].parameterTensors);
    llvm::sort(kinds[k].gradientOutputs);
    for (int place : parameters[k]) {
      uint64_t fresh = 0;
      for (StringRef name : names[place])
        fresh += counted.insert(name).second;
      kinds[k].parameterCounts.push_back(fresh);
    }
  }
  return kinds;
}

//===----------------------------------------------------------------------===//
// Seeds
//===----------------------------------------------------------------------===//

static planning::ShardingState toPlanning(ShardingState state) {
  if (!state.isSplit())
    return {};
  return {static_cast<uint64_t>(state.dimension),
          static_cast<uint64_t>(state.outer)};
}

static planning::Sharding toSeeds(const ChainKind &kind, uint64_t chips,
                                  const graph::BlockSharding &sharding,
                                  ArrayRef<graph::ShardingSeeds::Op> ops) {
  planning::Sharding seeds;
  seeds.block = kind.first;
  seeds.tensorParallel = chips;
  // Those that are whole, too: pins that are missing would be searched.
  for (auto [name, state] : llvm::zip(kind.parameters, sharding.parameters))
    seeds.parameters[name.str()] = toPlanning(state);
  for (ShardingState state : sharding.data)
    seeds.inputs.push_back(toPlanning(state));
  for (ShardingState state : sharding.outputs)
    seeds.outputs.push_back(toPlanning(state));
  for (const graph::ShardingSeeds::Op &op : ops)
    seeds.ops.push_back({static_cast<planning::OpSeed::Function>(op.function),
                         op.op, op.sharding.getCode(),
                         static_cast<uint64_t>(op.sharding.choice.outer)});
  return seeds;
}

static graph::ShardingSeeds toSeeds(const ChainKind &kind,
                                    const planning::Sharding &stated) {
  auto toGraph = [](const planning::ShardingState &state) {
    return state.dim ? ShardingState::split(static_cast<int64_t>(*state.dim),
                                            static_cast<int64_t>(state.outer))
                     : ShardingState::whole();
  };
  graph::ShardingSeeds seeds;
  for (const planning::ShardingState &state : stated.inputs)
    seeds.data.push_back(toGraph(state));
  for (StringRef name : kind.parameters) {
    auto state = stated.parameters.find(name.str());
    seeds.parameters.push_back(state == stated.parameters.end()
                                   ? ShardingState::whole()
                                   : toGraph(state->second));
  }
  for (const planning::ShardingState &state : stated.outputs)
    seeds.outputs.push_back(toGraph(state));
  for (const planning::OpSeed &seed : stated.ops)
    seeds.ops.push_back({static_cast<graph::BlockFunction>(seed.function),
                         static_cast<unsigned>(seed.op),
                         graph::OpSharding::fromCode(
                             seed.choice, static_cast<int64_t>(seed.outer))});
  return seeds;
}

namespace {

/// The seeds from which propagation finds a sharding of least cost.
class SeedFinder {
public:
  using Ops = SmallVector<graph::ShardingSeeds::Op>;

  /// `likely`: by kind, ops that had to be named over another number of chips;
  /// or none at all.
  SeedFinder(const ShardingBuilder &builder,
             std::vector<graph::BlockSharding> best,
             planning::ShardingCost least, ArrayRef<Ops> likely)
      : builder(builder), best(std::move(best)), least(least), likely(likely),
        seeds(this->best.size()) {}

  /// First the boundaries and parameters alone, with the likely ops; then,
  /// where few ops do something else, the first of them in each function, a few
  /// times; then all.
  LogicalResult run();

  bool isLeast() const;

  /// What propagation makes of the seeds.
  std::vector<graph::BlockSharding> found;
  std::vector<Ops> ops() const {
    std::vector<Ops> result;
    for (const graph::ShardingSeeds &one : seeds)
      result.push_back(one.ops);
    return result;
  }

private:
  const ShardingBuilder &builder;
  std::vector<graph::BlockSharding> best;
  planning::ShardingCost least;
  ArrayRef<Ops> likely;
  std::vector<graph::ShardingSeeds> seeds;

  LogicalResult propagate(size_t kind);
  size_t differing(size_t kind) const;
  bool addOps(size_t kind, bool all);
};

} // namespace

LogicalResult SeedFinder::propagate(size_t kind) {
  auto sharding =
      graph::propagateShardings(builder.getGraph(kind), seeds[kind]);
  if (failed(sharding))
    return failure();
  found[kind] = std::move(*sharding);
  return success();
}

bool SeedFinder::isLeast() const {
  auto chosen = builder.getChosen(found);
  if (!chosen)
    return false;
  auto cost = builder.getProblem().evaluate(*chosen);
  return cost && cost->time <= least.time;
}

size_t SeedFinder::differing(size_t kind) const {
  size_t count = 0;
  for (unsigned f = 0; f < graph::kBlockFunctions; ++f)
    for (auto [wanted, does] :
         llvm::zip(best[kind].ops[f], found[kind].ops[f]))
      count += !(wanted == does);
  return count;
}

/// Names ops of a kind that do something else; false when none does.
bool SeedFinder::addOps(size_t kind, bool all) {
  bool added = false;
  for (unsigned f = 0; f < graph::kBlockFunctions; ++f)
    for (auto [i, does] : llvm::enumerate(best[kind].ops[f])) {
      if (does == found[kind].ops[f][i])
        continue;
      seeds[kind].ops.push_back({static_cast<graph::BlockFunction>(f),
                                 static_cast<unsigned>(i), does});
      added = true;
      if (!all)
        break;
    }
  llvm::sort(seeds[kind].ops, [](const auto &a, const auto &b) {
    return std::pair(a.function, a.op) < std::pair(b.function, b.op);
  });
  return added;
}

LogicalResult SeedFinder::run() {
  constexpr int kCarefulRounds = 3;
  constexpr size_t kFew = 12;
  found.resize(best.size());
  for (size_t k = 0; k < best.size(); ++k) {
    seeds[k].data = best[k].data;
    seeds[k].parameters = best[k].parameters;
    seeds[k].outputs = best[k].outputs;
    // Whether a linear set can be asked for depends on all ops before it.
    if (!likely.empty())
      llvm::copy_if(likely[k], std::back_inserter(seeds[k].ops),
                    [&](const graph::ShardingSeeds::Op &op) {
                      return op.sharding.linear < 0 &&
                             best[k].ops[op.function][op.op] == op.sharding;
                    });
    if (failed(propagate(k)))
      return failure();
  }
  // Kinds one after the other: all others as they should be.
  std::vector<graph::BlockSharding> propagated = found;
  for (size_t k = 0; k < best.size(); ++k) {
    found = best;
    found[k] = propagated[k];
    for (int round = 0; !isLeast(); ++round) {
      if (!addOps(k, round >= kCarefulRounds || differing(k) > kFew))
        break;
      if (failed(propagate(k)))
        return failure();
    }
    propagated[k] = found[k];
  }
  found = std::move(propagated);
  return success();
}

/// What follows from a strategy that states a sharding of every kind over the
/// demand's chips: no shardings when it does not, or not one that can be.
static FailureOr<std::vector<graph::BlockSharding>>
propagateStated(ArrayRef<ChainKind> kinds, const ShardingBuilder &builder,
                ArrayRef<const planning::Sharding *> stated) {
  std::vector<graph::BlockSharding> found;
  for (auto [k, kind] : llvm::enumerate(kinds)) {
    if (!stated[k])
      return std::vector<graph::BlockSharding>();
    auto sharding = graph::propagateShardings(builder.getGraph(k),
                                              toSeeds(kind, *stated[k]));
    if (failed(sharding))
      return failure();
    found.push_back(std::move(*sharding));
  }
  auto chosen = builder.getChosen(found);
  if (!chosen || !builder.getProblem().evaluate(*chosen))
    found.clear();
  return found;
}

//===----------------------------------------------------------------------===//
// The whole
//===----------------------------------------------------------------------===//

FailureOr<planning::Faults>
tombolo::shardModel(ModuleOp module, planning::ModelProfile &profile,
                    ArrayRef<planning::ShardingDemand> demands,
                    ArrayRef<planning::Sharding> pins, ShardingSource source,
                    std::vector<ShardingReport> *reports) {
  planning::Faults faults;
  if (demands.empty())
    return faults;
  OwningOpRef<ModuleOp> copy;
  if (profile.precision == planning::Precision::BF16) {
    copy = module.clone();
    module = *copy;
  }
  auto kinds = readChain(module);
  if (failed(kinds))
    return failure();
  if (kinds->size() != profile.kinds.size())
    return module.emitError("the profile is of another model");
  if (profile.precision == planning::Precision::BF16)
    for (ChainKind &kind : *kinds)
      graph::lowerPrecision(kind.functions);

  // What is best over some chips is often good over others.
  std::vector<graph::BlockSharding> before;
  std::vector<SeedFinder::Ops> opsBefore;
  for (const planning::ShardingDemand &demand : demands) {
    ShardingBuilder builder(*kinds, demand);
    planning::Faults own;
    if (failed(builder.build(pins, own))) {
      if (own.empty())
        return failure();
      if (demand.isCandidate)
        continue;
      for (planning::Fault &fault : own)
        faults.push_back(
            {fault.path.empty() ? demand.path : fault.path, fault.message});
      continue;
    }
    const planning::ShardingProblem &problem = builder.getProblem();
    for (const planning::Fault &fault : problem.check())
      return module.emitError("sharding problem: ")
             << fault.path << ": " << fault.message;
    auto addFigures = [&](ArrayRef<graph::BlockSharding> found) {
      for (auto [k, kind] : llvm::enumerate(*kinds))
        profile.kinds[k].sharded.push_back(shardFigures(
            profile.kinds[k], kind, builder.getGraph(k), found[k]));
    };
    if (source == ShardingSource::Strategy) {
      std::vector<const planning::Sharding *> stated;
      for (const ChainKind &kind : *kinds) {
        auto own = llvm::find_if(pins, [&](const planning::Sharding &pin) {
          return pin.block == kind.first &&
                 pin.tensorParallel == demand.tensorParallel;
        });
        stated.push_back(own == pins.end() ? nullptr : own);
      }
      auto found = propagateStated(*kinds, builder, stated);
      if (failed(found))
        return failure();
      if (!found->empty()) {
        addFigures(*found);
        for (const planning::Sharding *own : stated)
          profile.shardings.push_back(*own);
        continue;
      }
    }
    std::optional<std::vector<size_t>> guess;
    if (!before.empty())
      guess = builder.getChosen(before);
    auto solution = planning::solveSharding(
        problem, planning::kMostShardingRows, guess ? &*guess : nullptr);
    if (!solution && demand.isCandidate)
      continue;
    if (!solution) {
      faults.push_back({demand.path,
                        "what is pinned leaves no sharding over " +
                            std::to_string(demand.tensorParallel) + " chips"});
      continue;
    }
    SeedFinder finder(builder, builder.getShardings(solution->chosen),
                      solution->cost, opsBefore);
    if (failed(finder.run()))
      return failure();
    std::vector<SeedFinder::Ops> ops = finder.ops();
    before = finder.found;
    uint64_t opSeeds = 0;
    addFigures(finder.found);
    for (auto [k, kind] : llvm::enumerate(*kinds)) {
      profile.shardings.push_back(
          toSeeds(kind, demand.tensorParallel, finder.found[k], ops[k]));
      opSeeds += ops[k].size();
    }
    if (reports)
      reports->push_back({demand.tensorParallel, problem.ops.size(),
                          solution->largestTable, solution->proven, opSeeds,
                          finder.isLeast(),
                          static_cast<double>(solution->cost.time) *
                              problem.unit()});
    opsBefore = std::move(ops);
  }
  return faults;
}
