//===- Kernel.h - what a kernel of the cpu device is ------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_KERNEL_H
#define TOMBOLO_LIB_DEVICE_CPU_KERNEL_H

#include "../Segment.h"
#include "simd/Loops.h"

#include "tombolo/runtime/Error.h"

#include <optional>

namespace tombolo::runtime::cpu {

using device::DType;
using device::Opcode;
using device::Tensor;

/// One op, prepared. `bases` as in `Tensor::base`.
class Kernel {
public:
  virtual ~Kernel() = default;
  virtual void run(std::byte *const *bases) const = 0;
};

/// An op while its kernel is made: operands, attributes and where to complain.
class OpContext {
public:
  std::string where; ///< "segment 's', op 3 (matmul)"
  Opcode opcode;
  const plan::v1::Op *op;
  std::vector<Tensor> inputs, outputs;
  bool accumulate = false;
  const Loops *loops;
  unsigned threads = 1;
  std::uint32_t scratchBase = 0;
  /// Bytes of scratch this op has reserved so far. Kernels run one after the
  /// other, so the device needs the largest, not the sum.
  std::uint64_t scratchBytes = 0;

  template <typename... Parts>
  [[noreturn]] void fail(const Parts &...parts) const {
    throw Error(where, ": ", parts...);
  }
  /// Fails with the parts as the message unless `holds`.
  template <typename... Parts>
  void require(bool holds, const Parts &...parts) const {
    if (!holds)
      fail(parts...);
  }
  void requireInputs(std::size_t least, std::size_t most) const;
  void requireOutputs(std::size_t least, std::size_t most) const;
  void requireType(const Tensor &tensor, DType dtype, const char *name) const;
  void requireDims(const Tensor &tensor, const std::vector<std::int64_t> &dims,
                   const char *name) const;
  /// f32, row-major and of these dims.
  void requirePlain(const Tensor &tensor, const std::vector<std::int64_t> &dims,
                    const char *name) const;

  std::int64_t integer(const char *name) const;
  std::optional<std::int64_t> optionalInteger(const char *name) const;
  double real(const char *name) const;
  double real(const char *name, double absent) const;
  bool flag(const char *name) const; ///< absent: false
  std::string text(const char *name, const char *absent) const;
  std::vector<std::int64_t> integers(const char *name) const;

  /// A row-major tensor in scratch.
  Tensor reserve(DType dtype, const std::vector<std::int64_t> &dims);
  /// Offset of `bytes` of scratch, 64-byte aligned.
  std::uint64_t reserveBytes(std::uint64_t bytes);

private:
  const plan::v1::Attribute *find(const char *name) const;
};

using Factory = std::unique_ptr<Kernel> (*)(OpContext &);

/// What a kernel asks of its operands; what it does not take, the device copies
/// through scratch around it.
enum class Layout {
  Any,             ///< any strides
  InnerContiguous, ///< the last dimension's stride is 1
  RowMajor,
};

struct KernelEntry {
  Factory make = nullptr;
  Layout inputs = Layout::RowMajor;
  Layout outputs = Layout::RowMajor;
  /// Whether the op may accumulate (docs/PlanFormat.md, ⊕), and whether the
  /// kernel does so itself.
  enum { Never, ThroughScratch, Itself } accumulates = Never;
};

/// Opcode → kernel.
class KernelTable {
public:
  void add(Opcode opcode, KernelEntry entry);
  const KernelEntry *find(Opcode opcode) const;

private:
  std::vector<KernelEntry> entries;
};

// The families; each file registers its own.
void addElementwiseKernels(KernelTable &table);
void addMovementKernels(KernelTable &table);
void addReductionKernels(KernelTable &table);
void addNormKernels(KernelTable &table);
void addConvolutionKernels(KernelTable &table);
void addSoftmaxKernels(KernelTable &table);
void addMatmulKernels(KernelTable &table);
void addAttentionKernels(KernelTable &table);
void addOptimizerKernels(KernelTable &table);
void addDropoutKernel(KernelTable &table);

const KernelTable &kernelTable();

/// The kernel of `context`, with copies through scratch around it where its
/// operands' layouts or `accumulate` need them.
std::unique_ptr<Kernel> makeKernel(OpContext &context);

/// y = x, or y += x (f32): shapes equal, any strides, any dtype (both the
/// same).
std::unique_ptr<Kernel> makeCopy(const OpContext &context, const Tensor &from,
                                 const Tensor &to, bool accumulate);

} // namespace tombolo::runtime::cpu

#endif // TOMBOLO_LIB_DEVICE_CPU_KERNEL_H
