//===- LayerSeconds.h - measured layers as times of segments ----*- C++ -*-===//
//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_LIB_TARGET_LAYERSECONDS_H
#define TOMBOLO_LIB_TARGET_LAYERSECONDS_H

#include "tombolo/Dialect/Plan/IR/Plan.h"
#include "tombolo/Planning/Problem.h"

#include "mlir/IR/BuiltinOps.h"

#include <array>
#include <map>
#include <string>

namespace tombolo {

/// What a table of measured layer times (`Chip::layerTimes`) says of what one
/// program calls. A function is called for all equal blocks of the stage: what
/// one call takes is their mean.
struct LayerSeconds {
  /// By block, then by planning::BlockFunction, all parts together and without
  /// the collectives between them.
  std::map<std::string, std::array<double, planning::kBlockFunctions>>
      functions;
  /// Of one element of the parameters.
  double updatePerElement = 0;
};

/// What each segment of a module does (PlanTimes).
using SegmentWorks = std::vector<std::pair<plan::SegmentOp, planning::Work>>;

/// Of a program on a type of chip that has layer times. Nothing where the
/// program does not say which blocks it holds.
std::optional<LayerSeconds> layerSeconds(plan::ProgramOp program,
                                         const planning::Topology &topology,
                                         const planning::Chip &chip,
                                         planning::Precision precision,
                                         const SegmentWorks &segments);

} // namespace tombolo

#endif // TOMBOLO_LIB_TARGET_LAYERSECONDS_H
