//===- Movement.cpp - copies, gathers, pads, fills ------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "NdLoop.h"
#include "ShardIndex.h"

#include <cstring>
#include <limits>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;

namespace {

template <typename T>
void copyStrided(const std::byte *from, std::int64_t fromStride, std::byte *to,
                 std::int64_t toStride, std::int64_t count) {
  const T *x = reinterpret_cast<const T *>(from);
  T *y = reinterpret_cast<T *>(to);
  if (fromStride == 0)
    for (std::int64_t i = 0; i < count; ++i)
      y[i * toStride] = *x;
  else
    for (std::int64_t i = 0; i < count; ++i)
      y[i * toStride] = x[i * fromStride];
}

class CopyKernel : public Kernel {
public:
  CopyKernel(const OpContext &context, const Tensor &from, const Tensor &to,
             bool accumulate)
      : from(from), to(to), loop(to.dims, {from.strides, to.strides}),
        threads(context.threads), add(context.loops->add),
        size(device::bytesOf(to.dtype)), accumulate(accumulate) {}

  void run(std::byte *const *bases) const override {
    const std::byte *x = from.address(bases);
    std::byte *y = to.address(bases);
    const std::int64_t fromStride = loop.innerStride(0);
    const std::int64_t toStride = loop.innerStride(1);
    loop.forPieces(threads, 16384, 16384,
                   [&](const std::int64_t *offsets, std::int64_t count) {
                     const std::byte *row = x + offsets[0] * size;
                     std::byte *target = y + offsets[1] * size;
                     if (accumulate)
                       addRow(row, fromStride, target, toStride, count);
                     else if (fromStride == 1 && toStride == 1)
                       std::memcpy(target, row, count * size);
                     else if (size == 4)
                       copyStrided<std::uint32_t>(row, fromStride, target,
                                                  toStride, count);
                     else if (size == 8)
                       copyStrided<std::uint64_t>(row, fromStride, target,
                                                  toStride, count);
                     else
                       copyStrided<std::uint8_t>(row, fromStride, target,
                                                 toStride, count);
                   });
  }

private:
  void addRow(const std::byte *x, std::int64_t fromStride, std::byte *y,
              std::int64_t toStride, std::int64_t count) const {
    if (fromStride == 1 && toStride == 1) {
      const void *rows[2] = {y, x};
      add(rows, y, count);
      return;
    }
    const float *source = reinterpret_cast<const float *>(x);
    float *target = reinterpret_cast<float *>(y);
    for (std::int64_t i = 0; i < count; ++i)
      target[i * toStride] += source[i * fromStride];
  }

  Tensor from, to;
  NdLoop loop;
  unsigned threads;
  RowFunction add;
  std::int64_t size;
  bool accumulate;
};

std::unique_ptr<Kernel> makeCopyOp(OpContext &context) {
  context.requireInputs(1, 1);
  context.requireOutputs(1, 1);
  return makeCopy(context, context.inputs[0], context.outputs[0],
                  context.accumulate);
}

class ZeroKernel : public Kernel {
public:
  explicit ZeroKernel(const Tensor &tensor) : tensor(tensor) {}
  void run(std::byte *const *bases) const override {
    std::size_t bytes = tensor.elements() * device::bytesOf(tensor.dtype);
    if (bytes)
      std::memset(tensor.address(bases), 0, bytes);
  }

private:
  Tensor tensor;
};

class Sequence : public Kernel {
public:
  void run(std::byte *const *bases) const override {
    for (const auto &step : steps)
      step->run(bases);
  }
  std::vector<std::unique_ptr<Kernel>> steps;
};

/// The part of `whole` of the dims `dims` that starts at `low`.
Tensor part(const Tensor &whole, const std::vector<std::int64_t> &low,
            const std::vector<std::int64_t> &dims) {
  Tensor result = whole;
  result.dims = dims;
  for (std::size_t i = 0; i < dims.size(); ++i)
    result.offset += low[i] * whole.strides[i] * device::bytesOf(whole.dtype);
  return result;
}

std::int64_t checkedAxis(const OpContext &context, std::size_t rank) {
  std::int64_t axis = context.integer("axis");
  context.require(axis >= 0 && axis < static_cast<std::int64_t>(rank),
                  "expected axis below ", rank, ", got ", axis);
  return axis;
}

std::unique_ptr<Kernel> makeConcat(OpContext &context) {
  context.requireInputs(1, std::numeric_limits<std::size_t>::max());
  context.requireOutputs(1, 1);
  const Tensor &y = context.outputs[0];
  std::int64_t axis = checkedAxis(context, y.rank());
  auto result = std::make_unique<Sequence>();
  std::vector<std::int64_t> low(y.rank(), 0);
  for (const Tensor &x : context.inputs) {
    std::vector<std::int64_t> expected = y.dims;
    context.require(x.rank() == y.rank(), "expected an input of ", y.rank(),
                    " dimensions, got ", describe(x));
    expected[axis] = x.dims[axis];
    context.requireDims(x, expected, "an input");
    context.require(x.dims[axis] <= y.dims[axis] - low[axis],
                    "the inputs are longer than the output ", describe(y));
    result->steps.push_back(
        makeCopy(context, x, part(y, low, x.dims), context.accumulate));
    low[axis] += x.dims[axis];
  }
  context.require(low[axis] == y.dims[axis], "the inputs' extents add up to ",
                  low[axis], ", the output is ", describe(y));
  return result;
}

std::unique_ptr<Kernel> makePad(OpContext &context) {
  context.requireInputs(1, 1);
  context.requireOutputs(1, 1);
  const Tensor &x = context.inputs[0], &y = context.outputs[0];
  std::vector<std::int64_t> low = context.integers("low");
  context.require(x.rank() == y.rank() && low.size() == y.rank(),
                  "expected input, output and 'low' of as many dimensions");
  context.requireType(x, y.dtype, "x");
  for (std::size_t i = 0; i < low.size(); ++i)
    context.require(low[i] >= 0 && low[i] <= y.dims[i] &&
                        x.dims[i] <= y.dims[i] - low[i],
                    "the input ", describe(x), " does not fit the output ",
                    describe(y), " at offset ", low[i], " of dimension ", i);
  auto result = std::make_unique<Sequence>();
  if (!context.accumulate)
    result->steps.push_back(std::make_unique<ZeroKernel>(y));
  result->steps.push_back(
      makeCopy(context, x, part(y, low, x.dims), context.accumulate));
  return result;
}

class FillKernel : public Kernel {
public:
  explicit FillKernel(OpContext &context)
      : y(context.outputs[0]), value(context.real("value")) {}

  void run(std::byte *const *bases) const override {
    std::int64_t count = y.elements();
    switch (y.dtype) {
    case plan::v1::DTYPE_F32:
      std::fill_n(y.at<float>(bases), count, static_cast<float>(value));
      break;
    case plan::v1::DTYPE_I32:
      std::fill_n(y.at<std::int32_t>(bases), count,
                  static_cast<std::int32_t>(value));
      break;
    case plan::v1::DTYPE_I64:
      std::fill_n(y.at<std::int64_t>(bases), count,
                  static_cast<std::int64_t>(value));
      break;
    default:
      std::fill_n(y.at<std::uint8_t>(bases), count, value != 0);
    }
  }

private:
  Tensor y;
  double value;
};

std::unique_ptr<Kernel> makeFill(OpContext &context) {
  context.requireInputs(0, 0);
  context.requireOutputs(1, 1);
  double value = context.real("value");
  DType dtype = context.outputs[0].dtype;
  if (dtype == plan::v1::DTYPE_I32 || dtype == plan::v1::DTYPE_I64)
    context.require(
        value >= (dtype == plan::v1::DTYPE_I32 ? -0x1p31 : -0x1p63) &&
            value < (dtype == plan::v1::DTYPE_I32 ? 0x1p31 : 0x1p63),
        "value ", value, " does not fit ", device::nameOf(dtype));
  return std::make_unique<FillKernel>(context);
}

/// The common shape of gather and its gradient: table [outer, n, inner] and
/// slices [outer, indices, inner], all row-major.
struct GatherShape {
  std::int64_t outer = 1, n = 0, count = 0, inner = 1;

  GatherShape(const OpContext &context, const Tensor &table,
              const Tensor &indices, const Tensor &slices)
      : count(indices.elements()) {
    std::int64_t axis = checkedAxis(context, table.rank());
    context.require(indices.dtype == plan::v1::DTYPE_I64 ||
                        indices.dtype == plan::v1::DTYPE_I32,
                    "expected indices of type i64 or i32, got ",
                    describe(indices));
    context.requireType(slices, table.dtype, "the slices");
    std::vector<std::int64_t> expected(table.dims.begin(),
                                       table.dims.begin() + axis);
    expected.insert(expected.end(), indices.dims.begin(), indices.dims.end());
    expected.insert(expected.end(), table.dims.begin() + axis + 1,
                    table.dims.end());
    context.requireDims(slices, expected, "the slices");
    n = table.dims[axis];
    for (std::int64_t i = 0; i < axis; ++i)
      outer *= table.dims[i];
    for (std::size_t i = axis + 1; i < table.rank(); ++i)
      inner *= table.dims[i];
  }
};

class GatherBase : public Kernel {
protected:
  GatherBase(const OpContext &context, const Tensor &table,
             const Tensor &indices, const Tensor &slices)
      : table(table), indices(indices), slices(slices), where(context.where),
        threads(context.threads), shape(context, table, indices, slices),
        shard(context, 2) {}

  std::int64_t indexAt(std::byte *const *bases, std::int64_t i) const {
    if (indices.dtype == plan::v1::DTYPE_I64)
      return indices.at<const std::int64_t>(bases)[i];
    return indices.at<const std::int32_t>(bases)[i];
  }

  /// Before anything is written. Returns the index of the table's first row.
  std::int64_t checkIndices(std::byte *const *bases) const {
    std::int64_t all = shape.n * shard.parts();
    for (std::int64_t i = 0; i < shape.count; ++i) {
      std::int64_t index = indexAt(bases, i);
      if (index < 0 || index >= all)
        throw Error(where, ": expected indices in [0, ", all, "), got ", index,
                    " at position ", i);
    }
    return shard.read(bases) * shape.n;
  }

  bool isHere(std::int64_t row) const { return row >= 0 && row < shape.n; }

  Tensor table, indices, slices;
  std::string where;
  unsigned threads;
  GatherShape shape;
  ShardIndex shard;
};

class GatherKernel : public GatherBase {
public:
  explicit GatherKernel(const OpContext &context)
      : GatherBase(context, context.inputs[0], context.inputs[1],
                   context.outputs[0]) {}

  void run(std::byte *const *bases) const override {
    const std::int64_t begin = checkIndices(bases);
    const std::int64_t bytes = shape.inner * device::bytesOf(table.dtype);
    const std::byte *from = table.address(bases);
    std::byte *to = slices.address(bases);
    parallelFor(
        threads, shape.outer * shape.count,
        65536 / std::max<std::int64_t>(bytes, 1),
        [&](std::int64_t first, std::int64_t last) {
          for (std::int64_t k = first; k < last; ++k) {
            std::int64_t outer = k / shape.count;
            std::int64_t row = indexAt(bases, k - outer * shape.count) - begin;
            if (isHere(row))
              std::memcpy(to + k * bytes,
                          from + (outer * shape.n + row) * bytes, bytes);
            else
              std::memset(to + k * bytes, 0, bytes);
          }
        });
  }
};

/// Adds in the order of the indices, so that equal indices give the same sum on
/// any number of threads.
class GatherBackwardKernel : public GatherBase {
public:
  explicit GatherBackwardKernel(const OpContext &context)
      : GatherBase(context, context.outputs[0], context.inputs[1],
                   context.inputs[0]),
        add(context.loops->add), accumulate(context.accumulate) {
    context.requireType(table, plan::v1::DTYPE_F32, "dtable");
  }

  void run(std::byte *const *bases) const override {
    const std::int64_t begin = checkIndices(bases);
    float *to = table.at<float>(bases);
    const float *from = slices.at<const float>(bases);
    if (!accumulate)
      std::fill_n(to, table.elements(), 0.0f);
    parallelFor(
        threads, shape.inner, 256, [&](std::int64_t first, std::int64_t last) {
          for (std::int64_t k = 0; k < shape.outer * shape.count; ++k) {
            std::int64_t outer = k / shape.count;
            std::int64_t index =
                indexAt(bases, k - outer * shape.count) - begin;
            if (!isHere(index))
              continue;
            float *row = to + (outer * shape.n + index) * shape.inner;
            const void *rows[2] = {row + first, from + k * shape.inner + first};
            add(rows, row + first, last - first);
          }
        });
  }

private:
  RowFunction add;
  bool accumulate;
};

template <typename T> std::unique_ptr<Kernel> makeGather(OpContext &context) {
  context.requireInputs(2, 3);
  context.requireOutputs(1, 1);
  return std::make_unique<T>(context);
}

/// One of the parts a tensor's first dimension counts.
class ShardKernel : public Kernel {
public:
  explicit ShardKernel(const OpContext &context)
      : x(context.inputs[0]), index(context.inputs[1]), y(context.outputs[0]),
        where(context.where) {}

  void run(std::byte *const *bases) const override {
    std::int64_t part = *index.at<const std::int64_t>(bases);
    if (part < 0 || part >= x.dims[0])
      throw Error(where, ": expected an index in [0, ", x.dims[0], "), got ",
                  part);
    auto bytes =
        y.elements() * static_cast<std::int64_t>(device::bytesOf(y.dtype));
    if (bytes)
      std::memcpy(y.address(bases), x.address(bases) + part * bytes,
                  static_cast<std::size_t>(bytes));
  }

private:
  Tensor x, index, y;
  std::string where;
};

std::unique_ptr<Kernel> makeShard(OpContext &context) {
  context.requireInputs(2, 2);
  context.requireOutputs(1, 1);
  const Tensor &x = context.inputs[0], &index = context.inputs[1];
  context.require(x.rank() >= 1, "expected x with a first axis");
  context.requireType(index, plan::v1::DTYPE_I64, "index");
  context.require(index.elements() == 1, "expected index of 1 element, got ",
                  describe(index));
  context.requireType(x, context.outputs[0].dtype, "x");
  context.requireDims(context.outputs[0], {x.dims.begin() + 1, x.dims.end()},
                      "y");
  return std::make_unique<ShardKernel>(context);
}

} // namespace

std::unique_ptr<Kernel> cpu::makeCopy(const OpContext &context,
                                      const Tensor &from, const Tensor &to,
                                      bool accumulate) {
  context.requireType(from, to.dtype, "x");
  context.requireDims(from, to.dims, "x");
  context.require(!accumulate || to.dtype == plan::v1::DTYPE_F32,
                  "only f32 outputs can accumulate");
  return std::make_unique<CopyKernel>(context, from, to, accumulate);
}

void cpu::addMovementKernels(KernelTable &table) {
  table.add(plan::v1::OPCODE_COPY,
            {makeCopyOp, Layout::Any, Layout::Any, KernelEntry::Itself});
  table.add(plan::v1::OPCODE_CONCAT,
            {makeConcat, Layout::Any, Layout::RowMajor, KernelEntry::Itself});
  table.add(plan::v1::OPCODE_PAD,
            {makePad, Layout::Any, Layout::RowMajor, KernelEntry::Itself});
  table.add(plan::v1::OPCODE_FILL, {makeFill});
  table.add(plan::v1::OPCODE_SHARD, {makeShard});
  table.add(plan::v1::OPCODE_GATHER, {makeGather<GatherKernel>});
  table.add(plan::v1::OPCODE_GATHER_BACKWARD,
            {makeGather<GatherBackwardKernel>, Layout::RowMajor,
             Layout::RowMajor, KernelEntry::Itself});
}
