//===- SymbolicTensor.cpp - finding the form of a tensor ------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "OnnxModel.h"
#include "Symbolic.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/STLExtras.h"

#include <cstring>

namespace tombolo::importer {

namespace {
/// What findTriangle found: the offset, and where an element of either value
/// is.
struct TriangleSpot {
  int64_t offset, inside, outside;
};
} // namespace

/// A matrix of `rows` x `columns` elements, repeated up to `count`: whether it
/// is a triangle of two values. `get` gives element n.
template <typename Get>
static std::optional<TriangleSpot> findTriangle(int64_t count, int64_t rows,
                                                int64_t columns, Get get) {
  if (rows < 2 || columns < 2)
    return std::nullopt;
  // The last row starts inside. It, or the last row with an element outside,
  // gives the offset.
  int64_t insideAt = (rows - 1) * columns;
  auto inside = get(insideAt);
  int64_t row = rows - 1;
  while (row >= 0 && get(row * columns + columns - 1) == inside)
    --row;
  if (row < 0)
    return std::nullopt;
  int64_t run = 0;
  while (get(row * columns + run) == inside)
    ++run;
  TriangleSpot spot{run - 1 - row, insideAt, row * columns + run};
  auto outside = get(spot.outside);
  for (int64_t n = 0; n < count; ++n) {
    bool within = n % columns <= n / columns % rows + spot.offset;
    if (!(get(n) == (within ? inside : outside)))
      return std::nullopt;
  }
  return spot;
}

Symbolic Symbolic::dense(ElementType type, Shape shape, Elements shared) {
  const std::vector<Scalar> &elements = *shared;
  if (!elements.empty() && llvm::all_equal(elements))
    return splat(type, std::move(shape), elements.front());
  if (size_t rank = shape.size(); rank >= 2 && !elements.empty())
    if (std::optional<TriangleSpot> spot = findTriangle(
            elements.size(), shape[rank - 2].constant, shape.back().constant,
            [&](int64_t n) { return elements[n]; }))
      return triangle(type, std::move(shape), elements[spot->inside],
                      elements[spot->outside], spot->offset);
  Symbolic result(type, std::move(shape), Form::Dense);
  result.elements = std::move(shared);
  return result;
}

//===----------------------------------------------------------------------===//
// From ONNX
//===----------------------------------------------------------------------===//

std::optional<ElementType> getElementType(int onnxType) {
  switch (onnxType) {
  case onnx::TensorProto::FLOAT:
    return ElementType::F32;
  case onnx::TensorProto::DOUBLE:
    return ElementType::F64;
  case onnx::TensorProto::FLOAT16:
    return ElementType::F16;
  case onnx::TensorProto::BFLOAT16:
    return ElementType::BF16;
  case onnx::TensorProto::INT64:
    return ElementType::I64;
  case onnx::TensorProto::INT32:
    return ElementType::I32;
  case onnx::TensorProto::BOOL:
    return ElementType::Bool;
  case onnx::TensorProto::UINT8:
  case onnx::TensorProto::INT8:
  case onnx::TensorProto::UINT16:
  case onnx::TensorProto::INT16:
  case onnx::TensorProto::UINT32:
  case onnx::TensorProto::UINT64:
    return ElementType::Other;
  default:
    return std::nullopt;
  }
}

namespace {
/// Decodes single elements of a tensor.
class TensorReader {
public:
  explicit TensorReader(const onnx::TensorProto &tensor)
      : tensor(tensor), type(tensor.data_type()), raw(tensor.raw_data().data()),
        isRaw(!tensor.raw_data().empty()) {}

  /// Whether `count` elements are there.
  bool holds(uint64_t count) const {
    if (isRaw)
      return tensor.raw_data().size() == count * getElementBytes(type);
    switch (type) {
    case onnx::TensorProto::FLOAT:
      return static_cast<uint64_t>(tensor.float_data_size()) == count;
    case onnx::TensorProto::DOUBLE:
      return static_cast<uint64_t>(tensor.double_data_size()) == count;
    case onnx::TensorProto::INT64:
      return static_cast<uint64_t>(tensor.int64_data_size()) == count;
    case onnx::TensorProto::UINT32:
    case onnx::TensorProto::UINT64:
      return static_cast<uint64_t>(tensor.uint64_data_size()) == count;
    default:
      return static_cast<uint64_t>(tensor.int32_data_size()) == count;
    }
  }

  Scalar get(int64_t n) const {
    switch (type) {
    case onnx::TensorProto::FLOAT:
      return Scalar::real(isRaw ? load<float>(n) : tensor.float_data(n));
    case onnx::TensorProto::DOUBLE:
      return Scalar::real(isRaw ? load<double>(n) : tensor.double_data(n));
    case onnx::TensorProto::FLOAT16:
    case onnx::TensorProto::BFLOAT16: {
      uint16_t bits = isRaw ? load<uint16_t>(n)
                            : static_cast<uint16_t>(tensor.int32_data(n));
      llvm::APFloat value(type == onnx::TensorProto::FLOAT16
                              ? llvm::APFloat::IEEEhalf()
                              : llvm::APFloat::BFloat(),
                          llvm::APInt(16, bits));
      bool inexact;
      value.convert(llvm::APFloat::IEEEdouble(),
                    llvm::APFloat::rmNearestTiesToEven, &inexact);
      return Scalar::real(value.convertToDouble());
    }
    case onnx::TensorProto::INT64:
      return whole(isRaw ? load<int64_t>(n) : tensor.int64_data(n));
    case onnx::TensorProto::UINT64:
      return whole(static_cast<int64_t>(isRaw ? load<uint64_t>(n)
                                              : tensor.uint64_data(n)));
    case onnx::TensorProto::UINT32:
      return whole(isRaw ? load<uint32_t>(n)
                         : static_cast<uint32_t>(tensor.uint64_data(n)));
    case onnx::TensorProto::BOOL:
      return Scalar::boolean(isRaw ? load<uint8_t>(n) : tensor.int32_data(n));
    case onnx::TensorProto::UINT8:
      return whole(isRaw ? load<uint8_t>(n) : tensor.int32_data(n));
    case onnx::TensorProto::INT8:
      return whole(isRaw ? load<int8_t>(n) : tensor.int32_data(n));
    case onnx::TensorProto::UINT16:
      return whole(isRaw ? load<uint16_t>(n) : tensor.int32_data(n));
    case onnx::TensorProto::INT16:
      return whole(isRaw ? load<int16_t>(n) : tensor.int32_data(n));
    default:
      return whole(isRaw ? load<int32_t>(n) : tensor.int32_data(n));
    }
  }

private:
  static Scalar whole(int64_t value) { return Scalar::integer({value, 0}); }
  /// ONNX is little-endian, and so is every machine this runs on.
  template <typename T> T load(int64_t n) const {
    T value;
    std::memcpy(&value, raw + n * sizeof(T), sizeof(T));
    return value;
  }

  const onnx::TensorProto &tensor;
  int type;
  const char *raw;
  bool isRaw;
};
} // namespace

std::optional<Symbolic> Symbolic::fromTensor(const onnx::TensorProto &tensor) {
  std::optional<ElementType> type =
      importer::getElementType(tensor.data_type());
  std::optional<uint64_t> count = countElements(tensor.dims());
  TensorReader reader(tensor);
  if (!type || !count || !reader.holds(*count))
    return std::nullopt;
  Shape shape;
  for (int64_t dim : tensor.dims())
    shape.push_back({dim, 0});
  int64_t n = static_cast<int64_t>(*count);
  if (n <= maxDense) {
    std::vector<Scalar> elements(n);
    for (int64_t i = 0; i < n; ++i)
      elements[i] = reader.get(i);
    return dense(*type, std::move(shape), std::move(elements));
  }
  auto get = [&](int64_t i) { return reader.get(i); };
  if (size_t rank = shape.size(); rank >= 2)
    if (std::optional<TriangleSpot> spot = findTriangle(
            n, shape[rank - 2].constant, shape.back().constant, get))
      return triangle(*type, std::move(shape), get(spot->inside),
                      get(spot->outside), spot->offset);
  for (int64_t i = 1; i < n; ++i)
    if (!(get(i) == get(0)))
      return std::nullopt;
  return splat(*type, std::move(shape), get(0));
}

} // namespace tombolo::importer
