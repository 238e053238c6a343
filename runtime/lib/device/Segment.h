//===- Segment.h - a segment's values resolved and checked ------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What every device does first with a segment: each value becomes a Tensor with
// explicit strides whose every element is known to lie inside its argument,
// workspace or constant.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_SEGMENT_H
#define TOMBOLO_LIB_DEVICE_SEGMENT_H

#include "tombolo/schema/plan.pb.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace tombolo::runtime::device {

using plan::v1::DType;
using plan::v1::Opcode;

/// Bytes of one element; throws Error on a dtype that is none.
std::uint64_t bytesOf(DType dtype);
std::string nameOf(DType dtype);
/// "layer_norm"; "opcode 99" for one that is not known.
std::string nameOf(Opcode opcode);

/// A typed view. `base` is an index into the table of base addresses a run
/// builds: the arguments in order, then workspace, constants and scratch.
struct Tensor {
  DType dtype = plan::v1::DTYPE_F32;
  std::vector<std::int64_t> dims;
  std::vector<std::int64_t> strides; ///< in elements
  std::uint32_t base = 0;
  std::uint64_t offset = 0; ///< bytes from the base address

  std::size_t rank() const { return dims.size(); }
  std::int64_t elements() const;
  std::int64_t lastDim() const { return dims.empty() ? 1 : dims.back(); }
  /// elements() / lastDim(), also when the last dimension is 0.
  std::int64_t rows() const;
  /// Strides of dimensions of extent 1 do not matter.
  bool isRowMajor() const;
  bool isInnerContiguous() const;
  bool hasDims(const std::vector<std::int64_t> &expected) const {
    return dims == expected;
  }

  std::byte *address(std::byte *const *bases) const {
    return bases[base] + offset;
  }
  template <typename T> T *at(std::byte *const *bases) const {
    return reinterpret_cast<T *>(address(bases));
  }
};

std::vector<std::int64_t>
rowMajorStrides(const std::vector<std::int64_t> &dims);
/// "f32[4, 128]"
std::string describe(const Tensor &tensor);

/// Memory for constants and scratch, 64-byte aligned.
class AlignedBuffer {
public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::uint64_t bytes);
  std::byte *data() const { return memory.get(); }
  std::uint64_t size() const { return bytes; }

private:
  struct Free {
    void operator()(std::byte *pointer) const;
  };
  std::unique_ptr<std::byte[], Free> memory;
  std::uint64_t bytes = 0;
};

struct ResolvedSegment {
  std::string name;
  std::uint32_t arguments = 0;
  std::vector<Tensor> values;
  AlignedBuffer constants;

  std::uint32_t workspaceBase() const { return arguments; }
  std::uint32_t constantsBase() const { return arguments + 1; }
  std::uint32_t scratchBase() const { return arguments + 2; }
  std::uint32_t bases() const { return arguments + 3; }
};

/// Throws Error naming segment and value.
ResolvedSegment resolve(const plan::v1::Segment &segment);

} // namespace tombolo::runtime::device

#endif // TOMBOLO_LIB_DEVICE_SEGMENT_H
