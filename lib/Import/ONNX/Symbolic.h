//===- Symbolic.h - tensors known at import ---------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Exporters compute shapes, positions and masks in the graph. Their values
// follow from the dimensions of the inputs, where the batch size B is unknown.
// So an integer is a pair, constant + batch * B, and whole tensors have three
// forms, so that the mask of a long sequence is never written out:
//
//   Dense     every element;
//   Linear    base + sum of coefficient[d] * index[d]: splats, Range, and what
//             Unsqueeze and Expand make of them;
//   Triangle  `inside` where j <= i + offset for the last two indices i and j,
//             else `outside`: Trilu, the comparison of two Ranges, and every
//             elementwise function of such.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_IMPORT_ONNX_SYMBOLIC_H
#define TOMBOLO_LIB_IMPORT_ONNX_SYMBOLIC_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/SmallVector.h"

#include <bit>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace onnx {
class TensorProto;
}

namespace tombolo::importer {

/// An integer: constant + batch * B, where B is at least 1 and unknown.
struct Affine {
  int64_t constant = 0;
  int64_t batch = 0;

  bool isConstant() const { return batch == 0; }
  bool operator==(const Affine &) const = default;
};

/// All are nullopt on overflow, and where the result is not such an integer.
std::optional<Affine> add(Affine lhs, Affine rhs);
std::optional<Affine> sub(Affine lhs, Affine rhs);
std::optional<Affine> mul(Affine lhs, Affine rhs);
/// Exact for multiples of B; rounds to zero for constants, as ONNX does.
std::optional<Affine> div(Affine lhs, Affine rhs);
std::optional<Affine> product(llvm::ArrayRef<Affine> factors);
/// The sign of lhs - rhs, when it is the same for every B >= 1.
std::optional<int> compare(Affine lhs, Affine rhs);

/// The element types an exporter computes with.
enum class ElementType { F32, F64, F16, BF16, I64, I32, Other, Bool };

/// Nullopt for strings, complex numbers and types of later ONNX versions.
/// `Other`: integers that occur only between shape ops.
std::optional<ElementType> getElementType(int onnxType);
bool isFloat(ElementType type);

/// A float (as a double; rounded to its type after every operation), or an
/// integer or bool.
struct Scalar {
  int64_t bits = 0;
  int64_t batch = 0;

  static Scalar real(double value) {
    return {std::bit_cast<int64_t>(value), 0};
  }
  static Scalar integer(Affine value) { return {value.constant, value.batch}; }
  static Scalar boolean(bool value) { return {value, 0}; }
  double asReal() const { return std::bit_cast<double>(bits); }
  Affine asInteger() const { return {bits, batch}; }
  bool operator==(const Scalar &) const = default;
};

/// `value` rounded to a float type.
Scalar roundReal(ElementType type, double value);

using Shape = llvm::SmallVector<Affine, 4>;

/// Longer tensors are not written out: 2^22 elements are 64 MiB here, and what
/// is longer is a mask, which has a form of its own.
inline constexpr int64_t maxDense = int64_t{1} << 22;

/// The number of elements, or nullopt when it depends on B or is too large to
/// write out.
std::optional<int64_t> countDense(llvm::ArrayRef<Affine> shape);

/// A tensor known at import. Values are immutable once made, so that those of
/// the same elements share them.
class Symbolic {
public:
  enum class Form { Dense, Linear, Triangle };
  using Elements = std::shared_ptr<const std::vector<Scalar>>;

  /// Elements in row-major order. Recognises splats and triangles.
  static Symbolic dense(ElementType type, Shape shape, Elements elements);
  static Symbolic dense(ElementType type, Shape shape,
                        std::vector<Scalar> elements) {
    return dense(
        type, std::move(shape),
        std::make_shared<const std::vector<Scalar>>(std::move(elements)));
  }
  static Symbolic scalar(ElementType type, Scalar value) {
    return splat(type, {}, value);
  }
  static Symbolic splat(ElementType type, Shape shape, Scalar value);
  /// Integers only, unless all coefficients are 0.
  static Symbolic linear(ElementType type, Shape shape, Scalar base,
                         llvm::ArrayRef<int64_t> coefficients);
  static Symbolic triangle(ElementType type, Shape shape, Scalar inside,
                           Scalar outside, int64_t offset);
  /// A one-dimensional tensor of int64.
  static Symbolic vector(llvm::ArrayRef<Affine> values);
  /// Nullopt when the type, the size or the data are not usable. A mask is
  /// recognised without writing its elements out.
  static std::optional<Symbolic> fromTensor(const onnx::TensorProto &tensor);

  ElementType getType() const { return type; }
  llvm::ArrayRef<Affine> getShape() const { return shape; }
  size_t getRank() const { return shape.size(); }
  Form getForm() const { return form; }

  std::optional<Scalar> getSplat() const;
  /// Linear.
  llvm::ArrayRef<int64_t> getCoefficients() const { return coefficients; }
  Scalar getBase() const { return first; }
  /// Triangle.
  Scalar getInside() const { return first; }
  Scalar getOutside() const { return second; }
  int64_t getOffset() const { return offset; }
  /// Dense.
  llvm::ArrayRef<Scalar> getElements() const { return *elements; }

  /// The element at an index (of a constant shape).
  std::optional<Scalar> at(llvm::ArrayRef<int64_t> index) const;
  /// All elements, in row-major order; null: there are too many.
  Elements expand() const;
  /// The values of a tensor of integers with at most one dimension.
  std::optional<llvm::SmallVector<Affine>> asVector() const;
  /// The value of a tensor with one element.
  std::optional<Scalar> asScalar() const;

  /// The same values under another element type, each given by `convert`.
  std::optional<Symbolic>
  map(ElementType to,
      llvm::function_ref<std::optional<Scalar>(Scalar)> convert) const;

  // Movements of elements. Nullopt: not representable.
  std::optional<Symbolic> reshape(llvm::ArrayRef<Affine> to) const;
  std::optional<Symbolic> transpose(llvm::ArrayRef<int64_t> permutation) const;
  /// NumPy broadcasting to a shape.
  std::optional<Symbolic> broadcast(llvm::ArrayRef<Affine> to) const;
  /// `size` elements along an axis from `start` in steps of `step`.
  std::optional<Symbolic> slice(size_t axis, Affine start, Affine size,
                                int64_t step) const;
  /// For every element of the result, the index into this tensor.
  std::optional<Symbolic>
  rearrange(Shape to,
            llvm::function_ref<void(llvm::ArrayRef<int64_t> result,
                                    llvm::MutableArrayRef<int64_t> source)>
                indexMap) const;

private:
  Symbolic(ElementType type, Shape shape, Form form)
      : type(type), shape(std::move(shape)), form(form) {}

  ElementType type;
  Shape shape;
  Form form;
  Scalar first, second; // base; or inside and outside
  llvm::SmallVector<int64_t, 4> coefficients;
  int64_t offset = 0;
  Elements elements; // Dense
};

/// NumPy broadcasting of two shapes.
std::optional<Shape> broadcastShapes(llvm::ArrayRef<Affine> lhs,
                                     llvm::ArrayRef<Affine> rhs);

using ScalarFunction =
    llvm::function_ref<std::optional<Scalar>(llvm::ArrayRef<Scalar>)>;

/// An elementwise function with broadcasting, whose results are of type `to`.
std::optional<Symbolic> elementwise(llvm::ArrayRef<const Symbolic *> operands,
                                    ElementType to, ScalarFunction function);

} // namespace tombolo::importer

#endif // TOMBOLO_LIB_IMPORT_ONNX_SYMBOLIC_H
