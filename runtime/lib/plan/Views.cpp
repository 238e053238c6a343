//===- Views.cpp - how typed views of memory overlap ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Views.h"

#include "tombolo/runtime/plan/Validate.h"

#include <algorithm>
#include <vector>

namespace tombolo::runtime::detail {

using namespace plan::v1;

namespace {

using Dims = std::vector<std::uint64_t>;

/// [first byte, one past the last byte) of a value within its storage.
std::pair<std::uint64_t, std::uint64_t> extent(const Value &value) {
  std::uint64_t last = 0;
  if (value.strides_size() == 0) {
    std::uint64_t n = 1;
    for (std::uint64_t dim : value.dims())
      n *= dim;
    last = n - 1;
  } else {
    for (int i = 0; i < value.dims_size(); ++i)
      last += (value.dims(i) - 1) * value.strides(i);
  }
  std::uint64_t size = elementBytes(value.dtype());
  return {value.byte_offset(), value.byte_offset() + (last + 1) * size};
}

bool sameStorage(const Value &a, const Value &b) {
  if (a.storage_case() != b.storage_case())
    return false;
  if (a.storage_case() == Value::kArgument)
    return a.argument() == b.argument();
  return a.storage_case() == Value::kWorkspace;
}

/// The dense strides of a value, in elements.
Dims strides(const Value &value) {
  if (value.strides_size() > 0)
    return Dims(value.strides().begin(), value.strides().end());
  Dims out(static_cast<std::size_t>(value.dims_size()));
  std::uint64_t next = 1;
  for (std::size_t i = out.size(); i-- > 0;) {
    out[i] = next;
    next *= value.dims(static_cast<int>(i));
  }
  return out;
}

} // namespace

bool isView(const Value &value) {
  if (value.strides_size() == 0)
    return false;
  std::uint64_t next = 1;
  for (int i = value.dims_size(); i-- > 0;) {
    if (value.dims(i) != 1 && value.strides(i) != next)
      return true;
    next *= value.dims(i);
  }
  return false;
}

bool identical(const Value &a, const Value &b) {
  return sameStorage(a, b) && a.byte_offset() == b.byte_offset() &&
         a.dtype() == b.dtype() &&
         std::equal(a.dims().begin(), a.dims().end(), b.dims().begin(),
                    b.dims().end()) &&
         isView(a) == isView(b) && (!isView(a) || strides(a) == strides(b));
}

bool mayOverlap(const Value &a, const Value &b) {
  if (!sameStorage(a, b))
    return false;
  auto [beginA, endA] = extent(a);
  auto [beginB, endB] = extent(b);
  if (endA <= beginB || endB <= beginA)
    return false;
  // Both repeat with period `p` (bytes) and inside one period each stays in
  // its own window: then they never meet.
  auto periodic = [](const Value &value, std::uint64_t p, std::uint64_t &begin,
                     std::uint64_t &end) {
    std::uint64_t size = elementBytes(value.dtype());
    Dims step = strides(value);
    std::uint64_t last = 0;
    for (std::size_t i = 0; i < step.size(); ++i)
      if ((step[i] * size) % p != 0)
        last += (value.dims(static_cast<int>(i)) - 1) * step[i];
    begin = value.byte_offset() % p;
    end = begin + (last + 1) * size;
    return end <= p;
  };
  Dims all = strides(a);
  Dims stepsB = strides(b);
  all.insert(all.end(), stepsB.begin(), stepsB.end());
  for (std::uint64_t step : all) {
    std::uint64_t p = step * elementBytes(a.dtype());
    std::uint64_t b1, e1, b2, e2;
    if (p && periodic(a, p, b1, e1) && periodic(b, p, b2, e2) &&
        (e1 <= b2 || e2 <= b1))
      return false;
  }
  return true;
}

bool overlapsItself(const Value &value) {
  Dims step = strides(value);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> parts; // stride, dim
  for (std::size_t i = 0; i < step.size(); ++i)
    if (value.dims(static_cast<int>(i)) > 1)
      parts.push_back({step[i], value.dims(static_cast<int>(i))});
  std::sort(parts.begin(), parts.end());
  std::uint64_t reach = 0;
  for (auto [stride, dim] : parts) {
    if (stride <= reach)
      return true;
    reach += (dim - 1) * stride;
  }
  return false;
}

} // namespace tombolo::runtime::detail
