//===- HostMemory.h - memory that is there before it is needed --*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_EXEC_HOSTMEMORY_H
#define TOMBOLO_RUNTIME_LIB_EXEC_HOSTMEMORY_H

#include <cstddef>
#include <cstdint>
#include <functional>

namespace tombolo::runtime::detail {

/// Bytes that this process may still take: what the machine and the process's
/// control groups (version 2) have left, but for a small part of each. All
/// there are where the system does not say.
std::uint64_t roomInHostMemory();

/// A piece of host memory. Once it has been reserved all of it is resident.
class HostBuffer {
public:
  HostBuffer() = default;
  ~HostBuffer() { release(); }
  HostBuffer(const HostBuffer &) = delete;
  HostBuffer &operator=(const HostBuffer &) = delete;

  /// Makes it at least `size` bytes large; its content may go. False, and the
  /// buffer is empty, when `room` comes to have less: other processes may be
  /// taking memory at the same time, so it is asked again and again.
  bool reserve(std::uint64_t size,
               const std::function<std::uint64_t()> &room = roomInHostMemory);
  std::byte *data() const { return memory; }

private:
  void release();

  std::byte *memory = nullptr;
  std::uint64_t bytes = 0;
};

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_EXEC_HOSTMEMORY_H
