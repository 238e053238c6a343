//===- HostMemory.cpp - arenas in host memory -----------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "HostMemory.h"

#include "tombolo/runtime/Error.h"

#include <cerrno>
#include <cstring>
#include <sys/mman.h>

using namespace tombolo::runtime;
using namespace tombolo::runtime::device;

namespace {

/// Anonymous pages: zero, and resident only once touched.
class MappedArena : public Arena {
public:
  static std::unique_ptr<Arena> map(std::uint64_t bytes) {
    if (!bytes)
      return std::unique_ptr<Arena>(new MappedArena(nullptr, 0));
    void *start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
      throw Error(Status::Failed, "cannot allocate an arena of ", bytes,
                  " bytes: ", std::strerror(errno));
    return std::unique_ptr<Arena>(
        new MappedArena(static_cast<std::byte *>(start), bytes));
  }

  ~MappedArena() override {
    if (base())
      munmap(base(), size());
  }

private:
  using Arena::Arena;
};

} // namespace

std::unique_ptr<Arena> HostMemoryDevice::allocateArena(std::uint64_t bytes) {
  return MappedArena::map(bytes);
}

void HostMemoryDevice::copyToDevice(std::byte *device,
                                    std::span<const std::byte> host) {
  if (!host.empty())
    std::memcpy(device, host.data(), host.size());
}

void HostMemoryDevice::copyToHost(std::span<std::byte> host,
                                  const std::byte *device) {
  if (!host.empty())
    std::memcpy(host.data(), device, host.size());
}

void HostMemoryDevice::copyOnDevice(std::byte *to, const std::byte *from,
                                    std::uint64_t bytes) {
  if (bytes)
    std::memcpy(to, from, bytes);
}

void HostMemoryDevice::zero(std::byte *device, std::uint64_t bytes) {
  if (bytes)
    std::memset(device, 0, bytes);
}
