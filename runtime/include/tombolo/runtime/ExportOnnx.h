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

#include <cstdint>
#include <functional>
#include <string>

namespace tombolo::runtime {

struct ExportOptions {
  /// A protobuf message ends at 2 GiB; the graph itself needs some of it.
  std::uint64_t maxInline = 1900000000;
  /// Called now and then; what it throws ends the export.
  std::function<void()> poll = [] {};
};

/// Writes the model in `model` with the parameters of the checkpoint generation
/// in the folder `checkpoint` to `out`: the same graph, only weights differ. A
/// parameter that is the output of an Identity (a tensor the exporter merged
/// with an equal one) gets an initializer of its own in the Identity's place.
/// Weights of more than `maxInline` bytes together go to `out`.HASH.data beside
/// it, named by content: until the new `out` is in place the old one keeps its
/// own, which then goes. Throws Error; nothing half-written is left.
void exportOnnx(const std::string &model, const std::string &checkpoint,
                const Plan &plan, const std::string &out,
                const ExportOptions &options = {});

} // namespace tombolo::runtime

#endif // TOMBOLO_RUNTIME_EXPORTONNX_H
