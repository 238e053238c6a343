//===- Philox.h - counter-based random numbers ------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DEVICE_CPU_PHILOX_H
#define TOMBOLO_LIB_DEVICE_CPU_PHILOX_H

#include <array>
#include <cstdint>

namespace tombolo::runtime::cpu {

/// Philox 4x32-10 of J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random
/// numbers: as easy as 1, 2, 3" (SC 2011): four words that depend on the
/// counter and the key alone.
inline std::array<std::uint32_t, 4>
philox4x32(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    std::uint64_t a = std::uint64_t{0xD2511F53u} * c[0];
    std::uint64_t b = std::uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ k[0],
         static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ k[1],
         static_cast<std::uint32_t>(a)};
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  return c;
}

} // namespace tombolo::runtime::cpu

#endif // TOMBOLO_LIB_DEVICE_CPU_PHILOX_H
