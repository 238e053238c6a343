//===- AttributeNames.h - attributes that passes leave to others -*- C++
//-*-===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_PLAN_IR_ATTRIBUTENAMES_H
#define TOMBOLO_DIALECT_PLAN_IR_ATTRIBUTENAMES_H

#include "llvm/ADT/StringRef.h"

namespace tombolo::plan {

/// Result attribute (unit): the result's memory is read-write and the result
/// is added to what it holds.
inline constexpr llvm::StringLiteral kAccumulateAttr = "plan.accumulate";
/// Result attribute (i64): the result takes the memory of this argument, which
/// becomes read-write; there is no argument for the result.
inline constexpr llvm::StringLiteral kInPlaceAttr = "plan.in_place";
/// Attribute (i64) of a program: the microbatches of one inner step.
inline constexpr llvm::StringLiteral kMicrobatchesAttr = "microbatches";
/// Attribute of a call: the pass it belongs to, one of those below. Where the
/// halves of a backward pass are apart, that of weights has its own.
inline constexpr llvm::StringLiteral kPassAttr = "pass";
inline constexpr llvm::StringLiteral kForwardPass = "forward";
inline constexpr llvm::StringLiteral kBackwardPass = "backward";
inline constexpr llvm::StringLiteral kWeightPass = "backward_weight";
inline constexpr llvm::StringLiteral kUpdatePass = "update";

} // namespace tombolo::plan

#endif // TOMBOLO_DIALECT_PLAN_IR_ATTRIBUTENAMES_H
