//===- Select.cpp - the loops for this processor --------------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Loops.h"

#include "tombolo/runtime/Error.h"

#include <cstdlib>
#include <string_view>

using namespace tombolo::runtime;

const cpu::Loops *cpu::findLoops(const char *wanted) {
  std::string_view name = wanted;
#if defined(TOMBOLO_X86)
  if (name == "avx512" && __builtin_cpu_supports("avx512f") &&
      __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
    return loopsAvx512();
  if (name == "avx2" && __builtin_cpu_supports("avx2") &&
      __builtin_cpu_supports("fma"))
    return loopsAvx2();
#endif
  return name == "baseline" ? loopsBaseline() : nullptr;
}

const cpu::Loops &cpu::selectLoops() {
  if (const char *wanted = std::getenv("TOMBOLO_CPU_ISA")) {
    if (const Loops *loops = findLoops(wanted))
      return *loops;
    throw Error(Status::Usage,
                "TOMBOLO_CPU_ISA: expected an instruction set "
                "of this processor out of baseline, avx2, avx512, got '",
                wanted, "'");
  }
  for (const char *name : {"avx512", "avx2"})
    if (const Loops *loops = findLoops(name))
      return *loops;
  return *loopsBaseline();
}
