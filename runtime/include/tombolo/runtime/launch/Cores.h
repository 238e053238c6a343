//===- Cores.h - which processors a rank runs on ----------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_LAUNCH_CORES_H
#define TOMBOLO_RUNTIME_LAUNCH_CORES_H

#include <cstdint>
#include <vector>

namespace tombolo::runtime {

/// Numbers of the cores that this process may run on, ascending.
std::vector<int> allowedCores();

/// Keeps this process, with all threads it starts from now on, on the cores of
/// the `number`-th rank of this machine: `threads` of those it may run on, from
/// number x threads on; where ranks outnumber cores, round and round. Call it
/// before threads start. Throws Error when the system refuses.
void pinRank(std::uint64_t number, std::uint32_t threads);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_LAUNCH_CORES_H
