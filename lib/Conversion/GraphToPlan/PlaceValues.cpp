//===- PlaceValues.cpp - where the values of a segment lie ----------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

//
// Two walks over the function. Backward, from where a value must end up: a
// result is computed in the memory of its argument, the parts of a concat in
// the whole, what a reshape of a transpose reads in the order the reshape
// needs, and an elementwise op in the memory of an operand that dies. Forward,
// everything else: views of what they look at, copies where that cannot be.
//
//===----------------------------------------------------------------------===//

#include "SegmentMemory.h"

#include "tombolo/Conversion/GraphToPlan.h"
#include "tombolo/Dialect/Graph/IR/GraphOps.h"

using namespace mlir;
using namespace tombolo::graph;

namespace tombolo {

bool isRowMajor(const StridedView &view) {
  int64_t expected = 1;
  for (int64_t i = static_cast<int64_t>(view.shape.size()) - 1; i >= 0; --i) {
    if (view.shape[i] != 1 && view.strides[i] != expected)
      return false;
    expected *= view.shape[i];
  }
  return true;
}

namespace {

RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// A producer and the values from it to some reader, each with its place.
struct Chain {
  OpResult producer;
  SmallVector<std::pair<Value, StridedView>> values;
};

class ValuePlacer {
public:
  explicit ValuePlacer(func::FuncOp function)
      : function(function), body(function.getBody().front()) {}

  FailureOr<SegmentMemory> run();

private:
  LogicalResult check();
  void addArguments();
  void findLastUses();

  // Backward.
  void bindResults();
  void bindAccumulated();
  void bindOperands(Operation *op);
  void bindInPlace(Operation *op);
  std::optional<Chain> trace(Value value, const StridedView &destination);
  bool canWrite(OpResult producer, const StridedView &destination);
  bool bind(Value value, const Place &destination, int64_t lastUser = -1);
  bool isNaturalView(ReshapeOp op);

  // Forward.
  LogicalResult placeOp(Operation *op);
  void placeConstant(ConstantOp op);
  void placeMask(CausalMaskOp op);
  void placeView(ViewOpInterface op);
  void placeConcat(ConcatOp op);
  void placeResults();

  int addBuffer(SegmentBuffer::Kind kind, int64_t bytes) {
    SegmentBuffer buffer;
    buffer.kind = kind;
    buffer.bytes = bytes;
    memory.buffers.push_back(buffer);
    return memory.buffers.size() - 1;
  }
  Place getWhole(int buffer, RankedTensorType type) {
    StridedView view;
    view.shape = llvm::to_vector(type.getShape());
    view.strides = getRowMajorStrides(view.shape);
    return {buffer, view, type.getElementType()};
  }
  Place addWorkspace(RankedTensorType type) {
    return getWhole(
        addBuffer(SegmentBuffer::Kind::Workspace, getNumBytes(type, 1)), type);
  }
  Place addConstant(DenseElementsAttr value) {
    auto type = cast<RankedTensorType>(value.getType());
    int buffer = addBuffer(SegmentBuffer::Kind::Constant, getNumBytes(type, 1));
    memory.buffers[buffer].constant = value;
    return getWhole(buffer, type);
  }
  void addStep(StringRef opcode, ArrayRef<Place> inputs,
               ArrayRef<Place> outputs, Location location,
               DictionaryAttr settings = {}, bool accumulate = false) {
    memory.steps.push_back({opcode, SmallVector<Place>(inputs),
                            SmallVector<Place>(outputs), settings, accumulate,
                            location});
  }
  Place getSlice(Place whole, int64_t axis, int64_t offset, int64_t size) {
    whole.view.shape[axis] = size;
    whole.view.offset += offset * whole.view.strides[axis];
    return whole;
  }

  func::FuncOp function;
  Block &body;
  SegmentMemory memory;
  llvm::DenseMap<Value, Place> places;
  /// Positions in the block; the return is last.
  llvm::DenseMap<Operation *, int64_t> positions;
  /// Of a value and all views of it.
  llvm::DenseMap<Value, int64_t> lastUses;
  /// Ops that add to their results.
  llvm::DenseSet<Operation *> accumulating;
  /// Views that are given a place of their own to be copied to.
  llvm::DenseSet<Value> copied;
  struct LateCopy {
    unsigned result;
    Place destination;
    bool accumulate;
  };
  SmallVector<LateCopy> lateCopies;
};

LogicalResult ValuePlacer::check() {
  for (Value argument : body.getArguments())
    if (!typeOf(argument).hasStaticShape())
      return function.emitError()
             << "argument of type " << argument.getType()
             << " depends on the batch size; specialize the function first";
  int64_t position = 0;
  for (Operation &op : body) {
    positions[&op] = position++;
    if (!isa<ViewOpInterface, SegmentOpInterface, ConstantOp, CausalMaskOp,
             func::ReturnOp>(op))
      return op.emitOpError("is no op of plan segments");
    for (Value result : op.getResults())
      if (!typeOf(result).hasStaticShape())
        return op.emitOpError("result depends on the batch size; specialize "
                              "the function first");
  }
  for (unsigned i = 0, e = function.getNumResults(); i < e; ++i) {
    auto argument =
        function.getResultAttrOfType<IntegerAttr>(i, plan::kInPlaceAttr);
    if (!argument)
      continue;
    int64_t number = argument.getInt();
    if (number < 0 || number >= function.getNumArguments() ||
        function.getArgumentTypes()[number] != function.getResultTypes()[i])
      return function.emitError()
             << "result " << i << " cannot take the memory of argument "
             << number << ", which does not exist or has another type";
  }
  return success();
}

void ValuePlacer::addArguments() {
  auto add = [&](Type type, bool read, bool written) {
    auto tensor = cast<RankedTensorType>(type);
    int buffer =
        addBuffer(SegmentBuffer::Kind::Argument, getNumBytes(tensor, 1));
    memory.buffers[buffer].argument = memory.argumentTypes.size();
    memory.argumentTypes.push_back(tensor);
    memory.argumentRead.push_back(read);
    memory.argumentWritten.push_back(written);
    return getWhole(buffer, tensor);
  };
  for (Value argument : body.getArguments())
    places[argument] = add(argument.getType(), true, false);
  for (unsigned i = 0, e = function.getNumResults(); i < e; ++i) {
    if (auto argument =
            function.getResultAttrOfType<IntegerAttr>(i, plan::kInPlaceAttr)) {
      memory.argumentWritten[argument.getInt()] = true;
      continue;
    }
    bool accumulate =
        function.getResultAttr(i, plan::kAccumulateAttr) != nullptr;
    lateCopies.push_back(
        {i, add(function.getResultTypes()[i], accumulate, true), accumulate});
  }
}

void ValuePlacer::findLastUses() {
  for (Operation &op : llvm::reverse(body)) {
    int64_t last = positions[&op];
    if (isa<ViewOpInterface>(op))
      for (Value result : op.getResults())
        last = std::max(last, lastUses.lookup(result));
    for (Value operand : op.getOperands())
      lastUses[operand] = std::max(lastUses.lookup(operand), last);
  }
}

//===----------------------------------------------------------------------===//
// Backward
//===----------------------------------------------------------------------===//

/// Follows reshapes and transposes up to what computes the value and says how
/// each value on the way must lie for `value` to lie at `destination`.
std::optional<Chain> ValuePlacer::trace(Value value,
                                        const StridedView &destination) {
  Chain chain;
  StridedView view = destination;
  while (true) {
    chain.values.push_back({value, view});
    Operation *op = value.getDefiningOp();
    if (auto reshape = dyn_cast_or_null<ReshapeOp>(op)) {
      ArrayRef<int64_t> shape = reshape.getInput().getType().getShape();
      FailureOr<SmallVector<int64_t>> strides = getReshapedStrides(view, shape);
      if (failed(strides))
        return std::nullopt;
      view.shape = llvm::to_vector(shape);
      view.strides = *strides;
    } else if (auto transpose = dyn_cast_or_null<TransposeOp>(op)) {
      StridedView input = view;
      for (auto [index, source] : llvm::enumerate(transpose.getPermutation())) {
        input.shape[source] = view.shape[index];
        input.strides[source] = view.strides[index];
      }
      view = input;
    } else {
      break;
    }
    value = op->getOperand(0);
  }
  chain.producer = dyn_cast<OpResult>(value);
  if (!chain.producer)
    return std::nullopt;
  return chain;
}

bool ValuePlacer::canWrite(OpResult producer, const StridedView &destination) {
  Operation *op = producer.getOwner();
  if (isa<ConcatOp>(op))
    return true; // its parts are copied, or computed in place
  bool rowMajor = isRowMajor(destination);
  if (isa<CausalMaskOp>(op))
    return rowMajor;
  auto segment = dyn_cast<SegmentOpInterface>(op);
  if (!segment)
    return false;
  bool dense = destination.shape.empty() || destination.shape.back() == 1 ||
               destination.strides.back() == 1;
  return rowMajor ||
         (dense && segment.canWriteView(producer.getResultNumber()));
}

/// Has the value computed at the destination; false when it cannot be. With
/// `lastUser` only a value that nothing reads after that op.
bool ValuePlacer::bind(Value value, const Place &destination,
                       int64_t lastUser) {
  std::optional<Chain> chain = trace(value, destination.view);
  if (!chain || !canWrite(chain->producer, chain->values.back().second))
    return false;
  for (auto &[link, view] : chain->values)
    if (places.contains(link))
      return false;
  if (lastUser >= 0 && lastUses.lookup(chain->producer) > lastUser)
    return false;
  for (auto &[link, view] : chain->values)
    places[link] = {destination.buffer, view, destination.elementType};
  return true;
}

/// An op adds to memory when all its results that it can add to are results of
/// the function to be added to, and nothing else reads them.
void ValuePlacer::bindAccumulated() {
  Operation *ret = body.getTerminator();
  llvm::DenseMap<Value, std::pair<LateCopy *, Chain>> targets;
  for (LateCopy &copy : lateCopies) {
    if (!copy.accumulate ||
        copy.destination.elementType.getIntOrFloatBitWidth() != 32)
      continue;
    std::optional<Chain> chain =
        trace(ret->getOperand(copy.result), copy.destination.view);
    if (!chain || !isRowMajor(chain->values.back().second) ||
        llvm::any_of(chain->values,
                     [](auto &link) { return !link.first.hasOneUse(); }))
      continue;
    Value producer = chain->producer;
    targets.try_emplace(producer, &copy, std::move(*chain));
  }
  SmallVector<unsigned> done;
  for (Operation &op : body) {
    auto segment = dyn_cast<SegmentOpInterface>(op);
    if (!segment)
      continue;
    bool any = false, all = true;
    for (OpResult result : op.getResults())
      if (segment.canAccumulate(result.getResultNumber())) {
        any = true;
        all &= targets.contains(result);
      }
    if (!any || !all)
      continue;
    accumulating.insert(&op);
    for (OpResult result : op.getResults()) {
      auto it = targets.find(result);
      if (it == targets.end())
        continue;
      auto &[copy, chain] = it->second;
      for (auto &[link, view] : chain.values)
        places[link] = {copy->destination.buffer, view,
                        copy->destination.elementType};
      done.push_back(copy->result);
    }
  }
  llvm::erase_if(lateCopies, [&](const LateCopy &copy) {
    return llvm::is_contained(done, copy.result);
  });
}

void ValuePlacer::bindResults() {
  Operation *ret = body.getTerminator();
  bindAccumulated();
  llvm::erase_if(lateCopies, [&](const LateCopy &copy) {
    return !copy.accumulate &&
           bind(ret->getOperand(copy.result), copy.destination);
  });
  for (unsigned i = 0, e = function.getNumResults(); i < e; ++i) {
    auto number =
        function.getResultAttrOfType<IntegerAttr>(i, plan::kInPlaceAttr);
    if (!number)
      continue;
    // Only an op that updates the argument itself, and is its last reader, may
    // write there; all else waits for the end.
    Value value = ret->getOperand(i);
    BlockArgument argument = body.getArgument(number.getInt());
    auto result = dyn_cast<OpResult>(value);
    auto op = result ? dyn_cast<SegmentOpInterface>(result.getOwner())
                     : SegmentOpInterface();
    bool direct = op && !places.contains(value) &&
                  lastUses.lookup(argument) == positions[op];
    if (direct) {
      for (OpOperand &operand : op->getOpOperands())
        if (operand.get() == argument)
          direct &= op.canWriteInPlace(result.getResultNumber(),
                                       operand.getOperandNumber());
        else if (auto view = operand.get().getDefiningOp<ViewOpInterface>())
          direct = false; // might look at the argument
      direct &= llvm::is_contained(op->getOperands(), argument);
    }
    if (direct)
      places[value] = places[argument];
    else
      lateCopies.push_back({i, places[argument], false});
  }
}

/// Lets the op write where an operand lies that dies here.
void ValuePlacer::bindInPlace(Operation *op) {
  auto segment = dyn_cast<SegmentOpInterface>(op);
  if (!segment || accumulating.contains(op))
    return;
  auto getRoot = [](Value value) {
    while (auto view = value.getDefiningOp<ViewOpInterface>())
      value = view->getOperand(0);
    return value;
  };
  for (OpResult result : op->getResults()) {
    const Place place = places.lookup(result);
    const SegmentBuffer &buffer = memory.buffers[place.buffer];
    if (buffer.kind == SegmentBuffer::Kind::Argument &&
        buffer.argument < function.getNumArguments())
      continue; // the op still reads what is there
    for (OpOperand &operand : op->getOpOperands()) {
      Value value = operand.get();
      if (!segment.canWriteInPlace(result.getResultNumber(),
                                   operand.getOperandNumber()) ||
          value.getType() != result.getType())
        continue;
      bool alone = llvm::all_of(op->getOperands(), [&](Value other) {
        return other == value || getRoot(other) != getRoot(value);
      });
      if (alone && bind(value, place, positions[op]))
        break;
    }
  }
}

/// Whether the reshape's result has strides over what it reads, as far as is
/// known where that lies.
bool ValuePlacer::isNaturalView(ReshapeOp op) {
  SmallVector<OpResult> chain;
  Value root = op.getResult();
  while (!places.contains(root)) {
    auto view = root.getDefiningOp<ViewOpInterface>();
    if (!view)
      break;
    chain.push_back(cast<OpResult>(root));
    root = view->getOperand(0);
  }
  Place place = places.lookup(root);
  StridedView memory = place ? place.view : getWhole(0, typeOf(root)).view;
  for (OpResult result : llvm::reverse(chain)) {
    FailureOr<StridedView> next =
        cast<ViewOpInterface>(result.getOwner())
            .getView(result.getResultNumber(), memory);
    if (failed(next))
      return false;
    memory = *next;
  }
  return true;
}

void ValuePlacer::bindOperands(Operation *op) {
  if (auto reshape = dyn_cast<ReshapeOp>(op)) {
    Value result = reshape.getResult();
    if (places.contains(result) || isNaturalView(reshape))
      return;
    Place place = addWorkspace(typeOf(result));
    if (!bind(result, place)) {
      places[result] = place;
      copied.insert(result);
    }
    return;
  }
  if (isa<ViewOpInterface, ConstantOp>(op))
    return;
  for (Value result : op->getResults())
    if (!places.contains(result))
      places[result] = addWorkspace(typeOf(result));
  if (auto concat = dyn_cast<ConcatOp>(op)) {
    if (accumulating.contains(op))
      return;
    int64_t axis = concat.getAxis(), offset = 0;
    for (Value input : concat.getInputs()) {
      int64_t size = typeOf(input).getDimSize(axis);
      bind(input, getSlice(places[concat.getResult()], axis, offset, size));
      offset += size;
    }
    return;
  }
  bindInPlace(op);
}

//===----------------------------------------------------------------------===//
// Forward
//===----------------------------------------------------------------------===//

void ValuePlacer::placeConstant(ConstantOp op) {
  auto value = dyn_cast<DenseElementsAttr>(op.getValue());
  auto type = typeOf(op.getResult());
  if (value && value.isSplat() && type.getNumElements() > 1) {
    // A plan holds no long runs of one number.
    Place place = addWorkspace(type);
    double number;
    if (auto real = dyn_cast<FloatType>(type.getElementType()))
      number = value.getSplatValue<APFloat>().convertToDouble();
    else
      number = value.getSplatValue<APInt>().getSExtValue() *
               (type.getElementType().isInteger(1) ? -1.0 : 1.0);
    Builder builder(op.getContext());
    addStep("fill", {}, {place}, op.getLoc(),
            builder.getDictionaryAttr(builder.getNamedAttr(
                "value", builder.getF64FloatAttr(number))));
    places[op.getResult()] = place;
    return;
  }
  int buffer = addBuffer(SegmentBuffer::Kind::Constant, getNumBytes(type, 1));
  memory.buffers[buffer].constant = op.getValue();
  places[op.getResult()] = getWhole(buffer, type);
}

/// j < i + offset + 1, from two ranges.
void ValuePlacer::placeMask(CausalMaskOp op) {
  RankedTensorType type = typeOf(op.getResult());
  int64_t rows = type.getDimSize(type.getRank() - 2);
  int64_t columns = type.getDimSize(type.getRank() - 1);
  Builder builder(op.getContext());
  SmallVector<int64_t> shape(type.getRank(), 1);
  auto addRange = [&](int64_t dim, int64_t count, int64_t first) {
    shape.assign(type.getRank(), 1);
    shape[dim] = count;
    SmallVector<int64_t> values =
        llvm::to_vector(llvm::seq<int64_t>(first, first + count));
    return addConstant(DenseIntElementsAttr::get(
        RankedTensorType::get(shape, builder.getI64Type()), values));
  };
  Place column = addRange(type.getRank() - 1, columns, 0);
  Place row = addRange(type.getRank() - 2, rows, op.getOffset() + 1);
  addStep("less", {column, row}, {places[op.getResult()]}, op.getLoc());
}

void ValuePlacer::placeView(ViewOpInterface op) {
  Value input = op->getOperand(0);
  Place source = places[input];
  if (memory.buffers[source.buffer].kind == SegmentBuffer::Kind::Constant) {
    // Constants have no strides; this one is copied to memory once.
    Place copy = addWorkspace(typeOf(input));
    addStep("copy", {source}, {copy}, op.getLoc());
    places[input] = source = copy;
  }
  for (OpResult result : op->getResults()) {
    bool isCopy = copied.contains(result);
    if (places.contains(result) && !isCopy)
      continue; // computed where the reader wants it
    if (!isCopy) {
      FailureOr<StridedView> view =
          op.getView(result.getResultNumber(), source.view);
      if (succeeded(view)) {
        places[result] = {source.buffer, *view, source.elementType};
        continue;
      }
      places[result] = addWorkspace(typeOf(result));
    }
    // Only a reshape is no view: its copy is taken in the source's shape.
    Place whole = places[result];
    whole.view.shape = source.view.shape;
    whole.view.strides = getRowMajorStrides(source.view.shape);
    addStep("copy", {source}, {whole}, op.getLoc());
  }
}

void ValuePlacer::placeConcat(ConcatOp op) {
  Place whole = places[op.getResult()];
  int64_t axis = op.getAxis(), offset = 0;
  for (Value input : op.getInputs()) {
    int64_t size = typeOf(input).getDimSize(axis);
    Place slice = getSlice(whole, axis, offset, size);
    Place place = places[input];
    bool there =
        place.buffer == slice.buffer && place.view.offset == slice.view.offset;
    if (!there)
      addStep("copy", {place}, {slice}, op.getLoc());
    offset += size;
  }
}

/// The attributes of an op as settings: a unit attribute is a flag; which
/// optional operands there are follows from the others.
static DictionaryAttr getSettings(Operation *op) {
  auto properties =
      dyn_cast_or_null<DictionaryAttr>(op->getPropertiesAsAttribute());
  if (!properties)
    return {};
  NamedAttrList settings;
  for (NamedAttribute entry : properties) {
    if (entry.getName() ==
        OpTrait::AttrSizedOperandSegments<void>::getOperandSegmentSizeAttr())
      continue;
    Attribute value = entry.getValue();
    settings.append(entry.getName(), isa<UnitAttr>(value)
                                         ? BoolAttr::get(op->getContext(), true)
                                         : value);
  }
  return settings.getDictionary(op->getContext());
}

LogicalResult ValuePlacer::placeOp(Operation *op) {
  if (auto constant = dyn_cast<ConstantOp>(op))
    placeConstant(constant);
  else if (auto mask = dyn_cast<CausalMaskOp>(op))
    placeMask(mask);
  else if (auto view = dyn_cast<ViewOpInterface>(op))
    placeView(view);
  else if (isa<ConcatOp>(op) && !accumulating.contains(op))
    placeConcat(cast<ConcatOp>(op));
  else {
    auto getPlaces = [&](ValueRange values) {
      return llvm::map_to_vector(values,
                                 [&](Value value) { return places[value]; });
    };
    addStep(op->getName().stripDialect(), getPlaces(op->getOperands()),
            getPlaces(op->getResults()), op->getLoc(), getSettings(op),
            accumulating.contains(op));
  }
  return success();
}

void ValuePlacer::placeResults() {
  Operation *ret = body.getTerminator();
  for (const LateCopy &copy : lateCopies) {
    Value value = ret->getOperand(copy.result);
    Place source = places[value];
    if (source.buffer == copy.destination.buffer)
      continue; // an argument that is returned as it is
    addStep("copy", {source}, {copy.destination}, ret->getLoc(), {},
            copy.accumulate);
  }
}

FailureOr<SegmentMemory> ValuePlacer::run() {
  if (failed(check()))
    return failure();
  addArguments();
  findLastUses();
  bindResults();
  for (Operation &op : llvm::reverse(body.without_terminator()))
    bindOperands(&op);
  for (Operation &op : body.without_terminator())
    if (failed(placeOp(&op)))
      return failure();
  placeResults();
  return std::move(memory);
}

} // namespace

FailureOr<SegmentMemory> placeValues(func::FuncOp function) {
  return ValuePlacer(function).run();
}

} // namespace tombolo
