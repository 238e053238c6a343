//===- PartsMemory.cpp - scratch of a function on each chip ---------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//
//
// Follows FunctionParts.cpp of the plan dialect, whose words these are: parts
// and rounds of collectives alternate; a root is memory of its own: an
// argument, the result of an op that is no view, or the place of a collective.
//
//===----------------------------------------------------------------------===//

#include "PartsMemory.h"
#include "ShardingBuilder.h"

#include "tombolo/Dialect/Graph/IR/GraphDialect.h"
#include "tombolo/Dialect/Graph/IR/GraphInterfaces.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/IR/GraphTypes.h"

using namespace mlir;
using namespace tombolo;
using graph::BlockGraph;
using graph::ShardingState;

namespace {

/// What a chip does, in order.
struct Step {
  bool isCollective = false;
  int64_t depth = 0; // rounds that are behind it
  int64_t part = 0;  // of an op
};

struct Root {
  enum class Kind { Free, Op, Collective } kind = Kind::Free;
  double bytes = 0;
  size_t step = 0;                  // that makes it
  size_t source = 0;                // root that the collective works on
  bool scatters = false;            // the collective leaves a part of its place
  bool isResult = false;            // of the function: memory of the caller's
  SmallVector<size_t> readers = {}; // steps
  SmallVector<size_t> feeds = {};   // roots of collectives
};

class Parts {
public:
  Parts(const BlockGraph &graph, const graph::BlockStates &states, unsigned f,
        int64_t batch)
      : graph(graph), states(states), f(f), batch(batch),
        function(graph.getFunctions()[f]) {}

  PartsMemory run() {
    for (unsigned value : function.arguments)
      versions[value] = {{states.getState(value), addRoot({}), 0}};
    for (unsigned i = 0; i < function.nodes.size(); ++i)
      visit(i);
    for (auto [r, value] : llvm::enumerate(function.returned))
      roots[get(value, states.getReturned(f, static_cast<unsigned>(r))).root]
          .isResult = true;
    numberParts();
    return {inner(), crossing()};
  }

private:
  /// A value in a state; it is there behind `depth` rounds.
  struct Version {
    ShardingState state;
    size_t root;
    int64_t depth;
  };

  size_t addRoot(Root root) {
    roots.push_back(std::move(root));
    return roots.size() - 1;
  }
  size_t addStep(bool isCollective, int64_t depth) {
    steps.push_back({isCollective, depth, 0});
    return steps.size() - 1;
  }
  size_t addOp(double bytes, size_t step) {
    return addRoot({Root::Kind::Op, bytes, step});
  }
  size_t addCollective(double bytes, size_t source, int64_t depth,
                       bool scatters) {
    size_t root = addRoot({Root::Kind::Collective, bytes, addStep(true, depth),
                           source, scatters});
    roots[source].feeds.push_back(root);
    return root;
  }
  double local(Type type, ShardingState state) const {
    double bytes = static_cast<double>(graph::getNumBytes(type, batch));
    return state.isSplit() ? bytes / static_cast<double>(graph.getCount())
                           : bytes;
  }
  /// Whether the parts of a tensor lie in pieces, so that putting them together
  /// or taking them apart is a copy. One sample is taken for several.
  bool isInPieces(Type type, ShardingState state) const {
    if (!state.isSplit())
      return false;
    graph::Dims dims = graph::getDims(cast<RankedTensorType>(type));
    return state.outer > 1 ||
           llvm::any_of(ArrayRef(dims).take_front(state.dimension),
                        [](graph::Dim dim) { return !dim.isOne(); });
  }
  int64_t partOf(const Root &root) const { return steps[root.step].part; }
  int64_t lastPart(const Root &root) const {
    int64_t last = root.kind == Root::Kind::Op ? partOf(root) : 0;
    for (size_t reader : root.readers)
      last = std::max(last, steps[reader].part);
    return last;
  }

  Version get(unsigned value, ShardingState state);
  void visit(unsigned node);
  void numberParts();
  double inner() const;
  double crossing() const;

  const BlockGraph &graph;
  const graph::BlockStates &states;
  unsigned f;
  int64_t batch;
  const BlockGraph::Function &function;
  std::vector<Step> steps;
  std::vector<Root> roots;
  llvm::DenseMap<unsigned, SmallVector<Version, 2>> versions; // by value
};

/// The value in this state, converted where it is first wanted.
Parts::Version Parts::get(unsigned value, ShardingState state) {
  for (const Version &known : versions[value])
    if (known.state == state)
      return known;
  Version from = versions[value].front();
  if (!state.isWhole() && !from.state.isWhole() &&
      states.getConversions(value).throughWhole)
    from = get(value, ShardingState::whole());
  Version made{state, from.root, from.depth};
  // A part of what is whole is a view.
  if (auto collective = getCollective(from.state, state)) {
    Type type = graph.getType(value);
    double before = local(type, from.state), after = local(type, state);
    size_t source = from.root;
    if (isInPieces(type, state)) {
      size_t copy = addStep(false, from.depth);
      roots[source].readers.push_back(copy);
      source = addOp(before, copy);
    }
    made.root =
        addCollective(std::max(before, after), source, from.depth,
                      *collective == planning::Collective::ReduceScatter);
    made.depth = from.depth + 1;
    if (isInPieces(type, from.state)) {
      size_t copy = addStep(false, made.depth);
      roots[made.root].readers.push_back(copy);
      made.root = addOp(after, copy);
    }
  }
  versions[value].push_back(made);
  return made;
}

void Parts::visit(unsigned i) {
  const BlockGraph::Node &node = function.nodes[i];
  SmallVector<Version> operands;
  int64_t depth = 0;
  for (auto [k, value] : llvm::enumerate(node.operands)) {
    operands.push_back(
        get(value, states.getOperandState(f, i, static_cast<unsigned>(k))));
    depth = std::max(depth, operands.back().depth);
  }
  auto define = [&](function_ref<size_t(unsigned)> rootOf) {
    for (unsigned value : node.results)
      versions[value] = {{states.getState(value), rootOf(value), depth}};
  };
  if (isa<graph::ViewOpInterface>(node.op) && !operands.empty())
    return define([&](unsigned) { return operands.front().root; });
  if (node.op->hasTrait<OpTrait::ConstantLike>() ||
      isa<graph::CausalMaskOp, graph::TensorIndexOp>(node.op))
    return define([&](unsigned) { return addRoot({}); });

  size_t step = addStep(false, depth);
  for (const Version &operand : operands)
    roots[operand.root].readers.push_back(step);
  graph::OpSharding does = states.getSharding(f, i);
  if (does.choice.factor >= 0) {
    // Sums of the op's own: behind them only they are read.
    const graph::ShardingFactor &factor =
        node.rule->factors[does.choice.factor];
    SmallVector<size_t> sums;
    auto exchange = [&](Type type, double times) {
      double bytes = static_cast<double>(graph::getNumBytes(type, batch));
      sums.push_back(
          addCollective(times * bytes, addOp(bytes, step), depth, false));
    };
    for (RankedTensorType type : factor.allReduced)
      exchange(type, 1);
    for (RankedTensorType type : factor.allGathered)
      exchange(type, static_cast<double>(graph.getCount()));
    if (!sums.empty()) {
      ++depth;
      step = addStep(false, depth);
      for (size_t sum : sums)
        roots[sum].readers.push_back(step);
    }
  }
  define([&](unsigned value) {
    return addOp(local(graph.getType(value), states.getState(value)), step);
  });
}

/// An op runs before the first round that stands behind it, or as soon as what
/// it reads is there.
void Parts::numberParts() {
  int64_t before = 0;
  for (const Step &step : steps)
    if (step.isCollective)
      before = std::max(before, step.depth + 1);
  for (Step &step : llvm::reverse(steps))
    if (step.isCollective)
      before = std::min(before, step.depth);
    else
      step.part = std::max(before, step.depth);
}

/// In each part, in order: what its ops leave to one another.
double Parts::inner() const {
  std::map<int64_t, std::map<size_t, double>> changes; // by part and step
  for (const Root &root : roots) {
    if (root.kind != Root::Kind::Op || root.readers.empty() || root.isResult ||
        !root.feeds.empty() || lastPart(root) > partOf(root))
      continue;
    auto &own = changes[partOf(root)];
    own[root.step] += root.bytes;
    own[root.readers.back() + 1] -= root.bytes;
  }
  double most = 0;
  for (const auto &[part, byStep] : changes) {
    double live = 0;
    for (const auto &[step, change] : byStep)
      most = std::max(most, live += change);
  }
  return most;
}

double Parts::crossing() const {
  std::map<int64_t, double> changes; // part p at time 2 p, round r at 2 r + 1
  auto add = [&](double bytes, int64_t first, int64_t last) {
    changes[first] += bytes;
    changes[last + 1] -= bytes;
  };
  for (const Root &root : roots) {
    int64_t last = lastPart(root);
    if (root.kind == Root::Kind::Collective) {
      if (root.isResult && !root.scatters)
        continue; // in the result's memory
      int64_t round = steps[root.step].depth;
      const Root &source = roots[root.source];
      add(root.bytes,
          2 * (source.kind == Root::Kind::Op ? partOf(source) : round),
          std::max(2 * round + 1, 2 * last));
    } else if (root.kind == Root::Kind::Op && !root.isResult &&
               last > partOf(root)) {
      // Where a collective happens in place, if nobody reads it afterwards.
      bool isInPlace = llvm::any_of(root.feeds, [&](size_t collective) {
        return last <= steps[roots[collective].step].depth;
      });
      if (!isInPlace)
        add(root.bytes, 2 * partOf(root), 2 * last);
    }
  }
  double live = 0, most = 0;
  for (const auto &[time, change] : changes)
    most = std::max(most, live += change);
  return most;
}

} // namespace

PartsMemory tombolo::getPartsMemory(const graph::BlockGraph &graph,
                                    const graph::BlockStates &states,
                                    unsigned function, int64_t batch) {
  return Parts(graph, states, function, batch).run();
}
