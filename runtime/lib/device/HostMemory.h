//===- HostMemory.h - arenas in host memory ---------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_HOSTMEMORY_H
#define TOMBOLO_LIB_DEVICE_HOSTMEMORY_H

#include "tombolo/runtime/Device.h"

namespace tombolo::runtime::device {

/// The memory half of a device whose memory space is the host's.
class HostMemoryDevice : public Device {
public:
  std::unique_ptr<Arena> allocateArena(std::uint64_t bytes) override;
  bool hostAccessible() const override { return true; }
  void copyToDevice(std::byte *device,
                    std::span<const std::byte> host) override;
  void copyToHost(std::span<std::byte> host, const std::byte *device) override;
  void copyOnDevice(std::byte *to, const std::byte *from,
                    std::uint64_t bytes) override;
  void zero(std::byte *device, std::uint64_t bytes) override;
};

} // namespace tombolo::runtime::device

#endif // TOMBOLO_LIB_DEVICE_HOSTMEMORY_H
