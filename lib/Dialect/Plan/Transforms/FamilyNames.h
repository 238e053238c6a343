//===- FamilyNames.h - names that differ in one number -------------- ---===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_FAMILYNAMES_H
#define TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_FAMILYNAMES_H

#include "tombolo/Dialect/Plan/IR/Plan.h"

namespace tombolo::plan {

/// A pattern when the names differ only in one number that grows evenly, else
/// the names one by one.
mlir::Attribute familyNames(mlir::MLIRContext *context,
                            llvm::ArrayRef<llvm::StringRef> names);

} // namespace tombolo::plan

#endif // TOMBOLO_LIB_DIALECT_PLAN_TRANSFORMS_FAMILYNAMES_H
