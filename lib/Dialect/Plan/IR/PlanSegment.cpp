//===- PlanSegment.cpp - segments and what is in them -------------------
//---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Plan/IR/Plan.h"

using namespace mlir;
using namespace tombolo::plan;

int64_t tombolo::plan::elementBytes(Type elementType) {
  return std::max<int64_t>(1, elementType.getIntOrFloatBitWidth() / 8);
}

int64_t tombolo::plan::storageBytes(ShapedType type) {
  return type.getNumElements() * elementBytes(type.getElementType());
}

SmallVector<int64_t> tombolo::plan::stridesOf(MemRefType type) {
  if (auto layout = dyn_cast<StridedAttr>(type.getLayout()))
    return SmallVector<int64_t>(layout.getStrides());
  SmallVector<int64_t> strides;
  int64_t offset;
  if (failed(getStridesAndOffset(type, strides, offset)))
    return {};
  return strides;
}

MemRefType tombolo::plan::getMemoryType(ArrayRef<int64_t> shape,
                                        Type elementType,
                                        ArrayRef<int64_t> strides) {
  MLIRContext *context = elementType.getContext();
  MemRefLayoutAttrInterface layout;
  if (llvm::is_contained(strides, 0))
    layout = StridedAttr::get(context, strides);
  else
    layout = StridedLayoutAttr::get(context, 0, strides);
  return MemRefType::get(shape, elementType, layout);
}

/// The bytes a view reaches over, from its first element; 0 for none.
static int64_t spanBytes(MemRefType type) {
  int64_t last = 0;
  for (auto [size, stride] : llvm::zip(type.getShape(), stridesOf(type))) {
    if (size == 0)
      return 0;
    last += (size - 1) * stride;
  }
  return (last + 1) * elementBytes(type.getElementType());
}

/// Types in segments are static, with non-negative strides and no offset.
static LogicalResult verifyMemory(Operation *op, MemRefType type) {
  SmallVector<int64_t> strides;
  int64_t offset = 0;
  bool known = true;
  if (auto layout = dyn_cast<StridedAttr>(type.getLayout()))
    strides.assign(layout.getStrides().begin(), layout.getStrides().end());
  else
    known = succeeded(getStridesAndOffset(type, strides, offset));
  if (!type.hasStaticShape() || !known || offset != 0 ||
      llvm::any_of(strides, [](int64_t stride) { return stride < 0; }))
    return op->emitOpError()
           << "expected a static memref with strides and no offset, got "
           << type;
  return success();
}

//===----------------------------------------------------------------------===//
// SegmentOp
//===----------------------------------------------------------------------===//

void SegmentOp::build(OpBuilder &builder, OperationState &state, StringRef name,
                      ArrayRef<StringRef> argumentNames,
                      ArrayRef<MemRefType> argumentTypes,
                      ArrayRef<Access> argumentAccess, int64_t workspaceBytes) {
  MLIRContext *context = builder.getContext();
  state.addAttribute(getSymNameAttrName(state.name),
                     builder.getStringAttr(name));
  state.addAttribute(getArgNamesAttrName(state.name),
                     builder.getStrArrayAttr(argumentNames));
  SmallVector<Attribute> access;
  for (Access one : argumentAccess)
    access.push_back(AccessAttr::get(context, one));
  state.addAttribute(getArgAccessAttrName(state.name),
                     builder.getArrayAttr(access));
  state.addAttribute(getWorkspaceBytesAttrName(state.name),
                     builder.getI64IntegerAttr(workspaceBytes));
  Region *region = state.addRegion();
  Block &block = region->emplaceBlock();
  for (MemRefType type : argumentTypes)
    block.addArgument(type, state.location);
}

Access SegmentOp::getAccess(unsigned argument) {
  return cast<AccessAttr>(getArgAccess()[argument]).getValue();
}

ParseResult SegmentOp::parse(OpAsmParser &parser, OperationState &result) {
  StringAttr name;
  if (parser.parseSymbolName(name, getSymNameAttrName(result.name),
                             result.attributes))
    return failure();
  Builder &builder = parser.getBuilder();
  SmallVector<OpAsmParser::Argument> arguments;
  SmallVector<Attribute> names, access;
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren, [&]() {
        StringRef keyword;
        std::string text;
        if (parser.parseArgument(arguments.emplace_back(), /*allowType=*/true))
          return failure();
        auto loc = parser.getCurrentLocation();
        if (parser.parseKeyword(&keyword))
          return failure();
        std::optional<Access> kind = symbolizeAccess(keyword);
        if (!kind)
          return static_cast<LogicalResult>(
              parser.emitError(loc, "expected read, write or read_write"));
        if (parser.parseString(&text))
          return failure();
        access.push_back(AccessAttr::get(builder.getContext(), *kind));
        names.push_back(builder.getStringAttr(text));
        return success();
      }))
    return failure();
  int64_t workspace = 0;
  if (succeeded(parser.parseOptionalKeyword("workspace")) &&
      parser.parseInteger(workspace))
    return failure();
  result.addAttribute(getArgNamesAttrName(result.name),
                      builder.getArrayAttr(names));
  result.addAttribute(getArgAccessAttrName(result.name),
                      builder.getArrayAttr(access));
  result.addAttribute(getWorkspaceBytesAttrName(result.name),
                      builder.getI64IntegerAttr(workspace));
  if (parser.parseOptionalAttrDictWithKeyword(result.attributes))
    return failure();
  Region *region = result.addRegion();
  if (parser.parseRegion(*region, arguments))
    return failure();
  if (region->empty()) {
    Block &block = region->emplaceBlock();
    for (OpAsmParser::Argument &argument : arguments)
      block.addArgument(argument.type, result.location);
  }
  return success();
}

void SegmentOp::print(OpAsmPrinter &printer) {
  printer << ' ';
  printer.printSymbolName(getSymName());
  printer << '(';
  for (auto [i, argument] : llvm::enumerate(getBody().getArguments())) {
    if (i != 0)
      printer << ", ";
    printer.printRegionArgument(argument);
    printer << ' ' << stringifyAccess(getAccess(i)) << ' ' << getArgNames()[i];
  }
  printer << ')';
  if (getWorkspaceBytes() != 0)
    printer << " workspace " << getWorkspaceBytes();
  printer.printOptionalAttrDictWithKeyword(
      (*this)->getAttrs(),
      {getSymNameAttrName(), getArgNamesAttrName(), getArgAccessAttrName(),
       getWorkspaceBytesAttrName()});
  printer << ' ';
  printer.printRegion(getBody(), /*printEntryBlockArgs=*/false,
                      /*printBlockTerminators=*/false);
}

LogicalResult SegmentOp::verify() {
  unsigned count = getBody().getNumArguments();
  if (getArgNames().size() != count || getArgAccess().size() != count)
    return emitOpError() << "expected a name and an access for each of "
                         << count << " arguments, got " << getArgNames().size()
                         << " and " << getArgAccess().size();
  if (getWorkspaceBytes() < 0)
    return emitOpError("expected a workspace of no negative size");
  for (BlockArgument argument : getBody().getArguments()) {
    auto type = dyn_cast<MemRefType>(argument.getType());
    if (!type)
      return emitOpError() << "expected a memref as argument, got "
                           << argument.getType();
    if (failed(verifyMemory(*this, type)))
      return failure();
    if (!type.getLayout().isIdentity())
      return emitOpError() << "expected a row-major argument, got " << type;
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

LogicalResult ViewOp::verify() {
  MemRefType type = cast<MemRefType>(getResult().getType());
  if (failed(verifyMemory(*this, type)))
    return failure();
  if (getByteOffset() < 0 ||
      getByteOffset() % elementBytes(type.getElementType()) != 0)
    return emitOpError() << "expected a byte offset that is a multiple of the "
                            "element's size, got "
                         << getByteOffset();
  // A view of workspace is only bound by the workspace; views of views are
  // followed to what holds the memory.
  int64_t offset = getByteOffset();
  Value source = getSource();
  while (auto view = source.getDefiningOp<ViewOp>()) {
    offset += view.getByteOffset();
    source = view.getSource();
  }
  if (source.getDefiningOp<WorkspaceOp>())
    return success();
  int64_t available = spanBytes(cast<MemRefType>(source.getType()));
  if (offset + spanBytes(type) > available)
    return emitOpError() << "reaches byte " << offset + spanBytes(type)
                         << " of memory of " << available << " bytes";
  return success();
}

LogicalResult WorkspaceOp::verify() {
  MemRefType type = cast<MemRefType>(getResult().getType());
  if (failed(verifyMemory(*this, type)))
    return failure();
  if (getByteOffset() < 0 ||
      getByteOffset() % elementBytes(type.getElementType()) != 0)
    return emitOpError() << "expected a byte offset that is a multiple of the "
                            "element's size, got "
                         << getByteOffset();
  int64_t available =
      cast<SegmentOp>((*this)->getParentOp()).getWorkspaceBytes();
  if (getByteOffset() + spanBytes(type) > available)
    return emitOpError() << "reaches byte " << getByteOffset() + spanBytes(type)
                         << " of a workspace of " << available << " bytes";
  return success();
}

LogicalResult ConstantOp::verify() {
  MemRefType type = cast<MemRefType>(getResult().getType());
  if (failed(verifyMemory(*this, type)))
    return failure();
  if (!type.getLayout().isIdentity() ||
      type.getShape() != getValue().getShapedType().getShape() ||
      type.getElementType() != getValue().getElementType())
    return emitOpError() << "expected a row-major memref of the value's shape "
                         << getValue().getShapedType() << ", got " << type;
  return success();
}

LogicalResult ComputeOp::verify() {
  if (getOutputs().empty())
    return emitOpError("expected an output");
  for (Value value : (*this)->getOperands())
    if (failed(verifyMemory(*this, cast<MemRefType>(value.getType()))))
      return failure();
  if (auto settings = getSettings())
    for (NamedAttribute entry : *settings) {
      Attribute value = entry.getValue();
      auto integer = dyn_cast<IntegerAttr>(value);
      auto real = dyn_cast<FloatAttr>(value);
      bool known = isa<BoolAttr, StringAttr, DenseI64ArrayAttr>(value) ||
                   (integer && integer.getType().isInteger(64)) ||
                   (real && real.getType().isF64());
      if (!known)
        return emitOpError()
               << "setting '" << entry.getName().getValue()
               << "': expected i64, f64, bool, string or array<i64>, got "
               << value;
    }
  return success();
}
