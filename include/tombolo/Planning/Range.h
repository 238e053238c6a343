//===- Range.h - the numbers that a figure may be -------------------------===//
// Part of the Tombolo project, under the Apache License v2.0 with LLVM
// Exceptions. See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//===----------------------------------------------------------------------===//

#ifndef TOMBOLO_PLANNING_RANGE_H
#define TOMBOLO_PLANNING_RANGE_H

#include <optional>
#include <string>

namespace tombolo::planning {

/// Stated once and used wherever such a number comes from: a file, its schema,
/// the IR.
struct Range {
  double least, most;
  bool aboveLeast = false, belowMost = false; // the ends themselves excluded

  /// What is wrong with a value, e.g. `'nodes' must be positive, got 0`;
  /// nothing when it is inside.
  std::optional<std::string> fault(const std::string &key, double value) const;
};

// Figures above these cannot be added up or multiplied without care; nothing
// real comes near.

/// Rates, sizes, prices.
inline constexpr Range kAbove0 = {0, 1e15, /*aboveLeast=*/true};
/// Latencies and the like.
inline constexpr Range kFrom0 = {0, 1e15};
/// Nodes, chips, cards.
inline constexpr Range kCounts = {1, 1 << 24};
/// Parts of a peak.
inline constexpr Range kAbove0To1 = {0, 1, /*aboveLeast=*/true};
inline constexpr Range kFrom0To1 = {0, 1};
/// Parts that are lost or kept: all of it would leave nothing.
inline constexpr Range kFrom0Below1 = {0, 1, false, /*belowMost=*/true};
/// What was seen of a time, as part of the one foretold.
inline constexpr Range kCorrections = {0.1, 10};
inline constexpr Range kMessageParts = {1e-3, 100};

/// Samples and steps.
inline constexpr Range kSampleCounts = {1, 1099511627776.0};
/// Blocks, stages' replicas, chips of a replica, shares, chunks.
inline constexpr Range kPartCounts = {1, 1 << 20};
inline constexpr Range kFragmentCounts = {1, 1 << 16};
/// What numbers things in a list as long as any model's.
inline constexpr Range kNumbers = {0, 4294967296.0};

} // namespace tombolo::planning

#endif // TOMBOLO_PLANNING_RANGE_H
