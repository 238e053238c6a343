//===- OptimizerState.h - what an optimizer keeps --------------*- C++ -*-===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_DIST_TRANSFORMS_OPTIMIZERSTATE_H
#define TOMBOLO_DIALECT_DIST_TRANSFORMS_OPTIMIZERSTATE_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>

namespace tombolo::dist {

/// The names of the states that `sgd` or `adamw` keeps, each an f32 for each
/// element of a parameter, as checkpoints name them.
inline llvm::SmallVector<llvm::StringRef>
optimizerStates(llvm::StringRef optimizer, double momentum) {
  if (optimizer == "adamw")
    return {"exp_avg", "exp_avg_sq"};
  if (momentum != 0)
    return {"momentum_buffer"};
  return {};
}

/// Bytes of state for each element of a parameter.
inline uint64_t optimizerStateBytes(llvm::StringRef optimizer,
                                    double momentum) {
  return sizeof(float) * optimizerStates(optimizer, momentum).size();
}

} // namespace tombolo::dist

#endif // TOMBOLO_DIALECT_DIST_TRANSFORMS_OPTIMIZERSTATE_H
