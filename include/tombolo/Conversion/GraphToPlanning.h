//===- GraphToPlanning.h - what a model's blocks cost ---------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_CONVERSION_GRAPHTOPLANNING_H
#define TOMBOLO_CONVERSION_GRAPHTOPLANNING_H

#include "tombolo/Planning/Model.h"

#include "mlir/IR/BuiltinOps.h"

namespace tombolo {

/// The profile of a module as `graph-differentiate` leaves it: what each
/// distinct block costs at a precision, by the ops' cost interface, and the
/// chain of blocks as runs. The module stays as it is.
///
/// Costs of ops are affine in the batch; they are read off at one and two
/// samples. The workspace is the most that is live at once in a function, views
/// counted with what they look at.
mlir::FailureOr<planning::ModelProfile>
profileModel(mlir::ModuleOp module, planning::Precision precision);

} // namespace tombolo

#endif // TOMBOLO_CONVERSION_GRAPHTOPLANNING_H
