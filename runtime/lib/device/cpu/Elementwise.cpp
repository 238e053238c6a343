//===- Elementwise.cpp - elementwise kernels ------------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "NdLoop.h"

#include <cstring>
#include <limits>
#include <type_traits>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::cpu;

namespace {

/// Elements staged at a time: the pieces of four operands stay in the first
/// level cache.
constexpr std::int64_t kStagedPiece = 1024;
constexpr std::int64_t kPlainPiece = 8192;
constexpr std::int64_t kGrain = 16384;
constexpr std::size_t kMaxInputs = 3;

/// Gathers a strided row, so that row functions see contiguous elements only.
void gatherRow(const std::byte *from, std::int64_t stride, std::int64_t count,
               std::uint64_t element, std::byte *to) {
  auto gather = [&]<typename T>(T) {
    const T *x = reinterpret_cast<const T *>(from);
    T *y = reinterpret_cast<T *>(to);
    if (stride == 0)
      std::fill_n(y, count, *x);
    else
      for (std::int64_t i = 0; i < count; ++i)
        y[i] = x[i * stride];
  };
  if (element == 4)
    gather(std::uint32_t());
  else if (element == 8)
    gather(std::uint64_t());
  else
    gather(std::uint8_t());
}

/// Any elementwise op: a row function under a loop nest. Inputs broadcast and
/// may have any strides; the output has the loop's dims.
class ElementwiseKernel : public Kernel {
public:
  ElementwiseKernel(OpContext &context, RowFunction function)
      : function(function), inputs(context.inputs), output(context.outputs[0]),
        loop(makeLoop(context)), threads(context.threads),
        addRow(context.loops->add), accumulate(context.accumulate) {
    context.require(inputs.size() <= kMaxInputs, "too many inputs");
    bool staged = accumulate || loop.innerStride(inputs.size()) != 1;
    for (std::size_t k = 0; k < inputs.size(); ++k)
      staged |= loop.innerStride(k) != 1;
    piece = staged ? kStagedPiece : kPlainPiece;
  }

  void run(std::byte *const *bases) const override {
    const std::size_t count = inputs.size();
    const std::byte *from[kMaxInputs];
    std::uint64_t sizes[kMaxInputs];
    for (std::size_t k = 0; k < count; ++k) {
      from[k] = inputs[k].address(bases);
      sizes[k] = device::bytesOf(inputs[k].dtype);
    }
    std::byte *to = output.address(bases);
    const std::uint64_t size = device::bytesOf(output.dtype);
    const std::int64_t outputStride = loop.innerStride(count);
    loop.forPieces(
        threads, piece, kGrain,
        [&](const std::int64_t *offsets, std::int64_t n) {
          alignas(64) std::byte stage[kMaxInputs + 1][kStagedPiece * 8];
          const void *rows[kMaxInputs];
          for (std::size_t k = 0; k < count; ++k) {
            const std::byte *row =
                from[k] + offsets[k] * static_cast<std::int64_t>(sizes[k]);
            std::int64_t stride = loop.innerStride(k);
            if (stride != 1) {
              gatherRow(row, stride, n, sizes[k], stage[k]);
              row = stage[k];
            }
            rows[k] = row;
          }
          std::byte *row =
              to + offsets[count] * static_cast<std::int64_t>(size);
          if (outputStride == 1 && !accumulate) {
            function(rows, row, n);
            return;
          }
          function(rows, stage[count], n);
          scatter(stage[count], row, outputStride, n, size);
        });
  }

private:
  NdLoop makeLoop(const OpContext &context) const {
    std::vector<std::vector<std::int64_t>> strides;
    for (const Tensor &input : inputs)
      strides.push_back(broadcastStrides(context, input, output.dims));
    strides.push_back(output.strides);
    return NdLoop(output.dims, strides);
  }

  void scatter(const std::byte *from, std::byte *to, std::int64_t stride,
               std::int64_t count, std::uint64_t size) const {
    if (accumulate && stride == 1) {
      const void *rows[2] = {to, from};
      addRow(rows, to, count);
      return;
    }
    for (std::int64_t i = 0; i < count; ++i) {
      if (accumulate)
        reinterpret_cast<float *>(to)[i * stride] +=
            reinterpret_cast<const float *>(from)[i];
      else
        std::memcpy(to + i * stride * static_cast<std::int64_t>(size),
                    from + i * size, size);
    }
  }

  RowFunction function;
  std::vector<Tensor> inputs;
  Tensor output;
  NdLoop loop;
  unsigned threads;
  RowFunction addRow;
  bool accumulate;
  std::int64_t piece;
};

std::unique_ptr<Kernel> make(OpContext &context, RowFunction function) {
  return std::make_unique<ElementwiseKernel>(context, function);
}

//===-- Integers, comparisons, selection, conversions -----------------------//

template <typename T, typename Op>
void scalarRow(const void *const *inputs, void *output, std::size_t count) {
  const T *x = static_cast<const T *>(inputs[0]);
  const T *y = static_cast<const T *>(inputs[1]);
  T *z = static_cast<T *>(output);
  for (std::size_t i = 0; i < count; ++i)
    z[i] = Op::apply(x[i], y[i]);
}

template <typename T> using Unsigned = std::make_unsigned_t<T>;

// Integer overflow wraps, as in the models' frameworks.
struct IntAdd {
  template <typename T> static T apply(T x, T y) {
    return static_cast<T>(Unsigned<T>(x) + Unsigned<T>(y));
  }
};
struct IntSub {
  template <typename T> static T apply(T x, T y) {
    return static_cast<T>(Unsigned<T>(x) - Unsigned<T>(y));
  }
};
struct IntMul {
  template <typename T> static T apply(T x, T y) {
    return static_cast<T>(Unsigned<T>(x) * Unsigned<T>(y));
  }
};
/// Truncates; a division by zero gives zero rather than a trap.
struct IntDiv {
  template <typename T> static T apply(T x, T y) {
    if (y == 0)
      return 0;
    return y == -1 ? static_cast<T>(-Unsigned<T>(x)) : static_cast<T>(x / y);
  }
};

template <typename T>
void negateRow(const void *const *inputs, void *output, std::size_t count) {
  const T *x = static_cast<const T *>(inputs[0]);
  for (std::size_t i = 0; i < count; ++i)
    static_cast<T *>(output)[i] = static_cast<T>(-Unsigned<T>(x[i]));
}

template <typename T>
void equalRow(const void *const *inputs, void *output, std::size_t count) {
  const T *x = static_cast<const T *>(inputs[0]);
  const T *y = static_cast<const T *>(inputs[1]);
  for (std::size_t i = 0; i < count; ++i)
    static_cast<std::uint8_t *>(output)[i] = x[i] == y[i];
}

template <typename T>
void lessRow(const void *const *inputs, void *output, std::size_t count) {
  const T *x = static_cast<const T *>(inputs[0]);
  const T *y = static_cast<const T *>(inputs[1]);
  for (std::size_t i = 0; i < count; ++i)
    static_cast<std::uint8_t *>(output)[i] = x[i] < y[i];
}

template <typename T>
void whereRow(const void *const *inputs, void *output, std::size_t count) {
  const auto *c = static_cast<const std::uint8_t *>(inputs[0]);
  const T *x = static_cast<const T *>(inputs[1]);
  const T *y = static_cast<const T *>(inputs[2]);
  for (std::size_t i = 0; i < count; ++i)
    static_cast<T *>(output)[i] = c[i] ? x[i] : y[i];
}

/// Float to integer saturates where C++ leaves the result open.
template <typename From, typename To> To convert(From x) {
  if constexpr (std::is_same_v<To, bool>)
    return x != From(0);
  else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    constexpr double limit = sizeof(To) == 8 ? 0x1p63 : 0x1p31;
    double value = x;
    if (value != value)
      return 0;
    if (value >= limit)
      return std::numeric_limits<To>::max();
    if (value < -limit)
      return std::numeric_limits<To>::min();
    return static_cast<To>(value);
  } else
    return static_cast<To>(x);
}

template <typename From, typename To>
void castRow(const void *const *inputs, void *output, std::size_t count) {
  const From *x = static_cast<const From *>(inputs[0]);
  for (std::size_t i = 0; i < count; ++i)
    static_cast<To *>(output)[i] = convert<From, To>(x[i]);
}

/// f(T()) with the C++ type of `dtype`; null for one without.
template <typename Function> RowFunction forType(DType dtype, Function f) {
  switch (dtype) {
  case plan::v1::DTYPE_F32:
    return f(float());
  case plan::v1::DTYPE_I32:
    return f(std::int32_t());
  case plan::v1::DTYPE_I64:
    return f(std::int64_t());
  case plan::v1::DTYPE_BOOL:
    return f(bool());
  default:
    return nullptr;
  }
}

std::unique_ptr<Kernel> makeCast(OpContext &context) {
  context.requireInputs(1, 1);
  context.requireOutputs(1, 1);
  context.requireDims(context.outputs[0], context.inputs[0].dims, "y");
  DType to = context.outputs[0].dtype;
  RowFunction function =
      forType(context.inputs[0].dtype, [&](auto from) -> RowFunction {
        return forType(to, [&](auto target) -> RowFunction {
          return castRow<decltype(from), decltype(target)>;
        });
      });
  return make(context, function);
}

//===-- Factories -----------------------------------------------------------//

template <typename Op> RowFunction integerFunction(DType dtype) {
  if (dtype == plan::v1::DTYPE_I32)
    return scalarRow<std::int32_t, Op>;
  if (dtype == plan::v1::DTYPE_I64)
    return scalarRow<std::int64_t, Op>;
  return nullptr;
}

/// Two inputs and an output of one type: f32 from the loops, or integers.
template <RowFunction Loops::*F32, typename IntOp>
std::unique_ptr<Kernel> makeBinary(OpContext &context) {
  context.requireInputs(2, 2);
  context.requireOutputs(1, 1);
  DType dtype = context.outputs[0].dtype;
  context.requireType(context.inputs[0], dtype, "x");
  context.requireType(context.inputs[1], dtype, "y");
  RowFunction function = nullptr;
  if (dtype == plan::v1::DTYPE_F32)
    function = context.loops->*F32;
  else if constexpr (!std::is_void_v<IntOp>)
    function = integerFunction<IntOp>(dtype);
  context.require(function, "does not compute ", device::nameOf(dtype));
  return make(context, function);
}

template <RowFunction Loops::*F32>
std::unique_ptr<Kernel> makeUnary(OpContext &context) {
  context.requireInputs(1, 1);
  context.requireOutputs(1, 1);
  context.requireType(context.inputs[0], plan::v1::DTYPE_F32, "x");
  context.requireType(context.outputs[0], plan::v1::DTYPE_F32, "y");
  context.requireDims(context.outputs[0], context.inputs[0].dims, "y");
  return make(context, context.loops->*F32);
}

std::unique_ptr<Kernel> makeNeg(OpContext &context) {
  context.requireInputs(1, 1);
  context.requireOutputs(1, 1);
  DType dtype = context.outputs[0].dtype;
  if (dtype != plan::v1::DTYPE_I32 && dtype != plan::v1::DTYPE_I64)
    return makeUnary<&Loops::neg>(context);
  context.requireType(context.inputs[0], dtype, "x");
  context.requireDims(context.outputs[0], context.inputs[0].dims, "y");
  return make(context, dtype == plan::v1::DTYPE_I32 ? negateRow<std::int32_t>
                                                    : negateRow<std::int64_t>);
}

/// dy and x of the output's shape.
template <RowFunction Loops::*F32>
std::unique_ptr<Kernel> makeBackward(OpContext &context) {
  context.requireInputs(2, 2);
  context.requireOutputs(1, 1);
  context.requireType(context.inputs[0], plan::v1::DTYPE_F32, "dy");
  context.requireType(context.inputs[1], plan::v1::DTYPE_F32, "x");
  context.requireType(context.outputs[0], plan::v1::DTYPE_F32, "dx");
  context.requireDims(context.inputs[0], context.outputs[0].dims, "dy");
  context.requireDims(context.inputs[1], context.outputs[0].dims, "x");
  return make(context, context.loops->*F32);
}

bool isTanhForm(const OpContext &context) {
  std::string approximate = context.text("approximate", "none");
  context.require(approximate == "none" || approximate == "tanh",
                  "expected attribute 'approximate' to be none or tanh, got '",
                  approximate, "'");
  return approximate == "tanh";
}

std::unique_ptr<Kernel> makeGelu(OpContext &context) {
  return isTanhForm(context) ? makeUnary<&Loops::geluTanh>(context)
                             : makeUnary<&Loops::gelu>(context);
}

std::unique_ptr<Kernel> makeGeluBackward(OpContext &context) {
  return isTanhForm(context) ? makeBackward<&Loops::geluTanhBackward>(context)
                             : makeBackward<&Loops::geluBackward>(context);
}

template <bool IsLess>
std::unique_ptr<Kernel> makeComparison(OpContext &context) {
  context.requireInputs(2, 2);
  context.requireOutputs(1, 1);
  context.requireType(context.outputs[0], plan::v1::DTYPE_BOOL, "z");
  context.requireType(context.inputs[1], context.inputs[0].dtype, "y");
  return make(context,
              forType(context.inputs[0].dtype, [](auto type) -> RowFunction {
                using T = decltype(type);
                return IsLess ? lessRow<T> : equalRow<T>;
              }));
}

std::unique_ptr<Kernel> makeWhere(OpContext &context) {
  context.requireInputs(3, 3);
  context.requireOutputs(1, 1);
  DType dtype = context.outputs[0].dtype;
  context.requireType(context.inputs[0], plan::v1::DTYPE_BOOL, "c");
  context.requireType(context.inputs[1], dtype, "x");
  context.requireType(context.inputs[2], dtype, "y");
  return make(context, forType(dtype, [](auto type) -> RowFunction {
                return whereRow<decltype(type)>;
              }));
}

} // namespace

void cpu::addElementwiseKernels(KernelTable &table) {
  auto add = [&](Opcode opcode, Factory factory, bool accumulates) {
    table.add(opcode, {factory, Layout::Any, Layout::Any,
                       accumulates ? KernelEntry::Itself : KernelEntry::Never});
  };
  add(plan::v1::OPCODE_ADD, makeBinary<&Loops::add, IntAdd>, true);
  add(plan::v1::OPCODE_SUB, makeBinary<&Loops::sub, IntSub>, true);
  add(plan::v1::OPCODE_MUL, makeBinary<&Loops::mul, IntMul>, true);
  add(plan::v1::OPCODE_DIV, makeBinary<&Loops::div, IntDiv>, true);
  add(plan::v1::OPCODE_POW, makeBinary<&Loops::pow, void>, true);
  add(plan::v1::OPCODE_NEG, makeNeg, true);
  add(plan::v1::OPCODE_EXP, makeUnary<&Loops::exp>, true);
  add(plan::v1::OPCODE_LOG, makeUnary<&Loops::log>, true);
  add(plan::v1::OPCODE_SQRT, makeUnary<&Loops::sqrt>, true);
  add(plan::v1::OPCODE_RECIPROCAL, makeUnary<&Loops::reciprocal>, true);
  add(plan::v1::OPCODE_TANH, makeUnary<&Loops::tanh>, true);
  add(plan::v1::OPCODE_ERF, makeUnary<&Loops::erf>, true);
  add(plan::v1::OPCODE_SIGMOID, makeUnary<&Loops::sigmoid>, true);
  add(plan::v1::OPCODE_RELU, makeUnary<&Loops::relu>, true);
  add(plan::v1::OPCODE_SOFTPLUS, makeUnary<&Loops::softplus>, true);
  add(plan::v1::OPCODE_RELU_BACKWARD, makeBackward<&Loops::reluBackward>,
      false);
  add(plan::v1::OPCODE_HARD_SWISH, makeUnary<&Loops::hardSwish>, true);
  add(plan::v1::OPCODE_HARD_SWISH_BACKWARD,
      makeBackward<&Loops::hardSwishBackward>, false);
  add(plan::v1::OPCODE_GELU, makeGelu, false);
  add(plan::v1::OPCODE_GELU_BACKWARD, makeGeluBackward, false);
  add(plan::v1::OPCODE_WHERE, makeWhere, false);
  add(plan::v1::OPCODE_EQUAL, makeComparison<false>, false);
  add(plan::v1::OPCODE_LESS, makeComparison<true>, false);
  add(plan::v1::OPCODE_CAST, makeCast, false);
}
