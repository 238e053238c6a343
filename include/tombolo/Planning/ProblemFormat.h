//===- ProblemFormat.h - the keys of a saved problem ----------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information. SPDX-License-Identifier:
// Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

//
// One list of names for both directions: what writes a problem
// (tombolo/Target/ProblemText.h) and what reads it
// (tombolo/Import/Problem.h). docs/Planning.md describes the file.
//
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_PROBLEMFORMAT_H
#define TOMBOLO_PLANNING_PROBLEMFORMAT_H

#include "tombolo/Planning/Problem.h"

namespace tombolo::planning {

template <typename T, typename Field> struct Key {
  const char *name;
  Field T::*field;
};

/// The number in `version`; another is refused.
inline constexpr uint64_t kProblemVersion = 1;

/// Of a block's kind: `[constant, per sample]`.
inline constexpr Key<BlockKind, Affine> kKindAffines[] = {
    {"saved_bytes", &BlockKind::savedBytes},
    {"input_bytes", &BlockKind::inputBytes},
    {"output_bytes", &BlockKind::outputBytes},
    {"feed_bytes", &BlockKind::feedBytes},
    {"carried_bytes", &BlockKind::carriedBytes},
    {"workspace_bytes", &BlockKind::workspaceBytes}};

/// The same, only where there is any.
inline constexpr Key<BlockKind, Affine> kKindCrossing = {
    "crossing_bytes", &BlockKind::crossingBytes};

inline constexpr Key<BlockKind, uint64_t> kKindCounts[] = {
    {"tensor_parallel", &BlockKind::tensorParallel},
    {"parameters", &BlockKind::parameterCount},
    {"trainable", &BlockKind::trainableCount},
    {"parameter_bytes", &BlockKind::parameterBytes},
    {"partial_gradient_bytes", &BlockKind::partialGradientBytes}};

inline constexpr Key<BlockKind, Work> kKindWorks[] = {
    {"forward", &BlockKind::forward},
    {"backward_input", &BlockKind::backwardInput},
    {"backward_weight", &BlockKind::backwardWeight}};

inline constexpr Key<Work, Affine> kWorkAffines[] = {{"flops", &Work::flops},
                                                     {"bytes", &Work::bytes}};

/// Of a work, by Collective: `[count, bytes, bytes per sample]`, where there
/// are any.
inline constexpr const char *kCollectiveKeys[kCollectives] = {
    "all_reduce", "reduce_scatter", "all_gather", "all_to_all"};

inline constexpr Key<Bounds, double> kBoundReals[] = {
    {"memory_margin", &Bounds::memoryMargin},
    {"server_bytes_per_second", &Bounds::serverBytesPerSecond},
    {"codec_bytes_per_second", &Bounds::codecBytesPerSecond},
    {"host_cores", &Bounds::hostCores}};

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_PROBLEMFORMAT_H
