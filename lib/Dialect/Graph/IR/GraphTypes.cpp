//===- GraphTypes.cpp - tensor types with a batch dimension ---------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "tombolo/Dialect/Graph/IR/GraphTypes.h"
#include "tombolo/Dialect/Graph/IR/GraphDialect.h"

#include "llvm/Support/MathExtras.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace tombolo::graph {

bool hasValidBatch(RankedTensorType type) {
  int64_t dynamic = llvm::count_if(type.getShape(), ShapedType::isDynamic);
  if (dynamic > 1)
    return false;
  Attribute encoding = type.getEncoding();
  return !encoding || (dynamic == 1 && isa<BatchAttr>(encoding));
}

Dims getDims(RankedTensorType type) {
  int64_t multiple = 1;
  if (auto batch = dyn_cast_or_null<BatchAttr>(type.getEncoding()))
    multiple = batch.getMultiple();
  Dims dims;
  for (int64_t size : type.getShape())
    dims.push_back(ShapedType::isDynamic(size) ? Dim{multiple, true}
                                               : Dim{size, false});
  return dims;
}

RankedTensorType getTensorType(ArrayRef<Dim> dims, Type elementType) {
  SmallVector<int64_t> shape;
  Attribute encoding;
  bool hasBatch = false;
  for (Dim dim : dims) {
    shape.push_back(dim.batch ? ShapedType::kDynamic : dim.size);
    if (!dim.batch)
      continue;
    if (hasBatch)
      return {};
    hasBatch = true;
    if (dim.size != 1)
      encoding = BatchAttr::get(elementType.getContext(), dim.size);
  }
  return RankedTensorType::get(shape, elementType, encoding);
}

RankedTensorType withElementType(RankedTensorType type, Type elementType) {
  return RankedTensorType::get(type.getShape(), elementType,
                               type.getEncoding());
}

RankedTensorType getStaticType(RankedTensorType type, int64_t batch) {
  SmallVector<int64_t> shape;
  for (Dim dim : getDims(type))
    shape.push_back(dim.at(batch));
  return RankedTensorType::get(shape, type.getElementType());
}

Dim getNumElements(ArrayRef<Dim> dims) {
  Dim product;
  for (Dim dim : dims) {
    product.size *= dim.size;
    product.batch |= dim.batch;
  }
  return product;
}

int64_t getNumElements(Type type, int64_t batch) {
  return getNumElements(getDims(cast<RankedTensorType>(type))).at(batch);
}

int64_t getElementBytes(Type elementType) {
  return (elementType.getIntOrFloatBitWidth() + 7) / 8;
}

int64_t getNumBytes(Type type, int64_t batch) {
  auto tensor = cast<RankedTensorType>(type);
  int64_t bytes = getElementBytes(tensor.getElementType());
  for (Dim dim : getDims(tensor))
    for (int64_t factor : {dim.size, dim.batch ? batch : int64_t{1}})
      if (llvm::MulOverflow(bytes, factor, bytes))
        return -1;
  return bytes;
}

std::optional<Dims> broadcastDims(ArrayRef<Dim> lhs, ArrayRef<Dim> rhs) {
  if (lhs.size() < rhs.size())
    std::swap(lhs, rhs);
  Dims result(lhs.begin(), lhs.end());
  size_t skip = lhs.size() - rhs.size();
  for (auto [index, dim] : llvm::enumerate(rhs)) {
    Dim &out = result[skip + index];
    if (out == dim || dim.isOne())
      continue;
    if (!out.isOne())
      return std::nullopt;
    out = dim;
  }
  if (llvm::count_if(result, [](Dim dim) { return dim.batch; }) > 1)
    return std::nullopt;
  return result;
}

SmallVector<int64_t> getRowMajorStrides(ArrayRef<int64_t> shape) {
  SmallVector<int64_t> strides(shape.size(), 1);
  for (int64_t i = static_cast<int64_t>(shape.size()) - 2; i >= 0; --i)
    strides[i] = strides[i + 1] * shape[i + 1];
  return strides;
}

std::string toString(ArrayRef<Dim> dims) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << '[';
  llvm::interleaveComma(dims, os, [&](Dim dim) {
    if (!dim.batch)
      os << dim.size;
    else if (dim.size == 1)
      os << "batch";
    else
      os << "batch*" << dim.size;
  });
  os << ']';
  return text;
}

} // namespace tombolo::graph
