//===- Instructions.h - walking a program's instructions --------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_PLAN_INSTRUCTIONS_H
#define TOMBOLO_RUNTIME_PLAN_INSTRUCTIONS_H

#include "tombolo/runtime/plan/PlanFile.h"

namespace tombolo::runtime {

/// Calls `visit` for every instruction of `body` but loops, those in loops once
/// each, in the plan's order. The nesting has been validated.
template <typename Visit>
void forEachInstruction(
    const google::protobuf::RepeatedPtrField<plan::v1::Instruction> &body,
    const Visit &visit) {
  for (const plan::v1::Instruction &instruction : body)
    if (instruction.has_loop())
      forEachInstruction(instruction.loop().body(), visit);
    else
      visit(instruction);
}

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_PLAN_INSTRUCTIONS_H
