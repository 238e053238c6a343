//===- FunctionParts.cpp - a function between its collectives -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Parts and rounds of collectives alternate: part 0, round 0, part 1, ... A
// *root* is what a value is a view of: an argument, the result of an op or of a
// collective. Views cost nothing and are made again in every part that looks
// through them; so are constants. What a part needs of another one is always a
// root, and a root has one *home* in memory.
//
// A collective works in place: its operand is written to where it will happen
// by the part that computes it, at the chip's own place where it is one of the
// parts that are gathered.
//
//===----------------------------------------------------------------------===//

#include "FunctionParts.h"

#include "tombolo/Conversion/PackMemory.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"

#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/SmallBitVector.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace tombolo::plan {

namespace {

bool isCollective(Operation *op) {
  return isa_and_nonnull<graph::AllReduceOp, graph::AllGatherOp,
                         graph::ReduceScatterOp, graph::AllToAllOp>(op);
}

StringRef kindOf(Operation *collective) {
  return llvm::TypeSwitch<Operation *, StringRef>(collective)
      .Case<graph::AllReduceOp>([](auto) { return "all_reduce_sum"; })
      .Case<graph::AllGatherOp>([](auto) { return "all_gather"; })
      .Case<graph::ReduceScatterOp>([](auto) { return "reduce_scatter_sum"; })
      .Default([](auto) { return "all_to_all"; });
}

RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// Something a part writes for others.
struct Output {
  Value value;
  PartMemory memory;
  bool accumulate = false;
};

class Splitter {
public:
  Splitter(func::FuncOp function, SymbolTable &symbols)
      : function(function), symbols(symbols), body(function.getBody().front()) {
  }

  FailureOr<FunctionParts> run() {
    if (failed(check()))
      return failure();
    findViews();
    numberParts();
    placeCollectives();
    placeCrossing();
    placeResults();
    packCrossing();
    for (int64_t part = 0; part <= rounds; ++part) {
      if (!outputs[part].empty())
        writePart(part);
      for (Operation *op : collectives)
        if (roundOf.lookup(op) == part)
          writeCollective(op);
    }
    return std::move(parts);
  }

private:
  LogicalResult check();
  void findViews();
  void numberParts();
  void placeCollectives();
  void placeCrossing();
  void placeResults();
  void packCrossing();
  void writePart(int64_t part);
  void writeCollective(Operation *op);

  bool isRemade(Operation *op) const {
    return isa_and_nonnull<graph::ConstantOp, graph::CausalMaskOp,
                           graph::TensorIndexOp>(op);
  }
  Value rootOf(Value value) const {
    while (Operation *op = value.getDefiningOp()) {
      if (!views.contains(op))
        break;
      value = op->getOperand(0);
    }
    return value;
  }
  /// Whether the value is the root's memory, in its order.
  bool isWholeRoot(Value value, Value root) const {
    while (value != root) {
      auto reshape = value.getDefiningOp<graph::ReshapeOp>();
      if (!reshape || !views.contains(reshape))
        return false;
      value = reshape.getInput();
    }
    return true;
  }
  /// The first part that can read a root.
  int64_t availableIn(Value root) const {
    Operation *op = root.getDefiningOp();
    if (!op || isRemade(op))
      return 0;
    return isCollective(op) ? roundOf.lookup(op) + 1 : partOf.lookup(op);
  }
  /// The part that writes a value for others.
  int64_t writerOf(Value value) const { return availableIn(rootOf(value)); }
  /// The result, without a home yet, that is this root.
  std::optional<unsigned> resultThatIs(Value root) {
    for (auto [i, value] : llvm::enumerate(results()))
      if (!function.getResultAttr(i, kAccumulateAttr) && !homeless.test(i) &&
          isWholeRoot(value, root))
        return i;
    return std::nullopt;
  }
  PartMemory ofResult(unsigned number) {
    return {PartMemory::Kind::Address, function.getNumArguments() + number};
  }
  OperandRange results() const { return body.getTerminator()->getOperands(); }
  PartMemory newCrossing(int64_t bytes, int64_t first, int64_t last) {
    crossing.push_back({bytes, first, last});
    return {PartMemory::Kind::Crossing,
            static_cast<unsigned>(crossing.size() - 1)};
  }
  void keepUntil(const PartMemory &memory, int64_t time) {
    if (memory.kind == PartMemory::Kind::Crossing)
      crossing[memory.number].last =
          std::max(crossing[memory.number].last, time);
  }
  static int64_t timeOfPart(int64_t part) { return 2 * part; }
  static int64_t timeOfRound(int64_t round) { return 2 * round + 1; }

  func::FuncOp function;
  SymbolTable &symbols;
  Block &body;
  FunctionParts parts;
  int64_t rounds = 0;
  llvm::DenseSet<Operation *> views;
  SmallVector<Operation *> collectives;
  llvm::DenseMap<Operation *, int64_t> partOf, roundOf;
  /// Parts that read a root.
  llvm::MapVector<Value, llvm::SmallSetVector<int64_t, 4>> readers;
  llvm::DenseMap<Value, PartMemory> homes;
  llvm::DenseMap<Operation *, PartMemory> collectiveMemory;
  llvm::SmallBitVector homeless; // results whose memory is a home already
  std::vector<SmallVector<Output>> outputs; // by part
  std::vector<MemoryInterval> crossing;
};

LogicalResult Splitter::check() {
  for (unsigned i = 0; i < function.getNumResults(); ++i)
    if (function.getResultAttr(i, kInPlaceAttr))
      return function.emitOpError()
             << "writes result " << i
             << " in place, which a function with collectives cannot";
  for (ArrayRef<Type> types :
       {function.getArgumentTypes(), function.getResultTypes()})
    for (Type type : types)
      if (!cast<RankedTensorType>(type).hasStaticShape())
        return function.emitOpError()
               << "expected static tensors, got " << type;
  for (Operation &op : body)
    for (Value result : op.getResults())
      if (!typeOf(result).hasStaticShape())
        return op.emitOpError()
               << "expected static tensors, got " << result.getType();
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(body)))
    if (isOpTriviallyDead(&op))
      op.erase();
  return success();
}

/// A view is one as long as it has strides over its root.
void Splitter::findViews() {
  llvm::DenseMap<Value, graph::StridedView> strides;
  for (Operation &op : body) {
    auto view = dyn_cast<graph::ViewOpInterface>(op);
    if (!view)
      continue;
    Value source = op.getOperand(0);
    graph::StridedView from = strides.lookup(source);
    if (!strides.contains(source)) {
      from.shape = llvm::to_vector(typeOf(source).getShape());
      from.strides = graph::getRowMajorStrides(from.shape);
    }
    SmallVector<graph::StridedView> mine;
    for (unsigned i = 0; i < op.getNumResults(); ++i)
      if (FailureOr<graph::StridedView> one = view.getView(i, from);
          succeeded(one))
        mine.push_back(*one);
    if (mine.size() != op.getNumResults())
      continue;
    views.insert(&op);
    for (auto [result, one] : llvm::zip(op.getResults(), mine))
      strides[result] = one;
  }
}

void Splitter::numberParts() {
  // Rounds before anything else: how many collectives are behind one another.
  llvm::DenseMap<Value, int64_t> depth;
  auto depthOf = [&](Operation *op) {
    int64_t most = 0;
    for (Value operand : op->getOperands())
      most = std::max(most, depth.lookup(operand));
    return most;
  };
  for (Operation &op : body) {
    int64_t own = depthOf(&op);
    if (isCollective(&op)) {
      collectives.push_back(&op);
      roundOf[&op] = own++;
      rounds = std::max(rounds, own);
    }
    for (Value result : op.getResults())
      depth[result] = own;
  }
  // An op runs before the first round that stands behind it, or as soon as
  // what it reads is there.
  int64_t before = rounds;
  for (Operation &op : llvm::reverse(body.without_terminator())) {
    if (isCollective(&op))
      before = std::min(before, roundOf.lookup(&op));
    else if (!views.contains(&op) && !isRemade(&op))
      partOf[&op] = std::max(before, depthOf(&op));
  }
  outputs.resize(rounds + 1);
  homeless.resize(function.getNumResults());
  for (Operation &op : body.without_terminator())
    if (auto part = partOf.find(&op); part != partOf.end())
      for (Value operand : op.getOperands())
        readers[rootOf(operand)].insert(part->second);
}

void Splitter::placeCollectives() {
  for (Operation *op : collectives) {
    Value input = op->getOperand(0), result = op->getResult(0);
    int64_t round = roundOf.lookup(op);
    // What no op computes is copied to its place just before.
    Operation *producer = rootOf(input).getDefiningOp();
    auto computed = partOf.find(producer);
    int64_t writer = computed == partOf.end() ? round : computed->second;
    int64_t inputBytes = storageBytes(typeOf(input));
    int64_t resultBytes = storageBytes(typeOf(result));
    bool scatters = isa<graph::ReduceScatterOp>(op);
    PartMemory memory;
    std::optional<unsigned> number = resultThatIs(result);
    if (number && !scatters) {
      memory = ofResult(*number);
      homeless.set(*number);
    } else {
      memory = newCrossing(std::max(inputBytes, resultBytes),
                           timeOfPart(writer), timeOfRound(round));
    }
    collectiveMemory[op] = memory;
    PartMemory written = memory, read = memory;
    if (isa<graph::AllGatherOp>(op))
      written.perTensorIndex = inputBytes;
    if (scatters)
      read.perTensorIndex = resultBytes;
    homes[result] = read;
    for (int64_t part : readers[result])
      keepUntil(memory, timeOfPart(part));
    outputs[writer].push_back({input, written});
    readers[rootOf(input)].insert(writer);
    if (auto home = homes.find(rootOf(input)); home != homes.end())
      keepUntil(home->second, timeOfPart(writer));
  }
}

void Splitter::placeCrossing() {
  for (auto &[root, parts] : readers) {
    auto producer = partOf.find(root.getDefiningOp());
    if (producer == partOf.end())
      continue;
    int64_t own = producer->second, last = own;
    for (int64_t part : parts)
      last = std::max(last, part);
    if (last == own)
      continue;
    if (auto number = resultThatIs(root)) {
      // The result's own output below writes it.
      homes[root] = ofResult(*number);
      continue;
    }
    // Where a collective will happen in place, if nobody reads it afterwards.
    for (Operation *op : collectives)
      if (isWholeRoot(op->getOperand(0), root) && last <= roundOf.lookup(op) &&
          !homes.contains(root)) {
        homes[root] = collectiveMemory[op];
        if (isa<graph::AllGatherOp>(op))
          homes[root].perTensorIndex = storageBytes(typeOf(root));
      }
    if (homes.contains(root))
      continue;
    PartMemory home = newCrossing(storageBytes(typeOf(root)), timeOfPart(own),
                                  timeOfPart(last));
    homes[root] = home;
    outputs[own].push_back({root, home});
  }
}

void Splitter::placeResults() {
  for (auto [i, value] : llvm::enumerate(results())) {
    if (homeless.test(i))
      continue; // a collective leaves it there
    int64_t writer = writerOf(value);
    bool accumulate = function.getResultAttr(i, kAccumulateAttr) != nullptr;
    outputs[writer].push_back({value, ofResult(i), accumulate});
    if (auto home = homes.find(rootOf(value)); home != homes.end())
      keepUntil(home->second, timeOfPart(writer));
  }
}

void Splitter::packCrossing() {
  parts.crossingBytes = packMemory(crossing);
  auto settle = [&](PartMemory &memory) {
    if (memory.kind == PartMemory::Kind::Crossing)
      memory.offset = crossing[memory.number].offset;
  };
  for (auto &[value, home] : homes)
    settle(home);
  for (auto &[op, memory] : collectiveMemory)
    settle(memory);
  for (SmallVector<Output> &some : outputs)
    for (Output &output : some)
      settle(output.memory);
}

void Splitter::writePart(int64_t part) {
  llvm::stable_sort(outputs[part], [](const Output &a, const Output &b) {
    return std::pair(a.memory.kind, a.memory.number) <
           std::pair(b.memory.kind, b.memory.number);
  });
  SmallVector<Operation *> ops;
  for (Operation &op : body)
    if (auto found = partOf.find(&op);
        found != partOf.end() && found->second == part)
      ops.push_back(&op);

  // Roots of other parts become arguments: the function's in order, then those
  // that cross, in order of definition.
  auto isLocal = [&](Value root) {
    Operation *op = root.getDefiningOp();
    auto found = partOf.find(op);
    return op && found != partOf.end() && found->second == part;
  };
  llvm::SetVector<Value> needed;
  auto need = [&](Value value) {
    Value root = rootOf(value);
    Operation *op = root.getDefiningOp();
    if (!isLocal(root) && (!isRemade(op) || isa<graph::TensorIndexOp>(op)))
      needed.insert(root);
  };
  for (Operation *op : ops)
    for (Value operand : op->getOperands())
      need(operand);
  for (const Output &output : outputs[part])
    need(output.value);
  SmallVector<Value> arguments = needed.takeVector();
  llvm::stable_sort(arguments, [](Value a, Value b) {
    auto x = dyn_cast<BlockArgument>(a), y = dyn_cast<BlockArgument>(b);
    if (x && y)
      return x.getArgNumber() < y.getArgNumber();
    if (x || y)
      return static_cast<bool>(x);
    return a.getDefiningOp()->isBeforeInBlock(b.getDefiningOp());
  });

  OpBuilder builder(function);
  SmallVector<Type> argumentTypes, resultTypes;
  for (Value value : arguments)
    argumentTypes.push_back(value.getType());
  for (const Output &output : outputs[part])
    resultTypes.push_back(output.value.getType());
  auto made = builder.create<func::FuncOp>(
      function.getLoc(), (function.getSymName() + ".part" + Twine(part)).str(),
      builder.getFunctionType(argumentTypes, resultTypes));
  made.setPrivate();
  symbols.insert(made);
  PartCall call{made, {}};
  Block *block = made.addEntryBlock();
  builder.setInsertionPointToStart(block);
  IRMapping mapping;
  for (auto [i, value] : llvm::enumerate(arguments)) {
    mapping.map(value, block->getArgument(i));
    if (auto argument = dyn_cast<BlockArgument>(value)) {
      unsigned number = argument.getArgNumber();
      if (DictionaryAttr attributes = function.getArgAttrDict(number))
        made.setArgAttrs(i, attributes);
      call.operands.push_back({PartMemory::Kind::Address, number});
    } else if (value.getDefiningOp<graph::TensorIndexOp>()) {
      parts.readsTensorIndex = true;
      call.operands.push_back({PartMemory::Kind::TensorIndex});
    } else {
      call.operands.push_back(homes.lookup(value));
    }
  }
  // Views and constants are made where they are first needed.
  auto remake = [&](Value value) {
    SmallVector<Operation *> chain;
    while (!mapping.contains(value)) {
      Operation *op = value.getDefiningOp();
      chain.push_back(op);
      if (op->getNumOperands() == 0)
        break;
      value = op->getOperand(0);
    }
    for (Operation *op : llvm::reverse(chain))
      builder.clone(*op, mapping);
  };
  for (Operation *op : ops) {
    for (Value operand : op->getOperands())
      remake(operand);
    builder.clone(*op, mapping);
  }
  SmallVector<Value> values;
  for (auto [i, output] : llvm::enumerate(outputs[part])) {
    remake(output.value);
    values.push_back(mapping.lookup(output.value));
    if (output.accumulate)
      made.setResultAttr(i, kAccumulateAttr, builder.getUnitAttr());
    call.operands.push_back(output.memory);
  }
  builder.create<func::ReturnOp>(function.getLoc(), values);
  parts.steps.push_back(std::move(call));
}

void Splitter::writeCollective(Operation *op) {
  RankedTensorType input = typeOf(op->getOperand(0));
  RankedTensorType result = typeOf(op->getResult(0));
  int64_t count = 0;
  if (auto gather = dyn_cast<graph::AllGatherOp>(op))
    count = gather.getCount();
  else if (!isa<graph::AllReduceOp>(op))
    count = input.getDimSize(0);
  parts.steps.push_back(
      PartCollective{op, kindOf(op), collectiveMemory.lookup(op),
                     std::max(input.getNumElements(), result.getNumElements()),
                     input.getElementType(), count});
}

} // namespace

bool needsSplitting(func::FuncOp function) {
  return function
      .walk([](Operation *op) {
        return isCollective(op) || isa<graph::TensorIndexOp>(op)
                   ? WalkResult::interrupt()
                   : WalkResult::advance();
      })
      .wasInterrupted();
}

FailureOr<FunctionParts> splitAtCollectives(func::FuncOp function,
                                            SymbolTable &symbols) {
  return Splitter(function, symbols).run();
}

} // namespace tombolo::plan
