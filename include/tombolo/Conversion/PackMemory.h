//===- PackMemory.h - memory that is used again over time -------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_CONVERSION_PACKMEMORY_H
#define TOMBOLO_CONVERSION_PACKMEMORY_H

#include <cstdint>
#include <vector>

namespace tombolo {

/// Memory that is needed from step `first` to step `last`, both included.
struct MemoryInterval {
  int64_t bytes = 0;
  int64_t first = 0, last = 0;
  int64_t offset = 0; // what packMemory decides
};

/// Gives every interval an offset such that no two that are needed at the same
/// time overlap: largest first, each at the lowest offset that is free. Offsets
/// are multiples of 64 bytes. Returns the bytes of the whole, such a multiple.
int64_t packMemory(std::vector<MemoryInterval> &intervals);

} // namespace tombolo

#endif // TOMBOLO_CONVERSION_PACKMEMORY_H
