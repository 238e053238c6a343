//===- PropagateShardings.cpp - what ops do, from a few seeds -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Decision alone. Two steps, both in program order over the three functions:
//
//   1. Each op takes, of what its rule allows, what agrees best with the states
//      its operands are in and the states that its results will be wanted in
//      (which walk backwards through rules from the block's results, parameters
//      and seeded ops).
//   2. Each op is changed to whatever makes the whole block cheaper, until
//      nothing does.
//
// Done twice, as single changes do not lead from one to the other: once partial
// sums stay so through all linear ops, once only where several are added; the
// cheaper of both is kept, the first when they cost the same.
//
// The price is ShardingCost: first parameters stay where they are, then the
// fewest bytes are sent per microbatch, in the fewest collectives, then the
// fewest per step, then the least is computed. A tie keeps what is, so the
// result depends on nothing else.
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/Transforms/BlockSharding.h"

using namespace mlir;

namespace tombolo::graph {

namespace {

class Propagation {
public:
  Propagation(const BlockGraph &graph, const ShardingSeeds &seeds)
      : graph(graph), seeds(seeds) {}

  FailureOr<BlockSharding> run();

private:
  LogicalResult readSeeds();
  LogicalResult readOpSeed(const ShardingSeeds::Op &seed);
  LogicalResult readStates(ArrayRef<ShardingState> given, unsigned size,
                           BlockGraph::Role role,
                           SmallVectorImpl<ShardingState> &states);
  void findHints();
  void addHint(unsigned value, ShardingState state);
  void walk(bool stayPartial);
  ShardingCost improve();
  SmallVector<OpSharding> getCandidates(const BlockGraph::Node &node,
                                        const BlockStates &states) const;
  OpSharding choose(const BlockStates &states, unsigned function,
                    unsigned index, bool stayPartial) const;

  const BlockGraph &graph;
  const ShardingSeeds &seeds;
  BlockSharding sharding;
  std::array<std::vector<bool>, kBlockFunctions> seeded;
  /// Split states that a value is going to be wanted in.
  std::vector<SmallVector<ShardingState, 2>> hints;
};

/// More than these of a value are not followed: hints only order candidates.
constexpr size_t kMaxHints = 4;
/// Rounds of step 2; two or three are what blocks take.
constexpr int kMaxRounds = 8;

} // namespace

LogicalResult Propagation::readStates(ArrayRef<ShardingState> given,
                                      unsigned size, BlockGraph::Role role,
                                      SmallVectorImpl<ShardingState> &states) {
  const BlockGraph::Function &forward = graph.getFunctions()[kForward];
  if (given.size() > size)
    return func::FuncOp(forward.function).emitError()
           << "expected seeds for at most " << size << " values, got "
           << given.size();
  states.assign(given.begin(), given.end());
  states.resize(size);
  bool isResult = role == BlockGraph::Role::Output;
  ArrayRef<unsigned> values = isResult ? forward.returned : forward.arguments;
  if (role == BlockGraph::Role::Parameter)
    values = values.drop_front(graph.getDataCount());
  for (auto [value, state] : llvm::zip(values, states)) {
    if (!state.isPartial() &&
        canBeInState(graph.getType(value), state, graph.getCount()))
      continue;
    return func::FuncOp(forward.function).emitError()
           << "a value of type " << graph.getType(value) << " cannot be '"
           << toString(state) << "' on " << graph.getCount() << " chips";
  }
  return success();
}

LogicalResult Propagation::readOpSeed(const ShardingSeeds::Op &seed) {
  const BlockGraph::Function &function = graph.getFunctions()[seed.function];
  func::FuncOp at = function.function;
  if (seed.op >= function.nodes.size())
    return at.emitError() << "a seed is for op " << seed.op
                          << " of the function, which has "
                          << function.nodes.size();
  const BlockGraph::Node &node = function.nodes[seed.op];
  const OpSharding &does = seed.sharding;
  bool fits = does == OpSharding();
  if (node.rule && does.linear >= 0)
    fits = does.linear < static_cast<int>(node.rule->linear.size());
  else if (node.rule && does.choice.factor >= 0)
    fits = canSplit(*node.rule, does.choice, graph.getCount());
  if (!fits) {
    InFlightDiagnostic error = node.op->emitError()
                               << "a seed asks for choice " << does.getCode()
                               << " outer " << does.choice.outer << " on "
                               << graph.getCount()
                               << " chips, which the op's rule does not allow";
    error.attachNote() << (node.rule ? "the rule: " + toString(*node.rule)
                                     : "the op has no rule");
    return error;
  }
  sharding.ops[seed.function][seed.op] = does;
  seeded[seed.function][seed.op] = true;
  return success();
}

LogicalResult Propagation::readSeeds() {
  using Role = BlockGraph::Role;
  if (failed(readStates(seeds.data, graph.getDataCount(), Role::Data,
                        sharding.data)) ||
      failed(readStates(seeds.parameters, graph.getParameterCount(),
                        Role::Parameter, sharding.parameters)) ||
      failed(readStates(seeds.outputs, graph.getOutputCount(), Role::Output,
                        sharding.outputs)))
    return failure();
  for (unsigned f = 0; f < kBlockFunctions; ++f) {
    size_t size = graph.getFunctions()[f].nodes.size();
    sharding.ops[f].resize(size);
    seeded[f].resize(size);
    for (unsigned i = 0; i < size; ++i)
      seeded[f][i] = !graph.getFunctions()[f].nodes[i].rule.has_value();
  }
  for (const ShardingSeeds::Op &seed : seeds.ops)
    if (failed(readOpSeed(seed)))
      return failure();
  return success();
}

void Propagation::addHint(unsigned value, ShardingState state) {
  if (state.isSplit() && hints[value].size() < kMaxHints &&
      !llvm::is_contained(hints[value], state))
    hints[value].push_back(state);
}

/// Backwards over each function; what the forward function saves is wanted as
/// the backward functions want it.
void Propagation::findHints() {
  using Role = BlockGraph::Role;
  hints.assign(graph.getNumValues(), {});
  std::array<SmallVector<unsigned>, 2> passed; // by producer: saved, carried
  for (unsigned f = kBlockFunctions; f-- > 0;) {
    const BlockGraph::Function &function = graph.getFunctions()[f];
    for (auto [result, value, port] :
         llvm::enumerate(function.returned, graph.getResults(f))) {
      if (port.role == Role::Output)
        addHint(value, sharding.outputs[port.index]);
      else if (port.role == Role::Data)
        addHint(value, sharding.data[port.index]);
      else if (port.role == Role::Parameter)
        addHint(value, sharding.parameters[port.index]);
      for (BlockGraph::Argument argument : graph.getPassed(f, result))
        for (ShardingState state : hints[argument.value])
          addHint(value, state);
    }
    for (auto [value, port] :
         llvm::zip(function.arguments, graph.getArguments(f)))
      if (port.role == Role::Parameter)
        addHint(value, sharding.parameters[port.index]);
    for (unsigned i = function.nodes.size(); i-- > 0;) {
      const BlockGraph::Node &node = function.nodes[i];
      if (!node.rule)
        continue;
      auto follow = [&](std::optional<ShardingChoice> choice) {
        if (!choice)
          return;
        for (unsigned o = 0, end = node.operands.size(); o < end; ++o)
          addHint(node.operands[o], getOperandState(*node.rule, *choice, o));
      };
      if (seeded[f][i]) {
        const OpSharding &does = sharding.ops[f][i];
        if (does.choice.factor >= 0)
          follow(does.choice);
        continue;
      }
      for (unsigned r = 0, end = node.results.size(); r < end; ++r)
        for (ShardingState state : SmallVector<ShardingState>(
                 hints[node.results[r]].begin(), hints[node.results[r]].end()))
          follow(getChoiceForResult(*node.rule, r, state, graph.getCount()));
      // A parameter's part is used where it is.
      for (unsigned o = 0, end = node.operands.size(); o < end; ++o)
        if (graph.isParameter(node.operands[o]))
          for (ShardingState state : hints[node.operands[o]])
            follow(getChoiceForOperand(*node.rule, o, state, graph.getCount()));
    }
  }
}

SmallVector<OpSharding>
Propagation::getCandidates(const BlockGraph::Node &node,
                           const BlockStates &states) const {
  const ShardingRule &rule = *node.rule;
  int64_t count = graph.getCount();
  SmallVector<OpSharding> candidates = {OpSharding()};
  auto add = [&](std::optional<ShardingChoice> choice) {
    if (choice && !llvm::is_contained(candidates, OpSharding{*choice, -1}))
      candidates.push_back({*choice, -1});
  };
  for (auto [set, operands] : llvm::enumerate(rule.linear)) {
    OpSharding linear;
    linear.linear = set;
    if (llvm::all_of(operands, [&](int operand) {
          return states.getState(node.operands[operand]).isPartial();
        }))
      candidates.push_back(linear);
  }
  for (auto [i, value] : llvm::enumerate(node.operands)) {
    add(getChoiceForOperand(rule, i, states.getState(value), count));
    for (ShardingState state : hints[value])
      add(getChoiceForOperand(rule, i, state, count));
  }
  for (auto [i, value] : llvm::enumerate(node.results)) {
    for (ShardingState state : states.getWanted(value))
      add(getChoiceForResult(rule, i, state, count));
    for (ShardingState state : hints[value])
      add(getChoiceForResult(rule, i, state, count));
  }
  for (ShardingChoice choice : getChoices(rule, count))
    add(choice);
  return candidates;
}

/// Step 1 for one op: the fewest bytes to bring its operands, then partial sums
/// that stay so, then agreement with operands that are split and results that
/// will be wanted split.
OpSharding Propagation::choose(const BlockStates &states, unsigned f,
                               unsigned index, bool stayPartial) const {
  const BlockGraph::Node &node = graph.getFunctions()[f].nodes[index];
  std::optional<std::tuple<int64_t, int64_t, int, int>> best;
  OpSharding chosen;
  for (const OpSharding &candidate : getCandidates(node, states)) {
    if (!stayPartial && candidate.linear >= 0 &&
        node.rule->linear[candidate.linear].size() < 2)
      continue;
    int64_t parameters = 0, bytes = 0;
    int agreeing = 0;
    bool wantedSplit = false;
    if (candidate.choice.factor >= 0)
      for (auto [i, value] : llvm::enumerate(node.results)) {
        ShardingState state = getResultState(*node.rule, candidate.choice, i);
        wantedSplit |= llvm::is_contained(hints[value], state);
        agreeing += llvm::is_contained(hints[value], state);
      }
    for (auto [i, value] : llvm::enumerate(node.operands)) {
      ShardingState from = states.getState(value), to;
      if (candidate.linear >= 0)
        to = llvm::is_contained(node.rule->linear[candidate.linear],
                                static_cast<int>(i))
                 ? ShardingState::partial()
                 : ShardingState::whole();
      else
        to = getOperandState(*node.rule, candidate.choice, i);
      int64_t cost =
          planConversions(graph.getBytes(value), from, {to}, graph.getCount())
              .cost;
      // What is scattered and not wanted so will be gathered again.
      if (from.isPartial() && to.isSplit() && !wantedSplit)
        cost *= 2;
      (graph.isParameter(value) ? parameters : bytes) += cost;
      agreeing += to.isSplit() && from == to;
    }
    std::tuple key(parameters, bytes, candidate.linear >= 0 ? 0 : 1, -agreeing);
    if (!best || key < *best) {
      best = key;
      chosen = candidate;
    }
  }
  return chosen;
}

void Propagation::walk(bool stayPartial) {
  BlockStates states(graph, sharding);
  for (unsigned f = 0; f < kBlockFunctions; ++f)
    for (unsigned i = 0, end = sharding.ops[f].size(); i < end; ++i)
      if (!seeded[f][i]) {
        sharding.ops[f][i] = choose(states, f, i, stayPartial);
        states.update(f, i);
      }
}

ShardingCost Propagation::improve() {
  BlockStates states(graph, sharding);
  ShardingCost cost = states.getCost();
  for (int round = 0; round < kMaxRounds; ++round) {
    bool improved = false;
    for (unsigned f = 0; f < kBlockFunctions; ++f)
      for (unsigned i = 0, end = sharding.ops[f].size(); i < end; ++i) {
        if (seeded[f][i])
          continue;
        OpSharding &does = sharding.ops[f][i];
        OpSharding best = does;
        SmallVector<OpSharding> candidates =
            getCandidates(graph.getFunctions()[f].nodes[i], states);
        for (const OpSharding &candidate : candidates) {
          if (candidate == best)
            continue;
          does = candidate;
          states.update(f, i);
          if (states.getCost() < cost) {
            cost = states.getCost();
            best = candidate;
            improved = true;
          }
        }
        does = best;
        states.update(f, i);
      }
    if (!improved)
      break;
  }
  return cost;
}

FailureOr<BlockSharding> Propagation::run() {
  if (failed(readSeeds()))
    return failure();
  findHints();
  BlockSharding start = sharding;
  walk(/*stayPartial=*/true);
  auto walked = sharding.ops;
  ShardingCost cost = improve();
  std::swap(start, sharding);
  walk(/*stayPartial=*/false);
  // From where both walks lead to, the changes are the same.
  if (sharding.ops == walked || !(improve() < cost))
    sharding = std::move(start);
  BlockStates states(graph, sharding);
  for (unsigned f = 0; f < kBlockFunctions; ++f)
    for (unsigned i = 0, end = sharding.ops[f].size(); i < end; ++i)
      sharding.ops[f][i] = states.getSharding(f, i);
  for (const ShardingSeeds::Op &seed : seeds.ops)
    if (!(sharding.ops[seed.function][seed.op] == seed.sharding))
      return graph.getFunctions()[seed.function].nodes[seed.op].op->emitError()
             << "a seed asks for linear set " << seed.sharding.linear
             << ", and the set's operands are not partial sums";
  return std::move(sharding);
}

FailureOr<BlockSharding> propagateShardings(const BlockGraph &graph,
                                            const ShardingSeeds &seeds) {
  return Propagation(graph, seeds).run();
}

} // namespace tombolo::graph
