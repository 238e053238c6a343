//===- FindBlocks.cpp - outline the model's distinct blocks ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Analysis: the order of the ops, the cuts, and a signature of each segment.
// Decision: which segments make a block, from the signatures alone
// (Repetition.h). Rewrite: outline each distinct block and call it.
//
// A model need not be a chain: the value that enters a segment (the result of
// an encoder) may be read all along it, by each layer of a decoder. Where the
// rest of the segment repeats when that value counts as given, the segment is
// cut too; blocks hand the value on to those behind, also past the last that
// reads it, so that equal blocks are one function.
//
//===----------------------------------------------------------------------===//

#include "Repetition.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"
#include "tombolo/Dialect/Graph/Transforms/Passes.h"

#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include <map>

using namespace mlir;

namespace tombolo::graph {
#define GEN_PASS_DEF_GRAPHFINDBLOCKS
#include "tombolo/Dialect/Graph/Transforms/Passes.h.inc"

namespace {

using Signature = std::vector<uint64_t>;

uint64_t toWord(const void *pointer) {
  return reinterpret_cast<uintptr_t>(pointer);
}

/// The ops of a block and the values that enter it.
struct Unit {
  SmallVector<Operation *> ops;  ///< in an order that can be executed
  SmallVector<Value> data;       ///< crossing values, then model inputs
  SmallVector<Value> parameters; ///< results of get_parameter
  SmallVector<Value> results;    ///< what later ops read
  Signature signature;
};

class BlockFinder {
public:
  explicit BlockFinder(func::FuncOp main)
      : main(main), symbols(main->getParentOfType<ModuleOp>()) {}

  LogicalResult run();

private:
  void findOrder();
  void findCuts();
  void orderOps(SmallVectorImpl<Operation *> &stack,
                ArrayRef<Operation *> inside,
                SmallVectorImpl<Operation *> &into);
  SmallVector<unsigned> cutInside(unsigned begin, unsigned end);
  SmallVector<Segment> toSegments(ArrayRef<unsigned> bounds, Value given,
                                  unsigned stays);
  void refineCuts();
  void handOn(std::vector<Unit> &units);
  bool isActive(Value value) const {
    Operation *op = value.getDefiningOp();
    return op && active.contains(op);
  }
  bool isFrozen(GetParameterOp op) {
    return symbols.lookup<ParameterOp>(op.getParameter()).getFrozen();
  }
  Unit collectUnit(unsigned begin, unsigned end);
  void collectOps(unsigned begin, unsigned end, Unit &unit);
  void collectFreeOps(Operation *op, llvm::DenseSet<Operation *> &seen,
                      Unit &unit);
  void sign(Unit &unit);
  func::FuncOp outline(const Unit &unit, unsigned number);
  void rewrite(ArrayRef<Unit> units);

  func::FuncOp main;
  SymbolTable symbols;
  /// Ops that depend on a model input; all others are free to be repeated, and
  /// so are cheap ones that depend on inputs alone (masks).
  llvm::DenseSet<Operation *> active;
  /// The active ops that @main's results need.
  SmallVector<Operation *> order;
  llvm::DenseMap<Operation *, unsigned> position;
  /// Segment i is order[starts[i], starts[i + 1]).
  SmallVector<unsigned> starts;
  /// By begin and end: what many segments in front look at.
  std::map<std::pair<unsigned, unsigned>, Unit> knownUnits;
};

/// Whether an op of inputs alone is better done again in each block than handed
/// from one to the next.
bool isCheap(Operation *op) {
  return isa<ViewOpInterface, AddOp, SubOp, MulOp, DivOp, NegOp, WhereOp,
             EqualOp, LessOp, CastOp>(op);
}

/// Orders the active ops so that each stands as late as its readers allow and
/// the longest chain comes first: whatever one value separates is then
/// contiguous, whatever the order in the model's file.
void BlockFinder::findOrder() {
  // What depends on parameters, or on more than cheap ops of inputs.
  llvm::DenseSet<Operation *> heavy;
  for (Operation &op : main.getBody().front().without_terminator()) {
    bool dependsOnInput = false, isHeavy = isa<GetParameterOp>(op);
    for (Value operand : op.getOperands()) {
      Operation *producer = operand.getDefiningOp();
      dependsOnInput |= !producer || active.contains(producer);
      isHeavy |= producer && heavy.contains(producer);
    }
    if (isHeavy || (dependsOnInput && !isCheap(&op)))
      heavy.insert(&op);
    if (dependsOnInput)
      active.insert(&op);
  }
  ValueRange results = main.getBody().front().getTerminator()->getOperands();
  if (llvm::none_of(results, [&](Value value) { return isActive(value); }))
    return;
  for (Operation &op : main.getBody().front().without_terminator())
    if (!heavy.contains(&op))
      active.erase(&op);
  // The last block returns what @main does, known beforehand or not.
  SmallVector<Operation *> roots;
  for (Value result : results)
    if (Operation *op = result.getDefiningOp()) {
      active.insert(op);
      roots.push_back(op);
    }
  SmallVector<Operation *> ops;
  for (Operation &op : main.getBody().front().without_terminator())
    if (active.contains(&op))
      ops.push_back(&op);
  orderOps(roots, ops, order);
  for (auto [index, op] : llvm::enumerate(order))
    position[op] = index;
}

/// Appends the ops that lead to those on `stack`, and these, in that order.
/// What is not inside is given; `inside` has operands in front.
void BlockFinder::orderOps(SmallVectorImpl<Operation *> &stack,
                           ArrayRef<Operation *> inside,
                           SmallVectorImpl<Operation *> &into) {
  llvm::DenseMap<Operation *, unsigned> depth;
  for (Operation *op : inside) {
    unsigned deepest = 0;
    for (Value operand : op->getOperands())
      if (Operation *producer = operand.getDefiningOp())
        deepest = std::max(deepest, depth.lookup(producer));
    depth[op] = deepest + 1;
  }
  auto byDepth = [&](Operation *a, Operation *b) {
    return depth.lookup(a) < depth.lookup(b);
  };
  auto getChildren = [&](Operation *op) {
    SmallVector<Operation *> children;
    for (Value operand : op->getOperands())
      if (Operation *producer = operand.getDefiningOp();
          producer && depth.contains(producer))
        children.push_back(producer);
    // The stack is popped from the back.
    llvm::stable_sort(children, byDepth);
    return children;
  };
  llvm::stable_sort(stack, byDepth);
  llvm::DenseSet<Operation *> expanded, placed;
  while (!stack.empty()) {
    Operation *op = stack.back();
    if (expanded.insert(op).second) {
      llvm::append_range(stack, getChildren(op));
      continue;
    }
    stack.pop_back();
    if (placed.insert(op).second)
      into.push_back(op);
  }
}

/// The places in order[begin, end) that one float value crosses, of those
/// computed from `begin` on.
SmallVector<unsigned> BlockFinder::cutInside(unsigned begin, unsigned end) {
  // Values by the position of their last reader.
  unsigned count = end - begin;
  std::vector<SmallVector<Value, 2>> dying(count + 1);
  std::vector<SmallVector<Value, 2>> born(count);
  for (unsigned index = 0; index < count; ++index) {
    for (Value result : order[begin + index]->getResults()) {
      int64_t last = -1;
      for (Operation *user : result.getUsers()) {
        if (user->hasTrait<OpTrait::IsTerminator>())
          last = count;
        else if (auto it = position.find(user); it != position.end())
          last = std::max<int64_t>(
              last, std::min<int64_t>(int64_t{it->second} - begin, count));
      }
      if (last < 0)
        continue;
      born[index].push_back(result);
      dying[last].push_back(result);
    }
  }
  llvm::SmallDenseSet<Value> live;
  SmallVector<unsigned> cuts;
  for (unsigned i = 0; i + 1 < count; ++i) {
    for (Value value : dying[i])
      live.erase(value);
    for (Value value : born[i])
      live.insert(value);
    if (live.size() == 1 && isa<FloatType>(getElementTypeOrSelf(*live.begin())))
      cuts.push_back(begin + i + 1);
  }
  return cuts;
}

void BlockFinder::findCuts() {
  starts.push_back(0);
  llvm::append_range(starts, cutInside(0, order.size()));
  starts.push_back(order.size());
}

/// What lies between successive bounds. Segments of one kind have one number,
/// in order of appearance. From `stays` on the order of ops does not change any
/// more.
SmallVector<Segment> BlockFinder::toSegments(ArrayRef<unsigned> bounds,
                                             Value given, unsigned stays) {
  std::map<Signature, unsigned> kinds;
  SmallVector<Segment> segments;
  for (unsigned i = 0; i + 1 < bounds.size(); ++i) {
    unsigned begin = bounds[i], end = bounds[i + 1];
    std::optional<Unit> own;
    const Unit *known = nullptr;
    if (begin >= stays) {
      auto [entry, isNew] = knownUnits.try_emplace({begin, end});
      if (isNew)
        entry->second = collectUnit(begin, end);
      known = &entry->second;
    } else {
      known = &own.emplace(collectUnit(begin, end));
    }
    const Unit &unit = *known;
    Segment segment;
    segment.readsGiven = !given || llvm::is_contained(unit.data, given);
    segment.kind =
        kinds.try_emplace(unit.signature, kinds.size()).first->second;
    segment.size = end - begin;
    segment.hasParameters = !unit.parameters.empty();
    segment.hasMatrices = llvm::any_of(unit.parameters, [](Value value) {
      return cast<RankedTensorType>(value.getType()).getRank() > 1;
    });
    segments.push_back(segment);
  }
  return segments;
}

/// Cuts segments that repeat when the value that enters them counts as given.
void BlockFinder::refineCuts() {
  SmallVector<unsigned> refined = {0};
  for (unsigned i = 1; i + 1 < starts.size(); ++i) {
    unsigned low = starts[i], high = starts[i + 1];
    refined.push_back(low);
    SmallVector<Operation *> old(order.begin() + low, order.begin() + high);
    llvm::SmallDenseSet<Operation *> inside(old.begin(), old.end());
    SmallVector<Operation *> roots, sorted;
    Value given;
    for (Operation *op : old) {
      for (Value operand : op->getOperands())
        if (isActive(operand) && !inside.contains(operand.getDefiningOp()))
          given = operand;
      if (llvm::none_of(op->getUsers(),
                        [&](Operation *user) { return inside.contains(user); }))
        roots.push_back(op);
    }
    if (!given)
      continue;
    // In the order that its ops have when that value is given.
    orderOps(roots, old, sorted);
    auto place = [&](ArrayRef<Operation *> ops) {
      for (auto [index, op] : llvm::enumerate(ops)) {
        order[low + index] = op;
        position[op] = low + index;
      }
    };
    place(sorted);
    SmallVector<unsigned> inner = cutInside(low, high);
    // What reads the value no more, behind its last reader, may belong to the
    // last repetition.
    SmallVector<unsigned> bounds = {low};
    llvm::append_range(bounds, inner);
    for (unsigned next = i + 1;
         next < starts.size() && next <= i + 1 + inner.size(); ++next)
      bounds.push_back(starts[next]);
    if (!inner.empty() && repeats(toSegments(bounds, given, high)))
      llvm::append_range(refined, inner);
    else
      place(old);
  }
  refined.push_back(starts.back());
  starts = std::move(refined);
}

/// Makes the blocks a chain: what a later block reads goes through those in
/// between.
void BlockFinder::handOn(std::vector<Unit> &units) {
  llvm::DenseMap<Value, unsigned> producedBy;
  llvm::MapVector<Value, unsigned> lastUse;
  for (auto [number, unit] : llvm::enumerate(units)) {
    for (Value result : unit.results)
      producedBy[result] = number;
    for (Value value : unit.data)
      if (!isa<BlockArgument>(value))
        lastUse[value] = number;
  }
  for (auto &[value, last] : lastUse) {
    unsigned first = producedBy.lookup(value) + 1;
    // Of equal blocks the last hands it on as the others do.
    if (last > first && last + 1 < units.size() &&
        units[last].signature == units[last - 1].signature)
      ++last;
    for (unsigned number = first; number <= last; ++number) {
      Unit &unit = units[number];
      if (!llvm::is_contained(unit.data, value)) {
        // In front of the model's inputs.
        auto *at = llvm::find_if(
            unit.data, [](Value other) { return isa<BlockArgument>(other); });
        unit.data.insert(at, value);
      }
      if (number < last)
        unit.results.push_back(value);
    }
  }
  for (Unit &unit : units) {
    unit.signature.clear();
    sign(unit);
  }
}

/// Adds the free ops that `op` needs, operands first.
void BlockFinder::collectFreeOps(Operation *op,
                                 llvm::DenseSet<Operation *> &seen,
                                 Unit &unit) {
  SmallVector<std::pair<Operation *, bool>> stack = {{op, false}};
  while (!stack.empty()) {
    auto [current, done] = stack.pop_back_val();
    if (done) {
      unit.ops.push_back(current);
      continue;
    }
    if (current != op) {
      if (!seen.insert(current).second)
        continue;
      stack.push_back({current, true});
    }
    for (Value operand : current->getOperands()) {
      auto read = operand.getDefiningOp<GetParameterOp>();
      // Several reads of one parameter are one argument.
      if (read && llvm::none_of(unit.parameters, [&](Value other) {
            return other.getDefiningOp<GetParameterOp>().getParameter() ==
                   read.getParameter();
          }))
        unit.parameters.push_back(operand);
    }
    for (Value operand : llvm::reverse(current->getOperands())) {
      Operation *producer = operand.getDefiningOp();
      if (producer && !active.contains(producer) &&
          !isa<GetParameterOp>(producer))
        stack.push_back({producer, false});
    }
  }
}

void BlockFinder::collectOps(unsigned begin, unsigned end, Unit &unit) {
  llvm::DenseSet<Operation *> seen;
  for (Operation *op : ArrayRef(order).slice(begin, end - begin)) {
    collectFreeOps(op, seen, unit);
    unit.ops.push_back(op);
  }
}

Unit BlockFinder::collectUnit(unsigned begin, unsigned end) {
  Unit unit;
  collectOps(begin, end, unit);
  llvm::SetVector<Value> crossing;
  llvm::SmallSetVector<BlockArgument, 4> inputs;
  for (Operation *op : unit.ops)
    for (Value operand : op->getOperands())
      if (auto input = dyn_cast<BlockArgument>(operand))
        inputs.insert(input);
  for (Operation *op : ArrayRef(order).slice(begin, end - begin)) {
    for (Value operand : op->getOperands())
      if (isActive(operand) && position.lookup(operand.getDefiningOp()) < begin)
        crossing.insert(operand);
    for (Value result : op->getResults())
      if (llvm::any_of(result.getUsers(), [&](Operation *user) {
            auto it = position.find(user);
            return user->hasTrait<OpTrait::IsTerminator>() ||
                   (it != position.end() && it->second >= end);
          }))
        unit.results.push_back(result);
  }
  // The last block gives @main's results in @main's order.
  if (end == order.size()) {
    Operation *ret = main.getBody().front().getTerminator();
    llvm::stable_sort(unit.results, [&](Value a, Value b) {
      return llvm::find(ret->getOperands(), a) <
             llvm::find(ret->getOperands(), b);
    });
  }
  unit.data = crossing.takeVector();
  SmallVector<BlockArgument> sorted = llvm::to_vector(inputs);
  llvm::sort(sorted, [](BlockArgument a, BlockArgument b) {
    return a.getArgNumber() < b.getArgNumber();
  });
  llvm::append_range(unit.data, sorted);
  sign(unit);
  return unit;
}

/// Words that are equal exactly for blocks that one function can stand for.
void BlockFinder::sign(Unit &unit) {
  Signature &words = unit.signature;
  llvm::DenseMap<Value, uint64_t> ids;
  uint64_t next = 0;
  // Without the sizes an input could pass for a frozen parameter.
  words.push_back(unit.data.size());
  words.push_back(unit.parameters.size());
  for (Value value : unit.data) {
    ids[value] = next++;
    auto input = dyn_cast<BlockArgument>(value);
    words.push_back(input ? input.getArgNumber() + 1 : 0);
    words.push_back(toWord(value.getType().getAsOpaquePointer()));
  }
  llvm::DenseMap<StringRef, uint64_t> parameterIds;
  for (Value value : unit.parameters) {
    auto read = value.getDefiningOp<GetParameterOp>();
    parameterIds[read.getParameter()] = next++;
    words.push_back(isFrozen(read));
    words.push_back(toWord(value.getType().getAsOpaquePointer()));
  }
  words.push_back(unit.ops.size());
  for (Operation *op : unit.ops) {
    words.push_back(toWord(op->getName().getAsOpaquePointer()));
    words.push_back(toWord(op->getAttrDictionary().getAsOpaquePointer()));
    words.push_back(op->getNumOperands());
    for (Value operand : op->getOperands()) {
      if (auto read = operand.getDefiningOp<GetParameterOp>())
        words.push_back(parameterIds.lookup(read.getParameter()));
      else
        words.push_back(ids.lookup(operand));
    }
    words.push_back(op->getNumResults());
    for (Value result : op->getResults()) {
      ids[result] = next++;
      words.push_back(toWord(result.getType().getAsOpaquePointer()));
    }
  }
  for (Value result : unit.results)
    words.push_back(ids.lookup(result));
}

func::FuncOp BlockFinder::outline(const Unit &unit, unsigned number) {
  SmallVector<Type> arguments, results;
  for (Value value : unit.data)
    arguments.push_back(value.getType());
  for (Value value : unit.parameters)
    arguments.push_back(value.getType());
  for (Value value : unit.results)
    results.push_back(value.getType());

  OpBuilder builder(main);
  auto function = builder.create<func::FuncOp>(
      unit.ops.front()->getLoc(), "block" + std::to_string(number),
      builder.getFunctionType(arguments, results));
  function.setPrivate();
  function->setAttr(kBlockAttr, builder.getUnitAttr());
  symbols.insert(function);
  Block *body = function.addEntryBlock();
  IRMapping mapping;
  for (auto [index, value] : llvm::enumerate(unit.data)) {
    mapping.map(value, body->getArgument(index));
    auto input = dyn_cast<BlockArgument>(value);
    if (!input)
      continue;
    for (StringRef name : {kInputAttr, kLabelAttr, kStampAttr})
      if (Attribute attribute = main.getArgAttr(input.getArgNumber(), name))
        function.setArgAttr(index, name, attribute);
  }
  llvm::DenseMap<StringRef, Value> parameterArguments;
  for (auto [index, value] : llvm::enumerate(unit.parameters)) {
    auto read = value.getDefiningOp<GetParameterOp>();
    unsigned argument = unit.data.size() + index;
    parameterArguments[read.getParameter()] = body->getArgument(argument);
    function.setArgAttr(
        argument, kParameterAttr,
        builder.getStringAttr(isFrozen(read) ? kFrozen : kTrainable));
  }
  builder.setInsertionPointToStart(body);
  int64_t sites = 0;
  for (Operation *op : unit.ops) {
    for (Value operand : op->getOperands())
      if (auto read = operand.getDefiningOp<GetParameterOp>())
        mapping.map(operand, parameterArguments.lookup(read.getParameter()));
    // Masks of one block differ by the op's number, of equal blocks by theirs.
    if (auto dropout = dyn_cast<DropoutOp>(builder.clone(*op, mapping)))
      dropout.setSite(sites++);
  }
  builder.create<func::ReturnOp>(
      function.getLoc(), llvm::map_to_vector(unit.results, [&](Value value) {
        return mapping.lookup(value);
      }));
  return function;
}

void BlockFinder::rewrite(ArrayRef<Unit> units) {
  Operation *ret = main.getBody().front().getTerminator();
  OpBuilder builder(ret);
  std::map<Signature, func::FuncOp> functions;
  IRMapping mapping;
  for (const Unit &unit : units) {
    func::FuncOp &function = functions[unit.signature];
    if (!function)
      function = outline(unit, functions.size() - 1);
    SmallVector<Value> operands;
    for (Value value : unit.data)
      operands.push_back(mapping.lookupOrDefault(value));
    llvm::append_range(operands, unit.parameters);
    auto call = builder.create<func::CallOp>(unit.ops.front()->getLoc(),
                                             function, operands);
    mapping.map(unit.results, call.getResults());
  }
  for (OpOperand &operand : ret->getOpOperands())
    operand.set(mapping.lookupOrDefault(operand.get()));
  SmallVector<Operation *> ops;
  for (Operation &op : main.getBody().front().without_terminator())
    ops.push_back(&op);
  for (Operation *op : llvm::reverse(ops))
    if (!isa<func::CallOp>(op) && op->use_empty())
      op->erase();
}

LogicalResult BlockFinder::run() {
  for (Operation &op : main.getBody().front().without_terminator()) {
    if (isa<func::CallOp>(op))
      return op.emitError("@main must not call functions before blocks are "
                          "found");
    if (auto read = dyn_cast<GetParameterOp>(op))
      if (!symbols.lookup<ParameterOp>(read.getParameter()))
        return op.emitError()
               << "no parameter is named '" << read.getParameter() << "'";
  }
  findOrder();
  if (order.empty())
    return main.emitError("no output of the model depends on its inputs");
  findCuts();

  refineCuts();
  std::vector<Unit> units;
  unsigned begin = 0;
  for (unsigned end : groupSegments(toSegments(starts, {}, 0))) {
    units.push_back(collectUnit(starts[begin], starts[end]));
    begin = end;
  }
  handOn(units);
  rewrite(units);
  return success();
}

struct FindBlocks : impl::GraphFindBlocksBase<FindBlocks> {
  void runOnOperation() override {
    auto main = getOperation().lookupSymbol<func::FuncOp>("main");
    if (!main || main.isDeclaration()) {
      getOperation().emitError("the model has no function @main");
      return signalPassFailure();
    }
    if (failed(BlockFinder(main).run()))
      signalPassFailure();
  }
};

} // namespace
} // namespace tombolo::graph
