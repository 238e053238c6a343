//===- Passes.h - passes on the topo dialect ------------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_DIALECT_TOPO_TRANSFORMS_PASSES_H
#define TOMBOLO_DIALECT_TOPO_TRANSFORMS_PASSES_H

#include "mlir/Pass/Pass.h"

#include <memory>

namespace tombolo::topo {

#define GEN_PASS_DECL
#include "tombolo/Dialect/Topo/Transforms/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "tombolo/Dialect/Topo/Transforms/Passes.h.inc"

} // namespace tombolo::topo

#endif // TOMBOLO_DIALECT_TOPO_TRANSFORMS_PASSES_H
