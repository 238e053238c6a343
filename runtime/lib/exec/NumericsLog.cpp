//===- NumericsLog.cpp - where a run first left the finite numbers --------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "NumericsLog.h"

#include "tombolo/runtime/plan/Layout.h"

namespace tombolo::runtime::detail {

using namespace plan::v1;

NumericsLog::NumericsLog(const Program &program) {
  collect(program.step(), nullptr);
}

/// `microbatch` holds in the loops around `body` only.
void NumericsLog::collect(const Body &body, const Expr *microbatch) {
  for (const Instruction &instruction : body) {
    if (instruction.has_loop())
      collect(instruction.loop().body(), microbatch);
    else if (instruction.has_load())
      microbatch = &instruction.load().microbatch();
    else if (instruction.has_receive())
      microbatch = &instruction.receive().microbatch();
    else if (instruction.has_collective() &&
             instruction.collective().group() != Collective::GROUP_TENSOR)
      microbatch = nullptr; // of the whole step
    else if (instruction.has_call() && microbatch)
      microbatches[&instruction] = microbatch;
  }
}

void NumericsLog::beginStep(Device &device, std::uint64_t newStep) {
  step = newStep;
  found = false;
  device.takeNonFinite();
}

void NumericsLog::look(Device &device, const Instruction &call,
                       std::span<const std::int64_t> variables) {
  // Not asked again the device stops looking at its next find.
  if (found)
    return;
  std::optional<std::string> fault = device.takeNonFinite();
  if (!fault)
    return;
  found = true;
  text = "the first op to make it so was in step " + std::to_string(step);
  auto microbatch = microbatches.find(&call);
  if (microbatch != microbatches.end())
    text += ", microbatch " +
            std::to_string(evaluate(*microbatch->second, variables)) +
            " of this rank";
  text += ": " + *fault;
}

} // namespace tombolo::runtime::detail
