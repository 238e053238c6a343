//===- Segment.cpp - a segment's values resolved and checked --------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Segment.h"

#include "tombolo/runtime/Error.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <new>
#include <sstream>

using namespace tombolo;
using namespace tombolo::runtime;
using namespace tombolo::runtime::device;

std::uint64_t device::bytesOf(DType dtype) {
  switch (dtype) {
  case plan::v1::DTYPE_F32:
  case plan::v1::DTYPE_I32:
    return 4;
  case plan::v1::DTYPE_BF16:
    return 2;
  case plan::v1::DTYPE_I64:
    return 8;
  case plan::v1::DTYPE_BOOL:
    return 1;
  default:
    throw Error("expected a dtype, got number ", static_cast<int>(dtype));
  }
}

static std::string lowerTail(const std::string &name, std::size_t prefix) {
  std::string text = name.substr(prefix);
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return text;
}

std::string device::nameOf(DType dtype) {
  if (!plan::v1::DType_IsValid(dtype))
    return "dtype " + std::to_string(static_cast<int>(dtype));
  return lowerTail(plan::v1::DType_Name(dtype), std::strlen("DTYPE_"));
}

std::string device::nameOf(Opcode opcode) {
  if (!plan::v1::Opcode_IsValid(opcode))
    return "opcode " + std::to_string(static_cast<int>(opcode));
  return lowerTail(plan::v1::Opcode_Name(opcode), std::strlen("OPCODE_"));
}

std::int64_t Tensor::elements() const {
  std::int64_t product = 1;
  for (std::int64_t dim : dims)
    product *= dim;
  return product;
}

std::int64_t Tensor::rows() const {
  std::int64_t product = 1;
  for (std::size_t i = 0; i + 1 < dims.size(); ++i)
    product *= dims[i];
  return product;
}

bool Tensor::isRowMajor() const {
  std::int64_t expected = 1;
  for (std::size_t i = dims.size(); i-- > 0;) {
    if (dims[i] == 0)
      return true;
    if (dims[i] != 1 && strides[i] != expected)
      return false;
    expected *= dims[i];
  }
  return true;
}

bool Tensor::isInnerContiguous() const {
  return dims.empty() || dims.back() <= 1 || strides.back() == 1;
}

std::vector<std::int64_t>
device::rowMajorStrides(const std::vector<std::int64_t> &dims) {
  std::vector<std::int64_t> strides(dims.size());
  std::int64_t stride = 1;
  for (std::size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= dims[i];
  }
  return strides;
}

std::string device::describe(const Tensor &tensor) {
  std::ostringstream text;
  text << nameOf(tensor.dtype) << '[';
  for (std::size_t i = 0; i < tensor.dims.size(); ++i)
    text << (i ? ", " : "") << tensor.dims[i];
  text << ']';
  return text.str();
}

AlignedBuffer::AlignedBuffer(std::uint64_t bytes) : bytes(bytes) {
  if (!bytes)
    return;
  void *pointer = ::operator new[](bytes, std::align_val_t(64), std::nothrow);
  if (!pointer)
    throw Error(Status::Failed, "out of memory: ", bytes,
                " bytes of kernel scratch");
  memory.reset(static_cast<std::byte *>(pointer));
}

void AlignedBuffer::Free::operator()(std::byte *pointer) const {
  ::operator delete[](pointer, std::align_val_t(64));
}

namespace {

/// Far above any real tensor, far below overflow of a sum of a few of them.
constexpr std::uint64_t kMaxBytes = std::uint64_t(1) << 56;

struct ValueChecker {
  std::string where;

  template <typename... Parts> [[noreturn]] void fail(const Parts &...parts) {
    throw Error(where, ": ", parts...);
  }

  std::uint64_t bounded(std::uint64_t a, std::uint64_t b) {
    std::uint64_t product;
    if (__builtin_mul_overflow(a, b, &product) || product > kMaxBytes)
      fail("the size overflows");
    return product;
  }

  /// Bytes from the first element to the end of the last one, 0 if empty.
  std::uint64_t extent(const plan::v1::Value &value, std::uint64_t element) {
    std::uint64_t last = 0, count = 1;
    for (int i = 0; i < value.dims_size(); ++i) {
      // Zero dims make the product zero but must not hide a huge one.
      bounded(value.dims(i), element);
      count = bounded(count, value.dims(i));
    }
    bounded(count, element);
    if (!count)
      return 0;
    if (!value.strides_size())
      return count * element;
    for (int i = 0; i < value.dims_size(); ++i) {
      last += bounded(value.dims(i) - 1, value.strides(i));
      if (last > kMaxBytes)
        fail("the size overflows");
    }
    return bounded(last + 1, element);
  }
};

} // namespace

ResolvedSegment device::resolve(const plan::v1::Segment &segment) {
  ResolvedSegment result;
  result.name = segment.name();
  result.arguments = segment.arguments_size();
  std::uint64_t constantBytes = 0;
  std::vector<std::uint64_t> constantOffsets;
  for (int i = 0; i < segment.values_size(); ++i) {
    const plan::v1::Value &value = segment.values(i);
    ValueChecker check{"segment '" + segment.name() + "', value " +
                       std::to_string(i)};
    if (!plan::v1::DType_IsValid(value.dtype()) ||
        value.dtype() == plan::v1::DTYPE_UNSPECIFIED)
      check.fail("expected a dtype, got number ",
                 static_cast<int>(value.dtype()));
    std::uint64_t element = bytesOf(value.dtype());
    if (value.dims_size() > 16)
      check.fail("expected at most 16 dimensions, got ", value.dims_size());
    if (value.strides_size() && value.strides_size() != value.dims_size())
      check.fail("expected ", value.dims_size(), " strides, got ",
                 value.strides_size());
    std::uint64_t extent = check.extent(value, element);

    Tensor tensor;
    tensor.dtype = value.dtype();
    tensor.dims.assign(value.dims().begin(), value.dims().end());
    if (value.strides_size())
      tensor.strides.assign(value.strides().begin(), value.strides().end());
    else
      tensor.strides = rowMajorStrides(tensor.dims);
    tensor.offset = value.byte_offset();

    std::uint64_t available = 0;
    switch (value.storage_case()) {
    case plan::v1::Value::kArgument:
      if (value.argument() >= result.arguments)
        check.fail("expected an argument below ", result.arguments, ", got ",
                   value.argument());
      tensor.base = value.argument();
      available = segment.arguments(value.argument()).bytes();
      break;
    case plan::v1::Value::kWorkspace:
      tensor.base = result.workspaceBase();
      available = segment.workspace_bytes();
      break;
    case plan::v1::Value::kConstant:
      if (value.strides_size() || value.byte_offset())
        check.fail("a constant has neither strides nor an offset");
      if (value.constant().size() != extent)
        check.fail("expected a constant of ", extent, " bytes, got ",
                   value.constant().size());
      tensor.base = result.constantsBase();
      tensor.offset = constantBytes;
      constantBytes += (extent + 63) / 64 * 64;
      available = constantBytes;
      break;
    default:
      check.fail("has no storage");
    }
    if (tensor.offset % element)
      check.fail("byte offset ", tensor.offset, " is not a multiple of ",
                 element);
    if (tensor.offset > available || extent > available - tensor.offset)
      check.fail("needs ", extent, " bytes at offset ", tensor.offset,
                 ", but its storage has ", available);
    result.values.push_back(std::move(tensor));
  }

  result.constants = AlignedBuffer(constantBytes);
  for (int i = 0; i < segment.values_size(); ++i)
    if (segment.values(i).storage_case() == plan::v1::Value::kConstant)
      std::memcpy(result.constants.data() + result.values[i].offset,
                  segment.values(i).constant().data(),
                  segment.values(i).constant().size());
  return result;
}
