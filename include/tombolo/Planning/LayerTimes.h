//===- LayerTimes.h - measured seconds of a model's blocks ----------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// What was measured on a type of chip comes as rows, each for a range of
// blocks (`Chip::layerTimes`). Before planning the rows become figures of the
// kinds of block (`BlockKind::measured`): blocks of one kind that were measured
// alike stay one kind, so that cost still grows with distinct blocks.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_LAYERTIMES_H
#define TOMBOLO_PLANNING_LAYERTIMES_H

#include "tombolo/Planning/Fault.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tombolo::planning {

struct Problem;

/// What is measured of a block: its forward, its whole backward (gradients of
/// input and parameters), the optimizer's update of all its parameters.
enum class Timed { Forward, Backward, Update };
inline constexpr size_t kTimed = 3;
using TimedSeconds = std::array<double, kTimed>; // by Timed

/// Seconds of one block, called once on one microbatch, on each of
/// `tensorParallel` chips; they include what these chips tell each other.
struct MeasuredTime {
  uint64_t tensorParallel = 1;
  uint64_t microbatch = 1;   // samples
  TimedSeconds seconds = {}; // 0: not measured
  /// Of the backward, what the gradients of parameters take; negative: not
  /// measured apart, divided as computed.
  double weightPart = -1;
  bool withExchanges = true; // else they come on top
  bool operator==(const MeasuredTime &) const = default;
};

/// A row of a table of measured layer times: each of the blocks `firstBlock` to
/// `lastBlock` took so long.
struct LayerTimes {
  uint64_t firstBlock = 0;
  uint64_t lastBlock = 0;
  MeasuredTime time;
  bool operator==(const LayerTimes &) const = default;
};

/// What was measured of one kind of block on one type of chip.
struct ChipTimes {
  std::string chip;
  std::vector<MeasuredTime> cells; // ascending: tensorParallel, microbatch
  /// What no cell has: the chip's computed figure times this, which is what was
  /// measured by what would be computed of the blocks that were measured.
  TimedSeconds scale = {1, 1, 1};
  bool operator==(const ChipTimes &) const = default;
};

/// What is wrong with the rows of one chip: impossible figures, blocks measured
/// twice, a larger microbatch that takes less beyond what a measurement may be
/// disturbed by. `path` is that of the rows.
Faults checkLayerTimes(const std::vector<LayerTimes> &rows,
                       const std::string &path);

/// Of rows without a fault: times that fall where the microbatch grows, so
/// little that they are taken for noise. The path is that of the row that falls
/// most; nothing where none falls.
std::optional<Fault> layerTimesNoise(const std::vector<LayerTimes> &rows,
                                     const std::string &path);

/// Turns the chips' rows into figures of the model's kinds of block, splitting
/// kinds and runs where equal blocks were measured differently. A fault, and
/// nothing done, where a row is of a block that the model does not have; paths
/// are those of `Topology::check`. The problem has passed `check`; its chips
/// have no rows any more.
Faults applyLayerTimes(Problem &problem);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_LAYERTIMES_H
