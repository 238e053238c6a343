//===- PlanFuzz.cpp - libFuzzer target: the plan reader -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The input is a plan message without its checksum; the target adds a right
// one, so that the fuzzer reaches parser and validator.
//
//===----------------------------------------------------------------------===//

#include "tombolo/runtime/Error.h"
#include "tombolo/runtime/engine/Progress.h"
#include "tombolo/runtime/plan/PlanFile.h"

#include <cstddef>
#include <cstdint>
#include <string>

using namespace tombolo::runtime;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data,
                                      std::size_t size) {
  std::string bytes(reinterpret_cast<const char *>(data), size);
  std::string digest = planChecksum(bytes);
  bytes += std::string("\xc2\x3e\x20", 3) + digest;
  try {
    Plan plan = parsePlan(bytes, "fuzz");
    // Larger plans are legal and slow; the fuzzer looks for crashes.
    if (size < 1 << 16)
      serializePlan(plan);
  } catch (const Error &) {
  }
  return 0;
}
