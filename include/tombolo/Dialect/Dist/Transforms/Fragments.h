//===- Fragments.h - which parameters are synchronised together -*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_DIST_TRANSFORMS_FRAGMENTS_H
#define TOMBOLO_DIALECT_DIST_TRANSFORMS_FRAGMENTS_H

#include "tombolo/Dialect/Dist/IR/Dist.h"

namespace tombolo::dist {

/// The fragment of each trainable parameter of the model, by its symbol.
using FragmentOf = llvm::DenseMap<mlir::Attribute, int64_t>;

/// Deals the trainable parameters out to `fragments` fragments, in the order of
/// the model, so that the largest is as small as can be and none is empty. What
/// is dealt out is whole blocks, or parameters where there are fewer blocks than
/// fragments; a tied parameter goes with its first user. It depends on the model
/// alone: all islands come to the same. Fails with a diagnostic where there are
/// fewer parameters than fragments. The island must have its runs.
mlir::FailureOr<FragmentOf> assignFragments(IslandOp island, int64_t fragments,
                                            mlir::SymbolTable &symbols);

} // namespace tombolo::dist

#endif // TOMBOLO_DIALECT_DIST_TRANSFORMS_FRAGMENTS_H
