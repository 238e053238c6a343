//===- Random.h - numbers that depend on a key alone ----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LIB_EXEC_RANDOM_H
#define TOMBOLO_RUNTIME_LIB_EXEC_RANDOM_H

#include <cstdint>

namespace tombolo::runtime::detail {

/// splitmix64 (Steele, Lea, Flood 2014): neighbouring keys give unrelated
/// numbers.
inline std::uint64_t mix(std::uint64_t key) {
  key += 0x9e3779b97f4a7c15;
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9;
  key = (key ^ (key >> 27)) * 0x94d049bb133111eb;
  return key ^ (key >> 31);
}

} // namespace tombolo::runtime::detail

#endif // TOMBOLO_RUNTIME_LIB_EXEC_RANDOM_H
