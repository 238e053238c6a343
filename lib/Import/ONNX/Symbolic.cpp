//===- Symbolic.cpp - tensors known at import -----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Symbolic.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

namespace tombolo::importer {

//===----------------------------------------------------------------------===//
// Integers
//===----------------------------------------------------------------------===//

std::optional<Affine> add(Affine lhs, Affine rhs) {
  Affine sum;
  if (llvm::AddOverflow(lhs.constant, rhs.constant, sum.constant) ||
      llvm::AddOverflow(lhs.batch, rhs.batch, sum.batch))
    return std::nullopt;
  return sum;
}

std::optional<Affine> sub(Affine lhs, Affine rhs) {
  Affine difference;
  if (llvm::SubOverflow(lhs.constant, rhs.constant, difference.constant) ||
      llvm::SubOverflow(lhs.batch, rhs.batch, difference.batch))
    return std::nullopt;
  return difference;
}

std::optional<Affine> mul(Affine lhs, Affine rhs) {
  if (!lhs.isConstant())
    std::swap(lhs, rhs);
  if (!lhs.isConstant())
    return std::nullopt;
  Affine product;
  if (llvm::MulOverflow(lhs.constant, rhs.constant, product.constant) ||
      llvm::MulOverflow(lhs.constant, rhs.batch, product.batch))
    return std::nullopt;
  return product;
}

std::optional<Affine> div(Affine lhs, Affine rhs) {
  auto isMin = [](int64_t value) {
    return value == std::numeric_limits<int64_t>::min();
  };
  if (isMin(lhs.constant) || isMin(lhs.batch))
    return std::nullopt;
  if (rhs.isConstant()) {
    if (rhs.constant == 0)
      return std::nullopt;
    if (lhs.isConstant())
      return Affine{lhs.constant / rhs.constant, 0};
    if (lhs.constant % rhs.constant || lhs.batch % rhs.constant)
      return std::nullopt;
    return Affine{lhs.constant / rhs.constant, lhs.batch / rhs.constant};
  }
  // (q * (c + m B)) / (c + m B)
  if (lhs.batch % rhs.batch)
    return std::nullopt;
  Affine quotient{lhs.batch / rhs.batch, 0};
  if (mul(quotient, rhs) != lhs)
    return std::nullopt;
  return quotient;
}

std::optional<int> compare(Affine lhs, Affine rhs) {
  std::optional<Affine> d = sub(lhs, rhs);
  if (!d)
    return std::nullopt;
  auto sign = [](int64_t value) { return (value > 0) - (value < 0); };
  if (d->batch == 0)
    return sign(d->constant);
  // Monotone in B: the same sign at 1 and far away is the sign everywhere.
  int64_t atOne;
  if (llvm::AddOverflow(d->constant, d->batch, atOne) ||
      sign(atOne) != sign(d->batch))
    return std::nullopt;
  return sign(d->batch);
}

std::optional<Affine> product(llvm::ArrayRef<Affine> factors) {
  Affine result{1, 0};
  for (Affine factor : factors) {
    std::optional<Affine> next = mul(result, factor);
    if (!next)
      return std::nullopt;
    result = *next;
  }
  return result;
}

//===----------------------------------------------------------------------===//
// Scalars and shapes
//===----------------------------------------------------------------------===//

bool isFloat(ElementType type) {
  return type == ElementType::F32 || type == ElementType::F64 ||
         type == ElementType::F16 || type == ElementType::BF16;
}

Scalar roundReal(ElementType type, double value) {
  if (type == ElementType::F32)
    value = static_cast<float>(value);
  // Nothing computes in 16 bits before specialization: f16 and bf16 constants
  // are taken as they are written.
  return Scalar::real(value);
}

std::optional<int64_t> countDense(llvm::ArrayRef<Affine> shape) {
  int64_t count = 1;
  for (Affine dim : shape)
    if (!dim.isConstant() || dim.constant < 0 ||
        llvm::MulOverflow(count, dim.constant, count) || count > maxDense)
      return std::nullopt;
  return count;
}

std::optional<Shape> broadcastShapes(llvm::ArrayRef<Affine> lhs,
                                     llvm::ArrayRef<Affine> rhs) {
  if (lhs.size() < rhs.size())
    std::swap(lhs, rhs);
  Shape result(lhs);
  for (size_t i = 0; i < rhs.size(); ++i) {
    Affine &out = result[lhs.size() - rhs.size() + i];
    if (out == rhs[i] || rhs[i] == Affine{1, 0})
      continue;
    if (out != Affine{1, 0})
      return std::nullopt;
    out = rhs[i];
  }
  return result;
}

/// Calls `visit` with every index of a constant shape, in row-major order,
/// until it returns false.
static bool
forEachIndex(llvm::ArrayRef<Affine> shape,
             llvm::function_ref<bool(llvm::ArrayRef<int64_t>)> visit) {
  llvm::SmallVector<int64_t> index(shape.size(), 0);
  for (Affine dim : shape)
    if (dim.constant == 0)
      return true;
  while (true) {
    if (!visit(index))
      return false;
    size_t d = shape.size();
    while (d > 0 && ++index[d - 1] == shape[d - 1].constant)
      index[--d] = 0;
    if (d == 0)
      return true;
  }
}

//===----------------------------------------------------------------------===//
// Making values
//===----------------------------------------------------------------------===//

Symbolic Symbolic::splat(ElementType type, Shape shape, Scalar value) {
  llvm::SmallVector<int64_t, 4> zeros(shape.size(), 0);
  return linear(type, std::move(shape), value, zeros);
}

Symbolic Symbolic::linear(ElementType type, Shape shape, Scalar base,
                          llvm::ArrayRef<int64_t> coefficients) {
  Symbolic result(type, std::move(shape), Form::Linear);
  result.first = base;
  result.coefficients.assign(coefficients.begin(), coefficients.end());
  // The index of a dimension of size 1 is 0.
  for (size_t d = 0; d < result.shape.size(); ++d)
    if (result.shape[d] == Affine{1, 0})
      result.coefficients[d] = 0;
  return result;
}

Symbolic Symbolic::triangle(ElementType type, Shape shape, Scalar inside,
                            Scalar outside, int64_t offset) {
  if (inside == outside)
    return splat(type, std::move(shape), inside);
  Symbolic result(type, std::move(shape), Form::Triangle);
  result.first = inside;
  result.second = outside;
  result.offset = offset;
  return result;
}

Symbolic Symbolic::vector(llvm::ArrayRef<Affine> values) {
  std::vector<Scalar> elements;
  for (Affine value : values)
    elements.push_back(Scalar::integer(value));
  return dense(ElementType::I64, {{static_cast<int64_t>(values.size()), 0}},
               std::move(elements));
}

//===----------------------------------------------------------------------===//
// Looking at values
//===----------------------------------------------------------------------===//

std::optional<Scalar> Symbolic::getSplat() const {
  if (form == Form::Linear &&
      llvm::all_of(coefficients, [](int64_t c) { return c == 0; }))
    return first;
  return std::nullopt;
}

std::optional<Scalar> Symbolic::at(llvm::ArrayRef<int64_t> index) const {
  switch (form) {
  case Form::Dense: {
    int64_t n = 0;
    for (size_t d = 0; d < shape.size(); ++d)
      n = n * shape[d].constant + index[d];
    return (*elements)[n];
  }
  case Form::Linear: {
    if (isFloat(type))
      return first;
    Affine value = first.asInteger();
    for (size_t d = 0; d < shape.size(); ++d) {
      int64_t step;
      if (llvm::MulOverflow(coefficients[d], index[d], step) ||
          llvm::AddOverflow(value.constant, step, value.constant))
        return std::nullopt;
    }
    return Scalar::integer(value);
  }
  case Form::Triangle: {
    size_t rank = shape.size();
    return index[rank - 1] <= index[rank - 2] + offset ? first : second;
  }
  }
  return std::nullopt;
}

Symbolic::Elements Symbolic::expand() const {
  if (form == Form::Dense)
    return elements;
  std::optional<int64_t> count = countDense(shape);
  if (!count)
    return nullptr;
  std::vector<Scalar> all;
  all.reserve(*count);
  if (!forEachIndex(shape, [&](llvm::ArrayRef<int64_t> index) {
        std::optional<Scalar> value = at(index);
        if (value)
          all.push_back(*value);
        return value.has_value();
      }))
    return nullptr;
  return std::make_shared<const std::vector<Scalar>>(std::move(all));
}

std::optional<llvm::SmallVector<Affine>> Symbolic::asVector() const {
  if (isFloat(type) || shape.size() > 1)
    return std::nullopt;
  Elements all = expand();
  if (!all)
    return std::nullopt;
  llvm::SmallVector<Affine> values;
  for (Scalar value : *all)
    values.push_back(value.asInteger());
  return values;
}

std::optional<Scalar> Symbolic::asScalar() const {
  if (countDense(shape) != 1)
    return std::nullopt;
  return at(llvm::SmallVector<int64_t>(shape.size(), 0));
}

std::optional<Symbolic>
Symbolic::map(ElementType to,
              llvm::function_ref<std::optional<Scalar>(Scalar)> convert) const {
  // Tables of positions have many elements.
  if (form == Form::Dense) {
    std::vector<Scalar> all;
    all.reserve(getElements().size());
    for (Scalar element : getElements()) {
      std::optional<Scalar> value = convert(element);
      if (!value)
        return std::nullopt;
      all.push_back(*value);
    }
    return dense(to, Shape(shape), std::move(all));
  }
  return elementwise({this}, to, [&](llvm::ArrayRef<Scalar> values) {
    return convert(values[0]);
  });
}

//===----------------------------------------------------------------------===//
// Moving elements
//===----------------------------------------------------------------------===//

std::optional<Symbolic>
Symbolic::rearrange(Shape to,
                    llvm::function_ref<void(llvm::ArrayRef<int64_t>,
                                            llvm::MutableArrayRef<int64_t>)>
                        indexMap) const {
  std::optional<int64_t> count = countDense(to);
  if (!count || !llvm::all_of(shape, [](Affine d) { return d.isConstant(); }))
    return std::nullopt;
  std::vector<Scalar> all;
  all.reserve(*count);
  llvm::SmallVector<int64_t> source(shape.size(), 0);
  if (!forEachIndex(to, [&](llvm::ArrayRef<int64_t> index) {
        indexMap(index, source);
        std::optional<Scalar> value = at(source);
        if (value)
          all.push_back(*value);
        return value.has_value();
      }))
    return std::nullopt;
  return dense(type, std::move(to), std::move(all));
}

/// The dimensions that are not 1.
static Shape squeeze(llvm::ArrayRef<Affine> shape) {
  Shape result;
  for (Affine dim : shape)
    if (dim != Affine{1, 0})
      result.push_back(dim);
  return result;
}

std::optional<Symbolic> Symbolic::reshape(llvm::ArrayRef<Affine> to) const {
  if (std::optional<Scalar> value = getSplat())
    return splat(type, Shape(to), *value);
  // Dimensions of 1 that come and go keep the form.
  if (form == Form::Linear && squeeze(shape) == squeeze(to)) {
    llvm::SmallVector<int64_t, 4> moved;
    size_t from = 0;
    for (Affine dim : to) {
      if (dim == Affine{1, 0}) {
        moved.push_back(0);
        continue;
      }
      while (shape[from] == Affine{1, 0})
        ++from;
      moved.push_back(coefficients[from++]);
    }
    return linear(type, Shape(to), first, moved);
  }
  if (form == Form::Triangle && to.size() >= 2 &&
      to.take_back(2) == llvm::ArrayRef(shape).take_back(2) &&
      squeeze(to) == squeeze(shape))
    return triangle(type, Shape(to), first, second, offset);
  Elements all = expand();
  std::optional<int64_t> count = countDense(to);
  if (!all || !count || *count != static_cast<int64_t>(all->size()))
    return std::nullopt;
  return dense(type, Shape(to), std::move(all));
}

std::optional<Symbolic>
Symbolic::transpose(llvm::ArrayRef<int64_t> permutation) const {
  Shape to;
  for (int64_t d : permutation)
    to.push_back(shape[d]);
  size_t rank = shape.size();
  if (form == Form::Linear) {
    llvm::SmallVector<int64_t, 4> moved;
    for (int64_t d : permutation)
      moved.push_back(coefficients[d]);
    return linear(type, std::move(to), first, moved);
  }
  if (form == Form::Triangle) {
    int64_t i = permutation[rank - 2], j = permutation[rank - 1];
    int64_t last = static_cast<int64_t>(rank) - 1;
    if (i == last - 1 && j == last)
      return triangle(type, std::move(to), first, second, offset);
    // j <= i + o becomes i <= j + o, which is not (j <= i - o - 1).
    if (i == last && j == last - 1)
      return triangle(type, std::move(to), second, first, -offset - 1);
  }
  return rearrange(std::move(to), [&](llvm::ArrayRef<int64_t> result,
                                      llvm::MutableArrayRef<int64_t> source) {
    for (size_t d = 0; d < rank; ++d)
      source[permutation[d]] = result[d];
  });
}

std::optional<Symbolic> Symbolic::broadcast(llvm::ArrayRef<Affine> to) const {
  std::optional<Shape> common = broadcastShapes(shape, to);
  if (!common || *common != Shape(to))
    return std::nullopt;
  size_t skip = to.size() - shape.size();
  if (form == Form::Linear) {
    llvm::SmallVector<int64_t, 4> moved(skip, 0);
    moved.append(coefficients);
    return linear(type, Shape(to), first, moved);
  }
  if (form == Form::Triangle &&
      to.take_back(2) == llvm::ArrayRef(shape).take_back(2))
    return triangle(type, Shape(to), first, second, offset);
  return rearrange(Shape(to), [&](llvm::ArrayRef<int64_t> result,
                                  llvm::MutableArrayRef<int64_t> source) {
    for (size_t d = 0; d < shape.size(); ++d)
      source[d] = shape[d] == Affine{1, 0} ? 0 : result[skip + d];
  });
}

std::optional<Symbolic> Symbolic::slice(size_t axis, Affine start, Affine size,
                                        int64_t step) const {
  Shape to = shape;
  to[axis] = size;
  if (std::optional<Scalar> value = getSplat())
    return splat(type, std::move(to), *value);
  if (!start.isConstant())
    return std::nullopt;
  if (form == Form::Linear) {
    Affine base = first.asInteger();
    std::optional<Affine> skipped =
        mul({coefficients[axis], 0}, {start.constant, 0});
    std::optional<Affine> moved = skipped ? add(base, *skipped) : std::nullopt;
    llvm::SmallVector<int64_t, 4> scaled(coefficients);
    if (!moved || llvm::MulOverflow(scaled[axis], step, scaled[axis]))
      return std::nullopt;
    return linear(type, std::move(to), Scalar::integer(*moved), scaled);
  }
  size_t rank = shape.size();
  if (form == Form::Triangle && step == 1) {
    if (axis + 2 < rank)
      return triangle(type, std::move(to), first, second, offset);
    // j' + start <= i + o, or j <= i' + start + o.
    int64_t moved =
        axis + 1 == rank ? offset - start.constant : offset + start.constant;
    return triangle(type, std::move(to), first, second, moved);
  }
  return rearrange(std::move(to), [&](llvm::ArrayRef<int64_t> result,
                                      llvm::MutableArrayRef<int64_t> source) {
    llvm::copy(result, source.begin());
    source[axis] = start.constant + result[axis] * step;
  });
}

//===----------------------------------------------------------------------===//
// Elementwise functions
//===----------------------------------------------------------------------===//

std::optional<Symbolic> elementwise(llvm::ArrayRef<const Symbolic *> operands,
                                    ElementType to, ScalarFunction function) {
  Shape shape(operands[0]->getShape());
  for (const Symbolic *operand : operands.drop_front()) {
    std::optional<Shape> common = broadcastShapes(shape, operand->getShape());
    if (!common)
      return std::nullopt;
    shape = *common;
  }

  // Splats, and triangles of one offset, need the function once per value.
  const Symbolic *triangle = nullptr;
  bool regular = true;
  for (const Symbolic *operand : operands) {
    if (operand->getForm() == Symbolic::Form::Triangle) {
      llvm::ArrayRef<Affine> dims = operand->getShape();
      regular &= dims.take_back(2) == llvm::ArrayRef(shape).take_back(2) &&
                 (!triangle || triangle->getOffset() == operand->getOffset());
      triangle = operand;
    } else {
      regular &= operand->getSplat().has_value();
    }
  }
  if (regular) {
    llvm::SmallVector<Scalar> inside, outside;
    for (const Symbolic *operand : operands) {
      bool isTriangle = operand->getForm() == Symbolic::Form::Triangle;
      inside.push_back(operand->getInside());
      outside.push_back(isTriangle ? operand->getOutside()
                                   : operand->getBase());
    }
    std::optional<Scalar> in = function(inside);
    if (!in)
      return std::nullopt;
    if (!triangle)
      return Symbolic::splat(to, std::move(shape), *in);
    std::optional<Scalar> out = function(outside);
    if (!out)
      return std::nullopt;
    return Symbolic::triangle(to, std::move(shape), *in, *out,
                              triangle->getOffset());
  }

  std::optional<int64_t> count = countDense(shape);
  if (!count)
    return std::nullopt;
  std::vector<Scalar> all;
  all.reserve(*count);
  llvm::SmallVector<Scalar> values(operands.size());
  llvm::SmallVector<int64_t> index;
  // Elements that are written out are found by strides: tables of positions
  // have many.
  std::vector<llvm::SmallVector<int64_t>> strides(operands.size());
  for (auto [operand, own] : llvm::zip(operands, strides)) {
    if (operand->getForm() != Symbolic::Form::Dense)
      continue;
    llvm::ArrayRef<Affine> dims = operand->getShape();
    own.assign(shape.size(), 0);
    int64_t stride = 1;
    for (size_t d = dims.size(); d-- > 0; stride *= dims[d].constant)
      if (!(dims[d] == Affine{1, 0}))
        own[shape.size() - dims.size() + d] = stride;
  }
  if (!forEachIndex(shape, [&](llvm::ArrayRef<int64_t> result) {
        for (auto [operand, own, value] :
             llvm::zip(operands, strides, values)) {
          if (operand->getForm() == Symbolic::Form::Dense) {
            int64_t place = 0;
            for (size_t d = 0; d < own.size(); ++d)
              place += own[d] * result[d];
            value = operand->getElements()[place];
            continue;
          }
          llvm::ArrayRef<Affine> dims = operand->getShape();
          index.assign(result.end() - dims.size(), result.end());
          for (size_t d = 0; d < dims.size(); ++d)
            if (dims[d] == Affine{1, 0})
              index[d] = 0;
          std::optional<Scalar> element = operand->at(index);
          if (!element)
            return false;
          value = *element;
        }
        std::optional<Scalar> value = function(values);
        if (value)
          all.push_back(*value);
        return value.has_value();
      }))
    return std::nullopt;
  return Symbolic::dense(to, std::move(shape), std::move(all));
}

} // namespace tombolo::importer
