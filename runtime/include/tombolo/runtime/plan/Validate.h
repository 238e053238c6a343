//===- Validate.h - is this plan safe to run? -------------------*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_PLAN_VALIDATE_H
#define TOMBOLO_RUNTIME_PLAN_VALIDATE_H

#include "tombolo/runtime/plan/PlanFile.h"

namespace tombolo::runtime {

/// Checks everything an executor relies on: version, indices, shapes and
/// dtypes of every segment op, every address a program can form (for all values
/// of its loop variables), groups, semaphores, guards, parameter slices and
/// their owners, names, sizes. Throws Error with the place ("program 'stage 1':
/// step[3].loop[2]: ...") at the first fault. Whether the programs of an island
/// can run to their end is `checkProgress` (engine).
void validatePlan(const Plan &plan);

/// Checks one segment. `place` opens the messages.
void validateSegment(const plan::v1::Segment &segment,
                     const std::string &place);

/// Checks arity, dtypes, shapes and attributes of one op against
/// docs/PlanFormat.md; the indices and the values must have been checked.
void checkOp(const plan::v1::Segment &segment, const plan::v1::Op &op,
             const std::string &place);

/// "layer_norm": the name in docs/PlanFormat.md; empty for an unknown opcode.
std::string opcodeName(plan::v1::Opcode opcode);

/// Bytes of one element; 0 for an unknown dtype.
std::uint64_t elementBytes(plan::v1::DType dtype);
const char *dtypeName(plan::v1::DType dtype);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_PLAN_VALIDATE_H
