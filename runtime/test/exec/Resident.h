//===- Resident.h - how much memory a process takes -----------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_TEST_EXEC_RESIDENT_H
#define TOMBOLO_RUNTIME_TEST_EXEC_RESIDENT_H

#include <cstdint>
#include <fstream>
#include <string>

namespace tombolo::runtime::test {

/// The most memory this process has had resident, in bytes.
inline std::uint64_t peakResident() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == "VmHWM:") {
      std::uint64_t kib = 0;
      status >> kib;
      return kib * 1024;
    }
  return 0;
}

} // namespace tombolo::runtime::test

#endif // TOMBOLO_RUNTIME_TEST_EXEC_RESIDENT_H
