//===- ShardingBuilder.cpp - the sharding problem of a model's blocks -----===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// An op's options are what its sharding rule allows: nothing split, partial
// sums, or a factor. Strided parts (a fused matrix of queries, keys and values)
// follow from the states of its operands and results, so options and states
// grow together until nothing is new.
//
// Ops that compute nothing tie things together: one for each boundary tensor
// (results of one block, arguments of the next, and their gradients have one
// state) and each parameter; one for each saved or carried value, which goes on
// as it was made; one for each gradient of a parameter, which lies like the
// parameter, or as partial sums that are added up once a step.
//
//===----------------------------------------------------------------------===//

#include "ShardingBuilder.h"

#include "tombolo/Dialect/Graph/IR/GraphDialect.h"

#include "llvm/ADT/SmallBitVector.h"
#include "llvm/ADT/STLExtras.h"

#include <limits>
#include <set>

using namespace mlir;
using namespace tombolo;
using graph::BlockGraph;
using graph::OpSharding;
using graph::ShardingState;
using planning::Collective;
using planning::ShardingProblem;
using Role = graph::BlockGraph::Role;

static constexpr double kInfinity = std::numeric_limits<double>::infinity();
/// Splits of a value, and choices of an op, beyond which no more are followed.
static constexpr size_t kMaxStates = 16;
static constexpr size_t kMaxChoices = 48;
/// An argument is read by each function; the last reader is for what must be
/// as it is.
static constexpr size_t kReaders = graph::kBlockFunctions + 1;
static constexpr size_t kAsItIs = graph::kBlockFunctions;

graph::OpCost tombolo::getLocalCost(const BlockGraph::Node &node,
                                    const OpSharding &does, int64_t count,
                                    int64_t batch) {
  graph::OpCost cost;
  auto priced = dyn_cast<graph::CostOpInterface>(node.op);
  if (!priced)
    return cost;
  cost = priced.getCost(batch);
  if (does.choice.factor < 0)
    return cost;
  cost.flops /= static_cast<double>(count);
  cost.scores /= static_cast<double>(count);
  // What is read and written shrinks as the tensors that are split do.
  auto shrink = [&](double &bytes, ValueRange values, auto stateOf) {
    double whole = 0, local = 0;
    for (auto [i, value] : llvm::enumerate(values)) {
      double size = static_cast<double>(
          graph::getNumBytes(value.getType(), batch));
      whole += size;
      local += stateOf(i).isSplit() ? size / static_cast<double>(count) : size;
    }
    if (whole > 0)
      bytes *= local / whole;
  };
  shrink(cost.bytesRead, node.op->getOperands(), [&](unsigned i) {
    return graph::getOperandState(*node.rule, does.choice, i);
  });
  shrink(cost.bytesWritten, node.op->getResults(), [&](unsigned i) {
    return graph::getResultState(*node.rule, does.choice, i);
  });
  return cost;
}

std::optional<Collective> tombolo::getCollective(ShardingState from,
                                                 ShardingState to) {
  if (from.isPartial())
    return to.isWhole() ? Collective::AllReduce : Collective::ReduceScatter;
  if (from.isSplit())
    return to.isWhole() ? Collective::AllGather : Collective::AllToAll;
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Values and states
//===----------------------------------------------------------------------===//

size_t ShardingBuilder::addClass() {
  classes.push_back({{ShardingState::whole(), ShardingState::partial()}, {}});
  return classes.size() - 1;
}

size_t ShardingBuilder::addValue(RankedTensorType type, size_t stateClass,
                                 std::string name) {
  ShardingProblem::Value value;
  value.name = std::move(name);
  problem.values.push_back(std::move(value));
  types.push_back(type);
  classOf.push_back(stateClass);
  return problem.values.size() - 1;
}

void ShardingBuilder::mergeClasses(size_t a, size_t b) {
  if (a == b)
    return;
  for (size_t &own : classOf)
    if (own == b)
      own = a;
}

bool ShardingBuilder::addState(size_t value, ShardingState state) {
  std::vector<ShardingState> &states = classes[classOf[value]].states;
  if (llvm::is_contained(states, state) || states.size() >= kMaxStates)
    return false;
  states.push_back(state);
  return true;
}

uint8_t ShardingBuilder::numberOf(size_t value, ShardingState state) const {
  const std::vector<ShardingState> &states = classes[classOf[value]].states;
  return static_cast<uint8_t>(llvm::find(states, state) - states.begin());
}

double ShardingBuilder::bytesOf(size_t value, uint8_t state) const {
  double bytes = static_cast<double>(
      graph::getNumBytes(types[value], static_cast<int64_t>(demand.microbatch)));
  return state >= ShardingProblem::kFirstSplit
             ? bytes / static_cast<double>(demand.tensorParallel)
             : bytes;
}

void ShardingBuilder::addValues(size_t k) {
  const BlockGraph &graph = graphs[k];
  const ChainKind &chain = kinds[k];
  Kind &kind = found[k];
  kind.values.assign(graph.getNumValues(), 0);
  std::string block = func::FuncOp(chain.block).getSymName().str();
  // What several functions take is one value.
  std::map<std::tuple<Role, unsigned, bool>, size_t> shared;
  auto tensor = [&](std::map<int, size_t> &values, int number, size_t value) {
    if (number < 0)
      return;
    auto [entry, isNew] = values.try_emplace(number, value);
    if (!isNew)
      mergeClasses(classOf[entry->second], classOf[value]);
  };
  for (unsigned f = 0; f < graph::kBlockFunctions; ++f) {
    const BlockGraph::Function &function = graph.getFunctions()[f];
    for (auto [value, port] :
         llvm::zip(function.arguments, graph.getArguments(f))) {
      auto [entry, isNew] =
          shared.try_emplace({port.role, port.index, port.gradient}, 0);
      if (isNew) {
        entry->second =
            addValue(graph.getType(value), addClass(),
                     block + " argument " + std::to_string(port.index));
        problem.values[entry->second].readers = kReaders;
        if (port.role == Role::Data)
          tensor(tensorValues, chain.inputTensors[port.index], entry->second);
        else if (port.role == Role::Output)
          tensor(tensorValues, chain.outputTensors[port.index], entry->second);
        else if (port.role == Role::Parameter)
          tensor(parameterValues, chain.parameterTensors[port.index],
                 entry->second);
      }
      kind.values[value] = entry->second;
    }
    for (auto [i, node] : llvm::enumerate(function.nodes))
      for (unsigned value : node.results)
        kind.values[value] =
            addValue(graph.getType(value), addClass(),
                     block + " op " + std::to_string(i));
    for (auto [value, port] :
         llvm::zip(function.returned, graph.getResults(f))) {
      size_t own = kind.values[value];
      // What goes on as an argument of a later function.
      auto later = shared.find({port.role, port.index, false});
      if (port.role == Role::Output)
        tensor(tensorValues, chain.outputTensors[port.index], own);
      else if (port.role == Role::Data)
        tensor(tensorValues, chain.inputTensors[port.index], own);
      else if (port.role == Role::Parameter && later != shared.end())
        mergeClasses(classOf[later->second], classOf[own]);
      else if (port.role == Role::Saved || port.role == Role::Carried) {
        size_t handed = addValue(graph.getType(value), classOf[own],
                                 problem.values[own].name + " handed on");
        problem.values[handed].readers = kReaders;
        shared[{port.role, port.index, false}] = handed;
      }
    }
  }
}

/// Adds to an op's choices those that follow from the states around it, and to
/// the states those that follow from its choices.
bool ShardingBuilder::growChoices(size_t k, unsigned function, unsigned index) {
  const BlockGraph::Node &node =
      graphs[k].getFunctions()[function].nodes[index];
  if (!node.rule)
    return false;
  const Kind &kind = found[k];
  OpChoices &choices = found[k].choices[function][index];
  int64_t count = graphs[k].getCount();
  bool grown = false;
  auto add = [&](std::optional<graph::ShardingChoice> choice) {
    if (!choice || choices.size() >= kMaxChoices ||
        llvm::is_contained(choices, OpSharding{*choice, -1}))
      return;
    choices.push_back({*choice, -1});
    grown = true;
  };
  auto states = [&](unsigned value) {
    return llvm::ArrayRef(classes[classOf[kind.values[value]]].states)
        .drop_front(ShardingProblem::kFirstSplit);
  };
  for (auto [i, value] : llvm::enumerate(node.operands))
    for (ShardingState state : states(value))
      add(graph::getChoiceForOperand(*node.rule, i, state, count));
  for (auto [i, value] : llvm::enumerate(node.results))
    for (ShardingState state : states(value))
      add(graph::getChoiceForResult(*node.rule, i, state, count));
  for (const OpSharding &does : choices) {
    if (does.choice.factor < 0)
      continue;
    auto follow = [&](unsigned value, ShardingState state) {
      if (state.isSplit())
        grown |= addState(kind.values[value], state);
    };
    for (auto [i, value] : llvm::enumerate(node.operands))
      follow(value, graph::getOperandState(*node.rule, does.choice, i));
    for (auto [i, value] : llvm::enumerate(node.results))
      follow(value, graph::getResultState(*node.rule, does.choice, i));
  }
  return grown;
}

void ShardingBuilder::findChoices() {
  for (size_t k = 0; k < kinds.size(); ++k)
    for (unsigned f = 0; f < graph::kBlockFunctions; ++f)
      for (const BlockGraph::Node &node : graphs[k].getFunctions()[f].nodes) {
        OpChoices &choices = found[k].choices[f].emplace_back();
        choices.push_back({});
        if (!node.rule)
          continue;
        for (int l = 0, end = node.rule->linear.size(); l < end; ++l) {
          OpSharding linear;
          linear.linear = l;
          choices.push_back(linear);
        }
        for (graph::ShardingChoice choice :
             graph::getChoices(*node.rule, graphs[k].getCount()))
          choices.push_back({choice, -1});
      }
  bool grown = true;
  while (grown) {
    grown = false;
    for (size_t k = 0; k < kinds.size(); ++k)
      for (unsigned f = 0; f < graph::kBlockFunctions; ++f)
        for (unsigned i = 0, end = found[k].choices[f].size(); i < end; ++i)
          grown |= growChoices(k, f, i);
  }
  // What no rule can give or take remains as a number only.
  for (size_t v = 0; v < problem.values.size(); ++v)
    problem.values[v].states =
        static_cast<uint8_t>(classes[classOf[v]].states.size());
}

void ShardingBuilder::setConversions() {
  for (size_t v = 0; v < problem.values.size(); ++v) {
    ShardingProblem::Value &value = problem.values[v];
    const std::vector<ShardingState> &states = classes[classOf[v]].states;
    size_t size = states.size();
    double bytes = bytesOf(v, ShardingProblem::kWhole);
    value.conversions.assign(size * size, kInfinity);
    for (size_t i = 0; i < size; ++i)
      for (size_t j = 0; j < size; ++j) {
        double &seconds = value.conversions[i * size + j];
        if (i == j || (states[i].isWhole() && states[j].isSplit()))
          seconds = 0;
        if (i == j || states[i].isWhole() || states[j].isPartial() ||
            (states[i].isSplit() && states[j].isSplit() &&
             states[i].dimension == states[j].dimension))
          continue;
        seconds = demand.seconds(*getCollective(states[i], states[j]), bytes);
      }
  }
}

//===----------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------===//

ShardingProblem::Use ShardingBuilder::use(size_t kind, unsigned function,
                                          unsigned value) const {
  size_t own = found[kind].values[value];
  return {own, problem.values[own].readers > 1 ? function : size_t(0), false};
}

ShardingProblem::Option ShardingBuilder::getOption(size_t k, unsigned function,
                                                   unsigned index,
                                                   const OpSharding &does) {
  const BlockGraph::Node &node =
      graphs[k].getFunctions()[function].nodes[index];
  const Kind &kind = found[k];
  int64_t batch = static_cast<int64_t>(demand.microbatch);
  ShardingProblem::Option option;
  graph::OpCost cost =
      getLocalCost(node, does, graphs[k].getCount(), batch);
  option.seconds = std::max(cost.flops / demand.flopsPerSecond,
                            (cost.bytesRead + cost.bytesWritten) /
                                demand.bytesPerSecond);
  option.splits = does.choice.factor >= 0;
  if (option.splits) {
    const graph::ShardingFactor &factor =
        node.rule->factors[does.choice.factor];
    for (RankedTensorType type : factor.allReduced)
      option.seconds +=
          demand.seconds(Collective::AllReduce,
                         static_cast<double>(graph::getNumBytes(type, batch)));
    for (RankedTensorType type : factor.allGathered)
      option.seconds += demand.seconds(
          Collective::AllGather,
          static_cast<double>(graph::getNumBytes(type, batch)) *
              static_cast<double>(demand.tensorParallel));
  }
  for (auto [i, value] : llvm::enumerate(node.operands)) {
    ShardingState state = ShardingState::whole();
    if (does.linear >= 0) {
      if (llvm::is_contained(node.rule->linear[does.linear],
                             static_cast<int>(i)))
        state = ShardingState::partial();
    } else if (node.rule) {
      state = graph::getOperandState(*node.rule, does.choice, i);
    }
    option.wants.push_back(numberOf(kind.values[value], state));
  }
  for (auto [i, value] : llvm::enumerate(node.results)) {
    ShardingState state = ShardingState::whole();
    if (does.linear >= 0)
      state = ShardingState::partial();
    else if (node.rule)
      state = graph::getResultState(*node.rule, does.choice, i);
    option.gives.push_back(numberOf(kind.values[value], state));
  }
  return option;
}

void ShardingBuilder::addOps(size_t k) {
  double count = static_cast<double>(kinds[k].count);
  for (unsigned f = 0; f < graph::kBlockFunctions; ++f)
    for (auto [i, node] :
         llvm::enumerate(graphs[k].getFunctions()[f].nodes)) {
      ShardingProblem::Op op;
      op.name = node.op->getName().getStringRef().str();
      for (unsigned value : node.operands)
        op.operands.push_back(use(k, f, value));
      for (unsigned value : node.results)
        op.results.push_back(found[k].values[value]);
      OpChoices &choices = found[k].choices[f][i];
      // States that were not followed cannot be had.
      llvm::erase_if(choices, [&](const OpSharding &does) {
        ShardingProblem::Option option = getOption(k, f, i, does);
        auto isUnknown = [&](size_t value, uint8_t state) {
          return state >= problem.values[value].states;
        };
        for (auto [use, state] : llvm::zip(op.operands, option.wants))
          if (isUnknown(use.value, state))
            return true;
        for (auto [value, state] : llvm::zip(op.results, option.gives))
          if (isUnknown(value, state))
            return true;
        return false;
      });
      for (const OpSharding &does : choices) {
        op.options.push_back(getOption(k, f, i, does));
        op.options.back().seconds *= count;
      }
      found[k].ops[f].push_back(problem.ops.size());
      problem.ops.push_back(std::move(op));
    }
}

/// The gradient of a parameter lies like it; that of a whole one may be partial
/// sums, which are added up once a step.
void ShardingBuilder::addGradient(size_t k, unsigned result,
                                  unsigned parameter) {
  const BlockGraph::Function &function =
      graphs[k].getFunctions()[graph::kBackwardWeight];
  ShardingProblem::Op op;
  op.name = "gradient";
  unsigned value = function.returned[result];
  op.operands.push_back(use(k, graph::kBackwardWeight, value));
  for (auto [argument, port] :
       llvm::zip(function.arguments,
                 graphs[k].getArguments(graph::kBackwardWeight)))
    if (port.role == Role::Parameter && port.index == parameter)
      op.operands.push_back({found[k].values[argument], kAsItIs, true});
  size_t own = op.operands[0].value;
  double once = demand.seconds(Collective::AllReduce,
                               bytesOf(own, ShardingProblem::kWhole)) /
                static_cast<double>(demand.microbatches) *
                static_cast<double>(kinds[k].parameterCounts[parameter]);
  op.options.push_back({0, 0, 0, {0, 0}, {}});
  op.options.push_back({once, 0, 0, {ShardingProblem::kPartial, 0}, {}});
  for (uint8_t s = ShardingProblem::kFirstSplit; s < problem.values[own].states;
       ++s)
    op.options.push_back({0, 0, 0, {s, s}, {}});
  found[k].returned[graph::kBackwardWeight].push_back(problem.ops.size());
  problem.ops.push_back(std::move(op));
}

void ShardingBuilder::addReturned(size_t k) {
  double kept = static_cast<double>(kinds[k].count * demand.saved);
  for (unsigned f = 0; f < graph::kBlockFunctions; ++f)
    for (auto [r, port] : llvm::enumerate(graphs[k].getResults(f))) {
      if (port.role == Role::Parameter) {
        addGradient(k, r, port.index);
        continue;
      }
      if (port.role != Role::Saved && port.role != Role::Carried) {
        found[k].returned[f].push_back(~size_t(0));
        continue;
      }
      // The value that the later functions take.
      size_t handed = 0;
      for (unsigned later = f + 1; later < graph::kBlockFunctions; ++later)
        for (auto [argument, from] :
             llvm::zip(graphs[k].getFunctions()[later].arguments,
                       graphs[k].getArguments(later)))
          if (from.role == port.role && from.index == port.index)
            handed = found[k].values[argument];
      ShardingProblem::Op op;
      op.name = "hand on";
      op.operands.push_back(
          use(k, f, graphs[k].getFunctions()[f].returned[r]));
      op.operands.back().asGiven = true;
      op.results.push_back(handed);
      for (uint8_t s = 0; s < problem.values[handed].states; ++s) {
        op.options.push_back({0, 0, 0, {s}, {s}});
        if (port.role == Role::Saved)
          problem.values[handed].bytes.push_back(kept * bytesOf(handed, s));
      }
      found[k].returned[f].push_back(problem.ops.size());
      problem.ops.push_back(std::move(op));
    }
}

/// One op for each boundary tensor: gives it, and its gradient, to the blocks
/// that take them; wants the same of those that make them.
void ShardingBuilder::addTensorOps() {
  std::map<int, ShardingProblem::Op> ops;
  std::map<int, bool> split; // whether it may be
  std::map<int, std::set<size_t>> given;
  for (size_t k = 0; k < kinds.size(); ++k) {
    const ChainKind &chain = kinds[k];
    double kept = static_cast<double>(chain.count * demand.inFlight);
    int lonely = -2; // tensors of nobody else
    auto at = [&](int number) -> ShardingProblem::Op & {
      bool isAlone = number < 0;
      int key = isAlone ? lonely-- - static_cast<int>(k) * 4096 : number;
      split.try_emplace(key, !isAlone && !demand.wholeBoundaries);
      return ops[key];
    };
    auto give = [&](int number, size_t value) {
      if (number >= 0 && !given[number].insert(value).second)
        return;
      ShardingProblem::Op &op = at(number);
      op.results.push_back(value);
    };
    for (unsigned f = 0; f < graph::kBlockFunctions; ++f) {
      const BlockGraph::Function &function = graphs[k].getFunctions()[f];
      for (auto [value, port] :
           llvm::zip(function.arguments, graphs[k].getArguments(f))) {
        size_t own = found[k].values[value];
        if (port.role == Role::Data && f == graph::kForward) {
          give(chain.inputTensors[port.index], own);
          for (uint8_t s = 0; s < problem.values[own].states; ++s)
            problem.values[own].bytes.push_back(kept * bytesOf(own, s));
        } else if (port.role == Role::Output &&
                   f == graph::kBackwardInput) {
          give(chain.outputTensors[port.index], own);
        }
      }
      for (auto [value, port] :
           llvm::zip(function.returned, graphs[k].getResults(f))) {
        if (port.role == Role::Output)
          at(chain.outputTensors[port.index])
              .operands.push_back(use(k, f, value));
        else if (port.role == Role::Data)
          at(chain.inputTensors[port.index])
              .operands.push_back(use(k, f, value));
      }
    }
  }
  for (auto &[key, op] : ops) {
    op.name = "boundary";
    size_t any = op.results.empty() ? op.operands[0].value : op.results[0];
    const StateClass &states = classes[classOf[any]];
    for (uint8_t s = 0; s < states.states.size(); ++s) {
      ShardingState state = states.states[s];
      if (state.isPartial() || (state.isSplit() && !split[key]) ||
          (states.pinned && key >= 0 && !(*states.pinned == state)))
        continue;
      if (state.isSplit() && graph::getDims(types[any])[state.dimension].batch)
        continue;
      ShardingProblem::Option option;
      option.splits = state.isSplit();
      // A tensor of nobody else has values of different states.
      option.wants.assign(op.operands.size(), s);
      option.gives.assign(op.results.size(), s);
      op.options.push_back(std::move(option));
    }
    if (key >= 0)
      tensorOps[key] = problem.ops.size();
    problem.ops.push_back(std::move(op));
  }
}

void ShardingBuilder::addParameterOps() {
  std::map<int, ShardingProblem::Op> ops;
  std::map<int, double> bytes;
  for (size_t k = 0; k < kinds.size(); ++k) {
    const BlockGraph::Function &forward =
        graphs[k].getFunctions()[graph::kForward];
    std::set<unsigned> trainable;
    for (const BlockGraph::Port &port :
         graphs[k].getResults(graph::kBackwardWeight))
      trainable.insert(port.index);
    for (auto [value, port] :
         llvm::zip(forward.arguments, graphs[k].getArguments(graph::kForward))) {
      if (port.role != Role::Parameter)
        continue;
      size_t own = found[k].values[value];
      int number = kinds[k].parameterTensors[port.index];
      ops[number].results.push_back(own);
      bytes[number] +=
          static_cast<double>(kinds[k].parameterCounts[port.index]) *
          static_cast<double>(graph::getNumElements(types[own], 1)) *
          (trainable.count(port.index) ? demand.bytesPerParameter : 4);
    }
  }
  for (auto &[number, op] : ops) {
    op.name = "parameter";
    size_t own = op.results[0];
    const StateClass &states = classes[classOf[own]];
    for (uint8_t s = 0; s < states.states.size(); ++s) {
      ShardingState state = states.states[s];
      if (state.isPartial() || (states.pinned && !(*states.pinned == state)))
        continue;
      ShardingProblem::Option option;
      option.splits = state.isSplit();
      option.bytes = bytes[number];
      if (state.isSplit())
        option.bytes /= static_cast<double>(demand.tensorParallel);
      option.gives.assign(op.results.size(), s);
      op.options.push_back(std::move(option));
    }
    parameterOps[number] = problem.ops.size();
    problem.ops.push_back(std::move(op));
  }
}

//===----------------------------------------------------------------------===//
// The whole
//===----------------------------------------------------------------------===//

LogicalResult ShardingBuilder::build(Pins pins, planning::Faults &faults) {
  for (const ChainKind &kind : kinds) {
    auto graph = BlockGraph::get(
        kind.functions, static_cast<int64_t>(demand.tensorParallel),
        static_cast<int64_t>(demand.microbatch), kind.gradientOutputs);
    if (failed(graph))
      return failure();
    graphs.push_back(std::move(*graph));
  }
  problem.secondsPerByte = demand.secondsPerByte();
  found.resize(kinds.size());
  for (size_t k = 0; k < kinds.size(); ++k)
    addValues(k);
  pinStates(pins, faults);
  findChoices();
  checkSplits(faults);
  pinOps(pins, faults);
  if (!faults.empty())
    return failure();
  setConversions();
  for (size_t k = 0; k < kinds.size(); ++k) {
    addOps(k);
    addReturned(k);
  }
  addTensorOps();
  addParameterOps();
  return success();
}

std::vector<graph::BlockSharding>
ShardingBuilder::getShardings(ArrayRef<size_t> chosen) const {
  std::vector<graph::BlockSharding> shardings;
  auto stateOf = [&](const std::map<int, size_t> &ops, int number) {
    auto op = ops.find(number);
    if (op == ops.end())
      return ShardingState::whole();
    const ShardingProblem::Op &at = problem.ops[op->second];
    const ShardingProblem::Option &option = at.options[chosen[op->second]];
    bool given = !at.results.empty();
    size_t value = given ? at.results[0] : at.operands[0].value;
    return classes[classOf[value]]
        .states[given ? option.gives[0] : option.wants[0]];
  };
  for (size_t k = 0; k < kinds.size(); ++k) {
    graph::BlockSharding &sharding = shardings.emplace_back();
    for (int number : kinds[k].inputTensors)
      sharding.data.push_back(stateOf(tensorOps, number));
    for (int number : kinds[k].outputTensors)
      sharding.outputs.push_back(stateOf(tensorOps, number));
    for (int number : kinds[k].parameterTensors)
      sharding.parameters.push_back(stateOf(parameterOps, number));
    for (unsigned f = 0; f < graph::kBlockFunctions; ++f)
      for (auto [choices, op] :
           llvm::zip(found[k].choices[f], found[k].ops[f]))
        sharding.ops[f].push_back(choices[chosen[op]]);
  }
  return shardings;
}

std::optional<std::vector<size_t>> ShardingBuilder::getChosen(
    ArrayRef<graph::BlockSharding> shardings) const {
  constexpr size_t kNone = ~size_t(0);
  std::vector<size_t> chosen(problem.ops.size(), kNone);
  bool fine = true;
  // The option of an op that ties things together: by a state it wants or
  // gives.
  auto tie = [&](size_t op, ShardingState state) {
    const ShardingProblem::Op &at = problem.ops[op];
    for (auto [i, option] : llvm::enumerate(at.options)) {
      bool given = at.operands.empty();
      size_t value = given ? at.results[0] : at.operands[0].value;
      if (classes[classOf[value]]
              .states[given ? option.gives[0] : option.wants[0]] == state) {
        chosen[op] = i;
        return;
      }
    }
    fine = false;
  };
  for (size_t k = 0; k < kinds.size(); ++k) {
    const graph::BlockSharding &sharding = shardings[k];
    graph::BlockStates states(graphs[k], sharding);
    for (unsigned f = 0; f < graph::kBlockFunctions; ++f) {
      for (auto [choices, op, does] :
           llvm::zip(found[k].choices[f], found[k].ops[f], sharding.ops[f])) {
        auto at = llvm::find(choices, does);
        fine &= at != choices.end();
        chosen[op] = at - choices.begin();
      }
      for (auto [r, op] : llvm::enumerate(found[k].returned[f]))
        if (op != kNone)
          tie(op, states.getReturned(f, r));
    }
    auto ties = [&](const std::map<int, size_t> &ops, ArrayRef<int> numbers,
                    ArrayRef<ShardingState> own) {
      for (auto [number, state] : llvm::zip(numbers, own))
        if (auto op = ops.find(number); op != ops.end())
          tie(op->second, state);
    };
    ties(tensorOps, kinds[k].inputTensors, sharding.data);
    ties(tensorOps, kinds[k].outputTensors, sharding.outputs);
    ties(parameterOps, kinds[k].parameterTensors, sharding.parameters);
  }
  for (size_t o = 0; o < chosen.size(); ++o)
    if (chosen[o] == kNone) // of a tensor of nobody else
      chosen[o] = 0;
  if (!fine)
    return std::nullopt;
  return chosen;
}

//===----------------------------------------------------------------------===//
// Pins and faults
//===----------------------------------------------------------------------===//

void ShardingBuilder::forEachPin(
    Pins pins,
    function_ref<void(size_t, const planning::Sharding &, const std::string &)>
        visit) const {
  for (auto [i, pin] : llvm::enumerate(pins)) {
    if (pin.tensorParallel != demand.tensorParallel)
      continue;
    for (size_t k = 0; k < kinds.size(); ++k)
      if (kinds[k].first == pin.block)
        visit(k, pin, planning::at("sharding", i));
  }
}

void ShardingBuilder::pinStates(Pins pins, planning::Faults &faults) {
  int64_t count = static_cast<int64_t>(demand.tensorParallel);
  auto pin = [&](size_t value, const planning::ShardingState &given,
                 const std::string &path, const std::string &what) {
    ShardingState state = given.dim
                              ? ShardingState::split(
                                    static_cast<int64_t>(*given.dim),
                                    static_cast<int64_t>(given.outer))
                              : ShardingState::whole();
    if (!graph::canBeInState(types[value], state, count)) {
      std::string text;
      llvm::raw_string_ostream(text)
          << what << " of type " << types[value] << " cannot be '"
          << graph::toString(state) << "' over " << count << " chips";
      faults.push_back({path, std::move(text)});
      return;
    }
    auto &pinned = classes[classOf[value]].pinned;
    if (pinned && !(*pinned == state))
      faults.push_back({path, what + " is pinned to '" +
                                  graph::toString(*pinned) + "' and to '" +
                                  graph::toString(state) +
                                  "', though it is one tensor"});
    pinned = state;
    if (state.isSplit())
      addState(value, state);
  };
  forEachPin(pins, [&](size_t k, const planning::Sharding &given,
                       const std::string &path) {
    const BlockGraph::Function &forward =
        graphs[k].getFunctions()[graph::kForward];
    for (auto [value, port] :
         llvm::zip(forward.arguments, graphs[k].getArguments(graph::kForward))) {
      size_t own = found[k].values[value];
      if (port.role == Role::Parameter) {
        std::string name = kinds[k].parameters[port.index].str();
        auto state = given.parameters.find(name);
        if (state != given.parameters.end())
          pin(own, state->second, planning::in(planning::in(path, "parameters"),
                                               name),
              "parameter '" + name + "'");
      } else if (port.role == Role::Data && port.index < given.inputs.size() &&
                 kinds[k].inputTensors[port.index] >= 0) {
        pin(own, given.inputs[port.index],
            planning::at(planning::in(path, "inputs"), port.index),
            "input " + std::to_string(port.index));
      }
    }
    for (auto [value, port] :
         llvm::zip(forward.returned, graphs[k].getResults(graph::kForward)))
      if (port.role == Role::Output && port.index < given.outputs.size() &&
          kinds[k].outputTensors[port.index] >= 0)
        pin(tensorValues.at(kinds[k].outputTensors[port.index]),
            given.outputs[port.index],
            planning::at(planning::in(path, "outputs"), port.index),
            "output " + std::to_string(port.index));
  });
}

void ShardingBuilder::pinOps(Pins pins, planning::Faults &faults) {
  forEachPin(pins, [&](size_t k, const planning::Sharding &given,
                       const std::string &path) {
    for (auto [i, seed] : llvm::enumerate(given.ops)) {
      std::string place = planning::at(planning::in(path, "ops"), i);
      unsigned f = static_cast<unsigned>(seed.function);
      if (f >= graph::kBlockFunctions || seed.op >= found[k].choices[f].size()) {
        faults.push_back({place, "there is no op " + std::to_string(seed.op) +
                                     " in this function of block " +
                                     std::to_string(given.block)});
        continue;
      }
      OpChoices &choices = found[k].choices[f][seed.op];
      OpSharding does = OpSharding::fromCode(
          seed.choice, static_cast<int64_t>(seed.outer));
      if (!llvm::is_contained(choices, does)) {
        const BlockGraph::Node &node = graphs[k].getFunctions()[f].nodes[seed.op];
        faults.push_back(
            {place, "op " + std::to_string(seed.op) + " (" +
                        node.op->getName().getStringRef().str() +
                        ") has no choice " + std::to_string(seed.choice) +
                        " over " + std::to_string(demand.tensorParallel) +
                        " chips; its rule is " +
                        (node.rule ? graph::toString(*node.rule) : "none")});
        continue;
      }
      choices = {does};
    }
  });
}

/// Says which dimensions were tried when nothing can be split.
void ShardingBuilder::checkSplits(planning::Faults &faults) {
  std::map<int64_t, std::string> tried; // sizes, and an op that has each
  for (size_t k = 0; k < kinds.size(); ++k)
    for (unsigned f = 0; f < graph::kBlockFunctions; ++f)
      for (auto [node, choices] :
           llvm::zip(graphs[k].getFunctions()[f].nodes, found[k].choices[f])) {
        for (const OpSharding &does : choices)
          if (does.choice.factor >= 0)
            return;
        if (!node.rule)
          continue;
        for (const graph::ShardingFactor &factor : node.rule->factors)
          if (factor.splittable && !factor.size.batch && factor.size.size > 1)
            tried.try_emplace(factor.size.size,
                              node.op->getName().stripDialect().str());
      }
  std::string text = "tensor_parallel " +
                     std::to_string(demand.tensorParallel) +
                     " divides no dimension of the model that can be split; "
                     "tried ";
  bool first = true;
  for (const auto &[size, op] : tried) {
    text += (first ? "" : ", ") + std::to_string(size) + " (" + op + ")";
    first = false;
  }
  faults.push_back({"", text});
}
