//===- NodeContext.cpp - what the import of one node works on -------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "NodeContext.h"

#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace tombolo::importer {

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

std::optional<graph::Dim> toDim(Affine size) {
  if (size.batch == 0 && size.constant > 0)
    return graph::Dim{size.constant, false};
  if (size.constant == 0 && size.batch > 0)
    return graph::Dim{size.batch, true};
  return std::nullopt;
}

Affine toAffine(graph::Dim dim) {
  return dim.batch ? Affine{0, dim.size} : Affine{dim.size, 0};
}

Shape getShape(RankedTensorType type) {
  Shape shape;
  for (graph::Dim dim : graph::getDims(type))
    shape.push_back(toAffine(dim));
  return shape;
}

RankedTensorType getTensorType(ArrayRef<Affine> shape, Type elementType) {
  graph::Dims dims;
  int64_t elements = 1;
  for (Affine size : shape) {
    std::optional<graph::Dim> dim = toDim(size);
    // 2^56: bytes at any sensible batch size still fit into 63 bits.
    if (!dim || llvm::MulOverflow(elements, dim->size, elements) ||
        elements > int64_t{1} << 56)
      return {};
    dims.push_back(*dim);
  }
  return graph::getTensorType(dims, elementType);
}

Type toMlirType(ElementType type, MLIRContext *context) {
  switch (type) {
  case ElementType::F32:
    return Float32Type::get(context);
  case ElementType::BF16:
    return BFloat16Type::get(context);
  case ElementType::I64:
    return IntegerType::get(context, 64);
  case ElementType::I32:
    return IntegerType::get(context, 32);
  case ElementType::Bool:
    return IntegerType::get(context, 1);
  case ElementType::F64:
  case ElementType::F16:
  case ElementType::Other:
    return {};
  }
  return {};
}

std::optional<ElementType> fromMlirType(Type type) {
  if (type.isF32())
    return ElementType::F32;
  if (type.isBF16())
    return ElementType::BF16;
  if (type.isInteger(64))
    return ElementType::I64;
  if (type.isInteger(32))
    return ElementType::I32;
  if (type.isInteger(1))
    return ElementType::Bool;
  return std::nullopt;
}

std::string toString(ArrayRef<Affine> shape) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << '[';
  llvm::interleaveComma(shape, os, [&](Affine size) {
    if (size.batch == 0) {
      os << size.constant;
      return;
    }
    os << "batch";
    if (size.batch != 1)
      os << '*' << size.batch;
    if (size.constant)
      os << (size.constant > 0 ? "+" : "") << size.constant;
  });
  os << ']';
  return text;
}

//===----------------------------------------------------------------------===//
// Operands
//===----------------------------------------------------------------------===//

NodeContext::NodeContext(const onnx::NodeProto &node, int64_t opset,
                         ValueTable &values, OpBuilder &builder)
    : node(node), opset(opset), values(values), builder(builder),
      loc(NameLoc::get(builder.getStringAttr(!node.name().empty() ? node.name()
                                             : node.output_size()
                                                 ? node.output(0)
                                                 : node.op_type()))) {}

bool NodeContext::load() {
  for (const std::string &name : node.input()) {
    Known *known = nullptr;
    if (!name.empty() && !(known = values.lookup(name)))
      return false;
    operands.push_back(known);
  }
  while (!operands.empty() && !operands.back())
    operands.pop_back();
  return true;
}

InFlightDiagnostic NodeContext::emitError() const {
  return mlir::emitError(values.getFile()) << describe(node) << ": ";
}

const Symbolic *NodeContext::getSymbolic(size_t i) const {
  return hasOperand(i) && operands[i]->symbolic ? &*operands[i]->symbolic
                                                : nullptr;
}

bool NodeContext::allSymbolic() const {
  return llvm::all_of(operands, [](Known *known) {
    return !known || known->symbolic.has_value();
  });
}

Shape NodeContext::getOperandShape(size_t i) const {
  const Known &known = *operands[i];
  if (known.symbolic)
    return Shape(known.symbolic->getShape());
  if (known.type)
    return getShape(known.type);
  return getShape(cast<RankedTensorType>(known.value.getType()));
}

Value getOrMake(Known &known, NodeContext &context) {
  if (known.value)
    return known.value;
  if (known.symbolic)
    known.value = context.materialize(*known.symbolic);
  else
    known.value = context.getBuilder().create<graph::GetParameterOp>(
        context.getLoc(), known.type, known.parameter);
  return known.value;
}

Value NodeContext::getValue(size_t i) { return getOrMake(*operands[i], *this); }

Value NodeContext::getBroadcastableValue(size_t i, ArrayRef<Affine> result) {
  Known &known = *operands[i];
  if (!known.symbolic || known.value)
    return getValue(i);
  std::optional<Scalar> splat = known.symbolic->getSplat();
  if (!splat)
    return getValue(i);
  // The other operands must give the shape.
  std::optional<Shape> others = Shape();
  for (size_t j = 0; j < operands.size() && others; ++j)
    if (j != i && operands[j])
      others = broadcastShapes(*others, getOperandShape(j));
  if (!others || *others != Shape(result))
    return getValue(i);
  return materialize(Symbolic::scalar(known.symbolic->getType(), *splat));
}

FailureOr<SmallVector<Affine>> NodeContext::getIntegers(size_t i,
                                                        const char *what) {
  const Symbolic *symbolic = getSymbolic(i);
  std::optional<SmallVector<Affine>> integers;
  if (symbolic)
    integers = symbolic->asVector();
  if (!integers)
    return emitError() << "the " << what << " '" << node.input(i)
                       << "' must follow from the shapes of the inputs, but "
                          "it is computed from their values";
  return *integers;
}

FailureOr<SmallVector<int64_t>> NodeContext::getConstants(size_t i,
                                                          const char *what) {
  FailureOr<SmallVector<Affine>> integers = getIntegers(i, what);
  if (failed(integers))
    return failure();
  SmallVector<int64_t> constants;
  for (Affine value : *integers) {
    if (!value.isConstant())
      return emitError() << "the " << what << " '" << node.input(i)
                         << "' must not depend on the batch size";
    constants.push_back(value.constant);
  }
  return constants;
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

const onnx::AttributeProto *NodeContext::find(StringRef name) const {
  for (const onnx::AttributeProto &attribute : node.attribute())
    if (attribute.name() == name)
      return &attribute;
  return nullptr;
}

int64_t NodeContext::getInt(StringRef name, int64_t otherwise) const {
  const onnx::AttributeProto *attribute = find(name);
  return attribute ? attribute->i() : otherwise;
}

double NodeContext::getFloat(StringRef name, double otherwise) const {
  const onnx::AttributeProto *attribute = find(name);
  return attribute ? attribute->f() : otherwise;
}

std::string NodeContext::getString(StringRef name, StringRef otherwise) const {
  const onnx::AttributeProto *attribute = find(name);
  return attribute ? attribute->s() : otherwise.str();
}

std::optional<SmallVector<int64_t>> NodeContext::getInts(StringRef name) const {
  const onnx::AttributeProto *attribute = find(name);
  if (!attribute)
    return std::nullopt;
  return SmallVector<int64_t>(attribute->ints().begin(),
                              attribute->ints().end());
}

FailureOr<int64_t> NodeContext::normalizeAxis(int64_t axis, size_t rank) {
  int64_t signedRank = static_cast<int64_t>(rank);
  if (axis < -signedRank || axis >= signedRank)
    return emitError() << "axis " << axis << " is outside the " << rank
                       << " dimensions";
  return axis < 0 ? axis + signedRank : axis;
}

FailureOr<std::optional<SmallVector<int64_t>>>
NodeContext::getAxes(size_t operand, size_t rank) {
  std::optional<SmallVector<int64_t>> axes = getInts("axes");
  if (hasOperand(operand)) {
    FailureOr<SmallVector<int64_t>> constants = getConstants(operand, "axes");
    if (failed(constants))
      return failure();
    axes = *constants;
  }
  if (!axes)
    return axes;
  for (int64_t &axis : *axes) {
    FailureOr<int64_t> normalized = normalizeAxis(axis, rank);
    if (failed(normalized))
      return failure();
    axis = *normalized;
  }
  llvm::sort(*axes);
  if (std::unique(axes->begin(), axes->end()) != axes->end())
    return emitError() << "names an axis twice";
  return axes;
}

//===----------------------------------------------------------------------===//
// Results
//===----------------------------------------------------------------------===//

LogicalResult NodeContext::setResult(size_t i, Symbolic value) {
  if (!wantsResult(i))
    return success();
  Known known;
  known.symbolic = std::move(value);
  values.define(node.output(i), std::move(known));
  return success();
}

LogicalResult NodeContext::setResult(size_t i, Value value) {
  if (!value)
    return failure();
  auto type = cast<RankedTensorType>(value.getType());
  if (!getTensorType(getShape(type), type.getElementType()))
    return emitError() << "result '" << node.output(i)
                       << "' is absurdly large: " << toString(getShape(type));
  if (!wantsResult(i))
    return success();
  Known known;
  known.value = value;
  values.define(node.output(i), std::move(known));
  return success();
}

LogicalResult NodeContext::forwardOperand() {
  if (wantsResult(0))
    values.define(node.output(0), *operands[0]);
  return success();
}

//===----------------------------------------------------------------------===//
// Building
//===----------------------------------------------------------------------===//

LogicalResult NodeContext::inferTypes(
    llvm::function_ref<LogicalResult(Location)> infer) const {
  std::string text;
  LogicalResult result = failure();
  {
    ScopedDiagnosticHandler handler(loc.getContext(), [&](Diagnostic &error) {
      if (text.empty())
        text = error.str();
      return success();
    });
    result = infer(loc);
  }
  if (failed(result))
    return emitError() << (text.empty() ? "operands do not go together" : text);
  return success();
}

LogicalResult NodeContext::requireFloat(Value value) const {
  if (isa<FloatType>(cast<RankedTensorType>(value.getType()).getElementType()))
    return success();
  return emitError() << "expects a float operand, got " << value.getType();
}

Value NodeContext::makeScalar(double value, Type type) {
  return graph::buildScalar(builder, loc, value, type);
}

Value NodeContext::makeReshape(Value value, ArrayRef<Affine> to) {
  auto from = cast<RankedTensorType>(value.getType());
  RankedTensorType type = getTensorType(to, from.getElementType());
  if (!type || graph::getNumElements(graph::getDims(from)) !=
                   graph::getNumElements(graph::getDims(type))) {
    InFlightDiagnostic error = emitError()
                               << "cannot reshape " << toString(getShape(from))
                               << " to " << toString(to);
    bool fixed =
        llvm::any_of(getShape(from),
                     [](Affine size) { return !size.isConstant(); }) &&
        llvm::all_of(to, [](Affine size) { return size.isConstant(); });
    if (fixed)
      error << ": the export fixed the batch size; use x.shape[0] or -1 in the "
               "model and dynamic_axes in torch.onnx.export";
    return {};
  }
  return graph::buildReshape(builder, loc, value, type);
}

Value NodeContext::makeBroadcast(Value value, ArrayRef<Affine> to) {
  auto from = cast<RankedTensorType>(value.getType());
  std::optional<Shape> common = broadcastShapes(getShape(from), to);
  RankedTensorType type = getTensorType(to, from.getElementType());
  if (!type || !common || *common != Shape(to)) {
    emitError() << "cannot broadcast " << toString(getShape(from)) << " to "
                << toString(to);
    return {};
  }
  if (type == from)
    return value;
  return builder.create<graph::BroadcastOp>(loc, type, value);
}

Value NodeContext::makeTranspose(Value value, ArrayRef<int64_t> permutation) {
  return make<graph::TransposeOp>(value, [&](auto &properties) {
    properties.permutation = builder.getDenseI64ArrayAttr(permutation);
  });
}

Value NodeContext::makeCast(Value value, Type elementType) {
  return graph::buildCast(builder, loc, value, elementType);
}

Value NodeContext::makeMatmul(Value lhs, Value rhs, Value bias, bool transposeA,
                              bool transposeB) {
  auto fail = [&]() -> Value {
    emitError() << "cannot multiply "
                << toString(getShape(cast<RankedTensorType>(lhs.getType())))
                << " by "
                << toString(getShape(cast<RankedTensorType>(rhs.getType())));
    return {};
  };
  if (failed(requireFloat(lhs)) || failed(requireFloat(rhs)))
    return {};
  graph::Dims a = graph::getDims(lhs), b = graph::getDims(rhs);
  if (a.size() < 2 || b.size() < 2)
    return fail();
  if (transposeA)
    std::swap(a[a.size() - 1], a[a.size() - 2]);
  if (transposeB)
    std::swap(b[b.size() - 1], b[b.size() - 2]);
  std::optional<graph::Dims> dims =
      graph::broadcastDims(ArrayRef(a).drop_back(2), ArrayRef(b).drop_back(2));
  Type elementType = cast<RankedTensorType>(lhs.getType()).getElementType();
  if (!dims || a.back() != b[b.size() - 2] ||
      elementType != cast<RankedTensorType>(rhs.getType()).getElementType())
    return fail();
  dims->push_back(a[a.size() - 2]);
  dims->push_back(b.back());
  RankedTensorType type = graph::getTensorType(*dims, elementType);
  if (!type)
    return fail();
  return builder.create<graph::MatmulOp>(loc, type, lhs, rhs, bias, transposeA,
                                         transposeB);
}

Value NodeContext::makeConstant(ElementType type, ArrayRef<Affine> shape,
                                ArrayRef<Scalar> elements) {
  Type elementType = toMlirType(type, builder.getContext());
  // A constant of double or half precision comes from a Python scalar.
  if (!elementType && isFloat(type))
    elementType = builder.getF32Type();
  if (!elementType)
    elementType = builder.getI64Type();
  SmallVector<int64_t> sizes;
  for (Affine size : shape)
    sizes.push_back(size.constant);
  auto tensorType = RankedTensorType::get(sizes, elementType);
  // Numbers, not attributes of each, as tables of positions have many.
  if (elementType.isF32()) {
    std::vector<float> values;
    values.reserve(elements.size());
    for (Scalar element : elements)
      values.push_back(static_cast<float>(element.asReal()));
    return builder.create<graph::ConstantOp>(
        loc, DenseElementsAttr::get(tensorType, ArrayRef<float>(values)));
  }
  if (auto floatType = dyn_cast<FloatType>(elementType)) {
    SmallVector<APFloat> values;
    values.reserve(elements.size());
    for (Scalar element : elements) {
      bool losesInfo = false;
      values.emplace_back(element.asReal());
      values.back().convert(floatType.getFloatSemantics(),
                            APFloat::rmNearestTiesToEven, &losesInfo);
    }
    return builder.create<graph::ConstantOp>(
        loc, DenseElementsAttr::get(tensorType, values));
  }
  SmallVector<APInt> values;
  values.reserve(elements.size());
  for (Scalar element : elements) {
    if (element.batch) {
      emitError() << "computes with a number that depends on the batch size, "
                     "which is free";
      return {};
    }
    values.emplace_back(elementType.getIntOrFloatBitWidth(),
                        static_cast<uint64_t>(element.bits),
                        /*isSigned=*/true);
  }
  return builder.create<graph::ConstantOp>(
      loc, DenseElementsAttr::get(tensorType, values));
}

Value NodeContext::materialize(const Symbolic &symbolic) {
  ElementType type = symbolic.getType();
  ArrayRef<Affine> shape = symbolic.getShape();
  for (Affine size : shape)
    if (!toDim(size)) {
      emitError()
          << "computes with a tensor of shape " << toString(shape)
          << ", expected sizes that are positive constants or multiples "
             "of the batch";
      return {};
    }
  if (std::optional<Scalar> splat = symbolic.getSplat()) {
    Value scalar = makeConstant(type, {}, *splat);
    return scalar ? makeBroadcast(scalar, shape) : Value();
  }
  if (symbolic.getForm() == Symbolic::Form::Triangle) {
    Shape maskShape(shape.size(), Affine{1, 0});
    llvm::copy(shape.take_back(2), maskShape.end() - 2);
    RankedTensorType maskType = getTensorType(maskShape, builder.getI1Type());
    if (!maskType || !maskType.hasStaticShape()) {
      emitError() << "needs a mask of shape " << toString(shape)
                  << ", expected constant sizes";
      return {};
    }
    Value mask = builder.create<graph::CausalMaskOp>(loc, maskType,
                                                     symbolic.getOffset());
    if (type != ElementType::Bool || symbolic.getOutside().bits) {
      Value inside = makeConstant(type, {}, symbolic.getInside());
      Value outside = makeConstant(type, {}, symbolic.getOutside());
      if (!inside || !outside)
        return {};
      mask = make<graph::WhereOp>({mask, inside, outside});
    }
    return mask ? makeBroadcast(mask, shape) : Value();
  }
  // A range repeated along other dimensions is written out once.
  if (symbolic.getForm() == Symbolic::Form::Linear) {
    Shape once(shape);
    for (auto [size, coefficient] : llvm::zip(once, symbolic.getCoefficients()))
      if (coefficient == 0)
        size = {1, 0};
    if (once != Shape(shape)) {
      Value value = materialize(Symbolic::linear(type, once, symbolic.getBase(),
                                                 symbolic.getCoefficients()));
      return value ? makeBroadcast(value, shape) : Value();
    }
  }
  Symbolic::Elements elements = symbolic.expand();
  if (!elements) {
    emitError() << "needs the elements of a constant of shape "
                << toString(shape)
                << ", which is too large or depends on the batch size";
    return {};
  }
  return makeConstant(type, shape, *elements);
}

} // namespace tombolo::importer
