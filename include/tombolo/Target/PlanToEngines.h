//===- PlanToEngines.h - plans for other engines --------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_TARGET_PLANTOENGINES_H
#define TOMBOLO_TARGET_PLANTOENGINES_H

#include "mlir/IR/Diagnostics.h"
#include "llvm/Support/raw_ostream.h"

#include <optional>

namespace tombolo::plan::v1 {
class Plan;
} // namespace tombolo::plan::v1

namespace tombolo {

// Each writes the islands of a valid plan, or the one of `island`, as an engine
// takes them; docs/Export.md has the correspondence. What an engine cannot
// express stands in a comment and in a warning at `loc`; when it can express
// none of the islands there is an error and no output.

/// Arguments of Megatron-LM: a file for a shell with an array for each island.
mlir::LogicalResult writeMegatron(const plan::v1::Plan &plan,
                                  std::optional<unsigned> island,
                                  mlir::Location loc, llvm::raw_ostream &out);

/// A configuration of TorchTitan, which is of one island.
mlir::LogicalResult writeTorchTitan(const plan::v1::Plan &plan,
                                    std::optional<unsigned> island,
                                    mlir::Location loc, llvm::raw_ostream &out);

} // namespace tombolo

#endif // TOMBOLO_TARGET_PLANTOENGINES_H
