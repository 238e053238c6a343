//===- ExportOnnx.h - the trained model as an ONNX file -------------------===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_RUNTIME_EXPORTONNX_H
#define TOMBOLO_RUNTIME_EXPORTONNX_H

#include "tombolo/runtime/plan/PlanFile.h"

#include <string>

namespace tombolo::runtime {

/// Writes the model in `model` with the parameters of the checkpoint generation
/// in the folder `checkpoint` to `out`: the same graph, only weights differ. A
/// parameter that is the output of an Identity (a tensor the exporter merged
/// with an equal one) gets an initializer of its own in the Identity's place.
/// Weights of more than 2 GB together go to `out`.data beside it. Throws Error;
/// nothing half-written is left.
void exportOnnx(const std::string &model, const std::string &checkpoint,
                const Plan &plan, const std::string &out);

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_EXPORTONNX_H
