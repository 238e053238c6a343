//===- FunctionTimes.h - measured seconds of blocks' functions ------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// What a chip profile says of a model (docs/Profiles.md): seconds of whole
// functions of blocks, cut where the chips of a replica talk to each other, and
// of the optimizer's update.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_FUNCTIONTIMES_H
#define TOMBOLO_PLANNING_FUNCTIONTIMES_H

#include "tombolo/Planning/Fault.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tombolo::planning {

struct Chip;
struct Problem;

/// `f32`, or `bf16`: matmul operands and stored activations in bf16, all else
/// in f32.
enum class Precision { F32, BF16 };
const char *name(Precision precision);

enum class BlockFunction { Forward, BackwardInput, BackwardWeight };
inline constexpr size_t kBlockFunctions = 3;
/// `forward`, `backward_input`, `backward_weight`.
const char *name(BlockFunction function);
std::optional<BlockFunction> parseBlockFunction(const std::string &text);

/// One call of a function of a block on one of `tensorParallel` chips.
struct FunctionCall {
  std::string model; // its hash, in hexadecimal digits
  Precision precision = Precision::F32;
  std::string block;
  BlockFunction function = BlockFunction::Forward;
  uint64_t tensorParallel = 1;
  uint64_t microbatch = 1; // samples
  bool operator==(const FunctionCall &) const = default;
};

/// What it takes, part by part between its collectives, these left out.
struct FunctionTime {
  FunctionCall call;
  std::vector<double> partSeconds;

  double seconds() const;
  bool operator==(const FunctionTime &) const = default;
};

/// An update of so many parameters with so many bytes of optimizer state each.
struct UpdateTime {
  uint64_t stateBytes = 0;
  uint64_t parameters = 0;
  double seconds = 0;
  bool operator==(const UpdateTime &) const = default;
};

/// What is wrong with one chip's rows: impossible figures, something measured
/// twice, a larger microbatch that takes less. `pathOf` gives a row's path.
using PathOf = std::function<std::string(size_t)>;
Faults checkFunctionTimes(const std::vector<FunctionTime> &rows,
                          const PathOf &pathOf);
Faults checkUpdateTimes(const std::vector<UpdateTime> &rows,
                        const PathOf &pathOf);

/// Whether there is a row of the model with this hash.
bool measures(const Chip &chip, const std::string &modelHash,
              Precision precision);

/// How what a call takes (`callSeconds`) divides into its parts, which add up
/// to 1: as measured at the microbatch nearest by ratio. Nothing where the
/// function was not measured on so many chips.
std::optional<std::vector<double>> measuredParts(const Chip &chip,
                                                 const FunctionCall &call);

/// An update of so many parameters at the rate that was measured at the size
/// nearest by ratio; nothing where none was measured.
std::optional<double> measuredUpdate(const Chip &chip, uint64_t stateBytes,
                                     double parameters);

/// Turns what the chips' profiles say of the model with this hash into figures
/// of its kinds of block (`BlockKind::measured`). Chips without a word of it
/// stay as they are. Last, like `applyLayerTimes`.
void applyFunctionTimes(Problem &problem, const std::string &modelHash);

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_FUNCTIONTIMES_H
